//! `devices import`: devices out of a file that another system wrote, to a running engine.
//!
//! A registration is an upsert and says when the device was known last, so the same file may be
//! imported again: what is there already, or was registered later, stays as it is.
//!
//! Absent here: what a line means; see [`crate::registry::import`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use postrider_core::time::Time;
use serde_json::{Value, json};

use super::client::{Client, Reach};
use super::failure::{Failure, Outcome};
use super::show::{self, text};
use crate::registry::import::{Draft, Format, Line, Means, Skip, read};

/// Devices of one request at most, and bytes of them.
const BATCH_DEVICES_MAX: usize = 200;
const BATCH_BYTES_MAX: usize = 128 * 1_024;
/// Faults that are printed; all are counted.
const FAULTS_SHOWN_MAX: u64 = 1_000;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Register the devices of a file; doing it again changes nothing
    Import(Import),
}

#[derive(clap::Args)]
struct Import {
    /// The file; `-` reads standard input
    file: PathBuf,
    /// How it is written
    #[arg(long, value_enum)]
    format: Format,
    /// Route of devices that Firebase reaches, where a line names none
    #[arg(long, value_name = "ROUTE")]
    fcm_route: Option<String>,
    /// Route of Apple's devices, where a line names none
    #[arg(long, value_name = "ROUTE")]
    apns_route: Option<String>,
    /// Route of Apple's devices whose tokens are for the sandbox
    #[arg(long, value_name = "ROUTE")]
    apns_sandbox_route: Option<String>,
    /// Route of browsers, where a line names none
    #[arg(long, value_name = "ROUTE")]
    web_push_route: Option<String>,
    /// Make endpoints of Pinpoint's without a user recipients of their own
    #[arg(long)]
    recipient_from_id: bool,
    /// Go on with this line: those before it were imported already
    #[arg(long, value_name = "LINE", default_value_t = 1)]
    from: u64,
    /// Read the file and say what is wrong with it, and register nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Does it.
pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::Import(import) => import.run(),
    }
}

/// What became of the lines.
#[derive(Default)]
struct Tally {
    /// `created`, `refreshed`, `replaced`, `unchanged`; `readable` in a dry run.
    registered: BTreeMap<String, u64>,
    skipped: BTreeMap<Skip, u64>,
    faults: u64,
}

impl Import {
    fn run(&self) -> Outcome {
        let (reader, bytes, written_at) = self.open()?;
        let client = match self.dry_run {
            true => None,
            false => Some(self.reach.client()?),
        };
        let bar = bar(bytes);
        let reader = BufReader::new(bar.wrap_read(reader));
        let means = Means {
            fcm_route: self.fcm_route.clone(),
            apns_route: self.apns_route.clone(),
            apns_sandbox_route: self.apns_sandbox_route.clone(),
            web_push_route: self.web_push_route.clone(),
            recipient_from_id: self.recipient_from_id,
            written_at,
        };
        let mut tally = Tally::default();
        let mut batch = Batch::default();
        for line in read(self.format, reader, means) {
            match line {
                Ok(Line::Draft(draft)) if draft.line < self.from => {}
                Ok(Line::Draft(draft)) => {
                    if batch.is_full(&draft) {
                        batch.send(client.as_ref(), &mut tally, &bar)?;
                    }
                    batch.push(draft);
                }
                Ok(Line::Skipped(why)) => *tally.skipped.entry(why).or_default() += 1,
                Err(fault) => tally.fault(&bar, &fault.to_string()),
            }
        }
        batch.send(client.as_ref(), &mut tally, &bar)?;
        bar.finish_and_clear();
        self.report(&tally)
    }

    /// The file, its length if it has one, and when it was written.
    fn open(&self) -> Result<(Box<dyn BufRead>, Option<u64>, Option<Time>), Failure> {
        if self.file == Path::new("-") {
            return Ok((Box::new(std::io::stdin().lock()), None, None));
        }
        let file = File::open(&self.file).map_err(|error| {
            Failure::usage(format!("{} cannot be read", self.file.display())).because(error)
        })?;
        let about = file.metadata().ok();
        let written = about.as_ref().and_then(|about| about.modified().ok());
        let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let written_at = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        let length = about.map(|about| about.len());
        Ok((Box::new(BufReader::new(file)), length, written_at.map(Time)))
    }

