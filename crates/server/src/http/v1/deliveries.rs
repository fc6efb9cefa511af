//! `/v1/deliveries`: what became of what was submitted.
//!
//! Absent here: payloads. They are for the receiver.

use std::sync::Arc;

use axum::extract::{Extension, State};
use postrider_core::cause::Cause;
use postrider_core::engine::Reply;
use postrider_core::event::Event;
use postrider_core::id::{CorrelationId, DeliveryId};
use postrider_core::ledger::{Delivery, Entry, State as DeliveryState};
use postrider_core::time::Time;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::history::{self, AttemptView, EntryView, Evidence};
use super::receipts::Kind as ReceiptKind;
use super::{Page, cursor, limit, read_cursor};
use crate::http::access::{Action, Caller};
use crate::http::body::{Name, Query};
use crate::http::error::{Code, Problem, ProblemBody, refused};
use crate::http::words::{moment, parse_moment, parse_uuid};
use crate::http::{Api, blocking};
use crate::registry::validate;
use crate::store;

/// The obligation to bring one event to one endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryView {
    /// The correlation id, on every attempt.
    id: Uuid,
    event_id: Option<Uuid>,
    event_type: Option<String>,
    /// The caller's own id of the event.
    business_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    /// Which way it goes: `webhook`, `web_push`, `apns` or `fcm`.
    channel: &'static str,
    /// Where it goes; absent if there was nowhere to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<Uuid>,
    /// `scheduled`, `in_flight`, `accepted`, `confirmed`, `rejected`, `exhausted`, `expired`,
    /// `cancelled`, `suppressed` or `uncertain`.
    state: &'static str,
    /// Why it is there.
    cause: &'static str,
    /// The same in a sentence.
    cause_text: &'static str,
    /// Who has to do what about it.
    advice: &'static str,
    /// It needs a human.
    dead_letter: bool,
    guarantee: &'static str,
    policy: Option<String>,
    policy_version: u32,
    /// Number of the attempt opened last, 0 before the first.
    attempt: u32,
    admitted_at: String,
    due_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    /// Its place in the order of that key at that endpoint, from 1, without gaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// A receiver may have processed it without accepting it.
    may_have_acted: bool,
    /// What the device reported: `displayed`, `clicked`, `dismissed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    receipts: Vec<&'static str>,
    /// Of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_http_status: Option<u16>,
    /// Everything that happened, oldest first. Only where one delivery is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<EntryView>>,
}

