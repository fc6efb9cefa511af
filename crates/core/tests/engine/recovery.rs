//! What a crash leaves.

use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Config, Input};
use postrider_core::event::LaneCounter;
use postrider_core::id::DeliveryId;
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Policy;

use crate::bench::{Bench, Draft, event, gate, outcome, policy};

#[test]
fn what_was_under_way_has_an_unknown_outcome() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).at_most_once());
    bench.admit(&event(3).due_in(5_000));
    bench.crash();
    bench.commit();
    assert_eq!(bench.is(1), (State::Scheduled, Cause::Crashed));
    assert!(bench.row(1).may_have_acted);
    assert_eq!(bench.is(2), (State::Uncertain, Cause::UnknownOutcome));
    bench.pass(2_000);
    assert_eq!(bench.away(), [1]);
    assert_eq!(bench.world().away[0].attempt, 2);
    bench.pass(3_000);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn what_was_not_durable_never_was() {
    let mut bench = Bench::new();
    let lost = bench.submit(&event(1));
    bench.crash();
    assert_eq!(bench.reply(lost), None);
    assert_eq!(bench.admit(&event(1)), 1, "its number is free again");
    bench.answer(1, outcome(OutcomeKind::Accept));
    bench.crash();
    bench.commit();
    assert_eq!(bench.is(1), (State::Scheduled, Cause::Crashed));
}

#[test]
fn an_attempt_that_crashes_with_its_last_try_is_spent() {
    let policy = Policy {
        attempts_max: 1,
        ..policy()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    bench.admit(&event(1));
    bench.crash();
    bench.commit();
    assert_eq!(bench.is(1), (State::Exhausted, Cause::AttemptsSpent));
    bench.assert_at_rest();
}

#[test]
fn a_crash_is_not_held_against_the_endpoint() {
    let mut bench = Bench::with(
        Config::default(),
        Policy {
            slots_max: 64,
            adaptive: false,
            ..policy()
        },
        1,
    );
    let many = Draft {
        endpoints: vec![1; 40],
        ..event(1)
    };
    bench.admit(&many);
    bench.crash();
    bench.commit();
    bench.pass(2_000);
    assert_eq!(bench.away().len(), 40, "no breaker, no halved pace");
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn attempts_that_begin_between_pieces_keep_their_slots() {
    let mut bench = Bench::new();
    for key in 1..=4 {
        bench.admit(&event(key).due_in(10));
    }
    bench.admit(&event(5));
    bench.now = bench.now.plus(20);
    // The first piece is due and goes; the second one was under way. The bench's audit counts.
    bench.crash();
    bench.commit();
    assert_eq!(bench.away(), [1, 2, 3, 4]);
    assert_eq!(bench.figures().slots_used, 4);
}

#[test]
fn a_retirement_holds_after_a_crash_as_far_as_it_is_told() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).due_in(1_000));
    let closed = Gate {
        reach: Reach::Closed(Cause::EndpointRetired),
        ..gate(1, &policy())
    };
    bench.tell(closed);
    bench.crash();
    bench.commit();
    bench.pass(5_000);
    assert_eq!(bench.is(1), (State::Suppressed, Cause::EndpointRetired));
    assert_eq!(bench.is(2), (State::Suppressed, Cause::EndpointRetired));
    bench.assert_at_rest();
}

#[test]
fn rows_that_are_in_memory_or_settled_are_not_taken_up_again() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2));
    let row = bench.row(1);
    bench.end(2, OutcomeKind::Accept);
    let settled = bench.row(2);
    let counter = LaneCounter::default();
    bench.turn([Input::Loaded {
        deliveries: vec![(row, counter), (settled, counter)],
        absent: vec![DeliveryId(77)],
    }]);
    assert_eq!(bench.figures().window, 1);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn crashes_between_all_steps_lose_nothing() {
    let mut bench = Bench::new();
    for key in 1..=3 {
        bench.admit(&event(key).lane(7));
    }
    for _ in 0..12 {
        bench.crash();
        bench.commit_some(1);
        bench.crash();
        bench.pass(3_000);
        for id in bench.away() {
            bench.answer(id, outcome(OutcomeKind::Accept));
        }
        bench.crash();
        bench.pass(20_000);
    }
    for id in 1..=3 {
        let (state, cause) = bench.is(id);
        assert!(state.is_settled(), "{id} is {state:?} {cause}");
    }
    bench.assert_at_rest();
}
