//! A certificate made on the spot, good or bad.
//!
//! Absent here: trust. The certificate is its own root; its PEM is what a client has to be given.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use serde::{Deserialize, Serialize};

/// What is wrong with the certificate, if anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// Nothing.
    #[default]
    Good,
    /// It expired long ago.
    Expired,
    /// It is for another name.
    WrongName,
}

/// How TLS is offered.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// What is wrong with the certificate.
    pub certificate: Certificate,
    /// Only TLS 1.2 is spoken.
    pub only_1_2: bool,
    /// A client must show a certificate under these roots (PEM).
    pub client_ca_pem: Option<String>,
}

/// TLS cannot be offered so.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The roots for clients cannot be used.
    #[error("the roots for client certificates cannot be used: {0}")]
    ClientRoots(String),
    /// The library refused.
    #[error("TLS could not be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// The configuration of a server and the PEM by which it is trusted.
    pub(super) fn server(&self) -> Result<(Arc<ServerConfig>, String), TlsError> {
        let key = KeyPair::generate()?;
        let certificate = self.params()?.self_signed(&key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match self.only_1_2 {
            true => &[&version::TLS12],
            false => &[&version::TLS13, &version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?;
        let builder = match &self.client_ca_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots(pem)?.into(), provider)
                        .build()
                        .map_err(|error| TlsError::ClientRoots(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((Arc::new(config), certificate.pem()))
    }

    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let name = match self.certificate {
            Certificate::WrongName => "somebody-else.example",
            _ => "localhost",
        };
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        if self.certificate != Certificate::WrongName {
            for address in [
                IpAddr::from([127, 0, 0, 1]),
                IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1]),
            ] {
                params.subject_alt_names.push(SanType::IpAddress(address));
            }
        }
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match self.certificate {
            Certificate::Expired => date_time_ymd(2021, 1, 1),
            _ => date_time_ymd(2096, 1, 1),
        };
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params)
    }
}

fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| TlsError::ClientRoots(e.to_string()))?;
        roots
            .add(certificate)
            .map_err(|e| TlsError::ClientRoots(e.to_string()))?;
    }
    Ok(roots)
}
