//! The client: connections kept by where they lead and how, and one request at a time over them.
//!
//! A [`Host`] is everything that must be equal for two requests to share a connection: scheme,
//! host, port, TLS identity (client certificate included) and version of the network policy. An
//! endpoint looks its host up once; from then on an attempt takes one short lock to get an idle
//! connection and one to put it back.
//!
//! Absent here: retries. A kept connection that turns out to be closed before it took a byte is
//! passed over; whatever else happens is reported once.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use http::uri::Authority;
use parking_lot::Mutex;
use postrider_core::id::RouteId;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::connect::connect;
use super::dial::Dial;
use super::guard::{NetworkPolicy, Target};
use super::http1::{Exchange, Http1};
use super::http2::{Http2, Serial, Terms};
use super::resolve::Resolve;
use super::tls::TlsIdentity;
use crate::channel::{Answer, Fault, Progress, Request, Response, Trouble};

/// Idle connections that are passed over for one request before a new one is made.
const STALE_MAX: usize = 8;

/// Idle connections that are closed at once when there are too many in total.
const EVICTED_MAX: usize = 64;

/// Hosts whose idle connections are looked at before others have their turn on the thread.
const SWEPT_AT_ONCE_MAX: usize = 64;

/// Shortest time between two sweeps.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What must be equal for two requests to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HostKey {
    pub(super) target: Target,
    pub(super) tls: Option<TlsIdentity>,
    pub(super) policy_version: u64,
    pub(super) manner: Manner,
    /// The route whose credentials requests carry and its revision, where the far side binds a
    /// connection to them.
    pub(super) credentials: Option<(RouteId, u64)>,
}

/// How the connections to a host are kept and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Manner {
    /// As with any receiver: what TLS agrees on, and idle ones are closed soon.
    Common,
    /// As with any receiver, but with time to answer: push services of browsers.
    Patient,
    /// As a provider of phones wants it: HTTP/2 or nothing, kept for hours, and time to answer.
    Push,
}

impl Manner {
    fn response(self, limits: &Limits) -> Duration {
        match self {
            Manner::Common => limits.response(),
            Manner::Patient | Manner::Push => Duration::from_millis(limits.response_push_ms),
        }
    }

    fn idle_shared(self, limits: &Limits) -> Duration {
        match self {
            Manner::Common | Manner::Patient => Duration::from_millis(limits.idle_shared_ms),
            Manner::Push => Duration::from_millis(limits.idle_push_ms),
        }
    }
}

/// One place that is sent to, with its connections.
pub(super) struct Host {
    target: Target,
    manner: Manner,
    authority: Authority,
    tls: Option<Arc<ClientConfig>>,
    policy: Arc<NetworkPolicy>,
    /// Idle HTTP/1.1 connections; the last one used is taken first, so that the rest may go cold.
    idle: Mutex<VecDeque<Idle>>,
    shared: Mutex<Shared>,
    /// Set once it has chosen HTTP/1.1: then connections are made side by side.
    speaks_http1: AtomicBool,
    /// Set when the policy it was made under has passed.
    retired: AtomicBool,
    /// Held while a connection is made that may turn out to be a shared one.
    turn: tokio::sync::Mutex<()>,
}

struct Idle {
    /// Boxed: it is large, and on each round it moves through several hands.
    connection: Box<Http1>,
    since: Instant,
    _counted: Counted,
}

/// HTTP/2 connections.
struct Shared {
    connections: Vec<Http2>,
    used_at: Instant,
}

/// One of all idle connections, for as long as this lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// All hosts in use.
pub(super) struct Client {
    limits: Limits,
    resolver: Arc<dyn Resolve>,
    dialer: Arc<dyn Dial>,
    hosts: Mutex<Hosts>,
    idle: Arc<AtomicUsize>,
    swept: AtomicBool,
}

#[derive(Default)]
struct Hosts {
    by_key: HashMap<HostKey, Weak<Host>>,
    /// The same, in the order in which idle connections are taken away from them.
    round: VecDeque<Weak<Host>>,
}

