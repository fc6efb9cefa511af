//! A world in memory. What is recorded counts as durable once the test lets it commit; every
//! promise that can be checked at the moment an effect is performed is checked here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::engine::{Origin, Refusal, Reply};
use postrider_core::event::{LaneCounter, Seen};
use postrider_core::executor;
use postrider_core::id::{
    Ask, DeliveryId, EndpointId, Epoch, EventId, KeyDigest, OrderingKey, Ticket,
};
use postrider_core::ledger::{Delivery, Entry, Fact, Next, Record, State, apply};
use postrider_core::observation::Observation;
use postrider_core::time::Time;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub rows: BTreeMap<DeliveryId, Delivery>,
    pub journal: Vec<Entry>,
    pub keys: BTreeMap<KeyDigest, Seen>,
    /// What each admitted event is a retry of.
    pub retry_of: Vec<Option<EventId>>,
    pub lanes: BTreeMap<(EndpointId, OrderingKey), LaneCounter>,
    pub origin: Origin,
    /// Admissions find no room.
    pub no_room_to_admit: bool,
    /// Nothing finds room.
    pub full: bool,
    /// Another owner has everything.
    pub fenced: bool,
    /// Lanes cannot be looked up.
    pub unreadable: bool,
}

impl Model {
    /// Takes a record whole, or says why not.
    pub fn record(&mut self, record: &Record) -> Result<(), Refusal> {
        let stale = |&(_, epoch): &(_, Epoch)| epoch != self.origin.epoch;
        if self.fenced || record.fences.iter().any(stale) || record.fences.is_empty() {
            return Err(Refusal::Fenced);
        }
        if let Some(event) = &record.event
            && let Some(seen) = self.keys.get(&event.key_digest)
            && seen.key_expires_at > event.admitted_at
            && !seen.released
        {
            return Err(Refusal::KeyTaken(*seen));
        }
        if self.full || (self.no_room_to_admit && record.event.is_some()) {
            return Err(Refusal::Full);
        }
        let mut moved = BTreeMap::new();
        let mut lanes = self.lanes.clone();
        let mut last_seq = self.origin.last_seq;
        for entry in &record.entries {
            let id = entry.delivery;
            let mut row = moved.remove(&id).or_else(|| self.rows.get(&id).cloned());
            let previous = row.as_ref().map(|row| row.last_seq).unwrap_or_default();
            assert_eq!(entry.previous, previous, "the chain of {id} is broken");
            assert!(entry.seq > last_seq, "the journal runs backwards");
            last_seq = entry.seq;
            apply(&mut row, entry).map_err(|_| Refusal::Conflict)?;
            let row = row.expect("a row that an entry fits");
            if !count(&mut lanes, &row, &entry.fact) {
                return Err(Refusal::Conflict);
            }
            moved.insert(id, row);
        }
        if let Some(event) = &record.event {
            assert!(event.id > self.origin.last_event, "an event id comes twice");
            assert!(event.first_delivery > self.origin.last_delivery);
            self.keys.insert(event.key_digest, event.seen());
            self.retry_of.push(event.retry_of);
            self.origin.last_event = event.id;
            let last = event.first_delivery.0 + u64::from(event.deliveries) - 1;
            self.origin.last_delivery = DeliveryId(last);
        }
        if let Some(freed) = record.release {
            let held = self.keys.values_mut().find(|seen| seen.event == freed);
            held.into_iter().for_each(|seen| seen.released = true);
        }
        self.origin.last_seq = last_seq;
        self.lanes = lanes;
        self.rows.extend(moved);
        self.journal.extend(record.entries.iter().cloned());
        Ok(())
    }

    /// What an engine is told at its start.
    pub fn unsettled(&self) -> Vec<(Delivery, LaneCounter)> {
        let rows = self.rows.values().filter(|row| !row.state.is_settled());
        rows.map(|row| (row.clone(), self.counter_of(row)))
            .collect()
    }

    pub fn counter_of(&self, row: &Delivery) -> LaneCounter {
        let counter = row
            .lane
            .map(|lane| self.lanes.get(&(row.endpoint, lane.key)).copied());
        counter.flatten().unwrap_or_default()
    }

    /// What of its lane an attempt does not respect.
    fn order_of(&self, dispatch: &Dispatch) -> Option<&'static str> {
        let place = dispatch.lane?;
        let before = self.rows.values().filter(|row| {
            let lane = row.lane.filter(|lane| lane.key == place.key);
            row.endpoint == dispatch.endpoint
                && lane.is_some_and(|lane| lane.sequence < place.sequence)
        });
        let accepted = before.clone().filter(|row| row.state == State::Accepted);
        let accepted = accepted.filter_map(|row| row.lane.map(|lane| lane.sequence));
        if before.clone().any(|row| !row.state.is_settled()) {
            Some("was sent before its turn")
        } else if accepted.max().unwrap_or(0) != dispatch.previous_accepted {
            Some("names another one as handed over before it")
        } else {
            None
        }
    }

    /// The facts of a delivery, by name.
    pub fn story(&self, id: DeliveryId) -> Vec<&'static str> {
        let of_it = self.journal.iter().filter(|entry| entry.delivery == id);
        of_it.map(|entry| name(&entry.fact)).collect()
    }
}

