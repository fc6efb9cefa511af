//! The conformance suite over the embedded store, and what only it can do.

use std::sync::Arc;

use tempfile::TempDir;

use super::{Options, open};
use crate::store::conformance::{ALL, Halves, Subject};
use crate::vault::Vault;

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
            dir: tempfile::tempdir().unwrap(),
            options,
        }
    }
}

impl Subject for InDirectory {
    fn open(&mut self) -> Halves {
        let (ledger, reader) = open(self.dir.path(), self.options.clone()).unwrap();
        (Box::new(ledger), reader)
    }
}

#[test]
fn the_embedded_store_conforms() {
    for (name, check) in ALL {
        println!("{name}");
        check(&mut InDirectory::new());
    }
}
