//! The executor: performs the engine's effects over any I/O, in the one right order.
//!
//! Serving and simulating differ only in the [`World`] they hand in. One [`Executor::turn`] feeds
//! the engine a batch of inputs and then hands out everything that came of it, with all records of
//! the turn together, so that a store can make them durable in one commit.
//!
//! Absent here: waiting. A world answers through later inputs.

use crate::cause::Cause;
use crate::dispatch::Dispatch;
use crate::engine::{Effect, Engine, Input, Reply, Why};
use crate::event::{LaneCounter, Seen};
use crate::id::{Ask, DeliveryId, EndpointId, KeyDigest, OrderingKey};
use crate::ledger::Record;
use crate::observation::Observation;
use crate::time::Time;

/// The I/O that effects are performed with.
///
/// The look-ups answer at once and see every record that has been answered; everything else is
/// answered by an [`Input`] in a later turn.
pub trait World {
    /// The event that holds this key, if one does at `now`.
    fn seen(&mut self, key: &KeyDigest, now: Time) -> Option<Seen>;
    /// How far this lane has come, or `None` where that cannot be read now: then nothing is
    /// admitted to it, because a number given out twice could not be taken back.
    fn lane(&mut self, endpoint: EndpointId, key: OrderingKey) -> Option<LaneCounter>;
    /// Make these durable, in order; answered by [`Input::Recorded`].
    fn record(&mut self, records: Vec<Box<Record>>);
    /// Send these; each is answered by [`Input::Answered`] or [`Input::NotSent`].
    fn send(&mut self, dispatches: Vec<Dispatch>);
    /// Answer a caller.
    fn reply(&mut self, ask: Ask, reply: Reply);
    /// Read these rows; answered by [`Input::Loaded`].
    fn load(&mut self, deliveries: Vec<DeliveryId>);
    /// The endpoint's address is gone since `at`, unless it was registered again later. Must be
    /// idempotent: a crash may ask for it again.
    fn retire(&mut self, endpoint: EndpointId, cause: Cause, at: Time);
    /// Count or log this.
    fn observe(&mut self, observation: Observation);
}

/// An engine and the world it acts on.
pub struct Executor<W> {
    engine: Engine,
    world: W,
    effects: Vec<Effect>,
}

impl<W: World> Executor<W> {
    /// Joins an engine and a world.
    #[must_use]
    pub fn new(engine: Engine, world: W) -> Executor<W> {
        Executor {
            engine,
            world,
            effects: Vec::new(),
        }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The world.
    pub fn world(&mut self) -> &mut W {
        &mut self.world
    }

    /// Takes a batch of inputs and performs what follows from them.
    pub fn turn(&mut self, now: Time, inputs: impl IntoIterator<Item = Input>) {
        for mut input in inputs {
            if let Input::Submit { submission, ask } = &mut input
                && !self.look_up(now, submission)
            {
                let ask = *ask;
                self.engine.refuse(Why::Overloaded, ask, &mut self.effects);
                continue;
            }
            self.engine.handle(now, input, &mut self.effects);
        }
        self.perform();
    }

    /// Adds what the store knows. Returns whether it could be read.
    fn look_up(&mut self, now: Time, submission: &mut crate::event::Submission) -> bool {
        submission.known = self.world.seen(&submission.event.key_digest, now);
        if submission.known.is_some_and(|seen| !seen.released) {
            return true;
        }
        for target in &mut submission.targets {
            if let Some(key) = target.ordering_key
                && !self.engine.knows_lane(target.endpoint, key)
            {
                target.lane = self.world.lane(target.endpoint, key);
                if target.lane.is_none() {
                    return false;
                }
            }
        }
        true
    }

    /// Records go out first: the store works while the rest is handed out. Nothing handed out in
    /// this turn depends on them; what does comes out of the turn that answers them.
    fn perform(&mut self) {
        let mut records = Vec::new();
        let mut dispatches = Vec::new();
        let mut rest = Vec::new();
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Record(record) => records.push(record),
                Effect::Send(dispatch) => dispatches.push(dispatch),
                other => rest.push(other),
            }
        }
        if !records.is_empty() {
            self.world.record(records);
        }
        if !dispatches.is_empty() {
            self.world.send(dispatches);
        }
        for effect in rest {
            match effect {
                Effect::Record(_) | Effect::Send(_) => {}
                Effect::Reply { ask, reply } => self.world.reply(ask, reply),
                Effect::Load(deliveries) => self.world.load(deliveries),
                Effect::Retire {
                    endpoint,
                    cause,
                    at,
                } => self.world.retire(endpoint, cause, at),
                Effect::Observe(observation) => self.world.observe(observation),
            }
        }
    }
}
