//! What push adds: routes whose credentials are refused, receipts, freed keys, threads of which
//! only the newest is sent, and addresses that were registered again.

use postrider_core::cause::Cause;
use postrider_core::endpoint::{Channel, Gate};
use postrider_core::engine::{Config, Input, Reply};
use postrider_core::id::{DeliveryId, EventId, RouteId};
use postrider_core::ledger::State;
use postrider_core::observation::Observation;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Guarantee, Policy};

use crate::bench::{Bench, Draft, NOON, event, gate, outcome, policy};

const ROUTE: RouteId = RouteId(7);
const DISPLAYED: u8 = 1;
const CLICKED: u8 = 2;

/// Three devices over one route, under a policy that frees keys.
fn devices() -> Bench {
    let policy = Policy {
        release_on_definite_failure: true,
        ..policy()
    };
    let mut bench = Bench::with(Config::default(), policy.clone(), 3);
    for endpoint in 1..=3 {
        bench.tell(device(endpoint, &policy));
    }
    bench
}

fn device(endpoint: u64, policy: &Policy) -> Gate {
    Gate {
        channel: Channel::Apns,
        route: Some(ROUTE),
        registered_at: NOON,
        ..gate(endpoint, policy)
    }
}

fn report(bench: &mut Bench, delivery: u64, receipt: u8) -> postrider_core::id::Ask {
    let ask = bench.ask();
    bench.turn([Input::Receipt {
        delivery: DeliveryId(delivery),
        receipt,
        ask,
    }]);
    ask
}

fn routes(bench: &mut Bench, is_open: bool) -> usize {
    bench.observed(|it| matches!(it, Observation::Route { open, .. } if *open == is_open))
}

#[test]
fn refused_credentials_hold_the_route_and_one_attempt_a_minute_asks_again() {
    let mut bench = devices();
    bench.admit(&event(1).to(1));
    bench.end(1, OutcomeKind::Blocked);
    assert_eq!(bench.is(1), (State::Scheduled, Cause::AuthFailure));
    assert_eq!(routes(&mut bench, false), 1);
    bench.admit(&event(2).to(2));
    bench.admit(&event(3).to(3));
    bench.pass(59_000);
    assert_eq!(bench.away(), [], "the whole route waits");
    for _ in 0..10 {
        bench.pass(61_000);
        let away = bench.away();
        assert_eq!(away.len(), 1, "one asks for all");
        bench.end(away[0], OutcomeKind::Blocked);
    }
    bench.pass(61_000);
    let probe = bench.away()[0];
    bench.end(probe, OutcomeKind::Accept);
    assert_eq!(routes(&mut bench, true), 1);
    bench.pass(1_000);
    assert_eq!(bench.away().len(), 2, "the others go at once");
    bench.end_all(OutcomeKind::Accept);
    for id in 1..=3 {
        assert_eq!(bench.is(id).0, State::Accepted, "no attempt was spent");
    }
    bench.assert_at_rest();
}

#[test]
fn what_lapses_behind_refused_credentials_says_so() {
    let mut bench = devices();
    bench.admit(&event(1).to(1));
    let draft = Draft {
        ttl_ms: 30_000,
        ..event(2).to(2)
    };
    bench.end(1, OutcomeKind::Blocked);
    bench.admit(&draft);
    bench.pass(30_000);
    assert_eq!(bench.is(2), (State::Expired, Cause::ExpiredBlocked));
}

#[test]
fn a_renewed_key_lets_everything_go_at_once() {
    let mut bench = devices();
    bench.admit(&event(1).to(1));
    bench.end(1, OutcomeKind::Blocked);
    bench.pass(2_000);
    bench.turn([Input::Route {
        route: ROUTE,
        open: true,
    }]);
    assert_eq!(routes(&mut bench, true), 1, "it is held no longer");
    bench.commit();
    assert_eq!(bench.away(), [1]);
    bench.turn([Input::Route {
        route: ROUTE,
        open: false,
    }]);
    bench.end(1, OutcomeKind::Retry);
    bench.pass(600_000);
    assert_eq!(bench.away(), [], "paused by hand: nobody asks");
}

