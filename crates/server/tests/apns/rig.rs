//! A whole node, a fake of APNs, and a route between them.

use std::sync::Arc;

use postrider::channel::registration;
use postrider::fake::apns::{Apns, Service, Settings};
use postrider::registry::{
    ApnsSigner, Credentials, Device, Endpoint, EndpointDraft, Registered, Route, RouteDraft,
    TlsProfile,
};
use postrider::run::Node;
use postrider_core::Bytes;
use postrider_core::event::Submission;
use postrider_core::id::{EndpointId, PolicyId, RouteId};
use postrider_core::ledger::Delivery;
use postrider_core::policy::{BreakerPolicy, Guarantee, Jitter, Policy, Schedule};

use super::kit::{APP, Key, token};
use super::node_kit::{config, deliveries, start, submission, submit, tenant};

pub struct Rig {
    fake: Apns,
    pub node: Node,
    pub key: Key,
    _dir: tempfile::TempDir,
}

/// Three attempts, soon after each other.
fn quick() -> Policy {
    let push = Policy::apns(PolicyId(0));
    Policy {
        name: "quick".into(),
        schedule: Schedule::Fixed { waits_ms: vec![20] },
        jitter: Jitter::None,
        attempts_max: 3,
        throttle_ms: 20,
        breaker: BreakerPolicy {
            answers_min: 60_000,
            ..push.breaker
        },
        ..push
    }
}

impl Rig {
    pub async fn start() -> Rig {
        let fake = Apns::start(Settings::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let node = start(&config(dir.path(), quick()));
        let key = Key::new();
        key.trusted_by(fake.service());
        Rig {
            fake,
            node,
            key,
            _dir: dir,
        }
    }

    pub fn service(&self) -> &Arc<Service> {
        self.fake.service()
    }

    /// A route over this key.
    pub fn route(&self, name: &str, key: &Key) -> Arc<Route> {
        self.route_to(self.service(), name, key, false)
    }

    /// The same to another service.
    pub fn route_to(&self, service: &Service, name: &str, key: &Key, sandbox: bool) -> Arc<Route> {
        let signer = ApnsSigner {
            team: key.team.into(),
            key_id: key.id.into(),
            key_pem: key.p8.clone().into(),
        };
        let draft = RouteDraft {
            name: name.to_owned(),
            credentials: Credentials::Apns {
                topic: APP.to_owned(),
                sandbox,
                signer: Some(signer),
            },
            server: Some(service.origin().parse().unwrap()),
            tls: TlsProfile {
                ca_pem: Some(service.pem().to_owned()),
                ..TlsProfile::default()
            },
        };
        let now = self.node.clock.now();
        let tenant = tenant(&self.node);
        self.node.registry.create_route(tenant, draft, now).unwrap()
    }

    /// Puts another key on a route.
    pub fn renew(&self, route: RouteId, key: &Key) {
        let now = self.node.clock.now();
        let changed = self.node.registry.change_route(route, now, |route| {
            if let Credentials::Apns { signer, .. } = &mut route.credentials {
                *signer = Some(ApnsSigner {
                    team: key.team.into(),
                    key_id: key.id.into(),
                    key_pem: key.p8.clone().into(),
                });
            }
            Ok(())
        });
        changed.unwrap();
    }

    /// A device on a route.
    pub fn device(&self, route: &Route, number: u32) -> Arc<Endpoint> {
        let (draft, now) = (self.draft(route, number), self.node.clock.now());
        let registry = &self.node.registry;
        registry.create_endpoint(route.tenant, draft, now).unwrap()
    }

    /// What a device's registration on a route comes to.
    pub fn register(&self, route: &Route, number: u32, id: &str) -> (Arc<Endpoint>, Registered) {
        let (mut draft, now) = (self.draft(route, number), self.node.clock.now());
        draft.device.as_mut().unwrap().id = id.to_owned();
        let registry = &self.node.registry;
        let made = registry.register_device(route.tenant, draft, None, now);
        made.unwrap()
    }

    fn draft(&self, route: &Route, number: u32) -> EndpointDraft {
        let (url, kind) = registration::apns(route, &token(number)).unwrap();
        let policies = self.node.registry.policies();
        EndpointDraft {
            route: Some(route.id),
            device: Some(Device {
                refreshed_at: self.node.clock.now(),
                ..Device::default()
            }),
            ..EndpointDraft::new(url, kind, policies.named("quick").unwrap().id)
        }
    }

    /// Submits one alert to each device.
    pub async fn alert(&self, devices: &[Arc<Endpoint>], number: u64) {
        let now = self.node.clock.now();
        let all = devices.iter().map(|device| {
            let guarantee = Guarantee::EffectivelyOnce;
            let mut submission = submission(device, guarantee, number, now);
            submission.event.payload = payload(number);
            submission
        });
        let all: Vec<Box<Submission>> = all.collect();
        for reply in submit(&self.node, all).await {
            let admitted = matches!(reply, postrider_core::engine::Reply::Admitted { .. });
            assert!(admitted, "{reply:?}");
        }
    }

    /// The row of the only delivery to a device.
    pub fn row(&self, device: EndpointId) -> Delivery {
        let rows = deliveries(&self.node, device);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }
}

fn payload(number: u64) -> Bytes {
    let title = format!("number {number}");
    let payload = serde_json::json!({ "notification": { "title": title } });
    Bytes::from(payload.to_string())
}

/// Polls until `holds`, or fails after half a minute.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not come about"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await; // poll: until the deadline
    }
}
