//! Who may do what, generated from the table of routes: every route with every role, and every
//! route with the ids of somebody else.

mod http_kit;

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use http_kit::{Kit, START};
use postrider::http::access::{Action, MATRIX, ROUTES, may};
use postrider::registry::{KeyDraft, Role};
use postrider_core::time::Time;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const ENDPOINT: &str = r#"{"url":"https://a.test/hook","recipient":"anna","event_types":["*"]}"#;

/// Named like a policy, so that one name fits both paths.
const ROUTE: &str = r#"{"name":"brief","web_push":{"subject":"mailto:ops@example.org"}}"#;

/// The subscription of RFC 8291, Appendix A.
const DEVICE: &str = r#"{"recipient":"anna","web_push":{
    "endpoint":"https://updates.push.services.mozilla.com/wpush/v2/x",
    "keys":{"auth":"BTBZMqHH6r4Tts7J_aSIgg","p256dh":
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"}}}"#;

/// What a tenant has, by the names that the routes' paths have for it.
struct Things {
    endpoint: String,
    event: String,
    delivery: String,
    key: String,
    tenant: String,
}

async fn things(kit: &Kit, tenant: &str) -> Things {
    let endpoint = kit.endpoint(tenant, ENDPOINT).await;
    let admin = kit.key(Role::Admin, Some(tenant));
    kit.post(&admin, "/v1/routes", ROUTE).await;
    let body = r#"{"type":"order.paid","delay_s":60,"payload":1}"#;
    let event = kit.post(&admin, "/v1/events", body).await.json();
    let key = r#"{"name":"n","role":"reader"}"#;
    Things {
        endpoint,
        event: event["event_id"].as_str().unwrap().to_owned(),
        delivery: event["deliveries"][0]["id"].as_str().unwrap().to_owned(),
        key: kit.post(&admin, "/v1/keys", key).await.json()["id"]
            .as_str()
            .unwrap()
            .to_owned(),
        tenant: kit.tenant(tenant).uuid.to_string(),
    }
}

fn path(route: &str, things: &Things) -> String {
    let id = if route.starts_with("/v1/endpoints") {
        &things.endpoint
    } else if route.starts_with("/v1/events") {
        &things.event
    } else if route.starts_with("/v1/deliveries") {
        &things.delivery
    } else {
        &things.key
    };
    route
        .replace("{id}", id)
        .replace("{tenant}", &things.tenant)
        .replace("{name}", "brief")
}

fn body(method: &Method, route: &str) -> &'static str {
    match (method.as_str(), route) {
        ("POST", "/v1/tenants") => r#"{"name":"new"}"#,
        ("POST", "/v1/keys") => r#"{"name":"n","role":"reader"}"#,
        ("POST", "/v1/endpoints") => ENDPOINT,
        ("POST", "/v1/events" | "/v1/events/dry-run") => r#"{"type":"a","payload":1}"#,
        ("POST", "/v1/routes") => r#"{"name":"new","web_push":{"subject":"mailto:a@example.org"}}"#,
        ("PATCH", "/v1/routes/{name}") => r#"{"web_push":{"subject":"mailto:b@example.org"}}"#,
        ("POST", "/v1/devices") => DEVICE,
        ("POST", "/v1/devices/batch") => r#"{"devices":[]}"#,
        ("POST", "/v1/events/batch") => r#"{"events":[]}"#,
        _ => "",
    }
}

#[tokio::test]
async fn every_role_may_do_what_the_matrix_says_and_nothing_else() {
    for role in Role::ALL {
        for (method, route, action) in ROUTES {
            let kit = Kit::new();
            let things = things(&kit, "acme").await;
            let scope = (role != Role::Operator).then_some("acme");
            let key = kit.key(role, scope);
            let header = [("postrider-tenant", "acme")];
            let (path, body) = (path(route, &things), body(method, route));
            let answer = kit
                .ask_with(&key, method.clone(), &path, body, &header)
                .await;
            let what = format!("{method} {route} as {}: {}", role.name(), answer.text);
            if may(role, *action) {
                assert!(
                    answer.http_status.is_success(),
                    "{} {what}",
                    answer.http_status
                );
            } else {
                assert_eq!(answer.http_status, StatusCode::FORBIDDEN, "{what}");
                assert_eq!(answer.code(), "forbidden");
            }
        }
    }
}

