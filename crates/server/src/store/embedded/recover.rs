//! The way back after a restart: opening the files, and reading again what is not in `index.db`.
//!
//! The checkpoint names the blocks of ids that still hold unsettled deliveries; those are read, and
//! everything behind the checkpoint. So the time it takes depends on what is unsettled and on how
//! far `index.db` lagged, not on what the ledger holds.
//!
//! Absent here: what becomes of attempts that were under way. The engine settles those.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use postrider_core::id::{EndpointId, Epoch, Seq};
use postrider_core::ledger::{Delivery, Fact, Next, State};
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;
use rusqlite::Connection;

use super::cache::Recent;
use super::checkpoint::{BLOCK_DELIVERIES, Blocks, Checkpoint};
use super::codec::Item;
use super::day::{Day, find_delivery, watch_log};
use super::directory::Directory;
use super::files::{LedgerFile, Pool, file_name, file_number};
use super::journal::{JournalError, each_segment};
use super::keys::{self, Keys};
use super::lanes::Lanes;
use super::purge::remove_ledger_file;
use super::row::{self, RowError, Sum, unsigned};
use super::schema::{self, Kind, Synchronous};
use super::{EmbeddedLedger, INDEX_FILE, OpenError, Options, Shared, StoreStats, fatal};
use crate::store::{Fatal, Recovery};

/// Endpoints of which the newest delivery is kept in memory, in each of two generations.
const HEADS_CACHED_MAX: usize = 65_536;

impl EmbeddedLedger {
    /// Opens all files of a directory that this process has to itself.
    pub(super) fn open(directory: Directory, options: Options) -> Result<Self, OpenError> {
        let dir = directory.path.clone();
        let mut index = open_index(&dir)?;
        let index_path = dir.join(INDEX_FILE);
        let checkpoint =
            Checkpoint::load(&index).map_err(|error| OpenError::damaged(&index_path, error))?;
        let (keys, keys_known) = Keys::open(&index, options.keys.clone())
            .map_err(|error| OpenError::damaged(&index_path, error))?;
        let index_wal =
            watch_log(&mut index).map_err(|source| OpenError::sqlite(&index_path, source))?;
        let mut ledger_files = Vec::new();
        let mut newest = None;
        for number in ledger_numbers(&dir, checkpoint.first_file)? {
            let path = dir.join(file_name(number));
            if !path.exists() {
                return Err(OpenError::Missing { path });
            }
            // All are brought to the disk and checked; only the newest stays open.
            let day = Day::open(&path, &options.vault, options.synchronous)?;
            let nth = ledger_files.len();
            let keys_until = checkpoint.keys_until.get(nth).copied();
            day.file
                .keys_until
                .store(keys_until.unwrap_or(i64::MIN), Ordering::Relaxed);
            ledger_files.push(Arc::clone(&day.file));
            newest = Some(day);
        }
        if !directory.take_reserve(options.reserve_bytes) {
            tracing::warn!(dir = %dir.display(), "the disk is nearly full: no reserve was taken");
        }
        let shared = Arc::new(Shared {
            files: ArcSwap::from_pointee(ledger_files),
            lanes: Lanes::default(),
            finder: keys.finder(),
            index: Pool::new(index_path, Kind::Index),
            durable: AtomicU64::new(0),
            last_delivery: AtomicU64::new(0),
            last_event: AtomicU64::new(0),
            retention: options.retention,
            seen_at: AtomicI64::new(checkpoint.seen_at.0),
            stats: StoreStats::default(),
        });
        let mut ledger = EmbeddedLedger {
            shared,
            directory,
            index,
            index_wal,
            keys,
            keys_known,
            days: BTreeMap::new(),
            rows: Recent::new(options.rows_cached_max),
            heads: Recent::new(HEADS_CACHED_MAX),
            blocks: Blocks::default(),
            last_event: checkpoint.event,
            last_delivery: checkpoint.delivery,
            last_seq: checkpoint.seq,
            last_at: checkpoint.at,
            checkpoint,
            housekeeping: super::tend::Housekeeping::default(),
            file_deliveries: 0,
            full: false,
            fatal: None,
            options,
        };
        ledger.find_ends(newest)?;
        Ok(ledger)
    }

    /// Finds the highest ids and places that are in use.
    fn find_ends(&mut self, newest: Option<Day>) -> Result<(), OpenError> {
        if let Some(day) = newest {
            let end = |table| -> rusqlite::Result<u64> {
                let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
                day.connection.query_row(&sql, [], |row| unsigned(row, 0))
            };
            let path = day.file.path().to_path_buf();
            let sqlite = |source| OpenError::sqlite(&path, source);
            let event = end("event").map_err(sqlite)?;
            let delivery = end("delivery").map_err(sqlite)?;
            self.last_event.0 = event.max(day.file.first_event.0 - 1).max(self.last_event.0);
            self.last_delivery.0 = delivery
                .max(day.file.first_delivery.0 - 1)
                .max(self.last_delivery.0);
            self.file_deliveries = (self.last_delivery.0 + 1) - day.file.first_delivery.0;
            self.limit_file(&day).map_err(sqlite)?;
            self.days.insert(day.file.number, day);
        }
        let files = self.shared.files.load();
        for file in files.iter() {
            self.last_seq = self.last_seq.max(file.last_seq());
        }
        let shared = &self.shared;
        shared
            .last_event
            .store(self.last_event.0, Ordering::Release);
        shared
            .last_delivery
            .store(self.last_delivery.0, Ordering::Release);
        shared.durable.store(self.last_seq.0, Ordering::Release);
        Ok(())
    }

