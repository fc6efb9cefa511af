//! The engine's books, its memory, and whether everything comes to an end.
//!
//! Absent here: what the books say; see [`postrider_core::audit`].

use std::collections::BTreeMap;

use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::{Happened, Who};
use crate::picture::Picture;
use crate::plan::SHARDS;

/// Rows that withdrawals may bring into memory beyond its bound.
const WITHDRAWN_MAX: usize = 64;

/// See its promise.
#[derive(Default)]
pub struct MemoryBounded {
    /// Unsettled rows that an engine took over.
    inherited: BTreeMap<Who, usize>,
}

impl Checker for MemoryBounded {
    fn name(&self) -> &'static str {
        "memory-bounded"
    }

    fn promise(&self) -> &'static str {
        "What an engine holds in memory stays within its window and what it took over; timers stay \
         within a few for each row and endpoint; records under way are bounded."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Granted { who } => {
                let unsettled = picture
                    .rows(who.shard)
                    .filter(|it| !it.row.state.is_settled());
                self.inherited.insert(*who, unsettled.count());
                Ok(())
            }
            Happened::Turned { who, figures, .. } => {
                let inherited = self.inherited.get(who).copied().unwrap_or(0);
                let known = picture.unsettled() + inherited + WITHDRAWN_MAX;
                // Nothing can be in memory that is neither durable nor on its way.
                let rows = figures.window + figures.parked;
                let fits = rows <= known + figures.records_pending * WITHDRAWN_MAX
                    && figures.lanes <= figures.window
                    && figures.due <= figures.window;
                hold(fits, || {
                    format!("{who:?} holds {figures:?}, known are {known}")
                })
            }
            _ => Ok(()),
        }
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
