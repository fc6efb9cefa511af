//! The sender's token, judged as autopush judges it (RFC 8292), and in `sub` as Apple does.
//!
//! Absent here: HTTP answers. A fault is words; the answer around it is the service's.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Furthest `exp` (RFC 8292 section 2).
const AHEAD_S_MAX: i64 = 86_400;
/// How long a token that has expired is taken all the same.
const LEEWAY_S: i64 = 60;

/// What is to be said of `Authorization`. `origin` is that of the endpoint; `key` the one that the
/// subscription is restricted to.
///
/// # Errors
/// What is wrong with it, in autopush's words where it has some.
pub(super) fn check(
    authorization: Option<&str>,
    origin: &[String],
    key: Option<&str>,
    now_s: i64,
) -> Result<(), &'static str> {
    let Some(authorization) = authorization else {
        return match key {
            Some(_) => Err("Missing VAPID token"),
            None => Ok(()),
        };
    };
    let (token, public) = parse(authorization)?;
    let claims = verify(token, public)?;
    if key.is_some_and(|key| key != public) {
        return Err("VAPID public key mismatch");
    }
    check_claims(&claims, origin, now_s)
}

/// `vapid t=…, k=…`, in any order and any case of the scheme.
fn parse(authorization: &str) -> Result<(&str, &str), &'static str> {
    let (scheme, fields) = authorization.split_once(' ').ok_or("Missing VAPID token")?;
    if !scheme.eq_ignore_ascii_case("vapid") {
        return Err("Unknown auth scheme");
    }
    let field = |name: &str| {
        let fields = fields
            .split(',')
            .filter_map(|field| field.trim().split_once('='));
        fields
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let token = field("t").ok_or("Missing VAPID token")?;
    Ok((token, field("k").ok_or("Missing VAPID public key")?))
}

/// The claims, if the signature holds.
fn verify(token: &str, public: &str) -> Result<Value, &'static str> {
    let bytes = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| "Invalid VAPID token")
    };
    let public = URL_SAFE_NO_PAD
        .decode(public)
        .map_err(|_| "Invalid VAPID public key")?;
    let (signed, signature) = token.rsplit_once('.').ok_or("Invalid VAPID token")?;
    let (header, claims) = signed.split_once('.').ok_or("Invalid VAPID token")?;
    let json = |text| {
        let json: Result<Value, _> = serde_json::from_slice(&bytes(text)?);
        json.map_err(|_| "Invalid VAPID token")
    };
    if json(header)?["alg"] != "ES256" {
        return Err("InvalidAlgorithm");
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
        .verify(signed.as_bytes(), &bytes(signature)?)
        .map_err(|_| "InvalidSignature")?;
    json(claims)
}

fn check_claims(claims: &Value, origin: &[String], now_s: i64) -> Result<(), &'static str> {
    // A number with a fraction and a number in quotes are none.
    let exp = claims["exp"].as_i64().ok_or("Invalid VAPID expiry")?;
    if exp > now_s + AHEAD_S_MAX {
        return Err("The VAPID token expiration is too long");
    }
    if exp < now_s - LEEWAY_S {
        return Err("ExpiredSignature");
    }
    let audience = claims["aud"].as_str().ok_or("Invalid VAPID audience")?;
    if !origin.iter().any(|origin| origin == audience) {
        return Err("Invalid VAPID audience");
    }
    let subject = claims["sub"].as_str().unwrap_or_default();
    let host = match (
        subject.strip_prefix("mailto:"),
        subject.strip_prefix("https://"),
    ) {
        (Some(address), _) => address.rsplit_once('@').map_or("", |(_, host)| host),
        (_, Some(rest)) => rest.split('/').next().unwrap_or_default(),
        _ => "",
    };
    if host.is_empty() || host == "localhost" {
        return Err("Invalid VAPID subject");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    /// The example of RFC 8292 section 2.4.
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhb\
        XBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4x\
        fxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA";
    const KEY: &str = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9o\
        jSwk5Y2EmClBPs";
    const EXP: i64 = 1_453_523_768;

    fn judge(authorization: &str, origin: &str, key: Option<&str>, now_s: i64) -> String {
        match check(Some(authorization), &[origin.to_owned()], key, now_s) {
            Ok(()) => "fine".to_owned(),
            Err(words) => words.to_owned(),
        }
    }

    #[test]
    fn the_example_of_the_rfc_holds_and_anything_else_about_it_does_not() {
        let good = format!("vapid t={TOKEN}, k={KEY}");
        let origin = "https://push.example.net";
        for spelling in [
            good.clone(),
            format!("Vapid k={KEY},t={TOKEN}"),
            format!("VAPID t={TOKEN},k={KEY}"),
        ] {
            assert_eq!(judge(&spelling, origin, Some(KEY), EXP), "fine");
        }
        assert_eq!(judge(&good, origin, None, EXP + 60), "fine");
        let other = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqK\
            K6PBru3jl7A8";
        let damaged = TOKEN.replace("i3CY", "i4CY");
        let table = [
            (good.clone(), origin, EXP + 61, "ExpiredSignature"),
            (
                good.clone(),
                origin,
                EXP - 86_401,
                "The VAPID token expiration is too long",
            ),
            (
                good.clone(),
                "https://push.example.net:1",
                EXP,
                "Invalid VAPID audience",
            ),
            (
                format!("vapid t={damaged}, k={KEY}"),
                origin,
                EXP,
                "InvalidSignature",
            ),
            (
                format!("vapid t={TOKEN}, k={other}"),
                origin,
                EXP,
                "InvalidSignature",
            ),
            (
                format!("vapid t={TOKEN}"),
                origin,
                EXP,
                "Missing VAPID public key",
            ),
            (format!("vapid k={KEY}"), origin, EXP, "Missing VAPID token"),
            (
                format!("WebPush {TOKEN}"),
                origin,
                EXP,
                "Unknown auth scheme",
            ),
            (
                format!("vapid t=\"{TOKEN}\", k={KEY}"),
                origin,
                EXP,
                "Invalid VAPID token",
            ),
        ];
        for (authorization, origin, now_s, expected) in table {
            assert_eq!(judge(&authorization, origin, None, now_s), expected);
        }
        let key = Some(other);
        assert_eq!(judge(&good, origin, key, EXP), "VAPID public key mismatch");
    }

    #[test]
    fn only_a_restricted_subscription_demands_one() {
        assert_eq!(check(None, &[], None, 0), Ok(()));
        assert_eq!(check(None, &[], Some(KEY), 0), Err("Missing VAPID token"));
    }
}
