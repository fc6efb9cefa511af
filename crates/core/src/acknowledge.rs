//! Acknowledge: what follows an outcome. One table for the guarantees, one function for the wait.
//!
//! | outcome | at-most-once | at-least-once, effectively-once |
//! | --- | --- | --- |
//! | Accept | Accepted | Accepted |
//! | Retry or Blocked, nothing was written | again | again |
//! | Retry | Rejected | again |
//! | Throttle | Rejected | again |
//! | Reject, Gone | Rejected | Rejected |
//! | Unknown | Uncertain | again |
//! | Blocked | Rejected | again, and no attempt is spent |
//!
//! "Again" holds within the attempts and the time to live; beyond them it is Exhausted or Expired.
//! At-least-once and effectively-once differ only in what the request carries: the latter's first
//! attempt already bears the key under which a receiver recognises a repeat.
//!
//! Absent here: how an answer becomes an outcome; that is a channel's table.

use crate::breaker::Sign;
use crate::cause::Cause;
use crate::ledger::{Delivery, Next, State};
use crate::outcome::{Outcome, OutcomeKind};
use crate::policy::{Guarantee, HeadOfLine, Policy};
use crate::schedule;
use crate::time::{SECOND_MS, Time};

/// Wait of a delivery whose credentials were refused, until it waits for its route.
const BLOCKED_WAIT_MS: i64 = SECOND_MS;

/// A receiver's wish for silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until when.
    pub until: Time,
    /// After how long one attempt may try whether it still means it, in milliseconds.
    pub patience_ms: i64,
}

/// What follows an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// What becomes of the delivery.
    pub next: Next,
    /// The cause of the answer itself, where settling knows more than the channel did.
    pub cause: Cause,
    /// The address is gone, for this cause: nothing more is sent to the endpoint, unless it was
    /// registered again later than the provider's news.
    pub retire: Option<Cause>,
    /// The receiver asked everybody to be silent.
    pub hold: Option<Hold>,
    /// The receiver named a time beyond the policy's cap, in milliseconds: an incident.
    pub incident_ms: Option<i64>,
}

/// Decides what follows `outcome`, the answer to the attempt that `delivery` has in flight.
///
/// `entropy` spreads the wait; it is not used for anything else.
#[must_use]
pub fn settle(
    delivery: &Delivery,
    policy: &Policy,
    outcome: &Outcome,
    entropy: u64,
    now: Time,
) -> Settlement {
    let capped = outcome
        .retry_after_ms
        .is_some_and(|named| named > policy.retry_after_cap_ms);
    let throttled = outcome.kind == OutcomeKind::Throttle;
    let cause = if throttled && capped {
        Cause::RetryAfterCapped
    } else {
        outcome.cause
    };
    let next = match verdict(delivery.guarantee, outcome) {
        Some(state) => {
            let cause = if state == State::Uncertain {
                Cause::UnknownOutcome
            } else {
                outcome.cause
            };
            Next::Settle { state, cause }
        }
        None => again(delivery, policy, outcome, entropy, now),
    };
    Settlement {
        next,
        cause,
        retire: (outcome.kind == OutcomeKind::Gone).then_some(outcome.cause),
        hold: outcome
            .retry_after_ms
            .filter(|_| throttled)
            .map(|named| Hold {
                until: now.plus(named),
                patience_ms: policy.retry_after_cap_ms,
            }),
        incident_ms: outcome.retry_after_ms.filter(|_| throttled && capped),
    }
}

