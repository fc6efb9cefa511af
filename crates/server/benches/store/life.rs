//! The lives of deliveries, one after the other, on a store of growing size.
//!
//! A life is: its key looked up, its event admitted and its first attempt opened in one record
//! (payload sealed), answered and settled in another, its payload deleted when its time has come;
//! then its history read, and its row found by its correlation id. Commits are of 512 records,
//! admissions and answers in turn, with one slice of housekeeping after each.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use postrider::http::intake::Locate;
use postrider::stamp::OuterIds;
use postrider::store::embedded::{EmbeddedLedger, EmbeddedReader, Options, Retention, open};
use postrider::store::{Ledger, Reader, Verdict};
use postrider::vault::Vault;
use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::{Event, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, KeyDigest, PolicyId, Seq,
    Stamp, TenantId, Ticket,
};
use postrider_core::ledger::{Admitted, Delivery, Entry, Fact, Next, Record, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::partition::{mix, partition_of};
use postrider_core::policy::Guarantee;
use postrider_core::time::{DAY_MS, HOUR_MS, SECOND_MS, Time};
use serde_json::{Value, json};

use crate::BATCH;
use crate::probe::{Latencies, cpu, rss_bytes, written_bytes};

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 300;
/// Endpoints that the deliveries go to.
const ENDPOINTS: u64 = 1_000;
/// How long a payload is kept after its delivery has settled: short, so that lives end within the
/// measurement.
const PAYLOAD_KEEP_MS: i64 = 40 * SECOND_MS;
/// The engine's time between two commits: slow, so that payloads lie for two hundred of them.
const TURN_MS: i64 = 200;
/// A turn that is longer is told one by one.
const STALL: Duration = Duration::from_millis(50);
/// Deliveries that are looked up at the end.
const LOOKUPS: u64 = 50_000;
/// Commits of admissions between an admission and its answer.
const ANSWERED_AFTER: u64 = 4;
/// Batches whose instructions are counted.
const COUNTED_BATCHES: u64 = 48;

/// A store, and where the load stands.
pub struct Bench {
    ledger: EmbeddedLedger,
    reader: Arc<EmbeddedReader>,
    ids: OuterIds,
    epoch: Epoch,
    now: Time,
    /// Number of the last batch of admissions.
    batch: u64,
    seq: u64,
    ticket: u64,
    /// Journal place of the Opened entry of each delivery under way.
    opened: Vec<(u64, Vec<Seq>)>,
    payload: Bytes,
    pub admissions: Latencies,
    pub turns: Latencies,
    pub slices: Latencies,
    /// The turns that were longer than [`STALL`].
    pub stalls: Vec<Value>,
}

impl Bench {
    pub fn open(dir: &Path) -> Bench {
        let vault = Arc::new(Vault::of(&[9; 32]));
        let ids = OuterIds::new(&vault);
        let options = Options {
            retention: Retention {
                payload_keep_ms: PAYLOAD_KEEP_MS,
                ..Retention::default()
            },
            ..Options::new(vault)
        };
        let (mut ledger, reader) = open(dir, options).expect("the store opens");
        let mut left = 0;
        let recovery = ledger
            .recover(&mut |_| left += 1)
            .expect("the store recovers");
        assert_eq!(left, 0, "the last run settled everything");
        Bench {
            ledger,
            reader,
            ids,
            epoch: recovery.epoch,
            now: recovery.last_at.max(Time(20_000 * DAY_MS + HOUR_MS)),
            batch: recovery.last_event.0 / BATCH as u64,
            seq: recovery.last_seq.0,
            ticket: 0,
            opened: Vec::new(),
            payload: vec![b'p'; PAYLOAD_BYTES].into(),
            admissions: Latencies::new(),
            turns: Latencies::new(),
            slices: Latencies::new(),
            stalls: Vec::new(),
        }
    }

    /// Writes the lives of `count` batches, whole.
    pub fn write_lives(&mut self, count: u64) {
        for _ in 0..count {
            self.admit();
            if self.opened.len() as u64 > ANSWERED_AFTER {
                self.answer();
            }
        }
        while !self.opened.is_empty() {
            self.answer();
        }
    }

    fn admit(&mut self) {
        self.batch += 1;
        let first = (self.batch - 1) * BATCH as u64 + 1;
        let mut places = Vec::with_capacity(BATCH);
        let records: Vec<Record> = (first..first + BATCH as u64)
            .map(|n| {
                let record = self.admission(n);
                places.push(Seq(self.seq));
                record
            })
            .collect();
        self.opened.push((first, places));
        self.look_for_keys(&records);
        let took = self.commit(&records);
        self.admissions.note(took);
    }

    /// What the intake does before it hands a submission to the engine.
    fn look_for_keys(&self, records: &[Record]) {
        for event in records.iter().filter_map(|record| record.event.as_ref()) {
            counted::look_for_keys(&self.reader, event, self.now);
        }
    }

    fn answer(&mut self) {
        let (first, places) = self.opened.remove(0);
        let records: Vec<Record> = (first..)
            .zip(places)
            .map(|(n, opened)| self.settlement(n, opened))
            .collect();
        self.commit(&records);
    }

    /// One commit and one slice; returns how long the commit took.
    fn commit(&mut self, records: &[Record]) -> Duration {
        let (start, cpu_before) = (std::time::Instant::now(), cpu());
        let verdicts = self
            .ledger
            .record(records)
            .expect("the store knows what is on disk");
        let took = start.elapsed();
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Recorded));
        self.now = self.now.plus(TURN_MS);
        let (ledger, now) = (&mut self.ledger, self.now);
        self.slices
            .of(|| ledger.tend(now).expect("the store knows what is on disk"));
        self.turns.note(start.elapsed());
        if start.elapsed() > STALL {
            self.stalls.push(json!({
                "batch": self.batch,
                "record_ms": took.as_secs_f64() * 1e3,
                "turn_ms": start.elapsed().as_secs_f64() * 1e3,
                "cpu_ms": (cpu() - cpu_before).as_secs_f64() * 1e3,
                "files": self.reader.stats().files,
            }));
        }
        took
    }

    fn admission(&mut self, n: u64) -> Record {
        let event = Event {
            id: EventId(n),
            uuid: Stamp::event(&self.ids, EventId(n), wide(n)),
            tenant: TenantId(1),
            key_digest: digest(n),
            body_digest: BodyDigest(wide(!n).to_le_bytes()),
            business_id: format!("order-{n:016}").into(),
            event_type: "order.paid".into(),
            version: 1,
            recipient: "".into(),
            ordering_key: "".into(),
            collapse_key: "".into(),
            urgency: Urgency::default(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            content_type: "application/json".into(),
            admitted_at: self.now,
            key_expires_at: self.now.plus(7 * DAY_MS),
            first_delivery: DeliveryId(n),
            deliveries: 1,
            retry_of: None,
            payload: self.payload.clone(),
        };
        let admitted = Admitted {
            correlation: self.correlation(n),
            event: event.id,
            tenant: event.tenant,
            endpoint: endpoint(n),
            channel: Channel::default(),
            policy: PolicyId(1),
            guarantee: Guarantee::AtLeastOnce,
            due_at: self.now,
            expires_at: self.now.plus(3 * DAY_MS),
            lane: None,
        };
        let opened = Fact::Opened {
            attempt: 1,
            policy: PolicyId(1),
        };
        let born = self.entry(n, 0, Seq(0), Fact::Admitted(Box::new(admitted)));
        let opened = self.entry(n, 1, born.seq, opened);
        self.record(n, Some(Arc::new(event)), vec![born, opened])
    }

    fn settlement(&mut self, n: u64, opened: Seq) -> Record {
        let mut outcome = Outcome::bare(OutcomeKind::Accept, Cause::Accepted);
        outcome.http_status = 200;
        outcome.latency_ms = 12;
        let next = Next::Settle {
            state: State::Accepted,
            cause: Cause::Accepted,
        };
        let fact = Fact::Answered {
            attempt: 1,
            outcome: Box::new(outcome),
            next,
        };
        let entry = self.entry(n, 2, opened, fact);
        self.record(n, None, vec![entry])
    }

    fn entry(&mut self, n: u64, version: u32, previous: Seq, fact: Fact) -> Entry {
        self.seq += 1;
        Entry {
            seq: Seq(self.seq),
            delivery: DeliveryId(n),
            version,
            at: self.now,
            previous,
            fact,
        }
    }

    fn record(&mut self, n: u64, event: Option<Arc<Event>>, entries: Vec<Entry>) -> Record {
        self.ticket += 1;
        Record {
            ticket: Ticket(self.ticket),
            event,
            fences: vec![(partition_of(endpoint(n), None), self.epoch)],
            entries,
            release: None,
        }
    }

    fn correlation(&self, n: u64) -> CorrelationId {
        self.ids.correlation(DeliveryId(n), wide(n))
    }

    /// Finds `count` deliveries by their correlation ids, spread over all, and reads their
    /// histories. Returns how long each of both took.
    pub fn look_up(&self, count: u64) -> [Latencies; 2] {
        let (mut found, mut read) = (Latencies::new(), Latencies::new());
        for n in self.spread(count) {
            let correlation = self.correlation(n);
            let row =
                found.of(|| counted::find_by_correlation(&self.reader, &self.ids, correlation));
            let entries = read.of(|| counted::read_history(&self.reader, &row));
            assert_eq!(entries.len(), 3);
        }
        [found, read]
    }

    fn spread(&self, count: u64) -> impl Iterator<Item = u64> {
        let all = self.batch * BATCH as u64;
        (0..count).map(move |n| 1 + mix(n) % all)
    }

    /// Works everything off that is left to do.
    fn rest(&mut self) {
        while self
            .ledger
            .tend(self.now)
            .expect("the store knows what is on disk")
        {}
    }
}

