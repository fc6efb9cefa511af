//! Signing secrets: made, read, and kept as prepared HMAC keys.
//!
//! One secret serves two schemes, which take different bytes of it: Standard Webhooks signs with
//! what the base64 after the prefix stands for, the `t=,v1=` scheme with the characters of the
//! whole secret, prefix included (that is what its public verifiers do).
//!
//! Absent here: storing. The registry keeps secrets encrypted.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_core::time::Time;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::registry::Secret;

/// What every secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";

/// Bytes in a secret that we make.
pub const SECRET_BYTES: usize = 32;

const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;

/// Why a secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// It does not begin as it must.
    #[error("a signing secret begins with `whsec_`")]
    Prefix,
    /// What follows cannot be read.
    #[error("after `whsec_`, a signing secret is standard base64 with padding")]
    Base64,
    /// It is too short to be safe, or longer than the standard allows.
    #[error("a signing secret stands for 24 to 64 bytes, not {bytes}")]
    Length {
        /// Bytes that it stands for.
        bytes: usize,
    },
}

/// A new secret from the operating system's cryptographic source.
///
/// # Panics
/// If the operating system has no randomness to give.
#[must_use]
pub fn generate_secret() -> SecretString {
    let mut bytes = Zeroizing::new([0_u8; SECRET_BYTES]);
    aws_lc_rs::rand::fill(bytes.as_mut()).expect("the system's random source answers");
    format!(
        "{SECRET_PREFIX}{}",
        *Zeroizing::new(STANDARD.encode(*bytes))
    )
    .into()
}

/// The bytes that a secret stands for.
///
/// # Errors
/// [`SecretFault`].
pub fn parse_secret(secret: &str) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    let encoded = secret
        .strip_prefix(SECRET_PREFIX)
        .ok_or(SecretFault::Prefix)?;
    let decoded = STANDARD.decode(encoded).map_err(|_| SecretFault::Base64)?;
    let bytes = Zeroizing::new(decoded);
    match bytes.len() {
        SECRET_BYTES_MIN..=SECRET_BYTES_MAX => Ok(bytes),
        bytes => Err(SecretFault::Length { bytes }),
    }
}

/// One secret, ready to sign with.
#[derive(Debug)]
pub(super) struct SigningKey {
    /// For `t=,v1=`: keyed with the characters of the whole secret.
    pub(super) whole: hmac::Key,
    /// For Standard Webhooks: keyed with the bytes that the secret stands for.
    pub(super) decoded: hmac::Key,
    expires_at: Option<Time>,
}

impl SigningKey {
    pub(super) fn new(secret: &Secret) -> Result<SigningKey, SecretFault> {
        let whole = secret.value.expose_secret();
        Ok(SigningKey {
            decoded: hmac::Key::new(hmac::HMAC_SHA256, &parse_secret(whole)?),
            whole: hmac::Key::new(hmac::HMAC_SHA256, whole.as_bytes()),
            expires_at: secret.expires_at,
        })
    }

    pub(super) fn signs_at(&self, now: Time) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::{SECRET_BYTES, SecretFault, generate_secret, parse_secret};
    use secrecy::ExposeSecret;

    #[test]
    fn a_made_secret_is_read_back_and_is_never_the_same() {
        let (one, two) = (generate_secret(), generate_secret());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert_eq!(
            parse_secret(one.expose_secret()).unwrap().len(),
            SECRET_BYTES
        );
    }

    #[test]
    fn what_is_not_a_secret_is_refused_with_the_reason() {
        let table = [
            ("", SecretFault::Prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretFault::Prefix),
            (
                "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                SecretFault::Prefix,
            ),
            ("whsec_", SecretFault::Length { bytes: 0 }),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
                SecretFault::Base64,
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
                SecretFault::Base64,
            ),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLQ", SecretFault::Base64),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLQ==",
                SecretFault::Length { bytes: 22 },
            ),
        ];
        for (secret, fault) in table {
            assert_eq!(parse_secret(secret).unwrap_err(), fault, "{secret}");
        }
    }
}
