//! From an event as it came in to one complete command: everything that a request names is looked
//! up here, and nothing is looked up later.
//!
//! Absent here: the verdict. Whether the event is new is the engine's to say.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use postrider_core::event::{Event, Submission, Target, Urgency};
use postrider_core::id::{DeliveryId, EventId, TenantId};
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::{SECOND_MS, Time};

use super::event_in::{EventIn, Text, copied, text};
use crate::http::digest;
use crate::http::error::{Code, Problem};
use crate::http::intake::Intake;
use crate::http::words::{parse_moment, parse_uuid};
use crate::registry::validate;
use crate::registry::{Directory, Endpoint, Policies};

/// Furthest in the future that an event may be due: one year.
const DELAY_MS_MAX: i64 = 365 * 24 * 3_600 * SECOND_MS;

/// What all events of one request have in common.
pub(super) struct Desk<'a> {
    pub tenant: TenantId,
    pub now: Time,
    /// The request's trace, checked, or empty.
    pub traceparent: &'a str,
    /// The request's `Idempotency-Key`, for an event that has no id of its own.
    pub idempotency_key: Option<&'a str>,
    pub directory: &'a Directory,
    pub policies: &'a Policies,
    pub fanout_max: usize,
    pub payload_bytes_max: usize,
    /// Who gives random bits.
    pub random: &'a dyn Intake,
    /// Used again for each event.
    pub found: Vec<Arc<Endpoint>>,
}

