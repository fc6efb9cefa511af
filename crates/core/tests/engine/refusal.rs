//! What the store does not take.

use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Config, Input, Reply, Why};
use postrider_core::id::DeliveryId;
use postrider_core::ledger::State;
use postrider_core::observation::Observation;
use postrider_core::outcome::OutcomeKind;

use crate::bench::{Bench, Draft, event, gate, outcome, policy};

fn why(reply: Option<Reply>) -> Why {
    match reply {
        Some(Reply::Refused { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_admission_is_as_if_it_had_never_been_asked_for() {
    let config = Config {
        slots_max: 2,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 3);
    bench.world().model.no_room_to_admit = true;
    let both = Draft {
        endpoints: vec![1, 2],
        ..event(1)
    };
    let first = bench.submit(&both);
    let waiter = bench.submit(&both);
    assert_eq!(bench.figures().slots_used, 2);
    bench.commit();
    for ask in [first, waiter] {
        assert_eq!(why(bench.reply(ask)), Why::StorageFull);
    }
    bench.assert_at_rest();
    assert!(bench.world().model.rows.is_empty());
    bench.world().model.no_room_to_admit = false;
    bench.admit(&both);
    assert_eq!(bench.figures().slots_used, 2);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn the_line_behind_a_refused_admission_moves() {
    let config = Config {
        slots_max: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 2);
    bench.submit(&event(1));
    bench.submit(&event(2).to(2));
    bench.world().model.no_room_to_admit = true;
    bench.commit_some(1);
    bench.world().model.no_room_to_admit = false;
    bench.commit();
    assert_eq!(bench.away(), [2]);
}

#[test]
fn a_settlement_that_finds_no_room_is_handed_in_again_and_intake_refuses_meanwhile() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).due_in(100));
    bench.answer(1, outcome(OutcomeKind::Accept));
    bench.world().model.full = true;
    bench.commit();
    let ask = bench.submit(&event(3));
    assert_eq!(why(bench.reply(ask)), Why::StorageFull);
    for _ in 0..10 {
        bench.pass(200);
        assert_eq!(bench.is(1), (State::InFlight, Cause::Sending));
        assert_eq!(bench.away(), [], "the second opening is not durable");
    }
    bench.world().model.full = false;
    bench.pass(200);
    assert_eq!(bench.is(1), (State::Accepted, Cause::Accepted));
    assert_eq!(bench.away(), [2]);
    bench.end(2, OutcomeKind::Accept);
    bench.admit(&event(3));
}

#[test]
fn nothing_is_closed_for_an_answer_that_is_not_on_record() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).due_in(100));
    bench.admit(&event(3).due_in(140));
    bench.answer(1, outcome(OutcomeKind::Gone));
    bench.world().model.full = true;
    bench.commit();
    bench.pass(100);
    assert_eq!(
        bench.figures().records_pending,
        0,
        "one is stuck, and nothing else"
    );
    // There is room again, and the answer waits for its next try.
    bench.world().model.full = false;
    bench.now = bench.now.plus(50);
    bench.tell(gate(1, &policy()));
    bench.commit();
    let untouched = (State::Scheduled, Cause::Waiting);
    assert_eq!((bench.is(2), bench.is(3)), (untouched, untouched));
    assert_eq!(bench.away(), [], "and nothing is sent");
    bench.pass(1_000);
    assert_eq!(bench.is(1), (State::Rejected, Cause::Gone));
    let retired = (State::Suppressed, Cause::EndpointRetired);
    assert_eq!((bench.is(2), bench.is(3)), (retired, retired));
    bench.assert_at_rest();
}

#[test]
fn an_attempt_whose_opening_took_too_long_does_not_leave() {
    let mut bench = Bench::new();
    bench.admit(&event(1).due_in(100).ttl(1_000));
    bench.world().model.full = true;
    bench.pass(100);
    bench.pass(2_000);
    bench.world().model.full = false;
    bench.pass(400);
    assert_eq!(bench.is(1), (State::Expired, Cause::Expired));
    assert_eq!(bench.world().sent.len(), 0);
    bench.assert_at_rest();
}

#[test]
fn an_attempt_whose_endpoint_was_shut_meanwhile_does_not_leave() {
    let closed = Reach::Closed(Cause::EndpointDeleted);
    for (reach, ends) in [
        (Reach::Paused, (State::Scheduled, Cause::Deferred)),
        (closed, (State::Suppressed, Cause::EndpointDeleted)),
    ] {
        let mut bench = Bench::new();
        bench.submit(&event(1));
        bench.tell(Gate {
            reach,
            ..gate(1, &policy())
        });
        bench.commit();
        bench.pass(1_000);
        assert_eq!(bench.world().sent.len(), 0);
        assert_eq!(bench.is(1), ends);
        bench.tell(gate(1, &policy()));
        bench.commit();
        bench.end_all(OutcomeKind::Accept);
        bench.assert_at_rest();
    }
}

