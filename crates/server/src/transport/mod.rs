//! Transport: one request to one checked address, one answer read to a bound.
//!
//! ```text
//! attempt ─► channel.encode ─► send ─► client (pool) ─► connect ─► resolve ─► guard ─► tls
//!    ▲                                   │ http1, http2
//!    └────── channel.classify ◄── Answer ┘
//! ```
//!
//! Absent here: retries. Whatever happens is reported once; the ledger is the only retrier. Absent
//! too: redirects, cookies, proxies, decompression.

mod answer;
mod client;
mod connect;
pub mod dial;
mod elsewhere;
pub mod guard;
mod http1;
mod http2;
pub mod lines;
mod rehearse;
pub mod resolve;
mod room;
mod tls;
mod wire;

pub use dial::{Dial, SystemDialer};
pub use guard::{Forbidden, NetworkPolicy, Target};
pub use rehearse::Rehearsed;
pub use resolve::{Resolve, ResolveError, Resolving, SystemResolver};
pub use tls::{TlsFault, TlsIdentity, check_tls};

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::Authority;
use parking_lot::Mutex;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::id::{EndpointId, RouteId};
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;
use tokio::time::Instant;
use url::Url;

use crate::channel::reading::unsendable;
use crate::channel::webhook::{self, PrepareFault, Webhook};
use crate::channel::{
    Answer, Attempted, Channel as _, Fault, Request, Trouble, apns, fcm, redact, web_push,
};
use crate::registry::{Endpoint, Kind, Route, TlsProfile};
use client::{Client, Host, HostKey, Manner};
use lines::{Errand, FcmWay, Kit, Line, Prepared as Way, Push, Unusable};
use tls::{Speaks, TlsConfigs};

/// Endpoints whose preparation is kept at the most; about 3 KiB each.
const PREPARED_MAX: usize = 32_768;

/// Time limits in milliseconds, and bounds of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a new connection: look-up, TCP and TLS together.
    pub connect_ms: u64,
    /// From the request's first byte to the answer's last.
    pub response_ms: u64,
    /// From the answer's head to the end of its body. The head decides; the body is evidence.
    pub drain_ms: u64,
    /// How long an HTTP/1.1 connection is kept idle: below what servers keep theirs for.
    pub idle_ms: u64,
    /// The same for an HTTP/2 connection, whose end is announced.
    pub idle_shared_ms: u64,
    /// As `response_ms`, for push services.
    pub response_push_ms: u64,
    /// As `idle_shared_ms`, for push services, which take reconnecting for an attack.
    pub idle_push_ms: u64,
    /// HTTP/2 connections to one host at the most.
    pub shared_host_max: usize,
    /// Idle HTTP/1.1 connections to one host at the most.
    pub idle_host_max: usize,
    /// Idle HTTP/1.1 connections at the most; about 12 KiB each.
    pub idle_total_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect_ms: 3_000,
            response_ms: 5_000,
            drain_ms: 1_000,
            idle_ms: 4_000,
            idle_shared_ms: 60_000,
            response_push_ms: 10_000,
            idle_push_ms: 12 * 3_600_000,
            shared_host_max: 4,
            idle_host_max: 256,
            idle_total_max: 4_096,
        }
    }
}

impl Limits {
    fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    fn response(&self) -> Duration {
        Duration::from_millis(self.response_ms)
    }

    fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

/// Carries requests. Shared by all that send; dropping it closes every idle connection.
pub struct Transport {
    policy: ArcSwap<NetworkPolicy>,
    tls: TlsConfigs,
    client: Arc<Client>,
    prepared: Mutex<HashMap<EndpointId, Arc<Prepared>>>,
    push: OnceLock<Push>,
}

/// Everything about one revision of an endpoint that its attempts share: the parts of a request
/// that do not change, prepared keys, and the connections to its host.
pub struct Prepared {
    endpoint: Arc<Endpoint>,
    policy: Arc<NetworkPolicy>,
    route: Option<Arc<Route>>,
    /// `Err` where nothing may or can be sent; each attempt then ends with this.
    line: Result<Line, EndpointFault>,
}

impl Prepared {
    /// The endpoint as it was when this was prepared.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Transport {
    /// A transport under `policy`, which asks the machine's name servers.
    #[must_use]
    pub fn new(limits: Limits, policy: NetworkPolicy) -> Transport {
        Transport::with_resolver(limits, policy, Arc::new(SystemResolver::new()))
    }

    /// The same with another way to look names up.
    #[must_use]
    pub fn with_resolver(
        limits: Limits,
        policy: NetworkPolicy,
        resolver: Arc<dyn Resolve>,
    ) -> Transport {
        Transport::with_network(limits, policy, resolver, Arc::new(SystemDialer))
    }