#[test]
fn an_attempt_that_asks_and_comes_back_unsent_lets_another_ask() {
    let mut bench = devices();
    bench.admit(&event(1).to(1));
    bench.end(1, OutcomeKind::Blocked);
    bench.pass(61_000);
    assert_eq!(bench.away(), [1]);
    bench.put_back(1);
    bench.commit();
    bench.pass(2_000);
    assert_eq!(bench.away(), [1]);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn at_most_once_does_not_wait_for_credentials() {
    let mut bench = devices();
    bench.admit(&event(1).to(1).at_most_once());
    bench.end(1, OutcomeKind::Blocked);
    assert_eq!(bench.is(1), (State::Rejected, Cause::AuthFailure));
}

#[test]
fn a_receipt_confirms_once_for_each_kind() {
    let mut bench = devices();
    bench.admit(&event(1));
    bench.end(1, OutcomeKind::Accept);
    let first = report(&mut bench, 1, DISPLAYED);
    bench.load();
    assert_eq!(bench.reply(first), None, "it is not durable yet");
    bench.commit();
    assert_eq!(bench.reply(first), Some(Reply::Received));
    assert_eq!(bench.is(1), (State::Confirmed, Cause::Confirmed));
    let version = bench.row(1).version;
    let (again, clicked) = (
        report(&mut bench, 1, DISPLAYED),
        report(&mut bench, 1, CLICKED),
    );
    bench.load();
    bench.commit();
    assert_eq!(bench.reply(again), Some(Reply::Received));
    assert_eq!(bench.reply(clicked), Some(Reply::Received));
    assert_eq!(bench.row(1).version, version + 1);
    assert!(bench.row(1).has_receipt(DISPLAYED) && bench.row(1).has_receipt(CLICKED));
    let nobody = report(&mut bench, 9, DISPLAYED);
    bench.load();
    assert_eq!(bench.reply(nobody), Some(Reply::Absent));
    bench.assert_at_rest();
}

#[test]
fn a_receipt_that_overtakes_the_answer_waits_for_it() {
    let mut bench = devices();
    let draft = Draft {
        guarantee: Guarantee::EffectivelyOnce,
        ..event(1)
    };
    bench.admit(&draft);
    let early = report(&mut bench, 1, DISPLAYED);
    assert_eq!(bench.reply(early), None);
    bench.end(1, OutcomeKind::Unknown);
    bench.commit();
    assert_eq!(bench.reply(early), Some(Reply::Received));
    assert_eq!(bench.row(1).state, State::Scheduled);
    let between = report(&mut bench, 1, CLICKED);
    bench.commit();
    assert_eq!(bench.reply(between), Some(Reply::Received));
    bench.pass(2_000);
    bench.end(1, OutcomeKind::Accept);
    bench.commit();
    assert_eq!(bench.is(1), (State::Confirmed, Cause::Confirmed));
    assert!(bench.row(1).has_receipt(DISPLAYED) && bench.row(1).has_receipt(CLICKED));
    bench.assert_at_rest();
}

#[test]
fn nothing_can_be_received_that_was_never_sent() {
    let mut bench = devices();
    let draft = Draft {
        due_ms: 60_000,
        ..event(1)
    };
    bench.admit(&draft);
    let ask = report(&mut bench, 1, DISPLAYED);
    bench.commit();
    assert_eq!(bench.reply(ask), Some(Reply::TooLate(State::Scheduled)));
    bench.pass(60_000);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn receipts_that_found_no_room_are_handed_in_again_in_order() {
    let mut bench = devices();
    bench.admit(&event(1));
    bench.end(1, OutcomeKind::Accept);
    bench.world().model.full = true;
    let asks = [
        report(&mut bench, 1, DISPLAYED),
        report(&mut bench, 1, CLICKED),
    ];
    bench.load();
    bench.commit();
    assert_eq!(bench.reply(asks[0]), None);
    bench.world().model.full = false;
    bench.pass(1_000);
    for ask in asks {
        assert_eq!(bench.reply(ask), Some(Reply::Received));
    }
    bench.assert_at_rest();
}

#[test]
fn a_definite_failure_frees_the_key_and_an_indefinite_one_does_not() {
    let mut bench = devices();
    bench.admit(&event(1));
    bench.end(1, OutcomeKind::Reject);
    let again = bench.submit(&event(1));
    bench.commit();
    assert!(matches!(bench.reply(again), Some(Reply::Admitted { .. })));
    assert_eq!(bench.world().model.retry_of, [None, Some(EventId(1))]);
    bench.end(2, OutcomeKind::Unknown);
    bench.pass(2_000);
    bench.end(2, OutcomeKind::Reject);
    assert!(bench.row(2).may_have_acted);
    let third = bench.submit(&event(1));
    bench.commit();
    assert!(matches!(bench.reply(third), Some(Reply::Duplicate(_))));
    bench.assert_at_rest();
}

#[test]
fn a_key_is_freed_only_when_no_device_can_have_it() {
    for (last, freed) in [(OutcomeKind::Accept, false), (OutcomeKind::Gone, true)] {
        let mut bench = devices();
        let all = Draft {
            endpoints: vec![1, 2, 3],
            ..event(1)
        };
        bench.admit(&all);
        bench.end(1, OutcomeKind::Reject);
        bench.end(2, OutcomeKind::Gone);
        bench.end(3, last);
        let again = bench.submit(&all);
        bench.commit();
        let fresh = matches!(bench.reply(again), Some(Reply::Admitted { .. }));
        assert_eq!(fresh, freed, "{last:?}");
    }
}

#[test]
fn of_a_thread_only_the_newest_waits() {
    let mut bench = devices();
    let news = |key| Draft {
        due_ms: 60_000,
        thread: Some(5),
        ..event(key)
    };
    bench.admit(&news(1));
    bench.admit(&news(2));
    bench.commit();
    assert_eq!(bench.is(1), (State::Suppressed, Cause::Superseded));
    bench.admit(&news(3).to(2));
    bench.commit();
    assert_eq!(
        bench.is(2).0,
        State::Scheduled,
        "another device, another thread"
    );
    bench.pass(60_000);
    assert_eq!(bench.away(), [2, 3]);
    let now = Draft {
        due_ms: 0,
        ..news(4)
    };
    bench.admit(&now);
    bench.commit();
    assert_eq!(bench.is(2).0, State::InFlight, "it is on its way");
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn a_notification_on_its_way_is_not_sent_again_behind_a_newer_one() {
    for (first, ends) in [
        (OutcomeKind::Accept, (State::Accepted, Cause::Accepted)),
        (OutcomeKind::Retry, (State::Suppressed, Cause::Superseded)),
        (OutcomeKind::Unknown, (State::Suppressed, Cause::Superseded)),
    ] {
        let mut bench = devices();
        let news = |key| Draft {
            thread: Some(5),
            ..event(key)
        };
        bench.admit(&news(1));
        bench.commit();
        bench.admit(&news(2));
        bench.commit();
        bench.end(2, OutcomeKind::Accept);
        bench.end(1, first);
        bench.commit();
        assert_eq!(bench.is(1), ends, "{first:?}");
        bench.pass(60_000);
        bench.assert_at_rest();
    }
}

#[test]
fn an_address_that_was_registered_after_it_was_gone_lives_on() {
    for (since_ms, retired) in [(-1, 0), (0, 1), (5, 1)] {
        let mut bench = devices();
        bench.admit(&event(1));
        let gone = Outcome {
            gone_since: Some(NOON.plus(since_ms)),
            ..outcome(OutcomeKind::Gone)
        };
        bench.answer(1, gone);
        bench.commit();
        assert_eq!(bench.is(1), (State::Rejected, Cause::Gone));
        assert!(!bench.row(1).is_dead_letter(), "devices come and go");
        assert_eq!(bench.world().retired.len(), retired, "{since_ms}");
    }
}

#[test]
fn old_news_of_an_endpoint_does_not_open_an_address_that_is_gone() {
    let mut bench = devices();
    let policy = policy();
    bench.admit(&event(1));
    bench.end(1, OutcomeKind::Gone);
    for (registered_ms, reaches) in [(0, false), (60_000, true)] {
        bench.pass(30_000);
        bench.tell(Gate {
            registered_at: NOON.plus(registered_ms),
            ..device(1, &policy)
        });
        let next = if reaches { 3 } else { 2 };
        bench.admit(&event(next));
        bench.commit();
        let sent = bench.is(next).0 == State::InFlight;
        assert_eq!(sent, reaches, "registered {registered_ms} ms later");
    }
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn an_address_that_was_registered_while_it_was_found_gone_lives_on() {
    for (latency_ms, retired) in [(4, 1), (5, 1), (6, 0)] {
        let mut bench = devices();
        bench.now = NOON.plus(5);
        bench.admit(&event(1));
        let gone = Outcome {
            latency_ms,
            ..outcome(OutcomeKind::Gone)
        };
        bench.answer(1, gone);
        bench.commit();
        assert_eq!(bench.world().retired.len(), retired, "{latency_ms} ms");
    }
}

#[test]
fn what_was_opened_before_its_route_was_held_does_not_leave() {
    let mut bench = devices();
    bench.admit(&event(1).to(1));
    bench.submit(&event(2).to(2));
    bench.end(1, OutcomeKind::Blocked);
    assert_eq!(bench.away(), []);
    assert_eq!(bench.is(2), (State::Scheduled, Cause::Deferred));
    bench.pass(61_000);
    assert_eq!(bench.away().len(), 1, "one asks for all");
}

#[test]
fn an_attempt_that_was_to_ask_does_not_leave_once_its_route_is_paused() {
    let mut bench = devices();
    let switch = |open| Input::Route { route: ROUTE, open };
    bench.admit(&event(1).to(1));
    bench.end(1, OutcomeKind::Blocked);
    bench.now = bench.now.plus(61_000);
    bench.turn([Input::Wake]);
    bench.turn([switch(false)]);
    bench.commit();
    bench.pass(120_000);
    assert_eq!(bench.away(), [], "paused by hand");
    assert_eq!(bench.is(1), (State::Scheduled, Cause::Deferred));
    bench.turn([switch(true)]);
    bench.commit();
    assert_eq!(bench.away(), [1]);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}
