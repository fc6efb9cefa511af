//! Lanes: one at a time, under numbers without gaps.

use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Config, Reply, Why};
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::{HeadOfLine, Policy};
use postrider_core::time::Time;

use crate::bench::{Bench, counter, event, gate, outcome, policy};

fn bench(head_of_line: HeadOfLine) -> Bench {
    let policy = Policy {
        head_of_line,
        ..policy()
    };
    Bench::with(Config::default(), policy, 2)
}

fn resume(bench: &mut Bench) {
    let resumed = Gate {
        changed_at: bench.now,
        ..gate(1, &policy())
    };
    bench.tell(resumed);
    bench.commit();
}

fn sequences(bench: &mut Bench) -> Vec<u64> {
    let sent = bench.world().sent.iter();
    sent.filter_map(|it| it.lane.map(|lane| lane.sequence))
        .collect()
}

#[test]
fn one_goes_at_a_time_and_names_the_last_one_handed_over() {
    let mut bench = bench(HeadOfLine::Block);
    for key in 1..=3 {
        bench.admit(&event(key).lane(7));
    }
    bench.admit(&event(4).lane(8));
    bench.admit(&event(5).lane(7).to(2));
    assert_eq!(
        bench.away(),
        [1, 4, 5],
        "other keys and endpoints have lanes of their own"
    );
    bench.end(1, OutcomeKind::Accept);
    bench.end(2, OutcomeKind::Reject);
    bench.end(3, OutcomeKind::Accept);
    let sent: Vec<(u64, u64, u64)> = bench
        .world()
        .sent
        .iter()
        .filter(|it| it.delivery.0 <= 3)
        .map(|it| {
            (
                it.delivery.0,
                it.lane.unwrap().sequence,
                it.previous_accepted,
            )
        })
        .collect();
    assert_eq!(sent, [(1, 1, 0), (2, 2, 1), (3, 3, 1)]);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
    bench.admit(&event(6).lane(7));
    let again = bench.answer(6, outcome(OutcomeKind::Accept));
    assert_eq!(
        again.lane.unwrap().sequence,
        4,
        "numbers go on where the store left them"
    );
    assert_eq!(again.previous_accepted, 3);
}

#[test]
fn block_waits_for_the_head_through_its_retries() {
    let mut bench = bench(HeadOfLine::Block);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7));
    for wait_ms in [2_000, 4_000, 8_000, 16_000] {
        bench.end(1, OutcomeKind::Retry);
        bench.pass(wait_ms);
        assert_eq!(bench.away(), [1]);
    }
    bench.end(1, OutcomeKind::Retry);
    assert_eq!(bench.is(1), (State::Exhausted, Cause::AttemptsSpent));
    assert_eq!(bench.away(), [2]);
}

#[test]
fn skip_gives_the_head_one_try() {
    let mut bench = bench(HeadOfLine::Skip);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7));
    bench.end(1, OutcomeKind::Unknown);
    assert_eq!(bench.is(1), (State::Exhausted, Cause::OrderSkipped));
    assert_eq!(bench.away(), [2]);
    bench.admit(&event(3));
    bench.end(3, OutcomeKind::Retry);
    assert_eq!(
        bench.is(3).0,
        State::Scheduled,
        "without an order it is tried again"
    );
}

#[test]
fn park_stops_behind_a_dead_letter_until_the_endpoint_is_opened_again() {
    let mut bench = bench(HeadOfLine::Park);
    for key in 1..=3 {
        bench.admit(&event(key).lane(7));
    }
    bench.end(1, OutcomeKind::Reject);
    bench.admit(&event(4).lane(7));
    bench.admit(&event(5).lane(8));
    assert_eq!(bench.away(), [5]);
    bench.pass(60_000);
    assert_eq!(bench.away(), [5]);
    bench.tell(gate(1, &policy()));
    bench.commit();
    assert_eq!(bench.away(), [5], "nobody has changed it");
    resume(&mut bench);
    assert_eq!(bench.away(), [5, 2]);
    for id in [2, 3, 4, 5] {
        bench.end(id, OutcomeKind::Accept);
    }
    assert_eq!(sequences(&mut bench), [1, 1, 2, 3, 4]);
    bench.assert_at_rest();
}