#[tokio::test]
async fn nobody_reaches_what_belongs_to_another_tenant() {
    let kit = Kit::new();
    let mine = things(&kit, "acme").await;
    let theirs = things(&kit, "bolt").await;
    let key = kit.key(Role::Admin, Some("acme"));
    let before = snapshot(&kit).await;
    let mut tried = 0;
    for (method, route, action) in ROUTES.iter().filter(|(_, route, _)| route.contains('{')) {
        if !may(Role::Admin, *action) || route.contains("{name}") {
            continue;
        }
        tried += 1;
        let answer = kit
            .ask(
                &key,
                method.clone(),
                &path(route, &theirs),
                body(method, route),
            )
            .await;
        let what = format!("{method} {route}: {}", answer.text);
        assert_eq!(answer.http_status, StatusCode::NOT_FOUND, "{what}");
        assert_eq!(answer.code(), "not_found", "{what}");
        for secret in ["bolt", "a.test", &theirs.tenant] {
            assert!(!answer.text.contains(secret), "{what}");
        }
    }
    assert!(tried >= 12, "{tried} routes with ids");
    assert_eq!(
        snapshot(&kit).await,
        before,
        "nothing of theirs has changed"
    );

    // Lists, and filters by their ids, show nothing of theirs.
    for path in [
        "/v1/endpoints".to_owned(),
        "/v1/deliveries".to_owned(),
        "/v1/keys".to_owned(),
        format!("/v1/deliveries?endpoint={}", theirs.endpoint),
        format!("/v1/deliveries?event={}", theirs.event),
        "/v1/deliveries?recipient=anna&cursor=ffff".to_owned(),
    ] {
        let answer = kit.get(&key, &path).await;
        assert_eq!(
            answer.http_status,
            StatusCode::OK,
            "{path}: {}",
            answer.text
        );
        for id in [
            &theirs.endpoint,
            &theirs.event,
            &theirs.delivery,
            &theirs.key,
        ] {
            assert!(!answer.text.contains(id), "{path}: {}", answer.text);
        }
    }
    let own = kit
        .get(&key, &format!("/v1/deliveries?endpoint={}", mine.endpoint))
        .await
        .json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1);

    // Nor does saying that one is somebody else help.
    let header = [("postrider-tenant", "bolt")];
    let answer = kit
        .ask_with(&key, Method::GET, "/v1/endpoints", "", &header)
        .await;
    assert_eq!(answer.code(), "forbidden");
}

/// Everything that the other tenant has, as an operator sees it.
async fn snapshot(kit: &Kit) -> Vec<Value> {
    let key = kit.key(Role::Operator, None);
    let mut seen = Vec::new();
    for path in ["/v1/endpoints", "/v1/deliveries"] {
        let header = [("postrider-tenant", "bolt")];
        seen.push(
            kit.ask_with(&key, Method::GET, path, "", &header)
                .await
                .json(),
        );
    }
    seen
}

