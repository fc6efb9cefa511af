//! Endpoints and deliveries as the API shows them, and the pages about everything.

mod http_kit;

use http::{Method, StatusCode};
use http_kit::Kit;
use postrider::registry::Role;
use postrider_core::cause::Cause;
use postrider_core::outcome::{Outcome, OutcomeKind};
use serde_json::{Value, json};

const ANNA: &str = r#"{"url":"https://anna.test/hook?t=1","recipient":"anna","name":"shop",
    "event_types":["order.*"],"policy":"patient","headers":[["x-api-key","sesame"]]}"#;

fn outcome(kind: OutcomeKind, cause: Cause, http_status: u16) -> Outcome {
    Outcome {
        http_status,
        latency_ms: 12,
        evidence: b"HTTP/1.1 503\r\n\r\nbusy".as_slice().into(),
        ..Outcome::bare(kind, cause)
    }
}

#[tokio::test]
async fn an_endpoints_secrets_are_shown_when_they_are_made_and_never_again() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    let made = kit.post(&admin, "/v1/endpoints", ANNA).await.json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let path = format!("/v1/endpoints/{}", made["id"].as_str().unwrap());
    let read = kit.get(&admin, &path).await;
    assert!(
        !read.text.contains("whsec_") && !read.text.contains("sesame"),
        "{}",
        read.text
    );
    let read = read.json();
    assert_eq!(read["headers"], json!(["x-api-key"]));
    assert_eq!(read["url"], "https://anna.test/hook?t=1");
    assert_eq!(
        (&read["policy"], &read["state"]),
        (&json!("patient"), &json!("active"))
    );

    let support = kit.get(&kit.key(Role::Support, Some("acme")), &path).await;
    assert!(!support.text.contains("anna.test"), "{}", support.text);
    assert_eq!(support.json()["fingerprint"], read["fingerprint"]);

    let rotated = kit
        .post(
            &admin,
            &format!("{path}/rotate-secret"),
            r#"{"overlap_s":60}"#,
        )
        .await;
    let rotated = rotated.json();
    assert_ne!(rotated["secret"], json!(secret));
    let secrets = rotated["secrets"].as_array().unwrap();
    assert_eq!(secrets.len(), 2);
    assert!(secrets[0]["expires_at"].is_null());
    assert_eq!(secrets[1]["expires_at"], "2027-01-15T08:01:00.000Z");
}

#[tokio::test]
async fn a_change_changes_what_it_names_and_null_takes_an_override_away() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    let id = kit.endpoint("acme", ANNA).await;
    let path = format!("/v1/endpoints/{id}");
    let patch = async |body: Value| {
        kit.ask(&admin, Method::PATCH, &path, &body.to_string())
            .await
    };
    let changed = patch(json!({"slots_max": 3, "rate": {"per_second_milli": 500, "burst": 2}}));
    let changed = changed.await.json();
    assert_eq!(
        (&changed["slots_max"], &changed["revision"]),
        (&json!(3), &json!(2))
    );
    let changed = patch(json!({"slots_max": null, "policy": "brief"}))
        .await
        .json();
    assert!(changed["slots_max"].is_null());
    assert_eq!(changed["rate"]["burst"], 2);
    assert_eq!(
        (&changed["policy"], &changed["name"]),
        (&json!("brief"), &json!("shop"))
    );
    for (body, field) in [
        (json!({"url": "http://plain.test/"}), "url"),
        (json!({"url": "nonsense"}), "url"),
        (json!({"policy": "none"}), "policy"),
        (json!({"slots_max": 0}), "slots_max"),
        (json!({"event_types": ["no good"]}), "event_types"),
        (json!({"headers": [["host", "x"]]}), "headers"),
        (json!({"headers": [["x-a", "b\r\nc: d"]]}), "headers"),
        (json!({"tls": {"ca_pem": "nonsense"}}), "tls"),
        (json!({"tls": {"min_version": "1.1"}}), "tls.min_version"),
        (json!({"recipient": "a\u{0}"}), "recipient"),
    ] {
        let answer = patch(body.clone()).await;
        assert_eq!(
            answer.http_status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            answer.text
        );
        assert_eq!(answer.json()["field"], field, "{body}");
    }
    assert_eq!(kit.get(&admin, &path).await.json()["revision"], 3);
    let secret = r#"{"url":"https://a.test/","secret":"whsec_short"}"#;
    assert_eq!(
        kit.post(&admin, "/v1/endpoints", secret).await.json()["field"],
        "secret"
    );
}

