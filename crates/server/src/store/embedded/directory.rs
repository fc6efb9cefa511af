//! The data directory: who has it, and the reserve.
//!
//! The lock is an advisory one on the open file `LOCK`, so it ends with the process that holds it,
//! however that ends. The file stays.
//!
//! Absent here: the databases.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;

use super::OpenError;
use super::schema::remove_if_there;

/// Name of the file that is locked.
pub const LOCK_FILE: &str = "LOCK";
/// Name of the file whose room is given up when the disk is full.
pub const RESERVE_FILE: &str = "reserve";

/// A data directory that this process has to itself.
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory, making it if it is not there.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it.
    pub fn lock(path: &Path) -> Result<Directory, OpenError> {
        fs::create_dir_all(path).map_err(|source| OpenError::io(path, source))?;
        let file = path.join(LOCK_FILE);
        let io = |source| OpenError::io(&file, source);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                return Err(OpenError::Locked {
                    dir: path.into(),
                    pid: pid.trim().into(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut sign = || {
            lock.set_len(0)?;
            lock.seek(SeekFrom::Start(0))?;
            writeln!(lock, "{}", std::process::id())
        };
        sign().map_err(io)?;
        Ok(Directory {
            path: path.into(),
            _lock: lock,
        })
    }

    /// Takes room for the reserve. Returns whether it is there.
    #[must_use]
    pub fn take_reserve(&self, bytes: u64) -> bool {
        let path = self.path.join(RESERVE_FILE);
        if fs::metadata(&path).is_ok_and(|reserve| reserve.len() >= bytes) {
            return true;
        }
        let taken = File::create(&path).map_err(|_| ()).and_then(|file| {
            let length = i64::try_from(bytes).map_err(|_| ())?;
            posix_fallocate(&file, 0, length).map_err(|_| ())
        });
        if taken.is_err() {
            let _ = remove_if_there(&path);
        }
        taken.is_ok()
    }

    /// Gives the reserve up.
    pub fn give_up_reserve(&self) {
        let _ = remove_if_there(&self.path.join(RESERVE_FILE));
    }
}