#[tokio::test]
async fn every_route_is_in_the_description_and_in_the_table_and_answers() {
    let kit = Kit::new();
    let description = kit.get("", "/openapi.json").await.json();
    let mut described = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
        {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table: BTreeSet<_> = ROUTES
        .iter()
        .filter(|(_, route, _)| route.starts_with("/v1/"))
        .map(|(method, route, _)| (method.to_string(), (*route).to_owned()))
        .collect();
    assert_eq!(described, table);
    // Every reference inside of the document leads somewhere.
    let text = description.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"#/") {
        let reference = text[at + 9..].split('"').next().unwrap();
        assert!(
            description.pointer(&reference[0..]).is_some(),
            "{reference}"
        );
    }
    // A route that nobody serves would be answered with 404 before the key is asked for.
    for (method, route, _) in ROUTES {
        let path = route
            .replace("{id}", "x")
            .replace("{tenant}", "x")
            .replace("{name}", "x");
        let answer = kit.ask("", method.clone(), &path, "").await;
        assert_eq!(answer.code(), "key_missing", "{method} {route}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_in_the_table_is_refused_and_head_counts_as_get() {
    let kit = Kit::new();
    let support = kit.key(Role::Support, Some("acme"));
    let reader = kit.key(Role::Reader, Some("acme"));
    let answer = kit.ask(&support, Method::PUT, "/v1/endpoints", "").await;
    assert_eq!(answer.code(), "method_not_allowed");
    let allow = answer.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    let answer = kit.ask(&support, Method::HEAD, "/v1/policies", "").await;
    assert_eq!(answer.http_status, StatusCode::FORBIDDEN);
    let answer = kit.ask(&reader, Method::HEAD, "/v1/policies", "").await;
    assert_eq!(answer.http_status, StatusCode::OK);
    let answer = kit.ask("", Method::DELETE, "/healthz", "").await;
    assert_eq!(answer.code(), "method_not_allowed");
    assert_eq!(kit.get(&reader, "/v2/things").await.code(), "not_found");
}

#[tokio::test]
async fn a_key_is_asked_for_and_its_fault_is_named_without_help_for_guessing() {
    let kit = Kit::new();
    let good = kit.key(Role::Reader, Some("acme"));
    let draft = KeyDraft {
        name: "old".into(),
        role: Role::Reader,
        tenant: Some(kit.tenant("acme").id),
        expires_at: Some(Time(START.0 - 1)),
        environment: "test".into(),
    };
    let (_, expired) = kit.registry.create_key(draft, START).unwrap();
    for (authorization, code) in [
        (String::new(), "key_missing"),
        ("Basic eHg6eHg=".to_owned(), "key_missing"),
        ("Bearer".to_owned(), "key_missing"),
        ("Bearer nonsense".to_owned(), "key_refused"),
        (format!("Bearer {good}0"), "key_refused"),
        (format!("Bearer {}", expired.expose_secret()), "key_refused"),
    ] {
        let header = [("authorization", authorization.as_str())];
        let header = if authorization.is_empty() {
            &[][..]
        } else {
            &header[..]
        };
        let answer = kit
            .ask_with("", Method::GET, "/v1/endpoints", "", header)
            .await;
        assert_eq!(answer.http_status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.code(), code, "{authorization}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!answer.text.contains(&good[20..]));
    }
    let header = [("authorization", format!("bEARER {good}"))];
    let header = [("authorization", header[0].1.as_str())];
    let answer = kit
        .ask_with("", Method::GET, "/v1/endpoints", "", &header)
        .await;
    assert_eq!(answer.http_status, StatusCode::OK);
}

#[tokio::test]
async fn an_operator_says_which_tenant_is_meant() {
    let kit = Kit::new();
    let operator = kit.key(Role::Operator, None);
    let made = kit
        .post(&operator, "/v1/tenants", r#"{"name":"acme"}"#)
        .await;
    assert_eq!(made.http_status, StatusCode::CREATED);
    let taken = kit
        .post(&operator, "/v1/tenants", r#"{"name":"acme"}"#)
        .await;
    assert_eq!(
        (taken.http_status.as_u16(), &*taken.code()),
        (409, "name_taken")
    );
    assert_eq!(
        kit.post(&operator, "/v1/endpoints", ENDPOINT).await.code(),
        "tenant_required"
    );
    let id = made.json()["id"].as_str().unwrap().to_owned();
    for named in ["acme", id.as_str()] {
        let header = [("postrider-tenant", named)];
        let answer = kit
            .ask_with(&operator, Method::POST, "/v1/endpoints", ENDPOINT, &header)
            .await;
        assert_eq!(answer.http_status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(answer.json()["tenant_id"], json!(id));
    }
    let header = [("postrider-tenant", "none")];
    let answer = kit
        .ask_with(&operator, Method::GET, "/v1/endpoints", "", &header)
        .await;
    assert_eq!(answer.code(), "not_found");
    assert_eq!(
        kit.get(&operator, "/v1/endpoints").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn keys_are_shown_once_and_no_key_makes_a_stronger_one() {
    let kit = Kit::new();
    let admin = kit.key(Role::Admin, Some("acme"));
    let answer = kit
        .post(&admin, "/v1/keys", r#"{"name":"app","role":"writer"}"#)
        .await;
    assert_eq!(answer.http_status, StatusCode::CREATED);
    let made = answer.json();
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with(&format!("pr_live_{}_", made["id"].as_str().unwrap())));
    let list = kit.get(&admin, "/v1/keys").await;
    assert!(!list.text.contains(&key[26..]), "a key is shown once");
    for body in [
        r#"{"name":"x","role":"operator"}"#,
        r#"{"name":"x","role":"reader","whole_installation":true}"#,
    ] {
        assert_eq!(kit.post(&admin, "/v1/keys", body).await.code(), "forbidden");
    }
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(
        kit.get(key, "/v1/endpoints").await.http_status,
        StatusCode::OK
    );
    let revoked = kit.ask(&admin, Method::DELETE, &path, "").await;
    assert!(revoked.json()["revoked_at"].is_string());
    assert_eq!(kit.get(key, "/v1/endpoints").await.code(), "key_refused");
    assert_eq!(
        kit.ask(&admin, Method::DELETE, &path, "").await.http_status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn metrics_and_health_show_nothing_that_identifies_anybody() {
    let kit = Kit::new();
    let things = things(&kit, "acme").await;
    let operator = kit.key(Role::Operator, None);
    let metrics = kit.get(&operator, "/metrics").await;
    assert_eq!(metrics.http_status, StatusCode::OK);
    assert!(
        metrics.text.contains("postrider_endpoints 1\n"),
        "{}",
        metrics.text
    );
    assert!(
        metrics
            .text
            .contains("route=\"/v1/endpoints\",class=\"2xx\"} 1")
    );
    for word in ["acme", "a.test", "anna", &things.endpoint, &things.tenant] {
        assert!(!metrics.text.contains(word), "{word}");
    }
    let request = http::Request::get("/metrics")
        .body(axum::body::Body::empty())
        .unwrap();
    let open = http_kit::call(&kit.admin, request).await;
    assert_eq!(open.http_status, StatusCode::OK);
    assert!(open.text.ends_with("# EOF\n"));
}

#[test]
fn every_action_is_somebodys_and_support_sees_no_address() {
    for (_, _, action) in ROUTES {
        assert!(
            MATRIX
                .iter()
                .any(|(listed, roles)| listed == action && !roles.is_empty())
        );
    }
    assert!(!may(Role::Support, Action::SeeAddresses));
    assert!(!may(Role::Support, Action::SeeAnswers));
}
