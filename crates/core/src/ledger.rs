//! The ledger: one row for a delivery, moved by entries of the journal through one door.
//!
//! [`apply`] is that door. The engine calls it before an entry leaves for the store, the store's
//! `verify` calls it to fold the journal again, and the simulator calls it to check both. An entry
//! carries the version it expects; one that does not fit is a [`Conflict`] and changes nothing.
//!
//! Absent here: deciding *which* entry to write. That is the business of [`crate::intake`],
//! [`crate::dispatch`] and [`crate::acknowledge`].

use std::sync::Arc;

use crate::cause::Cause;
use crate::endpoint::Channel;
use crate::event::Event;
use crate::id::{
    CorrelationId, DeliveryId, EndpointId, Epoch, EventId, OrderingKey, Partition, PolicyId, Seq,
    TenantId, Ticket,
};
use crate::outcome::{Outcome, OutcomeKind};
use crate::policy::Guarantee;
use crate::time::Time;

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Waiting: for its time, its turn, or a gate.
    Scheduled = 1,
    /// A request is under way.
    InFlight = 2,
    /// The provider took it over. Settled; a receipt may still come.
    Accepted = 3,
    /// The device reported it. Settled.
    Confirmed = 4,
    /// Refused for good. Settled.
    Rejected = 5,
    /// Every attempt spent. Settled.
    Exhausted = 6,
    /// Lapsed. Settled.
    Expired = 7,
    /// Withdrawn by the application. Settled.
    Cancelled = 8,
    /// Never begun, with a reason. Settled.
    Suppressed = 9,
    /// At-most-once and no answer: we do not pretend to know. Settled.
    Uncertain = 10,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [State; 10] = [
        State::Scheduled,
        State::InFlight,
        State::Accepted,
        State::Confirmed,
        State::Rejected,
        State::Exhausted,
        State::Expired,
        State::Cancelled,
        State::Suppressed,
        State::Uncertain,
    ];

    /// The state with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<State> {
        State::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Nothing more is sent.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Scheduled | State::InFlight)
    }

    /// The word that the API, the log and the broker speak.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::InFlight => "in_flight",
            State::Accepted => "accepted",
            State::Confirmed => "confirmed",
            State::Rejected => "rejected",
            State::Exhausted => "exhausted",
            State::Expired => "expired",
            State::Cancelled => "cancelled",
            State::Suppressed => "suppressed",
            State::Uncertain => "uncertain",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A place in the order of one ordering key at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Hash of the caller's ordering key.
    pub key: OrderingKey,
    /// Gapless number within endpoint and key, from 1.
    pub sequence: u64,
}

/// The ledger's row: the obligation to bring one notification to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id inside.
    pub id: DeliveryId,
    /// Its id outside, on every attempt, log line and acknowledgment.
    pub correlation: CorrelationId,
    /// What is to be told.
    pub event: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which way it goes.
    pub channel: Channel,
    /// The policy it was admitted under.
    pub policy: PolicyId,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Where it is.
    pub state: State,
    /// Why it is there.
    pub cause: Cause,
    /// Entries applied so far; the next one must expect this number.
    pub version: u32,
    /// Number of the attempt opened last, 0 before the first.
    pub attempt: u32,
    /// Attempts among these that its budget does not count, because our credentials were refused.
    pub unspent: u16,
    /// What the device has reported, a bit for each kind of receipt: see [`Delivery::has_receipt`].
    pub receipts: u8,
    /// Not to be sent before.
    pub due_at: Time,
    /// Not to be sent from here on.
    pub expires_at: Time,
    /// When it was admitted.
    pub admitted_at: Time,
    /// When it was settled; `None` while it is not.
    pub settled_at: Option<Time>,
    /// Its place in an order, if it has one.
    pub lane: Option<Lane>,
    /// An attempt of which the receiver may have processed the request without accepting it lies
    /// behind.
    pub may_have_acted: bool,
    /// HTTP status of the last answer, 0 if there was none.
    pub last_http_status: u16,
    /// Where its last entry stands in the journal.
    pub last_seq: Seq,
}

