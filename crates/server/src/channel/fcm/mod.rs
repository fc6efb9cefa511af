//! The FCM channel: an event as a `messages:send` request of the HTTP v1 API, and what Google's
//! answers to it mean.
//!
//! ```text
//! account ─► oauth (assertion ─► token) ─┐
//! event ────► compose (body) ────────────┴► Request ─► Answer ─► error (reason) ─► reaction table
//! ```
//!
//! One request goes to one device: a registration token or a Firebase installation id. A refusal
//! means what `reactions/fcm.toml` says. Where Google names a wait it is kept; nothing is sent
//! again within [`WAIT_MIN_MS`], whatever the policy says (Google, "Handling retries").
//!
//! Absent here: sockets, the queue behind a quota, and which credential goes with which endpoint.

pub mod account;
pub mod compose;
pub mod error;
pub mod oauth;
pub mod quota;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method};
use http_body_util::Full;
use postrider_core::cause::Cause;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::{SECOND_MS, Time};
use serde::Deserialize;
use url::Url;

pub use account::{AccountFault, ServiceAccount};
pub use compose::{Ask, ContentFault, Target};
pub use oauth::{Bearer, TokenFault, Tokens};

use super::reaction::{Reaction, Reactions, Said};
use super::reading::{PROVIDER_ID_BYTES_MAX, Place, attempted, evidence, troubled, unsendable};
use super::{Answer, Attempted, Request, Response, Told, retry_after_ms};

/// Where Google takes requests.
pub const HOST_NAME: &str = "fcm.googleapis.com";
/// Shortest wait before a request is made again (Google, "Handling retries").
pub const WAIT_MIN_MS: i64 = 10 * SECOND_MS;
/// The reaction table that is built in.
pub const REACTIONS: &str = include_str!("../reactions/fcm.toml");

/// What the requests to one device have in common.
#[derive(Clone, Debug)]
pub struct Prepared(Place);

/// A send URL cannot be written as a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL cannot be written as an HTTP request target")]
pub struct UrlFault;

impl Prepared {
    /// Prepares requests to a send URL.
    ///
    /// # Errors
    /// [`UrlFault`].
    pub fn new(url: &Url) -> Result<Prepared, UrlFault> {
        Place::of(url).map(Prepared).ok_or(UrlFault)
    }
}

/// Where requests of a project go.
///
/// # Panics
/// Never for a project that [`ServiceAccount::parse`] has passed.
#[must_use]
pub fn send_url(project: &str) -> Url {
    let url = format!("https://{HOST_NAME}/v1/projects/{project}/messages:send");
    Url::parse(&url).expect("a project's name fits into a path")
}

/// The request of one attempt.
///
/// # Errors
/// [`ContentFault`] if the payload cannot go to FCM.
pub fn encode(
    prepared: &Prepared,
    bearer: &HeaderValue,
    told: &Told<'_>,
    ask: Ask<'_>,
    now: Time,
) -> Result<Request, ContentFault> {
    let body = compose::compose(told, ask, now)?;
    let length = body.len();
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = prepared.0.uri.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, prepared.0.host.clone());
    headers.insert(AUTHORIZATION, bearer.clone());
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    headers.insert(CONTENT_LENGTH, length.into());
    Ok(request)
}

/// What an answer that came at `then` means, and what else is to be done about it; `None` where
/// there was no answer. `again` says of an access token that was not let in whether the one before
/// it fared the same; it is asked only then.
pub fn classify(
    reactions: &Reactions,
    answer: Answer,
    then: Time,
    again: impl FnOnce() -> bool,
) -> (Attempted, Option<Reaction>) {
    let latency_ms = answer.total_ms;
    let response = match answer.said {
        Ok(response) => response,
        Err(trouble) => {
            let outcome = troubled(trouble).map(|outcome| Outcome {
                wait_min_ms: WAIT_MIN_MS,
                ..outcome
            });
            return (attempted(outcome, latency_ms), None);
        }
    };
    let (outcome, reaction) = answered(reactions, &response, then, again);
    (attempted(Ok(outcome), latency_ms), Some(reaction))
}

