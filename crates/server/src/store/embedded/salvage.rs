//! Salvaging: what is still readable in a damaged data directory is copied into a new one.
//!
//! Rows are read one by one where reading them in order breaks off. A delivery whose row cannot be
//! read, or does not match its checksum, is folded again from its entries; one whose entries are
//! gone keeps its row, and its history says that it is damaged. The hash chain is begun anew over
//! what was kept: the old one is broken, and that is what the report of this command is for.
//! `index.db` is made anew, with what can be read of lanes and retirements; the next start fills it
//! from the ledger files.
//!
//! Absent here: `control.db` and the master key, which are copied as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use postrider_core::id::{DeliveryId, Epoch, Seq};
use postrider_core::ledger::{Delivery, apply};
use rusqlite::{Connection, Row, params};

use super::OpenError;
use super::checkpoint::Checkpoint;
use super::codec::Item;
use super::directory::Directory;
use super::files::file_name;
use super::journal::{JournalError, SEGMENT_INSERT, Segment, bind_segment, link, read_segment};
use super::row::{self, DeliveryRow, EventRow, RowError};
use super::schema::{self, Kind, Synchronous};
use super::snapshot::{Finding, OpenFile, Snapshot};
use super::verify::FINDINGS_MAX;
use super::{INDEX_FILE, keys};
use crate::vault::Vault;

/// Rows that are read in one go, and one by one where that fails.
const ROWS_AT_ONCE: u64 = 1_000;
/// Added to the epoch: whoever still writes under one of the old directory is fenced.
const EPOCHS_SKIPPED: u64 = 1 << 20;

/// What was copied and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Events copied.
    pub events: u64,
    /// Payloads copied.
    pub payloads: u64,
    /// Deliveries copied.
    pub deliveries: u64,
    /// Of these, folded again because their row was damaged.
    pub refolded: u64,
    /// Entries copied.
    pub entries: u64,
    /// What could not be read, at most [`FINDINGS_MAX`].
    pub lost: Vec<Finding>,
    /// How often something could not be read.
    pub lost_count: u64,
}

/// Copies what can be read of `from` into `to`, which is made.
///
/// # Errors
/// [`OpenError`] if `from` is no data directory or sealed under another key, or `to` cannot be
/// written or holds a ledger already.
pub fn salvage(from: &Path, to: &Path, vault: &Vault) -> Result<Salvaged, OpenError> {
    let snapshot = Snapshot::open(from, vault)?;
    let target = Directory::lock(to)?;
    if super::recover::ledger_files(to)?.next().is_some() || to.join(INDEX_FILE).exists() {
        let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(OpenError::io(to, there));
    }
    let mut salvaged = Salvaged {
        lost: snapshot.findings.clone(),
        lost_count: snapshot.findings.len() as u64,
        ..Salvaged::default()
    };
    let mut first = None;
    let mut last: u32 = 0;
    for open in &snapshot.files {
        // A file that is lost as a whole leaves no hole in the numbers behind.
        let number = first.map_or(open.file.number, |_| last + 1);
        first = first.or(Some(number));
        last = number;
        copy_file(open, &target.path, number, &mut salvaged)?;
    }
    copy_index(&snapshot, &target.path, first.unwrap_or(1), &mut salvaged)?;
    Ok(salvaged)
}

/// What could be read of one file.
#[derive(Default)]
struct Kept {
    events: BTreeMap<u64, EventRow>,
    rows: BTreeMap<u64, DeliveryRow>,
    folded: BTreeMap<u64, Delivery>,
    segments: Vec<Segment>,
}

