//! `restore`: makes a data directory out of a backup, after checking every byte of it.
//!
//! Absent here: merging. A restored directory knows nothing of what came after the backup.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::backup::{FORMAT, MANIFEST_FILE, Manifest, digest};
use super::failure::{Failure, Outcome};
use super::show;
use crate::vault::{MASTER_KEY_FILE, Vault, VaultError};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// The backup
    from: PathBuf,
    /// The data directory to make: one that is not there yet, or is empty
    #[arg(long, env = "POSTRIDER_DATA", value_name = "DIRECTORY")]
    data: PathBuf,
    /// The master key that the backed up engine had; without it, put the file there yourself
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("{0} is not a backup: it has no {MANIFEST_FILE} that can be read")]
    NoBackup(PathBuf, #[source] io::Error),
    #[error("the backup has layout {found}; this release knows layout {FORMAT}")]
    Format { found: u32 },
    #[error("{name} in the backup is not the file that was backed up")]
    Damaged { name: String },
    #[error("{0} is not empty")]
    InUse(PathBuf),
    #[error("the master key")]
    Key(#[source] VaultError),
    #[error("{path} could not be read or written")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Checks, copies, and says what to mind.
pub fn run(args: &Args) -> Outcome {
    let manifest = restore(args).map_err(|error| {
        Failure::no(format!("nothing was restored to {}", args.data.display()))
            .because(error)
            .hint("restore into a new directory, from an untouched backup")
    })?;
    eprintln!(
        "{} files of {} are in {}",
        manifest.files.len(),
        manifest.made_at,
        args.data.display()
    );
    if args.key.is_none() {
        eprintln!("put the master key there before the first start: {MASTER_KEY_FILE}, mode 400");
    }
    eprintln!(
        "what was sent after the backup was made is not known to it: what was unsettled then may \
         be sent again, at-most-once too"
    );
    if args.json {
        show::json(&serde_json::to_value(&manifest).unwrap_or_default());
    }
    Ok(())
}

fn restore(args: &Args) -> Result<Manifest, RestoreError> {
    let manifest = read(&args.from)?;
    for file in &manifest.files {
        check(&args.from, file)?;
    }
    if let Some(key) = &args.key {
        Vault::open(key).map_err(RestoreError::Key)?;
    }
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| RestoreError::Io { path, source }
    };
    fs::create_dir_all(&args.data).map_err(io(&args.data))?;
    if fs::read_dir(&args.data)
        .map_err(io(&args.data))?
        .next()
        .is_some()
    {
        return Err(RestoreError::InUse(args.data.clone()));
    }
    for file in &manifest.files {
        let target = args.data.join(&file.name);
        fs::copy(args.from.join(&file.name), &target).map_err(io(&target))?;
        File::open(&target)
            .and_then(|copy| copy.sync_all())
            .map_err(io(&target))?;
    }
    if let Some(key) = &args.key {
        let target = args.data.join(MASTER_KEY_FILE);
        copy_key(key, &target).map_err(io(&target))?;
    }
    File::open(&args.data)
        .and_then(|dir| dir.sync_all())
        .map_err(io(&args.data))?;
    Ok(manifest)
}

fn read(from: &Path) -> Result<Manifest, RestoreError> {
    let none = |source: io::Error| RestoreError::NoBackup(from.into(), source);
    let text = fs::read(from.join(MANIFEST_FILE)).map_err(none)?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| none(e.into()))?;
    if manifest.format == FORMAT {
        Ok(manifest)
    } else {
        Err(RestoreError::Format {
            found: manifest.format,
        })
    }
}

fn check(from: &Path, file: &super::backup::Copied) -> Result<(), RestoreError> {
    let damaged = || RestoreError::Damaged {
        name: show::clean(&file.name),
    };
    // A name is one word: it cannot lead out of the directory.
    let mut parts = Path::new(&file.name).components();
    if !matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) {
        return Err(damaged());
    }
    let found = digest(&from.join(&file.name), &file.name).map_err(|_| damaged())?;
    if found.bytes == file.bytes && found.blake3 == file.blake3 {
        Ok(())
    } else {
        Err(damaged())
    }
}

/// Readable by its owner alone from the first byte on.
///
/// # Errors
/// Those of the file system.
pub fn copy_key(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::backup::Copied;
    use super::*;

    fn backup(directory: &Path, name: &str) -> Args {
        let from = directory.join("backup");
        fs::create_dir(&from).expect("a directory");
        fs::write(from.join("index.db"), "content").expect("a file");
        let digest = digest(&from.join("index.db"), "index.db").expect("a digest");
        let manifest = Manifest {
            format: FORMAT,
            made_at: "2026-01-01T00:00:00.000Z".into(),
            version: "0.1.0".into(),
            files: vec![Copied {
                name: name.into(),
                ..digest
            }],
        };
        let text = serde_json::to_vec(&manifest).expect("JSON");
        fs::write(from.join(MANIFEST_FILE), text).expect("a manifest");
        Args {
            from,
            data: directory.join("data"),
            key: None,
            json: false,
        }
    }

    #[test]
    fn a_whole_backup_comes_back_once() {
        let place = tempfile::tempdir().expect("a directory");
        let args = backup(place.path(), "index.db");
        restore(&args).expect("restored");
        assert_eq!(
            fs::read(args.data.join("index.db")).expect("a file"),
            b"content"
        );
        assert!(matches!(restore(&args), Err(RestoreError::InUse(_))));
    }

    #[test]
    fn a_damaged_backup_restores_nothing() {
        let place = tempfile::tempdir().expect("a directory");
        let args = backup(place.path(), "index.db");
        fs::write(args.from.join("index.db"), "kontent").expect("a file");
        assert!(matches!(restore(&args), Err(RestoreError::Damaged { .. })));
        assert!(!args.data.exists());
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let place = tempfile::tempdir().expect("a directory");
        let args = backup(place.path(), "../backup/index.db");
        assert!(matches!(restore(&args), Err(RestoreError::Damaged { .. })));
    }

    #[test]
    fn a_key_is_copied_closed_to_others() {
        use std::os::unix::fs::MetadataExt as _;
        let place = tempfile::tempdir().expect("a directory");
        let mut args = backup(place.path(), "index.db");
        let key = place.path().join("key");
        Vault::open_or_create(&key).expect("a key");
        args.key = Some(key);
        restore(&args).expect("restored");
        let made = fs::metadata(args.data.join(MASTER_KEY_FILE)).expect("a key");
        assert_eq!(made.mode() & 0o777, 0o400);
    }
}
