//! What push services' answers mean, held against a second list: written by hand from what the
//! vendors document and what their services were seen to say, not from the table.
//!
//! Absent here: the engine. What follows from an outcome is the same for every channel.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use postrider::channel::reaction::{Action, Reaction, Reactions, Said, Scope};
use postrider::channel::web_push::vapid::Credentials;
use postrider::channel::web_push::{self, Prepared};
use postrider::channel::{Answer, Attempted, Response};
use postrider::registry::WebPushKeys;
use postrider_core::cause::Cause;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;
use url::Url;

const MOZILLA: &str = "updates.push.services.mozilla.com";
const GOOGLE: &str = "fcm.googleapis.com";
const APPLE: &str = "web.push.apple.com";
const WNS: &str = "db5p.notify.windows.com";
const SELF_HOSTED: &str = "push.example.org";

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    kind: OutcomeKind,
    cause: Cause,
    action: Action,
    scope: Scope,
    may_have_acted: bool,
    wait_min_ms: i64,
    alert: bool,
}

const fn meaning(kind: OutcomeKind, cause: Cause) -> Meaning {
    Meaning {
        kind,
        cause,
        action: Action::None,
        scope: Scope::None,
        may_have_acted: false,
        wait_min_ms: 0,
        alert: false,
    }
}

fn accepted() -> Meaning {
    meaning(OutcomeKind::Accept, Cause::Accepted)
}

/// The sender did something wrong: this push can never be taken, and somebody has to look.
fn our_fault(cause: Cause) -> Meaning {
    Meaning {
        alert: true,
        ..meaning(OutcomeKind::Reject, cause)
    }
}

/// The subscription is no more.
fn dead(cause: Cause) -> Meaning {
    Meaning {
        action: Action::Retire,
        ..meaning(OutcomeKind::Gone, cause)
    }
}

/// Our token or our clock is wrong; the subscription is not touched.
fn credential() -> Meaning {
    Meaning {
        action: Action::PauseRoute,
        scope: Scope::Route,
        alert: true,
        ..meaning(OutcomeKind::Blocked, Cause::AuthFailure)
    }
}

/// The subscription was made with another key: never again with this one.
fn another_key() -> Meaning {
    Meaning {
        action: Action::Quarantine,
        scope: Scope::Endpoint,
        ..meaning(OutcomeKind::Reject, Cause::KeyMismatch)
    }
}

/// The service had trouble; nobody knows how far it came.
fn later() -> Meaning {
    Meaning {
        may_have_acted: true,
        scope: Scope::Endpoint,
        ..meaning(OutcomeKind::Retry, Cause::ServiceDegraded)
    }
}

fn slower(cause: Cause) -> Meaning {
    Meaning {
        scope: Scope::Endpoint,
        wait_min_ms: 60_000,
        ..meaning(OutcomeKind::Throttle, cause)
    }
}

/// WNS took it and lets it fall.
fn dropped() -> Meaning {
    Meaning {
        alert: true,
        ..meaning(OutcomeKind::Accept, Cause::AcceptedDropped)
    }
}

struct Case {
    host: &'static str,
    http_status: u16,
    /// What the service's own code is, as a channel reads it.
    reason: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    meaning: Meaning,
}

/// autopush: an error body with a number (autopush-rs, "Error codes").
fn autopush(http_status: u16, errno: &'static str, words: &str, meaning: Meaning) -> Case {
    let body = format!(
        r#"{{"code":{http_status},"errno":{errno},"error":"E","message":"{words}","more_info":"m"}}"#
    );
    Case {
        host: MOZILLA,
        http_status,
        reason: if errno == "null" { "" } else { errno },
        headers: Vec::new(),
        body,
        meaning,
    }
}

/// Google: words, sometimes in HTML.
fn google(http_status: u16, body: &str, meaning: Meaning) -> Case {
    Case {
        host: GOOGLE,
        http_status,
        reason: "",
        headers: Vec::new(),
        body: body.into(),
        meaning,
    }
}

