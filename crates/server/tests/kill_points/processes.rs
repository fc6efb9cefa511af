//! What may happen to the whole process without it dying: it is stopped for longer than every time
//! limit, a second one is started on its directory, its memory is bounded and it is flooded.
//!
//! Absent here: faults of single calls.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postrider::cli::demo::api::Api;
use postrider::cli::demo::evidence::Outage;
use postrider::fake::{Act, Behaviour, When};
use serde_json::json;
use tokio::task::JoinSet;

use crate::engine::{Engine, Home};
use crate::life::{Case, now_us};
use crate::load::Load;
use crate::receivers::Arrived;

/// Rounds of the load under which the process is stopped, and how often it is.
const ROUNDS: usize = 4;
const STOPS: usize = 5;
/// Longest wait for an answer, as the engine is told.
const RESPONSE_MS: u64 = 300;
/// How long it is stopped: longer than every wait of the load. How long it runs in between.
const STOPPED: Duration = Duration::from_millis(700);
const RUNNING: Duration = Duration::from_millis(40);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn start(home: &Home) -> Engine {
    let engine = Engine::start(home, None, &[]).await;
    engine.unwrap_or_else(|how| panic!("{how}: {}", home.last_words()))
}

#[test]
fn a_process_that_was_stopped_past_every_limit_keeps_every_promise() {
    runtime().block_on(async {
        let mut case = Case::alone(&format!("[transport]\nresponse_ms = {RESPONSE_MS}\n")).await;
        case.loads = (0..ROUNDS).map(|round| Load::new(round, 0)).collect();
        let engine = start(&case.home).await;
        let stops = tokio::spawn(stops(engine.id()));
        let rows = case.ask(&engine).await.expect("it answers");
        case.outages = stops.await.expect("it was stopped");
        engine.kill().await;
        let (findings, wrong) = case.judge(rows, &Arrived::default());
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(findings.lost, 0);
        // A time limit that passed while it was stopped is the reason for some of these.
        assert!(findings.ambiguous > 0);
    });
}

/// Stops a process and lets it go on, again and again; when it was stopped.
async fn stops(process: Pid) -> Vec<Outage> {
    let mut outages = Vec::new();
    for _ in 0..STOPS {
        pass(RUNNING).await;
        let kill_us = now_us();
        kill(process, Signal::SIGSTOP).expect("it runs");
        pass(STOPPED).await;
        let dead_us = now_us();
        kill(process, Signal::SIGCONT).expect("it is there");
        outages.push(Outage {
            kill_us,
            dead_us,
            ready_us: dead_us,
            recovery_ms: 0,
        });
    }
    outages
}

/// A stretch of time is what this is about, so there is nothing else to wait for.
async fn pass(time: Duration) {
    let mut ticks = tokio::time::interval(time);
    ticks.tick().await;
    ticks.tick().await;
}

#[test]
fn a_second_process_is_refused_and_the_first_is_unharmed() {
    runtime().block_on(async {
        let mut case = Case::alone("").await;
        case.loads.push(Load::new(0, 0));
        let first = start(&case.home).await;
        let home = case.home.clone();
        let (rows, second) = tokio::join!(case.ask(&first), Engine::start(&home, None, &[]));
        rows.expect("the first answers");
        assert_eq!(second.err().and_then(|how| how.code()), Some(1));
        let words = case.home.last_words();
        let expected = format!("is in use by process {}", first.id());
        assert!(words.contains(&expected), "{words}");
        case.loads.push(Load::new(1, 0));
        let rows = case.ask(&first).await.expect("the first still answers");
        first.kill().await;
        let (_, wrong) = case.judge(rows, &Arrived::default());
        assert_eq!(wrong, Vec::<String>::new());
    });
}

/// What the process may allocate, and what of it callers' bodies may take.
const MEMORY: &str = "--data=536870912";
const MEMORY_KIB_MAX: u64 = 512 << 10;
const BODIES: &str = "[server]\nbodies_bytes_max = 16777216\n";
/// The flood: callers, batches of each, events of each, bytes of each.
const CALLERS: usize = 24;
const BATCHES: usize = 4;
const ITEMS: usize = 12;
const ITEM_BYTES: usize = 200_000;

#[test]
fn a_flood_under_a_limit_of_memory_is_refused_and_loses_nothing() {
    runtime().block_on(async {
        let case = Case::alone(BODIES).await;
        let limit = ["prlimit", MEMORY];
        let engine = Engine::start_by(&limit, &case.home, None, &[]).await;
        let mut engine = engine.unwrap_or_else(|how| panic!("{how}: {}", case.home.last_words()));
        let hangs = Behaviour::of("/hangs").rule(When::Always, Act::Hang);
        case.receivers.webhooks.set(hangs).expect("a behaviour");
        let body = json!({ "url": case.receivers.webhooks.url("/hangs"), "policy": "brisk" });
        let made = engine.api().post("/v1/endpoints", body.to_string()).await;
        let endpoint = made.expect("an endpoint").json()["id"].clone();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (api, endpoint) = (engine.api(), endpoint.as_str().expect("an id").to_owned());
            callers.spawn(async move { flood(api, caller, &endpoint).await });
        }
        let (mut acknowledged, mut refused) = (Vec::new(), 0);
        for (ids, turned_away) in callers.join_all().await {
            acknowledged.extend(ids);
            refused += turned_away;
        }
        assert!(!engine.has_ended(), "{}", case.home.last_words());
        let peak_kib = engine.peak_kib();
        assert!(refused > 0, "{} were taken", acknowledged.len());
        assert!(acknowledged.len() >= ITEMS);
        assert!(peak_kib < MEMORY_KIB_MAX, "{peak_kib} KiB");
        engine.kill().await;
        let engine = start(&case.home).await;
        let mut api = engine.api();
        for id in &acknowledged {
            let answer = api.get(&format!("/v1/events/{id}")).await;
            assert!(answer.is_ok_and(|answer| answer.is_yes()), "{id} was lost");
        }
        eprintln!(
            "flood: {} events acknowledged, {refused} batches refused, {peak_kib} KiB at the most",
            acknowledged.len()
        );
    });
}

/// How often a caller whose answer was lost asks again.
const ASKED_AGAIN_MAX: usize = 20;

/// Batches of one caller: ids of the events that were acknowledged, and batches that were refused.
async fn flood(mut api: Api, caller: usize, endpoint: &str) -> (Vec<String>, usize) {
    let (mut ids, mut refused) = (Vec::new(), 0);
    for batch in 0..BATCHES {
        let event = |item: usize| {
            json!({
                "id": format!("{caller}-{batch}-{item}"),
                "type": "order.paid",
                "endpoints": [endpoint],
                "payload": "x".repeat(ITEM_BYTES),
            })
        };
        let events: Vec<_> = (0..ITEMS).map(event).collect();
        let body = json!({ "events": events }).to_string();
        // A refusal may come before the body is read, and the connection end under it: whoever got
        // no answer asks again, under the same keys.
        let mut answer = api.post("/v1/events/batch", body.clone()).await;
        for _ in 0..ASKED_AGAIN_MAX {
            if answer.is_err() {
                answer = api.post("/v1/events/batch", body.clone()).await;
            }
        }
        let answer = answer.expect("an answer");
        if !answer.is_yes() {
            assert!(matches!(answer.http_status, 429 | 503), "{}", answer.line());
            assert!(answer.retry_after_s.is_some(), "{}", answer.line());
            refused += 1;
            continue;
        }
        for item in answer.json()["items"].as_array().expect("items") {
            ids.extend(item["event_id"].as_str().map(str::to_owned));
        }
    }
    (ids, refused)
}
