//! HTTP/2 connections of one host: few, shared, each driven by a task of its own.
//!
//! The far side's SETTINGS decide how many requests a connection carries at once, from the first
//! (nothing is sent before they have come) to the last (they may change at any time). Requests
//! beyond that wait here, not inside the protocol library: of one that waits it is certain that
//! nothing was written. A new connection is made when all are full, up to a bound.
//!
//! The h2 crate is driven directly. hyper's client puts a channel, a task and a timer between a
//! request and its stream, which costs more than the stream.
//!
//! Absent here: sending a request twice, and server push, which is switched off.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderValue, Uri};
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{self, Kept, Step};
use super::client::lapsed;
use super::http1::{Exchange, HEAD_BYTES_MAX};
use super::room::{Place, Room};
use super::tls;
use super::wire::{Gauge, Wire};
use crate::channel::{Fault, Request, Trouble};

/// Requests under way on one connection at the most, whatever its far side allows.
const STREAMS_MAX: usize = 1_000;

/// Bytes of one answer that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 64 * 1_024;

/// The same for all answers of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1_024 * 1_024;

/// How often a connection that says nothing is looked at. With requests under way it is asked
/// whether it lives, and has as long to answer.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Looks at a silent connection without requests before it is asked: once a minute.
const IDLE_LOOKS: u32 = 12;

/// Number of the next connection.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What tells one connection from all others of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Serial(u64);

/// What a request over one connection needs to know.
pub(super) struct Terms<'a> {
    pub(super) authority: &'a Authority,
    /// How long it may wait for room, over all connections that end meanwhile.
    pub(super) room_until: Instant,
    /// When it may not begin any more.
    pub(super) leave_by: Option<Instant>,
    /// From its first byte to the answer's last.
    pub(super) response: Duration,
    /// From the answer's head to the end of its body.
    pub(super) drain: Duration,
}

/// A share in a connection.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    room: Arc<Room>,
    load: Arc<AtomicUsize>,
    serial: Serial,
}

impl Http2 {
    /// A connection whose far side has said how much it takes at once.
    pub(super) async fn open(wire: Wire, deadline: Instant) -> Result<Http2, Trouble> {
        let gauge = wire.gauge();
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            // None until the far side has said how many.
            .initial_max_send_streams(0)
            .handshake(wire.gathered())
            .await
            .map_err(|error| Trouble::unsent(Fault::ConnectFailed, error.to_string()))?;
        let (room, load) = (Arc::new(Room::default()), Arc::<AtomicUsize>::default());
        let watch = Watch {
            ping: connection.ping_pong(),
            gauge: Arc::clone(&gauge),
            heard: 0,
            asked: false,
            silent: 0,
            load: load.clone(),
        };
        tokio::spawn(drive(connection, room.clone(), watch));
        let late = |_| Trouble::unsent(Fault::ConnectTimeout, "no SETTINGS");
        timeout_at(deadline, room.known()).await.map_err(late)?;
        if let Some(alert) = gauge.refused() {
            return Err(tls::not_taken(alert));
        }
        Ok(Http2 {
            sender,
            room,
            load,
            serial: Serial(NEXT.fetch_add(1, Relaxed)),
        })
    }

    /// Which connection it is.
    pub(super) fn serial(&self) -> Serial {
        self.serial
    }

    /// Whether it stands, as far as is known here.
    pub(super) fn is_open(&self) -> bool {
        !self.room.is_closed()
    }

    /// Requests under way on it, or waiting for room.
    pub(super) fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Whether it takes another request at once, as far as is known.
    pub(super) fn has_room(&self) -> bool {
        self.load() < self.room.places()
    }

