//! Reading what a receiver says, to a bound, and naming what went wrong in hyper's words.
//!
//! Absent here: meaning. What an answer means is the channel's table.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use hyper::body::{Body as _, Incoming};
use postrider_core::outcome::EVIDENCE_BYTES_MAX;

use crate::channel::{Fault, Response};

/// Headers of a response at the most.
pub(super) const HEADERS_MAX: usize = 64;

/// Bytes of a response body that are read at the most; the connection is closed after that.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1_024;

/// A body on its way in.
pub(super) struct Body {
    incoming: Incoming,
    kept: BytesMut,
    read: usize,
}

/// How far reading a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to come.
    Pending,
    /// It was read to its end.
    Whole,
    /// It is longer than we read.
    Cut,
    /// It ended early.
    Broken,
}

impl Body {
    pub(super) fn new(incoming: Incoming) -> Body {
        Body {
            incoming,
            kept: BytesMut::new(),
            read: 0,
        }
    }

    /// Reads as far as there is something.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            if self.incoming.is_end_stream() {
                return Step::Whole;
            }
            let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => return Step::Pending,
                Poll::Ready(None) => return Step::Whole,
                Poll::Ready(Some(Err(_))) => return Step::Broken,
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let room = EVIDENCE_BYTES_MAX - self.kept.len();
            self.kept.extend_from_slice(&data[..data.len().min(room)]);
            self.read += data.len();
            if self.read > BODY_BYTES_MAX {
                return Step::Cut;
            }
        }
    }

    pub(super) fn kept(self) -> Bytes {
        self.kept.freeze()
    }
}

pub(super) fn response(head: Parts, body: Bytes) -> Response {
    Response {
        http_status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

/// What kind of trouble an error of hyper's is, and what it says. Provably unprocessed: the stream
/// was refused (RFC 9113 section 8.7), or the connection ended with a GOAWAY that names an earlier
/// last stream (section 6.8), which is the only way a remote GOAWAY becomes a stream's error.
pub(super) fn fault_of(error: &hyper::Error) -> (Fault, String) {
    let source = error.source();
    if let Some(h2) = source.and_then(|source| source.downcast_ref::<h2::Error>()) {
        let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        let fault = match (refused || h2.is_go_away(), h2.is_remote(), h2.is_library()) {
            (true, true, _) => Fault::Unprocessed,
            (_, _, true) => Fault::ResponseInvalid,
            _ => Fault::Lost,
        };
        return (fault, h2.to_string());
    }
    if error.is_parse() || error.is_parse_too_large() {
        return (Fault::ResponseInvalid, error.to_string());
    }
    let detail = match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => error.to_string(),
        None => error.to_string(),
    };
    (Fault::Lost, detail)
}
