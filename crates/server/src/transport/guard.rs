//! The guard: where deliveries may go.
//!
//! A URL is parsed once, by the WHATWG rules that [`Url`] follows; what is checked here is what is
//! connected to. Names are resolved by us, each answer is judged, and the connection is made to the
//! judged address and to nothing else, so an answer that changes between look-up and connect
//! changes nothing. An address is reachable if the operator allowed its network, or if it is
//! global unicast and not set aside for something else (IANA special-purpose registries, RFC 6890).
//!
//! Absent here: looking names up (`resolve`) and connecting (`connect`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// What the operator lets deliveries reach. The default is the public internet over HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Counts changes. Connections made under another version are not used again.
    pub version: u64,
    /// `http:` is allowed beside `https:`.
    pub allow_http: bool,
    /// Networks that are reachable although they are not public.
    pub allow: Vec<IpNet>,
    /// Networks that are not reachable, whatever else is said.
    pub deny: Vec<IpNet>,
    /// Names that are looked up although they are local ones: whole names, or `*.suffix`.
    pub allow_hosts: Vec<String>,
    /// Ports below 1024 that are allowed beside 80 and 443.
    pub allow_ports: Vec<u16>,
    /// Where this process listens. Never reachable: a delivery to ourselves would be a loop.
    pub own: Vec<SocketAddr>,
}

/// Where a URL points, in the parts that a connection is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// The host: a name without a final dot, or an address that has been judged.
    pub host: Host<String>,
    /// The port.
    pub port: u16,
}

/// Why something may not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Neither `https:` nor an allowed `http:`.
    #[error("only https URLs are allowed here, not {scheme}")]
    Scheme {
        /// The URL's scheme.
        scheme: String,
    },
    /// The URL names no host.
    #[error("the URL names no host")]
    NoHost,
    /// The URL carries a user name or a password.
    #[error("a URL may not carry a user name or a password")]
    Userinfo,
    /// A port that is kept for other protocols.
    #[error("port {port} is not allowed; 80, 443 and those from 1024 on are")]
    Port {
        /// The port.
        port: u16,
    },
    /// A name that only means something on the machine or in its own network.
    #[error("the name {name} is a local one")]
    Name {
        /// The name.
        name: String,
    },
    /// An address that is not public.
    #[error("{address} is not an address that deliveries may reach")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// An address on which this process itself listens.
    #[error("{address} is where this process itself listens")]
    Own {
        /// The address.
        address: SocketAddr,
    },
}

/// Last labels of names that never leave a machine or a site (RFC 6761, 6762, 8375; ICANN's
/// `internal`), and names under which clouds serve a machine's credentials.
const LOCAL_NAMES: [&str; 10] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "lan",
    "home.arpa",
    "metadata",
    "instance-data",
    "metadata.azure.com",
];

