//! The registry: tenants, endpoints, API keys and policies, by their outer names.
//!
//! Kept in memory whole and written through to `control.db`: a read takes a shared lock for the
//! length of a map look-up, a write is one durable commit. Changes are announced to a
//! [`Gatekeeper`] in the order in which they became durable.
//!
//! The files, in the order in which data meets them: `validate` refuses what may not be stored,
//! `tenants`, `keys`, `endpoints` and `policies` are the verbs, `directory` is what is in memory,
//! `db` is the file.
//!
//! Absent here: deliveries, and who may do what (see `http::access`).

mod db;
mod directory;
mod endpoints;
pub mod keys;
pub mod model;
mod policies;
pub mod policy_body;
mod tenants;
pub mod validate;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use postrider_core::policy::Policy;

use db::Db;
pub use directory::Directory;
pub use endpoints::EndpointDraft;
pub use keys::{ApiKey, KEY_PACE, KeyDraft, KeyPace, KeyText, Role};
pub use model::{Endpoint, EndpointState, Secret, TlsProfile, TlsVersion};
pub use policies::Policies;
pub use tenants::Tenant;

/// File in the data directory.
pub const CONTROL_FILE: &str = "control.db";

/// Encrypts what may not lie on a disk in the clear, and keys hashes.
pub trait Sealer: Send + Sync {
    /// `plain` under the master key, bound to `context`: it opens with the same context only.
    fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8>;

    /// What was sealed, or `None` if the key or the context is another one, or a bit has changed.
    fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;

    /// A key for one purpose, derived from the master key. The same purpose gives the same key.
    fn derive(&self, purpose: &str) -> [u8; 32];
}

/// Who has to know that an endpoint or a policy changed. Called on the thread that made the change,
/// after it is durable, one call at a time: do not change the registry from inside of it.
pub trait Gatekeeper: Send + Sync {
    /// The endpoint is now this.
    fn endpoint_changed(&self, endpoint: &Arc<Endpoint>, change: Change);

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
    sealer: Arc<dyn Sealer>,
    pepper: [u8; 32],
    pace: KeyPace,
    directory: RwLock<Directory>,
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
    pub fn open(
        dir: &Path,
        sealer: Arc<dyn Sealer>,
        pace: KeyPace,
    ) -> Result<Registry, RegistryError> {
        Registry::with(Db::open(&dir.join(CONTROL_FILE))?, sealer, pace)
    }

    /// A registry that is gone with the process.
    ///
    /// # Errors
    /// [`RegistryError::Storage`], if there is no memory.
    pub fn in_memory(sealer: Arc<dyn Sealer>) -> Result<Registry, RegistryError> {
        Registry::with(Db::in_memory()?, sealer, KEY_PACE)
    }

    fn with(mut db: Db, sealer: Arc<dyn Sealer>, pace: KeyPace) -> Result<Registry, RegistryError> {
        let directory = db.load_endpoints(&*sealer)?;
        let policies = policies::load(&mut db)?;
        Ok(Registry {
            directory: RwLock::new(directory),
            keys: RwLock::new(db.load_keys(pace)?),
            tenants: RwLock::new(db.load_tenants()?),
            policies: ArcSwap::from_pointee(policies),
            pepper: sealer.derive("postrider/api-key/v1"),
            db: Mutex::new(db),
            sealer,
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

/// Stand-ins that tests all over the crate use.
#[cfg(test)]
pub(crate) mod testing {
    use super::Sealer;

    /// Reversible and bound to its context, and no secret at all.
    pub(crate) struct Glass;

    impl Sealer for Glass {
        fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
            let mask = blake3::hash(context);
            let mut sealed: Vec<u8> = mask.as_bytes()[..4].to_vec();
            sealed.extend(plain.iter().map(|byte| byte ^ 0x5a));
            sealed
        }

        fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
            let body = sealed.strip_prefix(&blake3::hash(context).as_bytes()[..4])?;
            Some(body.iter().map(|byte| byte ^ 0x5a).collect())
        }

        fn derive(&self, purpose: &str) -> [u8; 32] {
            *blake3::hash(purpose.as_bytes()).as_bytes()
        }
    }
}
