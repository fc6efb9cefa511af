//! The writer's side of one ledger file: looking rows up and committing a batch.
//!
//! Absent here: what belongs into a batch; see [`super::group`].

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use postrider_core::event::Event;
use postrider_core::id::{DeliveryId, EndpointId, EventId, Seq};
use postrider_core::ledger::{Delivery, Entry, Record};
use postrider_core::time::Time;
use rusqlite::{Connection, OptionalExtension};

use super::OpenError;
use super::bulk::Insert;
use super::cache::IdMap;
use super::codec::Encoder;
use super::files::LedgerFile;
use super::journal::{SEGMENT_INSERT, Segment, bind_segment, link};
use super::lanes::LaneKey;
use super::row::{self, DeliveryRow, EventRow, RowError};
use super::schema::{self, Kind, Synchronous};
use crate::vault::Vault;

/// A commit's entries are cut into segments of about this size. Who asks for the history of a
/// delivery reads and hashes one segment for each of its commits, so a segment is one chunk of
/// BLAKE3; that costs the journal a fourteenth more bytes.
pub const SEGMENT_BYTES_MAX: usize = 840;

/// Inserts payloads.
static PAYLOAD_INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::into("payload", 2));

/// A ledger file and its one writing connection.
pub struct Day {
    /// What everybody knows of it.
    pub file: Arc<LedgerFile>,
    /// The only connection that writes or checkpoints it.
    pub connection: Connection,
    /// Pages in its write-ahead log after the last commit.
    pub wal_pages: Arc<AtomicU64>,
    /// Where the hash chain stands.
    pub chain: [u8; 32],
    sealed: Vec<u8>,
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no room. Nothing of it was written.
    #[error("there is no room")]
    Full,
    /// It cannot be known what was written.
    #[error("{0}")]
    Unknown(String),
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> CommitError {
        match is_full(&error) {
            true => CommitError::Full,
            false => CommitError::Unknown(error.to_string()),
        }
    }
}

/// The disk, or the space allowed, is used up. Anything else that goes wrong is of another kind.
#[must_use]
pub fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// What one commit does to one file.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records in it, by their place in the group.
    pub records: Vec<usize>,
    /// Rows as they will be.
    pub rows: IdMap<Planned>,
    /// Their ids, in the order in which they were first touched.
    pub order: Vec<u64>,
    /// Keys to free.
    pub releases: Vec<Event>,
    /// The lanes that a hand-over advances.
    pub accepted: Vec<(LaneKey, u64)>,
    /// The endpoints that a receiver has called gone.
    pub gone: Vec<(EndpointId, Time)>,
    /// Moment of the newest entry.
    pub at: Time,
    encoder: Encoder,
    segments: Vec<(Seq, Seq, Vec<u8>)>,
}

/// A row in a batch.
#[derive(Clone, Debug)]
pub struct Planned {
    /// As it will be; `None` only while its first entry is being looked at.
    pub row: Option<Delivery>,
    /// The delivery before it at the same endpoint.
    pub back: DeliveryId,
    /// The version on disk and whether it is settled there, `None` if it is not there.
    pub stored: Option<(u32, bool)>,
}

impl Batch {
    /// One with room for so many records.
    #[must_use]
    pub fn for_records(count: usize) -> Batch {
        let mut batch = Batch::default();
        batch.records.reserve(count);
        batch.rows.reserve(count);
        batch.order.reserve(count);
        batch
    }

    /// Adds an entry to the journal's part.
    pub fn journal(&mut self, entry: &Entry) {
        self.encoder.entry(entry);
        self.at = self.at.max(entry.at);
    }

    /// Adds the note that a key was freed, and cuts the segment where it has grown too long.
    pub fn end_record(&mut self, release: Option<Event>) {
        if let Some(event) = release {
            self.encoder.released(event.id);
            self.releases.push(event);
        }
        if self.encoder.bytes().len() >= SEGMENT_BYTES_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.encoder.is_empty() {
            let (first, last) = self.encoder.span();
            self.segments
                .push((first, last, self.encoder.bytes().to_vec()));
            self.encoder.clear();
        }
    }
}

