//! A history put together when everything is over, from what is left: the ledger, what receivers
//! wrote down, and what callers were told.
//!
//! What order can be known: that of the journal. A request comes after the entry that opened it,
//! if there is one, and after every entry whose time is not later than its arrival. Where both bear
//! the same millisecond the entry comes first. One that does not say which attempt it is comes
//! after the first that was opened. What cannot be known:
//!
//! - Since when an entry was durable. Its time is that of the decision. So a request that left
//!   before its entry was durable is seen only where the entry never came to be.
//! - When a caller was told. It is taken to be told when the last of its deliveries is admitted.
//! - Which entries were one record, and under which epoch. Each is taken for a record of its own.
//! - What the registry said before its last word. Addresses are told as they are in the end, from
//!   the start, and open.
//!
//! Absent here: how a layer gets hold of its evidence.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider::store::{Query, ReadError, Reader};
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::Reply;
use postrider_core::event::{Event, Seen};
use postrider_core::id::{Ask, CorrelationId, DeliveryId, EndpointId, Epoch, EventId};
use postrider_core::id::{Partition, Seq, Ticket};
use postrider_core::ledger::{Delivery, Entry, Fact, Record};
use postrider_core::policy::Policy;
use postrider_core::time::Time;

use super::{Attempt, History, Witnessed};

/// The epoch of everything: there is one engine at a time, and nobody knows which.
const EPOCH: Epoch = Epoch(1);
/// How much later than it did a request is taken to have come that does not say which attempt it
/// is: by so much the engine's clock may be ahead of its receiver's.
const UNNUMBERED_LATE_MS: i64 = 100;
/// Rows and entries that are read at a time.
const PAGE: usize = 1_000;

/// What a caller was told of one event, decoded.
#[derive(Clone, Debug)]
pub struct Answer {
    pub repeat: bool,
    pub event: EventId,
    pub deliveries: Vec<(DeliveryId, CorrelationId)>,
}

/// A request as its receiver wrote it down.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: Time,
    pub attempt: Attempt,
    pub processed: bool,
}

/// Everything that is left.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    pub policies: Vec<Arc<Policy>>,
    pub gates: Vec<Gate>,
    pub events: BTreeMap<EventId, Event>,
    pub rows: Vec<Delivery>,
    pub journal: Vec<Entry>,
    pub answers: Vec<Answer>,
    /// In the order in which they came.
    pub arrivals: Vec<Arrival>,
}

