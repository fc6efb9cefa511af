//! Endpoints that ended do not stay for ever.
//!
//! Absent here: who still names them.

use postrider_core::id::EndpointId;
use postrider_core::time::Time;

use super::{Registry, RegistryError};

/// Endpoints that are forgotten in one commit at the most.
const FORGOTTEN_PER_COMMIT_MAX: usize = 1_000;

impl Registry {
    /// Forgets endpoints that ended before a moment and that nothing names any more, which
    /// `is_named` says. Returns how many went. Their outer ids mean nothing from then on, their
    /// inner ids are not given out again. One durable commit for each thousand, so not for a thread
    /// that others wait for.
    ///
    /// # Errors
    /// [`RegistryError::Storage`], and those of `is_named`; what went before has gone.
    pub fn forget_ended<E: From<RegistryError>>(
        &self,
        before: Time,
        mut is_named: impl FnMut(EndpointId) -> Result<bool, E>,
    ) -> Result<usize, E> {
        let ended = self.directory.read().ended_before(before);
        let mut forgotten = 0;
        for some in ended.chunks(FORGOTTEN_PER_COMMIT_MAX) {
            let mut unnamed = Vec::new();
            for id in some {
                if !is_named(*id)? {
                    unnamed.push(*id);
                }
            }
            if unnamed.is_empty() {
                continue;
            }
            let mut db = self.db.lock();
            db.remove_endpoints(&unnamed)?;
            self.directory.write().remove(&unnamed);
            for id in &unnamed {
                self.announce(|gatekeeper| gatekeeper.endpoint_forgotten(*id));
            }
            forgotten += unnamed.len();
        }
        Ok(forgotten)
    }
}
