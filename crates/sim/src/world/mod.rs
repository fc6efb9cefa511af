//! The world: one thread, one seed, one heap of events.
//!
//! Everything that takes time is an event with a moment. Events of a node are put off while it is
//! stopped, and lost when it dies; what crosses a cut waits for its end, as TCP would have it. The
//! files beside this one carry out the events of one side each.
//!
//! Absent here: judging. Whatever happens is shown to [`crate::eyes::Eyes`], and nothing of what
//! they find comes back.

mod changes;
mod clients;
mod faults;
mod inside;
mod leases;
mod relaying;
mod storing;
mod wire;

pub use self::relaying::settles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::Input;
use postrider_core::id::{Ask, EndpointId, Epoch, RouteId, Seq};
use postrider_core::lease::Terms;
use postrider_core::ledger::Entry;
use postrider_core::policy::Policy;
use postrider_core::time::{DAY_MS, MINUTE_MS, SECOND_MS, Time};

use self::clients::Part;
use crate::device::Device;
use crate::eyes::Eyes;
use crate::fault::{Fault, FaultKind};
use crate::history::{Happened, Who};
use crate::node::{Act, Node};
use crate::plan::{EndpointSpec, NODES, Plan, SHARDS};
use crate::plant::{Planted, WorldPlant};
use crate::remote::{Answer, Receiver};
use crate::rng::Rng;
use crate::store::{Batch, Estate, Shard};

/// When worlds begin: noon of some day.
pub const START: Time = Time(20_000 * DAY_MS + DAY_MS / 2);
/// The world must have come to rest this long after the faults are over.
pub const REST_MS: i64 = 20 * MINUTE_MS;
/// Between two looks whether the world has come to rest.
const LOOK_MS: i64 = 10 * SECOND_MS;
/// Between two rounds of housekeeping in a store.
const TEND_MS: i64 = 20 * SECOND_MS;

/// Something that will happen.
pub(crate) enum Due {
    /// An item of the plan.
    Item(usize),
    /// A fault ends.
    Over(Fault),
    /// The next try of a submission.
    Try(usize),
    /// A client that has waited long enough for the answer to this try asks again.
    Impatient(usize, u32),
    /// A client hears an answer.
    Heard(usize, bool),
    /// Something inside of a node.
    Inside(usize, u64, Inside),
    /// Something on its way from a node to a store.
    ToStore(usize, u64, ToStore),
    /// Something on its way from a store to a node.
    FromStore(usize, u64, Inside),
    /// The sync that was begun under this number has returned.
    Synced(usize, u64),
    /// A request reaches its receiver.
    Request(usize, u64, u64, Who, Box<Dispatch>),
    /// An answer reaches the node.
    Answer(usize, u64, u64, Answer),
    /// Events reach the broker.
    Publish(usize, u64, Who, Vec<Entry>),
    /// The broker's confirmations reach the node.
    Confirm(usize, u64, Who, Vec<Seq>),
    /// A device reports something.
    Report(usize, postrider_core::id::DeliveryId, u8),
    /// Housekeeping in a store.
    Tend(usize),
    /// The faults are over.
    Calm,
    /// Has it come to rest?
    Look,
}

/// Something inside of a node, lost with its life and put off while it is stopped.
pub(crate) enum Inside {
    Input(Who, Input),
    Turn(Who),
    Act(Who, Act),
    /// A commit is answered: up to which ticket, and what was refused; `None` if it is not known.
    Committed(Who, Option<Input>),
    /// The request is written.
    Write(Who, Box<Dispatch>),
    /// Whoever waits for this answer gives up.
    TimedOut(u64),
    Arrived(u64, Answer),
    Submit(usize),
    Cancel(u64),
    LeaseTick(usize),
    Granted(usize, Time, Box<Estate>),
    Renewed(Who, Time, bool),
    News(News),
    Relay(Who),
    Confirmed(Who, Vec<Seq>),
    /// The broker's connection is gone or silent.
    Rewind(Who, Seq),
    HandOver(usize),
    Start,
}

/// What a node asks of a store.
pub(crate) enum ToStore {
    Commit(usize, Batch),
    Take(usize, Time),
    Renew(Who, Time),
    Release(Who),
    Cursor(Who, Seq),
    Load(Who, Vec<postrider_core::id::DeliveryId>),
    Retire(EndpointId, Time),
}

/// An endpoint as it is registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub spec: EndpointSpec,
    pub reach: Reach,
    pub registered_at: Time,
    pub changed_at: Time,
}

impl Listed {
    /// As it is registered now.
    pub fn new(spec: EndpointSpec, now: Time) -> Listed {
        Listed {
            spec,
            reach: Reach::Open,
            registered_at: now,
            changed_at: now,
        }
    }
}

/// What has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Policies,
    Endpoint(EndpointId),
    Route(RouteId),
}

