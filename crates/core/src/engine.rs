//! The engine: all stages of one node behind one face.
//!
//! The world calls [`Engine::handle`] with what happened and performs the effects that come out, in
//! order. Everything the engine wants to survive leaves as an [`Effect::Record`]; whatever depends
//! on that being durable leaves only after [`Input::Recorded`] has answered its ticket. There is at
//! most one record on its way for a delivery.
//!
//! Absent here: the stages themselves ([`crate::intake`], [`crate::dispatch`],
//! [`crate::settling`]), and any effect: the engine performs nothing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::cause::Cause;
use crate::dispatch::Dispatch;
use crate::endpoint::{Endpoint, Gate, Shut, Slot};
use crate::event::{LaneCounter, Seen, Submission};
use crate::id::{
    Ask, CollapseKey, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, KeyDigest,
    OrderingKey, PolicyId, RouteId, Seq, Stamp, Ticket,
};
use crate::ledger::{Delivery, Entry, Fact, Record, State, apply};
use crate::map::{Map, Set};
use crate::observation::Observation;
use crate::ordering::Lane;
use crate::outcome::Outcome;
use crate::partition::partition_of;
use crate::plant::Plant;
use crate::policy::Policy;
use crate::receipt::Receipts;
use crate::route::Route;
use crate::schedule::{Timers, Turns};
use crate::time::{MINUTE_MS, SECOND_MS, Time};

pub use crate::observation::Figures;

/// Bounds of one engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Attempts under way at the most, over all endpoints.
    pub slots_max: u32,
    /// Share of the slots, in percent, that endpoints in trouble may hold together.
    pub troubled_percent_max: u32,
    /// Unsettled deliveries held in memory at the most. Beyond half of it, those that are due later
    /// than `park_after_ms` stay on disk until they are due and there is room; beyond all of it,
    /// intake refuses.
    pub window_max: usize,
    /// See `window_max`.
    pub park_after_ms: i64,
    /// Records on their way to the store at the most: the buffer of acknowledgments. When it is
    /// full, nothing is opened and nothing admitted; what comes back from receivers always fits,
    /// because each attempt under way holds a slot.
    pub records_max: usize,
    /// What a caller that was refused for want of room is told to wait.
    pub refused_retry_after_ms: i64,
    /// Times a delivery may be put back before it left, until that counts as an attempt.
    pub put_backs_max: u8,
    /// A planted fault.
    pub plant: Option<Plant>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            slots_max: 4_096,
            troubled_percent_max: 25,
            window_max: 2_000_000,
            park_after_ms: MINUTE_MS,
            records_max: 10_000,
            refused_retry_after_ms: SECOND_MS,
            put_backs_max: 8,
            plant: None,
        }
    }
}

/// Where ids go on after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Highest event id in use.
    pub last_event: EventId,
    /// Highest delivery id in use.
    pub last_delivery: DeliveryId,
    /// Highest place in the journal in use.
    pub last_seq: Seq,
    /// The epoch under which this engine holds its partitions.
    pub epoch: Epoch,
}

/// What the world tells the engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A version of a policy exists. Told before anything refers to it.
    Policy(Arc<Policy>),
    /// An endpoint was created or changed. Told before anything refers to it.
    Endpoint(Gate),
    /// An endpoint that ended is not named by any delivery any more.
    Forget(EndpointId),
    /// A route was paused by hand, or opened: after its credentials were renewed, say.
    Route {
        /// Which.
        route: RouteId,
        /// Whether it is sent over.
        open: bool,
    },
    /// A dead letter had stopped this lane when the engine before ended, and nobody has changed the
    /// endpoint since; see [`crate::parked::stopped`]. Told before the rows of the lane.
    Parked {
        /// Whose.
        endpoint: EndpointId,
        /// Which.
        key: OrderingKey,
    },
    /// A device reported something about a delivery. Answered with [`Reply::Received`] once that
    /// is durable.
    Receipt {
        /// Which delivery.
        delivery: DeliveryId,
        /// What, as the channel numbers it, from 1 to [`crate::ledger::RECEIPTS_MAX`].
        receipt: u8,
        /// Whom to answer.
        ask: Ask,
    },
    /// Notify.
    Submit {
        /// What and whom.
        submission: Box<Submission>,
        /// Whom to answer.
        ask: Ask,
    },
    /// The store has answered all records up to and including this ticket.
    Recorded {
        /// The last one answered.
        through: Ticket,
        /// Those that were not recorded, in the order of their tickets.
        refused: Vec<(Box<Record>, Refusal)>,
    },
    /// An attempt ended.
    Answered {
        /// Whose.
        delivery: DeliveryId,
        /// Which.
        attempt: u32,
        /// What it came to.
        outcome: Box<Outcome>,
        /// Random bits to spread the wait with.
        entropy: u64,
    },
    /// An attempt ended before a byte was written, through nobody's fault.
    NotSent {
        /// Whose.
        delivery: DeliveryId,
        /// Which.
        attempt: u32,
        /// What was in the way.
        cause: Cause,
    },
    /// Rows read from the store: at the start all unsettled ones in ascending order of ids, later
    /// those asked for. Whatever is asked for must be answered.
    Loaded {
        /// The rows, each with how far its lane has come.
        deliveries: Vec<(Delivery, LaneCounter)>,
        /// Of those asked for, the ones that do not exist.
        absent: Vec<DeliveryId>,
    },
    /// Withdraw a delivery.
    Cancel {
        /// Which.
        delivery: DeliveryId,
        /// Whom to answer.
        ask: Ask,
    },
    /// Time has passed.
    Wake,
    /// Begin nothing more; finish what is under way.
    Drain,
}