fn answered(
    reactions: &Reactions,
    response: &Response,
    then: Time,
    again: impl FnOnce() -> bool,
) -> (Outcome, Reaction) {
    let http_status = response.http_status;
    let accepted = (200..300).contains(&http_status);
    let mut reason = match accepted {
        true => "".into(),
        false => error::reason(&response.body),
    };
    if http_status == 401 && reason == error::UNAUTHENTICATED && again() {
        reason = (error::UNAUTHENTICATED.to_owned() + error::AGAIN).into();
    }
    let reaction = reactions.react(&Said {
        http_status,
        reason: &reason,
        body: &response.body,
        ..Said::default()
    });
    let repeats = matches!(reaction.kind, OutcomeKind::Retry | OutcomeKind::Throttle);
    let named_ms = retry_after_ms(&response.headers, then).filter(|_| repeats);
    // What Google names takes the place of the table's wait, but for the least that always holds.
    let wait_min_ms = match named_ms {
        Some(named_ms) => named_ms.max(WAIT_MIN_MS),
        None => reaction.wait_min_ms.unwrap_or(WAIT_MIN_MS).max(WAIT_MIN_MS),
    };
    let outcome = Outcome {
        may_have_acted: reaction.may_have_acted,
        http_status,
        retry_after_ms: named_ms,
        wait_min_ms: if repeats { wait_min_ms } else { 0 },
        provider_id: if accepted {
            provider_id(&response.body)
        } else {
            "".into()
        },
        evidence: if accepted {
            [].into()
        } else {
            evidence(response)
        },
        ..Outcome::bare(reaction.kind, reaction.cause)
    };
    (outcome, reaction)
}

/// What becomes of an attempt that got no access token: nothing of it was sent.
#[must_use]
pub fn untokened(fault: &TokenFault) -> Attempted {
    let words = fault.to_string();
    let (kind, cause, http_status) = match fault {
        TokenFault::Refused { http_status, .. } => {
            (OutcomeKind::Blocked, Cause::AuthFailure, *http_status)
        }
        TokenFault::NotNow { http_status, .. } => {
            (OutcomeKind::Retry, Cause::ServiceDegraded, *http_status)
        }
        TokenFault::Unreached(trouble) => {
            let mut trouble = trouble.clone();
            // Whatever of the request for a token was sent, of this one nothing was.
            trouble.progress = super::Progress::Unsent;
            let outcome = troubled(trouble).map(|outcome| Outcome {
                evidence: words.into_bytes().into(),
                wait_min_ms: WAIT_MIN_MS,
                ..outcome
            });
            return attempted(outcome, 0);
        }
    };
    Attempted::Answered(Outcome {
        unsent: true,
        http_status,
        wait_min_ms: if kind == OutcomeKind::Retry {
            WAIT_MIN_MS
        } else {
            0
        },
        evidence: words.into_bytes().into(),
        ..Outcome::bare(kind, cause)
    })
}

/// What becomes of an attempt whose payload cannot go to FCM.
#[must_use]
pub fn unfit(fault: &ContentFault) -> Attempted {
    unsendable(OutcomeKind::Reject, fault.cause(), &fault.to_string())
}

/// `projects/<project>/messages/<id>`, as FCM names what it took over.
fn provider_id(body: &[u8]) -> Box<str> {
    #[derive(Deserialize)]
    struct Accepted {
        name: String,
    }
    let name = serde_json::from_slice(body).map_or_else(|_| String::new(), |it: Accepted| it.name);
    let fits = name.len() <= PROVIDER_ID_BYTES_MAX && name.is_ascii();
    if fits { name.into() } else { "".into() }
}

#[cfg(test)]
mod tests;