fn digest(n: u64) -> KeyDigest {
    KeyDigest(wide(n ^ (1 << 60)).to_le_bytes())
}

fn wide(n: u64) -> u128 {
    u128::from(mix(n)) << 64 | u128::from(mix(!n))
}

fn endpoint(n: u64) -> EndpointId {
    EndpointId(1 + mix(n) % ENDPOINTS)
}

/// Lives of `rows` deliveries; measures all of them, and counts the instructions of some more.
pub fn run(dir: &Path, rows: u64) -> Value {
    let batches = rows.div_ceil(BATCH as u64);
    let rss_before = rss_bytes();
    let mut bench = Bench::open(dir);
    let (cpu_before, written_before) = (cpu(), written_bytes());
    let start = std::time::Instant::now();
    bench.write_lives(batches);
    let elapsed = start.elapsed();
    let written_hot = written_bytes() - written_before;
    bench.rest();
    let (cpu, written) = (cpu() - cpu_before, written_bytes() - written_before);
    let [by_id, histories] = bench.look_up(rows.min(LOOKUPS));
    let lives = (batches * BATCH as u64) as f64;
    let mut report = json!({
        "rows": batches * BATCH as u64,
        "lives_per_s": lives / elapsed.as_secs_f64(),
        "cpu_us_per_life": cpu.as_secs_f64() * 1e6 / lives,
        "written_bytes_per_life": written as f64 / lives,
        "written_bytes_per_life_before_rest": written_hot as f64 / lives,
        "accept_p50_ms": bench.admissions.percentile_us(50.0) / 1e3,
        "accept_p99_ms": bench.admissions.percentile_us(99.0) / 1e3,
        "accept_max_ms": bench.admissions.max_ms(),
        "turn_p99_ms": bench.turns.percentile_us(99.0) / 1e3,
        "turn_p9999_ms": bench.turns.percentile_us(99.99) / 1e3,
        "turn_max_ms": bench.turns.max_ms(),
        "slice_max_ms": bench.slices.max_ms(),
        "stalls_over_50_ms": std::mem::take(&mut bench.stalls),
        "find_by_correlation_mean_us": by_id.mean_us(),
        "read_history_mean_us": histories.mean_us(),
        "rss_growth_bytes": rss_bytes().saturating_sub(rss_before),
        "file_bytes": file_bytes(dir),
    });
    drop(bench);
    let mut total = Some(0);
    for part in PARTS {
        let count = instructions(dir, &part);
        let count = count.map(|count| count / (COUNTED_BATCHES * BATCH as u64));
        report[format!("instructions_to_{}", part.name)] = json!(count);
        total = total.zip(count).map(|(sum, count)| sum + count);
    }
    report["instructions_per_life"] = json!(total);
    report
}

