//! The simulated network as the production code sees it: a way out, a way in, and names.
//!
//! Every stream is counted for as long as it lives, so that one which nobody closes is seen, and
//! is written to in pieces as small as the seed likes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use postrider::entropy::Entropy;
use postrider::http::Listen;
use postrider::transport::dial::{Dialing, Socket, Stream};
use postrider::transport::{Dial, Resolve, ResolveError, Resolving};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::evidence::Evidence;

/// One write in so many is cut short.
const SHORT_WRITE_ONE_IN: u64 = 8;

/// Streams that are open.
#[derive(Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    pub fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A stream of the simulated network.
pub struct SimStream {
    stream: TcpStream,
    entropy: Entropy,
    open: Open,
}

impl SimStream {
    fn new(stream: TcpStream, entropy: &Entropy, open: &Open) -> SimStream {
        open.0.fetch_add(1, Relaxed);
        SimStream {
            stream,
            entropy: entropy.clone(),
            open: open.clone(),
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.open.0.fetch_sub(1, Relaxed);
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let drawn = self.entropy.narrow();
        let mut most = buf.len();
        if drawn.is_multiple_of(SHORT_WRITE_ONE_IN) && most > 1 {
            most = 1 + usize::try_from(drawn >> 32).unwrap_or(0) % (most - 1);
        }
        Pin::new(&mut self.stream).poll_write(cx, &buf[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for SimStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

/// The way out.
pub struct SimDialer {
    pub entropy: Entropy,
    pub open: Open,
    pub evidence: Evidence,
}

impl Dial for SimDialer {
    fn dial(&self, address: SocketAddr) -> Dialing<'_> {
        self.evidence.dialled(address);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let counted = SimStream::new(stream, &self.entropy, &self.open);
            Ok(Socket::Other(Box::new(counted)))
        })
    }
}

/// The way in.
pub struct SimListener {
    listener: TcpListener,
    entropy: Entropy,
    open: Open,
}

impl SimListener {
    pub async fn bind(port: u16, entropy: Entropy, open: Open) -> io::Result<SimListener> {
        Ok(SimListener {
            listener: TcpListener::bind(("0.0.0.0", port)).await?,
            entropy,
            open,
        })
    }
}

impl Listen for SimListener {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((SimStream::new(stream, &self.entropy, &self.open), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a name server has just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The truth.
    #[default]
    Right,
    /// No answer at all.
    Silent,
    /// The answer that there is no such name.
    Absent,
    /// The machine's own services, as in an attack by rebinding.
    Rebound,
    /// An address that nothing may reach, and behind it the right one.
    Mixed,
    /// A bug of ours: looking it up panics.
    Panicking,
}

/// The names of the simulated network.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<BTreeMap<String, Naming>>>);

impl Names {
    pub fn set(&self, name: &str, naming: Naming) {
        self.0.lock().insert(name.to_owned(), naming);
    }

    pub fn heal(&self) {
        self.0.lock().clear();
    }
}

/// Looks up names as turmoil knows them, where nothing is the matter with the name.
pub struct SimResolver(pub Names);

impl Resolve for SimResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        let naming = self.0.0.lock().get(name).copied().unwrap_or_default();
        Box::pin(async move {
            let right = turmoil::lookup(name);
            let metadata = IpAddr::from([169, 254, 169, 254]);
            match naming {
                Naming::Right => Ok(vec![right]),
                Naming::Absent => Err(ResolveError {
                    reason: "no such name".into(),
                }),
                Naming::Rebound => Ok(vec![metadata, IpAddr::from([127, 0, 0, 1])]),
                Naming::Mixed => Ok(vec![metadata, right]),
                Naming::Silent => std::future::pending().await,
                Naming::Panicking => panic!("{}", crate::PLANTED_PANIC),
            }
        })
    }
}