    /// The same with another network beneath: names and connections are somebody else's.
    #[must_use]
    pub fn with_network(
        limits: Limits,
        policy: NetworkPolicy,
        resolver: Arc<dyn Resolve>,
        dialer: Arc<dyn Dial>,
    ) -> Transport {
        Transport {
            policy: ArcSwap::from_pointee(policy),
            tls: TlsConfigs::new(),
            client: Arc::new(Client::new(limits, resolver, dialer)),
            prepared: Mutex::default(),
            push: OnceLock::new(),
        }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<NetworkPolicy> {
        self.policy.load_full()
    }

    /// Puts another policy in force. Connections made under the one before are not used again.
    pub fn set_policy(&self, policy: NetworkPolicy) {
        let version = self.policy.load().version.max(policy.version) + 1;
        self.policy
            .store(Arc::new(NetworkPolicy { version, ..policy }));
        self.prepared.lock().clear();
        self.client.retire_all();
    }

    /// Lets push endpoints be reached over the routes of a registry. The first one named stays.
    pub fn push_over(&self, push: Push) {
        let _ = self.push.set(push);
    }

    fn route(&self, endpoint: &Endpoint) -> Option<Arc<Route>> {
        self.push.get()?.registry.route(endpoint.route?)
    }

    /// Idle HTTP/1.1 connections, for the metrics.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.client.idle()
    }

    /// Everything about `endpoint` that can be judged without sending, for whoever writes one: URL,
    /// headers, secrets and certificates.
    ///
    /// # Errors
    /// [`EndpointFault`], the first in that order.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), EndpointFault> {
        let route = self.route(endpoint);
        self.line(endpoint, route.as_deref(), &self.policy.load_full())
            .map(drop)
    }

    /// What attempts to `endpoint` share, made at its first attempt, and again when the registry
    /// has another `Arc` for it or another policy is in force.
    #[must_use]
    pub fn prepared(&self, endpoint: &Arc<Endpoint>) -> Arc<Prepared> {
        let policy = self.policy.load_full();
        let route = self.route(endpoint);
        let revision = |route: &Option<Arc<Route>>| route.as_ref().map(|route| route.revision);
        if let Some(found) = self.prepared.lock().get(&endpoint.id)
            && Arc::ptr_eq(&found.endpoint, endpoint)
            && Arc::ptr_eq(&found.policy, &policy)
            && revision(&found.route) == revision(&route)
        {
            return found.clone();
        }
        let line = self.line(endpoint, route.as_deref(), &policy);
        let made = Arc::new(Prepared {
            endpoint: endpoint.clone(),
            policy,
            route,
            line,
        });
        let mut prepared = self.prepared.lock();
        if prepared.len() >= PREPARED_MAX {
            // Any eighth will do: what is still used is made again.
            prepared.retain(|id, _| id.0 % 8 != endpoint.id.0 % 8);
        }
        prepared.insert(endpoint.id, made.clone());
        made
    }

    /// One attempt: encodes, sends, classifies. Never fails; trouble is an outcome.
    ///
    /// Dropping the future ends the attempt and closes its connection; what the receiver has seen
    /// by then is unknown.
    pub async fn attempt(
        &self,
        prepared: &Arc<Prepared>,
        event: &Event,
        dispatch: &Dispatch,
        now: Time,
    ) -> Attempted {
        if Arc::ptr_eq(&self.policy.load(), &prepared.policy) {
            return self.attempt_prepared(prepared, event, dispatch, now).await;
        }
        let again = self.prepared(&prepared.endpoint);
        self.attempt_prepared(&again, event, dispatch, now).await
    }

    async fn attempt_prepared(
        &self,
        prepared: &Prepared,
        event: &Event,
        dispatch: &Dispatch,
        now: Time,
    ) -> Attempted {
        let left_ms = dispatch.expires_at.since(now).max(0).unsigned_abs();
        let errand = Errand {
            event,
            dispatch,
            now,
            leave_by: Instant::now().checked_add(Duration::from_millis(left_ms)),
        };
        match &prepared.line {
            Ok(line) => {
                let attempted = line.attempt(&self.client, self.push.get(), errand).await;
                redact::without_address(attempted, &prepared.endpoint)
            }
            Err(fault) => fault.attempted(now),
        }
    }

    /// Sends a request that was made elsewhere, for tests and probes.
    pub async fn send(&self, prepared: &Prepared, request: Request) -> Answer {
        match &prepared.line {
            Ok(line) => self.client.send(&line.host, request).await,
            Err(fault) => fault.trouble().into(),
        }
    }

