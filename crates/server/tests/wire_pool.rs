//! What is left behind: connections are kept within their bounds, closed when they grow cold, and
//! no socket outlives the transport. One test to a process at a time, because open files are the
//! process's; hence one test function.

mod wire_kit;

use std::sync::Arc;

use postrider::registry::Endpoint;
use postrider::transport::{Limits, Transport};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wire_kit::*;

/// Open files of this process.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// `count` attempts side by side, all of which must be accepted.
async fn burst(transport: &Arc<Transport>, endpoint: &Arc<Endpoint>, count: usize) {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (transport, endpoint) = (transport.clone(), endpoint.clone());
        running.spawn(async move { outcome(&transport, &endpoint).await });
    }
    for outcome in running.join_all().await {
        assert_eq!(brief(&outcome), (Accept, Cause::Accepted));
    }
}

#[tokio::test]
async fn connections_are_bounded_grow_cold_and_leave_nothing() {
    let receivers: Vec<_> = {
        let mut all = Vec::new();
        for _ in 0..8 {
            all.push(answering(b"HTTP/1.1 204 No Content\r\n\r\n").await);
        }
        all
    };
    let endpoints: Vec<_> = receivers
        .iter()
        .map(|receiver| Arc::new(endpoint(&receiver.url())))
        .collect();
    let at_rest = open_files();
    bounded(&endpoints).await;
    cold(&endpoints).await;
    // Both ends of every connection were ours.
    eventually("the last socket's end", || open_files() <= at_rest).await;

    let hostile = hostile().await;
    let at_rest = open_files();
    let transport = Transport::new(hasty(), open_policy());
    for _ in 0..20 {
        for receiver in &hostile {
            let endpoint = Arc::new(endpoint(&receiver.url()));
            outcome(&transport, &endpoint).await;
        }
    }
    assert_eq!(transport.idle_connections(), 0);
    // The transport still stands: trouble alone must not leave a socket.
    eventually("the last socket's end", || open_files() <= at_rest).await;
}

async fn bounded(endpoints: &[Arc<Endpoint>]) {
    let limits = Limits {
        idle_host_max: 4,
        idle_total_max: 16,
        ..Limits::default()
    };
    let transport = Arc::new(Transport::new(limits, open_policy()));
    burst(&transport, &endpoints[0], 32).await;
    assert_eq!(transport.idle_connections(), 4, "per host");
    for endpoint in endpoints {
        burst(&transport, endpoint, 8).await;
    }
    let idle = transport.idle_connections();
    assert!((1..=16).contains(&idle), "{idle} in total");
}

async fn cold(endpoints: &[Arc<Endpoint>]) {
    let limits = Limits {
        idle_ms: 200,
        ..Limits::default()
    };
    let transport = Arc::new(Transport::new(limits, open_policy()));
    for endpoint in endpoints {
        burst(&transport, endpoint, 8).await;
    }
    assert!(transport.idle_connections() > 0);
    let open = open_files();
    eventually("the end of what is cold", || {
        transport.idle_connections() == 0
    })
    .await;
    eventually("its sockets' end", || open_files() < open).await;
    burst(&transport, &endpoints[0], 1).await;
}

/// Receivers after each of which a connection is of no more use.
async fn hostile() -> Vec<Receiver> {
    async fn saying(bytes: &'static [u8], then_reset: bool) -> Receiver {
        Receiver::start(move |mut stream: TcpStream, _| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(bytes).await;
            if then_reset {
                reset(stream);
            }
        })
        .await
    }
    vec![
        saying(b"", false).await,
        saying(b"", true).await,
        saying(b"nonsense\r\n\r\n", false).await,
        saying(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nbye", false).await,
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ncut", true).await,
        saying(b"HTTP/1.1 500 Oh\r\ncontent-length: 99\r\n\r\ncut", false).await,
    ]
}
