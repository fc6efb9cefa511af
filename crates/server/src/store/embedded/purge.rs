//! Forgetting: payloads whose time has come, and whole ledger files that are old.
//!
//! Age is counted twice. A payload or a file goes only when the engine's clock says so *and* the
//! ledger has lived that long, where a jump of the clock counts as one day at the most. So a
//! clock that is set years ahead by mistake deletes nothing that matters.
//!
//! Files go oldest first, and only when everything in them is settled, their keys are forgotten and
//! their dead letters' payloads are due: so those need not be copied aside.
//!
//! Absent here: deleting rows of the ledger. There is no such thing.

use std::sync::Arc;

use postrider_core::id::EventId;
use postrider_core::time::{HOUR_MS, SECOND_MS, Time};
use rusqlite::Connection;

use super::EmbeddedLedger;
use super::files::{LedgerFile, file_name};
use super::row::{self, EventRow};
use super::schema::{remove_if_there, sync_directory};
use super::tend::Trouble;
use crate::store::embedded::day::find_event;

/// Payloads that one slice looks at.
const SLICE_EVENTS: u32 = 512;
/// Ledger rows that one slice reads, beside those of the event that goes over it.
const SLICE_ROWS: u64 = 2_048;
/// Pages that one slice gives back to the file system.
const SLICE_PAGES: i64 = 256;

/// Where the sweep over the payloads stands.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The file it is in.
    file: u32,
    /// The event it has come to.
    after: EventId,
    /// When the next round begins.
    next_at: Time,
}

impl EmbeddedLedger {
    /// One slice of the sweep. Returns whether it did anything.
    pub(super) fn sweep_slice(&mut self, now: Time) -> Result<bool, Trouble> {
        if self.housekeeping.sweep.next_at > now.plus(round_ms(self)) {
            // The clock was set back.
            self.housekeeping.sweep.next_at = now;
        }
        if now < self.housekeeping.sweep.next_at {
            return Ok(false);
        }
        let files = self.shared.files.load_full();
        let at = files.partition_point(|file| file.number < self.housekeeping.sweep.file);
        let lived = self.checkpoint.lived_ms;
        let keep_ms = self.options.retention.payload_keep_ms;
        let Some(file) = files
            .get(at)
            .filter(|file| lived - file.opened_lived >= keep_ms)
        else {
            self.housekeeping.sweep = Sweep {
                next_at: now.plus(round_ms(self)),
                ..Sweep::default()
            };
            return Ok(false);
        };
        if self.housekeeping.sweep.file != file.number {
            self.housekeeping.sweep.file = file.number;
            self.housekeeping.sweep.after = EventId(0);
        }
        let newest = at + 1 == files.len();
        if !self.sweep_file(file, now)? && (newest || !self.give_back(file.number)?) {
            self.housekeeping.sweep.file = file.number + 1;
            self.housekeeping.sweep.after = EventId(0);
        }
        Ok(true)
    }

    /// Deletes a slice of a file's payloads. Returns whether there are more.
    fn sweep_file(&mut self, file: &Arc<LedgerFile>, now: Time) -> Result<bool, Trouble> {
        self.open_day(file.number)
            .map_err(|fatal| Trouble::Other(fatal.reason))?;
        let Some(day) = self.days.get(&file.number) else {
            return Ok(false);
        };
        let connection = &day.connection;
        let after = self.housekeeping.sweep.after;
        let events: Vec<EventId> = connection
            .prepare_cached("SELECT event FROM payload WHERE event > ?1 ORDER BY event LIMIT ?2")?
            .query_map((after.0.cast_signed(), SLICE_EVENTS), |row| {
                row::unsigned(row, 0).map(EventId)
            })?
            .collect::<Result<_, _>>()?;
        let dead_due = self.checkpoint.lived_ms - file.opened_lived
            >= self.options.retention.dead_payload_keep_ms;
        let mut rows = 0;
        let mut due = Vec::new();
        let mut more = events.len() == SLICE_EVENTS as usize;
        let mut reached = after;
        for event in events {
            if rows > SLICE_ROWS {
                more = true;
                break;
            }
            let Some(row) = find_event(connection, event)? else {
                return Err(Trouble::Other(format!("event {event} is not there")));
            };
            rows += u64::from(row.event.deliveries);
            reached = event;
            if self.payload_is_due(connection, &row, now, dead_due)? {
                due.push(event);
            }
        }
        if !due.is_empty() {
            let transaction = connection.unchecked_transaction()?;
            let mut delete = transaction.prepare_cached("DELETE FROM payload WHERE event = ?1")?;
            for event in due {
                delete.execute([event.0.cast_signed()])?;
            }
            drop(delete);
            transaction.commit()?;
        }
        self.housekeeping.sweep.after = reached;
        Ok(more)
    }

