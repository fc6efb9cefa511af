//! Housekeeping in slices: write-ahead logs, the key index, lanes, the checkpoint, a full disk.
//!
//! Each call of [`EmbeddedLedger::tend_slice`] works off one log, if one is long, and does the most
//! urgent of the other pieces, so that the writer is never away for long. What must not wait for it
//! has a bound that recording itself keeps.
//!
//! Absent here: payloads and purging; see [`super::purge`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use postrider_core::id::{EndpointId, EventId};
use postrider_core::ledger::Record;
use postrider_core::time::{DAY_MS, SECOND_MS, Time};
use rusqlite::{Connection, params};

use super::checkpoint::Checkpoint;
use super::day::{Day, is_full};
use super::files::{Begin, LedgerFile, file_name};
use super::row::Sum;
use super::schema::PAGE_BYTES;
use super::stats::micros;
use super::{EmbeddedLedger, OpenError, fatal};
use crate::store::Fatal;

/// Changes of lanes and heads from which on a generation is sealed.
const LAG_SOFT: usize = 16_384;
/// Changes of lanes and heads from which on nothing is recorded before a generation is written.
const LAG_MAX: usize = 131_072;
/// Entries after which the checkpoint moves: what a restart may have to read again, about.
const ENTRIES_SOFT: u64 = 200_000;
/// The checkpoint moves at least this often, while anything is recorded.
const CHECKPOINT_MS: i64 = 5 * SECOND_MS;
/// Wait between two looks whether a full disk has room again.
const ROOM_PROBE_MS: i64 = SECOND_MS;
/// Time that counts for the age of the ledger in one step at the most: a clock that jumps years
/// makes nothing older than a night's downtime would.
const AGE_STEP_MS_MAX: i64 = DAY_MS;
/// Files that are kept open for writing.
const DAYS_OPEN_MAX: usize = 8;
/// How long a retirement is told to the registry at each restart.
const RETIRED_KEEP_MS: i64 = 30 * DAY_MS;

/// Where the housekeeping stands.
#[derive(Debug, Default)]
pub struct Housekeeping {
    /// Entries recorded since the checkpoint was sealed.
    pub entries: u64,
    /// The checkpoint that counts when the sealed generation is written.
    pub sealed: Option<(Checkpoint, Vec<(EndpointId, Time)>)>,
    /// When the last one was sealed.
    pub sealed_at: Time,
    /// Retirements since then.
    pub gone: Vec<(EndpointId, Time)>,
    /// When room was last looked for.
    pub probed_at: Time,
    /// Where the payloads' sweep stands; see [`super::purge`].
    pub sweep: super::purge::Sweep,
}

impl EmbeddedLedger {
    /// [`crate::store::Ledger::tend`].
    pub(super) fn tend_slice(&mut self, now: Time) -> Result<bool, Fatal> {
        let started = Instant::now();
        self.count_age(now);
        let more = match self.slice(now) {
            // A full disk holds housekeeping up, and no more than that.
            Err(Trouble::Sqlite(error)) if is_full(&error) => {
                self.notice_full();
                Ok(false)
            }
            Err(trouble) => Err(fatal(trouble)),
            Ok(more) => Ok(more),
        };
        let stats = &self.shared.stats;
        stats
            .tend_us_max
            .fetch_max(micros(started.elapsed()), Ordering::Relaxed);
        let lag = self.shared.lanes.fresh() as u64;
        stats.merge_lag.store(lag, Ordering::Relaxed);
        stats.wal_bytes.store(self.wal_bytes(), Ordering::Relaxed);
        let files = self.shared.files.load().len() as u64;
        stats.files.store(files, Ordering::Relaxed);
        more
    }

    fn slice(&mut self, now: Time) -> Result<bool, Trouble> {
        if self.full {
            self.look_for_room(now)?;
        }
        // A busy store always has a log to work off; the rest must get its share all the same.
        let worked = self.work_off_log(self.options.wal_pages_soft)?;
        Ok(self.light_slice(now)? || worked)
    }

