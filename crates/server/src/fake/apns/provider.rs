//! Provider tokens as Apple looks at them (Apple, "Establishing a token-based connection to APNs").
//!
//! Absent here: our own tokens. What is demanded is read from Apple's documents, and verified by
//! another library than the one that signs.

use std::collections::HashMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// How old a token may be.
const AGE_S_MAX: i64 = 3_600;
/// How far ahead of our clock it may be made.
const AHEAD_S_MAX: i64 = 60;
/// Shortest time between two new tokens of a team.
const RENEWAL_S_MIN: i64 = 20 * 60;
/// Tokens of a team that are remembered.
const TOKENS_MAX: usize = 64;

/// Who may send.
#[derive(Default)]
pub(super) struct Providers {
    keys: HashMap<String, Key>,
    teams: HashMap<String, Team>,
}

struct Key {
    team: String,
    public: UnparsedPublicKey<Vec<u8>>,
}

/// What was presented for a team.
#[derive(Default)]
struct Team {
    /// Tokens that were let in, with their times of issue.
    known: Vec<(Box<str>, i64, Box<str>)>,
    renewed_s: Option<i64>,
}

/// A token that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) key_id: Box<str>,
    pub(super) issued_s: i64,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: i64,
}

impl Providers {
    /// Lets a key send. `public` is a point of P-256, uncompressed: 65 bytes.
    pub(super) fn trust(&mut self, team: &str, key_id: &str, public: &[u8]) {
        let key = Key {
            team: team.to_owned(),
            public: UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public.to_vec()),
        };
        self.keys.insert(key_id.to_owned(), key);
    }

    /// Whom an `authorization` header speaks for, or HTTP status and reason why for nobody.
    pub(super) fn check(
        &mut self,
        authorization: Option<&str>,
        now_s: i64,
    ) -> Result<Provider, (u16, &'static str)> {
        const INVALID: (u16, &str) = (403, "InvalidProviderToken");
        let value = authorization.ok_or((403, "MissingProviderToken"))?;
        // In lower case: a scheme has no case, but this is how Apple writes it.
        let token = value.strip_prefix("bearer ").ok_or(INVALID)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(INVALID)?;
        let (head, claims) = signed.split_once('.').ok_or(INVALID)?;
        let head: Head = part(head).ok_or(INVALID)?;
        let claims: Claims = part(claims).ok_or(INVALID)?;
        let key = self.keys.get(&head.kid).ok_or(INVALID)?;
        if head.alg != "ES256" || key.team != claims.iss {
            return Err(INVALID);
        }
        let provider = Provider {
            key_id: head.kid.into(),
            issued_s: claims.iat,
        };
        let team = self.teams.entry(claims.iss).or_default();
        let known = team.known.iter().any(|(known, ..)| **known == *token);
        if !known {
            let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| INVALID)?;
            let verified = key.public.verify(signed.as_bytes(), &signature);
            verified.map_err(|_| INVALID)?;
        }
        let age_s = now_s - provider.issued_s;
        if age_s > AGE_S_MAX {
            return Err((403, "ExpiredProviderToken"));
        }
        if age_s < -AHEAD_S_MAX {
            return Err(INVALID);
        }
        if !known {
            team.renew(token, &provider, now_s)?;
        }
        Ok(provider)
    }
}

impl Team {
    fn renew(
        &mut self,
        token: &str,
        provider: &Provider,
        now_s: i64,
    ) -> Result<(), (u16, &'static str)> {
        // The first token takes no other one's place.
        if !self.known.is_empty() {
            let soon = |before: i64| now_s - before < RENEWAL_S_MIN;
            if self.renewed_s.is_some_and(soon) {
                return Err((429, "TooManyProviderTokenUpdates"));
            }
            self.renewed_s = Some(now_s);
        }
        self.known
            .retain(|(_, issued_s, _)| now_s - issued_s <= AGE_S_MAX);
        if self.known.len() < TOKENS_MAX {
            let entry = (token.into(), provider.issued_s, provider.key_id.clone());
            self.known.push(entry);
        }
        Ok(())
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&bytes).ok()
}
