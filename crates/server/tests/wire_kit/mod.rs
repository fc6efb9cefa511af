//! What the tests of the wire share: an endpoint, an event, a dispatch, and receivers that do
//! exactly what a test tells them, byte by byte.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use postrider::channel::Attempted;
use postrider::registry::{Endpoint, EndpointState, Secret, TlsProfile};
use postrider::transport::dial::{Dial, Dialing, Socket, Stream};
use postrider::transport::{Limits, NetworkPolicy, Transport};
use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::{Event, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, PolicyId, TenantId,
};
use postrider_core::outcome::Outcome;
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";
pub const OLDER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The default limits, but for a body that does not end. For every test whose end is not a limit,
/// so that a busy machine does not decide it.
pub fn patient() -> Limits {
    Limits {
        drain_ms: 200,
        ..Limits::default()
    }
}

/// Limits under which a test for something slow is over soon.
pub fn hasty() -> Limits {
    Limits {
        connect_ms: 400,
        response_ms: 400,
        drain_ms: 200,
        ..Limits::default()
    }
}

/// The loopback network is allowed, and `http:`.
pub fn open_policy() -> NetworkPolicy {
    NetworkPolicy {
        allow_http: true,
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow_hosts: vec!["localhost".into()],
        ..NetworkPolicy::default()
    }
}

pub fn secret(value: &str, expires_at: Option<Time>) -> Secret {
    Secret {
        value: value.into(),
        created_at: Time(0),
        expires_at,
    }
}

pub fn endpoint(url: &str) -> Endpoint {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    Endpoint {
        id: EndpointId(NEXT.fetch_add(1, SeqCst) as u64),
        uuid: Uuid::from_u128(1),
        tenant: TenantId(1),
        url: url.parse().unwrap(),
        kind: postrider::registry::Kind::Webhook,
        route: None,
        device: None,
        name: String::new(),
        recipient: String::new(),
        event_types: Vec::new(),
        policy: PolicyId(1),
        guarantee: None,
        rate: None,
        slots_max: None,
        secrets: vec![secret(SECRET, None)],
        tls: TlsProfile::default(),
        headers: Vec::new(),
        state: EndpointState::Active,
        created_at: Time(0),
        updated_at: Time(0),
        revision: 1,
    }
}

pub fn event(payload: &str) -> Event {
    Event {
        id: EventId(1),
        uuid: 1,
        tenant: TenantId(1),
        key_digest: KeyDigest::default(),
        body_digest: BodyDigest::default(),
        business_id: "order-1".into(),
        event_type: "order.paid".into(),
        version: 1,
        recipient: "".into(),
        ordering_key: "".into(),
        collapse_key: "".into(),
        urgency: Urgency::default(),
        traceparent: "".into(),
        content_type: "application/json".into(),
        admitted_at: Time(0),
        key_expires_at: Time(0),
        first_delivery: DeliveryId(1),
        deliveries: 1,
        retry_of: None,
        payload: Bytes::from(payload.to_owned()),
    }
}

pub fn dispatch(attempt: u32) -> Dispatch {
    Dispatch {
        delivery: DeliveryId(1),
        correlation: CorrelationId(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
        tenant: TenantId(1),
        event: EventId(1),
        endpoint: EndpointId(1),
        attempt,
        policy: PolicyId(1),
        guarantee: Guarantee::AtLeastOnce,
        lane: None,
        previous_accepted: 0,
        admitted_at: Time(0),
        expires_at: Time::NEVER,
        opened_at: Time(0),
    }
}

/// The wall clock: a public verifier of signatures looks at its own.
pub fn wall() -> Time {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Time(i64::try_from(since.as_millis()).unwrap())
}

/// One attempt to `endpoint`.
pub async fn attempt(transport: &Transport, endpoint: &Arc<Endpoint>) -> Attempted {
    let prepared = transport.prepared(endpoint);
    transport
        .attempt(&prepared, &event("{\"a\":1}"), &dispatch(1), wall())
        .await
}

/// One attempt that must have been made.
pub async fn outcome(transport: &Transport, endpoint: &Arc<Endpoint>) -> Outcome {
    match attempt(transport, endpoint).await {
        Attempted::Answered(outcome) => outcome,
        Attempted::NotSent(cause) => panic!("not sent: {cause}"),
    }
}

/// Kind and cause, to compare in one line.
pub fn brief(outcome: &Outcome) -> (postrider_core::outcome::OutcomeKind, Cause) {
    (outcome.kind, outcome.cause)
}

/// A listener with a script for each connection.
pub struct Receiver {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Runs `script` for each connection, with its number from 0.
    pub async fn start<S, F>(script: S) -> Receiver
    where
        S: Fn(TcpStream, usize) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Receiver::start_at("127.0.0.1:0", script).await
    }

    pub async fn start_at<S, F>(address: &str, script: S) -> Receiver
    where
        S: Fn(TcpStream, usize) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                running.spawn(script(stream, counted.fetch_add(1, SeqCst)));
            }
        });
        Receiver {
            address,
            connections,
            accepting,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Reads one request; `None` at the end of the connection.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let mut seen = Seen {
        line: lines.next()?.to_owned(),
        ..Seen::default()
    };
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        seen.headers.push((name.to_owned(), value.to_owned()));
    }
    let length: usize = seen.header("content-length").parse().unwrap_or(0);
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = bytes.split_off(head + 4);
    Some(seen)
}

/// Answers every request on every connection with these bytes.
pub async fn answering(bytes: &'static [u8]) -> Receiver {
    Receiver::start(move |mut stream, _| async move {
        while read_request(&mut stream).await.is_some() {
            if stream.write_all(bytes).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Closes so that the other side gets a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// The machine's network, and how often something was written to it.
#[derive(Default)]
pub struct CountingDialer(pub Arc<AtomicUsize>);

impl Dial for CountingDialer {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is the transport's own network, counted"
    )]
    fn dial(&self, address: SocketAddr) -> Dialing<'_> {
        let writes = self.0.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            Ok(Socket::Other(Box::new(Counting { tcp, writes })))
        })
    }
}

struct Counting {
    tcp: TcpStream,
    writes: Arc<AtomicUsize>,
}

impl Stream for Counting {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, SeqCst);
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, SeqCst);
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Polls until `holds`, or fails after five seconds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not come about"
        );
        tokio::time::sleep(Duration::from_millis(5)).await; // poll: until the deadline
    }
}
