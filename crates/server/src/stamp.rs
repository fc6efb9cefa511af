//! The outer ids: UUIDv4s (RFC 9562 section 5.4) from which the row can be found without an index.
//!
//! Of a UUIDv4's 122 free bits, 74 are drawn at random and 48 are the inner id under a mask: a
//! keyed hash of the random ones. Without the key the whole looks random and gives neither order
//! nor number away; with it, the row is found by unmasking. The row holds the whole id, which is
//! compared, so a made-up one finds nothing.
//!
//! ```text
//! | 48 bits: inner id xor mask | 0100 | 12 random | 10 | 62 random |
//! ```
//!
//! Absent here: where the random bits come from; they are drawn by the intake.

use postrider_core::id::{CorrelationId, DeliveryId, EventId, Stamp};

use crate::http::intake::Locate;
use crate::vault::{Key, Vault};

/// Makes outer ids and finds inner ones. Two made from the same vault do the same.
#[derive(Clone)]
pub struct OuterIds {
    deliveries: Key,
    events: Key,
}

const RANDOM_BITS: u128 = (0xfff << 64) | ((1 << 62) - 1);
const VERSION_AND_VARIANT: u128 = (0b0100 << 76) | (0b10 << 62);
const INNER_SHIFT: u32 = 80;
const INNER_MAX: u64 = (1 << 48) - 1;

impl OuterIds {
    /// The keys of this vault. They are never rotated: they hide an order, not a secret.
    #[must_use]
    pub fn new(vault: &Vault) -> OuterIds {
        OuterIds {
            deliveries: vault.derive("outer-id/delivery/v1"),
            events: vault.derive("outer-id/event/v1"),
        }
    }
}

fn mask(key: &Key, random: u128) -> u64 {
    let hash = blake3::keyed_hash(key, &random.to_be_bytes());
    let mut word = [0; 8];
    word.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(word) & INNER_MAX
}

fn outer(key: &Key, inner: u64, entropy: u128) -> u128 {
    assert!(inner <= INNER_MAX, "2^48 ids have been given out");
    let random = entropy & RANDOM_BITS;
    (u128::from(inner ^ mask(key, random)) << INNER_SHIFT) | random | VERSION_AND_VARIANT
}

fn inner(key: &Key, outer: u128) -> u64 {
    let masked = u64::try_from(outer >> INNER_SHIFT).unwrap_or(0);
    masked ^ mask(key, outer & RANDOM_BITS)
}

impl Stamp for OuterIds {
    fn correlation(&self, id: DeliveryId, entropy: u128) -> CorrelationId {
        CorrelationId(outer(&self.deliveries, id.0, entropy))
    }

    fn event(&self, id: EventId, entropy: u128) -> u128 {
        outer(&self.events, id.0, entropy)
    }
}

impl Locate for OuterIds {
    fn delivery(&self, correlation: CorrelationId) -> DeliveryId {
        DeliveryId(inner(&self.deliveries, correlation.0))
    }

    fn event(&self, uuid: u128) -> EventId {
        EventId(inner(&self.events, uuid))
    }
}

#[cfg(test)]
mod tests {
    use super::{INNER_MAX, OuterIds};
    use crate::http::intake::Locate;
    use crate::vault::Vault;
    use postrider_core::id::{DeliveryId, EventId, Stamp};
    use proptest::prelude::{any, proptest};
    use uuid::{Uuid, Variant};

    proptest! {
        #[test]
        fn the_way_there_and_back(id in 0..=INNER_MAX, entropy in any::<u128>()) {
            let ids = OuterIds::new(&Vault::of(&[7; 32]));
            let correlation = ids.correlation(DeliveryId(id), entropy);
            let uuid = Uuid::from_u128(correlation.0);
            assert_eq!(uuid.get_version_num(), 4);
            assert_eq!(uuid.get_variant(), Variant::RFC4122);
            assert_eq!(ids.delivery(correlation), DeliveryId(id));
            let event = Stamp::event(&ids, EventId(id), entropy);
            assert_eq!(Locate::event(&ids, event), EventId(id));
            assert_ne!(event, correlation.0);
        }

        #[test]
        fn neighbours_do_not_look_alike(
            id in 0..INNER_MAX,
            one in any::<u128>(),
            two in any::<u128>(),
        ) {
            let ids = OuterIds::new(&Vault::of(&[7; 32]));
            let a = ids.correlation(DeliveryId(id), one);
            let b = ids.correlation(DeliveryId(id + 1), two);
            assert_ne!(a, b);
            if super::RANDOM_BITS & (one ^ two) != 0 {
                assert!(((a.0 ^ b.0) >> super::INNER_SHIFT).count_ones() > 1);
            }
        }
    }
}
