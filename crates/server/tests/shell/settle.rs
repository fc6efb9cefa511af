//! What the registry holds when a run begins: a tenant and its key, a policy, endpoints for
//! webhooks, and routes with the devices that are reached over them.
//!
//! Absent here: devices that register later; see `phone`.

use std::path::Path;
use std::sync::Arc;

use postrider::channel::registration;
use postrider::registry::{
    ApnsSigner, Credentials, Device, EndpointDraft, FcmTarget, KeyDraft, Kind, Registry, Role,
    Route, RouteDraft, TlsProfile, TlsVersion, VapidKey,
};
use postrider_core::endpoint::Channel;
use postrider_core::id::{PolicyId, TenantId};
use postrider_core::time::Time;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::evidence::START_MS;
use crate::node::{PACE, vault};
use crate::plan::HOOKS;
use crate::providers::{APP, Providers};
use crate::receiver::Speaks;
use crate::tls::Certificates;
use crate::world::{SPEAKS, quick};

/// What callers have to know of it.
pub struct Settled {
    pub api_key: String,
    /// Outer ids of endpoints: two at each receiver of webhooks.
    pub hooks: Vec<String>,
    /// The same of devices.
    pub devices: Vec<String>,
}

struct Home<'a> {
    registry: Registry,
    tenant: TenantId,
    policy: PolicyId,
    tls: TlsProfile,
    providers: &'a Providers,
}

pub fn settle_in(dir: &Path, certificates: &Certificates, providers: &Providers) -> Settled {
    let now = Time(START_MS);
    let registry = Registry::open(dir, &vault(), PACE).expect("a registry");
    let tenant = registry.ensure_tenant("acme", now).expect("a tenant").id;
    let policies = registry.apply_policies([quick()], now).expect("a policy");
    let key = KeyDraft {
        name: "simulated".into(),
        role: Role::Writer,
        tenant: Some(tenant),
        expires_at: None,
        environment: "test".into(),
    };
    let (_, key) = registry.create_key(key, now).expect("a key");
    let home = Home {
        registry,
        tenant,
        policy: policies[0].id,
        tls: TlsProfile {
            min_version: TlsVersion::V1_3,
            ca_pem: Some(certificates.authority_pem.clone()),
            ..TlsProfile::default()
        },
        providers,
    };
    let routes = home.routes();
    let hooks = (0..2 * HOOKS.len()).map(|place| home.hook(place));
    let devices = providers.devices.iter();
    Settled {
        api_key: key.expose_secret().to_owned(),
        hooks: hooks.collect(),
        devices: devices.map(|it| home.device(it, &routes)).collect(),
    }
}

impl Home<'_> {
    fn create(&self, draft: EndpointDraft) -> String {
        let made = self
            .registry
            .create_endpoint(self.tenant, draft, Time(START_MS));
        made.expect("an endpoint").uuid.to_string()
    }

    fn hook(&self, place: usize) -> String {
        let (name, speaks) = (HOOKS[place / 2], SPEAKS[place / 2]);
        let scheme = if speaks == Speaks::Http1 {
            "http"
        } else {
            "https"
        };
        let url = format!("{scheme}://{name}/hook/{place}").parse();
        self.create(EndpointDraft {
            tls: self.tls.clone(),
            ..EndpointDraft::new(url.expect("a URL"), Kind::Webhook, self.policy)
        })
    }

    fn routes(&self) -> Vec<Arc<Route>> {
        let (private, public) = self.providers.vapid.clone();
        let key = &self.providers.apple_key;
        let all = [
            (
                Credentials::WebPush {
                    subject: "mailto:ops@example.com".into(),
                    keys: vec![VapidKey {
                        public,
                        private,
                        created_at: Time(START_MS),
                    }],
                },
                None,
            ),
            (
                Credentials::Apns {
                    topic: APP.into(),
                    sandbox: false,
                    signer: Some(ApnsSigner {
                        team: key.team.clone(),
                        key_id: key.key_id.clone(),
                        key_pem: key.p8.clone().into(),
                    }),
                },
                Some("https://apns.example"),
            ),
            (
                Credentials::Fcm {
                    service_account: self.providers.account().into(),
                },
                Some("https://fcm.example"),
            ),
        ];
        let route = |(credentials, server): (Credentials, Option<&str>)| {
            let draft = RouteDraft {
                name: credentials.channel().name().replace('_', "-"),
                credentials,
                server: server.map(|server| server.parse().expect("a URL")),
                tls: self.tls.clone(),
            };
            let made = self
                .registry
                .create_route(self.tenant, draft, Time(START_MS));
            made.expect("a route")
        };
        all.into_iter().map(route).collect()
    }

    fn device(&self, device: &crate::providers::Device, routes: &[Arc<Route>]) -> String {
        let said = device.registration(START_MS);
        let fits = |route: &&Arc<Route>| route.credentials.channel() == device.channel;
        let route = routes.iter().find(fits).expect("a route for each channel");
        let at = &said[device.channel.name()];
        let text = |of: &Value| of.as_str().expect("a text").to_owned();
        let (url, kind) = match device.channel {
            Channel::WebPush => {
                let keys = [&at["keys"]["p256dh"], &at["keys"]["auth"]].map(text);
                let keys = [keys[0].as_str(), keys[1].as_str()];
                let hosts = ["*.example".to_owned()];
                registration::web_push(route, (&hosts, false), &text(&at["endpoint"]), keys, None)
            }
            Channel::Apns => registration::apns(route, &text(&at["token"])),
            _ => registration::fcm(route, FcmTarget::Token(text(&at["token"]))),
        }
        .expect("an address");
        self.create(EndpointDraft {
            route: Some(route.id),
            device: Some(Device {
                id: device.name(),
                refreshed_at: Time(START_MS),
                ..Device::default()
            }),
            ..EndpointDraft::new(url, kind, self.policy)
        })
    }
}
