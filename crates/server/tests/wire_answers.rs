//! What is sent, and what each canonical answer comes to, over a real socket.

mod wire_kit;

use std::sync::Arc;

use postrider::registry::Endpoint;
use postrider::transport::{Limits, Transport};
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::id::OrderingKey;
use postrider_core::ledger::Lane;
use postrider_core::outcome::OutcomeKind::{self, *};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use wire_kit::*;

fn transport() -> Transport {
    Transport::new(Limits::default(), open_policy())
}

const ANSWERS: &[(&str, OutcomeKind, Cause, Option<i64>)] = &[
    (
        "200 OK\r\ncontent-length: 2\r\n\r\nok",
        Accept,
        Cause::Accepted,
        None,
    ),
    (
        "201 Created\r\ncontent-length: 0\r\n\r\n",
        Accept,
        Cause::Accepted,
        None,
    ),
    ("204 No Content\r\n\r\n", Accept, Cause::Accepted, None),
    (
        "301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        Reject,
        Cause::Redirected,
        None,
    ),
    (
        "400 Bad\r\ncontent-length: 0\r\n\r\n",
        Reject,
        Cause::BadRequest,
        None,
    ),
    (
        "401 No\r\ncontent-length: 0\r\n\r\n",
        Reject,
        Cause::AuthFailure,
        None,
    ),
    (
        "404 None\r\ncontent-length: 0\r\n\r\n",
        Reject,
        Cause::NotFound,
        None,
    ),
    (
        "408 Late\r\ncontent-length: 0\r\n\r\n",
        Retry,
        Cause::RequestTimeout,
        None,
    ),
    (
        "410 Gone\r\ncontent-length: 0\r\n\r\n",
        Gone,
        Cause::Gone,
        None,
    ),
    (
        "413 Big\r\ncontent-length: 0\r\n\r\n",
        Reject,
        Cause::PayloadTooLarge,
        None,
    ),
    (
        "429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
        Throttle,
        Cause::RateLimited,
        Some(7_000),
    ),
    (
        "429 Slow\r\nretry-after: -7\r\ncontent-length: 0\r\n\r\n",
        Throttle,
        Cause::RateLimited,
        None,
    ),
    (
        "500 Oh\r\ncontent-length: 0\r\n\r\n",
        Retry,
        Cause::ServiceDegraded,
        None,
    ),
    (
        "503 Wait\r\nretry-after: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        Retry,
        Cause::ServiceDegraded,
        Some(1_000),
    ),
    (
        "999 What\r\ncontent-length: 0\r\n\r\n",
        Reject,
        Cause::Unresolved,
        None,
    ),
];

#[tokio::test]
async fn every_canonical_answer_over_one_connection() {
    let receiver = Receiver::start(|mut stream, _| async move {
        for (answer, ..) in ANSWERS {
            read_request(&mut stream).await.unwrap();
            stream
                .write_all(format!("HTTP/1.1 {answer}").as_bytes())
                .await
                .unwrap();
        }
    })
    .await;
    let (transport, endpoint) = (transport(), Arc::new(endpoint(&receiver.url())));
    for &(answer, kind, cause, retry_after_ms) in ANSWERS {
        let outcome = outcome(&transport, &endpoint).await;
        assert_eq!(brief(&outcome), (kind, cause), "{answer}");
        assert_eq!(outcome.retry_after_ms, retry_after_ms, "{answer}");
        assert!(!outcome.unsent);
        assert_eq!(outcome.evidence.is_empty(), kind == Accept, "{answer}");
    }
    assert_eq!(receiver.connections(), 1);
}

/// The request of one attempt as it arrives.
async fn caught(
    edit: impl FnOnce(&mut Endpoint),
    event: &Event,
    dispatch: &Dispatch,
) -> (Seen, Receiver) {
    let (tell, mut told) = mpsc::channel(1);
    let receiver = Receiver::start(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            while let Some(seen) = read_request(&mut stream).await {
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
                tell.send(seen).await.unwrap();
            }
        }
    })
    .await;
    let transport = transport();
    let mut endpoint = endpoint(&receiver.url());
    edit(&mut endpoint);
    let prepared = transport.prepared(&Arc::new(endpoint));
    transport.attempt(&prepared, event, dispatch, wall()).await;
    (told.recv().await.unwrap(), receiver)
}

