//! API keys: `pr_<env>_<id>_<secret><check>`, stored as a keyed hash.
//!
//! The secret has 256 random bits, so a fast hash is enough: there is nothing to guess. The hash is
//! keyed by the master key, so a stolen `control.db` cannot even confirm a key. The check is
//! CRC-32C over everything before it, so that a scanner can tell a leaked key from noise, and a
//! mistyped one is named as such without a look-up.
//!
//! Absent here: what a role may do (see `http::access`).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use postrider_core::id::TenantId;
use postrider_core::time::Time;
use secrecy::{ExposeSecret, SecretString};

use super::{Registry, RegistryError, validate};

/// Random bytes of a secret: 256 bits.
const SECRET_BYTES: usize = 32;
/// Hexadecimal digits of the check.
const CHECK_DIGITS: usize = 8;
/// Bytes of a key's text at most, which bounds what a header is parsed for.
pub const KEY_TEXT_BYTES_MAX: usize = 128;

/// What a key's owner may do; the matrix is `http::access::MATRIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Runs the installation: everything, everywhere.
    Operator = 1,
    /// Runs a tenant: everything inside of it.
    Admin = 2,
    /// An application: submits events, keeps endpoints, reads what became of them.
    Writer = 3,
    /// Reads everything, changes nothing.
    Reader = 4,
    /// A support person: sees deliveries and endpoints, cannot see policies or keys.
    Support = 5,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Role; 5] = [
        Role::Operator,
        Role::Admin,
        Role::Writer,
        Role::Reader,
        Role::Support,
    ];

    /// The word that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Admin => "admin",
            Role::Writer => "writer",
            Role::Reader => "reader",
            Role::Support => "support",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The role with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Role> {
        Role::ALL.into_iter().find(|&role| role as u8 == number)
    }
}

/// A key as it is kept. The secret is not in it.
#[derive(Debug)]
pub struct ApiKey {
    /// The public half of its name.
    pub id: u64,
    /// Keyed hash of the secret half.
    pub hash: [u8; 32],
    /// The owner's own words for it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Inside of which tenant; `None` is the whole installation.
    pub tenant: Option<TenantId>,
    /// When it was created.
    pub created_at: Time,
    /// From when on it is no longer taken.
    pub expires_at: Option<Time>,
    /// Since when it is no longer taken.
    pub revoked_at: Option<Time>,
    /// When it was used last, in milliseconds since 1970, 0 for never. Written to disk lazily.
    pub(super) last_used_ms: AtomicI64,
    pub(super) written_last_used_ms: AtomicI64,
    pace: DefaultDirectRateLimiter,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct KeyDraft {
    /// The owner's own words for it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Inside of which tenant; `None`, for operators and for readers, is the whole installation.
    pub tenant: Option<TenantId>,
    /// From when on it is no longer taken.
    pub expires_at: Option<Time>,
    /// A word such as `live` or `dev` that shows in the key what it opens.
    pub environment: String,
}

/// A key's text, shown once.
pub type KeyText = SecretString;

/// Keys by their ids.
pub(super) type KeyRing = HashMap<u64, Arc<ApiKey>>;

/// Why a key was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// It is not spelled like a key, or its check does not fit.
    #[error("this is not a key, or it was mistyped")]
    Malformed,
    /// No such key, or a wrong secret.
    #[error("this key is not known")]
    Unknown,
    /// It was revoked.
    #[error("this key was revoked")]
    Revoked,
    /// Its time is over.
    #[error("this key has expired")]
    Expired,
}

