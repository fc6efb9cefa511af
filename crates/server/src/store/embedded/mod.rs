//! The embedded store: SQLite used as a log.
//!
//! One writer thread appends to the ledger file of the day: the events, their sealed payloads, one
//! ledger row for each delivery and one journal segment for each commit. What is settled later is
//! an update near the end of the file of its admission, so everything about a delivery lies in one
//! file, and a record, which is about deliveries of one event, is one atomic commit. A group of
//! records that touches two files is committed to one after the other; a crash between the two
//! leaves whole records in both. Nothing of the group counts for the journal's readers before all
//! of it is durable.
//!
//! Beside the ledger files lies `index.db` with what outlives a day. It is written behind the hot
//! path, in slices, and follows the journal: all of it up to the last checkpoint, the rest is read
//! again at a restart. So a commit is one write and one sync of one file.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`schema`], [`files`], [`directory`], [`wal`] | the files, how they are made and recognised |
//! | [`row`], [`pack`], [`codec`], [`journal`], [`checkpoint`] | what is in them |
//! | [`group`], [`day`] | recording |
//! | [`tend`], [`purge`] | housekeeping: checkpoints, payloads, whole files that are old |
//! | [`recover`] | the way back after a restart |
//! | [`keys`], [`lanes`] | what outlives a day |
//! | [`reader`] | questions |
//! | [`snapshot`], [`verify`], [`salvage`] | commands that look at the directory from outside |
//!
//! Payloads lie in the ledger's file, in a table of their own, not in a file of their own: so an
//! admission is one commit and one sync instead of two. They are deleted in runs when their time
//! has come, and the pages are given back to the file system.
//!
//! Absent here: threads and clocks. The caller owns the writer's thread and tells the time.

mod absence;
pub mod bulk;
pub mod cache;
pub mod checkpoint;
pub mod codec;
pub mod day;
pub mod directory;
pub mod files;
pub mod group;
pub mod journal;
pub mod keys;
pub mod lanes;
mod pack;
pub mod purge;
pub mod reader;
pub mod recover;
pub mod row;
pub mod salvage;
pub mod schema;
pub mod snapshot;
pub mod stats;
pub mod tend;
pub mod verify;
pub mod wal;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use arc_swap::ArcSwap;
use postrider_core::id::{DeliveryId, EventId, Seq};
use postrider_core::ledger::{Delivery, Record};
use postrider_core::time::{DAY_MS, HOUR_MS, Time};
use rusqlite::Connection;

use self::cache::Recent;
use self::checkpoint::{Blocks, Checkpoint};
use self::day::Day;
use self::directory::Directory;
use self::files::{LedgerFile, Pool};

use self::keys::{Finder, Keys};
use self::lanes::Lanes;
pub use self::reader::EmbeddedReader;
pub use self::schema::Synchronous;
pub use self::stats::StoreStats;
use super::{Fatal, Ledger, Recovery, Verdict};
use crate::vault::{Vault, VaultError};

/// Name of the file that outlives the days.
pub const INDEX_FILE: &str = "index.db";

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Ledger files, from when the next one was begun.
    pub ledger_ms: i64,
    /// Payloads, from when the last delivery of their event settled.
    pub payload_keep_ms: i64,
    /// The same where a delivery is a dead letter.
    pub dead_payload_keep_ms: i64,
}

impl Retention {
    /// Whether a delivery needs its payload no longer at `now`.
    #[must_use]
    pub fn is_due(&self, delivery: &Delivery, now: Time) -> bool {
        let keep_ms = match delivery.is_dead_letter() {
            true => self.dead_payload_keep_ms,
            false => self.payload_keep_ms,
        };
        delivery
            .settled_at
            .is_some_and(|settled| settled.plus(keep_ms) <= now)
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            ledger_ms: 90 * DAY_MS,
            payload_keep_ms: 72 * HOUR_MS,
            dead_payload_keep_ms: 14 * DAY_MS,
        }
    }
}

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Holder of the master key.
    pub vault: Arc<Vault>,
    /// How long things are kept.
    pub retention: Retention,
    /// Deliveries that one ledger file takes at most, beside those of the group that fills it.
    pub file_deliveries_max: u64,
    /// Pages of a write-ahead log from which on it is worked off.
    pub wal_pages_soft: u64,
    /// Pages of a write-ahead log from which on nothing is recorded before it is worked off.
    pub wal_pages_max: u64,
    /// Unsettled rows kept in memory, in each of two generations.
    pub rows_cached_max: usize,
    /// Bytes that a ledger file may take at most: stands in for a disk that is full.
    pub file_bytes_max: Option<u64>,
    /// Bytes of the reserve that is given up when the disk is full.
    pub reserve_bytes: u64,
    /// How hard commits are pressed to the disk.
    pub synchronous: Synchronous,
    /// Sizes of the key index.
    pub keys: keys::Bounds,
}

impl Options {
    /// The defaults, under this vault.
    #[must_use]
    pub fn new(vault: Arc<Vault>) -> Options {
        Options {
            vault,
            retention: Retention::default(),
            file_deliveries_max: 4_000_000,
            wal_pages_soft: 1_000,
            wal_pages_max: 8_000,
            rows_cached_max: 65_536,
            file_bytes_max: None,
            reserve_bytes: 8 << 20,
            synchronous: Synchronous::Full,
            keys: keys::Bounds::default(),
        }
    }
}