    /// [`crate::store::Ledger::recover`].
    pub(super) fn recover_window(
        &mut self,
        visit: &mut dyn FnMut(Delivery),
    ) -> Result<Recovery, Fatal> {
        self.checkpoint.epoch = Epoch(self.checkpoint.epoch.0 + 1);
        self.save_checkpoint().map_err(fatal)?;
        self.visit_unsettled(visit)?;
        let mut retired = self.stored_retirements().map_err(fatal)?;
        self.read_journal_again(&mut retired)?;
        self.insert_keys_again()?;
        Ok(Recovery {
            last_event: self.last_event,
            last_delivery: self.last_delivery,
            last_seq: self.last_seq,
            last_at: self.last_at,
            epoch: self.checkpoint.epoch,
            retired,
        })
    }

    /// Reads the blocks that the checkpoint names, and all deliveries behind it.
    fn visit_unsettled(&mut self, visit: &mut dyn FnMut(Delivery)) -> Result<(), Fatal> {
        let known = self.checkpoint.delivery;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let blocks = self.checkpoint.blocks.iter().map(|block| {
            let from = block * BLOCK_DELIVERIES;
            (from, (from + BLOCK_DELIVERIES).min(known.0 + 1))
        });
        for (from, until) in blocks.chain([(known.0 + 1, self.last_delivery.0 + 1)]) {
            match ranges.last_mut() {
                Some(last) if last.1 == from => last.1 = until,
                _ => ranges.push((from, until)),
            }
        }
        let files = self.shared.files.load_full();
        let mut open: Option<(u32, Connection)> = None;
        for (from, until) in ranges {
            for (nth, file) in files.iter().enumerate() {
                let end = files
                    .get(nth + 1)
                    .map_or(u64::MAX, |next| next.first_delivery.0);
                let range = (from.max(file.first_delivery.0), until.min(end));
                if range.0 >= range.1 {
                    continue;
                }
                let connection = match open.take() {
                    Some((number, connection)) if number == file.number => connection,
                    _ => schema::open_reader(file.path(), Kind::Ledger).map_err(fatal)?,
                };
                self.visit_range(file, &connection, range, visit)?;
                open = Some((file.number, connection));
            }
        }
        Ok(())
    }

    fn visit_range(
        &mut self,
        file: &LedgerFile,
        connection: &Connection,
        (from, until): (u64, u64),
        visit: &mut dyn FnMut(Delivery),
    ) -> Result<(), Fatal> {
        let known = self.checkpoint.delivery;
        let mut statement = connection
            .prepare_cached("SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id")
            .map_err(fatal)?;
        let mut rows = statement
            .query((from.cast_signed(), until.cast_signed()))
            .map_err(fatal)?;
        while let Some(row) = rows.next().map_err(fatal)? {
            let row = row::read_delivery(row).map_err(|error| in_file(file, error))?;
            let delivery = row.delivery;
            if delivery.id > known {
                let lane = delivery.lane.map(|lane| (lane.key, lane.sequence));
                let lanes = &self.shared.lanes;
                lanes.admitted(delivery.endpoint, lane, delivery.id);
                if let Some(lane) = delivery.lane
                    && matches!(delivery.state, State::Accepted | State::Confirmed)
                {
                    lanes.accepted((delivery.endpoint, lane.key), lane.sequence);
                }
            }
            if !delivery.state.is_settled() {
                self.blocks.add(delivery.id);
                self.rows.put(delivery.id.0, (delivery.clone(), row.back));
                visit(delivery);
            }
        }
        Ok(())
    }

