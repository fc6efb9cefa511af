//! `completions`: a script that teaches a shell our verbs and flags.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::failure::Outcome;
use super::{Cli, show};

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "postrider", &mut script);
    show::out(&String::from_utf8_lossy(&script));
    Ok(())
}
