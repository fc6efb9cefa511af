//! `journal`: whether the ledger is what its journal says, the journal as text, and what can be
//! saved of a damaged one.
//!
//! All three only read the data directory; an engine may run on it.
//!
//! Absent here: mending in place. What is salvaged goes into a new directory.

mod words;

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Subcommand;
use postrider_core::id::Seq;
use postrider_core::time::Time;
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::local::Place;
use super::{backup, restore, show};
use crate::registry::CONTROL_FILE;
use crate::store::embedded::salvage::{Salvaged, salvage};
use crate::store::embedded::snapshot::{Finding, Snapshot};
use crate::store::embedded::verify::{Report, verify};
use crate::vault::MASTER_KEY_FILE;

/// Findings that are printed for a person; all of them are in `--json`.
const FINDINGS_SHOWN: usize = 20;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fold the journal again and hold it against the ledger, and everything else against it
    Verify {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print every entry as a JSON object on a line, in the order of the journal
    Export {
        /// Only entries after this place
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Copy what can be read of a damaged data directory into a new one
    Salvage {
        /// The new data directory
        to: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Does it.
pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::Verify { json, place } => verified(place, *json),
        Verb::Export { after, place } => export(place, Seq(*after)),
        Verb::Salvage { to, json, place } => salvaged(place, to, *json),
    }
}

fn verified(place: &Place, json: bool) -> Outcome {
    let (directory, vault) = place.vault()?;
    let now = Time(jiff::Timestamp::now().as_millisecond());
    let report = verify(&directory, &vault, now, &mut |file| {
        eprintln!("looking at {file}")
    })
    .map_err(|error| place.cannot(&directory, error))?;
    if json {
        show::json(&document(&report));
    } else {
        show::out(&page(&report));
    }
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::no(format!("{} things do not add up", report.found)).hint(
        "stop the engine and restore a backup, or save what can be read with `postrider journal \
         salvage`",
    ))
}

fn page(report: &Report) -> String {
    let mut page: String = report
        .findings
        .iter()
        .take(FINDINGS_SHOWN)
        .map(|finding| format!("{finding}\n"))
        .collect();
    page += &format!(
        "{} entries of {} deliveries and {} events, {} payloads, in {} files\n",
        report.entries, report.deliveries, report.events, report.payloads, report.files
    );
    for (file, chain) in &report.heads {
        page += &format!("{file} ends at {}\n", hex::encode(chain));
    }
    page
}

fn document(report: &Report) -> Value {
    let heads = report.heads.iter();
    let heads: Vec<Value> = heads
        .map(|(file, chain)| json!({ "file": file, "chain": hex::encode(chain) }))
        .collect();
    json!({
        "clean": report.is_clean(),
        "files": report.files,
        "entries": report.entries,
        "deliveries": report.deliveries,
        "events": report.events,
        "payloads": report.payloads,
        "heads": heads,
        "found": report.found,
        "findings": findings(&report.findings),
    })
}

fn findings(findings: &[Finding]) -> Vec<Value> {
    let one = |finding: &Finding| json!({ "file": finding.file, "what": finding.what });
    findings.iter().map(one).collect()
}

fn export(place: &Place, after: Seq) -> Outcome {
    let (directory, vault) = place.vault()?;
    let mut snapshot =
        Snapshot::open(&directory, &vault).map_err(|error| place.cannot(&directory, error))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = snapshot
        .entries(|entry| {
            if entry.seq <= after {
                return Ok(());
            }
            writeln!(out, "{}", words::entry(entry))
        })
        .and_then(|()| out.flush());
    match written {
        // A reader that has seen enough (`head`) is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => return Err(Failure::no("the journal could not be printed").because(error)),
        Ok(()) => {}
    }
    match snapshot.findings.first() {
        None => Ok(()),
        Some(finding) => Err(Failure::no("a part of the journal cannot be read")
            .because(finding.to_string())
            .hint("`postrider journal verify` names all of it")),
    }
}

fn salvaged(place: &Place, to: &std::path::Path, json: bool) -> Outcome {
    let (directory, vault) = place.vault()?;
    let salvaged =
        salvage(&directory, to, &vault).map_err(|error| place.cannot(&directory, error))?;
    let file = |source: io::Error| {
        Failure::no(format!("{} could not be filled", to.display())).because(source)
    };
    if directory.join(CONTROL_FILE).is_file() {
        backup::copy_pages(&directory.join(CONTROL_FILE), &to.join(CONTROL_FILE)).map_err(
            |error| Failure::no(format!("{CONTROL_FILE} could not be copied")).because(error),
        )?;
    }
    if directory.join(MASTER_KEY_FILE).is_file() {
        restore::copy_key(&directory.join(MASTER_KEY_FILE), &to.join(MASTER_KEY_FILE))
            .map_err(file)?;
    }
    let Salvaged {
        events,
        payloads,
        deliveries,
        refolded,
        entries,
        lost,
        lost_count,
    } = salvaged;
    for finding in lost.iter().take(FINDINGS_SHOWN) {
        eprintln!("lost: {finding}");
    }
    eprintln!(
        "{deliveries} deliveries ({refolded} folded again), {events} events, {payloads} payloads, \
         {entries} entries are in {}; {lost_count} things were lost",
        to.display()
    );
    if json {
        show::json(&json!({
            "deliveries": deliveries,
            "refolded": refolded,
            "events": events,
            "payloads": payloads,
            "entries": entries,
            "lost": lost_count,
            "findings": findings(&lost),
        }));
    }
    Ok(())
}
