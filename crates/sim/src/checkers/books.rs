//! The engine's books, its memory, and whether everything comes to an end.
//!
//! Absent here: what the books say; see [`postrider_core::audit`].

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::engine::Figures;
use postrider_core::firing::{TIMERS_EACH_MAX, TIMERS_SPARE};
use postrider_core::id::EndpointId;
use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::{Happened, Who};
use crate::picture::Picture;
use crate::plan::SHARDS;

/// Rows and records beyond their bounds at the most: nothing waits for room that ends a delivery,
/// be it a withdrawal, which brings its row into memory, an answer, or the end of its time. The
/// engine's own bound of these is one for each row; at this workload two rows and four records
/// beyond were seen in 2,000 seeds.
const BEYOND_MAX: usize = 16;

/// See its promise.
#[derive(Default)]
pub struct MemoryBounded {
    window_max: usize,
    records_max: usize,
    /// Unsettled rows that an engine took over.
    inherited: BTreeMap<Who, usize>,
    endpoints: BTreeMap<Who, BTreeSet<EndpointId>>,
}

impl Checker for MemoryBounded {
    fn name(&self) -> &'static str {
        "memory-bounded"
    }

    fn promise(&self) -> &'static str {
        "An engine holds no more rows in memory than its window or what it took over, has no more \
         records under way than its bound and one for each row that it took over, and no more \
         timers than two for each row and endpoint and some to spare; what ends deliveries may \
         go slightly beyond."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Bounds {
                window_max,
                records_max,
            } => {
                self.window_max = *window_max;
                self.records_max = *records_max;
            }
            Happened::Granted { who } => {
                let rows = picture.rows(who.shard);
                let unsettled = rows.filter(|it| !it.row.state.is_settled()).count();
                self.inherited.insert(*who, unsettled);
            }
            Happened::Told { who, gate, .. } => {
                self.endpoints
                    .entry(*who)
                    .or_default()
                    .insert(gate.endpoint);
            }
            Happened::Ended { who } => {
                self.inherited.remove(who);
                self.endpoints.remove(who);
            }
            Happened::Turned { who, figures, .. } => return self.fits(*who, figures),
            _ => {}
        }
        Ok(())
    }
}

impl MemoryBounded {
    fn fits(&self, who: Who, figures: &Figures) -> Result<(), String> {
        let inherited = self.inherited.get(&who).copied().unwrap_or(0);
        let endpoints = self.endpoints.get(&who).map_or(0, BTreeSet::len);
        let rows = self.window_max.max(inherited) + BEYOND_MAX;
        let records = self.records_max + inherited + BEYOND_MAX;
        let held = figures.window + figures.parked + endpoints;
        let timers = TIMERS_EACH_MAX * held + TIMERS_SPARE;
        let fits = figures.window <= rows
            && figures.records_pending <= records
            && figures.timers <= timers
            && figures.lanes <= figures.window
            && figures.due <= figures.window;
        hold(fits, || {
            format!("{who:?} holds {figures:?} of {rows} rows, {records} records, {timers} timers")
        })
    }
}

/// See its promise.
pub struct BooksAgree;

impl Checker for BooksAgree {
    fn name(&self) -> &'static str {
        "books-agree"
    }

    fn promise(&self) -> &'static str {
        "What an engine keeps twice agrees with itself: its audit finds nothing."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Turned { who, audit, .. } = happened else {
            return Ok(());
        };
        audit
            .clone()
            .map_err(|finding| format!("{who:?}: {finding}"))
    }
}

/// See its promise.
pub struct ComesToRest;

impl Checker for ComesToRest {
    fn name(&self) -> &'static str {
        "comes-to-rest"
    }

    fn promise(&self) -> &'static str {
        "Once the faults are over everything is settled, told and idle within a bound."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Rest { rested } = happened else {
            return Ok(());
        };
        hold(*rested, || {
            let rows = (0..SHARDS).flat_map(|shard| picture.rows(shard));
            let left: Vec<_> = rows
                .filter(|known| !known.row.state.is_settled())
                .map(|known| &known.row)
                .take(3)
                .collect();
            format!(
                "{} deliveries are not settled, such as {left:#?}",
                picture.unsettled()
            )
        })
    }
}