/// Takes a fact into account of its lane. `false` if it would leave a gap.
fn count(
    lanes: &mut BTreeMap<(EndpointId, OrderingKey), LaneCounter>,
    row: &Delivery,
    fact: &Fact,
) -> bool {
    let Some(place) = row.lane else { return true };
    let counter = lanes.entry((row.endpoint, place.key)).or_default();
    match fact {
        Fact::Admitted(_) if place.sequence != counter.last_sequence + 1 => return false,
        Fact::Admitted(_) => counter.last_sequence = place.sequence,
        Fact::Answered {
            next: Next::Settle { state, .. },
            ..
        } if *state == State::Accepted => {
            counter.last_accepted = counter.last_accepted.max(place.sequence);
        }
        _ => {}
    }
    true
}

fn name(fact: &Fact) -> &'static str {
    match fact {
        Fact::Admitted(_) => "admitted",
        Fact::Opened { .. } => "opened",
        Fact::Answered { .. } => "answered",
        Fact::NotSent { .. } => "not sent",
        Fact::Closed { .. } => "closed",
        Fact::Confirmed { .. } => "confirmed",
    }
}

/// Everything outside of the engine.
#[derive(Debug, Default)]
pub struct World {
    pub model: Model,
    /// Handed over and not answered.
    pub records: VecDeque<Box<Record>>,
    /// Under way.
    pub away: Vec<Dispatch>,
    /// Everything ever sent, in order.
    pub sent: Vec<Dispatch>,
    pub replies: Vec<(Ask, Reply)>,
    pub loads: Vec<Vec<DeliveryId>>,
    pub retired: Vec<(EndpointId, Cause)>,
    pub observed: Vec<Observation>,
    /// Everything performed, in order, in words; kept where two runs are compared.
    pub log: Option<Vec<String>>,
    /// Promises that were broken.
    pub broken: Vec<String>,
    answered: BTreeSet<Ask>,
    last_ticket: Ticket,
}

impl World {
    /// A world after a crash: only what was durable is left, and who waited will wait for ever.
    pub fn crashed(self) -> World {
        World {
            model: self.model,
            sent: self.sent,
            retired: self.retired,
            replies: self.replies,
            answered: self.answered,
            log: self.log,
            broken: self.broken,
            ..World::default()
        }
    }

    fn promise(&mut self, kept: bool, what: impl FnOnce() -> String) {
        if !kept {
            self.broken.push(what());
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(what());
        }
    }
}

impl executor::World for World {
    fn seen(&mut self, key: &KeyDigest, now: Time) -> Option<Seen> {
        let seen = self.model.keys.get(key).copied();
        seen.filter(|seen| seen.key_expires_at > now)
    }

    fn lane(&mut self, endpoint: EndpointId, key: OrderingKey) -> Option<LaneCounter> {
        let lane = self.model.lanes.get(&(endpoint, key)).copied();
        (!self.model.unreadable).then(|| lane.unwrap_or_default())
    }

    fn record(&mut self, records: Vec<Box<Record>>) {
        for record in records {
            self.note(|| format!("{record:?}"));
            let in_line = record.ticket > self.last_ticket;
            self.promise(in_line, || "tickets run backwards".into());
            self.last_ticket = record.ticket;
            self.records.push_back(record);
        }
    }

    fn send(&mut self, dispatches: Vec<Dispatch>) {
        for dispatch in dispatches {
            self.note(|| format!("{dispatch:?}"));
            let row = self.model.rows.get(&dispatch.delivery);
            let durable = row.is_some_and(|row| {
                row.state == State::InFlight
                    && row.attempt == dispatch.attempt
                    && row.correlation == dispatch.correlation
            });
            let id = dispatch.delivery;
            self.promise(durable, || format!("{id} was sent before it was recorded"));
            let order = self.model.order_of(&dispatch);
            self.promise(order.is_none(), || {
                format!("{id} {}", order.unwrap_or_default())
            });
            let in_time = dispatch.opened_at < dispatch.expires_at;
            self.promise(in_time, || format!("{id} was sent after it lapsed"));
            self.sent.push(dispatch.clone());
            self.away.push(dispatch);
        }
    }

    fn reply(&mut self, ask: Ask, reply: Reply) {
        self.note(|| format!("{ask:?} {reply:?}"));
        let first = self.answered.insert(ask);
        self.promise(first, || format!("{ask:?} was answered twice"));
        let rows = &self.model.rows;
        let told = match &reply {
            Reply::Admitted {
                first_delivery,
                deliveries,
                ..
            } => (first_delivery.0..)
                .zip(deliveries)
                .all(|(id, (endpoint, correlation))| {
                    rows.get(&DeliveryId(id)).is_some_and(|row| {
                        row.endpoint == *endpoint && row.correlation == *correlation
                    })
                }),
            Reply::Duplicate(seen) | Reply::KeyConflict(seen) => {
                rows.contains_key(&seen.first_delivery)
            }
            _ => true,
        };
        self.promise(told, || format!("{ask:?} was told what is not durable"));
        self.replies.push((ask, reply));
    }

    fn load(&mut self, deliveries: Vec<DeliveryId>) {
        self.note(|| format!("load {deliveries:?}"));
        self.loads.push(deliveries);
    }

    fn retire(&mut self, endpoint: EndpointId, cause: Cause, at: Time) {
        self.note(|| format!("retire {endpoint} {cause} {at}"));
        self.retired.push((endpoint, cause));
    }

    fn observe(&mut self, observation: Observation) {
        self.note(|| format!("{observation:?}"));
        self.observed.push(observation);
    }
}
