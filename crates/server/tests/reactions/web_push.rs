//! Web Push: the lists, from what Mozilla, Google, Apple and Microsoft document and what their
//! services were seen to say.

use std::net::SocketAddr;
use std::sync::Arc;

use postrider::channel::reaction::Reactions;
use postrider::channel::{credentials, web_push};
use postrider::fake::{Act, Answer, Behaviour, Fake, Filter, Settings, When};
use postrider::registry::{Credentials, Kind, Route, RouteDraft, TlsProfile, WebPushKeys};
use postrider::run::Node;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use url::Url;

use super::kit::{
    Case, End, Said, accepted, again, credential, dead, dropped, later, our_fault, slower,
    table_and_list_know_the_same,
};
use super::node_kit::{config, tenant};
use super::stage::{Provider, play, policy};

const MOZILLA: &str = "updates.push.services.mozilla.com";
const GOOGLE: &str = "fcm.googleapis.com";
const APPLE: &str = "web.push.apple.com";
const WNS: &str = "db5p.notify.windows.com";
const SELF_HOSTED: &str = "push.example.org";

/// autopush: an error body with a number (autopush-rs, "Error codes").
fn autopush(http_status: u16, errno: &'static str, words: &str, end: End) -> Case {
    let body = format!(
        r#"{{"code":{http_status},"errno":{errno},"error":"E","message":"{words}","more_info":""}}"#
    );
    let reason = if errno == "null" { "" } else { errno };
    Case::new(MOZILLA, Said::new(http_status, body), reason, end)
}

/// Google: words, sometimes in HTML.
fn google(http_status: u16, body: &str, end: End) -> Case {
    Case::new(GOOGLE, Said::new(http_status, body), "", end)
}

/// Apple: `{"reason":"…"}` (Sending web push notifications, "Response").
fn apple(http_status: u16, reason: &'static str, end: End) -> Case {
    let body = format!(r#"{{"reason":"{reason}"}}"#);
    Case::new(APPLE, Said::new(http_status, body), reason, end)
}

/// WNS: headers (Push notification service request and response headers).
fn wns(http_status: u16, notification: &'static str, end: End) -> Case {
    let fine = notification == "received" || notification.is_empty();
    let reason = if fine { "" } else { notification };
    Case::new(WNS, Said::new(http_status, ""), reason, end)
        .with("x-wns-notificationstatus", notification)
}

/// A service that says nothing but an HTTP status code (RFC 8030).
fn plain(host: &'static str, http_status: u16, end: End) -> Case {
    Case::new(host, Said::new(http_status, ""), "", end)
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
        autopush(
            401,
            "109",
            "VAPID public key mismatch",
            dead(Cause::KeyMismatch),
        ),
        autopush(404, "102", "Invalid token", dead(Cause::NotFound)),
        plain(MOZILLA, 404, dead(Cause::NotFound)),
        autopush(410, "103", "UAID not found", dead(Cause::Gone)),
        autopush(410, "105", "Endpoint became unavailable", dead(Cause::Gone)),
        autopush(410, "106", "No such subscription", dead(Cause::Gone)),
        autopush(413, "104", "Too big", our_fault(Cause::PayloadTooLarge)),
        autopush(500, "null", "Database error", later(0)),
        autopush(
            500,
            "201",
            "Save failed",
            End {
                acted: false,
                ..later(0)
            },
        ),
        autopush(502, "900", "Bridge misconfigured", later(0)),
        autopush(502, "901", "Bridge authentication", later(0)),
        autopush(502, "902", "Bridge connection", later(0)),
        autopush(502, "903", "Bridge timeout", later(0)),
        autopush(503, "201", "Overloaded, back off", later(120)),
        autopush(503, "202", "Overloaded, retry", later(0)),
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
            dead(Cause::KeyMismatch),
        ),
        google(403, "MismatchSenderId", dead(Cause::KeyMismatch)),
        google(404, "NotRegistered", dead(Cause::NotFound)),
        google(410, "NotRegistered", gone()),
        google(
            410,
            "push subscription {address} has unsubscribed or expired.",
            gone(),
        ),
        google(413, "payload too large", our_fault(Cause::PayloadTooLarge)),
        google(429, "", slower(Cause::RateLimited, 60)),
        google(429, "", slower(Cause::RateLimited, 75)).with("retry-after", "75"),
        google(500, "", later(0)),
        google(503, "", later(0)),
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
        apple(400, "VapidPkHashMismatch", dead(Cause::KeyMismatch)),
        apple(403, "VapidPkHashMismatch", dead(Cause::KeyMismatch)),
        apple(403, "BadJwtToken", credential()),
        apple(403, "BadVapidPublicKey", credential()),
        apple(404, "Unregistered", dead(Cause::NotFound)),
        apple(410, "Unregistered", dead(Cause::Gone)),
        apple(413, "PayloadTooLarge", large),
        apple(429, "TooManyRequests", slower(Cause::DeviceThrottled, 60)),
        apple(500, "InternalServerError", later(0)),
        apple(503, "ServiceUnavailable", later(0)),
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
        wns(406, "", slower(Cause::RateLimited, 60)),
        wns(406, "", slower(Cause::RateLimited, 90)).with("retry-after", "90"),
        wns(410, "", dead(Cause::Gone)),
        Case::new(
            WNS,
            Said::new(410, "the channel {address} has expired"),
            "",
            dead(Cause::Gone),
        ),
        wns(413, "", our_fault(Cause::PayloadTooLarge)),
        wns(503, "", later(0)),
    ]
}

