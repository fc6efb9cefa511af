//! The registry: tenants, endpoints, API keys and policies, by their outer names.
//!
//! Kept in memory whole and written through to `control.db`: a read takes a shared lock for the
//! length of a map look-up, a write is one durable commit. Changes are announced to a
//! [`Gatekeeper`] in the order in which they became durable.
//!
//! The files, in the order in which data meets them: `validate` refuses what may not be stored,
//! `tenants`, `keys`, `routes`, `endpoints`, `forgetting`, `devices` and `policies` are the verbs,
//! `directory` is what is in memory, `db` is the file.
//!
//! Absent here: deliveries, and who may do what (see `http::access`).

mod db;
pub mod devices;
mod directory;
mod endpoints;
mod forgetting;
pub mod import;
pub mod keys;
pub mod model;
mod policies;
pub mod policy_body;
mod routes;
mod tenants;
pub mod validate;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use postrider_core::id::EndpointId;
use postrider_core::policy::Policy;

use crate::vault::{Cipher, Key, Vault, VaultError};
use db::Db;
pub use devices::{Moved, Registered};
pub use directory::Directory;
pub use endpoints::EndpointDraft;
pub use keys::{ApiKey, KEY_PACE, KeyDraft, KeyPace, KeyText, Role};
pub use model::{
    ApnsDevice, Authorisation, Device, Endpoint, EndpointState, FcmTarget, Kind, STALE_AFTER_MS,
    Secret, TlsProfile, TlsVersion, WebPushKeys,
};
pub use policies::Policies;
pub use routes::{ApnsSigner, Credentials, Route, RouteDraft, VAPID_KEYS_MAX, VapidKey};
pub use tenants::Tenant;

/// File in the data directory.
pub const CONTROL_FILE: &str = "control.db";

/// Who has to know that an endpoint or a policy changed. Called on the thread that made the change,
/// after it is durable, one call at a time: do not change the registry from inside of it.
pub trait Gatekeeper: Send + Sync {
    /// The endpoint is now this.
    fn endpoint_changed(&self, endpoint: &Arc<Endpoint>, change: Change);

    /// The endpoint is not there any more: nothing names it.
    fn endpoint_forgotten(&self, _: EndpointId) {}

    /// The route is now this.
    fn route_changed(&self, _: &Arc<Route>) {}

    /// There is a new policy, or a new version of one.
    fn policy_changed(&self, policy: &Arc<Policy>);
}

/// In which way an endpoint changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// Its settings, or whether it is paused.
    Written,
    /// It was resumed by a person: what a policy has parked may go on.
    Resumed,
    /// It will never be sent to again, deleted ones included.
    Retired,
}

/// Everything but deliveries, in memory and on disk.
pub struct Registry {
    /// The file. Held for the length of a change, so that the disk, the memory and the
    /// announcements see changes in the same order.
    db: Mutex<Db>,
    cipher: Cipher,
    pepper: Key,
    fingerprint_key: Key,
    pace: KeyPace,
    directory: RwLock<Directory>,
    routes: RwLock<routes::Routes>,
    /// Held while a device registers, which is several steps.
    registering: Mutex<()>,
    keys: RwLock<keys::KeyRing>,
    tenants: RwLock<tenants::Tenants>,
    policies: ArcSwap<Policies>,
    gatekeeper: OnceLock<Arc<dyn Gatekeeper>>,
}

impl Registry {
    /// Opens the registry in `dir`, makes it if there is none, and reads all of it. No key may be
    /// used faster than `pace`.
    ///
    /// # Errors
    /// [`RegistryError::Storage`] if the file cannot be opened, is not ours or was written by a
    /// newer version; [`RegistryError::Unreadable`] if what is in it cannot be read back, which is
    /// what a wrong master key looks like.
    pub fn open(dir: &Path, vault: &Vault, pace: KeyPace) -> Result<Registry, RegistryError> {
        Registry::with(Db::open(&dir.join(CONTROL_FILE))?, vault, pace)
    }

    /// A registry that is gone with the process.
    ///
    /// # Errors
    /// [`RegistryError::Storage`], if there is no memory.
    pub fn in_memory(vault: &Vault) -> Result<Registry, RegistryError> {
        Registry::with(Db::in_memory()?, vault, KEY_PACE)
    }

    fn with(mut db: Db, vault: &Vault, pace: KeyPace) -> Result<Registry, RegistryError> {
        let cipher = vault.cipher("control/endpoint/v1")?;
        let directory = db.load_endpoints(&cipher)?;
        let policies = policies::load(&mut db)?;
        Ok(Registry {
            directory: RwLock::new(directory),
            routes: RwLock::new(db.load_routes(&cipher)?),
            registering: Mutex::new(()),
            keys: RwLock::new(db.load_keys(pace)?),
            tenants: RwLock::new(db.load_tenants()?),
            policies: ArcSwap::from_pointee(policies),
            pepper: vault.derive("control/api-key/v1"),
            fingerprint_key: vault.derive("control/fingerprint/v1"),
            db: Mutex::new(db),
            cipher,
            pace,
            gatekeeper: OnceLock::new(),
        })
    }

    /// Says who has to know about changes from now on. The first one named stays.
    pub fn announce_to(&self, gatekeeper: Arc<dyn Gatekeeper>) {
        let _ = self.gatekeeper.set(gatekeeper);
    }

    fn announce(&self, tell: impl FnOnce(&dyn Gatekeeper)) {
        if let Some(gatekeeper) = self.gatekeeper.get() {
            tell(&**gatekeeper);
        }
    }
}

/// Why the registry could not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing, or it belongs to somebody else.
    #[error("there is no such {0}")]
    Absent(&'static str),
    /// Something else has that name.
    #[error("{what} `{name}` exists already")]
    Taken {
        /// What kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A value may not be stored.
    #[error(transparent)]
    Invalid(#[from] validate::Invalid),
    /// The endpoint is retired, which is for good.
    #[error("the endpoint is retired")]
    Retired,
    /// What is in the file cannot be read back.
    #[error("{CONTROL_FILE}: {0}")]
    Unreadable(String),
    /// The vault gave no cipher.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The file cannot be read or written.
    #[error("{CONTROL_FILE}: {0}")]
    Storage(#[from] rusqlite::Error),
}

impl RegistryError {
    /// The disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, RegistryError::Storage(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}