/// Apple: `{"reason":"…"}` (Sending web push notifications, "Response").
fn apple(http_status: u16, reason: &'static str, meaning: Meaning) -> Case {
    Case {
        host: APPLE,
        http_status,
        reason,
        headers: Vec::new(),
        body: format!(r#"{{"reason":"{reason}"}}"#),
        meaning,
    }
}

/// WNS: headers (Push notification service request and response headers).
fn wns(http_status: u16, notification: &'static str, meaning: Meaning) -> Case {
    let fine = notification == "received" || notification.is_empty();
    Case {
        host: WNS,
        http_status,
        reason: if fine { "" } else { notification },
        headers: vec![("x-wns-notificationstatus", notification)],
        body: String::new(),
        meaning,
    }
}

/// A service that says nothing but an HTTP status code (RFC 8030).
fn plain(host: &'static str, http_status: u16, meaning: Meaning) -> Case {
    Case {
        host,
        http_status,
        reason: "",
        headers: Vec::new(),
        body: String::new(),
        meaning,
    }
}

fn of_mozilla() -> Vec<Case> {
    let bug = || our_fault(Cause::BadRequest);
    vec![
        plain(MOZILLA, 201, accepted()),
        autopush(400, "101", "Missing necessary crypto keys", bug()),
        autopush(400, "108", "Invalid router type", dead(Cause::Gone)),
        autopush(400, "110", "Unknown Content-Encoding", bug()),
        autopush(400, "111", "Missing TTL value", bug()),
        autopush(400, "112", "Invalid TTL value", bug()),
        autopush(400, "113", "Invalid Topic", bug()),
        autopush(400, "114", "Invalid TTL value", bug()),
        autopush(400, "null", "body unreadable", bug()),
        autopush(401, "109", "Invalid VAPID audience", credential()),
        autopush(401, "109", "VAPID public key mismatch", another_key()),
        autopush(404, "102", "Invalid token", dead(Cause::NotFound)),
        plain(MOZILLA, 404, dead(Cause::NotFound)),
        autopush(410, "103", "UAID not found", dead(Cause::Gone)),
        autopush(410, "105", "Endpoint became unavailable", dead(Cause::Gone)),
        autopush(410, "106", "No such subscription", dead(Cause::Gone)),
        autopush(413, "104", "Too big", our_fault(Cause::PayloadTooLarge)),
        autopush(500, "null", "Database error", later()),
        autopush(
            500,
            "201",
            "Save failed",
            Meaning {
                may_have_acted: false,
                scope: Scope::None,
                ..later()
            },
        ),
        autopush(502, "900", "Bridge misconfigured", later()),
        autopush(502, "901", "Bridge authentication", later()),
        autopush(502, "902", "Bridge connection", later()),
        autopush(502, "903", "Bridge timeout", later()),
        autopush(
            503,
            "201",
            "Overloaded, back off",
            Meaning {
                wait_min_ms: 120_000,
                ..later()
            },
        ),
        autopush(
            503,
            "202",
            "Overloaded, retry",
            Meaning {
                scope: Scope::None,
                ..later()
            },
        ),
    ]
}

fn of_google() -> Vec<Case> {
    let gone = || dead(Cause::Gone);
    vec![
        plain(GOOGLE, 201, accepted()),
        google(
            400,
            "<HTML><TITLE>UnauthorizedRegistration</TITLE>",
            credential(),
        ),
        google(400, "invalid arguments", our_fault(Cause::BadRequest)),
        google(401, "authorization header must be specified.", credential()),
        google(
            403,
            "the aud claim in the token MUST include the origin of the push resource URL",
            credential(),
        ),
        google(
            403,
            "exp claim MUST NOT be more than 24 hours from the time of the request",
            credential(),
        ),
        google(403, "permission denied: invalid JWT provided", credential()),
        google(403, "something that nobody has seen yet", credential()),
        google(
            403,
            "the key in the authorization header do not correspond to the credentials used to \
             create the subscriptions.",
            another_key(),
        ),
        google(403, "MismatchSenderId", another_key()),
        google(404, "NotRegistered", dead(Cause::NotFound)),
        google(410, "NotRegistered", gone()),
        google(
            410,
            "push subscription has unsubscribed or expired.",
            gone(),
        ),
        google(413, "payload too large", our_fault(Cause::PayloadTooLarge)),
        google(429, "", slower(Cause::RateLimited)),
        google(500, "", later()),
        google(503, "", later()),
    ]
}

fn of_apple() -> Vec<Case> {
    let bug = || our_fault(Cause::BadRequest);
    let large = our_fault(Cause::PayloadTooLarge);
    vec![
        plain(APPLE, 201, accepted()),
        apple(400, "BadTtl", bug()),
        apple(400, "BadUrgency", bug()),
        apple(400, "BadWebPushTopic", bug()),
        apple(400, "BadWebPushRequest", bug()),
        apple(400, "VapidPkHashMismatch", another_key()),
        apple(403, "VapidPkHashMismatch", another_key()),
        apple(403, "BadJwtToken", credential()),
        apple(403, "BadVapidPublicKey", credential()),
        apple(404, "Unregistered", dead(Cause::NotFound)),
        apple(410, "Unregistered", dead(Cause::Gone)),
        apple(413, "PayloadTooLarge", large),
        apple(429, "TooManyRequests", slower(Cause::DeviceThrottled)),
        apple(500, "InternalServerError", later()),
        apple(503, "ServiceUnavailable", later()),
    ]
}

fn of_wns() -> Vec<Case> {
    vec![
        wns(200, "received", accepted()),
        wns(201, "received", accepted()),
        wns(200, "dropped", dropped()),
        wns(201, "channelthrottled", dropped()),
        wns(201, "appthrottled", dropped()),
        wns(400, "", our_fault(Cause::BadRequest)),
        wns(401, "", credential()),
        wns(403, "", credential()),
        wns(404, "", dead(Cause::NotFound)),
        // Microsoft's word for 429.
        wns(406, "", slower(Cause::RateLimited)),
        wns(410, "", dead(Cause::Gone)),
        wns(413, "", our_fault(Cause::PayloadTooLarge)),
        wns(503, "", later()),
    ]
}

fn of_anybody() -> Vec<Case> {
    let any = |http_status, meaning| plain(SELF_HOSTED, http_status, meaning);
    let bug = our_fault;
    vec![
        any(200, accepted()),
        any(201, accepted()),
        any(202, accepted()),
        any(301, bug(Cause::Redirected)),
        any(307, bug(Cause::Redirected)),
        any(400, bug(Cause::BadRequest)),
        any(401, credential()),
        any(403, credential()),
        any(404, dead(Cause::NotFound)),
        any(405, bug(Cause::ClientError)),
        any(
            408,
            Meaning {
                may_have_acted: true,
                ..meaning(OutcomeKind::Retry, Cause::RequestTimeout)
            },
        ),
        any(410, dead(Cause::Gone)),
        any(413, bug(Cause::PayloadTooLarge)),
        any(422, bug(Cause::ClientError)),
        any(425, meaning(OutcomeKind::Retry, Cause::TooEarly)),
        any(429, slower(Cause::RateLimited)),
        any(500, later()),
        any(504, later()),
        any(599, later()),
        any(600, bug(Cause::Unresolved)),
    ]
}

fn list() -> Vec<Case> {
    [
        of_mozilla(),
        of_google(),
        of_apple(),
        of_wns(),
        of_anybody(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn table() -> Reactions {
    Reactions::parse("web_push.toml", web_push::REACTIONS).expect("the built-in table")
}

fn prepared(host: &str, table: &Reactions) -> Prepared {
    let key = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw".to_owned();
    let credentials = Credentials::new(&[key.into()], "mailto:ops@example.com").expect("valid");
    let keys = WebPushKeys {
        p256dh: credentials.public().to_owned(),
        auth: "BTBZMqHH6r4Tts7J_aSIgg".into(),
        vapid_key: credentials.public().to_owned(),
    };
    let url = Url::parse(&format!("https://{host}/x")).expect("a URL");
    Prepared::new(&url, &keys, &Arc::new(credentials), table).expect("can be sent to")
}

fn classified(case: &Case, table: &Reactions) -> (Outcome, Reaction) {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let answer = Answer {
        said: Ok(Response {
            http_status: case.http_status,
            headers,
            body: case.body.clone().into(),
        }),
        total_ms: 1,
        connect_ms: 0,
    };
    match web_push::classify(table, &prepared(case.host, table), answer, Time(0)) {
        (Attempted::Answered(outcome), Some(reaction)) => (outcome, reaction),
        other => panic!("{} {}: {other:?}", case.host, case.http_status),
    }
}

#[test]
fn every_answer_means_what_the_vendors_say() {
    let table = table();
    for case in list() {
        let (outcome, reaction) = classified(&case, &table);
        let meaning = Meaning {
            kind: outcome.kind,
            cause: outcome.cause,
            action: reaction.action,
            scope: reaction.scope,
            may_have_acted: outcome.may_have_acted,
            wait_min_ms: outcome.wait_min_ms,
            alert: reaction.alert,
        };
        let what = format!("{} {} {}", case.host, case.http_status, case.body);
        assert_eq!(meaning, case.meaning, "{what}");
    }
}

#[test]
fn every_row_of_the_table_is_met_by_the_list() {
    let table = table();
    let met: BTreeSet<usize> = list()
        .iter()
        .filter_map(|case| {
            let said = Said {
                service: table.service(case.host),
                http_status: case.http_status,
                reason: case.reason,
                body: case.body.as_bytes(),
            };
            table.conditions().position(|when| when.holds(&said))
        })
        .collect();
    let unmet: Vec<String> = table
        .conditions()
        .enumerate()
        .filter(|(at, _)| !met.contains(at))
        .map(|(at, when)| format!("row {}: {when:?}", at + 1))
        .collect();
    assert!(
        unmet.is_empty(),
        "no answer in the list comes to\n{}",
        unmet.join("\n")
    );
}

#[test]
fn each_host_belongs_to_the_service_that_its_owner_names() {
    let table = table();
    for (host, service) in [
        (MOZILLA, "mozilla"),
        (GOOGLE, "google"),
        (APPLE, "apple"),
        (WNS, "wns"),
        (SELF_HOSTED, ""),
    ] {
        assert_eq!(table.service(host), service);
    }
}
