//! The command line: one verb, one file.
//!
//! Data goes to stdout, everything else to stderr. The exit code is 0 for done, 1 when the answer
//! is no, 2 when usage or configuration is wrong. What goes wrong is printed as a chain of causes,
//! a blank line, and a hint.
//!
//! Absent here: any work. Verbs that act on a running engine go through its HTTP API, like every
//! other caller; verbs that act on a data directory go through the store.

mod backup;
mod bench;
pub mod client;
mod completions;
mod config;
mod deliveries;
pub mod demo;
mod devices;
mod doctor;
mod endpoints;
pub mod failure;
mod fake;
mod journal;
mod keys;
mod local;
mod restore;
mod run_directory;
mod send;
mod serve;
pub mod show;
mod tenants;
mod why;

pub use bench::page as bench_page;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Outcome;

/// Data directory where none is named: beside whoever starts the engine.
pub const DATA_DIRECTORY: &str = "postrider-data";

/// Self-hosted delivery engine: signed webhooks that can be proved
#[derive(Parser)]
#[command(
    name = "postrider",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Exit codes: 0 done, 1 the answer is no, 2 usage or configuration.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the engine
    Serve(serve::Args),
    /// Kill an engine under load, again and again, and hold it against its promises
    Demo(demo::Args),
    /// Measure this machine, with the engine and without
    Bench(bench::Args),
    /// Run a webhook sink that verifies, records, and misbehaves as told
    Fake(fake::Args),
    /// Submit one event
    Send(send::Args),
    /// List, register, pause and remove the addresses that deliveries go to
    Endpoints(endpoints::Args),
    /// Bring devices in out of a file
    Devices(devices::Args),
    /// List deliveries, or withdraw one
    Deliveries(deliveries::Args),
    /// List and make tenants
    Tenants(tenants::Args),
    /// List, make and revoke API keys
    Keys(keys::Args),
    /// Say why a delivery is where it is, what shows it, and who has to act
    Why(why::Args),
    /// Look a data directory and a running engine over, and say what is wrong
    Doctor(doctor::Args),
    /// Verify the ledger, print the journal, or save what can be read of a damaged one
    Journal(journal::Args),
    /// Copy the data directory, while the engine runs or not
    Backup(backup::Args),
    /// Make a data directory out of a backup
    Restore(restore::Args),
    /// Check the configuration, or print every setting there is
    Config(config::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Runs what the process was started for.
#[must_use]
pub fn main() -> ExitCode {
    // Only the first one counts, and there is no other: an error cannot matter.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(verb: Verb) -> Outcome {
    match verb {
        Verb::Serve(args) => serve::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Fake(args) => fake::run(&args),
        Verb::Send(args) => send::run(&args),
        Verb::Endpoints(args) => endpoints::run(&args),
        Verb::Devices(args) => devices::run(&args),
        Verb::Deliveries(args) => deliveries::run(&args),
        Verb::Tenants(args) => tenants::run(&args),
        Verb::Keys(args) => keys::run(&args),
        Verb::Why(args) => why::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Journal(args) => journal::run(&args),
        Verb::Backup(args) => backup::run(&args),
        Verb::Restore(args) => restore::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_arguments_of_a_verb_have_one_name() {
        super::Cli::command().debug_assert();
    }
}