impl Day {
    /// Opens a ledger file for its one writer, and checks the end of its journal.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, vault: &Vault, synchronous: Synchronous) -> Result<Day, OpenError> {
        let connection = schema::open_writer(path, Kind::Ledger, synchronous)?;
        let file = LedgerFile::load(path, &connection, vault)?;
        Day::with(Arc::new(file), connection)
    }

    /// Opens a file for writing that was opened before.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn reopen(file: Arc<LedgerFile>, synchronous: Synchronous) -> Result<Day, OpenError> {
        let connection = schema::open_writer_again(file.path(), Kind::Ledger, synchronous)?;
        Day::with(file, connection)
    }

    fn with(file: Arc<LedgerFile>, mut connection: Connection) -> Result<Day, OpenError> {
        let (chain, last) =
            super::journal::tail(&connection, &file).map_err(|what| OpenError::Damaged {
                path: file.path().into(),
                what,
            })?;
        let wal_pages = watch_log(&mut connection).map_err(|source| OpenError::Sqlite {
            path: file.path().into(),
            source,
        })?;
        file.last_seq.store(last.0, Ordering::Release);
        Ok(Day {
            file,
            connection,
            wal_pages,
            chain,
            sealed: Vec::new(),
        })
    }

    /// A delivery's row.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRow>, RowError> {
        find_delivery(&self.connection, id)
    }

    /// An event's row.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn event(&self, id: EventId) -> Result<Option<EventRow>, RowError> {
        find_event(&self.connection, id)
    }

    /// Commits a batch, or leaves the file as it was. Returns how long the last statement took,
    /// in which the sync is.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(
        &mut self,
        batch: &mut Batch,
        records: &[Record],
    ) -> Result<Duration, CommitError> {
        batch.cut();
        let written = self.write(batch, records).inspect_err(|_| {
            // After a full disk SQLite may have rolled back by itself.
            if !self.connection.is_autocommit() {
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        });
        let (chain, sync) = match written {
            Err(CommitError::Full) if !self.connection.is_autocommit() => {
                return Err(CommitError::Unknown("a full commit stayed open".into()));
            }
            other => other?,
        };
        self.chain = chain;
        if let Some(&(_, last, _)) = batch.segments.last() {
            self.file.last_seq.store(last.0, Ordering::Release);
        }
        Ok(sync)
    }

    fn write(
        &mut self,
        batch: &Batch,
        records: &[Record],
    ) -> Result<([u8; 32], Duration), CommitError> {
        let connection = &self.connection;
        connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .raw_execute()?;
        let admitted: Vec<&Event> = batch
            .records
            .iter()
            .filter_map(|&at| records[at].event.as_deref())
            .collect();
        let mut packed = Vec::new();
        row::EVENT_INSERT.all(connection, &admitted, |to, event| {
            row::bind_event(to, &mut packed, event, false)
        })?;
        let (cipher, sealed) = (&self.file.cipher, &mut self.sealed);
        PAYLOAD_INSERT.all(connection, &admitted, |to, event| {
            cipher.seal_into(&event.id.0.to_le_bytes(), &event.payload, sealed);
            to.put(event.id.0.cast_signed())?;
            to.put(&*sealed)
        })?;
        write_rows(connection, batch)?;
        if !batch.releases.is_empty() {
            let mut release = connection.prepare_cached(row::EVENT_UPDATE)?;
            for event in &batch.releases {
                row::release_event(&mut release, event)?;
            }
        }
        let mut chain = self.chain;
        let segments: Vec<Segment> = batch
            .segments
            .iter()
            .map(|(first, last, bytes)| {
                chain = link(&chain, *first, *last, bytes);
                Segment {
                    first: *first,
                    last: *last,
                    chain,
                    bytes: bytes.clone(),
                }
            })
            .collect();
        SEGMENT_INSERT.all(connection, &segments, bind_segment)?;
        let last = Instant::now();
        connection.prepare_cached("COMMIT")?.raw_execute()?;
        Ok((chain, last.elapsed()))
    }
}

/// New rows are appended in the order of their ids; moved ones lie near the end too.
fn write_rows(connection: &Connection, batch: &Batch) -> Result<(), CommitError> {
    let planned = || batch.order.iter().filter_map(|id| batch.rows.get(id));
    let new: Vec<(&Delivery, DeliveryId)> = planned()
        .filter(|planned| planned.stored.is_none())
        .filter_map(|planned| Some((planned.row.as_ref()?, planned.back)))
        .collect();
    let mut packed = Vec::new();
    row::DELIVERY_INSERT.all(connection, &new, |to, (delivery, back)| {
        row::bind_delivery(to, &mut packed, delivery, *back)
    })?;
    let mut mover = row::Mover::new(connection);
    for planned in planned() {
        // An entry that did not fit left its row as it was.
        if let (Some((version, _)), Some(delivery)) = (planned.stored, &planned.row)
            && version != delivery.version
            && !mover.advance(version, delivery, planned.back)?
        {
            return Err(CommitError::Unknown(format!(
                "delivery {} is not at version {version} on disk",
                delivery.id
            )));
        }
    }
    Ok(())
}

/// Keeps count of the pages in a connection's write-ahead log.
///
/// # Errors
/// SQLite's.
pub fn watch_log(connection: &mut Connection) -> rusqlite::Result<Arc<AtomicU64>> {
    let pages = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&pages);
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count| {
        counter.store(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(pages)
}

/// A delivery's row, on any connection.
///
/// # Errors
/// [`RowError`].
pub fn find_delivery(
    connection: &Connection,
    id: DeliveryId,
) -> Result<Option<DeliveryRow>, RowError> {
    let mut statement = connection.prepare_cached(row::DELIVERY_BY_ID)?;
    let mut rows = statement.query([id.0.cast_signed()])?;
    rows.next()?.map(row::read_delivery).transpose()
}

/// An event's row, on any connection.
///
/// # Errors
/// [`RowError`].
pub fn find_event(connection: &Connection, id: EventId) -> Result<Option<EventRow>, RowError> {
    let mut statement = connection.prepare_cached(row::EVENT_BY_ID)?;
    let mut rows = statement.query([id.0.cast_signed()])?;
    rows.next()?.map(row::read_event).transpose()
}

/// An event's sealed payload, on any connection.
///
/// # Errors
/// SQLite's.
pub fn find_payload(connection: &Connection, id: EventId) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT sealed FROM payload WHERE event = ?1")?;
    statement
        .query_row([id.0.cast_signed()], |row| row.get(0))
        .optional()
}
