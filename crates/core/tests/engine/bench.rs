//! The bench on which an engine is tried: it submits, commits, answers and lets time pass, and
//! holds the engine's books against its rows after every step.

use std::convert::Infallible;
use std::sync::Arc;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::{Channel, Gate, Reach};
use postrider_core::engine::{Config, Engine, Figures, Input, Reply};
use postrider_core::event::{Event, LaneCounter, Submission, Target, Urgency};
use postrider_core::executor::Executor;
use postrider_core::id::{
    Ask, BodyDigest, CollapseKey, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest,
    OrderingKey, PolicyId, Stamp, TenantId,
};
use postrider_core::ledger::{Delivery, State};
use postrider_core::observation::Observation;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::parked;
use postrider_core::partition::mix;
use postrider_core::policy::{Guarantee, HeadOfLine, Jitter, Policy};
use postrider_core::time::{HOUR_MS, Time};

use crate::world::World;

/// Where every bench's clock starts: noon of some day.
pub const NOON: Time = Time(1_000 * 24 * HOUR_MS + 12 * HOUR_MS);

/// Outer ids that can be read.
pub struct Plain;

impl Stamp for Plain {
    fn correlation(&self, id: DeliveryId, entropy: u128) -> CorrelationId {
        CorrelationId(u128::from(id.0) << 64 | (entropy & u128::from(u64::MAX)))
    }

    fn event(&self, id: EventId, entropy: u128) -> u128 {
        u128::from(id.0) << 64 | (entropy & u128::from(u64::MAX))
    }
}

/// The policy of most tests: no jitter, so that waits are known.
pub fn policy() -> Policy {
    Policy {
        jitter: Jitter::None,
        ..Policy::brief(PolicyId(1))
    }
}

/// An open endpoint of the first tenant under `policy`.
pub fn gate(endpoint: u64, policy: &Policy) -> Gate {
    Gate {
        endpoint: EndpointId(endpoint),
        tenant: TenantId(1),
        channel: Channel::default(),
        route: None,
        registered_at: Time(0),
        changed_at: Time(0),
        reach: Reach::Open,
        breaker: policy.breaker,
        rate: policy.rate,
        adaptive: policy.adaptive,
        hours_percent: policy.hours_percent,
        slots_max: policy.slots_max,
    }
}

/// An event that waits to be submitted.
#[derive(Clone)]
pub struct Draft {
    pub key: u64,
    pub body: u64,
    pub tenant: u32,
    pub endpoints: Vec<u64>,
    pub policy: u32,
    pub guarantee: Guarantee,
    pub lane: Option<u64>,
    pub thread: Option<u64>,
    pub due_ms: i64,
    pub ttl_ms: i64,
    pub key_ms: i64,
}

/// An event under this key to the first endpoint.
pub fn event(key: u64) -> Draft {
    Draft {
        key,
        body: 0,
        tenant: 1,
        endpoints: vec![1],
        policy: 1,
        guarantee: Guarantee::AtLeastOnce,
        lane: None,
        thread: None,
        due_ms: 0,
        ttl_ms: 72 * HOUR_MS,
        key_ms: 24 * HOUR_MS,
    }
}

impl Draft {
    pub fn to(self, endpoint: u64) -> Draft {
        let endpoints = vec![endpoint];
        Draft { endpoints, ..self }
    }

    pub fn lane(self, key: u64) -> Draft {
        let lane = Some(key);
        Draft { lane, ..self }
    }

    pub fn at_most_once(self) -> Draft {
        let guarantee = Guarantee::AtMostOnce;
        Draft { guarantee, ..self }
    }

    pub fn ttl(self, ttl_ms: i64) -> Draft {
        Draft { ttl_ms, ..self }
    }

    pub fn due_in(self, due_ms: i64) -> Draft {
        Draft { due_ms, ..self }
    }

    fn target(&self, now: Time, endpoint: u64) -> Target {
        Target {
            endpoint: EndpointId(endpoint),
            policy: PolicyId(self.policy),
            guarantee: self.guarantee,
            collapse_key: self.thread.and_then(CollapseKey::new),
            ordering_key: self.lane.map(OrderingKey),
            lane: None,
            due_at: now.plus(self.due_ms),
            expires_at: now.plus(self.ttl_ms),
            entropy: u128::from(mix(self.key ^ endpoint.rotate_left(20))),
        }
    }

