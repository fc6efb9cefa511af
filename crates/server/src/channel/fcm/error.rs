//! What FCM says is wrong, as one word: the `reason` that the reaction table knows.
//!
//! The truth is in `error.details[]`, in the entry of type `google.firebase.fcm.v1.FcmError`; where
//! there is none it is `error.status`, and else nothing but the HTTP status (Google, "FCM error
//! codes"). Two codes mean different things by what stands beside them, and get a suffix:
//!
//! | reason | |
//! | --- | --- |
//! | `INVALID_ARGUMENT/fields` | with a `google.rpc.BadRequest`: our request is wrong |
//! | `INVALID_ARGUMENT/token` | the words name the registration token |
//! | `QUOTA_EXCEEDED/device` | the quota of one device, not of the project |
//! | `UNAUTHENTICATED/again` | a new access token was not let in either |
//! | `NOT_JSON` | no answer of this API: a wrong URL, or something in between |
//!
//! Absent here: what follows; see `reactions/fcm.toml`.

use std::borrow::Cow;

use serde::Deserialize;

/// What is said to be wrong where the body is no JSON of Google's.
pub const NOT_JSON: &str = "NOT_JSON";
/// Suffix of a refusal that a new token met as well.
pub const AGAIN: &str = "/again";
/// A refusal for want of an access token that counts.
pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
/// Characters of a reason at the most; the longest that is known has 24.
const REASON_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
struct Body {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    status: String,
    #[serde(default, rename = "message")]
    words: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default, rename = "@type")]
    kind: String,
    #[serde(default, rename = "errorCode")]
    code: String,
    #[serde(default)]
    violations: Vec<Violation>,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    subject: String,
    #[serde(default)]
    description: String,
}

/// The reason in an answer's body; empty if it is Google's JSON and names none.
#[must_use]
pub fn reason(body: &[u8]) -> Cow<'static, str> {
    let Ok(Body { error }) = serde_json::from_slice::<Body>(body) else {
        return NOT_JSON.into();
    };
    let of = |kind: &'static str| {
        error
            .details
            .iter()
            .filter(move |it| it.kind.ends_with(kind))
    };
    let code = of("google.firebase.fcm.v1.FcmError")
        .map(|detail| detail.code.as_str())
        .next();
    let code = code
        .filter(|code| !code.is_empty())
        .unwrap_or(&error.status);
    let names_token = || {
        error
            .words
            .to_ascii_lowercase()
            .contains("registration token")
    };
    let of_device = || {
        let violations = of("google.rpc.QuotaFailure").flat_map(|detail| &detail.violations);
        violations
            .map(|violation| format!("{} {}", violation.subject, violation.description))
            .any(|words| words.to_ascii_lowercase().contains("device"))
    };
    match code {
        "INVALID_ARGUMENT" if of("google.rpc.BadRequest").next().is_some() => {
            "INVALID_ARGUMENT/fields".into()
        }
        "INVALID_ARGUMENT" if names_token() => "INVALID_ARGUMENT/token".into(),
        "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED" if of_device() => "QUOTA_EXCEEDED/device".into(),
        code => code
            .chars()
            .take(REASON_BYTES_MAX)
            .collect::<String>()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_truth_is_in_the_details_then_in_the_status_then_nowhere() {
        let fcm = |status: &str, code: &str| {
            format!(
                r#"{{"error":{{"code":1,"message":"m","status":"{status}","details":[
                {{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode":"{code}"}}]}}}}"#
            )
        };
        let table = [
            (fcm("NOT_FOUND", "UNREGISTERED"), "UNREGISTERED"),
            (
                fcm("PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
                "SENDER_ID_MISMATCH",
            ),
            (fcm("NOT_FOUND", ""), "NOT_FOUND"),
            (
                r#"{"error":{"code":404,"status":"NOT_FOUND"}}"#.into(),
                "NOT_FOUND",
            ),
            (r#"{"error":{"code":404}}"#.into(), ""),
            (
                "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>".into(),
                "NOT_JSON",
            ),
            (String::new(), "NOT_JSON"),
            ("{}".into(), "NOT_JSON"),
            (r#"{"error":"invalid_grant"}"#.into(), "NOT_JSON"),
            // Google's own two examples of one code.
            (
                r#"{"error":{"code":400,"message":"Invalid value at 'message.data[0].value'",
                "status":"INVALID_ARGUMENT","details":[{"@type":
                "type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":
                "message.data[0].value","description":"(TYPE_STRING), 12"}]}]}}"#
                    .into(),
                "INVALID_ARGUMENT/fields",
            ),
            (
                r#"{"error":{"code":400,"message":
                "The registration token is not a valid FCM registration token",
                "status":"INVALID_ARGUMENT","details":[{"@type":
                "type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode":"INVALID_ARGUMENT"}]}}"#
                    .into(),
                "INVALID_ARGUMENT/token",
            ),
            (
                fcm("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
                "INVALID_ARGUMENT",
            ),
            (
                fcm("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
                "QUOTA_EXCEEDED",
            ),
            (
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
                {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode":"QUOTA_EXCEEDED"},{"@type":
                "type.googleapis.com/google.rpc.QuotaFailure",
                "violations":[{"subject":"device:t","description":"Device message rate exceeded"}]}
                ]}}"#
                    .into(),
                "QUOTA_EXCEEDED/device",
            ),
        ];
        for (body, expected) in table {
            assert_eq!(reason(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_reason_without_end_is_cut() {
        let body = format!(r#"{{"error":{{"status":"{}"}}}}"#, "Ä".repeat(5_000));
        assert_eq!(
            reason(body.as_bytes()).chars().count(),
            super::REASON_BYTES_MAX
        );
    }
}
