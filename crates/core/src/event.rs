//! What an application submits, and what the engine keeps of it.
//!
//! Absent here: JSON. The HTTP layer, the outbox and a broadcast each build a [`Submission`]; from
//! there on all are the same.

use bytes::Bytes;

use crate::id::{
    BodyDigest, CollapseKey, DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, PolicyId,
    TenantId,
};
use crate::policy::Guarantee;
use crate::time::Time;

/// How soon a device should be woken (RFC 8030 section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Urgency {
    /// On power and on Wi-Fi.
    VeryLow = 1,
    /// On power or on Wi-Fi.
    Low = 2,
    /// As usual.
    #[default]
    Normal = 3,
    /// Even on a low battery.
    High = 4,
}

impl Urgency {
    /// All of them, in the order of their numbers.
    pub const ALL: [Urgency; 4] = [
        Urgency::VeryLow,
        Urgency::Low,
        Urgency::Normal,
        Urgency::High,
    ];

    /// The urgency with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Urgency> {
        let place = usize::from(number).checked_sub(1)?;
        Urgency::ALL.get(place).copied()
    }

    /// The word of RFC 8030.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Urgency::VeryLow => "very-low",
            Urgency::Low => "low",
            Urgency::Normal => "normal",
            Urgency::High => "high",
        }
    }

    /// The urgency with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Urgency> {
        Urgency::ALL
            .into_iter()
            .find(|urgency| urgency.name() == name)
    }
}

/// Something that happened in the application's business, as it is stored: written once at
/// admission, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Assigned at admission; 0 before.
    pub id: EventId,
    /// Outer id, a UUIDv4 as 128 bits. Before admission: the random bits it is made from.
    pub uuid: u128,
    /// Whose it is.
    pub tenant: TenantId,
    /// Digest of the idempotency key.
    pub key_digest: KeyDigest,
    /// Digest of everything that was asked for.
    pub body_digest: BodyDigest,
    /// The business id that the caller gave, or the outer id where it gave none.
    pub business_id: Box<str>,
    /// Event type, such as `order.paid`.
    pub event_type: Box<str>,
    /// Version of the event's schema.
    pub version: u32,
    /// The person or system it was addressed to, or empty for a fan-out by subscription.
    pub recipient: Box<str>,
    /// The caller's ordering key in its own words, or empty.
    pub ordering_key: Box<str>,
    /// The caller's collapse key in its own words, or empty: a newer notification of the same
    /// thread replaces this one wherever it was not shown yet.
    pub collapse_key: Box<str>,
    /// How soon a device should be woken for it.
    pub urgency: Urgency,
    /// W3C `traceparent` of the request that brought it, or empty.
    pub traceparent: Box<str>,
    /// Media type of the payload.
    pub content_type: Box<str>,
    /// When it was admitted.
    pub admitted_at: Time,
    /// When its key is forgotten.
    pub key_expires_at: Time,
    /// First of its deliveries; the others follow without a gap.
    pub first_delivery: DeliveryId,
    /// How many deliveries it has.
    pub deliveries: u32,
    /// The event that held its key before and came to nothing, so that the caller tried again.
    /// Filled at admission.
    pub retry_of: Option<EventId>,
    /// The bytes to hand over. Kept apart from the ledger and gone long before it.
    pub payload: Bytes,
}

impl Event {
    /// What is remembered of it under its key.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            event: self.id,
            uuid: self.uuid,
            body_digest: self.body_digest,
            key_expires_at: self.key_expires_at,
            first_delivery: self.first_delivery,
            deliveries: self.deliveries,
            released: false,
        }
    }
}

/// One endpoint an event goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to.
    pub endpoint: EndpointId,
    /// Under which policy.
    pub policy: PolicyId,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Of those with the same key to the same endpoint only the newest is worth sending.
    pub collapse_key: Option<CollapseKey>,
    /// Deliveries with the same key to the same endpoint go one at a time.
    pub ordering_key: Option<OrderingKey>,
    /// What the store remembers of that lane, if the engine did not know it already.
    pub lane: Option<LaneCounter>,
    /// Not before this moment.
    pub due_at: Time,
    /// Not after this moment.
    pub expires_at: Time,
    /// Random bits for the correlation id, from a cryptographic source.
    pub entropy: u128,
}

/// How far a lane has come. Survives restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounter {
    /// Sequence id of the last admitted delivery, 0 if there was none.
    pub last_sequence: u64,
    /// Sequence id of the last one that was handed over, 0 if there was none.
    pub last_accepted: u64,
}

/// One request to notify: an event and all the endpoints it goes to, as one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The event; its `id`, `admitted_at`, `first_delivery`, `deliveries` and `retry_of` are filled
    /// at admission.
    pub event: Event,
    /// Where it goes. May be empty: then the event is kept with one suppressed delivery as the
    /// reason.
    pub targets: Vec<Target>,
    /// The submission that holds the same key, or else the last one that freed it, if the store
    /// knows one inside its window.
    pub known: Option<Seen>,
}

/// What is remembered of the first submission with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The event it became.
    pub event: EventId,
    /// That event's outer id.
    pub uuid: u128,
    /// What it asked for.
    pub body_digest: BodyDigest,
    /// When the key is forgotten.
    pub key_expires_at: Time,
    /// Its first delivery.
    pub first_delivery: DeliveryId,
    /// How many deliveries it has.
    pub deliveries: u32,
    /// It came to nothing and freed its key: who asks again is not answered with it.
    pub released: bool,
}
