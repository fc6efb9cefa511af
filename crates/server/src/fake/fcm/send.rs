//! What FCM would say to a request whose sender it has let in: Google's refusals, or where it goes.
//!
//! Absent here: scripts, and HTTP.

use serde_json::{Value, json};

use super::shape::{self, REQUEST, member, seconds};

/// Bytes of a payload at most.
const CONTENT_BYTES_MAX: usize = 4_096;
/// Longest time to live.
const TTL_S_MAX: i64 = 2_419_200;
/// Characters of a registration token or an installation id at most.
const TOKEN_CHARS_MAX: usize = 4_096;
const TARGETS: [&str; 4] = ["token", "fid", "topic", "condition"];

/// A request that FCM would take.
#[derive(Debug)]
pub(super) struct Order {
    /// The device.
    pub(super) target: String,
    /// Nothing is to be sent.
    pub(super) validate_only: bool,
    /// `data`, or an empty object.
    pub(super) data: Value,
}

/// An error as Google writes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) http_status: u16,
    pub(super) body: Value,
}

/// Judges a request's body.
pub(super) fn judge(body: &[u8]) -> Result<Order, Refusal> {
    let request: Value = serde_json::from_slice(body)
        .map_err(|error| field("", format!("Invalid JSON payload received. {error}")))?;
    shape::fits(&REQUEST, &request, "").map_err(|wrong| field(&wrong.field, wrong.description))?;
    let Some(message) = member(&request, "message") else {
        return Err(field("message", "Required field is missing.".into()));
    };
    let targets: Vec<&str> = TARGETS
        .into_iter()
        .filter(|target| member(message, target).is_some())
        .collect();
    let target = match targets[..] {
        [target @ ("token" | "fid")] => member(message, target).and_then(Value::as_str),
        [] => {
            let words = "Exactly one of token, fid, topic or condition is required.";
            return Err(field("message", words.into()));
        }
        [other] => {
            let words = format!("This fake knows devices, and no {other}.");
            return Err(field("message", words));
        }
        _ => {
            let words = format!("oneof field 'target' is already set: {targets:?}");
            return Err(field("message", words));
        }
    };
    let target = target.unwrap_or_default();
    check_android(message)?;
    check_data(message)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_:.~%".contains(c);
    if target.is_empty() || target.len() > TOKEN_CHARS_MAX || !target.chars().all(fits) {
        let words = "The registration token is not a valid FCM registration token";
        return Err(refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", words));
    }
    Ok(Order {
        target: target.to_owned(),
        validate_only: member(&request, "validateOnly") == Some(&json!(true)),
        data: member(message, "data")
            .cloned()
            .unwrap_or_else(|| json!({})),
    })
}

fn check_android(message: &Value) -> Result<(), Refusal> {
    let android = member(message, "android");
    if android.is_some() && member(message, "androidV2").is_some() {
        let words = "android and android_v2 are mutually exclusive.";
        return Err(field("message.android_v2", words.into()));
    }
    let ttl = android.and_then(|android| member(android, "ttl"));
    let ttl_s = ttl.and_then(Value::as_str).and_then(seconds).unwrap_or(0);
    if !(0..=TTL_S_MAX).contains(&ttl_s) {
        let words = format!("Invalid TTL: 0 to {TTL_S_MAX} seconds, not {ttl_s}.");
        return Err(field("message.android.ttl", words));
    }
    Ok(())
}

/// Reserved names, and the size of what one device would get.
fn check_data(message: &Value) -> Result<(), Refusal> {
    let shown = member(message, "notification").map_or(0, bytes);
    let android = member(message, "android").and_then(|android| member(android, "data"));
    for data in [member(message, "data"), android].into_iter().flatten() {
        let names = data.as_object().into_iter().flatten().map(|(name, _)| name);
        for name in names {
            let reserved = matches!(name.as_str(), "from" | "message_type" | "gcm")
                || name.starts_with("google")
                || name.starts_with("gcm.");
            if reserved {
                let words = format!("Invalid data payload key: {name}");
                return Err(field("message.data", words));
            }
        }
        let size = shown + bytes(data);
        if size > CONTENT_BYTES_MAX {
            let words = format!("Android message is too big: {size} bytes.");
            return Err(refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", &words));
        }
    }
    Ok(())
}

fn bytes(object: &Value) -> usize {
    let members = object.as_object().into_iter().flatten();
    members
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum()
}

/// The refusal of a field, with a `google.rpc.BadRequest`.
pub(super) fn field(name: &str, words: String) -> Refusal {
    let violation = json!({ "field": name, "description": words });
    let details = json!([{
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [violation],
    }]);
    error(400, "INVALID_ARGUMENT", &words, details)
}

/// A refusal with a code of FCM's own; none if `code` is empty.
pub(super) fn refusal(http_status: u16, status: &str, code: &str, words: &str) -> Refusal {
    let details = match code {
        "" => json!([]),
        code => json!([{
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
            "errorCode": code,
        }]),
    };
    error(http_status, status, words, details)
}

fn error(http_status: u16, status: &str, words: &str, details: Value) -> Refusal {
    let mut error = json!({ "code": http_status, "message": words, "status": status });
    if details != json!([]) {
        error["details"] = details;
    }
    Refusal {
        http_status,
        body: json!({ "error": error }),
    }
}

/// The answer that Google gives with this HTTP status, if it gives one.
pub(super) fn usual(http_status: u16) -> Option<Refusal> {
    let (status, code, words) = match http_status {
        400 => (
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
            "The registration token is not a valid FCM registration token",
        ),
        401 => (
            "UNAUTHENTICATED",
            "",
            "Request had invalid authentication credentials.",
        ),
        403 => (
            "PERMISSION_DENIED",
            "SENDER_ID_MISMATCH",
            "SenderId mismatch",
        ),
        404 => (
            "NOT_FOUND",
            "UNREGISTERED",
            "Requested entity was not found.",
        ),
        429 => (
            "RESOURCE_EXHAUSTED",
            "QUOTA_EXCEEDED",
            "Quota exceeded for quota metric 'Send requests'",
        ),
        500 => ("INTERNAL", "INTERNAL", "Internal error encountered."),
        502 | 503 => (
            "UNAVAILABLE",
            "UNAVAILABLE",
            "The service is currently unavailable.",
        ),
        504 => ("DEADLINE_EXCEEDED", "", "Deadline exceeded."),
        _ => return None,
    };
    Some(refusal(http_status, status, code, words))
}
