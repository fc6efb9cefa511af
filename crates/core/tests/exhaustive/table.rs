//! The state table: every row that can be reached, with every fact there is.
//!
//! Absent here: nodes and leases.

use postrider_core::cause::Cause;
use postrider_core::id::PolicyId;
use postrider_core::ledger::{Delivery, Entry, Fact, Next, State, apply};
use postrider_core::outcome::{Outcome, OutcomeKind};

use crate::SIZES;
use crate::code::{Code, entry};
use crate::world::*;

/// Entries above which no row is looked at.
const VERSIONS_MAX: u32 = 6;
/// Pairs of a row and an entry that are tried, at the least.
const PAIRS_MIN: usize = 100_000;

/// Every fact there is, with every attempt number that could be meant.
fn facts(policy: PolicyId) -> Vec<Fact> {
    let mut facts = Vec::new();
    for state in State::ALL {
        let cause = Cause::Cancelled;
        facts.push(Fact::Closed { state, cause });
    }
    for attempt in 0..=ATTEMPTS + 1 {
        facts.push(Fact::Opened { attempt, policy });
        facts.push(Fact::NotSent {
            attempt,
            cause: Cause::Deferred,
            due_at: NOW,
        });
        for kind in OutcomeKind::ALL {
            let again = Next::Again { due_at: NOW };
            let settle = |state| Next::Settle {
                state,
                cause: Cause::UnknownOutcome,
            };
            for next in State::ALL.map(settle).into_iter().chain([again]) {
                facts.push(Fact::Answered {
                    attempt,
                    outcome: Box::new(Outcome::bare(kind, Cause::UnknownOutcome)),
                    next,
                });
            }
        }
    }
    facts.extend([1, 2].map(|receipt| Fact::Confirmed { receipt }));
    facts
}

/// What must be so of a row before and after an entry that fitted.
fn follows(before: &Delivery, entry: &Entry, after: &Delivery) -> bool {
    let same = Delivery {
        state: before.state,
        cause: before.cause,
        version: before.version,
        attempt: before.attempt,
        due_at: before.due_at,
        settled_at: before.settled_at,
        may_have_acted: before.may_have_acted,
        last_http_status: before.last_http_status,
        last_seq: before.last_seq,
        unspent: before.unspent,
        receipts: before.receipts,
        ..after.clone()
    };
    let opened = matches!(entry.fact, Fact::Opened { .. });
    let unsent = matches!(entry.fact, Fact::NotSent { .. });
    let settled = match (before.state.is_settled(), after.state.is_settled()) {
        (false, false) => after.settled_at.is_none(),
        (false, true) => after.settled_at == Some(entry.at),
        (true, true) => {
            let confirmed = (before.state, after.state) == (State::Accepted, State::Confirmed);
            after.settled_at == before.settled_at && (confirmed || after.state == before.state)
        }
        (true, false) => false,
    };
    same == *before
        && settled
        && before.version == entry.version
        && after.version == before.version + 1
        && after.attempt + u32::from(unsent) == before.attempt + u32::from(opened)
        && after.may_have_acted >= before.may_have_acted
}

#[test]
fn every_state_with_every_fact_moves_by_the_table_or_not_at_all() {
    for (delivery, open) in [[true, false], [false, true]].into_iter().enumerate() {
        let size = Size { open, ..SIZES[0] };
        let mut code = Code::new(Plant::Nothing, size);
        code.admitted(delivery);
        let facts = facts(code.policy.id);
        let (mut at, mut pairs) = (0, 0);
        while at < code.rows.len() {
            let before = code.rows[at].clone();
            at += 1;
            if before.version > VERSIONS_MAX {
                continue;
            }
            for fact in &facts {
                for version in before.version - 1..=before.version + 1 {
                    let entry = entry(before.id, version, fact.clone());
                    let mut row = Some(before.clone());
                    pairs += 1;
                    let moved = apply(&mut row, &entry).is_ok();
                    let after = row.expect("a row stays");
                    if !moved {
                        assert_eq!(after, before, "a conflict changes nothing: {entry:?}");
                        continue;
                    }
                    assert!(
                        follows(&before, &entry, &after),
                        "{before:?} {entry:?} {after:?}"
                    );
                    Code::number(&mut code.rows, after);
                }
            }
        }
        let reached = |state| code.rows.iter().any(|row| row.state == state);
        assert!(State::ALL.into_iter().all(reached));
        assert!(pairs > PAIRS_MIN, "{pairs} pairs, {} rows", code.rows.len());
    }
}
