//! FCM through a whole node: store, engine, transport, token endpoint, and the fake at the other
//! end.
//!
//! Absent here: what each answer means, which the test `reactions` has; and the second attempt.
//! Google forbids it within ten seconds, so a test looks at when it is due.

use std::sync::Arc;
use std::time::Duration;

use postrider::channel::registration;
use postrider::fake::{Act, Answer, Behaviour, Fake, Filter, Settings, When};
use postrider::registry::{
    Credentials, Device, Endpoint, EndpointDraft, EndpointState, FcmTarget, Registered, Route,
    RouteDraft, TlsProfile,
};
use postrider::run::Node;
use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::id::EndpointId;
use postrider_core::ledger::{Delivery, State};
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::SECOND_MS;
use serde_json::Value;

use crate::node_kit::{config, deliveries, start, submission, submit, tenant};
use crate::schema;

/// Longest wait for a moment that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a body that the fake keeps: all of it.
const BODY_KEEP_BYTES: usize = 65_536;

pub const FORM: &str = r#"{"notification":{"title":"Grüße","body":"b"},"data":{"n":1}}"#;

pub async fn fake() -> Fake {
    let settings = Settings {
        body_keep_bytes: BODY_KEEP_BYTES,
        ..Settings::default()
    };
    Fake::start(settings).await.expect("a fake")
}

pub fn node(dir: &tempfile::TempDir) -> Node {
    start(&config(
        dir.path(),
        Policy::brief(postrider_core::id::PolicyId(0)),
    ))
}

/// A route of a project of its own.
pub fn route(node: &Node, fake: &Fake, project: &str) -> Arc<Route> {
    let draft = RouteDraft {
        name: project.to_owned(),
        credentials: Credentials::Fcm {
            service_account: fake.fcm_account(project).into(),
        },
        server: Some(fake.url("").parse().expect("a URL")),
        tls: TlsProfile::default(),
    };
    let made = node
        .registry
        .create_route(tenant(node), draft, node.clock.now());
    made.expect("a route")
}

fn draft(node: &Node, route: &Route, token: &str) -> EndpointDraft {
    let target = FcmTarget::Token(token.to_owned());
    let (url, kind) = registration::fcm(route, target).expect("a token");
    EndpointDraft {
        route: Some(route.id),
        device: Some(Device {
            refreshed_at: node.clock.now(),
            ..Device::default()
        }),
        ..EndpointDraft::new(
            url,
            kind,
            node.registry.policies().named("fcm").expect("built in").id,
        )
    }
}

pub fn device(node: &Node, route: &Route, token: &str) -> Arc<Endpoint> {
    let draft = draft(node, route, token);
    let made = node
        .registry
        .register_device(route.tenant, draft, None, node.clock.now());
    made.expect("a device").0
}

pub async fn tell(node: &Node, device: &Endpoint, number: u64) {
    let effectively = Guarantee::EffectivelyOnce;
    let mut told = submission(device, effectively, number, node.clock.now());
    told.event.payload = Bytes::from_static(FORM.as_bytes());
    submit(node, vec![told]).await;
}

