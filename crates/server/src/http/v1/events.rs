//! Intake: `POST /v1/events` and `POST /v1/events/batch`.
//!
//! A request is read whole, turned into commands, handed to the engine in one call, and answered
//! after the commit. Nothing is waited for in between, so a caller that hangs up leaves nothing
//! half done: either the commands were handed over, or none was.
//!
//! An admitted event is answered with 202. A repeat is answered with 200, `duplicate: true` and the
//! first one's ids, whatever has become of them.
//!
//! Absent here: retries. A caller that got no answer sends the same again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use postrider_core::engine::Reply;
use postrider_core::event::{Seen, Submission};
use postrider_core::id::{CorrelationId, DeliveryId, EndpointId, TenantId};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use uuid::Uuid;

use super::event_in::{BatchIn, EventIn, RawBatch};
use super::submission::Desk;
use crate::http::access::Caller;
use crate::http::body::{self, Name};
use crate::http::error::{Code, Problem, ProblemBody, refused};
use crate::http::words::{moment, parse_uuid};
use crate::http::{Api, blocking};
use crate::observe::Hop;
use crate::registry::{Directory, Policies, validate};
use crate::store::ReadError;

/// Header of the idempotency key of an event that has no id of its own.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header of the W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// An event that was admitted, now or before.
#[derive(Serialize, ToSchema)]
pub(super) struct Admitted {
    /// The event's id.
    event_id: Uuid,
    /// It was admitted before, and nothing was done now.
    duplicate: bool,
    /// What it became.
    deliveries: Vec<Sent>,
}

/// A delivery of an admitted event.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// The delivery's id, which is the correlation id on every attempt.
    id: Uuid,
    /// Where it goes; absent if there was nowhere to go, and the delivery says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<Uuid>,
}

/// Answers to the items of a batch, in their order.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchAnswer<'a> {
    /// One for each item.
    items: Vec<ItemAnswer<'a>>,
}

/// The answer to one item: what it would have been answered by itself.
#[derive(Serialize, ToSchema)]
pub(super) struct ItemAnswer<'a> {
    /// HTTP status: 202 admitted, 200 a repeat, else see `error`.
    #[serde(rename = "status")]
    http_status: u16,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    admitted: Option<&'a Admitted>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody<'a>>,
}

