//! `/v1/endpoints`.
//!
//! Absent here: showing a secret again. It is in the answer to its making and nowhere else.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use postrider_core::id::EndpointId;
use postrider_core::time::{SECOND_MS, Time};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::endpoint_in::{EndpointIn, EndpointPatch, check_secret};
use super::{Page, cursor, limit, read_cursor};
use crate::http::access::{Action, Caller};
use crate::http::body::{Json, Name, Query};
use crate::http::error::{Code, Problem, ProblemBody};
use crate::http::words::{moment, parse_uuid};
use crate::http::{Api, blocking};
use crate::registry::policy_body::{GuaranteeWord, RateBody};
use crate::registry::{Authorisation, Device, Endpoint, EndpointState, STALE_AFTER_MS, TlsVersion};

/// How long the old secret signs beside a new one where the caller does not say.
const OVERLAP_S: u32 = 24 * 3_600;

/// An endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(super) struct EndpointView {
    id: Uuid,
    tenant_id: Option<Uuid>,
    /// `webhook`, `web_push`, `apns` or `fcm`.
    channel: &'static str,
    /// The route that a device is reached over.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    /// What is known about the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceInfo>,
    /// Where to deliver to; absent for roles that may not see addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Stands for the address in logs; the same for the same address.
    fingerprint: String,
    name: String,
    recipient: String,
    event_types: Vec<String>,
    policy: Option<String>,
    guarantee: Option<GuaranteeWord>,
    rate: Option<RateBody>,
    slots_max: Option<u16>,
    /// Oldest TLS version that is spoken: `1.3` or `1.2`.
    tls_min_version: &'static str,
    /// It has roots of its own to trust.
    private_ca: bool,
    /// It is shown a client certificate.
    client_certificate: bool,
    /// Names of the headers that are added; never their values.
    headers: Vec<String>,
    /// `active`, `paused` or `retired`.
    state: &'static str,
    /// Why it is paused, or the cause for which it was retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Since when it is paused or retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Signing secrets that are in use, newest first, without their values.
    secrets: Vec<SecretView>,
    created_at: String,
    updated_at: String,
    revision: u64,
    /// The signing secret. Shown when it is made, and not again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// What is known about a device.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceInfo {
    /// The application's own id for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    device_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    /// What the application last reported about its right to show notifications, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorisation: Option<Authorisation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorisation_at: Option<String>,
    /// The route that it was registered on, if its provider does not know the token there: it is
    /// reached in the other environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
    /// When its address was registered or confirmed last.
    refreshed_at: String,
    /// It was not registered again for 30 days.
    stale: bool,
}

/// A signing secret, without its value.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub(super) struct SecretView {
    created_at: String,
    /// From when on it no longer signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// Which endpoints to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Of this person or system.
    recipient: Option<String>,
    /// `active`, `paused` or `retired`.
    state: Option<String>,
    /// Items at most, 1 to 500.
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Why an endpoint is paused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// In words for whoever asks later.
    #[serde(default)]
    reason: String,
}

/// How a secret is replaced.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// The new one; drawn at random where there is none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
    /// How long the old one signs beside it, in seconds.
    #[serde(default)]
    #[schema(default = 86_400)]
    overlap_s: Option<u32>,
}

