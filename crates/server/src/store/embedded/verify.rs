//! Verifying: everything in a data directory is held against everything else.
//!
//! For each ledger file: SQLite's own structure; the hash chain over the journal; every entry
//! folded again with the core's `apply` and compared with the row it must have come to; the chain
//! of each endpoint's deliveries; every event, that its deliveries are there and that its key is in
//! the key index; every payload, that it opens. For `index.db`: its rows and the key index.
//!
//! Memory is bounded: a file is folded in shares of [`DELIVERIES_AT_ONCE`] deliveries, each with a
//! pass over its journal.
//!
//! Absent here: mending. See [`super::salvage`].

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use postrider_core::id::{DeliveryId, EndpointId, EventId, Seq};
use postrider_core::ledger::{Delivery, Entry, apply};
use postrider_core::time::Time;
use rusqlite::Connection;

use super::cache::IdMap;
use super::codec::Item;
use super::journal::{JournalError, Segment, read_segment};
use super::keys::{self, Keys};
use super::row::{self, RowError, unsigned};
use super::snapshot::{Finding, OpenFile, Snapshot};
use super::{INDEX_FILE, OpenError};
use crate::vault::Vault;

/// Deliveries that are folded in one pass over a file's journal.
pub const DELIVERIES_AT_ONCE: u64 = 500_000;
/// Findings that are told; more are only counted.
pub const FINDINGS_MAX: usize = 1_000;

/// What was looked at and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Ledger files.
    pub files: u64,
    /// Entries of the journal.
    pub entries: u64,
    /// Ledger rows.
    pub deliveries: u64,
    /// Events.
    pub events: u64,
    /// Payloads that are still kept.
    pub payloads: u64,
    /// Where the hash chain of each ledger file stands, oldest first: what to keep elsewhere, so
    /// that a later change of the past is noticed.
    pub heads: Vec<(String, [u8; 32])>,
    /// What does not add up, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How much does not add up.
    pub found: u64,
}

impl Report {
    /// Everything adds up.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found == 0
    }

    fn find(&mut self, file: &str, what: impl ToString) {
        self.found += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                file: file.into(),
                what: what.to_string(),
            });
        }
    }
}

/// Verifies a data directory as of `now`: keys that have expired by then may be gone from the key
/// index. `progress` is told the name of each file when its turn comes.
///
/// # Errors
/// [`OpenError`] only if there is no data directory, or the master key is not the one.
pub fn verify(
    dir: &Path,
    vault: &Vault,
    now: Time,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, OpenError> {
    let snapshot = Snapshot::open(dir, vault)?;
    let mut report = Report::default();
    for finding in &snapshot.findings {
        report.find(&finding.file, &finding.what);
    }
    progress(INDEX_FILE);
    let keys = verify_index(&snapshot, now, &mut report);
    let mut heads = HashMap::new();
    for open in &snapshot.files {
        let name = open.file.name();
        progress(&name);
        report.files += 1;
        let mut check = FileCheck {
            open,
            name,
            report: &mut report,
            heads: &mut heads,
            released: BTreeSet::new(),
        };
        check.run(keys.as_ref());
    }
    Ok(report)
}

/// The key index, the events up to which it is complete, and when it is.
struct KnownKeys<'a> {
    index: &'a Connection,
    keys: Keys,
    known: EventId,
    now: Time,
}

/// `index.db`: its structure, its rows and the runs of keys.
fn verify_index<'a>(
    snapshot: &'a Snapshot,
    now: Time,
    report: &mut Report,
) -> Option<KnownKeys<'a>> {
    let index = snapshot.index.as_ref()?;
    structure(index, INDEX_FILE, report);
    match keys::verify(index, FINDINGS_MAX) {
        Ok(findings) => {
            for what in findings {
                report.find(INDEX_FILE, what);
            }
        }
        Err(error) => report.find(INDEX_FILE, error),
    }
    for what in super::lanes::verify(index, FINDINGS_MAX) {
        report.find(INDEX_FILE, what);
    }
    let checkpoint = snapshot.checkpoint.as_ref()?;
    let now = now.max(checkpoint.at).max(checkpoint.seen_at);
    // What is wrong with it has been told.
    let (keys, known) = Keys::open(index, keys::Bounds::default()).ok()?;
    Some(KnownKeys {
        index,
        keys,
        known,
        now,
    })
}

