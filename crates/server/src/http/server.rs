//! Connections: how many, for how long, and how they end.
//!
//! A connection gets a task of its own, at most so many at once and so many from one address. One
//! on which no request has begun in time is closed, whatever it has sent: half a request line,
//! half an HTTP/2 preface, or nothing. When the process is asked to end, nothing new is accepted,
//! requests under way are finished, and what is left after the drain time is cut.
//!
//! Absent here: TLS. A proxy in front speaks it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service as _;

use super::error::{Code, Problem};
use crate::config;
use crate::observe::Metrics;

/// Wait after the system refused to accept, which is mostly for want of descriptors.
const ACCEPT_RETRY_MS: u64 = 50;
/// Between two pings on an idle HTTP/2 connection, and how long an answer to one may take.
const PING_MS: u64 = 20_000;
/// Bytes that a peer may send on one HTTP/2 stream, and on one connection, before they are read.
const STREAM_WINDOW_BYTES: u32 = 262_144;
const CONNECTION_WINDOW_BYTES: u32 = 1_048_576;
/// Headers of a request at most.
const HEADERS_MAX: usize = 100;

/// Why serving ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is of no use.
    #[error("the listener failed: {0}")]
    Listener(#[from] io::Error),
}

/// Where connections come in.
pub trait Listen: Send + 'static {
    /// One of them.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next one, and who it is from.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where callers connect to.
    ///
    /// # Errors
    /// If the listener is of no use.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Answers are written whole: waiting to fill a packet would only add time.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// Serves `router` on `listener` until `draining` turns true and everything under way has ended,
/// or the drain time is over.
///
/// # Errors
/// [`ServeError`], if the listener cannot be used at all.
pub async fn serve(
    listener: impl Listen,
    router: Router,
    limits: &config::Server,
    metrics: Arc<Metrics>,
    mut draining: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    listener.local_addr()?;
    let doors = Arc::new(Doors {
        total: Arc::new(Semaphore::new(limits.connections_max)),
        by_ip: Mutex::default(),
        by_ip_max: limits.connections_per_ip_max,
        metrics,
    });
    let builder = Arc::new(builder(limits));
    let times = Times {
        first_request: Duration::from_millis(limits.header_read_ms),
        request: Duration::from_millis(limits.request_ms),
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = ended(&mut draining) => break,
            accepted = accept(&listener, &doors) => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some((stream, guest)) = accepted else {
            continue;
        };
        let (router, builder) = (router.clone(), Arc::clone(&builder));
        let draining = draining.clone();
        connections.spawn(async move {
            converse(stream, router, &builder, times, draining).await;
            drop(guest);
        });
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(limits.drain_ms), finish)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections were cut at the end"
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Times {
    first_request: Duration,
    request: Duration,
}

fn builder(limits: &config::Server) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_read_ms))
        .max_buf_size(limits.header_bytes_max)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_millis(PING_MS))
        .keep_alive_timeout(Duration::from_millis(PING_MS));
    builder
}

/// One connection, from its first byte to its last.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    builder: &Builder<TokioExecutor>,
    times: Times,
    mut draining: watch::Receiver<bool>,
) {
    let begun = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&begun);
    let service = service_fn(move |request: Request<Incoming>| {
        seen.store(true, Ordering::Relaxed);
        answer(router.clone(), request, times.request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let late = tokio::time::sleep(times.first_request);
    tokio::pin!(late);
    let mut watched = false;
    let mut closing = false;
    loop {
        // What a peer did wrong on its connection is no event of ours.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = ended(&mut draining), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = late.as_mut(), if !watched => {
                watched = true;
                if !begun.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    limit: Duration,
) -> Result<Response, std::convert::Infallible> {
    match tokio::time::timeout(limit, router.call(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok(Problem::of(Code::RequestTimeout).into_response()),
    }
}

/// Waits until the process was asked to end, or nobody is left who could ask.
async fn ended(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Who is inside.
struct Doors {
    total: Arc<Semaphore>,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    by_ip_max: usize,
    metrics: Arc<Metrics>,
}

/// A connection that is inside, for as long as this lives.
struct Guest {
    doors: Arc<Doors>,
    ip: IpAddr,
    _seat: tokio::sync::OwnedSemaphorePermit,
}

/// The next connection, once there is room for one more. `None`: it was closed at once, or the
/// system had none to give.
async fn accept<L: Listen>(listener: &L, doors: &Arc<Doors>) -> Option<(L::Stream, Guest)> {
    let seat = Arc::clone(&doors.total).acquire_owned().await.ok()?;
    let (stream, peer) = match listener.accept().await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            return None;
        }
    };
    let ip = peer.ip().to_canonical();
    {
        let mut by_ip = doors.by_ip.lock();
        let inside = by_ip.entry(ip).or_default();
        if *inside >= doors.by_ip_max {
            doors.metrics.api_connections_refused.inc();
            return None;
        }
        *inside += 1;
    }
    doors.metrics.api_connections.inc();
    Some((
        stream,
        Guest {
            doors: Arc::clone(doors),
            ip,
            _seat: seat,
        },
    ))
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.doors.metrics.api_connections.dec();
        let mut by_ip = self.doors.by_ip.lock();
        if let Some(inside) = by_ip.get_mut(&self.ip) {
            *inside -= 1;
            if *inside == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