/// A connection that a request may go out on.
enum Link {
    Own(Box<Http1>),
    Shared(Http2),
}

impl Client {
    pub(super) fn new(limits: Limits, resolver: Arc<dyn Resolve>, dialer: Arc<dyn Dial>) -> Client {
        Client {
            limits,
            resolver,
            dialer,
            hosts: Mutex::default(),
            idle: Arc::default(),
            swept: AtomicBool::new(false),
        }
    }

    /// The host with this key, made if nobody uses it yet.
    pub(super) fn host(
        &self,
        key: HostKey,
        authority: Authority,
        tls: Option<Arc<ClientConfig>>,
        policy: &Arc<NetworkPolicy>,
    ) -> Arc<Host> {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.by_key.get(&key).and_then(Weak::upgrade) {
            return host;
        }
        let host = Arc::new(Host {
            target: key.target.clone(),
            manner: key.manner,
            authority,
            tls,
            policy: policy.clone(),
            idle: Mutex::default(),
            shared: Mutex::new(Shared {
                connections: Vec::new(),
                used_at: Instant::now(),
            }),
            speaks_http1: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        });
        hosts.by_key.insert(key, Arc::downgrade(&host));
        hosts.round.push_back(Arc::downgrade(&host));
        host
    }

    /// Closes every idle connection, and those in use as soon as they are free.
    pub(super) fn retire_all(&self) {
        let hosts = std::mem::take(&mut *self.hosts.lock());
        for host in hosts.round.iter().filter_map(Weak::upgrade) {
            host.retired.store(true, Relaxed);
            host.idle.lock().clear();
            host.shared.lock().connections.clear();
        }
    }

    /// Idle HTTP/1.1 connections, over all hosts.
    pub(super) fn idle(&self) -> usize {
        self.idle.load(Relaxed)
    }

    /// Sends one request and reads one answer.
    pub(super) async fn send(self: &Arc<Client>, host: &Arc<Host>, request: Request) -> Answer {
        self.send_by(None, host, request, &mut None).await
    }

    /// The same, but not begun at `leave_by` or later; and says over which shared connection.
    pub(super) async fn send_by(
        self: &Arc<Client>,
        leave_by: Option<Instant>,
        host: &Arc<Host>,
        request: Request,
        over: &mut Option<Serial>,
    ) -> Answer {
        self.sweep_from_now_on();
        let start = Instant::now();
        let (said, connected) = self.exchange(leave_by, host, request, start, over).await;
        let total_ms = millis(start, Instant::now());
        Answer {
            said,
            total_ms,
            connect_ms: connected.map_or(0, |at| millis(start, at)),
        }
    }

    /// The second part is when a new connection stood, if one was made.
    async fn exchange(
        &self,
        leave_by: Option<Instant>,
        host: &Arc<Host>,
        mut request: Request,
        start: Instant,
        serial: &mut Option<Serial>,
    ) -> (Result<Response, Trouble>, Option<Instant>) {
        let late = |now: Instant| leave_by.is_some_and(|at| now >= at);
        if late(start) {
            return (Err(lapsed()), None);
        }
        for _ in 0..STALE_MAX {
            let Some(link) = host.kept(&self.limits).await else {
                break;
            };
            *serial = link.serial();
            match self.over(link, leave_by, host, request, start).await {
                Ok(Ok(response)) => return (Ok(response), None),
                Ok(Err(trouble)) => return (Err(stale(trouble)), None),
                Err(back) => request = back,
            }
        }
        // Counted from here: waiting for room on a connection that then ended took its own time.
        let deadline = Instant::now() + self.limits.connect();
        let link = match self.fresh(host, deadline).await {
            Ok(link) => link,
            Err(trouble) => return (Err(trouble), None),
        };
        let connected = Instant::now();
        if late(connected) {
            return (Err(lapsed()), Some(connected));
        }
        *serial = link.serial();
        let said = match self.over(link, leave_by, host, request, connected).await {
            Ok(said) => said,
            Err(_) => Err(Trouble::unsent(
                Fault::Lost,
                "closed before the request was taken",
            )),
        };
        (said, Some(connected))
    }

