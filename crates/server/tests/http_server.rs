//! Connections over real sockets: what a peer may hold, and for how long.

mod http_kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_kit::Kit;
use postrider::config;
use postrider::http::serve;
use postrider::registry::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest wait for anything that has to happen.
const DEADLINE: Duration = Duration::from_secs(20);

struct Served {
    kit: Kit,
    address: SocketAddr,
    server: JoinHandle<()>,
}

async fn served(limits: config::Server) -> Served {
    let kit = Kit::with(limits.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, metrics) = (kit.router.clone(), Arc::clone(&kit.metrics));
    let draining = kit.draining.subscribe();
    let server = tokio::spawn(async move {
        serve(listener, router, &limits, metrics, draining)
            .await
            .unwrap();
    });
    Served {
        kit,
        address,
        server,
    }
}

#[allow(clippy::disallowed_methods)] // a client of the test's own server
async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Everything until the peer closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    // A reset is a close, too.
    let _ = read.expect("the connection is closed in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until `holds`, by asking again and again.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_on_which_no_request_begins_is_closed_whatever_it_sent() {
    let limits = config::Server {
        header_read_ms: 150,
        ..config::Server::default()
    };
    let served = served(limits).await;
    for sent in [
        "",
        "P",
        "PRI * HT",
        "GET /hea",
        "GET /healthz HTTP/1.1\r\nhost: x\r\n",
    ] {
        let mut stream = connect(served.address).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(
            !answer.contains(" 200 "),
            "{sent:?} was answered with {answer}"
        );
    }
    // A whole preface, and no request after it.
    let mut stream = connect(served.address).await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    rest(&mut stream).await;
    until("the seats are free again", || {
        served.kit.metrics.api_connections.get() == 0
    })
    .await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered_when_the_time_is_over() {
    let limits = config::Server {
        request_ms: 200,
        ..config::Server::default()
    };
    let served = served(limits).await;
    let key = served.kit.key(Role::Writer, Some("acme"));
    let mut stream = connect(served.address).await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-length: 100\r\nconnection: close\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let limits = config::Server {
        connections_per_ip_max: 3,
        ..config::Server::default()
    };
    let served = served(limits).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(connect(served.address).await);
    }
    until("three are inside", || {
        served.kit.metrics.api_connections.get() == 3
    })
    .await;
    let mut fourth = connect(served.address).await;
    assert_eq!(rest(&mut fourth).await, "");
    assert_eq!(served.kit.metrics.api_connections_refused.get(), 1);
    inside.pop();
    until("one has left", || {
        served.kit.metrics.api_connections.get() == 2
    })
    .await;
    let mut next = connect(served.address).await;
    next.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut next).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let limits = config::Server {
        header_bytes_max: 8_192,
        ..config::Server::default()
    };
    let served = served(limits).await;
    let mut stream = connect(served.address).await;
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    // The server may close before all of it is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = rest(&mut stream).await;
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn draining_finishes_what_is_under_way_and_takes_nothing_new() {
    let served = served(config::Server::default()).await;
    let key = served.kit.key(Role::Writer, Some("acme"));
    let body = r#"{"type":"order.paid","payload":1}"#;
    let mut under_way = connect(served.address).await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();
    let mut idle = connect(served.address).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    until("both are inside", || {
        served.kit.metrics.api_connections.get() == 2
    })
    .await;

    served.kit.draining.send(true).unwrap();
    rest(&mut idle).await;
    under_way.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut under_way).await;
    assert!(
        answer.contains("\"code\":\"draining\"") || answer.contains("event_id"),
        "{answer}"
    );
    tokio::time::timeout(DEADLINE, served.server)
        .await
        .expect("the server ends")
        .unwrap();
    #[allow(clippy::disallowed_methods)]
    let refused = TcpStream::connect(served.address).await;
    assert!(refused.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn what_hangs_is_cut_after_the_drain_time() {
    let limits = config::Server {
        drain_ms: 100,
        ..config::Server::default()
    };
    let served = served(limits).await;
    let key = served.kit.key(Role::Writer, Some("acme"));
    let mut hanging = connect(served.address).await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-length: 100\r\n\r\n"
    );
    hanging.write_all(head.as_bytes()).await.unwrap();
    until("it is inside", || {
        served.kit.metrics.api_connections.get() == 1
    })
    .await;
    served.kit.draining.send(true).unwrap();
    tokio::time::timeout(DEADLINE, served.server)
        .await
        .expect("the server ends")
        .unwrap();
    rest(&mut hanging).await;
}
