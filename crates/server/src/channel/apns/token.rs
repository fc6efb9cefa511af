//! Provider tokens: JSON Web Tokens by which Apple knows a team (RFC 7519, ES256).
//!
//! Apple counts how often a team renews its token, over all of the team's servers, and answers 429
//! to who does so more than once in twenty minutes; a token older than an hour it refuses. So all
//! nodes have to present the same token, and here they do without talking to each other: the time
//! of issue is the beginning of a half hour, the same for all, and the signature is deterministic
//! (RFC 6979), so the token is a function of key and time. A token is used from one minute after
//! its time of issue, in case Apple's clock is behind ours, until 31 minutes after it.
//!
//! The signature is made by the `p256` crate, which signs so; aws-lc-rs, which does everything
//! else, draws a random number for each signature. It is made once in half an hour.
//!
//! Absent here: the clock, and any storage; a restart gives the same token again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use parking_lot::Mutex;
use postrider_core::time::{SECOND_MS, Time};

/// For how long all present the same token.
const BUCKET_S: i64 = 30 * 60;
/// How old a token is when it is first presented.
const AGE_S_MIN: i64 = 60;
/// How old one may become: Apple refuses after an hour, and its clock may be ahead of ours.
const AGE_S_MAX: i64 = 59 * 60;
/// Shortest time between two renewals.
const RENEWAL_S_MIN: i64 = 20 * 60;
/// What the time of issue is rounded down to when a token is renewed before its time: nodes that
/// renew in the same minute still present the same one.
const RENEWAL_BUCKET_S: i64 = 60;
/// For how long after a renewal a refusal says nothing about the new token: a connection that has
/// seen the old one expired lets nothing through any more.
const RENEWAL_GRACE_S: i64 = 15;
/// Characters of a team id and of a key id.
const ID_CHARS: usize = 10;

/// Why there can be no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningFault {
    /// The key cannot be read.
    #[error("the key is not a P-256 private key as Apple's .p8 files hold it (PKCS #8, PEM)")]
    Key,
    /// The team.
    #[error("a team id has {ID_CHARS} letters and digits")]
    Team,
    /// The key's id.
    #[error("a key id has {ID_CHARS} letters and digits")]
    KeyId,
}

/// The tokens of one key.
pub struct ProviderTokens {
    key: SigningKey,
    /// `{"alg":"ES256","kid":…}`, encoded.
    head: String,
    team: String,
    held: Mutex<Held>,
}

struct Held {
    /// Time of issue of the token below.
    issued_s: i64,
    bearer: HeaderValue,
    /// One that took the regular one's place.
    instead: Option<Instead>,
}

/// A token other than the half hour's.
#[derive(Clone, Copy)]
struct Instead {
    issued_s: i64,
    since_s: i64,
    until_s: i64,
}

