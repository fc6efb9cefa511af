//! An endpoint as it comes in, whole or in part, and how it is checked.
//!
//! Absent here: whether its address may be reached, which is decided at the moment of connecting.

use postrider_core::id::PolicyId;
use postrider_core::policy::{Guarantee, RatePolicy};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::channel::webhook::{check_headers, parse_secret};
use crate::http::Api;
use crate::http::error::{Code, Problem};
use crate::registry::policy_body::{GuaranteeWord, RateBody};
use crate::registry::validate::{PEM_BYTES_MAX, webhook_url};
use crate::registry::{Endpoint, EndpointDraft, Kind, RegistryError, TlsProfile, TlsVersion};
use crate::transport::check_tls;

/// The policy of an endpoint that names none.
const DEFAULT_POLICY: &str = "brief";

/// An endpoint that is to be.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewEndpoint)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointIn {
    /// Where to deliver to, `https://…`.
    url: String,
    /// Your own words for it.
    #[serde(default)]
    name: String,
    /// The person or system it belongs to.
    #[serde(default)]
    recipient: String,
    /// Event types it subscribes to: `order.paid`, `order.*` or `*`.
    #[serde(default)]
    event_types: Vec<String>,
    /// The policy its deliveries are admitted under, by name.
    #[serde(default)]
    policy: Option<String>,
    /// Overrides the policy's guarantee.
    #[serde(default)]
    guarantee: Option<GuaranteeWord>,
    /// Overrides the policy's rate.
    #[serde(default)]
    rate: Option<RateBody>,
    /// Overrides the policy's attempts under way at once.
    #[serde(default)]
    slots_max: Option<u16>,
    /// Signing secret, `whsec_` and base64 of 24 to 64 bytes. Drawn at random where there is none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
    /// How TLS is spoken to it.
    #[serde(default)]
    tls: TlsIn,
    /// Headers added to each request, as pairs of name and value.
    #[serde(default)]
    headers: Vec<(String, String)>,
}

/// What is to change of an endpoint. What is absent stays; `null` takes an override away.
#[derive(Deserialize, ToSchema)]
#[schema(as = EndpointChange)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointPatch {
    /// Where to deliver to from now on.
    #[serde(default)]
    url: Option<String>,
    /// Your own words for it.
    #[serde(default)]
    name: Option<String>,
    /// The person or system it belongs to.
    #[serde(default)]
    recipient: Option<String>,
    /// Event types it subscribes to.
    #[serde(default)]
    event_types: Option<Vec<String>>,
    /// The policy its deliveries are admitted under, by name.
    #[serde(default)]
    policy: Option<String>,
    /// Overrides the policy's guarantee.
    #[serde(default, deserialize_with = "given")]
    guarantee: Option<Option<GuaranteeWord>>,
    /// Overrides the policy's rate.
    #[serde(default, deserialize_with = "given")]
    rate: Option<Option<RateBody>>,
    /// Overrides the policy's attempts under way at once.
    #[serde(default, deserialize_with = "given")]
    slots_max: Option<Option<u16>>,
    /// How TLS is spoken to it, as a whole.
    #[serde(default)]
    tls: Option<TlsIn>,
    /// Headers added to each request, as a whole.
    #[serde(default)]
    headers: Option<Vec<(String, String)>>,
}

/// How TLS is spoken to an endpoint.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = Tls)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsIn {
    /// `1.3` or `1.2`.
    #[serde(default)]
    min_version: Option<String>,
    /// Roots to trust instead of the system's, as PEM.
    #[serde(default)]
    ca_pem: Option<String>,
    /// Client certificate chain as PEM.
    #[serde(default)]
    client_cert_pem: Option<String>,
    /// Its private key as PEM. Never shown again.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_key_pem: Option<SecretString>,
}

/// Tells `null` from absent.
fn given<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

impl EndpointIn {
    /// The endpoint that this asks for.
    pub(super) fn draft(self, api: &Api) -> Result<EndpointDraft, Problem> {
        if let Some(secret) = &self.secret {
            check_secret(secret)?;
        }
        Ok(EndpointDraft {
            url: webhook_url(&self.url, api.allow_http)?,
            kind: Kind::Webhook,
            route: None,
            device: None,
            name: self.name,
            recipient: self.recipient,
            event_types: self.event_types,
            policy: policy_named(api, self.policy.as_deref().unwrap_or(DEFAULT_POLICY))?,
            guarantee: self.guarantee.map(Guarantee::from),
            rate: self.rate.map(RatePolicy::from),
            slots_max: self.slots_max,
            secret: self.secret,
            tls: self.tls.profile()?,
            headers: checked(self.headers)?,
        })
    }
}

