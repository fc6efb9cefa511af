//! What Apple's answers mean: reading them, and the table they are looked up in.
//!
//! Absent here: what follows from an outcome, and the connection that a reaction may be about.

use http::{HeaderName, HeaderValue};
use postrider_core::cause::Cause;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;
use serde::Deserialize;

use super::token::ProviderTokens;
use crate::channel::reaction::{Action, Reaction, Reactions, Said};
use crate::channel::reading::{attempted, evidence, provider_id, troubled};
use crate::channel::{Answer, Attempted, Fault, Response, Trouble, retry_after_ms};

/// Apple's own ids of what it took over; the first is given in the sandbox only, where it leads to
/// the delivery log of the Push Notifications Console.
const ID_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("apns-unique-id"),
    HeaderName::from_static("apns-id"),
];
/// Bytes of a reason that are looked at.
const REASON_BYTES_MAX: usize = 128;
/// What is added to a reason that comes again after the provider token was changed because of it.
const AGAIN: &str = " again";
/// What Apple calls a certificate that it does not take, where it says so in words.
const BAD_CERTIFICATE: &str = "BadCertificate";

/// What an answer means, and what else is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the attempt came to.
    pub attempted: Attempted,
    /// What the table says, if there was an answer, or a GOAWAY that says why.
    pub reaction: Option<Reaction>,
}

impl Verdict {
    /// Whether the connection that it came on must not be used again.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        let action = self.reaction.map(|reaction| reaction.action);
        matches!(action, Some(Action::Reconnect | Action::Remint))
    }
}

/// What Apple says in the body of a refusal, or with a GOAWAY.
#[derive(Deserialize)]
struct Words {
    #[serde(default)]
    reason: String,
    /// When it last saw that a token is of no use, in milliseconds since 1970.
    timestamp: Option<i64>,
}

impl Words {
    fn read(bytes: &[u8]) -> Words {
        let none = || Words {
            reason: String::new(),
            timestamp: None,
        };
        let mut words: Words = serde_json::from_slice(bytes).unwrap_or_else(|_| none());
        if words.reason.len() > REASON_BYTES_MAX {
            words.reason.clear();
        }
        words
    }
}

/// What an answer that came at `now` means. `tokens` and `presented` are what the request was
/// authorised with, unless a certificate spoke for us: the answer may be about the token, and then
/// another one is presented from now on.
pub fn classify(
    reactions: &Reactions,
    answer: Answer,
    tokens: Option<(&ProviderTokens, &HeaderValue)>,
    now: Time,
) -> Verdict {
    let latency_ms = answer.total_ms;
    let (outcome, reaction) = match answer.said {
        Ok(response) => {
            let (outcome, reaction) = answered(reactions, &response, tokens, now);
            (Ok(outcome), Some(reaction))
        }
        Err(trouble) => unanswered(reactions, trouble),
    };
    Verdict {
        attempted: attempted(outcome, latency_ms),
        reaction,
    }
}

fn answered(
    reactions: &Reactions,
    response: &Response,
    tokens: Option<(&ProviderTokens, &HeaderValue)>,
    now: Time,
) -> (Outcome, Reaction) {
    let http_status = response.http_status;
    if (200..300).contains(&http_status) {
        let said = Said {
            http_status,
            ..Said::default()
        };
        let reaction = reactions.react(&said);
        let outcome = Outcome {
            http_status,
            provider_id: provider_id(&response.headers, &ID_HEADERS),
            ..Outcome::bare(reaction.kind, reaction.cause)
        };
        return (outcome, reaction);
    }
    let words = Words::read(&response.body);
    let reaction = react(reactions, http_status, &words.reason, tokens, now);
    let repeats = matches!(reaction.kind, OutcomeKind::Retry | OutcomeKind::Throttle);
    let named_ms = retry_after_ms(&response.headers, now).filter(|_| repeats);
    let outcome = Outcome {
        may_have_acted: reaction.may_have_acted,
        http_status,
        retry_after_ms: named_ms,
        wait_min_ms: reaction.wait_min_ms.unwrap_or(0),
        gone_since: match reaction.kind {
            OutcomeKind::Gone => words.timestamp.map(Time),
            _ => None,
        },
        evidence: evidence(response),
        ..Outcome::bare(reaction.kind, reaction.cause)
    };
    (outcome, reaction)
}

/// Looks an answer up. One that is about the token changes the token, and is looked up a second
/// time as coming again if no change is left that could help.
fn react(
    reactions: &Reactions,
    http_status: u16,
    reason: &str,
    tokens: Option<(&ProviderTokens, &HeaderValue)>,
    now: Time,
) -> Reaction {
    let look = |reason: &str| {
        reactions.react(&Said {
            http_status,
            reason,
            ..Said::default()
        })
    };
    let reaction = look(reason);
    let changed = match (reaction.action, tokens) {
        (Action::Remint, Some((tokens, presented))) => tokens.expired(presented, now),
        (Action::Reuse, Some((tokens, presented))) => tokens.renewed_too_often(presented, now),
        // With a certificate there is no token that could be changed.
        (Action::Remint | Action::Reuse, None) => false,
        _ => true,
    };
    match changed {
        true => reaction,
        false => look(&format!("{reason}{AGAIN}")),
    }
}

/// Without an answer. A GOAWAY may say why, and some faults of credentials are said nowhere else.
fn unanswered(
    reactions: &Reactions,
    trouble: Trouble,
) -> (Result<Outcome, Cause>, Option<Reaction>) {
    if let Some(reason) = said_otherwise(&trouble) {
        let reaction = reactions.react(&Said {
            reason: &reason,
            ..Said::default()
        });
        if reaction.kind == OutcomeKind::Blocked {
            let outcome = Outcome {
                evidence: trouble.detail.into_string().into_bytes().into(),
                ..Outcome::bare(reaction.kind, reaction.cause)
            };
            return (Ok(outcome), Some(reaction));
        }
    }
    (troubled(trouble), None)
}

/// The reason that came with a GOAWAY, or that a TLS alert amounts to.
fn said_otherwise(trouble: &Trouble) -> Option<String> {
    match trouble.fault {
        Fault::Unprocessed => {
            let rest = trouble.detail.strip_prefix(Trouble::GOAWAY)?;
            let data = rest.split_once(": ").map(|(_, data)| data)?;
            Some(Words::read(data.as_bytes()).reason)
        }
        Fault::Tls if trouble.detail.starts_with(Trouble::CERTIFICATE) => {
            Some(BAD_CERTIFICATE.to_owned())
        }
        _ => None,
    }
}
