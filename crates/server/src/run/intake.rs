//! The engine as the HTTP layer sees it: a bounded way in, and the load on it.
//!
//! Absent here: the engine. Everything goes through its thread's line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crossbeam_channel::Sender;
use postrider_core::engine::{Reply, Why};
use postrider_core::event::Submission;
use postrider_core::id::DeliveryId;
use postrider_core::time::Time;
use tokio::sync::oneshot;

use super::command::Command;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::http::intake::{Intake, Load};

/// What the engine thread lets others know about itself.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Everything that was unsettled at the start is back in the window.
    pub recovered: AtomicBool,
    /// The store has refused a record for want of room, and has not taken one since.
    pub storage_full: AtomicBool,
    /// Submissions that have been handed over and not been answered.
    pub waiting: AtomicU64,
    /// Unsettled deliveries in memory.
    pub window: AtomicU64,
    /// Unsettled deliveries on disk only.
    pub parked: AtomicU64,
    /// Since when the commit under way has been under way, on the engine's clock; 0 if none is.
    pub committing_since_ms: AtomicI64,
    /// Attempts under way.
    pub slots_used: AtomicU64,
    /// Due deliveries whose turn is to come.
    pub due: AtomicU64,
    /// Since when the oldest of them has been due, on the engine's clock; 0 if there is none.
    pub oldest_due_ms: AtomicI64,
    /// Records on their way to the disk.
    pub records: AtomicU64,
    /// No attempt and no record is under way.
    pub idle: AtomicBool,
}

/// What is told to a caller that finds the line full.
const RETRY_AFTER_MS: i64 = 1_000;

/// A way to the engine thread. Cheap to clone.
#[derive(Clone)]
pub struct EngineIntake {
    pub(super) line: Sender<Command>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) clock: Arc<Clock>,
    pub(super) entropy: Entropy,
    pub(super) waiting_max: u64,
    pub(super) window_max: u64,
    pub(super) commit_slow_ms: i64,
}

impl EngineIntake {
    /// A commit has been under way for longer than a commit may take: nothing more is let in until
    /// it is over.
    fn is_stalled(&self) -> bool {
        let since = self.gauges.committing_since_ms.load(Ordering::Relaxed);
        since != 0 && self.clock.now().0 - since > self.commit_slow_ms
    }
}

impl Intake for EngineIntake {
    fn submit(&self, submissions: Vec<Box<Submission>>) -> oneshot::Receiver<Vec<Reply>> {
        let (answer, answered) = oneshot::channel();
        let count = u64::try_from(submissions.len()).unwrap_or(u64::MAX);
        let before = self.gauges.waiting.fetch_add(count, Ordering::Relaxed);
        if before + count > self.waiting_max.max(count) || self.is_stalled() {
            self.gauges.waiting.fetch_sub(count, Ordering::Relaxed);
            let refused = Reply::Refused {
                why: Why::Overloaded,
                retry_after_ms: RETRY_AFTER_MS,
            };
            let _ = answer.send(vec![refused; submissions.len()]);
        } else {
            let _ = self.line.send(Command::Submit {
                submissions,
                answer,
            });
        }
        answered
    }

    fn cancel(&self, delivery: DeliveryId) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        let _ = self.line.send(Command::Cancel { delivery, answer });
        answered
    }

    fn receipt(&self, delivery: DeliveryId, receipt: u8) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        let _ = self.line.send(Command::Receipt {
            delivery,
            receipt,
            answer,
        });
        answered
    }

    fn load(&self) -> Load {
        Load {
            recovered: self.gauges.recovered.load(Ordering::Acquire),
            storage_full: self.gauges.storage_full.load(Ordering::Relaxed),
            waiting: self.gauges.waiting.load(Ordering::Relaxed),
            waiting_max: self.waiting_max,
            window: self.gauges.window.load(Ordering::Relaxed),
            window_max: self.window_max,
        }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn random(&self) -> u128 {
        self.entropy.wide()
    }
}