fn of_anybody() -> Vec<Case> {
    let any = |http_status, end| plain(SELF_HOSTED, http_status, end);
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
        any(405, bug(Cause::BadRequest)),
        any(
            408,
            End {
                acted: true,
                ..again(Cause::RequestTimeout, 0)
            },
        ),
        any(410, dead(Cause::Gone)),
        any(413, bug(Cause::PayloadTooLarge)),
        any(418, bug(Cause::ClientError)).unheard_of(),
        any(422, bug(Cause::BadRequest)),
        any(425, again(Cause::TooEarly, 0)),
        any(429, slower(Cause::RateLimited, 60)),
        any(500, later(0)),
        any(504, later(0)),
        any(599, later(0)),
        any(600, bug(Cause::Unresolved)).unheard_of(),
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

#[test]
fn table_and_list_of_web_push_know_the_same() {
    table_and_list_know_the_same("web_push.toml", web_push::REACTIONS, &list());
}

#[test]
fn each_host_belongs_to_the_service_that_its_owner_names() {
    let table = Reactions::parse("web_push.toml", web_push::REACTIONS).expect("a table");
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
        let named = self
            .each
            .iter()
            .filter(|(_, service, _)| !service.is_empty());
        for (_, service, fake) in named {
            table.push_str(&format!("{service} = [\"{}\"]\n", fake.address().ip()));
        }
        table
    }
}

/// What of an endpoint only its push service and we know.
fn secret(number: u32) -> String {
    format!("gAAAAABn{number:032}")
}

/// Where the subscription of this number leads: its path, and what follows it. The secret is in the
/// path, or with WNS in the query.
fn subscription(from: &str, number: u32) -> (String, String) {
    match from {
        WNS => (format!("/w/{number}"), format!("?token={}", secret(number))),
        _ => (format!("/case/{}", secret(number)), String::new()),
    }
}

impl Provider for Services {
    fn channel(&self) -> Channel {
        Channel::WebPush
    }

    fn route(&self, node: &Node, _from: &str, name: &str) -> Arc<Route> {
        let now = node.clock.now();
        let private = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw".to_owned();
        let made = credentials::web_push("mailto:ops@example.com", Some(&private.into()), now);
        let draft = RouteDraft {
            name: name.to_owned(),
            credentials: made.expect("a key"),
            server: None,
            tls: TlsProfile::default(),
        };
        let made = node.registry.create_route(tenant(node), draft, now);
        made.expect("a route")
    }

    fn device(&self, route: &Route, from: &str, number: u32, said: &Said) -> (Url, Kind) {
        let Credentials::WebPush { keys, .. } = &route.credentials else {
            panic!("keys of Web Push")
        };
        let public = keys[0].public.clone();
        let (fake, (path, query)) = (self.of(from), subscription(from, number));
        let target = format!("{path}{query}");
        let headers = said.headers.iter();
        let answer = Answer {
            http_status: said.http_status,
            headers: headers.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            body: said.body_to(&target),
            ..Answer::default()
        };
        fake.set(Behaviour::of(&path).rule(When::Always, Act::Answer(answer)))
            .expect("a behaviour");
        let keys = WebPushKeys {
            p256dh: public.clone(),
            auth: "BTBZMqHH6r4Tts7J_aSIgg".into(),
            vapid_key: public,
        };
        (
            fake.url(&target).parse().expect("a URL"),
            Kind::WebPush(keys),
        )
    }

    fn address(&self, number: u32) -> String {
        secret(number)
    }

    fn arrived(&self, from: &str, number: u32) -> usize {
        let filter = Filter::path(&subscription(from, number).0);
        self.of(from).requests(&filter).len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_push_services_leads_where_it_must() {
    let services = Services::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let tables = dir.path().join("tables");
    std::fs::create_dir(&tables).expect("a directory");
    std::fs::write(tables.join("web_push.toml"), services.table()).expect("a table");
    let mut settings = config(&dir.path().join("data"), policy());
    settings.push.reactions = tables.display().to_string();
    play(&settings, &services, &list()).await;
}