/// How many requests one key may make.
#[derive(Clone, Copy, Debug)]
pub struct KeyPace {
    /// Requests a second.
    pub requests_per_s: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

/// The pace where the configuration names none: beyond what one key's owner means to send, below
/// what keeps others out.
pub const KEY_PACE: KeyPace = KeyPace {
    requests_per_s: NonZeroU32::new(20_000).unwrap(),
    burst: NonZeroU32::new(40_000).unwrap(),
};

impl ApiKey {
    /// Builds a key as it is kept.
    #[allow(clippy::too_many_arguments)] // a row of the table, column by column
    pub(super) fn of_row(
        id: u64,
        hash: [u8; 32],
        name: String,
        role: Role,
        tenant: Option<TenantId>,
        created_at: Time,
        expires_at: Option<Time>,
        revoked_at: Option<Time>,
        last_used_ms: i64,
        pace: KeyPace,
    ) -> ApiKey {
        let quota = Quota::per_second(pace.requests_per_s).allow_burst(pace.burst);
        ApiKey {
            id,
            hash,
            name,
            role,
            tenant,
            created_at,
            expires_at,
            revoked_at,
            last_used_ms: AtomicI64::new(last_used_ms),
            written_last_used_ms: AtomicI64::new(last_used_ms),
            pace: RateLimiter::direct(quota),
        }
    }

    /// When it was used last, as far as is known.
    #[must_use]
    pub fn last_used_at(&self) -> Option<Time> {
        match self.last_used_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Time(ms)),
        }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// Milliseconds to wait, when the key has used up its pace.
    pub fn pace(&self) -> Result<(), u64> {
        self.pace.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
        })
    }

    /// Whether it is taken at `now`.
    ///
    /// # Errors
    /// [`KeyRefused::Revoked`] or [`KeyRefused::Expired`].
    pub fn check(&self, now: Time) -> Result<(), KeyRefused> {
        if self.revoked_at.is_some() {
            return Err(KeyRefused::Revoked);
        }
        match self.expires_at {
            Some(at) if at <= now => Err(KeyRefused::Expired),
            _ => Ok(()),
        }
    }
}

impl Registry {
    /// Creates a key. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] or [`RegistryError::Storage`].
    pub fn create_key(
        &self,
        draft: KeyDraft,
        now: Time,
    ) -> Result<(Arc<ApiKey>, KeyText), RegistryError> {
        check(&draft)?;
        let mut secret = [0_u8; SECRET_BYTES];
        rand::fill(&mut secret[..]);
        let mut db = self.db.lock();
        let id = loop {
            // The sign bit stays clear: the id is a rowid.
            let id: u64 = rand::random::<u64>() >> 1;
            if !self.keys.read().contains_key(&id) {
                break id;
            }
        };
        let text = spell(&draft.environment, id, &secret);
        let hash = *blake3::keyed_hash(&self.pepper, &secret).as_bytes();
        let key = ApiKey::of_row(
            id,
            hash,
            draft.name,
            draft.role,
            draft.tenant,
            now,
            draft.expires_at,
            None,
            0,
            self.pace,
        );
        db.insert_key(&key)?;
        let key = Arc::new(key);
        self.keys.write().insert(id, Arc::clone(&key));
        Ok((key, text))
    }