#[test]
fn a_parked_lane_stands_after_a_crash_until_the_endpoint_is_resumed() {
    let mut bench = bench(HeadOfLine::Park);
    for key in 1..=4 {
        bench.admit(&event(key).lane(7));
    }
    bench.admit(&event(5).lane(8));
    bench.admit(&event(6).lane(8));
    bench.end(1, OutcomeKind::Accept);
    bench.end(2, OutcomeKind::Reject);
    bench.end(5, OutcomeKind::Accept);
    for _ in 0..2 {
        bench.pass(1_000);
        bench.cancel(3);
        bench.commit();
        bench.crash();
        bench.pass(60_000);
        assert_eq!(bench.is(4), (State::Scheduled, Cause::Waiting));
        assert_eq!(bench.away(), [6], "another lane goes on");
    }
    resume(&mut bench);
    assert_eq!(bench.away(), [6, 4]);
    bench.crash();
    bench.pass(60_000);
    assert_eq!(bench.away(), [4, 6], "it went on, and goes on");
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn a_parked_lane_that_was_resumed_goes_on_after_a_crash() {
    let mut bench = bench(HeadOfLine::Park);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7).due_in(5_000));
    bench.end(1, OutcomeKind::Reject);
    bench.pass(1_000);
    resume(&mut bench);
    bench.crash();
    bench.pass(5_000);
    assert_eq!(bench.away(), [2]);
}

#[test]
fn what_lapses_behind_another_says_so_and_stops_nothing() {
    let mut bench = bench(HeadOfLine::Park);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7).due_in(5_000).ttl(3_000));
    bench.admit(&event(3).lane(7));
    bench.pass(3_000);
    assert_eq!(bench.is(2), (State::Expired, Cause::ExpiredOrder));
    bench.end(1, OutcomeKind::Accept);
    bench.crash();
    bench.commit();
    bench.pass(60_000);
    assert_eq!(bench.away(), [3]);
}

#[test]
fn a_parked_lane_whose_waiting_ones_lapse_is_new_again() {
    let mut bench = bench(HeadOfLine::Park);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7).ttl(5_000));
    bench.end(1, OutcomeKind::Reject);
    bench.pass(5_000);
    assert_eq!(bench.is(2), (State::Expired, Cause::ExpiredOrder));
    bench.assert_at_rest();
    bench.admit(&event(3).lane(7));
    assert_eq!(bench.away(), [3]);
}

#[test]
fn a_dead_letter_behind_the_head_parks_nothing() {
    let mut bench = bench(HeadOfLine::Park);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7).ttl(1_000));
    bench.admit(&event(3).lane(7));
    bench.pass(1_000);
    assert_eq!(bench.is(2), (State::Expired, Cause::ExpiredOrder));
    bench.end(1, OutcomeKind::Accept);
    assert_eq!(bench.away(), [3]);
}

#[test]
fn a_head_that_is_not_due_holds_those_behind_it() {
    let mut bench = bench(HeadOfLine::Block);
    bench.admit(&event(1).lane(7).due_in(10_000));
    bench.admit(&event(2).lane(7));
    bench.pass(9_999);
    assert_eq!(bench.away(), []);
    bench.pass(1);
    assert_eq!(bench.away(), [1]);
    bench.end(1, OutcomeKind::Accept);
    assert_eq!(bench.away(), [2]);
}

#[test]
fn a_withdrawn_head_lets_the_next_one_go() {
    let mut bench = bench(HeadOfLine::Block);
    bench.admit(&event(1).lane(7).due_in(10_000));
    bench.admit(&event(2).lane(7));
    bench.admit(&event(3).lane(7));
    let behind = bench.cancel(2);
    let head = bench.cancel(1);
    assert_eq!(bench.away(), [], "not before it is durable");
    bench.commit();
    for ask in [behind, head] {
        assert_eq!(bench.reply(ask), Some(Reply::Cancelled));
    }
    assert_eq!(bench.away(), [3]);
    assert_eq!(bench.world().sent[0].lane.unwrap().sequence, 3);
}

