//! Values for the tables of tests.

use crate::cause::Cause;
use crate::id::{
    CorrelationId, DeliveryId, EndpointId, EventId, OrderingKey, PolicyId, Seq, TenantId,
};
use crate::ledger::{Delivery, Lane, State};
use crate::policy::Guarantee;
use crate::time::{DAY_MS, Time};

/// A delivery whose attempt number `attempt` is under way.
pub fn in_flight(guarantee: Guarantee, attempt: u32) -> Delivery {
    Delivery {
        id: DeliveryId(1),
        correlation: CorrelationId(1),
        event: EventId(1),
        tenant: TenantId(1),
        endpoint: EndpointId(1),
        channel: crate::endpoint::Channel::Webhook,
        policy: PolicyId(1),
        guarantee,
        state: State::InFlight,
        cause: Cause::Sending,
        version: 2 * attempt,
        attempt,
        unspent: 0,
        receipts: 0,
        due_at: Time(0),
        expires_at: Time(DAY_MS),
        admitted_at: Time(0),
        settled_at: None,
        lane: None,
        may_have_acted: false,
        last_http_status: 0,
        last_seq: Seq(1),
    }
}

/// A place in an order.
pub fn lane(sequence: u64) -> Lane {
    Lane {
        key: OrderingKey(1),
        sequence,
    }
}
