//! What Google's answers mean, held against a second list, written by hand from Google's pages
//! (error codes of the v1 API, "Handling retries", "Throttling and quotas") and not from the table.

use http::{HeaderMap, HeaderValue};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::{self, *};
use serde_json::json;

use super::*;
use crate::channel::reaction::{Action, Scope};
use crate::channel::{Fault, Trouble};

const NOW: Time = Time(1_795_000_000_000);

fn table() -> Reactions {
    Reactions::parse("fcm.toml", REACTIONS).unwrap()
}

fn answer(http_status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
    let pairs = headers.iter();
    let headers: HeaderMap = pairs
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect();
    let body = body.to_owned().into();
    Answer {
        said: Ok(Response {
            http_status,
            headers,
            body,
        }),
        total_ms: 7,
        connect_ms: 0,
    }
}

fn heard(answer: Answer, again: bool) -> (Outcome, Option<Reaction>) {
    match classify(&table(), answer, NOW, || again) {
        (Attempted::Answered(outcome), reaction) => (outcome, reaction),
        (Attempted::NotSent(cause), _) => panic!("not sent: {cause}"),
    }
}

/// Google's error with this status, and this code in its details if there is one.
fn error(status: &str, code: &str) -> String {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let details = match code {
        "" => json!([]),
        code => json!([{ "@type": kind, "errorCode": code }]),
    };
    json!({ "error": { "code": 0, "message": "m", "status": status, "details": details } })
        .to_string()
}

fn fields() -> String {
    let kind = "type.googleapis.com/google.rpc.BadRequest";
    let violations = json!([{ "field": "message.data[0].value", "description": "TYPE_STRING" }]);
    let details = json!([{ "@type": kind, "fieldViolations": violations }]);
    json!({ "error": { "status": "INVALID_ARGUMENT", "details": details } }).to_string()
}

fn token() -> String {
    error("INVALID_ARGUMENT", "INVALID_ARGUMENT").replace(
        "\"m\"",
        "\"The registration token is not a valid FCM registration token\"",
    )
}

fn device_quota() -> String {
    let fcm = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let quota = "type.googleapis.com/google.rpc.QuotaFailure";
    let violations = json!([{ "subject": "x", "description": "Device message rate exceeded." }]);
    json!({ "error": { "status": "RESOURCE_EXHAUSTED", "details": [
        { "@type": fcm, "errorCode": "QUOTA_EXCEEDED" },
        { "@type": quota, "violations": violations },
    ] } })
    .to_string()
}

/// HTTP status, body, and what follows: kind, cause, may have acted, action, scope, wait in
/// seconds, alert.
type Row = (
    u16,
    String,
    OutcomeKind,
    Cause,
    bool,
    Action,
    Scope,
    i64,
    bool,
);

/// Refused for good, and a person should look at it.
fn bug(code: u16, body: String, cause: Cause) -> Row {
    (
        code,
        body,
        Reject,
        cause,
        false,
        Action::None,
        Scope::None,
        0,
        true,
    )
}

/// The device is not to be reached any more.
fn gone(code: u16, body: String, cause: Cause, action: Action) -> Row {
    (
        code,
        body,
        Gone,
        cause,
        false,
        action,
        Scope::Endpoint,
        0,
        false,
    )
}

/// Our credentials, or our URL: everything waits for a person.
fn pause(code: u16, body: String, cause: Cause) -> Row {
    (
        code,
        body,
        Blocked,
        cause,
        false,
        Action::PauseRoute,
        Scope::Route,
        0,
        true,
    )
}

/// To be repeated, ten seconds later at the earliest.
fn later(code: u16, body: String, cause: Cause, acted: bool) -> Row {
    (
        code,
        body,
        Retry,
        cause,
        acted,
        Action::None,
        Scope::None,
        10,
        false,
    )
}

/// To be repeated a minute later at the earliest.
fn slower(body: String, cause: Cause, scope: Scope) -> Row {
    (
        429,
        body,
        Throttle,
        cause,
        false,
        Action::None,
        scope,
        60,
        false,
    )
}