/// Everything.
pub struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) plant: Option<Planted>,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    heap: BTreeMap<(Time, u64), Due>,
    next: u64,
    pub(crate) terms: Terms,
    pub(crate) nodes: [Node; NODES],
    pub(crate) shards: [Shard; SHARDS],
    /// Counts syncs; a crash of the store makes those under way void.
    pub(crate) syncs: [u64; SHARDS],
    pub(crate) receivers: BTreeMap<EndpointId, Receiver>,
    pub(crate) devices: BTreeMap<EndpointId, Device>,
    /// Endpoints as they are registered, durably.
    pub(crate) registry: BTreeMap<EndpointId, Listed>,
    /// Routes that somebody has paused, durably.
    pub(crate) paused: BTreeSet<RouteId>,
    /// Until when the providers of a route refuse our credentials.
    pub(crate) refused: BTreeMap<RouteId, Time>,
    /// Policies in force.
    pub(crate) policies: usize,
    pub(crate) parts: Vec<Part>,
    pub(crate) asks: BTreeMap<Ask, usize>,
    pub(crate) last_ask: u64,
    pub(crate) last_flight: u64,
    pub(crate) broker_down: Time,
    pub(crate) broker_slow: Time,
    pub(crate) broker_forgets: Time,
    pub(crate) calm: bool,
    /// Sees and judges.
    pub eyes: Eyes,
}

