//! The request that all services accept, and what their answers mean.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use postrider_core::cause::Cause;
use postrider_core::event::Urgency;
use postrider_core::outcome::{Outcome, OutcomeKind::*};
use postrider_core::time::{DAY_MS, Time};
use url::Url;
use uuid::Uuid;

use super::encrypt::{BODY_BYTES_MAX, Ephemeral, PLAINTEXT_BYTES_MAX};
use super::vapid::{Credentials, VapidKey};
use super::*;
use crate::channel::reaction::{Action, Reactions, Scope};
use crate::channel::{Answer, Attempted, Fault, Response, Trouble};

const NOW: Time = Time(1_795_298_400_000);
const P256DH: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SR\
    pkNtoIAiw4";
const REPLACE_KEY: &str = "0123456789abcdefghijklmnopqrstuv";

fn table() -> Reactions {
    Reactions::parse("web_push.toml", REACTIONS).expect("the built-in table")
}

fn credentials() -> Arc<Credentials> {
    let key = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw".to_owned();
    let keys = [VapidKey::generate(), key.into()];
    Arc::new(Credentials::new(&keys, "mailto:ops@example.com").expect("valid"))
}

fn keys(credentials: &Credentials) -> WebPushKeys {
    WebPushKeys {
        p256dh: P256DH.into(),
        auth: "BTBZMqHH6r4Tts7J_aSIgg".into(),
        vapid_key: credentials.public().into(),
    }
}

fn prepared(url: &str) -> Prepared {
    let (url, credentials) = (Url::parse(url).unwrap(), credentials());
    Prepared::new(&url, &keys(&credentials), &credentials, &table()).expect("can be sent to")
}

fn told(payload: &[u8]) -> Told<'_> {
    Told {
        payload,
        id: Uuid::from_u128(7),
        sequence: None,
        replace_key: REPLACE_KEY.into(),
        collapses: false,
        urgency: Urgency::High,
        admitted_at: NOW,
        expires_at: NOW.plus(90_500),
        receipt: None,
    }
}

fn fresh() -> Fresh {
    Fresh {
        key: Ephemeral::from_private(&[7; 32]).expect("a scalar"),
        salt: [9; 16],
    }
}

fn body(written: Written) -> Vec<u8> {
    let mut body = written.request.into_body();
    let frame = futures_now(body.frame())
        .expect("a frame")
        .expect("no error");
    frame.into_data().expect("data").to_vec()
}

/// A body that is whole is there at once.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

#[test]
fn a_request_is_in_the_form_that_every_service_accepts() {
    let prepared = prepared("https://updates.push.services.mozilla.com/wpush/v2/gAAA?x=1");
    let written = encode(&prepared, &told(b"hi"), Padding::None, &fresh(), NOW).unwrap();
    assert_eq!(written.plaintext_bytes, 2);
    let request = &written.request;
    assert_eq!(request.uri(), "/wpush/v2/gAAA?x=1");
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let authorization = header("authorization");
    assert!(authorization.starts_with("vapid t=ey") && authorization.contains(", k=B"));
    let bare = !authorization.contains('"') && authorization.matches('=').count() == 2;
    assert!(bare, "without quotes and without padding: {authorization}");
    for (name, value) in [
        ("host", "updates.push.services.mozilla.com"),
        ("ttl", "90"),
        ("urgency", "high"),
        ("topic", REPLACE_KEY),
        ("content-encoding", "aes128gcm"),
        ("content-type", "application/octet-stream"),
        ("content-length", "105"),
    ] {
        assert_eq!(header(name), value, "{name}");
    }
    assert_eq!(request.headers().len(), 8);
    assert_eq!(body(written).len(), 105);
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let prepared = prepared("https://fcm.googleapis.com/fcm/send/x");
    let once = || body(encode(&prepared, &told(b"{}"), Padding::Buckets, &fresh(), NOW).unwrap());
    assert_eq!(once(), once());
    let other = Fresh::draw().unwrap();
    let other = body(encode(&prepared, &told(b"{}"), Padding::Buckets, &other, NOW).unwrap());
    assert_ne!(once(), other);
    assert_eq!(once().len(), other.len());
}

