//! A service account as Google's console gives it out: the JSON file of a key.
//!
//! Absent here: using it; see [`super::oauth`].

use aws_lc_rs::signature::RsaKeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use url::Url;

/// Bytes of such a file at most; real ones have about 2,400.
pub const ACCOUNT_BYTES_MAX: usize = 16 * 1_024;
/// Bytes of a project id at most. Google allows 30 characters; a number of a project is shorter.
const PROJECT_BYTES_MAX: usize = 64;

/// Who sends, and the key that proves it.
#[derive(Debug)]
pub struct ServiceAccount {
    /// The Firebase project that is sent for, as it stands in the path of a request.
    pub project: String,
    /// The account's address: who asks for a token.
    pub email: String,
    /// Name of the key, or empty.
    pub key_id: String,
    /// Where assertions become access tokens.
    pub token_url: Url,
    /// The private key.
    pub(super) key: RsaKeyPair,
}

/// Why a file is no service account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountFault {
    /// It is longer than any is.
    #[error("the service account has more than {ACCOUNT_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON object with the members of a service account.
    #[error(
        "the service account is not the JSON that the Google console gives out: an object with \
         `type`, `project_id`, `client_email`, `private_key` and `token_uri`"
    )]
    Malformed,
    /// It belongs to something else, such as a person's own credentials.
    #[error("the credentials are of another `type` than `service_account`")]
    Kind,
    /// The project's name cannot stand in a path.
    #[error("`project_id` is not the name or number of a project")]
    Project,
    /// The address is none.
    #[error("`client_email` is not an address")]
    Email,
    /// The token URL is none.
    #[error("`token_uri` is not an http(s) URL with a host")]
    TokenUrl,
    /// The key cannot be used.
    #[error("`private_key` is not an RSA key of 2,048 to 8,192 bits as PKCS#8 PEM")]
    Key,
}

/// The members that matter. The others (`client_id`, certificates' URLs) are not read.
#[derive(Deserialize)]
struct File {
    r#type: String,
    project_id: String,
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: String,
}

impl File {
    fn read(json: &str) -> Result<File, AccountFault> {
        if json.len() > ACCOUNT_BYTES_MAX {
            return Err(AccountFault::TooLong);
        }
        let file: File = serde_json::from_str(json).map_err(|_| AccountFault::Malformed)?;
        if file.r#type != "service_account" {
            return Err(AccountFault::Kind);
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let project = &file.project_id;
        if project.is_empty() || project.len() > PROJECT_BYTES_MAX || !project.bytes().all(fits) {
            return Err(AccountFault::Project);
        }
        Ok(file)
    }
}

/// The project that a file's account sends for. Reads no key, so it is cheap.
///
/// # Errors
/// [`AccountFault`], for what comes before the account's address.
pub fn project(json: &str) -> Result<String, AccountFault> {
    File::read(json).map(|file| file.project_id)
}

impl ServiceAccount {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`AccountFault`]; none repeats anything of the text.
    pub fn parse(json: &str) -> Result<ServiceAccount, AccountFault> {
        let file = File::read(json)?;
        if !file.client_email.contains('@') || !file.client_email.is_ascii() {
            return Err(AccountFault::Email);
        }
        let token_url = Url::parse(&file.token_uri).map_err(|_| AccountFault::TokenUrl)?;
        if !matches!(token_url.scheme(), "https" | "http") || token_url.host_str().is_none() {
            return Err(AccountFault::TokenUrl);
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes());
        let der = der.map_err(|_| AccountFault::Key)?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| AccountFault::Key)?;
        Ok(ServiceAccount {
            project: file.project_id,
            email: file.client_email,
            key_id: file.private_key_id,
            token_url,
            key,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ACCOUNT_BYTES_MAX, AccountFault, ServiceAccount};
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
    use serde_json::{Value, json};

    /// A service account with a new key, and the same as JSON.
    pub(in crate::channel::fcm) fn account() -> (ServiceAccount, Value) {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der = key.as_der().unwrap();
        let json = json!({
            "type": "service_account",
            "project_id": "demo-project",
            "private_key_id": "k1",
            "private_key": pem("PRIVATE KEY", der.as_ref()),
            "client_email": "sender@demo-project.iam.gserviceaccount.com",
            "client_id": "100",
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        (ServiceAccount::parse(&json.to_string()).unwrap(), json)
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).collect();
        let lines: Vec<_> = lines.iter().map(|l| str::from_utf8(l).unwrap()).collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    }

    #[test]
    fn the_console_s_file_is_read_and_what_is_wrong_is_named() {
        let (account, json) = account();
        assert_eq!(account.project, "demo-project");
        assert_eq!(
            account.token_url.as_str(),
            "https://oauth2.googleapis.com/token"
        );
        let with = |member: &str, value: Value| {
            let mut json = json.clone();
            json[member] = value;
            ServiceAccount::parse(&json.to_string()).unwrap_err()
        };
        assert_eq!(with("type", json!("authorized_user")), AccountFault::Kind);
        assert_eq!(with("project_id", json!("a/b")), AccountFault::Project);
        assert_eq!(with("project_id", json!("")), AccountFault::Project);
        assert_eq!(with("client_email", json!("nobody")), AccountFault::Email);
        assert_eq!(
            with("token_uri", json!("file:///etc/passwd")),
            AccountFault::TokenUrl
        );
        assert_eq!(with("token_uri", json!(7)), AccountFault::Malformed);
        assert_eq!(with("private_key", json!("x")), AccountFault::Key);
        let wrong = pem("PRIVATE KEY", b"not a key");
        assert_eq!(with("private_key", json!(wrong)), AccountFault::Key);
        let long = " ".repeat(ACCOUNT_BYTES_MAX + 1);
        assert_eq!(
            ServiceAccount::parse(&long).unwrap_err(),
            AccountFault::TooLong
        );
        assert_eq!(
            ServiceAccount::parse("[]").unwrap_err(),
            AccountFault::Malformed
        );
    }

    #[test]
    fn no_fault_repeats_the_key() {
        let fault = ServiceAccount::parse(r#"{"private_key":"s3cret"}"#).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("s3cret"));
    }
}
