//! What a development engine has besides: a tenant, two people, keys, a sink that verifies
//! signatures and is every push provider too, and lines to try.
//!
//! Absent here: anything that an engine in earnest would use. It listens on loopback only.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use postrider_core::id::TenantId;
use secrecy::ExposeSecret as _;

use crate::channel::web_push::vapid;
use crate::cli::client::{DEV_FILE, DevFile};
use crate::cli::failure::Failure;
use crate::cli::show;
use crate::config::{Config, LogFormat, Network};
use crate::fake::{Behaviour, Fake, Settings};
use crate::registry::{
    Credentials, EndpointDraft, KeyDraft, Registry, RegistryError, Role, RouteDraft, TlsProfile,
    VapidKey,
};
use crate::run::Node;

/// Where the sink listens where nothing else is said.
pub const SINK: &str = "127.0.0.1:8460";
/// The tenant that everything belongs to.
const TENANT: &str = "dev";
/// Recipients with one endpoint each, at the sink.
const PEOPLE: [&str; 2] = ["anna", "bo"];
/// The route to browsers, and who answers for it.
const BROWSERS: &str = "browsers";
const SUBJECT: &str = "mailto:dev@example.com";
/// Networks that a development engine may deliver to.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// Bytes of each body that the sink keeps.
const BODY_KEEP_BYTES: usize = 1_024;

/// What exists as long as the engine does.
pub struct Dev {
    file: DevFile,
    sink: Option<Fake>,
    /// What pages subscribe with.
    browser_key: String,
}

/// Starts the sink and the push providers, and lets the engine reach them. Without them it is as
/// good; another development engine may have the ports.
pub async fn fakes(config: &mut Config, sink: SocketAddr) -> Option<Fake> {
    let after = |ports| {
        let port = match sink.port() {
            0 => 0,
            port => port.saturating_add(ports),
        };
        Some(SocketAddr::new(sink.ip(), port))
    };
    let settings = Settings {
        listen: sink,
        browsers: after(1),
        apns: after(2),
        body_keep_bytes: BODY_KEEP_BYTES,
        ..Settings::default()
    };
    match Fake::start(settings).await {
        Ok(fake) => {
            config.push.extra_hosts.push(fake.address().to_string());
            Some(fake)
        }
        Err(error) => {
            eprintln!("no sink is started: {error}; --sink names another address");
            None
        }
    }
}

/// Makes a configuration fit for development, or says why it cannot be.
pub fn adjust(config: &mut Config) -> Result<(), Failure> {
    let beyond = [Some(config.server.listen), config.server.admin_listen]
        .into_iter()
        .flatten()
        .find(|at| !at.ip().is_loopback());
    if let Some(at) = beyond {
        return Err(
            Failure::usage(format!("--dev listens on loopback only, not on {at}")).hint(
                "a development engine hands its key to whoever reads its files; leave --dev out",
            ),
        );
    }
    let networks = LOOPBACK
        .iter()
        .filter_map(|network| network.parse::<Network>().ok());
    config.network.allow.extend(networks);
    config.network.allow_http = true;
    if config.log == crate::config::Log::default() {
        config.log.format = LogFormat::Text;
    }
    Ok(())
}

impl Dev {
    /// Makes what is not there yet from an earlier start, and leaves word for the other verbs.
    pub fn prepare(
        config: &Config,
        node: &Node,
        address: SocketAddr,
        sink: Option<Fake>,
    ) -> Result<Dev, Failure> {
        let directory = &config.store.dir;
        let not_made = |error: RegistryError| {
            Failure::no("the development tenant could not be made").because(error)
        };
        let before = DevFile::read(directory);
        let tenant = node
            .registry
            .ensure_tenant(TENANT, node.clock.now())
            .map_err(not_made)?
            .id;
        let whole = before.as_ref().map(|dev| dev.key.as_str());
        let inside = before.as_ref().map(|dev| dev.tenant_key.as_str());
        let file = DevFile {
            url: format!("http://{address}"),
            key: key(node, whole, Role::Operator, None).map_err(not_made)?,
            tenant: TENANT.to_owned(),
            tenant_key: key(node, inside, Role::Admin, Some(tenant)).map_err(not_made)?,
        };
        write(directory, &file).map_err(|error| {
            Failure::no(format!("{DEV_FILE} could not be written")).because(error)
        })?;
        if let Some(sink) = &sink {
            settle(&node.registry, node, tenant, sink).map_err(not_made)?;
        }
        let browser_key = browsers(node, tenant).map_err(not_made)?;
        Ok(Dev {
            file,
            sink,
            browser_key,
        })
    }

    /// Says where everything is, and three lines to try.
    pub fn introduce(&self) {
        let DevFile {
            url, tenant_key, ..
        } = &self.file;
        let bearer = format!("-H 'Authorization: Bearer {tenant_key}'");
        let mut page = format!("API   {url}  (description: {url}/docs)\nkey   {tenant_key}\n");
        if let Some(sink) = &self.sink {
            page += &format!(
                "sink  {}  (what arrived: {})\n",
                sink.url("/"),
                sink.url("/_/requests")
            );
            page += &self.providers(sink);
        }
        let event = r#"{"type":"greeting.sent","recipient":"anna","payload":{"text":"hi"}}"#;
        page += &format!("\ncurl -s {url}/v1/events {bearer} -d '{event}'\n");
        page += &format!("curl -s '{url}/v1/deliveries?limit=1' {bearer}\n");
        page += &match &self.sink {
            Some(sink) => format!("curl -s '{}'\n", sink.url("/_/requests?path=/anna")),
            None => format!("curl -s {url}/v1/endpoints {bearer}\n"),
        };
        show::out(&page);
    }

