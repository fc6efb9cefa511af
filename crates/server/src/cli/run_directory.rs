//! The directory in which a run of `demo` or `bench` keeps its files.
//!
//! Absent here: what is in it.

use std::path::{Path, PathBuf};

use super::failure::Failure;

/// Where a run's files are; a temporary one goes with it.
pub(super) struct RunDirectory {
    pub(super) path: PathBuf,
    passing: bool,
}

impl RunDirectory {
    /// The named directory, which must be empty, or a temporary one of this command.
    pub(super) fn new(command: &str, named: Option<&Path>) -> Result<RunDirectory, Failure> {
        must_be_empty(named)?;
        let number: u64 = rand::random();
        Ok(RunDirectory {
            passing: named.is_none(),
            path: named.map_or_else(
                || std::env::temp_dir().join(format!("postrider-{command}-{number:016x}")),
                Path::to_path_buf,
            ),
        })
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if self.passing {
            // What cannot be removed is in the temporary directory, where it harms nobody.
            let _removed = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A run begins with an empty directory.
pub(super) fn must_be_empty(named: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = named else {
        return Ok(());
    };
    let held = path
        .read_dir()
        .is_ok_and(|mut files| files.next().is_some());
    if held {
        let what = format!("{} is not empty", path.display());
        return Err(Failure::usage(what).hint("a run begins with an empty directory"));
    }
    Ok(())
}
