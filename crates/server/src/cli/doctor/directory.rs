//! What can be seen without an engine: the data directory, its disk, this process's limits.
//!
//! Absent here: the engine that may be running on it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::{Check, Finding};
use crate::vault::{MASTER_KEY_FILE, Vault, VaultError};

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
pub fn checks(directory: &Path) -> Vec<Check> {
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
        master_key(directory),
        room(directory),
        flush(directory),
        files(),
    ]
}

fn master_key(directory: &Path) -> Check {
    const NAME: &str = "master key";
    let path = directory.join(MASTER_KEY_FILE);
    match Vault::open(&path) {
        Ok(_) => Check::good(NAME, "readable, and closed to others"),
        Err(error @ VaultError::Missing(_)) => Check::new(
            NAME,
            Finding::Mind,
            error.to_string(),
            "if the key lies elsewhere by configuration, all is well; if it is lost, payloads and \
             secrets cannot be read again",
        ),
        Err(error) => Check::new(
            NAME,
            Finding::Bad,
            error.to_string(),
            "restore the key's file from where you keep it, apart from backups of the data",
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

    #[test]
    fn a_fresh_directory_is_well_but_for_its_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let found = checks(directory.path());
        let key = found
            .iter()
            .find(|check| check.name == "master key")
            .expect("looked at");
        assert_eq!(key.finding, Finding::Mind);
        Vault::open_or_create(&directory.path().join(MASTER_KEY_FILE)).expect("a key");
        let found = checks(directory.path());
        let key = found
            .iter()
            .find(|check| check.name == "master key")
            .expect("looked at");
        assert_eq!(key.finding, Finding::Good, "{}", key.detail);
        let flush = found
            .iter()
            .find(|check| check.name == "disk flush")
            .expect("looked at");
        assert_ne!(flush.finding, Finding::Bad, "{}", flush.detail);
        let left = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(left, 1, "the probe is removed again");
    }

    #[test]
    fn what_is_not_there_is_not_called_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let found = checks(&directory.path().join("none"));
        assert_eq!(found[0].finding, Finding::Unseen);
        let file = directory.path().join("file");
        fs::write(&file, "").expect("a file");
        assert_eq!(checks(&file)[0].finding, Finding::Bad);
    }

    #[test]
    fn a_damaged_key_is_bad() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(MASTER_KEY_FILE), "not a key").expect("a file");
        assert_eq!(master_key(directory.path()).finding, Finding::Bad);
    }
}