    /// `Err` is the request, given back as it was.
    async fn over(
        &self,
        link: Link,
        leave_by: Option<Instant>,
        host: &Arc<Host>,
        request: Request,
        start: Instant,
    ) -> Result<Result<Response, Trouble>, Request> {
        let response = host.manner.response(&self.limits);
        let ended = match link {
            Link::Own(own) => own.exchange(request, &self.limits, start + response).await,
            Link::Shared(shared) => {
                let terms = Terms {
                    authority: &host.authority,
                    room_until: start + response,
                    leave_by,
                    response,
                    drain: self.limits.drain(),
                };
                shared.exchange(request, &terms).await
            }
        };
        match ended {
            Exchange::Answered(response, back) => {
                if let Some(connection) = back {
                    self.keep(host, connection);
                }
                Ok(Ok(response))
            }
            Exchange::Troubled(trouble) => Ok(Err(trouble)),
            Exchange::Unsent(request) => Err(request),
        }
    }

    /// A new connection, or a share in one that somebody else made meanwhile.
    async fn fresh(&self, host: &Arc<Host>, deadline: Instant) -> Result<Link, Trouble> {
        if host.tls.is_none() || host.speaks_http1.load(Relaxed) {
            return self.open(host, deadline).await;
        }
        let turn = timeout_at(deadline, host.turn.lock()).await;
        let late = |_| Trouble::unsent(Fault::ConnectTimeout, "while another one connected");
        let _turn = turn.map_err(late)?;
        if host.speaks_http1.load(Relaxed) {
            drop(_turn);
            return self.open(host, deadline).await;
        }
        match host.shared(&self.limits) {
            Some(shared) => Ok(Link::Shared(shared)),
            None => self.open(host, deadline).await,
        }
    }

    async fn open(&self, host: &Arc<Host>, deadline: Instant) -> Result<Link, Trouble> {
        let (tls, policy) = (host.tls.as_ref(), &host.policy);
        let (resolver, dialer) = (self.resolver.as_ref(), self.dialer.as_ref());
        let wire = connect(&host.target, tls, policy, resolver, dialer, deadline).await?;
        if !wire.is_http2() {
            if host.manner == Manner::Push {
                return Err(Trouble::unsent(Fault::Tls, "HTTP/2 was not agreed on"));
            }
            host.speaks_http1.store(true, Relaxed);
            return Ok(Link::Own(Box::new(Http1::open(wire).await?)));
        }
        host.speaks_http1.store(false, Relaxed);
        let shared = Http2::open(wire, deadline).await?;
        let mut list = host.shared.lock();
        list.connections.retain(Http2::is_open);
        if list.connections.len() < self.limits.shared_host_max && !host.retired.load(Relaxed) {
            list.connections.push(shared.clone());
        }
        Ok(Link::Shared(shared))
    }

    fn keep(&self, host: &Arc<Host>, connection: Box<Http1>) {
        if host.retired.load(Relaxed) {
            return;
        }
        if self.idle.fetch_add(1, Relaxed) >= self.limits.idle_total_max {
            self.evict();
        }
        let idle = Idle {
            connection,
            since: Instant::now(),
            _counted: Counted(self.idle.clone()),
        };
        let mut kept = host.idle.lock();
        kept.push_back(idle);
        let surplus = if kept.len() > self.limits.idle_host_max {
            kept.pop_front()
        } else {
            None
        };
        drop(kept);
        // Closing a socket takes its time: not under the lock.
        drop(surplus);
    }

    /// Takes the oldest idle connection away from one host after the other. A host with many loses
    /// no more than one with few, so what is busy keeps most of its own.
    fn evict(&self) {
        let mut evicted = Vec::new();
        let mut hosts = self.hosts.lock();
        for _ in 0..hosts.round.len() {
            let Some(weak) = hosts.round.pop_front() else {
                break;
            };
            if let Some(host) = weak.upgrade() {
                hosts.round.push_back(weak);
                evicted.extend(host.idle.lock().pop_front());
            }
            if evicted.len() >= EVICTED_MAX {
                break;
            }
        }
    }

