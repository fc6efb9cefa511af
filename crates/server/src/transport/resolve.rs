//! Looking names up, behind a trait so that a test can be the one who answers.
//!
//! Absent here: judging the answers; see `guard`.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};

/// Names whose addresses are kept at the most.
const NAMES_MAX: u64 = 4_096;

/// Longest time an answer is kept, whatever its own time to live says.
const ANSWER_TTL_MAX: Duration = Duration::from_secs(60);

/// The same for the answer that there is none.
const ABSENCE_TTL_MAX: Duration = Duration::from_secs(5);

/// Wait for one server's answer, and how often one is asked: together below the connect limit.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1_200);
const QUERIES_MAX: usize = 2;

/// A name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ResolveError {
    /// Why, without the name.
    pub reason: String,
}

/// What a look-up comes to.
pub type Resolving<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'a>>;

/// Resolves names to addresses.
pub trait Resolve: Send + Sync {
    /// All addresses of `name`, which is whole and has no final dot. Never asked for an address
    /// in disguise.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// Name servers, those of the machine or others, with a bounded memory of their answers.
pub struct SystemResolver {
    inner: Result<TokioResolver, String>,
}

impl SystemResolver {
    /// Reads the machine's set-up. If that cannot be done, every look-up says so; addresses that
    /// are spelled out still work.
    #[must_use]
    pub fn new() -> SystemResolver {
        let built = TokioResolver::builder_tokio().and_then(bounded);
        SystemResolver {
            inner: built.map_err(|error| error.to_string()),
        }
    }

    /// Asks these servers instead of the machine's.
    #[must_use]
    pub fn asking(servers: &[SocketAddr]) -> SystemResolver {
        let server = |address: &SocketAddr| {
            let protocols = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let at_port = protocols.map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, at_port.into())
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        let runtime = TokioRuntimeProvider::default();
        let built = bounded(TokioResolver::builder_with_config(config, runtime));
        SystemResolver {
            inner: built.map_err(|error| error.to_string()),
        }
    }
}

fn bounded(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.cache_size = NAMES_MAX;
    options.positive_max_ttl = Some(ANSWER_TTL_MAX);
    options.negative_max_ttl = Some(ABSENCE_TTL_MAX);
    options.timeout = QUERY_TIMEOUT;
    options.attempts = QUERIES_MAX;
    builder.build()
}

impl Default for SystemResolver {
    fn default() -> SystemResolver {
        SystemResolver::new()
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let resolver = self.inner.as_ref().map_err(|reason| ResolveError {
                reason: format!("the machine's resolver set-up cannot be read: {reason}"),
            })?;
            // The final dot keeps the machine's search domains away from other people's names.
            match resolver.lookup_ip(format!("{name}.")).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) if error.is_nx_domain() => Err(absent("no such name")),
                Err(error) if error.is_no_records_found() => Err(absent("no address")),
                Err(_) => Err(absent("no usable answer from the name servers")),
            }
        })
    }
}

fn absent(reason: &str) -> ResolveError {
    ResolveError {
        reason: reason.to_owned(),
    }
}