impl ProviderTokens {
    /// Tokens of `team`, signed with the key in a `.p8` file, whose id is `key_id`.
    ///
    /// # Errors
    /// [`SigningFault`].
    pub fn new(team: &str, key_id: &str, p8: &str) -> Result<ProviderTokens, SigningFault> {
        let is_id =
            |id: &str| id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id(team) {
            return Err(SigningFault::Team);
        }
        if !is_id(key_id) {
            return Err(SigningFault::KeyId);
        }
        let key = SigningKey::from_pkcs8_pem(p8.trim()).map_err(|_| SigningFault::Key)?;
        let head = format!(r#"{{"alg":"ES256","kid":"{key_id}"}}"#);
        let held = Held {
            issued_s: i64::MIN,
            bearer: HeaderValue::from_static(""),
            instead: None,
        };
        Ok(ProviderTokens {
            key,
            head: URL_SAFE_NO_PAD.encode(head),
            team: team.to_owned(),
            held: Mutex::new(held),
        })
    }

    /// What the `authorization` header says at `now`. Lower case: Apple's documents write it so,
    /// and strict servers take it so only.
    #[must_use]
    pub fn bearer(&self, now: Time) -> HeaderValue {
        let now_s = seconds(now);
        let mut held = self.held.lock();
        if held.instead.is_some_and(|instead| now_s >= instead.until_s) {
            held.instead = None;
        }
        let issued_s = held
            .instead
            .map_or_else(|| regular(now_s), |instead| instead.issued_s);
        if held.issued_s != issued_s {
            held.bearer = self.mint(issued_s);
            held.issued_s = issued_s;
        }
        held.bearer.clone()
    }

    /// Apple says that `presented` was renewed too often: from now on the one before it is
    /// presented, for as long as Apple takes it. `false` if there is none, or if that is what was
    /// presented.
    pub fn renewed_too_often(&self, presented: &HeaderValue, now: Time) -> bool {
        let now_s = seconds(now);
        let mut held = self.held.lock();
        if held.bearer != presented {
            return true;
        }
        let older_s = regular(now_s) - BUCKET_S;
        let until_s = (now_s + RENEWAL_S_MIN).min(older_s + AGE_S_MAX);
        if held.instead.is_some() || until_s <= now_s {
            return false;
        }
        held.instead = Some(Instead {
            issued_s: older_s,
            since_s: now_s,
            until_s,
        });
        // At once: others that presented the same may be told the same before anybody asks for one.
        held.bearer = self.mint(older_s);
        held.issued_s = older_s;
        true
    }

    /// Apple says that `presented` has expired: a new one is made, from this minute. `false` if
    /// that was done less than twenty minutes ago and did not help: then a clock is wrong, or a
    /// key.
    pub fn expired(&self, presented: &HeaderValue, now: Time) -> bool {
        let now_s = seconds(now);
        let mut held = self.held.lock();
        if held.bearer != presented {
            // Another request was told first, and what is presented now is younger.
            return true;
        }
        let graced = |instead: Instead| now_s - instead.since_s <= RENEWAL_GRACE_S;
        if held.instead.is_some_and(graced) {
            return true;
        }
        let fresh_s = now_s.div_euclid(RENEWAL_BUCKET_S) * RENEWAL_BUCKET_S;
        let since = held.instead.map_or(i64::MIN, |instead| instead.issued_s);
        if fresh_s < since.saturating_add(RENEWAL_S_MIN) {
            return false;
        }
        // Until the first regular token that is twenty minutes younger.
        let next_s = (fresh_s + RENEWAL_S_MIN + BUCKET_S - 1).div_euclid(BUCKET_S) * BUCKET_S;
        held.instead = Some(Instead {
            issued_s: fresh_s,
            since_s: now_s,
            until_s: (next_s + AGE_S_MIN).min(fresh_s + AGE_S_MAX),
        });
        true
    }

    fn mint(&self, issued_s: i64) -> HeaderValue {
        let claims = format!(r#"{{"iss":"{}","iat":{issued_s}}}"#, self.team);
        let signed = format!("{}.{}", self.head, URL_SAFE_NO_PAD.encode(claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.to_bytes());
        let mut bearer = HeaderValue::try_from(format!("bearer {signed}.{signature}"))
            .expect("base64url is visible ASCII");
        bearer.set_sensitive(true);
        bearer
    }
}

impl std::fmt::Debug for ProviderTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderTokens").finish_non_exhaustive()
    }
}

/// Time of issue of the token that everybody presents.
fn regular(now_s: i64) -> i64 {
    (now_s - AGE_S_MIN).div_euclid(BUCKET_S) * BUCKET_S
}

fn seconds(now: Time) -> i64 {
    now.0.div_euclid(SECOND_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    };
    use p256::pkcs8::{EncodePrivateKey as _, LineEnding};

    const TEAM: &str = "TEAM012345";
    const KEY_ID: &str = "KEY0123456";
    /// Beginning of a half hour.
    const START_S: i64 = 1_800_000_000 / BUCKET_S * BUCKET_S;

    /// A key as another library writes it, and its public half.
    fn key() -> (String, Vec<u8>) {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref());
        let text = base64::engine::general_purpose::STANDARD.encode(document.as_ref());
        let lines: Vec<&str> = (0..text.len())
            .step_by(64)
            .map(|at| &text[at..text.len().min(at + 64)])
            .collect();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        (pem, pair.unwrap().public_key().as_ref().to_vec())
    }

    fn at(offset_s: i64) -> Time {
        Time((START_S + offset_s) * SECOND_MS)
    }

