//! `/v1/routes`: the push credentials of a tenant.
//!
//! Absent here: showing a private key. It comes in and never goes out.

use std::sync::Arc;

use axum::extract::{Extension, State};
use http::StatusCode;
use postrider_core::id::TenantId;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::Page;
use super::endpoint_in::TlsIn;
use crate::channel::apns::Environment;
use crate::channel::credentials::{self, CredentialFault};
use crate::http::access::Caller;
use crate::http::body::{Json, Name};
use crate::http::error::{Code, Problem, ProblemBody};
use crate::http::words::moment;
use crate::http::{Api, blocking};
use crate::registry::{
    ApnsSigner, Credentials, RegistryError, Route, RouteDraft, VAPID_KEYS_MAX, VapidKey, validate,
};

/// A route that is to be: exactly one of `web_push`, `apns` and `fcm`.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewRoute)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteIn {
    /// Its name, unique among the tenant's.
    name: String,
    #[serde(flatten)]
    parts: Parts,
}

/// What a route is to be from now on. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[schema(as = RouteChange)]
pub(super) struct RoutePatch {
    #[serde(flatten)]
    parts: Parts,
}

#[derive(Default, Deserialize, ToSchema)]
struct Parts {
    /// Keys of Web Push.
    web_push: Option<WebPushIn>,
    /// Apple's credentials.
    apns: Option<ApnsIn>,
    /// Google's credentials.
    fcm: Option<FcmIn>,
    /// Where the provider is, if not where it always is: `https://…`.
    server: Option<String>,
    /// How TLS is spoken to it; the client certificate of APNs is here.
    tls: Option<TlsIn>,
}

/// Keys of Web Push (RFC 8292).
#[derive(Deserialize, ToSchema)]
#[schema(as = WebPushRoute)]
#[serde(deny_unknown_fields)]
struct WebPushIn {
    /// Whom a push service may write to: `mailto:…` or `https:…` with a real host.
    subject: String,
    /// The private key, 32 bytes in base64url. Without it a key is made.
    #[schema(value_type = Option<String>)]
    private_key: Option<SecretString>,
}

/// Apple's credentials: a key, or the client certificate of `tls`.
#[derive(Deserialize, ToSchema)]
#[schema(as = ApnsRoute)]
#[serde(deny_unknown_fields)]
struct ApnsIn {
    /// The app's bundle id.
    topic: String,
    /// The service for apps that Xcode put on a device.
    #[serde(default)]
    sandbox: bool,
    /// Apple's id of the team, 10 characters.
    team_id: Option<String>,
    /// Apple's id of the key, 10 characters.
    key_id: Option<String>,
    /// The key as Apple hands it out, `.p8`.
    #[schema(value_type = Option<String>)]
    key_pem: Option<SecretString>,
}

/// Google's credentials.
#[derive(Deserialize, ToSchema)]
#[schema(as = FcmRoute)]
#[serde(deny_unknown_fields)]
struct FcmIn {
    /// The service account as Google hands it out.
    #[schema(value_type = Object)]
    service_account: serde_json::Value,
}

/// A route, without what is secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Route)]
pub(super) struct RouteView {
    name: String,
    /// `web_push`, `apns` or `fcm`.
    channel: &'static str,
    /// Keys of Web Push, the one for new subscriptions first: `applicationServerKey`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    public_keys: Vec<String>,
    /// The app's bundle id.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// Why it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
    created_at: String,
    updated_at: String,
}

