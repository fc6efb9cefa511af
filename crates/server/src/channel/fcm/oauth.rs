//! Access tokens: an assertion signed with the account's key is exchanged for a bearer token
//! (RFC 7523 section 2.1, as Google's service accounts do it).
//!
//! [`assertion`], [`request`] and [`granted`] are pure. [`Tokens`] keeps one token for one account:
//! everybody who needs one while none is there waits for the same request; while the one that is
//! kept runs out, one caller fetches the next and the others go on with what there is.
//!
//! Absent here: sockets. Whoever calls [`Tokens::bearer`] brings the way to the token endpoint.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method};
use http_body_util::Full;
use parking_lot::Mutex;
use postrider_core::time::{MINUTE_MS, SECOND_MS, Time};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::account::ServiceAccount;
use crate::channel::reading::Place;
use crate::channel::{Answer, Request, Trouble};

/// What a token may do: send, and nothing else in the project.
pub const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How an assertion is exchanged (RFC 7523 section 2.1).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Life of an assertion: the longest that Google takes.
pub const ASSERTION_S: i64 = 3_600;
/// A token that ends within this time is replaced while it still serves.
pub const EARLY_MS: i64 = 5 * MINUTE_MS;
/// A token that ends within this time does not serve any more: a request takes its time.
const SPENT_MS: i64 = 30 * SECOND_MS;
/// Wait after a request for a token that went wrong, for those who come right behind it.
pub const FAULT_HOLD_MS: i64 = SECOND_MS;
/// Characters of the provider's words about a refusal that are kept.
const WORDS_MAX: usize = 300;

/// A bearer token.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The value of an `Authorization` header, marked as not to be shown.
    pub header: HeaderValue,
    /// When it ends.
    pub expires_at: Time,
    /// Which one it is, counted from 1: what [`Tokens::refused`] takes.
    pub number: u64,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The account is not let in: its key was revoked, its clock is off, it has no such right.
    /// Only a person can mend that.
    #[error("the token endpoint refused the service account: {words}")]
    Refused {
        /// HTTP status of the refusal.
        http_status: u16,
        /// The endpoint's own words, cut.
        words: Box<str>,
    },
    /// The endpoint answered, but not now: 408, 429, 5xx, or something that is no token.
    #[error("the token endpoint answered {http_status}: {words}")]
    NotNow {
        /// HTTP status of the answer.
        http_status: u16,
        /// Its own words, cut.
        words: Box<str>,
    },
    /// There was no answer.
    #[error("the token endpoint could not be asked: {}", .0.detail)]
    Unreached(Trouble),
}

/// The assertion of `account` at `now`: a JWT under RS256 (RFC 7515, RFC 7519). The same arguments
/// give the same bytes, because RSASSA-PKCS1-v1_5 has no salt.
///
/// # Panics
/// If the key cannot sign, which its reading has shown it can.
#[must_use]
pub fn assertion(account: &ServiceAccount, now: Time) -> String {
    let issued_s = now.0.div_euclid(SECOND_MS);
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if !account.key_id.is_empty() {
        header["kid"] = json!(account.key_id);
    }
    let claims = json!({
        "iss": account.email,
        "scope": SCOPE,
        "aud": account.token_url.as_str(),
        "iat": issued_s,
        "exp": issued_s + ASSERTION_S,
    });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; account.key.public_modulus_len()];
    account
        .key
        .sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )
        .expect("a key that was read can sign");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The request that exchanges an assertion, in origin form.
#[must_use]
pub fn request(account: &ServiceAccount, now: Time) -> Request {
    let assertion = assertion(account, now);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT_TYPE)
        .append_pair("assertion", &assertion)
        .finish();
    let url = &account.token_url;
    let length = form.len();
    let mut request = Request::new(Full::new(Bytes::from(form)));
    *request.method_mut() = Method::POST;
    // What `Url` has parsed is written in characters that a URI takes.
    if let Some(place) = Place::of(url) {
        *request.uri_mut() = place.uri;
        request.headers_mut().insert(HOST, place.host);
    }
    let headers = request.headers_mut();
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form_type);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

/// The members of a grant that matter (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Grant {
    access_token: String,
    expires_in: i64,
    token_type: String,
}

