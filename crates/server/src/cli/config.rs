//! `config`: whether the configuration is right, and which settings there are.
//!
//! Absent here: changing it. A file is edited by its owner.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::show;
use crate::config::{self, Config, ConfigError};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read the configuration as the engine would, and say what is wrong with it
    Check {
        /// The file; `postrider.toml` in the working directory where none is named
        #[arg(long, env = "POSTRIDER_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print every setting: what it is for, its default, its bounds
    Reference,
}

/// Checks or explains.
pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::Check { config, json } => check(config.clone(), *json),
        Verb::Reference => {
            show::out(&config::reference());
            Ok(())
        }
    }
}

/// The configuration of a verb that needs one, with a data directory of the command line.
///
/// # Errors
/// [`Failure`] with the place of the first fault.
pub fn load(file: Option<PathBuf>, data: Option<PathBuf>) -> Result<Config, Failure> {
    let mut config = Config::load(file.as_deref()).map_err(|error| wrong(&error))?;
    if let Some(data) = data {
        config.store.dir = data;
    }
    Ok(config)
}

fn check(file: Option<PathBuf>, json: bool) -> Outcome {
    let read = Config::load(file.as_deref());
    if json {
        show::json(&match &read {
            Ok(_) => json!({ "valid": true }),
            Err(error) => json!({
                "valid": false,
                "file": error.file.as_ref().map(|file| file.display().to_string()),
                "line": error.place.map(|(line, _)| line),
                "column": error.place.map(|(_, column)| column),
                "key": error.key,
                "rule": error.rule,
                "nearest": error.nearest,
            }),
        });
    }
    let config = read.map_err(|error| wrong(&error))?;
    let (count, dir) = (config.policies.len(), config.store.dir.display());
    eprintln!(
        "the configuration is right: API on {}, data in {dir}, {count} policies of its own",
        config.server.listen
    );
    Ok(())
}

fn wrong(error: &ConfigError) -> Failure {
    Failure::usage("the configuration is wrong")
        .because(error.clone())
        .hint("`postrider config reference` lists every setting with its default and bounds")
}
