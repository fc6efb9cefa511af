//! Who sends, towards push services (VAPID, RFC 8292): keys, tokens, and which key signs for which
//! subscription.
//!
//! A token is made for one key and one origin, lasts [`TOKEN_MS`], and is used until less than
//! [`RENEW_MS`] of it are left: Apple asks for no new one within an hour.
//!
//! Absent here: storing keys. The registry keeps their private halves sealed.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use parking_lot::Mutex;
use postrider_core::time::{HOUR_MS, SECOND_MS, Time};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

/// How long a token lasts; services refuse what lasts longer than 24 hours.
pub const TOKEN_MS: i64 = 12 * HOUR_MS;
/// A token of which less is left is made anew.
pub const RENEW_MS: i64 = HOUR_MS;
/// Keys of one route at the most: the one in use, and older ones that subscriptions still have.
pub const KEYS_MAX: usize = 16;
/// Characters of a contact at the most.
pub const SUBJECT_LENGTH_MAX: usize = 255;
/// Tokens that are kept at most: keys times origins. There are a handful of push services.
const TOKENS_MAX: usize = 4_096;

/// A key pair that push services know us by.
pub struct VapidKey {
    pair: EcdsaKeyPair,
    public: Box<str>,
}

/// A private key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a VAPID private key is base64url of 32 bytes, as `web-push generate-vapid-keys` prints it"
)]
pub struct NotAKey;

impl VapidKey {
    /// A new key pair, as the private half in base64url.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    #[must_use]
    pub fn generate() -> SecretString {
        let private = PrivateKey::generate(&ECDH_P256).expect("the system's random source answers");
        let scalar: EcPrivateKeyBin<'_> = private.as_be_bytes().expect("a fresh key has a scalar");
        URL_SAFE_NO_PAD.encode(scalar.as_ref()).into()
    }

    /// Reads a private key: base64url of its 32 bytes, with or without padding.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn parse(private: &SecretString) -> Result<VapidKey, NotAKey> {
        let text = private.expose_secret().trim().trim_end_matches('=');
        let scalar = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAKey)?);
        let half = PrivateKey::from_private_key(&ECDH_P256, &scalar).map_err(|_| NotAKey)?;
        let public = half.compute_public_key().map_err(|_| NotAKey)?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &scalar,
            public.as_ref(),
        );
        Ok(VapidKey {
            pair: pair.map_err(|_| NotAKey)?,
            public: URL_SAFE_NO_PAD.encode(public.as_ref()).into(),
        })
    }

    /// The public half in base64url: what a page hands to `pushManager.subscribe`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// `vapid t=…, k=…` for an origin, until `exp`.
    fn authorization(&self, origin: &str, subject: &str, exp_s: i64) -> HeaderValue {
        let header = URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"ES256"}"#);
        let claims = serde_json::json!({ "aud": origin, "exp": exp_s, "sub": subject });
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("signing takes any text"));
        let text = format!("vapid t={signed}.{signature}, k={}", self.public);
        let mut value = HeaderValue::try_from(text).expect("base64url is visible ASCII");
        value.set_sensitive(true);
        value
    }
}

impl std::fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("VapidKey").field(&self.public).finish()
    }
}

/// The Web Push credentials of a route: its keys, newest first, and whom services may write to.
#[derive(Debug)]
pub struct Credentials {
    keys: Vec<VapidKey>,
    subject: Box<str>,
    tokens: Mutex<HashMap<(usize, Arc<str>), Token>>,
}

#[derive(Debug)]
struct Token {
    value: HeaderValue,
    expires_at: Time,
}

/// Credentials that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsFault {
    /// There is no key, or there are too many.
    #[error("a Web Push route has 1 to {KEYS_MAX} keys, not {0}")]
    Keys(usize),
    /// A key is none.
    #[error(transparent)]
    Key(#[from] NotAKey),
    /// Services could not reach anybody under it; Apple refuses such tokens.
    #[error(
        "the contact must be `mailto:` with an address or an `https:` URL, on a host that is real: \
         push services refuse {0:?}"
    )]
    Subject(String),
}

