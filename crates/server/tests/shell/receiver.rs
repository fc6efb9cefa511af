//! Receivers: they take what is sent to them, misbehave as the seed says, and write down both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use parking_lot::Mutex;
use postrider::http::intake::Locate;
use postrider::stamp::OuterIds;
use postrider::store::Reader;
use postrider_core::id::CorrelationId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use turmoil::net::TcpListener;

use crate::chance::Chance;
use crate::evidence::{Arrival, Evidence, Ticket};
use crate::pass_ms;
use crate::tls::{Certificates, Shown};

/// Longest head of a request that is read.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// What a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http1OverTls,
    Http2 { streams_max: u32 },
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Accept,
    AcceptLate(u64),
    /// Answered, and hung up without having said so.
    AcceptAndClose,
    Answer(u16),
    /// Over at once.
    Cut,
    CutAfterHead,
    CutAfterBody,
    HalfHead,
    HalfBody,
    BodyHangs,
    Hang,
    Garbage,
    ManyInformational,
    /// HTTP/2: RST_STREAM with REFUSED_STREAM (RFC 9113 section 8.7).
    Refuse,
    /// HTTP/2: RST_STREAM with CANCEL after the work was done.
    Reset,
    /// HTTP/2: GOAWAY, and what was begun is still answered.
    Farewell,
    /// HTTP/2: GOAWAY and the end.
    AbruptFarewell,
}

/// One receiver, across its crashes.
#[derive(Clone)]
pub struct Receiver {
    pub name: &'static str,
    pub speaks: Speaks,
    pub certificates: Arc<Certificates>,
    pub shown: Arc<Mutex<Shown>>,
    pub polite: Arc<AtomicBool>,
    pub chance: Chance,
    pub evidence: Evidence,
    pub reader: Arc<dyn Reader>,
    pub ids: Arc<OuterIds>,
}

impl Receiver {
    pub fn port(&self) -> u16 {
        match self.speaks {
            Speaks::Http1 => 80,
            _ => 443,
        }
    }

