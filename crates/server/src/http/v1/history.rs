//! What happened to a delivery, as JSON: entry by entry, and attempt by attempt.
//!
//! Absent here: reading it. Entries come from the store in the order of the journal.

use postrider_core::ledger::{Entry, Fact, Next};
use postrider_core::outcome::Outcome;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::words::moment;

/// One entry of the journal.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(super) struct EntryView {
    /// Its place in the journal.
    seq: u64,
    /// The delivery's version that it made, from 1 and without gaps.
    version: u32,
    at: String,
    /// `admitted`, `opened`, `answered`, `not_sent`, `closed` or `confirmed`.
    fact: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// The policy it ran under.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<u32>,
    /// Where the delivery went, if the entry settled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    answer: Option<AnswerView>,
}

/// What an attempt came to.
#[derive(Serialize, ToSchema)]
#[schema(as = Answer)]
pub(super) struct AnswerView {
    /// `accept`, `retry`, `throttle`, `reject`, `gone` or `unknown`.
    outcome: &'static str,
    /// Absent if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    latency_ms: u32,
    /// The receiver may have processed it although it did not accept it.
    may_have_acted: bool,
    /// No byte of the request was written.
    unsent: bool,
    /// The waiting time that the receiver named.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<i64>,
    /// The receiver's own id of what it accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<String>,
    /// The answer as it came, for roles that may see it. Bytes that are no text are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
}

/// One try, from its opening to what it came to.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(super) struct AttemptView {
    /// Number of the attempt, from 1.
    attempt: u32,
    opened_at: String,
    policy_version: u32,
    /// Absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// It ended before a byte was written, and does not count.
    not_sent: bool,
    /// When the next one is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_due_at: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    answer: Option<AnswerView>,
}

/// The journal's entry, with the receiver's words if `evidence` may be seen.
pub(super) fn entry(entry: &Entry, evidence: Evidence) -> EntryView {
    let view = EntryView {
        seq: entry.seq.0,
        version: entry.version + 1,
        at: moment(entry.at),
        ..EntryView::default()
    };
    match &entry.fact {
        Fact::Admitted(admitted) => EntryView {
            fact: "admitted",
            policy_version: Some(admitted.policy.0),
            due_at: Some(moment(admitted.due_at)),
            ..view
        },
        Fact::Opened { attempt, policy } => EntryView {
            fact: "opened",
            attempt: Some(*attempt),
            policy_version: Some(policy.0),
            ..view
        },
        Fact::Answered {
            attempt,
            outcome,
            next,
        } => {
            let (state, cause, due_at) = match next {
                Next::Again { due_at } => (None, outcome.cause, Some(moment(*due_at))),
                Next::Settle { state, cause } => (Some(state.name()), *cause, None),
            };
            EntryView {
                fact: "answered",
                attempt: Some(*attempt),
                state,
                cause: Some(cause.code()),
                due_at,
                answer: Some(answer(outcome, evidence)),
                ..view
            }
        }
        Fact::NotSent {
            attempt,
            cause,
            due_at,
        } => EntryView {
            fact: "not_sent",
            attempt: Some(*attempt),
            cause: Some(cause.code()),
            due_at: Some(moment(*due_at)),
            ..view
        },
        Fact::Closed { state, cause } => EntryView {
            fact: "closed",
            state: Some(state.name()),
            cause: Some(cause.code()),
            ..view
        },
        Fact::Confirmed { .. } => EntryView {
            fact: "confirmed",
            ..view
        },
    }
}

/// Whether the receiver's words may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Shown,
    Hidden,
}

/// The attempts that `entries` tell of, oldest first.
pub(super) fn attempts(entries: &[Entry], evidence: Evidence) -> Vec<AttemptView> {
    let mut attempts: Vec<AttemptView> = Vec::new();
    for entry in entries {
        match (&entry.fact, attempts.last_mut()) {
            (Fact::Opened { attempt, policy }, _) => attempts.push(AttemptView {
                attempt: *attempt,
                opened_at: moment(entry.at),
                policy_version: policy.0,
                ended_at: None,
                cause: None,
                not_sent: false,
                next_due_at: None,
                answer: None,
            }),
            (Fact::Answered { outcome, next, .. }, Some(open)) => {
                open.ended_at = Some(moment(entry.at));
                open.cause = Some(outcome.cause.code());
                open.answer = Some(answer(outcome, evidence));
                if let Next::Again { due_at } = next {
                    open.next_due_at = Some(moment(*due_at));
                }
            }
            (Fact::NotSent { cause, due_at, .. }, Some(open)) => {
                open.ended_at = Some(moment(entry.at));
                open.cause = Some(cause.code());
                open.not_sent = true;
                open.next_due_at = Some(moment(*due_at));
            }
            _ => {}
        }
    }
    attempts
}

fn answer(outcome: &Outcome, evidence: Evidence) -> AnswerView {
    let shown = evidence == Evidence::Shown && !outcome.evidence.is_empty();
    AnswerView {
        outcome: outcome.kind.name(),
        http_status: Some(outcome.http_status).filter(|&http_status| http_status != 0),
        latency_ms: outcome.latency_ms,
        may_have_acted: outcome.may_have_acted,
        unsent: outcome.unsent,
        retry_after_ms: outcome.retry_after_ms,
        provider_id: Some(outcome.provider_id.to_string()).filter(|id| !id.is_empty()),
        evidence: shown.then(|| String::from_utf8_lossy(&outcome.evidence).into_owned()),
    }
}