impl Credentials {
    /// Credentials of these private keys, newest first, and this contact.
    ///
    /// # Errors
    /// [`CredentialsFault`].
    pub fn new(keys: &[SecretString], subject: &str) -> Result<Credentials, CredentialsFault> {
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(CredentialsFault::Keys(keys.len()));
        }
        check_subject(subject)?;
        Ok(Credentials {
            keys: keys.iter().map(VapidKey::parse).collect::<Result<_, _>>()?,
            subject: subject.into(),
            tokens: Mutex::default(),
        })
    }

    /// The public key that new subscriptions are made with.
    #[must_use]
    pub fn public(&self) -> &str {
        self.keys[0].public()
    }

    /// The public keys, newest first.
    pub fn publics(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(VapidKey::public)
    }

    /// The place of the key that a subscription was made with, if it is still there. A
    /// subscription of another key cannot be sent to: its client has to subscribe again.
    #[must_use]
    pub fn place_of(&self, public: &str) -> Option<usize> {
        let public = public.trim_end_matches('=');
        self.keys.iter().position(|key| key.public() == public)
    }

    /// The `Authorization` for an origin, signed with the key at this place.
    ///
    /// # Panics
    /// If there is no such key; [`Credentials::place_of`] says which there are.
    #[must_use]
    pub fn authorization(&self, place: usize, origin: &Arc<str>, now: Time) -> HeaderValue {
        let mut tokens = self.tokens.lock();
        let name = (place, Arc::clone(origin));
        if let Some(token) = tokens.get(&name)
            && (RENEW_MS..=TOKEN_MS).contains(&token.expires_at.since(now))
        {
            return token.value.clone();
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, token| token.expires_at.since(now) >= RENEW_MS);
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        let exp_s = now.plus(TOKEN_MS).0.div_euclid(SECOND_MS);
        let value = self.keys[place].authorization(origin, &self.subject, exp_s);
        let token = Token {
            value: value.clone(),
            expires_at: Time(exp_s * SECOND_MS),
        };
        tokens.insert(name, token);
        value
    }
}

/// The origin of an endpoint (RFC 6454 section 6.1): a port only where it is not the scheme's own.
#[must_use]
pub fn origin(url: &Url) -> Arc<str> {
    url.origin().ascii_serialization().into()
}