/// Why a record was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room.
    Full,
    /// Another node owns the partition.
    Fenced,
    /// An entry does not fit its row.
    Conflict,
    /// The key is taken by this event.
    KeyTaken(Seen),
}

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, and answer its ticket.
    Record(Box<Record>),
    /// Send this attempt, and answer it.
    Send(Dispatch),
    /// Answer a caller.
    Reply {
        /// Whom.
        ask: Ask,
        /// What.
        reply: Reply,
    },
    /// Read these rows.
    Load(Vec<DeliveryId>),
    /// The address of this endpoint is gone, and that is durable. Unless it was registered again
    /// later than `at`: then it lives on.
    Retire {
        /// Which.
        endpoint: EndpointId,
        /// Why.
        cause: Cause,
        /// Since when.
        at: Time,
    },
    /// Something worth counting or logging happened.
    Observe(Observation),
}

/// What a caller is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is durable.
    Admitted {
        /// The event's id.
        event: EventId,
        /// Its outer id.
        uuid: u128,
        /// Its first delivery; the others follow.
        first_delivery: DeliveryId,
        /// Where it goes, with the outer id of each delivery.
        deliveries: Vec<(EndpointId, CorrelationId)>,
    },
    /// The same was admitted before, as this event.
    Duplicate(Seen),
    /// The same key was admitted before with other content, as this event.
    KeyConflict(Seen),
    /// Not now.
    Refused {
        /// Why.
        why: Why,
        /// When it may be worth asking again.
        retry_after_ms: i64,
    },
    /// The delivery was withdrawn before it was sent.
    Cancelled,
    /// The receipt is kept.
    Received,
    /// The delivery can no longer be withdrawn, or not yet have been received.
    TooLate(State),
    /// There is no such delivery.
    Absent,
}

/// Why a submission was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too much is unsettled.
    Overloaded,
    /// The store has no room.
    StorageFull,
    /// The process is going down, or another one has taken over.
    Draining,
}

/// Where an unsettled delivery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// For its time.
    Timer,
    /// In its endpoint's line.
    Line,
    /// Behind another of its lane.
    Lane,
    /// For the store.
    Busy,
    /// For an answer.
    Away,
}

pub(crate) struct Row {
    pub delivery: Delivery,
    pub place: Place,
    /// Times it was put back in a row.
    pub put_backs: u8,
    /// What its attempt holds, while one is open.
    pub slot: Slot,
    /// The thread that a newer one may take its place in. Not kept over a restart: the provider
    /// replaces what it holds by the same key anyway.
    pub collapse_key: Option<CollapseKey>,
    /// A newer one of its thread came while it was on its way: it is not sent again.
    pub superseded: bool,
}

impl Row {
    /// A row whose last entry is on its way to the store, or has just come from there.
    pub fn busy(delivery: Delivery) -> Row {
        Row {
            delivery,
            place: Place::Busy,
            put_backs: 0,
            slot: Slot::default(),
            collapse_key: None,
            superseded: false,
        }
    }
}

