//! `/v1/policies`: what is in force, and every version by which an attempt was made.
//!
//! Absent here: changing one. Policies come from the configuration.

use std::sync::Arc;

use axum::extract::State;
use postrider_core::policy::Policy;
use serde::Serialize;
use utoipa::ToSchema;

use super::Page;
use crate::http::Api;
use crate::http::body::Name;
use crate::http::error::{Code, Problem, ProblemBody};
use crate::registry::policy_body::PolicyBody;

/// One version of a policy.
#[derive(Serialize, ToSchema)]
#[schema(as = Policy)]
pub(super) struct PolicyView {
    name: String,
    /// Names the version, in the whole installation.
    version: u32,
    #[serde(flatten)]
    body: PolicyBody,
}

impl From<&Policy> for PolicyView {
    fn from(policy: &Policy) -> PolicyView {
        PolicyView {
            name: policy.name.to_string(),
            version: policy.id.0,
            body: PolicyBody::from(policy),
        }
    }
}

/// List policies, the version in force of each
#[utoipa::path(
    get, path = "/v1/policies", tag = "policies",
    responses(
        (status = 200, body = Page<PolicyView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(State(api): State<Arc<Api>>) -> axum::Json<Page<PolicyView>> {
    let items = api
        .registry
        .policies()
        .newest()
        .iter()
        .map(|p| PolicyView::from(&**p))
        .collect();
    axum::Json(Page { items, next: None })
}

/// List all versions of a policy, newest first
#[utoipa::path(
    get, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path)),
    responses(
        (status = 200, body = Page<PolicyView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Name(name): Name,
) -> Result<axum::Json<Page<PolicyView>>, Problem> {
    let policies = api.registry.policies();
    let named = policies
        .versions()
        .iter()
        .rev()
        .filter(|policy| *policy.name == *name);
    let items: Vec<_> = named.map(|policy| PolicyView::from(&**policy)).collect();
    if items.is_empty() {
        return Err(Problem::of(Code::NotFound).detail("there is no such policy"));
    }
    Ok(axum::Json(Page { items, next: None }))
}
