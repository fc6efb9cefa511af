//! The command: runs seeds on a few threads, one world each, and says what came of it.
//!
//! Absent here: simulating; see the library.

mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use postrider_sim::draw::draw;
use postrider_sim::plant::Planted;
use postrider_sim::run::{PLANTS_SEEDS_MAX, Ran, run, run_held_to, run_seed};

use crate::report::{Sum, Watch, failure, say};

/// Worlds that run at the same time.
const THREADS: u64 = 2;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
const USAGE: &str = "\
cargo xtask sim [--seeds N] [--seed S] [--minutes M] [--planted NAME|all] [--log]

  --seeds N      run N seeds (200)
  --seed S       begin with seed S (0)
  --minutes M    run for M minutes, however many seeds that is
  --planted P    plant a fault, or every one in turn; what it breaks must catch it
                 with --seed or --log: run as without, the fault in it
  --log          print the whole log of a single seed";

/// What was asked for.
#[derive(Clone, Copy, Debug)]
struct Options {
    first: Option<u64>,
    seeds: u64,
    minutes: Option<u64>,
    planted: Option<Plants>,
    log: bool,
}

impl Options {
    /// The one fault that is planted in each seed.
    fn plant(&self) -> Option<Planted> {
        match self.planted {
            Some(Plants::One(planted)) => Some(planted),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Plants {
    One(Planted),
    All,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(words) => {
            eprintln!("{words}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A panic is a finding like any other: it is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let held = match options.planted {
        Some(Plants::All) => plants(&Planted::all().collect::<Vec<_>>()),
        Some(Plants::One(planted)) if options.first.is_none() && !options.log => plants(&[planted]),
        _ if options.log => log(options),
        _ => sweep(options),
    };
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        first: None,
        seeds: 200,
        minutes: None,
        planted: None,
        log: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |value: String| {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{value} is not a number"))
        };
        match word.as_str() {
            "--seeds" => options.seeds = number(value()?)?,
            "--seed" => {
                options.first = Some(number(value()?)?);
            }
            "--minutes" => {
                options.minutes = Some(number(value()?)?);
                options.seeds = u64::MAX / 2;
            }
            "--planted" => {
                let name = value()?;
                options.planted = Some(match Planted::from_name(&name) {
                    Some(planted) => Plants::One(planted),
                    None if name == "all" => Plants::All,
                    None => return Err(format!("{name} is not a planted fault: {}", names())),
                });
            }
            "--log" => options.log = true,
            _ => return Err(format!("{word} is not understood")),
        }
    }
    let one = options.first.is_some() || options.log;
    if one && matches!(options.planted, Some(Plants::All)) {
        return Err("in a seed one fault is planted, not all".to_owned());
    }
    Ok(options)
}

fn names() -> String {
    let names: Vec<&str> = Planted::all().map(Planted::name).collect();
    names.join(", ")
}

/// Runs seeds until one breaks an invariant. Returns whether none did.
fn sweep(options: Options) -> bool {
    let watch = Watch::start();
    let (first, plant) = (options.first.unwrap_or(0), options.plant());
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let limit = options
        .minutes
        .map(|minutes| Duration::from_secs(60 * minutes));
    let work = |nth: u64| {
        let mut sum = Sum::default();
        let mut said = Duration::ZERO;
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let over = limit.is_some_and(|limit| watch.wall() > limit);
            if place >= options.seeds || over || stop.load(Ordering::Relaxed) {
                return (sum, None);
            }
            let seed = first + place;
            let ran = run_seed(seed, plant);
            sum.add(&ran);
            if ran.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
                return (sum, Some((seed, ran)));
            }
            if nth == 0 && watch.wall() > said + PROGRESS {
                said = watch.wall();
                eprintln!("{}", watch.progress(place + 1, options.seeds, limit));
            }
        }
    };
    let (sum, failed) = on_threads(work);
    println!("{}", say(&sum, &watch));
    for (seed, ran) in &failed {
        failure(*seed, plant, ran);
    }
    failed.is_empty()
}

type Worked = (Sum, Option<(u64, Ran)>);

fn on_threads(work: impl Fn(u64) -> Worked + Sync) -> (Sum, Vec<(u64, Ran)>) {
    let (mut sum, mut failed) = (Sum::default(), Vec::new());
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS)
            .map(|nth| scope.spawn(move || work(nth)))
            .collect();
        for thread in threads {
            if let Ok((part, found)) = thread.join() {
                sum.merge(&part);
                failed.extend(found);
            }
        }
    });
    failed.sort_by_key(|(seed, _)| *seed);
    (sum, failed)
}

/// Plants faults one at a time, and holds each world to one invariant that the fault breaks.
/// Returns whether each of those caught it.
fn plants(planted: &[Planted]) -> bool {
    let pairs = planted
        .iter()
        .flat_map(|plant| plant.breaks().iter().map(|name| (*plant, *name)));
    let pairs: Vec<(Planted, &str)> = pairs.collect();
    let next = AtomicU64::new(0);
    let work = || {
        let mut caught = Vec::new();
        loop {
            let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some((plant, name)) = pairs.get(place) else {
                return caught;
            };
            let found = (0..PLANTS_SEEDS_MAX).find_map(|seed| {
                let violation = run_held_to(seed, *plant, name)?;
                Some((seed + 1, violation.invariant))
            });
            caught.push((place, found));
        }
    };
    let mut caught = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            caught.extend(thread.join().unwrap_or_default());
        }
    });
    caught.sort_by_key(|(place, _)| *place);
    println!("{:<28} {:>5}  caught by", "planted fault", "seeds");
    let mut passed = 0;
    for ((_, found), (plant, name)) in caught.iter().zip(&pairs) {
        let (seeds, by) = match found {
            Some((seeds, by)) if by == name => (seeds.to_string(), (*name).to_owned()),
            Some((seeds, by)) => (seeds.to_string(), format!("{by}, not {name}")),
            None => (
                format!(">{PLANTS_SEEDS_MAX}"),
                format!("nothing, not {name}"),
            ),
        };
        passed += usize::from(by == **name);
        println!("{:<28} {seeds:>5}  {by}", plant.name());
    }
    let missed = pairs.len() - passed;
    let word = if missed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {missed} failed; 0 ignored");
    missed == 0
}

/// Prints the log of one seed.
fn log(options: Options) -> bool {
    let plan = Arc::new(draw(options.first.unwrap_or(0)));
    let ran = run(&plan, options.plant(), true);
    println!("{plan}\n{}", ran.log);
    ran.violation.is_none()
}
