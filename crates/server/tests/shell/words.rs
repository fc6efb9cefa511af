//! Requests and answers as receivers read and write them, byte by byte where no library does.
//!
//! Absent here: what is said, and what goes wrong.

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest head of a request that is read.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// SETTINGS, and at the first HEADERS a GOAWAY that says that no stream was looked at (RFC 9113
/// section 6.8), byte by byte, because no library says so.
pub async fn farewell_to_all<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    if stream.read_exact(&mut preface).await.is_err() || stream.write_all(&settings).await.is_err()
    {
        return;
    }
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        if head[3] == HEADERS {
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let _ = stream.write_all(&goaway).await;
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// An answer as HTTP/1.1 has it.
pub fn written(answer: &Response<Bytes>) -> String {
    use std::fmt::Write as _;
    let (http_status, body) = (answer.status().as_u16(), answer.body());
    let length = body.len();
    let mut text = format!("HTTP/1.1 {http_status} X\r\ncontent-length: {length}\r\n");
    for (name, value) in answer.headers() {
        let _ = write!(text, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    text + "\r\n" + &String::from_utf8_lossy(body)
}

/// A request's head, and what of its body came with it.
pub async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(Parts, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let rest = bytes.split_off(end + 4);
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let request = Request::builder().method(words.next()?).uri(words.next()?);
    let (mut head, ()) = request.body(()).ok()?.into_parts();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let name: http::HeaderName = name.parse().ok()?;
        head.headers.append(name, value.parse().ok()?);
    }
    Some((head, rest))
}

pub async fn read_body<S>(stream: &mut S, head: &Parts, mut body: Vec<u8>) -> Option<Bytes>
where
    S: AsyncRead + Unpin,
{
    let length = head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    let length: usize = length.parse().ok()?;
    let there = body.len();
    body.resize(length.max(there), 0);
    stream.read_exact(&mut body[there..]).await.ok()?;
    Some(body.into())
}

pub async fn read_stream(request: Request<h2::RecvStream>) -> Option<(Parts, Bytes)> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data.ok()?;
        let _ = incoming.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    Some((head, body.into()))
}
