//! The plan of a run: options, submissions and faults, expanded from the seed before anything runs.
//!
//! A plan is data, so that a failing one can be made smaller: whatever is taken out of `items`, the
//! rest still makes a run. Absent here: drawing one ([`crate::draw`]) and running it
//! ([`crate::world`]).

use std::fmt;
use std::sync::Arc;

use postrider_core::endpoint::Channel;
use postrider_core::id::{EndpointId, PolicyId, RouteId, TenantId};
use postrider_core::policy::{Guarantee, Policy};

use crate::fault::Fault;

/// Nodes of a world.
pub const NODES: usize = 2;
/// Shards of a world.
pub const SHARDS: usize = 2;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was drawn from; also the seed of everything that the run itself draws.
    pub seed: u64,
    /// The surroundings.
    pub options: Options,
    /// What happens, in no particular order.
    pub items: Vec<Item>,
}

/// The surroundings of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Attempts under way in one engine at the most.
    pub slots_max: u32,
    /// Deliveries in one engine's memory at the most.
    pub window_max: usize,
    /// Records on their way at the most.
    pub records_max: usize,
    /// Records in one commit at the most.
    pub commit_records_max: usize,
    /// Length of a lease.
    pub lease_ms: i64,
    /// How long settled deliveries are kept.
    pub retention_ms: i64,
    /// How far each node's wall clock is off.
    pub skew_ms: [i64; NODES],
    /// Effects of a hundred that pause for up to tens of milliseconds.
    pub pauses_percent: u64,
    /// Answers to callers of a hundred that get lost.
    pub answers_lost_percent: u64,
    /// When the faults are over, in milliseconds from the start.
    pub calm_ms: i64,
    /// Policies that exist from the start, then versions that come later.
    pub policies: Vec<Arc<Policy>>,
    /// How many of the policies exist from the start.
    pub policies_first: usize,
    /// Endpoints that exist from the start, then those that come later.
    pub endpoints: Vec<EndpointSpec>,
    /// How many of the endpoints exist from the start.
    pub endpoints_first: usize,
    /// Routes to providers, each with credentials of its own.
    pub routes: Vec<RouteId>,
}

/// An endpoint as it is registered.
#[derive(Clone, Copy, Debug)]
pub struct EndpointSpec {
    /// Which.
    pub id: EndpointId,
    /// Whose.
    pub tenant: TenantId,
    /// Whose policy paces it.
    pub policy: PolicyId,
    /// Which way it is reached.
    pub channel: Channel,
    /// The credentials it is sent to with.
    pub route: Option<RouteId>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Item {
    /// When, in milliseconds from the start.
    pub at_ms: i64,
    /// What.
    pub what: What,
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum What {
    /// Somebody submits an event.
    Submit(Wish),
    /// Somebody withdraws the deliveries of the event with this key.
    Cancel {
        /// Which.
        key: u64,
    },
    /// The owner of an endpoint changes it, by its place in [`Options::endpoints`].
    Endpoint {
        /// Which.
        place: usize,
        /// How.
        change: Change,
    },
    /// Somebody pauses a route by hand, or opens it: after its credentials were renewed, say.
    Route {
        /// Which.
        route: RouteId,
        /// How.
        open: bool,
    },
    /// The next version of a policy comes into force, by its place in [`Options::policies`].
    Policy {
        /// Which.
        place: usize,
    },
    /// Something breaks.
    Fault(Fault),
}

/// How an endpoint is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is registered.
    Register,
    /// It is sent to no more for a while.
    Pause,
    /// It is sent to again; lanes that a dead letter stopped go on.
    Resume,
    /// It is deleted.
    Delete,
    /// It is paced by another policy.
    Pace(PolicyId),
    /// A device cannot be reached any more, and only its provider knows.
    Leave,
    /// A device registers again. For so many milliseconds its provider has not heard of it.
    Refresh(i64),
}

/// What somebody asks for. Wishes with the same key and body are repeats of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The idempotency key.
    pub key: u64,
    /// Number of the content.
    pub body: u64,
    /// Where it goes, by places in [`Options::endpoints`].
    pub endpoints: Vec<usize>,
    /// Under which policy, by its place in [`Options::policies`].
    pub policy: usize,
    /// How exactly.
    pub guarantee: Guarantee,
    /// In which order.
    pub ordering_key: Option<u64>,
    /// Only the newest of its thread is worth sending.
    pub collapse_key: Option<u64>,
    /// Not before, in milliseconds from admission.
    pub due_ms: i64,
    /// Not after, in milliseconds from admission.
    pub ttl_ms: i64,
    /// How long the key is remembered, in milliseconds from admission.
    pub window_ms: i64,
    /// The event that this one repeats for a person's sake: a replay, under a key of its own.
    pub replays: Option<u64>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} ms {:?}", self.at_ms, self.what)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\n{:?}", self.seed, self.options)?;
        let mut items: Vec<&Item> = self.items.iter().collect();
        items.sort_by_key(|item| item.at_ms);
        for item in items {
            writeln!(f, "{item}")?;
        }
        Ok(())
    }
}