    /// Serves until the host crashes.
    pub async fn run(self) -> turmoil::Result {
        let listener = TcpListener::bind(("0.0.0.0", self.port())).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let receiver = self.clone();
            tokio::spawn(async move {
                match receiver.speaks {
                    Speaks::Http1 => receiver.http1(stream).await,
                    Speaks::Http1OverTls => {
                        if let Some(stream) = receiver.shake(stream).await {
                            receiver.http1(stream).await;
                        }
                    }
                    Speaks::Http2 { streams_max } => {
                        if let Some(stream) = receiver.shake(stream).await {
                            receiver.http2(stream, streams_max).await;
                        }
                    }
                }
            });
        }
    }

    async fn shake(
        &self,
        stream: turmoil::net::TcpStream,
    ) -> Option<tokio_rustls::server::TlsStream<turmoil::net::TcpStream>> {
        let shown = *self.shown.lock();
        if shown == Shown::Nothing {
            // Held open, and nothing said: the handshake stalls.
            pass_ms(20_000).await;
            return None;
        }
        let http2 = matches!(self.speaks, Speaks::Http2 { .. });
        let acceptor = self.certificates.acceptor(self.name, shown, http2);
        acceptor.accept(stream).await.ok()
    }

    fn manner(&self) -> Manner {
        if self.polite.load(Relaxed) {
            return Manner::Accept;
        }
        let chance = &self.chance;
        match chance.below(100) {
            0..45 => Manner::Accept,
            45..50 => Manner::AcceptLate(chance.between(500, 9_000)),
            50..53 => Manner::AcceptAndClose,
            53..58 => Manner::Answer(500),
            58..61 => Manner::Answer(503),
            61..63 => Manner::Answer(429),
            63..65 => Manner::Answer(400),
            65..66 => Manner::Answer(302),
            66..68 => Manner::Answer(408),
            68..69 if chance.one_in(6) => Manner::Answer(410),
            68..73 => Manner::Cut,
            73..76 => Manner::CutAfterHead,
            76..80 => Manner::CutAfterBody,
            80..83 => Manner::HalfHead,
            83..86 => Manner::HalfBody,
            86..88 => Manner::BodyHangs,
            88..91 => Manner::Hang,
            91..92 => Manner::Garbage,
            92..93 => Manner::ManyInformational,
            93..96 => Manner::Refuse,
            96..97 => Manner::Reset,
            97..99 => Manner::Farewell,
            _ => Manner::AbruptFarewell,
        }
    }

    /// A request's head was read: its attempt must be durable by now.
    fn arrived(&self, headers: &HeaderMap, manner: Manner) -> Option<Ticket> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let id = text("webhook-id").and_then(|id| uuid::Uuid::parse_str(id).ok());
        let attempt = text("x-postrider-attempt").and_then(|number| number.parse().ok());
        let (Some(id), Some(attempt)) = (id, attempt) else {
            let name = self.name;
            self.evidence
                .wrong(format!("{name} got a request without an id or an attempt"));
            return None;
        };
        let correlation = CorrelationId(id.as_u128());
        let delivery = self.ids.delivery(correlation);
        let name = self.name;
        self.evidence.say(format_args!(
            "{name} gets delivery {} attempt {attempt}: {manner:?}",
            delivery.0
        ));
        self.evidence.count(label(manner));
        let rows = self
            .reader
            .deliveries(&[delivery])
            .expect("the model reads");
        let known = rows
            .first()
            .is_some_and(|row| row.correlation == correlation && row.attempt >= attempt);
        if !known {
            self.evidence.wrong(format!(
                "recorded_first: delivery {} attempt {attempt} is out, and not in the ledger",
                delivery.0
            ));
        }
        Some(self.evidence.arrived(Arrival {
            correlation: correlation.0,
            attempt,
            acted: false,
            refused: false,
            http_status: 0,
        }))
    }

    fn amend(&self, ticket: Option<Ticket>, amend: impl FnOnce(&mut Arrival)) {
        if let Some(ticket) = ticket {
            self.evidence.amend(ticket, amend);
        }
    }

    async fn http1<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) {
        loop {
            let manner = self.manner();
            if manner == Manner::Cut {
                // Somewhere within the head, or before it.
                let mut some = vec![0; usize::try_from(self.chance.below(300)).unwrap_or(0)];
                let _ = stream.read(&mut some).await;
                return;
            }
            let Some((headers, length, rest)) = read_head(&mut stream).await else {
                return;
            };
            let ticket = self.arrived(&headers, manner);
            if manner == Manner::CutAfterHead || !read_body(&mut stream, length, rest).await {
                return;
            }
            if !self.say(&mut stream, ticket, manner).await {
                return;
            }
        }
    }

    /// Acts, answers, and says whether the connection goes on.
    async fn say<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        ticket: Option<Ticket>,
        manner: Manner,
    ) -> bool {
        let acts = match manner {
            Manner::Answer(500 | 503 | 408) => self.chance.one_in(2),
            Manner::Answer(_) => false,
            Manner::CutAfterBody => self.chance.one_in(2),
            _ => true,
        };
        let http_status = match manner {
            Manner::Answer(http_status) => http_status,
            Manner::CutAfterBody | Manner::Hang | Manner::Garbage | Manner::HalfHead => 0,
            _ => 200,
        };
        self.amend(ticket, |arrival| arrival.acted = acts);
        let words: &[u8] = match manner {
            Manner::CutAfterBody => return false,
            Manner::Hang => {
                pass_ms(30_000).await;
                return false;
            }
            Manner::AcceptLate(ms) => {
                pass_ms(ms).await;
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            }
            Manner::HalfHead => b"HTTP/1.1 200 OK\r\ncontent-le",
            Manner::HalfBody | Manner::BodyHangs => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it"
            }
            Manner::Garbage => b"\x16\x03\x01 this is not HTTP at all \r\n\r\n",
            Manner::ManyInformational => {
                for _ in 0..20 {
                    let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n";
                    if stream.write_all(hint).await.is_err() {
                        return false;
                    }
                }
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            }
            Manner::Answer(http_status) => {
                self.amend(ticket, |arrival| arrival.http_status = http_status);
                let head = format!("HTTP/1.1 {http_status} X\r\ncontent-length: 0\r\n");
                let wait = if matches!(http_status, 429 | 503) {
                    "retry-after: 2\r\n"
                } else {
                    ""
                };
                let answer = format!("{head}{wait}\r\n");
                return stream.write_all(answer.as_bytes()).await.is_ok();
            }
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        self.amend(ticket, |arrival| arrival.http_status = http_status);
        if stream.write_all(words).await.is_err() || stream.flush().await.is_err() {
            return false;
        }
        match manner {
            Manner::BodyHangs => {
                pass_ms(30_000).await;
                false
            }
            Manner::AcceptAndClose | Manner::HalfHead | Manner::HalfBody | Manner::Garbage => false,
            _ => true,
        }
    }

    async fn http2<S>(&self, mut stream: S, streams_max: u32)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if !self.polite.load(Relaxed) && self.chance.one_in(12) {
            self.evidence
                .count("receiver: GOAWAY before the first stream");
            return farewell_to_all(&mut stream).await;
        }
        let builder = h2::server::Builder::new()
            .max_concurrent_streams(streams_max)
            .handshake::<_, Bytes>(stream);
        let Ok(mut connection) = builder.await else {
            return;
        };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let manner = self.manner();
            let ticket = self.arrived(request.headers(), manner);
            match manner {
                Manner::Cut | Manner::CutAfterHead => return,
                Manner::Refuse => {
                    self.amend(ticket, |arrival| arrival.refused = true);
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                Manner::AbruptFarewell => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
                Manner::Farewell => connection.graceful_shutdown(),
                _ => {}
            }
            let receiver = self.clone();
            tokio::spawn(async move { receiver.answer(request, respond, ticket, manner).await });
        }
    }

    async fn answer(
        &self,
        request: Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        ticket: Option<Ticket>,
        manner: Manner,
    ) {
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            let Ok(data) = data else { return };
            let _ = body.flow_control().release_capacity(data.len());
        }
        let (http_status, acts) = match manner {
            Manner::Answer(status @ (500 | 503 | 408)) => (status, self.chance.one_in(2)),
            Manner::Answer(status) => (status, false),
            _ => (200, true),
        };
        self.amend(ticket, |arrival| arrival.acted = acts);
        match manner {
            Manner::Hang | Manner::Garbage => return pass_ms(30_000).await,
            Manner::Reset | Manner::CutAfterBody | Manner::HalfHead => {
                return respond.send_reset(Reason::CANCEL);
            }
            Manner::AcceptLate(ms) => pass_ms(ms).await,
            _ => {}
        }
        let has_body = matches!(manner, Manner::HalfBody | Manner::BodyHangs);
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(http_status).expect("a status");
        let Ok(mut stream) = respond.send_response(response, !has_body) else {
            return;
        };
        self.amend(ticket, |arrival| arrival.http_status = http_status);
        if has_body {
            let _ = stream.send_data(Bytes::from_static(b"half of it"), false);
            if manner == Manner::HalfBody {
                return stream.send_reset(Reason::INTERNAL_ERROR);
            }
            pass_ms(30_000).await;
        }
    }
}

