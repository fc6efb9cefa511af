//! A data directory as it lies there, for commands that look at it from outside.
//!
//! Every ledger file is opened for reading in one transaction, so that each is seen at one moment;
//! a running engine goes on meanwhile, but cannot work off its logs for as long as this lasts. What
//! cannot be opened is a finding, not an error: these commands are for bad days.
//!
//! Absent here: any change to the directory.

use std::path::{Path, PathBuf};

use postrider_core::id::{DeliveryId, EventId, Seq};
use postrider_core::ledger::Entry;
use rusqlite::Connection;

use super::checkpoint::Checkpoint;
use super::files::{LedgerFile, file_name};
use super::journal::{JournalError, entries_after};
use super::recover::ledger_files;
use super::row::unsigned;
use super::schema::{self, Kind};
use super::{INDEX_FILE, OpenError};
use crate::vault::Vault;

/// Entries that are read from a file at once.
const ENTRIES_AT_ONCE: usize = 1_000;

/// Something that does not add up, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the file in the data directory.
    pub file: String,
    /// What does not add up, with the place in the file.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// See the module.
pub struct Snapshot {
    /// The directory.
    pub dir: PathBuf,
    /// `index.db`, where it can be read.
    pub index: Option<Connection>,
    /// The checkpoint in it, where it can be read.
    pub checkpoint: Option<Checkpoint>,
    /// The ledger files that can be read, oldest first.
    pub files: Vec<OpenFile>,
    /// What cannot.
    pub findings: Vec<Finding>,
}

/// A ledger file in a read transaction.
pub struct OpenFile {
    /// What it says of itself.
    pub file: LedgerFile,
    /// The transaction.
    pub connection: Connection,
    /// The first event and the first delivery that belong to the file after it.
    pub end: (EventId, DeliveryId),
}

impl Snapshot {
    /// Opens whatever can be opened.
    ///
    /// # Errors
    /// [`OpenError`] only if there is no data directory, or the master key is not the one.
    pub fn open(dir: &Path, vault: &Vault) -> Result<Snapshot, OpenError> {
        let mut numbers: Vec<u32> = ledger_files(dir)?.collect();
        numbers.sort_unstable();
        let index = dir.join(INDEX_FILE);
        if numbers.is_empty() && !index.exists() {
            return Err(OpenError::Missing { path: index });
        }
        let mut snapshot = Snapshot {
            dir: dir.into(),
            index: None,
            checkpoint: None,
            files: Vec::new(),
            findings: Vec::new(),
        };
        snapshot.open_index(&index);
        let first = snapshot.checkpoint.as_ref().map(|known| known.first_file);
        let mut expected = first.or(numbers.first().copied()).unwrap_or(1);
        for number in numbers {
            // What lies before was purged, and is about to be removed.
            if number < expected {
                continue;
            }
            for missing in expected..number {
                snapshot.find(&file_name(missing), "it is missing");
            }
            expected = number + 1;
            snapshot.open_file(number, vault)?;
        }
        let known = snapshot.checkpoint.as_ref();
        let known = known.map_or((0, 0), |known| (known.event.0, known.delivery.0));
        let mut end = (EventId(u64::MAX), DeliveryId(u64::MAX));
        let mut newest = true;
        for open in snapshot.files.iter_mut().rev() {
            if newest {
                let last = |table| {
                    let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
                    open.connection.query_row(&sql, [], |row| unsigned(row, 0))
                };
                let event = last("event").unwrap_or(0).max(known.0);
                let delivery = last("delivery").unwrap_or(0).max(known.1);
                end = (EventId(event + 1), DeliveryId(delivery + 1));
                newest = false;
            }
            open.end = end;
            end = (open.file.first_event, open.file.first_delivery);
        }
        Ok(snapshot)
    }

    fn open_index(&mut self, path: &Path) {
        match schema::open_reader(path, Kind::Index) {
            Ok(index) => {
                match Checkpoint::load(&index) {
                    Ok(checkpoint) => self.checkpoint = Some(checkpoint),
                    Err(error) => self.find(INDEX_FILE, &error.to_string()),
                }
                self.index = Some(index);
            }
            Err(error) => self.find(INDEX_FILE, &error.to_string()),
        }
    }

    fn open_file(&mut self, number: u32, vault: &Vault) -> Result<(), OpenError> {
        let path = self.dir.join(file_name(number));
        let opened = schema::open_reader(&path, Kind::Ledger).and_then(|connection| {
            let begin = connection.execute_batch("BEGIN");
            begin.map_err(|source| OpenError::sqlite(&path, source))?;
            let file = LedgerFile::load(&path, &connection, vault)?;
            // A running engine may have been in the middle of a commit when it was looked at first.
            schema::check_log(&path).or_else(|_| schema::check_log(&path))?;
            Ok(OpenFile {
                file,
                connection,
                end: (EventId(0), DeliveryId(0)),
            })
        });
        match opened {
            Ok(open) => self.files.push(open),
            Err(error @ OpenError::Vault(_)) => return Err(error),
            Err(error) => self.find(&file_name(number), &error.to_string()),
        }
        Ok(())
    }

    fn find(&mut self, file: &str, what: &str) {
        self.findings.push(Finding {
            file: file.into(),
            what: what.into(),
        });
    }

    /// Hands every entry of the journal to `visit`, in order over all files. What cannot be read is
    /// a finding; the entries behind it in the same file are left out.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn entries<E>(&mut self, mut visit: impl FnMut(&Entry) -> Result<(), E>) -> Result<(), E> {
        let mut cursors: Vec<Cursor> = Vec::new();
        for nth in 0..self.files.len() {
            let mut cursor = Cursor {
                nth,
                after: Seq(0),
                entries: Vec::new(),
            };
            cursor.fill(&self.files, &mut self.findings);
            cursors.push(cursor);
        }
        loop {
            let next = cursors
                .iter_mut()
                .filter(|cursor| !cursor.entries.is_empty())
                .min_by_key(|cursor| cursor.entries.last().map(|entry| entry.seq));
            let Some(cursor) = next else {
                return Ok(());
            };
            if let Some(entry) = cursor.entries.pop() {
                visit(&entry)?;
            }
            if cursor.entries.is_empty() {
                cursor.fill(&self.files, &mut self.findings);
            }
        }
    }
}

/// A place in one file's journal.
struct Cursor {
    nth: usize,
    after: Seq,
    /// Entries that were read ahead, the next one last.
    entries: Vec<Entry>,
}

impl Cursor {
    fn fill(&mut self, files: &[OpenFile], findings: &mut Vec<Finding>) {
        let open = &files[self.nth];
        let read: Result<Vec<Entry>, JournalError> = entries_after(
            &open.connection,
            &open.file,
            self.after,
            Seq(i64::MAX as u64),
            ENTRIES_AT_ONCE,
        );
        match read {
            Ok(mut entries) => {
                self.after = entries.last().map_or(self.after, |entry| entry.seq);
                entries.reverse();
                self.entries = entries;
            }
            Err(error) => findings.push(Finding {
                file: open.file.name(),
                what: error.to_string(),
            }),
        }
    }
}
