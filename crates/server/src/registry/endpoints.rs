//! The verbs of endpoints: create, change, pause, rotate, retire, delete.
//!
//! Each is one function from an endpoint to the next, written, put in memory and announced under
//! one lock. Absent here: sending, and whether an address may be reached.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;
use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, PolicyId, RouteId, TenantId};
use postrider_core::policy::{Guarantee, RatePolicy};
use postrider_core::time::Time;
use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

use super::directory::Directory;
use super::model::{Device, Endpoint, EndpointState, Kind, Secret, TlsProfile};
use super::validate::{self, Invalid};
use super::{Change, Registry, RegistryError};
use crate::channel::webhook::generate_secret;

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 8;
/// Secrets that sign at once at most: the current one and the one before it.
pub const SECRETS_MAX: usize = 2;

/// What a new endpoint is to be. Its parts were checked one by one where they came from.
#[derive(Clone, Debug)]
pub struct EndpointDraft {
    /// Where requests to it go.
    pub url: Url,
    /// Which way it is reached.
    pub kind: Kind,
    /// The credentials it is sent to with.
    pub route: Option<RouteId>,
    /// The device behind it.
    pub device: Option<Device>,
    /// A caller's own words for it, or empty.
    pub name: String,
    /// The person or system it belongs to, or empty.
    pub recipient: String,
    /// Event types it subscribes to.
    pub event_types: Vec<String>,
    /// The policy its deliveries are admitted under.
    pub policy: PolicyId,
    /// Overrides the policy's guarantee.
    pub guarantee: Option<Guarantee>,
    /// Overrides the policy's rate.
    pub rate: Option<RatePolicy>,
    /// Overrides the policy's `slots_max`.
    pub slots_max: Option<u16>,
    /// Signing secret; drawn at random if there is none.
    pub secret: Option<SecretString>,
    /// How TLS is spoken to it.
    pub tls: TlsProfile,
    /// Headers added to each request.
    pub headers: Vec<(String, String)>,
}

impl EndpointDraft {
    /// One that asks for nothing but what it must: no name, no recipient, no subscription, and in
    /// everything else what its policy says.
    #[must_use]
    pub fn new(url: Url, kind: Kind, policy: PolicyId) -> EndpointDraft {
        EndpointDraft {
            url,
            kind,
            route: None,
            device: None,
            name: String::new(),
            recipient: String::new(),
            event_types: Vec::new(),
            policy,
            guarantee: None,
            rate: None,
            slots_max: None,
            secret: None,
            tls: TlsProfile::default(),
            headers: Vec::new(),
        }
    }
}

