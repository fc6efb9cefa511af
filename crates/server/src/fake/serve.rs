//! One request: read, judged, recorded and answered as its path's script says.
//!
//! Absent here: what the admin paths under `/_/` do.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use super::admin;
use super::behaviour::{Act, Answer, Choice, RetryAfter};
use super::fcm;
use super::push::{self, Doing};
use super::record::{FIELD_BYTES_MAX, Record};
use super::signature::{self, Verdict};
use super::state::{State, Visit};
use super::wire::{Broken, Cut, ENDLESS_BYTES_MAX, Misdeed, Reply};

/// Longest body that is read; a longer one is answered with 413.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest time that a request is left without an answer.
const HANG_MS: u64 = 3_600_000;

const KEY: HeaderName = HeaderName::from_static("x-webhook-idempotency-key");
const STANDARD_ID: HeaderName = HeaderName::from_static("webhook-id");
const CORRELATION: HeaderName = HeaderName::from_static("x-postrider-correlation-id");
const ATTEMPT: HeaderName = HeaderName::from_static("x-postrider-attempt");
const SEQUENCE: HeaderName = HeaderName::from_static("x-event-sequence-id");
const TOPIC: HeaderName = HeaderName::from_static("topic");
const PREVIOUS: HeaderName = HeaderName::from_static("x-event-previous-sequence-id");

/// Where a request leaves word for the connection it came on.
pub(super) type Word = parking_lot::Mutex<Option<Misdeed>>;

/// Answers one request, or says by an error and a word what happens to its connection.
pub(super) async fn answer(
    state: &State,
    word: &Word,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Broken> {
    if request.uri().path().starts_with("/_/") {
        return admin::answer(state, request).await;
    }
    if fcm::is_ours(request.uri().path()) {
        return fcm::answer(state, word, request).await;
    }
    let (head, incoming) = request.into_parts();
    let visit = state.visit(head.uri.path());
    let choice = Choice {
        number: visit.number,
        attempt: number(&head.headers, &ATTEMPT).unwrap_or(1),
        key: key(&head.headers),
    };
    let act = visit.script.act(&choice);
    if matches!(act, Act::ResetBeforeBody) {
        note(state, &visit, &head.headers, &Seen::of(act, &[]), now_us());
        return broken(word, Misdeed::Reset);
    }
    let body = match read(incoming).await? {
        Ok(body) => body,
        Err(TooLong) => return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE)),
    };
    let arrived_us = now_us();
    let now_s = i64::try_from(arrived_us / 1_000_000).unwrap_or(i64::MAX);
    let verdict = signature::verify(&visit.script.keys, &head.headers, &body, now_s);
    let mut seen = Seen::of(act, &body);
    seen.verdict = verdict;
    if !verdict.holds() {
        (seen.http_status, seen.processed, seen.at_once) = (401, false, true);
        note(state, &visit, &head.headers, &seen, arrived_us);
        return Ok(plain(StatusCode::UNAUTHORIZED));
    }
    if push::owns(head.uri.path()) {
        let scripted = visit.script.rule(&choice);
        let doing = match scripted {
            Some(act) if !act.processes() => Doing::Pretended,
            _ => Doing::Done,
        };
        let answer = push::answer(&state.push, &head, &body, doing, now_s);
        seen.processed = doing == Doing::Done && answer.status().is_success();
        if scripted.is_none() {
            (seen.http_status, seen.at_once) = (answer.status().as_u16(), true);
            note(state, &visit, &head.headers, &seen, arrived_us);
            return Ok(answer);
        }
    }
    let serial = note(state, &visit, &head.headers, &seen, arrived_us);
    perform(state, word, act, serial).await
}

/// What a record says beside the head.
struct Seen<'a> {
    body: &'a [u8],
    verdict: Verdict,
    http_status: u16,
    processed: bool,
    at_once: bool,
}

impl Seen<'_> {
    fn of<'a>(act: &Act, body: &'a [u8]) -> Seen<'a> {
        let (http_status, at_once) = match act {
            Act::Answer(answer) => (answer.http_status, answer.delay_ms == 0),
            Act::EndlessBody | Act::SlowBody(_) | Act::CutBody => (200, true),
            _ => (0, false),
        };
        Seen {
            body,
            verdict: Verdict::Unchecked,
            http_status,
            processed: act.processes(),
            at_once,
        }
    }
}

