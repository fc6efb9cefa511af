//! The load: numbered events, submitted in batches, at full speed or at instants fixed beforehand.
//!
//! Absent here: waiting for their arrival. The sink counts.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::cli::demo::api::{Answer, Api};
use crate::cli::failure::Failure;

/// Bytes of a payload.
pub(super) const PAYLOAD_BYTES: usize = 300;
/// Items of a batch at full speed.
const BATCH_ITEMS: u64 = 250;
/// Batches under way at a time at full speed.
const POSTERS: u64 = 4;
/// Batches under way at a time in an open loop; what is due beyond them waits, and is counted late.
const OPEN_POSTERS: usize = 32;
/// Time between two batches of an open loop.
const TICK_US: u64 = 2_000;
/// Wait where the engine names none.
const AGAIN_MS: u64 = 50;
/// Longest time that one batch is tried.
const BATCH_MS_MAX: u64 = 120_000;

/// Events that may have been submitted and not have arrived everywhere, in a stretch that measures
/// how much a delivery takes: enough that nothing runs dry, too few to measure a backlog instead.
const OUTSTANDING_MAX: u64 = 8_192;
/// Wait of a poster that is ahead.
const AHEAD_US: u64 = 500;

/// How a load at full speed goes on.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// As fast as events are taken.
    Burst,
    /// At most [`OUTSTANDING_MAX`] events ahead of those that have arrived, which are counted here.
    Arrivals(Arc<AtomicU64>),
}

impl Pace {
    /// Waits until `submitted` events are not too far ahead.
    async fn wait(&self, submitted: u64) {
        let Pace::Arrivals(arrived) = self else {
            return;
        };
        while submitted > arrived.load(Relaxed) + OUTSTANDING_MAX {
            tokio::time::sleep(Duration::from_micros(AHEAD_US)).await;
        }
    }
}

/// Whom events are for.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// All endpoints of a recipient.
    Recipient(String),
    /// Event `n` is for endpoint `n % len`.
    Spread(Arc<Vec<String>>),
}

/// Where a load goes.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) key: String,
    pub(super) whom: Whom,
    /// More fields of each event, with a comma before them; empty for none.
    pub(super) also: String,
}

/// What submitting came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fed {
    /// When the first batch left.
    pub(super) began_us: u64,
    /// When the last answer came.
    pub(super) ended_us: u64,
    /// Items that were refused for the moment, and submitted again.
    pub(super) refused: u64,
}

impl Fed {
    /// Events a second that were answered.
    pub(super) fn per_s(&self, events: u64) -> f64 {
        per_s(events, self.ended_us.saturating_sub(self.began_us))
    }
}

/// So many in so many microseconds, as a rate.
#[expect(clippy::cast_precision_loss, reason = "counts of minutes fit")]
pub(super) fn per_s(count: u64, elapsed_us: u64) -> f64 {
    count as f64 * 1_000_000.0 / elapsed_us.max(1) as f64
}

