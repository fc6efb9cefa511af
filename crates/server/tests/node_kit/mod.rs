//! A whole node inside the test process: store, registry, engine and transport, without HTTP.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider::config::{Config, NetworkRules};
use postrider::http::intake::Intake;
use postrider::observe::Metrics;
use postrider::registry::{Endpoint, EndpointDraft, TlsProfile};
use postrider::run::Node;
use postrider::store::{Page, Query};
use postrider_core::Bytes;
use postrider_core::engine::Reply;
use postrider_core::event::{Event, Submission, Target, Urgency};
use postrider_core::id::{
    BodyDigest, DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, PolicyId, TenantId,
};
use postrider_core::ledger::Delivery;
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::{DAY_MS, Time};

/// Longest wait for a moment that must come.
const PATIENCE: Duration = Duration::from_secs(240);

/// Settings of a node under `dir` that may reach this machine.
pub fn config(dir: &Path, policy: Policy) -> Config {
    let mut config = Config::default();
    config.store.dir = dir.to_owned();
    config.store.reserve_bytes = 1 << 20;
    config.network = NetworkRules {
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        allow_http: true,
        ..NetworkRules::default()
    };
    config.log.attempts = false;
    config.policies = vec![policy];
    config
}

/// Starts a node.
pub fn start(config: &Config) -> Node {
    Node::start(config, &Arc::new(Metrics::default()), None).expect("the node starts")
}

/// Registers an endpoint under the policy of this name.
#[allow(dead_code, reason = "not every test is about webhooks")]
pub fn endpoint(node: &Node, url: &str, policy: &str, tls: TlsProfile) -> Arc<Endpoint> {
    let now = node.clock.now();
    let tenant = node.registry.ensure_tenant("acme", now).expect("a tenant");
    let policy = node
        .registry
        .policies()
        .named(policy)
        .map_or(PolicyId(0), |policy| policy.id);
    let draft = EndpointDraft {
        tls,
        ..EndpointDraft::new(
            url.parse().expect("a URL"),
            postrider::registry::Kind::Webhook,
            policy,
        )
    };
    node.registry
        .create_endpoint(tenant.id, draft, now)
        .expect("an endpoint")
}

/// A submission to one endpoint. The number makes its key.
pub fn submission(
    endpoint: &Endpoint,
    guarantee: Guarantee,
    number: u64,
    now: Time,
) -> Box<Submission> {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&endpoint.id.0.to_be_bytes());
    Box::new(Submission {
        event: Event {
            id: EventId(0),
            uuid: rand::random(),
            tenant: endpoint.tenant,
            key_digest: KeyDigest(key),
            body_digest: BodyDigest(key),
            business_id: format!("order-{number}").into(),
            event_type: "order.paid".into(),
            version: 1,
            recipient: "".into(),
            ordering_key: "".into(),
            collapse_key: "".into(),
            urgency: Urgency::default(),
            traceparent: "".into(),
            content_type: "application/json".into(),
            admitted_at: Time(0),
            key_expires_at: now.plus(DAY_MS),
            first_delivery: DeliveryId(0),
            deliveries: 0,
            retry_of: None,
            payload: Bytes::from(format!("{{\"number\":{number}}}")),
        },
        targets: vec![Target {
            endpoint: endpoint.id,
            policy: endpoint.policy,
            guarantee,
            collapse_key: None,
            ordering_key: None,
            lane: None,
            due_at: now,
            expires_at: now.plus(DAY_MS),
            entropy: rand::random(),
        }],
        known: None,
    })
}

/// The same as one of an order.
#[allow(dead_code, reason = "not every test needs an order")]
pub fn ordered(mut submission: Box<Submission>, key: u64) -> Box<Submission> {
    submission.targets[0].ordering_key = Some(OrderingKey(key));
    submission
}

/// Hands submissions in and waits for the answers.
pub async fn submit(node: &Node, submissions: Vec<Box<Submission>>) -> Vec<Reply> {
    let answered = node.intake.submit(submissions);
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("an answer in time")
        .expect("an answer")
}

/// Waits until nothing is unsettled.
#[allow(dead_code, reason = "not every test ends in rest")]
pub async fn rest(node: &Node) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let settled = async {
        loop {
            look.tick().await;
            let gauges = &node.gauges;
            let unsettled = gauges.window.load(Ordering::Acquire)
                + gauges.parked.load(Ordering::Acquire)
                + gauges.waiting.load(Ordering::Acquire);
            if unsettled == 0 && gauges.idle.load(Ordering::Acquire) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled)
        .await
        .expect("everything settles in time");
}

/// All deliveries to an endpoint, newest first.
pub fn deliveries(node: &Node, endpoint: EndpointId) -> Vec<Delivery> {
    let mut query = Query {
        endpoint: Some(endpoint),
        limit: 1_000,
        ..Query::default()
    };
    let mut rows = Vec::new();
    loop {
        let Page { deliveries, next } = node.reader.list(&query).expect("a page");
        rows.extend(deliveries);
        match next {
            Some(next) => query.before = Some(next),
            None => return rows,
        }
    }
}

/// The tenant of every endpoint made here.
#[allow(dead_code, reason = "not every test needs it")]
pub fn tenant(node: &Node) -> TenantId {
    node.registry
        .ensure_tenant("acme", node.clock.now())
        .expect("a tenant")
        .id
}
