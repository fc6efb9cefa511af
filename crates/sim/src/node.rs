//! A node: a process that runs one production engine, behind the production executor, for every
//! shard that it owns.
//!
//! Absent here: what happens next. A node is what the process holds in memory; the world moves it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::engine::{Config, Engine, Input, Reply};
use postrider_core::event::{LaneCounter, Seen};
use postrider_core::executor::{self, Executor};
use postrider_core::id::{
    Ask, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, Stamp,
};
use postrider_core::lease::Tenure;
use postrider_core::ledger::Record;
use postrider_core::observation::Observation;
use postrider_core::relay::RelayCursor;
use postrider_core::time::{SECOND_MS, Time, slew_ms};

use crate::history::Who;
use crate::plan::SHARDS;
use crate::store::ModelReader;
use crate::store::Reader;

/// What the executor wants done, each to happen in its own time.
#[derive(Clone, Debug)]
pub enum Act {
    /// To the store.
    Record(Vec<Box<Record>>),
    /// To a receiver.
    Send(Dispatch),
    /// To a caller.
    Reply(Ask, Reply),
    /// From the store.
    Load(Vec<DeliveryId>),
    /// To the registry.
    Retire(EndpointId, Cause, Time),
}

/// The executor's hands: look-ups are answered, everything else is noted down.
pub struct Hands {
    reader: Arc<ModelReader>,
    /// The store answers look-ups.
    pub reachable: Rc<Cell<bool>>,
    /// The planted fault: look-ups leave out who freed a key.
    pub unnamed: bool,
    /// Keys that were asked for and not answered.
    pub unread: Vec<KeyDigest>,
    /// What is to be done.
    pub acts: Vec<Act>,
    /// What the engine observed.
    pub observed: Vec<Observation>,
}

impl executor::World for Hands {
    fn seen(&mut self, key: &KeyDigest, now: Time) -> Option<Seen> {
        // What cannot be read here is refused by the store's own guard on keys.
        let reachable = self.reachable.get();
        let Some(seen) = reachable.then(|| self.reader.seen(key, now).ok()).flatten() else {
            self.unread.push(*key);
            return None;
        };
        seen.filter(|seen| !(self.unnamed && seen.released))
    }

    fn lane(&mut self, endpoint: EndpointId, key: OrderingKey) -> Option<LaneCounter> {
        let reachable = self.reachable.get();
        reachable.then(|| self.reader.lane(endpoint, key).ok())?
    }

    fn record(&mut self, records: Vec<Box<Record>>) {
        self.acts.push(Act::Record(records));
    }

    fn send(&mut self, dispatches: Vec<Dispatch>) {
        self.acts.extend(dispatches.into_iter().map(Act::Send));
    }

    fn reply(&mut self, ask: Ask, reply: Reply) {
        self.acts.push(Act::Reply(ask, reply));
    }

    fn load(&mut self, deliveries: Vec<DeliveryId>) {
        self.acts.push(Act::Load(deliveries));
    }

    fn retire(&mut self, endpoint: EndpointId, cause: Cause, at: Time) {
        self.acts.push(Act::Retire(endpoint, cause, at));
    }

    fn observe(&mut self, observation: Observation) {
        self.observed.push(observation);
    }
}

/// The engine's clock, as the server's: starts at the wall or at the newest entry, runs with the
/// monotonic clock, follows the wall a little each second, never runs backwards.
#[derive(Clone, Debug)]
pub struct EngineClock {
    started: Time,
    start_ms: i64,
    slewed_ms: i64,
    newest: Time,
    followed: Time,
}

/// Steps of following that are made up for at the most after nobody asked for a while.
const FOLLOWS_MAX: i64 = 1_200;

impl EngineClock {
    /// Starts now, and not before `not_before`.
    #[must_use]
    pub fn starting(monotonic: Time, wall: Time, not_before: Time) -> EngineClock {
        let start = wall.max(not_before);
        EngineClock {
            started: monotonic,
            start_ms: start.0,
            slewed_ms: 0,
            newest: start,
            followed: monotonic,
        }
    }

    /// The engine's time.
    pub fn now(&mut self, monotonic: Time, wall: Time) -> Time {
        let steps = (monotonic.since(self.followed) / SECOND_MS).min(FOLLOWS_MAX);
        for _ in 0..steps {
            let off = wall.since(self.raw(monotonic).max(self.newest));
            match slew_ms(off) {
                Some(0) | None => break,
                Some(slew) => self.slewed_ms += slew,
            }
        }
        if steps > 0 {
            self.followed = monotonic;
        }
        self.newest = self.newest.max(self.raw(monotonic));
        self.newest
    }

    fn raw(&self, monotonic: Time) -> Time {
        Time(self.start_ms + self.slewed_ms + monotonic.since(self.started))
    }
}

/// Outer ids, unique for unique ids within a shard, and over shards.
pub struct Ids(pub usize);

impl Ids {
    fn spell(&self, id: u64, entropy: u128) -> u128 {
        let shard = self.0 as u128 + 1;
        (shard << 124) | (u128::from(id) << 64) | (entropy & u128::from(u64::MAX))
    }
}

