//! The canonical answers through a whole node: each ends in the state and cause that is written
//! down, with exactly one row, as many requests as attempts, and nothing left open.

mod node_kit;

use std::net::SocketAddr;

use node_kit::{config, deliveries, endpoint, rest, start, submission, submit};
use postrider::fake::{Act, Answer, Behaviour, Fake, Filter, RetryAfter, Settings, Tls, When};
use postrider::registry::{EndpointState, TlsProfile};
use postrider::run::Node;
use postrider_core::cause::Cause;
use postrider_core::engine::Reply;
use postrider_core::id::PolicyId;
use postrider_core::ledger::{Delivery, Fact, State, apply};
use postrider_core::policy::{BreakerPolicy, Guarantee, Jitter, Policy, Schedule};

/// Two attempts, soon after each other.
fn quick() -> Policy {
    let brief = Policy::brief(PolicyId(0));
    Policy {
        name: "quick".into(),
        schedule: Schedule::Fixed { waits_ms: vec![20] },
        jitter: Jitter::None,
        attempts_max: 2,
        throttle_ms: 20,
        retry_after_cap_ms: 300,
        breaker: BreakerPolicy {
            answers_min: 100,
            ..brief.breaker
        },
        ..brief
    }
}

/// What is expected of a delivery: its state, its cause, its attempts.
type End = (State, Cause, u32);

const ACCEPTED: (End, End) = {
    let end = (State::Accepted, Cause::Accepted, 1);
    (end, end)
};
const SPENT: End = (State::Exhausted, Cause::AttemptsSpent, 2);
const UNKNOWN: (End, End) = (SPENT, (State::Uncertain, Cause::UnknownOutcome, 1));

const fn rejected(cause: Cause) -> (End, End) {
    let end = (State::Rejected, cause, 1);
    (end, end)
}

const fn retried(cause: Cause) -> (End, End) {
    (SPENT, (State::Rejected, cause, 1))
}

fn after(http_status: u16, retry_after: RetryAfter) -> Act {
    Act::Answer(Answer {
        http_status,
        retry_after: Some(retry_after),
        ..Answer::default()
    })
}