/// Submit one event
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = EventIn,
    params(("Idempotency-Key" = Option<String>, Header, description = "for an event without id")),
    responses(
        (status = 202, body = Admitted, description = "Durable, and on its way"),
        (status = 200, body = Admitted, description = "A repeat; the ids are the first one's"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn submit(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let tenant = caller.tenant()?;
    let started = Instant::now();
    let (headers, bytes, _room) = read(&api, request, api.limits.body_bytes_max).await?;
    let submission = {
        let event: EventIn<'_> = body::parse(&bytes)?;
        let directory = api.registry.directory();
        let policies = api.registry.policies();
        let mut desk = desk(&api, tenant, &directory, &policies);
        desk.traceparent = traceparent(&headers);
        desk.idempotency_key = idempotency_key(&headers)?;
        desk.submission(&event)?
    };
    let mut answers = hand_over(&api, vec![submission], started).await?;
    let answer = answers
        .pop()
        .ok_or_else(|| Problem::of(Code::Unavailable))??;
    Ok(json(answer.http_status(), &answer))
}

/// Submit up to 1,000 events
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "events", request_body = BatchIn,
    responses(
        (status = 202, body = BatchAnswer, description = "Each item is answered for itself"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn submit_batch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let tenant = caller.tenant()?;
    let started = Instant::now();
    let (headers, bytes, _room) = read(&api, request, api.limits.batch_bytes_max).await?;
    let (submissions, mut answers) = {
        let directory = api.registry.directory();
        let policies = api.registry.policies();
        let mut desk = desk(&api, tenant, &directory, &policies);
        desk.traceparent = traceparent(&headers);
        sort_out(desk, &bytes, api.limits.batch_items_max)?
    };
    drop(bytes);
    let mut admitted = if submissions.is_empty() {
        Vec::new()
    } else {
        hand_over(&api, submissions, started).await?
    }
    .into_iter();
    for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
        *answer = admitted.next();
    }
    let lost = Err(Problem::of(Code::Unavailable));
    let items = answers
        .iter()
        .map(|answer| item(answer.as_ref().unwrap_or(&lost)))
        .collect();
    Ok(json(StatusCode::ACCEPTED, &BatchAnswer { items }))
}

/// What an event became
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "events", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = EventView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<EventView>, Problem> {
    let absent = || Problem::of(Code::NotFound).detail("there is no such event");
    let uuid = parse_uuid(&id).ok_or_else(absent)?.as_u128();
    let event = blocking(&api, move |api| api.reader.event(api.locate.event(uuid))).await??;
    let event = event
        .filter(|event| event.uuid == uuid && caller.sees(event.tenant))
        .ok_or_else(absent)?;
    let ids = delivery_ids(event.first_delivery, event.deliveries);
    let before = event.retry_of;
    let (rows, before) = blocking(&api, move |api| {
        let before = before.map(|id| api.reader.event(id)).transpose()?;
        Ok::<_, ReadError>((api.reader.deliveries(&ids)?, before.flatten()))
    })
    .await??;
    let retry_of = before.map(|event| Uuid::from_u128(event.uuid));
    let sent = rows
        .iter()
        .map(|row| api.sent(row.endpoint, row.correlation))
        .collect();
    Ok(axum::Json(EventView {
        id: Uuid::from_u128(uuid),
        business_id: event.business_id.into(),
        event_type: event.event_type.into(),
        version: event.version,
        recipient: event.recipient.into(),
        ordering_key: event.ordering_key.into(),
        content_type: event.content_type.into(),
        traceparent: event.traceparent.into(),
        admitted_at: moment(event.admitted_at),
        key_expires_at: moment(event.key_expires_at),
        retry_of,
        deliveries: sent,
    }))
}

/// An event, without its payload.
#[derive(Serialize, ToSchema)]
#[schema(as = AdmittedEvent)]
pub(super) struct EventView {
    id: Uuid,
    /// The caller's own id of it, or empty.
    business_id: String,
    event_type: String,
    version: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    recipient: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ordering_key: String,
    content_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    traceparent: String,
    admitted_at: String,
    /// From when on a repeat is a new event.
    key_expires_at: String,
    /// The event of the same key before it, which came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<Uuid>,
    deliveries: Vec<Sent>,
}

/// Refuses early what would be refused later, then reads the body. The room that it takes is held
/// until the answer is known, so that payloads on their way to the disk have a bound in bytes.
pub(super) async fn read(
    api: &Api,
    request: Request<Body>,
    bytes_max: usize,
) -> Result<(HeaderMap, bytes::Bytes, OwnedSemaphorePermit), Problem> {
    api.room()?;
    let (parts, body) = request.into_parts();
    let length = body::length(&parts);
    let room = api.room_for(length.unwrap_or(bytes_max).min(bytes_max))?;
    let bytes = body::read(body, length, bytes_max).await?;
    Ok((parts.headers, bytes, room))
}

/// Where events of one request are turned into commands.
pub(super) fn desk<'a>(
    api: &'a Api,
    tenant: TenantId,
    directory: &'a Directory,
    policies: &'a Policies,
) -> Desk<'a> {
    Desk {
        tenant,
        now: api.intake.now(),
        traceparent: "",
        idempotency_key: None,
        directory,
        policies,
        fanout_max: api.limits.fanout_max,
        payload_bytes_max: api.limits.body_bytes_max,
        random: &*api.intake,
        found: Vec::new(),
    }
}

/// The answer to an item that came to nothing; `None` where the engine's is awaited.
type Early = Option<Result<Admitted, Problem>>;