fn copy_file(
    open: &OpenFile,
    to: &Path,
    number: u32,
    salvaged: &mut Salvaged,
) -> Result<(), OpenError> {
    let path = to.join(file_name(number));
    let mut kept = Kept::default();
    read_journal(open, &mut kept, salvaged);
    let deliveries = open.file.first_delivery.0..open.end.1.0;
    let rows = "SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id";
    each_row(open, rows, deliveries, salvaged, &mut |row| {
        let row = row::read_delivery(row)?;
        kept.rows.insert(row.delivery.id.0, row);
        Ok(())
    });
    let events = open.file.first_event.0..open.end.0.0;
    let rows = "SELECT * FROM event WHERE id >= ?1 AND id < ?2 ORDER BY id";
    each_row(open, rows, events.clone(), salvaged, &mut |row| {
        let row = row::read_event(row)?;
        kept.events.insert(row.event.id.0, row);
        Ok(())
    });
    let mut payloads = BTreeMap::new();
    let rows = "SELECT event, sealed FROM payload WHERE event >= ?1 AND event < ?2 ORDER BY event";
    each_row(open, rows, events, salvaged, &mut |row| {
        let (event, sealed): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let place = event.cast_unsigned().to_le_bytes();
        if open.file.cipher.open(&place, &sealed).is_err() {
            return Err(RowError::Damaged {
                table: "payload",
                id: event.cast_unsigned(),
            });
        }
        payloads.insert(event, sealed);
        Ok(())
    });
    salvaged.payloads += payloads.len() as u64;
    schema::create(&path, Kind::Ledger, |file| {
        super::files::copy_begin(&open.connection, file, number)?;
        let mut insert = file.prepare("INSERT INTO payload VALUES (?1, ?2)")?;
        for (event, sealed) in &payloads {
            insert.execute(params![event, sealed])?;
        }
        write_kept(file, open, kept, salvaged)
    })
}

/// Reads the segments that can be read, and folds them.
fn read_journal(open: &OpenFile, kept: &mut Kept, salvaged: &mut Salvaged) {
    let last = open
        .connection
        .query_row("SELECT coalesce(max(seq), 0) FROM journal", [], |row| {
            row::unsigned(row, 0)
        });
    // Where even that cannot be read, the places are tried as far as deliveries could have led.
    let last = last.unwrap_or_else(|_| open.end.1.0.saturating_mul(16));
    let rows = "SELECT * FROM journal WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
    let mut segments = BTreeMap::new();
    each_row(open, rows, 0..last + 1, salvaged, &mut |row| {
        let segment = read_segment(row).map_err(|error| match error {
            JournalError::Sqlite(error) => RowError::Sqlite(error),
            JournalError::Damaged { seq, .. } => RowError::Damaged {
                table: "journal",
                id: seq.0,
            },
        })?;
        segments.insert(segment.first, segment);
        Ok(())
    });
    let mut broken = BTreeSet::new();
    let mut rows: BTreeMap<u64, Option<Delivery>> = BTreeMap::new();
    for segment in segments.into_values() {
        let items = match segment.items() {
            Ok(items) => items,
            Err(error) => {
                salvaged.lose(&open.file.name(), error);
                continue;
            }
        };
        for item in items {
            let Item::Entry(entry) = item else { continue };
            salvaged.entries += 1;
            let row = rows.entry(entry.delivery.0).or_default();
            let follows = row.as_ref().map_or(Seq(0), |row| row.last_seq) == entry.previous;
            if !follows || apply(row, &entry).is_err() {
                broken.insert(entry.delivery.0);
            }
        }
        kept.segments.push(segment);
    }
    let whole = rows.into_iter().filter(|(id, _)| !broken.contains(id));
    kept.folded = whole.filter_map(|(id, row)| Some((id, row?))).collect();
}