impl Registry {
    /// All endpoints, for as long as the guard is held. Hold it for one request at the most and
    /// never across an `await`: changes wait for it.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read()
    }

    /// The endpoint with this inner id, retired and deleted ones included.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.directory.read().by_id(id).cloned()
    }

    /// The endpoint with this outer id, retired ones included, deleted ones not.
    #[must_use]
    pub fn endpoint_by_uuid(&self, uuid: Uuid) -> Option<Arc<Endpoint>> {
        self.directory.read().by_uuid(uuid).cloned()
    }

    /// Stands for an endpoint's address in logs and on screens: a keyed hash, the same for the
    /// same address in one installation, and nothing that can be guessed from.
    #[must_use]
    pub fn fingerprint(&self, endpoint: &Endpoint) -> String {
        let hash = blake3::keyed_hash(&self.fingerprint_key, &endpoint.address());
        hex::encode(&hash.as_bytes()[..FINGERPRINT_BYTES])
    }

    /// Creates an endpoint.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] or [`RegistryError::Storage`].
    pub fn create_endpoint(
        &self,
        tenant: TenantId,
        draft: EndpointDraft,
        now: Time,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let mut made = self.create_endpoints(tenant, vec![draft], now)?;
        made.pop().ok_or(RegistryError::Absent("endpoint"))
    }

    /// Creates several endpoints in one commit.
    ///
    /// # Errors
    /// As [`Registry::create_endpoint`]; then none was created.
    pub fn create_endpoints(
        &self,
        tenant: TenantId,
        drafts: Vec<EndpointDraft>,
        now: Time,
    ) -> Result<Vec<Arc<Endpoint>>, RegistryError> {
        let mut endpoints: Vec<Endpoint> = drafts
            .into_iter()
            .map(|draft| fresh(tenant, draft, now))
            .collect();
        for endpoint in &endpoints {
            check(endpoint)?;
        }
        let mut db = self.db.lock();
        db.insert_endpoints(&mut endpoints, &self.cipher)?;
        let made: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
        let mut directory = self.directory.write();
        made.iter()
            .for_each(|endpoint| directory.put(Arc::clone(endpoint)));
        drop(directory);
        for endpoint in &made {
            self.announce(|gatekeeper| gatekeeper.endpoint_changed(endpoint, Change::Created));
        }
        Ok(made)
    }

    /// Changes an endpoint's settings. A change that changes nothing is written all the same: it
    /// bears a new revision, so that connections are made anew.
    ///
    /// # Errors
    /// [`RegistryError::Absent`], [`RegistryError::Retired`], [`RegistryError::Storage`], or what
    /// `edit` refuses.
    pub fn change_endpoint(
        &self,
        id: EndpointId,
        now: Time,
        edit: impl FnOnce(&mut Endpoint) -> Result<(), RegistryError>,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        self.replace(id, now, Change::Written, |endpoint| {
            edit(endpoint)?;
            check(endpoint)?;
            Ok(true)
        })
    }

    /// Holds back what goes to an endpoint. Pausing a paused one keeps the first reason.
    ///
    /// # Errors
    /// As [`Registry::change_endpoint`].
    pub fn pause(
        &self,
        id: EndpointId,
        reason: &str,
        now: Time,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        validate::label("reason", reason)?;
        self.replace(id, now, Change::Written, |endpoint| {
            let active = endpoint.state == EndpointState::Active;
            if active {
                endpoint.state = EndpointState::Paused {
                    reason: reason.to_owned(),
                    at: now,
                };
            }
            Ok(active)
        })
    }

    /// Lets everything go on that was held back, by a pause or by a parked order. Announced even
    /// if the endpoint was not paused.
    ///
    /// # Errors
    /// As [`Registry::change_endpoint`].
    pub fn resume(&self, id: EndpointId, now: Time) -> Result<Arc<Endpoint>, RegistryError> {
        self.replace(id, now, Change::Resumed, |endpoint| {
            endpoint.state = EndpointState::Active;
            Ok(true)
        })
    }

    /// Signs with a new secret from now on, and with the one before it for `overlap_ms` more.
    ///
    /// # Errors
    /// As [`Registry::change_endpoint`].
    pub fn rotate_secret(
        &self,
        id: EndpointId,
        new: Option<SecretString>,
        overlap_ms: i64,
        now: Time,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        self.replace(id, now, Change::Written, |endpoint| {
            endpoint
                .secrets
                .retain(|secret| secret.expires_at.is_none_or(|at| at > now));
            if let Some(current) = endpoint.secrets.first_mut() {
                current.expires_at = Some(now.plus(overlap_ms));
            }
            let value = new.unwrap_or_else(generate_secret);
            endpoint.secrets.insert(
                0,
                Secret {
                    value,
                    created_at: now,
                    expires_at: None,
                },
            );
            endpoint.secrets.truncate(SECRETS_MAX);
            Ok(true)
        })
    }

    /// Ends an endpoint for good: nothing new goes to it. Retiring a retired one changes nothing.
    /// One durable commit, so not for a thread that others wait for.
    ///
    /// # Errors
    /// [`RegistryError::Absent`] or [`RegistryError::Storage`].
    pub fn retire(
        &self,
        id: EndpointId,
        cause: Cause,
        at: Time,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let retired = self.replace(id, at, Change::Retired, |endpoint| {
            endpoint.state = EndpointState::Retired { cause, at };
            Ok(true)
        });
        match retired {
            Err(RegistryError::Retired) => {
                self.endpoint(id).ok_or(RegistryError::Absent("endpoint"))
            }
            other => other,
        }
    }

    /// Retires several endpoints in one commit, each gone since a moment. Those that are retired
    /// already, not there, or registered again since then are left as they are. Returns those that
    /// this has retired.
    ///
    /// # Errors
    /// [`RegistryError::Storage`]; then none was retired.
    pub fn retire_all(
        &self,
        ended: &[(EndpointId, Cause, Time)],
    ) -> Result<Vec<Arc<Endpoint>>, RegistryError> {
        let mut db = self.db.lock();
        let mut retired: Vec<Endpoint> = Vec::with_capacity(ended.len());
        let mut seen = BTreeSet::new();
        for &(id, cause, at) in ended {
            let Some(old) = self.endpoint(id) else {
                continue;
            };
            let lives = old.registered_at() > at;
            let ended = matches!(old.state, EndpointState::Retired { .. });
            if lives || ended || !seen.insert(id) {
                continue;
            }
            retired.push(Endpoint {
                state: EndpointState::Retired { cause, at },
                updated_at: at.max(old.updated_at),
                revision: old.revision + 1,
                ..(*old).clone()
            });
        }
        db.update_endpoints(&retired, &self.cipher)?;
        let retired: Vec<_> = retired.into_iter().map(Arc::new).collect();
        for endpoint in &retired {
            self.directory.write().put(Arc::clone(endpoint));
            self.announce(|it| it.endpoint_changed(endpoint, Change::Retired));
        }
        Ok(retired)
    }

    /// Deletes an endpoint: it is retired, and everything that was in it is forgotten but its ids,
    /// by which old deliveries still name it. Deleting a deleted one changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Absent`] or [`RegistryError::Storage`].
    pub fn delete_endpoint(&self, id: EndpointId, now: Time) -> Result<(), RegistryError> {
        let mut db = self.db.lock();
        let old = self.endpoint(id).ok_or(RegistryError::Absent("endpoint"))?;
        if old.is_deleted() {
            return Ok(());
        }
        let husk = Endpoint {
            url: EMPTY_URL.clone(),
            kind: Kind::Webhook,
            device: None,
            name: String::new(),
            recipient: String::new(),
            event_types: Vec::new(),
            secrets: Vec::new(),
            tls: TlsProfile::default(),
            headers: Vec::new(),
            state: EndpointState::Retired {
                cause: Cause::EndpointDeleted,
                at: now,
            },
            updated_at: now,
            revision: old.revision + 1,
            ..(*old).clone()
        };
        self.store(&mut db, husk, Change::Retired)?;
        Ok(())
    }

    /// `edit` answers whether there is anything to write.
    pub(super) fn replace(
        &self,
        id: EndpointId,
        now: Time,
        change: Change,
        edit: impl FnOnce(&mut Endpoint) -> Result<bool, RegistryError>,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let mut db = self.db.lock();
        let old = self.endpoint(id).ok_or(RegistryError::Absent("endpoint"))?;
        if matches!(old.state, EndpointState::Retired { .. }) {
            return Err(RegistryError::Retired);
        }
        let mut endpoint = (*old).clone();
        if !edit(&mut endpoint)? {
            return Ok(old);
        }
        endpoint.updated_at = now;
        endpoint.revision += 1;
        self.store(&mut db, endpoint, change)
    }

    fn store(
        &self,
        db: &mut super::Db,
        endpoint: Endpoint,
        change: Change,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        db.update_endpoints(std::slice::from_ref(&endpoint), &self.cipher)?;
        let endpoint = Arc::new(endpoint);
        self.directory.write().put(Arc::clone(&endpoint));
        self.announce(|gatekeeper| gatekeeper.endpoint_changed(&endpoint, change));
        Ok(endpoint)
    }
}