fn check_subject(subject: &str) -> Result<(), CredentialsFault> {
    let fault = || CredentialsFault::Subject(subject.chars().take(SUBJECT_LENGTH_MAX).collect());
    let host = match subject.strip_prefix("mailto:") {
        Some(address) => match address.rsplit_once('@') {
            Some((local, host)) if !local.is_empty() => host.to_owned(),
            _ => return Err(fault()),
        },
        None => match Url::parse(subject) {
            Ok(url) if url.scheme() == "https" => url.host_str().unwrap_or_default().to_owned(),
            _ => return Err(fault()),
        },
    };
    let lower = host.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = lower.split('.').collect();
    let plain = |label: &&str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = labels.last().copied().unwrap_or_default();
    let is_real = labels.len() >= 2
        && labels.iter().all(plain)
        && last != "localhost"
        && !last.bytes().all(|b| b.is_ascii_digit());
    let is_visible = subject.bytes().all(|b| matches!(b, b'!'..=b'~'));
    if is_real && is_visible && subject.len() <= SUBJECT_LENGTH_MAX {
        Ok(())
    } else {
        Err(fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::{Value, json};

    /// A key pair that `web-push generate-vapid-keys` printed.
    const PRIVATE: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
    const PUBLIC: &str = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
        EqKK6PBru3jl7A8";
    /// 2026-11-21 22:00:00 UTC, and a bit.
    const NOW: Time = Time(1_795_298_400_250);

    fn credentials() -> Credentials {
        let keys = [PRIVATE.to_owned().into(), VapidKey::generate()];
        Credentials::new(&keys, "mailto:ops@example.com").expect("valid")
    }

    /// Header and claims of a token, once its signature held.
    fn opened(authorization: &HeaderValue) -> (Value, Value, String) {
        let text = authorization.to_str().unwrap();
        let (token, key) = text
            .strip_prefix("vapid t=")
            .unwrap()
            .split_once(", k=")
            .unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes(key))
            .verify(signed.as_bytes(), &bytes(signature))
            .expect("the signature holds");
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |text| serde_json::from_slice(&bytes(text)).unwrap();
        (json(header), json(claims), key.to_owned())
    }

    #[test]
    fn a_token_says_who_for_whom_and_until_when() {
        let origin = origin(&Url::parse("https://push.example.net/p/1?x=2").unwrap());
        let value = credentials().authorization(0, &origin, NOW);
        let (header, claims, key) = opened(&value);
        assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256" }));
        let exp = 1_795_298_400 + 12 * 3_600;
        let expected = json!({
            "aud": "https://push.example.net", "exp": exp, "sub": "mailto:ops@example.com",
        });
        assert_eq!((claims, key.as_str()), (expected, PUBLIC));
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_token_is_used_until_an_hour_before_its_end() {
        let credentials = credentials();
        let one: Arc<str> = "https://one.example".into();
        let at = |place, origin: &Arc<str>, now| credentials.authorization(place, origin, now);
        let first = at(0, &one, NOW);
        assert_eq!(at(0, &one, NOW.plus(11 * HOUR_MS - 251)), first);
        let second = at(0, &one, NOW.plus(11 * HOUR_MS + 1));
        assert_ne!(second, first);
        assert_ne!(at(1, &one, NOW), second);
        let two: Arc<str> = "https://two.example".into();
        assert_eq!(opened(&at(0, &two, NOW)).1["aud"], *two);
        // A clock that was far ahead and went back leaves a token that lasts too long.
        let back = at(0, &one, NOW.plus(-24 * HOUR_MS));
        assert_eq!(opened(&back).1["exp"], json!(1_795_298_400 - 12 * 3_600));
    }

    #[test]
    fn a_subscription_is_signed_for_with_its_own_key() {
        let credentials = credentials();
        assert_eq!(credentials.public(), PUBLIC);
        let second = credentials.publics().nth(1).unwrap().to_owned();
        assert_eq!(credentials.place_of(&second), Some(1));
        assert_eq!(credentials.place_of(&format!("{PUBLIC}=")), Some(0));
        assert_eq!(credentials.place_of("BA"), None);
        let origin = "https://a.example".into();
        let place = credentials.place_of(&second).unwrap();
        assert_eq!(
            opened(&credentials.authorization(place, &origin, NOW)).2,
            second
        );
    }

    #[test]
    fn an_origin_has_its_port_only_where_it_is_unusual() {
        let table = [
            ("https://a.example/x", "https://a.example"),
            ("https://a.example:443/x", "https://a.example"),
            ("https://a.example:8443/x", "https://a.example:8443"),
            ("http://127.0.0.1:80/x", "http://127.0.0.1"),
            ("http://127.0.0.1:8030/x", "http://127.0.0.1:8030"),
            ("https://A.EXAMPLE/x", "https://a.example"),
        ];
        for (url, expected) in table {
            assert_eq!(&*origin(&Url::parse(url).unwrap()), expected);
        }
    }

    #[test]
    fn a_contact_can_be_reached() {
        let key = [PRIVATE.to_owned().into()];
        for good in [
            "mailto:ops@example.com",
            "https://example.com/contact",
            "https://a.b.example",
        ] {
            assert!(Credentials::new(&key, good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "foo",
            "ops@example.com",
            "mailto:",
            "mailto:ops",
            "mailto:@example.com",
            "mailto:ops@localhost",
            "mailto:a@b.localhost",
            "mailto:a b@example.com",
            "https://localhost",
            "https://127.0.0.1/x",
            "https://[::1]/",
            "http://example.com",
            "mailto:ops@example..com",
        ] {
            let fault = Credentials::new(&key, bad).unwrap_err();
            assert_eq!(fault, CredentialsFault::Subject(bad.into()));
        }
    }

    #[test]
    fn keys_are_read_and_counted() {
        for bad in ["", "AAAA", PUBLIC, "!"] {
            let fault = Credentials::new(&[bad.to_owned().into()], "mailto:a@example.com");
            assert_eq!(fault.unwrap_err(), CredentialsFault::Key(NotAKey));
        }
        let none = Credentials::new(&[], "mailto:a@example.com").unwrap_err();
        assert_eq!(none, CredentialsFault::Keys(0));
        let padded: SecretString = format!("{PRIVATE}=\n").into();
        assert_eq!(VapidKey::parse(&padded).unwrap().public(), PUBLIC);
    }
}
