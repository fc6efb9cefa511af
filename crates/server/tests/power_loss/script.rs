//! The load: batches of records that are the same for the same seed, and what a store that took
//! the first so many of them has to answer.
//!
//! Absent here: the engine. The records are made here by the rules of the state table, so that the
//! store is tried with more than what one engine happens to ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider::store::{Query, ReadError, Reader};
use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::{Event, LaneCounter, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, KeyDigest, OrderingKey,
    PolicyId, Seq, TenantId, Ticket,
};
use postrider_core::ledger::{Admitted, Delivery, Entry, Fact, Lane, Next, Record, State, apply};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::partition::partition_of;
use postrider_core::policy::Guarantee;
use postrider_core::time::{DAY_MS, HOUR_MS, Time};

use crate::disk::Dice;

/// Deliveries under way above which no event is admitted.
const OPEN_MAX: usize = 60;
/// Endpoints, and ordering keys at each.
const ENDPOINTS: usize = 5;
const LANES: usize = 3;
/// Page of a list, and of the journal.
const PAGE: usize = 100;

/// Makes the load.
pub struct Script {
    dice: Dice,
    /// Decides which freed keys are taken again.
    retries: Dice,
    batch_max: usize,
    epoch: Epoch,
    pub now: Time,
    last_event: u64,
    last_delivery: u64,
    last_seq: u64,
    last_ticket: u64,
    open: Vec<Delivery>,
    /// The keys that are taken, by whom and until when.
    keys: Vec<(KeyDigest, EventId, Time)>,
    /// The keys that were freed, by whom and until when they are remembered.
    freed: Vec<(KeyDigest, EventId, Time)>,
    lanes: BTreeMap<(EndpointId, OrderingKey), u64>,
}

/// A record and whether the store has to take it; else its key is taken.
pub struct Planned {
    pub record: Record,
    pub fits: bool,
}

impl Script {
    /// `batch_max` is the number of records in a batch at the most.
    pub fn new(seed: u64, batch_max: usize, epoch: Epoch) -> Script {
        Script {
            dice: Dice::new(seed),
            retries: Dice::new(!seed),
            batch_max,
            epoch,
            now: Time(20_000 * DAY_MS + 23 * HOUR_MS),
            last_event: 0,
            last_delivery: 0,
            last_seq: 0,
            last_ticket: 0,
            open: Vec::new(),
            keys: Vec::new(),
            freed: Vec::new(),
            lanes: BTreeMap::new(),
        }
    }

    /// The next batch. Now and then a day has passed before it.
    pub fn batch(&mut self) -> Vec<Planned> {
        let pause = if self.dice.percent(3) { DAY_MS } else { 0 };
        self.now = self.now.plus(pause + self.dice.below(3_000) as i64);
        (0..=self.dice.below(self.batch_max))
            .map(|_| self.plan())
            .collect()
    }

    fn plan(&mut self) -> Planned {
        self.now = self.now.plus(1);
        self.last_ticket += 1;
        if self.open.is_empty() || (self.open.len() < OPEN_MAX && self.dice.percent(45)) {
            return self.admit();
        }
        let mut record = self.record();
        let place = self.dice.below(self.open.len());
        let row = self.open.swap_remove(place);
        let fact = self.fact_for(&row);
        let releases = matches!(&fact, Fact::Answered { next: Next::Settle { state, .. }, .. }
            if *state == State::Rejected);
        if releases && self.dice.percent(50) {
            record.release = Some(row.event);
            let held = self.keys.iter().position(|key| key.1 == row.event);
            self.freed.extend(held.map(|at| self.keys.remove(at)));
        }
        self.push(&mut record, &mut Some(row), fact);
        Planned { record, fits: true }
    }

    fn record(&self) -> Record {
        Record {
            ticket: Ticket(self.last_ticket),
            event: None,
            fences: Vec::new(),
            entries: Vec::new(),
            release: None,
        }
    }

