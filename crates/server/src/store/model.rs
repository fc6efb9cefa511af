//! The model: a store in memory that is simple enough to be right by inspection.
//!
//! It passes the same conformance suite as the others. Tests compare a store with it, and a
//! simulator runs the engine on it: it reads no clock, draws no random number and starts no thread.
//! What is recorded survives [`ModelStore::open`] being called again, as a restart would.
//!
//! Absent here: when to purge. [`ModelStore::purge`] is told what may go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use postrider_core::Bytes;
use postrider_core::event::{Event, LaneCounter, Seen};
use postrider_core::id::{DeliveryId, EndpointId, Epoch, EventId, KeyDigest, OrderingKey, Seq};
use postrider_core::ledger::{
    Conflict, Delivery, Entry, Fact, Next, Record, State as Place, apply,
};
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;

use super::{Fatal, Ledger, Page, Query, ReadError, Reader, Recovery, Verdict};

/// A store in memory. Clones share what is recorded.
#[derive(Clone, Debug, Default)]
pub struct ModelStore {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    events: BTreeMap<EventId, Event>,
    deliveries: BTreeMap<DeliveryId, Delivery>,
    journal: BTreeMap<Seq, Entry>,
    /// The events that hold a key, by key; the newest counts.
    keys: BTreeMap<KeyDigest, EventId>,
    /// Events that freed their key.
    released: BTreeSet<EventId>,
    lanes: BTreeMap<(EndpointId, OrderingKey), LaneCounter>,
    retired: Vec<(EndpointId, Time)>,
    /// Highest ids that were ever in use: what was purged is not given out again.
    last: (EventId, DeliveryId, Seq),
    last_at: Time,
    epoch: Epoch,
    full: bool,
}

impl ModelStore {
    /// Both halves; as often as wanted, each time standing for a restart.
    #[must_use]
    pub fn open(&self) -> (ModelLedger, Arc<ModelReader>) {
        let store = self.clone();
        (ModelLedger(self.clone()), Arc::new(ModelReader(store)))
    }

    /// Another store with the same contents, which goes its own way from here on.
    #[must_use]
    pub fn copy(&self) -> ModelStore {
        let contents = self.contents.lock().clone();
        ModelStore {
            contents: Arc::new(Mutex::new(contents)),
        }
    }

    /// Becomes what `other` is: the disk is found to hold something else.
    pub fn become_like(&self, other: &ModelStore) {
        let contents = other.contents.lock().clone();
        *self.contents.lock() = contents;
    }

    /// Removes every event of which `may_go` says so, with its deliveries, its key and what the
    /// journal says of them. Returns the deliveries that went. Ids and lanes go on where they were.
    pub fn purge(&self, may_go: impl Fn(&Event, &[Delivery]) -> bool) -> Vec<DeliveryId> {
        self.contents.lock().purge(may_go)
    }

    /// Changes every delivery: the disk gives back what it was not given.
    pub fn alter(&self, change: impl FnMut(&mut Delivery)) {
        let mut contents = self.contents.lock();
        contents.deliveries.values_mut().for_each(change);
    }

    /// Lets the disk be full, or have room again: admissions are refused, the rest gets in.
    pub fn set_full(&self, full: bool) {
        self.contents.lock().full = full;
    }
}

/// The model's writing half.
#[derive(Debug)]
pub struct ModelLedger(ModelStore);

/// The model's reading half.
#[derive(Debug)]
pub struct ModelReader(ModelStore);

impl Ledger for ModelLedger {
    fn record(&mut self, records: &[Record]) -> Result<Vec<Verdict>, Fatal> {
        let mut contents = self.0.contents.lock();
        Ok(records
            .iter()
            .map(|record| contents.record(record))
            .collect())
    }

    fn tend(&mut self, _now: Time) -> Result<bool, Fatal> {
        Ok(false)
    }

    fn recover(&mut self, visit: &mut dyn FnMut(Delivery)) -> Result<Recovery, Fatal> {
        let mut contents = self.0.contents.lock();
        contents.epoch.0 += 1;
        let unsettled = |delivery: &&Delivery| !delivery.state.is_settled();
        contents
            .deliveries
            .values()
            .filter(unsettled)
            .cloned()
            .for_each(visit);
        Ok(Recovery {
            last_event: contents.last_event(),
            last_delivery: contents.last_delivery(),
            last_seq: contents.last_seq(),
            last_at: contents.last_at,
            epoch: contents.epoch,
            retired: contents.retired.clone(),
        })
    }
}

