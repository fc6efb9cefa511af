//! The writer thread: owns the writing half of the store and commits what has gathered.
//!
//! Absent here: a timer that makes a batch wait. While one commit waits for the disk the next one
//! gathers; an idle store commits at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use postrider_core::engine::Input;
use postrider_core::ledger::{Fact, Record};
use postrider_core::time::Time;

use super::command::Command;
use super::intake::Gauges;
use crate::clock::Clock;
use crate::observe::{Hop, Metrics};
use crate::store::{Fatal, Ledger};

/// Longest time without housekeeping.
const TEND_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Writer {
    pub ledger: Box<dyn Ledger>,
    pub records: Receiver<Vec<Box<Record>>>,
    pub line: Sender<Command>,
    pub clock: Arc<Clock>,
    pub gauges: Arc<Gauges>,
    pub metrics: Arc<Metrics>,
    pub commit_records_max: usize,
    /// Wait before each commit: zero, unless a fault is planted that a longer window shows.
    pub commit_delay: Duration,
}

impl Writer {
    /// Commits until the engine thread has gone away.
    ///
    /// # Errors
    /// [`Fatal`] if the store cannot tell any more what is on disk. Nothing that was not answered
    /// by then may ever be.
    pub fn run(mut self) -> Result<(), Fatal> {
        let mut batch: Vec<Record> = Vec::with_capacity(self.commit_records_max);
        let mut tended = Instant::now();
        let mut more = false;
        loop {
            let wait = if more { Duration::ZERO } else { TEND_EVERY };
            match self.records.recv_timeout(wait) {
                Ok(records) => batch.extend(records.into_iter().map(|record| *record)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.gather(&mut batch);
            if !batch.is_empty() {
                self.hold_back();
                self.commit(&mut batch)?;
            }
            if self.records.is_empty() || tended.elapsed() > TEND_EVERY {
                more = self.ledger.tend(self.clock.now())?;
                tended = Instant::now();
            }
        }
    }

    /// Waits as long as a planted fault wants; see `commit_delay`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a planted fault waits for nothing but time"
    )]
    fn hold_back(&self) {
        if !self.commit_delay.is_zero() {
            std::thread::sleep(self.commit_delay);
        }
    }

    /// Adds what waits to `batch`, up to what one commit takes.
    pub fn gather(&mut self, batch: &mut Vec<Record>) {
        while batch.len() < self.commit_records_max
            && let Ok(records) = self.records.try_recv()
        {
            batch.extend(records.into_iter().map(|record| *record));
        }
    }

    /// Makes `batch` durable, empties it, and tells the engine.
    ///
    /// # Errors
    /// As [`Writer::run`].
    pub fn commit(&mut self, batch: &mut Vec<Record>) -> Result<(), Fatal> {
        let began = Instant::now();
        let since = &self.gauges.committing_since_ms;
        since.store(self.clock.now().0, Ordering::Relaxed);
        let verdicts = self.ledger.record(batch)?;
        since.store(0, Ordering::Relaxed);
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.count(batch, took_us);
        let Some(through) = batch.last().map(|record| record.ticket) else {
            return Ok(());
        };
        let mut refused = Vec::new();
        for (record, verdict) in batch.drain(..).zip(verdicts) {
            if let Some(why) = verdict.refusal() {
                tracing::warn!(
                    ticket = record.ticket.0,
                    ?verdict,
                    "the store refused a record"
                );
                refused.push((Box::new(record), why));
            }
        }
        let _ = self
            .line
            .send(Command::Input(Input::Recorded { through, refused }));
        Ok(())
    }
}

impl Writer {
    /// How long answers waited for this commit. What callers waited is counted where they ask.
    fn count(&self, batch: &[Record], took_us: u64) {
        self.metrics.commits.inc();
        self.metrics.commit_records.observe(batch.len() as u64);
        self.metrics.commit_seconds.observe(took_us);
        let now = self.clock.now();
        for entry in batch.iter().filter_map(|record| record.entries.first()) {
            if matches!(entry.fact, Fact::Answered { .. }) {
                let waited = micros(now, entry.at);
                self.metrics.hop(Hop::ResponseToDurable).observe(waited);
            }
        }
    }
}

/// From `earlier` to `now`, in microseconds.
pub(super) fn micros(now: Time, earlier: Time) -> u64 {
    u64::try_from(now.since(earlier))
        .unwrap_or(0)
        .saturating_mul(1_000)
}
