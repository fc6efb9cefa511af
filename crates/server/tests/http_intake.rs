//! Intake over HTTP: what is admitted, what is a repeat, and how every refusal is told.

mod http_kit;

use http::StatusCode;
use http_kit::Kit;
use postrider::config;
use postrider::http::intake::Intake as _;
use postrider::registry::Role;
use postrider::store::Reader;
use postrider_core::cause::Cause;
use postrider_core::engine::Why;
use postrider_core::event::Event;
use postrider_core::id::EventId;
use postrider_core::outcome::{Outcome, OutcomeKind};
use serde_json::{Value, json};

const ANNA: &str =
    r#"{"url":"https://anna.test/hook","recipient":"anna","event_types":["order.*"]}"#;

/// The last admitted event, with its payload.
fn newest(kit: &Kit) -> (Event, bytes::Bytes) {
    let (_, reader) = kit.store.open();
    let mut id = EventId(1);
    let mut newest = None;
    while let Some(event) = reader.event(id).unwrap() {
        newest = Some((event, reader.payload(id).unwrap().unwrap_or_default()));
        id.0 += 1;
    }
    newest.expect("an event")
}

#[tokio::test]
async fn an_event_is_admitted_once_and_repeats_get_the_first_ones_ids() {
    let kit = Kit::new();
    let endpoint = kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let body = r#"{"type":"order.paid","id":"o-1","payload":{ "total" : 1.50 }}"#;
    let first = kit.post(&key, "/v1/events", body).await;
    assert_eq!(first.http_status, StatusCode::ACCEPTED, "{}", first.text);
    let first = first.json();
    assert_eq!(first["duplicate"], false);
    assert_eq!(first["deliveries"][0]["endpoint_id"], json!(endpoint));

    let again = kit.post(&key, "/v1/events", body).await;
    assert_eq!(again.http_status, StatusCode::OK);
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!(again.json()["event_id"], first["event_id"]);
    assert_eq!(again.json()["deliveries"], first["deliveries"]);

    let other = body.replace("1.50", "1.5");
    let conflict = kit.post(&key, "/v1/events", &other).await;
    assert_eq!(
        (conflict.http_status, conflict.code()),
        (StatusCode::CONFLICT, "idempotency_conflict".to_owned())
    );
    let id = first["event_id"].as_str().unwrap();
    assert!(
        conflict.text.contains(id),
        "the conflict names the first one: {}",
        conflict.text
    );
    assert_eq!(kit.engine.sent().len(), 1);
    let (event, payload) = newest(&kit);
    assert_eq!(&payload[..], br#"{ "total" : 1.50 }"#);
    assert_eq!(&*event.business_id, "o-1");
}

#[tokio::test]
async fn another_version_type_or_tenant_is_another_event() {
    let kit = Kit::new();
    kit.endpoint("acme", ANNA).await;
    kit.endpoint("bolt", ANNA).await;
    let acme = kit.key(Role::Writer, Some("acme"));
    let bolt = kit.key(Role::Writer, Some("bolt"));
    let mut seen = std::collections::BTreeSet::new();
    for (key, body) in [
        (&acme, r#"{"type":"order.paid","id":"o","payload":1}"#),
        (
            &acme,
            r#"{"type":"order.paid","id":"o","version":2,"payload":2}"#,
        ),
        (&acme, r#"{"type":"order.sent","id":"o","payload":3}"#),
        (&bolt, r#"{"type":"order.paid","id":"o","payload":4}"#),
    ] {
        let answer = kit.post(key, "/v1/events", body).await;
        assert_eq!(answer.http_status, StatusCode::ACCEPTED, "{}", answer.text);
        assert!(seen.insert(answer.json()["event_id"].as_str().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn the_header_is_the_key_of_an_event_without_id() {
    let kit = Kit::new();
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let post = async |body: &str, header: &[(&str, &str)]| {
        kit.ask_with(&key, http::Method::POST, "/v1/events", body, header)
            .await
    };
    let body = r#"{"type":"order.paid","payload":1}"#;
    let header = [("idempotency-key", "k-1")];
    let first = post(body, &header).await.json();
    assert_eq!(
        post(body, &header).await.json()["event_id"],
        first["event_id"]
    );
    // Without any key, the same twice is two events.
    let one = post(body, &[]).await.json();
    let two = post(body, &[]).await.json();
    assert_ne!(one["event_id"], two["event_id"]);
    assert_eq!(two["duplicate"], false);
    let both = r#"{"type":"order.paid","id":"other","payload":1}"#;
    let answer = post(both, &header).await;
    assert_eq!(answer.json()["field"], "id", "{}", answer.text);
}

#[tokio::test]
async fn an_event_goes_to_its_endpoints_or_its_recipient_or_whoever_subscribes() {
    let kit = Kit::new();
    let anna = kit.endpoint("acme", ANNA).await;
    let all = kit
        .endpoint("acme", r#"{"url":"https://all.test/","event_types":["*"]}"#)
        .await;
    let bo = kit
        .endpoint("acme", r#"{"url":"https://bo.test/","recipient":"bo"}"#)
        .await;
    kit.endpoint("bolt", r#"{"url":"https://x.test/","event_types":["*"]}"#)
        .await;
    let key = kit.key(Role::Writer, Some("acme"));
    for (wanted, expected) in [
        (json!({"type": "order.paid"}), vec![&anna, &all]),
        (json!({"type": "other"}), vec![&all]),
        (json!({"type": "other", "recipient": "bo"}), vec![&bo]),
        (
            json!({"type": "x", "endpoints": [bo, anna]}),
            vec![&bo, &anna],
        ),
        (json!({"type": "x", "recipient": "nobody"}), vec![]),
    ] {
        let mut body = wanted.clone();
        body["payload"] = json!({});
        let answer = kit.post(&key, "/v1/events", &body.to_string()).await;
        assert_eq!(answer.http_status, StatusCode::ACCEPTED, "{}", answer.text);
        let deliveries = answer.json()["deliveries"].clone();
        let deliveries = deliveries.as_array().unwrap();
        if expected.is_empty() {
            // It is kept, with the reason why nothing was sent.
            let id = deliveries[0]["id"].as_str().unwrap();
            let row = kit.get(&key, &format!("/v1/deliveries/{id}")).await.json();
            assert_eq!(row["state"], "suppressed");
            assert_eq!(row["cause"], "SUPPRESSED_NO_ENDPOINT");
            assert!(row["endpoint_id"].is_null());
        } else {
            let found: Vec<_> = deliveries
                .iter()
                .map(|d| d["endpoint_id"].as_str().unwrap())
                .collect();
            assert_eq!(found, expected, "{wanted}");
        }
    }
}

#[tokio::test]
async fn what_an_event_says_overrides_endpoint_and_policy() {
    let kit = Kit::new();
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let body = r#"{"type":"order.paid","guarantee":"at_most_once","policy":"patient","ttl_s":60,
        "delay_s":30,"ordering_key":"o-1","payload_base64":"AP8=","content_type":"image/x"}"#;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", trace)];
    let answer = kit
        .ask_with(&key, http::Method::POST, "/v1/events", body, &headers)
        .await
        .json();
    let id = answer["deliveries"][0]["id"].as_str().unwrap();
    let row = kit.get(&key, &format!("/v1/deliveries/{id}")).await.json();
    assert_eq!(row["guarantee"], "at_most_once");
    assert_eq!(row["policy"], "patient");
    assert_eq!(row["state"], "scheduled");
    assert_eq!(row["due_at"], "2027-01-15T08:00:30.000Z");
    assert_eq!(row["expires_at"], "2027-01-15T08:01:30.000Z");
    assert_eq!(
        (&row["sequence"], &row["ordering_key"]),
        (&json!(1), &json!("o-1"))
    );
    let (event, payload) = newest(&kit);
    assert_eq!(&payload[..], [0, 255]);
    assert_eq!(
        (&*event.content_type, &*event.traceparent),
        ("image/x", trace)
    );
    assert!(kit.engine.sent().is_empty(), "it is not due");
    kit.engine.pass_ms(30_000);
    assert_eq!(kit.engine.sent().len(), 1);
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // a table
async fn every_broken_rule_is_named_with_its_field() {
    let kit = Kit::with(config::Server {
        fanout_max: 1,
        ..config::Server::default()
    });
    let endpoint = kit.endpoint("acme", ANNA).await;
    let foreign = kit.endpoint("bolt", ANNA).await;
    let other = kit.endpoint("acme", r#"{"url":"https://bo.test/"}"#).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let twice = json!([endpoint, endpoint]);
    for (body, code, field) in [
        (
            json!({"type": "a b", "payload": 1}),
            "invalid_value",
            "type",
        ),
        (
            json!({"type": "a", "version": 0, "payload": 1}),
            "invalid_value",
            "version",
        ),
        (json!({"type": "a"}), "invalid_value", "payload"),
        (
            json!({"type": "a", "payload": 1, "payload_base64": ""}),
            "invalid_value",
            "payload_base64",
        ),
        (
            json!({"type": "a", "payload_base64": "%"}),
            "invalid_value",
            "payload_base64",
        ),
        (
            json!({"type": "a", "payload": 1, "content_type": "a/b"}),
            "invalid_value",
            "content_type",
        ),
        (
            json!({"type": "a", "payload_base64": "", "content_type": "a/b\r\nx: y"}),
            "invalid_value",
            "content_type",
        ),
        (
            json!({"type": "a", "payload": 1, "id": ""}),
            "invalid_value",
            "id",
        ),
        (
            json!({"type": "a", "payload": 1, "id": "a\nb"}),
            "invalid_value",
            "id",
        ),
        (
            json!({"type": "a", "payload": 1, "id": "x".repeat(256)}),
            "invalid_value",
            "id",
        ),
        (
            json!({"type": "a", "payload": 1, "ordering_key": ""}),
            "invalid_value",
            "ordering_key",
        ),
        (
            json!({"type": "a", "payload": 1, "ttl_s": 0}),
            "invalid_value",
            "ttl_s",
        ),
        (
            json!({"type": "a", "payload": 1, "due_at": "soon"}),
            "invalid_value",
            "due_at",
        ),
        (
            json!({"type": "a", "payload": 1, "due_at": "2099-01-01T00:00:00Z"}),
            "invalid_value",
            "due_at",
        ),
        (
            json!({"type": "a", "payload": 1, "due_at": "2027-01-16T00:00:00Z", "delay_s": 1}),
            "invalid_value",
            "delay_s",
        ),
        (
            json!({"type": "a", "payload": 1, "policy": "none"}),
            "invalid_value",
            "policy",
        ),
        (
            json!({"type": "a", "payload": 1, "endpoints": []}),
            "invalid_value",
            "endpoints",
        ),
        (
            json!({"type": "a", "payload": 1, "endpoints": twice}),
            "invalid_value",
            "endpoints",
        ),
        (
            json!({"type": "a", "payload": 1, "endpoints": [endpoint, other]}),
            "fanout_too_large",
            "",
        ),
        (
            json!({"type": "a", "payload": 1, "endpoints": ["x"]}),
            "invalid_value",
            "endpoints[0]",
        ),
        (
            json!({"type": "a", "payload": 1, "endpoints": [endpoint, foreign]}),
            "invalid_value",
            "endpoints[1]",
        ),
        (
            json!({"type": "a", "payload": 1, "endpoints": [endpoint], "recipient": "anna"}),
            "invalid_value",
            "recipient",
        ),
        (
            json!({"type": "a", "payload": 1, "guarantee": "maybe"}),
            "malformed_request",
            "",
        ),
        (
            json!({"type": "a", "payload": 1, "paylod": 1}),
            "malformed_request",
            "",
        ),
        (json!([]), "malformed_request", ""),
    ] {
        let answer = kit.post(&key, "/v1/events", &body.to_string()).await;
        let problem = answer.json();
        assert_eq!(answer.code(), code, "{body}: {problem}");
        assert_eq!(
            problem["field"].as_str().unwrap_or_default(),
            field,
            "{body}: {problem}"
        );
        assert_eq!(problem["status"], answer.http_status.as_u16());
        let page = kit.get("", problem["type"].as_str().unwrap()).await;
        assert_eq!(page.http_status, StatusCode::OK, "the page of {code}");
    }
    assert!(kit.engine.sent().is_empty(), "nothing of it was admitted");
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item_in_its_order() {
    let kit = Kit::new();
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let body = r#"{"events":[
        {"type":"order.paid","id":"1","payload":{"n":1}},
        {"type":"order.paid","id":"1","payload":{"n":1}},
        {"type":"order.paid","id":"1","payload":{"n":2}},
        {"type":"order.paid","id":"2","payload":3,"nonsense":true},
        {"type":"order paid","id":"3","payload":4},
        {"type":"order.paid","id":"4","payload":5}
    ]}"#;
    let answer = kit.post(&key, "/v1/events/batch", body).await;
    assert_eq!(answer.http_status, StatusCode::ACCEPTED, "{}", answer.text);
    let answer = answer.json();
    let items = answer["items"].as_array().unwrap();
    let outcome = |item: &Value| {
        let code = item["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (item["status"].as_u64().unwrap(), code)
    };
    let outcomes: Vec<_> = items.iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        [
            (202, String::new()),
            (200, String::new()),
            (409, "idempotency_conflict".into()),
            (400, "malformed_request".into()),
            (422, "invalid_value".into()),
            (202, String::new()),
        ]
    );
    assert_eq!(items[1]["event_id"], items[0]["event_id"]);
    assert_eq!(items[1]["deliveries"], items[0]["deliveries"]);
    assert_eq!(kit.engine.sent().len(), 2);
}

#[tokio::test]
async fn limits_of_size_are_told_before_anything_is_done() {
    let limits = config::Server {
        body_bytes_max: 1_024,
        batch_bytes_max: 4_096,
        batch_items_max: 3,
        ..config::Server::default()
    };
    let kit = Kit::with(limits);
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let long = format!(r#"{{"type":"order.a","payload":"{}"}}"#, "x".repeat(1_100));
    let answer = kit.post(&key, "/v1/events", &long).await;
    assert_eq!(
        (answer.http_status.as_u16(), &*answer.code()),
        (413, "body_too_large")
    );
    let answer = kit
        .post(
            &key,
            "/v1/events/batch",
            &format!(r#"{{"events":[{long}]}}"#),
        )
        .await;
    assert_eq!(answer.json()["items"][0]["error"]["code"], "body_too_large");
    let four = r#"{"events":[{},{},{},{}]}"#;
    let answer = kit.post(&key, "/v1/events/batch", four).await;
    assert_eq!(
        (answer.http_status.as_u16(), &*answer.code()),
        (413, "batch_too_large")
    );
    let answer = kit.post(&key, "/v1/events/batch", &" ".repeat(5_000)).await;
    assert_eq!(answer.code(), "body_too_large");
    let empty = kit.post(&key, "/v1/events/batch", r#"{"events":[]}"#).await;
    assert_eq!(empty.json(), json!({"items": []}));
    // A body that does not say how long it is, and goes on for ever.
    let request = http::Request::post("/v1/events")
        .header("authorization", format!("Bearer {key}"))
        .body(axum::body::Body::new(Endless))
        .unwrap();
    assert_eq!(kit.send(request).await.code(), "body_too_large");
    assert!(kit.engine.sent().is_empty());
}

/// A body without an end.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        let chunk = bytes::Bytes::from_static(&[b' '; 64]);
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(chunk))))
    }
}

#[tokio::test]
async fn want_of_room_is_told_with_a_time_to_come_back() {
    let kit = Kit::new();
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let body = r#"{"type":"order.paid","id":"1","payload":1}"#;
    for (why, http_status, code) in [
        (Why::Overloaded, 429, "overloaded"),
        (Why::StorageFull, 507, "storage_full"),
        (Why::Draining, 503, "draining"),
    ] {
        *kit.engine.refuse.lock() = Some(why);
        let answer = kit.post(&key, "/v1/events", body).await;
        assert_eq!(
            (answer.http_status.as_u16(), &*answer.code()),
            (http_status, code)
        );
        assert_eq!(answer.headers["retry-after"], "1");
        let batch = format!(r#"{{"events":[{body}]}}"#);
        let item = kit.post(&key, "/v1/events/batch", &batch).await.json()["items"][0].clone();
        assert_eq!(
            (&item["status"], &item["error"]["code"]),
            (&json!(http_status), &json!(code))
        );
    }
    *kit.engine.refuse.lock() = None;

    kit.engine.load.lock().waiting = 100;
    let answer = kit.post(&key, "/v1/events", body).await;
    assert_eq!(
        (answer.http_status.as_u16(), &*answer.code()),
        (429, "overloaded")
    );
    assert_eq!(answer.headers["retry-after"], "2");
    kit.engine.load.lock().waiting = 0;

    *kit.engine.dead.lock() = true;
    let answer = kit.post(&key, "/v1/events", body).await;
    assert_eq!(
        (answer.http_status.as_u16(), &*answer.code()),
        (503, "unavailable")
    );
    *kit.engine.dead.lock() = false;

    assert_eq!(kit.get("", "/readyz").await.http_status, StatusCode::OK);
    kit.draining.send(true).unwrap();
    assert_eq!(
        kit.get("", "/readyz").await.http_status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(kit.get("", "/healthz").await.http_status, StatusCode::OK);
    let answer = kit.post(&key, "/v1/events", body).await;
    assert_eq!(
        (answer.http_status.as_u16(), &*answer.code()),
        (503, "draining")
    );
    assert_eq!(kit.metrics.refused_overloaded.get(), 3);
    assert!(kit.engine.sent().is_empty());
}

#[tokio::test]
async fn bodies_together_take_no_more_room_than_there_is() {
    let limits = config::Server {
        bodies_bytes_max: 4_194_304,
        ..config::Server::default()
    };
    let kit = Kit::with(limits);
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let (asked, first_poll) = tokio::sync::oneshot::channel();
    let request = http::Request::post("/v1/events/batch")
        .header("authorization", format!("Bearer {key}"))
        .header("content-length", "4194304")
        .body(axum::body::Body::new(Pending(Some(asked))))
        .unwrap();
    let router = kit.router.clone();
    let held = tokio::spawn(async move { http_kit::call(&router, request).await });
    first_poll.await.unwrap();
    let body = r#"{"type":"order.paid","payload":1}"#;
    let answer = kit.post(&key, "/v1/events", body).await;
    assert_eq!(
        (answer.http_status.as_u16(), &*answer.code()),
        (429, "overloaded")
    );
    held.abort();
    assert!(held.await.unwrap_err().is_cancelled());
    let answer = kit.post(&key, "/v1/events", body).await;
    assert_eq!(
        answer.http_status,
        StatusCode::ACCEPTED,
        "the room is free again"
    );
}

/// A body that says when it is first asked for, and never comes.
struct Pending(Option<tokio::sync::oneshot::Sender<()>>);

impl hyper::body::Body for Pending {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        if let Some(asked) = self.0.take() {
            let _ = asked.send(());
        }
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_leaves_nothing() {
    let kit = Kit::new();
    let anna = kit.endpoint("acme", ANNA).await;
    let gone = kit
        .endpoint("acme", &ANNA.replace("anna.test", "gone.test"))
        .await;
    let id = uuid::Uuid::parse_str(&gone).unwrap();
    let id = kit.registry.endpoint_by_uuid(id).unwrap().id;
    kit.registry
        .retire(id, Cause::Gone, kit.engine.now())
        .unwrap();
    let key = kit.key(Role::Writer, Some("acme"));
    let body = json!({
        "type": "order.paid", "id": "o-1", "payload": { "total": 1 }, "ttl_s": 60,
        "endpoints": [gone, anna],
    });
    for _ in 0..2 {
        let told = kit
            .post(&key, "/v1/events/dry-run", &body.to_string())
            .await;
        assert_eq!(told.http_status, StatusCode::OK, "{}", told.text);
        let told = told.json();
        assert_eq!(told["deliveries"][0]["endpoint_id"], gone);
        assert_eq!(told["deliveries"][0]["verdict"], "refused");
        assert_eq!(told["deliveries"][0]["cause"], "GONE");
        assert_eq!(told["deliveries"][1]["endpoint_id"], anna);
        assert_eq!(told["deliveries"][1]["verdict"], "sendable");
        assert_eq!(told["deliveries"][1]["channel"], "webhook");
        assert_eq!(told["deliveries"][1]["body_bytes"], r#"{"total":1}"#.len());
    }
    assert_eq!(kit.engine.sent().len(), 0);
    let (_, reader) = kit.store.open();
    assert!(reader.event(EventId(1)).unwrap().is_none());

    let admin = kit.key(Role::Admin, Some("acme"));
    let pause = format!("/v1/endpoints/{anna}/pause");
    let paused = kit.post(&admin, &pause, r#"{"reason":"holidays"}"#).await;
    assert!(paused.http_status.is_success(), "{}", paused.text);
    let told = kit
        .post(&key, "/v1/events/dry-run", &body.to_string())
        .await;
    assert_eq!(told.json()["deliveries"][1]["verdict"], "held");

    for _ in 0..101 {
        kit.endpoint("acme", r#"{"url":"https://many.test/","recipient":"many"}"#)
            .await;
    }
    let many = r#"{"type":"order.paid","recipient":"many","payload":1}"#;
    let many = kit.post(&key, "/v1/events/dry-run", many).await;
    assert_eq!(many.http_status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(many.json()["field"], "endpoints");

    let wrong = kit
        .post(
            &key,
            "/v1/events/dry-run",
            r#"{"type":"order.paid","payload":1,"ttl_s":0}"#,
        )
        .await;
    assert_eq!(
        wrong.http_status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        wrong.text
    );
    let nowhere = kit
        .post(
            &key,
            "/v1/events/dry-run",
            r#"{"type":"cat.fed","payload":1}"#,
        )
        .await;
    assert_eq!(nowhere.json(), json!({ "deliveries": [] }));
}

#[tokio::test]
async fn who_tries_again_after_a_definite_failure_is_told_of_the_first() {
    let kit = Kit::new();
    kit.endpoint("acme", ANNA).await;
    let key = kit.key(Role::Writer, Some("acme"));
    let body = r#"{"type":"order.paid","id":"o-1","policy":"apns","payload":1}"#;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let told = kit.post(&key, "/v1/events", body).await;
        assert_eq!(told.http_status, StatusCode::ACCEPTED, "{}", told.text);
        let id = told.json()["event_id"].clone();
        let path = format!("/v1/events/{}", id.as_str().unwrap());
        let event = kit.ask(&key, http::Method::GET, &path, "").await.json();
        assert_eq!(event.get("retry_of"), ids.last());
        ids.push(id);
        let dispatch = kit.engine.sent().pop().unwrap();
        let refused = Outcome::bare(OutcomeKind::Reject, Cause::BadRequest);
        kit.engine.answer(&dispatch, refused);
    }
}