    fn issued_s(bearer: &HeaderValue) -> i64 {
        let token = bearer.to_str().unwrap().strip_prefix("bearer ").unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["iss"], TEAM);
        claims["iat"].as_i64().unwrap()
    }

    #[test]
    fn another_library_verifies_it_and_two_nodes_present_the_same() {
        let (pem, public) = key();
        let [one, two] = [0, 1].map(|_| ProviderTokens::new(TEAM, KEY_ID, &pem).unwrap());
        let bearer = one.bearer(at(100));
        assert_eq!(bearer, two.bearer(at(1_800)));
        assert!(bearer.is_sensitive());
        let token = bearer.to_str().unwrap().strip_prefix("bearer ").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        public.verify(signed.as_bytes(), &signature).unwrap();
        let head = URL_SAFE_NO_PAD
            .decode(signed.split('.').next().unwrap())
            .unwrap();
        assert_eq!(head, br#"{"alg":"ES256","kid":"KEY0123456"}"#);
    }

    /// RFC 6979 appendix A.2.5: P-256, SHA-256, "sample".
    #[test]
    fn signatures_are_those_of_rfc_6979() {
        let secret = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
        let key = p256::SecretKey::from_slice(&hex::decode(secret).unwrap()).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let tokens = ProviderTokens::new(TEAM, KEY_ID, &pem).unwrap();
        let signature: Signature = tokens.key.sign(b"sample");
        assert_eq!(
            hex::encode_upper(signature.to_bytes()),
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
             F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
        );
    }

    #[test]
    fn a_token_is_never_too_young_too_old_or_renewed_too_soon() {
        let tokens = ProviderTokens::new(TEAM, KEY_ID, &key().0).unwrap();
        let mut before = (i64::MIN, i64::MIN);
        for offset_s in (AGE_S_MIN..4 * 3_600).step_by(7) {
            let issued = issued_s(&tokens.bearer(at(offset_s)));
            let age_s = START_S + offset_s - issued;
            assert!(
                (AGE_S_MIN..=AGE_S_MIN + BUCKET_S).contains(&age_s),
                "{age_s}"
            );
            if before.0 != issued {
                assert!(before.0 == i64::MIN || offset_s - before.1 >= RENEWAL_S_MIN);
                before = (issued, offset_s);
            }
        }
    }

    #[test]
    fn one_that_was_renewed_too_often_gives_way_to_the_one_before() {
        let tokens = ProviderTokens::new(TEAM, KEY_ID, &key().0).unwrap();
        let newest = tokens.bearer(at(120));
        assert_eq!(issued_s(&newest), START_S);
        assert!(tokens.renewed_too_often(&newest, at(120)));
        let another = tokens.renewed_too_often(&newest, at(120));
        assert!(another, "it was on its way already");
        let older = tokens.bearer(at(121));
        assert_eq!(issued_s(&older), START_S - BUCKET_S);
        assert!(tokens.renewed_too_often(&newest, at(121)), "that is over");
        assert!(
            !tokens.renewed_too_often(&older, at(121)),
            "there is no third"
        );
        let late = 120 + RENEWAL_S_MIN;
        assert_eq!(issued_s(&tokens.bearer(at(late - 1))), START_S - BUCKET_S);
        assert_eq!(issued_s(&tokens.bearer(at(late))), START_S);
        // At the end of a half hour the one before is too old to be taken.
        let newest = tokens.bearer(at(1_800));
        assert!(!tokens.renewed_too_often(&newest, at(1_800)));
    }

    #[test]
    fn one_that_has_expired_is_made_anew_once() {
        let tokens = ProviderTokens::new(TEAM, KEY_ID, &key().0).unwrap();
        let first = tokens.bearer(at(600));
        assert!(tokens.expired(&first, at(630)));
        let second = tokens.bearer(at(630));
        assert_eq!(issued_s(&second), START_S + 600);
        assert!(tokens.expired(&first, at(640)), "that is over");
        let again = tokens.expired(&second, at(640));
        assert!(again, "it went over an old connection");
        let again = tokens.expired(&second, at(650));
        assert!(!again, "a second renewal would not help");
        for offset_s in (630..4 * 3_600).step_by(11) {
            let age_s = START_S + offset_s - issued_s(&tokens.bearer(at(offset_s)));
            assert!((0..AGE_S_MAX).contains(&age_s), "{age_s} at {offset_s}");
        }
        let regular = tokens.bearer(at(4 * 3_600));
        assert!(tokens.expired(&regular, at(4 * 3_600)));
    }

    #[test]
    fn what_cannot_sign_is_refused() {
        let (pem, _) = key();
        let refused = |team, key_id, pem| ProviderTokens::new(team, key_id, pem).unwrap_err();
        assert_eq!(refused("SHORT", KEY_ID, &pem), SigningFault::Team);
        assert_eq!(refused(TEAM, "\"}KEY01234", &pem), SigningFault::KeyId);
        assert_eq!(refused(TEAM, KEY_ID, "nothing"), SigningFault::Key);
    }
}