/// Turns the items of a batch into commands, and those that cannot be into answers.
#[allow(clippy::vec_box)] // as the engine takes them
fn sort_out(
    mut desk: Desk<'_>,
    bytes: &[u8],
    items_max: usize,
) -> Result<(Vec<Box<Submission>>, Vec<Early>), Problem> {
    let mut submissions = Vec::new();
    let mut answers = Vec::new();
    let mut take = |event: Result<EventIn<'_>, Problem>| match event
        .and_then(|event| desk.submission(&event))
    {
        Ok(submission) => {
            submissions.push(submission);
            answers.push(None);
        }
        Err(problem) => answers.push(Some(Err(problem))),
    };
    let too_many = |items: usize| {
        let detail = format!("{items} items; {items_max} is the limit");
        Problem::of(Code::BatchTooLarge).detail(detail)
    };
    match serde_json::from_slice::<BatchIn<'_>>(bytes) {
        Ok(batch) if batch.events.len() > items_max => return Err(too_many(batch.events.len())),
        Ok(batch) => batch.events.into_iter().for_each(|event| take(Ok(event))),
        // Some item cannot be read: read them one by one, so that the others get their answer.
        Err(_) => {
            let batch: RawBatch<'_> = body::parse(bytes)?;
            if batch.events.len() > items_max {
                return Err(too_many(batch.events.len()));
            }
            batch
                .events
                .iter()
                .for_each(|raw| take(body::parse(raw.get().as_bytes())));
        }
    }
    Ok((submissions, answers))
}

/// Hands commands to the engine and waits for its word.
#[allow(clippy::vec_box)]
async fn hand_over(
    api: &Arc<Api>,
    submissions: Vec<Box<Submission>>,
    started: Instant,
) -> Result<Vec<Result<Admitted, Problem>>, Problem> {
    let answer = api.intake.submit(submissions);
    let replies = answer.await.map_err(|_| Problem::of(Code::Unavailable))?;
    let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    api.metrics.hop(Hop::IntakeToDurable).observe(us);
    let first = first_ones(api, &replies).await?;
    let directory = api.registry.directory();
    let endpoint = |id: EndpointId| directory.by_id(id).map(|endpoint| endpoint.uuid);
    let answer = |reply| match reply {
        Reply::Admitted {
            uuid, deliveries, ..
        } => Ok(Admitted {
            event_id: Uuid::from_u128(uuid),
            duplicate: false,
            deliveries: deliveries
                .into_iter()
                .map(|(id, correlation)| Sent {
                    id: Uuid::from_u128(correlation.0),
                    endpoint_id: endpoint(id),
                })
                .collect(),
        }),
        Reply::Duplicate(seen) => Ok(Admitted {
            event_id: Uuid::from_u128(seen.uuid),
            duplicate: true,
            deliveries: delivery_ids(seen.first_delivery, seen.deliveries)
                .iter()
                .filter_map(|id| first.get(id))
                .map(|(correlation, id)| Sent {
                    id: Uuid::from_u128(correlation.0),
                    endpoint_id: endpoint(*id),
                })
                .collect(),
        }),
        Reply::KeyConflict(seen) => Err(Problem::of(Code::IdempotencyConflict).detail(format!(
            "the first one is event {}",
            Uuid::from_u128(seen.uuid)
        ))),
        Reply::Refused {
            why,
            retry_after_ms,
        } => {
            api.count_refusal(why);
            Err(refused(why, retry_after_ms))
        }
        Reply::Received | Reply::Cancelled | Reply::TooLate(_) | Reply::Absent => {
            Err(Problem::of(Code::Internal))
        }
    };
    Ok(replies.into_iter().map(answer).collect())
}

