//! A disk that loses its power: what was synced stays, of the rest anything may be left.
//!
//! - A write that no later sync of its file covers is dropped, kept, or torn: each of its sectors
//!   of 512 bytes on its own.
//! - A name made, moved or removed without a later sync of its directory is kept or not; a move
//!   happens as a whole.
//!
//! Absent here: sectors that change although nobody wrote them. That is damage, not power loss.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postrider_core::partition::mix;

use crate::trace::Op;

const SECTOR_BYTES: usize = 512;

/// The files and names of one directory, as far as they were written and as far as they are safe.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    /// What the process sees.
    names: BTreeMap<PathBuf, usize>,
    safe_names: BTreeMap<PathBuf, usize>,
    unsafe_names: Vec<Name>,
}

#[derive(Default)]
struct File {
    safe: Vec<u8>,
    changes: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize { len: usize },
    Allocate { until: usize },
}

enum Name {
    Made {
        path: PathBuf,
        file: usize,
    },
    Moved {
        from: PathBuf,
        to: PathBuf,
        file: usize,
    },
    Removed {
        path: PathBuf,
    },
}

/// A source of numbers that are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(mix(seed))
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = mix(self.0);
        self.0
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).unwrap_or(0)
    }

    /// True in this percentage of the cases.
    pub fn percent(&mut self, share: u64) -> bool {
        self.roll() % 100 < share
    }
}

impl Disk {
    /// Performs one operation.
    pub fn perform(&mut self, op: &Op) {
        match op {
            Op::Create { path, truncate } => self.create(path, *truncate),
            Op::Write { path, offset, data } => {
                let change = Change::Write {
                    offset: size(*offset),
                    data: data.clone(),
                };
                self.change(path, change);
            }
            Op::Truncate { path, len } => self.change(path, Change::Resize { len: size(*len) }),
            Op::Allocate { path, until } => {
                self.change(
                    path,
                    Change::Allocate {
                        until: size(*until),
                    },
                );
            }
            Op::Sync { path } => self.sync(path),
            Op::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                    let (from, to) = (from.clone(), to.clone());
                    self.unsafe_names.push(Name::Moved { from, to, file });
                }
            }
            Op::Unlink { path } => {
                self.names.remove(path);
                self.unsafe_names.push(Name::Removed { path: path.clone() });
            }
            Op::Ack { .. } | Op::Injected { .. } => {}
        }
    }

    fn create(&mut self, path: &Path, truncate: bool) {
        if !self.names.contains_key(path) {
            let file = self.files.len();
            self.files.push(File::default());
            self.names.insert(path.to_owned(), file);
            self.unsafe_names.push(Name::Made {
                path: path.to_owned(),
                file,
            });
        } else if truncate {
            self.change(path, Change::Resize { len: 0 });
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        // A file whose name is gone cannot be seen after the power is back.
        if let Some(file) = self.names.get(path) {
            self.files[*file].changes.push(change);
        }
    }

    fn sync(&mut self, path: &Path) {
        if let Some(file) = self.names.get(path) {
            let file = &mut self.files[*file];
            for change in file.changes.drain(..) {
                apply(&mut file.safe, &change, |_| true);
            }
            return;
        }
        for name in std::mem::take(&mut self.unsafe_names) {
            if name.directory() == Some(path) {
                name.apply(&mut self.safe_names);
            } else {
                self.unsafe_names.push(name);
            }
        }
    }

    /// Names with one of these endings that a loss of power could take away from their files.
    pub fn unsafe_names(&self, endings: &[&str]) -> Vec<&Path> {
        let open = |(path, file): &(&PathBuf, &usize)| {
            let ends = endings
                .iter()
                .any(|end| path.to_string_lossy().ends_with(end));
            ends && self.safe_names.get(*path) != Some(file)
        };
        self.names
            .iter()
            .filter(open)
            .map(|(path, _)| path.as_path())
            .collect()
    }

    /// What may be found when the power comes back now.
    pub fn image(&self, dice: &mut Dice) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut names = self.safe_names.clone();
        // Most file systems keep the order of names; POSIX does not ask for it.
        let kept_in_order = dice.below(self.unsafe_names.len() + 1);
        let in_order = dice.percent(50);
        for (n, name) in self.unsafe_names.iter().enumerate() {
            if if in_order {
                n < kept_in_order
            } else {
                dice.percent(50)
            } {
                name.apply(&mut names);
            }
        }
        names
            .iter()
            .map(|(path, file)| (path.clone(), self.files[*file].image(dice)))
            .collect()
    }
}

