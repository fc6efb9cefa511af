//! What push services' answers mean, held against a second list: written by hand from what the
//! vendors document and what their services were seen to say, not from the table.
//!
//! Each answer goes through a whole node, too: to its state, its cause, its next attempt, and what
//! becomes of the subscription.

mod node_kit;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use node_kit::{config, deliveries, start, submission, submit, tenant};
use postrider::channel::reaction::{Action, Reaction, Reactions, Said, Scope};
use postrider::channel::web_push::vapid::Credentials;
use postrider::channel::web_push::{self, Prepared};
use postrider::channel::{Answer, Attempted, Response};
use postrider::fake::{self, Act, Behaviour, Fake, Filter, Settings, When};
use postrider::registry::{
    self, Endpoint, EndpointDraft, EndpointState, Kind, RouteDraft, TlsProfile, WebPushKeys,
};
use postrider::run::Node;
use postrider_core::cause::Cause;
use postrider_core::id::PolicyId;
use postrider_core::ledger::{Delivery, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Guarantee, Jitter, Policy, Schedule};
use postrider_core::time::{SECOND_MS, Time};
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
        ..meaning(OutcomeKind::Gone, Cause::KeyMismatch)
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
        r#"{{"code":{http_status},"errno":{errno},"error":"E","message":"{words}","more_info":""}}"#
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

/// What every retry waits unless a service asks for more.
const PLANNED_MS: i64 = 30 * SECOND_MS;
/// Longest that the whole list takes on a slow machine.
const PATIENCE_MS: i64 = 25 * SECOND_MS;

fn policy() -> Policy {
    Policy {
        name: "planned".into(),
        schedule: Schedule::Fixed {
            waits_ms: vec![PLANNED_MS],
        },
        jitter: Jitter::None,
        throttle_ms: PLANNED_MS,
        ..Policy::brief(PolicyId(0))
    }
}

/// One push service for each vendor, at an address of its own, so that a node tells them apart.
struct Services {
    each: Vec<(&'static str, &'static str, Fake)>,
}

impl Services {
    async fn start() -> Services {
        let mut each = Vec::new();
        for (host, service, last) in [
            (SELF_HOSTED, "", 1),
            (MOZILLA, "mozilla", 2),
            (GOOGLE, "google", 3),
            (APPLE, "apple", 4),
            (WNS, "wns", 5),
        ] {
            let settings = Settings {
                listen: SocketAddr::from(([127, 0, 0, last], 0)),
                ..Settings::default()
            };
            each.push((host, service, Fake::start(settings).await.expect("a fake")));
        }
        Services { each }
    }

    fn of(&self, host: &str) -> &Fake {
        let found = self.each.iter().find(|(known, _, _)| *known == host);
        &found.expect("a service of this host").2
    }

    /// An operator's table that says which address is whose.
    fn table(&self) -> String {
        let mut table = "rows = []\n[services]\n".to_owned();
        for (_, service, fake) in self
            .each
            .iter()
            .filter(|(_, service, _)| !service.is_empty())
        {
            table.push_str(&format!("{service} = [\"{}\"]\n", fake.address().ip()));
        }
        table
    }
}

/// A subscription on a route of its own: a route that pauses must not hold the others.
fn subscription(node: &Node, number: usize, fake: &Fake) -> Arc<Endpoint> {
    let (now, tenant) = (node.clock.now(), tenant(node));
    let private = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw".to_owned();
    let credentials = postrider::channel::credentials::web_push(
        "mailto:ops@example.com",
        Some(&private.into()),
        now,
    );
    let credentials = credentials.expect("a key");
    let registry::Credentials::WebPush { keys, .. } = &credentials else {
        panic!("keys of Web Push")
    };
    let public = keys[0].public.clone();
    let draft = RouteDraft {
        name: format!("route-{number}"),
        credentials,
        server: None,
        tls: TlsProfile::default(),
    };
    let route = node
        .registry
        .create_route(tenant, draft, now)
        .expect("a route");
    let policies = node.registry.policies();
    let policy = policies.named("planned").expect("the policy").id;
    drop(policies);
    let draft = EndpointDraft {
        url: fake.url(&format!("/case/{number}")).parse().expect("a URL"),
        kind: Kind::WebPush(WebPushKeys {
            p256dh: public.clone(),
            auth: "BTBZMqHH6r4Tts7J_aSIgg".into(),
            vapid_key: public,
        }),
        route: Some(route.id),
        device: Some(registry::Device {
            refreshed_at: now,
            ..registry::Device::default()
        }),
        name: String::new(),
        recipient: String::new(),
        event_types: Vec::new(),
        policy,
        guarantee: None,
        rate: None,
        slots_max: None,
        secret: None,
        tls: TlsProfile::default(),
        headers: Vec::new(),
    };
    let endpoint = node.registry.create_endpoint(tenant, draft, now);
    endpoint.expect("an endpoint")
}