    /// Sends `request` and reads what is answered.
    pub(super) async fn exchange(mut self, request: Request, terms: &Terms<'_>) -> Exchange {
        let _counted = Counted::new(&self.load);
        let place = self.room.enter();
        let place = match timeout_at(terms.room_until, place).await {
            Ok(Some(place)) => place,
            Ok(None) => return Exchange::Unsent(request),
            Err(_) => return waited(),
        };
        let open = poll_fn(|cx| self.sender.poll_ready(cx)).await;
        if open.is_err() {
            // It has said farewell; those under way are still answered.
            self.room.close();
            return Exchange::Unsent(request);
        }
        if terms.leave_by.is_some_and(|at| Instant::now() >= at) {
            return Exchange::Troubled(lapsed());
        }
        match self.over(request, place, terms).await {
            Ok(exchange) => exchange,
            Err(trouble) => Exchange::Troubled(trouble),
        }
    }

    async fn over(
        &mut self,
        request: Request,
        _place: Place,
        terms: &Terms<'_>,
    ) -> Result<Exchange, Trouble> {
        let deadline = Instant::now() + terms.response;
        let (head, body) = absolute(request, terms.authority);
        let sent = self.sender.send_request(head, body.is_empty());
        let (answer, mut stream) = sent.map_err(|error| self.refused(&error))?;
        if !body.is_empty() {
            // Taken whole: the library sends it as fast as the far side takes it.
            let sent = stream.send_data(body, true);
            sent.map_err(|error| self.trouble(&error))?;
        }
        let response = timeout_at(deadline, answer).await;
        let late = |_| Trouble::begun(Fault::ResponseTimeout, "");
        let response = response
            .map_err(late)?
            .map_err(|error| self.trouble(&error))?;
        if response.headers().len() > answer::HEADERS_MAX {
            return Err(Trouble::begun(Fault::ResponseInvalid, "too many headers"));
        }
        let (head, mut incoming) = response.into_parts();
        let mut kept = Kept::default();
        if !incoming.is_end_stream() {
            let deadline = deadline.min(Instant::now() + terms.drain);
            let reading = poll_fn(|cx| poll_body(&mut incoming, &mut kept, cx));
            // The head decides; what is left of the body when time runs out is reset.
            let _ = timeout_at(deadline, reading).await;
        }
        Ok(Exchange::Answered(
            answer::response(head, kept.bytes()),
            None,
        ))
    }

    /// Trouble of a request that the library did not take.
    fn refused(&self, error: &h2::Error) -> Trouble {
        let fault = match error.is_go_away() || error.is_io() {
            // Between our look and our request the connection ended.
            true => Fault::Unprocessed,
            false => Fault::Lost,
        };
        self.room.close();
        Trouble::unsent(fault, words(error))
    }

    /// Trouble of a request that was begun.
    fn trouble(&self, error: &h2::Error) -> Trouble {
        if !error.is_reset() {
            self.room.close();
        }
        Trouble::begun(fault_of(error), words(error))
    }
}

/// No room in time: nothing was written.
fn waited() -> Exchange {
    Exchange::Troubled(Trouble::unsent(
        Fault::Unprocessed,
        "the far side takes no more requests at once",
    ))
}

fn poll_body(incoming: &mut h2::RecvStream, kept: &mut Kept, cx: &mut Context<'_>) -> Poll<Step> {
    loop {
        match incoming.poll_data(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(Step::Whole),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Step::Broken),
            Poll::Ready(Some(Ok(data))) => {
                // Fails only for a stream that is over, and then there is nothing to give back.
                let _given = incoming.flow_control().release_capacity(data.len());
                if kept.take(&data) == Step::Cut {
                    return Poll::Ready(Step::Cut);
                }
            }
        }
    }
}

