//! Shrinking: a failing plan is made as small as it gets while it still breaks the same invariant.
//!
//! Absent here: cleverness. Halves are left out, then quarters, down to single items.

use std::sync::Arc;

use crate::plan::Plan;
use crate::plant::Planted;
use crate::run::run;

/// Runs that shrinking takes at the most.
const RUNS_MAX: usize = 1_500;

/// The smallest plan found that breaks `invariant`, and the runs it took.
#[must_use]
pub fn shrink(plan: &Plan, plant: Option<Planted>, invariant: &str) -> (Plan, usize) {
    let mut smallest = plan.clone();
    let mut runs = 0;
    let mut size = smallest.items.len().div_ceil(2);
    while size > 0 && runs < RUNS_MAX {
        let mut from = 0;
        let mut smaller = false;
        while from < smallest.items.len() && runs < RUNS_MAX {
            let mut without = smallest.clone();
            let to = (from + size).min(without.items.len());
            without.items.drain(from..to);
            runs += 1;
            let without = Arc::new(without);
            let ran = run(&without, plant, false);
            if ran.violation.is_some_and(|it| it.invariant == invariant) {
                smallest = Arc::unwrap_or_clone(without);
                smaller = true;
            } else {
                from += size;
            }
        }
        if size == 1 && !smaller {
            break;
        }
        size = if size == 1 { 1 } else { size / 2 };
    }
    (smallest, runs)
}