impl Contents {
    fn record(&mut self, record: &Record) -> Verdict {
        if record.fences.iter().any(|&(_, epoch)| epoch != self.epoch) {
            return Verdict::Fenced;
        }
        if let Some(event) = &record.event {
            let taken = self.seen(&event.key_digest, event.admitted_at);
            if let Some(seen) = taken.filter(|seen| !seen.released) {
                return Verdict::KeyTaken(seen);
            }
            if self.full {
                return Verdict::Full;
            }
            if event.id <= self.last_event() {
                return Verdict::Conflict(Conflict {
                    delivery: event.first_delivery,
                    state: None,
                    has: 0,
                    expected: 0,
                });
            }
        }
        let mut rows = BTreeMap::new();
        let mut last_seq = self.last_seq();
        let mut last_delivery = self.last_delivery();
        for entry in &record.entries {
            if let Err(conflict) = self.fold(entry, &mut rows, &mut last_seq, &mut last_delivery) {
                return Verdict::Conflict(conflict);
            }
        }
        self.take(record, rows);
        Verdict::Recorded
    }

    fn fold(
        &self,
        entry: &Entry,
        rows: &mut BTreeMap<DeliveryId, Option<Delivery>>,
        last_seq: &mut Seq,
        last_delivery: &mut DeliveryId,
    ) -> Result<(), Conflict> {
        let row = rows
            .entry(entry.delivery)
            .or_insert_with(|| self.deliveries.get(&entry.delivery).cloned());
        let admitted = matches!(entry.fact, Fact::Admitted(_));
        if entry.seq <= *last_seq || (admitted && entry.delivery <= *last_delivery) {
            return Err(Conflict {
                delivery: entry.delivery,
                state: row.as_ref().map(|row| row.state),
                has: row.as_ref().map_or(0, |row| row.version),
                expected: entry.version,
            });
        }
        apply(row, entry)?;
        *last_seq = entry.seq;
        *last_delivery = entry.delivery.max(*last_delivery);
        Ok(())
    }

    /// Takes a record in that fits.
    fn take(&mut self, record: &Record, rows: BTreeMap<DeliveryId, Option<Delivery>>) {
        for row in rows.into_values().flatten() {
            self.last.1 = self.last.1.max(row.id);
            self.deliveries.insert(row.id, row);
        }
        if let Some(event) = &record.event {
            self.last.0 = self.last.0.max(event.id);
            self.keys.insert(event.key_digest, event.id);
            self.events.insert(event.id, (**event).clone());
        }
        for entry in &record.entries {
            self.last.2 = self.last.2.max(entry.seq);
            self.last_at = self.last_at.max(entry.at);
            self.journal.insert(entry.seq, entry.clone());
            self.follow(entry);
        }
        if let Some(released) = record.release {
            self.released.insert(released);
        }
    }

    /// What an entry means for lanes and endpoints.
    fn follow(&mut self, entry: &Entry) {
        let Some(delivery) = self.deliveries.get(&entry.delivery) else {
            return;
        };
        if let Some(lane) = delivery.lane {
            let counter = self.lanes.entry((delivery.endpoint, lane.key)).or_default();
            match &entry.fact {
                Fact::Admitted(_) => {
                    counter.last_sequence = counter.last_sequence.max(lane.sequence);
                }
                Fact::Answered {
                    next: Next::Settle { state, .. },
                    ..
                } if *state == Place::Accepted => {
                    counter.last_accepted = counter.last_accepted.max(lane.sequence);
                }
                _ => {}
            }
        }
        if let Fact::Answered { outcome, .. } = &entry.fact
            && outcome.kind == OutcomeKind::Gone
        {
            let gone = (delivery.endpoint, outcome.gone_at(entry.at));
            self.retired.push(gone);
        }
    }

    /// Who holds the key, or held it last.
    fn seen(&self, key: &KeyDigest, now: Time) -> Option<Seen> {
        let event = self.events.get(self.keys.get(key)?)?;
        let seen = Seen {
            released: self.released.contains(&event.id),
            ..event.seen()
        };
        (event.key_expires_at > now).then_some(seen)
    }

