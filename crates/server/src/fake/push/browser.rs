//! The keys of one browser's subscription: what its page hands out, and the reading of what is
//! encrypted for it (RFC 8291), written from the RFC and not from the sender's side.
//!
//! Absent here: the push service, and what a page would show.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Salt, record size, length of the key id, and the sender's public key (RFC 8188 section 2.1).
const HEADER_BYTES: usize = 16 + 4 + 1 + 65;
/// Ends the content of the last record; padding follows (RFC 8188 section 2).
const LAST_RECORD: u8 = 2;

/// A browser's side of one subscription.
pub struct Browser {
    private: PrivateKey,
    public: Vec<u8>,
    auth: [u8; 16],
}

/// A body cannot be read with this browser's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not one record that is encrypted for this browser")]
pub struct Unreadable;

impl From<Unspecified> for Unreadable {
    fn from(_: Unspecified) -> Unreadable {
        Unreadable
    }
}

/// So many bytes out of a derivation.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(
    salt: &[u8],
    secret: &[u8],
    info: &[&[u8]],
) -> Result<[u8; N], Unreadable> {
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    let mut derived = [0; N];
    key.expand(info, Bytes(N))?.fill(&mut derived)?;
    Ok(derived)
}

impl Browser {
    /// A browser with keys of its own.
    ///
    /// # Errors
    /// [`Unreadable`] if the system has no randomness to give.
    pub fn new() -> Result<Browser, Unreadable> {
        let private = PrivateKey::generate(&ECDH_P256)?;
        let public = private.compute_public_key()?.as_ref().to_vec();
        Ok(Browser {
            private,
            public,
            auth: rand::random(),
        })
    }

    /// Its public key, as `PushSubscription.toJSON()` has it.
    #[must_use]
    pub fn p256dh(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.public)
    }

    /// The secret that it shares with the application.
    #[must_use]
    pub fn auth(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.auth)
    }

    /// What a body says.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn open(&self, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
        if body.len() < HEADER_BYTES {
            return Err(Unreadable);
        }
        let (header, record) = body.split_at(HEADER_BYTES);
        let (salt, theirs) = (&header[..16], &header[HEADER_BYTES - 65..]);
        let sender = UnparsedPublicKey::new(&ECDH_P256, theirs);
        let info: [&[u8]; 3] = [b"WebPush: info\0", &self.public, theirs];
        let input: [u8; 32] = agree(&self.private, sender, Unreadable, |secret| {
            derive(&self.auth, secret, &info)
        })?;
        let key: [u8; 16] = derive(salt, &input, &[b"Content-Encoding: aes128gcm\0"])?;
        let nonce: [u8; 12] = derive(salt, &input, &[b"Content-Encoding: nonce\0"])?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
        let mut record = record.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let padded = key.open_in_place(nonce, Aad::empty(), &mut record)?;
        let end = padded.iter().rposition(|&byte| byte != 0);
        match end {
            Some(end) if padded[end] == LAST_RECORD => Ok(padded[..end].to_vec()),
            _ => Err(Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Browser, Unreadable};
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    /// The example of RFC 8291 section 5.
    #[test]
    fn the_example_of_the_rfc_is_read_by_its_browser_alone() {
        let scalar = bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        let private = PrivateKey::from_private_key(&ECDH_P256, &scalar).expect("a key");
        let public = private.compute_public_key().expect("a point");
        let browser = Browser {
            public: public.as_ref().to_vec(),
            private,
            auth: bytes("BTBZMqHH6r4Tts7J_aSIgg")
                .try_into()
                .expect("16 bytes"),
        };
        let mut body = bytes(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vC\
             YLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXL\
             WyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        let said = browser.open(&body).expect("it is for this browser");
        assert_eq!(said, b"When I grow up, I want to be a watermelon");
        let other = Browser::new().expect("keys");
        assert_eq!(other.open(&body), Err(Unreadable));
        assert_ne!(other.p256dh(), browser.p256dh());
        body[100] ^= 1;
        assert_eq!(browser.open(&body), Err(Unreadable));
        assert_eq!(browser.open(&body[..80]), Err(Unreadable));
    }
}