/// Register an endpoint
#[utoipa::path(
    post, path = "/v1/endpoints", tag = "endpoints", request_body = EndpointIn,
    responses(
        (status = 201, body = EndpointView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<EndpointIn>,
) -> Result<(StatusCode, axum::Json<EndpointView>), Problem> {
    let tenant = caller.tenant()?;
    let draft = wanted.draft(&api)?;
    let now = api.intake.now();
    let made = blocking(&api, move |api| {
        api.registry.create_endpoint(tenant, draft, now)
    })
    .await??;
    Ok((
        StatusCode::CREATED,
        axum::Json(api.endpoint_with_secret(&caller, &made)),
    ))
}

/// List endpoints, oldest first
#[utoipa::path(
    get, path = "/v1/endpoints", tag = "endpoints", params(Filter),
    responses(
        (status = 200, body = Page<EndpointView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<Page<EndpointView>>, Problem> {
    let limit = limit(filter.limit)?;
    let after = EndpointId(read_cursor(filter.cursor.as_deref(), 0)?);
    if let Some(state) = filter.state.as_deref()
        && !["active", "paused", "retired"].contains(&state)
    {
        return Err(Problem::invalid(
            "state",
            state,
            "must be active, paused or retired",
        ));
    }
    let wanted = |endpoint: &Endpoint| {
        let recipient = filter.recipient.as_deref();
        recipient.is_none_or(|recipient| endpoint.recipient == recipient)
            && filter
                .state
                .as_deref()
                .is_none_or(|state| state == state_name(endpoint))
    };
    let (rows, more) = api
        .registry
        .directory()
        .page(caller.scope(), after, limit, wanted);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|endpoint| cursor(endpoint.id.0));
    let items = rows
        .iter()
        .map(|endpoint| api.endpoint_view(&caller, endpoint))
        .collect();
    Ok(axum::Json(Page { items, next }))
}

/// Read an endpoint
#[utoipa::path(
    get, path = "/v1/endpoints/{id}", tag = "endpoints", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = EndpointView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<EndpointView>, Problem> {
    let endpoint = api.endpoint(&caller, &id)?;
    Ok(axum::Json(api.endpoint_view(&caller, &endpoint)))
}

/// Change an endpoint
#[utoipa::path(
    patch, path = "/v1/endpoints/{id}", tag = "endpoints", params(("id" = Uuid, Path)),
    request_body = EndpointPatch,
    responses(
        (status = 200, body = EndpointView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    Json(patch): Json<EndpointPatch>,
) -> Result<axum::Json<EndpointView>, Problem> {
    let id = api.endpoint(&caller, &id)?.id;
    let edit = patch.edit(&api)?;
    let now = api.intake.now();
    let changed = blocking(&api, move |api| api.registry.change_endpoint(id, now, edit)).await??;
    Ok(axum::Json(api.endpoint_view(&caller, &changed)))
}

/// Delete an endpoint
///
/// What is unsettled is not sent any more. Deliveries that name it stay.
#[utoipa::path(
    delete, path = "/v1/endpoints/{id}", tag = "endpoints", params(("id" = Uuid, Path)),
    responses(
        (status = 204),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<StatusCode, Problem> {
    let id = api.endpoint(&caller, &id)?.id;
    let now = api.intake.now();
    blocking(&api, move |api| api.registry.delete_endpoint(id, now)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Hold back what goes to an endpoint
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/pause", tag = "endpoints", params(("id" = Uuid, Path)),
    request_body = Pause,
    responses(
        (status = 200, body = EndpointView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    Json(pause): Json<Pause>,
) -> Result<axum::Json<EndpointView>, Problem> {
    let id = api.endpoint(&caller, &id)?.id;
    let now = api.intake.now();
    let paused = blocking(&api, move |api| api.registry.pause(id, &pause.reason, now)).await??;
    Ok(axum::Json(api.endpoint_view(&caller, &paused)))
}

/// Let everything go on that was held back
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/resume", tag = "endpoints", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = EndpointView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<EndpointView>, Problem> {
    let id = api.endpoint(&caller, &id)?.id;
    let now = api.intake.now();
    let resumed = blocking(&api, move |api| api.registry.resume(id, now)).await??;
    Ok(axum::Json(api.endpoint_view(&caller, &resumed)))
}

/// Sign with a new secret; the old one signs beside it for a while
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/rotate-secret", tag = "endpoints",
    params(("id" = Uuid, Path)), request_body = Rotation,
    responses(
        (status = 200, body = EndpointView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn rotate_secret(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    Json(rotation): Json<Rotation>,
) -> Result<axum::Json<EndpointView>, Problem> {
    let id = api.endpoint(&caller, &id)?.id;
    if let Some(secret) = &rotation.secret {
        check_secret(secret)?;
    }
    let overlap_ms = i64::from(rotation.overlap_s.unwrap_or(OVERLAP_S)) * SECOND_MS;
    let now = api.intake.now();
    let rotated = blocking(&api, move |api| {
        api.registry
            .rotate_secret(id, rotation.secret, overlap_ms, now)
    })
    .await??;
    Ok(axum::Json(api.endpoint_with_secret(&caller, &rotated)))
}

/// Send a test event to an endpoint
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/test", tag = "endpoints", params(("id" = Uuid, Path)),
    responses(
        (status = 202, body = super::events::Admitted),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn test(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<Response, Problem> {
    let endpoint = api.endpoint(&caller, &id)?;
    if matches!(endpoint.state, EndpointState::Retired { .. }) {
        return Err(Problem::of(Code::EndpointRetired));
    }
    super::events::send_test(&api, &caller, endpoint.uuid).await
}

fn state_name(endpoint: &Endpoint) -> &'static str {
    match endpoint.state {
        EndpointState::Active => "active",
        EndpointState::Paused { .. } => "paused",
        EndpointState::Retired { .. } => "retired",
    }
}

impl Api {
    /// The endpoint that a path names, if the caller may know that it is there.
    fn endpoint(&self, caller: &Caller, id: &str) -> Result<Arc<Endpoint>, Problem> {
        parse_uuid(id)
            .and_then(|uuid| self.registry.endpoint_by_uuid(uuid))
            .filter(|endpoint| caller.sees(endpoint.tenant))
            .ok_or_else(|| Problem::of(Code::NotFound).detail("there is no such endpoint"))
    }

    fn endpoint_with_secret(&self, caller: &Caller, endpoint: &Endpoint) -> EndpointView {
        let newest = endpoint.secrets.first();
        EndpointView {
            secret: newest.map(|secret| secret.value.expose_secret().to_owned()),
            ..self.endpoint_view(caller, endpoint)
        }
    }

    fn device_info(&self, device: &Device) -> DeviceInfo {
        let age_ms = self.intake.now().since(device.refreshed_at);
        DeviceInfo {
            device_id: device.id.clone(),
            platform: device.platform.clone(),
            authorisation: device.authorisation.map(|(said, _)| said),
            authorisation_at: device.authorisation.map(|(_, at)| moment(Time(at))),
            moved_from: device
                .moved_from
                .and_then(|route| self.registry.route(route))
                .map(|route| route.name.clone()),
            refreshed_at: moment(device.refreshed_at),
            stale: age_ms > STALE_AFTER_MS,
        }
    }

    pub(super) fn endpoint_view(&self, caller: &Caller, endpoint: &Endpoint) -> EndpointView {
        let (reason, since) = match &endpoint.state {
            EndpointState::Active => (None, None),
            EndpointState::Paused { reason, at } => (Some(reason.clone()), Some(moment(*at))),
            EndpointState::Retired { cause, at } => {
                (Some(cause.code().to_owned()), Some(moment(*at)))
            }
        };
        let secret = |secret: &crate::registry::Secret| SecretView {
            created_at: moment(secret.created_at),
            expires_at: secret.expires_at.map(moment),
        };
        let policies = self.registry.policies();
        EndpointView {
            id: endpoint.uuid,
            tenant_id: self
                .registry
                .tenant(endpoint.tenant)
                .map(|tenant| tenant.uuid),
            channel: endpoint.kind.channel().name(),
            route: endpoint
                .route
                .and_then(|route| self.registry.route(route))
                .map(|route| route.name.clone()),
            device: endpoint.device.as_ref().map(|it| self.device_info(it)),
            url: caller
                .may(Action::SeeAddresses)
                .then(|| endpoint.url.to_string()),
            fingerprint: self.registry.fingerprint(endpoint),
            name: endpoint.name.clone(),
            recipient: endpoint.recipient.clone(),
            event_types: endpoint.event_types.clone(),
            policy: policies
                .version(endpoint.policy)
                .map(|policy| policy.name.to_string()),
            guarantee: endpoint.guarantee.map(GuaranteeWord::from),
            rate: endpoint.rate.map(RateBody::from),
            slots_max: endpoint.slots_max,
            tls_min_version: match endpoint.tls.min_version {
                TlsVersion::V1_3 => "1.3",
                TlsVersion::V1_2 => "1.2",
            },
            private_ca: endpoint.tls.ca_pem.is_some(),
            client_certificate: endpoint.tls.client_cert_pem.is_some(),
            headers: endpoint
                .headers
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            state: state_name(endpoint),
            reason,
            since,
            secrets: endpoint.secrets.iter().map(secret).collect(),
            created_at: moment(endpoint.created_at),
            updated_at: moment(endpoint.updated_at),
            revision: endpoint.revision,
            secret: None,
        }
    }
}
