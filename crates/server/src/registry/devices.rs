//! Devices: push endpoints that register by themselves, again and again.
//!
//! A registration is an upsert. The same address again refreshes what is known about it; another
//! address under the same device id takes the old one's place, so that no notification ever goes to
//! both; an address that was retired comes back as a new endpoint, because what was learnt about
//! the old one is not true of it any more.
//!
//! Absent here: whether an address is one of a push service, which its channel checks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, RouteId, TenantId};
use postrider_core::time::Time;
use url::Url;

use super::endpoints::EndpointDraft;
use super::model::{Endpoint, EndpointState, Kind, address};
use super::{Change, Registry, RegistryError};

/// What a registration came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The address was not known.
    Created,
    /// The address was known; its keys, owner and times are now these.
    Refreshed,
    /// The device was known under another address, which this one has replaced.
    Replaced,
    /// Nothing new was said, or something older than what is known: it stays as it is.
    Unchanged,
}

/// Live push endpoints of all tenants, by address and by the application's id of the device.
#[derive(Default)]
pub(super) struct Devices {
    by_address: HashMap<(TenantId, [u8; 16]), EndpointId>,
    by_device: HashMap<(TenantId, String), EndpointId>,
    /// The last endpoint of each address that has none any more.
    ended: HashMap<(TenantId, [u8; 16]), EndpointId>,
}

impl Devices {
    /// Notes what `endpoint` is now, instead of what `old` was.
    pub(super) fn put(&mut self, old: Option<&Endpoint>, endpoint: &Endpoint) {
        if let Some(old) = old {
            self.take(old);
        }
        let live = !matches!(endpoint.state, EndpointState::Retired { .. });
        if let Some(device) = endpoint.device.as_ref().filter(|_| live) {
            let address = (endpoint.tenant, endpoint.address());
            self.ended.remove(&address);
            self.by_address.insert(address, endpoint.id);
            if !device.id.is_empty() {
                let device = (endpoint.tenant, device.id.clone());
                self.by_device.insert(device, endpoint.id);
            }
        } else if endpoint.device.is_some() {
            // A deleted one has no address any more, but had one.
            let address = old.unwrap_or(endpoint).address();
            self.ended.insert((endpoint.tenant, address), endpoint.id);
        }
    }

    /// Forgets addresses by the endpoints that ended there.
    pub(super) fn forget_ended(&mut self, gone: &BTreeSet<EndpointId>) {
        self.ended.retain(|_, id| !gone.contains(id));
    }

    fn take(&mut self, old: &Endpoint) {
        let Some(device) = &old.device else { return };
        let address = (old.tenant, old.address());
        if self.by_address.get(&address) == Some(&old.id) {
            self.by_address.remove(&address);
        }
        let device = (old.tenant, device.id.clone());
        if self.by_device.get(&device) == Some(&old.id) {
            self.by_device.remove(&device);
        }
    }

    pub(super) fn at(&self, tenant: TenantId, address: [u8; 16]) -> Option<EndpointId> {
        self.by_address.get(&(tenant, address)).copied()
    }

    pub(super) fn ended_at(&self, tenant: TenantId, address: [u8; 16]) -> Option<EndpointId> {
        self.ended.get(&(tenant, address)).copied()
    }

    pub(super) fn of(&self, tenant: TenantId, device: &str) -> Option<EndpointId> {
        self.by_device.get(&(tenant, device.to_owned())).copied()
    }
}

impl Registry {
    /// The endpoint that makes news of `said_at` old: a live one that was registered later, or the
    /// last one of the address, retired later.
    fn later_than(
        &self,
        tenant: TenantId,
        address: [u8; 16],
        live: Option<EndpointId>,
        said_at: Time,
    ) -> Option<Arc<Endpoint>> {
        let directory = self.directory();
        let ended = || directory.device_ended_at(tenant, address);
        let known = directory.by_id(live.or_else(ended)?)?;
        let known_at = match &known.state {
            EndpointState::Retired { at, .. } => *at,
            _ => known.device.as_ref()?.refreshed_at,
        };
        (known_at > said_at).then(|| Arc::clone(known))
    }