    fn light_slice(&mut self, now: Time) -> Result<bool, Trouble> {
        if self.tend_keys(now)? {
            return Ok(true);
        }
        if self.housekeeping.sealed.is_some() {
            self.write_sealed()?;
            return Ok(true);
        }
        if self.checkpoint_is_due(now) {
            self.seal(now);
            return Ok(true);
        }
        if self.days.len() > DAYS_OPEN_MAX {
            self.close_oldest()?;
            return Ok(true);
        }
        Ok(self.sweep_slice(now)? || self.purge_oldest(now)?)
    }

    fn tend_keys(&mut self, now: Time) -> Result<bool, Trouble> {
        match self.keys.tend(&self.index, now) {
            Err(super::keys::KeysError::Sqlite(error)) => Err(Trouble::Sqlite(error)),
            other => other.map_err(|error| Trouble::Other(error.to_string())),
        }
    }

    /// Works off one write-ahead log of at least `pages`, if there is one.
    fn work_off_log(&mut self, pages: u64) -> Result<bool, Trouble> {
        let logs = self
            .days
            .values()
            .map(|day| (&day.connection, &day.wal_pages));
        for (connection, counter) in logs.chain([(&self.index, &self.index_wal)]) {
            if counter.load(Ordering::Relaxed) >= pages {
                passive_checkpoint(connection)?;
                // Counted anew by the next commit.
                counter.store(0, Ordering::Relaxed);
                self.shared
                    .stats
                    .checkpoints
                    .fetch_add(1, Ordering::Relaxed);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wal_bytes(&self) -> u64 {
        let days = self.days.values().map(|day| &day.wal_pages);
        let logs = days.chain([&self.index_wal]);
        logs.map(|pages| pages.load(Ordering::Relaxed) * PAGE_BYTES)
            .sum()
    }

    /// Before recording: a log at its bound is worked off first.
    pub(super) fn bound_logs(&mut self) -> Result<(), Fatal> {
        match self.work_off_log(self.options.wal_pages_max) {
            Err(Trouble::Sqlite(error)) if is_full(&error) => {
                self.notice_full();
                Ok(())
            }
            other => other.map(drop).map_err(fatal),
        }
    }

    /// Before recording: changes of lanes at their bound are written first.
    pub(super) fn bound_lag(&mut self) -> Result<(), Fatal> {
        if self.shared.lanes.fresh() < LAG_MAX {
            return Ok(());
        }
        let mut write = || {
            while self.housekeeping.sealed.is_some() {
                self.write_sealed()?;
            }
            self.seal(self.last_at);
            Ok(())
        };
        match write() {
            Err(Trouble::Sqlite(error)) if is_full(&error) => {
                self.notice_full();
                Ok(())
            }
            other => other.map_err(fatal),
        }
    }

    fn checkpoint_is_due(&self, now: Time) -> bool {
        let since = now.since(self.housekeeping.sealed_at);
        let recorded = self.housekeeping.entries > 0;
        self.shared.lanes.fresh() >= LAG_SOFT
            || self.housekeeping.entries >= ENTRIES_SOFT
            || (recorded && !(0..CHECKPOINT_MS).contains(&since))
    }

    /// Fixes the places of the next checkpoint; it counts when all up to there is written.
    pub(super) fn seal(&mut self, now: Time) {
        self.shared.lanes.seal();
        let checkpoint = self.checkpoint_now();
        let gone = std::mem::take(&mut self.housekeeping.gone);
        self.housekeeping.sealed = Some((checkpoint, gone));
        self.housekeeping.sealed_at = now;
        self.housekeeping.entries = 0;
    }

    fn checkpoint_now(&self) -> Checkpoint {
        let files = self.shared.files.load();
        let keys_until = files
            .iter()
            .map(|file| file.keys_until.load(Ordering::Relaxed));
        Checkpoint {
            event: self.last_event,
            delivery: self.last_delivery,
            seq: self.last_seq,
            at: self.last_at,
            keys_until: keys_until.collect(),
            blocks: self.blocks.unsettled(),
            ..self.checkpoint.clone()
        }
    }

    /// Writes a slice of the sealed generation, and with the last one the checkpoint.
    pub(super) fn write_sealed(&mut self) -> Result<(), Trouble> {
        if !self.shared.lanes.write_slice(&self.index)? {
            return Ok(());
        }
        let Some((checkpoint, gone)) = &mut self.housekeeping.sealed else {
            return Ok(());
        };
        // The age went on, and files may have been purged, since it was sealed.
        let purged = self
            .checkpoint
            .first_file
            .saturating_sub(checkpoint.first_file);
        let purged = (purged as usize).min(checkpoint.keys_until.len());
        checkpoint.keys_until.drain(..purged);
        checkpoint.first_file = self.checkpoint.first_file;
        checkpoint.lived_ms = self.checkpoint.lived_ms;
        checkpoint.seen_at = self.checkpoint.seen_at;
        let transaction = self.index.unchecked_transaction()?;
        checkpoint.save(&transaction)?;
        // The old go first: what is said to be gone since long ago is news all the same.
        if !gone.is_empty() {
            transaction
                .prepare_cached("DELETE FROM retired WHERE at < ?1")?
                .execute([checkpoint.at.plus(-RETIRED_KEEP_MS).0])?;
        }
        for (endpoint, at) in gone.iter() {
            let sum = Sum::new().numbers([endpoint.0, at.0.cast_unsigned()]).get();
            transaction
                .prepare_cached(
                    "INSERT INTO retired VALUES (?1, ?2, ?3) ON CONFLICT (endpoint)
                     DO UPDATE SET at = excluded.at, sum = excluded.sum
                     WHERE excluded.at > retired.at",
                )?
                .execute(params![endpoint.0.cast_signed(), at.0, sum])?;
        }
        transaction.commit()?;
        self.checkpoint = checkpoint.clone();
        self.housekeeping.sealed = None;
        self.shared.lanes.drop_sealed();
        let memory = self.keys.size().memory_bytes as u64;
        self.shared
            .stats
            .key_memory_bytes
            .store(memory, Ordering::Relaxed);
        Ok(())
    }

    /// Saves the checkpoint as it stands, pressed to the disk.
    pub(super) fn save_checkpoint(&self) -> Result<(), Trouble> {
        let save = || {
            self.index.pragma_update(None, "synchronous", "FULL")?;
            self.checkpoint.save(&self.index)
        };
        let saved = save();
        self.index.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(saved?)
    }

    /// Lets the ledger grow older by what has passed steadily.
    fn count_age(&mut self, now: Time) {
        self.shared.seen_at.fetch_max(now.0, Ordering::AcqRel);
        let seen_at = std::mem::replace(&mut self.checkpoint.seen_at, now);
        if seen_at != Time(0) {
            let passed = now.since(seen_at).clamp(0, AGE_STEP_MS_MAX);
            self.checkpoint.lived_ms += passed;
        }
    }

    /// Whether a record admits something for which a new file has to be begun.
    pub(super) fn day_is_over(&self, record: &Record) -> bool {
        let Some(event) = record.event.as_deref().filter(|_| !self.full) else {
            return false;
        };
        let files = self.shared.files.load();
        let Some(newest) = files.last() else {
            return true;
        };
        // A clock that was set back does not open a day again.
        event.admitted_at.day() > newest.day
            || self.file_deliveries >= self.options.file_deliveries_max
    }

    /// Begins a new ledger file for what comes from `record` on.
    pub(super) fn begin_day(&mut self, record: &Record) -> Result<(), Fatal> {
        let Some(event) = record.event.as_deref() else {
            return Ok(());
        };
        match self.begin_file(event.admitted_at.day()) {
            Err(OpenError::Sqlite { source, .. }) if is_full(&source) => {
                self.notice_full();
                Ok(())
            }
            Err(OpenError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                self.notice_full();
                Ok(())
            }
            other => other.map_err(fatal),
        }
    }

    fn begin_file(&mut self, day: i64) -> Result<(), OpenError> {
        let files = self.shared.files.load_full();
        let newest = files.last();
        let number = newest.map_or(self.checkpoint.first_file, |file| file.number + 1);
        let chain = newest
            .and_then(|file| self.days.get(&file.number))
            .map_or([0; 32], |day| day.chain);
        let begin = Begin {
            number,
            day: newest.map_or(day, |file| file.day.max(day)),
            first_event: EventId(self.last_event.0 + 1),
            first_delivery: postrider_core::id::DeliveryId(self.last_delivery.0 + 1),
            opened_lived: self.checkpoint.lived_ms,
            chain,
        };
        let dir = &self.directory.path;
        LedgerFile::create(dir, &self.options.vault, begin)?;
        let path = dir.join(file_name(number));
        let opened = Day::open(&path, &self.options.vault, self.options.synchronous)?;
        self.limit_file(&opened)
            .map_err(|source| OpenError::sqlite(&path, source))?;
        let mut all = files.to_vec();
        all.push(Arc::clone(&opened.file));
        self.days.insert(number, opened);
        self.shared.files.store(Arc::new(all));
        self.file_deliveries = 0;
        Ok(())
    }

    /// Closes the oldest file that is open for writing.
    fn close_oldest(&mut self) -> Result<(), Trouble> {
        if let Some((_, day)) = self.days.pop_first() {
            passive_checkpoint(&day.connection)?;
            day.connection.close().map_err(|(_, error)| error)?;
        }
        Ok(())
    }

    /// There is no room: nothing is admitted until there is.
    pub(super) fn notice_full(&mut self) {
        if !self.full {
            self.full = true;
            self.release_reserve();
        }
    }

    pub(super) fn release_reserve(&mut self) {
        self.directory.give_up_reserve();
        for day in self.days.values() {
            let _ = self.limit_file(day);
        }
    }

    /// Applies the bound on a file's size, if there is one. The reserve counts as used until the
    /// disk is full.
    pub(super) fn limit_file(&self, day: &Day) -> rusqlite::Result<()> {
        let Some(bytes) = self.options.file_bytes_max else {
            return day
                .connection
                .pragma_update(None, "max_page_count", i64::from(u32::MAX - 1));
        };
        let reserve = if self.full {
            self.options.reserve_bytes
        } else {
            0
        };
        let pages = (bytes + reserve) / PAGE_BYTES;
        day.connection
            .pragma_update(None, "max_page_count", pages.cast_signed())
    }

    /// Changes the bound on a ledger file's size.
    ///
    /// # Errors
    /// SQLite's.
    pub fn set_file_bytes_max(&mut self, bytes: Option<u64>) -> rusqlite::Result<()> {
        self.options.file_bytes_max = bytes;
        self.days.values().try_for_each(|day| self.limit_file(day))
    }

    /// Admits again once the reserve could be taken back and as much again is free.
    fn look_for_room(&mut self, now: Time) -> Result<(), Trouble> {
        if (0..ROOM_PROBE_MS).contains(&now.since(self.housekeeping.probed_at)) {
            return Ok(());
        }
        self.housekeeping.probed_at = now;
        let reserve = self.options.reserve_bytes;
        if let (Some(bytes), Some((_, day))) =
            (self.options.file_bytes_max, self.days.last_key_value())
        {
            let pages: i64 = day
                .connection
                .pragma_query_value(None, "page_count", |row| row.get(0))?;
            if pages.cast_unsigned() * PAGE_BYTES + reserve > bytes {
                return Ok(());
            }
        }
        if self.directory.take_reserve(reserve) {
            self.full = false;
            for day in self.days.values() {
                self.limit_file(day)?;
            }
        }
        Ok(())
    }
}

/// What went wrong in housekeeping.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// SQLite's word, which may be that the disk is full.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<super::row::RowError> for Trouble {
    fn from(error: super::row::RowError) -> Trouble {
        match error {
            super::row::RowError::Sqlite(error) => Trouble::Sqlite(error),
            damaged => Trouble::Other(damaged.to_string()),
        }
    }
}

/// Copies what it can of a write-ahead log into the main file, and syncs it, without waiting for
/// readers.
pub(super) fn passive_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
