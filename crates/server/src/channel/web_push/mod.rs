//! The Web Push channel: an event as an encrypted push to a browser's push service (RFC 8030,
//! 8291, 8292), in the one form that all services accept.
//!
//! ```text
//! event ─compose─► plaintext ─encrypt─► body ─┐
//! credentials ─vapid─► token ─────────────────┴► Request ─► Answer ─► reaction table
//! ```
//!
//! | header | |
//! | --- | --- |
//! | `TTL` | seconds until the delivery lapses, 1 to 2,419,200 |
//! | `Urgency` | `very-low`, `low`, `normal` or `high` |
//! | `Topic` | the replace key, always 32 characters: Apple decodes it, other lengths may fail |
//! | `Content-Encoding`, `Content-Type` | `aes128gcm`, `application/octet-stream` |
//! | `Authorization` | `vapid t=…, k=…`, signed with the key that the subscription was made with |
//! | `X-WNS-Cache-Policy` | `cache`, towards WNS |
//!
//! Absent here: sockets, and which credentials go with which endpoint.

mod answers;
mod compose;
pub mod encrypt;
pub mod register;
pub mod vapid;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method};
use http_body_util::Full;
use postrider_core::cause::Cause;
use postrider_core::time::{SECOND_MS, Time};
use url::Url;

pub use compose::compose;

use super::reaction::{Reaction, Reactions};
use super::reading::Place;
use super::{Answer, Attempted, Request, Told};
use crate::registry::WebPushKeys;
use encrypt::{Ephemeral, NoKeyPair, PLAINTEXT_BYTES_MAX, Receiver, SALT_BYTES, encrypt};
use register::{SubscriptionFault, read_keys};
use vapid::Credentials;

/// The reaction table that is built in.
pub const REACTIONS: &str = include_str!("../reactions/web_push.toml");
/// Longest time to live that every service takes: 28 days.
pub const TTL_S_MAX: i64 = 2_419_200;
/// Longest plaintext that reaches every device: Firefox for Android gets its pushes over a bridge
/// that writes them in base64 (autopush, "Error codes").
pub const BRIDGED_BYTES_MAX: usize = 2_744;
/// Lengths that plaintexts are padded to.
pub const BUCKETS: [usize; 6] = [
    128,
    512,
    1_024,
    2_048,
    BRIDGED_BYTES_MAX,
    PLAINTEXT_BYTES_MAX,
];

/// The service whose quirks need a header of their own.
const WNS: &str = "wns";

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");
const WNS_CACHE_POLICY: HeaderName = HeaderName::from_static("x-wns-cache-policy");

/// What hides the length of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Nothing does.
    #[default]
    None,
    /// Zeros up to the next of [`BUCKETS`].
    Buckets,
}

/// What must be new for every attempt.
#[derive(Debug)]
pub struct Fresh {
    /// The key pair that the content key is agreed with.
    pub key: Ephemeral,
    /// The salt.
    pub salt: [u8; SALT_BYTES],
}

impl Fresh {
    /// From the system's cryptographic source.
    ///
    /// # Errors
    /// [`NoKeyPair`] if it has nothing to give.
    pub fn draw() -> Result<Fresh, NoKeyPair> {
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| NoKeyPair)?;
        let key = Ephemeral::generate()?;
        Ok(Fresh { key, salt })
    }
}

/// What the requests to one subscription have in common.
#[derive(Debug)]
pub struct Prepared {
    place: Place,
    origin: Arc<str>,
    service: Box<str>,
    receiver: Receiver,
    credentials: Arc<Credentials>,
    key_place: usize,
}

/// Why a subscription cannot be sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareFault {
    /// Its URL has a path that HTTP cannot carry.
    #[error("the URL cannot be written as an HTTP request target")]
    Url,
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(#[from] SubscriptionFault),
    /// It was made with a key that the route does not have: the client has to subscribe again.
    #[error("the subscription was made with a key that its route does not have")]
    KeyMismatch,
}

