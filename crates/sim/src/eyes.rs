//! The eyes on a world: they keep the picture, ask the checkers, count, and write the log.
//!
//! Absent here: any way back into the world.

use std::fmt::Write as _;

use postrider_core::observation::Observation;
use postrider_core::time::Time;

use crate::checkers::{self, Checker};
use crate::coverage::Coverage;
use crate::fault::FaultKind;
use crate::history::{Happened, Who};
use crate::picture::Picture;
use crate::world::START;

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// When, in milliseconds from the start.
    pub at_ms: i64,
    /// How.
    pub words: String,
}

/// The eyes.
pub struct Eyes {
    /// What is durable.
    pub picture: Picture,
    checkers: Vec<Box<dyn Checker>>,
    /// What the state table refuses counts.
    folds: bool,
    /// The first invariant that was broken: nothing is looked at after it.
    pub violation: Option<Violation>,
    /// What was reached.
    pub coverage: Coverage,
    /// Events of the world.
    pub events: u64,
    /// Requests that a stopped process wrote after another had taken over.
    pub late_writes: u64,
    /// Time that passed in the world, once it has ended.
    pub simulated_ms: i64,
    log: Option<String>,
}

impl Eyes {
    /// Fresh eyes. Only those that are told to write a log spend time on it.
    #[must_use]
    pub fn new(logs: bool) -> Eyes {
        Eyes {
            picture: Picture::default(),
            checkers: checkers::all(),
            folds: true,
            violation: None,
            coverage: Coverage::default(),
            events: 0,
            late_writes: 0,
            simulated_ms: 0,
            log: logs.then(String::new),
        }
    }

    /// Eyes that hold the world to this invariant alone, and to what is looked at beside the
    /// checkers: an assertion that fails.
    #[must_use]
    pub fn only(invariant: &str) -> Eyes {
        let mut eyes = Eyes::new(false);
        eyes.checkers.retain(|checker| checker.name() == invariant);
        eyes.folds = invariant == checkers::CHAIN;
        eyes
    }

    /// Something happened.
    pub fn see(&mut self, at: Time, happened: &Happened<'_>) {
        if self.violation.is_some() {
            return;
        }
        self.write(at, happened);
        let taken = self.picture.take(at, happened);
        if let Err(words) = taken
            && self.folds
        {
            self.broken(checkers::CHAIN, at, words);
            return;
        }
        match happened {
            Happened::Committed { shard, record } => {
                for entry in &record.entries {
                    let known = self.picture.row(*shard, entry.delivery);
                    if let Some(state) = known.map(|known| known.row.state) {
                        self.coverage.reached(state, &entry.fact);
                    }
                }
            }
            Happened::Written { who, .. } if self.picture.epoch(who.shard) != who.epoch => {
                self.late_writes += 1;
            }
            _ => {}
        }
        for nth in 0..self.checkers.len() {
            let checker = &mut self.checkers[nth];
            if let Err(words) = checker.see(&self.picture, at, happened) {
                let name = checker.name();
                self.broken(name, at, words);
                return;
            }
        }
    }

    fn broken(&mut self, invariant: &'static str, at: Time, words: String) {
        self.note(at, || format!("BROKEN {invariant}: {words}"));
        self.violation = Some(Violation {
            invariant,
            at_ms: at.since(START),
            words,
        });
    }

    fn write(&mut self, at: Time, happened: &Happened<'_>) {
        let quiet = matches!(happened, Happened::Turned { .. } | Happened::Held { .. });
        if !quiet && self.log.is_some() {
            self.note(at, || happened.to_string());
        }
    }

    /// A line of the log.
    pub fn note(&mut self, at: Time, words: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "+{} {}", at.since(START), words());
        }
    }

    /// An engine observed something.
    pub fn observed(&mut self, at: Time, who: Who, observation: &Observation) {
        if self.log.is_some() {
            self.note(at, || format!("{who:?} observed {observation:?}"));
        }
    }

    /// A fault begins.
    pub fn fault(&mut self, _: Time, kind: FaultKind) {
        self.coverage.begins(kind);
    }

    /// A fault is over.
    pub fn fault_over(&mut self, kind: FaultKind) {
        self.coverage.ends(kind);
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &str {
        self.log.as_deref().unwrap_or_default()
    }
}
