//! What the registry knows about an endpoint, as the channels and the transport use it.
//!
//! Absent here: how it is stored, and how it is found.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::id::{EndpointId, PolicyId, RouteId, TenantId};
use postrider_core::policy::{Guarantee, RatePolicy};
use postrider_core::time::{DAY_MS, Time};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;
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
    /// Where requests to it go. Never logged; see the fingerprint.
    pub url: Url,
    /// Which way it is reached, with what belongs to that.
    pub kind: Kind,
    /// The credentials it is sent to with; push endpoints have one.
    pub route: Option<RouteId>,
    /// The device behind it; push endpoints have one.
    pub device: Option<Device>,
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

impl Endpoint {
    /// When the address was registered last.
    #[must_use]
    pub fn registered_at(&self) -> Time {
        let device = self.device.as_ref();
        device.map_or(self.created_at, |it| it.refreshed_at.max(it.replaced_at))
    }

    /// What tells its address from all others of the tenant: the same for a device that registers
    /// again.
    #[must_use]
    pub fn address(&self) -> [u8; 16] {
        address(&self.kind, &self.url)
    }
}

/// See [`Endpoint::address`].
#[must_use]
pub fn address(kind: &Kind, url: &Url) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind.channel() as u8]);
    match kind {
        Kind::Webhook | Kind::WebPush(_) => hasher.update(url.as_str().as_bytes()),
        Kind::Apns(device) => hasher.update(device.token.as_bytes()),
        Kind::Fcm(FcmTarget::Token(token)) => hasher.update(token.as_bytes()),
        Kind::Fcm(FcmTarget::Fid(fid)) => hasher.update(b"fid/").update(fid.as_bytes()),
    };
    let mut address = [0; 16];
    hasher.finalize_xof().fill(&mut address);
    address
}

/// Which way an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "snake_case")]
pub enum Kind {
    /// A signed request to `url`.
    Webhook,
    /// A push subscription of a browser; `url` is its endpoint.
    WebPush(WebPushKeys),
    /// An Apple device; `url` is the provider's.
    Apns(ApnsDevice),
    /// A device that Firebase Cloud Messaging reaches; `url` is the provider's.
    Fcm(FcmTarget),
}

impl Kind {
    /// Its channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Kind::Webhook => Channel::Webhook,
            Kind::WebPush(_) => Channel::WebPush,
            Kind::Apns(_) => Channel::Apns,
            Kind::Fcm(_) => Channel::Fcm,
        }
    }
}

/// The keys of a push subscription (RFC 8291 section 2, RFC 8292 section 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebPushKeys {
    /// The browser's public key: an uncompressed point of P-256, 65 bytes, in base64url.
    pub p256dh: String,
    /// The shared secret: 16 bytes, in base64url.
    pub auth: String,
    /// Our public key that the subscription was made with, in base64url: only its private half may
    /// sign for it.
    pub vapid_key: String,
}

/// An Apple device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApnsDevice {
    /// The device token, in lower-case hexadecimal.
    pub token: String,
}

/// What Firebase Cloud Messaging is told to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FcmTarget {
    /// A registration token.
    Token(String),
    /// A Firebase installation id.
    Fid(String),
}

/// What is known about a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The application's own id for it, or empty: a new address under the same id takes the old
    /// one's place.
    #[serde(default)]
    pub id: String,
    /// `ios`, `android`, `firefox`, … in the application's words, or empty.
    #[serde(default)]
    pub platform: String,
    /// What the application last reported about its right to show notifications, and when.
    #[serde(default)]
    pub authorisation: Option<(Authorisation, i64)>,
    /// The route that it was moved from, because the provider did not know the token in that
    /// environment. Once is all: it is not moved again.
    #[serde(default, with = "route", skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<RouteId>,
    /// When the address was registered or confirmed by the application last.
    #[serde(with = "millis")]
    pub refreshed_at: Time,
    /// When this address took the place of another one here: it may have been known for a while
    /// by then, and what was said about the other one meanwhile is not true of it.
    #[serde(default, with = "millis")]
    pub replaced_at: Time,
}

/// Whether an application may show notifications on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Authorisation {
    /// Yes.
    Granted,
    /// No.
    Denied,
    /// Quietly, until the person decides.
    Provisional,
    /// Not while a Focus is on.
    Focus,
}

/// A device that was not registered again for so long is shown as stale.
pub const STALE_AFTER_MS: i64 = 30 * DAY_MS;

mod route {
    use postrider_core::id::RouteId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(id: &Option<RouteId>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.0).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RouteId>, D::Error> {
        Ok(Option::<u32>::deserialize(from)?.map(RouteId))
    }
}

mod millis {
    use postrider_core::time::Time;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        i64::deserialize(from).map(Time)
    }
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
