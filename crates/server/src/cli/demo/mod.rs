//! `postrider demo`: the engine does its work, is killed again and again, and is held against its
//! promises.
//!
//! ```text
//! plan (seed) ─► world (tenants, endpoints, fakes) ─► drive (submit, kill, restart) ─► gather
//!                                                                                        │
//!                                                    report ◄── check (pure) ◄── evidence┘
//! ```
//!
//! The same run is the crash test of the suite, with more kills, and the kill points of the suite
//! are judged by the same checkers. Absent here: any way into the engine but its API, its signals
//! and its sockets.

pub mod api;
pub mod check;
mod drive;
pub(crate) mod engine;
pub mod evidence;
pub mod gather;
pub mod phones;
mod plan;
pub(crate) mod progress;
mod report;
pub(crate) mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use postrider_core::plant::Plant;
use serde_json::Value;

use self::engine::Engine;
use self::evidence::{Evidence, Outage};
use self::phones::Phones;
use self::plan::Plan;
use self::progress::Progress;
use self::report::Report;
use self::world::World;
use super::failure::{Failure, Outcome};
use super::run_directory::RunDirectory;
use super::show;

pub use check::{Broken, Findings, Promise};
pub use plan::{Fault, Presence, Trouble, Way, payload};

/// Events of a run at most.
const EVENTS_MAX: usize = 1_000_000;
/// Kills of a run at most.
const KILLS_MAX: usize = 1_000;

/// What a run is made of.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What the run is drawn from; a random one where none is given
    #[arg(long)]
    pub seed: Option<u64>,
    /// Events to submit
    #[arg(long, default_value_t = 4_000)]
    pub events: usize,
    /// How often the engine is killed under load
    #[arg(long, default_value_t = 6)]
    pub kills: usize,
    /// Where the engine's data goes, and stays; a temporary directory where none is named
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// Plant a fault in the engine: the demo has to find it and exit 1
    #[arg(long, value_name = "FAULT", value_parser = fault)]
    pub plant: Option<String>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

fn fault(name: &str) -> Result<String, String> {
    let known: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
    match Plant::from_name(name) {
        Some(plant) => Ok(plant.name().to_owned()),
        None => Err(format!("there is {}", known.join(", "))),
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Verdict {
    /// What was found.
    pub findings: Findings,
    /// How often the engine was killed.
    pub kills: usize,
    /// The report as an object.
    pub json: Value,
    words: String,
}

/// Runs the demo and prints its report.
pub(super) fn run(args: &Args) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|error| Failure::no("the program does not find itself").because(error))?;
    let verdict = perform(args, &program)?;
    if args.json {
        show::json(&verdict.json);
    } else {
        show::out(&verdict.words);
    }
    match verdict.findings.broken.len() {
        0 => Ok(()),
        count => Err(
            Failure::no(format!("{count} promises were broken")).hint(format!(
                "`postrider demo --seed {}` repeats the run",
                verdict.json["seed"]
            )),
        ),
    }
}

/// Runs the demo with the engine in `program`; the verdict says what was broken.
///
/// # Errors
/// [`Failure`] if the run itself could not be made.
pub fn perform(args: &Args, program: &std::path::Path) -> Result<Verdict, Failure> {
    if args.events == 0 || args.events > EVENTS_MAX || args.kills > KILLS_MAX {
        let bounds = format!("1 to {EVENTS_MAX} events and at most {KILLS_MAX} kills");
        return Err(Failure::usage(format!("a run has {bounds}")));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::no("the network could not be set up").because(error))?;
    let home = RunDirectory::new("demo", args.data.as_deref())?;
    runtime.block_on(async {
        tokio::select! {
            verdict = whole(args, program, &home) => verdict,
            () = told_to_end() => Err(Failure::no("interrupted")),
        }
    })
}

async fn whole(
    args: &Args,
    program: &std::path::Path,
    home: &RunDirectory,
) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let seed = args.seed.unwrap_or_else(rand::random);
    let mut progress = Progress::new();
    progress.phase(
        &format!("seed {seed}: starting an engine in {}", home.path.display()),
        0,
    );
    let plan = Arc::new(Plan::draw(seed, args.events, args.kills));
    let plant = args.plant.as_deref();
    let phones = Phones::start(world::RECORDS_MAX).await?;
    let mut engine = prepare(program, home, plant, &phones)?;
    engine.start().await?;
    let world = World::make(&plan, engine.address(), &engine.key()?, phones).await?;
    let world = Arc::new(world);

    let steps: usize = plan.callers.iter().map(|caller| caller.steps.len()).sum();
    progress.phase(
        &format!("submitting {steps} times under {} kills", args.kills),
        steps as u64,
    );
    let mut shared = Arc::new(progress);
    let (asked, outages) = drive::drive(&plan, &world, &mut engine, seed, &shared).await?;
    phase(&mut shared, "waiting until everything is settled", 0);
    gather::settle(&world, &shared).await?;
    let deliveries = asked.iter().filter_map(|asked| asked.answers.first());
    let deliveries: usize = deliveries.map(|said| said.deliveries.len()).sum();
    phase(&mut shared, "reading the ledger back", deliveries as u64);
    let rows = gather::rows(&world, &shared).await?;
    let devices = gather::devices(&world, &plan).await?;
    shared.end();
    engine.stop().await?;

    let receivers = plan.tenants.iter().flat_map(|tenant| &tenant.receivers);
    let (received, pushes) = world.received();
    let evidence = Evidence {
        fakes: receivers
            .map(|one| (one.path.clone(), one.nature))
            .collect(),
        asked,
        rows,
        received,
        outages,
        devices,
        pushes,
    };
    Ok(verdict(&evidence, seed, plant, began))
}

/// An engine with the settings of a run. What Apple wants to be waited for a quarter of an hour is
/// waited for a second: a table of reactions in front of the one that is built in says so.
fn prepare(
    program: &std::path::Path,
    home: &RunDirectory,
    plant: Option<&str>,
    phones: &Phones,
) -> Result<Engine, Failure> {
    let cannot = |error| Failure::no("the reaction table could not be written").because(error);
    let tables = home.path.join("reactions");
    std::fs::create_dir_all(&tables).map_err(cannot)?;
    std::fs::write(tables.join("apns.toml"), plan::APNS_REACTIONS).map_err(cannot)?;
    let tables = Value::from(tables.display().to_string());
    let push = format!("{}reactions = {tables}\n", phones.settings());
    Engine::prepare(
        program,
        &home.path,
        plant,
        &(plan::SETTINGS.to_owned() + &push),
    )
}

fn verdict(evidence: &Evidence, seed: u64, plant: Option<&str>, began: Instant) -> Verdict {
    let findings = check::check(evidence);
    let outages: &[Outage] = &evidence.outages;
    let report = Report {
        findings: &findings,
        outages,
        seed,
        plant,
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let (json, words) = (report.json(), report.words(show::paint()));
    Verdict {
        json,
        words,
        kills: outages.len(),
        findings,
    }
}

fn phase(progress: &mut Arc<Progress>, name: &str, total: u64) {
    // All callers of the phase before have ended, so nobody else holds it.
    if let Some(progress) = Arc::get_mut(progress) {
        progress.phase(name, total);
    }
}

async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