/// A part of a life whose instructions are counted: while the program is in one of the functions.
struct Part {
    name: &'static str,
    functions: &'static [&'static str],
}

/// Making the records is the engine's work; its cost is not counted.
const PARTS: [Part; 3] = [
    Part {
        name: "write",
        functions: &[
            "*counted*look_for_keys*",
            "*Ledger>::record",
            "*Ledger>::tend",
        ],
    },
    Part {
        name: "find_by_correlation",
        functions: &["*counted*find_by_correlation*"],
    },
    Part {
        name: "read_history",
        functions: &["*counted*read_history*"],
    },
];

/// What callgrind watches beside the store's own two, each in a function of its own.
mod counted {
    use super::{Delivery, DeliveryId, EmbeddedReader, Entry, Event};
    use super::{Locate, OuterIds, Reader, Time};
    use postrider_core::id::CorrelationId;

    #[inline(never)]
    pub fn look_for_keys(reader: &EmbeddedReader, event: &Event, now: Time) {
        let seen = reader.seen(&event.key_digest, now);
        assert_eq!(seen.expect("the store is readable"), None, "the key is new");
    }

    #[inline(never)]
    pub fn find_by_correlation(
        reader: &EmbeddedReader,
        ids: &OuterIds,
        correlation: CorrelationId,
    ) -> Delivery {
        let id: DeliveryId = ids.delivery(correlation);
        let mut rows = reader.deliveries(&[id]).expect("the store is readable");
        rows.pop()
            .filter(|row| row.correlation == correlation)
            .expect("the delivery is there")
    }

    #[inline(never)]
    pub fn read_history(reader: &EmbeddedReader, delivery: &Delivery) -> Vec<Entry> {
        reader.history(delivery).expect("the store is readable")
    }
}

/// The part of [`run`] that callgrind watches.
pub fn watched(dir: &Path, part: &str) -> Value {
    let mut bench = Bench::open(dir);
    match part {
        "write" => bench.write_lives(COUNTED_BATCHES),
        _ => drop(bench.look_up(COUNTED_BATCHES * BATCH as u64)),
    }
    Value::Null
}

/// Instructions spent in `part`, if valgrind is there to count them. Keeps its profile beside the
/// data, for `callgrind_annotate`.
fn instructions(dir: &Path, part: &Part) -> Option<u64> {
    let profile = dir.with_extension(format!("{}.callgrind", part.name));
    let toggles = part
        .functions
        .iter()
        .map(|function| format!("--toggle-collect={function}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(toggles)
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe().ok()?)
        .arg("--dir")
        .arg(dir)
        .args(["watched", part.name])
        .output();
    let Ok(output) = output else {
        eprintln!("left out: counting instructions (needs valgrind)");
        return None;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = std::fs::read_to_string(profile).ok()?;
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn file_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}
