//! The fake: a webhook sink that verifies, records, and misbehaves as told, a push service, and FCM
//! under the paths of its API.
//!
//! A [`Fake`] serves HTTP/1.1 and h2c on one address and, if asked, the same over TLS on another.
//! What a path does is a [`Behaviour`], set by the library or over `/_/behaviour`; what arrived is
//! a list of [`Record`]s, read by the library or over `/_/requests`. The demo and the crash test
//! hold the engine against these records, so nothing here may know the engine: signatures are
//! verified from their public descriptions. [`push`] has some paths of its own, and [`apns`] has a
//! listener.
//!
//! Absent here: judgement of what arrived, and any state on disk.

mod admin;
pub mod apns;
mod behaviour;
pub mod fcm;
pub mod push;
mod record;
mod serve;
mod signature;
mod state;
mod tally;
mod tls;
mod wire;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

pub use behaviour::{Act, Answer, Behaviour, Invalid, RetryAfter, Rule, When};
pub use record::{Filter, Record};
pub use signature::Verdict;
pub use state::Refused;
pub use tally::{Counted, Expected};
pub use tls::{Certificate, Tls, TlsError};

use state::State;
use wire::{Socket, perform};

/// Connections held at a time; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Longest TLS handshake.
const HANDSHAKE_MS: u64 = 10_000;
/// Wait after an accept that failed, so that a lack of file descriptors is not a busy loop.
const ACCEPT_PAUSE_MS: u64 = 20;

/// How a fake is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens without TLS; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it listens with TLS, and how.
    pub tls: Option<(SocketAddr, Tls)>,
    /// Where browsers connect to the push service, if they shall.
    pub browsers: Option<SocketAddr>,
    /// Where it is APNs, if it shall be.
    pub apns: Option<SocketAddr>,
    /// Records that are kept; 0 keeps none and saves the time.
    pub records_max: usize,
    /// Bytes of each body that a record keeps.
    pub body_keep_bytes: usize,
    /// Whether it may listen beyond loopback. Whoever reaches a fake may script it.
    pub beyond_loopback: Reach,
}

/// From where a fake may be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// From this machine.
    #[default]
    Loopback,
    /// From wherever its address is routed.
    Anywhere,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            browsers: None,
            apns: None,
            records_max: 100_000,
            body_keep_bytes: 0,
            beyond_loopback: Reach::Loopback,
        }
    }
}

/// A fake could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address may be reached by others.
    #[error("{0} is not a loopback address; whoever reaches a fake may script it")]
    BeyondLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TLS cannot be offered so.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running fake. It stops when it is dropped.
pub struct Fake {
    state: Arc<State>,
    http: SocketAddr,
    https: Option<(SocketAddr, String)>,
    accepting: Vec<tokio::task::AbortHandle>,
    browsers: Option<push::UserAgents>,
    apns: Option<apns::Apns>,
}

impl Fake {
    /// Starts a fake on the runtime of the caller.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Settings) -> Result<Fake, StartError> {
        let listener = listen(settings.listen, settings.beyond_loopback).await?;
        let http = address(&listener, settings.listen);
        let (mut https, mut secure) = (None, None);
        if let Some((at, tls)) = &settings.tls {
            let (config, pem) = tls.server()?;
            let listener = listen(*at, settings.beyond_loopback).await?;
            https = Some((address(&listener, *at), pem));
            secure = Some((listener, TlsAcceptor::from(config)));
        }
        let origin = match &https {
            Some((address, _)) => format!("https://{address}"),
            None => format!("http://{http}"),
        };
        let (records, body) = (settings.records_max, settings.body_keep_bytes);
        let mut fake = Fake {
            http,
            https,
            state: Arc::new(State::new(records, body, &origin)),
            accepting: Vec::new(),
            browsers: None,
            apns: None,
        };
        if let Some(at) = settings.apns {
            let apns = apns::Apns::start(apns::Settings {
                listen: at,
                records_max: settings.records_max,
                reach: settings.beyond_loopback,
                ..apns::Settings::default()
            });
            let apns = fake.apns.insert(apns.await?);
            let _first = fake.state.apns.set(Arc::clone(apns.service()));
        }
        if let Some(at) = settings.browsers {
            let listener = listen(at, settings.beyond_loopback).await?;
            let service = Arc::clone(fake.push());
            let browsers = push::UserAgents::start(listener, service);
            let refused = |source| StartError::Listen {
                address: at,
                source,
            };
            fake.browsers = Some(browsers.map_err(refused)?);
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        if let Some((listener, acceptor)) = secure {
            fake.accept(listener, Some(acceptor), Arc::clone(&places));
        }
        fake.accept(listener, None, places);
        Ok(fake)
    }

    /// Where it listens without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// Where it listens with TLS, and the PEM by which it is trusted.
    #[must_use]
    pub fn tls(&self) -> Option<(SocketAddr, &str)> {
        self.https
            .as_ref()
            .map(|(address, pem)| (*address, pem.as_str()))
    }