    pub fn submission(&self, now: Time) -> Submission {
        let digest = |of: u64| (u128::from(mix(of)) << 64 | u128::from(of)).to_le_bytes();
        let endpoints = self.endpoints.iter();
        Submission {
            targets: endpoints.map(|it| self.target(now, *it)).collect(),
            known: None,
            event: Event {
                id: EventId(0),
                uuid: u128::from(mix(self.key)),
                tenant: TenantId(self.tenant),
                key_digest: KeyDigest(digest(self.key)),
                body_digest: BodyDigest(digest(self.body)),
                business_id: "order-1".into(),
                event_type: "order.paid".into(),
                version: 1,
                recipient: "".into(),
                ordering_key: "".into(),
                collapse_key: "".into(),
                urgency: Urgency::default(),
                traceparent: "".into(),
                content_type: "application/json".into(),
                admitted_at: Time(0),
                key_expires_at: now.plus(self.key_ms),
                first_delivery: DeliveryId(0),
                deliveries: 0,
                retry_of: None,
                payload: Bytes::from_static(b"{}"),
            },
        }
    }
}

/// An outcome without more to it than its kind.
pub fn outcome(kind: OutcomeKind) -> Outcome {
    let (cause, http_status) = match kind {
        OutcomeKind::Accept => (Cause::Accepted, 200),
        OutcomeKind::Retry => (Cause::ServiceDegraded, 503),
        OutcomeKind::Throttle => (Cause::RateLimited, 429),
        OutcomeKind::Reject => (Cause::BadRequest, 400),
        OutcomeKind::Gone => (Cause::Gone, 410),
        OutcomeKind::Unknown => (Cause::ResponseTimeout, 0),
        OutcomeKind::Blocked => (Cause::AuthFailure, 403),
    };
    Outcome {
        http_status,
        may_have_acted: matches!(kind, OutcomeKind::Unknown | OutcomeKind::Retry),
        ..Outcome::bare(kind, cause)
    }
}

/// A 429 that names a time.
pub fn throttle(retry_after_ms: i64) -> Outcome {
    Outcome {
        retry_after_ms: Some(retry_after_ms),
        ..outcome(OutcomeKind::Throttle)
    }
}

pub struct Bench {
    pub now: Time,
    pub config: Config,
    pub surroundings: Vec<Input>,
    executor: Option<Executor<World>>,
    last_ask: u64,
}

impl Bench {
    /// An engine with the first policy and one endpoint under it.
    pub fn new() -> Bench {
        Bench::with(Config::default(), policy(), 1)
    }

    /// An engine with the policy and endpoints from 1 to `endpoints` under it.
    pub fn with(config: Config, policy: Policy, endpoints: u64) -> Bench {
        let gates = (1..=endpoints).map(|id| Input::Endpoint(gate(id, &policy)));
        let gates: Vec<Input> = gates.collect();
        let first = Input::Policy(Arc::new(policy));
        let mut bench = Bench {
            now: NOON,
            config,
            surroundings: std::iter::once(first).chain(gates).collect(),
            executor: None,
            last_ask: 0,
        };
        bench.start(World::default());
        bench
    }

    fn start(&mut self, world: World) {
        let origin = world.model.origin;
        let unsettled = world.model.unsettled();
        let engine = Engine::new(self.config.clone(), Box::new(Plain), origin);
        self.executor = Some(Executor::new(engine, world));
        self.turn(self.surroundings.clone());
        let stopped = self.stopped();
        self.turn(stopped);
        // In pieces, as a store reads them.
        for piece in unsettled.chunks(3) {
            self.turn([Input::Loaded {
                deliveries: piece.to_vec(),
                absent: Vec::new(),
            }]);
        }
    }