impl World {
    /// A world before its first moment.
    #[must_use]
    pub fn new(plan: Arc<Plan>, plant: Option<Planted>, eyes: Eyes) -> World {
        let first = |spec: &EndpointSpec| (spec.id, Listed::new(*spec, START));
        let options = &plan.options;
        let registered = options.endpoints.iter().take(options.endpoints_first);
        let mut world = World {
            rng: Rng::new(plan.seed),
            terms: Terms::new(options.lease_ms),
            registry: registered.map(first).collect(),
            paused: BTreeSet::new(),
            refused: BTreeMap::new(),
            policies: options.policies_first,
            plant,
            now: START,
            heap: BTreeMap::new(),
            next: 0,
            nodes: std::array::from_fn(|_| Node::default()),
            shards: std::array::from_fn(|_| Shard::new(plant.and_then(Planted::world))),
            syncs: [0; SHARDS],
            receivers: BTreeMap::new(),
            devices: BTreeMap::new(),
            parts: Vec::new(),
            asks: BTreeMap::new(),
            last_ask: 0,
            last_flight: 0,
            broker_down: Time(0),
            broker_slow: Time(0),
            broker_forgets: Time(0),
            calm: false,
            eyes,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let plan = Arc::clone(&self.plan);
        let bounds = Happened::Bounds {
            window_max: plan.options.window_max,
            records_max: plan.options.records_max,
        };
        self.eyes.see(self.now, &bounds);
        for policy in &plan.options.policies {
            self.eyes.see(self.now, &Happened::Policy(policy));
        }
        for (place, item) in plan.items.iter().enumerate() {
            self.at(START.plus(item.at_ms.max(0)), Due::Item(place));
        }
        for node in 0..NODES {
            self.nodes[node].wall_off_ms = plan.options.skew_ms[node];
            self.inside(node, 0, Inside::Start);
        }
        for shard in 0..SHARDS {
            self.after(TEND_MS, Due::Tend(shard));
        }
        self.at(START.plus(plan.options.calm_ms), Due::Calm);
    }

    /// Lets everything happen, until the world rests or an invariant is broken.
    pub fn run(&mut self) {
        while let Some(((at, _), due)) = self.heap.pop_first() {
            self.now = self.now.max(at);
            if let Due::Look = due {
                let over = self.now.since(START) > self.plan.options.calm_ms + REST_MS;
                if over || self.is_at_rest() {
                    self.end(!over);
                    return;
                }
                self.resume_all();
                self.after(LOOK_MS, Due::Look);
            } else {
                self.happens(due);
            }
            if self.eyes.violation.is_some() {
                return;
            }
        }
    }

    fn happens(&mut self, due: Due) {
        self.eyes.events += 1;
        match due {
            Due::Item(place) => self.item(place),
            Due::Over(fault) => self.over(fault),
            Due::Try(part) => self.try_part(part),
            Due::Impatient(part, tries) => self.impatient(part, tries),
            Due::Heard(part, done) => self.heard(part, done),
            Due::Inside(node, life, inside) => self.happens_inside(node, life, inside),
            Due::ToStore(node, life, ask) => self.reach_store(node, life, ask),
            Due::FromStore(node, life, inside) => {
                let cut = self.nodes[node].store_from_cut;
                match self.now < cut {
                    true => self.at(cut, Due::FromStore(node, life, inside)),
                    false => self.happens_inside(node, life, inside),
                }
            }
            Due::Synced(shard, sync) => self.synced(shard, sync),
            Due::Request(node, life, flight, who, dispatch) => {
                self.request(node, life, flight, who, *dispatch);
            }
            Due::Answer(node, life, flight, answer) => {
                // What does not get through in time is not waited for.
                if self.now >= self.nodes[node].remote_from_cut {
                    self.inside_of(node, life, Inside::Arrived(flight, answer));
                }
            }
            Due::Publish(node, life, who, entries) => self.publish(node, life, who, entries),
            Due::Confirm(node, life, who, seqs) => {
                self.inside_of(node, life, Inside::Confirmed(who, seqs));
            }
            Due::Report(shard, delivery, receipt) => self.reported(shard, delivery, receipt),
            Due::Tend(shard) => self.tend(shard),
            Due::Calm => self.calm_down(),
            Due::Look => {}
        }
    }

    fn happens_inside(&mut self, node: usize, life: u64, inside: Inside) {
        let Node {
            up,
            life: now_lives,
            stalled_until,
            ..
        } = &self.nodes[node];
        let starts = matches!(inside, Inside::Start);
        if *now_lives != life || *up == starts {
            return;
        }
        if self.now < *stalled_until {
            let at = *stalled_until;
            self.at(at, Due::Inside(node, life, inside));
            return;
        }
        self.inside_now(node, inside);
    }

    /// Plans an event.
    pub(crate) fn at(&mut self, at: Time, due: Due) {
        self.next += 1;
        self.heap.insert((at.max(self.now), self.next), due);
    }

    /// Plans an event in so many milliseconds.
    pub(crate) fn after(&mut self, ms: i64, due: Due) {
        self.at(self.now.plus(ms), due);
    }

    /// Plans something inside of a node's present life.
    pub(crate) fn inside(&mut self, node: usize, after_ms: i64, inside: Inside) {
        let life = self.nodes[node].life;
        self.after(after_ms, Due::Inside(node, life, inside));
    }

    /// Something happens now inside of this life of a node.
    pub(crate) fn inside_of(&mut self, node: usize, life: u64, inside: Inside) {
        self.at(self.now, Due::Inside(node, life, inside));
    }

    /// How long a node takes until it gets to an effect.
    pub(crate) fn pause(&mut self, node: usize) -> i64 {
        let percent = match self.now < self.nodes[node].pausing_until {
            true => 40,
            false => self.plan.options.pauses_percent,
        };
        match self.rng.percent(percent) {
            true if percent == 40 => self.rng.between(0, 3 * SECOND_MS),
            true => self.rng.between(0, 40),
            false => i64::from(self.rng.percent(20)),
        }
    }

    pub(crate) fn planted(&self, plant: WorldPlant) -> bool {
        self.plant == Some(Planted::World(plant))
    }

    /// What an engine is told about an endpoint.
    pub(crate) fn gate(&self, listed: &Listed) -> Gate {
        let spec = &listed.spec;
        let policy = self.policy_of(spec);
        Gate {
            endpoint: spec.id,
            tenant: spec.tenant,
            reach: listed.reach,
            channel: spec.channel,
            route: spec.route,
            registered_at: listed.registered_at,
            changed_at: listed.changed_at,
            breaker: policy.breaker,
            rate: policy.rate,
            adaptive: policy.adaptive,
            hours_percent: None,
            slots_max: policy.slots_max,
        }
    }

    fn policy_of(&self, spec: &EndpointSpec) -> &Policy {
        let place = usize::try_from(spec.policy.0.saturating_sub(1)).unwrap_or(0);
        let policies = &self.plan.options.policies;
        &policies[place.min(policies.len() - 1)]
    }

    /// Nothing more will happen but the passing of time.
    fn is_at_rest(&self) -> bool {
        let quiet = |owned: &crate::node::Owned| {
            owned.inbox.is_empty()
                && owned.executor.engine().is_idle()
                && owned.relay.outstanding() == 0
        };
        let owners = |shard: usize| {
            let mut owned = self
                .nodes
                .iter()
                .filter_map(|node| node.owned[shard].as_ref());
            owned.any(|owned| owned.who.epoch == self.shards[shard].lease.epoch && quiet(owned))
        };
        (0..SHARDS).all(owners)
            && self.parts.iter().all(Part::is_over)
            && self.eyes.picture.unsettled() == 0
            && (0..SHARDS)
                .all(|shard| self.shards[shard].cursor >= self.eyes.picture.last_seq(shard))
    }

    fn end(&mut self, rested: bool) {
        self.eyes.see(self.now, &Happened::Rest { rested });
        for shard in 0..SHARDS {
            let (rows, journal) = self.shards[shard].everything();
            let held = Happened::Held {
                shard,
                rows: &rows,
                journal: &journal,
            };
            self.eyes.see(self.now, &held);
        }
        self.eyes.simulated_ms = self.now.since(START);
    }

    pub(crate) fn fault_begins(&mut self, kind: FaultKind) {
        self.eyes.fault(self.now, kind);
    }

    /// Who would write under this epoch, as the history names it.
    pub(crate) fn who(shard: usize, epoch: Epoch) -> Who {
        Who { shard, epoch }
    }
}
