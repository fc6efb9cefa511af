//! The raw limit: the transport's own client posting the same bodies to the same sink, no engine.
//!
//! Absent here: signatures, records, anything durable. What the engine does beside this is what it
//! costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use postrider_core::id::{EndpointId, PolicyId, TenantId};
use postrider_core::time::Time;
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use super::process::Usage;
use crate::cli::failure::Failure;
use crate::registry::{Endpoint, EndpointState, TlsProfile};
use crate::transport::{Limits, NetworkPolicy, Transport};

/// What a raw run came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub(super) per_s: f64,
    pub(super) cpu_us_per_request: f64,
}

/// Posts `body` to `url` over `connections` for `time`. Runs on threads of its own, `threads` of
/// them, so that nothing else is counted.
pub(super) fn run(
    url: &str,
    body: &Bytes,
    connections: usize,
    threads: usize,
    time: Duration,
) -> Result<Raw, Failure> {
    let cannot = || Failure::no("the raw client could not run");
    let url: Url = url
        .parse()
        .map_err(|error: url::ParseError| cannot().because(error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| cannot().because(error))?;
    let transport = Arc::new(Transport::new(Limits::default(), loopback()?));
    let endpoint = Arc::new(endpoint(url));
    let sent = Arc::new(AtomicU64::new(0));
    let before = Usage::of(std::process::id())?;
    let began = Instant::now();
    let ended: Result<(), String> = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            let client = Client {
                transport: Arc::clone(&transport),
                endpoint: Arc::clone(&endpoint),
                body: body.clone(),
                sent: Arc::clone(&sent),
                until: began + time,
            };
            clients.spawn(client.run());
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    });
    ended.map_err(|why| cannot().because(why))?;
    let elapsed_s = began.elapsed().as_secs_f64();
    let used = Usage::of(std::process::id())?.since(before);
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds fit")]
    let (sent, cpu_us) = (sent.load(Relaxed).max(1) as f64, used.cpu_us as f64);
    Ok(Raw {
        per_s: sent / elapsed_s,
        cpu_us_per_request: cpu_us / sent,
    })
}

struct Client {
    transport: Arc<Transport>,
    endpoint: Arc<Endpoint>,
    body: Bytes,
    sent: Arc<AtomicU64>,
    until: Instant,
}

impl Client {
    async fn run(self) -> Result<(), String> {
        let prepared = self.transport.prepared(&self.endpoint);
        let host = self.endpoint.url.authority().to_owned();
        while Instant::now() < self.until {
            let request = Request::post(self.endpoint.url.path())
                .header(header::HOST, &host)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(self.body.clone()))
                .map_err(|error| error.to_string())?;
            let answer = self.transport.send(&prepared, request).await;
            match answer.said {
                Ok(response) if response.http_status == 200 => self.sent.fetch_add(1, Relaxed),
                other => return Err(format!("the sink answered {other:?}")),
            };
        }
        Ok(())
    }
}

/// A way to this machine only.
pub(super) fn loopback() -> Result<NetworkPolicy, Failure> {
    let network = "127.0.0.0/8".parse();
    let network = network.map_err(|error| Failure::no("no network").because(format!("{error}")))?;
    Ok(NetworkPolicy {
        allow_http: true,
        allow: vec![network],
        ..NetworkPolicy::default()
    })
}

/// An endpoint that is reached without an engine.
pub(super) fn endpoint(url: Url) -> Endpoint {
    Endpoint {
        id: EndpointId(1),
        uuid: Uuid::nil(),
        tenant: TenantId(1),
        url,
        kind: crate::registry::Kind::Webhook,
        route: None,
        device: None,
        name: String::new(),
        recipient: String::new(),
        event_types: Vec::new(),
        policy: PolicyId(1),
        guarantee: None,
        rate: None,
        slots_max: None,
        secrets: Vec::new(),
        tls: TlsProfile::default(),
        headers: Vec::new(),
        state: EndpointState::Active,
        created_at: Time(0),
        updated_at: Time(0),
        revision: 1,
    }
}
