//! The ledger files that there are, and connections to read them with.
//!
//! A file holds an unbroken range of event and delivery ids, up to where the next file begins, so
//! the file of an id is found without looking into any. Files are numbered without gaps.
//!
//! Absent here: writing; see [`super::day`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use postrider_core::id::{DeliveryId, EventId, Seq};
use rusqlite::{Connection, params};

use super::OpenError;
use super::row::{Sum, unsigned};
use super::schema::{self, Kind};
use crate::store::ReadError;
use crate::vault::{Cipher, Vault};

/// Idle reading connections that are kept for one file.
const IDLE_MAX: usize = 4;
/// A question is broken off after this long: a reader that stays holds up checkpoints.
pub const READ_MS_MAX: u64 = 2_000;
/// Virtual machine steps between two looks at the clock.
const STEPS_BETWEEN_LOOKS: i32 = 20_000;

/// One ledger file, as everybody knows it.
pub struct LedgerFile {
    /// Its number, from 1.
    pub number: u32,
    /// Day of admission, days since 1970-01-01 UTC.
    pub day: i64,
    /// No event in it has a lower id.
    pub first_event: EventId,
    /// No delivery in it has a lower id.
    pub first_delivery: DeliveryId,
    /// Age of the ledger when the file was begun, ms.
    pub opened_lived: i64,
    /// Where its hash chain begins.
    pub chain: [u8; 32],
    /// Seals its payloads.
    pub cipher: Cipher,
    /// Last place of its journal that is durable.
    pub last_seq: AtomicU64,
    /// When the last of its keys is forgotten, ms.
    pub keys_until: AtomicI64,
    pool: Pool,
}

impl LedgerFile {
    /// Its name in the data directory.
    #[must_use]
    pub fn name(&self) -> String {
        file_name(self.number)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pool.path
    }

    /// Makes a ledger file, whole.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(dir: &Path, vault: &Vault, begin: Begin) -> Result<(), OpenError> {
        let path = dir.join(file_name(begin.number));
        let (_, data_key) = vault.new_data_key().map_err(OpenError::Vault)?;
        schema::create(&path, Kind::Ledger, |connection| {
            insert_begin(connection, begin, &data_key)
        })
    }

    /// Reads what a ledger file says about itself.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn load(path: &Path, connection: &Connection, vault: &Vault) -> Result<Self, OpenError> {
        let damaged = |what: &str| OpenError::Damaged {
            path: path.into(),
            what: what.into(),
        };
        let (begin, data_key, sum) =
            read_begin(connection).map_err(|_| damaged("its first row cannot be read"))?;
        if begin.sum(&data_key) != sum {
            return Err(damaged("its first row does not match its checksum"));
        }
        if path.file_name() != Some(file_name(begin.number).as_ref()) {
            return Err(damaged("it was renamed: its number is another"));
        }
        Ok(LedgerFile {
            number: begin.number,
            day: begin.day,
            first_event: begin.first_event,
            first_delivery: begin.first_delivery,
            opened_lived: begin.opened_lived,
            chain: begin.chain,
            cipher: vault.data_key(&data_key).map_err(OpenError::Vault)?,
            last_seq: AtomicU64::new(0),
            keys_until: AtomicI64::new(i64::MIN),
            pool: Pool::new(path.into(), Kind::Ledger),
        })
    }

    /// Reads with a connection of this file.
    ///
    /// # Errors
    /// Those of `read`, and [`ReadError`] if there is no connection.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.pool.read(read)
    }

    /// Closes idle connections to it.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Last place of its journal.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        Seq(self.last_seq.load(Ordering::Acquire))
    }
}

/// What is fixed when a ledger file is begun.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// Its number.
    pub number: u32,
    /// Day of admission.
    pub day: i64,
    /// First event it may hold.
    pub first_event: EventId,
    /// First delivery it may hold.
    pub first_delivery: DeliveryId,
    /// Age of the ledger, ms.
    pub opened_lived: i64,
    /// Where its hash chain begins.
    pub chain: [u8; 32],
}

impl Begin {
    fn sum(&self, data_key: &[u8]) -> i32 {
        Sum::new()
            .numbers([
                u64::from(self.number),
                self.day.cast_unsigned(),
                self.first_event.0,
                self.first_delivery.0,
                self.opened_lived.cast_unsigned(),
            ])
            .bytes(data_key)
            .bytes(&self.chain)
            .get()
    }
}

/// Copies the first row of a file into another, under a number of its own.
pub(super) fn copy_begin(from: &Connection, to: &Connection, number: u32) -> rusqlite::Result<()> {
    let (begin, data_key, _) = read_begin(from)?;
    insert_begin(to, Begin { number, ..begin }, &data_key)
}

fn read_begin(connection: &Connection) -> rusqlite::Result<(Begin, Vec<u8>, i32)> {
    connection.query_row("SELECT * FROM file", [], |row| {
        let begin = Begin {
            number: row.get(1)?,
            day: row.get(2)?,
            first_event: EventId(unsigned(row, 3)?),
            first_delivery: DeliveryId(unsigned(row, 4)?),
            opened_lived: row.get(5)?,
            chain: row.get(7)?,
        };
        Ok((begin, row.get(6)?, row.get(8)?))
    })
}

fn insert_begin(connection: &Connection, begin: Begin, data_key: &[u8]) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO file VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            begin.number,
            begin.day,
            begin.first_event.0.cast_signed(),
            begin.first_delivery.0.cast_signed(),
            begin.opened_lived,
            data_key,
            &begin.chain[..],
            begin.sum(data_key),
        ],
    )?;
    Ok(())
}

/// Name of the ledger file with this number.
#[must_use]
pub fn file_name(number: u32) -> String {
    format!("ledger-{number:06}.db")
}

/// Number of the ledger file with this name.
#[must_use]
pub fn file_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("ledger-")?.strip_suffix(".db")?;
    number
        .parse()
        .ok()
        .filter(|&number| file_name(number) == name)
}

/// The file of a delivery: the last one that does not begin after it.
#[must_use]
pub fn of_delivery(files: &[Arc<LedgerFile>], id: DeliveryId) -> Option<&Arc<LedgerFile>> {
    let after = files.partition_point(|file| file.first_delivery <= id);
    files.get(after.checked_sub(1)?)
}

/// The file of an event.
#[must_use]
pub fn of_event(files: &[Arc<LedgerFile>], id: EventId) -> Option<&Arc<LedgerFile>> {
    let after = files.partition_point(|file| file.first_event <= id);
    files.get(after.checked_sub(1)?)
}

/// Reading connections of one file.
pub struct Pool {
    path: PathBuf,
    kind: Kind,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// Connections to the file at `path`, opened when they are needed.
    #[must_use]
    pub fn new(path: PathBuf, kind: Kind) -> Pool {
        Pool {
            path,
            kind,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Reads with one connection, for a limited time.
    ///
    /// # Errors
    /// Those of `read`, and [`ReadError`] if there is no connection.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path, self.kind)
                .map_err(|error| ReadError::Unavailable(error.to_string()))?,
        };
        let deadline = Instant::now() + Duration::from_millis(READ_MS_MAX);
        connection
            .progress_handler(STEPS_BETWEEN_LOOKS, Some(move || Instant::now() > deadline))
            .map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let result = read(&connection);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        result
    }

    /// Closes all idle connections.
    pub fn close(&self) {
        self.idle.lock().clear();
    }
}