impl EndpointPatch {
    /// The change that this asks for, checked as far as it can be without the endpoint.
    pub(super) fn edit(
        self,
        api: &Api,
    ) -> Result<impl FnOnce(&mut Endpoint) -> Result<(), RegistryError> + use<>, Problem> {
        let url = self
            .url
            .map(|url| webhook_url(&url, api.allow_http))
            .transpose()?;
        let policy = self
            .policy
            .map(|name| policy_named(api, &name))
            .transpose()?;
        let tls = self.tls.map(TlsIn::profile).transpose()?;
        let headers = self.headers.map(checked).transpose()?;
        let (name, recipient, event_types) = (self.name, self.recipient, self.event_types);
        let (guarantee, rate, slots_max) = (self.guarantee, self.rate, self.slots_max);
        Ok(move |endpoint: &mut Endpoint| {
            put(&mut endpoint.url, url);
            put(&mut endpoint.name, name);
            put(&mut endpoint.recipient, recipient);
            put(&mut endpoint.event_types, event_types);
            put(&mut endpoint.policy, policy);
            put(
                &mut endpoint.guarantee,
                guarantee.map(|word| word.map(Guarantee::from)),
            );
            put(
                &mut endpoint.rate,
                rate.map(|rate| rate.map(RatePolicy::from)),
            );
            put(&mut endpoint.slots_max, slots_max);
            put(&mut endpoint.tls, tls);
            put(&mut endpoint.headers, headers);
            Ok(())
        })
    }
}

impl TlsIn {
    /// It holds a client certificate and its key.
    pub(super) fn has_client_certificate(&self) -> bool {
        self.client_cert_pem.is_some() && self.client_key_pem.is_some()
    }

    pub(super) fn profile(self) -> Result<TlsProfile, Problem> {
        let min_version = match self.min_version.as_deref() {
            None | Some("1.3") => TlsVersion::V1_3,
            Some("1.2") => TlsVersion::V1_2,
            Some(other) => {
                return Err(Problem::invalid(
                    "tls.min_version",
                    other,
                    "must be 1.3 or 1.2",
                ));
            }
        };
        let key_bytes = self.client_key_pem.as_ref().map_or(0, |key| {
            use secrecy::ExposeSecret as _;
            key.expose_secret().len()
        });
        let pem_bytes =
            [&self.ca_pem, &self.client_cert_pem].map(|pem| pem.as_ref().map_or(0, String::len));
        if pem_bytes
            .into_iter()
            .chain([key_bytes])
            .any(|bytes| bytes > PEM_BYTES_MAX)
        {
            return Err(Problem::invalid(
                "tls",
                "",
                "must have at most 64 KiB in each PEM text",
            ));
        }
        let profile = TlsProfile {
            min_version,
            ca_pem: self.ca_pem,
            client_cert_pem: self.client_cert_pem,
            client_key_pem: self.client_key_pem,
        };
        check_tls(&profile).map_err(|fault| {
            Problem::invalid("tls", "", "must be usable").detail(fault.to_string())
        })?;
        Ok(profile)
    }
}

/// A signing secret that can sign.
pub(super) fn check_secret(secret: &SecretString) -> Result<(), Problem> {
    use secrecy::ExposeSecret as _;
    let fault = |fault: crate::channel::webhook::SecretFault| {
        let rule = "must be whsec_ and base64 of 24 to 64 bytes";
        Problem::invalid("secret", "", rule).detail(fault.to_string())
    };
    parse_secret(secret.expose_secret())
        .map(drop)
        .map_err(fault)
}

fn checked(headers: Vec<(String, String)>) -> Result<Vec<(String, String)>, Problem> {
    check_headers(&headers).map_err(|fault| {
        let rule = "must be headers that an endpoint may add";
        Problem::invalid("headers", "", rule).detail(fault.to_string())
    })?;
    Ok(headers)
}

pub(super) fn policy_named(api: &Api, name: &str) -> Result<PolicyId, Problem> {
    let rule = "must be the name of a policy; see /v1/policies";
    match api.registry.policies().named(name) {
        Some(policy) => Ok(policy.id),
        None if name == DEFAULT_POLICY => Err(Problem::of(Code::Internal)),
        None => Err(Problem::invalid("policy", name, rule)),
    }
}

fn put<T>(place: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *place = new;
    }
}