    fn purge(&mut self, may_go: impl Fn(&Event, &[Delivery]) -> bool) -> Vec<DeliveryId> {
        let mut gone = Vec::new();
        let events: Vec<EventId> = self.events.keys().copied().collect();
        for id in events {
            let Some(event) = self.events.get(&id) else {
                continue;
            };
            let first = event.first_delivery;
            let ids = first..DeliveryId(first.0 + u64::from(event.deliveries));
            let rows = self.deliveries.range(ids.clone());
            let rows: Vec<Delivery> = rows.map(|(_, row)| row.clone()).collect();
            if !may_go(event, &rows) {
                continue;
            }
            if self.keys.get(&event.key_digest) == Some(&id) {
                self.keys.remove(&event.key_digest);
            }
            self.events.remove(&id);
            self.released.remove(&id);
            for row in rows {
                let mut seq = row.last_seq;
                while let Some(entry) = self.journal.remove(&seq) {
                    seq = entry.previous;
                }
                self.deliveries.remove(&row.id);
                gone.push(row.id);
            }
        }
        gone
    }

    fn last_event(&self) -> EventId {
        self.last.0
    }

    fn last_delivery(&self) -> DeliveryId {
        self.last.1
    }

    fn last_seq(&self) -> Seq {
        self.last.2
    }

    fn matches(&self, query: &Query, delivery: &Delivery) -> bool {
        let event = self.events.get(&delivery.event);
        let of_event = |wanted: &Option<Box<str>>, is: fn(&Event) -> &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| event.is_some_and(|event| is(event) == wanted))
        };
        query.tenant.is_none_or(|of| of == delivery.tenant)
            && query.state.is_none_or(|of| of == delivery.state)
            && query.cause.is_none_or(|of| of == delivery.cause)
            && query.endpoint.is_none_or(|of| of == delivery.endpoint)
            && query.event.is_none_or(|of| of == delivery.event)
            && of_event(&query.event_type, |event| &event.event_type)
            && of_event(&query.recipient, |event| &event.recipient)
            && (!query.dead_letters || delivery.is_dead_letter())
            && query
                .since
                .is_none_or(|since| delivery.admitted_at >= since)
            && query.until.is_none_or(|until| delivery.admitted_at < until)
            && query.before.is_none_or(|before| delivery.id < before)
    }
}

impl Reader for ModelReader {
    fn seen(&self, key: &KeyDigest, now: Time) -> Result<Option<Seen>, ReadError> {
        Ok(self.0.contents.lock().seen(key, now))
    }

    fn lane(&self, endpoint: EndpointId, key: OrderingKey) -> Result<LaneCounter, ReadError> {
        let contents = self.0.contents.lock();
        Ok(contents
            .lanes
            .get(&(endpoint, key))
            .copied()
            .unwrap_or_default())
    }

    fn deliveries(&self, ids: &[DeliveryId]) -> Result<Vec<Delivery>, ReadError> {
        let contents = self.0.contents.lock();
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let found = ids.iter().filter_map(|id| contents.deliveries.get(id));
        Ok(found.cloned().collect())
    }

    fn event(&self, id: EventId) -> Result<Option<Event>, ReadError> {
        let event = self.0.contents.lock().events.get(&id).cloned();
        Ok(event.map(|event| Event {
            payload: Bytes::new(),
            ..event
        }))
    }

    fn payload(&self, id: EventId) -> Result<Option<Bytes>, ReadError> {
        let contents = self.0.contents.lock();
        Ok(contents.events.get(&id).map(|event| event.payload.clone()))
    }

    fn history(&self, delivery: &Delivery) -> Result<Vec<Entry>, ReadError> {
        let contents = self.0.contents.lock();
        let mut entries = Vec::new();
        let mut seq = delivery.last_seq;
        while let Some(entry) = contents.journal.get(&seq) {
            entries.push(entry.clone());
            seq = entry.previous;
        }
        entries.reverse();
        Ok(entries)
    }

    fn list(&self, query: &Query) -> Result<Page, ReadError> {
        let contents = self.0.contents.lock();
        let newest_first = contents.deliveries.values().rev();
        let mut matching = newest_first.filter(|delivery| contents.matches(query, delivery));
        let deliveries: Vec<_> = matching.by_ref().take(query.limit).cloned().collect();
        let next = match matching.next() {
            Some(_) => deliveries.last().map(|delivery| delivery.id),
            None => None,
        };
        Ok(Page { deliveries, next })
    }

    fn journal(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let contents = self.0.contents.lock();
        let later = contents.journal.range(Seq(after.0 + 1)..);
        Ok(later.take(limit).map(|(_, entry)| entry.clone()).collect())
    }
}
