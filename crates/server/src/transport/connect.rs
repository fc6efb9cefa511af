//! Making a connection: look-up, guard, TCP, TLS, all within one time limit.
//!
//! Nothing that goes wrong here can have reached the receiver: all of it is unsent.
//!
//! Absent here: proxies, whether the environment names one or not. They would bypass the guard.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Host;

use super::dial::{Dial, Socket};
use super::guard::{NetworkPolicy, Target};
use super::resolve::Resolve;
use super::tls;
use super::wire::Wire;
use crate::channel::{Fault, Trouble};

/// Addresses of one name that are tried at the most.
const ADDRESSES_MAX: usize = 4;

/// A connection to `target`, made before `deadline`.
pub(super) async fn connect(
    target: &Target,
    tls: Option<&Arc<ClientConfig>>,
    policy: &NetworkPolicy,
    resolver: &dyn Resolve,
    dialer: &dyn Dial,
    deadline: Instant,
) -> Result<Wire, Trouble> {
    let addresses = addresses(target, policy, resolver, deadline).await?;
    let tcp = first(&addresses, policy, dialer, deadline).await?;
    let Some(config) = tls else {
        return Ok(Wire::plain(tcp));
    };
    let name = server_name(target)?;
    let shaking = TlsConnector::from(config.clone()).connect(name, tcp);
    match timeout_at(deadline, shaking).await {
        Ok(Ok(stream)) => Ok(Wire::tls(stream)),
        Ok(Err(error)) => Err(match tls::certificate_refused(&error) {
            Some(alert) => tls::not_taken(alert),
            None => Trouble::unsent(Fault::Tls, error.to_string()),
        }),
        Err(_) => Err(Trouble::unsent(
            Fault::ConnectTimeout,
            "within the TLS handshake",
        )),
    }
}

/// The addresses of `target` that may be connected to. A name whose answers mix good and bad ones
/// keeps the good ones.
async fn addresses(
    target: &Target,
    policy: &NetworkPolicy,
    resolver: &dyn Resolve,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, Trouble> {
    let answers: Vec<IpAddr> = match (&target.host, target.literal()) {
        (_, Some(address)) => vec![address.ip()],
        (Host::Domain(name), None) => match timeout_at(deadline, resolver.resolve(name)).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return Err(Trouble::unsent(Fault::NameUnresolved, error.reason)),
            Err(_) => return Err(Trouble::unsent(Fault::NameUnresolved, "no answer in time")),
        },
        _ => Vec::new(),
    };
    if answers.is_empty() {
        return Err(Trouble::unsent(Fault::NameUnresolved, "no address"));
    }
    let all = answers
        .into_iter()
        .map(|ip| SocketAddr::new(ip, target.port));
    let open = all.filter(|address| policy.address(*address).is_ok());
    let open: Vec<_> = open.take(ADDRESSES_MAX).collect();
    if open.is_empty() {
        // Which address it was stays with us: the answers of our name servers are not the tenant's.
        return Err(forbidden());
    }
    Ok(open)
}

/// A connection to the first of `addresses` that takes one. Each gets its share of the time that is
/// left, so that one that swallows packets does not use it up.
async fn first(
    addresses: &[SocketAddr],
    policy: &NetworkPolicy,
    dialer: &dyn Dial,
    deadline: Instant,
) -> Result<Socket, Trouble> {
    let mut trouble = forbidden();
    for (i, &address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
        let connecting = timeout_at(Instant::now() + share, dialer.dial(address));
        match connecting.await {
            Err(_) => trouble = Trouble::unsent(Fault::ConnectTimeout, ""),
            Ok(Err(error)) => trouble = refused(&error),
            Ok(Ok(tcp)) => match judged_again(&tcp, address, policy) {
                Ok(()) => return Ok(tcp),
                Err(other) => trouble = other,
            },
        }
    }
    Err(trouble)
}

/// Judges the connection once more, by the ends that it has.
fn judged_again(tcp: &Socket, judged: SocketAddr, policy: &NetworkPolicy) -> Result<(), Trouble> {
    let (peer, local) = tcp.ends().map_err(|error| refused(&error))?;
    policy
        .connected(judged, peer, local)
        .map_err(|_| forbidden())
}

fn forbidden() -> Trouble {
    Trouble::unsent(Fault::Forbidden, "")
}

fn refused(error: &io::Error) -> Trouble {
    let fault = match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::ConnectRefused,
        io::ErrorKind::TimedOut => Fault::ConnectTimeout,
        _ => Fault::ConnectFailed,
    };
    Trouble::unsent(fault, error.to_string())
}

fn server_name(target: &Target) -> Result<ServerName<'static>, Trouble> {
    match &target.host {
        Host::Ipv4(ip) => Ok(ServerName::IpAddress(IpAddr::V4(*ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress(IpAddr::V6(*ip).into())),
        Host::Domain(name) => ServerName::try_from(name.clone())
            .map_err(|_| Trouble::unsent(Fault::Tls, "not a name that a certificate can have")),
    }
}