/// What the receiver does, and what becomes of it at at-least-once and at at-most-once.
fn table() -> Vec<(&'static str, Act, (End, End))> {
    let answer = Act::http_status;
    vec![
        ("200", answer(200), ACCEPTED),
        ("201", answer(201), ACCEPTED),
        ("202", answer(202), ACCEPTED),
        ("204", answer(204), ACCEPTED),
        ("301", answer(301), rejected(Cause::Redirected)),
        ("307", answer(307), rejected(Cause::Redirected)),
        ("400", answer(400), rejected(Cause::BadRequest)),
        ("401", answer(401), rejected(Cause::AuthFailure)),
        ("403", answer(403), rejected(Cause::AuthFailure)),
        ("404", answer(404), rejected(Cause::NotFound)),
        ("408", answer(408), retried(Cause::RequestTimeout)),
        ("410", answer(410), rejected(Cause::Gone)),
        ("413", answer(413), rejected(Cause::PayloadTooLarge)),
        ("418", answer(418), rejected(Cause::ClientError)),
        ("425", answer(425), retried(Cause::TooEarly)),
        ("429", answer(429), retried(Cause::RateLimited)),
        (
            "429-now",
            after(429, RetryAfter::Seconds(0)),
            retried(Cause::RateLimited),
        ),
        (
            "429-past",
            after(429, RetryAfter::Date(-5)),
            retried(Cause::RateLimited),
        ),
        (
            "429-date",
            after(429, RetryAfter::Date(3_600)),
            retried(Cause::RateLimited),
        ),
        (
            "429-absurd",
            after(429, RetryAfter::Absurd),
            retried(Cause::RateLimited),
        ),
        (
            "429-malformed",
            after(429, RetryAfter::Malformed),
            retried(Cause::RateLimited),
        ),
        ("500", answer(500), retried(Cause::ServiceDegraded)),
        ("502", answer(502), retried(Cause::ServiceDegraded)),
        (
            "503",
            after(503, RetryAfter::Seconds(0)),
            retried(Cause::ServiceDegraded),
        ),
        ("504", answer(504), retried(Cause::ServiceDegraded)),
        ("999", answer(999), rejected(Cause::Unresolved)),
        ("reset-before", Act::ResetBeforeBody, UNKNOWN),
        ("reset-after", Act::ResetAfterRequest, UNKNOWN),
        ("close-after", Act::CloseAfterRequest, UNKNOWN),
        ("hang", Act::Hang, UNKNOWN),
        ("garbage", Act::Garbage, UNKNOWN),
        ("endless-headers", Act::EndlessHeaders, UNKNOWN),
        ("slow-headers", Act::SlowHeaders(1), UNKNOWN),
        ("endless-body", Act::EndlessBody, ACCEPTED),
        ("slow-body", Act::SlowBody(1), ACCEPTED),
        ("cut-body", Act::CutBody, ACCEPTED),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_canonical_answer_ends_as_written_down() {
    let fake = Fake::start(Settings::default()).await.expect("a fake");
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = config(dir.path(), quick());
    settings.transport.response_ms = 300;
    let node = start(&settings);
    let mut expected = Vec::new();
    for (name, act, (at_least_once, at_most_once)) in table() {
        for (guarantee, end) in [
            (Guarantee::AtLeastOnce, at_least_once),
            (Guarantee::AtMostOnce, at_most_once),
        ] {
            let path = format!("/{name}/{}", guarantee.name());
            let behaviour = Behaviour::of(&path).rule(When::Always, act.clone());
            fake.set(behaviour).expect("a behaviour");
            let to = endpoint(&node, &fake.url(&path), "quick", TlsProfile::default());
            expected.push((path, to, guarantee, end));
        }
    }
    let now = node.clock.now();
    let all = expected
        .iter()
        .map(|(_, to, guarantee, _)| submission(to, *guarantee, 1, now));
    for reply in submit(&node, all.collect()).await {
        assert!(matches!(reply, Reply::Admitted { .. }), "{reply:?}");
    }
    rest(&node).await;
    for (path, to, _, end) in &expected {
        let row = the_only_row(&node, path, to.id);
        assert_eq!((row.state, row.cause, row.attempt), *end, "{path}");
        let requests = fake.requests(&Filter::path(path)).len();
        assert_eq!(requests, usize::try_from(end.2).expect("few"), "{path}");
        let retired = matches!(
            node.registry.endpoint(to.id).expect("it is known").state,
            EndpointState::Retired {
                cause: Cause::Gone,
                ..
            }
        );
        assert_eq!(retired, path.starts_with("/410/"), "{path}");
    }
    let idle = node.transport.idle_connections();
    assert!(idle <= expected.len(), "{idle} connections are kept");
    node.stop().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_left_is_tried_again_at_every_guarantee() {
    let tls = Settings {
        tls: Some((SocketAddr::from(([127, 0, 0, 1], 0)), Tls::default())),
        ..Settings::default()
    };
    let fake = Fake::start(tls).await.expect("a fake");
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(&config(dir.path(), quick()));
    let (secure, _) = fake.tls().expect("it speaks TLS");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its number")
    };
    let targets = [
        ("untrusted", format!("https://{secure}/tls"), SPENT),
        ("refused", format!("http://{closed}/"), SPENT),
        ("no-such-name", "http://nowhere.invalid/".to_owned(), SPENT),
        (
            "private",
            "http://10.1.2.3/".to_owned(),
            (State::Rejected, Cause::ForbiddenAddress, 1),
        ),
    ];
    let mut expected = Vec::new();
    for (name, url, end) in &targets {
        for guarantee in Guarantee::ALL {
            let to = endpoint(&node, url, "quick", TlsProfile::default());
            expected.push((*name, to, guarantee, *end));
        }
    }
    let now = node.clock.now();
    let all = expected
        .iter()
        .map(|(_, to, guarantee, _)| submission(to, *guarantee, 1, now));
    submit(&node, all.collect()).await;
    rest(&node).await;
    for (name, to, guarantee, end) in expected {
        let row = the_only_row(&node, name, to.id);
        assert_eq!(
            (row.state, row.cause, row.attempt),
            end,
            "{name} {guarantee:?}"
        );
        assert!(!row.may_have_acted, "{name}");
    }
    assert_eq!(
        fake.requests(&Filter::default()).len(),
        0,
        "a request got through"
    );
    node.stop().expect("a clean end");
}

/// The row of the only delivery to an endpoint, held against its own history.
fn the_only_row(node: &Node, name: &str, endpoint: postrider_core::id::EndpointId) -> Delivery {
    let rows = deliveries(node, endpoint);
    assert_eq!(rows.len(), 1, "{name}: {rows:?}");
    let history = node.reader.history(&rows[0]).expect("a history");
    let mut folded = None;
    for entry in &history {
        apply(&mut folded, entry).expect("an unbroken history");
    }
    assert_eq!(
        folded.as_ref(),
        Some(&rows[0]),
        "{name}: the row is not the fold of its history"
    );
    let opened = history
        .iter()
        .filter(|entry| matches!(entry.fact, Fact::Opened { .. }))
        .count();
    assert_eq!(
        opened,
        usize::try_from(rows[0].attempt).expect("few"),
        "{name}: {history:?}"
    );
    rows[0].clone()
}
