//! The token endpoint of the fake, and the service accounts that it knows.
//!
//! An assertion is held against RFC 7515, RFC 7519 and RFC 7523 and against what Google adds:
//! RS256, the scope, an hour at the most. Absent here: sending; see [`super::send`].

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Where assertions are exchanged.
pub(super) const TOKEN_PATH: &str = "/oauth2/token";
/// Life of a token, as Google grants it.
const TOKEN_S: u64 = 3_599;
/// Longest life of an assertion.
const ASSERTION_S_MAX: i64 = 3_600;
/// How far the clocks may be apart.
const SKEW_S: i64 = 60;
/// Tokens that are remembered; the oldest is forgotten first.
const TOKENS_MAX: usize = 10_000;
const SCOPES: [&str; 2] = [
    "https://www.googleapis.com/auth/firebase.messaging",
    "https://www.googleapis.com/auth/cloud-platform",
];
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const DOMAIN: &str = ".iam.gserviceaccount.com";
const KEY_ID: &str = "fake-key-1";

/// Accounts and tokens. The key is made when it is first asked for: that takes a moment.
#[derive(Default)]
pub(in crate::fake) struct Accounts {
    key: OnceLock<Arc<Key>>,
    granted: Mutex<Granted>,
}

struct Key {
    pem: String,
    pair: RsaKeyPair,
}

#[derive(Default)]
struct Granted {
    tokens: HashMap<String, Token>,
    last: u64,
}

struct Token {
    project: String,
    number: u64,
    expires_s: u64,
}

/// What becomes of a bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    Good,
    /// Unknown, ended, or taken back.
    Bad,
    /// Of another project.
    Elsewhere,
}

impl Accounts {
    /// The service account of a project, as the console's JSON file; `origin` is where this fake
    /// is reached: `http://127.0.0.1:8460`.
    pub(in crate::fake) fn account(&self, project: &str, origin: &str) -> Value {
        json!({
            "type": "service_account",
            "project_id": project,
            "private_key_id": KEY_ID,
            "private_key": self.key().pem,
            "client_email": email(project),
            "client_id": "100000000000000000000",
            "token_uri": format!("{origin}{TOKEN_PATH}"),
            "universe_domain": "googleapis.com",
        })
    }

    /// Takes every token back: whoever uses one is not let in.
    pub(in crate::fake) fn revoke(&self) {
        self.granted.lock().tokens.clear();
    }

    /// Tokens that were granted since the start.
    pub(in crate::fake) fn granted(&self) -> u64 {
        self.granted.lock().last
    }

    /// Accounts with the same key, and without tokens.
    pub(super) fn like(&self) -> Accounts {
        Accounts {
            key: OnceLock::from(Arc::clone(self.key())),
            granted: Mutex::default(),
        }
    }

