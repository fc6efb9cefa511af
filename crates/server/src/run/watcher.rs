//! What is looked at once a second: gauges that the engine shows, and how far the wall is off.
//!
//! Absent here: anything that has to be counted as it happens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::intake::Gauges;
use crate::clock::Clock;
use crate::observe::Metrics;
use crate::registry::Registry;
use crate::store::embedded::EmbeddedReader;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Carries figures from where they arise to where they are shown.
pub(super) struct Watcher {
    pub(super) gauges: Arc<Gauges>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Arc<EmbeddedReader>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<Clock>,
    pub(super) wall_is_off: bool,
}

impl Watcher {
    /// Looks until the task is ended.
    pub async fn watch(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            self.look();
        }
    }

    fn look(&mut self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (gauges, metrics) = (&*self.gauges, &*self.metrics);
        metrics
            .window_deliveries
            .set(gauge(gauges.window.load(Ordering::Relaxed)));
        metrics
            .queue_due
            .set(gauge(gauges.due.load(Ordering::Relaxed)));
        metrics
            .queue_intake
            .set(gauge(gauges.waiting.load(Ordering::Relaxed)));
        metrics
            .queue_records
            .set(gauge(gauges.records.load(Ordering::Relaxed)));
        metrics
            .slots_in_use
            .set(gauge(gauges.slots_used.load(Ordering::Relaxed)));
        metrics
            .merge_lag_entries
            .set(gauge(self.store.stats().merge_lag.load(Ordering::Relaxed)));
        metrics
            .endpoints
            .set(gauge(self.registry.directory().len() as u64));
        let oldest_ms = match gauges.oldest_due_ms.load(Ordering::Relaxed) {
            0 => 0,
            due_ms => (self.clock.now().0 - due_ms).max(0),
        };
        metrics
            .oldest_due_age_seconds
            .set(Duration::from_millis(u64::try_from(oldest_ms).unwrap_or(0)).as_secs_f64());
        match self.clock.follow_wall() {
            Some(off_ms) if !self.wall_is_off => {
                self.wall_is_off = true;
                tracing::warn!(off_ms, "the wall clock jumped; it is not followed");
            }
            Some(_) => {}
            None => self.wall_is_off = false,
        }
    }
}