    /// URL of a path, without TLS.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The push service's subscriptions. Their endpoints are on the address with TLS, if there is
    /// one.
    #[must_use]
    pub fn push(&self) -> &Arc<push::Subscriptions> {
        &self.state.push
    }

    /// What is APNs here, if anything is.
    #[must_use]
    pub fn apns(&self) -> Option<&Arc<apns::Service>> {
        self.apns.as_ref().map(apns::Apns::service)
    }

    /// Where browsers connect to the push service, if they may: what Firefox takes as
    /// `dom.push.serverURL`.
    #[must_use]
    pub fn browsers_url(&self) -> Option<String> {
        self.browsers.as_ref().map(push::UserAgents::url)
    }

    /// Sets what a path does from now on.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn set(&self, behaviour: Behaviour) -> Result<(), Refused> {
        self.state.set(behaviour)
    }

    /// What arrived and fits, oldest first.
    #[must_use]
    pub fn requests(&self, filter: &Filter) -> Vec<Record> {
        self.state.find(filter)
    }

    /// The service account of an FCM project, as the text of the file that Google's console gives
    /// out: its token URL is this fake's.
    #[must_use]
    pub fn fcm_account(&self, project: &str) -> String {
        self.state.fcm.account(project, &self.url("")).to_string()
    }

    /// Where requests of an FCM project go, without TLS.
    #[must_use]
    pub fn fcm_url(&self, project: &str) -> String {
        self.url(&format!("/v1/projects/{project}/messages:send"))
    }

    /// Takes every FCM access token back.
    pub fn fcm_revoke(&self) {
        self.state.fcm.revoke();
    }

    /// FCM access tokens that were granted since the start.
    #[must_use]
    pub fn fcm_granted(&self) -> u64 {
        self.state.fcm.granted()
    }

    /// How many requests arrived since the start or the last clearing, kept or not.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.state.count(&Filter::default()).1
    }

    /// Forgets what arrived; behaviours stay.
    pub fn clear(&self) {
        self.state.clear();
    }

    fn accept(
        &mut self,
        listener: TcpListener,
        acceptor: Option<TlsAcceptor>,
        places: Arc<Semaphore>,
    ) {
        let state = Arc::clone(&self.state);
        let accepting = tokio::spawn(accept(listener, acceptor, places, state));
        self.accepting.push(accepting.abort_handle());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

async fn listen(at: SocketAddr, reach: Reach) -> Result<TcpListener, StartError> {
    if reach == Reach::Loopback && !at.ip().is_loopback() {
        return Err(StartError::BeyondLoopback(at));
    }
    TcpListener::bind(at)
        .await
        .map_err(|source| StartError::Listen {
            address: at,
            source,
        })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
    state: Arc<State>,
) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            continue;
        };
        // Without it an answer may wait for the peer's delayed acknowledgement; not fatal.
        let _set = stream.set_nodelay(true);
        tokio::spawn(connection(
            stream,
            acceptor.clone(),
            Arc::clone(&state),
            place,
        ));
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
    _place: OwnedSemaphorePermit,
) {
    let Some(acceptor) = acceptor else {
        return match begins_h2(&stream).await {
            Ok(true) => serve_h2(stream, state).await,
            Ok(false) => serve_h1(stream, state).await,
            Err(_gone) => {}
        };
    };
    let handshake = acceptor.accept(stream);
    let limit = Duration::from_millis(HANDSHAKE_MS);
    if let Ok(Ok(stream)) = tokio::time::timeout(limit, handshake).await {
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => serve_h2(stream, state).await,
            _ => serve_h1(stream, state).await,
        }
    }
}

/// Whether the first bytes are those of HTTP/2 with prior knowledge (RFC 9113 section 3.3).
async fn begins_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 4];
    let length = stream.peek(&mut first).await?;
    Ok(length == first.len() && &first == b"PRI ")
}

async fn serve_h1(stream: impl Socket, state: Arc<State>) {
    let word = Arc::new(serve::Word::default());
    let service = service_fn(|request| {
        let (state, word) = (Arc::clone(&state), Arc::clone(&word));
        // Boxed because a connection gives its socket back only if its futures can move.
        Box::pin(async move { serve::answer(&state, &word, request).await })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let socket = connection.into_parts().io.into_inner();
    let misdeed = word.lock().take();
    perform(socket, misdeed.unwrap_or(wire::Misdeed::Close)).await;
}

/// A misdeed resets the stream here: HTTP/2 has no other way to spoil one request of many.
async fn serve_h2(stream: impl Socket, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { serve::answer(&state, &serve::Word::default(), request).await }
    });
    let io = TokioIo::new(stream);
    let _ended = http2::Builder::new(TokioExecutor::new())
        .serve_connection(io, service)
        .await;
}

#[cfg(test)]
mod tests;