impl Desk<'_> {
    /// The command that `event` asks for.
    pub(super) fn submission(&mut self, event: &EventIn<'_>) -> Result<Box<Submission>, Problem> {
        validate::event_type("type", &event.event_type)?;
        if event.version == 0 {
            return Err(Problem::invalid("version", "0", "must be at least 1"));
        }
        let business_id = business_id(event, self.idempotency_key)?;
        let ordering_key = named("ordering_key", &event.ordering_key)?;
        let collapse_key = named("collapse_key", &event.collapse_key)?;
        let urgency = urgency(event)?;
        let recipient = named("recipient", &event.recipient)?;
        let (payload, content_type) = self.payload(event)?;
        let due_at = self.due_at(event)?;
        let policy = self.policy(event)?;
        self.resolve(event, recipient)?;
        let keys = [ordering_key, collapse_key];
        let (targets, window_ms) = self.targets(event, policy.as_deref(), keys, due_at)?;
        let key_digest = match business_id {
            Some(id) => digest::key(self.tenant, id, &event.event_type, event.version),
            None => digest::unique_key(self.random.random()),
        };
        Ok(Box::new(Submission {
            event: Event {
                id: EventId(0),
                uuid: self.random.random(),
                tenant: self.tenant,
                key_digest,
                body_digest: body_digest(event, &payload),
                business_id: business_id.unwrap_or_default().into(),
                event_type: (&*event.event_type).into(),
                version: event.version,
                recipient: recipient.unwrap_or_default().into(),
                ordering_key: ordering_key.unwrap_or_default().into(),
                collapse_key: collapse_key.unwrap_or_default().into(),
                urgency,
                traceparent: self.traceparent.into(),
                content_type: content_type.into(),
                admitted_at: Time(0),
                key_expires_at: self.now.plus(window_ms),
                first_delivery: DeliveryId(0),
                deliveries: 0,
                retry_of: None,
                payload,
            },
            targets,
            known: None,
        }))
    }

    fn payload<'e>(&self, event: &'e EventIn<'_>) -> Result<(Bytes, &'e str), Problem> {
        let (payload, content_type) = match (event.payload, text(&event.payload_base64)) {
            (Some(raw), None) => {
                if event.content_type.is_some() {
                    let rule = "must go with `payload_base64`; `payload` is application/json";
                    return Err(Problem::invalid("content_type", "", rule));
                }
                (copied(raw), "application/json")
            }
            (None, Some(encoded)) => {
                let bytes = BASE64.decode(encoded).map_err(|_| {
                    Problem::invalid("payload_base64", "", "must be base64 (RFC 4648 section 4)")
                })?;
                (Bytes::from(bytes), media_type(event)?)
            }
            (None, None) => {
                return Err(Problem::invalid(
                    "payload",
                    "",
                    "must be given, or `payload_base64`",
                ));
            }
            (Some(_), Some(_)) => {
                let rule = "must not be given beside `payload`";
                return Err(Problem::invalid("payload_base64", "", rule));
            }
        };
        if payload.len() > self.payload_bytes_max {
            let detail = format!("a payload may have {} bytes", self.payload_bytes_max);
            return Err(Problem::of(Code::BodyTooLarge).detail(detail));
        }
        Ok((payload, content_type))
    }

    fn due_at(&self, event: &EventIn<'_>) -> Result<Time, Problem> {
        let due_at = match (text(&event.due_at), event.delay_s) {
            (None, None) => return Ok(self.now),
            (None, Some(delay_s)) => self.now.plus(i64::from(delay_s) * SECOND_MS),
            (Some(moment), None) => parse_moment(moment).ok_or_else(|| {
                let rule = "must be a moment as in 2030-01-31T09:00:00Z (RFC 3339)";
                Problem::invalid("due_at", moment, rule)
            })?,
            (Some(_), Some(_)) => {
                return Err(Problem::invalid(
                    "delay_s",
                    "",
                    "must not be given beside `due_at`",
                ));
            }
        };
        if due_at.since(self.now) > DELAY_MS_MAX {
            let field = if event.due_at.is_some() {
                "due_at"
            } else {
                "delay_s"
            };
            return Err(Problem::invalid(
                field,
                "",
                "must be within a year from now",
            ));
        }
        Ok(due_at.max(self.now))
    }

    fn policy(&self, event: &EventIn<'_>) -> Result<Option<Arc<Policy>>, Problem> {
        let Some(name) = text(&event.policy) else {
            return Ok(None);
        };
        let policy = self.policies.named(name).ok_or_else(|| {
            Problem::invalid(
                "policy",
                name,
                "must be the name of a policy; see /v1/policies",
            )
        })?;
        Ok(Some(Arc::clone(policy)))
    }

    /// Whom the event goes to, into `found`.
    fn resolve(&mut self, event: &EventIn<'_>, recipient: Option<&str>) -> Result<(), Problem> {
        self.found.clear();
        match (&event.endpoints, recipient) {
            (Some(_), Some(recipient)) => {
                let rule = "must not be given beside `endpoints`";
                return Err(Problem::invalid("recipient", recipient, rule));
            }
            (Some(endpoints), None) => self.look_up(endpoints)?,
            (None, Some(recipient)) => {
                self.directory
                    .of_recipient(self.tenant, recipient, &mut self.found);
            }
            (None, None) => {
                self.directory
                    .subscribed(self.tenant, &event.event_type, &mut self.found);
            }
        }
        if self.found.len() > self.fanout_max {
            let detail = format!(
                "{} endpoints; {} is the limit",
                self.found.len(),
                self.fanout_max
            );
            return Err(Problem::of(Code::FanoutTooLarge).detail(detail));
        }
        Ok(())
    }

    fn look_up(&mut self, endpoints: &[Text<'_>]) -> Result<(), Problem> {
        if endpoints.is_empty() {
            return Err(Problem::invalid(
                "endpoints",
                "",
                "must name at least one endpoint",
            ));
        }
        for (place, named) in endpoints.iter().enumerate() {
            let endpoint = parse_uuid(&named.0)
                .and_then(|uuid| self.directory.by_uuid(uuid))
                .filter(|endpoint| endpoint.tenant == self.tenant)
                .ok_or_else(|| {
                    let rule = "must be the id of an endpoint";
                    Problem::invalid(format!("endpoints[{place}]"), &named.0, rule)
                })?;
            self.found.push(Arc::clone(endpoint));
        }
        let mut ids: Vec<_> = self.found.iter().map(|endpoint| endpoint.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < self.found.len() {
            return Err(Problem::invalid(
                "endpoints",
                "",
                "must not name an endpoint twice",
            ));
        }
        Ok(())
    }

    /// The targets, and for how long the key is remembered: as long as the most careful policy
    /// among them asks for.
    fn targets(
        &mut self,
        event: &EventIn<'_>,
        policy: Option<&Policy>,
        [ordering_key, collapse_key]: [Option<&str>; 2],
        due_at: Time,
    ) -> Result<(Vec<Target>, i64), Problem> {
        if event.ttl_s == Some(0) {
            return Err(Problem::invalid("ttl_s", "0", "must be at least 1"));
        }
        let ttl_ms = event.ttl_s.map(|seconds| i64::from(seconds) * SECOND_MS);
        let ordering_key = ordering_key.map(digest::ordering_key);
        let collapse_key = collapse_key.map(digest::collapse_key);
        let mut targets = Vec::with_capacity(self.found.len());
        let mut window_ms = policy.map_or(0, |policy| policy.dedupe_window_ms);
        for endpoint in &self.found {
            let own = self
                .policies
                .current(endpoint.policy)
                .map(|policy| &**policy);
            let policy = policy.or(own).ok_or_else(|| {
                tracing::error!(
                    policy = endpoint.policy.0,
                    "an endpoint names no known policy"
                );
                Problem::of(Code::Internal)
            })?;
            window_ms = window_ms.max(policy.dedupe_window_ms);
            targets.push(Target {
                endpoint: endpoint.id,
                policy: policy.id,
                guarantee: event
                    .guarantee
                    .map(Guarantee::from)
                    .or(endpoint.guarantee)
                    .unwrap_or(policy.guarantee),
                collapse_key: collapse_key.filter(|_| endpoint.kind.channel().is_push()),
                ordering_key,
                lane: None,
                due_at,
                expires_at: due_at.plus(ttl_ms.unwrap_or(policy.ttl_ms)),
                entropy: self.random.random(),
            });
        }
        if targets.is_empty() && window_ms == 0 {
            window_ms = self
                .policies
                .named("brief")
                .map_or(0, |brief| brief.dedupe_window_ms);
        }
        Ok((targets, window_ms))
    }
}

/// How soon a device is to be woken.
fn urgency(event: &EventIn<'_>) -> Result<Urgency, Problem> {
    let Some(word) = text(&event.urgency) else {
        return Ok(Urgency::default());
    };
    let rule = "must be very-low, low, normal or high";
    Urgency::from_name(word).ok_or_else(|| Problem::invalid("urgency", word, rule))
}

/// The event's own id, or the key that the request has for it.
fn business_id<'e>(
    event: &'e EventIn<'_>,
    key: Option<&'e str>,
) -> Result<Option<&'e str>, Problem> {
    match (named("id", &event.id)?, key) {
        (Some(id), Some(key)) if id != key => {
            let rule = "must be the same as the header Idempotency-Key, where both are given";
            Err(Problem::invalid("id", id, rule))
        }
        (Some(id), _) => Ok(Some(id)),
        (None, key) => Ok(key),
    }
}

