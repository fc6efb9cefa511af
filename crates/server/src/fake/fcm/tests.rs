//! FCM as a sender meets it: over sockets, with assertions that are right and wrong.

#![expect(
    clippy::disallowed_methods,
    reason = "the fake's own clients, on loopback"
)]

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::channel::fcm::oauth::assertion;
use crate::channel::fcm::{ServiceAccount, oauth};
use crate::fake::{Act, Behaviour, Fake, Filter, Settings, When};
use postrider_core::time::Time;

const PROJECT: &str = "demo";

async fn fake() -> Fake {
    let settings = Settings {
        body_keep_bytes: 4_096,
        ..Settings::default()
    };
    Fake::start(settings).await.expect("it starts")
}

fn account(fake: &Fake) -> ServiceAccount {
    ServiceAccount::parse(&fake.fcm_account(PROJECT)).expect("the fake's own account is read")
}

fn now() -> Time {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    Time(i64::try_from(since.as_millis()).expect("before the year 292,000,000"))
}

/// HTTP status and body.
async fn post(fake: &Fake, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let stream = TcpStream::connect(fake.address())
        .await
        .expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let mut request = http::Request::post(path).header("host", fake.address().to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::from(body.to_owned()));
    let request = request.body(body).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let http_status = answer.status().as_u16();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (http_status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn exchange(fake: &Fake, assertion: &str) -> (u16, Value) {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", oauth::GRANT_TYPE)
        .append_pair("assertion", assertion)
        .finish();
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let (http_status, body) = post(fake, "/oauth2/token", &kind, &form).await;
    (http_status, serde_json::from_str(&body).expect("JSON"))
}

async fn bearer(fake: &Fake) -> String {
    let (http_status, grant) = exchange(fake, &assertion(&account(fake), now())).await;
    assert_eq!(
        (http_status, &grant["token_type"]),
        (200, &json!("Bearer")),
        "{grant}"
    );
    assert_eq!(grant["expires_in"], 3_599);
    format!(
        "Bearer {}",
        grant["access_token"].as_str().expect("a token")
    )
}

async fn send(fake: &Fake, bearer: &str, request: &Value) -> (u16, Value) {
    let path = format!("/v1/projects/{PROJECT}/messages:send");
    let headers = [
        ("authorization", bearer),
        ("content-type", "application/json"),
    ];
    let (http_status, body) = post(fake, &path, &headers, &request.to_string()).await;
    (http_status, serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test]
async fn an_assertion_is_held_against_all_that_google_checks() {
    let fake = fake().await;
    bearer(&fake).await;
    assert_eq!(fake.fcm_granted(), 1);
    let refused = async |assertion: String, error: &str, words: &str| {
        let (http_status, said) = exchange(&fake, &assertion).await;
        assert_eq!(
            (http_status, &said["error"]),
            (400, &json!(error)),
            "{said}"
        );
        let description = said["error_description"].as_str().expect("words");
        assert!(description.contains(words), "{description}");
    };
    let good = assertion(&account(&fake), now());
    refused(
        good[..good.len() - 4].to_owned() + "AAAA",
        "invalid_grant",
        "Signature",
    )
    .await;
    refused("a.b".into(), "invalid_grant", "three parts").await;
    let ages = [
        (3_700_000, "reasonable timeframe"),
        (-3_700_000, "reasonable timeframe"),
    ];
    for (off_ms, words) in ages {
        let assertion = assertion(&account(&fake), now().plus(off_ms));
        refused(assertion, "invalid_grant", words).await;
    }
    let changed = |member: &str, value: &str| {
        let mut json: Value = serde_json::from_str(&fake.fcm_account(PROJECT)).expect("JSON");
        json[member] = value.into();
        assertion(
            &ServiceAccount::parse(&json.to_string()).expect("an account"),
            now(),
        )
    };
    let elsewhere = changed("token_uri", "https://oauth2.googleapis.com/token");
    refused(elsewhere, "invalid_grant", "audience").await;
    refused(
        changed("client_email", "x@y.z"),
        "invalid_grant",
        "account not found",
    )
    .await;
    refused(
        changed("private_key_id", "other"),
        "invalid_grant",
        "no such key",
    )
    .await;
    let (http_status, said) = post(&fake, "/oauth2/token", &[], "grant_type=x").await;
    assert_eq!(http_status, 400, "{said}");
    assert_eq!(fake.fcm_granted(), 1);
}

#[tokio::test]
async fn a_sender_is_let_in_by_its_token_and_for_its_project() {
    let fake = fake().await;
    let request = json!({ "message": { "token": "t" } });
    let (http_status, said) = send(&fake, "Basic x", &request).await;
    assert_eq!(
        (http_status, &said["error"]["status"]),
        (401, &json!("UNAUTHENTICATED"))
    );
    let bearer = bearer(&fake).await;
    let (http_status, said) = send(&fake, &bearer, &request).await;
    assert_eq!(http_status, 200, "{said}");
    let name = said["name"].as_str().expect("a name");
    assert!(name.starts_with("projects/demo/messages/0:"), "{name}");
    let headers = [("authorization", bearer.as_str())];
    let body = request.to_string();
    let other = post(&fake, "/v1/projects/other/messages:send", &headers, &body).await;
    assert!(
        other.0 == 403 && other.1.contains("PERMISSION_DENIED"),
        "{other:?}"
    );
    for wrong in [
        "/v1/projects/demo/message:send",
        "/v1/projects/a/b/messages:send",
    ] {
        let (http_status, page) = post(&fake, wrong, &headers, &body).await;
        assert!(
            http_status == 404 && page.starts_with("<!DOCTYPE html>"),
            "{wrong}"
        );
    }
    fake.fcm_revoke();
    assert_eq!(send(&fake, &bearer, &request).await.0, 401);
}

#[tokio::test]
async fn what_google_refuses_is_refused_in_its_words() {
    let fake = fake().await;
    let bearer = bearer(&fake).await;
    let long = "x".repeat(4_097);
    let table = [
        (json!({}), "Required field"),
        (json!({ "message": {} }), "Exactly one of"),
        (
            json!({ "message": { "token": "t", "fid": "f" } }),
            "already set",
        ),
        (json!({ "message": { "topic": "news" } }), "no topic"),
        (
            json!({ "message": { "token": "t" }, "extra": 1 }),
            "Unknown name \"extra\"",
        ),
        (
            json!({ "message": { "token": "t", "data": { "n": 1 } } }),
            "TYPE_STRING",
        ),
        (
            json!({ "message": { "token": "t", "data": { "gcm": "" } } }),
            "payload key",
        ),
        (
            json!({ "message": { "token": "t", "data": { "a": long } } }),
            "too big",
        ),
        (
            json!({ "message": { "token": "t", "android": { "ttl": "2419201s" } } }),
            "TTL",
        ),
        (
            json!({ "message": { "token": "t", "android": {}, "androidV2": {} } }),
            "exclusive",
        ),
        (
            json!({ "message": { "token": "no token" } }),
            "not a valid FCM registration token",
        ),
    ];
    for (request, words) in table {
        let (http_status, said) = send(&fake, &bearer, &request).await;
        let error = &said["error"];
        assert_eq!(
            (http_status, &error["status"]),
            (400, &json!("INVALID_ARGUMENT")),
            "{said}"
        );
        assert!(
            error["message"].as_str().expect("words").contains(words),
            "{said}"
        );
        assert!(error["details"][0]["@type"].is_string(), "{said}");
    }
    assert_eq!(
        fake.requests(&Filter::path("/fcm/*")).len(),
        0,
        "no device saw any of it"
    );
    let seen = fake.requests(&Filter::path("/v1/projects/*"));
    assert!(seen.len() > 10 && seen.iter().all(|it| !it.processed));
}

#[tokio::test]
async fn a_device_does_what_its_script_says_and_is_recorded() {
    let fake = fake().await;
    let bearer = bearer(&fake).await;
    fake.set(Behaviour::of("/fcm/gone").rule(When::Always, Act::http_status(404)))
        .expect("valid");
    fake.set(Behaviour::of("/fcm/slow").rule(When::First(1), Act::http_status(503)))
        .expect("valid");
    let request = |device: &str| {
        let data = json!({ "postrider_id": "id-1", "postrider_sequence": "4" });
        json!({ "message": { "fid": device, "data": data } })
    };
    let (http_status, said) = send(&fake, &bearer, &request("gone")).await;
    assert_eq!(http_status, 404);
    assert_eq!(said["error"]["details"][0]["errorCode"], "UNREGISTERED");
    assert_eq!(send(&fake, &bearer, &request("slow")).await.0, 503);
    assert_eq!(send(&fake, &bearer, &request("slow")).await.0, 200);
    let records = fake.requests(&Filter::path("/fcm/slow"));
    let seen: Vec<_> = records
        .iter()
        .map(|it| (&*it.key, it.sequence, it.processed))
        .collect();
    assert_eq!(seen, [("id-1", 4, false), ("id-1", 4, true)]);
    assert!(records[0].body.contains("postrider_id"));
    let dry = json!({ "validate_only": true, "message": { "token": "dry" } });
    let (http_status, said) = send(&fake, &bearer, &dry).await;
    assert_eq!(
        (http_status, &said["name"]),
        (200, &json!("projects/demo/messages/fake_message_id"))
    );
    assert!(!fake.requests(&Filter::path("/fcm/dry"))[0].processed);
}

#[tokio::test]
async fn the_account_can_be_asked_for_and_tokens_taken_back() {
    let fake = fake().await;
    let held = bearer(&fake).await;
    assert_eq!(post(&fake, "/_/fcm/revoke", &[], "").await.0, 200);
    assert_eq!(
        send(&fake, &held, &json!({ "message": { "token": "t" } }))
            .await
            .0,
        401
    );
    let stream = TcpStream::connect(fake.address())
        .await
        .expect("a connection");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let request = http::Request::get("/_/fcm/account?project=p1")
        .header("host", fake.address().to_string())
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let account = ServiceAccount::parse(str::from_utf8(&body).expect("text")).expect("an account");
    assert_eq!(account.project, "p1");
    assert_eq!(account.token_url.as_str(), fake.url("/oauth2/token"));
}
