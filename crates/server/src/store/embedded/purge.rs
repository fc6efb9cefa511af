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

use std::ops::Range;
use std::sync::Arc;

use postrider_core::id::EventId;
use postrider_core::ledger::{Delivery, State};
use postrider_core::time::{HOUR_MS, SECOND_MS, Time};
use rusqlite::Connection;

use super::files::{LedgerFile, file_name};
use super::row;
use super::schema::{remove_if_there, sync_directory};
use super::tend::Trouble;
use super::{EmbeddedLedger, Retention};
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
        let swept = self.sweep_file(file, now)?;
        if swept == Swept::More || (!newest && self.give_back(file.number)?) {
            return Ok(true);
        }
        self.housekeeping.sweep = match swept {
            // Whatever comes behind is younger still.
            Swept::Young => Sweep {
                next_at: now.plus(round_ms(self)),
                ..Sweep::default()
            },
            _ => Sweep {
                file: file.number + 1,
                after: EventId(0),
                next_at: self.housekeeping.sweep.next_at,
            },
        };
        Ok(true)
    }

    /// Deletes a slice of a file's payloads.
    fn sweep_file(&mut self, file: &Arc<LedgerFile>, now: Time) -> Result<Swept, Trouble> {
        self.open_day(file.number)
            .map_err(|fatal| Trouble::Other(fatal.reason))?;
        let Some(day) = self.days.get(&file.number) else {
            return Ok(Swept::All);
        };
        let connection = &day.connection;
        let after = self.housekeeping.sweep.after;
        let kept: Vec<EventId> = connection
            .prepare_cached("SELECT event FROM payload WHERE event > ?1 ORDER BY event LIMIT ?2")?
            .query_map((after.0.cast_signed(), SLICE_EVENTS), |row| {
                row::unsigned(row, 0).map(EventId)
            })?
            .collect::<Result<_, _>>()?;
        let retention = &self.options.retention;
        let lived = self.checkpoint.lived_ms - file.opened_lived;
        let mut walk = Walk {
            connection,
            retention,
            now,
            dead_due: lived >= retention.dead_payload_keep_ms,
            rows_left: SLICE_ROWS,
            reached: after,
            due: Vec::new(),
        };
        let mut swept = match kept.len() == SLICE_EVENTS as usize {
            true => Swept::More,
            false => Swept::All,
        };
        for events in kept.chunk_by(|a, b| b.0 == a.0 + 1) {
            if let Some(stop) = walk.take(events)? {
                swept = stop;
                break;
            }
        }
        let Walk { due, reached, .. } = walk;
        if !due.is_empty() {
            let transaction = connection.unchecked_transaction()?;
            let mut delete =
                transaction.prepare_cached("DELETE FROM payload WHERE event BETWEEN ?1 AND ?2")?;
            for run in due.chunk_by(|a, b| b.0 == a.0 + 1) {
                let (first, last) = (run[0], run[run.len() - 1]);
                delete.execute((first.0.cast_signed(), last.0.cast_signed()))?;
            }
            drop(delete);
            transaction.commit()?;
        }
        self.housekeeping.sweep.after = reached;
        Ok(swept)
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

/// How far a slice of the sweep came in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swept {
    /// There are more payloads in it.
    More,
    /// It came to one whose time has not come; nor has that of any behind it.
    Young,
    /// It came to the end.
    All,
}

/// A walk over the rows of deliveries, to find the events whose payload is due.
struct Walk<'a> {
    connection: &'a Connection,
    retention: &'a Retention,
    now: Time,
    /// Dead letters' payloads may go, if they are old enough themselves.
    dead_due: bool,
    rows_left: u64,
    /// The last event that was looked at.
    reached: EventId,
    due: Vec<EventId>,
}

impl Walk<'_> {
    /// Looks at events with consecutive ids. Returns why to stop, if it has to.
    fn take(&mut self, mut events: &[EventId]) -> Result<Option<Swept>, Trouble> {
        while let Some(&first) = events.first() {
            if self.rows_left == 0 {
                return Ok(Some(Swept::More));
            }
            let from = self.deliveries(first)?.start;
            let mut count = events.len();
            let mut until = self.deliveries(events[count - 1])?.end;
            while until - from > SLICE_ROWS && count > 1 {
                count /= 2;
                until = self.deliveries(events[count - 1])?.end;
            }
            self.rows_left = self.rows_left.saturating_sub(until - from);
            let (part, rest) = events.split_at(count);
            if let Some(stop) = self.take_part(part, from..until)? {
                return Ok(Some(stop));
            }
            events = rest;
        }
        Ok(None)
    }

    /// Looks at the deliveries of some events: a glance passes over those that need no payload any
    /// more, the others are read. Returns why to stop, if it has to.
    fn take_part(
        &mut self,
        events: &[EventId],
        deliveries: Range<u64>,
    ) -> Result<Option<Swept>, Trouble> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
        let settled_until = self.now.plus(-self.retention.payload_keep_ms);
        let range = (deliveries.start.cast_signed(), deliveries.end.cast_signed());
        let mut rows = statement.query(range)?;
        let mut kept = None;
        let mut left = events;
        while let Some(row) = rows.next()? {
            if row::glance(row).is_some_and(|(state, at)| at <= settled_until && is_plain(state)) {
                continue;
            }
            let delivery = row::read_delivery(row)?.delivery;
            let before = left.partition_point(|event| *event < delivery.event);
            self.due
                .extend(left[..before].iter().filter(|event| Some(**event) != kept));
            left = &left[before..];
            if delivery.admitted_at.plus(self.retention.payload_keep_ms) > self.now {
                return Ok(Some(Swept::Young));
            }
            self.reached = delivery.event;
            if !self.is_due(&delivery) {
                kept = Some(delivery.event);
            }
        }
        self.due
            .extend(left.iter().filter(|event| Some(**event) != kept));
        self.reached = events[events.len() - 1];
        Ok(None)
    }

    /// The ids of an event's deliveries.
    fn deliveries(&self, event: EventId) -> Result<Range<u64>, Trouble> {
        let row = find_event(self.connection, event)?
            .ok_or_else(|| Trouble::Other(format!("event {event} is not there")))?;
        let first = row.event.first_delivery.0;
        Ok(first..first + u64::from(row.event.deliveries))
    }

    /// Whether a delivery needs its event's payload no more.
    fn is_due(&self, delivery: &Delivery) -> bool {
        let dead = delivery.is_dead_letter();
        let keep_ms = match dead {
            true => self.retention.dead_payload_keep_ms,
            false => self.retention.payload_keep_ms,
        };
        let kept = delivery
            .settled_at
            .is_none_or(|settled| settled.plus(keep_ms) > self.now);
        !kept && (!dead || self.dead_due)
    }
}

/// Whether a delivery that was settled so is never a dead letter.
fn is_plain(state: State) -> bool {
    matches!(
        state,
        State::Accepted | State::Confirmed | State::Cancelled | State::Suppressed
    )
}

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
