//! Credentials of routes, checked when they come in: what cannot sign is refused at once, not at
//! the first attempt.
//!
//! Absent here: whether a provider accepts them, which only an attempt can find out.

use postrider_core::time::Time;
use secrecy::SecretString;

use super::web_push::vapid;
use super::{apns, fcm};
use crate::registry::{ApnsSigner, Credentials, VapidKey};

/// Credentials that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFault {
    /// Which field of the route.
    pub field: &'static str,
    /// Its value, where it is no secret.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

fn fault(field: &'static str, rule: &'static str, detail: impl ToString) -> CredentialFault {
    CredentialFault {
        field,
        value: String::new(),
        rule,
        detail: detail.to_string(),
    }
}

/// Keys of Web Push: this private key, or a new one.
///
/// # Errors
/// [`CredentialFault`].
pub fn web_push(
    subject: &str,
    private_key: Option<&SecretString>,
    now: Time,
) -> Result<Credentials, CredentialFault> {
    let rule = "must be a P-256 private key: 32 bytes in base64url";
    let field = "web_push.private_key";
    let private = private_key.cloned();
    let private = private.unwrap_or_else(vapid::VapidKey::generate);
    let key = vapid::VapidKey::parse(&private).map_err(|it| fault(field, rule, it))?;
    let rule = "must be mailto: or https: with a host that a push service can write to";
    vapid::Credentials::new(std::slice::from_ref(&private), subject).map_err(|it| {
        CredentialFault {
            value: subject.to_owned(),
            ..fault("web_push.subject", rule, it)
        }
    })?;
    Ok(Credentials::WebPush {
        subject: subject.to_owned(),
        keys: vec![VapidKey {
            public: key.public().to_owned(),
            private,
            created_at: now,
        }],
    })
}

/// Apple's: a key that signs provider tokens, or a client certificate that comes beside it.
///
/// # Errors
/// [`CredentialFault`].
pub fn apns(
    topic: &str,
    environment: apns::Environment,
    signer: Option<ApnsSigner>,
    has_certificate: bool,
) -> Result<Credentials, CredentialFault> {
    use secrecy::ExposeSecret as _;
    if !apns::is_bundle_id(topic) {
        return Err(CredentialFault {
            value: topic.to_owned(),
            ..fault("apns.topic", "must be the bundle id of an app", "")
        });
    }
    match &signer {
        Some(signer) => {
            let rule = "must be a team, a key id and the .p8 key that Apple gave out";
            let key = signer.key_pem.expose_secret();
            apns::ProviderTokens::new(&signer.team, &signer.key_id, key)
                .map_err(|it| fault("apns.key_pem", rule, it))?;
        }
        None if has_certificate => {}
        None => {
            let rule =
                "must be given with `team_id` and `key_id`, or a client certificate in `tls`";
            return Err(fault("apns.key_pem", rule, ""));
        }
    }
    Ok(Credentials::Apns {
        topic: topic.to_owned(),
        sandbox: environment == apns::Environment::Sandbox,
        signer,
    })
}

/// Google's: a service account.
///
/// # Errors
/// [`CredentialFault`].
pub fn fcm(service_account: &serde_json::Value) -> Result<Credentials, CredentialFault> {
    // Google's console hands out a file; some paste it as text.
    let text = match service_account {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rule = "must be the JSON of a service account's key";
    fcm::ServiceAccount::parse(&text).map_err(|it| fault("fcm.service_account", rule, it))?;
    Ok(Credentials::Fcm {
        service_account: text.into(),
    })
}
