//! Endpoints in memory, by every name that the hot path finds them by.
//!
//! Deleted endpoints stay, stripped of what was in them, so that old deliveries can still say where
//! they went, until the ledger has forgotten those. Absent here: the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, TenantId};
use postrider_core::map::Map;
use postrider_core::time::Time;
use uuid::Uuid;

use super::devices::Devices;
use super::model::{Endpoint, EndpointState};

/// A list in ascending order of ids, so that what two lists share is found by merging.
type Shelf = BTreeMap<EndpointId, Arc<Endpoint>>;

/// All endpoints of all tenants.
#[derive(Default)]
pub struct Directory {
    by_id: Map<EndpointId, Arc<Endpoint>>,
    by_uuid: HashMap<Uuid, EndpointId>,
    tenants: HashMap<TenantId, Shelves>,
    devices: Devices,
}

/// What one tenant's events can be addressed to.
#[derive(Default)]
struct Shelves {
    all: Shelf,
    recipients: HashMap<String, Shelf>,
    exact: HashMap<String, Shelf>,
    /// `order.` for a subscription to `order.*`.
    prefixes: HashMap<String, Shelf>,
    everything: Shelf,
}

impl Directory {
    /// The endpoint with this inner id, retired and deleted ones included.
    #[must_use]
    pub fn by_id(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.by_id.get(&id)
    }

    /// The endpoint with this outer id, retired ones included, deleted ones not.
    #[must_use]
    pub fn by_uuid(&self, uuid: Uuid) -> Option<&Arc<Endpoint>> {
        self.any_by_uuid(uuid)
            .filter(|endpoint| !endpoint.is_deleted())
    }

    /// The same, deleted ones included.
    #[must_use]
    pub fn any_by_uuid(&self, uuid: Uuid) -> Option<&Arc<Endpoint>> {
        self.by_id.get(self.by_uuid.get(&uuid)?)
    }

    /// The live push endpoint at this address; see [`Endpoint::address`].
    #[must_use]
    pub fn device_at(&self, tenant: TenantId, address: [u8; 16]) -> Option<EndpointId> {
        self.devices.at(tenant, address)
    }

    /// The last push endpoint at this address, if it is retired.
    #[must_use]
    pub fn device_ended_at(&self, tenant: TenantId, address: [u8; 16]) -> Option<EndpointId> {
        self.devices.ended_at(tenant, address)
    }

    /// The live push endpoint of the device that the application knows by this id.
    #[must_use]
    pub fn device(&self, tenant: TenantId, device: &str) -> Option<EndpointId> {
        self.devices.of(tenant, device)
    }

    /// Adds the endpoints of a recipient to `found`, in ascending order of ids.
    pub fn of_recipient(&self, tenant: TenantId, recipient: &str, found: &mut Vec<Arc<Endpoint>>) {
        if let Some(shelf) = self
            .tenants
            .get(&tenant)
            .and_then(|t| t.recipients.get(recipient))
        {
            found.extend(shelf.values().cloned());
        }
    }

    /// Adds the endpoints that subscribe to an event type to `found`: each once, in ascending order
    /// of ids.
    pub fn subscribed(&self, tenant: TenantId, event_type: &str, found: &mut Vec<Arc<Endpoint>>) {
        let Some(shelves) = self.tenants.get(&tenant) else {
            return;
        };
        let start = found.len();
        let mut lists = 0;
        let mut take = |shelf: Option<&Shelf>| {
            if let Some(shelf) = shelf.filter(|shelf| !shelf.is_empty()) {
                found.extend(shelf.values().cloned());
                lists += 1;
            }
        };
        take(shelves.exact.get(event_type));
        if !shelves.prefixes.is_empty() {
            for (dot, _) in event_type.match_indices('.') {
                take(shelves.prefixes.get(&event_type[..=dot]));
            }
        }
        take(Some(&shelves.everything));
        if lists > 1 {
            found[start..].sort_unstable_by_key(|endpoint| endpoint.id);
            found.dedup_by_key(|endpoint| endpoint.id);
        }
    }

    /// At most `limit` endpoints of a tenant with ids above `after`, deleted ones left out, and
    /// whether there are more.
    #[must_use]
    pub fn page(
        &self,
        tenant: Option<TenantId>,
        after: EndpointId,
        limit: usize,
        wanted: impl Fn(&Endpoint) -> bool,
    ) -> (Vec<Arc<Endpoint>>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (Excluded(after), Unbounded);
        let mut rows: Vec<Arc<Endpoint>> = self
            .tenants
            .iter()
            .filter(|(id, _)| tenant.is_none_or(|tenant| tenant == **id))
            .flat_map(|(_, shelves)| {
                let wanted = shelves
                    .all
                    .range(range)
                    .map(|(_, e)| e)
                    .filter(|e| wanted(e));
                wanted.take(limit + 1)
            })
            .cloned()
            .collect();
        rows.sort_unstable_by_key(|endpoint| endpoint.id);
        let more = rows.len() > limit;
        rows.truncate(limit);
        (rows, more)
    }