impl Stamp for Ids {
    fn correlation(&self, id: DeliveryId, entropy: u128) -> CorrelationId {
        CorrelationId(self.spell(id.0, entropy))
    }

    fn event(&self, id: EventId, entropy: u128) -> u128 {
        self.spell(id.0, entropy) | 1 << 123
    }
}

/// The writer's side of an engine: what waits, and whether a commit is under way.
#[derive(Debug, Default)]
pub struct Writer {
    /// Waits for the next commit.
    pub queue: VecDeque<Record>,
    /// A commit is under way.
    pub busy: bool,
}

/// A shard that a node owns.
pub struct Owned {
    /// Its engine's name in the history.
    pub who: Who,
    /// What the lease allows.
    pub tenure: Tenure,
    /// The engine, in the production executor.
    pub executor: Executor<Hands>,
    /// The engine's clock.
    pub clock: EngineClock,
    /// What waits for the next turn.
    pub inbox: Vec<Input>,
    /// When the next turn is.
    pub turn_at: Option<Time>,
    /// No record may reach the writer before this moment: they keep their order.
    pub line_at: Time,
    /// Its way to the store.
    pub writer: Writer,
    /// How far the broker was told.
    pub relay: RelayCursor,
    /// The relay will look again.
    pub relaying: bool,
    /// It hands the shard over, at the latest at this moment.
    pub leaves_by: Option<Time>,
    /// Turns taken.
    pub turns: u64,
}

impl Owned {
    /// An engine that goes on where `estate` stands.
    #[must_use]
    pub fn new(
        who: Who,
        tenure: Tenure,
        config: Config,
        estate: &crate::store::Estate,
        hands: Hands,
        clock: EngineClock,
    ) -> Owned {
        let engine = Engine::new(config, Box::new(Ids(who.shard)), estate.origin);
        Owned {
            who,
            tenure,
            executor: Executor::new(engine, hands),
            clock,
            inbox: Vec::new(),
            turn_at: None,
            line_at: Time(0),
            writer: Writer::default(),
            relay: RelayCursor::new(estate.cursor),
            relaying: false,
            leaves_by: None,
            turns: 0,
        }
    }
}

impl Hands {
    /// Empty hands over this store.
    #[must_use]
    pub fn new(reader: Arc<ModelReader>, reachable: Rc<Cell<bool>>) -> Hands {
        Hands {
            reader,
            reachable,
            unnamed: false,
            unread: Vec::new(),
            acts: Vec::new(),
            observed: Vec::new(),
        }
    }
}

/// A request that was written and waits for its answer.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Which engine it is answered to.
    pub who: Who,
    /// The attempt.
    pub dispatch: Dispatch,
    /// When it began.
    pub began_at: Time,
}

/// A node.
pub struct Node {
    /// It runs.
    pub up: bool,
    /// Which life of it this is.
    pub life: u64,
    /// It does nothing before this moment.
    pub stalled_until: Time,
    /// It pauses between effects until then.
    pub pausing_until: Time,
    /// How far its wall clock is off.
    pub wall_off_ms: i64,
    /// Until when what it sends to stores does not get through.
    pub store_to_cut: Time,
    /// Until when what stores send to it does not get through.
    pub store_from_cut: Time,
    /// Until when its requests do not get through.
    pub remote_to_cut: Time,
    /// Until when answers to its requests do not get through.
    pub remote_from_cut: Time,
    /// Until when news reaches it late.
    pub news_slow_until: Time,
    /// The shards it owns, as far as it knows.
    pub owned: [Option<Box<Owned>>; SHARDS],
    /// The store answers its look-ups.
    pub reachable: Rc<Cell<bool>>,
    /// Requests under way.
    pub flights: BTreeMap<u64, Flight>,
    /// Endpoints that it has heard of.
    pub known: BTreeSet<EndpointId>,
    /// Policies that it has heard of.
    pub policies: usize,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            up: false,
            life: 0,
            stalled_until: Time(0),
            pausing_until: Time(0),
            wall_off_ms: 0,
            store_to_cut: Time(0),
            store_from_cut: Time(0),
            remote_to_cut: Time(0),
            remote_from_cut: Time(0),
            news_slow_until: Time(0),
            owned: std::array::from_fn(|_| None),
            reachable: Rc::new(Cell::new(true)),
            flights: BTreeMap::new(),
            known: BTreeSet::new(),
            policies: 0,
        }
    }
}

impl Node {
    /// Its wall clock.
    #[must_use]
    pub fn wall(&self, now: Time) -> Time {
        now.plus(self.wall_off_ms)
    }

    /// The engine of this shard, if it is still the one meant.
    pub fn engine(&mut self, who: Who) -> Option<&mut Owned> {
        let owned = self.owned[who.shard].as_deref_mut();
        owned.filter(|owned| owned.who == who)
    }

    /// The process is gone, and everything that it held.
    pub fn lose_memory(&mut self) -> Vec<Who> {
        let ended = self.owned.iter_mut().filter_map(Option::take);
        let ended = ended.map(|owned| owned.who).collect();
        self.flights.clear();
        self.known.clear();
        self.policies = 0;
        self.stalled_until = Time(0);
        ended
    }
}