#[test]
fn a_paused_endpoint_keeps_its_lanes_in_order() {
    let mut bench = bench(HeadOfLine::Block);
    let paused = Gate {
        reach: Reach::Paused,
        ..gate(1, &policy())
    };
    bench.tell(paused);
    for key in 1..=3 {
        bench.admit(&event(key).lane(7));
    }
    bench.pass(1_000);
    assert_eq!(bench.away(), []);
    bench.tell(gate(1, &policy()));
    bench.commit();
    for id in 1..=3 {
        assert_eq!(bench.away(), [id]);
        bench.end(id, OutcomeKind::Accept);
    }
    bench.assert_at_rest();
}

#[test]
fn a_refused_admission_leaves_no_gap() {
    let mut bench = bench(HeadOfLine::Block);
    bench.admit(&event(1).lane(7));
    bench.world().model.no_room_to_admit = true;
    let asks = [2, 3].map(|key| bench.submit(&event(key).lane(7)));
    bench.commit();
    for ask in asks {
        let why = match bench.reply(ask) {
            Some(Reply::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why, Why::StorageFull);
    }
    bench.world().model.no_room_to_admit = false;
    let fourth = bench.admit(&event(2).lane(7));
    bench.end(1, OutcomeKind::Accept);
    assert_eq!(bench.away(), [fourth]);
    assert_eq!(sequences(&mut bench), [1, 2]);
    assert_eq!(counter(&mut bench, 7).last_sequence, 2);
}

#[test]
fn a_number_that_was_used_is_not_given_out_again_by_a_refusal_behind_it() {
    let mut bench = bench(HeadOfLine::Block);
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7));
    bench.cancel(2);
    bench.commit();
    bench.world().model.no_room_to_admit = true;
    bench.submit(&event(3).lane(7));
    bench.commit();
    bench.world().model.no_room_to_admit = false;
    let last = bench.admit(&event(4).lane(7));
    bench.end(1, OutcomeKind::Accept);
    let sent = bench.answer(last, outcome(OutcomeKind::Accept));
    assert_eq!(sent.lane.unwrap().sequence, 3);
}

#[test]
fn refusals_that_come_one_by_one_leave_neither_gap_nor_twin() {
    let mut bench = bench(HeadOfLine::Block);
    bench.world().model.no_room_to_admit = true;
    bench.submit(&event(1).lane(7));
    bench.submit(&event(2).lane(7));
    bench.commit_some(1);
    bench.world().model.no_room_to_admit = false;
    let late = bench.submit(&event(3).lane(7));
    bench.commit();
    assert!(matches!(bench.reply(late), Some(Reply::Refused { .. })));
    let last = bench.admit(&event(4).lane(7));
    let sent = bench.answer(last, outcome(OutcomeKind::Accept));
    assert_eq!(sent.lane.unwrap().sequence, 1);
    bench.commit();
    bench.assert_at_rest();
}

#[test]
fn after_a_crash_lanes_stand_as_they_stood() {
    let mut bench = bench(HeadOfLine::Block);
    for key in 1..=6 {
        bench.admit(&event(key).lane(7));
    }
    bench.end(1, OutcomeKind::Accept);
    bench.crash();
    bench.commit();
    assert_eq!(bench.is(2), (State::Scheduled, Cause::Crashed));
    assert_eq!(bench.away(), []);
    bench.admit(&event(7).lane(7));
    bench.pass(2_000);
    assert_eq!(bench.away(), [2]);
    for id in 2..=7 {
        let sent = bench.answer(id, outcome(OutcomeKind::Accept));
        let place = (sent.lane.unwrap().sequence, sent.previous_accepted);
        assert_eq!(place, (id, id - 1));
        bench.commit();
    }
    bench.assert_at_rest();
}

#[test]
fn an_ordered_delivery_is_never_parked_on_disk() {
    let config = Config {
        window_max: 2,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    bench.admit(&event(1).lane(7).due_in(3_600_000));
    bench.admit(&event(2).lane(7).due_in(3_600_000));
    assert_eq!((bench.figures().window, bench.figures().parked), (2, 0));
    bench.config.window_max = 1;
    bench.crash();
    assert_eq!((bench.figures().window, bench.figures().parked), (2, 0));
    assert!(bench.row(2).due_at > Time(0));
}