/// The members of a refusal (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// What the token endpoint's answer grants: a token, and when it ends, counted from `then`.
///
/// # Errors
/// [`TokenFault`].
pub fn granted(answer: Answer, then: Time) -> Result<(SecretString, Time), TokenFault> {
    let response = answer.said.map_err(TokenFault::Unreached)?;
    let http_status = response.http_status;
    if http_status == 200 {
        let grant: Grant =
            serde_json::from_slice(&response.body).map_err(|error| TokenFault::NotNow {
                http_status,
                // Where it is wrong, never what was there: it may be most of a token.
                words: format!("no grant, at column {}", error.column()).into(),
            })?;
        if grant.token_type.eq_ignore_ascii_case("bearer") && grant.expires_in > 0 {
            let life_ms = grant.expires_in.min(ASSERTION_S).saturating_mul(SECOND_MS);
            return Ok((grant.access_token.into(), then.plus(life_ms)));
        }
        let words = "a grant that is no bearer token, or has ended".into();
        return Err(TokenFault::NotNow { http_status, words });
    }
    let words = match serde_json::from_slice::<Refusal>(&response.body) {
        Ok(said) => format!("{} {}", said.error, said.error_description),
        Err(_) => String::new(),
    };
    let words: Box<str> = words.trim().chars().take(WORDS_MAX).collect();
    Err(match http_status {
        408 | 425 | 429 | 500.. => TokenFault::NotNow { http_status, words },
        _ => TokenFault::Refused { http_status, words },
    })
}

/// The tokens of one account: one at a time.
#[derive(Debug, Default)]
pub struct Tokens {
    kept: Mutex<Kept>,
    /// Held by whoever asks the token endpoint.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    bearer: Option<Bearer>,
    /// What the last request came to, if it went wrong, and when.
    fault: Option<(Time, TokenFault)>,
    /// Tokens so far.
    made: u64,
    /// The last token that FCM refused, and whether that was the second in a row.
    refused: Option<(u64, bool)>,
    /// A token was refused, and nothing has been let in since.
    doubted: bool,
}

/// What [`Tokens::bearer`] finds.
enum Found {
    Serves(Bearer),
    /// It serves, and the next one should be fetched.
    Ends(Bearer),
    Fault(TokenFault),
    Nothing,
}

impl Tokens {
    /// A token that serves at `now`, the kept one or a new one. `fetch` sends the request of
    /// [`request`] to the account's token URL; of all who wait, one does.
    ///
    /// # Errors
    /// [`TokenFault`], the same one for all who waited for it.
    pub async fn bearer(
        &self,
        now: Time,
        account: &ServiceAccount,
        fetch: impl AsyncFnOnce(Request) -> Answer,
    ) -> Result<Bearer, TokenFault> {
        let found = self.kept.lock().look(now);
        let (old, turn) = match found {
            Found::Serves(bearer) => return Ok(bearer),
            Found::Fault(fault) => return Err(fault),
            Found::Ends(bearer) => match self.turn.try_lock() {
                Ok(turn) => (Some(bearer), turn),
                Err(_) => return Ok(bearer),
            },
            Found::Nothing => (None, self.turn.lock().await),
        };
        // Somebody else may have had the turn meanwhile.
        match self.kept.lock().look(now) {
            Found::Serves(bearer) => return Ok(bearer),
            Found::Fault(fault) => return Err(fault),
            Found::Ends(_) | Found::Nothing => {}
        }
        let answer = fetch(request(account, now)).await;
        let then = now.plus(i64::from(answer.total_ms));
        let made = self.kept.lock().keep(granted(answer, then), then);
        drop(turn);
        match (made, old) {
            (Err(_), Some(old)) => Ok(old),
            (made, _) => made,
        }
    }

    /// FCM did not let the bearer of this number in. It is not used again. True if the one before
    /// it fared the same and nothing was let in between: then it is not the token's age.
    pub fn refused(&self, number: u64) -> bool {
        let mut kept = self.kept.lock();
        match kept.refused {
            Some((last, again)) if last == number => return again,
            Some((last, _)) if number < last => return false,
            _ => {}
        }
        if kept
            .bearer
            .as_ref()
            .is_some_and(|bearer| bearer.number == number)
        {
            kept.bearer = None;
        }
        let again = kept.doubted;
        kept.refused = Some((number, again));
        kept.doubted = true;
        again
    }

    /// FCM let a bearer in.
    pub fn let_in(&self) {
        self.kept.lock().doubted = false;
    }
}