    fn line(
        &self,
        endpoint: &Endpoint,
        route: Option<&Route>,
        policy: &Arc<NetworkPolicy>,
    ) -> Result<Line, EndpointFault> {
        let push = self.push.get().zip(route);
        let (kit, tables) = match (&endpoint.kind, push) {
            (Kind::Webhook, _) => {
                policy.target(&endpoint.url)?;
                let way = Way::Webhook(webhook::Prepared::new(endpoint)?);
                let host = self.host(&endpoint.url, &endpoint.tls, Manner::Common, None, policy)?;
                return Ok(Line { way, host });
            }
            (_, Some((push, route))) => (push.kit(route)?, &push.reactions),
            (_, None) => return Err(EndpointFault::NoRoute),
        };
        let tls = route.map_or(&endpoint.tls, |route| &route.tls);
        let manner = match &endpoint.kind {
            Kind::Apns(_) | Kind::Fcm(_) if endpoint.url.scheme() == "https" => Manner::Push,
            _ => Manner::Patient,
        };
        let way = match (&endpoint.kind, &*kit) {
            (Kind::WebPush(keys), Kit::WebPush(credentials)) => {
                let table = &tables.web_push;
                let url = &endpoint.url;
                Way::WebPush(web_push::Prepared::new(url, keys, credentials, table)?)
            }
            (Kind::Apns(device), Kit::Apns { topic, .. }) => Way::Apns {
                prepared: apns::Prepared::new(&endpoint.url, topic)?,
                place: elsewhere::Refused {
                    endpoint: endpoint.id,
                    token: device.token.as_str().into(),
                    route: route.ok_or(EndpointFault::NoRoute)?.id,
                },
                kit,
            },
            (Kind::Fcm(target), Kit::Fcm { account, .. }) => Way::Fcm(FcmWay {
                prepared: fcm::Prepared::new(&endpoint.url)?,
                target: target.clone(),
                token_host: self.host(&account.token_url, tls, Manner::Common, None, policy)?,
                kit,
            }),
            _ => return Err(EndpointFault::NoRoute),
        };
        // Apple binds a connection to the key of its first token.
        let bound = route.filter(|_| matches!(endpoint.kind, Kind::Apns(_)));
        let credentials = bound.map(|route| (route.id, route.revision));
        let host = self.host(&endpoint.url, tls, manner, credentials, policy)?;
        Ok(Line { way, host })
    }

    fn host(
        &self,
        url: &Url,
        tls: &TlsProfile,
        manner: Manner,
        credentials: Option<(RouteId, u64)>,
        policy: &Arc<NetworkPolicy>,
    ) -> Result<Arc<Host>, EndpointFault> {
        let target = policy.target(url)?;
        let speaks = match manner {
            Manner::Common | Manner::Patient => Speaks::Either,
            Manner::Push => Speaks::Http2,
        };
        let (identity, config) = match target.secure {
            true => self
                .tls
                .config(tls, speaks)
                .map(|(id, config)| (Some(id), Some(config)))?,
            false => (None, None),
        };
        let authority = authority(&target).ok_or(PrepareFault::Url)?;
        let key = HostKey {
            target,
            tls: identity,
            policy_version: policy.version,
            manner,
            credentials,
        };
        Ok(self.client.host(key, authority, config, policy))
    }
}

/// Why nothing can be sent to an endpoint as it is written.
#[derive(Debug, thiserror::Error)]
pub enum EndpointFault {
    /// Its URL leads where deliveries may not go.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Its URL, headers or secrets.
    #[error(transparent)]
    Webhook(#[from] PrepareFault),
    /// Its certificates, or its route's.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// It is reached over a route, and there is none, or one of another channel.
    #[error("the endpoint's route does not fit its channel, or is gone")]
    NoRoute,
    /// Its route.
    #[error(transparent)]
    Route(#[from] Unusable),
    /// Its push subscription.
    #[error(transparent)]
    WebPush(#[from] web_push::PrepareFault),
    /// Its place at APNs.
    #[error(transparent)]
    Apns(#[from] apns::PrepareFault),
    /// Its place at FCM.
    #[error(transparent)]
    Fcm(#[from] fcm::UrlFault),
}

impl EndpointFault {
    /// What becomes of an attempt that this keeps from being made.
    fn attempted(&self, now: Time) -> Attempted {
        let detail = self.to_string();
        match self {
            EndpointFault::Forbidden(_) | EndpointFault::Webhook(_) | EndpointFault::Tls(_) => {
                Webhook.classify(self.trouble().into(), now)
            }
            EndpointFault::NoRoute | EndpointFault::Route(_) => {
                unsendable(OutcomeKind::Blocked, Cause::RouteUnusable, &detail)
            }
            // The client has to subscribe again; until then nothing can reach it.
            EndpointFault::WebPush(fault) if fault.cause() == Cause::KeyMismatch => {
                unsendable(OutcomeKind::Gone, Cause::KeyMismatch, &detail)
            }
            EndpointFault::WebPush(fault) => {
                unsendable(OutcomeKind::Reject, fault.cause(), &detail)
            }
            EndpointFault::Apns(_) | EndpointFault::Fcm(_) => {
                unsendable(OutcomeKind::Reject, Cause::RouteUnusable, &detail)
            }
        }
    }

    fn trouble(&self) -> Trouble {
        let kind = match self {
            EndpointFault::Forbidden(_) => Fault::Forbidden,
            EndpointFault::Tls(_) => Fault::Tls,
            _ => Fault::ConnectFailed,
        };
        Trouble::unsent(kind, self.to_string())
    }
}

impl From<Trouble> for Answer {
    fn from(trouble: Trouble) -> Answer {
        Answer {
            said: Err(trouble),
            total_ms: 0,
            connect_ms: 0,
        }
    }
}

fn authority(target: &Target) -> Option<Authority> {
    let default = if target.secure { 443 } else { 80 };
    let text = match target.port == default {
        true => target.host.to_string(),
        false => format!("{}:{}", target.host, target.port),
    };
    Authority::try_from(text).ok()
}
