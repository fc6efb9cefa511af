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
pub mod guard;
mod http1;
mod http2;
pub mod resolve;
mod room;
mod tls;
mod wire;

pub use dial::{Dial, SystemDialer};
pub use guard::{Forbidden, NetworkPolicy, Target};
pub use resolve::{Resolve, ResolveError, Resolving, SystemResolver};
pub use tls::{TlsFault, TlsIdentity, check_tls};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::Authority;
use parking_lot::Mutex;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::id::EndpointId;
use postrider_core::time::Time;

use crate::channel::webhook::{self, PrepareFault, Webhook};
use crate::channel::{Answer, Attempted, Channel, Fault, Request, Trouble};
use crate::registry::Endpoint;
use client::{Client, Host, HostKey, Manner};
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
    webhook: Webhook,
}

/// Everything about one revision of an endpoint that its attempts share: the parts of a request
/// that do not change, prepared keys, and the connections to its host.
pub struct Prepared {
    endpoint: Arc<Endpoint>,
    policy: Arc<NetworkPolicy>,
    /// `Err` where nothing may or can be sent; each attempt then ends with this.
    line: Result<Line, Trouble>,
}

struct Line {
    webhook: webhook::Prepared,
    host: Arc<Host>,
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
            webhook: Webhook,
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
        self.line(endpoint, &self.policy.load_full()).map(drop)
    }

    /// What attempts to `endpoint` share, made at its first attempt, and again when the registry
    /// has another `Arc` for it or another policy is in force.
    #[must_use]
    pub fn prepared(&self, endpoint: &Arc<Endpoint>) -> Arc<Prepared> {
        let policy = self.policy.load_full();
        if let Some(found) = self.prepared.lock().get(&endpoint.id)
            && Arc::ptr_eq(&found.endpoint, endpoint)
            && Arc::ptr_eq(&found.policy, &policy)
        {
            return found.clone();
        }
        let line = self.line(endpoint, &policy).map_err(Trouble::from);
        let made = Arc::new(Prepared {
            endpoint: endpoint.clone(),
            policy,
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
        let answer = match &prepared.line {
            Ok(line) => {
                let request = self.webhook.encode(&line.webhook, event, dispatch, now);
                self.client.send(&line.host, request).await
            }
            Err(trouble) => trouble.clone().into(),
        };
        let then = now.plus(i64::from(answer.total_ms));
        self.webhook.classify(answer, then)
    }

    /// Sends a request that was made elsewhere, for tests and probes.
    pub async fn send(&self, prepared: &Prepared, request: Request) -> Answer {
        match &prepared.line {
            Ok(line) => self.client.send(&line.host, request).await,
            Err(trouble) => trouble.clone().into(),
        }
    }

    fn line(
        &self,
        endpoint: &Endpoint,
        policy: &Arc<NetworkPolicy>,
    ) -> Result<Line, EndpointFault> {
        let target = policy.target(&endpoint.url)?;
        let webhook = webhook::Prepared::new(endpoint)?;
        let (identity, config) = match target.secure {
            true => self
                .tls
                .config(&endpoint.tls, Speaks::Either)
                .map(|(id, config)| (Some(id), Some(config)))?,
            false => (None, None),
        };
        let authority = authority(&target).ok_or(PrepareFault::Url)?;
        let key = HostKey {
            target,
            tls: identity,
            policy_version: policy.version,
            manner: Manner::Common,
            credentials: None,
        };
        let host = self.client.host(key, authority, config, policy);
        Ok(Line { webhook, host })
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
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

impl From<EndpointFault> for Trouble {
    fn from(fault: EndpointFault) -> Trouble {
        let kind = match fault {
            EndpointFault::Forbidden(_) => Fault::Forbidden,
            EndpointFault::Webhook(_) => Fault::ConnectFailed,
            EndpointFault::Tls(_) => Fault::Tls,
        };
        Trouble::unsent(kind, fault.to_string())
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
