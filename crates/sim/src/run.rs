//! A run: a plan, a world, and what came of it.
//!
//! Absent here: time measured outside of the world; the command does that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::checkers::NO_PANIC;
use crate::coverage::Coverage;
use crate::draw::draw;
use crate::eyes::{Eyes, Violation};
use crate::plan::Plan;
use crate::plant::Planted;
use crate::world::World;

/// Seeds within which every planted fault is caught.
pub const PLANTS_SEEDS_MAX: u64 = 200;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The invariant that was broken, if one was.
    pub violation: Option<Violation>,
    /// What was reached.
    pub coverage: Coverage,
    /// Deliveries settled.
    pub settled: u64,
    /// Events of the world.
    pub events: u64,
    /// Requests written by a stopped process after another had taken over.
    pub late_writes: u64,
    /// Time that passed in the world.
    pub simulated_ms: i64,
    /// The log, if one was kept.
    pub log: String,
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Arc<Plan>, plant: Option<Planted>, logs: bool) -> Ran {
    run_before(plan, plant, Eyes::new(logs))
}

/// Runs a plan before these eyes.
fn run_before(plan: &Arc<Plan>, plant: Option<Planted>, eyes: Eyes) -> Ran {
    let mut world = World::new(Arc::clone(plan), plant, eyes);
    let panicked = panics(|| world.run());
    let eyes = &mut world.eyes;
    if let Err(words) = panicked {
        eyes.violation = Some(Violation {
            invariant: NO_PANIC,
            at_ms: eyes.simulated_ms,
            words,
        });
    }
    Ran {
        violation: eyes.violation.clone(),
        coverage: eyes.coverage.clone(),
        settled: eyes.picture.settled(),
        events: eyes.events,
        late_writes: eyes.late_writes,
        simulated_ms: eyes.simulated_ms,
        log: eyes.log().to_owned(),
    }
}

/// `Err` with the words of the assertion that failed in `world`, if one did.
fn panics(world: impl FnOnce()) -> Result<(), String> {
    let ended = catch_unwind(AssertUnwindSafe(world));
    ended.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        words.unwrap_or("a panic without words").to_owned()
    })
}

/// Draws the plan of a seed and runs it with a fault planted, held to one invariant alone: whether
/// it is that one which catches the fault.
#[must_use]
pub fn run_held_to(seed: u64, plant: Planted, invariant: &str) -> Option<Violation> {
    let plan = Arc::new(draw(seed));
    run_before(&plan, Some(plant), Eyes::only(invariant)).violation
}

/// Draws the plan of a seed and runs it.
#[must_use]
pub fn run_seed(seed: u64, plant: Option<Planted>) -> Ran {
    run(&Arc::new(draw(seed)), plant, false)
}

#[cfg(test)]
mod tests {
    use super::panics;

    #[test]
    fn an_assertion_that_fails_is_caught_with_its_words() {
        let (one, two) = (1, 2);
        let failed = panics(|| assert_eq!(one, two, "the books do not agree"));
        assert!(failed.is_err_and(|words| words.contains("the books do not agree")));
        assert_eq!(panics(|| assert_eq!(one, one)), Ok(()));
    }
}