/// What waits for a ticket.
pub(crate) enum After {
    Admitted {
        ask: Ask,
        key: KeyDigest,
        seen: Seen,
    },
    Opened(DeliveryId),
    Answered {
        delivery: DeliveryId,
        /// Why its endpoint is gone, and since when.
        retire: Option<(Cause, Time)>,
        observed: Box<Observation>,
    },
    PutBack(DeliveryId),
    Receipts {
        delivery: DeliveryId,
        asks: Vec<Ask>,
        /// The delivery is one of the window.
        in_window: bool,
    },
    Closed {
        delivery: DeliveryId,
        ask: Option<Ask>,
    },
}

/// A key that is on its way to the store: who else asked for it meanwhile.
pub(crate) struct Claim {
    pub waiters: Vec<(Ask, Box<Submission>)>,
}

/// The engine of one node.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) stamp: Box<dyn Stamp>,
    pub(crate) origin: Origin,
    pub(crate) ticket: Ticket,
    pub(crate) rows: Map<DeliveryId, Row>,
    pub(crate) endpoints: Map<EndpointId, Endpoint>,
    pub(crate) policies: Map<PolicyId, Arc<Policy>>,
    pub(crate) lanes: Map<(EndpointId, OrderingKey), Lane>,
    pub(crate) keys: Map<KeyDigest, Claim>,
    pub(crate) routes: Map<RouteId, Route>,
    pub(crate) receipts: Map<DeliveryId, Receipts>,
    /// The newest unsettled delivery of each thread; see [`Row::collapse_key`].
    pub(crate) threads: Map<(EndpointId, CollapseKey), DeliveryId>,
    /// Events whose key is freed once every delivery has definitely not arrived: how many have not
    /// yet. Not kept over a restart: then the key stays taken until its window ends.
    pub(crate) releases: Map<EventId, u32>,
    /// Those who wish to withdraw a row that is being read, or whose entry has yet to be answered.
    pub(crate) asked: Map<DeliveryId, Vec<Ask>>,
    pub(crate) timers: Timers,
    pub(crate) turns: Turns,
    /// What waits for the store, in the order of tickets.
    pub(crate) pending: VecDeque<(Ticket, After)>,
    /// Records that the store had no room for.
    pub(crate) stuck: Vec<(Box<Record>, After)>,
    /// Endpoints in trouble that wait for one of the slots they share. They count as in the circle.
    pub(crate) troubled_line: VecDeque<EndpointId>,
    pub(crate) slots_used: u32,
    pub(crate) troubled_used: u32,
    /// Since when deliveries that wait at their endpoints have been due.
    pub(crate) due_since: BTreeSet<(Time, DeliveryId)>,
    /// Unsettled deliveries that are on disk only.
    pub(crate) parked: Set<DeliveryId>,
    /// Those of them that are due and wait for room.
    pub(crate) to_load: VecDeque<DeliveryId>,
    /// Rows that the store was asked for.
    pub(crate) loading: Set<DeliveryId>,
    pub(crate) draining: bool,
}

/// Wait before a record that found no room is handed in again.
pub(crate) const STUCK_RETRY_MS: i64 = 200;

impl Engine {
    /// An engine that goes on where the store's journal ends. Its unsettled deliveries are told
    /// through [`Input::Loaded`] before anything else but policies and endpoints.
    #[must_use]
    pub fn new(config: Config, stamp: Box<dyn Stamp>, origin: Origin) -> Engine {
        Engine {
            config,
            stamp,
            origin,
            ticket: Ticket(0),
            rows: Map::default(),
            endpoints: Map::default(),
            policies: Map::default(),
            lanes: Map::default(),
            keys: Map::default(),
            routes: Map::default(),
            receipts: Map::default(),
            threads: Map::default(),
            releases: Map::default(),
            asked: Map::default(),
            timers: Timers::default(),
            turns: Turns::default(),
            pending: VecDeque::new(),
            stuck: Vec::new(),
            troubled_line: VecDeque::new(),
            slots_used: 0,
            troubled_used: 0,
            due_since: BTreeSet::new(),
            parked: Set::default(),
            to_load: VecDeque::new(),
            loading: Set::default(),
            draining: false,
        }
    }

