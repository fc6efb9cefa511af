//! Firebase: the list, from Google's "FCM error codes" and the reference of `ErrorCode`.

use std::sync::Arc;

use postrider::channel::{fcm, registration};
use postrider::fake::{Act, Answer, Behaviour, Fake, Filter, Settings, When};
use postrider::registry::{Credentials, FcmTarget, Kind, Route, RouteDraft, TlsProfile};
use postrider::run::Node;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use url::Url;

use super::kit::{
    ADDRESS, Case, End, Said, accepted, again, blocked, credential, dead, later, our_fault,
    renewed, slower, table_and_list_know_the_same,
};
use super::node_kit::{config, tenant};
use super::stage::{Provider, play, policy};

const PAGE: &str = "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>";

/// Google's error body; without a code of FCM's own where `code` is empty.
fn error(http_status: u16, status: &str, code: &str) -> Said {
    let details = match code {
        "" => serde_json::json!([]),
        code => serde_json::json!([{
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
            "errorCode": code,
        }]),
    };
    with_details(http_status, status, "words", details)
}

fn with_details(http_status: u16, status: &str, words: &str, details: serde_json::Value) -> Said {
    let error = serde_json::json!({
        "code": http_status, "message": words, "status": status, "details": details,
    });
    Said::new(
        http_status,
        serde_json::json!({ "error": error }).to_string(),
    )
}

/// What has a code of FCM's own, read as that.
fn coded(http_status: u16, status: &str, code: &str, end: End) -> Case {
    Case::new("", error(http_status, status, code), code, end)
}

/// What has a status only.
fn status(http_status: u16, status: &str, end: End) -> Case {
    Case::new("", error(http_status, status, ""), status, end)
}

/// What is no answer of the API.
fn page(http_status: u16, end: End) -> Case {
    Case::new("", Said::new(http_status, PAGE), "NOT_JSON", end)
}

fn of_requests() -> Vec<Case> {
    let bug = || our_fault(Cause::BadRequest);
    let fields = serde_json::json!([{
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{ "field": "message.android.ttl", "description": "Illegal format" }],
    }]);
    let fields = with_details(400, "INVALID_ARGUMENT", "Invalid value", fields);
    let words = format!("The registration token {ADDRESS} is not a valid FCM registration token");
    let token = with_details(400, "INVALID_ARGUMENT", &words, serde_json::json!([]));
    vec![
        coded(200, "", "", accepted()),
        Case::new("", fields, "INVALID_ARGUMENT/fields", bug()),
        Case::new("", token, "INVALID_ARGUMENT/token", dead(Cause::BadToken)),
        coded(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", bug()),
        status(400, "FAILED_PRECONDITION", bug()),
        status(400, "OUT_OF_RANGE", bug()),
        status(400, "", bug()),
        page(413, our_fault(Cause::PayloadTooLarge)),
        page(302, our_fault(Cause::Redirected)),
    ]
}