const ID: &str = "01234567-89ab-4def-8123-456789abcdef";

#[tokio::test]
async fn the_request_says_all_that_a_receiver_needs() {
    let mut event = event("{\"b\":  2}\n");
    event.ordering_key = "käse 1".into();
    event.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".into();
    let mut dispatch = dispatch(3);
    dispatch.previous_accepted = 41;
    dispatch.lane = Some(Lane {
        key: OrderingKey(5),
        sequence: 43,
    });
    let custom =
        |endpoint: &mut Endpoint| endpoint.headers = vec![("X-Api-Key".into(), "k".into())];
    let (seen, receiver) = caught(custom, &event, &dispatch).await;
    assert_eq!(seen.line, "POST /hook?x=1 HTTP/1.1");
    assert_eq!(seen.body, b"{\"b\":  2}\n");
    let host = receiver.address.to_string();
    let expected = [
        ("host", host.as_str()),
        (
            "user-agent",
            concat!("Postrider/", env!("CARGO_PKG_VERSION")),
        ),
        ("accept-encoding", "identity"),
        ("content-type", "application/json"),
        ("content-length", "10"),
        ("x-api-key", "k"),
        ("x-postrider-correlation-id", ID),
        ("x-postrider-attempt", "3"),
        ("webhook-id", ID),
        ("idempotency-key", ID),
        ("x-webhook-idempotency-key", ID),
        ("x-event-type", "order.paid"),
        ("x-event-sequence-id", "43"),
        ("x-event-previous-sequence-id", "41"),
        ("x-event-ordering-key", "k%C3%A4se%201"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let trace = seen.header("traceparent");
    assert!(
        trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{trace}"
    );
    assert!(
        trace.ends_with("-00") && !trace.contains("00f067aa0ba902b7"),
        "{trace}"
    );
    let extra = [
        "webhook-timestamp",
        "webhook-signature",
        "x-postrider-signature",
        "traceparent",
    ];
    assert_eq!(seen.headers.len(), expected.len() + extra.len());
}

#[tokio::test]
async fn what_is_not_there_is_not_spoken_of() {
    let mut event = event("");
    event.content_type = "not a\ntype".into();
    event.event_type = "spaced out\r\nx: y".into();
    let (seen, _) = caught(|endpoint| endpoint.secrets.clear(), &event, &dispatch(1)).await;
    let absent = [
        "x-event-sequence-id",
        "x-event-previous-sequence-id",
        "x-event-ordering-key",
        "x-postrider-signature",
        "webhook-signature",
        "accept-language",
        "cookie",
        "x",
    ];
    for name in absent {
        assert!(
            !seen.headers.iter().any(|(known, _)| known == name),
            "{name}"
        );
    }
    assert_eq!(seen.header("content-type"), "application/octet-stream");
    assert_eq!(seen.header("x-event-type"), "spaced%20out%0D%0Ax:%20y");
    let trace = seen.header("traceparent");
    assert!(
        trace.starts_with(&format!("00-{}-", ID.replace('-', ""))),
        "{trace}"
    );
    assert_eq!(seen.body, b"");
    assert_eq!(seen.header("content-length"), "0");
}

#[tokio::test]
async fn a_repeat_has_the_same_ids_and_another_signature_time_and_span() {
    let event = event("{}");
    let first = caught(|_| {}, &event, &dispatch(1)).await.0;
    let second = caught(|_| {}, &event, &dispatch(2)).await.0;
    let stable = ["webhook-id", "idempotency-key", "x-webhook-idempotency-key"];
    for name in stable.into_iter().chain(["x-postrider-correlation-id"]) {
        assert_eq!(first.header(name), second.header(name), "{name}");
    }
    let (first, second) = (first.header("traceparent"), second.header("traceparent"));
    assert_eq!(first[..36], second[..36], "one trace");
    assert_ne!(first, second, "two spans");
}
