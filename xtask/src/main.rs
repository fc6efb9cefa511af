//! The repository's own commands: `cargo xtask test`, `bench`, `demo`, `sim`.
//!
//! Absent here: anything that Cargo does alone. A developer who wants one test runs Cargo; this
//! runs what has to hold before a change lands, in the order in which trouble shows soonest.

mod needs;
mod parts;
mod peers;
mod sim;
mod tally;
mod test;

use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The repository's own commands")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check everything that has to hold before a change lands
    Test(test::Options),
    /// Measure: builds for release and runs `postrider bench`
    Bench {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Attack: runs whole clusters under every fault, a seed each
    Sim {
        /// Passed on: --seeds N, --seed S, --minutes M, --planted NAME|all, --log
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Prove: builds for release and runs `postrider demo`
    Demo {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Test(options) => test::run(&options),
        Verb::Bench { rest } => {
            needs::settle(&[needs::WRK, needs::NODE, needs::NPM]);
            peers::install();
            postrider("bench", &rest)
        }
        Verb::Demo { rest } => postrider("demo", &rest),
        Verb::Sim { rest } => pass_on(Command::new(cargo()).args(sim::RUN).args(rest)),
    }
}

/// Builds the engine for release and runs one of its verbs.
fn postrider(verb: &str, rest: &[String]) -> ExitCode {
    let engine = ["run", "--release", "--package", "postrider", "--", verb];
    pass_on(Command::new(cargo()).args(engine).args(rest))
}

/// Runs Cargo at the root of the repository, and ends as it does.
fn pass_on(command: &mut Command) -> ExitCode {
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|c| u8::try_from(c).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("error: cargo could not be started: {error}");
            ExitCode::from(2)
        }
    }
}

/// The Cargo that runs us.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// The root of the repository.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