/// Create a route
#[utoipa::path(
    post, path = "/v1/routes", tag = "routes", request_body = RouteIn,
    responses(
        (status = 201, body = RouteView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Json(route): Json<RouteIn>,
) -> Result<(StatusCode, axum::Json<RouteView>), Problem> {
    let tenant = caller.tenant()?;
    let now = api.intake.now();
    let credentials = route
        .parts
        .credentials(now)?
        .ok_or_else(|| Problem::invalid("web_push", "", ONE_OF))?;
    let draft = RouteDraft {
        name: route.name,
        credentials,
        server: server(&api, route.parts.server.as_deref())?,
        tls: route.parts.tls.unwrap_or_default().profile()?,
    };
    let made = blocking(&api, move |api| {
        api.registry.create_route(tenant, draft, now)
    })
    .await??;
    Ok((StatusCode::CREATED, axum::Json(view(&made))))
}

/// List routes
#[utoipa::path(
    get, path = "/v1/routes", tag = "routes",
    responses(
        (status = 200, body = Page<RouteView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Page<RouteView>>, Problem> {
    let routes = api.registry.routes(caller.tenant()?);
    Ok(axum::Json(Page {
        items: routes.iter().map(|route| view(route)).collect(),
        next: None,
    }))
}

/// Show a route
#[utoipa::path(
    get, path = "/v1/routes/{name}", tag = "routes", params(("name" = String, Path)),
    responses(
        (status = 200, body = RouteView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<axum::Json<RouteView>, Problem> {
    Ok(axum::Json(view(&*named(&api, caller.tenant()?, &name)?)))
}

/// Renew a route's credentials
///
/// What waits for the route goes on with them. A new key of Web Push signs for new subscriptions;
/// the old ones stay for those that were made with them.
#[utoipa::path(
    patch, path = "/v1/routes/{name}", tag = "routes", params(("name" = String, Path)),
    request_body = RoutePatch,
    responses(
        (status = 200, body = RouteView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    Json(patch): Json<RoutePatch>,
) -> Result<axum::Json<RouteView>, Problem> {
    let id = named(&api, caller.tenant()?, &name)?.id;
    let now = api.intake.now();
    let credentials = patch.parts.credentials(now)?;
    let server = match &patch.parts.server {
        Some(text) => Some(server(&api, Some(text))?),
        None => None,
    };
    let tls = patch.parts.tls.map(TlsIn::profile).transpose()?;
    let edit = move |route: &mut Route| {
        if let Some(credentials) = credentials {
            renew(&mut route.credentials, credentials)?;
        }
        route.server = server.unwrap_or(route.server.take());
        if let Some(tls) = tls {
            route.tls = tls;
        }
        Ok(())
    };
    let changed = blocking(&api, move |api| api.registry.change_route(id, now, edit)).await??;
    Ok(axum::Json(view(&changed)))
}

/// Hold back what goes over a route
#[utoipa::path(
    post, path = "/v1/routes/{name}/pause", tag = "routes", params(("name" = String, Path)),
    responses(
        (status = 200, body = RouteView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn pause(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    name: Name,
) -> Result<axum::Json<RouteView>, Problem> {
    switch(api, caller, name, true).await
}

/// Let everything go on that waits for a route
#[utoipa::path(
    post, path = "/v1/routes/{name}/resume", tag = "routes", params(("name" = String, Path)),
    responses(
        (status = 200, body = RouteView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn resume(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    name: Name,
) -> Result<axum::Json<RouteView>, Problem> {
    switch(api, caller, name, false).await
}

async fn switch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    pause: bool,
) -> Result<axum::Json<RouteView>, Problem> {
    let id = named(&api, caller.tenant()?, &name)?.id;
    let now = api.intake.now();
    let edit = move |route: &mut Route| {
        route.paused = pause.then(|| ("paused by hand".to_owned(), now));
        Ok(())
    };
    let changed = blocking(&api, move |api| api.registry.change_route(id, now, edit)).await??;
    Ok(axum::Json(view(&changed)))
}

const ONE_OF: &str = "must be given, or `apns`, or `fcm`: exactly one of them";

impl Parts {
    fn credentials(&self, now: postrider_core::time::Time) -> Result<Option<Credentials>, Problem> {
        let credentials = match (&self.web_push, &self.apns, &self.fcm) {
            (None, None, None) => return Ok(None),
            (Some(keys), None, None) => {
                credentials::web_push(&keys.subject, keys.private_key.as_ref(), now)
            }
            (None, Some(apns), None) => apns.credentials(self.tls.as_ref()),
            (None, None, Some(fcm)) => credentials::fcm(&fcm.service_account),
            _ => return Err(Problem::invalid("web_push", "", ONE_OF)),
        };
        credentials.map(Some).map_err(|fault: CredentialFault| {
            Problem::invalid(fault.field, &fault.value, fault.rule).detail(fault.detail)
        })
    }
}

impl ApnsIn {
    fn credentials(&self, tls: Option<&TlsIn>) -> Result<Credentials, CredentialFault> {
        let signer = match (&self.team_id, &self.key_id, &self.key_pem) {
            (Some(team), Some(key_id), Some(key_pem)) => Some(ApnsSigner {
                team: team.clone(),
                key_id: key_id.clone(),
                key_pem: key_pem.clone(),
            }),
            _ => None,
        };
        let certificate = tls.is_some_and(TlsIn::has_client_certificate);
        let environment = Environment::of(self.sandbox);
        credentials::apns(&self.topic, environment, signer, certificate)
    }
}

/// New credentials take the place of the old; keys of Web Push go in front of the older ones.
fn renew(old: &mut Credentials, new: Credentials) -> Result<(), RegistryError> {
    if old.channel() != new.channel() {
        let rule = "must be of the channel that the route has";
        let named = new.channel().name();
        return Err(validate::Invalid::shown("channel", named, rule).into());
    }
    let older = match std::mem::replace(old, new) {
        Credentials::WebPush { keys, .. } => keys,
        _ => Vec::new(),
    };
    if let Credentials::WebPush { keys, .. } = old {
        let fresh = |key: &VapidKey| keys.iter().all(|new| new.public != key.public);
        let older: Vec<_> = older.into_iter().filter(fresh).collect();
        keys.extend(older);
        keys.truncate(VAPID_KEYS_MAX);
    }
    Ok(())
}

fn server(api: &Api, text: Option<&str>) -> Result<Option<Url>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(validate::webhook_url(text, api.allow_http)?))
}

fn named(api: &Api, tenant: TenantId, name: &str) -> Result<Arc<Route>, Problem> {
    let route = api.registry.route_named(tenant, name);
    route.ok_or_else(|| Problem::of(Code::NotFound).detail("there is no such route"))
}

fn view(route: &Route) -> RouteView {
    let (public_keys, topic) = match &route.credentials {
        Credentials::WebPush { keys, .. } => {
            (keys.iter().map(|key| key.public.clone()).collect(), None)
        }
        Credentials::Apns { topic, .. } => (Vec::new(), Some(topic.clone())),
        Credentials::Fcm { .. } => (Vec::new(), None),
    };
    RouteView {
        name: route.name.clone(),
        channel: route.credentials.channel().name(),
        public_keys,
        topic,
        server: route.server.as_ref().map(Url::to_string),
        paused: route.paused.as_ref().map(|(reason, _)| reason.clone()),
        created_at: moment(route.created_at),
        updated_at: moment(route.updated_at),
    }
}