    fn admit(&mut self) -> Planned {
        let mut record = self.record();
        let (event, fits) = self.event();
        let (open, lanes) = (self.open.len(), self.lanes.clone());
        let guarantee = Guarantee::ALL[self.dice.below(3)];
        for _ in 0..event.deliveries {
            self.last_delivery += 1;
            let endpoint = EndpointId(1 + self.dice.below(ENDPOINTS) as u64);
            let lane = self.dice.percent(30).then(|| self.lane(endpoint));
            let due_at = self.now.plus(self.dice.below(2) as i64 * HOUR_MS);
            let admitted = Admitted {
                correlation: CorrelationId(self.wide()),
                event: event.id,
                tenant: event.tenant,
                endpoint,
                channel: Channel::default(),
                policy: PolicyId(3),
                guarantee,
                due_at,
                expires_at: self.now.plus(400 * DAY_MS),
                lane,
            };
            let mut row = None;
            self.push(&mut record, &mut row, Fact::Admitted(Box::new(admitted)));
            if due_at == self.now {
                let mut row = self.open.pop();
                let policy = PolicyId(3);
                self.push(&mut record, &mut row, Fact::Opened { attempt: 1, policy });
            }
        }
        if fits {
            self.keys
                .push((event.key_digest, event.id, event.key_expires_at));
        } else {
            // Its ids are never used again, its places in the lanes are.
            self.open.truncate(open);
            self.lanes = lanes;
        }
        record.event = Some(Arc::new(event));
        Planned { record, fits }
    }

    fn event(&mut self) -> (Event, bool) {
        let now = self.now;
        self.keys.retain(|key| key.2 > now);
        self.freed.retain(|key| key.2 > now);
        let retried = self.retries.percent(30).then(|| self.freed.pop()).flatten();
        let again = self
            .dice
            .percent(10)
            .then(|| self.dice.below(self.keys.len()));
        let taken = again
            .and_then(|place| self.keys.get(place))
            .map(|key| key.0)
            .filter(|_| retried.is_none());
        let key = taken.or(retried.map(|key| key.0));
        let window_ms = if self.dice.percent(30) {
            HOUR_MS
        } else {
            300 * DAY_MS
        };
        self.last_event += 1;
        let n = self.last_event;
        let len_max = if self.dice.percent(10) { 20_000 } else { 600 };
        let len = self.dice.below(len_max);
        let event = Event {
            id: EventId(n),
            uuid: self.wide(),
            tenant: TenantId(1 + self.dice.below(3) as u32),
            key_digest: key.unwrap_or(KeyDigest(self.wide().to_le_bytes())),
            body_digest: BodyDigest(self.wide().to_le_bytes()),
            business_id: format!("order-{n}").into(),
            event_type: ["order.paid", "order.sent"][self.dice.below(2)].into(),
            version: 1,
            recipient: ["", "ann", "bob"][self.dice.below(3)].into(),
            ordering_key: ["", "lane"][self.dice.below(2)].into(),
            collapse_key: "".into(),
            urgency: Urgency::default(),
            traceparent: "".into(),
            content_type: "application/json".into(),
            admitted_at: self.now,
            key_expires_at: self.now.plus(window_ms),
            first_delivery: DeliveryId(self.last_delivery + 1),
            deliveries: 1 + self.dice.below(3) as u32,
            retry_of: retried.map(|key| key.1),
            payload: (0..len)
                .map(|_| self.dice.roll() as u8)
                .collect::<Vec<u8>>()
                .into(),
        };
        (event, taken.is_none())
    }

    fn lane(&mut self, endpoint: EndpointId) -> Lane {
        let key = OrderingKey(1 + self.dice.below(LANES) as u64);
        let last = self.lanes.entry((endpoint, key)).or_default();
        *last += 1;
        Lane {
            key,
            sequence: *last,
        }
    }

    fn fact_for(&mut self, row: &Delivery) -> Fact {
        let due_at = self.now.plus(self.dice.below(60_000) as i64);
        let attempt = row.attempt;
        if row.state == State::Scheduled {
            return match self.dice.below(8) {
                0 => Fact::Closed {
                    state: State::Cancelled,
                    cause: Cause::Cancelled,
                },
                _ => Fact::Opened {
                    attempt: attempt + 1,
                    policy: PolicyId(4),
                },
            };
        }
        let settle = |state, cause| Next::Settle { state, cause };
        let (kind, cause, next) = match self.dice.below(12) {
            0 => {
                return Fact::NotSent {
                    attempt,
                    cause: Cause::Sending,
                    due_at,
                };
            }
            1..3 => (OutcomeKind::Retry, Cause::Sending, Next::Again { due_at }),
            3 => (
                OutcomeKind::Reject,
                Cause::Sending,
                settle(State::Rejected, Cause::Sending),
            ),
            4 => (
                OutcomeKind::Unknown,
                Cause::Crashed,
                settle(State::Uncertain, Cause::Crashed),
            ),
            _ => (
                OutcomeKind::Accept,
                Cause::Accepted,
                settle(State::Accepted, Cause::Accepted),
            ),
        };
        let mut outcome = Outcome::bare(kind, cause);
        outcome.http_status = [200, 503, 404][self.dice.below(3)];
        outcome.latency_ms = self.dice.below(500) as u32;
        outcome.evidence = vec![b'e'; self.dice.below(3) * 50].into();
        Fact::Answered {
            attempt,
            outcome: Box::new(outcome),
            next,
        }
    }

