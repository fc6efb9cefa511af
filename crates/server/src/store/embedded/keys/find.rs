//! Looking a key up, from any thread, while runs come and go.
//!
//! Absent here: any change. What is live is changed by [`super::Keys`] alone, under one lock, after
//! what it names has been committed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use postrider_core::id::{EventId, KeyDigest};
use postrider_core::partition::mix;
use postrider_core::time::Time;
use rusqlite::Connection;

use super::KeysError;
use super::recent::Recent;
use super::run::{self, Entry, Run, damaged, has_expired};

/// How often a look-up starts over because the runs changed under it. Each time takes a whole
/// merge, so that this many are never met.
const LOOKUPS_MAX: usize = 16;

/// The readers' half, for any thread. Sees a key as soon as [`Keys::insert`] has returned.
#[derive(Clone)]
pub struct Finder {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) seeds: [u64; 2],
    pub(super) live: RwLock<Live>,
}

/// What look-ups read. A key is always in one of them.
pub(super) struct Live {
    pub(super) open: Recent,
    /// Full tables, oldest first, on their way into runs.
    pub(super) full: VecDeque<Arc<Recent>>,
    pub(super) runs: Vec<Arc<Run>>,
    pub(super) released: HashSet<(u64, u64)>,
}

impl Finder {
    /// The events that may hold the key at `now`, newest first. The caller confirms each against
    /// its row. `db` is any connection to `index.db` that is in no transaction, so that it sees
    /// the newest commit.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn find(
        &self,
        db: &Connection,
        digest: &KeyDigest,
        now: Time,
    ) -> Result<Vec<EventId>, KeysError> {
        let fingerprint = self.shared.fingerprint(digest);
        for _ in 0..LOOKUPS_MAX {
            if let Some(mut found) = self.look(db, fingerprint, now)? {
                found.sort_unstable_by(|a, b| b.cmp(a));
                return Ok(found);
            }
        }
        Err(damaged("a run changed at every look-up", 0))
    }

    /// `None` if a run was dropped between the filters and the blocks.
    fn look(
        &self,
        db: &Connection,
        fingerprint: u64,
        now: Time,
    ) -> Result<Option<Vec<EventId>>, KeysError> {
        let (mut found, maybe) = {
            let live = self.shared.live.read();
            let tables = live.full.iter().map(Arc::as_ref).chain([&live.open]);
            let found: Vec<Entry> = tables
                .flat_map(|table| table.find(fingerprint))
                .copied()
                .collect();
            let maybe: Vec<Arc<Run>> = live
                .runs
                .iter()
                .filter(|run| run.may_hold(fingerprint, now))
                .cloned()
                .collect();
            (found, maybe)
        };
        for run in maybe {
            match run::find(db, &run.meta, fingerprint)? {
                Some(entries) => found.extend(entries),
                None if self.still_has(run.meta.id) => {
                    return Err(damaged("a block is missing", run.meta.row(0)));
                }
                None => return Ok(None),
            }
        }
        let released = &self.shared.live.read().released;
        let holds = |entry: &&Entry| {
            !entry.has_expired(now) && !released.contains(&(entry.fingerprint, entry.event))
        };
        Ok(Some(
            found
                .iter()
                .filter(holds)
                .map(|entry| EventId(entry.event))
                .collect(),
        ))
    }

    fn still_has(&self, id: u32) -> bool {
        self.shared
            .live
            .read()
            .runs
            .iter()
            .any(|run| run.meta.id == id)
    }
}

impl Run {
    fn may_hold(&self, fingerprint: u64, now: Time) -> bool {
        !has_expired(self.meta.expires_max_s, now) && self.filter.may_hold(fingerprint)
    }
}

impl Shared {
    /// The keyed hash under which a key is filed, never 0.
    pub(super) fn fingerprint(&self, digest: &KeyDigest) -> u64 {
        let bits = u128::from_le_bytes(digest.0);
        let [high, low] = [(bits >> 64) as u64, bits as u64];
        mix(mix(low ^ self.seeds[0]) ^ high ^ self.seeds[1]).max(1)
    }
}
