//! Dispatch: what leaves the engine once an attempt is open, and the opening itself.
//!
//! Absent here: encoding and sending. A channel turns a [`Dispatch`] into a request.

use crate::event::LaneCounter;
use crate::id::{CorrelationId, DeliveryId, EndpointId, EventId, PolicyId, TenantId};
use crate::ledger::{Delivery, Lane};
use crate::policy::Guarantee;
use crate::time::Time;

/// One attempt, recorded as opened and ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Its outer id.
    pub correlation: CorrelationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is to be told.
    pub event: EventId,
    /// Where to.
    pub endpoint: EndpointId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The policy it runs under.
    pub policy: PolicyId,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Its place in an order, if it has one.
    pub lane: Option<Lane>,
    /// Sequence id of the lane's last hand-over before this one, 0 if there was none.
    pub previous_accepted: u64,
    /// When the delivery was admitted.
    pub admitted_at: Time,
    /// When the delivery lapses: what is left until then is the time to live to pass on.
    pub expires_at: Time,
    /// When the attempt was opened.
    pub opened_at: Time,
}

impl Dispatch {
    /// The attempt that `delivery` has just been opened for.
    #[must_use]
    pub fn of(delivery: &Delivery, counter: LaneCounter, opened_at: Time) -> Dispatch {
        Dispatch {
            delivery: delivery.id,
            correlation: delivery.correlation,
            tenant: delivery.tenant,
            event: delivery.event,
            endpoint: delivery.endpoint,
            attempt: delivery.attempt,
            policy: delivery.policy,
            guarantee: delivery.guarantee,
            lane: delivery.lane,
            previous_accepted: counter.last_accepted,
            admitted_at: delivery.admitted_at,
            expires_at: delivery.expires_at,
            opened_at,
        }
    }
}