impl PrepareFault {
    /// The cause that deliveries are refused for.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            PrepareFault::KeyMismatch => Cause::KeyMismatch,
            PrepareFault::Url | PrepareFault::Keys(_) => Cause::ContentInvalid,
        }
    }
}

impl Prepared {
    /// Checks and prepares everything about a subscription that its requests share.
    ///
    /// # Errors
    /// [`PrepareFault`].
    pub fn new(
        url: &Url,
        keys: &WebPushKeys,
        credentials: &Arc<Credentials>,
        reactions: &Reactions,
    ) -> Result<Prepared, PrepareFault> {
        let host = url.host_str().unwrap_or_default();
        let receiver = read_keys(&keys.p256dh, &keys.auth)?;
        let place = credentials.place_of(&keys.vapid_key);
        Ok(Prepared {
            place: Place::of(url).ok_or(PrepareFault::Url)?,
            origin: vapid::origin(url),
            service: reactions.service(host).into(),
            receiver,
            key_place: place.ok_or(PrepareFault::KeyMismatch)?,
            credentials: Arc::clone(credentials),
        })
    }
}

/// A request, and how much of what fits it uses.
#[derive(Debug)]
pub struct Written {
    /// The request.
    pub request: Request,
    /// Bytes that were encrypted, without padding. More than [`BRIDGED_BYTES_MAX`] do not reach
    /// every device.
    pub plaintext_bytes: usize,
}

/// The request of one attempt.
///
/// # Errors
/// [`Cause::ContentTooLarge`] if the plaintext has more than [`PLAINTEXT_BYTES_MAX`] bytes.
pub fn encode(
    prepared: &Prepared,
    told: &Told<'_>,
    padding: Padding,
    fresh: &Fresh,
    now: Time,
) -> Result<Written, Cause> {
    let plaintext = compose(told);
    let padded = padding.of(plaintext.len());
    let body = encrypt(
        &prepared.receiver,
        &fresh.key,
        &fresh.salt,
        &plaintext,
        padded,
    )
    .map_err(|_| Cause::ContentTooLarge)?;
    let mut request = Request::new(Full::new(Bytes::clone(&body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = prepared.place.uri.clone();
    let authorization =
        prepared
            .credentials
            .authorization(prepared.key_place, &prepared.origin, now);
    let replace_key = HeaderValue::try_from(&*told.replace_key);
    let headers = request.headers_mut();
    headers.insert(HOST, prepared.place.host.clone());
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(CONTENT_LENGTH, body.len().into());
    headers.insert(TTL, ttl_s(told, now).into());
    headers.insert(URGENCY, HeaderValue::from_static(told.urgency.name()));
    headers.insert(TOPIC, replace_key.map_err(|_| Cause::ContentInvalid)?);
    if &*prepared.service == WNS {
        headers.insert(WNS_CACHE_POLICY, HeaderValue::from_static("cache"));
    }
    Ok(Written {
        request,
        plaintext_bytes: plaintext.len(),
    })
}

/// A delivery that has less than a second left still has time to arrive, and 0 would mean "now or
/// never" (RFC 8030 section 5.2), which WNS does not know.
fn ttl_s(told: &Told<'_>, now: Time) -> i64 {
    let left_ms = told.expires_at.since(now);
    left_ms.div_euclid(SECOND_MS).clamp(1, TTL_S_MAX)
}

impl Padding {
    fn of(self, plaintext_bytes: usize) -> usize {
        let mut buckets = BUCKETS.into_iter();
        match self {
            Padding::None => 0,
            Padding::Buckets => buckets.find(|&size| size >= plaintext_bytes).unwrap_or(0),
        }
    }
}

/// What an answer that came at `now` means, and the row of the table that says so; `None` where
/// there was no answer.
pub fn classify(
    reactions: &Reactions,
    prepared: &Prepared,
    answer: Answer,
    now: Time,
) -> (Attempted, Option<Reaction>) {
    answers::classify(reactions, &prepared.service, answer, now)
}
