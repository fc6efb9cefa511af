//! A notification's way through the fake push service: as a sender gives it, as a user agent gets
//! it, and what became of it.
//!
//! Absent here: keeping any of this; see [`super::Subscriptions`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::Serialize;

use super::{ID_LENGTH_MAX, SUBSCRIPTIONS_MAX};

/// A notification as a user agent gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The channel of its subscription.
    pub channel: Box<str>,
    /// Names it for the acknowledgement; unique in this service.
    pub version: Box<str>,
    /// The time to live that was granted.
    pub ttl_s: u64,
    /// `Content-Encoding`; empty if there is no body.
    pub encoding: Box<str>,
    /// The encrypted body, whole.
    pub body: Bytes,
}

/// A notification as a sender gives it.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// The time to live that is asked for.
    pub ttl_s: u64,
    /// `Topic`: what it replaces.
    pub replace: Option<Box<str>>,
    /// `Urgency`, or empty.
    pub urgency: Box<str>,
    /// `Content-Encoding`, or empty.
    pub encoding: Box<str>,
    /// The body.
    pub body: Bytes,
}

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The part of the `Location` that names it.
    pub version: Box<str>,
    /// The time to live that was granted.
    pub ttl_s: u64,
}

/// How far one notification came; what an assertion looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// Its name.
    pub version: Box<str>,
    /// Token of its subscription: the last part of the endpoint's path.
    pub token: Box<str>,
    /// `Topic`, if it had one.
    #[serde(rename = "topic")]
    pub replace: Option<Box<str>>,
    /// `Urgency`, or empty.
    pub urgency: Box<str>,
    /// The time to live that was granted.
    pub ttl_s: u64,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// How often it was handed to the user agent.
    pub sent: u32,
    /// What became of it.
    pub end: End,
    /// Code of the acknowledgement; 0 if there was none.
    pub code: u16,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It still waits for its user agent, or for its acknowledgement.
    Waiting,
    /// The user agent acknowledged it.
    Acknowledged,
    /// A newer one with the same `Topic` took its place.
    Replaced,
    /// Its time to live passed; with 0, the user agent was not there.
    Expired,
    /// The sender withdrew it.
    Withdrawn,
    /// Its subscription ended.
    Ended,
}

/// Why a subscription cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It never was.
    Unknown,
    /// It was, and is no more.
    Gone,
}

/// Why something cannot be done for a user agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An id is empty, too long, or holds what a URL or JSON would have to escape.
    #[error("{0:?} is no id: 1 to {ID_LENGTH_MAX} letters, digits and hyphens")]
    Id(String),
    /// The application's key is none.
    #[error("the application's key is not base64url of 65 bytes that begin with 4")]
    Key,
    /// There are too many.
    #[error("{SUBSCRIPTIONS_MAX} subscriptions are kept already")]
    Full,
}

/// An id that needs no escaping in a URL or in JSON.
pub(super) fn checked(id: &str) -> Result<&str, Refused> {
    let fits = (1..=ID_LENGTH_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits {
        Ok(id)
    } else {
        Err(Refused::Id(id.to_owned()))
    }
}

/// A public key as base64url without padding, so that spellings compare equal.
pub(super) fn normal_key(key: &str) -> Result<Box<str>, Refused> {
    let key = key.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD
        .decode(key)
        .or_else(|_| STANDARD_NO_PAD.decode(key));
    match bytes {
        Ok(bytes) if bytes.len() == 65 && bytes[0] == 4 => Ok(URL_SAFE_NO_PAD.encode(bytes).into()),
        _ => Err(Refused::Key),
    }
}
