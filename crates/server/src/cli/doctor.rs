//! `doctor`: looks a data directory and its surroundings over, and says what is wrong, what it
//! means and what to do.
//!
//! Absent here: mending. Nothing is changed but one probe file, which is removed again.

mod directory;
mod ledger;
mod live;

use std::path::PathBuf;

use serde_json::json;

use super::client::Reach;
use super::failure::{Failure, Outcome};
use super::show;
use crate::config::Config;
use crate::run::key_file;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration; `postrider.toml` in the working directory where none is named
    #[arg(long, env = "POSTRIDER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave the ledger's content alone: on a large one, reading all of it takes minutes
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How one thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// As it should be.
    Good,
    /// It works, and something about it wants attention.
    Mind,
    /// It does not work, or will not.
    Bad,
    /// It could not be looked at.
    Unseen,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
struct Check {
    /// What, in a word or three.
    name: &'static str,
    finding: Finding,
    /// What was seen.
    detail: String,
    /// What to do; empty where nothing is.
    advice: String,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Check {
        Check::new(name, Finding::Good, detail, "")
    }

    fn new(
        name: &'static str,
        finding: Finding,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Check {
        Check {
            name,
            finding,
            detail: detail.into(),
            advice: advice.into(),
        }
    }
}

/// Looks at everything and reports.
pub fn run(args: &Args) -> Outcome {
    let mut checks = Vec::new();
    let mut config = match Config::load(args.config.as_deref()) {
        Ok(config) => {
            checks.push(Check::good("configuration", "every setting is right"));
            config
        }
        Err(error) => {
            let advice = "`postrider config reference` lists every setting";
            checks.push(Check::new(
                "configuration",
                Finding::Bad,
                error.to_string(),
                advice,
            ));
            Config::default()
        }
    };
    if let Some(directory) = args.reach.data() {
        config.store.dir = directory.to_path_buf();
    }
    let key_file = key_file(&config);
    checks.extend(directory::checks(&config.store.dir, &key_file));
    if !args.quick {
        checks.extend(ledger::check(&config.store.dir, &key_file));
    }
    checks.extend(live::checks(&args.reach));
    let bad = checks
        .iter()
        .filter(|check| check.finding == Finding::Bad)
        .count();
    if args.json {
        show::json(&document(&checks));
    } else {
        show::out(&page(&checks, show::paint()));
    }
    match bad {
        0 => Ok(()),
        1 => Err(Failure::no("one thing is wrong")),
        bad => Err(Failure::no(format!("{bad} things are wrong"))),
    }
}

fn document(checks: &[Check]) -> serde_json::Value {
    let list: Vec<serde_json::Value> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "finding": word(check.finding),
                "detail": check.detail,
                "advice": check.advice,
            })
        })
        .collect();
    let healthy = checks.iter().all(|check| check.finding != Finding::Bad);
    json!({ "healthy": healthy, "checks": list })
}

fn page(checks: &[Check], paint: show::Paint) -> String {
    use std::fmt::Write as _;
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut page = String::new();
    for check in checks {
        let word = format!("{:<6}", word(check.finding));
        let word = match check.finding {
            Finding::Good => paint.good(&word),
            Finding::Bad => paint.bad(&word),
            Finding::Mind => paint.strong(&word),
            Finding::Unseen => paint.faint(&word),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{word}  {:<width$}  {}", check.name, check.detail);
        if !check.advice.is_empty() {
            let _ = writeln!(page, "{:width$}  → {}", "", check.advice, width = width + 8);
        }
    }
    page
}

fn word(finding: Finding) -> &'static str {
    match finding {
        Finding::Good => "good",
        Finding::Mind => "mind",
        Finding::Bad => "bad",
        Finding::Unseen => "unseen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_finding_and_then_what_to_do() {
        let checks = [
            Check::good("master key", "mode 400"),
            Check::new("disk", Finding::Bad, "full", "make room"),
        ];
        assert_eq!(
            page(&checks, show::Paint::PLAIN),
            "good    master key  mode 400\n\
             bad     disk        full\n\
             \x20                   → make room\n"
        );
        assert_eq!(document(&checks)["healthy"], false);
        assert_eq!(document(&checks[..1])["healthy"], true);
    }
}
