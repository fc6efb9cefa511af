//! Verifies what a sender signed, in both spellings, the way a receiver would.
//!
//! Written from the two public descriptions and not from the sender's code, so that a mistake there
//! is seen here: `X-Postrider-Signature: t=…,v1=…` is the HMAC-SHA256 of `t.body` under the whole
//! secret string; Standard Webhooks signs `id.timestamp.body` under the bytes that the secret's
//! base64 stands for. Absent here: signing.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

/// How far the sender's clock may be off, both ways.
pub const TOLERANCE_S: i64 = 300;
/// Signatures of one header that are tried at most.
const SIGNATURES_MAX: usize = 8;

/// What is to be said of a request's signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The path has no secret: it was not looked at.
    #[default]
    Unchecked,
    /// Every signature that is there holds, and at least one is there.
    Valid,
    /// There is none.
    Missing,
    /// One does not read as a signature.
    Malformed,
    /// One was made too long ago, or lies ahead.
    Stale,
    /// One was made with another secret or over other bytes.
    Mismatch,
}

impl Verdict {
    /// Whether a receiver would go on.
    #[must_use]
    pub fn holds(self) -> bool {
        matches!(self, Verdict::Unchecked | Verdict::Valid)
    }
}

/// A secret that no signature can be made with.
#[derive(Debug, thiserror::Error)]
#[error("a secret is `whsec_` and base64")]
pub struct NotASecret;

/// One secret's keys, prepared.
pub(super) struct Keys {
    whole: hmac::Key,
    decoded: hmac::Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    pub(super) fn new(secret: &str) -> Result<Keys, NotASecret> {
        let base64 = secret.strip_prefix("whsec_").unwrap_or(secret);
        let bytes = STANDARD.decode(base64).map_err(|_| NotASecret)?;
        Ok(Keys {
            whole: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            decoded: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
        })
    }
}

/// Judges both signatures of a request that arrived at `now_s` (Unix seconds).
pub(super) fn verify(keys: &[Keys], headers: &HeaderMap, body: &[u8], now_s: i64) -> Verdict {
    if keys.is_empty() {
        return Verdict::Unchecked;
    }
    let own = headers
        .get("x-postrider-signature")
        .map(|value| own(keys, value.as_bytes(), body, now_s));
    let standard = headers
        .get("webhook-signature")
        .map(|value| standard(keys, headers, value.as_bytes(), body, now_s));
    match (own, standard) {
        (None, None) => Verdict::Missing,
        (Some(only), None) | (None, Some(only)) | (Some(Verdict::Valid), Some(only)) => only,
        (Some(bad), Some(_)) => bad,
    }
}

fn own(keys: &[Keys], value: &[u8], body: &[u8], now_s: i64) -> Verdict {
    let Ok(value) = std::str::from_utf8(value) else {
        return Verdict::Malformed;
    };
    let mut stamp = None;
    let mut tags = Vec::new();
    for part in value.split(',').map(str::trim) {
        match part.split_once('=') {
            Some(("t", seconds)) => stamp = Some(seconds),
            Some(("v1", tag)) => tags.push(hex::decode(tag)),
            _ => {}
        }
    }
    let signed = |stamp: &str| [stamp.as_bytes(), b".", body].concat();
    judge(
        stamp,
        tags,
        now_s,
        signed,
        keys.iter().map(|key| &key.whole),
    )
}

fn standard(keys: &[Keys], headers: &HeaderMap, value: &[u8], body: &[u8], now_s: i64) -> Verdict {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Ok(value), Some(id)) = (std::str::from_utf8(value), text("webhook-id")) else {
        return Verdict::Malformed;
    };
    let tags = value
        .split(' ')
        .filter_map(|part| part.strip_prefix("v1,"))
        .map(|tag| STANDARD.decode(tag))
        .collect();
    let signed = |stamp: &str| [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat();
    let keys = keys.iter().map(|key| &key.decoded);
    judge(text("webhook-timestamp"), tags, now_s, signed, keys)
}