/// The only delivery to a device, once it is as `holds` says.
pub async fn row(
    node: &Node,
    to: EndpointId,
    what: &str,
    holds: impl Fn(&Delivery) -> bool,
) -> Delivery {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let mut last = None;
    let found = async {
        loop {
            look.tick().await;
            let rows = deliveries(node, to);
            if let [row] = &rows[..] {
                if holds(row) {
                    return row.clone();
                }
                last = Some(row.clone());
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{what}: it is not so: {last:?}"))
}

/// Why a device is retired, if it is.
pub fn retired(node: &Node, id: EndpointId) -> Option<Cause> {
    match &node.registry.endpoint(id).expect("it is known").state {
        EndpointState::Retired { cause, .. } => Some(*cause),
        _ => None,
    }
}

fn said(http_status: u16, body: &str) -> Act {
    Act::Answer(Answer {
        http_status,
        body: body.to_owned(),
        ..Answer::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_answer_that_got_lost_nothing_is_sent_for_ten_seconds() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    let lost = Behaviour::of("/fcm/one").rule(When::Always, Act::ResetAfterRequest);
    fake.set(lost).expect("a behaviour");
    let route = route(&node, &fake, "p1");
    let to = device(&node, &route, "one");
    tell(&node, &to, 1).await;
    let answered = |row: &Delivery| row.attempt == 1 && row.state == State::Scheduled;
    let row = row(&node, to.id, "answered", answered).await;
    assert_eq!(
        (row.cause, row.may_have_acted),
        (Cause::ConnectionLost, true)
    );
    assert!(row.due_at.since(row.admitted_at) >= 10 * SECOND_MS);
    node.stop().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_a_request_as_google_publishes_it() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    let route = route(&node, &fake, "p1");
    let to = device(&node, &route, "device-1");
    tell(&node, &to, 1).await;
    let row = row(&node, to.id, "accepted", |row| row.state == State::Accepted).await;
    let seen = fake
        .requests(&Filter::path("/fcm/device-1"))
        .pop()
        .expect("one request");
    let complaints = schema::check(seen.body.as_bytes());
    assert!(complaints.is_empty(), "{complaints:?}");
    let id = uuid::Uuid::from_u128(row.correlation.0).to_string();
    assert_eq!((&*seen.key, seen.processed), (&*id, true));
    let request: Value = serde_json::from_str(&seen.body).expect("JSON");
    let message = &request["message"];
    assert_eq!(message["token"], "device-1");
    assert_eq!(message["notification"]["title"], "Grüße");
    assert_eq!(message["data"]["n"], "1");
    let key = message["data"]["postrider_key"].as_str().expect("a key");
    assert_eq!(
        (key.len(), &message["android"]["notification"]["tag"]),
        (32, &Value::from(key))
    );
    // One token serves one after the other.
    let other = device(&node, &route, "device-2");
    tell(&node, &other, 2).await;
    self::row(&node, other.id, "accepted", |row| {
        row.state == State::Accepted
    })
    .await;
    assert_eq!(fake.fcm_granted(), 1);
    node.stop().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_account_holds_its_route_until_it_is_renewed() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    let refusal = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let refuses = Behaviour::of("/oauth2/token").rule(When::Always, said(400, refusal));
    fake.set(refuses).expect("a behaviour");
    let route = route(&node, &fake, "p1");
    let (one, two) = (device(&node, &route, "one"), device(&node, &route, "two"));
    tell(&node, &one, 1).await;
    let held = |row: &Delivery| row.unspent == 1 && row.state == State::Scheduled;
    let row = row(&node, one.id, "held", held).await;
    assert_eq!(row.cause, Cause::AuthFailure);
    tell(&node, &two, 2).await;
    fake.set(Behaviour::of("/oauth2/token"))
        .expect("a behaviour");
    assert_eq!(
        fake.requests(&Filter::path("/fcm/two")).len(),
        0,
        "it waits with the route"
    );
    // Renewed credentials let everything go at once.
    let now = node.clock.now();
    let renewed = node.registry.change_route(route.id, now, |_| Ok(()));
    renewed.expect("the route is there");
    for to in [&one, &two] {
        let accepted = |row: &Delivery| row.state == State::Accepted;
        let row = self::row(&node, to.id, "accepted", accepted).await;
        assert_eq!(
            row.attempt - u32::from(row.unspent),
            1,
            "one attempt was spent"
        );
    }
    node.stop().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_once_and_then_it_is_the_account() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    fake.set(Behaviour::of("/fcm/*").rule(When::Always, Act::http_status(401)))
        .expect("a behaviour");
    fake.set(Behaviour::of("/oauth2/token"))
        .expect("a behaviour");
    let route = route(&node, &fake, "p1");
    let (one, two) = (device(&node, &route, "one"), device(&node, &route, "two"));
    tell(&node, &one, 1).await;
    let answered = |row: &Delivery| row.attempt == 1 && row.state == State::Scheduled;
    let first = row(&node, one.id, "answered", answered).await;
    assert_eq!((first.cause, first.unspent), (Cause::AuthFailure, 0));
    tell(&node, &two, 2).await;
    let second = row(&node, two.id, "answered", answered).await;
    assert_eq!(
        (second.cause, second.unspent),
        (Cause::AuthFailure, 1),
        "the route is held"
    );
    assert_eq!(fake.fcm_granted(), 2);
    node.stop().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_was_told_to_wait_waits_as_a_whole() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    fake.set(Behaviour::of("/fcm/one").rule(When::Always, Act::http_status(429)))
        .expect("a behaviour");
    let route = route(&node, &fake, "p1");
    let (one, two) = (device(&node, &route, "one"), device(&node, &route, "two"));
    tell(&node, &one, 1).await;
    let answered = |row: &Delivery| row.attempt == 1 && row.state == State::Scheduled;
    row(&node, one.id, "answered", answered).await;
    tell(&node, &two, 2).await;
    let held = row(&node, two.id, "held", answered).await;
    assert_eq!((held.cause, held.unspent), (Cause::RateLimited, 1));
    assert_eq!(fake.requests(&Filter::path("/fcm/two")).len(), 0);
    node.stop().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_news_of_a_device_changes_nothing() {
    let (fake, dir) = (fake().await, tempfile::tempdir().expect("a directory"));
    let node = node(&dir);
    let route = route(&node, &fake, "p1");
    let now = node.clock.now();
    let of = |age_ms: i64, recipient: &str| {
        let mut draft = draft(&node, &route, "t");
        draft.recipient = recipient.to_owned();
        draft.device = Some(Device {
            refreshed_at: now.plus(-age_ms),
            ..Device::default()
        });
        let registered = node
            .registry
            .register_device(route.tenant, draft, None, now);
        let (endpoint, registered) = registered.expect("a device");
        (endpoint.revision, endpoint.recipient.clone(), registered)
    };
    assert_eq!(of(1_000, "anna"), (1, "anna".into(), Registered::Created));
    assert_eq!(of(1_000, "anna"), (1, "anna".into(), Registered::Unchanged));
    assert_eq!(of(2_000, "bo"), (1, "anna".into(), Registered::Unchanged));
    assert_eq!(of(1_000, "cleo"), (2, "cleo".into(), Registered::Refreshed));
    assert_eq!(of(500, "cleo"), (3, "cleo".into(), Registered::Refreshed));
    // What was found dead does not come back by an old file, but by the device itself.
    let id = device(&node, &route, "t").id;
    let died = node.registry.retire(id, Cause::Gone, node.clock.now());
    died.expect("it is retired");
    assert_eq!(of(500, "cleo").2, Registered::Unchanged);
    let fresh = node.registry.register_device(
        route.tenant,
        draft(&node, &route, "t"),
        None,
        node.clock.now(),
    );
    assert_eq!(fresh.expect("a device").1, Registered::Created);
    node.stop().expect("a clean end");
}
