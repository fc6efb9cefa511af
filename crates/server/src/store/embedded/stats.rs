//! Figures of the store for the metrics: cheap to keep, read by anybody at any time.
//!
//! Absent here: names and formats of metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters, all since the store was opened unless they say otherwise.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Commits of ledger files.
    pub commits: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Time from the first statement of a commit to its sync having returned, µs in total.
    pub commit_us: AtomicU64,
    /// The share of it that the last statement took, which is where the sync is, µs in total.
    pub sync_us: AtomicU64,
    /// The longest commit, µs.
    pub commit_us_max: AtomicU64,
    /// Records in the last commit.
    pub commit_records_last: AtomicU64,
    /// Bytes of journal segments.
    pub journal_bytes: AtomicU64,
    /// Changes of lanes and heads that `index.db` does not know yet: how far it lags, at the
    /// moment.
    pub merge_lag: AtomicU64,
    /// Bytes of the write-ahead logs that are being written, at the moment.
    pub wal_bytes: AtomicU64,
    /// Checkpoints of write-ahead logs.
    pub checkpoints: AtomicU64,
    /// The longest slice of housekeeping, µs.
    pub tend_us_max: AtomicU64,
    /// Refused for want of room.
    pub refused_full: AtomicU64,
    /// Ledger files, at the moment.
    pub files: AtomicU64,
    /// Bytes of memory that the key index takes, at the moment.
    pub key_memory_bytes: AtomicU64,
}

impl StoreStats {
    /// Counts a commit.
    pub(super) fn committed(&self, records: usize, all: Duration, sync: Duration) {
        let all_us = micros(all);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.commit_records_last
            .store(records as u64, Ordering::Relaxed);
        self.commit_us.fetch_add(all_us, Ordering::Relaxed);
        self.sync_us.fetch_add(micros(sync), Ordering::Relaxed);
        self.commit_us_max.fetch_max(all_us, Ordering::Relaxed);
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
