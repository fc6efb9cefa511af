//! Who may do what: two tables and the gate that reads them.
//!
//! [`ROUTES`] says what each route does, [`MATRIX`] which role may do that. A route that is not in
//! the table is open to nobody.
//!
//! Absent here: which rows a tenant may see. A handler asks with the caller's tenant, always.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, header};
use postrider_core::id::TenantId;

use super::Api;
use super::error::{Code, Problem};
use super::words::parse_uuid;
use crate::registry::{ApiKey, Registry, Role};

/// Header by which a key of the whole installation says whose resources it means.
pub const TENANT_HEADER: &str = "postrider-tenant";

/// Something that a caller may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Create and list tenants.
    ManageTenants,
    /// Create, list and revoke keys.
    ManageKeys,
    /// Create, change, pause, rotate and delete endpoints, and send them a test.
    WriteEndpoints,
    /// Create, change, pause and resume routes, which hold credentials.
    WriteRoutes,
    /// See endpoints, with fingerprints for addresses.
    ReadEndpoints,
    /// See endpoints' addresses and headers' names.
    SeeAddresses,
    /// Submit events.
    SubmitEvents,
    /// See events and deliveries.
    ReadDeliveries,
    /// See what receivers answered, verbatim.
    SeeAnswers,
    /// Withdraw deliveries.
    CancelDeliveries,
    /// See policies.
    ReadPolicies,
    /// See the process's metrics.
    ReadMetrics,
}

/// Which role may do what.
pub const MATRIX: &[(Action, &[Role])] = {
    use Role::{Admin, Operator, Reader, Support, Writer};
    &[
        (Action::ManageTenants, &[Operator]),
        (Action::ManageKeys, &[Operator, Admin]),
        (Action::WriteEndpoints, &[Operator, Admin, Writer]),
        (
            Action::ReadEndpoints,
            &[Operator, Admin, Writer, Reader, Support],
        ),
        (Action::WriteRoutes, &[Operator, Admin]),
        (Action::SeeAddresses, &[Operator, Admin, Writer, Reader]),
        (Action::SubmitEvents, &[Operator, Admin, Writer]),
        (
            Action::ReadDeliveries,
            &[Operator, Admin, Writer, Reader, Support],
        ),
        (Action::SeeAnswers, &[Operator, Admin, Writer, Reader]),
        (Action::CancelDeliveries, &[Operator, Admin, Writer]),
        (Action::ReadPolicies, &[Operator, Admin, Writer, Reader]),
        (Action::ReadMetrics, &[Operator]),
    ]
};

/// What each route that needs a key does.
pub const ROUTES: &[(Method, &str, Action)] = &[
    (Method::POST, "/v1/tenants", Action::ManageTenants),
    (Method::GET, "/v1/tenants", Action::ManageTenants),
    (Method::GET, "/v1/tenants/{tenant}", Action::ManageTenants),
    (Method::POST, "/v1/keys", Action::ManageKeys),
    (Method::GET, "/v1/keys", Action::ManageKeys),
    (Method::DELETE, "/v1/keys/{id}", Action::ManageKeys),
    (Method::POST, "/v1/endpoints", Action::WriteEndpoints),
    (Method::GET, "/v1/endpoints", Action::ReadEndpoints),
    (Method::GET, "/v1/endpoints/{id}", Action::ReadEndpoints),
    (Method::PATCH, "/v1/endpoints/{id}", Action::WriteEndpoints),
    (Method::DELETE, "/v1/endpoints/{id}", Action::WriteEndpoints),
    (
        Method::POST,
        "/v1/endpoints/{id}/pause",
        Action::WriteEndpoints,
    ),
    (
        Method::POST,
        "/v1/endpoints/{id}/resume",
        Action::WriteEndpoints,
    ),
    (
        Method::POST,
        "/v1/endpoints/{id}/rotate-secret",
        Action::WriteEndpoints,
    ),
    (
        Method::POST,
        "/v1/endpoints/{id}/test",
        Action::WriteEndpoints,
    ),
    (Method::POST, "/v1/events", Action::SubmitEvents),
    (Method::POST, "/v1/events/batch", Action::SubmitEvents),
    (Method::POST, "/v1/events/dry-run", Action::SubmitEvents),
    (Method::GET, "/v1/events/{id}", Action::ReadDeliveries),
    (Method::GET, "/v1/deliveries", Action::ReadDeliveries),
    (Method::GET, "/v1/deliveries/{id}", Action::ReadDeliveries),
    (
        Method::GET,
        "/v1/deliveries/{id}/attempts",
        Action::ReadDeliveries,
    ),
    (
        Method::POST,
        "/v1/deliveries/{id}/cancel",
        Action::CancelDeliveries,
    ),
    (Method::POST, "/v1/routes", Action::WriteRoutes),
    (Method::GET, "/v1/routes", Action::ReadEndpoints),
    (Method::GET, "/v1/routes/{name}", Action::ReadEndpoints),
    (Method::PATCH, "/v1/routes/{name}", Action::WriteRoutes),
    (Method::POST, "/v1/routes/{name}/pause", Action::WriteRoutes),
    (
        Method::POST,
        "/v1/routes/{name}/resume",
        Action::WriteRoutes,
    ),
    (Method::POST, "/v1/devices", Action::WriteEndpoints),
    (Method::POST, "/v1/devices/batch", Action::WriteEndpoints),
    (Method::GET, "/v1/policies", Action::ReadPolicies),
    (Method::GET, "/v1/policies/{name}", Action::ReadPolicies),
    (Method::GET, "/metrics", Action::ReadMetrics),
];