/// The table above: the state that the outcome settles in, or `None` for another attempt.
fn verdict(guarantee: Guarantee, outcome: &Outcome) -> Option<State> {
    match (outcome.kind, guarantee) {
        (OutcomeKind::Accept, _) => Some(State::Accepted),
        (OutcomeKind::Reject | OutcomeKind::Gone, _) => Some(State::Rejected),
        (OutcomeKind::Retry | OutcomeKind::Blocked, _) if outcome.unsent => None,
        (
            OutcomeKind::Retry | OutcomeKind::Throttle | OutcomeKind::Blocked,
            Guarantee::AtMostOnce,
        ) => Some(State::Rejected),
        (OutcomeKind::Unknown, Guarantee::AtMostOnce) => Some(State::Uncertain),
        (
            OutcomeKind::Retry
            | OutcomeKind::Throttle
            | OutcomeKind::Unknown
            | OutcomeKind::Blocked,
            _,
        ) => None,
    }
}

fn again(delivery: &Delivery, policy: &Policy, outcome: &Outcome, entropy: u64, now: Time) -> Next {
    let spent = |cause| Next::Settle {
        state: State::Exhausted,
        cause,
    };
    // What waits for its route waits there, and not for a time of its own.
    if outcome.kind == OutcomeKind::Blocked {
        let due_at = now.plus(BLOCKED_WAIT_MS);
        return Next::Again { due_at };
    }
    let spent_attempts = delivery.attempt.saturating_sub(u32::from(delivery.unspent));
    if spent_attempts >= policy.attempts_max {
        return spent(Cause::AttemptsSpent);
    }
    if delivery.lane.is_some() && policy.head_of_line == HeadOfLine::Skip {
        return spent(Cause::OrderSkipped);
    }
    let due_at = now.plus(schedule::wait_ms(policy, spent_attempts, outcome, entropy));
    if due_at >= delivery.expires_at {
        return Next::Settle {
            state: State::Expired,
            cause: Cause::ExpiredRetry,
        };
    }
    Next::Again { due_at }
}