#[tokio::test]
async fn what_is_paused_waits_and_what_is_deleted_is_not_sent() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    let id = kit.endpoint("acme", ANNA).await;
    let path = format!("/v1/endpoints/{id}");
    let paused = kit
        .post(&admin, &format!("{path}/pause"), r#"{"reason":"moving"}"#)
        .await
        .json();
    assert_eq!(
        (&paused["state"], &paused["reason"]),
        (&json!("paused"), &json!("moving"))
    );
    let body = r#"{"type":"order.paid","recipient":"anna","payload":1}"#;
    let event = kit.post(&admin, "/v1/events", body).await.json();
    assert!(kit.engine.sent().is_empty());
    let resumed = kit.post(&admin, &format!("{path}/resume"), "").await.json();
    assert_eq!(resumed["state"], "active");
    assert_eq!(kit.engine.sent().len(), 1);

    let test = kit.post(&admin, &format!("{path}/test"), "").await;
    assert_eq!(test.http_status, StatusCode::ACCEPTED, "{}", test.text);
    assert_eq!(kit.engine.sent().len(), 1);

    assert_eq!(
        kit.ask(&admin, Method::DELETE, &path, "").await.http_status,
        StatusCode::NO_CONTENT
    );
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/resume")),
        (Method::POST, format!("{path}/test")),
    ] {
        let answer = kit.ask(&admin, method.clone(), &path, "").await;
        assert_eq!(answer.code(), "not_found", "{method} {path}");
    }
    let list = kit.get(&admin, "/v1/endpoints").await.json();
    assert_eq!(list["items"], json!([]));
    // The delivery still says where it went.
    let delivery = format!(
        "/v1/deliveries/{}",
        event["deliveries"][0]["id"].as_str().unwrap()
    );
    assert_eq!(
        kit.get(&admin, &delivery).await.json()["endpoint_id"],
        json!(id)
    );
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // one life, step by step
async fn a_delivery_tells_everything_that_happened_to_it() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    kit.endpoint("acme", ANNA).await;
    let body = r#"{"type":"order.paid","id":"o-1","recipient":"anna","payload":1}"#;
    let event = kit.post(&admin, "/v1/events", body).await.json();
    let first = kit.engine.sent().pop().unwrap();
    kit.engine.answer(
        &first,
        outcome(OutcomeKind::Retry, Cause::ServiceDegraded, 503),
    );
    let path = format!(
        "/v1/deliveries/{}",
        event["deliveries"][0]["id"].as_str().unwrap()
    );
    let waiting = kit.get(&admin, &path).await.json();
    assert_eq!(
        (&waiting["state"], &waiting["cause"]),
        (&json!("scheduled"), &json!("SERVICE_DEGRADED"))
    );
    assert_eq!(waiting["last_http_status"], 503);
    kit.engine.pass_ms(5_000);
    let second = kit.engine.sent().pop().unwrap();
    kit.engine
        .answer(&second, outcome(OutcomeKind::Accept, Cause::Accepted, 204));

    let row = kit.get(&admin, &path).await.json();
    assert_eq!(
        (&row["state"], &row["attempt"]),
        (&json!("accepted"), &json!(2))
    );
    assert_eq!(
        (&row["event_id"], &row["business_id"]),
        (&event["event_id"], &json!("o-1"))
    );
    assert_eq!(row["cause_text"], Cause::Accepted.text());
    let facts: Vec<_> = row["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["fact"].as_str().unwrap())
        .collect();
    assert_eq!(
        facts,
        ["admitted", "opened", "answered", "opened", "answered"]
    );
    assert_eq!(row["history"][2]["outcome"], "retry");
    assert_eq!(row["history"][4]["state"], "accepted");

    let attempts = kit.get(&admin, &format!("{path}/attempts")).await.json();
    let attempts = attempts["items"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(
        (&attempts[0]["attempt"], &attempts[0]["http_status"]),
        (&json!(1), &json!(503))
    );
    assert_eq!(attempts[0]["next_due_at"], waiting["due_at"]);
    assert!(attempts[0]["evidence"].as_str().unwrap().ends_with("busy"));
    let support = kit.key(Role::Support, Some("acme"));
    for path in [format!("{path}/attempts"), path.clone()] {
        let text = kit.get(&support, &path).await.text;
        assert!(
            !text.contains("busy") && !text.contains("evidence"),
            "{text}"
        );
    }

    let settled = kit.post(&admin, &format!("{path}/cancel"), "").await;
    assert_eq!(
        (settled.http_status.as_u16(), &*settled.code()),
        (409, "delivery_settled")
    );
    let read = format!("/v1/events/{}", event["event_id"].as_str().unwrap());
    let read = kit.get(&admin, &read).await.json();
    assert_eq!(
        (&read["deliveries"], &read["business_id"]),
        (&event["deliveries"], &json!("o-1"))
    );
}

#[tokio::test]
async fn a_delivery_that_is_not_begun_can_be_withdrawn() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    kit.endpoint("acme", ANNA).await;
    let body = r#"{"type":"order.paid","delay_s":600,"payload":1}"#;
    let event = kit.post(&admin, "/v1/events", body).await.json();
    let path = format!(
        "/v1/deliveries/{}",
        event["deliveries"][0]["id"].as_str().unwrap()
    );
    let cancelled = kit.post(&admin, &format!("{path}/cancel"), "").await;
    assert_eq!(cancelled.http_status, StatusCode::OK, "{}", cancelled.text);
    assert_eq!(cancelled.json()["state"], "cancelled");
    kit.engine.pass_ms(700_000);
    assert!(kit.engine.sent().is_empty());
    let nobody = "/v1/deliveries/00000000-0000-4000-8000-000000000000/cancel";
    assert_eq!(kit.post(&admin, nobody, "").await.code(), "not_found");
}