fn of_credentials() -> Vec<Case> {
    vec![
        // An access token may have been too old once. A new one that is refused as well was not.
        status(401, "UNAUTHENTICATED", renewed(10)),
        Case {
            reason: "UNAUTHENTICATED/again".into(),
            ..status(401, "UNAUTHENTICATED", credential()).after(error(401, "UNAUTHENTICATED", ""))
        },
        coded(
            401,
            "UNAUTHENTICATED",
            "THIRD_PARTY_AUTH_ERROR",
            credential(),
        ),
        coded(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR", credential()),
        coded(
            403,
            "PERMISSION_DENIED",
            "THIRD_PARTY_AUTH_ERROR",
            credential(),
        ),
        status(401, "", credential()),
        status(403, "PERMISSION_DENIED", credential()),
        page(403, credential()),
        // The URL is wrong, and no device is to blame.
        page(404, blocked(Cause::NotFound)),
        status(404, "", blocked(Cause::NotFound)),
    ]
}

fn of_devices() -> Vec<Case> {
    let gone = || dead(Cause::Gone);
    vec![
        coded(404, "NOT_FOUND", "UNREGISTERED", gone()),
        coded(404, "NOT_FOUND", "UNREGISTERED_FID", gone()),
        coded(400, "INVALID_ARGUMENT", "UNREGISTERED", gone()),
        coded(410, "NOT_FOUND", "UNREGISTERED_FID", gone()),
        status(404, "NOT_FOUND", dead(Cause::NotFound)),
        coded(
            403,
            "PERMISSION_DENIED",
            "SENDER_ID_MISMATCH",
            dead(Cause::KeyMismatch),
        ),
        coded(
            400,
            "INVALID_ARGUMENT",
            "SENDER_ID_MISMATCH",
            dead(Cause::KeyMismatch),
        ),
    ]
}

fn of_pace() -> Vec<Case> {
    let violations = serde_json::json!([{
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{ "description": "Device message rate exceeded" }],
    }]);
    let device = with_details(429, "RESOURCE_EXHAUSTED", "slow down", violations);
    let throttled = slower(Cause::DeviceThrottled, 60);
    let limited = || slower(Cause::RateLimited, 60);
    let waits = |wait_s| slower(Cause::RateLimited, wait_s);
    vec![
        Case::new("", device, "QUOTA_EXCEEDED/device", throttled),
        coded(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", limited()),
        status(429, "RESOURCE_EXHAUSTED", limited()),
        page(429, limited()),
        // What Google names counts, but never less than ten seconds.
        status(429, "RESOURCE_EXHAUSTED", waits(90)).with("retry-after", "90"),
        status(429, "RESOURCE_EXHAUSTED", waits(10)).with("retry-after", "1"),
    ]
}

fn of_trouble() -> Vec<Case> {
    let late = || later(10);
    vec![
        coded(500, "INTERNAL", "INTERNAL", late()),
        coded(502, "UNAVAILABLE", "UNAVAILABLE", late()),
        coded(503, "UNAVAILABLE", "UNAVAILABLE", late()),
        coded(503, "UNAVAILABLE", "UNAVAILABLE", later(45)).with("retry-after", "45"),
        coded(504, "UNAVAILABLE", "UNAVAILABLE", late()),
        status(504, "DEADLINE_EXCEEDED", late()),
        coded(500, "UNKNOWN", "UNSPECIFIED_ERROR", late()),
        page(502, late()),
        page(
            408,
            End {
                acted: true,
                ..again(Cause::RequestTimeout, 10)
            },
        ),
        page(425, again(Cause::TooEarly, 10)),
        page(499, our_fault(Cause::ClientError)).unheard_of(),
        page(600, our_fault(Cause::Unresolved)).unheard_of(),
    ]
}

fn list() -> Vec<Case> {
    let all = [
        of_requests(),
        of_credentials(),
        of_devices(),
        of_pace(),
        of_trouble(),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn table_and_list_of_fcm_know_the_same() {
    table_and_list_know_the_same("fcm.toml", fcm::REACTIONS, &list());
}

struct Firebase(Fake);

fn token(number: u32) -> String {
    format!("registration:token-{number:08}")
}

impl Provider for Firebase {
    fn channel(&self) -> Channel {
        Channel::Fcm
    }

    fn route(&self, node: &Node, _from: &str, name: &str) -> Arc<Route> {
        let draft = RouteDraft {
            name: name.to_owned(),
            credentials: Credentials::Fcm {
                service_account: self.0.fcm_account(name).into(),
            },
            server: Some(self.0.url("").parse().expect("a URL")),
            tls: TlsProfile::default(),
        };
        let now = node.clock.now();
        let made = node.registry.create_route(tenant(node), draft, now);
        made.expect("a route")
    }

    fn device(&self, route: &Route, _from: &str, number: u32, said: &Said) -> (Url, Kind) {
        let name = token(number);
        let headers = said.headers.iter();
        let answer = Answer {
            http_status: said.http_status,
            headers: headers.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            body: said.body_to(&name),
            ..Answer::default()
        };
        let behaviour = Behaviour::of(&format!("/fcm/{name}"));
        self.0
            .set(behaviour.rule(When::Always, Act::Answer(answer)))
            .expect("a behaviour");
        registration::fcm(route, FcmTarget::Token(name)).expect("a token")
    }

    fn address(&self, number: u32) -> String {
        token(number)
    }

    fn arrived(&self, _from: &str, number: u32) -> usize {
        let path = format!("/fcm/{}", token(number));
        self.0.requests(&Filter::path(&path)).len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_fcm_leads_where_it_must() {
    let fake = Fake::start(Settings::default()).await.expect("a fake");
    let dir = tempfile::tempdir().expect("a directory");
    play(&config(dir.path(), policy()), &Firebase(fake), &list()).await;
}