/// Writes what was kept of a file.
fn write_kept(
    file: &Connection,
    open: &OpenFile,
    mut kept: Kept,
    salvaged: &mut Salvaged,
) -> rusqlite::Result<()> {
    let mut chain = open.file.chain;
    for segment in &mut kept.segments {
        chain = link(&chain, segment.first, segment.last, &segment.bytes);
        segment.chain = chain;
    }
    SEGMENT_INSERT.all(file, &kept.segments, bind_segment)?;
    let events: Vec<_> = kept.events.values().collect();
    let mut packed = Vec::new();
    row::EVENT_INSERT.all(file, &events, |to, row| {
        row::bind_event(to, &mut packed, &row.event, row.key_released)
    })?;
    salvaged.events += events.len() as u64;
    let ids: BTreeSet<u64> = kept
        .rows
        .keys()
        .chain(kept.folded.keys())
        .copied()
        .collect();
    let mut heads = BTreeMap::new();
    for id in ids {
        let row = kept.rows.remove(&id);
        let folded = kept.folded.remove(&id);
        let refolded = match (&row, &folded) {
            (Some(row), Some(folded)) => row.delivery.version < folded.version,
            (row, _) => row.is_none(),
        };
        let Some(delivery) = (match refolded {
            true => folded,
            false => row.as_ref().map(|row| row.delivery.clone()),
        }) else {
            continue;
        };
        // The chain of the endpoint is closed around what is lost.
        let known = heads.insert(delivery.endpoint, delivery.id);
        let back = known.or(row.map(|row| row.back)).unwrap_or(DeliveryId(0));
        row::DELIVERY_INSERT.all(file, &[delivery], |to, row| {
            row::bind_delivery(to, &mut packed, row, back)
        })?;
        salvaged.deliveries += 1;
        salvaged.refolded += u64::from(refolded);
    }
    Ok(())
}

/// Makes `index.db` anew, with what can be read of the old one.
fn copy_index(
    snapshot: &Snapshot,
    to: &Path,
    first_file: u32,
    salvaged: &mut Salvaged,
) -> Result<(), OpenError> {
    let known = snapshot.checkpoint.clone().unwrap_or_default();
    let checkpoint = Checkpoint {
        epoch: Epoch(known.epoch.0 + EPOCHS_SKIPPED),
        lived_ms: known.lived_ms,
        seen_at: known.seen_at,
        first_file,
        ..Checkpoint::default()
    };
    let path = to.join(INDEX_FILE);
    schema::create(&path, Kind::Index, |index| checkpoint.save(index))?;
    let index = schema::open_writer(&path, Kind::Index, Synchronous::Full)?;
    keys::create(&index).map_err(|error| OpenError::damaged(&path, error))?;
    let Some(old) = &snapshot.index else {
        return Ok(());
    };
    if let Err(error) = super::lanes::copy(old, &index) {
        salvaged.lose(INDEX_FILE, error);
    }
    Ok(())
}

/// Takes a row that was read.
type Keep<'a> = &'a mut dyn FnMut(&Row<'_>) -> Result<(), RowError>;

/// Reads the rows of a range in order; where that breaks off, one by one. A row may be handed over
/// twice then.
fn each_row(
    open: &OpenFile,
    sql: &str,
    range: std::ops::Range<u64>,
    salvaged: &mut Salvaged,
    keep: Keep<'_>,
) {
    let mut from = range.start;
    while from < range.end {
        let until = range.end.min(from + ROWS_AT_ONCE);
        let damaged = salvaged.lost.len();
        if read_rows(open, sql, from, until, salvaged, keep).is_err() {
            salvaged.lost.truncate(damaged);
            for id in from..until {
                if let Err(error) = read_rows(open, sql, id, id + 1, salvaged, keep) {
                    salvaged.lose(&open.file.name(), format!("row {id}: {error}"));
                }
            }
        }
        from = until;
    }
}

fn read_rows(
    open: &OpenFile,
    sql: &str,
    from: u64,
    until: u64,
    salvaged: &mut Salvaged,
    keep: Keep<'_>,
) -> rusqlite::Result<()> {
    let mut statement = open.connection.prepare_cached(sql)?;
    let mut rows = statement.query((from.cast_signed(), until.cast_signed()))?;
    while let Some(row) = rows.next()? {
        match keep(row) {
            Err(RowError::Sqlite(error)) => return Err(error),
            Err(error) => salvaged.lose(&open.file.name(), error),
            Ok(()) => {}
        }
    }
    Ok(())
}

impl Salvaged {
    fn lose(&mut self, file: &str, what: impl ToString) {
        self.lost_count += 1;
        if self.lost.len() < FINDINGS_MAX {
            self.lost.push(Finding {
                file: file.into(),
                what: what.to_string(),
            });
        }
    }
}
