//! Identities. Small copies of integers inside the engine; their outer spelling (UUID) is made at
//! the edges.
//!
//! Absent here: how an id is drawn. [`CorrelationId`] is computed by the [`Stamp`] that the process
//! hands in, because the core draws no random numbers.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// An isolated owner of endpoints, policies, limits and data.
    TenantId(u32);
    /// One reachable address. Never reused: registering an address again makes a new id.
    EndpointId(u64);
    /// One admitted event. Ascending in the order of admission.
    EventId(u64);
    /// One delivery: the ledger's row. Ascending in the order of admission; the deliveries of one
    /// event are consecutive.
    DeliveryId(u64);
    /// One version of one policy. Never reused, so an attempt can name what it ran under.
    PolicyId(u32);
    /// One set of push credentials that endpoints are sent to with.
    RouteId(u32);
    /// A share of the deliveries that one node owns at a time; see [`crate::partition`].
    Partition(u16);
    /// Counts the owners of a partition. A store refuses a record of an epoch that has passed.
    Epoch(u64);
    /// Position of an entry in the journal: strictly ascending, gaps only where the store refused a
    /// record.
    Seq(u64);
    /// Order of records on their way to the store: first in, first answered.
    Ticket(u64);
    /// Whom a reply is for. Opaque to the core.
    Ask(u64);
    /// Hash of a caller's ordering key. Two keys that collide share a lane: stricter order than
    /// asked for, never looser.
    OrderingKey(u64);
}

/// Hash of a caller's collapse key, never zero.
pub type CollapseKey = std::num::NonZeroU64;

/// Stands for no endpoint: where an event that matched none is said to go.
pub const NO_ENDPOINT: EndpointId = EndpointId(0);

/// Digest of (tenant, business id, event type, version): what makes two submissions the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 16]);

/// Digest of what a submission asks for: the same key with another one is a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BodyDigest(pub [u8; 16]);

/// The UUIDv4 (RFC 9562 section 5.4) by which the outside knows a delivery, as its 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CorrelationId(pub u128);

/// Makes the outer ids. A pure function of its arguments; the entropy was drawn by the caller.
pub trait Stamp: Send {
    /// The correlation id of a delivery. Must be unique for unique ids.
    fn correlation(&self, id: DeliveryId, entropy: u128) -> CorrelationId;

    /// The outer id of an event. Must be unique for unique ids.
    fn event(&self, id: EventId, entropy: u128) -> u128;
}