    /// The lanes that a dead letter had stopped, as a store and a registry tell.
    fn stopped(&mut self) -> Vec<Input> {
        let surroundings = self.surroundings.clone();
        let rows = self.world().model.rows.clone();
        let parks = |id| {
            let mut policies = surroundings.iter().filter_map(|input| match input {
                Input::Policy(policy) if policy.id == id => Some(policy.head_of_line),
                _ => None,
            });
            policies.next_back() == Some(HeadOfLine::Park)
        };
        let changed_at = |id| {
            let mut gates = surroundings.iter().filter_map(|input| match input {
                Input::Endpoint(gate) if gate.endpoint == id => Some(gate.changed_at),
                _ => None,
            });
            gates.next_back().unwrap_or(Time::NEVER)
        };
        let page = |endpoint, before: Option<DeliveryId>| -> Result<_, Infallible> {
            let of_it = rows.values().rev().filter(|row| row.endpoint == endpoint);
            let older = of_it.filter(|row| before.is_none_or(|id| row.id < id));
            let page: Vec<Delivery> = older.take(3).cloned().collect();
            let next = page.last().map(|row| row.id);
            Ok((page, next))
        };
        let unsettled = rows.values().filter(|row| !row.state.is_settled());
        let Ok(stopped) = parked::stopped(unsettled, parks, changed_at, page);
        let told = |(endpoint, key)| Input::Parked { endpoint, key };
        stopped.into_iter().map(told).collect()
    }

    /// The process dies: what was under way is lost, what is durable is read again.
    pub fn crash(&mut self) {
        let mut old = self.executor.take().expect("an engine");
        let mut world = std::mem::take(old.world()).crashed();
        world.model.origin.epoch.0 += 1;
        self.start(world);
    }

    pub fn executor(&mut self) -> &mut Executor<World> {
        self.executor.as_mut().expect("an engine")
    }

    pub fn world(&mut self) -> &mut World {
        self.executor().world()
    }

    pub fn figures(&self) -> Figures {
        self.executor
            .as_ref()
            .expect("an engine")
            .engine()
            .figures()
    }

    pub fn row(&mut self, id: u64) -> Delivery {
        self.world().model.rows[&DeliveryId(id)].clone()
    }

    /// State and cause of a delivery, as far as they are durable.
    pub fn is(&mut self, id: u64) -> (State, Cause) {
        let row = self.row(id);
        (row.state, row.cause)
    }

    /// Takes inputs in one turn, and holds the books against the rows.
    pub fn turn(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let now = self.now;
        self.executor().turn(now, inputs);
        if let Err(finding) = self.executor().engine().audit(now) {
            panic!("{finding}");
        }
        if let Some(wake) = self.executor().engine().next_wake() {
            assert!(wake > now, "a timer of {wake} was left at {now}");
        }
        if self.config.plant.is_none() {
            let broken = &self.world().broken;
            assert!(broken.is_empty(), "{broken:?}");
        }
    }

    pub fn ask(&mut self) -> Ask {
        self.last_ask += 1;
        Ask(self.last_ask)
    }

    pub fn submit(&mut self, draft: &Draft) -> Ask {
        let ask = self.ask();
        let submission = Box::new(draft.submission(self.now));
        self.turn([Input::Submit { submission, ask }]);
        ask
    }

    /// Submits and commits; the id of the first delivery.
    pub fn admit(&mut self, draft: &Draft) -> u64 {
        let ask = self.submit(draft);
        self.commit();
        match self.reply(ask) {
            Some(Reply::Admitted { first_delivery, .. }) => first_delivery.0,
            other => panic!("not admitted but {other:?}"),
        }
    }

    pub fn reply(&mut self, ask: Ask) -> Option<Reply> {
        let replies = &self.world().replies;
        let reply = replies.iter().find(|(to, _)| *to == ask);
        reply.map(|(_, reply)| reply.clone())
    }

    /// Makes the first `records` of those handed over durable, and answers them together.
    pub fn commit_some(&mut self, records: usize) {
        let world = self.world();
        let mut refused = Vec::new();
        let mut through = None;
        for _ in 0..records {
            let Some(record) = world.records.pop_front() else {
                break;
            };
            through = Some(record.ticket);
            if let Err(why) = world.model.record(&record) {
                refused.push((record, why));
            }
        }
        if let Some(through) = through {
            self.turn([Input::Recorded { through, refused }]);
        }
    }

    /// Lets everything become durable, with what follows from it.
    pub fn commit(&mut self) {
        while !self.world().records.is_empty() {
            let records = self.world().records.len();
            self.commit_some(records);
            if self.world().model.full {
                break;
            }
        }
    }

