//! What push services' answers mean: reading them, and the table they are looked up in.
//!
//! Absent here: the meanings themselves, which are in `reactions/web_push.toml`, and what follows
//! from an outcome.

use http::{HeaderMap, HeaderName, header};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;
use serde::Deserialize;
use serde_json::Value;

use crate::channel::reaction::{Reaction, Reactions, Said};
use crate::channel::reading::{attempted, evidence, provider_id, troubled};
use crate::channel::{Answer, Attempted, Response, retry_after_ms};

/// Headers in which services name what they took over, the preferred one first. `Location` names
/// it for withdrawing (RFC 8030 section 5).
const ID_HEADERS: [HeaderName; 5] = [
    HeaderName::from_static("x-push-message-id"),
    HeaderName::from_static("x-message-id"),
    HeaderName::from_static("apns-id"),
    HeaderName::from_static("x-wns-msg-id"),
    header::LOCATION,
];
/// Headers in which WNS says what it made of a push, whatever the HTTP status.
const WNS_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("x-wns-status"),
    HeaderName::from_static("x-wns-notificationstatus"),
];
/// What they say when all is well.
const WNS_FINE: &str = "received";
/// The time to live that was granted (RFC 8030 section 5.2).
const TTL: HeaderName = HeaderName::from_static("ttl");
/// Bytes of a reason that are looked at.
const REASON_BYTES_MAX: usize = 128;

/// What Apple and autopush say in the body of a refusal.
#[derive(Default, Deserialize)]
struct Words {
    #[serde(default)]
    reason: Value,
    #[serde(default)]
    errno: Value,
}

/// What an answer of this service that came at `now` means, and the row of the table that says so;
/// `None` where there was no answer.
pub(super) fn classify(
    reactions: &Reactions,
    service: &str,
    answer: Answer,
    now: Time,
) -> (Attempted, Option<Reaction>) {
    let latency_ms = answer.total_ms;
    let (outcome, reaction) = match answer.said {
        Ok(response) => {
            let (outcome, reaction) = answered(reactions, service, &response, now);
            (Ok(outcome), Some(reaction))
        }
        Err(trouble) => (troubled(trouble), None),
    };
    (attempted(outcome, latency_ms), reaction)
}

fn answered(
    reactions: &Reactions,
    service: &str,
    response: &Response,
    now: Time,
) -> (Outcome, Reaction) {
    let http_status = response.http_status;
    let reason = reason(response);
    let reaction = reactions.react(&Said {
        service,
        http_status,
        reason: &reason,
        body: &response.body,
    });
    let waits = matches!(
        reaction.kind,
        OutcomeKind::Retry | OutcomeKind::Throttle | OutcomeKind::Blocked
    );
    let is_accepted = reaction.kind == OutcomeKind::Accept;
    let named_ms = retry_after_ms(&response.headers, now).filter(|_| waits);
    let outcome = Outcome {
        may_have_acted: reaction.may_have_acted,
        http_status,
        retry_after_ms: named_ms,
        // A service that names a time knows better than a table.
        wait_min_ms: match named_ms {
            Some(_) => 0,
            None => reaction.wait_min_ms.unwrap_or(0),
        },
        provider_id: match is_accepted {
            true => provider_id(&response.headers, &ID_HEADERS),
            false => "".into(),
        },
        evidence: match is_accepted && reason.is_empty() {
            true => granted(&response.headers),
            false => evidence(response),
        },
        ..Outcome::bare(reaction.kind, reaction.cause)
    };
    (outcome, reaction)
}

/// The service's own code: WNS has it in headers, Apple and autopush in a JSON body.
fn reason(response: &Response) -> String {
    for name in WNS_HEADERS {
        match text(&response.headers, &name) {
            Some(said) if !said.eq_ignore_ascii_case(WNS_FINE) => {
                let said = said.get(..REASON_BYTES_MAX).unwrap_or(said);
                return said.to_ascii_lowercase();
            }
            _ => {}
        }
    }
    if (200..300).contains(&response.http_status) {
        return String::new();
    }
    let words: Words = serde_json::from_slice(&response.body).unwrap_or_default();
    match (words.reason, words.errno) {
        (Value::String(reason), _) if reason.len() <= REASON_BYTES_MAX => reason,
        (_, Value::Number(errno)) => errno.to_string(),
        _ => String::new(),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Of an acceptance nothing is kept but the time to live that was granted.
fn granted(headers: &HeaderMap) -> Box<[u8]> {
    match text(headers, &TTL).and_then(|ttl| ttl.parse::<u32>().ok()) {
        Some(ttl_s) => format!("TTL: {ttl_s}\r\n").into_bytes().into(),
        None => [].into(),
    }
}
