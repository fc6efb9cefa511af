//! The dedupe key index with millions of keys: memory, look-ups, and the longest slice.

use std::path::Path;
use std::time::Instant;

use postrider::store::embedded::keys::{Bounds, Finder, Keys, create};
use postrider_core::id::{EventId, KeyDigest};
use postrider_core::partition::mix;
use postrider_core::time::{DAY_MS, Time};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::BATCH;
use crate::probe::{Latencies, cpu, rss_bytes, rss_peak_bytes, written_bytes};

/// Look-ups of each kind.
const LOOKUPS: u64 = 200_000;
const START: Time = Time(1_800_000_000_000);

fn digest(n: u64) -> KeyDigest {
    KeyDigest(((u128::from(mix(n)) << 64) | u128::from(mix(!n))).to_le_bytes())
}

fn open(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("index.db")).expect("index.db can be opened");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         PRAGMA wal_autocheckpoint = 250",
    )
    .expect("the pragmas are understood");
    db
}

/// Fills the index with `count` keys, one slice after each batch, and looks some up.
pub fn run(dir: &Path, count: u64) -> Value {
    let db = open(dir);
    create(&db).expect("the tables can be made");
    let (mut keys, _) = Keys::open(&db, Bounds::default()).expect("the new index can be opened");
    let rss_before = rss_bytes();
    let (cpu_before, written_before) = (cpu(), written_bytes());
    let mut turns = Latencies::new();
    for first in (1..=count).step_by(BATCH) {
        turns.of(|| {
            for event in first..(first + BATCH as u64).min(count + 1) {
                keys.insert(&digest(event), EventId(event), START.plus(7 * DAY_MS));
            }
            keys.tend(&db, START).expect("a slice is written");
        });
        assert!(
            keys.has_room(BATCH),
            "the slices do not keep up at event {first}"
        );
    }
    let (cpu, written) = (cpu() - cpu_before, written_bytes() - written_before);
    let (size, rss) = (keys.size(), rss_bytes());
    let finder = keys.finder();
    let reader = open(dir);
    let hits = look(&finder, &reader, |n| (1 + mix(n) % count, true));
    let misses = look(&finder, &reader, |n| (count + 1 + n, false));
    drop(keys);
    let reopened = Instant::now();
    let (again, low_water) = Keys::open(&db, Bounds::default()).expect("the index opens again");
    json!({
        "keys": count,
        "runs": size.runs,
        "rss_growth_bytes": rss.saturating_sub(rss_before),
        "rss_peak_growth_bytes": rss_peak_bytes().saturating_sub(rss_before),
        "index_memory_bytes": size.memory_bytes,
        "bytes_per_key": (rss.saturating_sub(rss_before)) as f64 / count as f64,
        "cpu_us_per_key": cpu.as_secs_f64() * 1e6 / count as f64,
        "written_bytes_per_key": written as f64 / count as f64,
        "turn_mean_us": turns.mean_us(),
        "turn_p99_us": turns.percentile_us(99.0),
        "turn_max_ms": turns.max_ms(),
        "hit_mean_us": hits.mean_us(),
        "hit_p99_us": hits.percentile_us(99.0),
        "miss_mean_us": misses.mean_us(),
        "miss_p99_us": misses.percentile_us(99.0),
        "reopen_ms": reopened.elapsed().as_secs_f64() * 1e3,
        "to_insert_again": count - low_water.0,
        "file_bytes": std::fs::metadata(dir.join("index.db")).map_or(0, |meta| meta.len()),
        "runs_after_reopening": again.size().runs,
    })
}

fn look(finder: &Finder, db: &Connection, pick: impl Fn(u64) -> (u64, bool)) -> Latencies {
    let mut latencies = Latencies::new();
    for n in 0..LOOKUPS {
        let (event, there) = pick(n);
        let key = digest(event);
        let found = latencies.of(|| finder.find(db, &key, START).expect("the index is readable"));
        assert_eq!(found.contains(&EventId(event)), there, "event {event}");
    }
    latencies
}