    /// Adds an entry and moves the row, which goes on being open unless it is settled.
    fn push(&mut self, record: &mut Record, row: &mut Option<Delivery>, fact: Fact) {
        self.last_seq += 1;
        let known = row.as_ref();
        let entry = Entry {
            seq: Seq(self.last_seq),
            delivery: known.map_or(DeliveryId(self.last_delivery), |row| row.id),
            version: known.map_or(0, |row| row.version),
            at: self.now,
            previous: known.map_or(Seq(0), |row| row.last_seq),
            fact,
        };
        apply(row, &entry).expect("the script keeps to the state table");
        if let Some(row) = row.take() {
            let fence = (
                partition_of(row.endpoint, row.lane.map(|lane| lane.key)),
                self.epoch,
            );
            if !record.fences.contains(&fence) {
                record.fences.push(fence);
            }
            if !row.state.is_settled() {
                self.open.push(row);
            }
        }
        record.entries.push(entry);
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.dice.roll()) << 64 | u128::from(self.dice.roll())
    }
}

/// What is on record after so many records.
#[derive(Default)]
pub struct World {
    pub rows: BTreeMap<DeliveryId, Delivery>,
    events: BTreeMap<EventId, Event>,
    journal: Vec<Entry>,
    /// The event that holds a key, and until when.
    keys: BTreeMap<KeyDigest, (EventId, Time)>,
    /// Events that freed theirs.
    released: BTreeSet<EventId>,
    lanes: BTreeMap<(EndpointId, OrderingKey), LaneCounter>,
    pub now: Time,
}

impl World {
    /// Takes in the next record, if it fits.
    pub fn take(&mut self, planned: &Planned) {
        if !planned.fits {
            return;
        }
        let record = &planned.record;
        if let Some(event) = &record.event {
            self.keys
                .insert(event.key_digest, (event.id, event.key_expires_at));
            self.events.insert(event.id, (**event).clone());
        }
        if let Some(event) = record.release {
            self.released.insert(event);
        }
        for entry in &record.entries {
            let mut row = self.rows.remove(&entry.delivery);
            apply(&mut row, entry).expect("the script keeps to the state table");
            let row = row.expect("a row that was moved is there");
            if let Some(lane) = row.lane {
                let counter = self.lanes.entry((row.endpoint, lane.key)).or_default();
                counter.last_sequence = counter.last_sequence.max(lane.sequence);
                if row.state == State::Accepted {
                    counter.last_accepted = counter.last_accepted.max(lane.sequence);
                }
            }
            self.rows.insert(row.id, row);
            self.journal.push(entry.clone());
            self.now = entry.at;
        }
    }

    /// The deliveries that a restart has to hand out.
    pub fn unsettled(&self) -> Vec<Delivery> {
        self.rows
            .values()
            .filter(|row| !row.state.is_settled())
            .cloned()
            .collect()
    }

    /// All events.
    pub fn events(&self) -> impl Iterator<Item = EventId> {
        self.events.keys().copied()
    }

    /// The events with a delivery that is not settled, or that is `also` one to keep a payload for.
    pub fn payloads_needed(&self, also: impl Fn(&Delivery) -> bool) -> BTreeSet<EventId> {
        let needs = |row: &&Delivery| !row.state.is_settled() || also(row);
        self.rows
            .values()
            .filter(needs)
            .map(|row| row.event)
            .collect()
    }

    /// Everything that can be asked.
    pub fn questions(&self) -> Vec<Question> {
        let mut all = vec![Question::Journal, Question::List(Query::default())];
        for state in State::ALL {
            all.push(Question::List(Query {
                state: Some(state),
                ..Query::default()
            }));
        }
        all.extend(self.rows.values().map(|row| Question::Delivery(row.id)));
        all.extend(self.rows.values().map(|row| Question::History(row.id)));
        all.extend(self.events.keys().map(|id| Question::Event(*id)));
        all.extend(self.events.keys().map(|id| Question::Payload(*id)));
        all.extend(
            self.events
                .values()
                .map(|event| Question::Seen(event.key_digest)),
        );
        for endpoint in 1..=ENDPOINTS as u64 {
            let lanes = (1..=LANES as u64).map(OrderingKey);
            all.extend(lanes.map(|key| Question::Lane(EndpointId(endpoint), key)));
        }
        all
    }

