//! What is kept of an answer says nothing by which a device could be reached: providers repeat
//! tokens in their words, and evidence is read by people who need not know them.
//!
//! Absent here: our own credentials, which no request to a provider carries but signed, or as a
//! token that ends by itself.

use std::borrow::Cow;

use url::{Position, Url};

use crate::registry::{Endpoint, FcmTarget, Kind};

use super::Attempted;

/// What stands in the place of an address.
const IN_ITS_PLACE: &[u8] = b"[address]";
/// Bytes of an address at the least: what is shorter is no secret, and may be any word.
const SECRET_BYTES_MIN: usize = 8;

/// The same attempt, with the endpoint's address struck out of its evidence.
#[must_use]
pub fn without_address(attempted: Attempted, endpoint: &Endpoint) -> Attempted {
    match attempted {
        Attempted::Answered(mut outcome) if !outcome.evidence.is_empty() => {
            for secret in secrets(endpoint) {
                if secret.len() >= SECRET_BYTES_MIN {
                    outcome.evidence = struck(&outcome.evidence, secret.as_bytes()).into();
                }
            }
            Attempted::Answered(outcome)
        }
        other => other,
    }
}

/// Everything that a provider knows of a device and a reader of evidence need not; what contains
/// another comes before it.
fn secrets(endpoint: &Endpoint) -> Vec<Cow<'_, str>> {
    match &endpoint.kind {
        Kind::Webhook => Vec::new(),
        Kind::WebPush(keys) => {
            let mut all = of_subscription(&endpoint.url);
            all.extend([&keys.auth, &keys.p256dh].map(Cow::from));
            all
        }
        Kind::Apns(device) => vec![Cow::from(&device.token)],
        Kind::Fcm(FcmTarget::Token(secret) | FcmTarget::Fid(secret)) => vec![Cow::from(secret)],
    }
}

/// Most push services have the subscription in the path; WNS has it in the query, where a value may
/// be written in two ways.
fn of_subscription(url: &Url) -> Vec<Cow<'_, str>> {
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let last = url.path().rsplit('/').next().unwrap_or_default();
    let pairs = url.query().unwrap_or_default().split('&');
    let written = pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let meant = url.query_pairs().map(|(_, value)| value);
    let whole = [target, url.path(), last].into_iter();
    whole.chain(written).map(Cow::from).chain(meant).collect()
}

/// `text` without `secret`, however its letters are cased, and without the beginning of one that
/// was cut off at the end.
fn struck(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let length = rest.len().min(secret.len());
        let same = rest[..length].eq_ignore_ascii_case(&secret[..length]);
        if same && length >= SECRET_BYTES_MIN {
            kept.extend_from_slice(IN_ITS_PLACE);
            rest = &rest[length..];
        } else {
            kept.push(*first);
            rest = behind;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{of_subscription, struck};

    #[test]
    fn a_subscription_is_in_the_path_or_in_the_query() {
        let of = |url: &str| of_subscription(&url.parse().unwrap()).join(" ");
        assert_eq!(
            of("https://e.org/wpush/v2/abc"),
            "/wpush/v2/abc /wpush/v2/abc abc "
        );
        let wns = "https://db5p.notify.windows.com/w/?token=a%2fb&x";
        assert_eq!(of(wns), "/w/?token=a%2fb&x /w/  a%2fb x a/b ");
    }

    #[test]
    fn an_address_is_struck_out_wherever_it_stands() {
        let secret = "abcdef0123456789";
        let table = [
            ("no such thing", "no such thing"),
            ("abcdef0123456789", "[address]"),
            ("a ABCDEF0123456789.", "a [address]."),
            ("abcdef0123456789abcdef0123456789", "[address][address]"),
            ("abcabcdef0123456789", "abc[address]"),
            ("cut: abcdef01", "cut: [address]"),
            ("a short end: abcdef0", "a short end: abcdef0"),
            ("abcdef0123456780 is another", "abcdef0123456780 is another"),
            ("", ""),
        ];
        for (text, expected) in table {
            let kept = struck(text.as_bytes(), secret.as_bytes());
            assert_eq!(String::from_utf8(kept).unwrap(), expected, "{text}");
        }
    }
}