#[test]
fn a_time_to_live_is_what_is_left_within_bounds() {
    let ttl = |host: &str, left_ms| {
        let told = Told {
            expires_at: NOW.plus(left_ms),
            ..told(b"")
        };
        let prepared = prepared(&format!("https://{host}/x"));
        let written = encode(&prepared, &told, Padding::None, &fresh(), NOW).unwrap();
        let headers = written.request.headers().clone();
        let policy = headers.get("x-wns-cache-policy").cloned();
        (
            headers["ttl"].to_str().unwrap().to_owned(),
            policy.is_some(),
        )
    };
    let (apple, wns) = ("web.push.apple.com", "db5.notify.windows.com");
    assert_eq!(ttl(apple, 1_999), ("1".into(), false));
    assert_eq!(ttl(apple, 1), ("1".into(), false));
    assert_eq!(ttl(apple, 60 * DAY_MS), ("2419200".into(), false));
    assert_eq!(ttl(wns, -1), ("1".into(), true));
    assert_eq!(ttl(wns, DAY_MS), ("86400".into(), true));
}

#[test]
fn buckets_hide_lengths_and_what_does_not_fit_is_refused() {
    let prepared = prepared("https://web.push.apple.com/x");
    let length = |bytes: usize, padding| {
        let payload = vec![b'x'; bytes];
        let written = encode(&prepared, &told(&payload), padding, &fresh(), NOW)?;
        Ok::<usize, Cause>(body(written).len())
    };
    assert_eq!(length(1, Padding::Buckets), Ok(128 + 103));
    assert_eq!(length(128, Padding::Buckets), length(1, Padding::Buckets));
    assert_eq!(length(129, Padding::Buckets), Ok(512 + 103));
    assert_eq!(length(2_745, Padding::Buckets), Ok(BODY_BYTES_MAX));
    assert_eq!(
        length(PLAINTEXT_BYTES_MAX, Padding::Buckets),
        Ok(BODY_BYTES_MAX)
    );
    assert_eq!(length(1, Padding::None), Ok(104));
    for padding in [Padding::None, Padding::Buckets] {
        let fault = Err(Cause::ContentTooLarge);
        assert_eq!(length(PLAINTEXT_BYTES_MAX + 1, padding), fault);
    }
}

#[test]
fn a_subscription_of_another_key_cannot_be_sent_to() {
    let (url, credentials) = (
        Url::parse("https://fcm.googleapis.com/x").unwrap(),
        credentials(),
    );
    let with = |vapid_key: &str| {
        let keys = WebPushKeys {
            vapid_key: vapid_key.into(),
            ..keys(&credentials)
        };
        Prepared::new(&url, &keys, &credentials, &table()).map(|prepared| prepared.key_place)
    };
    let older = credentials.publics().nth(1).unwrap();
    assert_eq!(
        with(older),
        Ok(1),
        "an older key goes on signing for its own"
    );
    assert_eq!(with(P256DH), Err(PrepareFault::KeyMismatch));
    assert_eq!(PrepareFault::KeyMismatch.cause(), Cause::KeyMismatch);
}

fn said(
    host: &str,
    http_status: u16,
    headers: &[(&'static str, &'static str)],
    body: &str,
) -> (Outcome, Reaction) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_static(value));
    }
    let answer = Answer {
        said: Ok(Response {
            http_status,
            headers: map,
            body: body.to_owned().into(),
        }),
        total_ms: 7,
        connect_ms: 0,
    };
    let prepared = prepared(&format!("https://{host}/x"));
    match classify(&table(), &prepared, answer, NOW) {
        (Attempted::Answered(outcome), Some(reaction)) => (outcome, reaction),
        other => panic!("{http_status}: {other:?}"),
    }
}

