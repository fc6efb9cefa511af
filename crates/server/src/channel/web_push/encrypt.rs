//! Encryption for one browser (RFC 8291) in the encoding `aes128gcm` (RFC 8188): one record.
//!
//! ```text
//! ECDH(ours, theirs) ─HMAC auth─► PRK_key ─HMAC info─► IKM ─HMAC salt─► PRK ─┬► CEK (16 bytes)
//!                                                                           └► NONCE (12 bytes)
//! salt(16) │ record size(4) │ 65 │ our public key(65) │ AES-128-GCM(plaintext │ 2 │ zeros)(+16)
//! ```
//!
//! Absent here: randomness. A fresh key pair and a fresh salt come in with each call.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use bytes::Bytes;
use zeroize::Zeroizing;

/// Bytes of an uncompressed point of P-256.
pub const PUBLIC_KEY_BYTES: usize = 65;
/// Bytes of a subscription's secret (RFC 8291 section 3.2).
pub const AUTH_BYTES: usize = 16;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Longest body that a push service must take (RFC 8030 section 7.2).
pub const BODY_BYTES_MAX: usize = 4_096;
/// Longest plaintext that fits: the body without header, delimiter and tag.
pub const PLAINTEXT_BYTES_MAX: usize = BODY_BYTES_MAX - HEADER_BYTES - 1 - TAG_BYTES;

/// Salt, record size, length of the key id, our public key.
const HEADER_BYTES: usize = SALT_BYTES + 4 + 1 + PUBLIC_KEY_BYTES;
const TAG_BYTES: usize = 16;
/// What everybody writes as the record size; the one record is never longer.
const RECORD_BYTES: u32 = 4_096;
/// Ends the content of the last record; padding follows.
const LAST_RECORD: u8 = 2;

/// A browser's side of a subscription, checked and prepared.
pub struct Receiver {
    key: ParsedPublicKey,
    // As it is: a prepared key has a kilobyte, and there is one for each subscription.
    auth: Secret<AUTH_BYTES>,
}

/// A key of a subscription that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverFault {
    /// `p256dh` is no such point.
    #[error("`p256dh` is not an uncompressed point on the curve P-256, which has 65 bytes")]
    Point,
    /// `auth` has another length.
    #[error("`auth` has {0} bytes, not 16")]
    Auth(usize),
}

/// Our side of one push: a key pair for it alone.
pub struct Ephemeral {
    private: PrivateKey,
    public: [u8; PUBLIC_KEY_BYTES],
}

/// No key pair can be made: the scalar is 0 or not below the order of the curve, or the system has
/// no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key pair can be made of this")]
pub struct NoKeyPair;

/// More than fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes; a push carries {PLAINTEXT_BYTES_MAX}")]
pub struct TooLong(pub usize);

impl Receiver {
    /// Checks the keys of a subscription.
    ///
    /// # Errors
    /// [`ReceiverFault`].
    pub fn new(p256dh: &[u8], auth: &[u8]) -> Result<Receiver, ReceiverFault> {
        if p256dh.len() != PUBLIC_KEY_BYTES || p256dh[0] != 4 {
            return Err(ReceiverFault::Point);
        }
        let bytes = auth.len();
        let auth = auth.try_into().map_err(|_| ReceiverFault::Auth(bytes))?;
        // Parsing checks that the point is on the curve (RFC 8291 section 7).
        let key = ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P256, p256dh));
        Ok(Receiver {
            key: key.map_err(|_| ReceiverFault::Point)?,
            auth: Zeroizing::new(auth),
        })
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Ephemeral {
    /// A key pair from the system's cryptographic source.
    ///
    /// # Errors
    /// [`NoKeyPair`] if it has nothing to give.
    pub fn generate() -> Result<Ephemeral, NoKeyPair> {
        let private = PrivateKey::generate(&ECDH_P256).map_err(|_| NoKeyPair)?;
        Ephemeral::of(private)
    }

    /// The key pair of a private key, for vectors and for what has to repeat exactly.
    ///
    /// # Errors
    /// [`NoKeyPair`].
    pub fn from_private(scalar: &[u8; 32]) -> Result<Ephemeral, NoKeyPair> {
        let private = PrivateKey::from_private_key(&ECDH_P256, scalar);
        Ephemeral::of(private.map_err(|_| NoKeyPair)?)
    }

    fn of(private: PrivateKey) -> Result<Ephemeral, NoKeyPair> {
        let public = private.compute_public_key().map_err(|_| NoKeyPair)?;
        let public = public.as_ref().try_into().map_err(|_| NoKeyPair)?;
        Ok(Ephemeral { private, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public
    }
}

impl std::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ephemeral").finish_non_exhaustive()
    }
}

