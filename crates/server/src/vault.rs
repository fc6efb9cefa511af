//! The master key and what is encrypted under it.
//!
//! One master key of 256 bits lies in a file of its own, readable by its owner alone, and is never
//! in a database or a backup. It encrypts nothing itself: everything is sealed under a key derived
//! from it by label (HKDF-SHA-256, RFC 5869), or under a random data key that is kept wrapped. So
//! a new master key means wrapping the data keys again, never touching what they sealed.
//!
//! Sealing is AES-256-GCM (NIST SP 800-38D). A nonce is a 96-bit number drawn at random when the
//! [`Cipher`] is made, plus one for each sealing: two starts of the process meet only where their
//! random starts lie closer together than the number of sealings, which is out of reach.
//!
//! Absent here: what is worth sealing, and where the sealed bytes are kept.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use zeroize::Zeroizing;

/// Name of the master key's file in a data directory.
pub const MASTER_KEY_FILE: &str = "master.key";
/// Bytes of every key.
pub const KEY_BYTES: usize = 32;
/// Bytes that sealing adds: the nonce in front and the tag behind.
pub const SEAL_BYTES: usize = NONCE_LEN + TAG_BYTES;

const TAG_BYTES: usize = 16;
/// Permission bits that a key file must not have: anything for others.
const MODE_REFUSED: u32 = 0o007;

/// A key, wiped when it is dropped.
pub type Key = Zeroizing<[u8; KEY_BYTES]>;

/// Holder of the master key.
pub struct Vault {
    master: hkdf::Prk,
}

/// Why there is no vault, or why something does not open.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file is not there.
    #[error("there is no master key at {0}")]
    Missing(PathBuf),
    /// The key file could not be read or made.
    #[error("the master key at {path} could not be read or made")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("{0} is not a master key: 64 hexadecimal digits are expected")]
    Malformed(PathBuf),
    /// Others than its owner may read or write the key file.
    #[error("{path} has mode {mode:o}: a master key must not be open to others (chmod 0400)")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Sealed under another key, for another place, or damaged since.
    #[error("sealed under another key, or damaged")]
    Sealed,
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Entropy,
}

impl Vault {
    /// The vault of a data directory: its `master.key`, made on the first start.
    ///
    /// # Errors
    /// [`VaultError`] where the file can neither be read nor made.
    pub fn open_or_create(path: &Path) -> Result<Vault, VaultError> {
        match Vault::open(path) {
            Err(VaultError::Missing(_)) => {
                create(path)?;
                Vault::open(path)
            }
            other => other,
        }
    }

    /// The vault of an existing key file.
    ///
    /// # Errors
    /// [`VaultError`] where the file is missing, unreadable, malformed or open to others.
    pub fn open(path: &Path) -> Result<Vault, VaultError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => VaultError::Missing(path.into()),
            _ => VaultError::Io {
                path: path.into(),
                source,
            },
        };
        let mode = fs::metadata(path).map_err(io_error)?.mode() & 0o777;
        if mode & MODE_REFUSED != 0 {
            return Err(VaultError::Exposed {
                path: path.into(),
                mode,
            });
        }
        let text = Zeroizing::new(fs::read(path).map_err(io_error)?);
        let mut key = Key::default();
        hex::decode_to_slice(text.trim_ascii(), &mut *key)
            .map_err(|_| VaultError::Malformed(path.into()))?;
        Ok(Vault::of(&key))
    }

    /// The vault of a key that was got elsewhere.
    #[must_use]
    pub fn of(key: &[u8; KEY_BYTES]) -> Vault {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"postrider vault 1");
        Vault {
            master: salt.extract(key),
        }
    }

    /// The sub-key for a use. The same label gives the same key for ever; labels are never reused
    /// for another use.
    ///
    /// # Panics
    /// Never: 32 bytes are within what HKDF can give.
    #[must_use]
    pub fn derive(&self, label: &str) -> Key {
        let mut key = Key::default();
        self.master
            .expand(&[label.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("HKDF gives up to 8,160 bytes");
        key
    }

    /// A cipher under the sub-key for a use.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn cipher(&self, label: &str) -> Result<Cipher, VaultError> {
        Cipher::new(&self.derive(label))
    }

    /// A fresh random data key: the cipher under it, and the key wrapped, to be kept.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn new_data_key(&self) -> Result<(Cipher, Vec<u8>), VaultError> {
        let key = random_key()?;
        let wrapped = self.cipher(WRAP_LABEL)?.seal(&[], &*key);
        Ok((Cipher::new(&key)?, wrapped))
    }

    /// The cipher under a data key that [`Vault::new_data_key`] wrapped.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] if it was wrapped under another master key.
    pub fn data_key(&self, wrapped: &[u8]) -> Result<Cipher, VaultError> {
        let opened = Zeroizing::new(self.cipher(WRAP_LABEL)?.open(&[], wrapped)?);
        let mut key = Key::default();
        if opened.len() != KEY_BYTES {
            return Err(VaultError::Sealed);
        }
        key.copy_from_slice(&opened);
        Cipher::new(&key)
    }
}

