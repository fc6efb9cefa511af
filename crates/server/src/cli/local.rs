//! A data directory without an engine: opened by a verb that acts on it directly.
//!
//! Absent here: the ledger. What verbs do to it goes through the store.

use std::path::{Path, PathBuf};

use postrider_core::time::Time;

use super::failure::Failure;
use crate::config::Config;
use crate::registry::Registry;
use crate::run::{key_file, key_pace};
use crate::store::embedded::OpenError;
use crate::store::embedded::directory::Directory;
use crate::vault::Vault;

/// Where a data directory and its master key are.
#[derive(clap::Args)]
pub struct Place {
    /// The configuration; `postrider.toml` in the working directory where none is named
    #[arg(long, env = "POSTRIDER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory, where it is not the configuration's
    #[arg(long, env = "POSTRIDER_DATA", value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

impl Place {
    /// The configuration, with the directory of the command line.
    ///
    /// # Errors
    /// [`Failure`] with the place of the first fault.
    pub fn config(&self) -> Result<Config, Failure> {
        super::config::load(self.config.clone(), self.data.clone())
    }

    /// The directory and the holder of its master key, which must be there.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn vault(&self) -> Result<(PathBuf, Vault), Failure> {
        let config = self.config()?;
        let vault = Vault::open(&key_file(&config)).map_err(|error| {
            Failure::no("the master key cannot be used")
                .because(error)
                .hint("--data names the data directory, store.master_key_file the key")
        })?;
        Ok((config.store.dir, vault))
    }

    /// What to say when the directory cannot be read.
    #[must_use]
    pub fn cannot(&self, directory: &Path, error: OpenError) -> Failure {
        Failure::no(format!(
            "the data directory {} cannot be read",
            directory.display()
        ))
        .because(error)
        .hint("`postrider doctor` looks it over")
    }
}

/// The parts of a data directory that a verb may change, while nobody else has it.
pub struct Home {
    /// Tenants, endpoints, keys, policies.
    pub registry: Registry,
    /// The wall's time.
    pub now: Time,
    _directory: Directory,
}

impl Home {
    /// Takes the directory, and makes what is not there yet.
    ///
    /// # Errors
    /// [`Failure`] if another process has it, or it cannot be opened.
    pub fn take(config: &Config) -> Result<Home, Failure> {
        let directory = &config.store.dir;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Failure::no(format!(
                "the data directory {} cannot be opened",
                directory.display()
            ))
            .because(error)
            .hint("an engine that runs on it must be stopped first")
        };
        let lock = Directory::lock(directory).map_err(|error| failed(error.into()))?;
        let vault =
            Vault::open_or_create(&key_file(config)).map_err(|error| failed(error.into()))?;
        let registry = Registry::open(directory, &vault, key_pace(config))
            .map_err(|error| failed(error.into()))?;
        Ok(Home {
            registry,
            now: Time(jiff::Timestamp::now().as_millisecond()),
            _directory: lock,
        })
    }
}
