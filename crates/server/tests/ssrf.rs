//! Places that deliveries must not reach: every spelling, every name that leads there, and a name
//! that changes its mind. Listeners stand where they would arrive and count.

mod wire_kit;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use postrider::transport::{NetworkPolicy, Resolve, ResolveError, Resolving, Transport};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::*;
use tokio::io::AsyncWriteExt;
use url::Url;
use wire_kit::*;

/// As strict as by default, but for `http:`, so that a plain listener could be reached at all.
fn strict() -> NetworkPolicy {
    NetworkPolicy {
        allow_http: true,
        ..NetworkPolicy::default()
    }
}

/// Answers names from a table, and counts how often it was asked.
struct Table {
    names: HashMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Table {
    /// For each name the answers to the first, second, … question; the last one repeats.
    fn new(names: &[(&'static str, &[&[&str]])]) -> Arc<Table> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let names = names
            .iter()
            .map(|(name, all)| (*name, all.iter().map(parse).collect()));
        Arc::new(Table {
            names: names.collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Resolve for Table {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        let turn = self.asked.fetch_add(1, SeqCst);
        let absent = ResolveError {
            reason: "not in the table".into(),
        };
        let answers = self.names.get(name).ok_or(absent);
        let answer = answers.map(|all| all[turn.min(all.len() - 1)].clone());
        Box::pin(async move { answer })
    }
}

/// `PORT` is where a listener counts. All of these are loopback, private, link-local, metadata or
/// otherwise no public place, in every spelling that some parser takes for one.
const SPELLINGS: &[&str] = &[
    "http://127.0.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://127.255.255.254:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.1:PORT/",
    "http://0x7F.0x0.0x0.0x1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://127.0.0.0x1:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://127%2e0%2e0%2e1:PORT/",
    "http://127。0。0。1:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http:127.0.0.1:PORT/",
    "http:\\\\127.0.0.1:PORT\\",
    "http:///127.0.0.1:PORT/",
    "http://example.com@127.0.0.1:PORT/",
    "http://user:password@127.0.0.1:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://0.1.2.3:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://a.localhost:PORT/",
    "http://loc%61lhost:PORT/",
    "http://ｌｏｃａｌｈｏｓｔ:PORT/",
    "http://localhost.localdomain:PORT/",
    "http://printer.local:PORT/",
    "http://router.lan:PORT/",
    "http://nas.home.arpa:PORT/",
    "http://wiki.internal:PORT/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://metadata/computeMetadata/v1/",
    "http://instance-data/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://0xa9fea9fe/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/opc/v2/instance/",
    "http://10.0.0.1:PORT/",
    "http://172.16.0.1:PORT/",
    "http://172.31.255.255:PORT/",
    "http://192.168.1.1:PORT/",
    "http://100.64.0.1:PORT/",
    "http://192.0.2.1:PORT/",
    "http://198.18.0.1:PORT/",
    "http://198.51.100.1:PORT/",
    "http://203.0.113.1:PORT/",
    "http://192.88.99.1:PORT/",
    "http://224.0.0.1:PORT/",
    "http://240.0.0.1:PORT/",
    "http://255.255.255.255:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[::7f00:1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[::ffff:8.8.8.8]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[100::1]:PORT/",
    "http://[2001::1]:PORT/",
    "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]:PORT/",
    "http://[2001:2::1]:PORT/",
    "http://[2001:db8::1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2002:a9fe:a9fe::1]:PORT/",
    "http://[3fff::1]:PORT/",
    "http://[5f00::1]:PORT/",
    "http://[2a00::5efe:127.0.0.1]:PORT/",
    "http://[2a00::200:5efe:10.0.0.1]:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[fd12:3456::1]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[fe80::5efe:127.0.0.1]:PORT/",
    "http://[fec0::1]:PORT/",
    "http://[ff02::1]:PORT/",
    "http://[4000::1]:PORT/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/",
    "ftp://127.0.0.1:PORT/",
    "unix:/var/run/docker.sock",
    "data:text/plain,hello",
    "http://[::1%25lo]:PORT/",
    "http://[fe80::1%lo]:PORT/",
];

#[tokio::test]
async fn no_spelling_of_a_forbidden_place_is_reached() {
    let receiver = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let table = Table::new(&[]);
    let transport = Transport::with_resolver(patient(), strict(), table.clone());
    let port = receiver.address.port().to_string();
    let mut judged = 0;
    for spelling in SPELLINGS {
        // What does not parse cannot become an endpoint.
        let Ok(url) = Url::parse(&spelling.replace("PORT", &port)) else {
            continue;
        };
        judged += 1;
        let mut endpoint = endpoint("http://example.com/");
        endpoint.url = url;
        let outcome = outcome(&transport, &Arc::new(endpoint)).await;
        assert_eq!(
            brief(&outcome),
            (Reject, Cause::ForbiddenAddress),
            "{spelling}"
        );
        assert!(outcome.unsent && !outcome.may_have_acted, "{spelling}");
    }
    assert!(
        judged >= 80,
        "only {judged} of {} were URLs",
        SPELLINGS.len()
    );
    assert_eq!(
        table.asked.load(SeqCst),
        0,
        "none of these is a name to look up"
    );
    assert_eq!(receiver.connections(), 0);

    // The listener could have been reached: the same transport does, once it is allowed to.
    transport.set_policy(NetworkPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        ..strict()
    });
    let endpoint = Arc::new(endpoint(&receiver.url()));
    assert_eq!(outcome(&transport, &endpoint).await.kind, Accept);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn no_name_leads_to_a_forbidden_place() {
    let receiver = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let forbidden = [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fd00:ec2::254",
        "fe80::1",
    ];
    for ip in forbidden {
        let table = Table::new(&[("rebound.example", &[&[ip]])]);
        let transport = Transport::with_resolver(patient(), strict(), table.clone());
        let url = format!("http://rebound.example:{}/", receiver.address.port());
        let outcome = outcome(&transport, &Arc::new(endpoint(&url))).await;
        assert_eq!(brief(&outcome), (Reject, Cause::ForbiddenAddress), "{ip}");
        assert!(
            outcome.evidence.is_empty(),
            "what our resolver says is not the tenant's to read"
        );
        assert_eq!(table.asked.load(SeqCst), 1);
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_failure() {
    let transport =
        Transport::with_resolver(patient(), strict(), Table::new(&[("a.example", &[&[]])]));
    for name in ["a.example", "b.example"] {
        let endpoint = Arc::new(endpoint(&format!("http://{name}/")));
        let outcome = outcome(&transport, &endpoint).await;
        assert_eq!(brief(&outcome), (Retry, Cause::DnsFailure), "{name}");
        assert!(outcome.unsent);
    }
}

/// Two listeners on one port of two loopback addresses; only the second one's is allowed. A
/// connection is closed after each answer, so every attempt looks the name up again.
async fn two() -> (Receiver, Receiver, NetworkPolicy) {
    let answer = |mut stream: tokio::net::TcpStream, _| async move {
        read_request(&mut stream).await;
        let close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(close).await.unwrap();
    };
    let bad = Receiver::start(answer).await;
    let good = Receiver::start_at(&format!("127.0.0.2:{}", bad.address.port()), answer).await;
    let allow = vec!["127.0.0.2/32".parse().unwrap()];
    (bad, good, NetworkPolicy { allow, ..strict() })
}

#[tokio::test]
async fn an_answer_that_changes_between_lookup_and_connect_changes_nothing() {
    let (bad, good, policy) = two().await;
    let answers: &[&[&str]] = &[
        &["127.0.0.2"],
        &["127.0.0.1"],
        &["127.0.0.2"],
        &["127.0.0.1"],
    ];
    let table = Table::new(&[("flips.example", answers)]);
    let transport = Transport::with_resolver(patient(), policy, table.clone());
    let url = format!("http://flips.example:{}/", bad.address.port());
    let endpoint = Arc::new(endpoint(&url));
    for turn in 0..answers.len() {
        let outcome = outcome(&transport, &endpoint).await;
        // One look-up for one attempt: there is no second one to answer differently.
        assert_eq!(table.asked.load(SeqCst), turn + 1);
        let expected = match turn % 2 {
            0 => (Accept, Cause::Accepted),
            _ => (Reject, Cause::ForbiddenAddress),
        };
        assert_eq!(brief(&outcome), expected, "turn {turn}");
    }
    assert_eq!((good.connections(), bad.connections()), (2, 0));
}

#[tokio::test]
async fn of_mixed_answers_only_the_good_ones_are_used() {
    let (bad, good, policy) = two().await;
    let mixed: &[&str] = &[
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "127.0.0.2",
        "10.0.0.1",
    ];
    let table = Table::new(&[("mixed.example", &[mixed])]);
    let transport = Transport::with_resolver(patient(), policy, table);
    let url = format!("http://mixed.example:{}/", bad.address.port());
    let outcome = outcome(&transport, &Arc::new(endpoint(&url))).await;
    assert_eq!(brief(&outcome), (Accept, Cause::Accepted));
    assert_eq!((good.connections(), bad.connections()), (1, 0));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bad = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let target = bad.url();
    for code in [301, 302, 303, 307, 308] {
        let target = target.clone();
        let receiver = Receiver::start(move |mut stream, _| {
            let target = target.clone();
            async move {
                read_request(&mut stream).await.unwrap();
                let head = format!("HTTP/1.1 {code} Go\r\nlocation: {target}\r\n");
                let answer = format!("{head}content-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let transport = Transport::new(patient(), open_policy());
        let outcome = outcome(&transport, &Arc::new(endpoint(&receiver.url()))).await;
        assert_eq!(brief(&outcome), (Reject, Cause::Redirected));
    }
    assert_eq!(bad.connections(), 0);
}

#[tokio::test]
async fn our_own_listener_is_never_a_receiver() {
    let receiver = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let port = receiver.address.port();
    for own in [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}")] {
        let policy = NetworkPolicy {
            own: vec![own.parse().unwrap()],
            ..open_policy()
        };
        let transport = Transport::new(patient(), policy);
        let outcome = outcome(&transport, &Arc::new(endpoint(&receiver.url()))).await;
        assert_eq!(brief(&outcome), (Reject, Cause::ForbiddenAddress), "{own}");
    }
}
