//! `backup`: a copy of the data directory that opens by itself, made while the engine runs or not.
//!
//! The files are copied in the order in which they depend on each other: first `index.db`, which
//! may lag behind the ledger, then the ledger files, oldest first, then `control.db`, which may be
//! ahead of it. Each copy is one read transaction, so each is whole.
//!
//! Absent here: the master key. A backup that opens itself protects nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Outcome};
use super::show;

/// Name of the list of files in a backup.
pub const MANIFEST_FILE: &str = "backup.json";
/// Number of this layout.
pub const FORMAT: u32 = 1;
/// Times that a copy which met a lock is tried again.
const TRIES_MAX: usize = 50;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// Where the backup goes: a directory that is not there yet
    to: PathBuf,
    /// Data directory
    #[arg(
        long,
        env = "POSTRIDER_DATA",
        value_name = "DIRECTORY",
        default_value = super::DATA_DIRECTORY
    )]
    data: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was begun, RFC 3339.
    pub made_at: String,
    /// The release that made it.
    pub version: String,
    /// Its files, in the order in which they were copied.
    pub files: Vec<Copied>,
}

/// A file of a backup.
#[derive(Debug, Serialize, Deserialize)]
pub struct Copied {
    /// Its name in the data directory and in the backup.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its content, hexadecimal.
    pub blake3: String,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error("{0} is not a data directory: it has no index.db")]
    NoData(PathBuf),
    #[error("{name} could not be copied")]
    Copy {
        name: String,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{name} was removed while the backup was made; make it again")]
    Removed { name: String },
    #[error("{path} could not be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Copies everything and writes down what was copied.
pub fn run(args: &Args) -> Outcome {
    let manifest = make(&args.data, &args.to).map_err(|error| {
        Failure::no(format!("no backup of {} was made", args.data.display())).because(error)
    })?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    eprintln!(
        "{} files, {} MiB, in {}; the master key is not among them: keep it apart",
        manifest.files.len(),
        bytes.div_ceil(1_024 * 1_024),
        args.to.display()
    );
    if args.json {
        show::json(&serde_json::to_value(&manifest).unwrap_or_default());
    }
    Ok(())
}

fn make(data: &Path, to: &Path) -> Result<Manifest, BackupError> {
    if !data.join("index.db").is_file() {
        return Err(BackupError::NoData(data.into()));
    }
    let write = |source| BackupError::Write {
        path: to.into(),
        source,
    };
    fs::create_dir(to).map_err(write)?;
    let mut manifest = Manifest {
        format: FORMAT,
        made_at: format!("{:.3}", jiff::Timestamp::now()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files: Vec::new(),
    };
    let mut copy = |name: &str| {
        manifest.files.push(copy_file(data, to, name)?);
        Ok(())
    };
    copy("index.db")?;
    for name in ledger_files(data).map_err(write)? {
        copy(&name)?;
    }
    if data.join("control.db").is_file() {
        copy("control.db")?;
    }
    let path = to.join(MANIFEST_FILE);
    serde_json::to_vec_pretty(&manifest)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(&path, text))
        .and_then(|()| File::open(&path)?.sync_all())
        .and_then(|()| File::open(to)?.sync_all())
        .map_err(|source| BackupError::Write { path, source })?;
    Ok(manifest)
}

/// Names of the ledger files, oldest first.
fn ledger_files(data: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(data)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("ledger-") && name.ends_with(".db"))
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn copy_file(data: &Path, to: &Path, name: &str) -> Result<Copied, BackupError> {
    eprintln!("copying {name}");
    let target = to.join(name);
    copy_pages(&data.join(name), &target).map_err(|source| {
        if data.join(name).exists() {
            BackupError::Copy {
                name: name.to_owned(),
                source,
            }
        } else {
            BackupError::Removed {
                name: name.to_owned(),
            }
        }
    })?;
    digest(&target, name).map_err(|source| BackupError::Write {
        path: target,
        source,
    })
}

/// All pages as they are at one moment. Reads only: it may not be us who works off a log.
///
/// # Errors
/// SQLite's.
pub fn copy_pages(from: &Path, to: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(from, flags)?;
    let mut copy = Connection::open(to)?;
    {
        let backup = Backup::new(&from, &mut copy)?;
        let mut tries = 0;
        loop {
            match backup.step(-1)? {
                StepResult::Done => break,
                _ if tries == TRIES_MAX => {
                    return Err(rusqlite::Error::SqliteFailure(
                        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                        None,
                    ));
                }
                _ => tries += 1,
            }
        }
    }
    copy.pragma_update(None, "journal_mode", "WAL")?;
    copy.close().map_err(|(_, error)| error)
}

/// Brings a copy to the disk and says what it is.
///
/// # Errors
/// Those of the file system.
pub fn digest(path: &Path, name: &str) -> io::Result<Copied> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut file, &mut hasher)?;
    Ok(Copied {
        name: name.to_owned(),
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &Path, rows: u32) -> Connection {
        let database = Connection::open(path).expect("a database");
        database
            .pragma_update(None, "journal_mode", "WAL")
            .expect("a log");
        database
            .execute_batch("CREATE TABLE t (n)")
            .expect("a table");
        for n in 0..rows {
            database
                .execute("INSERT INTO t VALUES (?1)", [n])
                .expect("a row");
        }
        database
    }

    fn count(path: &Path) -> u32 {
        let database = Connection::open(path).expect("a database");
        database
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .expect("a count")
    }

    #[test]
    fn a_copy_holds_what_is_still_in_the_log_of_an_open_database() {
        let place = tempfile::tempdir().expect("a directory");
        let (data, to) = (place.path().join("data"), place.path().join("backup"));
        fs::create_dir(&data).expect("a directory");
        let _index = database(&data.join("index.db"), 1);
        let _control = database(&data.join("control.db"), 3);
        let _second = database(&data.join("ledger-000002.db"), 2);
        let _first = database(&data.join("ledger-000001.db"), 5);
        let manifest = make(&data, &to).expect("a backup");
        let names: Vec<&str> = manifest.files.iter().map(|file| &*file.name).collect();
        assert_eq!(
            names,
            [
                "index.db",
                "ledger-000001.db",
                "ledger-000002.db",
                "control.db"
            ]
        );
        assert_eq!(count(&to.join("ledger-000001.db")), 5);
        assert_eq!(count(&to.join("control.db")), 3);
        assert!(to.join(MANIFEST_FILE).is_file());
        assert!(
            matches!(make(&data, &to), Err(BackupError::Write { .. })),
            "never over another"
        );
    }

    #[test]
    fn what_is_no_data_directory_is_not_backed_up() {
        let place = tempfile::tempdir().expect("a directory");
        let made = make(place.path(), &place.path().join("to"));
        assert!(matches!(made, Err(BackupError::NoData(_))));
        assert!(!place.path().join("to").exists());
    }
}
