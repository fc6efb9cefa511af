//! `cargo xtask test`: runs the parts, says how long each took, and ends with one plain line.
//!
//! Absent here: which parts there are; see [`crate::parts`].

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::needs::{self, Need};
use crate::parts::{PARTS, Part, Work};
use crate::tally::Tally;

/// What may be asked of the suite.
#[derive(clap::Args)]
pub struct Options {
    /// Run only this part; may be given more than once
    #[arg(long, value_name = "PART", value_parser = names())]
    only: Vec<String>,
    /// List the parts and what each of them shows
    #[arg(long)]
    list: bool,
    /// Install nothing: leave out what is not there
    #[arg(long)]
    no_install: bool,
}

/// What became of one part.
struct Line {
    name: &'static str,
    took: Duration,
    tally: Tally,
    note: String,
}

/// Runs the suite.
pub fn run(options: &Options) -> ExitCode {
    if options.list {
        for part in PARTS {
            println!("{:<12} {}", part.name, part.about);
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Part> = PARTS
        .iter()
        .filter(|part| options.only.is_empty() || options.only.iter().any(|o| o == part.name))
        .collect();
    let needed: Vec<Need> = distinct(&chosen);
    let missing = if options.no_install {
        needs::look(&needed)
    } else {
        needs::settle(&needed)
    };
    let lines: Vec<Line> = chosen.iter().map(|part| timed(part, &missing)).collect();
    conclude(&lines)
}

fn names() -> clap::builder::PossibleValuesParser {
    PARTS
        .iter()
        .map(|part| part.name)
        .collect::<Vec<_>>()
        .into()
}

fn distinct(parts: &[&Part]) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for need in parts.iter().flat_map(|part| part.needs) {
        if !needs.contains(need) {
            needs.push(*need);
        }
    }
    needs
}

fn timed(part: &Part, missing: &[Need]) -> Line {
    eprintln!("\n== {}: {}", part.name, part.about);
    let begun = Instant::now();
    let missing: Vec<Need> = missing
        .iter()
        .copied()
        .filter(|need| part.needs.contains(need))
        .collect();
    let (tally, note) = perform(part, &missing);
    Line {
        name: part.name,
        took: begun.elapsed(),
        tally,
        note,
    }
}

fn perform(part: &Part, missing: &[Need]) -> (Tally, String) {
    let lacks: Vec<String> = missing
        .iter()
        .map(|need| format!("without {}: {}", need.package, need.purpose))
        .collect();
    match part.work {
        Work::Cargo(arguments) => (Tally::one(stream(arguments, &[]).0), String::new()),
        Work::Tool(arguments) if !has_subcommand(arguments[0]) => {
            let note = format!("cargo-{} is not installed", arguments[0]);
            eprintln!("left out: {note}");
            (
                Tally {
                    skipped: 1,
                    ..Tally::default()
                },
                note,
            )
        }
        Work::Tool(arguments) => (Tally::one(stream(arguments, &[]).0), String::new()),
        Work::Tests(_) if missing.iter().any(|need| need.tests.is_empty()) => {
            let left_out = Tally {
                skipped: 1,
                ..Tally::default()
            };
            (left_out, lacks.join("; "))
        }
        Work::Tests(targets) => (tests(targets, missing), lacks.join("; ")),
        Work::Sim(arguments) => {
            let arguments = [&crate::sim::RUN, arguments].concat();
            (counted_or_one(&arguments), String::new())
        }
        Work::Examples => (
            counted(&["test", "--workspace", "--doc"], &[]),
            String::new(),
        ),
    }
}

/// Runs tests under nextest where it is installed, else under `cargo test`.
fn tests(targets: &[&str], missing: &[Need]) -> Tally {
    let without: Vec<&str> = missing
        .iter()
        .flat_map(|need| need.tests)
        .copied()
        .collect();
    if has_subcommand("nextest") {
        let mut filter = vec![];
        if !without.is_empty() {
            let tests: Vec<String> = without.iter().map(|name| format!("test({name})")).collect();
            filter = vec!["-E".to_owned(), format!("not ({})", tests.join(" + "))];
        }
        counted(
            &[&["nextest", "run", "--no-fail-fast"], targets].concat(),
            &filter,
        )
    } else {
        let mut skips = vec!["--".to_owned()];
        skips.extend(
            without
                .iter()
                .flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]),
        );
        counted(&[&["test", "--no-fail-fast"], targets].concat(), &skips)
    }
}

/// As [`counted`], and as one check where nothing is counted.
fn counted_or_one(arguments: &[&str]) -> Tally {
    let (held, tally) = stream(arguments, &[]);
    if tally == Tally::default() {
        Tally::one(held)
    } else {
        tally
    }
}

fn counted(arguments: &[&str], more: &[String]) -> Tally {
    let (held, tally) = stream(arguments, more);
    // What did not get as far as a summary did not compile, or died.
    if held || tally.broken > 0 {
        tally
    } else {
        tally.plus(Tally::one(false))
    }
}

/// Runs Cargo, passing its output on line by line; whether it held, and what its summaries add up
/// to.
fn stream(arguments: &[&str], more: &[String]) -> (bool, Tally) {
    let both = Command::new("sh")
        .args(["-c", "exec \"$@\" 2>&1", "sh", &crate::cargo()])
        .args(arguments)
        .args(more)
        .current_dir(crate::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match both {
        Ok(child) => child,
        Err(error) => {
            eprintln!("error: cargo could not be started: {error}");
            return (false, Tally::default());
        }
    };
    let mut tally = Tally::default();
    let output = child.stdout.take().map(BufReader::new);
    let mut stderr = std::io::stderr().lock();
    for line in output.into_iter().flat_map(|output| output.split(b'\n')) {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        // A reader that went away is no reason to stop testing.
        let _ = writeln!(stderr, "{line}");
        if let Some(found) = Tally::of_line(&line) {
            tally = tally.plus(found);
        }
    }
    (child.wait().is_ok_and(|status| status.success()), tally)
}

fn has_subcommand(name: &str) -> bool {
    Command::new(crate::cargo())
        .args([name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Prints the table and the last line.
fn conclude(lines: &[Line]) -> ExitCode {
    println!(
        "\n{:<12} {:>8} {:>8} {:>8} {:>8}",
        "part", "minutes", "passed", "failed", "skipped"
    );
    for line in lines {
        let minutes = line.took.as_secs_f64() / 60.0;
        let Tally {
            passed,
            broken,
            skipped,
        } = line.tally;
        let row = format!(
            "{:<12} {minutes:>8.1} {passed:>8} {broken:>8} {skipped:>8}  {}",
            line.name, line.note
        );
        println!("{}", row.trim_end());
    }
    let minutes = lines
        .iter()
        .map(|line| line.took)
        .sum::<Duration>()
        .as_secs_f64()
        / 60.0;
    println!("{:<12} {minutes:>8.1}\n", "all");
    let all = lines
        .iter()
        .fold(Tally::default(), |all, line| all.plus(line.tally));
    println!(
        "{} passed, {} failed, {} skipped",
        all.passed, all.broken, all.skipped
    );
    if all.broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