impl Delivery {
    /// It needs a human: settled other than as intended. A view, not a state.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        match self.state {
            // Devices come and go: nobody has to do anything about one that went.
            State::Rejected if self.channel.is_push() && self.cause.is_of_a_dead_address() => false,
            State::Rejected | State::Exhausted | State::Uncertain => true,
            State::Expired => self.guarantee != Guarantee::AtMostOnce,
            _ => false,
        }
    }

    /// The device has reported this kind of receipt, a number from 1 to [`RECEIPTS_MAX`].
    #[must_use]
    pub fn has_receipt(&self, receipt: u8) -> bool {
        self.receipts & receipt_bit(receipt) != 0
    }
}

/// Kinds of receipts at the most.
pub const RECEIPTS_MAX: u8 = 8;

fn receipt_bit(receipt: u8) -> u8 {
    1_u8.checked_shl(u32::from(receipt.wrapping_sub(1)))
        .unwrap_or(0)
}

/// What happened to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It exists. The first entry of every delivery.
    Admitted(Box<Admitted>),
    /// A send slot is reserved and the request may leave.
    Opened {
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The policy it runs under.
        policy: PolicyId,
    },
    /// The attempt came to something.
    Answered {
        /// Which attempt.
        attempt: u32,
        /// What it came to.
        outcome: Box<Outcome>,
        /// What follows.
        next: Next,
    },
    /// The attempt ended before a byte of it was written: it does not count.
    NotSent {
        /// Which attempt.
        attempt: u32,
        /// What was in the way.
        cause: Cause,
        /// When to try again.
        due_at: Time,
    },
    /// It was settled without an attempt: lapsed, withdrawn, or suppressed.
    Closed {
        /// Expired, Cancelled or Suppressed.
        state: State,
        /// Why.
        cause: Cause,
    },
    /// A receipt of the device arrived. Evidence; moves Accepted to Confirmed.
    Confirmed {
        /// What the device reported, as the channel numbers it.
        receipt: u8,
    },
}

/// The content of a [`Fact::Admitted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Outer id.
    pub correlation: CorrelationId,
    /// What is to be told.
    pub event: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which way.
    pub channel: Channel,
    /// Under which policy.
    pub policy: PolicyId,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Not before.
    pub due_at: Time,
    /// Not after.
    pub expires_at: Time,
    /// Its place in an order.
    pub lane: Option<Lane>,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this moment.
    Again {
        /// When.
        due_at: Time,
    },
    /// Nothing: it is settled, for this cause.
    Settle {
        /// How.
        state: State,
        /// Why: the outcome's own cause, or the budget that ran out.
        cause: Cause,
    },
}

/// A fact at its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// Whose fact it is.
    pub delivery: DeliveryId,
    /// Version of the delivery that it expects to find.
    pub version: u32,
    /// When it happened, on the engine's clock.
    pub at: Time,
    /// Place of the delivery's entry before this one, 0 for the first: the chain by which a
    /// delivery's history is read without an index.
    pub previous: Seq,
    /// What happened.
    pub fact: Fact,
}

/// Entries that become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the line to the store.
    pub ticket: Ticket,
    /// The event, where this admits one.
    pub event: Option<Arc<Event>>,
    /// The partitions whose deliveries it changes, each with the epoch under which the writer holds
    /// it. The store refuses the record if any of them has passed.
    pub fences: Vec<(Partition, Epoch)>,
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// The event whose key this record frees, where a policy frees keys on definite failure.
    pub release: Option<EventId>,
}

/// An entry that does not fit the row it is for. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The row.
    pub delivery: DeliveryId,
    /// Where the row is.
    pub state: Option<State>,
    /// The version the row has.
    pub has: u32,
    /// The version the entry expected.
    pub expected: u32,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.map_or("absent", State::name);
        write!(
            f,
            "delivery {} is {state} at version {}, the entry expected version {} or another state",
            self.delivery, self.has, self.expected
        )
    }
}

