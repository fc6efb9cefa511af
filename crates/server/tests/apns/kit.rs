//! Keys and tokens.

use postrider::fake::apns::Service;

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
        let pair = rcgen::KeyPair::generate().unwrap();
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

/// A device token.
pub fn token(number: u32) -> String {
    format!("{number:064x}")
}