/// Moves a connection on until it ends, or until nobody uses it and nothing is under way.
///
/// Each request wakes it, and tokio runs what was woken last first: so it would write each request
/// for itself. It lets whoever is ready go before it once, and then writes all there is.
async fn drive(mut connection: Connection<Wire, Bytes>, room: Arc<Room>, mut watch: Watch) {
    let mut look = pin!(sleep(LOOK_INTERVAL));
    let mut waited = false;
    poll_fn(|cx| {
        waited = !waited;
        if waited {
            // Whoever wakes himself goes to the end of the line.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = end {
                tracing::debug!(error = words(&error), "an HTTP/2 connection ended");
            }
            return Poll::Ready(());
        }
        // Each time it has moved, the far side may have changed its mind about how much it takes
        // at once; 0 may be its word, or that it has not spoken yet.
        room.resize(connection.max_concurrent_send_streams().min(STREAMS_MAX));
        while look.as_mut().poll(cx).is_ready() {
            look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
            if watch.is_dead(cx) {
                tracing::debug!("an HTTP/2 connection does not answer a ping");
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
    room.close();
}

/// Whether a connection lives: one that says nothing is asked.
struct Watch {
    ping: Option<PingPong>,
    gauge: Arc<Gauge>,
    /// Bytes that it had said at the last look.
    heard: u64,
    /// A ping is out.
    asked: bool,
    /// Looks since it last said something.
    silent: u32,
    load: Arc<AtomicUsize>,
}

impl Watch {
    fn is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        let heard = self.gauge.read();
        let spoke = std::mem::replace(&mut self.heard, heard) != heard;
        self.silent = if spoke { 0 } else { self.silent + 1 };
        let Some(ping) = &mut self.ping else {
            return false;
        };
        if self.asked {
            match ping.poll_pong(cx) {
                Poll::Ready(Ok(_)) => self.asked = false,
                Poll::Ready(Err(_)) => return true,
                // Whoever speaks, lives; its answer to the ping may be behind other words.
                Poll::Pending => return !spoke,
            }
        }
        let busy = self.load.load(Relaxed) > 0;
        if self.silent >= if busy { 1 } else { IDLE_LOOKS } {
            self.silent = 0;
            self.asked = ping.send_ping(Ping::opaque()).is_ok();
        }
        false
    }
}

/// One request under way, for as long as this lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(load: &Arc<AtomicUsize>) -> Counted {
        load.fetch_add(1, Relaxed);
        Counted(load.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The request with its target in absolute form, and without what HTTP/2 says otherwise (RFC 9113
/// section 8.3.1); and its body, which is one piece that is there.
fn absolute(request: Request, authority: &Authority) -> (http::Request<()>, Bytes) {
    let (mut head, body) = request.into_parts();
    let body = body.into_inner().unwrap_or_default();
    let mut target = Parts::default();
    target.scheme = Some(Scheme::HTTPS);
    target.authority = Some(authority.clone());
    target.path_and_query = head.uri.path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(target) {
        head.uri = uri;
    }
    head.version = http::Version::HTTP_2;
    head.headers.remove(HOST);
    if !body.is_empty() {
        head.headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(body.len()));
    }
    (http::Request::from_parts(head, ()), body)
}

/// What kind of trouble it is. Provably unprocessed: the stream was refused (RFC 9113 section 8.7),
/// or the connection ended with a GOAWAY that names an earlier last stream (section 6.8), which is
/// the only way a remote GOAWAY becomes a stream's error.
fn fault_of(error: &h2::Error) -> Fault {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    match (
        refused || error.is_go_away(),
        error.is_remote(),
        error.is_library(),
    ) {
        (true, true, _) => Fault::Unprocessed,
        (_, _, true) => Fault::ResponseInvalid,
        _ => Fault::Lost,
    }
}

/// What the library says. It shows the data of a GOAWAY as a byte string in Rust's notation; ours
/// is [`Trouble::GOAWAY`], the error's name, and the data as they came.
fn words(error: &h2::Error) -> String {
    let text = error.to_string();
    if !(error.is_go_away() && error.is_remote()) {
        return text;
    }
    let reason = error.reason().unwrap_or(h2::Reason::NO_ERROR);
    let data = text.split_once("(b\"").map_or("", |(_, data)| data);
    let data = data.strip_suffix("\")").unwrap_or(data);
    let data = data.replace("\\\"", "\"").replace("\\\\", "\\");
    format!("{} {}: {data}", Trouble::GOAWAY, reason.description())
}