fn note(state: &State, visit: &Visit, headers: &HeaderMap, seen: &Seen<'_>, at_us: u64) -> u64 {
    state.tally(&visit.path, seen.body, at_us);
    state.arrived.fetch_add(1, Relaxed);
    if !state.records {
        return 0;
    }
    let kept = &seen.body[..seen.body.len().min(state.body_keep_bytes)];
    state.push(Record {
        serial: 0,
        path: Arc::clone(&visit.path),
        key: key(headers).into(),
        correlation_id: text(headers, &CORRELATION).into(),
        attempt: number(headers, &ATTEMPT).unwrap_or(0),
        sequence: number(headers, &SEQUENCE).unwrap_or(0),
        previous_sequence: number(headers, &PREVIOUS),
        arrived_us: at_us,
        answered_us: if seen.at_once { at_us } else { 0 },
        http_status: seen.http_status,
        processed: seen.processed,
        signature: seen.verdict,
        body_bytes: u32::try_from(seen.body.len()).unwrap_or(u32::MAX),
        body_crc32c: crc32c::crc32c(seen.body),
        body: match push::owns(&visit.path) {
            // Encrypted: as text nothing would be left of it.
            true => STANDARD.encode(kept).into(),
            false => String::from_utf8_lossy(kept).into(),
        },
    })
}

pub(super) async fn perform(
    state: &State,
    word: &Word,
    act: &Act,
    serial: u64,
) -> Result<Response<Reply>, Broken> {
    match act {
        Act::Answer(answer) => {
            if answer.delay_ms > 0 {
                tokio::time::sleep(Duration::from_millis(answer.delay_ms)).await;
                state.answered(serial, now_us());
            }
            Ok(spoken(answer))
        }
        Act::Hang => {
            tokio::time::sleep(Duration::from_millis(HANG_MS)).await;
            broken(word, Misdeed::Close)
        }
        Act::ResetBeforeBody | Act::ResetAfterRequest => broken(word, Misdeed::Reset),
        Act::CloseAfterRequest => broken(word, Misdeed::Close),
        Act::Garbage => broken(word, Misdeed::Garbage),
        Act::EndlessHeaders => broken(word, Misdeed::EndlessHeaders),
        Act::SlowHeaders(bytes_per_s) => broken(word, Misdeed::SlowHeaders(*bytes_per_s)),
        Act::EndlessBody => Ok(Response::new(Reply::Endless(ENDLESS_BYTES_MAX))),
        Act::SlowBody(bytes_per_s) => Ok(Response::new(Reply::slow(*bytes_per_s))),
        Act::CutBody => Ok(Response::new(Reply::Cut(Cut::Whole))),
    }
}

pub(super) fn broken(word: &Word, misdeed: Misdeed) -> Result<Response<Reply>, Broken> {
    *word.lock() = Some(misdeed);
    Err(Broken)
}

fn plain(http_status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Bytes::new()));
    *response.status_mut() = http_status;
    response
}

fn spoken(answer: &Answer) -> Response<Reply> {
    let body = Bytes::copy_from_slice(answer.body.as_bytes());
    let mut response = Response::new(Reply::Whole(body));
    *response.status_mut() = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::OK);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    if let Some(retry_after) = &answer.retry_after {
        let value = match *retry_after {
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::Date(seconds) => httpdate::fmt_http_date(from_now(seconds)),
            RetryAfter::Absurd => "9".repeat(40),
            RetryAfter::Malformed => "when I am ready".to_owned(),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
    }
    response
}

/// Furthest moment that a date header names.
const DATE_S_MAX: u64 = 100 * 365 * 86_400;

fn from_now(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs().min(DATE_S_MAX));
    let now = SystemTime::now();
    let moved = if seconds < 0 {
        now.checked_sub(distance)
    } else {
        now.checked_add(distance)
    };
    moved
        .filter(|moment| *moment > UNIX_EPOCH)
        .unwrap_or(UNIX_EPOCH)
}

/// A body is longer than what is read.
pub(super) struct TooLong;

/// Reads a body to its end or to the bound; a single piece is not copied.
pub(super) async fn read(mut incoming: Incoming) -> Result<Result<Bytes, TooLong>, Broken> {
    let mut whole = Vec::new();
    let mut first = Bytes::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(piece) = frame.map_err(|_| Broken)?.into_data() else {
            continue;
        };
        if first.len() + whole.len() + piece.len() > BODY_BYTES_MAX {
            return Ok(Err(TooLong));
        }
        if first.is_empty() && whole.is_empty() {
            first = piece;
            continue;
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&piece);
    }
    Ok(Ok(if whole.is_empty() {
        first
    } else {
        whole.into()
    }))
}

fn key(headers: &HeaderMap) -> &str {
    for name in [KEY, STANDARD_ID, TOPIC] {
        match text(headers, &name) {
            "" => {}
            key => return key,
        }
    }
    ""
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.map_or("", |text| &text[..text.len().min(FIELD_BYTES_MAX)])
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<T> {
    text(headers, name).parse().ok()
}

/// Microseconds since 1970 on the wall clock.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