    /// The only right answer, or `None` where the store may or may not still have it.
    pub fn answer(&self, question: &Question) -> Option<String> {
        Some(match question {
            Question::Journal => format!("{:?}", self.journal),
            Question::List(query) => {
                let fits = |row: &&Delivery| query.state.is_none_or(|state| row.state == state);
                format!(
                    "{:?}",
                    self.rows.values().rev().filter(fits).collect::<Vec<_>>()
                )
            }
            Question::Delivery(id) => {
                format!("{:?}", self.rows.get(id).into_iter().collect::<Vec<_>>())
            }
            Question::History(id) => {
                let of_row = |entry: &&Entry| entry.delivery == *id;
                format!(
                    "{:?}",
                    self.journal.iter().filter(of_row).collect::<Vec<_>>()
                )
            }
            Question::Event(id) => {
                let bare = |event: &Event| Event {
                    payload: Bytes::new(),
                    ..event.clone()
                };
                format!("{:?}", self.events.get(id).map(bare))
            }
            Question::Payload(id) => {
                let of_event = |row: &&Delivery| row.event == *id;
                if !self
                    .rows
                    .values()
                    .filter(of_event)
                    .any(|row| !row.state.is_settled())
                {
                    return None;
                }
                format!(
                    "{:?}",
                    self.events.get(id).map(|event| event.payload.clone())
                )
            }
            Question::Seen(key) => {
                let holder = self.keys.get(key).filter(|holder| holder.1 > self.now);
                let event = holder.and_then(|holder| self.events.get(&holder.0));
                format!(
                    "{:?}",
                    event.map(|event| {
                        let released = self.released.contains(&event.id);
                        (event.id, event.uuid, event.body_digest, released)
                    })
                )
            }
            Question::Lane(endpoint, key) => {
                format!(
                    "{:?}",
                    self.lanes
                        .get(&(*endpoint, *key))
                        .copied()
                        .unwrap_or_default()
                )
            }
        })
    }

    /// What a store answers.
    pub fn ask(&self, reader: &dyn Reader, question: &Question) -> Result<String, ReadError> {
        Ok(match question {
            Question::Journal => format!("{:?}", journal(reader)?),
            Question::List(query) => format!("{:?}", list(reader, query)?),
            Question::Delivery(id) => format!("{:?}", reader.deliveries(&[*id])?),
            Question::History(id) => {
                let row = self
                    .rows
                    .get(id)
                    .expect("it is asked for deliveries that exist");
                format!("{:?}", reader.history(row)?)
            }
            Question::Event(id) => format!("{:?}", reader.event(*id)?),
            Question::Payload(id) => format!("{:?}", reader.payload(*id)?),
            Question::Seen(key) => {
                let seen = reader.seen(key, self.now)?;
                format!(
                    "{:?}",
                    seen.map(|seen| (seen.event, seen.uuid, seen.body_digest, seen.released))
                )
            }
            Question::Lane(endpoint, key) => format!("{:?}", reader.lane(*endpoint, *key)?),
        })
    }
}

/// Something to ask a store.
#[derive(Clone, Debug)]
pub enum Question {
    Journal,
    List(Query),
    Delivery(DeliveryId),
    History(DeliveryId),
    Event(EventId),
    Payload(EventId),
    Seen(KeyDigest),
    Lane(EndpointId, OrderingKey),
}

/// The whole journal, page by page.
pub fn journal(reader: &dyn Reader) -> Result<Vec<Entry>, ReadError> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let page = reader.journal(all.last().map_or(Seq(0), |entry| entry.seq), PAGE)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn list(reader: &dyn Reader, query: &Query) -> Result<Vec<Delivery>, ReadError> {
    let mut all = Vec::new();
    let mut query = Query {
        limit: PAGE,
        ..query.clone()
    };
    loop {
        let page = reader.list(&query)?;
        all.extend(page.deliveries);
        query.before = page.next;
        if page.next.is_none() {
            return Ok(all);
        }
    }
}
