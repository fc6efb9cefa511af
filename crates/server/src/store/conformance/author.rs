//! Writes records as the engine would, for tests.
//!
//! Absent here: the engine's judgement. An author writes whatever it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::{Event, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, KeyDigest, OrderingKey,
    Partition, PolicyId, Seq, TenantId, Ticket,
};
use postrider_core::ledger::{Admitted, Delivery, Entry, Fact, Lane, Next, Record, State, apply};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::Guarantee;
use postrider_core::time::{HOUR_MS, Time};

use crate::store::Recovery;

/// Writes records as the engine would: assigns ids and places, and keeps the rows.
pub struct Author {
    /// The time of what is written next.
    pub now: Time,
    /// The epoch it writes under.
    pub epoch: Epoch,
    /// What was recorded last.
    pub last: (EventId, DeliveryId, Seq),
    /// Rows as they should be.
    pub rows: BTreeMap<DeliveryId, Delivery>,
    ticket: u64,
}

/// What an event is to be like.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Digest of its key, spelled as a number.
    pub key: u64,
    /// Whose.
    pub tenant: u32,
    /// Event type.
    pub event_type: &'static str,
    /// Where to, and in which lane at which place.
    pub targets: Vec<(u64, Option<(u64, u64)>)>,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Open the first attempt in the same record.
    pub open: bool,
    /// Bytes of its payload.
    pub payload: usize,
}

impl Wish {
    /// One delivery to `endpoint` under `key`, opened at once.
    #[must_use]
    pub fn one(key: u64, endpoint: u64) -> Wish {
        Wish {
            key,
            tenant: 1,
            event_type: "order.paid",
            targets: vec![(endpoint, None)],
            guarantee: Guarantee::AtLeastOnce,
            open: true,
            payload: 300,
        }
    }
}

impl Author {
    /// Goes on where a recovery says.
    #[must_use]
    pub fn after(recovery: &Recovery, now: Time) -> Author {
        Author {
            now: now.max(recovery.last_at),
            epoch: recovery.epoch,
            last: (
                recovery.last_event,
                recovery.last_delivery,
                recovery.last_seq,
            ),
            rows: BTreeMap::new(),
            ticket: 0,
        }
    }

    /// A record that admits an event.
    pub fn admit(&mut self, wish: &Wish) -> Record {
        let event_id = EventId(self.last.0.0 + 1);
        let first = DeliveryId(self.last.1.0 + 1);
        let mut entries = Vec::new();
        for (&(endpoint, lane), id) in wish.targets.iter().zip(first.0..) {
            let lane = lane.map(|(key, sequence)| Lane {
                key: OrderingKey(key),
                sequence,
            });
            let admitted = Fact::Admitted(Box::new(Admitted {
                correlation: CorrelationId(u128::from(id) << 64 | 77),
                event: event_id,
                tenant: TenantId(wish.tenant),
                endpoint: EndpointId(endpoint),
                channel: Channel::default(),
                policy: PolicyId(1),
                guarantee: wish.guarantee,
                due_at: self.now,
                expires_at: self.now.plus(HOUR_MS),
                lane,
            }));
            entries.push(self.entry(DeliveryId(id), admitted));
            if wish.open {
                entries.push(self.entry(DeliveryId(id), opened(1)));
            }
        }
        self.last.0 = event_id;
        self.last.1.0 += wish.targets.len() as u64;
        let event = Event {
            id: event_id,
            uuid: u128::from(event_id.0) << 64 | 99,
            tenant: TenantId(wish.tenant),
            key_digest: digest(wish.key),
            body_digest: BodyDigest([3; 16]),
            business_id: format!("business-{}", wish.key).into(),
            event_type: wish.event_type.into(),
            version: 1,
            recipient: format!("person-{}", wish.key % 3).into(),
            ordering_key: "".into(),
            collapse_key: "".into(),
            urgency: Urgency::default(),
            traceparent: "".into(),
            content_type: "application/json".into(),
            admitted_at: self.now,
            key_expires_at: self.now.plus(HOUR_MS),
            first_delivery: first,
            deliveries: u32::try_from(wish.targets.len()).unwrap(),
            retry_of: None,
            payload: payload(event_id, wish.payload),
        };
        let mut record = self.record(entries);
        record.event = Some(Arc::new(event));
        record
    }

    /// A record with one more entry for a delivery.
    pub fn fact(&mut self, id: DeliveryId, fact: Fact) -> Record {
        let entry = self.entry(id, fact);
        self.record(vec![entry])
    }

    /// A record that ends an attempt.
    pub fn answer(&mut self, id: DeliveryId, kind: OutcomeKind, next: Next) -> Record {
        let attempt = self.rows[&id].attempt;
        let outcome = Box::new(Outcome {
            http_status: 200,
            latency_ms: 12,
            ..Outcome::bare(kind, Cause::Accepted)
        });
        self.fact(
            id,
            Fact::Answered {
                attempt,
                outcome,
                next,
            },
        )
    }

    /// A record that hands a delivery over.
    pub fn accept(&mut self, id: DeliveryId) -> Record {
        self.answer(
            id,
            OutcomeKind::Accept,
            settle(State::Accepted, Cause::Accepted),
        )
    }

    /// The next entry of a delivery; its row moves.
    pub fn entry(&mut self, delivery: DeliveryId, fact: Fact) -> Entry {
        self.last.2.0 += 1;
        let row = self.rows.get(&delivery);
        let entry = Entry {
            seq: self.last.2,
            delivery,
            version: row.map_or(0, |row| row.version),
            at: self.now,
            previous: row.map_or(Seq(0), |row| row.last_seq),
            fact,
        };
        let mut row = self.rows.remove(&delivery);
        // Some tests write what does not fit, on purpose: then the row stays.
        let _ = apply(&mut row, &entry);
        if let Some(row) = row {
            self.rows.insert(delivery, row);
        }
        entry
    }

    /// A record of these entries.
    pub fn record(&mut self, entries: Vec<Entry>) -> Record {
        self.ticket += 1;
        Record {
            ticket: Ticket(self.ticket),
            event: None,
            fences: vec![(Partition(0), self.epoch)],
            entries,
            release: None,
        }
    }
}

/// An attempt is opened.
#[must_use]
pub fn opened(attempt: u32) -> Fact {
    Fact::Opened {
        attempt,
        policy: PolicyId(1),
    }
}

/// A settlement.
#[must_use]
pub fn settle(state: State, cause: Cause) -> Next {
    Next::Settle { state, cause }
}

/// A key, spelled as a number.
#[must_use]
pub fn digest(key: u64) -> KeyDigest {
    let mut digest = [7; 16];
    digest[..8].copy_from_slice(&key.to_le_bytes());
    KeyDigest(digest)
}

/// The payload of an event.
#[must_use]
pub fn payload(event: EventId, length: usize) -> Bytes {
    let bytes = event.0.to_le_bytes().into_iter().cycle();
    bytes.take(length).collect::<Vec<u8>>().into()
}
