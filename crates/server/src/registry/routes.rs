//! Routes: named push credentials of a tenant. Every push endpoint is sent to over one.
//!
//! A route is changed whole: new credentials take the place of the old ones, and what waits for
//! the route goes on with them. Web Push keeps its older keys, because a subscription can only be
//! sent to with the key that it was made with (RFC 8292 section 4).
//!
//! Absent here: signing, and what a provider says about the credentials.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postrider_core::endpoint::Channel;
use postrider_core::id::{RouteId, TenantId};
use postrider_core::time::Time;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::validate::{self, Invalid};
use super::{Registry, RegistryError, TlsProfile};

/// Keys of Web Push that a route keeps at the most, the one that signs up new subscriptions first.
pub const VAPID_KEYS_MAX: usize = 8;
/// Routes of one tenant at the most.
pub const ROUTES_MAX: usize = 1_000;

/// One set of push credentials. A change makes a new value behind a new `Arc`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Inner id.
    pub id: RouteId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Name, unique among the tenant's.
    pub name: String,
    /// What opens the provider's door.
    pub credentials: Credentials,
    /// Where the provider is, if not where it always is: a fake, or a relay.
    pub server: Option<Url>,
    /// How TLS is spoken to it; the client certificate of APNs is here.
    pub tls: TlsProfile,
    /// Paused by a person, in whose words, and since when.
    pub paused: Option<(String, Time)>,
    /// When it was created.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
    /// Counts its changes.
    pub revision: u64,
}

/// What opens a provider's door.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Keys of a voluntary application server identification (RFC 8292).
    WebPush {
        /// Whom a push service may write to: `mailto:` or `https:`.
        subject: String,
        /// The newest first.
        keys: Vec<VapidKey>,
    },
    /// Apple's provider API.
    Apns {
        /// The app's bundle id.
        topic: String,
        /// Of Apple's two services the one for apps that Xcode put on a device.
        sandbox: bool,
        /// The key that signs provider tokens; `None` where a client certificate speaks for us.
        signer: Option<ApnsSigner>,
    },
    /// Firebase Cloud Messaging.
    Fcm {
        /// The service account as Google hands it out, JSON.
        service_account: SecretString,
    },
}

impl Credentials {
    /// The channel that they are for.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Credentials::WebPush { .. } => Channel::WebPush,
            Credentials::Apns { .. } => Channel::Apns,
            Credentials::Fcm { .. } => Channel::Fcm,
        }
    }
}

/// A key pair of P-256.
#[derive(Clone, Debug)]
pub struct VapidKey {
    /// The public half: an uncompressed point in base64url, as `applicationServerKey` takes it.
    pub public: String,
    /// The private half: the scalar in base64url.
    pub private: SecretString,
    /// When it was made.
    pub created_at: Time,
}

/// What signs provider tokens.
#[derive(Clone, Debug)]
pub struct ApnsSigner {
    /// Apple's id of the team.
    pub team: String,
    /// Apple's id of the key.
    pub key_id: String,
    /// The key as Apple hands it out: `.p8`, PKCS#8 as PEM.
    pub key_pem: SecretString,
}

/// What a new route is to be.
#[derive(Clone, Debug)]
pub struct RouteDraft {
    /// Name.
    pub name: String,
    /// What opens the provider's door.
    pub credentials: Credentials,
    /// Where the provider is, if not where it always is.
    pub server: Option<Url>,
    /// How TLS is spoken to it.
    pub tls: TlsProfile,
}

/// All routes, by every name.
#[derive(Default)]
pub(super) struct Routes {
    by_id: BTreeMap<RouteId, Arc<Route>>,
    by_name: HashMap<(TenantId, String), RouteId>,
}

impl Routes {
    pub(super) fn put(&mut self, route: Arc<Route>) {
        let name = (route.tenant, route.name.clone());
        self.by_name.insert(name, route.id);
        self.by_id.insert(route.id, route);
    }

    fn named(&self, tenant: TenantId, name: &str) -> Option<&Arc<Route>> {
        let id = self.by_name.get(&(tenant, name.to_owned()))?;
        self.by_id.get(id)
    }
}

