//! Requests and answers, held against Apple's documents.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use postrider_core::cause::Cause;
use postrider_core::event::Urgency;
use postrider_core::outcome::Outcome;
use postrider_core::outcome::OutcomeKind::{self, Accept, Blocked, Gone, Reject, Retry, Throttle};
use postrider_core::time::{MINUTE_MS, SECOND_MS, Time};
use serde_json::{Value, json};
use uuid::Uuid;

use super::compose::{BODY_BYTES_MAX, BODY_BYTES_VOIP_MAX, compose};
use super::*;
use crate::channel::reaction::{Action, Reactions, Scope};
use crate::channel::{Answer, Attempted, Fault, Response, Trouble};
use crate::receipts::ReceiptAsk;

const TOPIC_OF_APP: &str = "com.example.app";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const NOW: Time = Time(1_800_000_123_456);

fn told(payload: &str) -> Told<'_> {
    Told {
        payload: payload.as_bytes(),
        id: Uuid::from_u128(0x0123_4567_89AB_4DEF_8123_4567_89AB_CDEF),
        sequence: None,
        replace_key: KEY.into(),
        collapses: false,
        urgency: Urgency::Normal,
        admitted_at: Time(1_800_000_000_000),
        expires_at: NOW.plus(60 * MINUTE_MS),
        receipt: None,
    }
}

fn content(payload: &str) -> Result<(Value, PushType, String, u8), ContentFault> {
    let content = compose(&told(payload), TOPIC_OF_APP)?;
    let body = serde_json::from_slice(&content.body).unwrap();
    Ok((body, content.push_type, content.app, content.priority))
}

/// The body without what Postrider adds.
fn body(payload: Value) -> Value {
    let (mut body, ..) = content(&payload.to_string()).unwrap();
    let mark = body.as_object_mut().unwrap().remove("postrider").unwrap();
    assert_eq!(mark["id"], "01234567-89ab-4def-8123-456789abcdef");
    body
}

