//! The two digests by which submissions are told apart.
//!
//! Every part is framed by its length, so that no two lists of parts have the same bytes. Stored:
//! the order and framing of the parts never change.
//!
//! Absent here: secrecy. Digests are compared, not shown.

use blake3::Hasher;
use postrider_core::id::{BodyDigest, CollapseKey, KeyDigest, OrderingKey, TenantId};

/// Digest of an idempotency key: tenant, business id, event type and version.
#[must_use]
pub fn key(tenant: TenantId, business_id: &str, event_type: &str, version: u32) -> KeyDigest {
    // Nearly every key fits here, and hashing one slice is a third cheaper than four.
    let mut frame = Frame::<640>::default();
    frame.part(b"key/1");
    frame.part(&tenant.0.to_le_bytes());
    frame.part(business_id.as_bytes());
    frame.part(event_type.as_bytes());
    frame.part(&version.to_le_bytes());
    KeyDigest(frame.digest())
}

/// A key for a submission that has none of its own: nothing else ever has it.
#[must_use]
pub fn unique_key(entropy: u128) -> KeyDigest {
    KeyDigest(entropy.to_le_bytes())
}

/// Digest of everything that was asked for, part by part. `None` differs from an empty part.
#[must_use]
pub fn body(parts: &[Option<&[u8]>]) -> BodyDigest {
    let mut frame = Frame::<2_048>::default();
    frame.part(b"body/1");
    for part in parts {
        match part {
            Some(bytes) => {
                frame.byte(1);
                frame.part(bytes);
            }
            None => frame.byte(0),
        }
    }
    BodyDigest(frame.digest())
}

/// Hash of a caller's ordering key. Lanes are told apart by endpoint too, so the tenant need not be
/// in it.
#[must_use]
pub fn ordering_key(text: &str) -> OrderingKey {
    let mut frame = Frame::<320>::default();
    frame.part(b"lane/1");
    frame.part(text.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = frame.digest();
    OrderingKey(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// The hash of a collapse key in the caller's words.
pub fn collapse_key(text: &str) -> CollapseKey {
    let mut frame = Frame::<320>::default();
    frame.part(b"thread/1");
    frame.part(text.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = frame.digest();
    let hash = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    CollapseKey::new(hash).unwrap_or(CollapseKey::MIN)
}

/// Gathers parts on the stack and hashes them at once; what does not fit is hashed as it comes.
struct Frame<const N: usize> {
    bytes: [u8; N],
    used: usize,
    hasher: Option<Hasher>,
}

impl<const N: usize> Default for Frame<N> {
    fn default() -> Frame<N> {
        Frame {
            bytes: [0; N],
            used: 0,
            hasher: None,
        }
    }
}

impl<const N: usize> Frame<N> {
    fn part(&mut self, part: &[u8]) {
        self.add(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.add(part);
    }

    fn byte(&mut self, byte: u8) {
        self.add(&[byte]);
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.used..self.used + bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
            return;
        }
        let hasher = self.hasher.get_or_insert_with(Hasher::new);
        hasher.update(&self.bytes[..self.used]);
        hasher.update(bytes);
        self.used = 0;
    }

    fn digest(mut self) -> [u8; 16] {
        let hash = match &mut self.hasher {
            Some(hasher) => hasher.update(&self.bytes[..self.used]).finalize(),
            None => blake3::hash(&self.bytes[..self.used]),
        };
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.as_bytes()[..16]);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_flow_into_one_another() {
        let tenant = TenantId(1);
        assert_ne!(key(tenant, "ab", "c", 1), key(tenant, "a", "bc", 1));
        assert_ne!(key(tenant, "a", "b", 1), key(tenant, "a", "b", 2));
        assert_ne!(key(tenant, "a", "b", 1), key(TenantId(2), "a", "b", 1));
        assert_eq!(key(tenant, "a", "b", 1), key(tenant, "a", "b", 1));
        assert_ne!(body(&[None]), body(&[Some(b"")]));
        assert_ne!(
            body(&[Some(b"a"), Some(b"b")]),
            body(&[Some(b"ab"), Some(b"")])
        );
        assert_ne!(body(&[None, Some(b"a")]), body(&[Some(b"a"), None]));
        assert_ne!(ordering_key("a"), ordering_key("b"));
    }

    #[test]
    fn what_does_not_fit_on_the_stack_is_hashed_the_same_way() {
        for length in [0, 1, 2_000, 2_030, 2_040, 2_048, 5_000, 300_000] {
            let long = vec![7_u8; length];
            let mut whole = Vec::new();
            whole.extend(6_u32.to_le_bytes());
            whole.extend(b"body/1");
            whole.push(1);
            whole.extend(u32::try_from(length).unwrap().to_le_bytes());
            whole.extend(&long);
            whole.extend([1, 1, 0, 0, 0, b'x', 0]);
            let expected = blake3::hash(&whole);
            assert_eq!(
                body(&[Some(&long), Some(b"x"), None]).0,
                expected.as_bytes()[..16]
            );
        }
    }

    #[test]
    fn digests_are_stored_and_never_change() {
        assert_eq!(
            hex::encode(key(TenantId(1), "order-1", "order.paid", 1).0),
            hex::encode(
                &blake3::hash(
                    b"\x05\0\0\0key/1\x04\0\0\0\x01\0\0\0\x07\0\0\0order-1\x0a\0\0\0order.paid\
                      \x04\0\0\0\x01\0\0\0"
                )
                .as_bytes()[..16]
            )
        );
    }
}