    /// Reads the entries behind the checkpoint for what they did to older deliveries.
    fn read_journal_again(&mut self, retired: &mut Vec<(EndpointId, Time)>) -> Result<(), Fatal> {
        let files = self.shared.files.load_full();
        let known = self.checkpoint.clone();
        for file in files.iter().filter(|file| file.last_seq() > known.seq) {
            let connection = schema::open_reader(file.path(), Kind::Ledger).map_err(fatal)?;
            let mut newest = self.last_at;
            let mut entries = 0;
            let lanes = &self.shared.lanes;
            each_segment(
                &connection,
                file,
                known.seq,
                Seq(i64::MAX as u64),
                |segment| {
                    for item in segment.items()? {
                        let Item::Entry(entry) = item else { continue };
                        newest = newest.max(entry.at);
                        entries += u64::from(entry.seq > known.seq);
                        let Fact::Answered { outcome, next, .. } = &entry.fact else {
                            continue;
                        };
                        let gone = outcome.kind == OutcomeKind::Gone;
                        let accepted = matches!(
                            next,
                            Next::Settle {
                                state: State::Accepted,
                                ..
                            }
                        ) && entry.delivery <= known.delivery;
                        if !gone && !accepted {
                            continue;
                        }
                        let row = find_delivery(&connection, entry.delivery);
                        let row = row.map_err(|error| damaged(entry.seq, &error))?;
                        let Some(delivery) = row.map(|row| row.delivery) else {
                            return Err(damaged(entry.seq, &"its delivery has no row"));
                        };
                        if gone {
                            let gone = (delivery.endpoint, outcome.gone_at(entry.at));
                            retired.push(gone);
                            self.housekeeping.gone.push(gone);
                        }
                        if let Some(lane) = delivery.lane.filter(|_| accepted) {
                            lanes.accepted((delivery.endpoint, lane.key), lane.sequence);
                        }
                    }
                    Ok(true)
                },
            )
            .map_err(|error| in_file(file, error))?;
            self.last_at = newest;
            self.housekeeping.entries += entries;
        }
        Ok(())
    }

    /// Inserts the keys of events that the index had not taken in.
    fn insert_keys_again(&mut self) -> Result<(), Fatal> {
        let files = self.shared.files.load_full();
        let from = self.keys_known.min(self.checkpoint.event);
        for file in files.iter() {
            let connection = schema::open_reader(file.path(), Kind::Ledger).map_err(fatal)?;
            let mut statement = connection
                .prepare("SELECT * FROM event WHERE id > ?1 ORDER BY id")
                .map_err(fatal)?;
            let mut rows = statement.query([from.0.cast_signed()]).map_err(fatal)?;
            while let Some(row) = rows.next().map_err(fatal)? {
                let row = row::read_event(row).map_err(|error| in_file(file, error))?;
                let event = row.event;
                let until = event.key_expires_at;
                file.keys_until.fetch_max(until.0, Ordering::Relaxed);
                if let Some(before) = event.retry_of {
                    self.keys.remove(&event.key_digest, before);
                }
                if event.id <= self.keys_known || until <= self.last_at {
                    continue;
                }
                while !self.keys.has_room(1) {
                    if !self.keys.tend(&self.index, self.last_at).map_err(fatal)? {
                        break;
                    }
                }
                self.keys.insert(&event.key_digest, event.id, until);
            }
        }
        Ok(())
    }

    fn stored_retirements(&self) -> Result<Vec<(EndpointId, Time)>, RowError> {
        let mut statement = self
            .index
            .prepare("SELECT endpoint, at, sum FROM retired")?;
        let mut rows = statement.query([])?;
        let mut retired = Vec::new();
        while let Some(row) = rows.next()? {
            let endpoint = EndpointId(unsigned(row, 0)?);
            let at = Time(row.get(1)?);
            let sum = Sum::new().numbers([endpoint.0, at.0.cast_unsigned()]).get();
            if row.get::<_, i32>(2)? != sum {
                return Err(RowError::Damaged {
                    table: "retirement of endpoint",
                    id: endpoint.0,
                });
            }
            retired.push((endpoint, at));
        }
        Ok(retired)
    }
}

/// Opens `index.db`, making it if the directory holds no ledger yet.
fn open_index(dir: &Path) -> Result<Connection, OpenError> {
    let path = dir.join(INDEX_FILE);
    if !path.exists() {
        if ledger_files(dir)?.next().is_some() {
            return Err(OpenError::Missing { path });
        }
        schema::create(&path, Kind::Index, |index| {
            let first = Checkpoint {
                first_file: 1,
                ..Checkpoint::default()
            };
            first.save(index)
        })?;
    }
    // It follows the ledger files, so a commit need not wait for the disk.
    let index = schema::open_writer(&path, Kind::Index, Synchronous::Normal)?;
    keys::create(&index).map_err(|error| OpenError::damaged(&path, error))?;
    Ok(index)
}

/// Numbers of all ledger files that have to be there, after removing what was purged.
fn ledger_numbers(dir: &Path, first: u32) -> Result<Vec<u32>, OpenError> {
    let mut last = first - 1;
    for number in ledger_files(dir)? {
        if number < first {
            remove_ledger_file(dir, number).map_err(|source| OpenError::io(dir, source))?;
        }
        last = last.max(number);
    }
    Ok((first..=last).collect())
}

/// Numbers of all ledger files in a directory, in no order.
pub(super) fn ledger_files(dir: &Path) -> Result<impl Iterator<Item = u32>, OpenError> {
    let entries = fs::read_dir(dir).map_err(|source| OpenError::io(dir, source))?;
    Ok(entries
        .filter_map(Result::ok)
        .filter_map(|entry| file_number(entry.file_name().to_str()?)))
}

fn in_file(file: &LedgerFile, error: impl std::fmt::Display) -> Fatal {
    fatal(format!("{}: {error}", file.name()))
}

fn damaged(seq: Seq, what: &dyn std::fmt::Display) -> JournalError {
    JournalError::Damaged {
        seq,
        what: what.to_string(),
    }
}