/// SQLite's own check of a file's pages.
fn structure(connection: &Connection, name: &str, report: &mut Report) {
    let check = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA quick_check(100)")?;
        let lines = statement.query_map([], |row| row.get(0))?;
        lines.collect()
    };
    match check() {
        Ok(lines) => {
            for line in lines.iter().filter(|line| *line != "ok") {
                report.find(name, line);
            }
        }
        Err(error) => report.find(name, error),
    }
}

/// The check of one ledger file.
struct FileCheck<'a> {
    open: &'a OpenFile,
    name: String,
    report: &'a mut Report,
    /// The newest delivery of each endpoint so far, over all files.
    heads: &'a mut HashMap<EndpointId, DeliveryId>,
    /// Events whose keys were freed, as the journal says.
    released: BTreeSet<EventId>,
}

impl FileCheck<'_> {
    fn run(&mut self, keys: Option<&KnownKeys<'_>>) {
        structure(&self.open.connection, &self.name, self.report);
        let end = self.open.end.1.0;
        let mut from = self.open.file.first_delivery.0;
        let mut first = true;
        while first || from < end {
            let until = (from + DELIVERIES_AT_ONCE).min(end);
            let folded = self.fold(from, until, first);
            self.compare(folded, from, until);
            (from, first) = (until, false);
        }
        self.events(keys);
        self.payloads();
    }

    fn find(&mut self, what: impl ToString) {
        self.report.find(&self.name, what);
    }

    /// Folds the entries of some deliveries; the first time, the journal itself is checked too.
    fn fold(&mut self, from: u64, until: u64, first: bool) -> IdMap<Delivery> {
        let mut rows: IdMap<Delivery> = IdMap::default();
        let mut before = self.open.file.chain;
        let mut last = Seq(0);
        let walked = each_stored_segment(&self.open.connection, |segment| {
            if first {
                if let Err(error) = segment.follows(&before) {
                    self.find(error);
                }
                if segment.first <= last {
                    self.find(format!("the journal at {} goes back", segment.first));
                }
            }
            (before, last) = (segment.chain, segment.last);
            match segment.items() {
                Ok(items) => self.fold_items(items, (from, until), first, &mut rows),
                Err(error) if first => self.find(error),
                Err(_) => {}
            }
        });
        if first {
            if let Err(error) = walked {
                self.find(error);
            }
            let head = (self.name.clone(), before);
            self.report.heads.push(head);
        }
        rows
    }

    fn fold_items(
        &mut self,
        items: Vec<Item>,
        (from, until): (u64, u64),
        first: bool,
        rows: &mut IdMap<Delivery>,
    ) {
        for item in items {
            let entry = match item {
                Item::Released(event) => {
                    self.released.insert(event);
                    continue;
                }
                Item::Entry(entry) => entry,
            };
            self.report.entries += u64::from(first);
            if (from..until).contains(&entry.delivery.0) {
                self.fold_entry(&entry, rows);
            } else if first && !self.owns(entry.delivery) {
                let what = format!("entry {} is of a delivery of another file", entry.seq);
                self.find(what);
            }
        }
    }

    fn owns(&self, id: DeliveryId) -> bool {
        (self.open.file.first_delivery..self.open.end.1).contains(&id)
    }

    fn fold_entry(&mut self, entry: &Entry, rows: &mut IdMap<Delivery>) {
        let mut row = rows.remove(&entry.delivery.0);
        let previous = row.as_ref().map_or(Seq(0), |row| row.last_seq);
        if entry.previous != previous {
            let what = format!(
                "entry {} of delivery {} follows {previous}, and says {}",
                entry.seq, entry.delivery, entry.previous
            );
            self.find(what);
        }
        if let Err(conflict) = apply(&mut row, entry) {
            let what = format!("entry {} does not fit: {conflict}", entry.seq);
            self.find(what);
        }
        if let Some(row) = row {
            rows.insert(entry.delivery.0, row);
        }
    }

    /// Compares rows with what their entries came to.
    fn compare(&mut self, mut folded: IdMap<Delivery>, from: u64, until: u64) {
        let connection = &self.open.connection;
        let walked = (|| -> Result<(), RowError> {
            let mut statement = connection
                .prepare("SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
            let mut rows = statement.query((from.cast_signed(), until.cast_signed()))?;
            while let Some(row) = rows.next()? {
                self.report.deliveries += 1;
                let id = unsigned(row, 0)?;
                match (row::read_delivery(row), folded.remove(&id)) {
                    (Err(RowError::Sqlite(error)), _) => return Err(error.into()),
                    (Err(error), folded) => {
                        self.find(error);
                        folded.and_then(|row| self.heads.insert(row.endpoint, row.id));
                    }
                    (Ok(row), Some(delivery)) => {
                        if row.delivery != delivery {
                            let what = format!("delivery {id} is not what its entries come to");
                            self.find(what);
                        }
                        let known = self.heads.insert(delivery.endpoint, delivery.id);
                        if known.is_some_and(|known| known != row.back) {
                            let what = format!("delivery {id} breaks the chain of its endpoint");
                            self.find(what);
                        }
                    }
                    (Ok(_), None) => self.find(format!("delivery {id} has no entries")),
                }
            }
            Ok(())
        })();
        if let Err(error) = walked {
            self.find(error);
        }
        let mut missing: Vec<u64> = folded.into_keys().collect();
        missing.sort_unstable();
        for id in missing {
            self.find(format!("delivery {id} has entries and no row"));
        }
    }

    /// Checks events against their deliveries, the journal's notes and the key index.
    fn events(&mut self, keys: Option<&KnownKeys<'_>>) {
        let connection = &self.open.connection;
        let mut next = self.open.file.first_delivery.0;
        let walked = (|| -> Result<(), RowError> {
            let mut deliveries =
                connection.prepare("SELECT * FROM delivery WHERE id >= ?1 AND id < ?2")?;
            let mut statement = connection.prepare("SELECT * FROM event ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                self.report.events += 1;
                let row = match row::read_event(row) {
                    Err(RowError::Sqlite(error)) => return Err(error.into()),
                    Err(error) => {
                        self.find(error);
                        continue;
                    }
                    Ok(row) => row,
                };
                let event = &row.event;
                let (first, end) = (
                    event.first_delivery.0,
                    event.first_delivery.0 + u64::from(event.deliveries),
                );
                let mut there = 0;
                let mut its = deliveries.query((first.cast_signed(), end.cast_signed()))?;
                while let Some(row) = its.next()? {
                    let own = row::read_delivery(row).map(|row| row.delivery.event == event.id);
                    there += u32::from(own.unwrap_or(false));
                }
                if first < next || there != event.deliveries {
                    self.find(format!("event {} does not have its deliveries", event.id));
                }
                next = end;
                if row.key_released != self.released.contains(&event.id) {
                    self.find(format!(
                        "event {}: the journal disagrees about its key",
                        event.id
                    ));
                }
                if let Some(keys) = keys
                    && event.id <= keys.known
                    && !row.key_released
                    && event.key_expires_at > keys.now
                    && !keys.hold(event.id, &event.key_digest)
                {
                    let what = format!("the key of event {} is not in the index", event.id);
                    self.report.find(INDEX_FILE, what);
                }
            }
            Ok(())
        })();
        if let Err(error) = walked {
            self.find(error);
        }
    }

    fn payloads(&mut self) {
        let open = self.open;
        let walked = (|| -> rusqlite::Result<()> {
            let mut statement = open.connection.prepare(
                "SELECT event, sealed, event IN (SELECT id FROM event) FROM payload ORDER BY event",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                self.report.payloads += 1;
                let event = unsigned(row, 0)?;
                let sealed: Vec<u8> = row.get(1)?;
                if open
                    .file
                    .cipher
                    .open(&event.to_le_bytes(), &sealed)
                    .is_err()
                {
                    self.find(format!("the payload of event {event} does not open"));
                }
                if !row.get::<_, bool>(2)? {
                    self.find(format!("the payload of event {event} has no event"));
                }
            }
            Ok(())
        })();
        if let Err(error) = walked {
            self.find(error);
        }
    }
}

impl KnownKeys<'_> {
    fn hold(&self, event: EventId, key: &postrider_core::id::KeyDigest) -> bool {
        let found = self.keys.finder().find(self.index, key, self.now);
        found.is_ok_and(|found| found.contains(&event))
    }
}

/// Hands every segment of a file to `visit`, as it is stored.
pub(super) fn each_stored_segment(
    connection: &Connection,
    mut visit: impl FnMut(&Segment),
) -> Result<(), JournalError> {
    let mut statement = connection.prepare("SELECT * FROM journal ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(&read_segment(row)?);
    }
    Ok(())
}
