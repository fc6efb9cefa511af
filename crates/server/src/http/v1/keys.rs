//! `/v1/keys`.
//!
//! Absent here: showing a key again. Its text is in the answer to its creation and nowhere else.

use std::sync::Arc;

use axum::extract::{Extension, State};
use http::StatusCode;
use postrider_core::time::SECOND_MS;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Page, Paging, cursor, limit, read_cursor};
use crate::http::access::Caller;
use crate::http::body::{Json, Name, Query};
use crate::http::error::{Code, Problem, ProblemBody};
use crate::http::words::moment;
use crate::http::{Api, blocking};
use crate::registry::{ApiKey, KeyDraft, Role};

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyView {
    /// The part of the key that names it.
    id: String,
    name: String,
    /// `operator`, `admin`, `writer`, `reader` or `support`.
    role: &'static str,
    /// Inside of which tenant; absent for the whole installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<Uuid>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

/// A key that was made a moment ago.
#[derive(Serialize, ToSchema)]
pub(super) struct NewKey {
    /// The whole key. It is not shown again.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// A key that is to be.
#[derive(Deserialize, ToSchema)]
#[schema(as = KeyDraft)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyIn {
    /// The owner's own words for it.
    name: String,
    /// `operator`, `admin`, `writer`, `reader` or `support`.
    role: String,
    /// For the whole installation rather than the tenant. Operators only.
    #[serde(default)]
    whole_installation: bool,
    /// From when on it is no longer taken, in seconds from now.
    #[serde(default)]
    expires_in_s: Option<u32>,
    /// A word that shows in the key, such as `live` or `dev`.
    #[serde(default = "live")]
    #[schema(default = "live")]
    environment: String,
}

fn live() -> String {
    "live".to_owned()
}

/// Create a key
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = KeyIn,
    responses(
        (status = 201, body = NewKey),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<KeyIn>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    let rule = "must be operator, admin, writer, reader or support";
    let role = Role::from_name(&wanted.role)
        .ok_or_else(|| Problem::invalid("role", &wanted.role, rule))?;
    let whole = wanted.whole_installation || role == Role::Operator;
    if whole && caller.key.tenant.is_some() {
        let detail = "only a key of the whole installation makes another one";
        return Err(Problem::of(Code::Forbidden).detail(detail));
    }
    let now = api.intake.now();
    let draft = KeyDraft {
        name: wanted.name,
        role,
        tenant: if whole { None } else { Some(caller.tenant()?) },
        expires_at: wanted
            .expires_in_s
            .map(|s| now.plus(i64::from(s) * SECOND_MS)),
        environment: wanted.environment,
    };
    let (key, text) = blocking(&api, move |api| api.registry.create_key(draft, now)).await??;
    let made = NewKey {
        key: text.expose_secret().to_owned(),
        view: api.key_view(&key),
    };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// List keys, newest first
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", params(Paging),
    responses(
        (status = 200, body = Page<KeyView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<KeyView>>, Problem> {
    let limit = limit(paging.limit)?;
    let start = match paging.cursor.as_deref() {
        None => 0,
        text => usize::try_from(read_cursor(text, 0)?).unwrap_or(usize::MAX),
    };
    let keys = api.registry.keys(caller.scope());
    let items: Vec<_> = keys
        .iter()
        .skip(start)
        .take(limit)
        .map(|key| api.key_view(key))
        .collect();
    let end = start.saturating_add(items.len());
    let next = (end < keys.len()).then(|| cursor(end as u64));
    Ok(axum::Json(Page { items, next }))
}

/// Revoke a key
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path)),
    responses(
        (status = 200, body = KeyView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<KeyView>, Problem> {
    let absent = || Problem::of(Code::NotFound).detail("there is no such key");
    let id = u64::from_str_radix(&id, 16).map_err(|_| absent())?;
    let key = api.registry.key(id).ok_or_else(absent)?;
    if caller.scope().is_some() && key.tenant != caller.scope() {
        return Err(absent());
    }
    let now = api.intake.now();
    let key = blocking(&api, move |api| api.registry.revoke_key(id, now)).await??;
    Ok(axum::Json(api.key_view(&key)))
}

impl Api {
    fn key_view(&self, key: &ApiKey) -> KeyView {
        KeyView {
            id: format!("{:016x}", key.id),
            name: key.name.clone(),
            role: key.role.name(),
            tenant_id: key
                .tenant
                .and_then(|id| self.registry.tenant(id))
                .map(|t| t.uuid),
            created_at: moment(key.created_at),
            expires_at: key.expires_at.map(moment),
            revoked_at: key.revoked_at.map(moment),
            last_used_at: key.last_used_at().map(moment),
        }
    }
}