impl Registry {
    /// Creates a route.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`], [`RegistryError::Taken`] or [`RegistryError::Storage`].
    pub fn create_route(
        &self,
        tenant: TenantId,
        draft: RouteDraft,
        now: Time,
    ) -> Result<Arc<Route>, RegistryError> {
        validate::slug("name", &draft.name)?;
        let mut db = self.db.lock();
        let taken = self.route_named(tenant, &draft.name).is_some();
        if taken {
            let name = draft.name;
            return Err(RegistryError::Taken {
                what: "route",
                name,
            });
        }
        if self.routes(tenant).len() >= ROUTES_MAX {
            let rule = "must be one of at most 1,000 routes of a tenant";
            return Err(Invalid::shown("name", &draft.name, rule).into());
        }
        let mut route = Route {
            id: RouteId(0),
            tenant,
            name: draft.name,
            credentials: draft.credentials,
            server: draft.server,
            tls: draft.tls,
            paused: None,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let seal = Uuid::from_u128(super::endpoints::uuid_v4_bits(rand::random()));
        route.id = db.insert_route(&route, seal, &self.cipher)?;
        let route = Arc::new(route);
        self.routes.write().put(Arc::clone(&route));
        Ok(route)
    }

    /// Changes a route: its credentials, its server, or whether it is paused. What waits for it is
    /// told at once.
    ///
    /// # Errors
    /// [`RegistryError::Absent`], [`RegistryError::Storage`], or what `edit` refuses.
    pub fn change_route(
        &self,
        id: RouteId,
        now: Time,
        edit: impl FnOnce(&mut Route) -> Result<(), RegistryError>,
    ) -> Result<Arc<Route>, RegistryError> {
        let mut db = self.db.lock();
        let old = self.route(id).ok_or(RegistryError::Absent("route"))?;
        let mut route = (*old).clone();
        edit(&mut route)?;
        route.updated_at = now;
        route.revision += 1;
        db.update_route(&route, &self.cipher)?;
        let route = Arc::new(route);
        self.routes.write().put(Arc::clone(&route));
        self.announce(|gatekeeper| gatekeeper.route_changed(&route));
        Ok(route)
    }

    /// The route with this id.
    #[must_use]
    pub fn route(&self, id: RouteId) -> Option<Arc<Route>> {
        self.routes.read().by_id.get(&id).cloned()
    }

    /// The tenant's route with this name.
    #[must_use]
    pub fn route_named(&self, tenant: TenantId, name: &str) -> Option<Arc<Route>> {
        self.routes.read().named(tenant, name).cloned()
    }

    /// The tenant's routes, by id.
    #[must_use]
    pub fn routes(&self, tenant: TenantId) -> Vec<Arc<Route>> {
        let routes = self.routes.read();
        let own = routes.by_id.values().filter(|it| it.tenant == tenant);
        own.cloned().collect()
    }

    /// Every tenant's routes that a person has paused.
    #[must_use]
    pub fn paused_routes(&self) -> Vec<RouteId> {
        let routes = self.routes.read();
        let paused = routes.by_id.values().filter(|it| it.paused.is_some());
        paused.map(|route| route.id).collect()
    }
}

/// What of a route lies in the clear.
#[derive(Serialize, Deserialize)]
pub(super) struct OpenRoute {
    name: String,
    server: Option<String>,
    paused: Option<(String, i64)>,
}

/// What of a route is sealed. Field names are frozen.
#[derive(Serialize, Deserialize)]
pub(super) struct SealedRoute {
    credentials: SealedCredentials,
    tls_1_2: bool,
    ca_pem: Option<String>,
    client_cert_pem: Option<String>,
    client_key_pem: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "snake_case")]
enum SealedCredentials {
    WebPush {
        subject: String,
        /// Public half, private half, created at.
        keys: Vec<(String, String, i64)>,
    },
    Apns {
        topic: String,
        sandbox: bool,
        /// Team, key id, key.
        signer: Option<(String, String, String)>,
    },
    Fcm {
        service_account: String,
    },
}

impl Route {
    pub(super) fn open_part(&self) -> OpenRoute {
        OpenRoute {
            name: self.name.clone(),
            server: self.server.as_ref().map(Url::to_string),
            paused: self.paused.clone().map(|(reason, at)| (reason, at.0)),
        }
    }

    pub(super) fn sealed_part(&self) -> SealedRoute {
        use super::model::TlsVersion;
        use secrecy::ExposeSecret as _;
        let credentials = match &self.credentials {
            Credentials::WebPush { subject, keys } => SealedCredentials::WebPush {
                subject: subject.clone(),
                keys: keys
                    .iter()
                    .map(|key| {
                        let private = key.private.expose_secret().to_owned();
                        (key.public.clone(), private, key.created_at.0)
                    })
                    .collect(),
            },
            Credentials::Apns {
                topic,
                sandbox,
                signer,
            } => SealedCredentials::Apns {
                topic: topic.clone(),
                sandbox: *sandbox,
                signer: signer.as_ref().map(|signer| {
                    let key = signer.key_pem.expose_secret().to_owned();
                    (signer.team.clone(), signer.key_id.clone(), key)
                }),
            },
            Credentials::Fcm { service_account } => SealedCredentials::Fcm {
                service_account: service_account.expose_secret().to_owned(),
            },
        };
        let key = self.tls.client_key_pem.as_ref();
        SealedRoute {
            credentials,
            tls_1_2: self.tls.min_version == TlsVersion::V1_2,
            ca_pem: self.tls.ca_pem.clone(),
            client_cert_pem: self.tls.client_cert_pem.clone(),
            client_key_pem: key.map(|key| key.expose_secret().to_owned()),
        }
    }

    pub(super) fn of_parts(
        id: RouteId,
        tenant: TenantId,
        (revision, created_at, updated_at): (u64, Time, Time),
        open: OpenRoute,
        sealed: SealedRoute,
    ) -> Route {
        use super::model::TlsVersion;
        let credentials = match sealed.credentials {
            SealedCredentials::WebPush { subject, keys } => Credentials::WebPush {
                subject,
                keys: keys
                    .into_iter()
                    .map(|(public, private, created_at)| VapidKey {
                        public,
                        private: private.into(),
                        created_at: Time(created_at),
                    })
                    .collect(),
            },
            SealedCredentials::Apns {
                topic,
                sandbox,
                signer,
            } => Credentials::Apns {
                topic,
                sandbox,
                signer: signer.map(|(team, key_id, key)| ApnsSigner {
                    team,
                    key_id,
                    key_pem: key.into(),
                }),
            },
            SealedCredentials::Fcm { service_account } => Credentials::Fcm {
                service_account: service_account.into(),
            },
        };
        Route {
            id,
            tenant,
            name: open.name,
            credentials,
            server: open.server.and_then(|server| Url::parse(&server).ok()),
            tls: TlsProfile {
                min_version: match sealed.tls_1_2 {
                    true => TlsVersion::V1_2,
                    false => TlsVersion::V1_3,
                },
                ca_pem: sealed.ca_pem,
                client_cert_pem: sealed.client_cert_pem,
                client_key_pem: sealed.client_key_pem.map(Into::into),
            },
            paused: open.paused.map(|(reason, at)| (reason, Time(at))),
            created_at,
            updated_at,
            revision,
        }
    }
}