impl File {
    fn image(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.safe.clone();
        let manner = dice.below(4);
        for change in &self.changes {
            match manner {
                0 => {}
                1 => apply(&mut content, change, |_| true),
                2 if dice.percent(50) => apply(&mut content, change, |_| true),
                2 => {}
                _ => apply(&mut content, change, |_| dice.percent(50)),
            }
        }
        content
    }
}

/// Makes a change, of a write only the sectors that are `kept`.
fn apply(content: &mut Vec<u8>, change: &Change, mut kept: impl FnMut(usize) -> bool) {
    match change {
        Change::Write { offset, data } => {
            let (mut at, end) = (*offset, offset + data.len());
            while at < end {
                let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                let stop = sector_end.min(end);
                if kept(at / SECTOR_BYTES) {
                    grow(content, stop);
                    content[at..stop].copy_from_slice(&data[at - offset..stop - offset]);
                }
                at = stop;
            }
        }
        Change::Resize { len } if kept(0) => content.resize(*len, 0),
        Change::Allocate { until } if kept(0) => grow(content, *until),
        Change::Resize { .. } | Change::Allocate { .. } => {}
    }
}

fn grow(content: &mut Vec<u8>, len: usize) {
    if content.len() < len {
        content.resize(len, 0);
    }
}

impl Name {
    fn directory(&self) -> Option<&Path> {
        match self {
            Name::Made { path, .. } | Name::Removed { path } | Name::Moved { to: path, .. } => {
                path.parent()
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Name::Made { path, file } => {
                names.insert(path.clone(), *file);
            }
            Name::Moved { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Name::Removed { path } => {
                names.remove(path);
            }
        }
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).expect("files of a test fit the memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops() -> [Op; 7] {
        let (old, path) = (PathBuf::from("/d/new"), PathBuf::from("/d/a"));
        let dir = PathBuf::from("/d");
        [
            Op::Create {
                path: old.clone(),
                truncate: false,
            },
            Op::Write {
                path: old.clone(),
                offset: 0,
                data: vec![1; 1_024],
            },
            Op::Sync { path: old.clone() },
            Op::Rename {
                from: old,
                to: path.clone(),
            },
            Op::Sync { path: dir },
            Op::Write {
                path: path.clone(),
                offset: 0,
                data: vec![2; 1_024],
            },
            Op::Sync { path },
        ]
    }

    /// Every content that file `/d/a` is found with after the first `count` operations.
    fn contents(count: usize) -> Vec<Option<Vec<u8>>> {
        let mut disk = Disk::default();
        ops()[..count].iter().for_each(|op| disk.perform(op));
        let mut found: Vec<_> = (0..200)
            .map(|seed| disk.image(&mut Dice::new(seed)).remove(Path::new("/d/a")))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn keeps_what_was_synced_and_loses_anything_else() {
        let halves = |a: u8, b: u8| Some([[a; 512], [b; 512]].concat());
        assert_eq!(contents(3), [None]);
        assert_eq!(
            contents(4),
            [None, halves(1, 1)],
            "the new name was not synced"
        );
        assert_eq!(contents(5), [halves(1, 1)]);
        let torn = [halves(1, 1), halves(1, 2), halves(2, 1), halves(2, 2)];
        assert_eq!(contents(6), torn);
        assert_eq!(contents(7), [halves(2, 2)]);
    }
}