    /// Every endpoint that is not deleted, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_id
            .values()
            .filter(|endpoint| !endpoint.is_deleted())
    }

    /// How many endpoints there are, deleted ones left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.values().map(|shelves| shelves.all.len()).sum()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn put(&mut self, endpoint: Arc<Endpoint>) {
        let old = self.by_id.insert(endpoint.id, Arc::clone(&endpoint));
        self.devices.put(old.as_deref(), &endpoint);
        if let Some(old) = old {
            self.tenants.entry(old.tenant).or_default().take_out(&old);
        }
        self.by_uuid.insert(endpoint.uuid, endpoint.id);
        self.tenants
            .entry(endpoint.tenant)
            .or_default()
            .put_in(&endpoint);
    }

    /// Forgets endpoints that ended.
    pub(super) fn remove(&mut self, ids: &[EndpointId]) {
        let gone: BTreeSet<EndpointId> = ids.iter().copied().collect();
        for old in gone.iter().filter_map(|id| self.by_id.remove(id)) {
            self.by_uuid.remove(&old.uuid);
            if let Some(shelves) = self.tenants.get_mut(&old.tenant) {
                shelves.take_out(&old);
            }
        }
        self.devices.forget_ended(&gone);
    }

    /// The endpoints that ended before a moment, deleted ones included, in no order.
    #[must_use]
    pub fn ended_before(&self, moment: Time) -> Vec<EndpointId> {
        let ended = self.by_id.iter().filter(|(_, endpoint)| {
            let EndpointState::Retired { at, .. } = endpoint.state else {
                return false;
            };
            at.max(endpoint.updated_at) < moment
        });
        ended.map(|(id, _)| *id).collect()
    }
}

impl Shelves {
    fn put_in(&mut self, endpoint: &Arc<Endpoint>) {
        if endpoint.is_deleted() {
            return;
        }
        let copy = || (endpoint.id, Arc::clone(endpoint));
        self.all.extend([copy()]);
        if matches!(endpoint.state, EndpointState::Retired { .. }) {
            return;
        }
        if !endpoint.recipient.is_empty() {
            self.recipients
                .entry(endpoint.recipient.clone())
                .or_default()
                .extend([copy()]);
        }
        for pattern in &endpoint.event_types {
            match Pattern::of(pattern) {
                Pattern::Everything => self.everything.extend([copy()]),
                Pattern::Prefix(prefix) => {
                    self.prefixes
                        .entry(prefix.to_owned())
                        .or_default()
                        .extend([copy()]);
                }
                Pattern::Exact(name) => {
                    self.exact
                        .entry(name.to_owned())
                        .or_default()
                        .extend([copy()]);
                }
            }
        }
    }

    fn take_out(&mut self, endpoint: &Endpoint) {
        let remove = |map: &mut HashMap<String, Shelf>, key: &str| {
            if let Some(shelf) = map.get_mut(key) {
                shelf.remove(&endpoint.id);
                if shelf.is_empty() {
                    map.remove(key);
                }
            }
        };
        self.all.remove(&endpoint.id);
        remove(&mut self.recipients, &endpoint.recipient);
        for pattern in &endpoint.event_types {
            match Pattern::of(pattern) {
                Pattern::Everything => {
                    self.everything.remove(&endpoint.id);
                }
                Pattern::Prefix(prefix) => remove(&mut self.prefixes, prefix),
                Pattern::Exact(name) => remove(&mut self.exact, name),
            }
        }
    }
}

/// What a subscription means.
enum Pattern<'a> {
    Everything,
    /// With its final dot.
    Prefix(&'a str),
    Exact(&'a str),
}

impl Pattern<'_> {
    fn of(text: &str) -> Pattern<'_> {
        match text.strip_suffix('*') {
            Some("") => Pattern::Everything,
            Some(prefix) if prefix.ends_with('.') => Pattern::Prefix(prefix),
            _ => Pattern::Exact(text),
        }
    }
}

