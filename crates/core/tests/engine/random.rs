//! Random lives: submissions, answers of all kinds, withdrawals, full stores, changed endpoints,
//! crashes and jumps of time in any order. The world holds the engine to its promises at each step,
//! the audit holds its books together, and once the faults stop everything comes to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider_core::breaker::BreakerState;
use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Config, Input, Reply, Why};
use postrider_core::id::{Ask, DeliveryId, EndpointId, PolicyId, TenantId};
use postrider_core::ledger::{Fact, Next};
use postrider_core::observation::Observation;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{
    BreakerPolicy, Guarantee, HeadOfLine, Jitter, Policy, RatePolicy, Schedule,
};
use postrider_core::time::{HOUR_MS, SECOND_MS};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::bench::{Bench, Draft, event, gate, outcome, throttle};

const ENDPOINTS: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Submit {
        key: u64,
        body: u64,
        endpoints: Vec<u64>,
        policy: u32,
        guarantee: Guarantee,
        lane: Option<u64>,
        due_ms: i64,
        ttl_ms: i64,
        key_ms: i64,
    },
    Commit(usize),
    Answer(usize, OutcomeKind, Option<i64>),
    Unsent(usize),
    PutBack(usize),
    Cancel(u64),
    Load,
    Jump(i64),
    Pass(i64),
    Reach(u64, Reach),
    Forget(u64),
    Full(bool),
    NoRoomToAdmit(bool),
    Crash,
}

