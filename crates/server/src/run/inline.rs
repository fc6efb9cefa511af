//! The driver without its two threads: the same turns and the same commits, taken when told.
//!
//! A simulation has one thread and its own time. It decides when the engine gets its turn and how
//! long the disk takes, and lets a crash fall between any two of these steps.
//!
//! Absent here: waiting, and the end of the process when the store fails.

use crossbeam_channel::Sender;
use postrider_core::engine::Engine;
use postrider_core::ledger::Record;

use super::command::Command;
use super::engine_thread::{Halves, Parts, Start, Turning};
use super::intake::EngineIntake;
use super::writer::Writer;
use crate::store::Fatal;

/// An engine and a writer that whoever holds them moves on.
pub struct Inline {
    line: Sender<Command>,
    intake: EngineIntake,
    turning: Turning,
    writer: Writer,
    batch: Vec<Record>,
}

impl Inline {
    /// Joins the parts and takes over what recovery found.
    #[must_use]
    pub fn start(parts: Parts, start: Start) -> Inline {
        let mut halves = Halves::join(parts, start);
        halves.turning.recover(halves.unsettled);
        Inline {
            line: halves.line,
            intake: halves.intake,
            turning: halves.turning,
            writer: halves.writer,
            batch: Vec::new(),
        }
    }

    /// The way in.
    #[must_use]
    pub fn intake(&self) -> EngineIntake {
        self.intake.clone()
    }

    /// The line to the engine, for whoever announces changes.
    #[must_use]
    pub fn line(&self) -> Sender<Command> {
        self.line.clone()
    }

    /// The engine between two turns, for whoever looks into its books.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.turning.engine()
    }

    /// One turn with everything that has come, or with the time alone.
    pub fn turn(&mut self) {
        let _ = self.turning.turn(None);
    }

    /// Takes what waits for the disk, as the writer's thread does when it has finished a commit.
    /// Whether there is anything to commit now.
    pub fn gather(&mut self) -> bool {
        self.writer.gather(&mut self.batch);
        !self.batch.is_empty()
    }

    /// Commits what was gathered, and tells the engine in its next turn.
    ///
    /// # Errors
    /// [`Fatal`]: nothing of it may be acknowledged, and nothing may be committed any more.
    pub fn commit(&mut self) -> Result<(), Fatal> {
        self.writer.commit(&mut self.batch)
    }
}
