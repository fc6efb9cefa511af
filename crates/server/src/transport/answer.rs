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

/// A body on its way in over HTTP/1.1.
pub(super) struct Body {
    incoming: Incoming,
    kept: Kept,
}

/// The beginning of a body, and how much of it was read.
#[derive(Default)]
pub(super) struct Kept {
    bytes: BytesMut,
    read: usize,
}

impl Kept {
    /// Takes a piece: [`Step::Cut`] once it was enough.
    pub(super) fn take(&mut self, data: &[u8]) -> Step {
        let room = EVIDENCE_BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
        self.read += data.len();
        if self.read > BODY_BYTES_MAX {
            Step::Cut
        } else {
            Step::Pending
        }
    }

    pub(super) fn bytes(self) -> Bytes {
        self.bytes.freeze()
    }
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
            kept: Kept::default(),
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
            if self.kept.take(&data) == Step::Cut {
                return Step::Cut;
            }
        }
    }

    pub(super) fn kept(self) -> Bytes {
        self.kept.bytes()
    }
}

pub(super) fn response(head: Parts, body: Bytes) -> Response {
    Response {
        http_status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

/// What kind of trouble an error of hyper's is, and what it says.
pub(super) fn fault_of(error: &hyper::Error) -> (Fault, String) {
    if error.is_parse() || error.is_parse_too_large() {
        return (Fault::ResponseInvalid, error.to_string());
    }
    let source = error.source();
    let detail = match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => error.to_string(),
        None => error.to_string(),
    };
    (Fault::Lost, detail)
}
