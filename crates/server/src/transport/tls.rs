//! TLS: one client configuration for each distinct profile, shared by all that ask for the same.
//!
//! Sessions are resumed within a profile and never across two, because the session store is part
//! of the configuration. Early data is never sent: it can be replayed.
//!
//! Absent here: a way to switch verification off.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, RootCertStore, SupportedProtocolVersion};
use secrecy::ExposeSecret;

use crate::channel::{Fault, Trouble};
use crate::registry::{TlsProfile, TlsVersion};

/// Servers whose sessions are remembered for one profile.
const SESSIONS_MAX: usize = 1_024;

/// What the machine trusts, read once.
static NATIVE: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// The far side's alert, if it is about our certificate (RFC 8446 section 6.2).
pub(super) fn certificate_refused(error: &std::io::Error) -> Option<AlertDescription> {
    use AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired),
        ) => Some(*alert),
        _ => None,
    }
}

/// What becomes of a request on a connection whose far side does not take our certificate.
pub(super) fn not_taken(alert: AlertDescription) -> Trouble {
    Trouble::unsent(Fault::Tls, format!("{}: {alert:?}", Trouble::CERTIFICATE))
}

/// What two profiles with the same content have in common: a digest of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsIdentity([u8; 32]);

/// What is offered by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/2, else HTTP/1.1.
    Either,
    /// HTTP/2 and nothing else.
    Http2,
}

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The roots to trust cannot be read.
    #[error("the CA certificates are not PEM, or there is none")]
    Ca,
    /// The client certificate cannot be read.
    #[error("the client certificate is not PEM, or there is none")]
    Certificate,
    /// Its key cannot be read.
    #[error("the client key is not a PEM private key")]
    Key,
    /// One of certificate and key is there without the other, or they do not belong together.
    #[error("the client certificate and its key do not belong together")]
    Pair,
}

/// The configurations in use.
pub(super) struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    in_use: Mutex<HashMap<TlsIdentity, Weak<ClientConfig>>>,
}

impl TlsConfigs {
    pub(super) fn new() -> TlsConfigs {
        TlsConfigs {
            provider: Arc::new(aws_lc_rs::default_provider()),
            in_use: Mutex::default(),
        }
    }

    /// The configuration for a profile, made if nobody uses it yet.
    pub(super) fn config(
        &self,
        profile: &TlsProfile,
        speaks: Speaks,
    ) -> Result<(TlsIdentity, Arc<ClientConfig>), TlsFault> {
        let identity = identity(profile, speaks);
        let mut in_use = self.in_use.lock();
        if let Some(config) = in_use.get(&identity).and_then(Weak::upgrade) {
            return Ok((identity, config));
        }
        let config = Arc::new(self.build(profile, speaks)?);
        in_use.retain(|_, config| config.strong_count() > 0);
        in_use.insert(identity, Arc::downgrade(&config));
        Ok((identity, config))
    }

    fn build(&self, profile: &TlsProfile, speaks: Speaks) -> Result<ClientConfig, TlsFault> {
        let versions: &[&SupportedProtocolVersion] = match profile.min_version {
            TlsVersion::V1_3 => &[&TLS13],
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
        };
        let roots = match &profile.ca_pem {
            Some(pem) => Arc::new(private_roots(pem)?),
            None => NATIVE.get_or_init(native_roots).clone(),
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .expect("the provider knows both versions")
            .with_root_certificates(roots);
        let mut config = match (&profile.client_cert_pem, &profile.client_key_pem) {
            (None, None) => builder.with_no_client_auth(),
            (Some(chain), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
                builder
                    .with_client_auth_cert(client_chain(chain)?, key.map_err(|_| TlsFault::Key)?)
                    .map_err(|_| TlsFault::Pair)?
            }
            _ => return Err(TlsFault::Pair),
        };
        config.alpn_protocols = match speaks {
            Speaks::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Speaks::Http2 => vec![b"h2".to_vec()],
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(config)
    }
}

/// Checks that a profile can be used, for whoever writes an endpoint.
///
/// # Errors
/// [`TlsFault`].
pub fn check_tls(profile: &TlsProfile) -> Result<(), TlsFault> {
    TlsConfigs::new().build(profile, Speaks::Either).map(drop)
}

fn identity(profile: &TlsProfile, speaks: Speaks) -> TlsIdentity {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[
        u8::from(profile.min_version == TlsVersion::V1_2),
        u8::from(speaks == Speaks::Http2),
    ]);
    let key = profile
        .client_key_pem
        .as_ref()
        .map(ExposeSecret::expose_secret);
    for part in [
        profile.ca_pem.as_deref(),
        profile.client_cert_pem.as_deref(),
        key,
    ] {
        // Length first, so that no two profiles read the same; absent differs from empty.
        let length = part.map_or(u64::MAX, |text| text.len() as u64);
        hasher.update(&length.to_le_bytes());
        hasher.update(part.unwrap_or_default().as_bytes());
    }
    TlsIdentity(*hasher.finalize().as_bytes())
}

/// What the machine trusts. What cannot be read is left out; a machine that trusts nothing gets
/// TLS errors that say so.
fn native_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(
            ignored,
            errors = found.errors.len(),
            "the machine trusts no CA"
        );
    }
    Arc::new(roots)
}

fn private_roots(pem: &str) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| TlsFault::Ca)?;
        roots.add(certificate).map_err(|_| TlsFault::Ca)?;
    }
    if roots.is_empty() {
        Err(TlsFault::Ca)
    } else {
        Ok(roots)
    }
}

fn client_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    chain
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or(TlsFault::Certificate)
}