impl Endpoint {
    /// It was deleted: only its ids are left, for the deliveries that name it.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        matches!(
            self.state,
            EndpointState::Retired {
                cause: Cause::EndpointDeleted,
                ..
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::model::TlsProfile;
    use postrider_core::id::PolicyId;

    fn endpoint(id: u64, tenant: u32, recipient: &str, types: &[&str]) -> Endpoint {
        Endpoint {
            id: EndpointId(id),
            uuid: Uuid::from_u128(u128::from(id)),
            tenant: TenantId(tenant),
            url: "https://example.com/".parse().unwrap(),
            kind: crate::registry::Kind::Webhook,
            route: None,
            device: None,
            name: String::new(),
            recipient: recipient.to_owned(),
            event_types: types.iter().map(|&t| t.to_owned()).collect(),
            policy: PolicyId(1),
            guarantee: None,
            rate: None,
            slots_max: None,
            secrets: Vec::new(),
            tls: TlsProfile::default(),
            headers: Vec::new(),
            state: EndpointState::Active,
            created_at: Time(0),
            updated_at: Time(0),
            revision: 0,
        }
    }

    fn subscribed(directory: &Directory, tenant: u32, event_type: &str) -> Vec<u64> {
        let mut found = Vec::new();
        directory.subscribed(TenantId(tenant), event_type, &mut found);
        found.iter().map(|endpoint| endpoint.id.0).collect()
    }

    #[test]
    fn a_subscription_is_exact_or_a_prefix_or_everything_and_counts_once() {
        let mut directory = Directory::default();
        directory.put(Arc::new(endpoint(
            5,
            1,
            "",
            &["order.paid", "order.*", "*"],
        )));
        directory.put(Arc::new(endpoint(2, 1, "", &["order.*"])));
        directory.put(Arc::new(endpoint(3, 1, "", &["order.paid"])));
        directory.put(Arc::new(endpoint(4, 2, "", &["*"])));
        directory.put(Arc::new(endpoint(6, 1, "", &["order.item.*"])));
        for (event_type, expected) in [
            ("order.paid", vec![2, 3, 5]),
            ("order.item.added", vec![2, 5, 6]),
            ("order", vec![5]),
            ("orders.paid", vec![5]),
            ("invoice", vec![5]),
        ] {
            assert_eq!(
                subscribed(&directory, 1, event_type),
                expected,
                "{event_type}"
            );
        }
        assert_eq!(subscribed(&directory, 2, "order.paid"), [4]);
        assert!(subscribed(&directory, 3, "order.paid").is_empty());
    }

    #[test]
    fn a_change_leaves_nothing_of_what_was_there_before() {
        let mut directory = Directory::default();
        directory.put(Arc::new(endpoint(1, 1, "anna", &["a", "b.*", "*"])));
        directory.put(Arc::new(endpoint(1, 1, "bo", &["c"])));
        assert!(subscribed(&directory, 1, "a").is_empty());
        assert!(subscribed(&directory, 1, "b.x").is_empty());
        assert_eq!(subscribed(&directory, 1, "c"), [1]);
        let mut found = Vec::new();
        directory.of_recipient(TenantId(1), "anna", &mut found);
        assert!(found.is_empty());
        directory.of_recipient(TenantId(1), "bo", &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_retired_endpoint_is_listed_but_nothing_new_goes_to_it() {
        let mut directory = Directory::default();
        let mut gone = endpoint(1, 1, "anna", &["*"]);
        gone.state = EndpointState::Retired {
            cause: Cause::Gone,
            at: Time(1),
        };
        directory.put(Arc::new(gone.clone()));
        assert!(subscribed(&directory, 1, "a").is_empty());
        assert_eq!(directory.page(None, EndpointId(0), 10, |_| true).0.len(), 1);
        gone.state = EndpointState::Retired {
            cause: Cause::EndpointDeleted,
            at: Time(2),
        };
        directory.put(Arc::new(gone));
        assert!(directory.is_empty());
        assert!(directory.by_uuid(Uuid::from_u128(1)).is_none());
        assert!(directory.by_id(EndpointId(1)).is_some());
    }

    #[test]
    fn pages_follow_one_another_without_a_gap() {
        let mut directory = Directory::default();
        for id in 1..=25 {
            directory.put(Arc::new(endpoint(id, 1 + (id % 2) as u32, "", &[])));
        }
        let mut seen = Vec::new();
        let mut after = EndpointId(0);
        loop {
            let (page, more) = directory.page(None, after, 7, |_| true);
            seen.extend(page.iter().map(|endpoint| endpoint.id.0));
            after = page.last().unwrap().id;
            if !more {
                break;
            }
        }
        assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    }
}
