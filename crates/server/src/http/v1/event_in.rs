//! An event as it comes in: borrowed from the request's body, not copied.
//!
//! Absent here: what it means. `submission` turns it into a command.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::registry::policy_body::GuaranteeWord;

/// Text that is borrowed where it holds no escapes.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Something that happened, and whom to tell.
///
/// It goes to `endpoints` if they are named, else to the endpoints of `recipient`, else to whatever
/// subscribes to its `type`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Event)]
#[serde(deny_unknown_fields)]
pub(super) struct EventIn<'a> {
    /// Event type, such as `order.paid`.
    #[serde(rename = "type", borrow)]
    #[schema(value_type = String)]
    pub event_type: Cow<'a, str>,
    /// The caller's id of what happened. With type and version it is the idempotency key; without
    /// it, the header `Idempotency-Key` is; without both, the event is never a repeat.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>, max_length = 255)]
    pub id: Option<Text<'a>>,
    /// Version of the event's schema.
    #[serde(default = "first_version")]
    #[schema(default = 1, minimum = 1)]
    pub version: u32,
    /// The person or system to tell.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>, max_length = 255)]
    pub recipient: Option<Text<'a>>,
    /// The endpoints to tell, by their ids.
    #[serde(default, borrow)]
    #[schema(value_type = Option<Vec<uuid::Uuid>>)]
    pub endpoints: Option<Vec<Text<'a>>>,
    /// Deliveries with the same key to the same endpoint go one at a time, in order.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>, max_length = 255)]
    pub ordering_key: Option<Text<'a>>,
    /// Of the notifications with the same key to one device only the newest is worth showing: it
    /// takes the place of those that were not sent yet, and of those that are shown.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>, max_length = 255)]
    pub collapse_key: Option<Text<'a>>,
    /// How soon a device is to be woken: `very-low`, `low`, `normal` or `high`.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>, default = "normal")]
    pub urgency: Option<Text<'a>>,
    /// Overrides the guarantee of endpoint and policy.
    #[serde(default)]
    pub guarantee: Option<GuaranteeWord>,
    /// Overrides the endpoints' policy, by name.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>)]
    pub policy: Option<Text<'a>>,
    /// Overrides the policy's time to live, in seconds.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub ttl_s: Option<u32>,
    /// Not before this moment (RFC 3339).
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Text<'a>>,
    /// Not before so many seconds from now.
    #[serde(default)]
    pub delay_s: Option<u32>,
    /// Any JSON. Its bytes are handed over exactly as they stand here.
    #[serde(default, borrow, deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<&'a RawValue>,
    /// Any bytes, in base64 (RFC 4648 section 4), instead of `payload`.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>)]
    pub payload_base64: Option<Text<'a>>,
    /// Media type of `payload_base64`.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>)]
    pub content_type: Option<Text<'a>>,
}

/// Events to be admitted together, each answered for itself.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Batch)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchIn<'a> {
    /// The events, 1,000 at most.
    #[serde(borrow)]
    pub events: Vec<EventIn<'a>>,
}

/// The same, read no further than where each event begins and ends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBatch<'a> {
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
}

fn first_version() -> u32 {
    1
}

/// `null` is a payload too.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// A text, or nothing where it is absent.
pub(super) fn text<'a>(field: &'a Option<Text<'_>>) -> Option<&'a str> {
    field.as_ref().map(|text| &*text.0)
}

/// The part of the body that the payload stands in, copied once.
pub(super) fn copied(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_copied_that_needs_no_unescaping_and_payloads_stay_as_they_are() {
        let body = br#"{"type":"a.b","id":"x","payload": {"b" : 1, "a":1.0e0} }"#;
        let event: EventIn<'_> = serde_json::from_slice(body).unwrap();
        assert!(matches!(event.event_type, Cow::Borrowed("a.b")));
        assert!(matches!(event.id, Some(Text(Cow::Borrowed("x")))));
        assert_eq!(event.payload.unwrap().get(), r#"{"b" : 1, "a":1.0e0}"#);
        let null: EventIn<'_> = serde_json::from_slice(br#"{"type":"a","payload":null}"#).unwrap();
        assert_eq!(null.payload.unwrap().get(), "null");
        let none: EventIn<'_> = serde_json::from_slice(br#"{"type":"a"}"#).unwrap();
        assert!(none.payload.is_none());
    }
}
