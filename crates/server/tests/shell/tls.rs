//! Certificates, good and bad. They are made once for each process; nothing that a run logs or
//! decides depends on their bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// What a receiver shows in its handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    #[default]
    Good,
    Expired,
    WrongName,
    /// Nothing: the handshake stalls.
    Nothing,
}

/// What receivers show, and the authority behind all of it.
pub struct Certificates {
    pub authority_pem: String,
    configs: BTreeMap<(&'static str, Shown, bool), Arc<ServerConfig>>,
}

impl Certificates {
    pub fn new(names: &[&'static str]) -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority_pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let mut configs = BTreeMap::new();
        for name in names {
            for shown in [Shown::Good, Shown::Expired, Shown::WrongName] {
                for http2 in [false, true] {
                    let config = config(&issuer, name, shown, http2);
                    configs.insert((*name, shown, http2), Arc::new(config));
                }
            }
        }
        Certificates {
            authority_pem,
            configs,
        }
    }

    pub fn acceptor(&self, name: &'static str, shown: Shown, http2: bool) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.configs[&(name, shown, http2)]))
    }
}

fn config(
    issuer: &Issuer<'static, KeyPair>,
    name: &str,
    shown: Shown,
    http2: bool,
) -> ServerConfig {
    let name = match shown {
        Shown::WrongName => "somebody-else.example",
        _ => name,
    };
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = match shown {
        Shown::Expired => date_time_ymd(2021, 1, 1),
        _ => date_time_ymd(2096, 1, 1),
    };
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("they belong together");
    let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}
