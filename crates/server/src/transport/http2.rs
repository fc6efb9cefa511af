//! HTTP/2 connections of one host: few, shared, each driven by a task of its own.
//!
//! The far side's SETTINGS decide how many requests a connection carries at once. A new connection
//! is made when all are full, up to a bound; beyond it requests wait inside hyper.
//!
//! Absent here: sending a request twice, and server push, which is switched off.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Parts, Scheme};
use http::{Uri, header};
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::answer::{self, Body, Step, fault_of};
use super::http1::{Exchange, HEAD_BYTES_MAX};
use super::wire::Wire;
use crate::channel::{Fault, Request, Trouble};

/// Connections to one host at the most.
pub(super) const CONNECTIONS_MAX: usize = 4;

/// Bytes of one answer that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 64 * 1_024;

/// The same for all answers of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1_024 * 1_024;

/// How often a connection with requests under way is asked whether it lives, and how long the
/// answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A share in a connection.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    load: Arc<AtomicUsize>,
    room: Arc<AtomicUsize>,
}

impl Http2 {
    pub(super) async fn open(wire: Wire) -> Result<Http2, Trouble> {
        let (sender, mut driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| Trouble::unsent(Fault::ConnectFailed, error.to_string()))?;
        let room = Arc::new(AtomicUsize::new(driver.current_max_send_streams()));
        let told = room.clone();
        // It ends when the last sender is gone, or with the connection. Each time it has moved, the
        // far side may have changed its mind about how much it takes at once.
        tokio::spawn(poll_fn(move |cx| {
            let end = Pin::new(&mut driver).poll(cx);
            told.store(driver.current_max_send_streams(), Relaxed);
            end.map(|end| {
                if let Err(error) = end {
                    tracing::debug!(%error, "an HTTP/2 connection ended");
                }
            })
        }));
        Ok(Http2 {
            sender,
            load: Arc::default(),
            room,
        })
    }

    /// Whether it stands, as far as is known here.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Requests under way on it.
    pub(super) fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Whether it takes another request at once.
    pub(super) fn has_room(&self) -> bool {
        self.load() < self.room.load(Relaxed)
    }

    /// Sends `request` and reads what is answered until `deadline`.
    pub(super) async fn exchange(
        mut self,
        request: Request,
        authority: &Authority,
        limits: &Limits,
        deadline: Instant,
    ) -> Exchange {
        let _counted = Counted::new(&self.load);
        let answer = self.sender.try_send_request(absolute(request, authority));
        let response = match timeout_at(deadline, answer).await {
            Err(_) => return Exchange::Troubled(Trouble::begun(Fault::ResponseTimeout, "")),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => return Exchange::Unsent(origin(request)),
                None => {
                    let (fault, detail) = fault_of(&error.into_error());
                    return Exchange::Troubled(Trouble::begun(fault, detail));
                }
            },
            Ok(Ok(response)) => response,
        };
        if response.headers().len() > answer::HEADERS_MAX {
            let trouble = Trouble::begun(Fault::ResponseInvalid, "too many headers");
            return Exchange::Troubled(trouble);
        }
        let (head, body) = response.into_parts();
        let deadline = deadline.min(Instant::now() + limits.drain());
        let mut body = Body::new(body);
        let reading = poll_fn(|cx| match body.poll_read(cx) {
            Step::Pending => Poll::Pending,
            step => Poll::Ready(step),
        });
        // The head decides; what is left of the body when time runs out is reset.
        let _ = timeout_at(deadline, reading).await;
        Exchange::Answered(answer::response(head, body.kept()), None)
    }
}

/// One request under way, for as long as this lives.
struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn new(load: &AtomicUsize) -> Counted<'_> {
        load.fetch_add(1, Relaxed);
        Counted(load)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The request with its target in absolute form, and without what HTTP/2 says otherwise (RFC 9113
/// section 8.3.1).
fn absolute(mut request: Request, authority: &Authority) -> Request {
    let mut parts = Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority.clone());
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(header::HOST);
    request
}

/// The request as it came.
fn origin(mut request: Request) -> Request {
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned());
    if let Some(host) = authority.and_then(|host| host.try_into().ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    request
}
