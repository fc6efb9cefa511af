//! What HTTP libraries refuse to do: resets, garbage, headers without an end, bodies by the drop.
//!
//! Absent here: choosing. The answer is chosen in `serve`; this file only misbehaves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes of an answer without an end that are sent at most.
pub const ENDLESS_BYTES_MAX: u64 = 1 << 30;
/// Length of a slow body.
pub const SLOW_BODY_BYTES: usize = 1_000;
/// Length that a cut body announces; half of it is sent.
const CUT_BODY_BYTES: usize = 100;
/// What is written at a time into answers without an end.
const PIECE: &[u8] = b"x-endless: 0123456789012345678901234567890123456789012345678\r\n";

/// The connection does not get the answer that HTTP would give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fake breaks the connection on purpose")]
pub(super) struct Broken;

/// What is done to a socket in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misdeed {
    Reset,
    Close,
    Garbage,
    EndlessHeaders,
    SlowHeaders(u32),
}

/// A stream with a TCP socket under it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Does it, until the other side is gone or the bound is reached.
pub(super) async fn perform(mut socket: impl Socket, misdeed: Misdeed) {
    // The peer may be gone at any moment; that ends the misdeed and is nobody's concern.
    let _gone = match misdeed {
        Misdeed::Reset => socket.tcp().set_zero_linger(),
        Misdeed::Close => socket.shutdown().await,
        Misdeed::Garbage => garbage(&mut socket).await,
        Misdeed::EndlessHeaders => endless_headers(&mut socket).await,
        Misdeed::SlowHeaders(bytes_per_s) => slow_headers(&mut socket, bytes_per_s).await,
    };
}

async fn garbage(socket: &mut impl Socket) -> std::io::Result<()> {
    socket.write_all(b"\x16\x03NOT/HTTP at all\r\n\r\n").await?;
    socket.shutdown().await
}

async fn endless_headers(socket: &mut impl Socket) -> std::io::Result<()> {
    socket.write_all(b"HTTP/1.1 200 OK\r\n").await?;
    let pieces = PIECE.repeat(64);
    let mut left = ENDLESS_BYTES_MAX;
    while left > 0 {
        socket.write_all(&pieces).await?;
        left = left.saturating_sub(pieces.len() as u64);
    }
    socket.shutdown().await
}

async fn slow_headers(socket: &mut impl Socket, bytes_per_s: u32) -> std::io::Result<()> {
    let head = PIECE.repeat(SLOW_BODY_BYTES / PIECE.len());
    let pause = Duration::from_secs(1) / bytes_per_s.max(1);
    for byte in b"HTTP/1.1 200 OK\r\n".iter().chain(&head) {
        socket.write_all(std::slice::from_ref(byte)).await?;
        tokio::time::sleep(pause).await;
    }
    socket.write_all(b"content-length: 0\r\n\r\n").await
}

/// The body of an answer.
pub(super) enum Reply {
    /// All at once.
    Whole(Bytes),
    /// Byte after byte.
    Slow {
        left: usize,
        pause: Duration,
        sleep: Pin<Box<Sleep>>,
    },
    /// Without an end, as far as the bound.
    Endless(u64),
    /// Half of what was announced.
    Cut(Cut),
}

/// How far a cut body has come.
pub(super) enum Cut {
    Whole,
    /// Half is with the connection, which is given one turn to write it.
    Half,
    Over,
}

impl Reply {
    pub(super) fn slow(bytes_per_s: u32) -> Reply {
        let pause = Duration::from_secs(1) / bytes_per_s.max(1);
        Reply::Slow {
            left: SLOW_BODY_BYTES,
            pause,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = match self.get_mut() {
            Reply::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Reply::Whole(bytes) => std::mem::take(bytes),
            Reply::Slow { left: 0, .. } | Reply::Endless(0) => return Poll::Ready(None),
            Reply::Slow { left, pause, sleep } => {
                std::task::ready!(sleep.as_mut().poll(cx));
                sleep.set(tokio::time::sleep(*pause));
                *left -= 1;
                Bytes::from_static(b".")
            }
            Reply::Endless(left) => {
                *left = left.saturating_sub(PIECE.len() as u64);
                Bytes::from_static(PIECE)
            }
            Reply::Cut(cut) => match cut {
                Cut::Whole => {
                    *cut = Cut::Half;
                    Bytes::from_static(&PIECE[..CUT_BODY_BYTES / 2])
                }
                Cut::Half => {
                    *cut = Cut::Over;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Cut::Over => return Poll::Ready(Some(Err(Broken))),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Reply::Slow { left, .. } => SizeHint::with_exact(*left as u64),
            Reply::Endless(_) => SizeHint::default(),
            Reply::Cut(_) => SizeHint::with_exact(CUT_BODY_BYTES as u64),
        }
    }
}
