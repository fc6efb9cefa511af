//! The faults, and the hook that brings them into the real binary; see `hook.c` beside this file.
//!
//! Absent here: what is asked of the binary meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing; it is written down.
    None,
    /// The process is killed in its place.
    Kill,
    /// It reports a broken device.
    Eio,
    /// It reports that there is no room.
    Enospc,
}

/// Which calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All.
    Any,
    /// Those that write bytes.
    Write,
    /// `fsync` and `fdatasync`.
    Sync,
}

/// One fault: the `first` to the `last` of the calls that are counted.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub what: What,
    pub kind: Kind,
    pub first: usize,
    pub last: usize,
    /// Only calls on files whose path ends so.
    pub names: &'static str,
}

impl Fault {
    /// This, at the n-th call of a kind.
    pub fn at(what: What, kind: Kind, n: usize) -> Fault {
        Fault {
            what,
            kind,
            first: n,
            last: n,
            names: "",
        }
    }

    /// No fault: every call is written down.
    pub fn none() -> Fault {
        Fault {
            last: usize::MAX / 2,
            ..Fault::at(What::None, Kind::Any, 1)
        }
    }

    fn spelled(&self) -> String {
        let what = format!("{:?}", self.what).to_lowercase();
        let kind = format!("{:?}", self.kind).to_lowercase();
        format!("{what}:{kind}:{}-{}", self.first, self.last)
    }

    /// What the process has to find in its environment.
    pub fn environment(&self, data: &Path, log: &Path) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD", path(&library())),
            ("POSTRIDER_FAULT", self.spelled()),
            ("POSTRIDER_FAULT_DIR", path(data)),
            ("POSTRIDER_FAULT_NAMES", self.names.to_owned()),
            ("POSTRIDER_FAULT_LOG", path(log)),
        ]
    }
}

/// A call that was hit.
#[derive(Clone, Debug)]
pub struct Hit {
    pub call: String,
    /// Path below the data directory; empty for the directory itself.
    pub path: String,
}

/// The calls that were hit, as the hook wrote them down.
pub fn hits(log: &Path) -> Vec<Hit> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let hit = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (_number, call, path) = (words.next()?, words.next()?, words.next()?);
        Some(Hit {
            call: call.to_owned(),
            path: path.to_owned(),
        })
    };
    text.lines().filter_map(hit).collect()
}

/// How many hits there were of each call, in words.
pub fn by_call<'a>(hits: impl IntoIterator<Item = &'a Hit>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for hit in hits {
        *counts.entry(&hit.call).or_default() += 1;
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(call, count)| format!("{call} {count}"))
        .collect();
    words.join(", ")
}

/// The hook as a library, built if this source has not been built yet.
fn library() -> PathBuf {
    const SOURCE: &str = include_str!("hook.c");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("kill-points-{:08x}", crc32c::crc32c(SOURCE.as_bytes()));
    let library = home.join(format!("{name}.so"));
    // Each test may be a process of its own, so a lock in memory would not do.
    let turn = File::create(home.join("kill-points.lock")).expect("a lock");
    turn.lock().expect("the lock");
    if !library.exists() {
        let (source, made) = (
            home.join(format!("{name}.c")),
            library.with_extension("new"),
        );
        fs::write(&source, SOURCE).expect("the hook's source");
        let built = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&made, &source])
            .status()
            .expect("the C compiler that the product is built with");
        assert!(built.success(), "the hook does not compile");
        fs::rename(made, &library).expect("the hook in its place");
    }
    library
}
