//! What a delivery's life costs inside the engine: admitted, opened, sent, answered, settled, with
//! a store and receivers that answer at once.
//!
//! `cargo bench -p postrider-core` prints nanoseconds for each life at several sizes of the window
//! and numbers of endpoints. A figure, not a test: it asserts nothing about time.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
#![allow(clippy::disallowed_macros)]

use std::sync::Arc;
use std::time::Instant;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::{Channel, Gate, Reach};
use postrider_core::engine::{Config, Effect, Engine, Input, Origin};
use postrider_core::event::{Event, Submission, Target, Urgency};
use postrider_core::id::{
    Ask, BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, PolicyId, Stamp,
    TenantId, Ticket,
};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::{DAY_MS, Time};

struct Plain;

impl Stamp for Plain {
    fn correlation(&self, id: DeliveryId, entropy: u128) -> CorrelationId {
        CorrelationId(entropy ^ u128::from(id.0))
    }

    fn event(&self, id: EventId, entropy: u128) -> u128 {
        entropy ^ u128::from(id.0)
    }
}

const LIVES: u64 = 400_000;
const IN_FLIGHT: usize = 512;

fn main() {
    for (endpoints, held) in [(1, 0), (100, 0), (10_000, 0), (100, 1_000_000)] {
        let ns = run(endpoints, held);
        println!("{{\"endpoints\":{endpoints},\"held\":{held},\"ns_per_life\":{ns}}}");
    }
}

fn run(endpoints: u64, held: u64) -> u128 {
    let mut engine = Engine::new(Config::default(), Box::new(Plain), Origin::default());
    let mut effects = Vec::new();
    let policy = Policy {
        slots_max: 1_024,
        ..Policy::brief(PolicyId(1))
    };
    engine.handle(
        Time(0),
        Input::Policy(Arc::new(policy.clone())),
        &mut effects,
    );
    for id in 1..=endpoints {
        engine.handle(Time(0), Input::Endpoint(gate(id, &policy)), &mut effects);
    }
    for id in 0..held {
        let mut later = submission(u64::MAX - id, 1 + id % endpoints);
        later.targets[0].due_at = Time(DAY_MS / 2);
        engine.handle(
            Time(0),
            Input::Submit {
                submission: later,
                ask: Ask(0),
            },
            &mut effects,
        );
        settle_records(&mut engine, &mut effects);
    }
    let began = Instant::now();
    let mut under_way = Vec::new();
    let (mut submitted, mut settled) = (0, 0);
    while settled < LIVES {
        while submitted < LIVES && under_way.len() < IN_FLIGHT {
            submitted += 1;
            let new = submission(submitted, 1 + submitted % endpoints);
            engine.handle(
                Time(1),
                Input::Submit {
                    submission: new,
                    ask: Ask(1),
                },
                &mut effects,
            );
            under_way.extend(settle_records(&mut engine, &mut effects));
            if under_way.is_empty() && submitted > settled + 4_096 {
                break;
            }
        }
        for (delivery, attempt) in std::mem::take(&mut under_way) {
            let outcome = Box::new(Outcome::bare(OutcomeKind::Accept, Cause::Accepted));
            let input = Input::Answered {
                delivery,
                attempt,
                outcome,
                entropy: 1,
            };
            engine.handle(Time(2), input, &mut effects);
            under_way.extend(settle_records(&mut engine, &mut effects));
            settled += 1;
        }
    }
    began.elapsed().as_nanos() / u128::from(LIVES)
}

/// Answers every record, and collects what is sent.
fn settle_records(engine: &mut Engine, effects: &mut Vec<Effect>) -> Vec<(DeliveryId, u32)> {
    let mut sent = Vec::new();
    while !effects.is_empty() {
        let mut through = Ticket(0);
        for effect in std::mem::take(effects) {
            match effect {
                Effect::Record(record) => through = record.ticket,
                Effect::Send(dispatch) => sent.push((dispatch.delivery, dispatch.attempt)),
                _ => {}
            }
        }
        if through.0 > 0 {
            let recorded = Input::Recorded {
                through,
                refused: Vec::new(),
            };
            engine.handle(Time(2), recorded, effects);
        }
    }
    sent
}

fn gate(id: u64, policy: &Policy) -> Gate {
    Gate {
        endpoint: EndpointId(id),
        tenant: TenantId(1),
        channel: Channel::default(),
        route: None,
        registered_at: Time(0),
        changed_at: Time(0),
        reach: Reach::Open,
        breaker: policy.breaker,
        rate: None,
        adaptive: true,
        hours_percent: None,
        slots_max: policy.slots_max,
    }
}

fn submission(number: u64, endpoint: u64) -> Box<Submission> {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    Box::new(Submission {
        event: Event {
            id: EventId(0),
            uuid: u128::from(number) << 64,
            tenant: TenantId(1),
            key_digest: KeyDigest(key),
            body_digest: BodyDigest(key),
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
            key_expires_at: Time(DAY_MS),
            first_delivery: DeliveryId(0),
            deliveries: 0,
            retry_of: None,
            payload: Bytes::from_static(b"{}"),
        },
        targets: vec![Target {
            endpoint: EndpointId(endpoint),
            policy: PolicyId(1),
            guarantee: Guarantee::AtLeastOnce,
            collapse_key: None,
            ordering_key: None,
            lane: None,
            due_at: Time(0),
            expires_at: Time(DAY_MS),
            entropy: u128::from(number) * 7,
        }],
        known: None,
    })
}
