//! Keys, certificates and tokens.

use postrider::fake::apns::Service;
use postrider::registry::TlsProfile;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// The app that everything is for.
pub const APP: &str = "com.example.app";

/// A provider's key, as Apple hands it out.
pub struct Key {
    pub team: &'static str,
    pub id: &'static str,
    pub p8: String,
    public: Vec<u8>,
}

impl Key {
    pub fn new() -> Key {
        let pair = KeyPair::generate().unwrap();
        Key {
            team: "TEAM012345",
            id: "KEY0123456",
            p8: pair.serialize_pem(),
            public: pair.public_key_raw().to_vec(),
        }
    }

    pub fn trusted_by(&self, service: &Service) {
        service.trust(self.team, self.id, &self.public);
    }
}

/// A client certificate, and the authority that answers for it.
pub struct Pass {
    pub ca_pem: String,
    cert_pem: String,
    key_pem: String,
}

impl Pass {
    /// One that ends with this year.
    pub fn new(last_year: i32) -> Pass {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name for each, or one would be taken for another that signs badly.
        let name = format!("authority {:032x}", rand::random::<u128>());
        authority.distinguished_name.push(DnType::CommonName, name);
        let ca_key = KeyPair::generate().unwrap();
        let ca = authority.self_signed(&ca_key).unwrap();
        let mut params = CertificateParams::new(vec![APP.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority, ca_key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Pass {
            ca_pem: ca.pem(),
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Shows it to whoever asks.
    pub fn shown(&self, tls: TlsProfile) -> TlsProfile {
        TlsProfile {
            client_cert_pem: Some(self.cert_pem.clone()),
            client_key_pem: Some(self.key_pem.clone().into()),
            ..tls
        }
    }
}

/// A device token.
pub fn token(number: u32) -> String {
    format!("{number:064x}")
}
