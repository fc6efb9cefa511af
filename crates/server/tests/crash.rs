//! The whole process, killed at random moments under load, again and again, and held against every
//! promise: the demo's plan and the demo's checkers, with more kills.
//!
//! A run that breaks a promise prints its seed; `CRASH_SEED` repeats it.

use std::path::Path;

use postrider::cli::demo::{Args, Verdict, perform};

/// Kills of the long run.
const KILLS: usize = 32;
/// Events of the long run.
const EVENTS: usize = 8_000;
/// Events of a run with a planted fault.
const PLANTED_EVENTS: usize = 1_500;

fn seed() -> Option<u64> {
    std::env::var("CRASH_SEED").ok()?.parse().ok()
}

fn run(events: usize, kills: usize, plant: Option<&str>) -> Verdict {
    let args = Args {
        seed: seed(),
        events,
        kills,
        data: None,
        plant: plant.map(str::to_owned),
        json: false,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_postrider"));
    let verdict = perform(&args, program);
    verdict.unwrap_or_else(|failure| panic!("the run could not be made: {failure:?}"))
}

#[test]
fn thirty_kills_under_load_break_no_promise() {
    let verdict = run(EVENTS, KILLS, None);
    eprintln!("{}", verdict.json);
    assert!(verdict.findings.broken.is_empty(), "{:#}", verdict.json);
    assert_eq!(verdict.kills, KILLS);
    assert_eq!(verdict.findings.lost, 0);
    assert!(verdict.findings.accepted >= EVENTS);
    assert!(verdict.findings.duplicates_suppressed > EVENTS / 10);
    // A run in which no kill hit anything would show nothing.
    assert!(verdict.findings.ambiguous > 0);
    // Phones that got nothing twice, or that nobody left, would show nothing either.
    assert!(verdict.findings.shown > EVENTS / 20);
    assert!(verdict.findings.shown_by > verdict.findings.shown);
    assert!(verdict.findings.retired > 0);
    assert_eq!(verdict.findings.by_channel.len(), 4);
}

#[test]
fn each_planted_fault_is_found() {
    for (plant, kills) in [
        ("send-before-record", 8),
        ("forget-dedupe-key", 8),
        ("retry-at-at-most-once", 8),
        // A start makes up for it, so there must not be too many.
        ("gone-ignored", 2),
    ] {
        let verdict = run(PLANTED_EVENTS, kills, Some(plant));
        assert!(
            !verdict.findings.broken.is_empty(),
            "{plant} was not found: {}",
            verdict.json
        );
    }
}