    fn key(&self) -> &Arc<Key> {
        self.key.get_or_init(|| {
            let made = PrivateDecryptingKey::generate(KeySize::Rsa2048)
                .and_then(|key| key.as_der())
                .expect("a key of 2,048 bits can be made and written");
            let pair = RsaKeyPair::from_pkcs8(made.as_ref()).expect("what was written is read");
            let text = STANDARD.encode(made.as_ref());
            let lines: Vec<&str> = (0..text.len())
                .step_by(64)
                .map(|at| &text[at..text.len().min(at + 64)])
                .collect();
            let pem = format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                lines.join("\n")
            );
            Arc::new(Key { pem, pair })
        })
    }

    /// Exchanges an assertion. `audience` is where the request came to.
    ///
    /// # Errors
    /// Google's `error` and `error_description`.
    pub(super) fn exchange(
        &self,
        body: &[u8],
        audience: &str,
        now_s: u64,
    ) -> Result<Value, (&'static str, String)> {
        let mut form = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if form.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(("invalid_request", "a parameter is repeated".into()));
            }
        }
        match form.get("grant_type").map(String::as_str) {
            Some(GRANT_TYPE) => {}
            Some(other) => {
                return Err((
                    "unsupported_grant_type",
                    format!("Invalid grant_type: {other}"),
                ));
            }
            None => return Err(("invalid_request", "grant_type is missing".into())),
        }
        let Some(assertion) = form.get("assertion") else {
            return Err(("invalid_request", "assertion is missing".into()));
        };
        let project = self.judge(assertion, audience, now_s)?;
        let mut granted = self.granted.lock();
        granted.last += 1;
        let number = granted.last;
        if granted.tokens.len() >= TOKENS_MAX {
            let oldest = granted.tokens.iter().min_by_key(|(_, token)| token.number);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.map(|name| granted.tokens.remove(&name));
        }
        let name = format!(
            "ya29.fake-{number}-{}",
            hex::encode(rand::random::<[u8; 16]>())
        );
        let expires_s = now_s + TOKEN_S;
        granted.tokens.insert(
            name.clone(),
            Token {
                project,
                number,
                expires_s,
            },
        );
        Ok(json!({ "access_token": name, "expires_in": TOKEN_S, "token_type": "Bearer" }))
    }

    /// The project that an assertion speaks for.
    fn judge(
        &self,
        assertion: &str,
        audience: &str,
        now_s: u64,
    ) -> Result<String, (&'static str, String)> {
        let grant = |words: &str| ("invalid_grant", format!("Invalid JWT: {words}"));
        let parts: Vec<&str> = assertion.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(grant("it has not three parts"));
        };
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let header = read(header).ok_or_else(|| grant("the header does not read"))?;
        let claims_read = read(claims).ok_or_else(|| grant("the claims do not read"))?;
        if header["alg"] != "RS256" {
            return Err(grant("`alg` is not RS256"));
        }
        if header.get("kid").is_some_and(|kid| kid != KEY_ID) {
            return Err(grant("no such key"));
        }
        let signed = &assertion[..assertion.len() - signature.len() - 1];
        let signature = URL_SAFE_NO_PAD.decode(signature);
        let holds = signature.is_ok_and(|signature| {
            let key = self.key().pair.public_key();
            let key =
                aws_lc_rs::signature::UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
            key.verify(signed.as_bytes(), &signature).is_ok()
        });
        if !holds {
            return Err(("invalid_grant", "Invalid JWT Signature.".into()));
        }
        let claims = claims_read;
        let text = |name: &str| claims[name].as_str().unwrap_or_default();
        let project = text("iss")
            .strip_prefix("fake@")
            .and_then(|it| it.strip_suffix(DOMAIN));
        let Some(project) = project else {
            return Err(("invalid_grant", "Invalid grant: account not found".into()));
        };
        if text("aud") != audience {
            return Err(grant("Failed audience check."));
        }
        let scopes: Vec<&str> = text("scope").split(' ').collect();
        if !scopes.iter().all(|scope| SCOPES.contains(scope)) {
            return Err(("invalid_scope", format!("Invalid OAuth scope: {scopes:?}")));
        }
        let (Some(iat), Some(exp)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
            return Err(grant("`iat` and `exp` must be whole numbers"));
        };
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let timely = iat <= now_s + SKEW_S && exp > now_s - SKEW_S && exp > iat;
        if !timely || exp - iat > ASSERTION_S_MAX {
            return Err(grant(
                "Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                 Check your iat and exp values in the JWT claim.",
            ));
        }
        Ok(project.to_owned())
    }

    /// What becomes of a bearer token that is used for a project.
    pub(super) fn bearer(&self, token: &str, project: &str, now_s: u64) -> Bearer {
        let granted = self.granted.lock();
        match granted.tokens.get(token) {
            Some(token) if token.expires_s <= now_s => Bearer::Bad,
            Some(token) if token.project == project => Bearer::Good,
            Some(_) => Bearer::Elsewhere,
            None => Bearer::Bad,
        }
    }
}

fn email(project: &str) -> String {
    format!("fake@{project}{DOMAIN}")
}
