//! The webhook channel: an event's payload, as it is, POSTed with a signature.
//!
//! The body is exactly the payload; nothing is wrapped around it. What the receiver needs besides
//! is in headers:
//!
//! | header | |
//! | --- | --- |
//! | `X-Postrider-Signature` | `t=<unix>,v1=<hex>` |
//! | `webhook-id`, `webhook-timestamp`, `webhook-signature` | Standard Webhooks |
//! | `Idempotency-Key`, `X-Webhook-Idempotency-Key` | the same as `webhook-id` |
//! | `X-Postrider-Correlation-Id` | the delivery's correlation id |
//! | `X-Postrider-Attempt` | number of the attempt, from 1 |
//! | `X-Event-Type` | percent-encoded where it is not visible ASCII |
//! | `X-Event-Sequence-ID` | of ordered ones: its place in the order, from 1 |
//! | `X-Event-Previous-Sequence-ID` | the place of the last one handed over before, or 0 |
//! | `X-Event-Ordering-Key` | the caller's key, percent-encoded |
//! | `traceparent` | a child of the event's, or a trace named after the correlation id |
//!
//! `webhook-id` and what equals it is the correlation id: the same on each attempt, while a
//! signature's time is that of its attempt. Both signatures are HMAC-SHA256, one for each secret
//! that is valid at the time: over `<t>.<body>` under the characters of the whole secret, and over
//! `<id>.<timestamp>.<body>` under the bytes that the secret stands for.
//!
//! Absent here: sockets, retries, and knowledge of any particular receiver.

mod answers;
mod encode;
mod headers;
mod secret;
mod trace;

pub use headers::{HEADER_BYTES_MAX, HEADERS_MAX, HeaderFault, check_headers};
pub use secret::{SECRET_BYTES, SECRET_PREFIX, SecretFault, generate_secret, parse_secret};
pub use trace::{Trace, trace};

use http::{HeaderName, HeaderValue, Uri};
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::time::Time;

use crate::channel::reading::Place;
use crate::channel::{Answer, Attempted, Channel, Request};
use crate::registry::Endpoint;

/// The webhook channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Webhook;

impl Channel for Webhook {
    type Prepared = Prepared;

    fn encode(
        &self,
        prepared: &Prepared,
        event: &Event,
        dispatch: &Dispatch,
        now: Time,
    ) -> Request {
        encode::encode(prepared, event, dispatch, now)
    }

    fn classify(&self, answer: Answer, now: Time) -> Attempted {
        answers::classify(answer, now)
    }
}

/// What the requests to one endpoint have in common, made once for each of its revisions.
#[derive(Debug)]
pub struct Prepared {
    uri: Uri,
    fixed: Box<[(HeaderName, HeaderValue)]>,
    keys: Vec<secret::SigningKey>,
}

/// Why an endpoint cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum PrepareFault {
    /// Its URL has no host, or a path that HTTP cannot carry.
    #[error("the URL cannot be written as an HTTP request target")]
    Url,
    /// One of its headers.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// One of its secrets.
    #[error(transparent)]
    Secret(#[from] SecretFault),
}

impl Prepared {
    /// Checks and prepares everything about `endpoint` that its requests share.
    ///
    /// # Errors
    /// [`PrepareFault`], for what should have been refused when the endpoint was written.
    pub fn new(endpoint: &Endpoint) -> Result<Prepared, PrepareFault> {
        let place = Place::of(&endpoint.url).ok_or(PrepareFault::Url)?;
        let keys = endpoint.secrets.iter().map(secret::SigningKey::new);
        Ok(Prepared {
            uri: place.uri,
            fixed: headers::fixed(place.host, &endpoint.headers)?,
            keys: keys.collect::<Result<_, _>>()?,
        })
    }
}