/// The body of a push: `plaintext`, padded with zeros to `padded_bytes` if it is shorter.
///
/// # Errors
/// [`TooLong`] if the plaintext has more than [`PLAINTEXT_BYTES_MAX`]. Padding goes no further.
///
/// # Panics
/// Never: all lengths are fixed, and the points were checked.
pub fn encrypt(
    receiver: &Receiver,
    ours: &Ephemeral,
    salt: &[u8; SALT_BYTES],
    plaintext: &[u8],
    padded_bytes: usize,
) -> Result<Bytes, TooLong> {
    if plaintext.len() > PLAINTEXT_BYTES_MAX {
        return Err(TooLong(plaintext.len()));
    }
    let ikm = agree(&ours.private, receiver.key.clone(), (), |secret| {
        let prk_key = prk_key(&receiver.auth, secret);
        Ok(ikm(&prk_key, receiver.key.as_ref(), &ours.public))
    });
    let prk = prk(salt, &*ikm.expect("both keys are on the curve"));
    let padded = padded_bytes.clamp(plaintext.len(), PLAINTEXT_BYTES_MAX);
    let mut body = Vec::with_capacity(HEADER_BYTES + padded + 1 + TAG_BYTES);
    body.extend_from_slice(salt);
    body.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    body.push(PUBLIC_KEY_BYTES as u8);
    body.extend_from_slice(&ours.public);
    body.extend_from_slice(plaintext);
    body.push(LAST_RECORD);
    body.resize(HEADER_BYTES + padded + 1, 0);
    seal(&prk, &mut body);
    Ok(body.into())
}

fn seal(prk: &hmac::Key, body: &mut Vec<u8>) {
    let key = UnboundKey::new(&AES_128_GCM, &*cek(prk)).expect("the key has 16 bytes");
    let nonce = Nonce::assume_unique_for_key(nonce(prk));
    let tag = LessSafeKey::new(key)
        .seal_in_place_separate_tag(nonce, Aad::empty(), &mut body[HEADER_BYTES..])
        .expect("a record is shorter than what the cipher takes");
    body.extend_from_slice(tag.as_ref());
}

/// Any length that the derivations below give out.
type Secret<const N: usize> = Zeroizing<[u8; N]>;

fn hmac<const N: usize>(key: &hmac::Key, parts: &[&[u8]]) -> Secret<N> {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0; N]);
    out.copy_from_slice(&context.sign().as_ref()[..N]);
    out
}

/// RFC 8291 section 3.3, the extracting half.
fn prk_key(auth: &[u8; AUTH_BYTES], secret: &[u8]) -> Secret<32> {
    hmac(&hmac::Key::new(HMAC_SHA256, auth), &[secret])
}

/// RFC 8291 section 3.3, the expanding half.
fn ikm(prk_key: &[u8; 32], theirs: &[u8], ours: &[u8]) -> Secret<32> {
    let key = hmac::Key::new(HMAC_SHA256, prk_key);
    hmac(&key, &[b"WebPush: info\0", theirs, ours, &[1]])
}

/// RFC 8188 section 2.2, the extracting half.
fn prk(salt: &[u8], ikm: &[u8]) -> hmac::Key {
    let prk: Secret<32> = hmac(&hmac::Key::new(HMAC_SHA256, salt), &[ikm]);
    hmac::Key::new(HMAC_SHA256, &*prk)
}

/// RFC 8188 section 2.2.
fn cek(prk: &hmac::Key) -> Secret<16> {
    hmac(prk, &[b"Content-Encoding: aes128gcm\0\x01"])
}

