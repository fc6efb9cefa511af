//! The life of a delivery, and what a caller is told.

use postrider_core::cause::Cause;
use postrider_core::engine::{Config, Input, Reply, Why};
use postrider_core::id::{DeliveryId, EndpointId};
use postrider_core::ledger::State;
use postrider_core::observation::Observation;
use postrider_core::outcome::OutcomeKind;
use postrider_core::plant::Plant;

use crate::bench::{Bench, Draft, event, outcome, policy};

#[test]
fn a_normal_life_is_two_records() {
    let mut bench = Bench::new();
    let ask = bench.submit(&event(1));
    assert_eq!(bench.world().records.len(), 1);
    assert_eq!(
        (bench.reply(ask), bench.away()),
        (None, vec![]),
        "nothing is durable yet"
    );
    bench.commit();
    assert!(matches!(bench.reply(ask), Some(Reply::Admitted { .. })));
    assert_eq!(bench.away(), [1]);
    let sent = bench.answer(1, outcome(OutcomeKind::Accept));
    assert_eq!((sent.attempt, sent.previous_accepted), (1, 0));
    assert_eq!(bench.world().records.len(), 1);
    assert_eq!(bench.is(1), (State::InFlight, Cause::Sending));
    bench.commit();
    assert_eq!(
        bench.world().model.story(DeliveryId(1)),
        ["admitted", "opened", "answered"]
    );
    assert_eq!(bench.is(1), (State::Accepted, Cause::Accepted));
    bench.assert_at_rest();
}

#[test]
fn retries_follow_the_schedule_until_the_attempts_are_spent() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    for wait_ms in [2_000, 4_000, 8_000, 16_000] {
        bench.end(1, OutcomeKind::Retry);
        assert_eq!(bench.is(1), (State::Scheduled, Cause::ServiceDegraded));
        bench.pass(wait_ms - 1);
        assert_eq!(bench.away(), []);
        bench.pass(1);
        assert_eq!(bench.away(), [1]);
    }
    bench.end(1, OutcomeKind::Retry);
    assert_eq!(bench.is(1), (State::Exhausted, Cause::AttemptsSpent));
    assert!(bench.row(1).may_have_acted);
    bench.assert_at_rest();
}

#[test]
fn a_repeat_is_answered_with_the_first_ones_ids() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    let records = bench.world().model.journal.len();
    let ask = bench.submit(&event(1));
    let Some(Reply::Duplicate(seen)) = bench.reply(ask) else {
        panic!("{:?}", bench.reply(ask))
    };
    assert_eq!((seen.event.0, seen.first_delivery.0), (1, 1));
    let other = Draft {
        body: 9,
        ..event(1)
    };
    let ask = bench.submit(&other);
    assert!(matches!(bench.reply(ask), Some(Reply::KeyConflict(it)) if it == seen));
    bench.commit();
    assert_eq!(bench.world().model.journal.len(), records);
}

#[test]
fn racing_repeats_wait_for_the_first_ones_commit() {
    let mut bench = Bench::new();
    let first = bench.submit(&event(1));
    let same = bench.submit(&event(1));
    let other = bench.submit(&Draft {
        body: 9,
        ..event(1)
    });
    assert_eq!(bench.world().records.len(), 1);
    for ask in [first, same, other] {
        assert_eq!(bench.reply(ask), None);
    }
    bench.commit();
    assert!(matches!(bench.reply(first), Some(Reply::Admitted { .. })));
    assert!(matches!(bench.reply(same), Some(Reply::Duplicate(it)) if it.event.0 == 1));
    assert!(matches!(bench.reply(other), Some(Reply::KeyConflict(it)) if it.event.0 == 1));
    assert_eq!(bench.away(), [1]);
}

#[test]
fn a_key_is_forgotten_at_its_time() {
    let mut bench = Bench::new();
    let draft = Draft {
        key_ms: 5_000,
        ..event(1)
    };
    bench.admit(&draft);
    bench.end(1, OutcomeKind::Accept);
    bench.pass(4_999);
    let ask = bench.submit(&draft);
    assert!(matches!(bench.reply(ask), Some(Reply::Duplicate(_))));
    bench.pass(1);
    assert_eq!(bench.admit(&draft), 2);
}

