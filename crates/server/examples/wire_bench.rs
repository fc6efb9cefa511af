//! What one webhook attempt costs on the wire: CPU and rate over kept HTTP/1.1 connections, against
//! a sink in a process of its own. Prints one line for each way of doing it:
//!
//! - `spawned`: hyper alone, each connection driven by a task of its own (the usual way),
//! - `in-task`: hyper alone, each connection driven by the task that uses it,
//! - `attempt`: [`Transport::attempt`], so encoding, two signatures, pool and classifying too,
//! - `encode`: encoding alone.
//!
//! `cargo run --release --example wire_bench [seconds] [connections] [one of them]`

use std::future::poll_fn;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use postrider::channel::webhook::{Prepared, Webhook};
use postrider::channel::{Attempted, Channel};
use postrider::registry::Endpoint;
use postrider::transport::{Limits, NetworkPolicy, Transport};
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;
use tokio::net::{TcpListener, TcpStream};

#[path = "../tests/wire_kit/mod.rs"]
mod wire_kit;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_else(|| "3".into());
    if first == "sink" {
        return sink().await;
    }
    let time = Duration::from_secs(first.parse().expect("seconds"));
    let connections: usize = args
        .next()
        .map_or(64, |text| text.parse().expect("connections"));
    let only = args.next().unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    let mut child = Command::new(std::env::current_exe().expect("our own path"))
        .arg("sink")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a sink");
    let mut line = String::new();
    let out = child.stdout.take().expect("its output");
    BufReader::new(out)
        .read_line(&mut line)
        .expect("its address");
    let address: SocketAddr = line.trim().parse().expect("an address");

    if wanted("spawned") {
        measure("spawned", connections, time, |count| {
            spawned(address, count)
        })
        .await;
    }
    if wanted("in-task") {
        measure("in-task", connections, time, |count| {
            in_task(address, count)
        })
        .await;
    }
    let policy = NetworkPolicy {
        allow_http: true,
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        ..NetworkPolicy::default()
    };
    let transport = Arc::new(Transport::new(Limits::default(), policy));
    let endpoint = Arc::new(wire_kit::endpoint(&format!("http://{address}/hook")));
    if wanted("attempt") {
        let one = |count| attempts(transport.clone(), endpoint.clone(), count);
        measure("attempt", connections, time, one).await;
    }
    if wanted("encode") {
        measure("encode", connections, time, |count| {
            encodes(endpoint.clone(), count)
        })
        .await;
    }
    child.kill().expect("the sink ends");
    child.wait().expect("the sink ended");
}

/// Runs `connections` of what `one` makes for `time`; each adds to the counter it is given.
async fn measure<O, F>(name: &str, connections: usize, time: Duration, one: O)
where
    O: Fn(Arc<AtomicU64>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(one(count.clone())))
        .collect();
    tokio::time::sleep(time / 4).await;
    let (from, cpu, start) = (count.load(Relaxed), cpu_us(), Instant::now());
    tokio::time::sleep(time).await;
    let (done, cpu) = (count.load(Relaxed) - from, cpu_us() - cpu);
    let rate = done as f64 / start.elapsed().as_secs_f64();
    println!(
        "{name:8} {rate:9.0}/s  {:6.2} µs CPU each",
        cpu as f64 / done as f64
    );
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
}

fn cpu_us() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own usage");
    usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
}

fn payload() -> Bytes {
    Bytes::from(format!("{{\"pad\":\"{}\"}}", "x".repeat(290)))
}

fn request(address: SocketAddr) -> http::Request<Full<Bytes>> {
    http::Request::post("/hook")
        .header("host", address.to_string())
        .body(Full::new(payload()))
        .expect("a request")
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is compared against has no guard"
)]
async fn spawned(address: SocketAddr, count: Arc<AtomicU64>) {
    let tcp = TcpStream::connect(address).await.expect("a connection");
    tcp.set_nodelay(true).expect("no delay");
    let (mut sender, driver) = http1::handshake(TokioIo::new(tcp)).await.expect("HTTP");
    let _driver = tokio::spawn(driver);
    loop {
        sender.ready().await.expect("ready");
        let response = sender
            .send_request(request(address))
            .await
            .expect("an answer");
        response.into_body().collect().await.expect("a body");
        count.fetch_add(1, Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is compared against has no guard"
)]
async fn in_task(address: SocketAddr, count: Arc<AtomicU64>) {
    let tcp = TcpStream::connect(address).await.expect("a connection");
    tcp.set_nodelay(true).expect("no delay");
    let (mut sender, mut driver) = http1::handshake(TokioIo::new(tcp)).await.expect("HTTP");
    loop {
        let mut answer = pin!(sender.send_request(request(address)));
        let response = poll_fn(|cx| {
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            answer.as_mut().poll(cx)
        });
        let mut body = pin!(response.await.expect("an answer").into_body().collect());
        poll_fn(|cx| match body.as_mut().poll(cx) {
            Poll::Pending => {
                assert!(Pin::new(&mut driver).poll(cx).is_pending());
                body.as_mut().poll(cx).map(drop)
            }
            ready => ready.map(drop),
        })
        .await;
        poll_fn(|cx| {
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        count.fetch_add(1, Relaxed);
    }
}

async fn attempts(transport: Arc<Transport>, endpoint: Arc<Endpoint>, count: Arc<AtomicU64>) {
    let mut event = wire_kit::event("");
    event.payload = payload();
    let dispatch = wire_kit::dispatch(1);
    loop {
        let prepared = transport.prepared(&endpoint);
        match transport
            .attempt(&prepared, &event, &dispatch, Time(1_700_000_000_000))
            .await
        {
            Attempted::Answered(outcome) if outcome.kind == OutcomeKind::Accept => {
                count.fetch_add(1, Relaxed)
            }
            other => panic!("{other:?}"),
        };
    }
}

async fn encodes(endpoint: Arc<Endpoint>, count: Arc<AtomicU64>) {
    let mut event = wire_kit::event("");
    event.payload = payload();
    let (prepared, dispatch) = (
        Prepared::new(&endpoint).expect("fit"),
        wire_kit::dispatch(1),
    );
    loop {
        for second in 0..64 {
            let now = Time(1_700_000_000_000 + second * 1_000);
            std::hint::black_box(Webhook.encode(&prepared, &event, &dispatch, now));
        }
        count.fetch_add(64, Relaxed);
        tokio::task::yield_now().await;
    }
}

/// Answers everything with an empty 200.
async fn sink() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("its address"));
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        tcp.set_nodelay(true).expect("no delay");
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: http::Request<_>| async move {
                let body: hyper::body::Incoming = request.into_body();
                body.collect().await?;
                Ok::<_, hyper::Error>(http::Response::new(Full::<Bytes>::default()))
            });
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}