    /// Takes one input and appends what follows from it to `effects`, to be performed in order.
    ///
    /// `now` must not be earlier than in any call before.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Policy(policy) => {
                self.policies.insert(policy.id, policy);
            }
            Input::Endpoint(gate) => self.regate(now, gate, effects),
            Input::Forget(endpoint) => self.forget_endpoint(endpoint),
            Input::Route { route, open } => self.switch_route(now, route, open, effects),
            Input::Parked { endpoint, key } => {
                if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
                    endpoint.parked_lanes.insert(key);
                }
            }
            Input::Receipt {
                delivery,
                receipt,
                ask,
            } => self.receipt(now, delivery, receipt, ask, effects),
            Input::Submit { submission, ask } => self.submit(now, submission, ask, effects),
            Input::Recorded { through, refused } => self.recorded(now, through, refused, effects),
            Input::Answered {
                delivery,
                attempt,
                outcome,
                entropy,
            } => {
                self.answered(now, delivery, attempt, outcome, entropy, effects);
            }
            Input::NotSent {
                delivery,
                attempt,
                cause,
            } => {
                self.not_sent(now, delivery, attempt, cause, effects);
            }
            Input::Loaded { deliveries, absent } => self.loaded(now, deliveries, &absent, effects),
            Input::Cancel { delivery, ask } => self.cancel(now, delivery, ask, effects),
            Input::Wake => {}
            Input::Drain => self.draining = true,
        }
        self.fire(now, effects);
        self.load_due(effects);
        self.take_turns(now, effects);
        self.sweep_timers();
    }

    /// When the engine wants to be woken if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.timers.earliest()
    }

    /// Nothing is under way: no attempt, no record, no row that is being read.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let nothing_kept = self.pending.is_empty() && self.stuck.is_empty();
        self.slots_used == 0 && self.loading.is_empty() && nothing_kept
    }

    /// The engine knows how far this lane has come; the store need not be asked.
    #[must_use]
    pub fn knows_lane(&self, endpoint: EndpointId, key: OrderingKey) -> bool {
        self.lanes.contains_key(&(endpoint, key))
    }

    /// Figures for a gauge.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            window: self.rows.len(),
            parked: self.parked.len(),
            due: self.due_since.len(),
            oldest_due_at: self.due_since.first().map(|(at, _)| *at),
            timers: self.timers.len(),
            slots_used: self.slots_used,
            records_pending: self.pending.len(),
            lanes: self.lanes.len(),
        }
    }

    /// Why an unsettled delivery does not go now, as far as its endpoint is concerned.
    pub fn held_by(&mut self, now: Time, endpoint: EndpointId) -> Option<Shut> {
        self.endpoints.get_mut(&endpoint)?.shut(now)
    }

    /// Appends an entry to a row: the row moves now, and nobody acts on it before the record that
    /// the entry goes into is durable.
    pub(crate) fn append(&mut self, now: Time, id: DeliveryId, fact: Fact) -> Option<Entry> {
        let row = self.rows.get_mut(&id)?;
        self.origin.last_seq.0 += 1;
        let entry = Entry {
            seq: self.origin.last_seq,
            delivery: id,
            version: row.delivery.version,
            at: now,
            previous: row.delivery.last_seq,
            fact,
        };
        let mut moved = Some(row.delivery.clone());
        let fits = apply(&mut moved, &entry);
        assert!(
            fits.is_ok(),
            "the engine decided what its own state table forbids: {fits:?}"
        );
        row.delivery = moved?;
        row.place = Place::Busy;
        Some(entry)
    }

    /// Sends entries of one delivery to the store.
    pub(crate) fn record(
        &mut self,
        id: DeliveryId,
        entry: Entry,
        after: After,
        effects: &mut Vec<Effect>,
    ) {
        let fences = self
            .rows
            .get(&id)
            .map(|row| self.fence(&row.delivery))
            .into_iter()
            .collect();
        let release = self.release(id);
        let ticket = self.await_ticket(after);
        let record = Record {
            ticket,
            event: None,
            fences,
            entries: vec![entry],
            release,
        };
        effects.push(Effect::Record(Box::new(record)));
    }

    pub(crate) fn fence(&self, delivery: &Delivery) -> (crate::id::Partition, Epoch) {
        let key = delivery.lane.map(|lane| lane.key);
        (partition_of(delivery.endpoint, key), self.origin.epoch)
    }

    pub(crate) fn await_ticket(&mut self, after: After) -> Ticket {
        self.ticket.0 += 1;
        self.pending.push_back((self.ticket, after));
        self.ticket
    }

    /// Whether this fault is planted.
    pub(crate) fn planted(&self, plant: Plant) -> bool {
        self.config.plant == Some(plant)
    }

    pub(crate) fn place_of(&self, id: DeliveryId) -> Option<Place> {
        self.rows.get(&id).map(|row| row.place)
    }
}
