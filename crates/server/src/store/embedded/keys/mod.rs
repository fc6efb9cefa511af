//! The dedupe key index: which event may hold a key. Exact over any number of keys in the window,
//! within a few bytes of memory a key, and never a stall of the writer.
//!
//! - The newest keys are in memory, in a table of fixed size ([`recent`]). A full one is set aside
//!   and written to `index.db` as a sorted run behind a filter ([`run`]); runs of one size are
//!   merged into a larger one ([`build`]), up to a limit, so that a whole run is dropped when the
//!   last of its keys has expired. Everything is done in slices of [`Keys::tend`].
//! - A look-up asks the tables, then the filters; only a filter that says *maybe* costs the reading
//!   of one page. What is found are *candidates*: the caller holds each against the event's own
//!   row, full digest and expiry, so a collision of fingerprints can never suppress an event.
//! - Nothing here has to be durable at once. The events are the truth: [`Keys::open`] names the
//!   event up to which all keys are in runs, and the caller inserts those of the later ones again.
//!   A run half written at a crash is thrown away. So `index.db` needs no sync at commit; it only
//!   has to go back to an earlier commit as a whole, which WAL with `synchronous=NORMAL` does.
//!
//! Memory, with the default [`Bounds`]: at most 1.6 bytes for each key admitted within the longest
//! dedupe window (its share of a filter), plus 14 MB for two runs of the largest size (one whose
//! last key is about to expire, one being built), plus 34 MB for four tables. With 20,000,000 keys
//! that is 80 MB; in practice two tables are in use. Look-up: one cache line for each run that the
//! key is not in, and with 20,000,000 keys there are 5 to 15 runs.
//!
//! Absent here: the events, and so the last word on whether a key is taken. Deciding when there is
//! time for a slice. Checkpoints of `index.db`.

mod build;
mod find;
mod manifest;
mod recent;
mod run;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use postrider_core::id::{EventId, KeyDigest};
use postrider_core::time::Time;
use rusqlite::Connection;

pub use find::Finder;
pub use verify::verify;

use build::{Build, Cursor, Source};
use find::{Live, Shared};
use manifest::Manifest;
use recent::Recent;
use run::{Entry, Filter, Meta, Run, Stage, has_expired, seconds};

/// The sizes of the index. All but the default are for tests.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Keys in a table of recent ones.
    pub recent_keys_max: usize,
    /// Tables of recent keys, the open one included.
    pub tables_max: usize,
    /// Keys in a block, on average: its rows fill a page of 4096 bytes in 99 of 100 cases.
    pub block_keys: u64,
    /// Blocks written by one slice.
    pub slice_blocks: u64,
    /// Rows deleted by one slice.
    pub slice_deletes: u32,
    /// Runs of one level that are merged into one of the next.
    pub merge_runs: usize,
    /// Highest level: its runs are not merged any more.
    pub level_max: u8,
    /// Released keys that are remembered until a merge leaves them out. Those above cost their
    /// look-ups a confirmation, no more.
    pub released_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            recent_keys_max: 1 << 18,
            tables_max: 4,
            block_keys: 170,
            slice_blocks: 64,
            slice_deletes: 512,
            merge_runs: 4,
            level_max: 2,
            released_max: 1 << 16,
        }
    }
}

/// The index could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// `index.db` holds something that was not written so.
    #[error("the key index is damaged: {what}")]
    Damaged {
        /// What does not add up.
        what: String,
    },
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Makes the tables of the index in `index.db`, if they are not there yet.
///
/// # Errors
/// [`KeysError::Sqlite`].
pub fn create(db: &Connection) -> Result<(), KeysError> {
    // Tables without their list of runs are damage, not a new index.
    if Manifest::has_table(db)? {
        return Ok(());
    }
    let tx = db.unchecked_transaction()?;
    tx.execute_batch(
        "CREATE TABLE key_manifest (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE key_block (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE key_filter (id INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    Manifest::new([rand::random(), rand::random()]).save(&tx)?;
    tx.commit()?;
    Ok(())
}

/// The writer's half: one thread owns it.
pub struct Keys {
    bounds: Bounds,
    shared: Arc<Shared>,
    manifest: Manifest,
    build: Option<Build>,
}

/// What the index takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes in memory.
    pub memory_bytes: usize,
    /// Keys in memory only.
    pub recent_keys: usize,
    /// Keys in runs.
    pub run_keys: u64,
    /// Runs that a look-up asks.
    pub runs: usize,
}

