//! A fake of Apple's push service: HTTP/2 over TLS, as strict towards senders as the real one.
//!
//! It refuses what APNs refuses, with the same HTTP status codes and reasons: paths, headers and
//! bodies that are not sound, provider tokens that are missing, foreign, expired or renewed too
//! often, topics that do not fit. A connection allows one stream until a request on it was
//! accepted, then more; it belongs to the key of its first token, and one that saw an expired token
//! lets nothing through any more. SETTINGS change and GOAWAYs with data go out when
//! [`Service`] is told to; answers can be scripted or held back, and what arrived can be asked for.
//!
//! Absent here: delivery. What a device would show is derived from what arrived.

pub(in crate::fake) mod admin;
mod desk;
mod frames;
mod model;
mod provider;
mod service;
mod strict;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use desk::Desk;
pub use model::{Act, Device, End, Full, Key, Notification, Script, Shown, Wanted};
pub use service::{DEVICES_MAX, SCRIPTS_MAX, Service};

use super::{ACCEPT_PAUSE_MS, HANDSHAKE_MS, Reach, StartError, Tls, address, listen};
use frames::{Control, Framed, STREAMS_STAND_IN};
use service::{Line, look, now_us};

/// Bytes of bodies that may be under way unread on one connection. With the 64 KiB that HTTP/2
/// begins with, hundreds of streams share what is left of the window byte by byte (hyper claims one
/// for each), and the server's library takes that many tiny frames for an attack.
const CONNECTION_WINDOW_BYTES: u32 = 1_024 * 1_024;
/// Longest that a connection is kept for saying farewell.
const FAREWELL_MS: u64 = 1_000;

/// How a fake of APNs is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How TLS is offered. With roots for client certificates these take the place of tokens.
    pub tls: Tls,
    /// Notifications that are kept.
    pub records_max: usize,
    /// Bytes of each body that are kept.
    pub body_keep_bytes: usize,
    /// From where it may be reached.
    pub reach: Reach,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: Tls::default(),
            records_max: 100_000,
            body_keep_bytes: 5_120,
            reach: Reach::Loopback,
        }
    }
}

/// A running fake of APNs. It stops when it is dropped.
pub struct Apns {
    service: Arc<Service>,
    address: SocketAddr,
    accepting: tokio::task::AbortHandle,
}

