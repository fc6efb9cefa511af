//! How the answers of every provider are read: what kept one from coming, what is kept of one, and
//! where one is addressed to.
//!
//! Absent here: what an answer means. Each channel has a table for that.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::{self, Reject, Retry, Unknown};
use postrider_core::outcome::{EVIDENCE_BYTES_MAX, Outcome};
use url::Url;

use super::{Attempted, Fault, Progress, Response, Trouble};

/// Bytes of a provider's own name for what it accepted that are kept.
pub const PROVIDER_ID_BYTES_MAX: usize = 255;

/// One line of the troubles' table.
struct Mishap {
    fault: Fault,
    /// What it means while no byte of the request had been written.
    unsent: (OutcomeKind, Cause),
    /// The cause once one had: then the kind is always Unknown.
    begun: Cause,
}

/// [`Fault::Unprocessed`] is not here: it is no attempt at all, and never Unknown.
#[rustfmt::skip]
const TROUBLES: [Mishap; 9] = [
    mishap(Fault::Forbidden, Reject, Cause::ForbiddenAddress, Cause::ConnectionLost),
    mishap(Fault::NameUnresolved, Retry, Cause::DnsFailure, Cause::ConnectionLost),
    mishap(Fault::ConnectRefused, Retry, Cause::ConnectRefused, Cause::ConnectionLost),
    mishap(Fault::ConnectTimeout, Retry, Cause::ConnectTimeout, Cause::ResponseTimeout),
    mishap(Fault::ConnectFailed, Retry, Cause::ConnectFailed, Cause::ConnectionLost),
    mishap(Fault::Tls, Retry, Cause::TlsFailure, Cause::ConnectionLost),
    mishap(Fault::Lost, Retry, Cause::ConnectFailed, Cause::ConnectionLost),
    mishap(Fault::ResponseTimeout, Retry, Cause::ConnectTimeout, Cause::ResponseTimeout),
    mishap(Fault::ResponseInvalid, Retry, Cause::ConnectFailed, Cause::ResponseInvalid),
];

const fn mishap(fault: Fault, kind: OutcomeKind, cause: Cause, begun: Cause) -> Mishap {
    Mishap {
        fault,
        unsent: (kind, cause),
        begun,
    }
}

/// What trouble means on every channel; `Err` if it was no attempt.
pub(super) fn troubled(trouble: Trouble) -> Result<Outcome, Cause> {
    let unsent = trouble.progress == Progress::Unsent;
    let line = TROUBLES.iter().find(|line| line.fault == trouble.fault);
    let Some(line) = line else {
        return Err(Cause::Unprocessed);
    };
    let (kind, cause) = if unsent {
        line.unsent
    } else {
        (Unknown, line.begun)
    };
    let mut detail = trouble.detail.into_string().into_bytes();
    detail.truncate(EVIDENCE_BYTES_MAX);
    Ok(Outcome {
        unsent,
        evidence: detail.into(),
        ..Outcome::bare(kind, cause)
    })
}

/// An attempt that came to this after `latency_ms`.
pub(super) fn attempted(outcome: Result<Outcome, Cause>, latency_ms: u32) -> Attempted {
    match outcome {
        Ok(outcome) => Attempted::Answered(Outcome {
            latency_ms,
            ..outcome
        }),
        Err(cause) => Attempted::NotSent(cause),
    }
}

/// What becomes of an attempt that is not made because it cannot be; `detail` says why.
pub(crate) fn unsendable(kind: OutcomeKind, cause: Cause, detail: &str) -> Attempted {
    Attempted::Answered(Outcome {
        unsent: true,
        evidence: detail.as_bytes().into(),
        ..Outcome::bare(kind, cause)
    })
}

/// The name that a provider gave to what it accepted, from the first of these headers that is
/// there; empty if none is.
pub(super) fn provider_id(headers: &HeaderMap, names: &[HeaderName]) -> Box<str> {
    let found = names
        .iter()
        .find_map(|name| headers.get(name)?.to_str().ok());
    let id = found.unwrap_or_default();
    // Header values that are text are ASCII, so every index is a boundary.
    id.get(..PROVIDER_ID_BYTES_MAX).unwrap_or(id).into()
}

/// Head and body as a person would read them on the wire, cut at [`EVIDENCE_BYTES_MAX`].
pub(super) fn evidence(response: &Response) -> Box<[u8]> {
    let mut text = format!("HTTP {}\r\n", response.http_status).into_bytes();
    for (name, value) in &response.headers {
        // Cookies are a receiver's secrets, and tell nothing about why it refused.
        if name != SET_COOKIE {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&response.body);
    text.truncate(EVIDENCE_BYTES_MAX);
    text.into()
}

/// A URL in the two parts that a request has of it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// In origin form: path and query.
    pub uri: Uri,
    /// The `Host` header.
    pub host: HeaderValue,
}

impl Place {
    /// `None` for a URL without a host, or with a path that HTTP cannot carry.
    pub fn of(url: &Url) -> Option<Place> {
        let path = url.path();
        let target = match url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        Some(Place {
            uri: Uri::try_from(target).ok()?,
            host: HeaderValue::try_from(authority(url)?).ok()?,
        })
    }
}

/// Host, and port where it is not the scheme's own, as a `Host` header has them (RFC 9110 section
/// 7.2).
pub(super) fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}
