//! The picture: what is durable, folded from the history by the production state table and nothing
//! else. Checkers hold what happens against it.
//!
//! Absent here: the stores. The picture knows what they said they made durable.

use std::collections::BTreeMap;

use postrider_core::event::Event;
use postrider_core::id::{
    CorrelationId, DeliveryId, EndpointId, Epoch, EventId, KeyDigest, OrderingKey, PolicyId, Seq,
};
use postrider_core::ledger::{Delivery, Entry, Fact, apply};
use postrider_core::policy::Policy;
use postrider_core::time::Time;

use crate::history::Happened;
use crate::plan::SHARDS;

/// A row, and under which epoch its last attempt was opened.
#[derive(Clone, Debug)]
pub struct Known {
    /// The row.
    pub row: Delivery,
    /// The epoch of the record that opened its last attempt.
    pub opened_under: Epoch,
}

/// What the picture remembers of an event.
#[derive(Clone, Copy, Debug)]
pub struct KnownEvent {
    /// When it was admitted, on the engine's clock.
    pub admitted_at: Time,
    /// Its first delivery.
    pub first_delivery: DeliveryId,
    /// How many it has.
    pub deliveries: u32,
    /// Its key.
    pub key: KeyDigest,
    /// Until when its key is remembered.
    pub key_expires_at: Time,
}

/// A lane: unsettled deliveries by their sequence ids.
pub type LaneAt = (usize, EndpointId, OrderingKey);

/// What is durable.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    rows: [BTreeMap<DeliveryId, Known>; SHARDS],
    events: [BTreeMap<EventId, KnownEvent>; SHARDS],
    lanes: BTreeMap<LaneAt, BTreeMap<u64, DeliveryId>>,
    outer: BTreeMap<CorrelationId, (usize, DeliveryId)>,
    epochs: [Epoch; SHARDS],
    last_seq: [Seq; SHARDS],
    newest: [Time; SHARDS],
    unsettled: usize,
    settled: u64,
    policies: BTreeMap<PolicyId, Policy>,
    calm_at: Option<Time>,
}

impl Picture {
    /// Takes in what happened.
    ///
    /// # Errors
    /// In words, what a store made durable although the state table forbids it.
    pub fn take(&mut self, at: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Granted { who } => self.epochs[who.shard] = who.epoch,
            Happened::Policy(policy) => {
                self.policies.insert(policy.id, (*policy).clone());
            }
            Happened::Calm => self.calm_at = Some(at),
            Happened::Committed { shard, record } => {
                if let Some(event) = &record.event {
                    self.admit(*shard, event);
                }
                let epoch = record.fences.first().map_or(Epoch(0), |(_, epoch)| *epoch);
                for entry in &record.entries {
                    self.fold(*shard, epoch, entry)?;
                }
            }
            Happened::Purged { shard, gone } => {
                for id in *gone {
                    if let Some(known) = self.rows[*shard].remove(id) {
                        self.unsettled -= usize::from(!known.row.state.is_settled());
                        self.outer.remove(&known.row.correlation);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn admit(&mut self, shard: usize, event: &Event) {
        let known = KnownEvent {
            admitted_at: event.admitted_at,
            first_delivery: event.first_delivery,
            deliveries: event.deliveries,
            key: event.key_digest,
            key_expires_at: event.key_expires_at,
        };
        self.events[shard].insert(event.id, known);
    }

    fn fold(&mut self, shard: usize, epoch: Epoch, entry: &Entry) -> Result<(), String> {
        let id = entry.delivery;
        let known = self.rows[shard].remove(&id);
        let was_unsettled = known.as_ref().is_some_and(|it| !it.row.state.is_settled());
        let mut opened_under = known.as_ref().map_or(Epoch(0), |known| known.opened_under);
        let mut row = known.map(|known| known.row);
        let applied = apply(&mut row, entry);
        let Some(row) = row else {
            return applied.map_err(|conflict| format!("shard {shard}: {conflict}"));
        };
        if let Err(conflict) = applied {
            self.rows[shard].insert(id, Known { row, opened_under });
            return Err(format!("shard {shard}: {conflict}"));
        }
        if matches!(entry.fact, Fact::Opened { .. }) {
            opened_under = epoch;
        }
        let settled = row.state.is_settled();
        match (was_unsettled, settled) {
            (false, false) => self.unsettled += 1,
            (true, true) => {
                self.unsettled -= 1;
                self.settled += 1;
            }
            _ => {}
        }
        if let Some(place) = row.lane {
            let lane = self
                .lanes
                .entry((shard, row.endpoint, place.key))
                .or_default();
            match settled {
                true => lane.remove(&place.sequence),
                false => lane.insert(place.sequence, id),
            };
        }
        self.outer.insert(row.correlation, (shard, id));
        self.last_seq[shard] = self.last_seq[shard].max(entry.seq);
        self.newest[shard] = self.newest[shard].max(entry.at);
        let known = Known { row, opened_under };
        self.rows[shard].insert(id, known);
        Ok(())
    }

    /// A row.
    #[must_use]
    pub fn row(&self, shard: usize, id: DeliveryId) -> Option<&Known> {
        self.rows[shard].get(&id)
    }

    /// All rows of a shard, in the order of ids.
    pub fn rows(&self, shard: usize) -> impl Iterator<Item = &Known> {
        self.rows[shard].values()
    }

    /// The row with this outer id, and its shard.
    #[must_use]
    pub fn outer(&self, correlation: CorrelationId) -> Option<(usize, &Known)> {
        let (shard, id) = self.outer.get(&correlation)?;
        Some((*shard, self.row(*shard, *id)?))
    }

    /// An event, purged ones included.
    #[must_use]
    pub fn event(&self, shard: usize, id: EventId) -> Option<&KnownEvent> {
        self.events[shard].get(&id)
    }

    /// The unsettled deliveries of a lane, by their sequence ids.
    #[must_use]
    pub fn lane(&self, at: LaneAt) -> Option<&BTreeMap<u64, DeliveryId>> {
        self.lanes.get(&at)
    }

    /// The epoch under which a shard is owned.
    #[must_use]
    pub fn epoch(&self, shard: usize) -> Epoch {
        self.epochs[shard]
    }

    /// The place of the newest entry of a shard's journal.
    #[must_use]
    pub fn last_seq(&self, shard: usize) -> Seq {
        self.last_seq[shard]
    }

    /// The time of the newest entry of a shard's journal.
    #[must_use]
    pub fn newest(&self, shard: usize) -> Time {
        self.newest[shard]
    }

    /// Deliveries that are not settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Deliveries that were settled.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// A policy.
    #[must_use]
    pub fn policy(&self, id: PolicyId) -> Option<&Policy> {
        self.policies.get(&id)
    }

    /// When the faults were over.
    #[must_use]
    pub fn calm_at(&self) -> Option<Time> {
        self.calm_at
    }
}
