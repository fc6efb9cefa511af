//! Receivers: they take what is sent to them, misbehave as the seed says, and write down both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, Response, header};
use parking_lot::Mutex;
use postrider::fake::apns::Desk;
use postrider::http::intake::Locate;
use postrider::stamp::OuterIds;
use postrider::store::Reader;
use postrider_core::id::CorrelationId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use turmoil::net::TcpListener;

use crate::chance::Chance;
use crate::evidence::{Arrival, Evidence, Ticket};
use crate::pass_ms;
use crate::providers::{Providers, Pushed, words};
use crate::tls::{Certificates, Shown};
use crate::words::{farewell_to_all, read_body, read_head, read_stream, written};

/// What a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http1OverTls,
    Http2 { streams_max: u32 },
}

/// What a receiver does with what is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// It takes signed webhooks.
    Hooks,
    /// It carries notifications to devices.
    Pushes,
    /// It gives out the access tokens of FCM.
    Tokens,
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
    pub serves: Serves,
    pub providers: Arc<Providers>,
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
        let hooks = self.serves == Serves::Hooks;
        match chance.below(100) {
            0..45 => Manner::Accept,
            45..50 => Manner::AcceptLate(chance.between(500, 9_000)),
            50..53 => Manner::AcceptAndClose,
            53..58 => Manner::Answer(500),
            58..61 => Manner::Answer(503),
            61..63 => Manner::Answer(429),
            // What these say of a device or of credentials, providers say by what they know.
            63..66 if !hooks => Manner::Answer(503),
            63..65 => Manner::Answer(400),
            65..66 => Manner::Answer(302),
            66..68 => Manner::Answer(408),
            68..69 if hooks && chance.one_in(6) => Manner::Answer(410),
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
        self.evidence.count(label(manner));
        if self.serves != Serves::Hooks {
            // What it is about stands in its body.
            return None;
        }
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let id = text("webhook-id").and_then(|id| uuid::Uuid::parse_str(id).ok());
        let attempt = text("x-postrider-attempt").and_then(|number| number.parse().ok());
        let (Some(id), Some(attempt)) = (id, attempt) else {
            let name = self.name;
            self.evidence
                .wrong(format!("{name} got a request without an id or an attempt"));
            return None;
        };
        Some(self.came(id.as_u128(), Some(attempt), None, manner))
    }

    /// A request is for a delivery. Whether the ledger knows of it, `sent-durable` says.
    fn came(
        &self,
        id: u128,
        attempt: Option<u32>,
        pushed: Option<Pushed>,
        manner: Manner,
    ) -> Ticket {
        let correlation = CorrelationId(id);
        let delivery = self.ids.delivery(correlation);
        let rows = self
            .reader
            .deliveries(&[delivery])
            .expect("the model reads");
        let row = rows.first().filter(|row| row.correlation == correlation);
        let guessed = || row.map_or(0, |row| self.evidence.attempt(&*self.reader, row));
        let attempt = attempt.unwrap_or_else(guessed);
        let name = self.name;
        self.evidence.say(format_args!(
            "{name} gets delivery {} attempt {attempt}: {manner:?}",
            delivery.0
        ));
        self.evidence.arrived(Arrival {
            correlation: correlation.0,
            attempt,
            at_ms: self.evidence.now_ms(),
            acted: false,
            refused: false,
            http_status: 0,
            pushed,
        })
    }

    /// A request is there, whole: what is to be answered, and whether it is acted on.
    fn heard(
        &self,
        desk: Option<&Desk>,
        (head, body): (&Parts, &Bytes),
        ticket: Option<Ticket>,
        manner: Manner,
    ) -> Said {
        let now_ms = self.evidence.now_ms();
        let acts = match manner {
            Manner::Answer(500 | 503 | 408) => self.chance.one_in(2),
            Manner::Answer(_) => false,
            Manner::CutAfterBody => self.chance.one_in(2),
            _ => true,
        };
        let (ticket, answer, expected) = match self.serves {
            Serves::Hooks => (ticket, Response::new(Bytes::from_static(b"ok")), true),
            Serves::Tokens => {
                let (answer, expected) = self.providers.grant(head, body, now_ms);
                (None, answer, expected)
            }
            Serves::Pushes => {
                let heard = self.providers.hear((self.name, desk), head, body, now_ms);
                let ticket = match heard.pushed {
                    Ok(pushed) => Some(self.came(pushed.id, None, Some(pushed), manner)),
                    Err(fault) => {
                        let name = self.name;
                        self.evidence
                            .wrong(format!("content: {name} cannot read a push: {fault}"));
                        None
                    }
                };
                (ticket, heard.answer, heard.expected)
            }
        };
        if !expected {
            let (name, answer) = (self.name, &answer);
            self.evidence
                .wrong(format!("strict: {name} refuses a request: {answer:?}"));
        }
        let acts = acts && answer.status().is_success();
        self.amend(ticket, |arrival| arrival.acted = acts);
        let mut answer = match manner {
            Manner::Answer(http_status) => words(self.name, http_status),
            _ => answer,
        };
        let apple = self.name == "apns.example";
        if matches!(manner, Manner::Answer(429 | 503)) || apple && answer.status() == 500 {
            let wait = header::HeaderValue::from_static("2");
            answer.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        if !matches!(answer.status().as_u16(), 200..300 | 429 | 500 | 503) {
            self.evidence
                .count(refusal(self.serves, answer.status().as_u16()));
        }
        Said { ticket, answer }
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
            let Some((head, rest)) = read_head(&mut stream).await else {
                return;
            };
            let ticket = self.arrived(&head.headers, manner);
            if manner == Manner::CutAfterHead {
                return;
            }
            let Some(body) = read_body(&mut stream, &head, rest).await else {
                return;
            };
            let said = self.heard(None, (&head, &body), ticket, manner);
            if !self.say(&mut stream, &said, manner).await {
                return;
            }
        }
    }

    /// Answers, and says whether the connection goes on.
    async fn say<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        said: &Said,
        manner: Manner,
    ) -> bool {
        let http_status = said.answer.status().as_u16();
        let half = |length: usize| format!("HTTP/1.1 {http_status} X\r\ncontent-length: {length}");
        let words = match manner {
            Manner::CutAfterBody => return false,
            Manner::Hang => {
                pass_ms(30_000).await;
                return false;
            }
            Manner::HalfHead => "HTTP/1.1 200 OK\r\ncontent-le".into(),
            Manner::HalfBody | Manner::BodyHangs => half(100) + "\r\n\r\nhalf of it",
            Manner::Garbage => "\x16\x03\x01 this is not HTTP at all \r\n\r\n".into(),
            _ => written(&said.answer),
        };
        if let Manner::AcceptLate(ms) = manner {
            pass_ms(ms).await;
        }
        if manner == Manner::ManyInformational {
            for _ in 0..20 {
                let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n";
                if stream.write_all(hint).await.is_err() {
                    return false;
                }
            }
        }
        if !matches!(manner, Manner::Garbage | Manner::HalfHead) {
            self.amend(said.ticket, |arrival| arrival.http_status = http_status);
        }
        if stream.write_all(words.as_bytes()).await.is_err() || stream.flush().await.is_err() {
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
        let apple = self.name == "apns.example";
        let desk = apple.then(|| Arc::new(self.providers.apple_desk()));
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
            let (receiver, desk) = (self.clone(), desk.clone());
            tokio::spawn(async move {
                let Some((head, body)) = read_stream(request).await else {
                    return;
                };
                let said = receiver.heard(desk.as_deref(), (&head, &body), ticket, manner);
                receiver.answer(respond, said, manner).await;
            });
        }
    }

    async fn answer(&self, mut respond: SendResponse<Bytes>, said: Said, manner: Manner) {
        match manner {
            Manner::Hang | Manner::Garbage => return pass_ms(30_000).await,
            Manner::Reset | Manner::CutAfterBody | Manner::HalfHead => {
                return respond.send_reset(Reason::CANCEL);
            }
            Manner::AcceptLate(ms) => pass_ms(ms).await,
            _ => {}
        }
        let (head, body) = said.answer.into_parts();
        let breaks = matches!(manner, Manner::HalfBody | Manner::BodyHangs);
        let http_status = head.status.as_u16();
        let response = Response::from_parts(head, ());
        let Ok(mut stream) = respond.send_response(response, !breaks && body.is_empty()) else {
            return;
        };
        self.amend(said.ticket, |arrival| arrival.http_status = http_status);
        if breaks {
            let _ = stream.send_data(Bytes::from_static(b"half of it"), false);
            if manner == Manner::HalfBody {
                return stream.send_reset(Reason::INTERNAL_ERROR);
            }
            pass_ms(30_000).await;
        } else if !body.is_empty() {
            let _ = stream.send_data(body, true);
        }
    }
}

/// What is answered to a request, and which arrival that was.
struct Said {
    ticket: Option<Ticket>,
    answer: Response<Bytes>,
}

fn refusal(serves: Serves, http_status: u16) -> &'static str {
    match (serves, http_status) {
        (Serves::Hooks, _) => "receiver: refused a webhook",
        (_, 401 | 403) => "provider: token expired or taken back",
        (_, 404 | 410) => "provider: device gone",
        _ => "provider: refused otherwise",
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