#[test]
fn a_key_that_is_taken_is_answered_as_a_repeat() {
    let mut bench = Bench::new();
    // Another way in has taken the key: the look-up did not see it, the store does.
    bench.admit(&event(1));
    let seen = *bench.world().model.keys.values().next().expect("a key");
    let digest = *bench.world().model.keys.keys().next().expect("a key");
    bench.world().model.keys.clear();
    let same = bench.submit(&event(1).lane(4));
    let other = bench.submit(&Draft {
        body: 9,
        ..event(1)
    });
    bench.world().model.keys.insert(digest, seen);
    bench.commit();
    assert_eq!(bench.reply(same), Some(Reply::Duplicate(seen)));
    assert_eq!(bench.reply(other), Some(Reply::KeyConflict(seen)));
    assert_eq!(bench.figures().lanes, 0);
    assert_eq!(bench.away(), [1]);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn what_another_owner_has_is_let_go() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).due_in(5_000));
    bench.world().model.fenced = true;
    bench.answer(1, outcome(OutcomeKind::Accept));
    let withdrawal = bench.cancel(2);
    let ask = bench.submit(&event(3));
    bench.commit();
    assert_eq!(why(bench.reply(ask)), Why::Draining);
    assert_eq!(why(bench.reply(withdrawal)), Why::Draining);
    assert_eq!(
        bench.observed(|it| matches!(it, Observation::Conflict { .. })),
        2
    );
    bench.pass(10_000);
    assert_eq!((bench.figures().window, bench.figures().slots_used), (0, 0));
    assert_eq!(bench.away(), []);
    assert!(bench.executor().engine().is_idle());
}

#[test]
fn an_opening_that_is_refused_gives_its_slot_back() {
    let mut bench = Bench::new();
    bench.admit(&event(1).due_in(100));
    bench.admit(&event(2).due_in(100));
    let row = bench.world().model.rows.get_mut(&DeliveryId(1));
    row.expect("a row").version += 1;
    bench.pass(100);
    assert_eq!((bench.away(), bench.figures().slots_used), (vec![2], 1));
    bench.world().model.fenced = true;
    bench.put_back(2);
    bench.commit();
    assert_eq!((bench.figures().window, bench.figures().slots_used), (0, 0));
}

#[test]
fn a_row_that_the_store_knows_better_is_read_again() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).due_in(100));
    for id in [1, 2] {
        let rows = &mut bench.world().model.rows;
        rows.get_mut(&DeliveryId(id)).expect("a row").version += 1;
    }
    bench.answer(1, outcome(OutcomeKind::Accept));
    let ask = bench.cancel(2);
    bench.commit();
    assert_eq!(why(bench.reply(ask)), Why::Overloaded);
    assert_eq!(bench.figures().window, 0);
    bench.pass(1_000);
    assert_eq!(bench.is(1), (State::Scheduled, Cause::Crashed));
    assert_eq!(bench.away(), [2]);
    bench.pass(2_000);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn intake_refuses_before_memory_runs_out() {
    let config = Config {
        window_max: 4,
        records_max: 3,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    for key in 1..=3 {
        bench.submit(&event(key));
    }
    let ask = bench.submit(&event(4));
    assert_eq!(
        why(bench.reply(ask)),
        Why::Overloaded,
        "records on their way"
    );
    bench.commit();
    bench.admit(&event(4));
    let ask = bench.submit(&event(5));
    assert_eq!(
        why(bench.reply(ask)),
        Why::Overloaded,
        "deliveries unsettled"
    );
    let ask = bench.submit(&event(1));
    assert!(
        matches!(bench.reply(ask), Some(Reply::Duplicate(_))),
        "a repeat needs no room"
    );
    bench.end(1, OutcomeKind::Accept);
    bench.admit(&event(5));
}

#[test]
fn lost_races_of_the_drain_are_told_apart() {
    let mut bench = Bench::new();
    bench.world().model.full = true;
    let ask = bench.submit(&event(1));
    bench.turn([Input::Drain]);
    bench.commit();
    assert_eq!(why(bench.reply(ask)), Why::StorageFull);
    let ask = bench.submit(&event(1));
    assert_eq!(why(bench.reply(ask)), Why::Draining);
}

/// Found by the simulator (seed 68): a lane that could not be read was taken for a new one, and
/// gave its numbers out again.
#[test]
fn nothing_is_admitted_to_a_lane_that_cannot_be_read() {
    let mut bench = Bench::with(Config::default(), policy(), 1);
    bench.admit(&event(1).lane(7));
    bench.end(1, OutcomeKind::Accept);
    bench.world().model.unreadable = true;
    let ask = bench.submit(&event(2).lane(7));
    assert_eq!(why(bench.reply(ask)), Why::Overloaded);
    bench.world().model.unreadable = false;
    let second = bench.admit(&event(2).lane(7));
    let row = bench.row(second);
    assert_eq!(row.lane.map(|lane| lane.sequence), Some(2));
}