fn judge<'a, E>(
    stamp: Option<&str>,
    tags: Vec<Result<Vec<u8>, E>>,
    now_s: i64,
    signed: impl Fn(&str) -> Vec<u8>,
    keys: impl Iterator<Item = &'a hmac::Key> + Clone,
) -> Verdict {
    let Some((stamp, seconds)) = stamp.and_then(|text| Some((text, text.parse::<i64>().ok()?)))
    else {
        return Verdict::Malformed;
    };
    if tags.is_empty() || tags.len() > SIGNATURES_MAX || tags.iter().any(Result::is_err) {
        return Verdict::Malformed;
    }
    if now_s.abs_diff(seconds) > TOLERANCE_S.unsigned_abs() {
        return Verdict::Stale;
    }
    let signed = signed(stamp);
    let fits = tags.iter().flatten().any(|tag| {
        keys.clone()
            .any(|key| hmac::verify(key, &signed, tag).is_ok())
    });
    if fits {
        Verdict::Valid
    } else {
        Verdict::Mismatch
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, Verdict, verify};
    use http::HeaderMap;

    const NOW_S: i64 = 1_700_000_000;
    // Made with Python's hmac module, not with this crate: key `whsec_` + base64(0..24), body
    // `{"a":1}`, id `msg_1`, timestamp 1700000000.
    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const OWN: &str = "24e66600a8e5a713d2a9c0ab1185d3fb9e6e590538ef7e7a06a4b01f651eef05";
    const STANDARD: &str = "YOREwC5BRUvI4ezImQEgEteB7JbPr/Iy2YCZe049/5g=";
    const BODY: &[u8] = br#"{"a":1}"#;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    value.parse().expect("a header value"),
                )
            })
            .collect()
    }

    fn judged(pairs: &[(&'static str, &str)], body: &[u8], now_s: i64) -> Verdict {
        let keys = [
            Keys::new("whsec_/////////////////////////////////w==").expect("a secret"),
            Keys::new(SECRET).expect("a secret"),
        ];
        verify(&keys, &headers(pairs), body, now_s)
    }

    #[test]
    fn signatures_made_elsewhere_are_judged() {
        let own = format!("t=1700000000,v1={OWN}");
        let standard = format!("v1,{STANDARD}");
        let both = [
            ("x-postrider-signature", own.as_str()),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1700000000"),
            ("webhook-signature", standard.as_str()),
        ];
        assert_eq!(judged(&both, BODY, NOW_S), Verdict::Valid);
        assert_eq!(judged(&both[..1], BODY, NOW_S), Verdict::Valid);
        assert_eq!(judged(&both[1..], BODY, NOW_S), Verdict::Valid);
        assert_eq!(judged(&both, b"{}", NOW_S), Verdict::Mismatch);
        assert_eq!(judged(&both, BODY, NOW_S + 300), Verdict::Valid);
        assert_eq!(judged(&both, BODY, NOW_S + 301), Verdict::Stale);
        assert_eq!(judged(&both, BODY, NOW_S - 301), Verdict::Stale);
        assert_eq!(judged(&[], BODY, NOW_S), Verdict::Missing);
        let renamed = [both[0], ("webhook-id", "msg_2"), both[2], both[3]];
        assert_eq!(judged(&renamed, BODY, NOW_S), Verdict::Mismatch);
        let torn = [("x-postrider-signature", "t=1700000000,v1=zz")];
        assert_eq!(judged(&torn, BODY, NOW_S), Verdict::Malformed);
        let short = [("x-postrider-signature", "t=1700000000,v1=00")];
        assert_eq!(judged(&short, BODY, NOW_S), Verdict::Mismatch);
        assert_eq!(
            verify(&[], &headers(&both), BODY, NOW_S),
            Verdict::Unchecked
        );
    }
}