    /// The key that `text` spells, if it is taken at `now`.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn authenticate(&self, text: &str, now: Time) -> Result<Arc<ApiKey>, KeyRefused> {
        let (id, secret) = parse(text).ok_or(KeyRefused::Malformed)?;
        let hash = blake3::keyed_hash(&self.pepper, &secret);
        let key = self.keys.read().get(&id).cloned();
        // `blake3::Hash` compares in constant time. An unknown id costs the same comparison.
        let expected = key.as_ref().map_or([0; 32], |key| key.hash);
        if hash != blake3::Hash::from_bytes(expected) {
            return Err(KeyRefused::Unknown);
        }
        let key = key.ok_or(KeyRefused::Unknown)?;
        key.check(now)?;
        key.last_used_ms.store(now.0, Ordering::Relaxed);
        Ok(key)
    }

    /// Keys of a tenant, or all there are, newest first, revoked ones included.
    #[must_use]
    pub fn keys(&self, tenant: Option<TenantId>) -> Vec<Arc<ApiKey>> {
        let keys = self.keys.read();
        let mine = |key: &&Arc<ApiKey>| tenant.is_none() || key.tenant == tenant;
        let mut keys: Vec<_> = keys.values().filter(mine).cloned().collect();
        keys.sort_unstable_by_key(|key| std::cmp::Reverse((key.created_at, key.id)));
        keys
    }

    /// The key with this id.
    #[must_use]
    pub fn key(&self, id: u64) -> Option<Arc<ApiKey>> {
        self.keys.read().get(&id).cloned()
    }

    /// Takes a key no longer, from this moment on. Revoking twice changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Absent`] or [`RegistryError::Storage`].
    pub fn revoke_key(&self, id: u64, now: Time) -> Result<Arc<ApiKey>, RegistryError> {
        let mut db = self.db.lock();
        let old = self.key(id).ok_or(RegistryError::Absent("key"))?;
        if old.revoked_at.is_some() {
            return Ok(old);
        }
        db.revoke_key(id, now)?;
        let key = Arc::new(ApiKey::of_row(
            id,
            old.hash,
            old.name.clone(),
            old.role,
            old.tenant,
            old.created_at,
            old.expires_at,
            Some(now),
            old.last_used_ms.load(Ordering::Relaxed),
            self.pace,
        ));
        self.keys.write().insert(id, Arc::clone(&key));
        Ok(key)
    }

    /// Writes down when keys were used last. Called now and then, and at the end.
    ///
    /// # Errors
    /// [`RegistryError::Storage`].
    pub fn write_last_used(&self) -> Result<(), RegistryError> {
        let used = |key: &Arc<ApiKey>| {
            let at = key.last_used_ms.load(Ordering::Relaxed);
            (key.written_last_used_ms.swap(at, Ordering::Relaxed) != at).then_some((key.id, at))
        };
        let changed: Vec<(u64, i64)> = self.keys.read().values().filter_map(used).collect();
        if changed.is_empty() {
            return Ok(());
        }
        self.db.lock().write_last_used(&changed)
    }
}

fn check(draft: &KeyDraft) -> Result<(), RegistryError> {
    validate::name("name", &draft.name)?;
    let environment = &draft.environment;
    if !(1..=8).contains(&environment.len()) || !environment.bytes().all(|b| b.is_ascii_lowercase())
    {
        let rule = "must be 1 to 8 lower-case letters";
        return Err(validate::Invalid::shown("environment", environment, rule).into());
    }
    let rule = match (draft.role, draft.tenant) {
        (Role::Operator, Some(_)) => "must not be `operator` inside a tenant; use `admin`",
        (Role::Admin | Role::Writer, None) => "must be bound to a tenant, unless it is `operator`",
        _ => return Ok(()),
    };
    Err(validate::Invalid::shown("role", draft.role.name(), rule).into())
}

fn spell(environment: &str, id: u64, secret: &[u8; SECRET_BYTES]) -> KeyText {
    let body = format!("pr_{environment}_{id:016x}_{}", hex::encode(secret));
    let check = crc32c::crc32c(body.as_bytes());
    format!("{body}{check:08x}").into()
}