impl std::error::Error for Conflict {}

/// Moves a row by an entry: the only function that changes where a delivery is.
///
/// `None` stands for a row that does not exist yet. On a [`Conflict`] the row is as it was.
///
/// # Errors
/// [`Conflict`] if the entry expects another version, or its fact does not fit the row's state.
pub fn apply(row: &mut Option<Delivery>, entry: &Entry) -> Result<(), Conflict> {
    match (row.as_mut(), &entry.fact) {
        (None, Fact::Admitted(admitted)) if entry.version == 0 => {
            *row = Some(born(entry, admitted));
            Ok(())
        }
        (Some(delivery), fact) if delivery.id == entry.delivery => advance(delivery, entry, fact),
        (row, _) => Err(conflict(row.as_deref(), entry)),
    }
}

fn born(entry: &Entry, admitted: &Admitted) -> Delivery {
    Delivery {
        id: entry.delivery,
        correlation: admitted.correlation,
        event: admitted.event,
        tenant: admitted.tenant,
        endpoint: admitted.endpoint,
        channel: admitted.channel,
        policy: admitted.policy,
        guarantee: admitted.guarantee,
        state: State::Scheduled,
        cause: Cause::Waiting,
        version: 1,
        attempt: 0,
        unspent: 0,
        receipts: 0,
        due_at: admitted.due_at,
        expires_at: admitted.expires_at,
        admitted_at: entry.at,
        settled_at: None,
        lane: admitted.lane,
        may_have_acted: false,
        last_http_status: 0,
        last_seq: entry.seq,
    }
}

/// The state table. Every arm is one permitted move; everything else is a conflict.
fn advance(delivery: &mut Delivery, entry: &Entry, fact: &Fact) -> Result<(), Conflict> {
    if delivery.version != entry.version {
        return Err(conflict(Some(delivery), entry));
    }
    match (delivery.state, fact) {
        (State::Scheduled, Fact::Opened { attempt, policy })
            if *attempt == delivery.attempt + 1 && entry.at < delivery.expires_at =>
        {
            delivery.state = State::InFlight;
            delivery.cause = Cause::Sending;
            delivery.attempt = *attempt;
            delivery.policy = *policy;
        }
        (
            State::InFlight,
            Fact::Answered {
                attempt,
                outcome,
                next,
            },
        ) if *attempt == delivery.attempt && permitted(outcome.kind, *next) => {
            delivery.may_have_acted |= outcome.may_have_acted;
            delivery.last_http_status = outcome.http_status;
            let unspent = u16::from(outcome.kind == OutcomeKind::Blocked);
            delivery.unspent = delivery.unspent.saturating_add(unspent);
            match *next {
                Next::Again { due_at } => {
                    delivery.state = State::Scheduled;
                    delivery.cause = outcome.cause;
                    delivery.due_at = due_at;
                }
                // After a lost answer the device may have spoken before the provider.
                Next::Settle {
                    state: State::Accepted,
                    ..
                } if delivery.receipts != 0 => {
                    settle(delivery, State::Confirmed, Cause::Confirmed, entry.at);
                }
                Next::Settle { state, cause } => settle(delivery, state, cause, entry.at),
            }
        }
        (
            State::InFlight,
            Fact::NotSent {
                attempt,
                cause,
                due_at,
            },
        ) if *attempt == delivery.attempt => {
            delivery.state = State::Scheduled;
            delivery.cause = *cause;
            delivery.attempt = attempt - 1;
            delivery.due_at = *due_at;
        }
        (State::Scheduled, Fact::Closed { state, cause })
            if matches!(state, State::Expired | State::Cancelled | State::Suppressed) =>
        {
            settle(delivery, *state, *cause, entry.at);
        }
        (State::Accepted, Fact::Confirmed { receipt }) => {
            delivery.receipts |= receipt_bit(*receipt);
            delivery.state = State::Confirmed;
            delivery.cause = Cause::Confirmed;
        }
        // A receipt is kept as evidence in any other state that an attempt has been opened in.
        (_, Fact::Confirmed { receipt }) if delivery.attempt > 0 => {
            delivery.receipts |= receipt_bit(*receipt);
        }
        _ => return Err(conflict(Some(delivery), entry)),
    }
    delivery.version += 1;
    delivery.last_seq = entry.seq;
    Ok(())
}