fn submit() -> impl Strategy<Value = Step> {
    let whom = (
        0..60_u64,
        0..10_u64,
        prop_oneof![
            8 => vec(1..=ENDPOINTS, 1..=1),
            2 => vec(1..=ENDPOINTS + 1, 0..=6),
        ],
        1..=3_u32,
    );
    let how = (
        prop::sample::select(&Guarantee::ALL),
        prop::option::of(1..=3_u64),
        prop::sample::select(&[0, 0, 0, 0, 300, 2_000, 30_000]),
        prop::sample::select(&[0, 1, 400, 3_000, 20_000, 20_000, HOUR_MS, HOUR_MS]),
        prop::sample::select(&[0, 1_000, HOUR_MS]),
    );
    (whom, how).prop_map(|((key, body, endpoints, policy), how)| {
        let (guarantee, lane, due_ms, ttl_ms, key_ms) = how;
        Step::Submit {
            key,
            body: u64::from(body == 0),
            endpoints,
            policy,
            guarantee,
            lane,
            due_ms,
            ttl_ms,
            key_ms,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = prop_oneof![
        6 => Just(OutcomeKind::Accept),
        4 => prop::sample::select(&OutcomeKind::ALL[..5]).prop_filter("common", |kind| {
            *kind != OutcomeKind::Gone
        }),
        2 => Just(OutcomeKind::Unknown),
    ];
    let named = prop::option::of(prop::sample::select(&[
        -1,
        0,
        2_000,
        5_000,
        40_000,
        i64::MAX,
    ]));
    let reach = prop_oneof![
        4 => Just(Reach::Open),
        2 => Just(Reach::Paused),
        1 => Just(Reach::Closed(Cause::EndpointDeleted)),
    ];
    prop_oneof![
        30 => submit(),
        25 => (1..6_usize).prop_map(Step::Commit),
        30 => (0..8_usize, kinds, named).prop_map(|(nth, kind, named)| {
            Step::Answer(nth, kind, named)
        }),
        1 => (0..8_usize).prop_map(|nth| Step::Answer(nth, OutcomeKind::Gone, None)),
        3 => (0..8_usize).prop_map(Step::Unsent),
        4 => (0..8_usize).prop_map(Step::PutBack),
        5 => (0..40_u64).prop_map(Step::Cancel),
        4 => Just(Step::Load),
        8 => prop::sample::select(&[1, 50, 500, 3_000, 30_000]).prop_map(Step::Jump),
        8 => prop::sample::select(&[1, 200, 1_000, 10_000]).prop_map(Step::Pass),
        4 => (1..=ENDPOINTS, reach).prop_map(|(endpoint, reach)| Step::Reach(endpoint, reach)),
        2 => (1..=ENDPOINTS).prop_map(Step::Forget),
        2 => any::<bool>().prop_map(Step::Full),
        2 => any::<bool>().prop_map(Step::NoRoomToAdmit),
        2 => Just(Step::Crash),
    ]
}

fn config() -> Config {
    Config {
        slots_max: 6,
        troubled_percent_max: 34,
        window_max: 24,
        park_after_ms: 1_000,
        records_max: 10,
        put_backs_max: 1,
        ..Config::default()
    }
}

/// Three policies, one for each way of a lane; everything is short.
fn a_policy(id: u32) -> Policy {
    Policy {
        schedule: Schedule::Exponential {
            base_ms: 400,
            cap_ms: 3_000,
        },
        jitter: Jitter::Full,
        attempts_max: 3,
        throttle_ms: 1_000,
        retry_after_cap_ms: 4_000,
        head_of_line: match id {
            1 => HeadOfLine::Block,
            2 => HeadOfLine::Skip,
            _ => HeadOfLine::Park,
        },
        breaker: BreakerPolicy {
            error_percent: 50,
            answers_min: 3,
            answers_max: 10,
            window_ms: 20 * SECOND_MS,
            open_ms: 3 * SECOND_MS,
        },
        slots_max: 4,
        ..Policy::brief(PolicyId(id))
    }
}

/// Four endpoints: a plain one, a limited one, one that rests for some hours, one of another tenant
/// that does not adapt.
fn a_gate(endpoint: u64) -> Gate {
    let plain = gate(endpoint, &a_policy(1));
    let rate = Some(RatePolicy {
        per_second_milli: 2_000,
        burst: 2,
    });
    match endpoint {
        2 => Gate { rate, ..plain },
        3 => {
            let mut hours = [100; 24];
            hours[12] = 50;
            hours[13] = 0;
            Gate {
                rate,
                slots_max: 1,
                hours_percent: Some(hours),
                ..plain
            }
        }
        4 => Gate {
            tenant: TenantId(2),
            adaptive: false,
            ..plain
        },
        _ => plain,
    }
}

struct Life {
    bench: Bench,
    /// Asks that nobody has answered, of this process.
    asks: BTreeSet<Ask>,
    /// Attempts of which bytes may have been written, by delivery.
    written: BTreeMap<DeliveryId, usize>,
    /// How much of what was sent has been looked at.
    seen: usize,
    /// Endpoints that nothing may be sent to.
    shut: BTreeSet<u64>,
    reached: Reached,
}

/// Where lives have been, beside the causes of their deliveries.
#[derive(Default)]
struct Reached {
    parked: bool,
    records: bool,
    observed: BTreeSet<&'static str>,
    causes: BTreeSet<Cause>,
    replies: BTreeSet<&'static str>,
}

impl Life {
    fn new(log: bool) -> Life {
        let mut bench = Bench::with(config(), a_policy(1), 0);
        for id in 1..=3 {
            let policy = Input::Policy(Arc::new(a_policy(id)));
            bench.surroundings.push(policy.clone());
            bench.turn([policy]);
        }
        for endpoint in 1..=ENDPOINTS {
            bench.tell(a_gate(endpoint));
        }
        bench.world().log = log.then(Vec::new);
        Life {
            bench,
            asks: BTreeSet::new(),
            written: BTreeMap::new(),
            seen: 0,
            shut: BTreeSet::new(),
            reached: Reached::default(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Submit { .. } => {
                let draft = draft(step);
                let ask = self.bench.submit(&draft);
                self.asks.insert(ask);
            }
            Step::Commit(records) => self.bench.commit_some(records),
            Step::Answer(nth, kind, named) => {
                let outcome = match kind {
                    OutcomeKind::Throttle => named.map_or(outcome(kind), throttle),
                    _ => outcome(kind),
                };
                self.answer(nth, outcome);
            }
            Step::Unsent(nth) => {
                let unsent = Outcome {
                    unsent: true,
                    ..Outcome::bare(OutcomeKind::Retry, Cause::ConnectRefused)
                };
                self.answer(nth, unsent);
            }
            Step::PutBack(nth) => {
                if let Some(id) = self.nth_away(nth) {
                    self.bench.put_back(id);
                }
            }
            Step::Cancel(id) => {
                let ask = self.bench.cancel(id);
                self.asks.insert(ask);
            }
            Step::Load => self.bench.load(),
            Step::Jump(ms) => {
                self.bench.now = self.bench.now.plus(ms);
                self.bench.turn([Input::Wake]);
            }
            Step::Pass(ms) => self.bench.pass(ms),
            Step::Reach(endpoint, reach) => {
                let gate = a_gate(endpoint);
                self.bench.tell(Gate { reach, ..gate });
                match reach {
                    Reach::Open => self.shut.remove(&endpoint),
                    Reach::Paused | Reach::Closed(_) => self.shut.insert(endpoint),
                };
            }
            Step::Forget(endpoint) => {
                self.bench.turn([Input::Forget(EndpointId(endpoint))]);
            }
            Step::Full(full) => self.bench.world().model.full = full,
            Step::NoRoomToAdmit(full) => self.bench.world().model.no_room_to_admit = full,
            Step::Crash => {
                for id in self.bench.away() {
                    *self.written.entry(DeliveryId(id)).or_default() += 1;
                }
                self.bench.crash();
                self.asks.clear();
            }
        }
        self.check();
    }

    fn nth_away(&mut self, nth: usize) -> Option<u64> {
        let away = self.bench.away();
        away.get(nth % away.len().max(1)).copied()
    }

    fn answer(&mut self, nth: usize, outcome: Outcome) {
        self.check();
        if let Some(id) = self.nth_away(nth) {
            if !outcome.unsent {
                *self.written.entry(DeliveryId(id)).or_default() += 1;
            }
            self.bench.answer(id, outcome);
        }
    }

    /// What must hold at every moment, beside what the world and the audit look at.
    fn check(&mut self) {
        let figures = self.bench.figures();
        assert!(figures.slots_used <= config().slots_max, "{figures:?}");
        // Rows that are read for a withdrawal come on top.
        assert!(figures.window <= config().window_max + 8, "{figures:?}");
        self.reached.parked |= figures.parked > 0;
        self.reached.records |= figures.records_pending >= config().records_max;
        let world = self.bench.world();
        for dispatch in &world.sent[self.seen..] {
            let written = self.written.get(&dispatch.delivery).copied().unwrap_or(0);
            let once = dispatch.guarantee == Guarantee::AtMostOnce;
            let endpoint = dispatch.endpoint.0;
            assert!(!self.shut.contains(&endpoint), "sent to {endpoint}");
            assert!(!once || written == 0, "{} goes twice", dispatch.delivery);
        }
        self.seen = world.sent.len();
        let mut under_way: BTreeMap<u64, u16> = BTreeMap::new();
        for dispatch in &world.away {
            *under_way.entry(dispatch.endpoint.0).or_default() += 1;
        }
        for (endpoint, under_way) in under_way {
            assert!(
                under_way <= a_gate(endpoint).slots_max,
                "{endpoint}: {under_way}"
            );
        }
        self.reached
            .observed
            .extend(world.observed.drain(..).map(|it| observed(&it)));
        self.reached
            .replies
            .extend(world.replies.iter().map(|(_, it)| replied(it)));
        let answered: Vec<Ask> = world.replies.iter().map(|(ask, _)| *ask).collect();
        for ask in answered {
            self.asks.remove(&ask);
        }
    }

    /// The faults stop; whatever is left comes to rest.
    fn come_to_rest(&mut self) {
        let model = &mut self.bench.world().model;
        (model.full, model.no_room_to_admit) = (false, false);
        self.shut.clear();
        for endpoint in 1..=ENDPOINTS {
            self.bench.tell(a_gate(endpoint));
        }
        for _ in 0..2_000 {
            self.bench.commit();
            self.bench.load();
            self.bench.commit();
            while !self.bench.away().is_empty() {
                self.answer(0, outcome(OutcomeKind::Accept));
                self.bench.commit();
                self.check();
            }
            if self.bench.world().model.unsettled().is_empty() {
                break;
            }
            // A parked lane goes on only when an operator says so.
            self.bench.tell(a_gate(1));
            let wake = self.bench.executor().engine().next_wake();
            self.bench.now = wake.unwrap_or_else(|| panic!("nothing will ever happen again"));
            self.bench.turn([Input::Wake]);
        }
        self.check();
        self.bench.assert_at_rest();
        assert!(self.asks.is_empty(), "never answered: {:?}", self.asks);
        self.versions_are_gapless();
    }

    fn versions_are_gapless(&mut self) {
        let mut versions: BTreeMap<DeliveryId, u32> = BTreeMap::new();
        for entry in &self.bench.world().model.journal {
            let version = versions.entry(entry.delivery).or_default();
            assert_eq!(entry.version, *version, "{}", entry.delivery);
            *version += 1;
        }
        let rows = &self.bench.world().model.rows;
        let rows: BTreeMap<_, _> = rows.iter().map(|(id, row)| (*id, row.version)).collect();
        assert_eq!(rows, versions);
    }
}

fn draft(step: Step) -> Draft {
    let Step::Submit {
        key,
        body,
        endpoints,
        policy,
        guarantee,
        lane,
        due_ms,
        ttl_ms,
        key_ms,
    } = step
    else {
        unreachable!("only a submission has a draft")
    };
    Draft {
        body,
        endpoints,
        policy,
        guarantee,
        lane,
        due_ms,
        ttl_ms,
        key_ms,
        ..event(key)
    }
}

fn observed(observation: &Observation) -> &'static str {
    match observation {
        Observation::Incident { .. } => "incident",
        Observation::Conflict { .. } => "conflict",
        Observation::Breaker { state, .. } => match state {
            BreakerState::Closed => "breaker closed",
            BreakerState::Open { .. } => "breaker open",
            BreakerState::Probing => "breaker probing",
        },
        _ => "common",
    }
}

fn replied(reply: &Reply) -> &'static str {
    match reply {
        Reply::Admitted { .. } => "admitted",
        Reply::Duplicate(_) => "duplicate",
        Reply::KeyConflict(_) => "conflict",
        Reply::Refused { why, .. } => match why {
            Why::Overloaded => "overloaded",
            Why::StorageFull => "full",
            Why::Draining => "draining",
        },
        Reply::Cancelled => "cancelled",
        Reply::Received => "received",
        Reply::TooLate(_) => "too late",
        Reply::Absent => "absent",
    }
}

fn live(steps: Vec<Step>, log: bool) -> Life {
    let mut life = Life::new(log);
    for step in steps {
        life.take(step);
    }
    life.come_to_rest();
    let rows = &life.bench.world().model.journal;
    let causes = rows.iter().filter_map(|entry| match &entry.fact {
        Fact::Closed { cause, .. } | Fact::NotSent { cause, .. } => Some(*cause),
        Fact::Answered {
            next: Next::Settle { cause, .. },
            ..
        } => Some(*cause),
        Fact::Answered { outcome, .. } => Some(outcome.cause),
        _ => None,
    });
    let causes: BTreeSet<Cause> = causes.collect();
    life.reached.causes.extend(causes);
    life
}

/// The lives are worth nothing if they stay where nothing happens.
#[test]
fn random_lives_reach_every_corner() {
    let mut runner = TestRunner::deterministic();
    let mut all = Reached::default();
    for _ in 0..300 {
        let steps = vec(step(), 100..150).new_tree(&mut runner);
        let mut life = live(steps.expect("a life").current(), false);
        let reached = &mut life.reached;
        all.parked |= reached.parked;
        all.records |= reached.records;
        all.observed.append(&mut reached.observed);
        all.causes.append(&mut reached.causes);
        all.replies.append(&mut reached.replies);
    }
    assert!(all.parked && all.records);
    let observed = ["breaker closed", "breaker open", "common", "incident"];
    assert_eq!(Vec::from_iter(all.observed), observed);
    let replies = [
        "absent",
        "admitted",
        "cancelled",
        "conflict",
        "duplicate",
        "full",
        "overloaded",
        "too late",
    ];
    assert_eq!(Vec::from_iter(all.replies), replies);
    let missing: Vec<&Cause> = [
        Cause::Deferred,
        Cause::Accepted,
        Cause::BadRequest,
        Cause::Gone,
        Cause::RateLimited,
        Cause::RetryAfterCapped,
        Cause::ServiceDegraded,
        Cause::ConnectRefused,
        Cause::ConnectFailed,
        Cause::ResponseTimeout,
        Cause::Crashed,
        Cause::AttemptsSpent,
        Cause::Expired,
        Cause::ExpiredBreaker,
        Cause::ExpiredLimiter,
        Cause::ExpiredPaused,
        Cause::ExpiredOrder,
        Cause::ExpiredRetry,
        Cause::Cancelled,
        Cause::OrderSkipped,
        Cause::UnknownOutcome,
        Cause::EndpointRetired,
        Cause::EndpointDeleted,
        Cause::NoEndpoint,
    ]
    .iter()
    .filter(|cause| !all.causes.contains(cause))
    .collect();
    assert!(missing.is_empty(), "{missing:?} never came up");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_promise_is_kept_whatever_happens(steps in vec(step(), 1..150)) {
        live(steps, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_same_inputs_have_the_same_effects(steps in vec(step(), 1..150)) {
        let mut logs = [steps.clone(), steps]
            .map(|steps| live(steps, true).bench.world().log.take());
        let (once, twice) = (logs[0].take(), logs[1].take());
        prop_assert!(once.is_some());
        prop_assert_eq!(once, twice);
    }
}
