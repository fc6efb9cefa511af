//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! hyper splits a connection into a sender and a driver that must be polled for anything to happen.
//! Here both travel together, from the pool to the attempt that uses them and back: no task for a
//! connection, no hop between two of them for a request, and a dropped attempt closes its socket.
//! An idle connection is polled by nobody, so before it is used again its socket is asked whether
//! the far side has hung up.
//!
//! Absent here: sending a request twice. A request that comes back provably unsent goes back to the
//! caller.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;
use super::answer::{self, Body, Step, fault_of};
use super::wire::{Gauge, Wire};
use crate::channel::{Fault, Request, Response, Trouble};

/// Bytes that a connection buffers, and so the longest response head.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Bytes that may come before the head of the answer: informational answers (1xx), which may be
/// any number, and which hyper passes over.
const PREAMBLE_BYTES_MAX: u64 = 64 * 1_024;

/// What hyper makes of a request: an answer, or an error that may hold the request.
type Head = Result<http::Response<hyper::body::Incoming>, TrySendError<Request>>;

/// A connection between two requests.
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    driver: Connection<TokioIo<Wire>, Full<Bytes>>,
    gauge: Arc<Gauge>,
    /// One timer for all its requests: moved on, which is cheap, instead of set and cancelled.
    limit: Pin<Box<Sleep>>,
    /// The driver has come to its end and must not be polled again.
    ended: bool,
}

/// How a request ended.
pub(super) enum Exchange {
    /// With an answer. The connection comes back if it can be used again.
    Answered(Response, Option<Box<Http1>>),
    /// Without one.
    Troubled(Trouble),
    /// It was never begun, and is given back.
    Unsent(Request),
}

impl Http1 {
    pub(super) async fn open(wire: Wire) -> Result<Http1, Trouble> {
        let gauge = wire.gauge();
        let (sender, driver) = Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| Trouble::unsent(Fault::ConnectFailed, error.to_string()))?;
        let limit = Box::pin(sleep_until(Instant::now()));
        Ok(Http1 {
            sender,
            driver,
            gauge,
            limit,
            ended: false,
        })
    }

    /// Whether a request may be written to this connection, which has been idle.
    pub(super) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.gauge.probing(true);
        let open = self.drive(cx);
        self.gauge.probing(false);
        open && !self.sender.is_closed()
    }

    /// Sends `request` and reads what is answered until `deadline`.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request,
        limits: &Limits,
        deadline: Instant,
    ) -> Exchange {
        let (gauge, before) = (self.gauge.clone(), self.gauge.written());
        self.limit.as_mut().reset(deadline);
        let head = self.head(request).await;
        let trouble = |fault, detail: String| {
            let unsent = gauge.written() == before;
            let make = if unsent {
                Trouble::unsent
            } else {
                Trouble::begun
            };
            Exchange::Troubled(make(fault, detail))
        };
        let response = match head {
            Err((fault, detail)) => return trouble(fault, detail.to_owned()),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => return Exchange::Unsent(request),
                None => {
                    let (fault, detail) = fault_of(&error.into_error());
                    return trouble(fault, detail);
                }
            },
            Ok(Ok(response)) => response,
        };
        if response.headers().len() > answer::HEADERS_MAX {
            return trouble(Fault::ResponseInvalid, "too many headers".into());
        }
        let (head, body) = response.into_parts();
        // The head decides. Its body is read for the evidence and to keep the connection.
        let (body, end) = self.body(Body::new(body), limits).await;
        let whole = end == Step::Whole;
        let response = answer::response(head, body);
        let back = if whole && self.settles().await {
            Some(self)
        } else {
            None
        };
        Exchange::Answered(response, back)
    }

    /// The head of the answer, or why none is waited for any longer.
    async fn head(&mut self, request: Request) -> Result<Head, (Fault, &'static str)> {
        let before = self.gauge.read();
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            // The driver is what moves; the answer is only where it puts the result.
            self.drive(cx);
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            if self.gauge.read() - before > PREAMBLE_BYTES_MAX {
                return Poll::Ready(Err((Fault::ResponseInvalid, "nothing but 1xx answers")));
            }
            let late = (Fault::ResponseTimeout, "");
            self.limit.as_mut().poll(cx).map(|()| Err(late))
        })
        .await
    }

    /// Reads the body to its end, its bound or the time limit.
    async fn body(&mut self, mut body: Body, limits: &Limits) -> (Bytes, Step) {
        let mut hurry = true;
        let end = poll_fn(|cx| {
            let mut step = body.poll_read(cx);
            if step == Step::Pending {
                self.drive(cx);
                step = body.poll_read(cx);
            }
            if step != Step::Pending {
                return Poll::Ready(step);
            }
            if std::mem::take(&mut hurry) {
                let soon = self.limit.deadline().min(Instant::now() + limits.drain());
                self.limit.as_mut().reset(soon);
            }
            self.limit.as_mut().poll(cx).map(|()| Step::Pending)
        })
        .await;
        (body.kept(), end)
    }

    /// Lets the driver finish the exchange, and says whether the connection is fit for another.
    async fn settles(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.drive(cx) && self.sender.is_ready())).await
    }

    /// Moves the connection on; whether it is still open.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.ended = self.ended || Pin::new(&mut self.driver).poll(cx).is_ready();
        !self.ended
    }
}