/// The deliveries of the events that repeats were answered with.
async fn first_ones(
    api: &Arc<Api>,
    replies: &[Reply],
) -> Result<HashMap<DeliveryId, (CorrelationId, EndpointId)>, Problem> {
    let repeated = |reply: &Reply| match reply {
        Reply::Duplicate(Seen {
            first_delivery,
            deliveries,
            ..
        }) => delivery_ids(*first_delivery, *deliveries),
        _ => Vec::new(),
    };
    let mut ids: Vec<DeliveryId> = replies.iter().flat_map(repeated).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    ids.sort_unstable();
    ids.dedup();
    let rows = blocking(api, move |api| api.reader.deliveries(&ids)).await??;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, (row.correlation, row.endpoint)))
        .collect())
}

fn delivery_ids(first: DeliveryId, count: u32) -> Vec<DeliveryId> {
    (first.0..first.0 + u64::from(count))
        .map(DeliveryId)
        .collect()
}

impl Admitted {
    fn http_status(&self) -> StatusCode {
        if self.duplicate {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        }
    }
}

impl Api {
    fn sent(&self, endpoint: EndpointId, correlation: CorrelationId) -> Sent {
        Sent {
            id: Uuid::from_u128(correlation.0),
            endpoint_id: self
                .registry
                .endpoint(endpoint)
                .map(|endpoint| endpoint.uuid),
        }
    }
}

/// Sends one event to one endpoint, as any other is sent.
pub(super) async fn send_test(
    api: &Arc<Api>,
    caller: &Caller,
    endpoint: Uuid,
) -> Result<Response, Problem> {
    api.room()?;
    let started = Instant::now();
    let payload = r#"{"test":true,"sent_by":"postrider"}"#;
    let text = format!(
        r#"{{"type":"postrider.test","endpoints":["{endpoint}"],"ttl_s":60,"payload":{payload}}}"#
    );
    let submission = {
        let event: EventIn<'_> = body::parse(text.as_bytes())?;
        let directory = api.registry.directory();
        let policies = api.registry.policies();
        let tenant = directory.by_uuid(endpoint).map(|endpoint| endpoint.tenant);
        let tenant = tenant.filter(|tenant| caller.sees(*tenant));
        let tenant = tenant.ok_or_else(|| Problem::of(Code::NotFound))?;
        let mut desk = desk(api, tenant, &directory, &policies);
        desk.submission(&event)?
    };
    let mut answers = hand_over(api, vec![submission], started).await?;
    let answer = answers
        .pop()
        .ok_or_else(|| Problem::of(Code::Unavailable))??;
    Ok(json(answer.http_status(), &answer))
}

fn item(answer: &Result<Admitted, Problem>) -> ItemAnswer<'_> {
    match answer {
        Ok(admitted) => ItemAnswer {
            http_status: admitted.http_status().as_u16(),
            admitted: Some(admitted),
            error: None,
        },
        Err(problem) => ItemAnswer {
            http_status: problem.code().http_status().as_u16(),
            admitted: None,
            error: Some(problem.body()),
        },
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let rule = "must be text of at most 255 bytes";
    let key = key
        .to_str()
        .map_err(|_| Problem::invalid("Idempotency-Key", "", rule))?;
    validate::name("Idempotency-Key", key)?;
    Ok(Some(key))
}

/// The request's trace (W3C Trace Context section 3.2), or empty: a broken one is as good as none.
fn traceparent(headers: &HeaderMap) -> &str {
    let value = headers
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = value.split('-');
    let known = matches!(
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()),
        (Some("00"), Some(trace), Some(parent), Some(flags), None)
            if hex(trace, 32) && hex(parent, 16) && hex(flags, 2)
                && trace.bytes().any(|b| b != b'0') && parent.bytes().any(|b| b != b'0')
    );
    if known { value } else { "" }
}

fn json(http_status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = (http_status, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_trace_is_taken_in() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(value).unwrap());
            traceparent(&headers).to_owned()
        };
        assert_eq!(read(good), good);
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(read(bad), "", "{bad}");
        }
        assert_eq!(traceparent(&HeaderMap::new()), "");
    }
}
