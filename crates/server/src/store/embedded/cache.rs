//! A bounded cache, and maps by ids.
//!
//! Absent here: knowing what may be forgotten. Whatever is kept can be read again.

use postrider_core::map::Map;

/// A bounded cache in two generations: when the newer is full, the older is forgotten.
#[derive(Debug)]
pub struct Recent<V> {
    newer: IdMap<V>,
    older: IdMap<V>,
    max: usize,
}

impl<V> Recent<V> {
    /// Keeps between `max` and twice as many.
    #[must_use]
    pub fn new(max: usize) -> Recent<V> {
        Recent {
            newer: IdMap::default(),
            older: IdMap::default(),
            max,
        }
    }

    /// What is kept under `id`.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&V> {
        self.newer.get(&id).or_else(|| self.older.get(&id))
    }

    /// Keeps `value` for a while.
    pub fn put(&mut self, id: u64, value: V) {
        if self.newer.len() >= self.max {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, value);
    }

    /// Forgets what is kept under `id`.
    pub fn forget(&mut self, id: u64) {
        self.newer.remove(&id);
        self.older.remove(&id);
    }
}

/// A map by an id that nobody outside can choose.
pub type IdMap<V> = Map<u64, V>;