fn html() -> String {
    "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>".to_owned()
}

fn expected() -> Vec<Row> {
    [expected_refusals(), expected_waits()].concat()
}

fn expected_refusals() -> Vec<Row> {
    use Action::{Detach, Quarantine, Retire};
    let invalid = "INVALID_ARGUMENT";
    let denied = "PERMISSION_DENIED";
    vec![
        // "INVALID_ARGUMENT (HTTP error code = 400)": fields are ours, a token is the device's.
        bug(400, fields(), Cause::BadRequest),
        gone(400, token(), Cause::BadToken, Quarantine),
        bug(400, error(invalid, invalid), Cause::BadRequest),
        bug(400, error("FAILED_PRECONDITION", ""), Cause::BadRequest),
        bug(400, error("OUT_OF_RANGE", ""), Cause::BadRequest),
        bug(400, html(), Cause::BadRequest),
        // "THIRD_PARTY_AUTH_ERROR (HTTP error code = 401)": APNs certificate or web push auth key.
        pause(401, error("", "THIRD_PARTY_AUTH_ERROR"), Cause::AuthFailure),
        pause(401, error("", "APNS_AUTH_ERROR"), Cause::AuthFailure),
        pause(401, html(), Cause::AuthFailure),
        // "SENDER_ID_MISMATCH (HTTP error code = 403)": the token is another sender's.
        gone(
            403,
            error(denied, "SENDER_ID_MISMATCH"),
            Cause::KeyMismatch,
            Detach,
        ),
        pause(403, error(denied, ""), Cause::AuthFailure),
        pause(403, html(), Cause::AuthFailure),
        // "UNREGISTERED (HTTP error code = 404)": the app instance was unregistered.
        gone(404, error("NOT_FOUND", "UNREGISTERED"), Cause::Gone, Retire),
        gone(
            404,
            error("NOT_FOUND", "UNREGISTERED_FID"),
            Cause::Gone,
            Retire,
        ),
        gone(404, error("NOT_FOUND", ""), Cause::NotFound, Retire),
        // A page instead of JSON is a wrong URL: no token is given up for it.
        pause(404, html(), Cause::NotFound),
        pause(404, error("SOMETHING_NEW", ""), Cause::NotFound),
        // A code counts with whatever HTTP status it comes.
        gone(410, error("", "UNREGISTERED"), Cause::Gone, Retire),
        gone(410, error("", "UNREGISTERED_FID"), Cause::Gone, Retire),
        gone(
            400,
            error("", "SENDER_ID_MISMATCH"),
            Cause::KeyMismatch,
            Detach,
        ),
        pause(403, error("", "THIRD_PARTY_AUTH_ERROR"), Cause::AuthFailure),
        // What only HTTP says.
        bug(302, String::new(), Cause::Redirected),
        bug(405, html(), Cause::ClientError),
        bug(413, html(), Cause::PayloadTooLarge),
        bug(999, String::new(), Cause::Unresolved),
    ]
}