    /// Registers a device, or registers it again. `previous` is the address that the application
    /// says this one replaces, if it says so.
    ///
    /// The draft says when it was true last. What was registered, or retired, later than that stays
    /// as it is, so that a file of devices may be imported into a living registry, and twice.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] or [`RegistryError::Storage`].
    pub fn register_device(
        &self,
        tenant: TenantId,
        draft: EndpointDraft,
        previous: Option<[u8; 16]>,
        now: Time,
    ) -> Result<(Arc<Endpoint>, Registered), RegistryError> {
        // Two registrations of one address at once must not become two endpoints.
        let _turn = self.registering.lock();
        let device = draft.device.clone().unwrap_or_default();
        let own = address(&draft.kind, &draft.url);
        let (same, other) = {
            let directory = self.directory();
            let same = directory.device_at(tenant, own);
            let replaced = previous.and_then(|address| directory.device_at(tenant, address));
            let known = (!device.id.is_empty())
                .then(|| directory.device(tenant, &device.id))
                .flatten();
            (same, known.or(replaced))
        };
        if let Some(known) = self.later_than(tenant, own, same.or(other), device.refreshed_at) {
            return Ok((known, Registered::Unchanged));
        }
        // The address has moved to a device that was known under another one: one of the two goes.
        if let (Some(same), Some(other)) = (same, other)
            && same != other
        {
            self.retire(other, Cause::EndpointRetired, now)?;
        }
        let Some(id) = same.or(other) else {
            let made = self.create_endpoint(tenant, draft, now)?;
            return Ok((made, Registered::Created));
        };
        let mut changed = false;
        let refreshed = self.replace(id, now, Change::Written, |endpoint| {
            let before = said(endpoint);
            refresh(endpoint, draft.clone(), now);
            changed = said(endpoint) != before;
            Ok(changed)
        });
        match refreshed {
            Ok(endpoint) if !changed => Ok((endpoint, Registered::Unchanged)),
            Ok(endpoint) if same.is_some() => Ok((endpoint, Registered::Refreshed)),
            Ok(endpoint) => Ok((endpoint, Registered::Replaced)),
            // It was retired meanwhile: this is a new life of the address.
            Err(RegistryError::Retired) => {
                let made = self.create_endpoint(tenant, draft, now)?;
                Ok((made, Registered::Created))
            }
            Err(error) => Err(error),
        }
    }
}

impl Registry {
    /// Moves a device, whose token its provider does not know on the route `from`, to another,
    /// unless it was moved before. A device that has another token by now, or is on another route,
    /// stays where it is: nobody has refused it there.
    ///
    /// # Errors
    /// [`RegistryError::Absent`] or [`RegistryError::Storage`].
    pub fn move_device(
        &self,
        id: EndpointId,
        (token, from): (&Kind, RouteId),
        (to, url): (RouteId, Url),
        now: Time,
    ) -> Result<Moved, RegistryError> {
        let mut comes_to = Moved::Before;
        let moved = self.replace(id, now, Change::Written, |endpoint| {
            if endpoint.kind != *token || endpoint.route != Some(from) {
                return Ok(false);
            }
            let device = endpoint.device.as_mut();
            let Some(device) = device.filter(|device| device.moved_from.is_none()) else {
                comes_to = Moved::No;
                return Ok(false);
            };
            device.moved_from = Some(from);
            (endpoint.route, endpoint.url) = (Some(to), url);
            comes_to = Moved::Now;
            Ok(true)
        });
        match moved {
            Ok(_) => Ok(comes_to),
            // Both have refused it by now.
            Err(RegistryError::Retired) => Ok(Moved::No),
            Err(error) => Err(error),
        }
    }
}

/// What [`Registry::move_device`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is on the other route from now on.
    Now,
    /// It is not what was refused any more: it was moved, or has another token.
    Before,
    /// Both have refused it.
    No,
}

/// Everything that a registration can change.
fn said(endpoint: &Endpoint) -> impl PartialEq + use<> {
    (
        (endpoint.url.clone(), endpoint.kind.clone()),
        (endpoint.route, endpoint.policy),
        (endpoint.recipient.clone(), endpoint.name.clone()),
        (endpoint.event_types.clone(), endpoint.device.clone()),
    )
}

/// What is said now counts; what is not said stays.
fn refresh(endpoint: &mut Endpoint, draft: EndpointDraft, now: Time) {
    let before = endpoint.device.take().unwrap_or_default();
    // The application knows its token, and not on which route it is of any use: what was learnt of
    // that stays, for as long as the token is the same.
    let same = address(&draft.kind, &draft.url) == endpoint.address();
    let moved_from = before.moved_from.filter(|_| same);
    if moved_from.is_none() || draft.route != moved_from {
        endpoint.url = draft.url;
        endpoint.route = draft.route;
    }
    endpoint.kind = draft.kind;
    endpoint.policy = draft.policy;
    if !draft.recipient.is_empty() {
        endpoint.recipient = draft.recipient;
    }
    if !draft.name.is_empty() {
        endpoint.name = draft.name;
    }
    if !draft.event_types.is_empty() {
        endpoint.event_types = draft.event_types;
    }
    endpoint.device = draft.device.map(|mut device| {
        if device.id.is_empty() {
            device.id = before.id;
        }
        if device.platform.is_empty() {
            device.platform = before.platform;
        }
        device.authorisation = device.authorisation.or(before.authorisation);
        device.moved_from = moved_from;
        device.replaced_at = if same { before.replaced_at } else { now };
        device
    });
}