impl NetworkPolicy {
    /// Judges a URL as far as that can be done without looking its name up.
    ///
    /// # Errors
    /// [`Forbidden`], the first reason in the order scheme, host, user, port, name, address.
    pub fn target(&self, url: &Url) -> Result<Target, Forbidden> {
        let secure = match url.scheme() {
            "https" => true,
            "http" if self.allow_http => false,
            scheme => {
                return Err(Forbidden::Scheme {
                    scheme: scheme.to_owned(),
                });
            }
        };
        let host = url.host().ok_or(Forbidden::NoHost)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::Userinfo);
        }
        let port = url.port_or_known_default().ok_or(Forbidden::NoHost)?;
        if port < 1024 && !matches!(port, 80 | 443) && !self.allow_ports.contains(&port) {
            return Err(Forbidden::Port { port });
        }
        let host = match host {
            Host::Domain(name) => Host::Domain(self.name(name)?),
            Host::Ipv4(ip) => Host::Ipv4(ip),
            Host::Ipv6(ip) => Host::Ipv6(ip),
        };
        let target = Target { secure, host, port };
        if let Some(address) = target.literal() {
            self.address(address)?;
        }
        Ok(target)
    }

    /// Judges one address that a connection could be made to.
    ///
    /// # Errors
    /// [`Forbidden::Address`] or [`Forbidden::Own`].
    pub fn address(&self, address: SocketAddr) -> Result<(), Forbidden> {
        let ip = address.ip();
        let forms = forms(ip);
        let within = |nets: &[IpNet], ip: &IpAddr| nets.iter().any(|net| net.contains(ip));
        if forms.iter().any(|form| within(&self.deny, form)) {
            return Err(Forbidden::Address { address: ip });
        }
        // What only embeds an allowed address needs its own leave.
        if !forms
            .iter()
            .all(|form| is_public(*form) || within(&self.allow, form))
        {
            return Err(Forbidden::Address { address: ip });
        }
        let own = |own: &SocketAddr| own.port() == address.port() && own.ip() == ip.to_canonical();
        if self.own.iter().any(own) {
            return Err(Forbidden::Own { address });
        }
        Ok(())
    }

    /// Judges a connection that stands: it must lead to the judged address, and not to ourselves
    /// through an address of this machine when we listen on all of them.
    ///
    /// # Errors
    /// [`Forbidden::Address`] or [`Forbidden::Own`].
    pub fn connected(
        &self,
        judged: SocketAddr,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<(), Forbidden> {
        if (peer.ip(), peer.port()) != (judged.ip(), judged.port()) {
            return Err(Forbidden::Address { address: peer.ip() });
        }
        let here = peer.ip() == local.ip() || peer.ip().is_loopback();
        let listens = |own: &SocketAddr| own.ip().is_unspecified() && own.port() == peer.port();
        if here && self.own.iter().any(listens) {
            return Err(Forbidden::Own { address: peer });
        }
        Ok(())
    }

    /// The name without its final dot, if it may be looked up.
    fn name(&self, name: &str) -> Result<String, Forbidden> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let under = |suffix: &str| {
            let rest = name.strip_suffix(suffix);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let allowed = |pattern: &String| match pattern.strip_prefix("*.") {
            Some(suffix) => name != suffix && under(suffix),
            None => name == *pattern,
        };
        if name.is_empty() {
            return Err(Forbidden::NoHost);
        }
        if LOCAL_NAMES.iter().any(|local| under(local)) && !self.allow_hosts.iter().any(allowed) {
            return Err(Forbidden::Name { name });
        }
        Ok(name)
    }
}

impl Target {
    /// The address that the URL spells out, if it does.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some((ip, self.port).into()),
            Host::Ipv6(ip) => Some((ip, self.port).into()),
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Everything in IPv4 that is not plain global unicast.
const V4_DENIED: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// The one part of IPv6 that is global unicast (RFC 4291 section 2.4) …
const V6_GLOBAL: Ipv6Net = v6(0x2000, 0, 0, 3);

/// … and what in it is set aside: protocol assignments with Teredo, documentation, 6to4.
const V6_DENIED: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x2002, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
];

/// NAT64 (RFC 6052): judged by the IPv4 address it ends in.
const V6_NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !V4_DENIED.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) if V6_NAT64.contains(&ip) => true,
        IpAddr::V6(ip) => V6_GLOBAL.contains(&ip) && !V6_DENIED.iter().any(|n| n.contains(&ip)),
    }
}

/// The address itself, and the IPv4 address that it stands for where it embeds one: IPv4-mapped,
/// IPv4-compatible, translated (RFC 2765), NAT64, 6to4, Teredo (its client is stored inverted),
/// ISATAP under any prefix.
fn forms(ip: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![ip];
    let IpAddr::V6(ip) = ip else {
        return forms;
    };
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let embedded = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] => Some(join(g, h)),
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(join(g, h)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, ..] => Some(join(!g, !h)),
        [_, _, _, _, 0 | 0x200, 0x5efe] => Some(join(g, h)),
        _ => None,
    };
    forms.extend(embedded.map(IpAddr::V4));
    forms
}

#[cfg(test)]
mod tests {
    use super::{Forbidden, NetworkPolicy};
    use url::Url;

    fn policy() -> NetworkPolicy {
        NetworkPolicy {
            allow_http: true,
            ..NetworkPolicy::default()
        }
    }