    fn report(&self, tally: &Tally) -> Outcome {
        if self.json {
            show::json(&tally.json());
        } else {
            show::out(&tally.table());
        }
        match tally.faults {
            0 => Ok(()),
            faults => Err(Failure::no(format!("{faults} lines were not imported"))
                .hint("mend them and import the file again: what is there already stays")),
        }
    }
}

/// A bar for a person who watches, hidden elsewhere.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let shape = match bytes {
        Some(_) => "{spinner} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{spinner} {bytes} {bytes_per_sec} {elapsed}",
    };
    let style = ProgressStyle::with_template(shape).unwrap_or(ProgressStyle::default_bar());
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::new_spinner(),
    };
    bar.with_style(style)
}

impl Tally {
    /// A line that came to nothing: said at once, so that nobody waits for it.
    fn fault(&mut self, bar: &ProgressBar, words: &str) {
        self.faults += 1;
        let words = match self.faults {
            ..=FAULTS_SHOWN_MAX => show::clean(words),
            n if n == FAULTS_SHOWN_MAX + 1 => "more faults are counted, not shown".to_owned(),
            _ => return,
        };
        bar.suspend(|| eprintln!("{words}"));
    }

    fn json(&self) -> Value {
        let skipped = self.skipped.iter();
        let skipped: BTreeMap<&str, u64> = skipped.map(|(why, n)| (why.word(), *n)).collect();
        json!({ "registered": self.registered, "skipped": skipped, "faults": self.faults })
    }

    fn table(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (word, count) in &self.registered {
            rows.push(vec![word.clone(), count.to_string()]);
        }
        for (why, count) in &self.skipped {
            rows.push(vec![format!("skipped: {}", why.words()), count.to_string()]);
        }
        rows.push(vec!["faults".into(), self.faults.to_string()]);
        show::table(&["DEVICES", "LINES"], &rows, show::paint())
    }
}

/// Devices that go in one request.
#[derive(Default)]
struct Batch {
    drafts: Vec<Draft>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self, next: &Draft) -> bool {
        let bytes = self.bytes + next.device.to_string().len();
        self.drafts.len() >= BATCH_DEVICES_MAX || !self.drafts.is_empty() && bytes > BATCH_BYTES_MAX
    }

    fn push(&mut self, draft: Draft) {
        self.bytes += draft.device.to_string().len();
        self.drafts.push(draft);
    }

    /// Registers them, and empties the batch.
    fn send(
        &mut self,
        client: Option<&Client>,
        tally: &mut Tally,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let drafts = std::mem::take(self).drafts;
        let Some(first) = drafts.first().map(|draft| draft.line) else {
            return Ok(());
        };
        let Some(client) = client else {
            *tally.registered.entry("readable".into()).or_default() += drafts.len() as u64;
            return Ok(());
        };
        let devices: Vec<&Value> = drafts.iter().map(|draft| &draft.device).collect();
        let sent = client.post("/v1/devices/batch", &json!({ "devices": devices }));
        let answered = sent.map_err(|failure| {
            bar.finish_and_clear();
            let what = format!("the import stopped before line {first}");
            let hint = format!("go on with `--from {first}`");
            Failure::no(what).because(failure).hint(hint)
        })?;
        let answers = answered.as_array().map_or(&[][..], Vec::as_slice);
        for (at, draft) in drafts.iter().enumerate() {
            match answers.get(at) {
                Some(done) if done["registered"].is_string() => {
                    *tally
                        .registered
                        .entry(text(done, "registered"))
                        .or_default() += 1;
                }
                done => tally.fault(bar, &refused(draft, done)),
            }
        }
        Ok(())
    }
}

/// What the engine says about a line that it did not take.
fn refused(draft: &Draft, done: Option<&Value>) -> String {
    let problem = done.map(|done| &done["error"]);
    let said = |key: &str| problem.map_or_else(String::new, |problem| text(problem, key));
    let words: Vec<String> = ["title", "field", "value", "rule", "detail"]
        .into_iter()
        .map(said)
        .filter(|words| !words.is_empty())
        .collect();
    format!("line {}: {}", draft.line, words.join(": "))
}
