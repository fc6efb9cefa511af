//! What can be seen without an engine: the data directory, its disk, this process's limits.
//!
//! Absent here: the engine that may be running on it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::{Check, Finding};
use crate::store::embedded::INDEX_FILE;
use crate::vault::{Vault, VaultError};

/// Free bytes below which the disk is called full: intake refuses soon.
const FREE_BYTES_BAD: u64 = 256 * 1_024 * 1_024;
/// Free bytes below which it wants attention.
const FREE_BYTES_MIND: u64 = 4 * 1_024 * 1_024 * 1_024;
/// How often the disk is asked to flush.
const FLUSHES: usize = 16;
/// A flush beyond this makes every acceptance slow.
const FLUSH_MS_MIND: f64 = 20.0;
/// Files that may be open: attempts under way, connections of callers, the store's own.
const FILES_MIN: u64 = 16_384;

/// All checks of a data directory.
pub fn checks(directory: &Path, key_file: &Path) -> Vec<Check> {
    let Ok(found) = fs::metadata(directory) else {
        return vec![
            Check::new(
                "data directory",
                Finding::Unseen,
                format!("there is none at {}", directory.display()),
                "name it with --data, or start the engine once: it makes one",
            ),
            files(),
        ];
    };
    if !found.is_dir() {
        return vec![Check::new(
            "data directory",
            Finding::Bad,
            format!("{} is not a directory", directory.display()),
            "name the right one with --data",
        )];
    }
    vec![
        master_key(key_file, directory),
        room(directory),
        flush(directory),
        files(),
    ]
}

fn master_key(key_file: &Path, directory: &Path) -> Check {
    const NAME: &str = "master key";
    match Vault::open(key_file) {
        Ok(_) => Check::good(NAME, "readable, and closed to others"),
        Err(error @ VaultError::Missing(_)) if !directory.join(INDEX_FILE).exists() => Check::new(
            NAME,
            Finding::Unseen,
            error.to_string(),
            "the first start makes one",
        ),
        Err(error) => Check::new(
            NAME,
            Finding::Bad,
            error.to_string(),
            "restore the key's file from where you keep it, apart from backups of the data; \
             without it, payloads and secrets cannot be read",
        ),
    }
}

fn room(directory: &Path) -> Check {
    const NAME: &str = "disk room";
    let stat = match nix::sys::statvfs::statvfs(directory) {
        Ok(stat) => stat,
        Err(error) => return Check::new(NAME, Finding::Unseen, error.to_string(), ""),
    };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let detail = format!("{} MiB free", free / 1_024 / 1_024);
    if free < FREE_BYTES_BAD {
        let advice = "make room: intake refuses while the disk is full, and goes on by itself";
        Check::new(NAME, Finding::Bad, detail, advice)
    } else if free < FREE_BYTES_MIND {
        Check::new(NAME, Finding::Mind, detail, "make room before it runs out")
    } else {
        Check::good(NAME, detail)
    }
}

/// How long the disk takes to make a small write durable.
fn flush(directory: &Path) -> Check {
    const NAME: &str = "disk flush";
    match flush_ms(directory) {
        Ok(mut times) => {
            times.sort_by(f64::total_cmp);
            let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
            let detail = format!("{median:.2} ms in the middle, {worst:.2} ms at the worst");
            if median > FLUSH_MS_MIND {
                let advice = "every acceptance waits for one flush: a faster disk helps most";
                Check::new(NAME, Finding::Mind, detail, advice)
            } else {
                Check::good(NAME, detail)
            }
        }
        Err(error) => Check::new(
            NAME,
            Finding::Bad,
            format!("a file could not be written and flushed: {error}"),
            "check the owner of the directory and the state of the disk",
        ),
    }
}

fn flush_ms(directory: &Path) -> std::io::Result<Vec<f64>> {
    let path = directory.join(format!("doctor-{}.probe", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    let times = (0..FLUSHES)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[0; 4_096])?;
            file.sync_data()?;
            Ok(begun.elapsed().as_secs_f64() * 1_000.0)
        })
        .collect();
    fs::remove_file(&path)?;
    times
}

fn files() -> Check {
    const NAME: &str = "open files";
    match rlimit::Resource::NOFILE.get() {
        Ok((_, hard)) if hard < FILES_MIN => Check::new(
            NAME,
            Finding::Mind,
            format!("{hard} at the most"),
            format!("allow {FILES_MIN} (ulimit -Hn, or LimitNOFILE= in the unit)"),
        ),
        Ok((_, hard)) => Check::good(NAME, format!("{hard} at the most")),
        Err(error) => Check::new(NAME, Finding::Unseen, error.to_string(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(directory: &Path) -> Finding {
        let found = checks(directory, &directory.join("master.key"));
        found
            .iter()
            .find(|check| check.name == "master key")
            .expect("looked at")
            .finding
    }

    #[test]
    fn a_directory_without_its_key_is_bad_and_without_anything_is_new() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(key(directory.path()), Finding::Unseen);
        fs::write(directory.path().join(INDEX_FILE), "").expect("a file");
        assert_eq!(key(directory.path()), Finding::Bad);
        Vault::open_or_create(&directory.path().join("master.key")).expect("a key");
        assert_eq!(key(directory.path()), Finding::Good);
        fs::write(directory.path().join("master.key"), "not a key").expect("a file");
        assert_eq!(key(directory.path()), Finding::Bad);
    }

    #[test]
    fn the_probe_is_removed_again() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_ne!(flush(directory.path()).finding, Finding::Bad);
        assert_eq!(
            fs::read_dir(directory.path()).expect("a directory").count(),
            0
        );
    }

    #[test]
    fn what_is_not_there_is_not_called_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let none = directory.path().join("none");
        assert_eq!(checks(&none, &none)[0].finding, Finding::Unseen);
        let file = directory.path().join("file");
        fs::write(&file, "").expect("a file");
        assert_eq!(checks(&file, &file)[0].finding, Finding::Bad);
    }
}
