//! The headers that an endpoint's requests share, and the rules for those its owner adds.
//!
//! Absent here: the headers of one attempt; see `encode`.

use http::header::{ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that an endpoint may add at the most.
pub const HEADERS_MAX: usize = 32;

/// Bytes of all their names and values together at the most.
pub const HEADER_BYTES_MAX: usize = 8_192;

/// Names that belong to the protocol or to us. `proxy-*`, `webhook-*`, `x-postrider-*` and
/// `x-event-*` besides.
const NAMES_DENIED: [&str; 19] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "accept-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "http2-settings",
    "user-agent",
    "traceparent",
    "tracestate",
    "idempotency-key",
    "x-webhook-idempotency-key",
    "range",
];
const PREFIXES_DENIED: [&str; 4] = ["proxy-", "webhook-", "x-postrider-", "x-event-"];

/// Why a set of added headers is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// There are too many.
    #[error("an endpoint may add {HEADERS_MAX} headers at the most, not {count}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// They are too long.
    #[error("added headers may have {HEADER_BYTES_MAX} bytes together, not {bytes}")]
    TooLong {
        /// How long they are.
        bytes: usize,
    },
    /// A name that HTTP does not allow.
    #[error("`{name}` is not a header name")]
    Name {
        /// The name, shortened and without control characters.
        name: String,
    },
    /// A name that is not the endpoint's to set.
    #[error("the header `{name}` is set by the protocol or by Postrider and cannot be added")]
    Denied {
        /// The name.
        name: String,
    },
    /// A name that comes twice.
    #[error("the header `{name}` is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A value that HTTP does not allow. The value is not repeated, it may be a secret.
    #[error("the value of the header `{name}` is not visible ASCII")]
    Value {
        /// The name.
        name: String,
    },
}

/// Checks the headers that an endpoint is to add to its requests.
///
/// # Errors
/// [`HeaderFault`], the first that is found: number, length, then header by header.
pub fn check_headers(headers: &[(String, String)]) -> Result<(), HeaderFault> {
    added(headers).map(drop)
}

/// Headers that all requests to an endpoint have.
pub(super) fn fixed(
    host: HeaderValue,
    custom: &[(String, String)],
) -> Result<Box<[(HeaderName, HeaderValue)]>, HeaderFault> {
    let mut headers = added(custom)?;
    headers.insert(HOST, host);
    let agent = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(headers
        .drain()
        .filter_map(|(name, value)| Some((name?, value)))
        .collect())
}

fn added(headers: &[(String, String)]) -> Result<HeaderMap, HeaderFault> {
    let count = headers.len();
    if count > HEADERS_MAX {
        return Err(HeaderFault::TooMany { count });
    }
    let bytes = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(HeaderFault::TooLong { bytes });
    }
    let mut map = HeaderMap::with_capacity(count);
    for (name, value) in headers {
        let (name, value) = header(name, value)?;
        if map.contains_key(&name) {
            return Err(HeaderFault::Twice {
                name: name.to_string(),
            });
        }
        map.insert(name, value);
    }
    Ok(map)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderFault> {
    let Ok(parsed) = HeaderName::try_from(name) else {
        let shown = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(HeaderFault::Name { name: shown });
    };
    let name = parsed.as_str();
    let denied = NAMES_DENIED.contains(&name)
        || PREFIXES_DENIED
            .iter()
            .any(|prefix| name.starts_with(prefix));
    if denied {
        return Err(HeaderFault::Denied {
            name: name.to_owned(),
        });
    }
    let visible = value
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    match HeaderValue::try_from(value) {
        Ok(mut value) if visible => {
            value.set_sensitive(true);
            Ok((parsed, value))
        }
        _ => Err(HeaderFault::Value {
            name: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES_MAX, HEADERS_MAX, HeaderFault, NAMES_DENIED, check_headers};

    fn one(name: &str, value: &str) -> Result<(), HeaderFault> {
        check_headers(&[(name.into(), value.into())])
    }

    #[test]
    fn what_belongs_to_the_protocol_or_to_us_is_denied() {
        let ours = [
            "Webhook-Id",
            "webhook-signature",
            "X-Postrider-Signature",
            "X-Event-Sequence-ID",
            "Proxy-Authorization",
            "X-Webhook-Idempotency-Key",
            "HOST",
            "Te",
        ];
        for name in ours.iter().chain(&NAMES_DENIED) {
            let denied = HeaderFault::Denied {
                name: name.to_lowercase(),
            };
            assert_eq!(one(name, "x"), Err(denied));
        }
        for name in [
            "Authorization",
            "X-Api-Key",
            "Webhooks",
            "X-Eventful",
            "Accept",
        ] {
            assert_eq!(one(name, "x"), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_could_smuggle_a_line_is_refused() {
        for name in ["", "a b", "a:b", "a\r\nb", "ä"] {
            assert!(
                matches!(one(name, "x"), Err(HeaderFault::Name { .. })),
                "{name:?}"
            );
        }
        for value in ["a\r\nb: c", "a\nb", "a\0b", "\u{7f}", "ä"] {
            let fault = HeaderFault::Value { name: "x-a".into() };
            assert_eq!(one("X-A", value), Err(fault), "{value:?}");
        }
    }

    #[test]
    fn number_and_length_have_a_bound() {
        let many = |count| {
            (0..count)
                .map(|i| (format!("x-{i}"), "v".into()))
                .collect::<Vec<_>>()
        };
        assert_eq!(check_headers(&many(HEADERS_MAX)), Ok(()));
        let count = HEADERS_MAX + 1;
        assert_eq!(
            check_headers(&many(count)),
            Err(HeaderFault::TooMany { count })
        );
        assert_eq!(one("x-a", &"v".repeat(HEADER_BYTES_MAX - 3)), Ok(()));
        let bytes = HEADER_BYTES_MAX + 1;
        let fault = HeaderFault::TooLong { bytes };
        assert_eq!(one("x-a", &"v".repeat(HEADER_BYTES_MAX - 2)), Err(fault));
        let twice = [("X-A".into(), "1".into()), ("x-a".into(), "2".into())];
        assert_eq!(
            check_headers(&twice),
            Err(HeaderFault::Twice { name: "x-a".into() })
        );
    }
}