/// The payload of event `n`, due at an instant.
pub(super) fn payload(n: u64, due_us: u64) -> String {
    let mut text = format!(r#"{{"n":{n},"due_us":{due_us},"pad":""#);
    let pad = PAYLOAD_BYTES.saturating_sub(text.len() + 2);
    text.extend(std::iter::repeat_n('x', pad));
    text.push_str("\"}");
    text
}

/// Microseconds since 1970, by the clock that the sink uses.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Load {
    /// Submits `events` from number `first` on, as fast as `pace` lets it.
    pub(super) async fn full(&self, first: u64, events: u64, pace: &Pace) -> Result<Fed, Failure> {
        let next = Arc::new(AtomicU64::new(first));
        let end = first + events;
        let began_us = now_us();
        let mut posters = JoinSet::new();
        for _ in 0..POSTERS {
            let (load, next, pace) = (self.clone(), Arc::clone(&next), pace.clone());
            posters.spawn(async move {
                let mut api = Api::new(load.address, &load.key);
                let mut refused = 0;
                loop {
                    let from = next.fetch_add(BATCH_ITEMS, Relaxed);
                    if from >= end {
                        return Ok(refused);
                    }
                    pace.wait(from - first).await;
                    let now = now_us();
                    let items: Vec<(u64, u64)> = (from..end.min(from + BATCH_ITEMS))
                        .map(|n| (n, now))
                        .collect();
                    refused += load.insist(&mut api, items).await?;
                }
            });
        }
        fed(posters, began_us).await
    }

    /// Submits `events` from number `first` on at `rate` a second, each at an instant fixed
    /// beforehand, whatever the engine does meanwhile.
    pub(super) async fn open(&self, first: u64, events: u64, rate: f64) -> Result<Fed, Failure> {
        let (line, batches) = line();
        let began_us = now_us();
        let mut posters = JoinSet::new();
        for _ in 0..OPEN_POSTERS {
            let (load, batches) = (self.clone(), Arc::clone(&batches));
            posters.spawn(async move {
                let mut api = Api::new(load.address, &load.key);
                let mut refused = 0;
                loop {
                    let batch = batches.lock().await.recv().await;
                    match batch {
                        Some(items) => refused += load.insist(&mut api, items).await?,
                        None => return Ok(refused),
                    }
                }
            });
        }
        let start = Instant::now();
        let mut sent = 0;
        while sent < events {
            let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "microseconds of minutes fit, and none is negative"
            )]
            let (due, at_us) = (
                ((elapsed_us as f64 * rate / 1_000_000.0) as u64).min(events),
                |n: u64| began_us + (n as f64 * 1_000_000.0 / rate) as u64,
            );
            if due > sent {
                let items = (sent..due).map(|n| (first + n, at_us(n))).collect();
                // It is closed only when every poster has ended, which the join below reports.
                if line.send(items).is_err() {
                    break;
                }
                sent = due;
            }
            tokio::time::sleep(Duration::from_micros(TICK_US)).await;
        }
        drop(line);
        fed(posters, began_us).await
    }

    /// Submits a batch until each of its items is answered with ids; returns how many were refused
    /// on the way.
    async fn insist(&self, api: &mut Api, mut items: Vec<(u64, u64)>) -> Result<u64, Failure> {
        let began = Instant::now();
        let mut refused = 0;
        loop {
            let answer = api.post("/v1/events/batch", self.batch(&items)).await;
            let answer =
                answer.map_err(|lost| Failure::no("the engine went away").because(lost))?;
            items = left(&items, &answer)?;
            if items.is_empty() {
                return Ok(refused);
            }
            refused += items.len() as u64;
            if began.elapsed() > Duration::from_millis(BATCH_MS_MAX) {
                let what = format!("a batch was refused for {BATCH_MS_MAX} ms");
                return Err(Failure::no(what).because(answer.line()));
            }
            let pause_ms = answer
                .retry_after_s
                .map_or(AGAIN_MS, |seconds| seconds * 1_000);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    fn batch(&self, items: &[(u64, u64)]) -> String {
        let mut body = String::with_capacity(items.len() * (PAYLOAD_BYTES + 128));
        body.push_str(r#"{"events":["#);
        for (place, (n, due_us)) in items.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            // Writing to a string cannot go wrong.
            let _ = write!(body, r#"{comma}{{"type":"bench.tick","id":"{n}""#);
            let _ = match &self.whom {
                Whom::Recipient(name) => write!(body, r#","recipient":"{name}""#),
                Whom::Spread(ids) => {
                    let at = usize::try_from(*n).unwrap_or(0) % ids.len().max(1);
                    write!(body, r#","endpoints":["{}"]"#, ids[at])
                }
            };
            let _ = write!(
                body,
                r#"{},"payload":{}}}"#,
                self.also,
                payload(*n, *due_us)
            );
        }
        body.push_str("]}");
        body
    }
}

type Batches = Arc<tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<Vec<(u64, u64)>>>>;

/// A line of batches that are due. It holds what the schedule makes and no more.
fn line() -> (tokio::sync::mpsc::UnboundedSender<Vec<(u64, u64)>>, Batches) {
    let (line, batches) = tokio::sync::mpsc::unbounded_channel();
    (line, Arc::new(tokio::sync::Mutex::new(batches)))
}

async fn fed(mut posters: JoinSet<Result<u64, Failure>>, began_us: u64) -> Result<Fed, Failure> {
    let mut refused = 0;
    while let Some(ended) = posters.join_next().await {
        refused += ended.map_err(|e| Failure::no("a poster ended badly").because(e))??;
    }
    Ok(Fed {
        began_us,
        ended_us: now_us(),
        refused,
    })
}

/// The items of a batch that have to be submitted again.
fn left(items: &[(u64, u64)], answer: &Answer) -> Result<Vec<(u64, u64)>, Failure> {
    if matches!(answer.http_status, 429 | 503) {
        return Ok(items.to_vec());
    }
    if !answer.is_yes() {
        return Err(Failure::no("the engine refused a batch").because(answer.line()));
    }
    // Reading a whole answer costs more than making it, so it is only read if an item was refused.
    let admitted = count(&answer.body, br#""status":202"#);
    if admitted == items.len() {
        return Ok(Vec::new());
    }
    let whole = answer.json();
    let said = whole["items"].as_array().map_or(&[][..], Vec::as_slice);
    if said.len() != items.len() {
        return Err(Failure::no("the engine answered a part of a batch").because(answer.line()));
    }
    let mut left = Vec::new();
    for (item, said) in items.iter().zip(said) {
        match said["status"].as_u64() {
            Some(200..=299) => {}
            Some(429 | 503) => left.push(*item),
            _ => return Err(refusal(said)),
        }
    }
    Ok(left)
}

fn refusal(said: &Value) -> Failure {
    Failure::no("the engine refused an event").because(said.to_string())
}

/// How often `part` stands in `whole`.
fn count(whole: &[u8], part: &[u8]) -> usize {
    let (mut found, mut from) = (0, 0);
    while let Some(place) = whole[from..].iter().position(|byte| *byte == part[0]) {
        from += place;
        if whole[from..].starts_with(part) {
            found += 1;
            from += part.len();
        } else {
            from += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{PAYLOAD_BYTES, count, left, payload};
    use crate::cli::demo::api::Answer;

    fn answer(http_status: u16, body: &str) -> Answer {
        Answer {
            http_status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            retry_after_s: None,
        }
    }

    #[test]
    fn a_payload_has_its_length_and_is_json() {
        let text = payload(123_456, 1_763_753_780_123_456);
        assert_eq!(text.len(), PAYLOAD_BYTES);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["n"], 123_456);
    }

    #[test]
    fn only_what_was_refused_for_the_moment_is_left() {
        let items = [(1, 0), (2, 0)];
        let all = r#"{"items":[{"status":202},{"status":202}]}"#;
        assert_eq!(left(&items, &answer(202, all)).expect("fine"), []);
        let some = r#"{"items":[{"status":202},{"status":429}]}"#;
        assert_eq!(left(&items, &answer(202, some)).expect("fine"), [(2, 0)]);
        let repeat = r#"{"items":[{"status":200},{"status":202}]}"#;
        assert_eq!(left(&items, &answer(202, repeat)).expect("fine"), []);
        assert_eq!(left(&items, &answer(429, "")).expect("fine"), items);
        assert!(left(&items, &answer(202, r#"{"items":[]}"#)).is_err());
        assert!(left(&items, &answer(422, "")).is_err());
        assert_eq!(count(b"aaxaax", b"ax"), 2);
    }
}