impl Remains {
    /// What the ledger says.
    pub fn of(reader: &dyn Reader) -> Result<Remains, ReadError> {
        let mut remains = Remains::default();
        let mut query = Query {
            limit: PAGE,
            ..Query::default()
        };
        loop {
            let page = reader.list(&query)?;
            remains.rows.extend(page.deliveries);
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        remains.rows.reverse();
        loop {
            let after = remains.journal.last().map_or(Seq(0), |entry| entry.seq);
            let more = reader.journal(after, PAGE)?;
            if more.is_empty() {
                break;
            }
            remains.journal.extend(more);
        }
        for row in &remains.rows {
            if let Some(event) = reader.event(row.event)? {
                remains.events.insert(event.id, event);
            }
        }
        Ok(remains)
    }

    /// All of it in the order that can be known; see the module.
    pub fn history(&self) -> History {
        let mut history: History = vec![(Time(0), Witnessed::Granted(EPOCH))];
        let policies = self.policies.iter().cloned().map(Witnessed::Policy);
        history.extend(policies.map(|policy| (Time(0), policy)));
        for gate in &self.gates {
            let gate = Gate {
                reach: Reach::Open,
                ..gate.clone()
            };
            history.push((Time(0), Witnessed::Told(EPOCH, Time(0), gate)));
        }
        let mut beside = self.beside();
        for (place, entry) in self.journal.iter().enumerate() {
            let record = self.record(entry);
            history.push((entry.at, Witnessed::Committed(record)));
            history.extend(beside.remove(&place).unwrap_or_default());
        }
        history.extend(beside.into_values().flatten());
        let end = history.last().map_or(Time(0), |(at, _)| *at);
        let held = Witnessed::Held(self.rows.clone(), self.journal.clone());
        history.extend([Witnessed::Calm, Witnessed::Rest(true), held].map(|what| (end, what)));
        history
    }

    /// The entry as a record, with its event where it admits the first delivery of one.
    fn record(&self, entry: &Entry) -> Record {
        let event = match &entry.fact {
            Fact::Admitted(admitted) => self.events.get(&admitted.event),
            _ => None,
        };
        let event = event.filter(|event| event.first_delivery == entry.delivery);
        Record {
            ticket: Ticket(0),
            event: event.cloned().map(Arc::new),
            fences: vec![(Partition(0), EPOCH)],
            entries: vec![entry.clone()],
            release: None,
        }
    }

    /// What comes beside the journal, by the place of the entry that it follows; what follows none
    /// of those that there are stands at the end.
    fn beside(&self) -> BTreeMap<usize, History> {
        let mut outer: BTreeMap<DeliveryId, CorrelationId> = BTreeMap::new();
        let mut opened: BTreeMap<Attempt, usize> = BTreeMap::new();
        let mut admitted: BTreeMap<DeliveryId, usize> = BTreeMap::new();
        for (place, entry) in self.journal.iter().enumerate() {
            match &entry.fact {
                Fact::Admitted(it) => {
                    outer.insert(entry.delivery, it.correlation);
                    admitted.insert(entry.delivery, place);
                }
                Fact::Opened { attempt, .. } => {
                    let correlation = outer.get(&entry.delivery).copied().unwrap_or_default();
                    opened.insert((correlation, *attempt), place);
                }
                _ => {}
            }
        }
        let mut beside: BTreeMap<usize, History> = BTreeMap::new();
        for (ask, answer) in (1..).map(Ask).zip(&self.answers) {
            let ids = answer.deliveries.iter().map(|(id, _)| admitted.get(id));
            let last = ids.collect::<Option<Vec<_>>>();
            let last = last.and_then(|places| places.into_iter().max().copied());
            let told = (Time(0), Witnessed::Replied(EPOCH, ask, self.reply(answer)));
            beside
                .entry(last.unwrap_or(usize::MAX))
                .or_default()
                .push(told);
        }
        for arrival in &self.arrivals {
            let (outer, attempt) = arrival.attempt;
            let (least, most, late_ms) = match attempt {
                0 => (0, u32::MAX, UNNUMBERED_LATE_MS),
                attempt => (attempt, attempt, 0),
            };
            let at = arrival.at.plus(late_ms);
            let by_time = self.journal.partition_point(|entry| entry.at <= at);
            let caused = opened.range((outer, least)..=(outer, most)).next();
            let caused = caused.map_or(0, |(_, place)| *place);
            let place = by_time.saturating_sub(1).max(caused);
            let here = beside.entry(place).or_default();
            here.push((arrival.at, Witnessed::Reached(arrival.attempt)));
            if arrival.processed {
                here.push((arrival.at, Witnessed::Processed(arrival.attempt)));
            }
        }
        beside
    }

    /// What was told, as an engine tells it.
    fn reply(&self, answer: &Answer) -> Reply {
        let first = answer
            .deliveries
            .first()
            .map_or(DeliveryId(0), |(id, _)| *id);
        let event = self.events.get(&answer.event);
        if answer.repeat {
            return Reply::Duplicate(Seen {
                event: answer.event,
                uuid: 0,
                body_digest: event.map_or_else(Default::default, |event| event.body_digest),
                key_expires_at: event.map_or(Time(0), |event| event.key_expires_at),
                first_delivery: first,
                deliveries: u32::try_from(answer.deliveries.len()).unwrap_or(u32::MAX),
                released: false,
            });
        }
        let endpoint = |id: DeliveryId| {
            let row = self.rows.iter().find(|row| row.id == id);
            row.map_or(EndpointId(0), |row| row.endpoint)
        };
        let deliveries = answer.deliveries.iter();
        Reply::Admitted {
            event: answer.event,
            uuid: 0,
            first_delivery: first,
            deliveries: deliveries
                .map(|(id, outer)| (endpoint(*id), *outer))
                .collect(),
        }
    }
}
