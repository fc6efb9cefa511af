//! What Google makes of a request that it is only to look at.

use std::sync::Arc;

use postrider::channel::Attempted;
use postrider::fake::{Act, Answer, Behaviour, Fake, Filter, When};
use postrider::registry::Endpoint;
use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::id::{CorrelationId, DeliveryId, EventId};
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Guarantee;
use postrider_core::time::{MINUTE_MS, Time};
use serde_json::Value;

use crate::engine::{FORM, device, fake, node, retired, route, row, tell};
use crate::node_kit::submission;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_looks_and_nothing_follows() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    misbehave(&fake);
    let large = format!(r#"{{"notification":{{"title":"{}"}}}}"#, "x".repeat(5_000));
    let rows = [
        ("fine", FORM, OutcomeKind::Accept, Cause::Accepted, 1),
        ("such-a-device", FORM, OutcomeKind::Gone, Cause::Gone, 1),
        (
            "busy-token",
            FORM,
            OutcomeKind::Throttle,
            Cause::RateLimited,
            1,
        ),
        (
            "large",
            &large,
            OutcomeKind::Reject,
            Cause::ContentTooLarge,
            0,
        ),
    ];
    for (name, payload, kind, cause, asked) in rows {
        let route = route(&node, &fake, name);
        let to = device(&node, &route, name);
        let now = node.clock.now();
        let mut told = submission(&to, Guarantee::AtLeastOnce, 1, now);
        told.event.payload = Bytes::copy_from_slice(payload.as_bytes());
        let dispatch = dispatch(&to, now);
        let transport = Arc::clone(&node.transport);
        let rehearsed = transport.rehearse(&to, &told.event, &dispatch, now).await;
        let Some(Attempted::Answered(outcome)) = rehearsed.attempted else {
            panic!("{name}: {rehearsed:?}");
        };
        assert_eq!((outcome.kind, outcome.cause), (kind, cause), "{name}");
        let evidence = String::from_utf8_lossy(&outcome.evidence);
        assert!(!evidence.contains("such-a-device"), "{evidence}");
        let is_struck = evidence.contains("no [address]");
        assert_eq!(is_struck, kind == OutcomeKind::Gone, "{evidence}");
        let seen = fake.requests(&Filter::path(&format!("/fcm/{name}")));
        assert_eq!(seen.len(), asked, "{name}");
        for request in seen {
            let body: Value = serde_json::from_str(&request.body).expect("JSON");
            assert_eq!(body["validateOnly"], true);
        }
        assert!(!evidence.contains("busy-token"), "{evidence}");
        assert_eq!(retired(&node, to.id), None, "{name}: nothing follows");
        if kind != OutcomeKind::Reject {
            // What the fake does once it has done: the next one, in earnest, is served at once.
            tell(&node, &to, 1).await;
            let ends = [State::Accepted, State::Rejected];
            row(&node, to.id, name, |row| ends.contains(&row.state)).await;
        }
    }
}

/// Refusals as Google words them, with the token in them.
fn misbehave(fake: &Fake) {
    let gone = Answer {
        http_status: 404,
        headers: vec![("content-type".into(), "application/json".into())],
        body: r#"{"error":{"code":404,"status":"NOT_FOUND","message":"no such-a-device",
                  "details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError",
                              "errorCode":"UNREGISTERED"}]}}"#
            .into(),
        ..Answer::default()
    };
    let gone = Behaviour::of("/fcm/such-a-device").rule(When::Always, Act::Answer(gone));
    fake.set(gone).expect("a behaviour");
    // It repeats the token, and asks the whole project to wait.
    let words = Answer {
        http_status: 429,
        body: r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"busy-token"}}"#.to_owned(),
        ..Answer::default()
    };
    let busy = Behaviour::of("/fcm/busy-token").rule(When::First(1), Act::Answer(words));
    fake.set(busy).expect("a behaviour");
}

/// The first attempt of a delivery that there is none of.
fn dispatch(to: &Endpoint, now: Time) -> Dispatch {
    Dispatch {
        delivery: DeliveryId(0),
        correlation: CorrelationId(7),
        tenant: to.tenant,
        event: EventId(0),
        endpoint: to.id,
        attempt: 1,
        policy: to.policy,
        guarantee: Guarantee::AtLeastOnce,
        lane: None,
        previous_accepted: 0,
        admitted_at: now,
        expires_at: now.plus(MINUTE_MS),
        opened_at: now,
    }
}