impl Keys {
    /// Reads the index and says up to which event all keys are in it: those of later events have
    /// to be inserted again, in ascending order.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(db: &Connection, bounds: Bounds) -> Result<(Keys, EventId), KeysError> {
        let mut manifest = Manifest::load(db)?;
        let mut runs = Vec::new();
        for meta in &mut manifest.runs {
            match meta.stage {
                Stage::Sealed => runs.push(Arc::new(Run {
                    filter: Filter::load(db, meta)?,
                    meta: meta.clone(),
                })),
                Stage::Building | Stage::Dropped => meta.stage = Stage::Dropped,
            }
        }
        let live = Live {
            open: Recent::new(bounds.recent_keys_max),
            full: VecDeque::new(),
            runs,
            released: HashSet::new(),
        };
        let shared = Arc::new(Shared {
            seeds: manifest.seeds,
            live: RwLock::new(live),
        });
        let low_water = EventId(manifest.low_water);
        let keys = Keys {
            bounds,
            shared,
            manifest,
            build: None,
        };
        Ok((keys, low_water))
    }

    /// A half for readers.
    #[must_use]
    pub fn finder(&self) -> Finder {
        Finder {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether `keys` more may be inserted before the next slice. `false` means that the slices do
    /// not keep up.
    #[must_use]
    pub fn has_room(&self, keys: usize) -> bool {
        let live = self.shared.live.read();
        let tables_left = self.bounds.tables_max.saturating_sub(live.full.len() + 1);
        let open_left = self.bounds.recent_keys_max.saturating_sub(live.open.len());
        keys <= open_left.max(tables_left * self.bounds.recent_keys_max)
    }

    /// Takes in the key of `event`, which must be above all events before. The caller has seen to
    /// [`Keys::has_room`].
    pub fn insert(&self, digest: &KeyDigest, event: EventId, expires_at: Time) {
        let entry = Entry {
            fingerprint: self.shared.fingerprint(digest),
            event: event.0,
            expires_s: seconds(expires_at),
        };
        let mut live = self.shared.live.write();
        if !live.open.insert(entry) {
            let next = Recent::new(self.bounds.recent_keys_max);
            let full = std::mem::replace(&mut live.open, next);
            live.full.push_back(Arc::new(full));
            live.open.insert(entry);
        }
    }

    /// Forgets that `event` held the key. Not durable, and past a bound not even remembered: what
    /// decides is the event's own row, this only spares look-ups.
    pub fn remove(&self, digest: &KeyDigest, event: EventId) {
        let fingerprint = self.shared.fingerprint(digest);
        let mut live = self.shared.live.write();
        if !live.open.remove(fingerprint, event.0) && live.released.len() < self.bounds.released_max
        {
            live.released.insert((fingerprint, event.0));
        }
    }

    /// One slice of work, in a transaction of its own: dropping what has expired, sealing recent
    /// keys, deleting the rows of dropped runs, merging. Returns whether there is more to do.
    ///
    /// After an error everything is still found; the slice may be tried again.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn tend(&mut self, db: &Connection, now: Time) -> Result<bool, KeysError> {
        let done = self.slice(db, now);
        if done.is_err() {
            self.build = None;
            for meta in &mut self.manifest.runs {
                if meta.stage == Stage::Building {
                    meta.stage = Stage::Dropped;
                }
            }
        }
        done
    }

    fn slice(&mut self, db: &Connection, now: Time) -> Result<bool, KeysError> {
        if self.build.is_some() {
            return self.go_on(db, now).map(|()| true);
        }
        if self.drop_expired(db, now)? {
            return Ok(true);
        }
        if let Some((source, level, keys)) = self.next_build() {
            return self.begin(db, source, level, keys).map(|()| true);
        }
        if let Some(meta) = self
            .manifest
            .runs
            .iter()
            .find(|meta| meta.stage == Stage::Dropped)
        {
            let meta = meta.clone();
            return self.sweep(db, &meta).map(|()| true);
        }
        Ok(false)
    }

    /// Takes away the runs whose last key has expired.
    fn drop_expired(&mut self, db: &Connection, now: Time) -> Result<bool, KeysError> {
        let gone = |meta: &Meta| {
            meta.stage == Stage::Sealed && (meta.keys == 0 || has_expired(meta.expires_max_s, now))
        };
        if !self.manifest.runs.iter().any(gone) {
            return Ok(false);
        }
        let mut manifest = self.manifest.clone();
        for meta in manifest.runs.iter_mut().filter(|meta| gone(meta)) {
            meta.stage = Stage::Dropped;
        }
        self.publish(db, manifest, |live| {
            live.runs.retain(|run| !gone(&run.meta))
        })?;
        Ok(true)
    }

    /// What is to be built next: a full table comes before a merge.
    fn next_build(&self) -> Option<(Source, u8, u64)> {
        let live = self.shared.live.read();
        if let Some(table) = live.full.front() {
            let source = Source::Recent {
                table: Arc::clone(table),
                slot: 0,
            };
            return Some((source, 0, table.len() as u64));
        }
        (0..self.bounds.level_max).find_map(|level| {
            let of_level = || live.runs.iter().filter(|run| run.meta.level == level);
            if of_level().count() < self.bounds.merge_runs {
                return None;
            }
            let chosen: Vec<&Arc<Run>> = of_level().take(self.bounds.merge_runs).collect();
            let keys = chosen.iter().map(|run| run.meta.keys).sum();
            let cursors = chosen
                .into_iter()
                .map(|run| Cursor::new(Arc::clone(run)))
                .collect();
            Some((Source::Runs(cursors), level + 1, keys))
        })
    }

    fn begin(
        &mut self,
        db: &Connection,
        source: Source,
        level: u8,
        keys: u64,
    ) -> Result<(), KeysError> {
        let mut manifest = self.manifest.clone();
        let meta = Meta::planned(manifest.next_run, level, keys, self.bounds.block_keys);
        manifest.next_run += 1;
        manifest.runs.push(meta.clone());
        self.publish(db, manifest, |_| ())?;
        self.build = Some(Build::new(meta, source));
        Ok(())
    }

    fn go_on(&mut self, db: &Connection, now: Time) -> Result<(), KeysError> {
        let Some(build) = self.build.as_mut() else {
            return Ok(());
        };
        let tx = db.unchecked_transaction()?;
        let finished = {
            let live = self.shared.live.read();
            build.step(&tx, now, &live.released, self.bounds.slice_blocks)?
        };
        tx.commit()?;
        if finished && let Some(build) = self.build.take() {
            self.seal(db, build)?;
        }
        Ok(())
    }

    /// Makes a finished run count, instead of what it was made from.
    fn seal(&mut self, db: &Connection, build: Build) -> Result<(), KeysError> {
        let replaced = build.replaces();
        let left_out = build.left_out.clone();
        let mut run = build.into_run();
        run.meta.stage = Stage::Sealed;
        let mut manifest = self.manifest.clone();
        if let Some(meta) = manifest.run_mut(run.meta.id) {
            *meta = run.meta.clone();
        }
        for meta in manifest
            .runs
            .iter_mut()
            .filter(|meta| replaced.contains(&meta.id))
        {
            meta.stage = Stage::Dropped;
        }
        if replaced.is_empty() {
            let table = self
                .shared
                .live
                .read()
                .full
                .front()
                .map_or(0, |table| table.event_max());
            manifest.low_water = manifest.low_water.max(table);
        }
        self.publish(db, manifest, |live| {
            if replaced.is_empty() {
                live.full.pop_front();
            }
            live.runs.retain(|run| !replaced.contains(&run.meta.id));
            live.runs.push(Arc::new(run));
            for key in &left_out {
                live.released.remove(key);
            }
        })
    }

    /// Deletes some rows of a dropped run, from its end, and at last the run.
    fn sweep(&mut self, db: &Connection, meta: &Meta) -> Result<(), KeysError> {
        let tx = db.unchecked_transaction()?;
        let mut left = self.bounds.slice_deletes;
        for sql in [
            "DELETE FROM key_block WHERE id IN
             (SELECT id FROM key_block WHERE id BETWEEN ?1 AND ?2 LIMIT ?3)",
            "DELETE FROM key_filter WHERE id IN
             (SELECT id FROM key_filter WHERE id BETWEEN ?1 AND ?2 LIMIT ?3)",
        ] {
            let range = (meta.row(0), meta.row(u64::from(u32::MAX)), left);
            let deleted = tx.prepare_cached(sql)?.execute(range)?;
            left = left.saturating_sub(u32::try_from(deleted).unwrap_or(left));
        }
        let mut manifest = self.manifest.clone();
        if left > 0 {
            manifest.runs.retain(|other| other.id != meta.id);
            manifest.save(&tx)?;
        }
        tx.commit()?;
        self.manifest = manifest;
        Ok(())
    }

    /// Writes a new manifest, and once that is committed shows it to the readers.
    fn publish(
        &mut self,
        db: &Connection,
        manifest: Manifest,
        show: impl FnOnce(&mut Live),
    ) -> Result<(), KeysError> {
        let tx = db.unchecked_transaction()?;
        manifest.save(&tx)?;
        tx.commit()?;
        self.manifest = manifest;
        show(&mut self.shared.live.write());
        Ok(())
    }

    /// What the index takes up.
    #[must_use]
    pub fn size(&self) -> Size {
        let live = self.shared.live.read();
        let tables = live.full.iter().map(Arc::as_ref).chain([&live.open]);
        let (table_bytes, recent_keys) = tables.fold((0, 0), |(bytes, keys), table| {
            (bytes + table.memory_bytes(), keys + table.len())
        });
        let filters: usize = live.runs.iter().map(|run| run.filter.memory_bytes()).sum();
        let building = self.build.as_ref().map_or(0, Build::memory_bytes);
        Size {
            memory_bytes: table_bytes + filters + building,
            recent_keys,
            run_keys: live.runs.iter().map(|run| run.meta.keys).sum(),
            runs: live.runs.len(),
        }
    }
}
