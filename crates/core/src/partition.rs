//! Partitions: the shares into which deliveries are dealt, so that nodes can own some each.
//!
//! A delivery belongs to the partition of its ordering key where it has one, else to that of its
//! endpoint: whatever must be kept in order is kept by one owner.
//!
//! Absent here: who owns what. Ownership is a lease with an epoch, held by the store.

use crate::id::{EndpointId, OrderingKey, Partition};

/// How many partitions there are. Fixed: it is part of where rows are stored.
pub const PARTITIONS: u16 = 128;

/// The partition of a delivery.
#[must_use]
pub fn partition_of(endpoint: EndpointId, ordering_key: Option<OrderingKey>) -> Partition {
    let seed = match ordering_key {
        Some(key) => endpoint.0 ^ key.0.rotate_left(32),
        None => endpoint.0,
    };
    let share = mix(seed) % u64::from(PARTITIONS);
    Partition(u16::try_from(share).unwrap_or(0))
}

/// A good spread of all input bits over all output bits (the finaliser of SplitMix64).
#[must_use]
pub fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