    /// The push providers, and how a browser of one's own becomes a device.
    fn providers(&self, sink: &Fake) -> String {
        let (Some(browsers), Some(apns)) = (sink.browsers_url(), sink.apns()) else {
            return String::new();
        };
        let DevFile {
            url, tenant_key, ..
        } = &self.file;
        let (key, apns) = (&self.browser_key, apns.origin());
        let page = format!("{}#{key},{url},{tenant_key}", sink.url("/_/browser"));
        format!(
            "push  {}  (browsers and Firebase; Apple: {apns}; how: {})\n\n\
             A Firefox as one of anna's devices, in a profile for nothing else:\n\
             p=$(mktemp -d)\n\
             echo 'user_pref(\"dom.push.serverURL\", \"{browsers}\");' > $p/user.js\n\
             echo 'user_pref(\"dom.push.testing.allowInsecureServerURL\", true);' >> $p/user.js\n\
             firefox --no-remote --profile $p '{page}'\n",
            sink.url("/"),
            sink.url("/_/")
        )
    }
}

/// The route to browsers, made at the first start; the key that pages subscribe with.
fn browsers(node: &Node, tenant: TenantId) -> Result<String, RegistryError> {
    let now = node.clock.now();
    let routes = node.registry.routes(tenant);
    let route = match routes.into_iter().find(|route| route.name == BROWSERS) {
        Some(route) => route,
        None => {
            let private = vapid::VapidKey::generate();
            let public = vapid::VapidKey::parse(&private);
            let public = public.map_or_else(|_| String::new(), |key| key.public().to_owned());
            let keys = vec![VapidKey {
                public,
                private,
                created_at: now,
            }];
            let subject = SUBJECT.to_owned();
            let draft = RouteDraft {
                name: BROWSERS.to_owned(),
                credentials: Credentials::WebPush { subject, keys },
                server: None,
                tls: TlsProfile::default(),
            };
            node.registry.create_route(tenant, draft, now)?
        }
    };
    Ok(match &route.credentials {
        Credentials::WebPush { keys, .. } => keys
            .first()
            .map_or_else(String::new, |key| key.public.clone()),
        _ => String::new(),
    })
}

/// An endpoint at the sink for each person who has none, and its secret told to the sink.
fn settle(
    registry: &Registry,
    node: &Node,
    tenant: TenantId,
    sink: &Fake,
) -> Result<(), RegistryError> {
    for person in PEOPLE {
        let mut found = Vec::new();
        registry
            .directory()
            .of_recipient(tenant, person, &mut found);
        let path = format!("/{person}");
        let Ok(url) = sink.url(&path).parse::<url::Url>() else {
            continue;
        };
        let endpoint = match found.into_iter().find(|endpoint| endpoint.url == url) {
            Some(endpoint) => endpoint,
            None => {
                registry.create_endpoint(tenant, draft(registry, person, url), node.clock.now())?
            }
        };
        let behaviour = endpoint
            .secrets
            .iter()
            .fold(Behaviour::of(&path), |behaviour, secret| {
                behaviour.secret(secret.value.expose_secret())
            });
        if let Err(error) = sink.set(behaviour) {
            eprintln!("the sink does not verify what {person} gets: {error}");
        }
    }
    Ok(())
}

fn draft(registry: &Registry, person: &str, url: url::Url) -> EndpointDraft {
    let policies = registry.policies();
    let policy = policies
        .named("brief")
        .map_or_else(Default::default, |policy| policy.id);
    EndpointDraft {
        name: format!("{person}, at the sink"),
        recipient: person.to_owned(),
        ..EndpointDraft::new(url, crate::registry::Kind::Webhook, policy)
    }
}

/// The key of the start before, if it is still taken, or a new one.
fn key(
    node: &Node,
    before: Option<&str>,
    role: Role,
    tenant: Option<TenantId>,
) -> Result<String, RegistryError> {
    let now = node.clock.now();
    if let Some(before) = before
        && node.registry.authenticate(before, now).is_ok()
    {
        return Ok(before.to_owned());
    }
    let draft = KeyDraft {
        name: "serve --dev".to_owned(),
        role,
        tenant,
        expires_at: None,
        environment: "dev".to_owned(),
    };
    let (_, text) = node.registry.create_key(draft, now)?;
    Ok(text.expose_secret().to_owned())
}

/// Readable by its owner alone from the first byte on, and whole or not there at all.
fn write(directory: &Path, file: &DevFile) -> std::io::Result<()> {
    let temporary = directory.join(format!("{DEV_FILE}.new"));
    // What an interrupted start may have left.
    let _ = std::fs::remove_file(&temporary);
    let mut made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    made.write_all(&serde_json::to_vec(file)?)?;
    made.sync_all()?;
    std::fs::rename(&temporary, directory.join(DEV_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_stays_on_loopback() {
        let mut config = Config::default();
        config.server.listen = ([0, 0, 0, 0], 8_400).into();
        let failure = adjust(&mut config).expect_err("reachable by others");
        assert!(failure.to_string().contains("loopback only"), "{failure}");
        config.server.listen = ([127, 0, 0, 1], 8_400).into();
        config.server.admin_listen = Some(([192, 0, 2, 1], 9_000).into());
        adjust(&mut config).expect_err("reachable by others");
    }

    #[test]
    fn development_delivers_to_loopback_and_nowhere_else_that_is_private() {
        let mut config = Config::default();
        adjust(&mut config).expect("on loopback");
        let reaches = |address: &str| {
            let address = address.parse().expect("an address");
            config
                .network
                .allow
                .iter()
                .any(|network| network.holds(address))
        };
        assert!(reaches("127.0.0.1") && reaches("::1"));
        assert!(!reaches("10.0.0.1") && !reaches("169.254.169.254"));
    }
}
