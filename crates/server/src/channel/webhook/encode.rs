//! From a dispatch to a request.
//!
//! Everything that is written anew for an attempt goes into one buffer, and the header values are
//! slices of it: one allocation for text, and the payload is shared, never copied.
//!
//! Absent here: anything that fails. What HTTP could not carry was refused when it came in, and
//! what an application's own words may contain is percent-encoded.

use std::io::Write as _;
use std::ops::Range;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Full;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::time::{SECOND_MS, Time};
use uuid::Uuid;

use super::Prepared;
use super::secret::SigningKey;
use super::trace::{TRACEPARENT_LEN, trace};
use crate::channel::Request;

const SIGNATURE: HeaderName = HeaderName::from_static("x-postrider-signature");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-postrider-correlation-id");
const ATTEMPT: HeaderName = HeaderName::from_static("x-postrider-attempt");
const STANDARD_ID: HeaderName = HeaderName::from_static("webhook-id");
const STANDARD_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const STANDARD_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const WEBHOOK_KEY: HeaderName = HeaderName::from_static("x-webhook-idempotency-key");
const EVENT_TYPE: HeaderName = HeaderName::from_static("x-event-type");
const SEQUENCE: HeaderName = HeaderName::from_static("x-event-sequence-id");
const PREVIOUS: HeaderName = HeaderName::from_static("x-event-previous-sequence-id");
const ORDERING_KEY: HeaderName = HeaderName::from_static("x-event-ordering-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Headers that are written anew for an attempt, at the most.
const OWN_HEADERS_MAX: usize = 15;

/// Room for the text of an ordinary attempt with one secret.
const TEXT_BYTES: usize = 448;

pub(super) fn encode(
    prepared: &Prepared,
    event: &Event,
    dispatch: &Dispatch,
    now: Time,
) -> Request {
    let mut text = Text(Vec::with_capacity(TEXT_BYTES + 2 * event.event_type.len()));
    let id = text.uuid(dispatch.correlation.0);
    let timestamp = text.number(now.0.div_euclid(SECOND_MS).unsigned_abs());
    let signatures = text.signatures(prepared, &event.payload, id.clone(), timestamp.clone(), now);
    let attempt = text.number(u64::from(dispatch.attempt));
    let traceparent = text.traceparent(event, dispatch);
    let event_type = text.escaped(&event.event_type);
    let order = dispatch.lane.map(|lane| Order {
        sequence: text.number(lane.sequence),
        previous: text.number(dispatch.previous_accepted),
        key: text.escaped(&event.ordering_key),
    });

    let text = Bytes::from(text.0);
    let value = |range: Range<usize>| visible(text.slice(range));
    let mut headers = HeaderMap::with_capacity(prepared.fixed.len() + OWN_HEADERS_MAX);
    for (name, value) in &prepared.fixed {
        headers.insert(name.clone(), value.clone());
    }
    let key = value(id);
    headers.insert(CONTENT_TYPE, content_type(&event.content_type));
    headers.insert(WEBHOOK_KEY, key.clone());
    headers.insert(IDEMPOTENCY_KEY, key.clone());
    headers.insert(CORRELATION_ID, key.clone());
    headers.insert(STANDARD_ID, key);
    headers.insert(STANDARD_TIMESTAMP, value(timestamp));
    if let Some((stamped, standard)) = signatures {
        headers.insert(SIGNATURE, value(stamped));
        headers.insert(STANDARD_SIGNATURE, value(standard));
    }
    headers.insert(ATTEMPT, value(attempt));
    headers.insert(TRACEPARENT, value(traceparent));
    headers.insert(EVENT_TYPE, value(event_type));
    if let Some(order) = order {
        headers.insert(SEQUENCE, value(order.sequence));
        headers.insert(PREVIOUS, value(order.previous));
        headers.insert(ORDERING_KEY, value(order.key));
    }
    if event.payload.is_empty() {
        // hyper says nothing of a body that is not there; some receivers want to be told (RFC 9110
        // section 8.6).
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    request(prepared, headers, event.payload.clone())
}

struct Order {
    sequence: Range<usize>,
    previous: Range<usize>,
    key: Range<usize>,
}

fn request(prepared: &Prepared, headers: HeaderMap, payload: Bytes) -> Request {
    let mut request = Request::new(Full::new(payload));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = prepared.uri.clone();
    *request.headers_mut() = headers;
    request
}

fn visible(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("only visible ASCII was written")
}

fn content_type(media_type: &str) -> HeaderValue {
    match media_type {
        "application/json" => HeaderValue::from_static("application/json"),
        other => HeaderValue::try_from(other)
            .unwrap_or(HeaderValue::from_static("application/octet-stream")),
    }
}

/// The text of one attempt. Each method appends and says where.
struct Text(Vec<u8>);

impl Text {
    fn since(&self, start: usize) -> Range<usize> {
        start..self.0.len()
    }

    fn uuid(&mut self, id: u128) -> Range<usize> {
        let start = self.0.len();
        let mut buffer = Uuid::encode_buffer();
        let text = Uuid::from_u128(id).hyphenated().encode_lower(&mut buffer);
        self.0.extend_from_slice(text.as_bytes());
        self.since(start)
    }

    fn number(&mut self, number: u64) -> Range<usize> {
        let start = self.0.len();
        write!(self.0, "{number}").expect("a vector takes all");
        self.since(start)
    }

    fn hex(&mut self, bytes: &[u8]) {
        let start = self.0.len();
        self.0.resize(start + 2 * bytes.len(), 0);
        hex::encode_to_slice(bytes, &mut self.0[start..]).expect("two characters a byte");
    }

    /// Visible ASCII as it is, all else and `%` as `%XX`.
    fn escaped(&mut self, words: &str) -> Range<usize> {
        let start = self.0.len();
        for &byte in words.as_bytes() {
            match byte {
                b'%' => self.0.extend_from_slice(b"%25"),
                b'!'..=b'~' => self.0.push(byte),
                _ => write!(self.0, "%{byte:02X}").expect("a vector takes all"),
            }
        }
        self.since(start)
    }

    /// Both signature headers, one signature for each secret that is valid now, newest first.
    fn signatures(
        &mut self,
        prepared: &Prepared,
        payload: &[u8],
        id: Range<usize>,
        timestamp: Range<usize>,
        now: Time,
    ) -> Option<(Range<usize>, Range<usize>)> {
        let valid = || prepared.keys.iter().filter(|key| key.signs_at(now));
        valid().next()?;
        let stamped = self.0.len();
        self.0.extend_from_slice(b"t=");
        self.0.extend_from_within(timestamp.clone());
        for SigningKey { whole, .. } in valid() {
            self.0.extend_from_slice(b",v1=");
            let tag = sign(whole, &[&self.0[timestamp.clone()], payload]);
            self.hex(tag.as_ref());
        }
        let stamped = self.since(stamped);
        let standard = self.0.len();
        for SigningKey { decoded, .. } in valid() {
            let separator: &[u8] = if self.0.len() == standard {
                b"v1,"
            } else {
                b" v1,"
            };
            let (id, timestamp) = (&self.0[id.clone()], &self.0[timestamp.clone()]);
            let tag = sign(decoded, &[id, timestamp, payload]);
            self.0.extend_from_slice(separator);
            let start = self.0.len();
            // 32 bytes are 44 characters, padding included.
            self.0.resize(start + 44, 0);
            STANDARD
                .encode_slice(tag, &mut self.0[start..])
                .expect("44 characters");
        }
        Some((stamped, self.since(standard)))
    }

    fn traceparent(&mut self, event: &Event, dispatch: &Dispatch) -> Range<usize> {
        let start = self.0.len();
        let span = trace(event, dispatch.correlation, dispatch.attempt);
        self.0.extend_from_slice(b"00-");
        self.hex(&span.trace_id.to_be_bytes());
        self.0.push(b'-');
        self.hex(&span.span_id.to_be_bytes());
        self.0.push(b'-');
        self.hex(&[span.flags]);
        debug_assert_eq!(self.since(start).len(), TRACEPARENT_LEN);
        self.since(start)
    }
}

/// HMAC-SHA256 of `parts` with dots between them.
fn sign(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            context.update(b".");
        }
        context.update(part);
    }
    context.sign()
}
