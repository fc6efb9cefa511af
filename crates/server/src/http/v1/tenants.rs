//! `/v1/tenants`.
//!
//! Absent here: removing one; see the registry.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use postrider_core::id::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Page, Paging, cursor, limit, read_cursor};
use crate::http::body::{Json, Name, Query};
use crate::http::error::{Code, Problem, ProblemBody};
use crate::http::words::{moment, parse_uuid};
use crate::http::{Api, blocking};
use crate::registry::Tenant;

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantView {
    id: Uuid,
    name: String,
    created_at: String,
}

/// A tenant that is to be.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewTenant)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantIn {
    /// 1 to 64 of a-z, 0-9, - and _.
    name: String,
}

impl From<&Tenant> for TenantView {
    fn from(tenant: &Tenant) -> TenantView {
        TenantView {
            id: tenant.uuid,
            name: tenant.name.clone(),
            created_at: moment(tenant.created_at),
        }
    }
}

/// Create a tenant
#[utoipa::path(
    post, path = "/v1/tenants", tag = "tenants", request_body = TenantIn,
    responses(
        (status = 201, body = TenantView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Json(tenant): Json<TenantIn>,
) -> Result<(StatusCode, axum::Json<TenantView>), Problem> {
    let now = api.intake.now();
    let made = blocking(&api, move |api| {
        api.registry.create_tenant(&tenant.name, now)
    })
    .await??;
    Ok((StatusCode::CREATED, axum::Json(TenantView::from(&*made))))
}

/// List tenants
#[utoipa::path(
    get, path = "/v1/tenants", tag = "tenants", params(Paging),
    responses(
        (status = 200, body = Page<TenantView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<TenantView>>, Problem> {
    let limit = limit(paging.limit)?;
    let after = read_cursor(paging.cursor.as_deref(), 0)?;
    let after = TenantId(u32::try_from(after).unwrap_or(u32::MAX));
    let mut tenants = api.registry.tenants(after, limit + 1);
    let more = tenants.len() > limit;
    tenants.truncate(limit);
    let next = tenants
        .last()
        .filter(|_| more)
        .map(|tenant| cursor(tenant.id.0.into()));
    let items = tenants
        .iter()
        .map(|tenant| TenantView::from(&**tenant))
        .collect();
    Ok(axum::Json(Page { items, next }))
}

/// Read a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "name or id")),
    responses(
        (status = 200, body = TenantView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Name(named): Name,
) -> Result<axum::Json<TenantView>, Problem> {
    let tenant = match parse_uuid(&named) {
        Some(uuid) => api.registry.tenant_by_uuid(uuid),
        None => api.registry.tenant_named(&named),
    };
    let absent = || Problem::of(Code::NotFound).detail("there is no such tenant");
    Ok(axum::Json(TenantView::from(&*tenant.ok_or_else(absent)?)))
}
