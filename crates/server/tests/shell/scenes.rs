//! Small scenes on the same network: what a fault has to be timed for, one test each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use postrider::entropy::Entropy;
use postrider::registry::TlsProfile;
use postrider::transport::{Limits, Transport};
use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind::{Accept, Unknown};
use turmoil::net::{TcpListener, TcpStream};

use crate::evidence::Evidence;
use crate::net::{Names, Open, SimDialer, SimResolver};
use crate::node::network;
use crate::tls::{Certificates, Shown};
use crate::wire_kit::{brief, endpoint, outcome};
use crate::{TICK_MS, pass_ms};

const RECEIVER: &str = "r1.example";

fn transport(seed: u64) -> Arc<Transport> {
    let dialer = SimDialer {
        entropy: Entropy::seeded(seed),
        open: Open::default(),
        evidence: Evidence::new(Arc::default()),
    };
    let resolver = Arc::new(SimResolver(Names::default()));
    let limits = Limits::default();
    Arc::new(Transport::with_network(
        limits,
        network(0),
        resolver,
        Arc::new(dialer),
    ))
}

fn sim() -> turmoil::Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(1)
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(Duration::from_secs(120))
        .build()
}

/// One HTTP/2 connection that takes one request at a time: it hangs, and the connection ends after
/// `ends_after_ms`; or everything is accepted.
async fn one_stream(
    stream: TcpStream,
    certificates: Arc<Certificates>,
    ends_after_ms: Option<u64>,
) {
    let acceptor = certificates.acceptor(RECEIVER, Shown::Good, true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let builder = h2::server::Builder::new()
        .max_concurrent_streams(1)
        .handshake::<_, Bytes>(stream);
    let Ok(mut connection) = builder.await else {
        return;
    };
    let serving = async {
        let mut held = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            match ends_after_ms {
                Some(_) => held.push(respond),
                None => drop(respond.send_response(Response::new(()), true)),
            }
        }
    };
    match ends_after_ms {
        Some(ms) => drop(tokio::time::timeout(Duration::from_millis(ms), serving).await),
        None => serving.await,
    }
}

/// It used to be told that connecting took too long, before it was tried: the wait for room had
/// used up the time.
#[test]
fn a_request_whose_wait_for_room_ends_with_the_connection_goes_over_another_one() {
    const CONNECTIONS: usize = 4;
    let mut sim = sim();
    let certificates = Arc::new(Certificates::new(&[RECEIVER]));
    let mut hook = endpoint(&format!("https://{RECEIVER}/hook"));
    hook.tls = TlsProfile {
        ca_pem: Some(certificates.authority_pem.clone()),
        ..TlsProfile::default()
    };
    sim.host(RECEIVER, move || {
        let certificates = Arc::clone(&certificates);
        async move {
            let listener = TcpListener::bind(("0.0.0.0", 443)).await?;
            let mut connections = 0;
            loop {
                let (stream, _) = listener.accept().await?;
                connections += 1;
                // Longer than connecting may take, and shorter than waiting for room may.
                let ends_after_ms = (connections <= CONNECTIONS).then_some(4_700);
                tokio::spawn(one_stream(stream, Arc::clone(&certificates), ends_after_ms));
            }
        }
    });
    sim.client("sender", async move {
        let (transport, hook) = (transport(1), Arc::new(hook));
        let mut first = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (transport, hook) = (Arc::clone(&transport), Arc::clone(&hook));
            first.spawn(async move { outcome(&transport, &hook).await });
            pass_ms(150).await;
        }
        let last = outcome(&transport, &hook).await;
        assert_eq!(brief(&last), (Accept, Cause::Accepted));
        while let Some(lost) = first.join_next().await {
            assert_eq!(brief(&lost?), (Unknown, Cause::ConnectionLost));
        }
        Ok(())
    });
    sim.run().expect("the scene ends");
}
