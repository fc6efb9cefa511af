//! The files of a data directory: what is in them, how they are made and recognised.
//!
//! | file | what it holds | application id | version |
//! | --- | --- | --- | --- |
//! | `LOCK` | the process id of who holds the directory | | |
//! | `index.db` | what outlives a day: checkpoint, lanes, chain heads, keys | `PRIX` | 1 |
//! | `ledger-NNNNNN.db` | what was admitted on one day, and what became of it | `PRLG` | 1 |
//! | `reserve` | room that is given up when the disk is full | | |
//!
//! A file is made under a temporary name, brought to the disk, and renamed: under its own name it
//! is always whole. All use a write-ahead log; in every commit the log is synced before the commit
//! counts (`synchronous=FULL`), and only the writer's connection writes or checkpoints.
//!
//! Absent here: what the rows mean; see [`super::row`].

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{OpenError, wal};

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4_096;
/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 64;
/// Page cache of a writing connection, KiB.
const WRITER_CACHE_KIB: u32 = 16_384;
/// Page cache of a reading connection, KiB.
const READER_CACHE_KIB: u32 = 1_024;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `index.db`.
    Index,
    /// `ledger-NNNNNN.db`.
    Ledger,
}

/// How hard a commit is pressed to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Every commit is synced before it counts.
    #[default]
    Full,
    /// Commits are not synced: what was recorded is lost with the power. Only there so that a
    /// power-loss harness can show that it notices.
    Normal,
}

impl Kind {
    fn application_id(self) -> i32 {
        i32::from_be_bytes(match self {
            Kind::Index => *b"PRIX",
            Kind::Ledger => *b"PRLG",
        })
    }

    /// Raised whenever the tables, or what is packed into their rows, change. 1: events without
    /// what they try again.
    fn version(self) -> i32 {
        2
    }

    fn tables(self) -> &'static str {
        match self {
            Kind::Index => INDEX_TABLES,
            Kind::Ledger => LEDGER_TABLES,
        }
    }
}