/// What a deleted endpoint has for an address. `.invalid` never resolves (RFC 2606 section 2).
static EMPTY_URL: std::sync::LazyLock<Url> = std::sync::LazyLock::new(|| {
    Url::parse("https://deleted.invalid/").unwrap_or_else(|_| unreachable!("a constant"))
});

fn fresh(tenant: TenantId, draft: EndpointDraft, now: Time) -> Endpoint {
    // What goes to a device is encrypted or sent under the route's credentials.
    let secrets = match draft.kind {
        Kind::Webhook => vec![Secret {
            value: draft.secret.unwrap_or_else(generate_secret),
            created_at: now,
            expires_at: None,
        }],
        _ => Vec::new(),
    };
    Endpoint {
        id: EndpointId(0),
        uuid: Uuid::from_u128(uuid_v4_bits(rand::random())),
        tenant,
        url: draft.url,
        kind: draft.kind,
        route: draft.route,
        device: draft.device,
        name: draft.name,
        recipient: draft.recipient,
        event_types: draft.event_types,
        policy: draft.policy,
        guarantee: draft.guarantee,
        rate: draft.rate,
        slots_max: draft.slots_max,
        secrets,
        tls: draft.tls,
        headers: draft.headers,
        state: EndpointState::Active,
        created_at: now,
        updated_at: now,
        revision: 1,
    }
}