impl Apns {
    /// Starts one on the runtime of the caller.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Settings) -> Result<Apns, StartError> {
        let (config, pem) = settings.tls.server()?;
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = listen(settings.listen, settings.reach).await?;
        let address = address(&listener, settings.listen);
        let origin = format!("https://{address}");
        let service = Service::new(
            (settings.records_max, settings.body_keep_bytes),
            origin,
            pem,
        );
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&service)));
        Ok(Apns {
            service,
            address,
            accepting: accepting.abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does and what it saw.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

impl Drop for Apns {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, service: Arc<Service>) {
    // Dropped with the listener: then every connection ends.
    let mut running = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            continue;
        };
        let _set = stream.set_nodelay(true);
        while running.try_join_next().is_some() {}
        running.spawn(connection(stream, acceptor.clone(), Arc::clone(&service)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, service: Arc<Service>) {
    let limit = Duration::from_millis(HANDSHAKE_MS);
    let Ok(Ok(stream)) = tokio::time::timeout(limit, acceptor.accept(stream)).await else {
        return;
    };
    let certified = stream.get_ref().1.peer_certificates().is_some();
    let control = Arc::new(Control::default());
    let line = service.line(Arc::clone(&control), certified);
    let (first, _) = service.allowed_streams();
    let framed = Framed::new(stream, Arc::clone(&control), first);
    let _ended = serve(framed, &service, &line).await;
}

async fn serve(
    framed: Framed<TlsStream<TcpStream>>,
    service: &Arc<Service>,
    line: &Arc<Line>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS_STAND_IN)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake::<_, Bytes>(framed)
        .await?;
    loop {
        let next = tokio::select! {
            next = connection.accept() => next,
            () = line.close.notified() => break,
        };
        let Some(next) = next else {
            return Ok(());
        };
        let (request, respond) = next?;
        let (service, line) = (Arc::clone(service), Arc::clone(line));
        tokio::spawn(async move { exchange(&service, &line, request, respond).await });
    }
    // What is to be said yet goes out, then the connection ends, whatever is under way.
    let said = async {
        while !line.control.has_said_all() {
            tokio::select! {
                next = connection.accept() => if next.is_none() { return },
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    };
    let _late = tokio::time::timeout(Duration::from_millis(FAREWELL_MS), said).await;
    Ok(())
}

async fn exchange(
    service: &Service,
    line: &Line,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let stream = respond.stream_id().as_u32();
    let open = line.open.fetch_add(1, Relaxed) + 1;
    let agreed = line.control.agreed(stream) as usize;
    if agreed > 0 && open > agreed {
        line.open.fetch_sub(1, Relaxed);
        service.refuse_stream();
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    let answered = answer(service, line, stream, request).await;
    line.open.fetch_sub(1, Relaxed);
    match answered {
        Some(Answered::With(response, body)) => send(respond, response, body),
        Some(Answered::Reset) => respond.send_reset(Reason::INTERNAL_ERROR),
        // The stream stays open until the connection ends.
        Some(Answered::Silence) => {
            let _gone = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
        None => line.close.notify_one(),
    }
}

enum Answered {
    With(Response<()>, Bytes),
    Reset,
    Silence,
}

/// The answer, or `None` if the connection ends instead.
async fn answer(
    service: &Service,
    line: &Line,
    stream: u32,
    request: Request<RecvStream>,
) -> Option<Answered> {
    let (head, mut incoming) = request.into_parts();
    let body = read(&mut incoming).await?;
    let authorization = head.headers.get(header::AUTHORIZATION);
    let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
    let looked = look(&head, &body);
    let judged = looked.as_ref().map_err(|refusal| *refusal);
    let now_s = now_us() as i64 / 1_000_000;
    let judged =
        judged.and_then(|(token, asked)| service.judge(line, authorization, (token, asked), now_s));
    let (provider, act) = match judged {
        Ok(judged) => judged,
        Err((http_status, reason)) => (None, Act::refuse(http_status, reason)),
    };
    let (token, asked) = looked.unwrap_or_default();
    let answered = !act.silent && act.end.is_none();
    let processed = act.http_status == 200;
    let serial = service.keep(
        Notification {
            connection: line.number,
            stream,
            token,
            apns_id: asked.id.clone().unwrap_or_default(),
            push_type: asked.push_type,
            app: asked.topic,
            priority: asked.priority,
            expiration: asked.expiration,
            collapse_id: asked.collapse_id.unwrap_or_default(),
            issued_s: provider.map_or(0, |provider| provider.issued_s),
            arrived_us: now_us(),
            http_status: if answered { act.http_status } else { 0 },
            reason: act.reason.clone(),
            processed,
            ..Notification::default()
        },
        &body,
    );
    if act.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(act.delay_ms)).await;
    }
    if let Err(counts) = service.held_back(line, stream).await {
        service.correct(serial, 0, counts && processed);
        return Some(Answered::Silence);
    }
    match act.end {
        Some(End::Reset) => return Some(Answered::Reset),
        Some(End::Close) => return None,
        None if act.silent => return Some(Answered::Silence),
        None => {}
    }
    if processed && !line.widened.swap(true, Relaxed) {
        line.control.allow_streams(service.allowed_streams().1);
    }
    let (response, body) = said(&act, asked.id);
    Some(Answered::With(response, body))
}

/// The body, or as much of it as is enough to refuse it.
async fn read(incoming: &mut RecvStream) -> Option<BytesMut> {
    let mut body = BytesMut::new();
    while let Some(data) = incoming.data().await {
        let data = data.ok()?;
        let _given = incoming.flow_control().release_capacity(data.len());
        if body.len() + data.len() <= strict::READ_BYTES_MAX {
            body.extend_from_slice(&data);
        }
    }
    Some(body)
}

fn said(act: &Act, id: Option<String>) -> (Response<()>, Bytes) {
    let mut response = Response::new(());
    *response.status_mut() =
        StatusCode::from_u16(act.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let id = id.unwrap_or_else(|| uuid::Uuid::from_u128(rand::random()).to_string());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("apns-id", id);
    }
    if let Some(seconds) = act.retry_after_s {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    if act.http_status == 200 {
        return (response, Bytes::new());
    }
    let mut object = serde_json::Map::new();
    object.insert("reason".to_owned(), act.reason.as_str().into());
    if let Some(timestamp) = act.timestamp {
        object.insert("timestamp".to_owned(), timestamp.into());
    }
    let body = serde_json::Value::from(object).to_string();
    (response, body.into())
}

fn send(mut respond: SendResponse<Bytes>, response: Response<()>, body: Bytes) {
    // Whoever is gone has nothing to be told.
    if let Ok(mut stream) = respond.send_response(response, body.is_empty())
        && !body.is_empty()
    {
        let _gone = stream.send_data(body, true);
    }
}
