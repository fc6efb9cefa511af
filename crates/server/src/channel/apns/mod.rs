//! The APNs channel: an event as a request to Apple's provider API, and what the answers mean.
//!
//! ```text
//! credentials ─► token ─┐
//! event ─► compose ─────┴► Request ─► Answer ─► reason ─► reaction table
//! ```
//!
//! | header | |
//! | --- | --- |
//! | `authorization` | `bearer` and a provider token, unless a client certificate speaks for us |
//! | `apns-id` | the correlation id, the same on each attempt |
//! | `apns-push-type` | what the payload is, or what the application said it is |
//! | `apns-topic` | the app's bundle id, with the suffix that the push type demands |
//! | `apns-priority` | 10, 5 or 1 |
//! | `apns-expiration` | when the delivery lapses, as Unix time |
//! | `apns-collapse-id` | the replace key: whatever is sent again takes the place of the first |
//!
//! What is different on each request is marked so that HTTP/2 does not keep it in its table, and
//! the token so that nothing on the way does (RFC 7541 section 7.1.3); a path never is.
//!
//! Absent here: sockets, and which credentials go with which endpoint.

mod answers;
pub mod compose;
pub mod token;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Full;
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::{DAY_MS, SECOND_MS, Time};
use url::Url;
use uuid::Uuid;

pub use answers::{Verdict, classify};
pub use compose::{ContentFault, PushType};
pub use token::{ProviderTokens, SigningFault};

use super::reading::{Place, unsendable};
use super::{Attempted, Request, Told};

/// The reaction table that is built in.
pub const REACTIONS: &str = include_str!("../reactions/apns.toml");

/// Longest that APNs keeps a notification.
const STORED_MS_MAX: i64 = 30 * DAY_MS;

/// Characters of a device token: 32 bytes today, more for live activities, and Apple says not to
/// count on any length.
pub const TOKEN_CHARS_MIN: usize = 64;
/// See [`TOKEN_CHARS_MIN`].
pub const TOKEN_CHARS_MAX: usize = 512;
/// Bytes of an app's bundle id at most.
pub const BUNDLE_ID_BYTES_MAX: usize = 255;

const ID: HeaderName = HeaderName::from_static("apns-id");
const PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// Which of Apple's two services. A device token belongs to one of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Apps from the App Store, TestFlight and ad hoc distribution.
    #[default]
    Production,
    /// Apps that Xcode put on a device.
    Sandbox,
}

impl Environment {
    /// The one that a route's `sandbox` means.
    #[must_use]
    pub fn of(sandbox: bool) -> Environment {
        match sandbox {
            true => Environment::Sandbox,
            false => Environment::Production,
        }
    }

    /// The host that takes requests.
    #[must_use]
    pub fn host(self) -> &'static str {
        match self {
            Environment::Production => "api.push.apple.com",
            Environment::Sandbox => "api.sandbox.push.apple.com",
        }
    }
}

/// What is wrong with a device token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceTokenFault {
    /// Something that is not hexadecimal, or half a byte.
    #[error("a device token is written in hexadecimal, two digits a byte")]
    Hex,
    /// Too short or too long.
    #[error("a device token has {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} digits, not {0}")]
    Length(usize),
}

/// A device token in its one spelling: lower case.
///
/// # Errors
/// [`DeviceTokenFault`].
pub fn device_token(text: &str) -> Result<String, DeviceTokenFault> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || text.len() % 2 == 1 {
        return Err(DeviceTokenFault::Hex);
    }
    if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len()) {
        return Err(DeviceTokenFault::Length(text.len()));
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether a text can be an app's topic: a bundle id, in visible ASCII.
#[must_use]
pub fn is_bundle_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=BUNDLE_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// Where requests for a device go. `origin` is the service's, such as
/// `https://api.push.apple.com`, or a fake's.
///
/// # Errors
/// A parse error for a token that [`device_token`] has not passed.
pub fn device_url(origin: &str, token: &str) -> Result<Url, url::ParseError> {
    Url::parse(&format!(
        "{}/3/device/{token}",
        origin.trim_end_matches('/')
    ))
}

/// What the requests to one device have in common.
#[derive(Clone, Debug)]
pub struct Prepared {
    place: Place,
    topic: Box<str>,
}

/// A device cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareFault {
    /// Its URL is none of [`device_url`].
    #[error("the URL cannot be written as an HTTP request target")]
    Url,
    /// Its app.
    #[error("an APNs topic is the bundle id of an app")]
    Topic,
}

impl Prepared {
    /// Prepares requests for the app `topic` on the device that `url` stands for.
    ///
    /// # Errors
    /// [`PrepareFault`].
    pub fn new(url: &Url, topic: &str) -> Result<Prepared, PrepareFault> {
        if !is_bundle_id(topic) {
            return Err(PrepareFault::Topic);
        }
        Ok(Prepared {
            place: Place::of(url).ok_or(PrepareFault::Url)?,
            topic: topic.into(),
        })
    }
}

/// The request of one attempt. `bearer` is a token of [`ProviderTokens`], or nothing where a client
/// certificate speaks for us.
///
/// # Errors
/// [`ContentFault`] if the payload cannot go to APNs.
pub fn encode(
    prepared: &Prepared,
    bearer: Option<HeaderValue>,
    told: &Told<'_>,
    now: Time,
) -> Result<Request, ContentFault> {
    let content = compose::compose(told, &prepared.topic)?;
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(HOST, prepared.place.host.clone());
    if let Some(bearer) = bearer {
        headers.insert(AUTHORIZATION, bearer);
    }
    let mut buffer = Uuid::encode_buffer();
    headers.insert(ID, passing(told.id.hyphenated().encode_lower(&mut buffer)));
    headers.insert(
        PUSH_TYPE,
        HeaderValue::from_static(content.push_type.name()),
    );
    headers.insert(TOPIC, lasting(&content.app));
    headers.insert(PRIORITY, HeaderValue::from(u16::from(content.priority)));
    headers.insert(
        EXPIRATION,
        passing(&expiration(told.expires_at, now).to_string()),
    );
    headers.insert(COLLAPSE_ID, passing(&content.collapse_id));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.body.len()));
    let mut request = Request::new(Full::new(Bytes::from(content.body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = prepared.place.uri.clone();
    *request.headers_mut() = headers;
    Ok(request)
}

/// What becomes of an attempt whose payload cannot go to APNs.
#[must_use]
pub fn unfit(fault: &ContentFault) -> Attempted {
    unsendable(OutcomeKind::Reject, fault.cause(), &fault.to_string())
}

/// When APNs may forget it, in seconds since 1970: never 0, which would mean "try once and keep
/// nothing".
fn expiration(expires_at: Time, now: Time) -> i64 {
    let latest = now.plus(STORED_MS_MAX);
    expires_at.min(latest).0.div_euclid(SECOND_MS).max(1)
}

/// A value that comes again on the next request.
fn lasting(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("checked to be visible ASCII")
}

/// A value that does not: keeping it in the connection's table would push out what does.
fn passing(text: &str) -> HeaderValue {
    let mut value = lasting(text);
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests;
