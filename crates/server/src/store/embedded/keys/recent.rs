//! The newest keys, in memory: one open-addressing table that is at the same time a sorted array.
//!
//! A key's home is its fingerprint scaled to the length of the table, and keys that collide are
//! kept in the order of their fingerprints. So reading the table from front to back reads it
//! sorted: sealing it into a run on disk needs no sort, and can stop after any slot.
//!
//! Absent here: growing. A table is made at its full size, so that no insert ever pays for a
//! rehash; one that has no room says so.

use super::run::{Entry, scale};

/// Slots behind the last home, for keys that collide there.
const SLACK_SLOTS: usize = 1_024;

/// A table of fixed size. An entry with fingerprint 0 is an empty slot.
pub(super) struct Recent {
    slots: Vec<Entry>,
    homes: u64,
    keys: usize,
    keys_max: usize,
}

impl Recent {
    /// A table for `keys_max` keys, three quarters full when all are in.
    pub(super) fn new(keys_max: usize) -> Recent {
        let homes = (keys_max * 4).div_ceil(3);
        Recent {
            slots: vec![Entry::default(); homes + SLACK_SLOTS],
            homes: homes as u64,
            keys: 0,
            keys_max,
        }
    }

    /// Takes `entry` in, or returns `false` for want of room.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let at = self.position(entry.fingerprint);
        let Some(free) = self.slots[at..].iter().position(Entry::is_empty) else {
            return false;
        };
        if self.keys >= self.keys_max {
            return false;
        }
        self.slots[at..=at + free].rotate_right(1);
        self.slots[at] = entry;
        self.keys += 1;
        true
    }

    /// Takes an entry out; `false` if it is not here.
    pub(super) fn remove(&mut self, fingerprint: u64, event: u64) -> bool {
        let first = self.position(fingerprint);
        let found = self.slots[first..]
            .iter()
            .take_while(|slot| slot.fingerprint == fingerprint)
            .position(|slot| slot.event == event);
        let Some(offset) = found else { return false };
        let mut at = first + offset;
        // What stands behind it and not at home moves up, so that no look-up stops too early.
        while let Some(next) = self.slots.get(at + 1).copied() {
            if next.is_empty() || scale(next.fingerprint, self.homes) > at as u64 {
                break;
            }
            self.slots[at] = next;
            at += 1;
        }
        self.slots[at] = Entry::default();
        self.keys -= 1;
        true
    }

    /// All entries with this fingerprint.
    pub(super) fn find(&self, fingerprint: u64) -> impl Iterator<Item = &Entry> {
        self.slots[self.position(fingerprint)..]
            .iter()
            .take_while(move |slot| slot.fingerprint == fingerprint)
    }

    /// The first entry at or behind slot `at`, with the slot to go on from.
    pub(super) fn scan(&self, at: usize) -> Option<(Entry, usize)> {
        let ahead = self.slots.get(at..)?;
        let offset = ahead.iter().position(|slot| !slot.is_empty())?;
        Some((ahead[offset], at + offset + 1))
    }

    /// Number of keys in it.
    pub(super) fn len(&self) -> usize {
        self.keys
    }

    /// Highest event in it.
    pub(super) fn event_max(&self) -> u64 {
        self.slots.iter().map(|slot| slot.event).max().unwrap_or(0)
    }

    /// Bytes it takes, full or empty.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.len() * size_of::<Entry>()
    }

    /// The slot of the first entry with this fingerprint, or the one where it belongs.
    fn position(&self, fingerprint: u64) -> usize {
        let home = usize::try_from(scale(fingerprint, self.homes)).unwrap_or(usize::MAX);
        let ahead = self.slots[home..]
            .iter()
            .position(|slot| slot.is_empty() || slot.fingerprint >= fingerprint);
        ahead.map_or(self.slots.len(), |offset| home + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::partition::mix;

    fn entry(fingerprint: u64, event: u64) -> Entry {
        Entry {
            fingerprint,
            event,
            expires_s: 1,
        }
    }

    #[test]
    fn reads_sorted_and_forgets_what_is_removed() {
        let mut table = Recent::new(600);
        let all: Vec<Entry> = (1..=600).map(|n| entry(mix(n % 590).max(1), n)).collect();
        assert!(all.iter().all(|entry| table.insert(*entry)));
        assert!(!table.insert(entry(7, 7)), "it is full");
        for gone in all.iter().step_by(3) {
            assert!(table.remove(gone.fingerprint, gone.event));
            assert!(!table.remove(gone.fingerprint, gone.event));
        }
        let mut wanted: Vec<Entry> = all
            .iter()
            .enumerate()
            .filter(|(n, _)| n % 3 != 0)
            .map(|(_, entry)| *entry)
            .collect();
        for kept in &wanted {
            assert!(table.find(kept.fingerprint).any(|found| found == kept));
        }
        let mut read = Vec::new();
        let mut at = 0;
        while let Some((entry, next)) = table.scan(at) {
            read.push(entry);
            at = next;
        }
        assert!(read.is_sorted_by_key(|entry| entry.fingerprint));
        wanted.sort_by_key(|entry| (entry.fingerprint, entry.event));
        read.sort_by_key(|entry| (entry.fingerprint, entry.event));
        assert_eq!(read, wanted);
        assert_eq!(table.len(), wanted.len());
    }

    #[test]
    fn the_last_home_has_a_bound_too() {
        let mut table = Recent::new(4_000);
        let taken = (1..4_000)
            .take_while(|n| table.insert(entry(u64::MAX, *n)))
            .count();
        assert_eq!(taken, SLACK_SLOTS + 1);
        assert_eq!(table.find(u64::MAX).count(), taken);
    }
}
