//! Gates: breaker, pace, silence, slots, and whose turn it is.

use std::collections::BTreeMap;

use postrider_core::breaker::BreakerState;
use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Config, Input};
use postrider_core::id::{EndpointId, TenantId};
use postrider_core::ledger::State;
use postrider_core::observation::Observation;
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::{BreakerPolicy, Policy, RatePolicy};
use postrider_core::time::{HOUR_MS, MINUTE_MS};

use crate::bench::{Bench, Draft, event, gate, outcome, policy, throttle};

fn to_all(key: u64, endpoints: Vec<u64>) -> Draft {
    Draft {
        endpoints,
        ..event(key)
    }
}

/// A policy under which only what a test is about stands in the way.
fn unhindered() -> Policy {
    Policy {
        attempts_max: 100,
        adaptive: false,
        slots_max: 1_000,
        breaker: BreakerPolicy {
            answers_min: u16::MAX,
            ..policy().breaker
        },
        ..policy()
    }
}

fn broken() -> Bench {
    let policy = Policy {
        adaptive: false,
        slots_max: 50,
        ..policy()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    bench.admit(&to_all(1, vec![1; 12]));
    for id in 1..=10 {
        bench.end(id, OutcomeKind::Unknown);
    }
    let open = |it: &Observation| {
        matches!(
            it,
            Observation::Breaker {
                state: BreakerState::Open { .. },
                ..
            }
        )
    };
    assert_eq!(bench.observed(open), 1);
    bench
}

#[test]
fn an_open_breaker_rests_and_then_one_probe_goes() {
    let mut bench = broken();
    assert_eq!(bench.away(), [11, 12], "from before it opened");
    bench.pass(29_999);
    assert_eq!(bench.away(), [11, 12]);
    bench.pass(1);
    assert_eq!(bench.away(), [11, 12, 1], "one probe");
    bench.end(11, OutcomeKind::Accept);
    bench.end(12, OutcomeKind::Unknown);
    assert_eq!(bench.away(), [1], "older attempts decide nothing");
    bench.end(1, OutcomeKind::Unknown);
    bench.pass(29_999);
    assert_eq!(bench.away(), []);
    bench.pass(1);
    assert_eq!(bench.away().len(), 1);
    bench.end_all(OutcomeKind::Accept);
    assert_eq!(bench.away().len(), 10);
    while !bench.away().is_empty() {
        bench.end_all(OutcomeKind::Accept);
    }
    bench.assert_at_rest();
}

#[test]
fn a_probe_that_does_not_leave_is_made_by_the_next_one() {
    let mut bench = broken();
    bench.end(11, OutcomeKind::Accept);
    bench.end(12, OutcomeKind::Accept);
    bench.pass(30_000);
    let probe = bench.away()[0];
    bench.put_back(probe);
    bench.commit();
    assert_eq!(bench.away().len(), 1);
    assert_ne!(bench.away()[0], probe);
    // An older attempt that is put back is no probe.
    let second = bench.away()[0];
    bench.pass(10);
    assert_eq!(bench.away(), [second]);
    bench.end(second, OutcomeKind::Reject);
    assert_eq!(bench.away().len(), 9, "a refusal is an answer: it works");
}

#[test]
fn a_put_back_from_before_the_rest_sends_no_second_probe() {
    let mut bench = broken();
    bench.pass(30_000);
    assert_eq!(bench.away().len(), 3);
    bench.put_back(11);
    bench.commit();
    assert_eq!(bench.away().len(), 2);
    bench.pass(1_000);
    assert_eq!(bench.away().len(), 2);
}

#[test]
fn a_pause_ends_the_rest_of_the_breaker() {
    let mut bench = broken();
    bench.end_all(OutcomeKind::Accept);
    let policy = Policy {
        adaptive: false,
        slots_max: 50,
        ..policy()
    };
    let reach = Reach::Paused;
    bench.tell(Gate {
        reach,
        ..gate(1, &policy)
    });
    bench.pass(40_000);
    assert_eq!(bench.away(), []);
    bench.tell(gate(1, &policy));
    let closed = |it: &Observation| {
        matches!(
            it,
            Observation::Breaker {
                state: BreakerState::Closed,
                ..
            }
        )
    };
    assert_eq!(bench.observed(closed), 1);
    bench.commit();
    assert_eq!(bench.away().len(), 10);
}

#[test]
fn a_probe_under_way_when_its_endpoint_is_paused_keeps_nobody_out() {
    let mut bench = broken();
    bench.pass(30_000);
    let reach = Reach::Paused;
    let policy = Policy {
        adaptive: false,
        slots_max: 50,
        ..policy()
    };
    bench.tell(Gate {
        reach,
        ..gate(1, &policy)
    });
    bench.tell(gate(1, &policy));
    bench.commit();
    assert_eq!(bench.away().len(), 12);
    while !bench.away().is_empty() {
        bench.end_all(OutcomeKind::Accept);
    }
    bench.assert_at_rest();
}

#[test]
fn the_rate_is_kept() {
    let policy = Policy {
        rate: Some(RatePolicy {
            per_second_milli: 10_000,
            burst: 3,
        }),
        ..unhindered()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    bench.admit(&to_all(1, vec![1; 100]));
    assert_eq!(bench.away().len(), 3);
    bench.pass(99);
    assert_eq!(bench.away().len(), 3);
    bench.pass(1);
    assert_eq!(bench.away().len(), 4);
    bench.pass(2_000);
    assert_eq!(bench.away().len(), 24);
    // What does not leave gives its share of the rate back.
    bench.put_back(1);
    bench.commit();
    assert_eq!(bench.away().len(), 24);
    assert_eq!(bench.world().sent.len(), 25);
}

#[test]
fn a_fresh_one_does_not_overtake_the_line() {
    let policy = Policy {
        rate: Some(RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        }),
        ..unhindered()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    bench.admit(&event(1));
    bench.admit(&event(2));
    // The next may go, and before the engine is woken for it another one comes.
    bench.now = bench.now.plus(1_000);
    bench.submit(&event(3));
    bench.commit();
    assert_eq!(bench.away(), [1, 2]);
}

#[test]
fn an_hour_at_nought_ends_with_the_hour() {
    let mut hours = [100; 24];
    hours[12] = 0;
    let policy = Policy {
        rate: Some(RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        }),
        hours_percent: Some(hours),
        ..unhindered()
    };
    let mut bench = Bench::with(Config::default(), policy, 1);
    bench.admit(&to_all(1, vec![1; 3]));
    assert_eq!(bench.away().len(), 1, "the burst");
    bench.pass(HOUR_MS - 1);
    assert_eq!(bench.away().len(), 1);
    bench.pass(1);
    assert!(bench.away().len() > 1);
}

#[test]
fn slots_start_slow_grow_with_acceptance_and_halve_with_trouble() {
    let mut bench = Bench::with(
        Config::default(),
        Policy {
            breaker: unhindered().breaker,
            attempts_max: 100,
            ..policy()
        },
        1,
    );
    bench.admit(&to_all(1, vec![1; 300]));
    let mut under_way = vec![bench.away().len()];
    for _ in 0..4 {
        bench.end_all(OutcomeKind::Accept);
        under_way.push(bench.away().len());
    }
    assert_eq!(under_way, [4, 8, 16, 16, 16]);
    for _ in 0..16 {
        let id = bench.away()[0];
        bench.end(id, OutcomeKind::Retry);
        if bench.away().len() == 8 {
            break;
        }
    }
    bench.end_all(OutcomeKind::Unknown);
    assert_eq!(bench.away().len(), 1);
    bench.end_all(OutcomeKind::Accept);
    assert_eq!(bench.away().len(), 2);
    bench.end_all(OutcomeKind::Accept);
    assert_eq!(
        bench.away().len(),
        3,
        "after trouble a full round raises them by one"
    );
    bench.end_all(OutcomeKind::Reject);
    assert_eq!(
        bench.away().len(),
        3,
        "a refusal says nothing about the pace"
    );
}

#[test]
fn a_wish_for_silence_within_the_cap_is_kept_by_everybody() {
    let mut bench = Bench::with(Config::default(), unhindered(), 1);
    bench.admit(&event(1));
    bench.answer(1, throttle(60_000));
    bench.commit();
    bench.admit(&to_all(2, vec![1; 5]));
    bench.pass(59_999);
    assert_eq!(bench.away(), []);
    bench.pass(1);
    assert_eq!(bench.away().len(), 6);
    assert_eq!(
        bench.observed(|it| matches!(it, Observation::Incident { .. })),
        0
    );
}

#[test]
fn beyond_the_cap_one_probes_and_the_others_wait_for_the_receivers_time() {
    let mut bench = Bench::with(Config::default(), unhindered(), 1);
    bench.admit(&to_all(1, vec![1; 5]));
    bench.answer(1, throttle(10 * MINUTE_MS));
    bench.commit();
    assert_eq!(bench.is(1), (State::Scheduled, Cause::RetryAfterCapped));
    for id in 2..=5 {
        bench.answer(id, throttle(10 * MINUTE_MS));
    }
    bench.commit();
    assert_eq!(
        bench.observed(|it| matches!(it, Observation::Incident { .. })),
        5
    );
    bench.pass(2 * MINUTE_MS - 1);
    assert_eq!(bench.away(), []);
    bench.pass(1);
    assert_eq!(bench.away().len(), 1, "one probe at the cap");
    bench.pass(MINUTE_MS);
    assert_eq!(bench.away().len(), 1);
    bench.end_all(OutcomeKind::Unknown);
    bench.pass(2 * MINUTE_MS - 1);
    assert_eq!(bench.away(), []);
    bench.pass(1);
    assert_eq!(bench.away().len(), 1, "the next one as long after");
    let probe = bench.away()[0];
    bench.put_back(probe);
    bench.commit();
    assert_eq!(
        bench.away().len(),
        1,
        "a probe that does not leave is made by another"
    );
    let rest = 10 * MINUTE_MS - 5 * MINUTE_MS;
    bench.pass(rest - 1);
    assert_eq!(bench.away().len(), 1);
    bench.pass(1);
    assert_eq!(bench.away().len(), 5, "at the receiver's time");
}

#[test]
fn an_accepted_probe_ends_the_silence() {
    let mut bench = Bench::with(Config::default(), unhindered(), 1);
    bench.admit(&event(1));
    bench.answer(1, throttle(i64::MAX));
    bench.commit();
    bench.admit(&to_all(2, vec![1; 5]));
    let ask = bench.cancel(1);
    bench.commit();
    assert!(bench.reply(ask).is_some());
    bench.pass(2 * MINUTE_MS);
    assert_eq!(bench.away().len(), 1, "whoever waits may probe");
    bench.end_all(OutcomeKind::Accept);
    assert_eq!(bench.away().len(), 4);
}

#[test]
fn hanging_endpoints_hold_no_more_than_their_share() {
    let config = Config {
        slots_max: 40,
        troubled_percent_max: 25,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 100);
    let hanging = 1..=20_u64;
    for endpoint in hanging.clone() {
        bench.admit(&event(endpoint).to(endpoint));
        bench.end(endpoint, OutcomeKind::Unknown);
    }
    for endpoint in hanging {
        bench.admit(&to_all(100 + endpoint, vec![endpoint; 20]));
    }
    bench.pass(10_000);
    assert_eq!(
        bench.away().len(),
        10,
        "a quarter of the slots, all of them hanging"
    );
    for round in 0..50 {
        let first = bench.world().sent.len();
        bench.admit(&to_all(1_000 + round, (30..60).collect()));
        let sent = &bench.world().sent[first..];
        let well: Vec<u64> = sent.iter().map(|it| it.endpoint.0).collect();
        assert_eq!(well, Vec::from_iter(30..60), "the others go at once");
        for dispatch in bench.world().away.clone() {
            if dispatch.endpoint.0 >= 30 {
                bench.answer(dispatch.delivery.0, outcome(OutcomeKind::Accept));
            }
        }
        bench.commit();
    }
    while !bench.away().is_empty() {
        bench.end_all(OutcomeKind::Accept);
    }
    bench.pass(1);
    bench.assert_at_rest();
}

#[test]
fn a_slot_that_one_in_trouble_leaves_goes_to_the_next_of_them() {
    let config = Config {
        slots_max: 4,
        troubled_percent_max: 25,
        ..Config::default()
    };
    let mut bench = Bench::with(config, policy(), 4);
    for endpoint in 1..=3 {
        bench.admit(&event(endpoint).to(endpoint));
        bench.end(endpoint, OutcomeKind::Unknown);
    }
    bench.pass(2_000);
    assert_eq!(bench.away(), [1]);
    // The next one in line is paused when its turn comes: the one behind it must not wait for it.
    let reach = Reach::Paused;
    bench.tell(Gate {
        reach,
        ..gate(2, &policy())
    });
    bench.end(1, OutcomeKind::Accept);
    assert_eq!(bench.away(), [3]);
    bench.end(3, OutcomeKind::Accept);
    bench.tell(gate(2, &policy()));
    bench.commit();
    bench.end(2, OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn one_that_has_recovered_leaves_the_line_of_those_in_trouble() {
    let config = Config {
        slots_max: 4,
        troubled_percent_max: 50,
        ..Config::default()
    };
    let policy = Policy {
        slots_max: 2,
        ..policy()
    };
    let mut bench = Bench::with(config, policy, 3);
    for endpoint in 1..=3 {
        bench.admit(&event(endpoint).to(endpoint));
        bench.end(endpoint, OutcomeKind::Unknown);
    }
    bench.pass(2_000);
    assert_eq!(
        bench.away(),
        [1, 2],
        "the third waits for a slot they share"
    );
    bench.admit(&to_all(4, vec![1; 3]));
    bench.end(1, OutcomeKind::Accept);
    assert_eq!(bench.away(), [2, 3]);
    bench.admit(&event(5).to(2));
    bench.end(2, OutcomeKind::Accept);
    assert_eq!(bench.away(), [3, 4]);
    // A full round was accepted: the first needs none of the slots they share any more.
    bench.end(4, OutcomeKind::Accept);
    assert_eq!(bench.away(), [3, 7, 5, 6]);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn tenants_then_endpoints_have_equal_turns() {
    let config = Config {
        slots_max: 6,
        ..Config::default()
    };
    let mut bench = Bench::with(config, unhindered(), 4);
    let other = Gate {
        tenant: TenantId(2),
        ..gate(4, &unhindered())
    };
    bench.tell(other);
    // The slots are taken, then three endpoints of one tenant and one of another queue up.
    bench.admit(&to_all(1, vec![1; 6]));
    for (key, endpoint) in [(2, 1), (3, 2), (4, 3), (5, 4)] {
        bench.admit(&to_all(key, vec![endpoint; 60]));
    }
    let first = bench.world().sent.len();
    for _ in 0..10 {
        bench.end_all(OutcomeKind::Accept);
    }
    let mut turns: BTreeMap<u64, usize> = BTreeMap::new();
    for dispatch in &bench.world().sent[first..] {
        *turns.entry(dispatch.endpoint.0).or_default() += 1;
    }
    assert_eq!(Vec::from_iter(turns), [(1, 10), (2, 10), (3, 10), (4, 30)]);
}

#[test]
fn first_tries_go_before_retries_three_times_in_four() {
    let mut bench = Bench::with(
        Config {
            slots_max: 4,
            troubled_percent_max: 100,
            ..Config::default()
        },
        unhindered(),
        1,
    );
    bench.admit(&to_all(1, vec![1; 4]));
    bench.end_all(OutcomeKind::Retry);
    bench.admit(&to_all(2, vec![1; 4]));
    bench.admit(&to_all(3, vec![1; 20]));
    bench.pass(2_000);
    let first = bench.world().sent.len();
    for _ in 0..3 {
        bench.end_all(OutcomeKind::Accept);
    }
    let sent = bench.world().sent[first..].iter();
    let attempts: Vec<u32> = sent.map(|it| it.attempt).collect();
    assert_eq!(
        attempts.iter().filter(|it| **it == 2).count(),
        3,
        "{attempts:?}"
    );
}

#[test]
fn a_rate_that_changes_starts_anew_and_one_that_does_not_goes_on() {
    let slow = Some(RatePolicy {
        per_second_milli: 1,
        burst: 1,
    });
    let policy = Policy {
        rate: slow,
        ..unhindered()
    };
    let mut bench = Bench::with(Config::default(), policy.clone(), 1);
    bench.admit(&to_all(1, vec![1; 5]));
    bench.tell(gate(1, &policy));
    bench.commit();
    assert_eq!(bench.away().len(), 1);
    let free = Policy {
        rate: None,
        ..policy
    };
    bench.tell(gate(1, &free));
    bench.commit();
    assert_eq!(bench.away().len(), 5);
    bench.turn([Input::Wake]);
    bench.end_all(OutcomeKind::Accept);
    bench.assert_at_rest();
}

#[test]
fn an_endpoint_that_ended_is_forgotten_once_nothing_needs_it() {
    let mut bench = Bench::new();
    let forget = Input::Forget(EndpointId(1));
    let refused_for = |bench: &mut Bench, id: u64| {
        bench.admit(&event(id));
        bench.is(id)
    };
    bench.tell(Gate {
        reach: Reach::Paused,
        ..gate(1, &policy())
    });
    bench.admit(&event(1));
    bench.turn([forget.clone()]);
    bench.tell(gate(1, &policy()));
    bench.commit();
    assert_eq!(bench.away(), [1], "it had not ended, and somebody waited");
    bench.tell(Gate {
        reach: Reach::Closed(Cause::EndpointRetired),
        ..gate(1, &policy())
    });
    bench.turn([forget.clone()]);
    let retired = (State::Suppressed, Cause::EndpointRetired);
    assert_eq!(refused_for(&mut bench, 2), retired, "one is under way");
    bench.end(1, OutcomeKind::Accept);
    assert_eq!(refused_for(&mut bench, 3), retired);
    bench.turn([forget.clone(), forget]);
    let unknown = (State::Suppressed, Cause::EndpointDeleted);
    assert_eq!(refused_for(&mut bench, 4), unknown);
    bench.assert_at_rest();
}
