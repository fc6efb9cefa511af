//! What is sent, and what each canonical answer comes to, over a real socket.

mod wire_kit;

use std::sync::Arc;

use postrider::transport::{Limits, Transport};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::{self, *};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use wire_kit::*;

fn transport() -> Transport {
    Transport::new(Limits::default(), open_policy())
}

#[rustfmt::skip]
const ANSWERS: &[(&str, OutcomeKind, Cause, Option<i64>)] = &[
    ("200 OK\r\ncontent-length: 2\r\n\r\nok", Accept, Cause::Accepted, None),
    ("201 Created\r\ncontent-length: 0\r\n\r\n", Accept, Cause::Accepted, None),
    ("204 No Content\r\n\r\n", Accept, Cause::Accepted, None),
    ("301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Reject, Cause::Redirected, None),
    ("400 Bad\r\ncontent-length: 0\r\n\r\n", Reject, Cause::BadRequest, None),
    ("401 No\r\ncontent-length: 0\r\n\r\n", Reject, Cause::AuthFailure, None),
    ("404 None\r\ncontent-length: 0\r\n\r\n", Reject, Cause::NotFound, None),
    ("408 Late\r\ncontent-length: 0\r\n\r\n", Retry, Cause::RequestTimeout, None),
    ("410 Gone\r\ncontent-length: 0\r\n\r\n", Gone, Cause::Gone, None),
    ("413 Big\r\ncontent-length: 0\r\n\r\n", Reject, Cause::PayloadTooLarge, None),
    ("429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", Throttle, Cause::RateLimited, Some(7_000)),
    ("429 Slow\r\nretry-after: -7\r\ncontent-length: 0\r\n\r\n", Throttle, Cause::RateLimited, None),
    ("500 Oh\r\ncontent-length: 0\r\n\r\n", Retry, Cause::ServiceDegraded, None),
    ("503 Wait\r\nretry-after: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", Retry, Cause::ServiceDegraded, Some(1_000)),
    ("999 What\r\ncontent-length: 0\r\n\r\n", Reject, Cause::Unresolved, None),
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

#[tokio::test]
async fn the_request_says_all_that_a_receiver_needs() {
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
    endpoint.headers = vec![("X-Api-Key".into(), "k".into())];
    let prepared = transport.prepared(&Arc::new(endpoint));
    let mut event = event("{\"b\":  2}\n");
    event.ordering_key = "käse 1".into();
    event.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".into();
    let mut dispatch = dispatch(3);
    dispatch.previous_accepted = 41;
    dispatch.lane = Some(postrider_core::ledger::Lane {
        key: postrider_core::id::OrderingKey(5),
        sequence: 43,
    });
    transport
        .attempt(&prepared, &event, &dispatch, wall())
        .await;
    let seen = told.recv().await.unwrap();
    assert_eq!(seen.line, "POST /hook?x=1 HTTP/1.1");
    assert_eq!(seen.body, b"{\"b\":  2}\n");
    let id = "01234567-89ab-4def-8123-456789abcdef";
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
        ("x-postrider-correlation-id", id),
        ("x-postrider-attempt", "3"),
        ("webhook-id", id),
        ("idempotency-key", id),
        ("x-webhook-idempotency-key", id),
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
    ];
    assert_eq!(seen.headers.len(), expected.len() + extra.len() + 1);
}
