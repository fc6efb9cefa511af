//! Observations: what happened, for those who count and log it.
//!
//! Absent here: anything that a decision depends on. Dropping an observation changes nothing.

use crate::breaker::BreakerState;
use crate::cause::Cause;
use crate::endpoint::Channel;
use crate::id::{CorrelationId, DeliveryId, EndpointId, EventId, PolicyId, RouteId, TenantId};
use crate::ledger::State;
use crate::outcome::OutcomeKind;
use crate::time::Time;

/// Something worth counting or logging. Emitted once what it tells is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// An event was admitted.
    Admitted {
        /// Whose.
        tenant: TenantId,
        /// Into how many deliveries.
        deliveries: u32,
    },
    /// A repeat was answered with the first one's ids.
    Duplicate {
        /// Whose.
        tenant: TenantId,
    },
    /// A key came again with other content.
    KeyConflict {
        /// Whose.
        tenant: TenantId,
    },
    /// A submission was refused for want of room.
    Refused {
        /// Whose.
        tenant: TenantId,
    },
    /// An attempt ended.
    Attempt(Attempt),
    /// A delivery was settled without an attempt.
    Closed {
        /// Which.
        delivery: DeliveryId,
        /// Its outer id.
        correlation: CorrelationId,
        /// Where it went.
        endpoint: EndpointId,
        /// How.
        state: State,
        /// Why.
        cause: Cause,
    },
    /// A receiver named a waiting time beyond the policy's cap.
    Incident {
        /// Which endpoint.
        endpoint: EndpointId,
        /// The time it named.
        retry_after_ms: i64,
    },
    /// An endpoint's breaker changed.
    Breaker {
        /// Which endpoint.
        endpoint: EndpointId,
        /// What it does now.
        state: BreakerState,
    },
    /// A provider refused all of a route (its credentials, its address, or more than its quota), or
    /// that holds it no longer.
    Route {
        /// Which.
        route: RouteId,
        /// Nothing that a provider said holds it: it is sent over again, or a person paused it.
        open: bool,
        /// What the answer said that decided; `None` where a person did.
        cause: Option<Cause>,
    },
    /// The store holds something else than the engine thinks: its row was dropped from the window.
    Conflict {
        /// Which delivery.
        delivery: DeliveryId,
    },
}

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whose.
    pub delivery: DeliveryId,
    /// Its outer id.
    pub correlation: CorrelationId,
    /// Of which event.
    pub event: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which way.
    pub channel: Channel,
    /// Number of the attempt.
    pub attempt: u32,
    /// The policy it ran under.
    pub policy: PolicyId,
    /// What it came to.
    pub kind: OutcomeKind,
    /// Why.
    pub cause: Cause,
    /// HTTP status, 0 if there was no answer.
    pub http_status: u16,
    /// How long it took.
    pub latency_ms: u32,
    /// When it ended.
    pub ended_at: Time,
    /// When the next one is due, if there is to be one.
    pub next_due_at: Option<Time>,
    /// How the delivery was settled, if it was.
    pub settled: Option<State>,
    /// It needs a human.
    pub dead_letter: bool,
}

/// Figures of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Unsettled deliveries in memory.
    pub window: usize,
    /// Unsettled deliveries on disk only.
    pub parked: usize,
    /// Deliveries that are due and wait for their turn, their gate or another of their lane.
    pub due: usize,
    /// When the oldest of these was due.
    pub oldest_due_at: Option<Time>,
    /// Timers set.
    pub timers: usize,
    /// Attempts under way.
    pub slots_used: u32,
    /// Records that the store has not answered.
    pub records_pending: usize,
    /// Lanes with unsettled deliveries.
    pub lanes: usize,
}
