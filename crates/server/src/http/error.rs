//! What can go wrong in a request, and the only place where a cause becomes an HTTP status.
//!
//! Every answer that is not what was asked for is a problem document (RFC 9457) with a stable code,
//! and every code has a page at `/docs/errors/<code>`, served by this process.
//!
//! Absent here: what went wrong inside. That is logged; the caller learns only what it can act on.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use postrider_core::engine::Why;
use serde::Serialize;
use utoipa::ToSchema;

use crate::registry::RegistryError;
use crate::registry::keys::KeyRefused;
use crate::registry::validate::Invalid;
use crate::store::ReadError;

/// Bytes of a refused value that are repeated to the caller.
const VALUE_BYTES_MAX: usize = 128;
/// Media type of a problem document (RFC 9457 section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($name:ident $http_status:ident $code:literal $title:literal $meaning:literal
        $way_out:literal;)*) => {
        /// The closed list of codes. Callers branch on them: they are never renamed or reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The word in the document and in the page's address.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Code::$name => $code),* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub fn http_status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$http_status),* }
            }

            /// The same for every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title),* }
            }

            /// What it means, for the page.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning),* }
            }

            /// What to do about it.
            #[must_use]
            pub fn way_out(self) -> &'static str {
                match self { $(Code::$name => $way_out),* }
            }
        }
    };
}

codes! {
    MalformedRequest BAD_REQUEST "malformed_request" "The request cannot be read"
        "The body is not the JSON that this route takes, or the query has a part that it does not."
        "Correct the request; the field and the rule are named where they are known.";
    TenantRequired BAD_REQUEST "tenant_required" "Which tenant is meant is not known"
        "The key opens the whole installation, so the request has to say whose resources it means."
        "Send the header Postrider-Tenant with a tenant's name or id, or use a key of that tenant.";
    KeyMissing UNAUTHORIZED "key_missing" "A key is needed"
        "The request has no Authorization header of the form `Bearer pr_…`."
        "Send the key. An operator makes one with `postrider keys create`.";
    KeyRefused UNAUTHORIZED "key_refused" "The key is not taken"
        "The key is mistyped, unknown, expired or revoked."
        "Check that it was copied whole; else have a new one made.";
    Forbidden FORBIDDEN "forbidden" "The key may not do this"
        "The role of the key does not include this, or the tenant is not the key's own."
        "Use a key with a role that includes it; the matrix of roles is at /docs.";
    NotFound NOT_FOUND "not_found" "There is no such thing"
        "Nothing has this id, it belongs to somebody else, or its retention has ended."
        "Check the id and the key's tenant.";
    MethodNotAllowed METHOD_NOT_ALLOWED "method_not_allowed" "The route does not take this method"
        "The path exists, with other methods."
        "See /docs for the methods of each route.";
    RequestTimeout REQUEST_TIMEOUT "request_timeout" "The request took too long"
        "The body did not arrive in time, or the answer was not ready in time. What was \
         submitted may have been admitted."
        "Send it again with the same business id: if it was admitted, you get the first one's ids.";
    IdempotencyConflict CONFLICT "idempotency_conflict" "The same key came with other content"
        "An event with this business id, type and version was admitted before, and asked for \
         something else."
        "Give a new event a new id, or a new version; to repeat one, send exactly what was sent \
         first.";
    NameTaken CONFLICT "name_taken" "The name is taken"
        "Something of the same kind has this name."
        "Choose another name, or use what is there.";
    EndpointRetired CONFLICT "endpoint_retired" "The endpoint is retired"
        "The receiver said that the address is gone, or somebody retired it. That is for good."
        "Register the address again: it gets a new id.";
    DeliverySettled CONFLICT "delivery_settled" "The delivery can no longer be withdrawn"
        "It was settled before, or a request is under way whose answer will settle it."
        "Read the delivery to see what became of it.";
    BodyTooLarge PAYLOAD_TOO_LARGE "body_too_large" "The body is too large"
        "The body, or the payload of one event, goes over this installation's limit."
        "Send less, or a link to it; an operator can raise `server.body_bytes_max`.";
    BatchTooLarge PAYLOAD_TOO_LARGE "batch_too_large" "The batch has too many items"
        "A batch has an upper limit of items, so that one request cannot take all the room."
        "Split it; each item is answered for itself anyway.";
    InvalidValue UNPROCESSABLE_ENTITY "invalid_value" "A value breaks a rule"
        "The request can be read, but a field has a value that may not be."
        "Correct the field that is named, as the rule says.";
    FanoutTooLarge UNPROCESSABLE_ENTITY "fanout_too_large" "The event goes to too many endpoints"
        "The recipient, the list or the subscriptions name more endpoints than one event may go to."
        "Address fewer at once; an operator can raise `server.fanout_max`.";
    RateLimited TOO_MANY_REQUESTS "rate_limited" "The key makes too many requests"
        "Each key has a pace, so that one caller cannot take the room of the others."
        "Wait as long as Retry-After says; submit in batches.";
    Overloaded TOO_MANY_REQUESTS "overloaded" "Too much is waiting"
        "The engine holds as much as it may. Nothing of this request was admitted."
        "Wait as long as Retry-After says and send it again with the same business id.";
    Internal INTERNAL_SERVER_ERROR "internal" "Something is wrong on our side"
        "The request could not be carried out, through no fault of its own. The log has the reason."
        "Send it again with the same business id; if it stays, tell the operator.";
    Damaged INTERNAL_SERVER_ERROR "damaged" "Stored data is damaged"
        "A file does not read back as it was written, and is not answered from."
        "Operator: stop the process and run `postrider doctor` on the data directory.";
    Draining SERVICE_UNAVAILABLE "draining" "The process is about to end"
        "It takes nothing new any more and finishes what is under way."
        "Send it to another node, or again in a moment.";
    Unavailable SERVICE_UNAVAILABLE "unavailable" "The engine is not there"
        "The engine has not started yet, or has just ended. What was submitted may have been \
         admitted."
        "Send it again with the same business id: if it was admitted, you get the first one's ids.";
    StorageFull INSUFFICIENT_STORAGE "storage_full" "The disk is full"
        "There is no room for another entry. Nothing of this request was admitted."
        "Operator: make room; intake recovers by itself. Callers: wait and send it again.";
}

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Option<String>,
    field: Option<String>,
    value: Option<String>,
    rule: Option<String>,
    retry_after_ms: Option<u64>,
}

