//! A push service (RFC 8030), strict towards senders: what the real ones refuse, it refuses, with
//! autopush's status codes and error bodies.
//!
//! | request | |
//! | --- | --- |
//! | `POST /wpush/v1/<token>` | a push to a subscription; `v2` where it is bound to a sender's key |
//! | `DELETE /m/<id>` | withdraws what its `Location` named |
//!
//! Refused are: no `TTL` or none that is a number (400, errno 111 and 114), a `Topic` that is none
//! (113), a body that is not one record of `aes128gcm` (110), a token that does not hold or is
//! another key's (401, 109), a body over 4,096 bytes (413, 104), what never was subscribed (404,
//! 102) and what is no more (410, 106). A behaviour of the path comes before all this: its answer
//! is given, and what it processes is kept for the user agent, so that an answer can be withheld
//! from a push that arrives.
//!
//! User agents are served by [`UserAgents`], or by anything else, from [`Subscriptions`].
//!
//! [`Browser`] has the keys of one subscription and reads what is encrypted for it.
//!
//! Absent here: who a push is for.

mod browser;
mod passage;
mod subscriptions;
mod useragent;
mod vapid;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

pub use browser::{Browser, Unreadable};
pub use passage::{End, Missing, Parcel, Passage, Pushed, Receipt, Refused};
pub use subscriptions::{
    ACKNOWLEDGED, Agent, HISTORY_MAX, ID_LENGTH_MAX, SUBSCRIPTIONS_MAX, Subscriptions, TTL_S_MAX,
    WAITING_MAX,
};
pub use useragent::{BROWSERS_MAX, FRAME_BYTES_MAX, HELLO_MS, UserAgents};

use super::wire::Reply;

/// Longest body of a push (RFC 8030 section 7.2: no less may be refused).
pub const BODY_BYTES_MAX: usize = 4_096;
/// Longest `Topic` (RFC 8030 section 5.4).
const TOPIC_LENGTH_MAX: usize = 32;
/// Salt, record size, length of the key id, and the sender's public key (RFC 8188 section 2.1).
const HEADER_BYTES: usize = 16 + 4 + 1 + 65;
/// The padding's delimiter and the tag: what the shortest record has.
const RECORD_BYTES_MIN: usize = 1 + 16;
const MORE_INFO: &str = "http://autopush.readthedocs.io/en/latest/http.html#error-codes";

/// A refusal: HTTP status, autopush's errno, and words.
type Refusal = (StatusCode, Option<u16>, &'static str);

/// Whether a path is the push service's.
pub(super) fn owns(path: &str) -> bool {
    path.starts_with("/wpush/") || path.starts_with("/m/")
}

/// Whether what a request asks for is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Done,
    Pretended,
}

/// Judges a request of a sender, does what it asks for if that is meant, and answers.
pub(super) fn answer(
    service: &Subscriptions,
    head: &Parts,
    body: &Bytes,
    doing: Doing,
    now_s: i64,
) -> Response<Reply> {
    let path = head.uri.path();
    let answered = match path.strip_prefix("/m/") {
        Some(version) => withdraw(service, &head.method, version, doing),
        None => push(service, head, body, doing, now_s),
    };
    answered.unwrap_or_else(|refusal| refused(&refusal))
}

/// What the service says at `now_s` to a request of a sender, without doing what it asks for: for
/// tests that bring a network and a clock of their own.
#[must_use]
pub fn judge(service: &Subscriptions, head: &Parts, body: &Bytes, now_s: i64) -> Response<Bytes> {
    let answer = answer(service, head, body, Doing::Pretended, now_s);
    answer.map(|reply| match reply {
        Reply::Whole(body) => body,
        // No answer of the service's own is broken.
        _ => Bytes::new(),
    })
}

fn withdraw(
    service: &Subscriptions,
    method: &Method,
    version: &str,
    doing: Doing,
) -> Result<Response<Reply>, Refusal> {
    if method != Method::DELETE {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            None,
            "Only DELETE is known here",
        ));
    }
    if doing == Doing::Done {
        service.withdraw(version);
    }
    Ok(answered(StatusCode::NO_CONTENT))
}

