//! Callers: they submit, race each other for the same keys, hang up in the middle, and ask again
//! until they know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::TcpStream;

use crate::chance::Chance;
use crate::evidence::{Evidence, Told};
use crate::node::API_PORT;
use crate::{TICK_MS, pass_ms};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a request that is to be half open is under way before its caller vanishes.
const VANISHES_AFTER_MS: u64 = 150;
/// Between two times that the same is asked.
const AGAIN_MS_MAX: u64 = 2_500;

/// Something that happened, which the application tells.
#[derive(Clone, Debug)]
pub struct Event {
    pub key: String,
    /// As it is submitted.
    pub json: String,
    /// How many endpoints it names.
    pub targets: usize,
    /// Its payload.
    pub content: Value,
}

/// When to begin asking, and for what: one event, or several in one request.
#[derive(Clone, Debug)]
pub struct Errand {
    pub at_ms: u64,
    pub events: Vec<Event>,
}

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Http1,
    Http2,
    /// Hangs up after so many bytes of the request.
    HangsUpAt(usize),
    /// Says no more after so many bytes, and hangs up long after.
    StallsAt(usize),
    /// Is gone after so many bytes, and nobody hears of it: the connection is half open.
    VanishesAt(usize),
    /// The same over HTTP/2, while it waits for the answer.
    Vanishes,
    /// Sends all of it and leaves without waiting.
    Leaves,
    /// Waits so long for the answer, and leaves.
    LeavesAfter(u64),
    /// The same over HTTP/2: the stream is reset, the connection stays for a moment.
    ResetsAfter(u64),
}

/// One application.
#[derive(Clone)]
pub struct Caller {
    pub name: &'static str,
    pub api_key: String,
    pub chance: Chance,
    pub evidence: Evidence,
    pub healed: Arc<AtomicBool>,
    /// Errands that have not come to an end.
    pub open: Arc<AtomicUsize>,
}

impl Caller {
    /// Runs all errands to their end.
    pub async fn run(self, errands: Vec<Errand>) -> turmoil::Result {
        let mut under_way = tokio::task::JoinSet::new();
        let mut now_ms = 0;
        for errand in errands {
            pass_ms(errand.at_ms.saturating_sub(now_ms)).await;
            now_ms = now_ms.max(errand.at_ms);
            let caller = self.clone();
            under_way.spawn(async move { caller.errand(&errand.events).await });
        }
        while under_way.join_next().await.is_some() {}
        Ok(())
    }

    /// Asks until every event was answered for after the network healed: so each is asked for at
    /// least twice, and what is answered must be the same.
    pub async fn errand(&self, events: &[Event]) {
        loop {
            let healed = self.healed.load(Relaxed);
            let manner = self.manner(healed);
            let settled = self.ask(events, manner).await;
            if healed && settled {
                self.open.fetch_sub(1, Relaxed);
                return;
            }
            pass_ms(self.chance.between(100, AGAIN_MS_MAX)).await;
            // What was answered is asked for again only now and then before the end.
            while settled && !self.healed.load(Relaxed) && !self.chance.one_in(8) {
                pass_ms(AGAIN_MS_MAX).await;
            }
        }
    }

    fn manner(&self, polite: bool) -> Manner {
        let at = usize::try_from(self.chance.below(900)).unwrap_or(0);
        let ms = self.chance.below(150);
        match self.chance.below(if polite { 50 } else { 100 }) {
            0..25 => Manner::Http1,
            25..50 => Manner::Http2,
            50..65 => Manner::HangsUpAt(at),
            65..68 => Manner::StallsAt(at),
            68..71 => Manner::VanishesAt(at),
            71..73 => Manner::Vanishes,
            73..80 => Manner::Leaves,
            80..90 => Manner::LeavesAfter(ms),
            _ => Manner::ResetsAfter(ms),
        }
    }