fn label(manner: Manner) -> &'static str {
    match manner {
        Manner::Accept => "receiver: accepted",
        Manner::AcceptLate(_) => "receiver: late answer",
        Manner::AcceptAndClose => "receiver: closed a kept connection",
        Manner::Answer(_) => "receiver: error answer",
        Manner::Cut | Manner::CutAfterHead | Manner::CutAfterBody => "receiver: connection cut",
        Manner::HalfHead | Manner::HalfBody => "receiver: half an answer",
        Manner::BodyHangs | Manner::Hang => "receiver: hung",
        Manner::Garbage | Manner::ManyInformational => "receiver: nonsense",
        Manner::Refuse => "receiver: REFUSED_STREAM",
        Manner::Reset => "receiver: RST_STREAM",
        Manner::Farewell | Manner::AbruptFarewell => "receiver: GOAWAY",
    }
}

/// SETTINGS, and at the first HEADERS a GOAWAY that says that no stream was looked at (RFC 9113
/// section 6.8), byte by byte, because no library says so.
async fn farewell_to_all<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
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

/// A request's headers, the length of its body, and what of the body came with the head.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(HeaderMap, usize, usize)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut headers = HeaderMap::new();
    for line in text.split("\r\n").skip(1) {
        let (name, value) = line.split_once(": ")?;
        let name: http::HeaderName = name.parse().ok()?;
        headers.append(name, value.parse().ok()?);
    }
    let length = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    Some((headers, length, bytes.len() - end - 4))
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, length: usize, there: usize) -> bool {
    let mut rest = vec![0; length.saturating_sub(there)];
    stream.read_exact(&mut rest).await.is_ok()
}
