//! Policies: every version that ever was, by id and by name.
//!
//! `brief` and `patient` are there from the start, and one for each push channel. A policy of the
//! configuration replaces the version before it under the same name; old versions stay, because
//! attempts name them.
//!
//! Absent here: rollout to a share of the traffic.

use std::collections::HashMap;
use std::sync::Arc;

use postrider_core::id::PolicyId;
use postrider_core::policy::Policy;
use postrider_core::time::Time;

use super::db::Db;
use super::{Registry, RegistryError, validate};

/// All versions of all policies. A value: a change makes a new one.
#[derive(Clone, Default)]
pub struct Policies {
    /// Version `id` stands at place `id - 1`.
    versions: Vec<Arc<Policy>>,
    newest: HashMap<Box<str>, Arc<Policy>>,
}

impl Policies {
    /// This version.
    #[must_use]
    pub fn version(&self, id: PolicyId) -> Option<&Arc<Policy>> {
        self.versions
            .get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// The newest version under this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Policy>> {
        self.newest.get(name)
    }

    /// The version that admissions use now where an endpoint names `id`: the newest under the same
    /// name.
    #[must_use]
    pub fn current(&self, id: PolicyId) -> Option<&Arc<Policy>> {
        self.newest.get(&self.version(id)?.name)
    }

    /// The newest version under each name, by name.
    #[must_use]
    pub fn newest(&self) -> Vec<Arc<Policy>> {
        let mut all: Vec<_> = self.newest.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Every version, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[Arc<Policy>] {
        &self.versions
    }

    pub(super) fn push(&mut self, policy: Policy) -> Arc<Policy> {
        let policy = Arc::new(policy);
        self.versions.push(Arc::clone(&policy));
        self.newest.insert(policy.name.clone(), Arc::clone(&policy));
        policy
    }
}

/// Reads what the file holds, and writes the built-in ones into a new file.
pub(super) fn load(db: &mut Db) -> Result<Policies, RegistryError> {
    let mut policies = db.load_policies()?;
    for builtin in builtin() {
        if policies.named(&builtin.name).is_none() {
            add(db, &mut policies, builtin, Time(0))?;
        }
    }
    Ok(policies)
}

/// What is there without any configuration. The ids are not theirs yet.
#[must_use]
pub fn builtin() -> [Policy; 5] {
    let id = PolicyId(0);
    [
        Policy::brief(id),
        Policy::patient(id),
        Policy::web_push(id),
        Policy::apns(id),
        Policy::fcm(id),
    ]
}

fn add(
    db: &mut Db,
    policies: &mut Policies,
    mut policy: Policy,
    now: Time,
) -> Result<Arc<Policy>, RegistryError> {
    let next = u32::try_from(policies.versions.len() + 1).unwrap_or(u32::MAX);
    policy.id = PolicyId(next);
    db.insert_policy(&policy, now)?;
    Ok(policies.push(policy))
}

impl Registry {
    /// All policies. Cheap: nothing is copied.
    #[must_use]
    pub fn policies(&self) -> arc_swap::Guard<Arc<Policies>> {
        self.policies.load()
    }

    /// Makes a new version of each of `wanted` that differs from the newest under its name; their
    /// ids are ignored. Answers the new versions, after they were announced.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] or [`RegistryError::Storage`]; those before it in the list have
    /// been written then.
    pub fn apply_policies(
        &self,
        wanted: impl IntoIterator<Item = Policy>,
        now: Time,
    ) -> Result<Vec<Arc<Policy>>, RegistryError> {
        let mut db = self.db.lock();
        let mut made = Vec::new();
        for policy in wanted {
            validate::slug("policy", &policy.name)?;
            let mut policies = Policies::clone(&self.policies.load());
            let same = policies.named(&policy.name).is_some_and(|old| {
                Policy {
                    id: old.id,
                    ..policy.clone()
                } == **old
            });
            if same {
                continue;
            }
            let policy = add(&mut db, &mut policies, policy, now)?;
            self.policies.store(Arc::new(policies));
            self.announce(|gatekeeper| gatekeeper.policy_changed(&policy));
            made.push(policy);
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::KEY_PACE;
    use crate::vault::Vault;

    #[test]
    fn a_change_is_a_new_version_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path(), &Vault::of(&[7; 32]), KEY_PACE).unwrap();
        let brief = registry.policies().named("brief").unwrap().id;
        let wanted = Policy {
            attempts_max: 9,
            ..Policy::brief(PolicyId(77))
        };
        let made = registry.apply_policies([wanted.clone()], Time(1)).unwrap();
        assert_eq!(made.len(), 1);
        assert_ne!(made[0].id, brief);
        assert!(
            registry
                .apply_policies([wanted], Time(2))
                .unwrap()
                .is_empty()
        );
        drop(registry);

        let registry = Registry::open(dir.path(), &Vault::of(&[7; 32]), KEY_PACE).unwrap();
        let policies = registry.policies();
        assert_eq!(policies.version(brief).unwrap().attempts_max, 5);
        assert_eq!(policies.current(brief).unwrap().attempts_max, 9);
        assert_eq!(**policies.current(brief).unwrap(), *made[0]);
        assert_eq!(policies.versions().len(), builtin().len() + 1);
        let names: Vec<_> = policies
            .newest()
            .iter()
            .map(|p| p.name.to_string())
            .collect();
        assert_eq!(names, ["apns", "brief", "fcm", "patient", "web_push"]);
        assert!(policies.version(PolicyId(0)).is_none());
        assert!(policies.version(PolicyId(7)).is_none());
    }
}
