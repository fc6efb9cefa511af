//! Making a TCP stream to a judged address, behind a trait so that a test can be the network.
//!
//! The machine's own network goes through one match and no pointer. Whatever else stands in for it
//! costs a box for each connection, never one for a request.
//!
//! Absent here: which address. `connect` has resolved and judged it, and judges the stream again.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// When a silent connection is first asked whether it lives, how often then, and how many times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// What connecting comes to.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send + 'a>>;

/// Connects to addresses.
pub trait Dial: Send + Sync {
    /// A stream to `address`. The caller bounds how long it waits, and drops the future then.
    fn dial(&self, address: SocketAddr) -> Dialing<'_>;
}

/// The machine's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDialer;

impl Dial for SystemDialer {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that connects, to judged addresses"
    )]
    fn dial(&self, address: SocketAddr) -> Dialing<'_> {
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            let keepalive = TcpKeepalive::new()
                .with_time(KEEPALIVE_AFTER)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_PROBES);
            tcp.set_nodelay(true)?;
            SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
            Ok(Socket::Tcp(tcp))
        })
    }
}

/// A stream that does not come from the machine's network.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The far end.
    ///
    /// # Errors
    /// If it is gone.
    fn peer_addr(&self) -> io::Result<SocketAddr>;

    /// The near end.
    ///
    /// # Errors
    /// If it is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connected stream.
pub enum Socket {
    /// Of the machine.
    Tcp(TcpStream),
    /// Of a test.
    Other(Box<dyn Stream>),
}

impl Socket {
    /// The far end and the near one.
    pub(super) fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        match self {
            Socket::Tcp(tcp) => Ok((tcp.peer_addr()?, tcp.local_addr()?)),
            Socket::Other(other) => Ok((other.peer_addr()?, other.local_addr()?)),
        }
    }

    /// Whether bytes or an end wait in the socket, read or not. `None`: only reading tells.
    pub(super) fn has_news(&self) -> Option<bool> {
        let Socket::Tcp(tcp) = self else {
            return None;
        };
        let peeked = SockRef::from(tcp).peek(&mut [MaybeUninit::uninit(); 1]);
        let silent = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        Some(!silent)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Other(other) => Pin::new(other).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Socket::Other(other) => Pin::new(other).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Socket::Other(other) => Pin::new(other).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(tcp) => tcp.is_write_vectored(),
            Socket::Other(other) => other.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Other(other) => Pin::new(other).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Other(other) => Pin::new(other).poll_shutdown(cx),
        }
    }
}