fn expected_waits() -> Vec<Row> {
    let degraded = Cause::ServiceDegraded;
    let exhausted = "RESOURCE_EXHAUSTED";
    let name = r#"{"name":"projects/p/messages/1"}"#.to_owned();
    let unauthenticated = error("UNAUTHENTICATED", "");
    let (remint, route) = (Action::Remint, Scope::Route);
    vec![
        (
            200,
            name,
            Accept,
            Cause::Accepted,
            false,
            Action::None,
            Scope::None,
            0,
            false,
        ),
        (
            401,
            unauthenticated,
            Retry,
            Cause::AuthFailure,
            false,
            remint,
            route,
            10,
            false,
        ),
        // "QUOTA_EXCEEDED (HTTP error code = 429)": back off, a minute at least.
        slower(device_quota(), Cause::DeviceThrottled, Scope::Endpoint),
        slower(
            error(exhausted, "QUOTA_EXCEEDED"),
            Cause::RateLimited,
            route,
        ),
        slower(error(exhausted, ""), Cause::RateLimited, route),
        slower(html(), Cause::RateLimited, route),
        // "INTERNAL (HTTP error code = 500)", "UNAVAILABLE (HTTP error code = 503)": repeat.
        later(500, error("INTERNAL", "INTERNAL"), degraded, true),
        later(500, html(), degraded, true),
        later(502, error("UNAVAILABLE", ""), degraded, true),
        later(502, html(), degraded, true),
        later(503, error("UNAVAILABLE", "UNAVAILABLE"), degraded, true),
        later(503, html(), degraded, true),
        later(504, error("DEADLINE_EXCEEDED", ""), degraded, true),
        later(504, error("UNAVAILABLE", ""), degraded, true),
        // "UNSPECIFIED_ERROR: no more information is available".
        later(500, error("", "UNSPECIFIED_ERROR"), degraded, true),
        later(408, String::new(), Cause::RequestTimeout, true),
        later(425, String::new(), Cause::TooEarly, false),
    ]
}

#[test]
fn every_answer_means_what_google_says_it_does() {
    for (http_status, body, kind, cause, acted, action, scope, wait_s, alert) in expected() {
        let (outcome, reaction) = heard(answer(http_status, &[], &body), false);
        let reaction = reaction.unwrap();
        let found = (
            outcome.kind,
            outcome.cause,
            outcome.may_have_acted,
            outcome.wait_min_ms,
        );
        let wanted = (kind, cause, acted, wait_s * SECOND_MS);
        assert_eq!(found, wanted, "{http_status} {body}");
        let found = (reaction.action, reaction.scope, reaction.alert);
        assert_eq!(found, (action, scope, alert), "{http_status} {body}");
        assert_eq!((outcome.http_status, outcome.latency_ms), (http_status, 7));
    }
}

#[test]
fn every_row_of_the_table_is_one_that_the_list_expects() {
    let (table, mut unseen) = (table(), Vec::new());
    let mut answers = expected();
    let mut said: Vec<(u16, String)> = answers
        .drain(..)
        .map(|row| {
            let accepted = row.0 / 100 == 2;
            let reason = error::reason(row.1.as_bytes()).into_owned();
            (row.0, if accepted { String::new() } else { reason })
        })
        .collect();
    // Told apart by what was there before, not by the answer.
    said.push((401, "UNAUTHENTICATED/again".into()));
    for (at, when) in table.conditions().enumerate() {
        let holds = |(status, reason): &(u16, String)| {
            when.http
                .is_none_or(|(first, last)| (first..=last).contains(status))
                && when.reason.as_deref().is_none_or(|wanted| wanted == reason)
        };
        let first = |it: &&(u16, String)| {
            let before = table.conditions().take(at);
            holds(it)
                && !before.into_iter().any(|when| {
                    when.http.is_none_or(|(a, b)| (a..=b).contains(&it.0))
                        && when.reason.as_deref().is_none_or(|wanted| wanted == it.1)
                })
        };
        if !said.iter().any(|it| first(&it)) {
            unseen.push(format!("row {}: {when:?}", at + 1));
        }
    }
    assert!(
        unseen.is_empty(),
        "no answer in the list comes to\n{}",
        unseen.join("\n")
    );
}

#[test]
fn a_token_that_is_refused_anew_is_the_account_s_fault() {
    let body = error("UNAUTHENTICATED", "");
    let (first, _) = heard(answer(401, &[], &body), false);
    assert_eq!(first.kind, Retry);
    let (second, reaction) = heard(answer(401, &[], &body), true);
    assert_eq!((second.kind, second.cause), (Blocked, Cause::AuthFailure));
    assert_eq!(reaction.unwrap().action, Action::PauseRoute);
}

