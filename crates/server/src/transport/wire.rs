//! One connection's bytes: TCP, or TLS over it, with a gauge of what was handed over.
//!
//! The gauge is what makes "no byte of the request was written" a fact instead of a guess. It
//! counts what TCP or TLS took from us, so under TLS it may count a byte that never left: an error
//! in the direction that never allows a second request.
//!
//! Absent here: HTTP.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::dial::Socket;
use super::tls::certificate_refused;

/// A connection as HTTP uses it.
pub(super) struct Wire {
    stream: Stream,
    gauge: Arc<Gauge>,
    /// Whoever writes puts small pieces together by himself.
    gathered: bool,
}

enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What is known about a connection from outside of HTTP.
#[derive(Default)]
pub(super) struct Gauge {
    written: AtomicU64,
    read: AtomicU64,
    probing: AtomicBool,
    /// The far side's last word, if it was about our certificate.
    refused: OnceLock<AlertDescription>,
}

impl Gauge {
    /// Bytes handed over since the connection was made.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Bytes taken from it since the connection was made.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// What the far side has against our certificate. In TLS 1.3 it says so only after we take the
    /// connection to be made.
    pub(super) fn refused(&self) -> Option<AlertDescription> {
        self.refused.get().copied()
    }

    /// While set, a read asks the socket itself whether the far side has said anything, instead of
    /// waiting until the runtime has heard of it.
    pub(super) fn probing(&self, on: bool) {
        self.probing.store(on, Relaxed);
    }
}

impl Wire {
    pub(super) fn plain(stream: Socket) -> Wire {
        Wire {
            stream: Stream::Plain(stream),
            gauge: Arc::default(),
            gathered: false,
        }
    }

    pub(super) fn tls(stream: TlsStream<Socket>) -> Wire {
        Wire {
            stream: Stream::Tls(Box::new(stream)),
            gauge: Arc::default(),
            gathered: false,
        }
    }

    /// The same, asking whoever writes to put small pieces together. Under TLS each write is a
    /// record and a call to the system, so many requests had better be one.
    pub(super) fn gathered(self) -> Wire {
        Wire {
            gathered: true,
            ..self
        }
    }

    pub(super) fn gauge(&self) -> Arc<Gauge> {
        self.gauge.clone()
    }

    /// Whether HTTP/2 was agreed on.
    pub(super) fn is_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Whether bytes or an end wait in the socket. `None`: only reading tells.
    fn has_news(&self) -> Option<bool> {
        match &self.stream {
            Stream::Plain(stream) => stream.has_news(),
            Stream::Tls(stream) => stream.get_ref().0.has_news(),
        }
    }

    fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        };
        let bytes = buf.filled().len() - before;
        self.gauge.read.fetch_add(bytes as u64, Relaxed);
        if let Poll::Ready(Err(error)) = &read
            && let Some(alert) = certificate_refused(error)
        {
            let _first = self.gauge.refused.set(alert);
        }
        read
    }

    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let bytes = ready!(written)?;
        self.gauge.written.fetch_add(bytes as u64, Relaxed);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.gauge.probing.load(Relaxed) {
            return this.poll_read_stream(cx, buf);
        }
        if this.has_news() == Some(false) {
            return Poll::Pending;
        }
        // News on an idle connection: its end, or (under TLS) a session ticket. If it is still
        // there after a read, the runtime has not heard of it yet; the connection is given up.
        let read = this.poll_read_stream(cx, buf);
        if read.is_pending() && this.has_news() == Some(true) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        };
        this.count(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        };
        this.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        if self.gathered {
            return false;
        }
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