impl Kept {
    fn look(&self, now: Time) -> Found {
        let left_ms = |bearer: &Bearer| bearer.expires_at.since(now);
        let held = |at: Time| (now.since(at)) < FAULT_HOLD_MS;
        let fault = self.fault.as_ref().filter(|(at, _)| held(*at));
        match (&self.bearer, fault) {
            (Some(bearer), _) if left_ms(bearer) > EARLY_MS => Found::Serves(bearer.clone()),
            (Some(bearer), Some(_)) if left_ms(bearer) > SPENT_MS => Found::Serves(bearer.clone()),
            (Some(bearer), None) if left_ms(bearer) > SPENT_MS => Found::Ends(bearer.clone()),
            (_, Some((_, fault))) => Found::Fault(fault.clone()),
            (_, None) => Found::Nothing,
        }
    }

    fn keep(
        &mut self,
        granted: Result<(SecretString, Time), TokenFault>,
        then: Time,
    ) -> Result<Bearer, TokenFault> {
        let bearer = granted.and_then(|(token, expires_at)| {
            let mut value = SecretString::from("Bearer ".to_owned() + token.expose_secret());
            let header = HeaderValue::try_from(value.expose_secret());
            zeroize::Zeroize::zeroize(&mut value);
            let mut header = header.map_err(|_| TokenFault::NotNow {
                http_status: 200,
                words: "a token that no header can carry".into(),
            })?;
            header.set_sensitive(true);
            Ok(Bearer {
                header,
                expires_at,
                number: self.made + 1,
            })
        });
        match &bearer {
            Ok(bearer) => {
                self.made = bearer.number;
                self.bearer = Some(bearer.clone());
                self.fault = None;
            }
            Err(fault) => self.fault = Some((then, fault.clone())),
        }
        bearer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::super::account::tests::account;
    use super::*;
    use crate::channel::{Fault, Response};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use http_body_util::BodyExt as _;

    const NOW: Time = Time(1_795_000_000_500);

    fn answer(http_status: u16, body: &str) -> Answer {
        let response = Response {
            http_status,
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
        };
        Answer {
            said: Ok(response),
            total_ms: 40,
            connect_ms: 0,
        }
    }

    fn grant(token: &str) -> Answer {
        let body = json!({ "access_token": token, "expires_in": 3_599, "token_type": "Bearer" });
        answer(200, &body.to_string())
    }

    fn lost() -> Answer {
        Trouble::begun(Fault::ResponseTimeout, "no answer").into()
    }

    #[test]
    fn an_assertion_says_who_what_for_whom_and_for_how_long() {
        let (account, _) = account();
        let token = assertion(&account, NOW);
        assert_eq!(token, assertion(&account, NOW), "the same bytes");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.key.public_key());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.verify(signed.as_bytes(), &signature).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            read(header),
            json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" })
        );
        let expected = json!({
            "iss": "sender@demo-project.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/firebase.messaging",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_795_000_000,
            "exp": 1_795_003_600,
        });
        assert_eq!(read(claims), expected);
    }

    #[tokio::test]
    async fn the_request_is_the_form_of_the_standard() {
        let (account, _) = account();
        let request = request(&account, NOW);
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, "/token")
        );
        assert_eq!(request.headers()[HOST], "oauth2.googleapis.com");
        assert_eq!(
            request.headers()[CONTENT_TYPE],
            "application/x-www-form-urlencoded"
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let form: Vec<_> = url::form_urlencoded::parse(&body).collect();
        assert_eq!(form[0], ("grant_type".into(), GRANT_TYPE.into()));
        assert_eq!(
            form[1],
            ("assertion".into(), assertion(&account, NOW).into())
        );
        assert_eq!(form.len(), 2);
    }

    #[test]
    fn a_refusal_is_for_a_person_and_the_rest_is_for_later() {
        let table = [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#,
                true,
            ),
            (401, r#"{"error":"invalid_client"}"#, true),
            (403, r#"{"error":"access_denied"}"#, true),
            (404, "<html>", true),
            (302, "", true),
            (408, "", false),
            (429, r#"{"error":"rate_limit_exceeded"}"#, false),
            (500, r#"{"error":"internal_failure"}"#, false),
            (503, "", false),
            (200, "<html>", false),
            (
                200,
                r#"{"access_token":"a","expires_in":3599,"token_type":"mac"}"#,
                false,
            ),
            (
                200,
                r#"{"access_token":"a","expires_in":0,"token_type":"Bearer"}"#,
                false,
            ),
        ];
        for (http_status, body, refused) in table {
            let fault = granted(answer(http_status, body), NOW).unwrap_err();
            let is = matches!(fault, TokenFault::Refused { .. });
            assert_eq!(is, refused, "{http_status} {body}: {fault}");
        }
        let refused = granted(answer(400, table[0].1), NOW)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("invalid_grant Invalid JWT Signature."),
            "{refused}"
        );
        assert!(matches!(
            granted(lost(), NOW),
            Err(TokenFault::Unreached(_))
        ));
    }

    #[test]
    fn a_grant_that_cannot_be_read_is_not_repeated_in_words() {
        let body = r#"{"access_token":"ya29.s3cret","expires_in":"#;
        let fault = granted(answer(200, body), NOW).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("s3cret"));
        let (token, _) = granted(grant("ya29.s3cret"), NOW).unwrap();
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn one_request_serves_all_who_wait() {
        let (account, _) = account();
        let (tokens, asked) = (Tokens::default(), Cell::new(0));
        let fetch = async |_: Request| {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            grant("one")
        };
        let each = || tokens.bearer(NOW, &account, &fetch);
        let all = tokio::join!(each(), each(), each(), each());
        for bearer in [all.0, all.1, all.2, all.3] {
            assert_eq!(bearer.unwrap().header, "Bearer one");
        }
        assert_eq!(asked.get(), 1);
        // And all who come later, until it ends soon.
        let later = NOW.plus(50 * MINUTE_MS);
        assert_eq!(
            tokens.bearer(later, &account, &fetch).await.unwrap().number,
            1
        );
        assert_eq!(asked.get(), 1);
    }

    #[tokio::test]
    async fn one_fault_serves_all_who_wait_but_not_for_long() {
        let (account, _) = account();
        let (tokens, asked) = (Tokens::default(), Cell::new(0));
        let fetch = async |_: Request| {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            lost()
        };
        let each = || tokens.bearer(NOW, &account, &fetch);
        let all = tokio::join!(each(), each(), each());
        assert!(all.0.is_err() && all.0.as_ref().err() == all.1.as_ref().err());
        assert!(all.2.is_err());
        assert_eq!(asked.get(), 1);
        let later = NOW.plus(FAULT_HOLD_MS + 1);
        assert!(tokens.bearer(later, &account, &fetch).await.is_err());
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test]
    async fn it_is_renewed_early_by_one_and_the_old_one_serves_meanwhile() {
        let (account, _) = account();
        let tokens = Tokens::default();
        tokens
            .bearer(NOW, &account, async |_| grant("old"))
            .await
            .unwrap();
        let soon = NOW.plus(56 * MINUTE_MS);
        // The renewal fails: the old one goes on.
        let bearer = tokens
            .bearer(soon, &account, async |_| lost())
            .await
            .unwrap();
        assert_eq!(bearer.header, "Bearer old");
        // While one renews it, another one does not wait.
        let soon = soon.plus(2 * FAULT_HOLD_MS);
        let gate = Rc::new(tokio::sync::Notify::new());
        let renews = tokens.bearer(soon, &account, async |_| {
            gate.notified().await;
            grant("new")
        });
        let meanwhile = async {
            let found = tokens
                .bearer(soon, &account, async |_| unreachable!("one asks"))
                .await;
            gate.notify_one();
            found.unwrap()
        };
        let (renewed, meanwhile) = tokio::join!(renews, meanwhile);
        assert_eq!(meanwhile.header, "Bearer old");
        assert_eq!(renewed.unwrap().header, "Bearer new");
        // One that has all but ended does not serve any more.
        let end = soon.plus(60 * MINUTE_MS);
        assert!(
            tokens
                .bearer(end, &account, async |_| lost())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_token_that_is_not_let_in_is_replaced_once_and_then_it_is_the_account() {
        let (account, _) = account();
        let tokens = Tokens::default();
        let next = async || {
            tokens
                .bearer(NOW, &account, async |_| grant("t"))
                .await
                .unwrap()
                .number
        };
        assert_eq!(next().await, 1);
        assert!(!tokens.refused(1), "its age, perhaps");
        assert!(!tokens.refused(1), "the same for those beside it");
        assert_eq!(next().await, 2);
        assert!(!tokens.refused(1), "late news of an old one");
        assert!(tokens.refused(2), "two in a row");
        assert!(tokens.refused(2));
        assert_eq!(next().await, 3);
        tokens.let_in();
        assert!(!tokens.refused(3), "one was let in between");
    }
}
