//! What the registry knows about an endpoint, as the channels and the transport use it.
//!
//! Absent here: how it is stored, and how it is found.

use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, PolicyId, TenantId};
use postrider_core::policy::{Guarantee, RatePolicy};
use postrider_core::time::Time;
use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

/// One address that deliveries go to. A change makes a new value behind a new `Arc`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Inner id.
    pub id: EndpointId,
    /// Outer id.
    pub uuid: Uuid,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it is. Never logged; see the fingerprint.
    pub url: Url,
    /// A caller's own words for it, or empty.
    pub name: String,
    /// The person or system it belongs to, or empty.
    pub recipient: String,
    /// Event types it subscribes to: exact names, `order.*` prefixes, or `*`. Empty: none, it is
    /// reached only through its recipient.
    pub event_types: Vec<String>,
    /// The policy its deliveries are admitted under.
    pub policy: PolicyId,
    /// Overrides the policy's guarantee.
    pub guarantee: Option<Guarantee>,
    /// Overrides the policy's rate.
    pub rate: Option<RatePolicy>,
    /// Overrides the policy's `slots_max`.
    pub slots_max: Option<u16>,
    /// Signing secrets, newest first; two while they rotate.
    pub secrets: Vec<Secret>,
    /// How TLS is spoken to it.
    pub tls: TlsProfile,
    /// Headers added to each request, checked when the endpoint was written.
    pub headers: Vec<(String, String)>,
    /// Whether it is sent to.
    pub state: EndpointState,
    /// When it was created.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
    /// Counts its changes; part of what connections are pooled by.
    pub revision: u64,
}

/// A signing secret: `whsec_` and base64 of 24 to 64 random bytes (Standard Webhooks).
#[derive(Clone, Debug)]
pub struct Secret {
    /// The secret as the receiver has it, prefix included.
    pub value: SecretString,
    /// When it was made.
    pub created_at: Time,
    /// From when on it no longer signs; `None` for the current one.
    pub expires_at: Option<Time>,
}

/// How TLS is spoken to an endpoint.
#[derive(Clone, Debug, Default)]
pub struct TlsProfile {
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Roots to trust instead of the system's, as PEM.
    pub ca_pem: Option<String>,
    /// Client certificate chain as PEM.
    pub client_cert_pem: Option<String>,
    /// Its private key as PEM.
    pub client_key_pem: Option<SecretString>,
}

/// Oldest TLS version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.3 only.
    #[default]
    V1_3,
    /// TLS 1.2 too, for receivers that cannot do better.
    V1_2,
}

/// Whether an endpoint is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Yes.
    Active,
    /// Not now; deliveries wait until their time to live ends.
    Paused {
        /// Why, in the words of who paused it.
        reason: String,
        /// Since when.
        at: Time,
    },
    /// Never again.
    Retired {
        /// Why.
        cause: Cause,
        /// Since when.
        at: Time,
    },
}