/// A problem document (RFC 9457) as it is written.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Address of the page about this code.
    #[serde(rename = "type")]
    page: String,
    /// The same for every occurrence of this code.
    title: &'a str,
    /// HTTP status.
    #[serde(rename = "status")]
    http_status: u16,
    /// The stable code.
    code: &'a str,
    /// What happened this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// Which field is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Its value, cut and without control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    /// What is demanded of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// What to do.
    way_out: &'a str,
    /// When to ask again, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem of which there is nothing more to say than its code.
    #[must_use]
    pub fn of(code: Code) -> Problem {
        Problem {
            code,
            detail: None,
            field: None,
            value: None,
            rule: None,
            retry_after_ms: None,
        }
    }

    /// What happened this time.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Problem {
        Problem {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// A field that breaks a rule. The value is cut and freed of control characters; an empty one
    /// is not shown.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &str, rule: impl Into<String>) -> Problem {
        Problem {
            field: Some(field.into()),
            value: Some(shown(value)).filter(|value| !value.is_empty()),
            rule: Some(rule.into()),
            ..Problem::of(Code::InvalidValue)
        }
    }

    /// The same as [`Problem::invalid`], for a request that cannot be read at all.
    #[must_use]
    pub fn malformed(field: Option<&str>, rule: impl Into<String>) -> Problem {
        Problem {
            field: field.map(str::to_owned),
            rule: Some(rule.into()),
            ..Problem::of(Code::MalformedRequest)
        }
    }

    /// When to ask again.
    #[must_use]
    pub fn retry_after_ms(self, wait_ms: u64) -> Problem {
        Problem {
            retry_after_ms: Some(wait_ms),
            ..self
        }
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The document.
    #[must_use]
    pub fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            page: format!("/docs/errors/{}", self.code.word()),
            title: self.code.title(),
            http_status: self.code.http_status().as_u16(),
            code: self.code.word(),
            detail: self.detail.as_deref(),
            field: self.field.as_deref(),
            value: self.value.as_deref(),
            rule: self.rule.as_deref(),
            way_out: self.code.way_out(),
            retry_after_ms: self.retry_after_ms,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.code.http_status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait_ms) = self.retry_after_ms {
            // Whole seconds (RFC 9110 section 10.2.3), rounded up so that it is never too early.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait_ms.div_ceil(1_000)),
            );
        }
        if self.code.http_status() == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