/// The role may do this.
#[must_use]
pub fn may(role: Role, action: Action) -> bool {
    MATRIX
        .iter()
        .any(|(listed, roles)| *listed == action && roles.contains(&role))
}

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key that was shown.
    pub key: Arc<ApiKey>,
    /// Whose resources are meant; `None` only for a key of the whole installation that named none.
    tenant: Option<TenantId>,
}

impl Caller {
    /// Whose resources are meant.
    ///
    /// # Errors
    /// [`Code::TenantRequired`].
    pub fn tenant(&self) -> Result<TenantId, Problem> {
        self.tenant.ok_or_else(|| Problem::of(Code::TenantRequired))
    }

    /// The only tenant whose rows may be seen; `None` for all.
    #[must_use]
    pub fn scope(&self) -> Option<TenantId> {
        self.tenant
    }

    /// A row of this tenant may be seen.
    #[must_use]
    pub fn sees(&self, tenant: TenantId) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
    }

    /// The key's role includes this.
    #[must_use]
    pub fn may(&self, action: Action) -> bool {
        may(self.key.role, action)
    }
}

/// Lets a request through to its route if its key may do what the route does.
pub async fn gate(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    match admit(&api, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn admit(api: &Api, request: &Request) -> Result<Caller, Problem> {
    let key = authenticate(api, request.headers())?;
    key.pace()
        .map_err(|wait_ms| Problem::of(Code::RateLimited).retry_after_ms(wait_ms))?;
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str);
    // HEAD is GET without the body (RFC 9110 section 9.3.2), and the router serves it so.
    let method = match *request.method() {
        Method::HEAD => &Method::GET,
        ref method => method,
    };
    let mut known = ROUTES.iter().filter(|(_, route, _)| *route == path);
    let taken = known.clone().find(|(listed, _, _)| listed == method);
    match taken {
        Some((_, _, action)) if may(key.role, *action) => {}
        None if known.next().is_some() => return Err(Problem::of(Code::MethodNotAllowed)),
        // A path that the router knows and the table does not is open to nobody.
        _ => {
            let detail = format!("a key with the role `{}` may not do this", key.role.name());
            return Err(Problem::of(Code::Forbidden).detail(detail));
        }
    }
    let tenant = tenant_meant(&api.registry, &key, request.headers())?;
    Ok(Caller { key, tenant })
}

fn authenticate(api: &Api, headers: &HeaderMap) -> Result<Arc<ApiKey>, Problem> {
    let missing = || Problem::of(Code::KeyMissing);
    let shown = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let shown = shown.to_str().map_err(|_| missing())?;
    let (scheme, text) = shown.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(api.registry.authenticate(text.trim(), api.intake.now())?)
}

/// The tenant of the key, or the one that a key of the whole installation names.
fn tenant_meant(
    registry: &Registry,
    key: &ApiKey,
    headers: &HeaderMap,
) -> Result<Option<TenantId>, Problem> {
    let Some(named) = headers.get(TENANT_HEADER) else {
        return Ok(key.tenant);
    };
    let named = named.to_str().unwrap_or_default();
    let tenant = match parse_uuid(named) {
        Some(uuid) => registry.tenant_by_uuid(uuid),
        None => registry.tenant_named(named),
    };
    match (tenant, key.tenant) {
        (Some(tenant), None) => Ok(Some(tenant.id)),
        (Some(tenant), Some(own)) if tenant.id == own => Ok(Some(own)),
        // To a key of one tenant, others do not exist.
        (_, Some(_)) => Err(Problem::of(Code::Forbidden).detail("the tenant is not the key's own")),
        (None, None) => Err(Problem::of(Code::NotFound).detail("there is no such tenant")),
    }
}