/// `sum` is always a checksum over the rest of the row, and `row` begins with one; see
/// [`super::row`].
const LEDGER_TABLES: &str = "
CREATE TABLE file (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    number         INTEGER NOT NULL,
    day            INTEGER NOT NULL,  -- of admission, days since 1970-01-01 UTC
    first_event    INTEGER NOT NULL,
    first_delivery INTEGER NOT NULL,
    opened_lived   INTEGER NOT NULL,  -- age of the ledger when this file was begun, ms
    data_key       BLOB NOT NULL,     -- under which payloads are sealed; wrapped by the master key
    chain          BLOB NOT NULL,     -- where the hash chain of this file's journal begins
    sum            INTEGER NOT NULL
) STRICT;
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,      -- of the first entry
    last    INTEGER NOT NULL,         -- of the last entry
    chain   BLOB NOT NULL,            -- BLAKE3 over the chain before it, seq, last and entries
    sum     INTEGER NOT NULL,
    entries BLOB NOT NULL             -- see codec.rs
) STRICT;
CREATE TABLE event (
    id  INTEGER PRIMARY KEY,
    row BLOB NOT NULL                 -- see row.rs
) STRICT;
CREATE TABLE payload (
    event  INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE delivery (
    id  INTEGER PRIMARY KEY,
    row BLOB NOT NULL                 -- see row.rs
) STRICT;
";

const INDEX_TABLES: &str = "
CREATE TABLE checkpoint (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    state BLOB NOT NULL,
    sum   INTEGER NOT NULL
) STRICT;
CREATE TABLE lane (
    endpoint      INTEGER NOT NULL,
    key           INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    last_accepted INTEGER NOT NULL,
    sum           INTEGER NOT NULL,
    PRIMARY KEY (endpoint, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE head (
    endpoint INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL,
    sum      INTEGER NOT NULL
) STRICT;
CREATE TABLE retired (
    endpoint INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    sum      INTEGER NOT NULL
) STRICT;
";

/// Makes a file with its tables, filled by `fill`, whole or not at all.
///
/// # Errors
/// [`OpenError`]; whatever was made is left under a temporary name and is overwritten next time.
pub fn create(
    path: &Path,
    kind: Kind,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), OpenError> {
    let temporary = path.with_extension("new");
    let wrap = |source| OpenError::Sqlite {
        path: path.into(),
        source,
    };
    remove_if_there(&temporary).map_err(|source| OpenError::io(path, source))?;
    let build = || -> rusqlite::Result<()> {
        let connection = Connection::open(&temporary)?;
        // Nothing of it counts before it is synced as a whole, below.
        connection.execute_batch(&format!(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;
             PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = {};
             PRAGMA application_id = {}; PRAGMA user_version = {};",
            // Where rows are deleted in bulk, the pages are to be given back.
            if kind == Kind::Ledger { 2 } else { 0 },
            kind.application_id(),
            kind.version()
        ))?;
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(kind.tables())?;
        fill(&transaction)?;
        transaction.commit()?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.close().map_err(|(_, error)| error)
    };
    build().map_err(wrap)?;
    let finish = || -> io::Result<()> {
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(directory_of(path))
    };
    finish().map_err(|source| OpenError::io(path, source))
}

/// Brings the names in a directory to the disk.
///
/// # Errors
/// Those of the file system.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file that need not be there.
///
/// # Errors
/// Those of the file system.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file for its one writer, after bringing whatever its write-ahead log holds to the disk.
///
/// # Errors
/// [`OpenError`] if it is missing, foreign, newer or damaged.
pub fn open_writer(
    path: &Path,
    kind: Kind,
    synchronous: Synchronous,
) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if kind == Kind::Ledger {
        // Before SQLite looks at it: it would drop the damaged part. The log of the index is not
        // synced at every commit, so nothing can be told from it, and what it loses is made again.
        check_log(path)?;
    }
    let connection = open(path, kind, flags, WRITER_CACHE_KIB)?;
    let read_only = connection
        .is_readonly("main")
        .map_err(|source| OpenError::sqlite(path, source))?;
    if read_only {
        // By its permissions, or because its header asks for a newer SQLite.
        return Err(OpenError::damaged(path, "it cannot be written to"));
    }
    // The system may hold in its cache what an earlier sync failed to write: after this the main
    // file has been written again and synced, and the log is empty.
    press(&connection).map_err(|source| OpenError::sqlite(path, source))?;
    set_synchronous(&connection, synchronous).map_err(|source| OpenError::sqlite(path, source))?;
    // SQLite has made the log and synced its name, but takes no notice when that goes wrong.
    sync_directory(directory_of(path)).map_err(|source| OpenError::io(path, source))?;
    Ok(connection)
}

/// Opens a file for its one writer that this process has had open before: what is in its log is
/// known to be good, and readers may be at work.
///
/// # Errors
/// [`OpenError`].
pub fn open_writer_again(
    path: &Path,
    kind: Kind,
    synchronous: Synchronous,
) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, kind, flags, WRITER_CACHE_KIB)?;
    set_synchronous(&connection, synchronous).map_err(|source| OpenError::sqlite(path, source))?;
    sync_directory(directory_of(path)).map_err(|source| OpenError::io(path, source))?;
    Ok(connection)
}

/// Brings all of a log into the main file and syncs it.
fn press(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    let (busy, log, copied): (i64, i64, i64) =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    // Another process that reads keeps the log from being emptied, not from being copied.
    if busy != 0 && log != copied {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("another process is reading the file".into()),
        ));
    }
    Ok(())
}

fn set_synchronous(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.execute_batch(match synchronous {
        Synchronous::Full => "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0",
        Synchronous::Normal => "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0",
    })
}

/// Looks for damage in the write-ahead log of the ledger file at `path`.
///
/// # Errors
/// [`OpenError::Damaged`].
pub(super) fn check_log(path: &Path) -> Result<(), OpenError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = Path::new(&log);
    match wal::damage(log).map_err(|source| OpenError::io(log, source))? {
        Some(what) => Err(OpenError::damaged(log, what)),
        None => Ok(()),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Opens a file for reading.
///
/// # Errors
/// [`OpenError`] if it is missing, foreign, newer or damaged.
pub fn open_reader(path: &Path, kind: Kind) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, kind, flags, READER_CACHE_KIB)
}

fn open(
    path: &Path,
    kind: Kind,
    flags: OpenFlags,
    cache_kib: u32,
) -> Result<Connection, OpenError> {
    let wrap = |source| OpenError::Sqlite {
        path: path.into(),
        source,
    };
    if !path.exists() {
        return Err(OpenError::Missing { path: path.into() });
    }
    let connection = Connection::open_with_flags(path, flags).map_err(wrap)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application_id = number("application_id").map_err(wrap)?;
    let version = number("user_version").map_err(wrap)?;
    if application_id != kind.application_id() {
        return Err(OpenError::Foreign { path: path.into() });
    }
    if version != kind.version() {
        return Err(OpenError::Version {
            path: path.into(),
            version,
            known: kind.version(),
        });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA cache_size = -{cache_kib}; PRAGMA temp_store = MEMORY;
             PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;"
        ))
        .map_err(wrap)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}