/// The ids of all deliveries, page by page.
async fn all_pages(kit: &Kit, key: &str) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    let mut path = "/v1/deliveries?limit=5".to_owned();
    loop {
        let page = kit.get(key, &path).await.json();
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["id"].clone()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/deliveries?limit=5&cursor={next}");
    }
    seen
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // a table
async fn lists_are_filtered_and_paged_without_a_gap() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    let anna = kit.endpoint("acme", ANNA).await;
    let bo = kit
        .endpoint("acme", r#"{"url":"https://bo.test/","recipient":"bo"}"#)
        .await;
    let mut newest_first = Vec::new();
    for n in 0..23 {
        let who = if n % 3 == 0 { "bo" } else { "anna" };
        let kind = if n % 2 == 0 {
            "order.paid"
        } else {
            "order.sent"
        };
        let body = json!({"type": kind, "recipient": who, "payload": n}).to_string();
        let event = kit.post(&admin, "/v1/events", &body).await.json();
        newest_first.insert(0, event["deliveries"][0]["id"].clone());
    }
    assert_eq!(all_pages(&kit, &admin).await, newest_first);
    let under_way = kit.engine.sent().len();
    for (filter, expected) in [
        (format!("endpoint={bo}"), 8),
        (format!("endpoint={anna}&event_type=order.paid"), 8),
        ("recipient=bo&type=order.sent".to_owned(), 4),
        ("state=in_flight".to_owned(), under_way),
        ("state=accepted".to_owned(), 0),
        ("cause=SCHEDULED".to_owned(), 23 - under_way),
        ("dead_letters=true".to_owned(), 0),
        ("since=2027-01-15T08:00:00Z".to_owned(), 23),
        ("until=2027-01-15T08:00:00Z".to_owned(), 0),
        (
            "endpoint=00000000-0000-4000-8000-000000000000".to_owned(),
            0,
        ),
    ] {
        let answer = kit
            .get(&admin, &format!("/v1/deliveries?limit=500&{filter}"))
            .await;
        let items = answer.json()["items"].as_array().expect(&filter).len();
        assert_eq!(items, expected, "{filter}: {}", answer.text);
    }
    let page = kit.get(&admin, "/v1/endpoints?limit=1").await.json();
    assert_eq!(page["items"][0]["id"], json!(anna));
    let next = page["next"].as_str().unwrap();
    let page = kit
        .get(&admin, &format!("/v1/endpoints?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!(bo), &Value::Null)
    );
    let page = kit
        .get(&admin, "/v1/endpoints?recipient=bo&state=active")
        .await
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_query_that_asks_for_nonsense_is_told_so() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=zz", "cursor"),
        ("state=gone", "state"),
        ("cause=GONE_FISHING", "cause"),
        ("endpoint=1", "endpoint"),
        ("since=yesterday", "since"),
    ] {
        let answer = kit.get(&admin, &format!("/v1/deliveries?{query}")).await;
        assert_eq!(answer.json()["field"], field, "{query}: {}", answer.text);
    }
    let answer = kit.get(&admin, "/v1/deliveries?colour=red").await;
    assert_eq!(answer.code(), "malformed_request");
}

#[tokio::test]
async fn policies_show_their_versions_newest_first() {
    use postrider_core::id::PolicyId;
    use postrider_core::policy::Policy;
    let kit = Kit::new();
    let reader = kit.key(Role::Reader, Some("acme"));
    let changed = Policy {
        attempts_max: 9,
        ..Policy::brief(PolicyId(0))
    };
    kit.registry
        .apply_policies([changed], http_kit::START)
        .unwrap();
    let list = kit.get(&reader, "/v1/policies").await.json();
    let names: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["apns", "brief", "fcm", "patient", "web_push"]);
    assert_eq!(list["items"][1]["attempts_max"], 9);
    let versions = kit.get(&reader, "/v1/policies/brief").await.json();
    let attempts: Vec<_> = versions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["attempts_max"])
        .collect();
    assert_eq!(attempts, [&json!(9), &json!(5)]);
    assert_eq!(
        kit.get(&reader, "/v1/policies/none").await.code(),
        "not_found"
    );
}

#[tokio::test]
async fn there_is_a_page_for_every_code_and_none_of_them_needs_a_network() {
    use postrider::http::error::Code;
    let kit = Kit::new();
    let overview = kit.get("", "/docs").await;
    assert_eq!(overview.http_status, StatusCode::OK);
    for code in Code::ALL {
        let page = kit.get("", &format!("/docs/errors/{}", code.word())).await;
        assert_eq!(page.http_status, StatusCode::OK);
        assert!(
            page.text
                .contains(code.way_out().split('`').next().unwrap()),
            "{}",
            page.text
        );
        assert!(overview.text.contains(code.word()));
        for text in [&page.text, &overview.text] {
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{text}"
            );
            assert!(!text.contains("<script"));
        }
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"));
    }
    assert_eq!(kit.get("", "/docs/errors/none").await.code(), "not_found");
    assert_eq!(overview.headers["x-content-type-options"], "nosniff");
}