    fn payload_is_due(
        &self,
        connection: &Connection,
        row: &EventRow,
        now: Time,
        dead_due: bool,
    ) -> Result<bool, Trouble> {
        let retention = &self.options.retention;
        let event = &row.event;
        if event.admitted_at.plus(retention.payload_keep_ms) > now {
            return Ok(false);
        }
        let end = event.first_delivery.0 + u64::from(event.deliveries);
        let mut statement = connection.prepare_cached(RANGE)?;
        let range = (event.first_delivery.0.cast_signed(), end.cast_signed());
        let mut rows = statement.query(range)?;
        while let Some(row) = rows.next()? {
            let delivery = row::read_delivery(row)?.delivery;
            let dead = delivery.is_dead_letter();
            let keep_ms = match dead {
                true => retention.dead_payload_keep_ms,
                false => retention.payload_keep_ms,
            };
            let kept = delivery
                .settled_at
                .is_none_or(|settled| settled.plus(keep_ms) > now);
            if kept || (dead && !dead_due) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a slice of free pages back. Returns whether there are more.
    fn give_back(&mut self, number: u32) -> Result<bool, Trouble> {
        let Some(day) = self.days.get(&number) else {
            return Ok(false);
        };
        let connection = &day.connection;
        let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free < SLICE_PAGES {
            return Ok(false);
        }
        connection.execute_batch(&format!("PRAGMA incremental_vacuum({SLICE_PAGES})"))?;
        Ok(true)
    }

    /// Deletes the oldest ledger file if its time has come. Returns whether it did.
    pub(super) fn purge_oldest(&mut self, now: Time) -> Result<bool, Trouble> {
        let files = self.shared.files.load_full();
        let [oldest, next, ..] = files.as_slice() else {
            return Ok(false);
        };
        let retention = &self.options.retention;
        let keep_ms = retention.ledger_ms.max(retention.dead_payload_keep_ms);
        let keys_until = oldest.keys_until.load(std::sync::atomic::Ordering::Relaxed);
        if self.checkpoint.lived_ms - next.opened_lived < keep_ms
            || Time(next.day.saturating_mul(postrider_core::time::DAY_MS)).plus(keep_ms) > now
            || keys_until > now.0
            || self.blocks.any(oldest.first_delivery, next.first_delivery)
        {
            return Ok(false);
        }
        // First it is known to be gone, then it goes: a file that is missing is otherwise damage.
        self.checkpoint.first_file = next.number;
        if !self.checkpoint.keys_until.is_empty() {
            self.checkpoint.keys_until.remove(0);
        }
        self.save_checkpoint()?;
        self.shared.files.store(Arc::new(files[1..].to_vec()));
        self.days.remove(&oldest.number);
        oldest.close();
        remove_ledger_file(&self.directory.path, oldest.number)
            .map_err(|error| Trouble::Other(error.to_string()))?;
        Ok(true)
    }
}

/// Deliveries with ids from one up to before another.
const RANGE: &str = "SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id";

/// Deletes a ledger file and what SQLite keeps beside it.
///
/// # Errors
/// Those of the file system.
pub fn remove_ledger_file(dir: &std::path::Path, number: u32) -> std::io::Result<()> {
    let name = file_name(number);
    for suffix in ["", "-wal", "-shm"] {
        remove_if_there(&dir.join(format!("{name}{suffix}")))?;
    }
    sync_directory(dir)
}

/// Time between two rounds of the sweep: an eighth of what payloads are kept.
fn round_ms(ledger: &EmbeddedLedger) -> i64 {
    (ledger.options.retention.payload_keep_ms / 8).clamp(SECOND_MS, HOUR_MS)
}