fn push(
    service: &Subscriptions,
    head: &Parts,
    body: &Bytes,
    doing: Doing,
    now_s: i64,
) -> Result<Response<Reply>, Refusal> {
    if head.method != Method::POST {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            None,
            "Only POST is known here",
        ));
    }
    let headers = &head.headers;
    let ttl_s = ttl_s(headers)?;
    let replace = replace(headers)?;
    let token = token(head.uri.path()).ok_or(UNKNOWN)?;
    let missing = |missing| match missing {
        Missing::Unknown => UNKNOWN,
        Missing::Gone => (StatusCode::GONE, Some(106), "No such subscription"),
    };
    let key = service.key(token).map_err(missing)?;
    let authorization = text(headers, "authorization");
    vapid::check(authorization, &origins(head), key.as_deref(), now_s)
        .map_err(|words| (StatusCode::UNAUTHORIZED, Some(109), words))?;
    let encoding = encoding(headers, body)?;
    if body.len() > BODY_BYTES_MAX {
        return Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            Some(104),
            "Payload too large",
        ));
    }
    if doing == Doing::Pretended {
        return Ok(answered(StatusCode::CREATED));
    }
    let parcel = Parcel {
        ttl_s,
        replace,
        urgency: text(headers, "urgency").unwrap_or_default().into(),
        encoding,
        body: body.clone(),
    };
    let receipt = service.push(token, parcel).map_err(missing)?;
    let mut response = answered(StatusCode::CREATED);
    let location = format!("{}/m/{}", service.origin(), receipt.version);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    let granted = HeaderValue::from(receipt.ttl_s);
    response.headers_mut().insert("ttl", granted);
    Ok(response)
}

const UNKNOWN: Refusal = (StatusCode::NOT_FOUND, Some(102), "Invalid token");

/// The last part of `/wpush/v1/<token>` or `/wpush/v2/<token>`.
fn token(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/wpush/")?;
    let token = rest
        .strip_prefix("v1/")
        .or_else(|| rest.strip_prefix("v2/"))?;
    (!token.is_empty()).then_some(token)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// RFC 8030 section 5.2. What is too large for a number is as much as is granted.
fn ttl_s(headers: &HeaderMap) -> Result<u64, Refusal> {
    let bad = |errno, words| (StatusCode::BAD_REQUEST, Some(errno), words);
    let ttl = text(headers, "ttl").ok_or(bad(111, "Missing TTL value"))?;
    match ttl.strip_prefix('-') {
        Some(digits) if digits.parse::<u64>().is_ok() => Err(bad(114, "Invalid TTL value")),
        _ if ttl.is_empty() || !ttl.bytes().all(|b| b.is_ascii_digit()) => {
            Err(bad(111, "Missing TTL value"))
        }
        _ => Ok(ttl.parse().unwrap_or(u64::MAX).min(TTL_S_MAX)),
    }
}

/// RFC 8030 section 5.4.
fn replace(headers: &HeaderMap) -> Result<Option<Box<str>>, Refusal> {
    let Some(value) = headers.get("topic") else {
        return Ok(None);
    };
    let fits = |text: &&str| {
        text.len() <= TOPIC_LENGTH_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match value.to_str().ok().filter(fits) {
        Some(text) => Ok(Some(text.into())),
        None => Err((StatusCode::BAD_REQUEST, Some(113), "Invalid Topic")),
    }
}

/// Nothing, or one record of `aes128gcm` (RFC 8291 section 4).
fn encoding(headers: &HeaderMap, body: &[u8]) -> Result<Box<str>, Refusal> {
    let bad = |words| (StatusCode::BAD_REQUEST, Some(110), words);
    if body.is_empty() {
        return Ok("".into());
    }
    match text(headers, "content-encoding") {
        Some("aes128gcm") => {}
        Some(_) => return Err(bad("Unknown Content-Encoding")),
        None => return Err(bad("Missing Content-Encoding")),
    }
    if headers.contains_key("crypto-key") || headers.contains_key("encryption") {
        return Err(bad("aesgcm headers with an aes128gcm body"));
    }
    if body.len() < HEADER_BYTES + RECORD_BYTES_MIN || body[20] != 65 || body[21] != 4 {
        return Err(bad(
            "The body is not a record of aes128gcm with a key of 65 bytes",
        ));
    }
    let record_bytes = u32::from_be_bytes([body[16], body[17], body[18], body[19]]);
    let is_one = usize::try_from(record_bytes).is_ok_and(|size| size >= body.len() - HEADER_BYTES);
    if !is_one || record_bytes < 18 {
        return Err(bad("The body has more than one record"));
    }
    Ok("aes128gcm".into())
}

/// The origins under which a request may have reached us: a fake does not mind whether TLS ended
/// in front of it.
fn origins(head: &Parts) -> Vec<String> {
    let host = text(&head.headers, "host").map(str::to_owned);
    let host = host.or_else(|| head.uri.authority().map(ToString::to_string));
    let host = host.unwrap_or_default();
    vec![format!("https://{host}"), format!("http://{host}")]
}

fn answered(http_status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Bytes::new()));
    *response.status_mut() = http_status;
    response
}

