//! `POST /v1/events/dry-run`: what an event would become, with nothing recorded and nobody told.
//!
//! The event is resolved as `POST /v1/events` resolves it. For each endpoint the request is written
//! as an attempt would write it, so content that does not fit is found here; Google is shown the
//! request and sends nothing. Apple, browsers' push services and webhooks have no such thing: of
//! them only the request is judged.
//!
//! Absent here: whether it would be a repeat, and waiting: rates, quiet breakers and orders are
//! known when it is sent.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::{Event, Target};
use postrider_core::id::{CorrelationId, DeliveryId};
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;
use serde::Serialize;
use tokio::task::JoinSet;
use utoipa::ToSchema;
use uuid::Uuid;

use super::event_in::EventIn;
use super::events::{desk, idempotency_key, read};
use crate::channel::Attempted;
use crate::http::Api;
use crate::http::access::Caller;
use crate::http::body;
use crate::http::error::{Code, Problem, ProblemBody};
use crate::http::words::moment;
use crate::registry::policy_body::GuaranteeWord;
use crate::registry::{Endpoint, EndpointState};
use crate::transport::Rehearsed;

/// Endpoints that one dry run looks at, at most: a provider may be asked about each.
const ENDPOINTS_MAX: usize = 100;

/// What an event would become.
#[derive(Serialize, ToSchema)]
pub(super) struct DryRun {
    /// One for each endpoint it would go to; none means that it would go nowhere.
    deliveries: Vec<Rehearsal>,
}

/// What one delivery would come to.
#[derive(Serialize, ToSchema)]
pub(super) struct Rehearsal {
    /// Where it would go.
    endpoint_id: Uuid,
    /// Which way.
    channel: &'static str,
    /// `sendable`: it can be sent, and nobody was asked what they make of it. `accepted`: the
    /// provider looked at it and would take it. `held`: its endpoint or route is paused, or the
    /// route has no credentials that are accepted. `refused`: it would
    /// not be sent, or not be taken. `unknown`: the provider could not be asked.
    verdict: &'static str,
    /// Why not, as a delivery would have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// The same in words, or what the provider answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The provider's HTTP status, where it was asked and answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    /// Bytes of the body that would be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u64>,
    /// The guarantee that it would have.
    guarantee: GuaranteeWord,
    /// When it would lapse.
    expires_at: String,
}

/// Find out what an event would become, and send nothing
#[utoipa::path(
    post, path = "/v1/events/dry-run", tag = "events", request_body = EventIn,
    responses(
        (status = 200, body = DryRun, description = "Nothing was recorded, nobody was told"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn dry_run(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<axum::Json<DryRun>, Problem> {
    let tenant = caller.tenant()?;
    let (headers, bytes, _room) = read(&api, request, api.limits.body_bytes_max).await?;
    let (event, targets, endpoints) = {
        let event: EventIn<'_> = body::parse(&bytes)?;
        let directory = api.registry.directory();
        let policies = api.registry.policies();
        let mut desk = desk(&api, tenant, &directory, &policies);
        desk.idempotency_key = idempotency_key(&headers)?;
        let submission = desk.submission(&event)?;
        (submission.event, submission.targets, desk.found)
    };
    if endpoints.len() > ENDPOINTS_MAX {
        let count = endpoints.len().to_string();
        let rule = "must be 100 at most in a dry run";
        return Err(Problem::invalid("endpoints", &count, rule));
    }
    let (event, now) = (Arc::new(event), api.intake.now());
    let mut looking = JoinSet::new();
    for (place, (endpoint, target)) in endpoints.into_iter().zip(targets).enumerate() {
        let (api, event) = (Arc::clone(&api), Arc::clone(&event));
        let look = async move { (place, rehearse(&api, &event, &endpoint, &target, now).await) };
        looking.spawn(look);
    }
    let mut deliveries = Vec::new();
    while let Some(looked) = looking.join_next().await {
        deliveries.push(looked.map_err(|_| Problem::of(Code::Internal))?);
    }
    deliveries.sort_unstable_by_key(|(place, _)| *place);
    let deliveries = deliveries.into_iter().map(|(_, it)| it).collect();
    Ok(axum::Json(DryRun { deliveries }))
}

async fn rehearse(
    api: &Api,
    event: &Event,
    endpoint: &Arc<Endpoint>,
    target: &Target,
    now: Time,
) -> Rehearsal {
    let blank = Rehearsal {
        endpoint_id: endpoint.uuid,
        channel: endpoint.kind.channel().name(),
        verdict: "sendable",
        cause: None,
        detail: None,
        http_status: None,
        body_bytes: None,
        guarantee: target.guarantee.into(),
        expires_at: moment(target.expires_at),
    };
    if let EndpointState::Retired { cause, .. } = endpoint.state {
        return Rehearsal {
            verdict: "refused",
            cause: Some(cause.code()),
            detail: Some("the endpoint is retired".to_owned()),
            ..blank
        };
    }
    let rehearsed = api
        .transport
        .rehearse(endpoint, event, &dispatch(event, target, now), now)
        .await;
    let route = endpoint.route.and_then(|route| api.registry.route(route));
    let is_paused = matches!(endpoint.state, EndpointState::Paused { .. })
        || route.is_some_and(|route| route.paused.is_some());
    match blank.after(rehearsed) {
        it if is_paused && it.verdict != "refused" => Rehearsal {
            verdict: "held",
            ..it
        },
        it => it,
    }
}

/// The first attempt of the delivery that there would be.
fn dispatch(event: &Event, target: &Target, now: Time) -> Dispatch {
    Dispatch {
        delivery: DeliveryId(0),
        correlation: CorrelationId(event.uuid),
        tenant: event.tenant,
        event: event.id,
        endpoint: target.endpoint,
        attempt: 1,
        policy: target.policy,
        guarantee: target.guarantee,
        lane: None,
        previous_accepted: 0,
        admitted_at: now,
        expires_at: target.expires_at,
        opened_at: now,
    }
}

impl Rehearsal {
    fn after(self, rehearsed: Rehearsed) -> Rehearsal {
        let body_bytes = rehearsed.body_bytes;
        let outcome = match rehearsed.attempted {
            None => return Rehearsal { body_bytes, ..self },
            Some(Attempted::Answered(outcome)) => outcome,
            Some(Attempted::NotSent(cause)) => {
                return Rehearsal {
                    verdict: "unknown",
                    cause: Some(cause.code()),
                    ..self
                };
            }
        };
        let verdict = match outcome.kind {
            OutcomeKind::Accept => "accepted",
            OutcomeKind::Reject | OutcomeKind::Gone => "refused",
            OutcomeKind::Blocked if outcome.cause == Cause::RateLimited => "unknown",
            OutcomeKind::Blocked => "held",
            OutcomeKind::Retry | OutcomeKind::Throttle | OutcomeKind::Unknown => "unknown",
        };
        let detail = String::from_utf8_lossy(&outcome.evidence).into_owned();
        Rehearsal {
            verdict,
            cause: (outcome.kind != OutcomeKind::Accept).then(|| outcome.cause.code()),
            detail: Some(detail).filter(|detail| !detail.is_empty()),
            http_status: Some(outcome.http_status).filter(|status| *status != 0),
            body_bytes,
            ..self
        }
    }
}