#[test]
fn a_request_says_what_apple_asks_for() {
    let token = "AB".repeat(32);
    let token = device_token(&token).unwrap();
    let url = device_url("https://api.push.apple.com/", &token).unwrap();
    let prepared = Prepared::new(&url, TOPIC_OF_APP).unwrap();
    let bearer = HeaderValue::from_static("bearer x");
    let told = told(r#"{"notification":{"title":"T"}}"#);
    let request = encode(&prepared, Some(bearer), &told, NOW).unwrap();
    assert_eq!(
        request.uri().path(),
        format!("/3/device/{}", "ab".repeat(32))
    );
    let table = [
        ("authorization", "bearer x"),
        ("apns-id", "01234567-89ab-4def-8123-456789abcdef"),
        ("apns-push-type", "alert"),
        ("apns-topic", "com.example.app"),
        ("apns-priority", "10"),
        ("apns-expiration", "1800003723"),
        ("apns-collapse-id", KEY),
        ("content-type", "application/json"),
        ("host", "api.push.apple.com"),
    ];
    for (name, value) in table {
        assert_eq!(request.headers()[name], value, "{name}");
    }
    let length = request.headers()["content-length"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(request.headers().len(), table.len() + 1);
    // What differs each time is kept out of the table of the connection.
    for name in ["apns-id", "apns-expiration", "apns-collapse-id"] {
        assert!(request.headers()[name].is_sensitive(), "{name}");
    }
    let again = encode(&prepared, None, &told, NOW.plus(SECOND_MS)).unwrap();
    assert!(!again.headers().contains_key("authorization"));
    assert_eq!(again.headers()["apns-expiration"], "1800003723");
    let bodies = [request, again].map(|request| {
        let mut whole = Box::pin(request.into_body().collect());
        let waker = std::task::Waker::noop();
        match whole
            .as_mut()
            .poll(&mut std::task::Context::from_waker(waker))
        {
            std::task::Poll::Ready(Ok(whole)) => whole.to_bytes(),
            _ => panic!("the body is there"),
        }
    });
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[0].len().to_string(), length);
}

#[test]
fn nothing_is_kept_longer_than_apple_keeps_it() {
    assert_eq!(expiration(Time::NEVER, Time(0)), 30 * 86_400);
    assert_eq!(expiration(Time(5_999), Time(0)), 5);
    assert_eq!(
        expiration(Time(999), Time(0)),
        1,
        "0 would mean: keep nothing"
    );
}

#[test]
fn device_tokens_have_one_spelling() {
    assert_eq!(device_token(&"0A".repeat(80)), Ok("0a".repeat(80)));
    let length = |chars| Err(DeviceTokenFault::Length(chars));
    assert_eq!(device_token(&"0".repeat(62)), length(62));
    assert_eq!(device_token(&"0".repeat(514)), length(514));
    assert_eq!(device_token(""), length(0));
    for text in ["g".repeat(64), "0".repeat(65), "../".repeat(32)] {
        assert_eq!(device_token(&text), Err(DeviceTokenFault::Hex), "{text}");
    }
    assert!(is_bundle_id("com.example.my-app_1") && !is_bundle_id("a b") && !is_bundle_id(""));
}

#[test]
fn the_independent_form_becomes_an_alert() {
    let form = json!({
        "notification": {
            "title": "T", "subtitle": "S", "body": "B", "badge": 3, "sound": "ding.aiff",
            "tag": "thread", "image": "https://i.test/a.png", "url": "https://u.test/", "icon": 7,
        },
        "data": { "n": 12345678901234567890123_i128 as f64, "deep": [1, { "a": null }] },
        "fcm": { "ignored": true }, "web_push": 1,
    });
    let (body, push_type, topic, priority) = content(&form.to_string()).unwrap();
    let aps = json!({
        "alert": { "title": "T", "subtitle": "S", "body": "B" },
        "badge": 3, "sound": "ding.aiff", "thread-id": "thread", "mutable-content": 1,
    });
    let mark = json!({
        "id": "01234567-89ab-4def-8123-456789abcdef", "key": KEY, "at": 1_800_000_000_000_i64,
        "image": "https://i.test/a.png", "url": "https://u.test/",
    });
    let expected = json!({ "aps": aps, "data": form["data"], "postrider": mark });
    assert_eq!(body, expected);
    assert_eq!(
        (push_type, topic.as_str(), priority),
        (PushType::Alert, TOPIC_OF_APP, 10)
    );
}

#[test]
fn data_go_as_they_were_written() {
    let payload = r#"{"data":{"big":123456789012345678901234567890,"f":1.10},"notification":{}}"#;
    let content = compose(&told(payload), TOPIC_OF_APP).unwrap();
    let text = String::from_utf8(content.body).unwrap();
    let data = r#""data":{"big":123456789012345678901234567890,"f":1.10}"#;
    assert!(text.contains(data), "{text}");
}

#[test]
fn an_object_of_another_kind_is_data() {
    let expected = json!({ "aps": { "content-available": 1 }, "data": { "n": 1 } });
    assert_eq!(body(json!({ "n": 1 })), expected);
    let silent = json!({ "aps": { "content-available": 1 } });
    assert_eq!(body(json!({ "fcm": { "n": 1 } })), silent);
}

#[test]
fn what_the_caller_says_for_apns_wins() {
    let form = json!({
        "notification": { "title": "T", "body": "B" },
        "data": { "a": 1, "b": 2 },
        "apns": {
            "headers": { "apns-priority": "5", "apns-collapse-id": "mine" },
            "payload": { "aps": { "alert": { "body": null, "loc-key": "K" }, "category": "C" } },
            "data": { "b": null, "c": 3 },
            "extra": [1],
        },
    });
    assert_eq!(
        body(form.clone()),
        json!({
            "aps": { "alert": { "title": "T", "loc-key": "K" }, "category": "C" },
            "data": { "a": 1, "c": 3 }, "extra": [1],
        })
    );
    let content = compose(&told(&form.to_string()), TOPIC_OF_APP).unwrap();
    assert_eq!(
        (content.priority, content.collapse_id.as_str()),
        (5, "mine")
    );
}

#[test]
fn a_payload_with_aps_goes_as_it_is() {
    let native = r#"{"aps":{"alert":"Hi","badge":0.50},"mine":1.0,"apns":{"x":1}}"#;
    let content = compose(&told(native), TOPIC_OF_APP).unwrap();
    let text = String::from_utf8(content.body).unwrap();
    assert!(text.starts_with(r#"{"apns":{"x":1},"aps":{"alert":"Hi","badge":0.50},"mine":1.0,"#));
    assert_eq!(content.push_type, PushType::Alert);
}

/// From Apple's "Sending notification requests to APNs": payload, push type, suffix of the topic,
/// priority.
#[rustfmt::skip]
const LOOKS: [(&str, &str, &str, u8); 7] = [
    (r#"{"data":{"sync":1}}"#, "background", "", 5),
    (r#"{"sync":1}"#, "background", "", 5),
    (r#"{"aps":{"content-available":1}}"#, "background", "", 5),
    (r#"{"aps":{"content-available":1,"badge":2}}"#, "alert", "", 10),
    (r#"{"aps":{"alert":"x"}}"#, "alert", "", 10),
    (r#"{"notification":{"badge":0}}"#, "alert", "", 10),
    (r#"{"aps":{"event":"","content-state":0}}"#, "liveactivity", ".push-type.liveactivity", 10),
];

/// The same where the caller says which push type it is.
const TOPICS: [(&str, &str); 8] = [
    ("voip", ".voip"),
    ("location", ".location-query"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
    ("controls", ".push-type.controls"),
    ("liveactivity", ".push-type.liveactivity"),
];

#[test]
fn a_payload_says_what_it_is() {
    for (payload, push_type, suffix, priority) in LOOKS {
        let (_, found, topic, found_priority) = content(payload).unwrap();
        let expected = format!("{TOPIC_OF_APP}{suffix}");
        assert_eq!((found.name(), topic), (push_type, expected), "{payload}");
        assert_eq!(found_priority, priority, "{payload}");
    }
    for (name, suffix) in TOPICS {
        let typed = json!({ "apns": { "headers": { "apns-push-type": name } } });
        let (_, found, topic, _) = content(&typed.to_string()).unwrap();
        let expected = format!("{TOPIC_OF_APP}{suffix}");
        assert_eq!((found.name(), topic), (name, expected));
    }
    let urgencies = [
        (Urgency::VeryLow, 1),
        (Urgency::Low, 5),
        (Urgency::High, 10),
    ];
    for (urgency, priority) in urgencies {
        let told = Told {
            urgency,
            ..told(r#"{"notification":{"title":"T"}}"#)
        };
        assert_eq!(compose(&told, TOPIC_OF_APP).unwrap().priority, priority);
    }
}

#[test]
fn live_activities_get_the_time_of_admission_and_managed_devices_nothing() {
    let activity = json!({ "aps": { "event": "end", "content-state": { "s": 1.5 } } });
    assert_eq!(body(activity)["aps"]["timestamp"], 1_800_000_000);
    let own = json!({ "aps": { "event": "end", "content-state": {}, "timestamp": 7 } });
    assert_eq!(body(own)["aps"]["timestamp"], 7);
    let mdm = json!({
        "apns": { "headers": { "apns-push-type": "mdm" }, "aps": null, "mdm": "MAGIC" },
    });
    assert_eq!(
        content(&mdm.to_string()).unwrap().0,
        json!({ "mdm": "MAGIC" })
    );
}

#[test]
fn order_and_receipts_are_told_where_there_are_any() {
    let told = Told {
        sequence: Some(9),
        receipt: Some(ReceiptAsk {
            url: "https://r.test/v1/receipts".into(),
            token: "secret".into(),
        }),
        ..told(r#"{"notification":{"title":"T"}}"#)
    };
    let content = compose(&told, TOPIC_OF_APP).unwrap();
    let body: Value = serde_json::from_slice(&content.body).unwrap();
    assert_eq!(body["postrider"]["sequence"], 9);
    let receipt = json!({ "url": "https://r.test/v1/receipts", "token": "secret" });
    assert_eq!(body["postrider"]["receipt"], receipt);
}

#[test]
fn what_apns_cannot_carry_is_refused_with_the_reason() {
    let invalid = [
        "",
        "text",
        "[1]",
        "3",
        "{",
        r#"{"notification":"x"}"#,
        r#"{"notification":{"title":1}}"#,
        r#"{"notification":{},"apns":1}"#,
        r#"{"notification":{},"apns":{"payload":1}}"#,
        r#"{"notification":{},"apns":{"headers":{"apns-id":"x"}}}"#,
        r#"{"notification":{},"apns":{"headers":{"apns-expiration":"0"}}}"#,
        r#"{"notification":{},"apns":{"headers":{"apns-priority":"7"}}}"#,
        r#"{"notification":{},"apns":{"headers":{"apns-push-type":"Alert"}}}"#,
        r#"{"notification":{},"apns":{"headers":{"apns-topic":"com.example.application"}}}"#,
        r#"{"notification":{},"apns":{"headers":{"apns-collapse-id":""}}}"#,
        r#"{"data":1,"apns":{"headers":{"apns-priority":10}}}"#,
        r#"{"aps":1}"#,
    ];
    for payload in invalid {
        let fault = content(payload).unwrap_err();
        assert_eq!(fault.cause(), Cause::ContentInvalid, "{payload}: {fault}");
        assert!(matches!(
            unfit(&fault),
            Attempted::Answered(Outcome {
                kind: Reject,
                unsent: true,
                ..
            })
        ));
    }
}

#[test]
fn a_body_has_4096_bytes_and_voip_5120() {
    let table = [("alert", BODY_BYTES_MAX), ("voip", BODY_BYTES_VOIP_MAX)];
    for (push_type, bytes_max) in table {
        let with = |length: usize| {
            let payload = json!({
                "notification": { "body": "x".repeat(length) },
                "apns": { "headers": { "apns-push-type": push_type } },
            });
            compose(&told(&payload.to_string()), TOPIC_OF_APP)
        };
        let around = with(0).unwrap().body.len();
        assert_eq!(with(bytes_max - around).unwrap().body.len(), bytes_max);
        let fault = with(bytes_max - around + 1).unwrap_err();
        let bytes = bytes_max + 1;
        assert_eq!(fault, ContentFault::TooLarge { bytes, bytes_max });
        assert_eq!(fault.cause(), Cause::ContentTooLarge);
    }
}

fn reactions() -> Reactions {
    Reactions::parse("apns.toml", REACTIONS).unwrap()
}

fn refusal(http_status: u16, body: &str) -> Answer {
    Answer {
        said: Ok(Response {
            http_status,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }),
        total_ms: 7,
        connect_ms: 0,
    }
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict.attempted {
        Attempted::Answered(outcome) => outcome,
        Attempted::NotSent(cause) => panic!("not sent: {cause}"),
    }
}

type Expected = (OutcomeKind, Cause, Action, i64);

const BAD: Expected = (Reject, Cause::BadRequest, Action::None, 0);
const CREDENTIALS: Expected = (Blocked, Cause::AuthFailure, Action::PauseRoute, 0);
const LATER: Expected = (Retry, Cause::ServiceDegraded, Action::None, 15 * MINUTE_MS);
const DEAD: Expected = (Gone, Cause::Gone, Action::Retire, 0);

/// Every answer that Apple documents ("Handling notification responses from APNs", with its
/// tables of HTTP status codes and of reasons), and those that others saw, by hand.
#[rustfmt::skip]
const DOCUMENTED: [(u16, &str, Expected); 37] = [
    (400, "BadCollapseId", BAD),
    (400, "BadDeviceToken", (Gone, Cause::BadToken, Action::TryElsewhere, 0)),
    (400, "BadExpirationDate", BAD),
    (400, "BadMessageId", BAD),
    (400, "BadPriority", BAD),
    (400, "BadTopic", BAD),
    (400, "DeviceTokenNotForTopic", (Gone, Cause::KeyMismatch, Action::Detach, 0)),
    (400, "DuplicateHeaders", BAD),
    (400, "ExpiredToken", DEAD),
    (400, "IdleTimeout", (Retry, Cause::ConnectionLost, Action::Reconnect, 0)),
    (400, "InvalidPushType", BAD),
    (400, "MissingDeviceToken", BAD),
    (400, "MissingTopic", BAD),
    (400, "PayloadEmpty", BAD),
    (400, "TopicDisallowed", CREDENTIALS),
    (403, "BadCertificate", CREDENTIALS),
    (403, "BadCertificateEnvironment", CREDENTIALS),
    (403, "BadEnvironmentKeyIdInToken", CREDENTIALS),
    (403, "BadEnvironmentKeyInToken", CREDENTIALS),
    (403, "Forbidden", (Reject, Cause::AuthFailure, Action::None, 0)),
    (403, "InvalidProviderToken", CREDENTIALS),
    (403, "MissingProviderToken", CREDENTIALS),
    (403, "UnrelatedKeyIdInToken", (Retry, Cause::AuthFailure, Action::Reconnect, 0)),
    (404, "BadPath", BAD),
    (405, "MethodNotAllowed", BAD),
    (410, "ExpiredToken", DEAD),
    (410, "Unregistered", DEAD),
    (413, "PayloadTooLarge", (Reject, Cause::PayloadTooLarge, Action::None, 0)),
    (429, "TooManyRequests", (Throttle, Cause::DeviceThrottled, Action::None, MINUTE_MS)),
    (500, "InternalServerError", LATER),
    (503, "ServiceUnavailable", LATER),
    (503, "Shutdown", (Retry, Cause::ServiceDegraded, Action::Reconnect, 15 * MINUTE_MS)),
    (400, "SomethingNew", (Reject, Cause::ClientError, Action::None, 0)),
    (403, "SomethingNew", CREDENTIALS),
    (418, "", (Reject, Cause::ClientError, Action::None, 0)),
    (502, "", LATER),
    (302, "", (Reject, Cause::Redirected, Action::None, 0)),
];

#[test]
fn every_documented_answer_has_its_reaction() {
    let reactions = reactions();
    for (http_status, reason, expected) in DOCUMENTED {
        let answer = refusal(http_status, &json!({ "reason": reason }).to_string());
        let verdict = classify(&reactions, answer, None, NOW);
        let action = verdict.reaction.unwrap().action;
        let ends = action == Action::Reconnect;
        assert_eq!(verdict.ends_connection(), ends, "{reason}");
        let outcome = outcome(verdict);
        let found = (outcome.kind, outcome.cause, action, outcome.wait_min_ms);
        assert_eq!(found, expected, "{http_status} {reason}");
        assert_eq!(outcome.may_have_acted, http_status >= 500, "{reason}");
        assert_eq!((outcome.http_status, outcome.latency_ms), (http_status, 7));
    }
}

#[test]
fn faults_of_the_token_change_the_token_and_then_block() {
    let (team, key_id) = ("TEAM012345", "KEY0123456");
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let reactions = reactions();
    let said = |http_status, reason: &str, tokens: &ProviderTokens, bearer: &HeaderValue| {
        let answer = refusal(http_status, &json!({ "reason": reason }).to_string());
        let verdict = classify(&reactions, answer, Some((tokens, bearer)), NOW);
        let reaction = verdict.reaction.unwrap();
        (reaction.kind, reaction.action, verdict.ends_connection())
    };
    let tokens = ProviderTokens::new(team, key_id, &key).unwrap();
    let first = tokens.bearer(NOW);
    let expired = |bearer: &_| said(403, "ExpiredProviderToken", &tokens, bearer);
    assert_eq!(expired(&first), (Retry, Action::Remint, true));
    let second = tokens.bearer(NOW);
    assert_ne!(first, second);
    assert_eq!(
        expired(&first),
        (Retry, Action::Remint, true),
        "it was on its way"
    );
    let later = NOW.plus(MINUTE_MS);
    let answer = refusal(403, r#"{"reason":"ExpiredProviderToken"}"#);
    let verdict = classify(&reactions, answer, Some((&tokens, &second)), later);
    assert!(!verdict.ends_connection());
    assert_eq!(verdict.reaction.unwrap().action, Action::PauseRoute);
    assert_eq!(outcome(verdict).kind, Blocked);

    let tokens = ProviderTokens::new(team, key_id, &key).unwrap();
    let first = tokens.bearer(NOW);
    let too_many = |bearer: &_| said(429, "TooManyProviderTokenUpdates", &tokens, bearer);
    assert_eq!(too_many(&first), (Throttle, Action::Reuse, false));
    let older = tokens.bearer(NOW);
    assert_ne!(first, older);
    assert_eq!(too_many(&first), (Throttle, Action::Reuse, false));
    assert_eq!(too_many(&older), (Throttle, Action::None, false));
    let answer = refusal(429, r#"{"reason":"TooManyProviderTokenUpdates"}"#);
    let verdict = classify(&reactions, answer, Some((&tokens, &older)), NOW);
    assert_eq!(verdict.reaction.unwrap().scope, Scope::Route);
    assert_eq!(outcome(verdict).wait_min_ms, 20 * MINUTE_MS);
}

#[test]
fn a_dead_token_comes_with_the_time_since_when() {
    let reactions = reactions();
    let answer = refusal(
        410,
        r#"{"reason":"Unregistered","timestamp":1799999999999}"#,
    );
    let gone = outcome(classify(&reactions, answer, None, NOW));
    assert_eq!(gone.gone_since, Some(Time(1_799_999_999_999)));
    for body in [
        "",
        "{",
        "[]",
        r#"{"reason":1}"#,
        r#"{"reason":"Unregistered"}"#,
    ] {
        let gone = outcome(classify(&reactions, refusal(410, body), None, NOW));
        assert_eq!((gone.kind, gone.gone_since), (Gone, None), "{body}");
    }
}

#[test]
fn what_apple_took_has_apples_name() {
    let reactions = reactions();
    let mut answer = refusal(200, "");
    let Ok(response) = &mut answer.said else {
        unreachable!()
    };
    response
        .headers
        .insert("apns-id", HeaderValue::from_static("our-id"));
    let mut sandbox = refusal(200, "");
    let Ok(response) = &mut sandbox.said else {
        unreachable!()
    };
    response
        .headers
        .insert("apns-id", HeaderValue::from_static("our-id"));
    response
        .headers
        .insert("apns-unique-id", HeaderValue::from_static("theirs"));
    for (answer, id) in [(answer, "our-id"), (sandbox, "theirs")] {
        let accepted = outcome(classify(&reactions, answer, None, NOW));
        assert_eq!((accepted.kind, &*accepted.provider_id), (Accept, id));
    }
}

#[test]
fn a_goaway_blocks_if_it_names_the_credentials_and_else_costs_nothing() {
    let reactions = reactions();
    let away = |data: &str| {
        let detail = format!("{} not a result of an error: {data}", Trouble::GOAWAY);
        Answer {
            said: Err(Trouble::begun(Fault::Unprocessed, detail)),
            total_ms: 7,
            connect_ms: 0,
        }
    };
    let blocked = classify(
        &reactions,
        away(r#"{"reason":"BadCertificateEnvironment"}"#),
        None,
        NOW,
    );
    assert_eq!(blocked.reaction.unwrap().action, Action::PauseRoute);
    let blocked = outcome(blocked);
    assert_eq!((blocked.kind, blocked.cause), (Blocked, Cause::AuthFailure));
    assert!(!blocked.may_have_acted);
    for data in [
        "",
        r#"{"reason":"Shutdown"}"#,
        r#"{"reason":"BadDeviceToken"}"#,
        "noise",
    ] {
        let verdict = classify(&reactions, away(data), None, NOW);
        assert_eq!(
            verdict.attempted,
            Attempted::NotSent(Cause::Unprocessed),
            "{data}"
        );
    }
    let lost = Answer {
        said: Err(Trouble::begun(Fault::Lost, "reset")),
        total_ms: 7,
        connect_ms: 0,
    };
    let lost = outcome(classify(&reactions, lost, None, NOW));
    assert_eq!(
        (lost.kind, lost.may_have_acted),
        (OutcomeKind::Unknown, true)
    );
}