fn refused(&(http_status, errno, words): &Refusal) -> Response<Reply> {
    let body = serde_json::json!({
        "code": http_status.as_u16(),
        "errno": errno,
        "error": http_status.canonical_reason(),
        "message": words,
        "more_info": MORE_INFO,
    });
    let mut response = Response::new(Reply::Whole(body.to_string().into()));
    *response.status_mut() = http_status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if http_status == StatusCode::GONE {
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("max-age=86400"),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{BODY_BYTES_MAX, Doing, End, Subscriptions, answer, owns};
    use crate::fake::wire::Reply;
    use bytes::Bytes;
    use http::Request;
    use serde_json::Value;
    use std::sync::Arc;

    /// The example of RFC 8292 section 2.4, at the moment of its end.
    const VAPID: &str = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2\
        guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3\
        CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=\
        BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
    const NOW_S: i64 = 1_453_523_768;

    struct Sender {
        service: Arc<Subscriptions>,
        path: String,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        method: &'static str,
    }

    /// The answer's HTTP status, its errno (0 for none) and its headers.
    type Said = (u16, u64, http::HeaderMap);

    impl Sender {
        /// One whose push is fine.
        fn new() -> Sender {
            let service = Subscriptions::new("https://push.example.net");
            let key = VAPID.rsplit_once("k=").expect("a key").1;
            let endpoint = service.subscribe(Some(key)).expect("room");
            let mut body = vec![9; 16];
            body.extend([0, 0, 16, 0, 65, 4]);
            body.resize(86 + 40, 1);
            Sender {
                path: endpoint.replace("https://push.example.net", ""),
                service,
                headers: vec![
                    ("host", "push.example.net".into()),
                    ("ttl", "60".into()),
                    ("topic", "abc-_1".into()),
                    ("content-encoding", "aes128gcm".into()),
                    ("authorization", VAPID.into()),
                ],
                body,
                method: "POST",
            }
        }

        fn with(mut self, name: &'static str, value: &str) -> Sender {
            self = self.without(name);
            self.headers.push((name, value.into()));
            self
        }

        fn without(mut self, name: &str) -> Sender {
            self.headers.retain(|(known, _)| *known != name);
            self
        }

        fn says(&self, doing: Doing) -> Said {
            let mut request = Request::builder().method(self.method).uri(&self.path);
            for (name, value) in &self.headers {
                request = request.header(*name, value);
            }
            let (head, ()) = request.body(()).expect("a request").into_parts();
            assert!(owns(head.uri.path()));
            let body = Bytes::copy_from_slice(&self.body);
            let (head, body) = answer(&self.service, &head, &body, doing, NOW_S).into_parts();
            let Reply::Whole(body) = body else {
                panic!("a body without an end")
            };
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let errno = body["errno"].as_u64().unwrap_or_default();
            (head.status.as_u16(), errno, head.headers)
        }

        fn refused(&self) -> (u16, u64) {
            let (http_status, errno, _) = self.says(Doing::Done);
            assert!(self.service.history(None).is_empty(), "nothing is kept");
            (http_status, errno)
        }
    }

    #[test]
    fn a_push_that_is_right_is_taken_and_can_be_withdrawn() {
        let mut sender = Sender::new();
        let (http_status, _, headers) = sender.says(Doing::Done);
        assert_eq!((http_status, headers["ttl"].as_bytes()), (201, &b"60"[..]));
        let location = headers["location"].to_str().expect("text");
        let [passage] = &sender.service.history(None)[..] else {
            panic!("one is kept")
        };
        assert_eq!(
            location,
            format!("https://push.example.net/m/{}", passage.version)
        );
        assert_eq!(passage.end, End::Acknowledged);
        sender.path = location.replace("https://push.example.net", "");
        sender.method = "DELETE";
        assert_eq!(sender.says(Doing::Done).0, 204);
        sender.method = "GET";
        assert_eq!(sender.says(Doing::Done).0, 405);
    }

    #[test]
    fn what_autopush_refuses_is_refused_as_it_does() {
        let sender = Sender::new;
        assert_eq!(sender().without("ttl").refused(), (400, 111));
        assert_eq!(sender().with("ttl", "abc").refused(), (400, 111));
        assert_eq!(sender().with("ttl", "-1").refused(), (400, 114));
        assert_eq!(sender().with("topic", "a/b").refused(), (400, 113));
        assert_eq!(
            sender().with("topic", &"a".repeat(33)).refused(),
            (400, 113)
        );
        assert_eq!(sender().without("content-encoding").refused(), (400, 110));
        assert_eq!(
            sender().with("content-encoding", "gzip").refused(),
            (400, 110)
        );
        assert_eq!(sender().with("crypto-key", "dh=x").refused(), (400, 110));
        assert_eq!(sender().without("authorization").refused(), (401, 109));
        assert_eq!(sender().with("host", "other.example").refused(), (401, 109));
        let change = |change: &dyn Fn(&mut Sender)| {
            let mut sender = Sender::new();
            change(&mut sender);
            sender.refused()
        };
        assert_eq!(
            change(&|sender| sender.body.resize(BODY_BYTES_MAX + 1, 1)),
            (413, 104)
        );
        assert_eq!(change(&|sender| sender.body.truncate(90)), (400, 110));
        assert_eq!(change(&|sender| sender.body[18] = 0), (400, 110));
        assert_eq!(change(&|sender| sender.path.push('x')), (404, 102));
        assert_eq!(
            change(&|sender| sender.path = "/wpush/v3/x".into()),
            (404, 102)
        );
        assert_eq!(change(&|sender| sender.method = "PUT"), (405, 0));
    }

    #[test]
    fn what_is_gone_says_so_and_what_is_pretended_leaves_nothing() {
        let sender = Sender::new();
        assert_eq!(sender.says(Doing::Pretended).0, 201);
        assert!(sender.service.history(None).is_empty());
        let token = sender.path.rsplit('/').next().expect("a token");
        sender.service.end(token).expect("it was there");
        let (http_status, errno, headers) = sender.says(Doing::Done);
        assert_eq!((http_status, errno), (410, 106));
        assert_eq!(headers["cache-control"], "max-age=86400");
    }

    #[test]
    fn a_time_to_live_without_a_bound_is_cut_to_30_days() {
        let sender = Sender::new().with("ttl", "99999999999999999999999");
        assert_eq!(sender.says(Doing::Done).2["ttl"], "2592000");
    }
}
