//! Tenants: isolated owners of endpoints, keys, limits and data.
//!
//! Absent here: removing one. A tenant's ledger outlives its wish to leave until retention ends it.

use std::collections::HashMap;
use std::sync::Arc;

use postrider_core::id::TenantId;
use postrider_core::time::Time;
use uuid::Uuid;

use super::{Registry, RegistryError, validate};

/// An isolated owner of endpoints, keys, limits and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Inner id.
    pub id: TenantId,
    /// Outer id.
    pub uuid: Uuid,
    /// Name, unique in the installation.
    pub name: String,
    /// When it was created.
    pub created_at: Time,
}

/// All tenants, by every name.
#[derive(Default)]
pub(super) struct Tenants {
    rows: Vec<Arc<Tenant>>,
    by_name: HashMap<String, usize>,
    by_uuid: HashMap<Uuid, usize>,
    by_id: HashMap<TenantId, usize>,
}

impl Tenants {
    pub(super) fn add(&mut self, tenant: Tenant) -> Arc<Tenant> {
        let tenant = Arc::new(tenant);
        let place = self.rows.len();
        self.by_name.insert(tenant.name.clone(), place);
        self.by_uuid.insert(tenant.uuid, place);
        self.by_id.insert(tenant.id, place);
        self.rows.push(Arc::clone(&tenant));
        tenant
    }
}

impl Registry {
    /// Creates a tenant.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`], [`RegistryError::Taken`] or [`RegistryError::Storage`].
    pub fn create_tenant(&self, name: &str, now: Time) -> Result<Arc<Tenant>, RegistryError> {
        validate::slug("name", name)?;
        let mut db = self.db.lock();
        if self.tenants.read().by_name.contains_key(name) {
            return Err(RegistryError::Taken {
                what: "tenant",
                name: name.to_owned(),
            });
        }
        let uuid = Uuid::from_u128(super::endpoints::uuid_v4_bits(rand::random()));
        let mut tenant = Tenant {
            id: TenantId(0),
            uuid,
            name: name.to_owned(),
            created_at: now,
        };
        tenant.id = db.insert_tenant(&tenant)?;
        Ok(self.tenants.write().add(tenant))
    }

    /// The tenant with this name, created if there is none.
    ///
    /// # Errors
    /// As [`Registry::create_tenant`].
    pub fn ensure_tenant(&self, name: &str, now: Time) -> Result<Arc<Tenant>, RegistryError> {
        if let Some(tenant) = self.tenant_named(name) {
            return Ok(tenant);
        }
        match self.create_tenant(name, now) {
            // Somebody else was faster.
            Err(RegistryError::Taken { .. }) => self
                .tenant_named(name)
                .ok_or(RegistryError::Absent("tenant")),
            made => made,
        }
    }

    /// The tenant with this inner id.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        let tenants = self.tenants.read();
        tenants
            .by_id
            .get(&id)
            .map(|&place| Arc::clone(&tenants.rows[place]))
    }

    /// The tenant with this name.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<Arc<Tenant>> {
        let tenants = self.tenants.read();
        tenants
            .by_name
            .get(name)
            .map(|&place| Arc::clone(&tenants.rows[place]))
    }

    /// The tenant with this outer id.
    #[must_use]
    pub fn tenant_by_uuid(&self, uuid: Uuid) -> Option<Arc<Tenant>> {
        let tenants = self.tenants.read();
        tenants
            .by_uuid
            .get(&uuid)
            .map(|&place| Arc::clone(&tenants.rows[place]))
    }

    /// At most `limit` tenants with ids above `after`, in ascending order.
    #[must_use]
    pub fn tenants(&self, after: TenantId, limit: usize) -> Vec<Arc<Tenant>> {
        let tenants = self.tenants.read();
        let start = tenants.rows.partition_point(|tenant| tenant.id <= after);
        tenants.rows[start..].iter().take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Vault;

    #[test]
    fn a_name_is_taken_once_and_found_by_every_id() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let acme = registry.create_tenant("acme", Time(1)).unwrap();
        let error = registry.create_tenant("acme", Time(2)).unwrap_err();
        assert!(matches!(error, RegistryError::Taken { what: "tenant", .. }));
        assert!(registry.create_tenant("No Spaces", Time(2)).is_err());
        assert_eq!(registry.ensure_tenant("acme", Time(2)).unwrap(), acme);
        let bolt = registry.ensure_tenant("bolt", Time(2)).unwrap();
        assert!(bolt.id > acme.id);
        assert_eq!(registry.tenant(acme.id).as_ref(), Some(&acme));
        assert_eq!(registry.tenant_by_uuid(bolt.uuid).as_ref(), Some(&bolt));
        assert_eq!(registry.tenants(acme.id, 10), [bolt]);
    }
}
