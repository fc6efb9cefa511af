//! What intake costs by itself: `cargo bench --bench intake`.
//!
//! The real router over a registry with endpoints, and an engine that admits everything at once, so
//! that what is measured is reading, checking, resolving, digesting and answering. Prints CPU time
//! for each event; exits with 1 if a batched one costs more than the budget.
//!
//! Absent here: sockets, the engine and the disk.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use postrider::config;
use postrider::http::intake::{Intake, Load, Locate};
use postrider::http::{Api, body_room, router};
use postrider::observe::Metrics;
use postrider::registry::{EndpointDraft, KeyDraft, KeyPace, Registry, Role};
use postrider::store::model::ModelStore;
use postrider::transport::{Limits, NetworkPolicy, Transport};
use postrider::vault::Vault;
use postrider_core::engine::Reply;
use postrider_core::event::Submission;
use postrider_core::id::{CorrelationId, DeliveryId, EventId, PolicyId};
use postrider_core::time::Time;
use secrecy::ExposeSecret;
use tokio::sync::{oneshot, watch};
use tower_service::Service as _;

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 300;
/// Events of a run.
const EVENTS: usize = 200_000;
/// CPU time of one event in a batch of a thousand, to one endpoint, at most.
const BUDGET_US: f64 = 4.0;

/// Admits everything at once.
struct Yes;

impl Intake for Yes {
    fn submit(&self, submissions: Vec<Box<Submission>>) -> oneshot::Receiver<Vec<Reply>> {
        let (answer, answered) = oneshot::channel();
        let admit = |submission: &Submission| Reply::Admitted {
            event: EventId(1),
            uuid: submission.event.uuid,
            first_delivery: DeliveryId(1),
            deliveries: submission
                .targets
                .iter()
                .map(|target| (target.endpoint, CorrelationId(target.entropy)))
                .collect(),
        };
        let _ = answer.send(
            submissions
                .iter()
                .map(|submission| admit(submission))
                .collect(),
        );
        answered
    }

    fn cancel(&self, _: DeliveryId) -> oneshot::Receiver<Reply> {
        oneshot::channel().1
    }

    fn receipt(&self, _: DeliveryId, _: u8) -> oneshot::Receiver<Reply> {
        oneshot::channel().1
    }

    fn load(&self) -> Load {
        Load {
            recovered: true,
            waiting_max: 1,
            window_max: 1,
            ..Load::default()
        }
    }

    fn now(&self) -> Time {
        Time(1_800_000_000_000)
    }
}

impl Locate for Yes {
    fn delivery(&self, _: CorrelationId) -> DeliveryId {
        DeliveryId(0)
    }

    fn event(&self, _: u128) -> EventId {
        EventId(0)
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("tokio");
    let budget_kept = runtime.block_on(run());
    std::process::exit(i32::from(!budget_kept));
}

#[expect(
    clippy::too_many_lines,
    reason = "one measurement, read from top to bottom"
)]
async fn run() -> bool {
    let vault = Vault::of(&[7; 32]);
    let dir = tempfile::tempdir().expect("a directory");
    // Faster than anybody can ask: what is measured is not the limit.
    let pace = KeyPace {
        requests_per_s: NonZeroU32::MAX,
        burst: NonZeroU32::MAX,
    };
    let registry = Arc::new(Registry::open(dir.path(), &vault, pace).expect("a registry"));
    let now = Time(1);
    let tenant = registry.create_tenant("acme", now).expect("a tenant").id;
    let draft = |n: usize, event_types: &[&str]| EndpointDraft {
        recipient: format!("r{n}"),
        event_types: event_types.iter().map(|&text| text.to_owned()).collect(),
        ..EndpointDraft::new(
            format!("https://e{n}.test/").parse().expect("a URL"),
            postrider::registry::Kind::Webhook,
            PolicyId(1),
        )
    };
    let mut drafts: Vec<_> = (0..10_000).map(|n| draft(n, &[])).collect();
    drafts.push(draft(10_000, &["one.paid"]));
    drafts.extend((10_001..10_011).map(|n| draft(n, &["ten.*"])));
    registry
        .create_endpoints(tenant, drafts, now)
        .expect("endpoints");
    let key = KeyDraft {
        name: "bench".into(),
        role: Role::Writer,
        tenant: Some(tenant),
        expires_at: None,
        environment: "bench".into(),
    };
    let (_, key) = registry.create_key(key, now).expect("a key");
    let (_, draining) = watch::channel(false);
    let router = router(Arc::new(Api {
        registry,
        intake: Arc::new(Yes),
        reader: ModelStore::default().open().1,
        locate: Arc::new(Yes),
        transport: Arc::new(Transport::new(Limits::default(), NetworkPolicy::default())),
        metrics: Arc::new(Metrics::default()),
        limits: config::Server::default(),
        body_room: body_room(&config::Server::default()),
        receipts: Arc::new(postrider::receipts::ReceiptTokens::new(
            &Vault::of(&[7; 32]),
            None,
        )),
        push_hosts: Vec::new(),
        allow_http: false,
        retry_after_ms: 1_000,
        draining,
    }));
    let mut kept = true;
    for (name, event_type, batch, budget_us) in [
        (
            "batch of 1,000, fan-out 1",
            "one.paid",
            1_000,
            Some(BUDGET_US),
        ),
        ("batch of 1,000, fan-out 10", "ten.paid", 1_000, None),
        ("batch of 100, fan-out 1", "one.paid", 100, None),
        ("one by one, fan-out 1", "one.paid", 0, None),
    ] {
        let (path, body, items) = match batch {
            0 => ("/v1/events", event(event_type, 0), 1),
            _ => ("/v1/events/batch", batch_of(event_type, batch), batch),
        };
        let cpu_us = measure(&router, path, &body, items, key.expose_secret()).await;
        println!("{name}: {cpu_us:.2} µs of CPU an event");
        kept &= budget_us.is_none_or(|budget_us| cpu_us <= budget_us);
    }
    if !kept {
        eprintln!("over the budget of {BUDGET_US} µs");
    }
    kept
}

async fn measure(router: &axum::Router, path: &str, body: &str, items: usize, key: &str) -> f64 {
    let body = bytes::Bytes::from(body.to_owned());
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let began = cpu();
        for _ in 0..EVENTS / items / 5 {
            let request = Request::post(path)
                .header("authorization", format!("Bearer {key}"))
                .body(Body::from(body.clone()))
                .expect("a request");
            let mut router = router.clone();
            let answer = router.call(request).await.expect("infallible");
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
        }
        let events = EVENTS / items / 5 * items;
        let took = cpu().saturating_sub(began);
        rounds.push(took.as_secs_f64() * 1e6 / f64::from(u32::try_from(events).unwrap_or(1)));
    }
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn batch_of(event_type: &str, items: usize) -> String {
    let events: Vec<String> = (0..items).map(|n| event(event_type, n)).collect();
    format!(r#"{{"events":[{}]}}"#, events.join(","))
}

fn event(event_type: &str, n: usize) -> String {
    let filler = "x".repeat(PAYLOAD_BYTES - r#"{"note":""}"#.len());
    format!(r#"{{"type":"{event_type}","id":"order-{n:09}","payload":{{"note":"{filler}"}}}}"#)
}

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        let us = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
        };
        Duration::from_micros(us(usage.user_time()) + us(usage.system_time()))
    })
}
