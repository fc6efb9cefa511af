//! A data directory without an engine: opened by a verb that acts on it directly.
//!
//! Absent here: the ledger. What verbs do to it goes through the store.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use postrider_core::time::Time;

use super::failure::Failure;
use crate::config::Config;
use crate::registry::Registry;
use crate::registry::keys::KeyPace;
use crate::vault::{MASTER_KEY_FILE, Vault};

/// The parts of a data directory that a verb may change.
pub struct Home {
    /// Tenants, endpoints, keys, policies.
    pub registry: Registry,
    /// The wall's time.
    pub now: Time,
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
            .hint("`postrider doctor` looks it over; an engine that runs on it must be stopped")
        };
        std::fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        let vault =
            Vault::open_or_create(&key_file(config)).map_err(|error| failed(error.into()))?;
        let pace = KeyPace {
            requests_per_s: at_least_one(config.server.key_requests_per_s_max),
            burst: at_least_one(config.server.key_burst_max),
        };
        let registry =
            Registry::open(directory, &vault, pace).map_err(|error| failed(error.into()))?;
        Ok(Home {
            registry,
            now: Time(jiff::Timestamp::now().as_millisecond()),
        })
    }
}

/// Where the master key lies.
#[must_use]
pub fn key_file(config: &Config) -> PathBuf {
    let beside = |directory: &Path| directory.join(MASTER_KEY_FILE);
    config
        .store
        .master_key_file
        .clone()
        .unwrap_or_else(|| beside(&config.store.dir))
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
