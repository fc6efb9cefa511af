//! Looking names up, against a name server that counts its questions.

mod wire_kit;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::channel::Attempted;
use postrider::transport::{NetworkPolicy, Resolve, Resolving, SystemResolver, Transport};
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::outcome::OutcomeKind::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use wire_kit::*;

const A: u16 = 1;
const AAAA: u16 = 28;

/// A name server on loopback, and the questions (name, type) it was asked.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl NameServer {
    /// Knows one IPv4 address for `known.example`, that `empty.example` exists, and keeps silent
    /// about `silent.example`.
    async fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let questions = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let query = &buffer[..length];
                let (name, kind, end) = question(query);
                questions.lock().unwrap().push((name.clone(), kind));
                if name != "silent.example" {
                    let answer = answer(query, &name, kind, end);
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        NameServer { address, asked }
    }

    fn asked(&self) -> Vec<(String, u16)> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

/// The question of a query (RFC 1035 section 4.1.2), and where it ends.
fn question(query: &[u8]) -> (String, u16, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (labels.join(".").to_lowercase(), kind, at + 5)
}

/// An answer with one address that may be kept for an hour, or none, or that there is no such name.
fn answer(query: &[u8], name: &str, kind: u16, end: usize) -> Vec<u8> {
    let known = name == "known.example";
    let code = if known || name == "empty.example" {
        0
    } else {
        3
    };
    let answers = u8::from(known && kind == A);
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend(&query[12..end]);
    if answers == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

#[tokio::test]
async fn a_name_is_asked_for_as_it_is_and_the_answer_is_kept() {
    let server = NameServer::start().await;
    let resolver = SystemResolver::asking(&[server.address]);
    for _ in 0..3 {
        let addresses = resolver.resolve("known.example").await.unwrap();
        assert_eq!(addresses, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }
    let asked = server.asked();
    let expected = |kind| {
        asked
            .iter()
            .filter(|&q| *q == ("known.example".into(), kind))
            .count()
    };
    assert_eq!(expected(A), 1, "{asked:?}");
    assert!(expected(AAAA) >= 1, "{asked:?}");
    assert!(
        asked.iter().all(|(name, _)| name == "known.example"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_resolved_says_why() {
    let server = NameServer::start().await;
    let resolver = SystemResolver::asking(&[server.address]);
    let reason = async |name| resolver.resolve(name).await.unwrap_err().reason;
    assert_eq!(reason("absent.example").await, "no such name");
    assert_eq!(reason("empty.example").await, "no address");
}

#[tokio::test]
async fn the_guard_judges_what_the_name_server_says() {
    let server = NameServer::start().await;
    let receiver = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = |name: &str| format!("http://{name}:{}/", receiver.address.port());
    let through = |limits, policy| {
        let resolver = Arc::new(SystemResolver::asking(&[server.address]));
        Transport::with_resolver(limits, policy, resolver)
    };
    let endpoint_at = |name: &str| Arc::new(endpoint(&url(name)));
    let strict = through(
        patient(),
        NetworkPolicy {
            allow_http: true,
            ..NetworkPolicy::default()
        },
    );
    let refused = outcome(&strict, &endpoint_at("known.example")).await;
    assert_eq!(brief(&refused), (Reject, Cause::ForbiddenAddress));
    assert_eq!(receiver.connections(), 0);
    let open = through(patient(), open_policy());
    assert_eq!(
        outcome(&open, &endpoint_at("known.example")).await.kind,
        Accept
    );
    assert_eq!(receiver.connections(), 1);
    // A name server that keeps silent costs no more than the connect limit.
    for (name, limits) in [("silent.example", hasty()), ("absent.example", patient())] {
        let outcome = outcome(&through(limits, open_policy()), &endpoint_at(name)).await;
        assert_eq!(brief(&outcome), (Retry, Cause::DnsFailure), "{name}");
        assert!(outcome.unsent && outcome.latency_ms < 2_000, "{name}");
    }
}

/// Finds its answer only when a moment has passed.
struct Late(tokio::time::Instant);

impl Resolve for Late {
    fn resolve<'a>(&'a self, _name: &'a str) -> Resolving<'a> {
        Box::pin(async {
            while tokio::time::Instant::now() < self.0 {
                tokio::task::yield_now().await;
            }
            Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
        })
    }
}

#[tokio::test]
async fn what_lapses_while_a_connection_is_made_is_not_begun() {
    let bytes = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&bytes);
    let receiver = Receiver::start(move |mut stream, _| {
        let heard = Arc::clone(&heard);
        async move {
            let mut rest = Vec::new();
            heard.fetch_add(stream.read_to_end(&mut rest).await.unwrap_or(0), SeqCst);
        }
    })
    .await;
    let left = Duration::from_millis(200);
    let late = Late(tokio::time::Instant::now() + 2 * left);
    let transport = Transport::with_resolver(patient(), open_policy(), Arc::new(late));
    let url = format!("http://known.example:{}/", receiver.address.port());
    let prepared = transport.prepared(&Arc::new(endpoint(&url)));
    let now = wall();
    let short = Dispatch {
        expires_at: now.plus(i64::try_from(left.as_millis()).unwrap()),
        ..dispatch(1)
    };
    let came = transport.attempt(&prepared, &event("1"), &short, now).await;
    assert_eq!(came, Attempted::NotSent(Cause::Unprocessed));
    drop(transport);
    assert_eq!(bytes.load(SeqCst), 0);
}
