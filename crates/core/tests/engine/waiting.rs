//! Waiting: times to live, withdrawals, and what waits on disk.

use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Config, Input, Reply};
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::{Policy, RatePolicy};

use crate::bench::{Bench, Draft, event, gate, outcome, policy, throttle};

fn paused() -> Gate {
    Gate {
        reach: Reach::Paused,
        ..gate(1, &policy())
    }
}

/// Lets time pass to the moment the delivery lapses, and tells how it was before and after.
fn lapse(bench: &mut Bench, id: u64, ms: i64) -> Cause {
    bench.pass(ms - 1);
    assert_eq!(bench.is(id).0, State::Scheduled, "not early");
    bench.pass(1);
    let (state, cause) = bench.is(id);
    assert_eq!(state, State::Expired, "not late");
    cause
}

#[test]
fn nothing_is_opened_at_or_after_its_end() {
    let mut bench = Bench::new();
    for (key, ttl_ms, due_ms) in [(1, 0, 0), (2, -5, 0), (3, 50, 60), (4, 60, 60)] {
        let id = bench.admit(&event(key).ttl(ttl_ms).due_in(due_ms));
        bench.pass(100);
        assert_eq!(bench.is(id), (State::Expired, Cause::Expired));
    }
    assert_eq!(bench.world().sent.len(), 0);
    bench.admit(&event(5).ttl(61).due_in(60));
    bench.pass(60);
    assert_eq!(bench.away(), [5]);
    bench.end(5, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn it_lapses_when_it_ends_and_not_when_it_is_due() {
    let mut bench = Bench::new();
    bench.admit(&event(1).ttl(100).due_in(1_000_000));
    assert_eq!(lapse(&mut bench, 1, 100), Cause::Expired);
}

#[test]
fn no_retry_outlives_it() {
    let mut bench = Bench::new();
    bench.admit(&event(1).ttl(2_000));
    bench.end(1, OutcomeKind::Retry);
    assert_eq!(bench.is(1), (State::Expired, Cause::ExpiredRetry));
}

#[test]
fn it_lapses_while_the_endpoint_is_paused() {
    let mut bench = Bench::new();
    bench.tell(paused());
    bench.admit(&event(1).ttl(500));
    bench.admit(&event(2).ttl(900));
    assert_eq!(lapse(&mut bench, 1, 500), Cause::ExpiredPaused);
    assert_eq!(lapse(&mut bench, 2, 400), Cause::ExpiredPaused);
    bench.assert_at_rest();
}

#[test]
fn it_lapses_when_a_pause_comes_later() {
    let mut bench = Bench::new();
    for key in 1..=5 {
        bench.admit(&event(key).ttl(500));
    }
    bench.tell(paused());
    assert_eq!(lapse(&mut bench, 5, 500), Cause::ExpiredPaused);
}

#[test]
fn it_lapses_while_the_breaker_is_open() {
    let policy = Policy {
        attempts_max: 1,
        slots_max: 20,
        adaptive: false,
        ..policy()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    let ten = Draft {
        endpoints: vec![1; 10],
        ..event(1)
    };
    bench.admit(&ten);
    bench.end_all(OutcomeKind::Unknown);
    bench.admit(&event(2).ttl(500));
    assert_eq!(lapse(&mut bench, 11, 500), Cause::ExpiredBreaker);
    bench.assert_at_rest();
}

#[test]
fn it_lapses_while_the_pace_is_limited() {
    let policy = Policy {
        rate: Some(RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        }),
        ..policy()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    bench.admit(&event(1));
    bench.admit(&event(2).ttl(500));
    assert_eq!(lapse(&mut bench, 2, 500), Cause::ExpiredLimiter);
}

#[test]
fn it_lapses_while_the_receiver_wishes_for_silence() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.answer(1, throttle(10_000));
    bench.commit();
    bench.admit(&event(2).ttl(500));
    assert_eq!(lapse(&mut bench, 2, 500), Cause::ExpiredLimiter);
}

#[test]
fn it_lapses_behind_another_one() {
    let mut bench = Bench::new();
    bench.admit(&event(1).lane(7));
    bench.admit(&event(2).lane(7).ttl(500));
    assert_eq!(lapse(&mut bench, 2, 500), Cause::ExpiredOrder);
}

#[test]
fn it_lapses_while_all_slots_are_taken() {
    let config = Config {
        slots_max: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 2);
    bench.admit(&event(1));
    bench.admit(&event(2).to(2).ttl(500));
    assert_eq!(lapse(&mut bench, 2, 500), Cause::Expired);
}

#[test]
fn many_lapse_in_bounded_steps() {
    let mut bench = Bench::new();
    bench.tell(paused());
    let many = Draft {
        endpoints: vec![1; 3_000],
        ..event(1).ttl(500)
    };
    bench.admit(&many);
    bench.now = bench.now.plus(500);
    bench.turn([Input::Wake]);
    assert_eq!(bench.world().records.len(), 1_024);
    bench.pass(20);
    bench.assert_at_rest();
}

#[test]
fn what_lapses_keeps_to_the_bound_of_records() {
    let config = Config {
        records_max: 100,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    bench.tell(paused());
    let many = Draft {
        endpoints: vec![1; 500],
        ..event(1).ttl(500)
    };
    bench.admit(&many);
    bench.now = bench.now.plus(500);
    bench.turn([Input::Wake]);
    assert_eq!(bench.world().records.len(), 100);
    bench.now = bench.now.plus(1_000);
    bench.turn([Input::Wake]);
    assert_eq!(
        bench.world().records.len(),
        100,
        "the store has not answered"
    );
    bench.pass(100);
    bench.assert_at_rest();
}

#[test]
fn a_row_is_asked_for_once_at_a_time() {
    let config = Config {
        window_max: 2,
        park_after_ms: 1_000,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    for key in 1..=2 {
        bench.admit(&event(key).due_in(50_000));
    }
    bench.end_all(OutcomeKind::Accept);
    assert_eq!(bench.figures().parked, 1);
    let asks = [bench.cancel(2), bench.cancel(2)];
    bench.now = bench.now.plus(50_000);
    bench.turn([Input::Wake]);
    bench.commit();
    assert_eq!(
        bench.world().loads.len(),
        1,
        "a second answer could be an old one"
    );
    bench.load();
    bench.commit();
    assert_eq!(bench.reply(asks[0]), Some(Reply::Cancelled));
    assert_eq!(bench.reply(asks[1]), Some(Reply::TooLate(State::Cancelled)));
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn a_row_that_is_given_out_while_it_is_looked_for_is_withdrawn_once() {
    let mut bench = Bench::new();
    let ask = bench.cancel(1);
    bench.admit(&event(1).due_in(50_000));
    assert_eq!(bench.reply(ask), Some(Reply::Cancelled));
    bench.load();
    bench.assert_at_rest();
}

#[test]
fn timers_of_what_was_withdrawn_are_swept_away() {
    let config = Config {
        window_max: 40,
        park_after_ms: 1_000,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    for key in 0..20 {
        bench.admit(&event(key).due_in(50_000));
    }
    assert_eq!(bench.figures().parked, 0);
    let kept: Vec<u64> = (100..140).collect();
    for key in &kept {
        bench.admit(&event(*key).due_in(50_000));
    }
    let parked = bench.figures().parked;
    assert!(parked > 0, "some wait on disk");
    for key in 1_000..3_000 {
        bench.admit(&event(key).due_in(60_000));
        let newest = bench.world().model.rows.keys().map(|id| id.0).max();
        let ask = bench.cancel(newest.unwrap());
        bench.load();
        bench.commit();
        assert_eq!(bench.reply(ask), Some(Reply::Cancelled));
        let timers = bench.figures().timers;
        assert!(timers <= 2 * (60 + 1) + 64 + 2, "{timers} timers");
    }
    assert_eq!(bench.figures().parked, parked);
    bench.pass(50_000);
    for _ in 0..10 {
        bench.end_all(OutcomeKind::Accept);
        bench.load();
        bench.commit();
    }
    for id in 1..=60 {
        assert_eq!(bench.is(id), (State::Accepted, Cause::Accepted));
    }
    bench.assert_at_rest();
}

#[test]
fn a_line_forgets_those_that_lapsed() {
    let mut bench = Bench::new();
    bench.tell(paused());
    for key in 0..500 {
        bench.admit(&event(key).ttl(10));
        bench.pass(10);
    }
    bench.admit(&event(1_000));
    let timers = bench.figures().timers;
    assert!(timers <= 2, "{timers} timers");
    bench.tell(gate(1, &policy()));
    bench.commit();
    assert_eq!(bench.away(), [501]);
}

#[test]
fn an_endpoint_leaves_no_timers_behind() {
    let policy = Policy {
        rate: Some(RatePolicy {
            per_second_milli: 100_000,
            burst: 1,
        }),
        ..policy()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    let many = Draft {
        endpoints: vec![1; 200],
        ..event(1)
    };
    bench.admit(&many);
    for _ in 0..199 {
        bench.end_all(OutcomeKind::Accept);
        bench.pass(10);
        assert!(bench.figures().timers <= 1);
    }
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn a_withdrawal_finds_it_wherever_it_waits() {
    let config = Config {
        window_max: 20,
        park_after_ms: 60_000,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 2);
    bench.admit(&event(1).lane(7).to(2));
    bench.admit(&event(2).lane(7).to(2));
    bench.tell(paused());
    bench.admit(&event(3));
    bench.admit(&event(4).due_in(1_000));
    for key in 5..=11 {
        bench.admit(&event(key).due_in(30_000));
    }
    bench.admit(&event(12).due_in(90_000));
    assert_eq!(bench.figures().parked, 1);
    for (id, place) in [(2, "lane"), (3, "line"), (4, "timer"), (12, "disk")] {
        let ask = bench.cancel(id);
        bench.load();
        assert_eq!(bench.reply(ask), None, "not before it is durable");
        bench.commit();
        assert_eq!(bench.reply(ask), Some(Reply::Cancelled), "{place}");
        assert_eq!(
            bench.is(id),
            (State::Cancelled, Cause::Cancelled),
            "{place}"
        );
    }
    assert_eq!(bench.figures().parked, 0);
    let too_late = bench.cancel(1);
    assert_eq!(bench.reply(too_late), Some(Reply::TooLate(State::InFlight)));
    let settled = bench.cancel(3);
    let absent = bench.cancel(99);
    bench.load();
    assert_eq!(bench.reply(settled), Some(Reply::TooLate(State::Cancelled)));
    assert_eq!(bench.reply(absent), Some(Reply::Absent));
    for id in 5..=11 {
        bench.cancel(id);
    }
    bench.end(1, OutcomeKind::Accept);
    bench.commit();
    bench.pass(100_000);
    bench.assert_at_rest();
}

#[test]
fn a_withdrawal_waits_for_what_is_on_its_way_to_the_store() {
    let mut bench = Bench::with(Config::default(), policy(), 2);
    bench.admit(&event(1));
    bench.answer(1, outcome(OutcomeKind::Accept));
    let settling = bench.cancel(1);
    bench.admit(&event(2));
    assert_eq!(bench.reply(settling), Some(Reply::TooLate(State::Accepted)));
    bench.answer(2, outcome(OutcomeKind::Retry));
    let again = [bench.cancel(2), bench.cancel(2)];
    assert_eq!(again.map(|ask| bench.reply(ask)), [None, None]);
    bench.commit();
    assert_eq!(
        again.map(|ask| bench.reply(ask)),
        [
            Some(Reply::Cancelled),
            Some(Reply::TooLate(State::Cancelled))
        ]
    );
    bench.submit(&event(3).to(2));
    let opening = bench.cancel(3);
    bench.commit();
    assert_eq!(bench.reply(opening), Some(Reply::TooLate(State::InFlight)));
    bench.end(3, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn what_is_far_in_the_future_waits_on_disk() {
    let config = Config {
        window_max: 10,
        park_after_ms: 60_000,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    for key in 1..=40 {
        bench.admit(&event(key).due_in(100_000 + i64::try_from(key).unwrap()));
    }
    let figures = bench.figures();
    assert_eq!((figures.window, figures.parked), (5, 35));
    let ask = bench.cancel(40);
    bench.load();
    bench.commit();
    assert_eq!(bench.reply(ask), Some(Reply::Cancelled));
    assert_eq!(bench.figures().parked, 34);
    bench.pass(99_999);
    assert_eq!(bench.world().sent.len(), 0);
    for _ in 0..60 {
        bench.pass(1);
        bench.end_all(OutcomeKind::Accept);
    }
    assert_eq!(bench.world().sent.len(), 39);
    bench.assert_at_rest();
}

#[test]
fn what_is_due_on_disk_waits_for_room() {
    let config = Config {
        window_max: 4,
        park_after_ms: 1_000,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    for key in 1..=50 {
        bench.admit(&event(key).due_in(50_000).ttl(60_000));
    }
    assert_eq!(bench.figures().parked, 48);
    bench.pass(50_000);
    assert_eq!((bench.figures().window, bench.figures().parked), (4, 46));
    bench.crash();
    bench.commit();
    bench.load();
    assert_eq!((bench.figures().window, bench.figures().parked), (4, 46));
    for _ in 0..10 {
        bench.end_all(OutcomeKind::Accept);
        bench.load();
        bench.commit();
        assert!(bench.figures().window <= 4);
    }
    // What has found no room until its end lapses.
    bench.pass(10_000);
    bench.end_all(OutcomeKind::Accept);
    while bench.figures().parked > 0 {
        assert!(!bench.world().loads.is_empty(), "nobody asks for the rest");
        bench.load();
        bench.commit();
        assert!(bench.figures().window <= 4);
    }
    let rows = bench.world().model.rows.values();
    let lapsed = rows.filter(|row| row.state == State::Expired).count();
    assert!(lapsed > 0);
    bench.assert_at_rest();
}

#[test]
fn rows_read_for_another_reason_are_not_counted_as_those_on_disk() {
    let config = Config {
        window_max: 4,
        park_after_ms: 1_000,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 1);
    for key in 1..=4 {
        bench.admit(&event(key).due_in(50_000));
    }
    assert_eq!(bench.figures().parked, 2);
    for _ in 0..3 {
        bench.crash();
        assert_eq!((bench.figures().window, bench.figures().parked), (2, 2));
    }
    bench.pass(50_000);
    bench.end_all(OutcomeKind::Accept);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}