#[test]
fn an_acceptance_keeps_the_providers_id_and_the_granted_time_to_live() {
    let headers = [("location", "https://a.example/m/1"), ("ttl", "60")];
    let (outcome, _) = said("fcm.googleapis.com", 201, &headers, "ignored");
    let expected = Outcome {
        http_status: 201,
        latency_ms: 7,
        provider_id: "https://a.example/m/1".into(),
        evidence: (*b"TTL: 60\r\n").into(),
        ..Outcome::bare(Accept, Cause::Accepted)
    };
    assert_eq!(outcome, expected);
    let (apple, _) = said("web.push.apple.com", 201, &[("apns-id", "A-1")], "");
    assert_eq!((&*apple.provider_id, apple.evidence.len()), ("A-1", 0));
}

#[test]
fn wns_says_in_headers_what_it_made_of_it() {
    let host = "db5p.notify.windows.com";
    let fine = [("x-wns-status", "received"), ("x-wns-msg-id", "W1")];
    let (outcome, _) = said(host, 200, &fine, "");
    assert_eq!(
        (outcome.cause, &*outcome.provider_id),
        (Cause::Accepted, "W1")
    );
    let dropped = [
        ("x-wns-status", "received"),
        ("x-wns-notificationstatus", "Dropped"),
    ];
    let (outcome, reaction) = said(host, 201, &dropped, "");
    assert_eq!(
        (outcome.kind, outcome.cause),
        (Accept, Cause::AcceptedDropped)
    );
    assert!(reaction.alert);
    assert!(String::from_utf8_lossy(&outcome.evidence).contains("notificationstatus: Dropped"));
}

#[test]
fn a_wait_is_heard_where_it_is_waited() {
    let wait = |host, http_status| {
        let (outcome, _) = said(host, http_status, &[("retry-after", "5")], "");
        (outcome.kind, outcome.retry_after_ms, outcome.wait_min_ms)
    };
    let wns = "db5p.notify.windows.com";
    assert_eq!(wait(wns, 406), (Throttle, Some(5_000), 0));
    assert_eq!(said(wns, 406, &[], "").0.wait_min_ms, 60_000);
    assert_eq!(wait("push.example.org", 503), (Retry, Some(5_000), 0));
    assert_eq!(wait("push.example.org", 410), (Gone, None, 0));
}

#[test]
fn a_route_pauses_for_a_credential_and_an_endpoint_for_a_mismatch() {
    let mozilla = "updates.push.services.mozilla.com";
    let body = r#"{"code":401,"errno":109,"message":"VAPID public key mismatch"}"#;
    let (outcome, reaction) = said(mozilla, 401, &[], body);
    assert_eq!((outcome.kind, outcome.cause), (Gone, Cause::KeyMismatch));
    assert_eq!(
        (reaction.action, reaction.scope),
        (Action::Quarantine, Scope::Endpoint)
    );
    let (outcome, reaction) = said(mozilla, 401, &[], r#"{"errno":109}"#);
    assert_eq!((outcome.kind, outcome.cause), (Blocked, Cause::AuthFailure));
    assert_eq!(
        (reaction.action, reaction.scope),
        (Action::PauseRoute, Scope::Route)
    );
    assert!(!outcome.evidence.is_empty());
}

#[test]
fn trouble_on_the_way_is_as_everywhere() {
    let prepared = prepared("https://fcm.googleapis.com/x");
    let answer = Answer {
        said: Err(Trouble::begun(Fault::ResponseTimeout, "")),
        total_ms: 10_000,
        connect_ms: 0,
    };
    let (attempted, reaction) = classify(&table(), &prepared, answer, NOW);
    assert!(reaction.is_none());
    let expected = Outcome {
        may_have_acted: true,
        latency_ms: 10_000,
        ..Outcome::bare(Unknown, Cause::ResponseTimeout)
    };
    assert_eq!(attempted, Attempted::Answered(expected));
}