/// What an outcome says about the endpoint's health.
#[must_use]
pub fn sign(outcome: &Outcome) -> Sign {
    match outcome.kind {
        // Our own crash says nothing about the endpoint.
        _ if outcome.cause == Cause::Crashed => Sign::Neutral,
        // Neither do credentials that are renewed, or a token that is tried elsewhere.
        _ if matches!(outcome.cause, Cause::AuthFailure | Cause::BadToken) => Sign::Neutral,
        OutcomeKind::Accept => Sign::Good,
        OutcomeKind::Retry | OutcomeKind::Unknown => Sign::Bad,
        OutcomeKind::Throttle | OutcomeKind::Reject | OutcomeKind::Gone | OutcomeKind::Blocked => {
            Sign::Neutral
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, Settlement, settle};
    use crate::cause::Cause;
    use crate::id::PolicyId;
    use crate::ledger::{Next, State};
    use crate::outcome::{Outcome, OutcomeKind};
    use crate::policy::{Guarantee, HeadOfLine, Jitter, Policy};
    use crate::testing::{in_flight, lane};
    use crate::time::Time;

    const NOW: Time = Time(1_000);

    fn policy() -> Policy {
        Policy {
            jitter: Jitter::None,
            ..Policy::brief(PolicyId(1))
        }
    }

    fn outcome(kind: OutcomeKind, unsent: bool) -> Outcome {
        Outcome {
            unsent,
            ..Outcome::bare(kind, Cause::ServiceDegraded)
        }
    }

    #[test]
    fn every_outcome_at_every_guarantee() {
        use Guarantee::{AtLeastOnce, AtMostOnce, EffectivelyOnce};
        use OutcomeKind::{Accept, Blocked, Gone, Reject, Retry, Throttle, Unknown};
        let settled = |state| (Some(state), None);
        let again = (None, None);
        let retired = (Some(State::Rejected), Some(Cause::ServiceDegraded));
        let rows = [
            (
                Accept,
                false,
                settled(State::Accepted),
                settled(State::Accepted),
            ),
            (Retry, false, settled(State::Rejected), again),
            (Retry, true, again, again),
            (Throttle, false, settled(State::Rejected), again),
            (
                Reject,
                false,
                settled(State::Rejected),
                settled(State::Rejected),
            ),
            (Gone, false, retired, retired),
            (Unknown, false, settled(State::Uncertain), again),
            (Blocked, false, settled(State::Rejected), again),
            (Blocked, true, again, again),
        ];
        for (kind, unsent, at_most, at_least) in rows {
            for (guarantee, expected) in [
                (AtMostOnce, at_most),
                (AtLeastOnce, at_least),
                (EffectivelyOnce, at_least),
            ] {
                let delivery = in_flight(guarantee, 1);
                let Settlement { next, retire, .. } =
                    settle(&delivery, &policy(), &outcome(kind, unsent), 0, NOW);
                let state = match next {
                    Next::Settle { state, .. } => Some(state),
                    Next::Again { due_at } => {
                        assert!(due_at > NOW);
                        None
                    }
                };
                assert_eq!(
                    (state, retire),
                    expected,
                    "{kind:?} unsent={unsent} {guarantee:?}"
                );
            }
        }
    }

    #[test]
    fn budgets_end_the_trying() {
        let retry = outcome(OutcomeKind::Retry, false);
        let ends = |delivery, policy: &Policy| match settle(&delivery, policy, &retry, 0, NOW).next
        {
            Next::Settle { state, cause } => Some((state, cause)),
            Next::Again { .. } => None,
        };
        let fourth = in_flight(Guarantee::AtLeastOnce, 4);
        let fifth = in_flight(Guarantee::AtLeastOnce, 5);
        assert_eq!(ends(fourth.clone(), &policy()), None);
        assert_eq!(
            ends(fifth, &policy()),
            Some((State::Exhausted, Cause::AttemptsSpent))
        );
        let mut late = fourth.clone();
        late.expires_at = NOW.plus(16_000);
        assert_eq!(
            ends(late, &policy()),
            Some((State::Expired, Cause::ExpiredRetry))
        );
        let mut ordered = fourth;
        ordered.lane = Some(lane(1));
        assert_eq!(ends(ordered.clone(), &policy()), None);
        let skip = Policy {
            head_of_line: HeadOfLine::Skip,
            ..policy()
        };
        assert_eq!(
            ends(ordered, &skip),
            Some((State::Exhausted, Cause::OrderSkipped))
        );
    }

    #[test]
    fn refused_credentials_spend_no_attempt() {
        let blocked = outcome(OutcomeKind::Blocked, false);
        let retry = outcome(OutcomeKind::Retry, false);
        let mut delivery = in_flight(Guarantee::AtLeastOnce, 40);
        delivery.unspent = 36;
        for outcome in [&blocked, &retry] {
            let next = settle(&delivery, &policy(), outcome, 0, NOW).next;
            assert!(matches!(next, Next::Again { .. }), "{outcome:?}");
        }
        delivery.unspent = 35;
        let next = settle(&delivery, &policy(), &retry, 0, NOW).next;
        assert!(matches!(next, Next::Settle { .. }));
    }

    #[test]
    fn a_named_time_beyond_the_cap_is_an_incident_and_one_probe() {
        let delivery = in_flight(Guarantee::AtLeastOnce, 1);
        for (named_ms, due_ms, cause, incident) in [
            (5_000, 5_000, Cause::ServiceDegraded, None),
            (120_000, 120_000, Cause::ServiceDegraded, None),
            (121_000, 120_000, Cause::RetryAfterCapped, Some(121_000)),
        ] {
            let mut throttle = outcome(OutcomeKind::Throttle, false);
            throttle.retry_after_ms = Some(named_ms);
            let settlement = settle(&delivery, &policy(), &throttle, 0, NOW);
            assert_eq!(
                settlement.next,
                Next::Again {
                    due_at: NOW.plus(due_ms)
                }
            );
            assert_eq!(settlement.cause, cause);
            assert_eq!(settlement.incident_ms, incident);
            let hold = Hold {
                until: NOW.plus(named_ms),
                patience_ms: 120_000,
            };
            assert_eq!(settlement.hold, Some(hold));
        }
    }
}