fn settle(delivery: &mut Delivery, state: State, cause: Cause, at: Time) {
    delivery.state = state;
    delivery.cause = cause;
    delivery.settled_at = Some(at);
}

/// Which outcome may lead where.
fn permitted(kind: OutcomeKind, next: Next) -> bool {
    match next {
        Next::Again { .. } => {
            matches!(
                kind,
                OutcomeKind::Retry
                    | OutcomeKind::Throttle
                    | OutcomeKind::Unknown
                    | OutcomeKind::Blocked
            )
        }
        Next::Settle { state, .. } => match kind {
            OutcomeKind::Accept => state == State::Accepted,
            OutcomeKind::Reject | OutcomeKind::Gone => state == State::Rejected,
            OutcomeKind::Retry | OutcomeKind::Throttle => {
                matches!(state, State::Rejected | State::Exhausted | State::Expired)
            }
            OutcomeKind::Blocked => state == State::Rejected,
            OutcomeKind::Unknown => {
                matches!(state, State::Uncertain | State::Exhausted | State::Expired)
            }
        },
    }
}

fn conflict(row: Option<&Delivery>, entry: &Entry) -> Conflict {
    Conflict {
        delivery: entry.delivery,
        state: row.map(|delivery| delivery.state),
        has: row.map_or(0, |delivery| delivery.version),
        expected: entry.version,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::{Admitted, Delivery, Entry, Fact, Next, State, apply};
    use crate::cause::Cause;
    use crate::endpoint::Channel;
    use crate::engine::Row;
    use crate::id::{CorrelationId, DeliveryId, EndpointId, EventId, PolicyId, Seq, TenantId};
    use crate::outcome::{Outcome, OutcomeKind};
    use crate::policy::Guarantee;
    use crate::testing::in_flight;
    use crate::time::Time;

    const NOW: Time = Time(1_000);

    fn entry(row: Option<&Delivery>, fact: Fact) -> Entry {
        Entry {
            seq: Seq(77),
            delivery: DeliveryId(1),
            version: row.map_or(0, |row| row.version),
            at: NOW,
            previous: Seq(1),
            fact,
        }
    }

    /// A row whose first attempt is open, or lies behind.
    fn row(state: State) -> Delivery {
        Delivery {
            state,
            settled_at: state.is_settled().then_some(Time(500)),
            ..in_flight(Guarantee::AtLeastOnce, 1)
        }
    }

    fn admitted() -> Fact {
        Fact::Admitted(Box::new(Admitted {
            correlation: CorrelationId(1),
            event: EventId(1),
            tenant: TenantId(1),
            endpoint: EndpointId(1),
            channel: Channel::Webhook,
            policy: PolicyId(1),
            guarantee: Guarantee::AtLeastOnce,
            due_at: NOW,
            expires_at: NOW.plus(1_000),
            lane: None,
        }))
    }

    fn opened(attempt: u32) -> Fact {
        let policy = PolicyId(9);
        Fact::Opened { attempt, policy }
    }

    fn answered(attempt: u32, kind: OutcomeKind, next: Next) -> Fact {
        Fact::Answered {
            attempt,
            outcome: Box::new(Outcome::bare(kind, Cause::ServiceDegraded)),
            next,
        }
    }

    fn not_sent(attempt: u32) -> Fact {
        Fact::NotSent {
            attempt,
            cause: Cause::Deferred,
            due_at: NOW.plus(5),
        }
    }

    fn closed(state: State) -> Fact {
        let cause = Cause::Expired;
        Fact::Closed { state, cause }
    }

    fn settle(state: State) -> Next {
        let cause = Cause::Accepted;
        Next::Settle { state, cause }
    }

    const AGAIN: Next = Next::Again {
        due_at: Time(9_000),
    };

    fn assert_conflict(before: &Delivery, entry: &Entry) {
        let mut row = Some(before.clone());
        let conflict = apply(&mut row, entry).expect_err("a conflict");
        assert_eq!(row.as_ref(), Some(before), "{entry:?}");
        assert_eq!(
            (conflict.has, conflict.expected),
            (before.version, entry.version)
        );
    }

    /// It moves as expected, and only at this version and for this delivery.
    fn assert_move(before: &Delivery, entry: &Entry, expected: (State, Cause)) {
        let mut after = Some(before.clone());
        assert_eq!(apply(&mut after, entry), Ok(()), "{before:?} {entry:?}");
        let after = after.expect("a row");
        assert_eq!((after.state, after.cause), expected, "{before:?} {entry:?}");
        assert_eq!(
            (after.version, after.last_seq),
            (before.version + 1, Seq(77))
        );
        for version in [before.version - 1, before.version + 1] {
            let fact = entry.fact.clone();
            assert_conflict(
                before,
                &Entry {
                    version,
                    fact,
                    ..*entry
                },
            );
        }
        let (delivery, fact) = (DeliveryId(2), entry.fact.clone());
        assert_conflict(
            before,
            &Entry {
                delivery,
                fact,
                ..*entry
            },
        );
    }

    #[test]
    fn every_state_and_every_fact() {
        use Cause::{Accepted as Taken, Confirmed as Shown, Deferred, Expired as Late, Sending};
        use State::{
            Accepted, Cancelled, Confirmed, Exhausted, Expired, InFlight, Rejected, Scheduled,
            Suppressed, Uncertain,
        };
        let accepted = answered(1, OutcomeKind::Accept, settle(Accepted));
        let facts = [
            admitted(),
            opened(2),
            accepted,
            not_sent(1),
            closed(Expired),
        ];
        let none = [None; 5];
        // For each state: admitted, opened, answered, not sent, closed; and then a receipt.
        let kept = |state| (state, Sending);
        let rows = [
            (
                Scheduled,
                [
                    None,
                    Some((InFlight, Sending)),
                    None,
                    None,
                    Some((Expired, Late)),
                ],
                kept(Scheduled),
            ),
            (
                InFlight,
                [
                    None,
                    None,
                    Some((Accepted, Taken)),
                    Some((Scheduled, Deferred)),
                    None,
                ],
                kept(InFlight),
            ),
            (Accepted, none, (Confirmed, Shown)),
            (Confirmed, none, kept(Confirmed)),
            (Rejected, none, kept(Rejected)),
            (Exhausted, none, kept(Exhausted)),
            (Expired, none, kept(Expired)),
            (Cancelled, none, kept(Cancelled)),
            (Suppressed, none, kept(Suppressed)),
            (Uncertain, none, kept(Uncertain)),
        ];
        assert_eq!(rows.map(|(state, ..)| state), State::ALL);
        for (state, moves, receipt) in rows {
            let before = row(state);
            let receipt = (Fact::Confirmed { receipt: 1 }, Some(receipt));
            let moves = facts.iter().cloned().zip(moves).chain([receipt]);
            for (fact, expected) in moves {
                let entry = entry(Some(&before), fact);
                match expected {
                    Some(expected) => assert_move(&before, &entry, expected),
                    None => assert_conflict(&before, &entry),
                }
            }
        }
    }

    #[test]
    fn what_a_move_writes_into_the_row() {
        let moved = |before: &Delivery, fact| {
            let mut row = Some(before.clone());
            apply(&mut row, &entry(Some(before), fact)).expect("it fits");
            row.expect("a row")
        };
        let open = moved(&row(State::Scheduled), opened(2));
        assert_eq!((open.attempt, open.policy), (2, PolicyId(9)));
        let mut outcome = Outcome::bare(OutcomeKind::Unknown, Cause::ResponseTimeout);
        outcome.http_status = 504;
        let unknown = Fact::Answered {
            attempt: 2,
            outcome: Box::new(outcome),
            next: AGAIN,
        };
        let again = moved(&open, unknown);
        assert_eq!(
            (again.due_at, again.cause),
            (Time(9_000), Cause::ResponseTimeout)
        );
        assert_eq!((again.last_http_status, again.settled_at), (504, None));
        assert!(again.may_have_acted);
        let third = moved(&again, opened(3));
        let back = moved(&third, not_sent(3));
        assert_eq!((back.attempt, back.due_at), (2, NOW.plus(5)));
        let third = moved(&back, opened(3));
        let taken = moved(
            &third,
            answered(3, OutcomeKind::Accept, settle(State::Accepted)),
        );
        assert_eq!((taken.settled_at, taken.may_have_acted), (Some(NOW), true));
        let shown = moved(&taken, Fact::Confirmed { receipt: 1 });
        assert_eq!(shown.settled_at, Some(NOW));

        let told = moved(&row(State::Scheduled), Fact::Confirmed { receipt: 1 });
        assert_eq!(told.state, State::Scheduled);
        let open = moved(&told, opened(2));
        let accepted = answered(2, OutcomeKind::Accept, settle(State::Accepted));
        let shown = moved(&open, accepted);
        assert_eq!(
            (shown.state, shown.cause),
            (State::Confirmed, Cause::Confirmed)
        );
        assert_eq!(shown.settled_at, Some(NOW));
    }

    #[test]
    fn other_attempts_conflict() {
        for attempt in [0, 1, 3] {
            let before = row(State::Scheduled);
            assert_conflict(&before, &entry(Some(&before), opened(attempt)));
        }
        for attempt in [0, 2] {
            let before = row(State::InFlight);
            let accept = answered(attempt, OutcomeKind::Accept, settle(State::Accepted));
            assert_conflict(&before, &entry(Some(&before), accept));
            assert_conflict(&before, &entry(Some(&before), not_sent(attempt)));
        }
        for state in [State::Scheduled, State::Expired, State::Suppressed] {
            let before = Delivery {
                attempt: 0,
                ..row(state)
            };
            let receipt = Fact::Confirmed { receipt: 1 };
            assert_conflict(&before, &entry(Some(&before), receipt));
        }
    }

    #[test]
    fn nothing_is_opened_at_or_after_its_end() {
        for (expires_at, opens) in [(NOW.plus(1), true), (NOW, false), (NOW.plus(-1), false)] {
            let before = Delivery {
                expires_at,
                ..row(State::Scheduled)
            };
            let entry = entry(Some(&before), opened(2));
            let mut after = Some(before.clone());
            assert_eq!(apply(&mut after, &entry).is_ok(), opens, "{expires_at}");
        }
    }

    #[test]
    fn only_an_admission_begins_a_row() {
        let accept = answered(1, OutcomeKind::Accept, settle(State::Accepted));
        let receipt = Fact::Confirmed { receipt: 1 };
        for fact in [
            opened(1),
            accept,
            not_sent(1),
            closed(State::Expired),
            receipt,
        ] {
            let mut row = None;
            let conflict = apply(&mut row, &entry(None, fact)).expect_err("a conflict");
            assert_eq!((row, conflict.state), (None, None));
        }
        let mut row = None;
        let late = Entry {
            version: 1,
            ..entry(None, admitted())
        };
        assert!(apply(&mut row, &late).is_err());
        assert_eq!(apply(&mut row, &entry(None, admitted())), Ok(()));
        let born = row.expect("a row");
        assert_eq!(
            (born.state, born.cause, born.version),
            (State::Scheduled, Cause::Waiting, 1)
        );
        assert_eq!(
            (born.attempt, born.admitted_at, born.settled_at),
            (0, NOW, None)
        );
    }

    #[test]
    fn every_outcome_and_where_it_may_lead() {
        use State::{Accepted, Exhausted, Expired, Rejected, Uncertain};
        let refused: &[State] = &[Rejected, Exhausted, Expired];
        let rows: [(OutcomeKind, bool, &[State]); 7] = [
            (OutcomeKind::Accept, false, &[Accepted]),
            (OutcomeKind::Retry, true, refused),
            (OutcomeKind::Throttle, true, refused),
            (OutcomeKind::Reject, false, &[Rejected]),
            (OutcomeKind::Gone, false, &[Rejected]),
            (OutcomeKind::Unknown, true, &[Exhausted, Expired, Uncertain]),
            (OutcomeKind::Blocked, true, &[Rejected]),
        ];
        assert_eq!(rows.map(|(kind, ..)| kind), OutcomeKind::ALL);
        for (kind, again, states) in rows {
            let settled = State::ALL.map(|state| (settle(state), states.contains(&state)));
            for (next, permitted) in settled.into_iter().chain([(AGAIN, again)]) {
                let before = row(State::InFlight);
                let entry = entry(Some(&before), answered(1, kind, next));
                let mut after = Some(before.clone());
                let fits = apply(&mut after, &entry).is_ok();
                assert_eq!(fits, permitted, "{kind:?} {next:?}");
                assert!(permitted || after == Some(before));
            }
        }
    }

    #[test]
    fn what_may_close_without_an_attempt() {
        for state in State::ALL {
            let before = row(State::Scheduled);
            let mut after = Some(before.clone());
            let fits = apply(&mut after, &entry(Some(&before), closed(state))).is_ok();
            let may = matches!(state, State::Expired | State::Cancelled | State::Suppressed);
            assert_eq!(fits, may, "{state:?}");
        }
    }

    #[test]
    fn a_row_in_memory_stays_small() {
        assert!(size_of::<Row>() <= 192, "{} bytes", size_of::<Row>());
    }

    fn fact() -> impl Strategy<Value = Fact> {
        let next = prop_oneof![Just(AGAIN), select(&State::ALL).prop_map(settle)];
        prop_oneof![
            1 => Just(admitted()),
            6 => (0..4_u32).prop_map(opened),
            6 => (0..4_u32, select(&OutcomeKind::ALL), next).prop_map(|(attempt, kind, next)| {
                answered(attempt, kind, next)
            }),
            3 => (0..4_u32).prop_map(not_sent),
            1 => select(&State::ALL).prop_map(closed),
            1 => Just(Fact::Confirmed { receipt: 1 }),
        ]
    }

    proptest! {
        #[test]
        fn random_facts_break_nothing(facts in vec((fact(), 0..8_u8), 1..60)) {
            let mut row = None;
            apply(&mut row, &entry(None, admitted())).expect("a row begins");
            for (fact, stale) in facts {
                let before = row.clone().expect("a row stays");
                let mut entry = entry(Some(&before), fact);
                entry.version += u32::from(stale == 0);
                let fits = apply(&mut row, &entry);
                let after = row.clone().expect("a row stays");
                if fits.is_err() {
                    prop_assert_eq!(after, before);
                    continue;
                }
                prop_assert_eq!(after.version, before.version + 1);
                prop_assert!(after.attempt <= before.attempt + 1);
                prop_assert_eq!(after.state.is_settled(), after.settled_at.is_some());
                if before.state.is_settled() {
                    let evidence = Delivery {
                        version: after.version,
                        last_seq: after.last_seq,
                        receipts: before.receipts | 1,
                        ..before.clone()
                    };
                    let shown = Delivery {
                        state: State::Confirmed,
                        cause: Cause::Confirmed,
                        ..evidence.clone()
                    };
                    let confirms = before.state == State::Accepted;
                    prop_assert_eq!(after, if confirms { shown } else { evidence });
                }
            }
        }
    }
}
