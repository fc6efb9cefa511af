//! A socket under an HTTP/2 server that can be told to say what the server's library does not:
//! SETTINGS that change while it serves, and a GOAWAY with data.
//!
//! Frames of ours go out between two of the library's (RFC 9113 section 4.1). The acknowledgements
//! that ours bring are kept from the library, which would take them for a fault. What passes by is
//! looked at for as much as that needs: heads of frames.
//!
//! Absent here: streams and headers; those are the library's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;
/// Bytes of the connection preface (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;
/// Bytes taken from the socket at once.
const READ_BYTES: usize = 16 * 1_024;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// The number of streams that the library is told to allow; its first SETTINGS name it, and that is
/// where the number meant is put instead.
pub(super) const STREAMS_STAND_IN: u32 = 0x3FFF_FFF1;

/// What a connection is to say, and what was seen of it.
#[derive(Default)]
pub(super) struct Control {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Frames that wait to go out.
    waiting: Vec<u8>,
    /// Sent SETTINGS that were not acknowledged yet, in order: how many streams each allows.
    unacknowledged: std::collections::VecDeque<u32>,
    /// Streams that the client has agreed to keep to, for streams after the one beside it.
    agreed: (u32, u32),
    /// The last stream that was opened.
    last_stream: u32,
    pings: u64,
    /// Everything that was to be said has gone out.
    said: bool,
    waker: Option<Waker>,
}

impl Control {
    /// Says how many streams may be open at once from now on.
    pub(super) fn allow_streams(&self, streams: u32) {
        let mut payload = Vec::from(MAX_CONCURRENT_STREAMS.to_be_bytes());
        payload.extend_from_slice(&streams.to_be_bytes());
        let mut inner = self.inner.lock();
        inner.unacknowledged.push_back(streams);
        inner.say(&frame(SETTINGS, 0, &payload));
    }

    /// Says farewell: streams after `last` were not processed, and `data` says why.
    pub(super) fn go_away(&self, last: u32, data: &[u8]) {
        // Error code 0: NO_ERROR.
        let payload = [&last.to_be_bytes(), &[0; 4][..], data].concat();
        self.inner.lock().say(&frame(GOAWAY, 0, &payload));
    }

    /// Whether everything went out.
    pub(super) fn has_said_all(&self) -> bool {
        self.inner.lock().said
    }

    /// How many streams the client has agreed to when it opened this one; 0 before any agreement.
    pub(super) fn agreed(&self, stream: u32) -> u32 {
        let (streams, after) = self.inner.lock().agreed;
        if stream > after { streams } else { 0 }
    }

    /// Pings that came.
    pub(super) fn pings(&self) -> u64 {
        self.inner.lock().pings
    }
}

impl Inner {
    fn say(&mut self, frame: &[u8]) {
        self.waiting.extend_from_slice(frame);
        self.said = false;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Follows a stream of frames.
#[derive(Default)]
struct Follower {
    head: [u8; HEAD_BYTES],
    have: usize,
    left: usize,
    /// A block of headers goes on in the next frame, and nothing may come between.
    open_block: bool,
}

/// The head of a frame.
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Follower {
    fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.open_block
    }

    /// Takes from `bytes` what belongs to one step: a part of a head, or a part of a payload. The
    /// head is given out once, when it is whole.
    fn step(&mut self, bytes: &[u8]) -> (usize, Option<Head>) {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            return (taken, None);
        }
        let taken = (HEAD_BYTES - self.have).min(bytes.len());
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        if self.have < HEAD_BYTES {
            return (taken, None);
        }
        self.have = 0;
        let [a, b, c, kind, flags, s1, s2, s3, s4] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open_block = flags & END_HEADERS == 0;
        }
        let stream = u32::from_be_bytes([s1, s2, s3, s4]) & 0x7FFF_FFFF;
        (
            taken,
            Some(Head {
                kind,
                flags,
                stream,
            }),
        )
    }
}

/// A socket that speaks on its own where it is told to.
pub(super) struct Framed<S> {
    stream: S,
    control: Arc<Control>,
    /// How many streams the first SETTINGS allow.
    first_streams: u32,
    out: Follower,
    /// Bytes that go out before anything else.
    ahead: BytesMut,
    incoming: Incoming,
}

#[derive(Default)]
struct Incoming {
    preface: usize,
    frames: Follower,
    /// The frame that is passing by is not for the library.
    dropping: bool,
    /// The library's own SETTINGS were acknowledged.
    settled: bool,
    ready: BytesMut,
}

