//! `postrider bench`: what this machine can do, with the engine and without.
//!
//! Sink, engine and load generator are processes of their own on one machine, so every figure is a
//! share of it. A whole run has a part for each channel. Each stands on a stage of its own and is
//! held against the raw limit of its protocol, measured on the same stage in the same run. Where a
//! part cannot be measured the others are all the same, and the run ends with 1.
//!
//! Absent here: a verdict. The figures are compared with budgets by whoever reads them.

mod apns;
mod disk;
mod fcm;
mod growth;
mod hang;
mod load;
mod npm;
mod process;
mod push;
mod raw;
mod raw2;
mod recovery;
mod sink;
mod stage;
mod web_push;
mod webhooks;
mod words;
mod wrk;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

pub use self::words::page;

use super::demo::progress::Progress;
use super::failure::{Failure, Outcome};
use super::run_directory::must_be_empty;
use super::show;

/// Connections of the raw client, and slots of a measured endpoint.
const CONNECTIONS: usize = 64;
/// Threads of the raw client and of the independent generator.
const THREADS: usize = 2;
/// Times that the raw client and the independent generator take turns; the best of each counts.
const TURNS: u32 = 2;
/// Events at full speed for each second of the other parts of a run.
const EVENTS_PER_S: u64 = 25_000;
/// Longest open loop.
const OPEN_S_MAX: u64 = 15;
/// Longest turn of the raw client.
const RAW_S_MAX: u64 = 4;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// A tenth of the work: for a look, not for a record
    #[arg(long, global = true)]
    quick: bool,
    /// Events at full speed; the other sizes follow
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1_000..))]
    events: Option<u64>,
    /// Measure this part only; may be given again
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print the figures as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Where the engine's data goes, and stays; a temporary directory where none is named
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// How long a restart takes with a million unsettled deliveries, and what each of them weighs
    Recovery,
    /// What a delivery costs with 100,000 rows in the ledger, and with 5,000,000
    Growth,
    /// What ten thousand endpoints notice of the hundred among them that hang
    Hang,
}

/// A part of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Part {
    Webhooks,
    WebPush,
    Apns,
    Fcm,
}

/// Events at full speed of a quick run and of a whole one.
const EVENTS: [u64; 2] = [40_000, 400_000];

/// Sizes of a run.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Events at full speed.
    events: u64,
    /// Time of a raw turn.
    raw: Duration,
    /// Time of an open loop.
    open_s: u64,
}

impl Sizes {
    fn of(quick: bool) -> Sizes {
        Sizes::with(EVENTS[usize::from(!quick)])
    }

    fn with(events: u64) -> Sizes {
        let seconds = events / EVENTS_PER_S;
        Sizes {
            events,
            raw: Duration::from_secs(seconds.clamp(1, RAW_S_MAX)),
            open_s: seconds.clamp(1, OPEN_S_MAX),
        }
    }
}

/// Runs a benchmark and prints its figures.
pub(super) fn run(args: &Args) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|error| Failure::no("the program does not find itself").because(error))?;
    // As many connections as the system lets one process have; fewer than hoped is no error.
    let _raised = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::no("the network could not be set up").because(error))?;
    let mut progress = Progress::new();
    let data = args.data.as_deref();
    let (figures, troubled) = runtime.block_on(async {
        let figures = match args.verb {
            None => return whole(&program, args, &mut progress).await,
            Some(Verb::Recovery) => recovery::run(&program, data, args.quick, &mut progress).await,
            Some(Verb::Growth) => growth::run(&program, data, args.quick, &mut progress).await,
            Some(Verb::Hang) => hang::run(&program, data, args.quick, &mut progress).await,
        };
        Ok((figures?, Vec::new()))
    })?;
    progress.end();
    match (args.json, args.verb.is_some(), figures.as_object()) {
        (true, ..) => show::json(&figures),
        (false, true, Some(fields)) => show::out(&words::plain(fields)),
        (false, ..) => show::out(&words::text(&figures)),
    }
    match &troubled[..] {
        [] => Ok(()),
        some => Err(Failure::no(format!("not measured: {}", some.join(", ")))),
    }
}

/// Every part that is asked for, and the names of those that could not be measured.
async fn whole(
    program: &Path,
    args: &Args,
    progress: &mut Progress,
) -> Result<(Value, Vec<&'static str>), Failure> {
    let data = args.data.as_deref();
    must_be_empty(data)?;
    let sizes = args.events.map_or(Sizes::of(args.quick), Sizes::with);
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut report = Report::default();
    if wanted(Part::Webhooks) {
        let measured = webhooks::run(program, data, sizes, progress).await;
        report.add("webhooks", measured);
    }
    if wanted(Part::WebPush) {
        let measured = web_push::run(program, data, sizes, progress).await;
        let (figures, npm) = measured.map_or_else(|it| (Err(it), None), |(it, npm)| (Ok(it), npm));
        report.add("web_push", figures);
        if let Some(trouble) = npm {
            report.trouble("npm_web_push", &trouble);
        }
    }
    if wanted(Part::Apns) {
        let measured = apns::run(program, data, sizes, progress).await;
        report.add("apns", measured);
    }
    if wanted(Part::Fcm) {
        report.add("fcm", fcm::run(program, data, sizes, progress).await);
    }
    Ok(report.end())
}

/// What the parts came to.
#[derive(Default)]
struct Report {
    figures: Map<String, Value>,
    troubles: Map<String, Value>,
    names: Vec<&'static str>,
}

impl Report {
    /// The figures of webhooks are the report's own, those of others in an object each.
    fn add(&mut self, name: &'static str, measured: Result<Value, Failure>) {
        match measured {
            Ok(Value::Object(own)) if name == "webhooks" => self.figures.extend(own),
            Ok(own) => {
                self.figures.insert(name.to_owned(), own);
            }
            Err(failure) => {
                if name != "webhooks" {
                    self.figures.insert(name.to_owned(), Value::Null);
                }
                self.trouble(name, &failure);
            }
        }
    }

    fn trouble(&mut self, name: &'static str, failure: &Failure) {
        failure.report();
        let mut why = failure.to_string();
        let mut source = failure.source();
        while let Some(error) = source {
            why = format!("{why}: {error}");
            source = error.source();
        }
        self.troubles.insert(name.to_owned(), why.into());
        self.names.push(name);
    }

    fn end(mut self) -> (Value, Vec<&'static str>) {
        if !self.troubles.is_empty() {
            self.figures
                .insert("troubles".to_owned(), self.troubles.into());
        }
        (self.figures.into(), self.names)
    }
}

/// Three digits after the point are more than is known.
fn round(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Failure, Report};

    #[test]
    fn a_part_that_cannot_be_measured_leaves_the_others_as_they_are() {
        let mut report = Report::default();
        report.add("webhooks", Ok(json!({ "raw_per_s": 1.0 })));
        let trouble = Failure::no("APNs could not be measured").because("the wire is cut");
        report.add("apns", Err(trouble));
        report.add("fcm", Ok(json!({ "lost": 0 })));
        let (figures, names) = report.end();
        let expected = json!({
            "raw_per_s": 1.0,
            "apns": null,
            "fcm": { "lost": 0 },
            "troubles": { "apns": "APNs could not be measured: the wire is cut" },
        });
        assert_eq!((figures, names), (expected, vec!["apns"]));
    }
}
