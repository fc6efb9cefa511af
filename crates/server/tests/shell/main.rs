//! The shell under simulation: the real API, the real delivery client and the real driver on a
//! network that breaks as a seed says. See `docs/shell-simulation.md`.

mod caller;
mod chance;
mod check;
mod evidence;
#[path = "../history_kit/mod.rs"]
mod history_kit;
mod net;
mod node;
mod phone;
mod plan;
mod providers;
mod receiver;
mod scenes;
mod settle;
mod taps;
mod tls;
mod tries;
#[path = "../wire_kit/mod.rs"]
mod wire_kit;
mod words;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use history_kit::fed::Layer;
use postrider_core::plant::Plant;
use world::{Options, Report, run};

/// Simulated time that passes at once.
pub const TICK_MS: u64 = 10;
/// What a panic says that a run wants.
pub const PLANTED_PANIC: &str = "a panic that the seed asks for";
/// Seeds of the suite.
const SEEDS: u64 = 50;
/// Shares that they are run in, so that two cores have something to do.
const SHARES: u64 = 5;
/// The seed to run, where one is named.
const SEED: &str = "POSTRIDER_SHELL_SEED";
/// How many seeds to run, where it is not the suite's number.
const COUNT: &str = "POSTRIDER_SHELL_SEEDS";
/// Lines of a log at the least.
const LOG_LINES_MIN: usize = 300;
/// Seeds in which a planted fault has to be found.
const PLANTED_SEEDS_MAX: u64 = 8;

/// Seeds whose histories are spoilt to see whether the checkers complain.
const PROOF_SEEDS: [u64; 2] = [3, 17];

/// Lets simulated time pass: no thread waits.
pub async fn pass_ms(ms: u64) {
    let over = tokio::time::Instant::now() + Duration::from_millis(ms);
    tokio::time::sleep_until(over).await;
}

/// Panics that a run wants are not printed.
fn quiet() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_none_or(|text| text != PLANTED_PANIC) {
            loud(panic);
        }
    }));
}

/// A report that has violations, as a person reads it.
fn complaint(report: &Report) -> String {
    let violations = report.verdict.violations.join("\n  ");
    let seed = report.seed;
    let file = format!("{}/shell-{seed}.log", env!("CARGO_TARGET_TMPDIR"));
    let log = match std::fs::write(&file, report.log.join("\n")) {
        Ok(()) => file,
        Err(error) => error.to_string(),
    };
    format!(
        "seed {seed}:\n  {violations}\nlog: {log}\n\
         again: {SEED}={seed} cargo test -p postrider --test shell -- one_seed --nocapture"
    )
}

fn share(of: u64) {
    quiet();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut simulated_ms = 0;
    let mut complaints = Vec::new();
    let count = std::env::var(COUNT)
        .ok()
        .and_then(|count| count.parse().ok());
    for seed in (0..count.unwrap_or(SEEDS)).filter(|seed| seed % SHARES == of) {
        let report = run(seed, Options::default());
        simulated_ms += report.simulated_ms;
        for (what, count) in &report.verdict.counts {
            *counts.entry(what).or_default() += count;
        }
        if !report.verdict.violations.is_empty() {
            complaints.push(complaint(&report));
        }
    }
    println!("{} simulated minutes", simulated_ms / 60_000);
    for (what, count) in &counts {
        println!("{count:>7} {what}");
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

#[test]
fn seeds_first_share() {
    share(0);
}

#[test]
fn seeds_second_share() {
    share(1);
}

#[test]
fn seeds_third_share() {
    share(2);
}

#[test]
fn seeds_fourth_share() {
    share(3);
}

#[test]
fn seeds_fifth_share() {
    share(4);
}

#[test]
fn one_seed() {
    quiet();
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let report = run(seed.unwrap_or(SEEDS), Options::default());
    if seed.is_some() {
        println!("{}", report.log.join("\n"));
        println!("{:#?}", report.verdict.counts);
    }
    assert!(
        report.verdict.violations.is_empty(),
        "{}",
        complaint(&report)
    );
}

/// What a seed's log is in a process of its own: tasks are numbered through a whole process, and
/// what another test does meanwhile would show.
fn log_alone(seed: u64) -> Vec<String> {
    let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
    command.args(["one_seed", "--exact", "--nocapture"]);
    let output = command.env(SEED, seed.to_string()).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let is_log = |line: &&str| !line.starts_with("test result: ok");
    text.lines().filter(is_log).map(str::to_owned).collect()
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in [3, 17] {
        let (first, again) = (log_alone(seed), log_alone(seed));
        let differs = first.iter().zip(&again).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.len(), again.len(), "seed {seed}");
        assert!(first.len() > LOG_LINES_MIN, "seed {seed}: {first:?}");
    }
}

#[test]
fn the_shared_checkers_see_what_they_are_said_to_see() {
    quiet();
    let histories = PROOF_SEEDS.map(|seed| run(seed, Options::default()).history);
    history_kit::spoil::every_checker_sees(Layer::Shell, &histories);
}

/// Runs seeds until the planted fault is found, by the checker of this name.
fn is_found(plant: Plant, by: &str) {
    quiet();
    let options = Options { plant: Some(plant) };
    let found = (0..PLANTED_SEEDS_MAX).find(|seed| {
        let violations = run(*seed, options).verdict.violations;
        violations.iter().any(|violation| violation.starts_with(by))
    });
    println!("{} is found by seed {found:?}", plant.name());
    assert!(found.is_some(), "{} is not found by {by}", plant.name());
}

#[test]
fn a_request_that_leaves_before_its_record_is_found() {
    is_found(Plant::SendBeforeRecord, "sent-durable");
}

#[test]
fn a_forgotten_key_is_found() {
    is_found(Plant::ForgetDedupeKey, "asked_for");
}

#[test]
fn a_second_request_at_at_most_once_is_found() {
    is_found(Plant::RetryAtAtMostOnce, "at-most-once");
}

#[test]
fn a_request_to_a_device_that_is_gone_is_found() {
    is_found(Plant::GoneIgnored, "gone");
}