#[test]
fn an_event_for_nobody_leaves_a_row_with_the_reason() {
    let mut bench = Bench::new();
    let nobody = Draft {
        endpoints: vec![],
        ..event(1)
    };
    bench.admit(&nobody);
    assert_eq!(bench.is(1), (State::Suppressed, Cause::NoEndpoint));
    assert_eq!(
        bench.observed(|it| matches!(it, Observation::Closed { .. })),
        1
    );
    bench.admit(&event(2).to(77));
    assert_eq!(bench.is(2), (State::Suppressed, Cause::EndpointDeleted));
    bench.assert_at_rest();
}

#[test]
fn a_fan_out_is_one_record_and_its_deliveries_follow_each_other() {
    let mut bench = Bench::with(Config::default(), policy(), 1_000);
    let all = Draft {
        endpoints: (1..=1_000).collect(),
        ..event(1)
    };
    let ask = bench.submit(&all);
    assert_eq!(bench.world().records.len(), 1);
    assert_eq!(bench.world().records[0].entries.len(), 2_000);
    bench.commit();
    let Some(Reply::Admitted {
        deliveries,
        first_delivery,
        ..
    }) = bench.reply(ask)
    else {
        panic!("{:?}", bench.reply(ask))
    };
    let endpoints: Vec<u64> = deliveries.iter().map(|(endpoint, _)| endpoint.0).collect();
    assert_eq!((first_delivery.0, endpoints), (1, (1..=1_000).collect()));
    assert_eq!(bench.figures().slots_used, 1_000);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn a_fan_out_may_name_one_endpoint_often() {
    let mut bench = Bench::new();
    let often = Draft {
        endpoints: vec![1; 40],
        ..event(1)
    };
    bench.admit(&often);
    for _ in 0..20 {
        bench.end_all(OutcomeKind::Accept);
    }
    bench.assert_at_rest();
}

#[test]
fn stale_and_repeated_answers_are_ignored() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    let answered = |attempt, kind| Input::Answered {
        delivery: DeliveryId(1),
        attempt,
        outcome: Box::new(outcome(kind)),
        entropy: 0,
    };
    bench.answer(1, outcome(OutcomeKind::Retry));
    bench.turn([answered(1, OutcomeKind::Accept)]);
    bench.commit();
    bench.pass(2_000);
    bench.turn([
        answered(1, OutcomeKind::Accept),
        answered(3, OutcomeKind::Accept),
    ]);
    bench.turn([Input::NotSent {
        delivery: DeliveryId(1),
        attempt: 1,
        cause: Cause::Deferred,
    }]);
    bench.commit();
    assert_eq!(bench.is(1), (State::InFlight, Cause::Sending));
    bench.end(1, OutcomeKind::Accept);
    bench.turn([answered(2, OutcomeKind::Gone)]);
    bench.turn([Input::Answered {
        delivery: DeliveryId(99),
        attempt: 1,
        outcome: Box::new(outcome(OutcomeKind::Accept)),
        entropy: 0,
    }]);
    bench.assert_at_rest();
    assert_eq!(bench.world().retired, []);
}

#[test]
fn put_backs_cost_no_attempt_within_a_bound() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    let bound = usize::from(bench.config.put_backs_max);
    for nth in 0..bound {
        assert_eq!(bench.world().away[0].attempt, 1, "{nth}");
        bench.put_back(1);
        bench.commit();
        bench.pass(1_000);
    }
    bench.put_back(1);
    bench.commit();
    let row = bench.row(1);
    assert_eq!(
        (row.state, row.cause),
        (State::Scheduled, Cause::ConnectFailed)
    );
    assert_eq!((row.attempt, row.may_have_acted), (1, false));
    bench.pass(2_000);
    assert_eq!(bench.world().away[0].attempt, 2);
    bench.put_back(1);
    bench.commit();
    assert_eq!(
        bench.is(1),
        (State::Scheduled, Cause::Deferred),
        "counted anew"
    );
    bench.pass(1_000);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn an_at_most_once_delivery_is_tried_again_only_while_nothing_was_written() {
    let mut bench = Bench::new();
    bench.admit(&event(1).at_most_once());
    let mut unsent = outcome(OutcomeKind::Retry);
    unsent.unsent = true;
    unsent.may_have_acted = false;
    bench.answer(1, unsent);
    bench.commit();
    bench.pass(2_000);
    assert_eq!(bench.world().away[0].attempt, 2);
    bench.end(1, OutcomeKind::Unknown);
    assert_eq!(bench.is(1), (State::Uncertain, Cause::UnknownOutcome));
    bench.admit(&event(2).at_most_once());
    bench.end(2, OutcomeKind::Retry);
    assert_eq!(bench.is(2), (State::Rejected, Cause::ServiceDegraded));
    bench.assert_at_rest();
}