/// RFC 8188 section 2.3, of the first record: the others are not used here.
fn nonce(prk: &hmac::Key) -> [u8; 12] {
    *hmac(prk, &[b"Content-Encoding: nonce\0\x01"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    fn array<const N: usize>(text: &str) -> [u8; N] {
        bytes(text).try_into().expect("so many bytes")
    }

    /// RFC 8291 appendix A.
    mod vector {
        pub const PLAINTEXT: &[u8] = b"When I grow up, I want to be a watermelon";
        pub const SALT: &str = "DGv6ra1nlYgDCS1FRnbzlw";
        pub const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";
        pub const OURS: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
        pub const OURS_PUBLIC: &str = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocIn\
            mYWAmS6TlzAC8wEqKK6PBru3jl7A8";
        pub const THEIRS: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
        pub const THEIRS_PUBLIC: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTB\
            Hm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        pub const ECDH: &str = "kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs";
        pub const PRK_KEY: &str = "Snr3JMxaHVDXHWJn5wdC52WjpCtd2EIEGBykDcZW32k";
        pub const IKM: &str = "S4lYMb_L0FxCeq0WhDx813KgSYqU26kOyzWUdsXYyrg";
        pub const PRK: &str = "09_eUZGrsvxChDCGRCdkLiDXrReGOEVeSCdCcPBSJSc";
        pub const CEK: &str = "oIhVW04MRdy2XN9CiKLxTg";
        pub const NONCE: &str = "4h_95klXJ5E_qnoN";
        pub const BODY: &str = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlml\
            MoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZ\
            wbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
    }
    use vector::*;

    fn receiver() -> Receiver {
        Receiver::new(&bytes(THEIRS_PUBLIC), &bytes(AUTH)).expect("the vector's keys")
    }

    #[test]
    fn every_step_of_rfc_8291_appendix_a() {
        let ours = Ephemeral::from_private(&array(OURS)).unwrap();
        assert_eq!(ours.public()[..], bytes(OURS_PUBLIC));
        let theirs = Ephemeral::from_private(&array(THEIRS)).unwrap();
        assert_eq!(theirs.public()[..], bytes(THEIRS_PUBLIC));
        let receiver = receiver();
        agree(&ours.private, receiver.key.clone(), (), |secret| {
            assert_eq!(secret, bytes(ECDH));
            Ok(())
        })
        .unwrap();
        let derived = prk_key(&receiver.auth, &bytes(ECDH));
        assert_eq!(derived[..], bytes(PRK_KEY));
        let derived = ikm(&derived, theirs.public(), ours.public());
        assert_eq!(derived[..], bytes(IKM));
        let extracted: Secret<32> =
            hmac(&hmac::Key::new(HMAC_SHA256, &bytes(SALT)), &[&bytes(IKM)]);
        assert_eq!(extracted[..], bytes(PRK));
        let derived = prk(&bytes(SALT), &*derived);
        assert_eq!(cek(&derived)[..], bytes(CEK));
        assert_eq!(nonce(&derived)[..], bytes(NONCE));
        let body = encrypt(&receiver, &ours, &array(SALT), PLAINTEXT, 0).unwrap();
        assert_eq!(body, bytes(BODY));
        assert_eq!(body.len(), 144);
    }

    /// One record as RFC 8188 has them in general: with a number, and a delimiter that says whether
    /// it is the last.
    fn record(prk: &hmac::Key, number: u8, content: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &*cek(prk)).unwrap());
        let mut iv = nonce(prk);
        iv[11] ^= number;
        let mut record = content.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut record)
            .unwrap();
        record
    }

    #[test]
    fn the_examples_of_rfc_8188() {
        let whole =
            bytes("I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg");
        let derived = prk(&whole[..16], &bytes("yqdlZ-tYemfogSmv7Ws5PQ"));
        assert_eq!(whole[16..21], [0, 0, 16, 0, 0]);
        assert_eq!(record(&derived, 0, b"I am the walrus\x02"), whole[21..]);

        let whole = bytes(
            "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEp\
             gz3SsLWIqS_uA",
        );
        let derived = prk(&whole[..16], &bytes("BO3ZVPxUlnLORbVGMpbT1Q"));
        assert_eq!(whole[16..23], [0, 0, 0, 25, 2, b'a', b'1']);
        assert_eq!(record(&derived, 0, b"I am th\x01\0"), whole[23..48]);
        assert_eq!(record(&derived, 1, b"e walrus\x02"), whole[48..]);
    }

    #[test]
    fn padding_hides_the_length_and_the_body_has_a_bound() {
        let ours = Ephemeral::from_private(&array(OURS)).unwrap();
        let length = |plaintext: usize, padded| {
            let plaintext = vec![b'x'; plaintext];
            encrypt(&receiver(), &ours, &array(SALT), &plaintext, padded).map(|body| body.len())
        };
        assert_eq!(PLAINTEXT_BYTES_MAX, 3_993);
        assert_eq!(length(0, 0), Ok(103));
        assert_eq!(length(1, 500), length(500, 0));
        assert_eq!(length(600, 500), length(600, 0));
        assert_eq!(length(1, usize::MAX), Ok(BODY_BYTES_MAX));
        assert_eq!(length(PLAINTEXT_BYTES_MAX, 0), Ok(BODY_BYTES_MAX));
        assert_eq!(length(PLAINTEXT_BYTES_MAX + 1, 0), Err(TooLong(3_994)));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let good = bytes(THEIRS_PUBLIC);
        let auth = bytes(AUTH);
        let fault = |p256dh: &[u8], auth: &[u8]| Receiver::new(p256dh, auth).unwrap_err();
        let mut off_the_curve = good.clone();
        off_the_curve[64] ^= 1;
        for p256dh in [&off_the_curve[..], &good[..64], &good[1..], &[4; 65], &[]] {
            assert_eq!(fault(p256dh, &auth), ReceiverFault::Point);
        }
        assert_eq!(fault(&good, &auth[1..]), ReceiverFault::Auth(15));
        assert_eq!(fault(&good, &[0; 32]), ReceiverFault::Auth(32));
        assert!(Ephemeral::from_private(&[0; 32]).is_err());
        assert!(Ephemeral::from_private(&[0xff; 32]).is_err());
    }

    #[test]
    fn a_key_pair_is_never_made_twice() {
        let (one, two) = (
            Ephemeral::generate().unwrap(),
            Ephemeral::generate().unwrap(),
        );
        assert_ne!(one.public(), two.public());
    }
}
