//! The map of the core: the standard hash map under a fixed hash, for look-up only.
//!
//! The order of a hash map must not reach a decision, and nobody outside chooses the keys (they are
//! numbers given out here, or digests), so a cheap fixed hash does. Absent here: iteration, which
//! `clippy.toml` forbids; what has to be walked in order is a `BTreeMap` or a queue.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::partition::mix;

/// A hash map whose behaviour is the same in every process.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A hash set whose behaviour is the same in every process.
pub type Set<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// Hashes ids and digests.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