#[test]
fn gone_retires_once_durable_and_suppresses_whoever_waits() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    for key in 2..=30 {
        bench.admit(&event(key));
    }
    bench.admit(&event(31).lane(5));
    bench.admit(&event(32).lane(5));
    assert_eq!(bench.away(), [1, 2, 3, 4]);
    bench.answer(1, outcome(OutcomeKind::Gone));
    assert_eq!(bench.world().retired, []);
    bench.commit();
    assert_eq!(bench.world().retired, [(EndpointId(1), Cause::Gone)]);
    for id in 5..=32 {
        assert_eq!(
            bench.is(id),
            (State::Suppressed, Cause::EndpointRetired),
            "{id}"
        );
    }
    bench.end(2, OutcomeKind::Retry);
    bench.end(3, OutcomeKind::Accept);
    bench.end(4, OutcomeKind::Gone);
    bench.pass(2_000);
    assert_eq!(bench.is(2), (State::Suppressed, Cause::EndpointRetired));
    bench.admit(&event(40));
    assert_eq!(bench.is(33), (State::Suppressed, Cause::EndpointRetired));
    bench.assert_at_rest();
}

#[test]
fn whoever_waits_for_a_closed_endpoint_is_suppressed_in_bounded_steps() {
    let config = Config {
        slots_max: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 2);
    bench.admit(&event(1).to(2));
    let many = Draft {
        endpoints: vec![1; 3_000],
        ..event(2)
    };
    bench.admit(&many);
    let closed = postrider_core::endpoint::Gate {
        reach: postrider_core::endpoint::Reach::Closed(Cause::EndpointDeleted),
        ..crate::bench::gate(1, &policy())
    };
    bench.tell(closed);
    assert_eq!(bench.world().records.len(), 1_024);
    bench.pass(20);
    assert_eq!(bench.is(3_001), (State::Suppressed, Cause::EndpointDeleted));
    assert_eq!(bench.away(), [1]);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn nothing_begins_while_draining() {
    let mut bench = Bench::new();
    bench.admit(&event(1));
    bench.admit(&event(2).due_in(1_000));
    let racing = bench.submit(&event(3));
    bench.turn([Input::Drain]);
    let ask = bench.submit(&event(4));
    let refused = Reply::Refused {
        why: Why::Draining,
        retry_after_ms: bench.config.refused_retry_after_ms,
    };
    assert_eq!(bench.reply(ask), Some(refused));
    assert!(!bench.executor().engine().is_idle());
    bench.commit();
    assert!(matches!(bench.reply(racing), Some(Reply::Admitted { .. })));
    bench.end_all(OutcomeKind::Accept);
    bench.pass(10_000);
    assert!(bench.executor().engine().is_idle());
    assert_eq!(bench.is(2), (State::Scheduled, Cause::Waiting));
    bench.crash();
    bench.commit();
    assert_eq!(bench.away(), [2], "the next process goes on with it");
}

#[test]
fn each_plant_does_what_its_name_says() {
    let planted = |plant| {
        let config = Config {
            plant: Some(plant),
            ..Config::default()
        };
        Bench::with(config, policy(), 1)
    };
    let mut bench = planted(Plant::SendBeforeRecord);
    bench.submit(&event(1));
    assert_eq!(bench.away(), [1]);
    assert_eq!(bench.world().broken.len(), 1);
    bench.commit();
    assert_eq!(
        bench.away(),
        [1],
        "and is not sent again once it is recorded"
    );
    bench.end(1, OutcomeKind::Retry);
    bench.pass(2_000);
    assert_eq!(bench.world().sent.len(), 2);
    bench.end(1, OutcomeKind::Accept);
    bench.assert_at_rest();

    let mut bench = planted(Plant::ForgetDedupeKey);
    assert_eq!((bench.admit(&event(1)), bench.admit(&event(1))), (1, 2));

    let mut bench = planted(Plant::RetryAtAtMostOnce);
    bench.admit(&event(1).at_most_once());
    bench.end(1, OutcomeKind::Unknown);
    bench.pass(2_000);
    assert_eq!(bench.world().sent.len(), 2);
}
