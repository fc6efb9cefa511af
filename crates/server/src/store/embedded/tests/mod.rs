//! The conformance suite over the embedded store, and what only it can do.

mod damage;
mod limits;

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::directory::RESERVE_FILE;
use super::{Options, open};
use crate::store::conformance::{ALL, Halves, Subject, compare};
use crate::vault::Vault;

/// Random runs that are compared with the model, where `POSTRIDER_COMPARED` names no other number.
const COMPARED: u32 = 240;

/// A store in a directory of its own.
pub(super) struct InDirectory {
    pub dir: TempDir,
    pub options: Options,
}

impl InDirectory {
    pub fn new() -> InDirectory {
        let vault = Arc::new(Vault::of(&[7; 32]));
        let options = Options {
            reserve_bytes: 1 << 20,
            ..Options::new(vault)
        };
        InDirectory {
            dir: directory(),
            options,
        }
    }
}

/// Thousands of commits: in memory, where there is a file system for it.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    dir.unwrap()
}

impl Subject for InDirectory {
    fn open(&mut self) -> Halves {
        let (ledger, reader) = open(self.dir.path(), self.options.clone()).unwrap();
        (Box::new(ledger), reader)
    }

    /// A kill leaves every file as the system has it at that moment, and nobody closes anything.
    fn kill(&mut self) {
        let left = directory();
        for file in self.dir.path().read_dir().unwrap() {
            let file = file.unwrap();
            if file.file_name() != RESERVE_FILE {
                std::fs::copy(file.path(), left.path().join(file.file_name())).unwrap();
            }
        }
        self.dir = left;
    }
}

#[test]
fn the_embedded_store_conforms() {
    for (name, check) in ALL {
        println!("{name}");
        check(&mut InDirectory::new());
    }
}

#[test]
fn the_embedded_store_does_what_the_model_does() {
    let cases = std::env::var("POSTRIDER_COMPARED").ok();
    let cases = cases.and_then(|cases| cases.parse().ok());
    compare(cases.unwrap_or(COMPARED), || {
        let mut store = InDirectory::new();
        // Small enough for every bound to be met.
        store.options.file_deliveries_max = 40;
        store.options.rows_cached_max = 8;
        store.options.retention = super::Retention {
            ledger_ms: i64::MAX / 4,
            payload_keep_ms: i64::MAX / 4,
            dead_payload_keep_ms: i64::MAX / 4,
        };
        store
    });
}