    /// Whether every one of `events` is now known to have been admitted.
    async fn ask(&self, events: &[Event], manner: Manner) -> bool {
        self.evidence.count(match manner {
            Manner::Http1 => "caller: asked over HTTP/1.1",
            Manner::Http2 => "caller: asked over HTTP/2",
            Manner::HangsUpAt(_) => "caller: hung up within the request",
            Manner::StallsAt(_) => "caller: stalled within the request",
            Manner::VanishesAt(_) | Manner::Vanishes => "caller: vanished, half open",
            Manner::Leaves | Manner::LeavesAfter(_) => "caller: left without the answer",
            Manner::ResetsAfter(_) => "caller: reset its stream",
        });
        let (path, body) = match events {
            [event] => ("/v1/events", event.json.clone()),
            _ => {
                let all: Vec<_> = events.iter().map(|event| event.json.as_str()).collect();
                let body = format!("{{\"events\":[{}]}}", all.join(","));
                ("/v1/events/batch", body)
            }
        };
        let answered = match manner {
            Manner::Http2 | Manner::Vanishes | Manner::ResetsAfter(_) => {
                let asking = self.over_http2(path, body, manner);
                timeout(PATIENCE, asking).await.ok().flatten()
            }
            _ => {
                let asking = self.over_http1(path, &body, manner);
                timeout(2 * PATIENCE, asking).await.ok().flatten()
            }
        };
        let first = &events[0].key;
        let (name, count) = (self.name, events.len());
        let http_status = answered.as_ref().map_or(0, |(http_status, _)| *http_status);
        self.evidence.say(format_args!(
            "{name} asks for {first} (of {count}) {manner:?}: {http_status}"
        ));
        let Some((http_status, json)) = answered else {
            return false;
        };
        match events {
            [event] => self.note(event, http_status, &json),
            _ if http_status == 202 => {
                let items = json["items"].as_array().cloned().unwrap_or_default();
                let mut all = items.len() == events.len();
                for (event, item) in events.iter().zip(&items) {
                    let http_status = item["status"].as_u64().unwrap_or(0);
                    all &= self.note(event, u16::try_from(http_status).unwrap_or(0), item);
                }
                all
            }
            _ => false,
        }
    }

    /// Asks once, in the plainest way: HTTP status and body.
    pub async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let body = body.to_string();
        let asking = self.over_http1(path, &body, Manner::Http1);
        timeout(PATIENCE, asking).await.ok().flatten()
    }

    /// What was said of one event; whether it was admitted.
    fn note(&self, event: &Event, http_status: u16, json: &Value) -> bool {
        match http_status {
            200 | 202 => {
                let deliveries = json["deliveries"].as_array().cloned().unwrap_or_default();
                let id = |delivery: &Value| delivery["id"].as_str().unwrap_or("").to_owned();
                self.evidence.told(Told {
                    key: event.key.clone(),
                    event: json["event_id"].as_str().unwrap_or("").to_owned(),
                    deliveries: deliveries.iter().map(id).collect(),
                });
                true
            }
            // No room, a panic of ours, too late: asked again.
            408 | 429 | 500 | 503 | 507 => false,
            _ => {
                let key = &event.key;
                self.evidence
                    .wrong(format!("{key} was answered with {http_status}: {json}"));
                false
            }
        }
    }

    async fn over_http1(&self, path: &str, body: &str, manner: Manner) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(("node", API_PORT)).await.ok()?;
        let (key, length) = (&self.api_key, body.len());
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let request = request.as_bytes();
        let part = match manner {
            Manner::HangsUpAt(at) | Manner::StallsAt(at) | Manner::VanishesAt(at) => {
                at.min(request.len() - 1)
            }
            _ => request.len(),
        };
        stream.write_all(&request[..part]).await.ok()?;
        match manner {
            Manner::HangsUpAt(_) | Manner::Leaves => return None,
            Manner::StallsAt(_) => {
                pass_ms(12_000).await;
                return None;
            }
            Manner::VanishesAt(_) => {
                pass_ms(VANISHES_AFTER_MS).await;
                turmoil::partition(self.name, "node");
                drop(stream);
                turmoil::repair(self.name, "node");
                return None;
            }
            Manner::LeavesAfter(ms) => {
                let patience = Duration::from_millis(ms);
                return timeout(patience, read_answer(&mut stream)).await.ok()?;
            }
            _ => {}
        }
        read_answer(&mut stream).await
    }

    async fn over_http2(&self, path: &str, body: String, manner: Manner) -> Option<(u16, Value)> {
        let stream = TcpStream::connect(("node", API_PORT)).await.ok()?;
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut sender, driver) = builder.handshake(TokioIo::new(stream)).await.ok()?;
        let driver = tokio::spawn(driver);
        let request = http::Request::post(format!("http://node{path}"))
            .header("authorization", format!("Bearer {}", self.api_key))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .ok()?;
        let asking = async {
            let response = sender.send_request(request).await.ok()?;
            let http_status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((http_status, serde_json::from_slice(&body).ok()?))
        };
        let answered = match manner {
            Manner::ResetsAfter(ms) => {
                let answered = timeout(Duration::from_millis(ms), asking)
                    .await
                    .ok()
                    .flatten();
                pass_ms(50).await;
                answered
            }
            Manner::Vanishes => {
                let wait = Duration::from_millis(VANISHES_AFTER_MS);
                let answered = timeout(wait, asking).await.ok().flatten();
                turmoil::partition(self.name, "node");
                driver.abort();
                // What the connection has to say at its end is said, and lost.
                pass_ms(2 * TICK_MS).await;
                turmoil::repair(self.name, "node");
                answered
            }
            _ => asking.await,
        };
        drop(sender);
        driver.abort();
        answered
    }
}

async fn read_answer(stream: &mut TcpStream) -> Option<(u16, Value)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let http_status = head.get(9..12)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?
        .parse()
        .ok()?;
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((http_status, serde_json::from_slice(&body).ok()?))
}