/// Random bits as a UUIDv4 (RFC 9562 section 5.4).
pub(super) fn uuid_v4_bits(random: u128) -> u128 {
    uuid::Builder::from_random_bytes(random.to_be_bytes())
        .into_uuid()
        .as_u128()
}

fn check(endpoint: &Endpoint) -> Result<(), Invalid> {
    validate::label("name", &endpoint.name)?;
    validate::label("recipient", &endpoint.recipient)?;
    if endpoint.event_types.len() > validate::EVENT_TYPES_MAX {
        return Err(Invalid::hidden(
            "event_types",
            "must hold at most 64 subscriptions",
        ));
    }
    endpoint
        .event_types
        .iter()
        .try_for_each(|text| validate::subscription(text))?;
    if endpoint.slots_max == Some(0) {
        return Err(Invalid::shown("slots_max", "0", "must be at least 1"));
    }
    if endpoint
        .rate
        .is_some_and(|rate| rate.per_second_milli == 0 || rate.burst == 0)
    {
        return Err(Invalid::hidden(
            "rate",
            "must let at least something through",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::KEY_PACE;
    use crate::vault::Vault;
    use parking_lot::Mutex;
    use postrider_core::policy::Policy;
    use secrecy::ExposeSecret;

    fn draft(url: &str) -> EndpointDraft {
        EndpointDraft {
            name: "shop".into(),
            recipient: "anna".into(),
            event_types: vec!["order.*".into()],
            guarantee: Some(Guarantee::AtMostOnce),
            rate: Some(RatePolicy {
                per_second_milli: 500,
                burst: 2,
            }),
            slots_max: Some(3),
            tls: TlsProfile {
                client_key_pem: Some("KEY".into()),
                ..TlsProfile::default()
            },
            headers: vec![("authorization".into(), "Bearer sesame".into())],
            ..EndpointDraft::new(url.parse().unwrap(), Kind::Webhook, PolicyId(1))
        }
    }

    #[derive(Default)]
    struct Notes(Mutex<Vec<(u64, u64, Change)>>);

    impl super::super::Gatekeeper for Notes {
        fn endpoint_changed(&self, endpoint: &Arc<Endpoint>, change: Change) {
            self.0
                .lock()
                .push((endpoint.id.0, endpoint.revision, change));
        }

        fn policy_changed(&self, _: &Arc<Policy>) {}
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_secret_lies_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path(), &Vault::of(&[7; 32]), KEY_PACE).unwrap();
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id;
        let made = registry
            .create_endpoint(
                tenant,
                draft("https://example.com/hook?token=t0k3n"),
                Time(5),
            )
            .unwrap();
        let paused = registry.pause(made.id, "too slow", Time(6)).unwrap();
        drop(registry);

        let registry = Registry::open(dir.path(), &Vault::of(&[7; 32]), KEY_PACE).unwrap();
        let read = registry.endpoint_by_uuid(made.uuid).unwrap();
        assert_eq!(format!("{read:?}"), format!("{paused:?}"));
        assert_eq!(
            read.secrets[0].value.expose_secret(),
            made.secrets[0].value.expose_secret()
        );
        assert_eq!(
            read.tls.client_key_pem.as_ref().unwrap().expose_secret(),
            "KEY"
        );
        assert_eq!(read.url, made.url);
        assert_eq!(read.headers, made.headers);
        drop(registry);

        let secret = made.secrets[0].value.expose_secret().to_owned();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            for word in ["t0k3n", "sesame", "example.com", "whsec_", &secret] {
                let found = bytes
                    .windows(word.len())
                    .any(|window| window == word.as_bytes());
                assert!(!found, "{word} lies in the clear");
            }
        }
    }

    #[test]
    fn changes_are_announced_in_order_and_retirement_is_for_good() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let notes = Arc::new(Notes::default());
        registry.announce_to(notes.clone());
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id;
        let id = registry
            .create_endpoint(tenant, draft("https://a.test/"), Time(1))
            .unwrap()
            .id;
        registry.pause(id, "why", Time(2)).unwrap();
        registry.pause(id, "again", Time(3)).unwrap();
        registry.resume(id, Time(4)).unwrap();
        registry.retire(id, Cause::Gone, Time(5)).unwrap();
        let again = registry.retire(id, Cause::NotFound, Time(6)).unwrap();
        assert_eq!(
            again.state,
            EndpointState::Retired {
                cause: Cause::Gone,
                at: Time(5)
            }
        );
        assert!(matches!(
            registry.resume(id, Time(7)),
            Err(RegistryError::Retired)
        ));
        registry.delete_endpoint(id, Time(8)).unwrap();
        registry.delete_endpoint(id, Time(9)).unwrap();
        assert_eq!(
            *notes.0.lock(),
            [
                (id.0, 1, Change::Created),
                (id.0, 2, Change::Written),
                (id.0, 3, Change::Resumed),
                (id.0, 4, Change::Retired),
                (id.0, 5, Change::Retired),
            ]
        );
        let husk = registry.endpoint(id).unwrap();
        assert!(husk.is_deleted() && husk.secrets.is_empty() && husk.headers.is_empty());
        assert!(registry.endpoint_by_uuid(husk.uuid).is_none());
    }

    #[test]
    fn two_secrets_sign_while_they_rotate_and_never_three() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id;
        let id = registry
            .create_endpoint(tenant, draft("https://a.test/"), Time(1))
            .unwrap()
            .id;
        let ends = |endpoint: &Endpoint| -> Vec<Option<i64>> {
            endpoint
                .secrets
                .iter()
                .map(|secret| secret.expires_at.map(|at| at.0))
                .collect()
        };
        let once = registry.rotate_secret(id, None, 100, Time(10)).unwrap();
        assert_eq!(ends(&once), [None, Some(110)]);
        let twice = registry
            .rotate_secret(id, Some("whsec_x".into()), 100, Time(20))
            .unwrap();
        assert_eq!(ends(&twice), [None, Some(120)]);
        assert_eq!(twice.secrets[0].value.expose_secret(), "whsec_x");
        assert_eq!(
            twice.secrets[1].value.expose_secret(),
            once.secrets[0].value.expose_secret()
        );
        let later = registry.rotate_secret(id, None, 0, Time(500)).unwrap();
        assert_eq!(ends(&later), [None, Some(500)]);
    }

    #[test]
    fn a_refused_change_leaves_the_endpoint_as_it_was() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id;
        let made = registry
            .create_endpoint(tenant, draft("https://a.test/"), Time(1))
            .unwrap();
        let refused = registry.change_endpoint(made.id, Time(2), |endpoint| {
            endpoint.event_types = vec!["not a type".into()];
            Ok(())
        });
        assert!(matches!(refused, Err(RegistryError::Invalid(_))));
        assert_eq!(registry.endpoint(made.id).unwrap().revision, 1);
        assert!(matches!(
            registry.retire(EndpointId(99), Cause::Gone, Time(3)),
            Err(RegistryError::Absent("endpoint"))
        ));
    }
}