/// A text that names something: absent, or not empty and fit to be a label.
fn named<'e>(field: &'static str, value: &'e Option<Text<'_>>) -> Result<Option<&'e str>, Problem> {
    let value = text(value);
    if let Some(text) = value {
        validate::name(field, text)?;
    }
    Ok(value)
}

/// The media type of bytes (RFC 9110 section 8.3.1), as far as a header needs it to be right.
fn media_type<'e>(event: &'e EventIn<'_>) -> Result<&'e str, Problem> {
    let Some(media_type) = text(&event.content_type) else {
        return Ok("application/octet-stream");
    };
    let sound = media_type.len() <= validate::LABEL_BYTES_MAX
        && media_type.contains('/')
        && media_type.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if sound {
        Ok(media_type)
    } else {
        let rule = "must be a media type such as text/plain";
        Err(Problem::invalid("content_type", media_type, rule))
    }
}

/// Everything that was asked for, in the caller's own words: a repeat a minute later asks for the
/// same, although `delay_s` means another moment by then.
fn body_digest(event: &EventIn<'_>, payload: &[u8]) -> postrider_core::id::BodyDigest {
    let endpoints = event.endpoints.as_ref().map(|endpoints| {
        let mut joined = String::with_capacity(endpoints.len() * 37);
        for endpoint in endpoints {
            joined.push_str(&endpoint.0);
            joined.push(',');
        }
        joined
    });
    let guarantee = event
        .guarantee
        .map(|guarantee| [Guarantee::from(guarantee) as u8]);
    let (ttl_s, delay_s) = (
        event.ttl_s.map(u32::to_le_bytes),
        event.delay_s.map(u32::to_le_bytes),
    );
    digest::body(&[
        text(&event.recipient).map(str::as_bytes),
        endpoints.as_deref().map(str::as_bytes),
        text(&event.ordering_key).map(str::as_bytes),
        text(&event.collapse_key).map(str::as_bytes),
        text(&event.urgency).map(str::as_bytes),
        guarantee.as_ref().map(<[u8; 1]>::as_slice),
        text(&event.policy).map(str::as_bytes),
        ttl_s.as_ref().map(<[u8; 4]>::as_slice),
        text(&event.due_at).map(str::as_bytes),
        delay_s.as_ref().map(<[u8; 4]>::as_slice),
        text(&event.content_type).map(str::as_bytes),
        Some(payload),
    ])
}
