//! Channels: how a dispatch becomes a request, and what an answer means. Pure: time and entropy are
//! arguments.
//!
//! ```text
//! Prepared, Event, Dispatch ─encode─► Request ─transport─► Answer ─classify─► Attempted
//! ```
//!
//! Absent here: sockets, and any decision about what happens next. A channel says what an answer
//! means; the core says what follows from it.

pub mod apns;
pub mod credentials;
pub mod fcm;
pub mod reaction;
pub(crate) mod reading;
pub mod redact;
pub mod registration;
mod retry_after;
mod told;
pub mod web_push;
pub mod webhook;

use aws_lc_rs::digest::SHA256;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::id::CorrelationId;
use postrider_core::outcome::Outcome;
use postrider_core::time::Time;

pub use retry_after::{RETRY_AFTER_MAX_MS, retry_after_ms};
pub use told::Told;

/// The key under which a repeat, or a newer one of the same thread, takes the place of what a
/// device shows: 32 characters of base64url, which every provider takes. Of the caller's collapse
/// key where there is one, else of the delivery.
#[must_use]
pub fn replace_key(collapse_key: &str, delivery: CorrelationId) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let digest = match collapse_key {
        "" => aws_lc_rs::digest::digest(&SHA256, &delivery.0.to_be_bytes()),
        key => aws_lc_rs::digest::digest(&SHA256, key.as_bytes()),
    };
    URL_SAFE_NO_PAD.encode(&digest.as_ref()[..REPLACE_KEY_BYTES])
}

/// Bytes of a hash that make 32 characters of base64url.
const REPLACE_KEY_BYTES: usize = 24;

/// A request as a channel writes it. Its URI is in origin form (path and query); where it goes is
/// the transport's to know.
pub type Request = http::Request<Full<Bytes>>;

/// A way out.
pub trait Channel {
    /// What is kept for each endpoint so that encoding does nothing twice.
    type Prepared;

    /// The request of one attempt. Must give the same bytes for the same arguments.
    fn encode(
        &self,
        prepared: &Self::Prepared,
        event: &Event,
        dispatch: &Dispatch,
        now: Time,
    ) -> Request;

    /// What an answer that came at `now` means.
    fn classify(&self, answer: Answer, now: Time) -> Attempted;
}

/// What one attempt came to, in the core's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// It was made, with this outcome.
    Answered(Outcome),
    /// It was not made: the request came back unsent, or provably unprocessed.
    NotSent(Cause),
}

/// What came of one request, before it is classified.
#[derive(Debug)]
pub struct Answer {
    /// The provider's words, or what kept them from coming.
    pub said: Result<Response, Trouble>,
    /// From the start of the attempt to its end.
    pub total_ms: u32,
    /// The share of it that went into a new connection; 0 on a connection that was kept.
    pub connect_ms: u32,
}

/// An answer whose head was read.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status code, 100 to 999.
    pub http_status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, at most [`postrider_core::outcome::EVIDENCE_BYTES_MAX`].
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong.
    pub fault: Fault,
    /// How far the request had come by then.
    pub progress: Progress,
    /// The system's own words, without address, payload or secret; may be empty.
    pub detail: Box<str>,
}

impl Trouble {
    /// How the detail begins where an HTTP/2 connection ended with a GOAWAY: then come the error's
    /// name, a colon and the data that came with it.
    pub const GOAWAY: &str = "GOAWAY";

    /// How the detail begins where the far side does not take our certificate: then come a colon
    /// and its alert (RFC 8446 section 6.2).
    pub const CERTIFICATE: &str = "our certificate was refused";

    /// Trouble of which it is certain that it came before the first byte of the request.
    #[must_use]
    pub fn unsent(fault: Fault, detail: impl Into<Box<str>>) -> Trouble {
        Trouble {
            fault,
            progress: Progress::Unsent,
            detail: detail.into(),
        }
    }

    /// Trouble after which nobody can say what the receiver has seen.
    #[must_use]
    pub fn begun(fault: Fault, detail: impl Into<Box<str>>) -> Trouble {
        Trouble {
            fault,
            progress: Progress::Begun,
            detail: detail.into(),
        }
    }
}

/// How far a request had come when there was trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Provably, no byte of it had been written.
    Unsent,
    /// At least one byte of it had been handed to the connection.
    Begun,
}

/// What can go wrong between us and an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The guard does not let anything go there.
    Forbidden,
    /// The name did not resolve.
    NameUnresolved,
    /// The far side refused the connection.
    ConnectRefused,
    /// The connection was not made within its time limit.
    ConnectTimeout,
    /// The connection could not be made for another reason.
    ConnectFailed,
    /// TLS could not be agreed on.
    Tls,
    /// The connection ended.
    Lost,
    /// The answer did not come within its time limit.
    ResponseTimeout,
    /// What came is not HTTP, or goes over the limits for a head.
    ResponseInvalid,
    /// The far side's protocol says that it did not process the request.
    Unprocessed,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 10] = [
        Fault::Forbidden,
        Fault::NameUnresolved,
        Fault::ConnectRefused,
        Fault::ConnectTimeout,
        Fault::ConnectFailed,
        Fault::Tls,
        Fault::Lost,
        Fault::ResponseTimeout,
        Fault::ResponseInvalid,
        Fault::Unprocessed,
    ];
}