const WRAP_LABEL: &str = "wrap data keys";

/// Seals and opens under one key, from any thread.
pub struct Cipher {
    key: LessSafeKey,
    /// The first nonce, drawn at random.
    start: u128,
    sealed: AtomicU64,
}

impl Cipher {
    /// A cipher under `key`.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn new(key: &Key) -> Result<Cipher, VaultError> {
        let mut start = [0; 16];
        rand::fill(&mut start).map_err(|_| VaultError::Entropy)?;
        let key = UnboundKey::new(&AES_256_GCM, &**key).map_err(|_| VaultError::Sealed)?;
        Ok(Cipher {
            key: LessSafeKey::new(key),
            start: u128::from_le_bytes(start),
            sealed: AtomicU64::new(0),
        })
    }

    /// Seals `plain`. It opens only with the same `place`, so that sealed bytes cannot be moved.
    #[must_use]
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + SEAL_BYTES);
        self.seal_into(place, plain, &mut out);
        out
    }

    /// As [`Cipher::seal`], into a buffer that is overwritten.
    ///
    /// # Panics
    /// Only for more than 64 GiB of `plain`.
    pub fn seal_into(&self, place: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        let count = self.sealed.fetch_add(1, Ordering::Relaxed);
        let number = self.start.wrapping_add(u128::from(count)).to_le_bytes();
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&number[..NONCE_LEN]);
        out.clear();
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut out[NONCE_LEN..],
            )
            .expect("AES-GCM seals up to 64 GiB");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens what [`Cipher::seal`] made.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] if key or place are others, or the bytes have changed.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (nonce, rest) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or(VaultError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Sealed)?;
        let mut out = rest.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(place), &mut out)
            .map_err(|_| VaultError::Sealed)?
            .len();
        out.truncate(plain);
        Ok(out)
    }
}

/// 256 random bits.
///
/// # Errors
/// [`VaultError::Entropy`].
pub fn random_key() -> Result<Key, VaultError> {
    let mut key = Key::default();
    rand::fill(&mut *key).map_err(|_| VaultError::Entropy)?;
    Ok(key)
}

/// Makes a key file: written whole under another name first, so that no half of a key is ever
/// found; linked rather than renamed, so that of two processes only one makes the key.
fn create(path: &Path) -> Result<(), VaultError> {
    let key = random_key()?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o400)
            .open(&temporary)?;
        let text = Zeroizing::new(format!("{}\n", &*Zeroizing::new(hex::encode(*key))));
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let linked = match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        fs::remove_file(&temporary)?;
        linked?;
        match path.parent().filter(|parent| *parent != Path::new("")) {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => fs::File::open(".")?.sync_all(),
        }
    };
    write().map_err(|source| VaultError::Io {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_file_is_made_once_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MASTER_KEY_FILE);
        assert!(matches!(Vault::open(&path), Err(VaultError::Missing(_))));
        let first = Vault::open_or_create(&path).unwrap();
        let second = Vault::open_or_create(&path).unwrap();
        assert_eq!(first.derive("stamp"), second.derive("stamp"));
        assert_ne!(first.derive("stamp"), first.derive("other"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o404)).unwrap();
        assert!(matches!(
            Vault::open(&path),
            Err(VaultError::Exposed { mode: 0o404, .. })
        ));
    }

    #[test]
    fn sealed_bytes_open_only_under_their_key_and_at_their_place() {
        let vault = Vault::of(&[7; KEY_BYTES]);
        let (cipher, wrapped) = vault.new_data_key().unwrap();
        let sealed = cipher.seal(b"event 1", b"hello");
        assert_ne!(sealed, cipher.seal(b"event 1", b"hello"));
        assert_eq!(sealed.len(), 5 + SEAL_BYTES);

        let again = vault.data_key(&wrapped).unwrap();
        assert_eq!(again.open(b"event 1", &sealed).unwrap(), b"hello");
        assert!(again.open(b"event 2", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(again.open(b"event 1", &damaged).is_err());
        }
        assert!(Vault::of(&[8; KEY_BYTES]).data_key(&wrapped).is_err());
        assert!(again.open(b"event 1", &sealed[..4]).is_err());
    }
}
