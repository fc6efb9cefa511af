//! Receipt tokens: by what a device proves that a receipt is about a notification that it was sent.
//!
//! A token is an HMAC of the delivery's correlation id under a key of this installation. It travels
//! inside of the notification, which only the device can read, and is good for that one delivery.
//!
//! Absent here: keeping receipts, which is the engine's.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::id::CorrelationId;

use crate::vault::Vault;

/// Bytes of a token: as hard to guess as the correlation id.
const TOKEN_BYTES: usize = 16;

/// Makes and checks receipt tokens.
pub struct ReceiptTokens {
    key: hmac::Key,
    /// Where devices send receipts to, if they are asked for any.
    url: Option<Box<str>>,
}

/// What a notification carries so that its device can answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReceiptAsk {
    /// Where to.
    pub url: Box<str>,
    /// With which token.
    pub token: String,
}

impl ReceiptTokens {
    /// Tokens of this installation. `url` is where devices reach `/v1/receipts`.
    #[must_use]
    pub fn new(vault: &Vault, url: Option<&str>) -> ReceiptTokens {
        let key = vault.derive("receipt/v1");
        ReceiptTokens {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key[..]),
            url: url.filter(|url| !url.is_empty()).map(Into::into),
        }
    }

    /// What the notification of this delivery carries, if receipts are asked for.
    #[must_use]
    pub fn ask(&self, delivery: CorrelationId) -> Option<ReceiptAsk> {
        let url = self.url.clone()?;
        let token = self.token(delivery);
        Some(ReceiptAsk { url, token })
    }

    /// The token of a delivery.
    #[must_use]
    pub fn token(&self, delivery: CorrelationId) -> String {
        let tag = hmac::sign(&self.key, &delivery.0.to_be_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..TOKEN_BYTES])
    }

    /// Whether this is the token of a delivery. Takes as long for a wrong one as for a right one.
    #[must_use]
    pub fn is_genuine(&self, delivery: CorrelationId, token: &str) -> bool {
        let genuine = self.token(delivery);
        aws_lc_rs::constant_time::verify_slices_are_equal(genuine.as_bytes(), token.as_bytes())
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_delivery_of_one_installation() {
        let tokens =
            ReceiptTokens::new(&Vault::of(&[7; 32]), Some("https://a.example/v1/receipts"));
        let others = ReceiptTokens::new(&Vault::of(&[8; 32]), None);
        let (one, other) = (CorrelationId(1), CorrelationId(2));
        let token = tokens.token(one);
        assert!(tokens.is_genuine(one, &token));
        assert!(!tokens.is_genuine(other, &token));
        assert!(!others.is_genuine(one, &token));
        assert!(!tokens.is_genuine(one, ""));
        assert_eq!(tokens.ask(one).map(|ask| ask.token), Some(token));
        assert_eq!(others.ask(one), None);
    }
}
