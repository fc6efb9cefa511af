//! Every checker complains about a history made by hand that breaks its promise, and about nothing
//! in the one beside it that keeps it.
//!
//! Absent here: faults planted in a whole world; see [`crate::plant`].

mod bench;
mod histories;

use super::{NO_PANIC, all};
use crate::plant::Planted;
use bench::Bench;
use histories::HISTORIES;

#[test]
fn every_checker_complains_about_a_history_that_breaks_its_promise_and_no_other() {
    for (name, tell) in HISTORIES {
        let mut bench = Bench::new(name);
        tell(&mut bench, false);
        assert_eq!(bench.broken, None, "{name}");
        let mut bench = Bench::new(name);
        tell(&mut bench, true);
        assert!(bench.broken.is_some(), "{name} did not complain");
    }
}

#[test]
fn every_checker_has_a_history_that_breaks_its_promise() {
    for checker in all() {
        let shown = HISTORIES.iter().any(|(name, _)| *name == checker.name());
        assert!(shown, "{} was never seen to complain", checker.name());
    }
}

#[test]
fn what_a_planted_fault_breaks_is_an_invariant() {
    let names: Vec<&str> = all().iter().map(|checker| checker.name()).collect();
    for plant in Planted::all() {
        let breaks = plant.breaks();
        assert!(!breaks.is_empty(), "{} breaks nothing", plant.name());
        for name in breaks {
            assert!(names.contains(name), "{} breaks {name}", plant.name());
        }
    }
}

const PAGE: &str = include_str!("../../../../docs/simulation.md");

/// The rows of the page's table whose header begins like this, without header and rule.
fn table(header: &str) -> Vec<&'static str> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with(header));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    rows.collect()
}

#[test]
fn the_page_lists_the_invariants_in_the_checkers_words() {
    let mut rows: Vec<String> = all()
        .iter()
        .map(|checker| format!("| `{}` | {} |", checker.name(), checker.promise()))
        .collect();
    rows.push(format!(
        "| `{NO_PANIC}` | No assertion of the engine fails. |"
    ));
    assert_eq!(
        table("| name | what holds |"),
        rows,
        "\n{}\n",
        rows.join("\n")
    );
}

#[test]
fn the_page_lists_what_catches_each_planted_fault() {
    let rows = table("| planted fault | seeds |").into_iter().map(|row| {
        let cells: Vec<&str> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        (cells[1], cells[3])
    });
    let caught = Planted::all()
        .flat_map(|plant| plant.breaks().iter().map(move |name| (plant.name(), *name)));
    assert_eq!(rows.collect::<Vec<_>>(), caught.collect::<Vec<_>>());
}
