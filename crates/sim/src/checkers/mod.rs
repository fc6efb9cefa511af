//! Checkers: each holds one invariant, by name, and sees nothing but the history.
//!
//! Absent here: the workload. A checker that knew what was intended would overlook what the
//! intention overlooks.

mod admission;
mod books;
mod journal;
mod order;
mod pace;
mod push;
mod relay;
mod sending;

use postrider_core::time::Time;

use crate::history::Happened;
use crate::picture::Picture;

/// An invariant.
pub trait Checker {
    /// Its name.
    fn name(&self) -> &'static str;

    /// What it says, in one sentence.
    fn promise(&self) -> &'static str;

    /// Takes in what happened. The picture holds it already.
    ///
    /// # Errors
    /// How the invariant is broken, in words.
    fn see(&mut self, picture: &Picture, at: Time, happened: &Happened<'_>) -> Result<(), String>;
}

/// The invariant that the picture holds as well: it cannot fold what the state table forbids.
pub const CHAIN: &str = "ledger-chain";
/// The invariant without a checker: [`crate::run`] catches what panics.
pub const NO_PANIC: &str = "no-panic";

/// One of each.
#[must_use]
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::<admission::NothingLost>::default(),
        Box::<admission::OneAnswer>::default(),
        Box::new(admission::ToldDurable::default()),
        Box::<admission::AsAsked>::default(),
        Box::<admission::Dedupe>::default(),
        Box::new(sending::SentDurable),
        Box::new(sending::OwnerOnly),
        Box::<sending::AtMostOnce>::default(),
        Box::<sending::RepeatsExplained>::default(),
        Box::new(sending::TimeToLive),
        Box::<sending::Reachable>::default(),
        Box::<order::LaneOrder>::default(),
        Box::<order::LaneParked>::default(),
        Box::<order::LaneGapless>::default(),
        Box::<journal::Chain>::default(),
        Box::new(journal::Fenced),
        Box::<journal::Purged>::default(),
        Box::new(journal::Fold),
        Box::<pace::NotEarly>::default(),
        Box::new(pace::ScheduleKept),
        Box::new(pace::AttemptsBounded),
        Box::<pace::RateKept>::default(),
        Box::<pace::SlotsKept>::default(),
        Box::<push::ShownOnce>::default(),
        Box::<push::RouteHeld>::default(),
        Box::<push::RefusalsFree>::default(),
        Box::<push::GoneHonoured>::default(),
        Box::<relay::BrokerKnows>::default(),
        Box::<relay::CursorTrue>::default(),
        Box::<books::MemoryBounded>::default(),
        Box::new(books::BooksAgree),
        Box::new(books::ComesToRest),
    ]
}

/// `Err` with these words, unless it holds.
fn hold(holds: bool, words: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(words()) }
}

#[cfg(test)]
mod tests;