    fn sweep_from_now_on(self: &Arc<Client>) {
        if self.swept.load(Relaxed) || self.swept.swap(true, Relaxed) {
            return;
        }
        let client = Arc::downgrade(self);
        let every = (self.limits.idle() / 4).max(SWEEP_INTERVAL_MIN);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                match client.upgrade() {
                    Some(client) => client.sweep().await,
                    None => return,
                }
            }
        });
    }

    /// Closes what has been idle for too long, and forgets hosts that nobody uses.
    async fn sweep(&self) {
        let hosts: Vec<_> = {
            let mut hosts = self.hosts.lock();
            hosts.by_key.retain(|_, host| host.strong_count() > 0);
            hosts.round.retain(|host| host.strong_count() > 0);
            hosts.round.iter().cloned().collect()
        };
        for some in hosts.chunks(SWEPT_AT_ONCE_MAX) {
            for host in some.iter().filter_map(Weak::upgrade) {
                host.sweep(&self.limits);
            }
            // Closing sockets takes its time, and others want this thread.
            tokio::task::yield_now().await;
        }
    }
}

impl Link {
    fn serial(&self) -> Option<Serial> {
        match self {
            Link::Own(_) => None,
            Link::Shared(shared) => Some(shared.serial()),
        }
    }
}

impl Host {
    /// Sends nothing more over this connection; what is under way on it is still answered.
    pub(super) fn leave(&self, serial: Serial) {
        let mut shared = self.shared.lock();
        shared
            .connections
            .retain(|connection| connection.serial() != serial);
    }

    /// A connection that is there already.
    async fn kept(&self, limits: &Limits) -> Option<Link> {
        if self.tls.is_some() && !self.speaks_http1.load(Relaxed) {
            return self.shared(limits).map(Link::Shared);
        }
        poll_fn(|cx| {
            loop {
                let Some(mut idle) = self.idle.lock().pop_back() else {
                    return Poll::Ready(None);
                };
                let fresh = idle.since.elapsed() < limits.idle();
                if fresh && idle.connection.is_usable(cx) {
                    return Poll::Ready(Some(Link::Own(idle.connection)));
                }
            }
        })
        .await
    }

    /// A share in the least busy HTTP/2 connection, unless another one ought to be made.
    fn shared(&self, limits: &Limits) -> Option<Http2> {
        let mut shared = self.shared.lock();
        shared.connections.retain(Http2::is_open);
        let full = shared.connections.len() >= limits.shared_host_max;
        let least = shared
            .connections
            .iter()
            .min_by_key(|connection| connection.load());
        let least = least.filter(|least| full || least.has_room()).cloned();
        shared.used_at = Instant::now();
        least
    }

    fn sweep(&self, limits: &Limits) {
        let mut cold = Vec::new();
        let mut idle = self.idle.lock();
        while idle
            .front()
            .is_some_and(|idle| idle.since.elapsed() >= limits.idle())
        {
            cold.extend(idle.pop_front());
        }
        drop(idle);
        let mut shared = self.shared.lock();
        let busy = shared
            .connections
            .iter()
            .any(|connection| connection.load() > 0);
        if !busy && shared.used_at.elapsed() >= self.manner.idle_shared(limits) {
            shared.connections.clear();
        }
    }
}

/// Its time to live ended while it waited for a connection: no byte of it was written.
pub(super) fn lapsed() -> Trouble {
    Trouble::unsent(Fault::Unprocessed, "its time to live is over")
}

/// Trouble on a connection that had been idle. If it came before a byte was written, the
/// connection was dead already and nothing was tried.
fn stale(trouble: Trouble) -> Trouble {
    match (trouble.progress, trouble.fault) {
        (Progress::Unsent, Fault::Lost) => Trouble {
            fault: Fault::Unprocessed,
            ..trouble
        },
        _ => trouble,
    }
}

fn millis(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.duration_since(from).as_millis()).unwrap_or(u32::MAX)
}