    /// Reads the rows that were asked for.
    pub fn load(&mut self) {
        let asked: Vec<DeliveryId> = self.world().loads.drain(..).flatten().collect();
        if asked.is_empty() {
            return;
        }
        let model = &self.world().model;
        let found = asked.iter().filter_map(|id| model.rows.get(id));
        let deliveries = found
            .map(|row| (row.clone(), model.counter_of(row)))
            .collect();
        let absent = asked
            .iter()
            .copied()
            .filter(|id| !model.rows.contains_key(id));
        let absent = absent.collect();
        self.turn([Input::Loaded { deliveries, absent }]);
    }

    /// The attempts under way, each a delivery's id.
    pub fn away(&mut self) -> Vec<u64> {
        self.world().away.iter().map(|it| it.delivery.0).collect()
    }

    fn take_away(&mut self, id: u64) -> Dispatch {
        let away = &mut self.world().away;
        let place = away.iter().position(|it| it.delivery.0 == id);
        away.remove(place.unwrap_or_else(|| panic!("{id} is not under way")))
    }

    /// Answers the attempt under way; what follows is not durable yet.
    pub fn answer(&mut self, id: u64, outcome: Outcome) -> Dispatch {
        let dispatch = self.take_away(id);
        self.turn([Input::Answered {
            delivery: dispatch.delivery,
            attempt: dispatch.attempt,
            outcome: Box::new(outcome),
            entropy: mix(id),
        }]);
        dispatch
    }

    /// Answers the attempt under way, and commits.
    pub fn end(&mut self, id: u64, kind: OutcomeKind) {
        self.answer(id, outcome(kind));
        self.commit();
    }

    /// Answers everything that is under way now in the same way, and commits.
    pub fn end_all(&mut self, kind: OutcomeKind) {
        let away = std::mem::take(&mut self.world().away);
        let answers = away.into_iter().map(|it| Input::Answered {
            delivery: it.delivery,
            attempt: it.attempt,
            outcome: Box::new(outcome(kind)),
            entropy: mix(it.delivery.0),
        });
        self.turn(answers);
        self.commit();
    }

    /// Puts the attempt under way back unsent.
    pub fn put_back(&mut self, id: u64) {
        let Dispatch {
            delivery, attempt, ..
        } = self.take_away(id);
        let cause = Cause::Deferred;
        self.turn([Input::NotSent {
            delivery,
            attempt,
            cause,
        }]);
    }

    pub fn cancel(&mut self, id: u64) -> Ask {
        let ask = self.ask();
        let delivery = DeliveryId(id);
        self.turn([Input::Cancel { delivery, ask }]);
        ask
    }

    pub fn tell(&mut self, gate: Gate) {
        self.surroundings.push(Input::Endpoint(gate.clone()));
        self.turn([Input::Endpoint(gate)]);
    }

    /// Lets time pass, waking the engine when it wants to be woken, commits and loads at once.
    pub fn pass(&mut self, ms: i64) {
        let end = self.now.plus(ms);
        for _ in 0..100_000 {
            let wake = self.executor().engine().next_wake();
            self.now = wake.unwrap_or(Time::NEVER).min(end).max(self.now);
            self.turn([Input::Wake]);
            self.commit();
            self.load();
            self.commit();
            if self.now == end {
                return;
            }
        }
        panic!("the engine spins");
    }

    /// How often something was observed.
    pub fn observed(&mut self, what: impl Fn(&Observation) -> bool) -> usize {
        self.world().observed.iter().filter(|it| what(it)).count()
    }

    /// Nothing is under way and nothing is left.
    pub fn assert_at_rest(&mut self) {
        let figures = self.figures();
        assert_eq!((figures.slots_used, figures.records_pending), (0, 0));
        assert_eq!((figures.window, figures.lanes, figures.parked), (0, 0, 0));
        assert!(self.executor().engine().is_idle());
        assert!(self.world().model.unsettled().is_empty());
    }
}

/// The lane counter of the first endpoint.
pub fn counter(bench: &mut Bench, key: u64) -> LaneCounter {
    let lanes = &bench.world().model.lanes;
    lanes[&(EndpointId(1), OrderingKey(key))]
}
