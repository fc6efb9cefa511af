//! What an attempt came to, after a channel has read the provider's answer.
//!
//! Absent here: HTTP. A channel's table turns an answer into an [`Outcome`]; the core only knows
//! the kinds and what each may lead to.

use crate::cause::Cause;
use crate::time::Time;

/// The kinds of outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OutcomeKind {
    /// The receiver took the notification over.
    Accept = 1,
    /// It did not, and a later attempt may fare better.
    Retry = 2,
    /// It asked for a slower pace.
    Throttle = 3,
    /// It refused for good.
    Reject = 4,
    /// It refused for good because the address no longer exists.
    Gone = 5,
    /// Request bytes were written and nobody can say what came of them.
    Unknown = 6,
    /// It refused our credentials: nothing is wrong with the delivery, no attempt is spent, and
    /// whatever else goes the same route waits.
    Blocked = 7,
}

impl OutcomeKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [OutcomeKind; 7] = [
        OutcomeKind::Accept,
        OutcomeKind::Retry,
        OutcomeKind::Throttle,
        OutcomeKind::Reject,
        OutcomeKind::Gone,
        OutcomeKind::Unknown,
        OutcomeKind::Blocked,
    ];

    /// The word for it in metrics, log lines, the journal's export and the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            OutcomeKind::Accept => "accept",
            OutcomeKind::Retry => "retry",
            OutcomeKind::Throttle => "throttle",
            OutcomeKind::Reject => "reject",
            OutcomeKind::Gone => "gone",
            OutcomeKind::Unknown => "unknown",
            OutcomeKind::Blocked => "blocked",
        }
    }

    /// The kind with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<OutcomeKind> {
        OutcomeKind::ALL
            .get(usize::from(number).checked_sub(1)?)
            .copied()
    }
}

/// Bytes of a kept answer at most: what is shown to a person afterwards.
pub const EVIDENCE_BYTES_MAX: usize = 4_096;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which kind.
    pub kind: OutcomeKind,
    /// Why, from the closed list.
    pub cause: Cause,
    /// The receiver may have processed the request although it did not accept it: set for Unknown,
    /// for 408 and for every 5xx. Only after such an attempt may a receiver see a delivery twice.
    pub may_have_acted: bool,
    /// No byte of the request was written, provably: name resolution, connecting or the handshake
    /// failed. Such an attempt counts, and may be repeated at any guarantee.
    pub unsent: bool,
    /// The answer's HTTP status code, 0 if there was no answer.
    pub http_status: u16,
    /// From the start of the attempt to its end, connecting included.
    pub latency_ms: u32,
    /// The waiting time that the receiver named, if it named one that can be read.
    pub retry_after_ms: Option<i64>,
    /// The shortest wait before another attempt that the provider's rules ask for, 0 for none.
    pub wait_min_ms: i64,
    /// Since when the provider has known that the address is gone, if it says so: an endpoint that
    /// was registered later lives on (APNs, `timestamp` beside 410).
    pub gone_since: Option<Time>,
    /// The provider's own id of what it accepted, or empty.
    pub provider_id: Box<str>,
    /// The answer as it came (head and body), cut at [`EVIDENCE_BYTES_MAX`]; empty when it says
    /// nothing that the other fields do not.
    pub evidence: Box<[u8]>,
}

impl Outcome {
    /// An outcome without an answer: nothing but a kind and a cause.
    #[must_use]
    pub fn bare(kind: OutcomeKind, cause: Cause) -> Outcome {
        Outcome {
            kind,
            cause,
            may_have_acted: kind == OutcomeKind::Unknown,
            unsent: false,
            http_status: 0,
            latency_ms: 0,
            retry_after_ms: None,
            wait_min_ms: 0,
            gone_since: None,
            provider_id: "".into(),
            evidence: [].into(),
        }
    }

    /// Since when the address has been gone, where an answer that came at `answered_at` says that
    /// it is: since the provider has known, or else since the attempt began. What was registered
    /// later is a new life of the address, of which the answer knows nothing.
    #[must_use]
    pub fn gone_at(&self, answered_at: Time) -> Time {
        let began_at = answered_at.plus(-i64::from(self.latency_ms));
        self.gone_since.unwrap_or(began_at)
    }

    /// What a crash, or a lease lost to another node, makes of an attempt that was under way.
    #[must_use]
    pub fn crashed() -> Outcome {
        Outcome::bare(OutcomeKind::Unknown, Cause::Crashed)
    }
}