#[test]
fn a_wait_that_google_names_counts_but_never_less_than_ten_seconds() {
    let quota = error("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED");
    let down = error("UNAVAILABLE", "UNAVAILABLE");
    let table = [
        (429, &quota, "20", Some(20_000), 20_000),
        (429, &quota, "3", Some(3_000), 10_000),
        (429, &quota, "nonsense", None, 60_000),
        (503, &down, "120", Some(120_000), 120_000),
        (503, &down, "0", Some(0), 10_000),
        (404, &error("NOT_FOUND", "UNREGISTERED"), "5", None, 0),
    ];
    for (http_status, body, header, named, wait) in table {
        let (outcome, _) = heard(answer(http_status, &[("retry-after", header)], body), false);
        let found = (outcome.retry_after_ms, outcome.wait_min_ms);
        assert_eq!(found, (named, wait), "{http_status} {header}");
    }
}

#[test]
fn what_kept_an_answer_from_coming_waits_ten_seconds_too() {
    let lost = Trouble::begun(Fault::ResponseTimeout, "late").into();
    let (outcome, reaction) = heard(lost, false);
    assert_eq!(
        (outcome.kind, outcome.cause),
        (Unknown, Cause::ResponseTimeout)
    );
    assert_eq!((outcome.wait_min_ms, reaction), (WAIT_MIN_MS, None));
}

#[test]
fn the_provider_s_id_is_kept_and_evidence_of_refusals() {
    let (accepted, _) = heard(
        answer(200, &[], r#"{"name":"projects/p/messages/0:1%2"}"#),
        false,
    );
    assert_eq!(&*accepted.provider_id, "projects/p/messages/0:1%2");
    assert!(accepted.evidence.is_empty());
    let (odd, _) = heard(answer(200, &[], "[]"), false);
    assert_eq!((odd.kind, &*odd.provider_id), (Accept, ""));
    let body = error("NOT_FOUND", "UNREGISTERED");
    let (gone, _) = heard(answer(404, &[], &body), false);
    assert!(
        str::from_utf8(&gone.evidence)
            .unwrap()
            .contains("UNREGISTERED")
    );
}

#[test]
fn without_a_token_nothing_was_sent() {
    let words = || "w".into();
    let refused = TokenFault::Refused {
        http_status: 400,
        words: words(),
    };
    let not_now = TokenFault::NotNow {
        http_status: 503,
        words: words(),
    };
    let begun = TokenFault::Unreached(Trouble::begun(Fault::ResponseTimeout, "late"));
    let table = [
        (refused, Blocked, Cause::AuthFailure, 0),
        (not_now, Retry, Cause::ServiceDegraded, 10_000),
        (begun, Retry, Cause::ConnectTimeout, 10_000),
    ];
    for (fault, kind, cause, wait) in table {
        let Attempted::Answered(outcome) = untokened(&fault) else {
            panic!("{fault}");
        };
        assert_eq!((outcome.kind, outcome.cause), (kind, cause), "{fault}");
        assert_eq!(outcome.wait_min_ms, wait);
        assert!(outcome.unsent && !outcome.may_have_acted && !outcome.evidence.is_empty());
    }
}

#[test]
fn a_request_goes_where_the_project_is() {
    let url = send_url("demo-project");
    assert_eq!(
        url.as_str(),
        "https://fcm.googleapis.com/v1/projects/demo-project/messages:send"
    );
    let prepared = Prepared::new(&url).unwrap();
    let told = Told {
        payload: b"{}",
        id: uuid::Uuid::nil(),
        sequence: None,
        replace_key: "k".into(),
        collapses: false,
        urgency: postrider_core::event::Urgency::Normal,
        admitted_at: NOW,
        expires_at: NOW.plus(1_000),
        receipt: None,
    };
    let ask = Target::Token("t").into();
    let bearer = HeaderValue::from_static("Bearer x");
    let request = encode(&prepared, &bearer, &told, ask, NOW).unwrap();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "/v1/projects/demo-project/messages:send");
    assert_eq!(request.headers()[HOST], "fcm.googleapis.com");
    assert_eq!(request.headers()[AUTHORIZATION], "Bearer x");
}