/// Why a data directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{dir} is in use by process {pid}")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who has it, as far as it says.
        pid: String,
    },
    /// A file that must be there is not.
    #[error("{path} is missing")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// A file is not one of ours.
    #[error("{path} was not made by Postrider")]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// A file was made by another release.
    #[error("{path} has version {version}; this release knows version {known}")]
    Version {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: i32,
        /// Ours.
        known: i32,
    },
    /// A file does not add up.
    #[error("{path} is damaged: {what}; run `postrider doctor` on the data directory")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What does not add up.
        what: String,
    },
    /// SQLite could not open or read a file.
    #[error("{path} cannot be opened: {source}")]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// SQLite's own word.
        source: rusqlite::Error,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// The system's own word.
        source: io::Error,
    },
    /// The master key is not the one under which the data was sealed.
    #[error("the master key does not fit this data directory: {0}")]
    Vault(VaultError),
}

impl OpenError {
    fn io(path: &Path, source: io::Error) -> OpenError {
        OpenError::Io {
            path: path.into(),
            source,
        }
    }

    fn sqlite(path: &Path, source: rusqlite::Error) -> OpenError {
        OpenError::Sqlite {
            path: path.into(),
            source,
        }
    }

    fn damaged(path: &Path, what: impl ToString) -> OpenError {
        OpenError::Damaged {
            path: path.into(),
            what: what.to_string(),
        }
    }
}

/// What the writer and the readers share.
pub(super) struct Shared {
    /// The ledger files, oldest first.
    files: ArcSwap<Vec<Arc<LedgerFile>>>,
    /// Counters and chain heads.
    lanes: Lanes,
    /// Dedupe keys.
    finder: Finder,
    /// Connections to `index.db`.
    index: Pool,
    /// All entries up to this place are durable.
    durable: AtomicU64,
    /// Highest delivery id that is durable.
    last_delivery: AtomicU64,
    /// Highest event id that is durable.
    last_event: AtomicU64,
    retention: Retention,
    /// The latest moment of housekeeping, ms: nothing that was not due by then is deleted.
    seen_at: AtomicI64,
    stats: StoreStats,
}

/// The writing half of the embedded store.
pub struct EmbeddedLedger {
    shared: Arc<Shared>,
    options: Options,
    directory: Directory,
    index: Connection,
    index_wal: Arc<AtomicU64>,
    keys: Keys,
    /// Events up to here had their keys in the index when it was opened.
    keys_known: EventId,
    /// Files open for writing, by number. The newest one always is.
    days: BTreeMap<u32, Day>,
    rows: Recent<(Delivery, DeliveryId)>,
    heads: Recent<DeliveryId>,
    blocks: Blocks,
    checkpoint: Checkpoint,
    housekeeping: tend::Housekeeping,
    last_event: EventId,
    last_delivery: DeliveryId,
    last_seq: Seq,
    last_at: Time,
    /// Deliveries that were put into the newest file.
    file_deliveries: u64,
    /// The disk is full: only what settles is let in.
    full: bool,
    fatal: Option<String>,
}

/// Opens a data directory, making it on the first start.
///
/// Every file is brought to the disk and the end of every journal is checked. Nothing may be
/// recorded, and no look-up is complete, before [`Ledger::recover`].
///
/// # Errors
/// [`OpenError`].
pub fn open(
    dir: &Path,
    options: Options,
) -> Result<(EmbeddedLedger, Arc<EmbeddedReader>), OpenError> {
    let directory = Directory::lock(dir)?;
    let ledger = EmbeddedLedger::open(directory, options)?;
    let reader = Arc::new(EmbeddedReader::new(Arc::clone(&ledger.shared)));
    Ok((ledger, reader))
}

impl EmbeddedLedger {
    /// Figures for the metrics, live.
    #[must_use]
    pub fn stats(&self) -> &StoreStats {
        &self.shared.stats
    }

    /// Runs `step`, unless an earlier one went wrong for good; keeps what goes wrong for good.
    fn alive<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fatal>) -> Result<T, Fatal> {
        if let Some(reason) = &self.fatal {
            return Err(Fatal {
                reason: reason.clone(),
            });
        }
        let result = step(self);
        if let Err(fatal) = &result {
            self.fatal = Some(fatal.reason.clone());
        }
        result
    }
}

impl Ledger for EmbeddedLedger {
    fn record(&mut self, records: &[Record]) -> Result<Vec<Verdict>, Fatal> {
        self.alive(|ledger| ledger.record_group(records))
    }

    fn tend(&mut self, now: Time) -> Result<bool, Fatal> {
        self.alive(|ledger| ledger.tend_slice(now))
    }

    fn recover(&mut self, visit: &mut dyn FnMut(Delivery)) -> Result<Recovery, Fatal> {
        self.alive(|ledger| ledger.recover_window(visit))
    }
}

/// Anything that leaves the writer in the dark is fatal, with its reason in words.
fn fatal(error: impl ToString) -> Fatal {
    Fatal {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