impl<S> Framed<S> {
    pub(super) fn new(stream: S, control: Arc<Control>, first_streams: u32) -> Framed<S> {
        Framed {
            stream,
            control,
            first_streams,
            out: Follower::default(),
            ahead: BytesMut::new(),
            incoming: Incoming::default(),
        }
    }
}

impl Incoming {
    /// Passes on what is the library's, and notes what was seen.
    fn sift(&mut self, mut bytes: &[u8], control: &Control, first_streams: u32) {
        let preface = (PREFACE_BYTES - self.preface).min(bytes.len());
        self.preface += preface;
        self.ready.put_slice(&bytes[..preface]);
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let in_payload = self.frames.left > 0;
            let (taken, head) = self.frames.step(bytes);
            if let Some(head) = head {
                self.dropping = self.note(&head, control, first_streams);
                if !self.dropping {
                    let whole = self.frames.head;
                    self.ready.put_slice(&whole);
                }
            } else if in_payload && !self.dropping {
                self.ready.put_slice(&bytes[..taken]);
            }
            bytes = &bytes[taken..];
        }
    }

    /// Whether the frame is an acknowledgement of ours.
    fn note(&mut self, head: &Head, control: &Control, first_streams: u32) -> bool {
        let mut inner = control.inner.lock();
        match (head.kind, head.flags & ACK != 0) {
            (HEADERS, _) => inner.last_stream = inner.last_stream.max(head.stream),
            (PING, false) => inner.pings += 1,
            (SETTINGS, true) if !self.settled => {
                self.settled = true;
                inner.agreed = (first_streams, inner.last_stream);
            }
            (SETTINGS, true) => {
                if let Some(streams) = inner.unacknowledged.pop_front() {
                    inner.agreed = (streams, inner.last_stream);
                    return true;
                }
            }
            _ => {}
        }
        false
    }
}

impl<S: AsyncWrite + Unpin> Framed<S> {
    /// Writes what goes ahead, as far as there may be something of ours now.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.out.is_between() && self.ahead.is_empty() {
                let mut inner = self.control.inner.lock();
                self.ahead.put_slice(&inner.waiting);
                inner.waiting.clear();
            }
            if self.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.ahead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ahead.advance(written);
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (taken, _) = self.out.step(bytes);
            bytes = &bytes[taken..];
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ahead(cx))?;
        let stand_in = [
            &MAX_CONCURRENT_STREAMS.to_be_bytes()[..],
            &STREAMS_STAND_IN.to_be_bytes(),
        ]
        .concat();
        let place = buf
            .windows(stand_in.len())
            .position(|bytes| bytes == stand_in);
        if let Some(place) = place {
            let number = place + 2..place + stand_in.len();
            let mut meant = BytesMut::from(buf);
            meant[number].copy_from_slice(&this.first_streams.to_be_bytes());
            this.follow(&meant);
            this.ahead = meant;
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.follow(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_ahead(cx))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        let mut inner = this.control.inner.lock();
        inner.said = inner.waiting.is_empty();
        inner.waker = Some(cx.waker().clone());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.control.inner.lock().waker = Some(cx.waker().clone());
        while this.incoming.ready.is_empty() {
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.incoming
                .sift(read.filled(), &this.control, this.first_streams);
        }
        let length = buf.remaining().min(this.incoming.ready.len());
        buf.put_slice(&this.incoming.ready.split_to(length));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_our_settings_are_kept_from_the_library() {
        let control = Control::default();
        control.allow_streams(7);
        let mut incoming = Incoming::default();
        let ack = frame(SETTINGS, ACK, &[]);
        let open = |stream: u8| {
            let mut open = frame(HEADERS, END_HEADERS, b"block");
            open[8] = stream;
            open
        };
        let preface = vec![b'P'; PREFACE_BYTES];
        let whole = [preface.clone(), ack.clone(), open(1), ack.clone(), open(3)].concat();
        for byte in whole {
            incoming.sift(&[byte], &control, 1);
        }
        let passed = [preface, ack, open(1), open(3)].concat();
        assert_eq!(incoming.ready, passed);
        assert_eq!((control.agreed(1), control.agreed(3)), (0, 7));
    }

    #[test]
    fn nothing_comes_between_two_parts_of_a_block() {
        let mut out = Follower::default();
        let mut step = |bytes: &[u8]| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (taken, _) = out.step(rest);
                rest = &rest[taken..];
            }
            out.is_between()
        };
        assert!(!step(&frame(HEADERS, 0, b"first part")));
        let last = frame(CONTINUATION, END_HEADERS, b"last");
        assert!(!step(&last[..HEAD_BYTES + 2]));
        assert!(step(&last[HEAD_BYTES + 2..]));
    }
}