    fn judge(policy: &NetworkPolicy, url: &str) -> Result<(), Forbidden> {
        policy.target(&Url::parse(url).unwrap()).map(drop)
    }

    #[test]
    fn public_places_are_reachable() {
        for url in [
            "https://example.com/hook?a=b",
            "https://example.com.",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]:8443/",
            "https://[64:ff9b::808:808]/",
            "https://[2a00::200:5efe:808:808]/",
            "http://localhost.example.com/",
            "https://mylocal/",
            "https://bücher.example/",
        ] {
            assert_eq!(judge(&policy(), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn scheme_user_and_port_are_judged() {
        let strict = NetworkPolicy::default();
        let scheme = |scheme: &str| {
            Err(Forbidden::Scheme {
                scheme: scheme.into(),
            })
        };
        assert_eq!(judge(&strict, "http://example.com"), scheme("http"));
        assert_eq!(judge(&policy(), "ftp://example.com"), scheme("ftp"));
        assert_eq!(judge(&policy(), "file:///etc/passwd"), scheme("file"));
        assert_eq!(
            judge(&policy(), "https://a@example.com"),
            Err(Forbidden::Userinfo)
        );
        assert_eq!(
            judge(&policy(), "https://:b@example.com"),
            Err(Forbidden::Userinfo)
        );
        assert_eq!(
            judge(&policy(), "https://example.com:22"),
            Err(Forbidden::Port { port: 22 })
        );
        let wider = NetworkPolicy {
            allow_ports: vec![22],
            ..policy()
        };
        assert_eq!(judge(&wider, "https://example.com:22"), Ok(()));
    }

    #[test]
    fn an_operator_allows_a_network_or_a_name_and_no_more() {
        let wider = NetworkPolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            deny: vec![
                "10.9.0.0/16".parse().unwrap(),
                "8.8.8.0/24".parse().unwrap(),
            ],
            allow_hosts: vec!["*.svc.cluster.local".into(), "localhost".into()],
            ..policy()
        };
        let open = ["10.1.2.3", "[fd00::1]", "a.svc.cluster.local", "LOCALHOST."];
        for host in open {
            assert_eq!(judge(&wider, &format!("http://{host}/")), Ok(()), "{host}");
        }
        let closed = [
            "10.9.0.1",
            "11.0.0.1.local",
            "[::ffff:10.1.2.3]",
            "8.8.8.8",
            "[64:ff9b::808:808]",
            "svc.cluster.local",
            "xsvc.cluster.local",
            "a.localhost",
            "192.168.0.1",
        ];
        for host in closed {
            assert!(judge(&wider, &format!("http://{host}/")).is_err(), "{host}");
        }
    }

    #[test]
    fn we_never_send_to_ourselves() {
        let own = NetworkPolicy {
            allow: vec![
                "127.0.0.0/8".parse().unwrap(),
                "10.0.0.0/8".parse().unwrap(),
            ],
            own: vec![
                "127.0.0.1:8400".parse().unwrap(),
                "0.0.0.0:9000".parse().unwrap(),
            ],
            ..policy()
        };
        assert_eq!(judge(&own, "http://127.0.0.1:8401/"), Ok(()));
        assert!(matches!(
            judge(&own, "http://127.0.0.1:8400/"),
            Err(Forbidden::Own { .. })
        ));
        let connected = |judged: &str, peer: &str, local: &str| {
            let [judged, peer, local] = [judged, peer, local].map(|text| text.parse().unwrap());
            own.connected(judged, peer, local).is_ok()
        };
        assert!(!connected(
            "127.0.0.1:9000",
            "127.0.0.1:9000",
            "127.0.0.1:5000"
        ));
        assert!(!connected(
            "10.0.0.1:9000",
            "10.0.0.1:9000",
            "10.0.0.1:5000"
        ));
        assert!(connected("10.0.0.1:9000", "10.0.0.1:9000", "10.0.0.2:5000"));
        assert!(!connected(
            "10.0.0.1:9001",
            "10.0.0.3:9001",
            "10.0.0.2:5000"
        ));
    }
}
