//! The raw limit of HTTP/2: two clients that others wrote, each over one connection with TLS, and
//! the faster of them counts.
//!
//! Both repeat one request, written by the channel that is measured, as often as the far side takes
//! it. The `h2` crate is driven as barely as it can be; hyper is what most senders use.
//!
//! Absent here: the transport's own client, an engine, anything durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::load::per_s;
use super::{THREADS, TURNS};
use crate::channel::Request;
use crate::cli::failure::Failure;

/// Requests under way at a time. More do not make either client faster.
const STREAMS: usize = 500;

/// What is sent again and again, and where.
#[derive(Clone)]
pub(super) struct Shot {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    head: http::Request<()>,
    body: Bytes,
}

/// What the two made of it, in accepted requests a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    pub(super) hyper_per_s: f64,
    pub(super) h2_per_s: f64,
}

impl Limit {
    /// The faster one's.
    pub(super) fn per_s(self) -> f64 {
        self.hyper_per_s.max(self.h2_per_s)
    }
}

impl Shot {
    /// `request`, in the origin form that channels write, to `origin`, trusted by `ca_pem`.
    pub(super) fn new(origin: &str, ca_pem: &str, request: Request) -> Result<Shot, Failure> {
        let authority = origin.strip_prefix("https://").unwrap_or(origin);
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(cannot)?;
        roots.add(certificate).map_err(cannot)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(cannot)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (mut head, body) = request.into_parts();
        head.uri = Uri::try_from(format!("{origin}{}", head.uri)).map_err(cannot)?;
        head.version = Version::HTTP_2;
        head.headers.remove(HOST);
        let body = body.into_inner().unwrap_or_default();
        Ok(Shot {
            address: authority.parse().map_err(cannot)?,
            config: Arc::new(config),
            head: http::Request::from_parts(head, ()),
            body,
        })
    }

    /// Both clients in turns; the best turn of each counts.
    pub(super) async fn limit(&self, time: Duration) -> Result<Limit, Failure> {
        let mut limit = Limit::default();
        for _ in 0..TURNS {
            let (by_h2, by_hyper) = (self.clone(), self.clone());
            let h2_per_s = alone(time, |until| by_h2.h2(until)).await?;
            let hyper_per_s = alone(time, |until| by_hyper.hyper(until)).await?;
            limit.h2_per_s = limit.h2_per_s.max(h2_per_s);
            limit.hyper_per_s = limit.hyper_per_s.max(hyper_per_s);
        }
        Ok(limit)
    }

    async fn h2(self, until: Instant) -> Result<u64, String> {
        let stream = self.connect().await?;
        let opened = h2::client::Builder::new()
            .initial_max_send_streams(1)
            .handshake::<_, Bytes>(stream)
            .await;
        let (sender, connection) = opened.map_err(|error| error.to_string())?;
        let driven = tokio::spawn(connection);
        let send = move || {
            let (mut sender, shot) = (sender.clone(), self.clone());
            async move {
                let words = |error: h2::Error| error.to_string();
                let (answer, mut stream) = sender.send_request(shot.head, false).map_err(words)?;
                stream.send_data(shot.body, true).map_err(words)?;
                let answer = answer.await.map_err(words)?;
                let http_status = answer.status().as_u16();
                let mut body = answer.into_body();
                while let Some(data) = body.data().await {
                    let length = data.map_err(words)?.len();
                    let _given = body.flow_control().release_capacity(length);
                }
                Ok(http_status)
            }
        };
        let sent = repeat(send, until).await;
        ended("h2", sent, driven).await
    }

    async fn hyper(self, until: Instant) -> Result<u64, String> {
        let stream = TokioIo::new(self.connect().await?);
        let opened = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_max_send_streams(1)
            .handshake(stream)
            .await;
        let (sender, connection) = opened.map_err(|error| format!("{error:?}"))?;
        let driven = tokio::spawn(connection);
        let send = move || {
            let (mut sender, shot) = (sender.clone(), self.clone());
            async move {
                let words = |error: hyper::Error| format!("{error:?}");
                let request = shot.head.map(|()| Full::new(shot.body));
                let answer = sender.send_request(request).await.map_err(words)?;
                let http_status = answer.status().as_u16();
                answer.into_body().collect().await.map_err(words)?;
                Ok(http_status)
            }
        };
        let sent = repeat(send, until).await;
        ended("hyper", sent, driven).await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the bench's own sink, with nothing of ours in between"
    )]
    async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let words = |error: std::io::Error| error.to_string();
        let tcp = TcpStream::connect(self.address).await.map_err(words)?;
        tcp.set_nodelay(true).map_err(words)?;
        let name = ServerName::from(self.address.ip());
        let tls = TlsConnector::from(Arc::clone(&self.config));
        tls.connect(name, tcp).await.map_err(words)
    }
}

fn cannot(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::no("the raw HTTP/2 clients could not be measured").because(error.into())
}

/// What a client sent; where it went wrong, with what its connection says about it.
async fn ended<E: std::fmt::Debug>(
    name: &str,
    sent: Result<u64, String>,
    driven: tokio::task::JoinHandle<Result<(), E>>,
) -> Result<u64, String> {
    match sent {
        Ok(sent) => Ok(sent),
        Err(why) => {
            let connection = tokio::time::timeout(Duration::from_secs(1), driven).await;
            Err(format!("{name}: {why}; its connection: {connection:?}"))
        }
    }
}

/// Accepted requests a second of a client that has threads of its own.
async fn alone<F>(time: Duration, client: impl FnOnce(Instant) -> F) -> Result<f64, Failure>
where
    F: Future<Output = Result<u64, String>> + Send + 'static,
{
    let began = Instant::now();
    let client = client(began + time);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let sent = runtime.block_on(client)?;
        let elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok::<_, String>(per_s(sent, elapsed_us))
    };
    let ended = tokio::task::spawn_blocking(run).await.map_err(cannot)?;
    ended.map_err(cannot)
}

/// One request, for the far side may allow no more before it; then as many as it allows.
async fn repeat<F>(
    send: impl Fn() -> F + Clone + Send + 'static,
    until: Instant,
) -> Result<u64, String>
where
    F: Future<Output = Result<u16, String>> + Send + 'static,
{
    let accepted = |http_status| match http_status {
        200 => Ok(()),
        other => Err(format!("the sink answered {other}")),
    };
    accepted(send().await?)?;
    let sent = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..STREAMS {
        let (send, sent) = (send.clone(), Arc::clone(&sent));
        clients.spawn(async move {
            while Instant::now() < until {
                accepted(send().await?)?;
                sent.fetch_add(1, Relaxed);
            }
            Ok::<(), String>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(sent.load(Relaxed))
}