fn behaviour(number: usize, case: &Case) -> Behaviour {
    let headers = case.headers.iter();
    let answer = fake::Answer {
        http_status: case.http_status,
        headers: headers
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        body: case.body.clone(),
        ..fake::Answer::default()
    };
    Behaviour::of(&format!("/case/{number}")).rule(When::Always, Act::Answer(answer))
}

/// The only delivery to an endpoint, once its first attempt was answered.
async fn answered(node: &Node, endpoint: &Endpoint) -> Delivery {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let settled = async {
        loop {
            look.tick().await;
            let rows = deliveries(node, endpoint.id);
            if let [row] = &rows[..]
                && row.attempt > 0
                && row.state != State::InFlight
            {
                return row.clone();
            }
        }
    };
    let limit = Duration::from_millis(PATIENCE_MS.unsigned_abs());
    tokio::time::timeout(limit, settled)
        .await
        .expect("an answer in time")
}

fn check(case: &Case, row: &Delivery, endpoint: &Endpoint, submitted_at: Time) {
    let what = format!("{} {} {}: {row:?}", case.host, case.http_status, case.body);
    let meaning = &case.meaning;
    let state = match meaning.kind {
        OutcomeKind::Accept => State::Accepted,
        OutcomeKind::Reject | OutcomeKind::Gone => State::Rejected,
        _ => State::Scheduled,
    };
    assert_eq!(
        (row.state, row.cause, row.attempt),
        (state, meaning.cause, 1),
        "{what}"
    );
    assert_eq!(row.may_have_acted, meaning.may_have_acted, "{what}");
    let retired = match endpoint.state {
        EndpointState::Retired { cause, .. } => Some(cause),
        _ => None,
    };
    let dead = matches!(meaning.action, Action::Retire | Action::Quarantine);
    assert_eq!(retired, dead.then_some(meaning.cause), "{what}");
    if state != State::Scheduled {
        return;
    }
    let is_blocked = meaning.kind == OutcomeKind::Blocked;
    assert_eq!(row.unspent, u16::from(is_blocked), "{what}");
    if !is_blocked {
        let wait_ms = PLANNED_MS.max(meaning.wait_min_ms);
        let waits_ms = row.due_at.since(submitted_at);
        let expected = wait_ms..wait_ms + PATIENCE_MS;
        assert!(expected.contains(&waits_ms), "{waits_ms} ms: {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_leads_where_it_must_in_a_whole_node() {
    let services = Services::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let tables = dir.path().join("tables");
    std::fs::create_dir(&tables).expect("a directory");
    std::fs::write(tables.join("web_push.toml"), services.table()).expect("a table");
    let mut settings = config(&dir.path().join("data"), policy());
    settings.push.reactions = tables.display().to_string();
    let node = start(&settings);
    let cases = list();
    let mut endpoints = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let fake = services.of(case.host);
        fake.set(behaviour(number, case)).expect("a behaviour");
        endpoints.push(subscription(&node, number, fake));
    }
    let now = node.clock.now();
    let submissions = endpoints
        .iter()
        .map(|endpoint| submission(endpoint, Guarantee::EffectivelyOnce, 1, now));
    submit(&node, submissions.collect()).await;
    for (number, (case, endpoint)) in cases.iter().zip(&endpoints).enumerate() {
        let row = answered(&node, endpoint).await;
        if case.meaning.kind == OutcomeKind::Gone {
            retired(&node, endpoint).await;
        }
        let endpoint = node.registry.endpoint(endpoint.id).expect("it is known");
        check(case, &row, &endpoint, now);
        let filter = Filter::path(&format!("/case/{number}"));
        assert_eq!(
            services.of(case.host).requests(&filter).len(),
            1,
            "{number}"
        );
    }
    node.stop().expect("a clean end");
}

/// The registry hears of it after the ledger.
async fn retired(node: &Node, endpoint: &Endpoint) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let gone = async {
        loop {
            look.tick().await;
            let endpoint = node.registry.endpoint(endpoint.id).expect("it is known");
            if matches!(endpoint.state, EndpointState::Retired { .. }) {
                return;
            }
        }
    };
    let limit = Duration::from_millis(PATIENCE_MS.unsigned_abs());
    tokio::time::timeout(limit, gone)
        .await
        .expect("retired in time");
}
