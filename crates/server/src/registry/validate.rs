//! What may be stored in the registry, and what an event may be called.
//!
//! Every rule is checked here once, before anything is written, so that what is read back later
//! need not be doubted. Absent here: network addresses. Whether a host may be reached is decided at
//! the moment of connecting, because names change what they point to.

use url::Url;

/// Bytes of a name, recipient, business id, event type or ordering key at most.
pub const LABEL_BYTES_MAX: usize = 255;
/// Bytes of a URL at most.
pub const URL_BYTES_MAX: usize = 2_048;
/// Subscriptions of one endpoint at most.
pub const EVENT_TYPES_MAX: usize = 64;
/// Bytes of a PEM text at most: a chain of ten large certificates fits.
pub const PEM_BYTES_MAX: usize = 65_536;

/// A value that may not be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {rule}")]
pub struct Invalid {
    /// Which field, by its name in the API.
    pub field: &'static str,
    /// The value, or empty where showing it would tell a secret.
    pub value: String,
    /// What is demanded, as the end of a sentence that begins with the field's name.
    pub rule: &'static str,
}

impl Invalid {
    /// A value that may be shown.
    pub fn shown(field: &'static str, value: impl Into<String>, rule: &'static str) -> Invalid {
        Invalid {
            field,
            value: value.into(),
            rule,
        }
    }

    /// A value that may not.
    #[must_use]
    pub fn hidden(field: &'static str, rule: &'static str) -> Invalid {
        Invalid {
            field,
            value: String::new(),
            rule,
        }
    }
}

/// A text of at most [`LABEL_BYTES_MAX`] bytes without control characters. May be empty.
///
/// # Errors
/// [`Invalid`].
pub fn label(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.len() > LABEL_BYTES_MAX {
        return Err(Invalid::shown(field, text, "must have at most 255 bytes"));
    }
    // Nearly every label is plain ASCII, for which looking at bytes is enough.
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if plain || !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Invalid::shown(
            field,
            text,
            "must not contain control characters",
        ))
    }
}

/// A name by which people tell things apart: like [`label`], and not empty.
///
/// # Errors
/// [`Invalid`].
pub fn name(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::shown(field, text, "must not be empty"));
    }
    label(field, text)
}

/// A tenant's or a policy's name: lower-case letters, digits, `-` and `_`, 1 to 64 of them.
///
/// # Errors
/// [`Invalid`].
pub fn slug(field: &'static str, text: &str) -> Result<(), Invalid> {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        Ok(())
    } else {
        Err(Invalid::shown(
            field,
            text,
            "must be 1 to 64 of a-z, 0-9, - and _",
        ))
    }
}

/// An event type: words of letters, digits, `-` and `_`, with dots between them.
///
/// # Errors
/// [`Invalid`].
pub fn event_type(field: &'static str, text: &str) -> Result<(), Invalid> {
    const RULE: &str =
        "must be words of letters, digits, - and _ with dots between them, at most 255 bytes";
    let mut word_bytes = 0;
    for byte in text.bytes() {
        match byte {
            b'.' if word_bytes > 0 => word_bytes = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => word_bytes += 1,
            _ => return Err(Invalid::shown(field, text, RULE)),
        }
    }
    if word_bytes > 0 && text.len() <= LABEL_BYTES_MAX {
        Ok(())
    } else {
        Err(Invalid::shown(field, text, RULE))
    }
}

/// A subscription: an event type, `order.*` for all below `order`, or `*` for all there are.
///
/// # Errors
/// [`Invalid`].
pub fn subscription(text: &str) -> Result<(), Invalid> {
    if text == "*" {
        return Ok(());
    }
    let exact = text.strip_suffix(".*").unwrap_or(text);
    event_type("event_types", exact).map_err(|_| {
        Invalid::shown(
            "event_types",
            text,
            "must hold event types, `order.*` or `*`",
        )
    })
}

/// The URL of a webhook. `allow_http` is the operator's choice for the whole process.
///
/// # Errors
/// [`Invalid`], without the value: URLs carry credentials.
pub fn webhook_url(text: &str, allow_http: bool) -> Result<Url, Invalid> {
    let refuse = |rule| Err(Invalid::hidden("url", rule));
    if text.len() > URL_BYTES_MAX {
        return refuse("must have at most 2,048 bytes");
    }
    let Ok(url) = Url::parse(text) else {
        return refuse("must be an absolute URL");
    };
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        "http" => {
            return refuse("must begin with https:// (plain HTTP is off in this installation)");
        }
        _ => return refuse("must begin with https://"),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("must name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not carry a user name or password; use a header");
    }
    if url.fragment().is_some() {
        return refuse("must not have a fragment");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_delivered_to_are_refused_without_being_repeated() {
        for text in [
            "",
            "example.com/x",
            "ftp://example.com/",
            "http://example.com/",
            "https://user@example.com/",
            "https://:secret@example.com/",
            "https://example.com/#part",
            "https://",
            &format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX)),
        ] {
            let error = webhook_url(text, false).unwrap_err();
            assert_eq!((error.field, error.value.as_str()), ("url", ""), "{text}");
        }
        assert!(webhook_url("https://example.com/x?y=1", false).is_ok());
        assert!(webhook_url("http://example.com/", true).is_ok());
    }

    #[test]
    fn event_types_and_subscriptions() {
        for text in ["a", "order.paid", "Order_2.item-added"] {
            assert!(event_type("type", text).is_ok(), "{text}");
            assert!(subscription(text).is_ok(), "{text}");
        }
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\n",
            "ä",
            &"x".repeat(256),
        ] {
            assert!(event_type("type", text).is_err(), "{text}");
            assert!(subscription(text).is_err(), "{text}");
        }
        assert!(subscription("*").is_ok() && subscription("order.*").is_ok());
        assert!(subscription("order*").is_err() && subscription(".*").is_err());
        assert!(event_type("type", "order.*").is_err());
    }

    #[test]
    fn labels_take_any_language_but_no_control_characters() {
        assert!(label("name", "Zoë 🦊").is_ok());
        for text in ["a\r\nb", "\u{85}", "\u{0}", &"x".repeat(256)] {
            assert!(label("name", text).is_err());
        }
        assert!(name("name", "  ").is_err());
        assert!(slug("name", "acme-1").is_ok() && slug("name", "Acme").is_err());
    }
}