/// Which deliveries to list. Everything that is given must hold.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Where they are, such as `exhausted`.
    state: Option<String>,
    /// Why they are there, such as `RESPONSE_TIMEOUT`.
    cause: Option<String>,
    /// Where they go, by the endpoint's id.
    #[param(value_type = Option<Uuid>)]
    endpoint: Option<String>,
    /// Of this event type.
    #[serde(alias = "type")]
    event_type: Option<String>,
    /// Of this event, by its id.
    #[param(value_type = Option<Uuid>)]
    event: Option<String>,
    /// Addressed to this person or system.
    recipient: Option<String>,
    /// Only those that need a human.
    #[serde(default)]
    dead_letters: bool,
    /// Admitted at or after this moment (RFC 3339).
    since: Option<String>,
    /// Admitted before this moment (RFC 3339).
    until: Option<String>,
    /// Items at most, 1 to 500.
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// List deliveries, newest first
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", params(Filter),
    responses(
        (status = 200, body = Page<DeliveryView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<Page<DeliveryView>>, Problem> {
    let page = blocking(&api, move |api| {
        let Some(query) = api.query(&caller, filter)? else {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        };
        let page = api.reader.list(&query)?;
        let next = page.next.map(|id| cursor(id.0));
        let view = |row: &Delivery| Ok(api.delivery_view(row, api.reader.event(row.event)?));
        let items = page
            .deliveries
            .iter()
            .map(view)
            .collect::<Result<_, Problem>>()?;
        Ok::<_, Problem>(Page { items, next })
    });
    Ok(axum::Json(page.await??))
}

/// Read a delivery and everything that happened to it
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = DeliveryView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<DeliveryView>, Problem> {
    let evidence = evidence(&caller);
    let view = blocking(&api, move |api| {
        let (row, entries) = api.delivery_with_history(&caller, &id)?;
        let mut view = api.delivery_view(&row, api.reader.event(row.event)?);
        let entries = entries.iter().map(|entry| history::entry(entry, evidence));
        view.history = Some(entries.collect());
        Ok::<_, Problem>(view)
    });
    Ok(axum::Json(view.await??))
}

/// List a delivery's attempts, oldest first
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/attempts", tag = "deliveries", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = Page<AttemptView>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn attempts(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<Page<AttemptView>>, Problem> {
    let evidence = evidence(&caller);
    let (_, entries) = blocking(&api, move |api| api.delivery_with_history(&caller, &id)).await??;
    Ok(axum::Json(Page {
        items: history::attempts(&entries, evidence),
        next: None,
    }))
}

/// Withdraw a delivery that has not been begun
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = DeliveryView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<axum::Json<DeliveryView>, Problem> {
    let row = blocking(&api, move |api| api.delivery(&caller, &id)).await??;
    let answer = api.intake.cancel(row.id);
    match answer.await.map_err(|_| Problem::of(Code::Unavailable))? {
        Reply::Cancelled => {}
        Reply::TooLate(state) => {
            let detail = format!("it is {}", state.name());
            return Err(Problem::of(Code::DeliverySettled).detail(detail));
        }
        Reply::Absent => return Err(absent()),
        Reply::Refused {
            why,
            retry_after_ms,
        } => return Err(refused(why, retry_after_ms)),
        Reply::Admitted { .. } | Reply::Duplicate(_) | Reply::KeyConflict(_) | Reply::Received => {
            return Err(Problem::of(Code::Internal));
        }
    }
    let view = blocking(&api, move |api| {
        let row = api.reader.deliveries(&[row.id])?.pop().ok_or_else(absent)?;
        let event = api.reader.event(row.event)?;
        Ok::<_, Problem>(api.delivery_view(&row, event))
    });
    Ok(axum::Json(view.await??))
}

fn evidence(caller: &Caller) -> Evidence {
    if caller.may(Action::SeeAnswers) {
        Evidence::Shown
    } else {
        Evidence::Hidden
    }
}

fn absent() -> Problem {
    Problem::of(Code::NotFound).detail("there is no such delivery")
}

impl Api {
    /// The delivery that a path names, if the caller may know that it is there.
    fn delivery(&self, caller: &Caller, id: &str) -> Result<Delivery, Problem> {
        let found = self.delivery_with(parse_uuid(id).ok_or_else(absent)?)?;
        found
            .filter(|row| caller.sees(row.tenant))
            .ok_or_else(absent)
    }

    /// The delivery with this outer id, whosever it is.
    pub(super) fn delivery_with(&self, id: Uuid) -> Result<Option<Delivery>, Problem> {
        let correlation = CorrelationId(id.as_u128());
        let rows = self
            .reader
            .deliveries(&[self.locate.delivery(correlation)])?;
        Ok(rows.into_iter().find(|row| row.correlation == correlation))
    }

    fn delivery_with_history(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<(Delivery, Vec<Entry>), Problem> {
        let row = self.delivery(caller, id)?;
        let entries = self.reader.history(&row)?;
        Ok((row, entries))
    }

    /// What to ask of the store; `None` if nothing can match.
    fn query(&self, caller: &Caller, filter: Filter) -> Result<Option<store::Query>, Problem> {
        let mut query = store::Query {
            tenant: caller.scope(),
            state: filter.state.map(|name| state(&name)).transpose()?,
            cause: filter.cause.map(|code| cause(&code)).transpose()?,
            event_type: filter.event_type.map(String::into_boxed_str),
            recipient: filter.recipient.map(String::into_boxed_str),
            dead_letters: filter.dead_letters,
            since: filter.since.map(|text| at("since", &text)).transpose()?,
            until: filter.until.map(|text| at("until", &text)).transpose()?,
            limit: limit(filter.limit)?,
            ..store::Query::default()
        };
        if let Some(recipient) = &query.recipient {
            validate::label("recipient", recipient)?;
        }
        if filter.cursor.is_some() {
            query.before = Some(DeliveryId(read_cursor(filter.cursor.as_deref(), 0)?));
        }
        if let Some(text) = filter.endpoint {
            let uuid = uuid("endpoint", &text)?;
            let directory = self.registry.directory();
            let endpoint = directory
                .any_by_uuid(uuid)
                .filter(|e| caller.sees(e.tenant));
            match endpoint {
                Some(endpoint) => query.endpoint = Some(endpoint.id),
                None => return Ok(None),
            }
        }
        if let Some(text) = filter.event {
            let uuid = uuid("event", &text)?.as_u128();
            let event = self.reader.event(self.locate.event(uuid))?;
            match event.filter(|event| event.uuid == uuid && caller.sees(event.tenant)) {
                Some(event) => query.event = Some(event.id),
                None => return Ok(None),
            }
        }
        Ok(Some(query))
    }

    fn delivery_view(&self, row: &Delivery, event: Option<Event>) -> DeliveryView {
        let policies = self.registry.policies();
        let (event_id, event_type, business_id, recipient, ordering_key) = match event {
            Some(event) => (
                Some(Uuid::from_u128(event.uuid)),
                Some(String::from(event.event_type)),
                Some(String::from(event.business_id)),
                Some(String::from(event.recipient)).filter(|text| !text.is_empty()),
                Some(String::from(event.ordering_key)).filter(|text| !text.is_empty()),
            ),
            None => (None, None, None, None, None),
        };
        DeliveryView {
            id: Uuid::from_u128(row.correlation.0),
            event_id,
            event_type,
            business_id,
            recipient,
            channel: row.channel.name(),
            endpoint_id: self
                .registry
                .endpoint(row.endpoint)
                .map(|endpoint| endpoint.uuid),
            state: row.state.name(),
            cause: row.cause.code(),
            cause_text: row.cause.text(),
            advice: row.cause.advice(),
            dead_letter: row.is_dead_letter(),
            guarantee: row.guarantee.name(),
            policy: policies
                .version(row.policy)
                .map(|policy| policy.name.to_string()),
            policy_version: row.policy.0,
            attempt: row.attempt,
            admitted_at: moment(row.admitted_at),
            due_at: moment(row.due_at),
            expires_at: moment(row.expires_at),
            settled_at: row.settled_at.map(moment),
            ordering_key,
            sequence: row.lane.map(|lane| lane.sequence),
            may_have_acted: row.may_have_acted,
            receipts: ReceiptKind::ALL
                .into_iter()
                .filter(|&kind| row.has_receipt(kind as u8))
                .map(ReceiptKind::name)
                .collect(),
            last_http_status: Some(row.last_http_status).filter(|&answer| answer != 0),
            history: None,
        }
    }
}

fn state(name: &str) -> Result<DeliveryState, Problem> {
    let rule = "must be the name of a state, such as scheduled or exhausted";
    DeliveryState::from_name(name).ok_or_else(|| Problem::invalid("state", name, rule))
}

fn cause(code: &str) -> Result<Cause, Problem> {
    let rule = "must be the code of a cause, such as RESPONSE_TIMEOUT; see /docs";
    Cause::from_code(code).ok_or_else(|| Problem::invalid("cause", code, rule))
}

fn at(field: &'static str, text: &str) -> Result<Time, Problem> {
    let rule = "must be a moment as in 2030-01-31T09:00:00Z (RFC 3339)";
    parse_moment(text).ok_or_else(|| Problem::invalid(field, text, rule))
}

fn uuid(field: &'static str, text: &str) -> Result<Uuid, Problem> {
    parse_uuid(text).ok_or_else(|| Problem::invalid(field, text, "must be an id"))
}