fn parse(text: &str) -> Option<(u64, [u8; SECRET_BYTES])> {
    if text.len() > KEY_TEXT_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    let (body, check) = text.split_at_checked(text.len().checked_sub(CHECK_DIGITS)?)?;
    if u32::from_str_radix(check, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
        return None;
    }
    let mut parts = body.strip_prefix("pr_")?.splitn(3, '_');
    let (_environment, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let mut bytes = [0; SECRET_BYTES];
    hex::decode_to_slice(secret, &mut bytes).ok()?;
    Some((u64::from_str_radix(id, 16).ok()?, bytes))
}

/// What may be shown of a key's text: its beginning, up to the id.
#[must_use]
pub fn prefix_of(text: &KeyText) -> String {
    let text = text.expose_secret();
    text.rsplit_once('_')
        .map_or("", |(prefix, _)| prefix)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Vault;

    fn draft(role: Role, tenant: Option<u32>) -> KeyDraft {
        KeyDraft {
            name: "shop".into(),
            role,
            tenant: tenant.map(TenantId),
            expires_at: Some(Time(1_000)),
            environment: "live".into(),
        }
    }

    #[test]
    fn a_key_is_taken_until_it_expires_or_is_revoked() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id.0;
        let (key, text) = registry
            .create_key(draft(Role::Writer, Some(tenant)), Time(1))
            .unwrap();
        let text = text.expose_secret();
        assert!(
            text.starts_with(&format!("pr_live_{:016x}_", key.id)),
            "{text}"
        );
        assert_eq!(registry.authenticate(text, Time(999)).unwrap().id, key.id);
        assert_eq!(key.last_used_at(), Some(Time(999)));
        assert_eq!(
            registry.authenticate(text, Time(1_000)).unwrap_err(),
            KeyRefused::Expired
        );
        registry.revoke_key(key.id, Time(5)).unwrap();
        assert_eq!(
            registry.authenticate(text, Time(10)).unwrap_err(),
            KeyRefused::Revoked
        );
    }

    #[test]
    fn the_last_use_survives_once_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::of(&[7; 32]);
        let registry = Registry::open(dir.path(), &vault, KEY_PACE).unwrap();
        let (key, text) = registry
            .create_key(draft(Role::Reader, None), Time(1))
            .unwrap();
        registry.write_last_used().unwrap();
        registry
            .authenticate(text.expose_secret(), Time(500))
            .unwrap();
        registry.write_last_used().unwrap();
        drop(registry);
        let registry = Registry::open(dir.path(), &vault, KEY_PACE).unwrap();
        assert_eq!(
            registry.key(key.id).unwrap().last_used_at(),
            Some(Time(500))
        );
        // A key outlives a restart, and so does what it opens.
        let again = registry.authenticate(text.expose_secret(), Time(600));
        assert_eq!(again.unwrap().role, Role::Reader);
    }

    #[test]
    fn no_other_spelling_opens_the_door() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let (key, text) = registry
            .create_key(draft(Role::Operator, None), Time(1))
            .unwrap();
        let text = text.expose_secret().to_owned();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(bytes).unwrap();
            let refused = registry.authenticate(&other, Time(2)).unwrap_err();
            assert_eq!(refused, KeyRefused::Malformed, "{at}");
        }
        // Well spelled, with another secret or another id.
        for other in [
            spell("live", key.id, &[7; 32]),
            spell("live", key.id ^ 1, &[7; 32]),
        ] {
            let refused = registry
                .authenticate(other.expose_secret(), Time(2))
                .unwrap_err();
            assert_eq!(refused, KeyRefused::Unknown);
        }
        for other in ["", "pr_", "pr_live_1_2", "Bearer x", &"p".repeat(500), "ü"] {
            assert!(registry.authenticate(other, Time(2)).is_err(), "{other}");
        }
    }

    #[test]
    fn the_role_has_to_fit_the_scope() {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id.0;
        for (role, scope, fits) in [
            (Role::Operator, None, true),
            (Role::Operator, Some(tenant), false),
            (Role::Admin, None, false),
            (Role::Admin, Some(tenant), true),
            (Role::Writer, None, false),
            (Role::Reader, None, true),
            (Role::Support, Some(tenant), true),
        ] {
            let made = registry.create_key(draft(role, scope), Time(1));
            assert_eq!(made.is_ok(), fits, "{role:?} {scope:?}");
        }
    }

    #[test]
    fn a_burst_beyond_the_pace_is_told_when_to_come_back() {
        let pace = KeyPace {
            requests_per_s: NonZeroU32::new(1).unwrap(),
            burst: NonZeroU32::new(3).unwrap(),
        };
        let name = "a".to_owned();
        let key = ApiKey::of_row(
            1,
            [0; 32],
            name,
            Role::Reader,
            None,
            Time(0),
            None,
            None,
            0,
            pace,
        );
        for _ in 0..3 {
            assert!(key.pace().is_ok());
        }
        let wait_ms = key.pace().unwrap_err();
        assert!((1..=1_000).contains(&wait_ms), "{wait_ms}");
    }
}