impl From<Invalid> for Problem {
    fn from(error: Invalid) -> Problem {
        Problem::invalid(error.field, &error.value, error.rule)
    }
}

impl From<KeyRefused> for Problem {
    fn from(error: KeyRefused) -> Problem {
        Problem::of(Code::KeyRefused).detail(error.to_string())
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Problem {
        match error {
            RegistryError::Absent(what) => {
                Problem::of(Code::NotFound).detail(format!("there is no such {what}"))
            }
            RegistryError::Taken { .. } => Problem::of(Code::NameTaken).detail(error.to_string()),
            RegistryError::Invalid(invalid) => invalid.into(),
            RegistryError::Retired => Problem::of(Code::EndpointRetired),
            full if full.is_full() => Problem::of(Code::StorageFull),
            RegistryError::Unreadable(_) | RegistryError::Storage(_) | RegistryError::Vault(_) => {
                tracing::error!(%error, "the registry could not be used");
                Problem::of(Code::Internal)
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        tracing::error!(%error, "the ledger could not be read");
        match error {
            ReadError::Damaged { .. } => Problem::of(Code::Damaged),
            ReadError::Unavailable(_) => Problem::of(Code::Unavailable),
        }
    }
}

/// Why the engine did not take something.
#[must_use]
pub fn refused(why: Why, retry_after_ms: i64) -> Problem {
    let code = match why {
        Why::Overloaded => Code::Overloaded,
        Why::StorageFull => Code::StorageFull,
        Why::Draining => Code::Draining,
    };
    Problem::of(code).retry_after_ms(u64::try_from(retry_after_ms).unwrap_or(0))
}

/// A value as it may be repeated: cut, and with control characters escaped.
fn shown(value: &str) -> String {
    let cut = (0..=VALUE_BYTES_MAX.min(value.len()))
        .rev()
        .find(|&at| value.is_char_boundary(at));
    let cut = &value[..cut.unwrap_or(0)];
    let mut text = String::with_capacity(cut.len());
    for character in cut.chars() {
        if character.is_control() {
            text.extend(character.escape_unicode());
        } else {
            text.push(character);
        }
    }
    if cut.len() < value.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_repeated_cut_and_escaped() {
        let long = format!("a\r\nb\u{202e}{}", "ü".repeat(200));
        let problem = Problem::invalid("name", &long, "must be short");
        let value = serde_json::to_value(problem.body()).unwrap();
        let text = value["value"].as_str().unwrap();
        assert!(text.starts_with("a\\u{d}\\u{a}b"), "{text}");
        assert!(text.len() < 160 && text.ends_with('…'), "{text}");
        assert_eq!(value["status"], 422);
        assert_eq!(value["type"], "/docs/errors/invalid_value");
    }

    #[test]
    fn codes_are_unique_and_waiting_times_are_rounded_up() {
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        let response = refused(Why::Overloaded, 1_001).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }
}
