//! The process whose disk is watched: opens a store, records the script, says what is durable.
//!
//! It is this test's own executable, started again with [`PLAN`] in its environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use postrider::store::embedded::verify::verify;
use postrider::store::embedded::{
    EmbeddedLedger, EmbeddedReader, OpenError, Options, Synchronous, keys, open,
};
use postrider::store::{Fatal, Ledger, Verdict};
use postrider::vault::Vault;
use postrider_core::id::Epoch;
use postrider_core::time::{SECOND_MS, Time};

use crate::script::{Planned, Script};
use crate::trace::ACK;

/// Environment variable that makes this executable the process to be watched.
const PLAN: &str = "POSTRIDER_SCRIPTED_LOAD";
/// How often a record that finds no room is handed in again.
const FULL_MAX: usize = 20_000;
const MASTER_KEY: [u8; 32] = [7; 32];
/// Exit code of a process that could not open its store.
pub const EXIT_UNOPENED: i32 = 6;
/// Exit code of a process whose store no longer knew what is on disk.
pub const EXIT_FATAL: i32 = 7;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dir: PathBuf,
    pub seed: u64,
    pub batches: usize,
    pub batch_max: usize,
    /// Slices of housekeeping after a batch.
    pub slices: usize,
    pub synchronous: Synchronous,
}

/// A store with everything small, so that a short load meets every kind of housekeeping.
pub fn store(
    dir: &Path,
    synchronous: Synchronous,
) -> Result<(EmbeddedLedger, Arc<EmbeddedReader>), OpenError> {
    let bounds = keys::Bounds {
        recent_keys_max: 40,
        block_keys: 20,
        slice_blocks: 3,
        merge_runs: 3,
        ..keys::Bounds::default()
    };
    let options = Options {
        file_deliveries_max: 150,
        wal_pages_soft: 60,
        wal_pages_max: 400,
        rows_cached_max: 16,
        reserve_bytes: 1 << 16,
        synchronous,
        keys: bounds,
        ..Options::new(Arc::new(Vault::of(&MASTER_KEY)))
    };
    open(dir, options)
}

/// What a verification of `dir` finds.
pub fn findings(dir: &Path, now: Time) -> Vec<String> {
    match verify(dir, &Vault::of(&MASTER_KEY), now, &mut |_| ()) {
        Ok(report) => report.findings.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

impl Plan {
    /// The batches that it comes to.
    pub fn batches(&self, epoch: Epoch) -> Vec<Vec<Planned>> {
        let mut script = Script::new(self.seed, self.batch_max, epoch);
        (0..self.batches).map(|_| script.batch()).collect()
    }

    /// A command that carries it out, under `strace` with these arguments.
    pub fn command(&self, log: &Path, strace: &[&str]) -> Command {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-y", "-xx", "-s", "4000000", "-o"])
            .arg(log)
            .arg(format!("--trace={}", crate::trace::CALLS))
            .args(strace)
            .arg(std::env::current_exe().expect("a test knows its own executable"))
            .args([
                "--exact",
                "the_load_is_recorded",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PLAN, self.spelled());
        command
    }

    fn spelled(&self) -> String {
        let full = self.synchronous == Synchronous::Full;
        let Plan {
            dir,
            seed,
            batches,
            batch_max,
            slices,
            ..
        } = self;
        format!(
            "{seed} {batches} {batch_max} {slices} {full} {}",
            dir.display()
        )
    }

    /// The plan that this process was started for, if it was started for one.
    pub fn of_this_process() -> Option<Plan> {
        let spelled = std::env::var(PLAN).ok()?;
        let words: Vec<&str> = spelled.splitn(6, ' ').collect();
        let &[seed, batches, batch_max, slices, full, dir] = words.as_slice() else {
            panic!("{PLAN} has six words");
        };
        Some(Plan {
            dir: dir.into(),
            seed: seed.parse().expect("the seed is a number"),
            batches: batches.parse().expect("the batches are a number"),
            batch_max: batch_max.parse().expect("the batch is a number"),
            slices: slices.parse().expect("the slices are a number"),
            synchronous: if full == "true" {
                Synchronous::Full
            } else {
                Synchronous::Normal
            },
        })
    }

    /// Carries it out and ends the process as the engine would.
    pub fn carry_out_and_exit(&self) -> ! {
        let Ok((mut ledger, _reader)) = store(&self.dir, self.synchronous) else {
            std::process::exit(EXIT_UNOPENED);
        };
        match self.carry_out(&mut ledger, |records| println!("\n{ACK}{records}")) {
            // Without the goodbyes of a store that is closed: the power went.
            Ok(_) => std::process::exit(0),
            Err(fatal) => {
                eprintln!("{fatal}");
                std::process::exit(EXIT_FATAL);
            }
        }
    }

    /// Records everything; after each batch `ack` is told how many records are durable. Returns how
    /// often there was no room.
    pub fn carry_out(
        &self,
        ledger: &mut EmbeddedLedger,
        mut ack: impl FnMut(usize),
    ) -> Result<usize, Fatal> {
        let epoch = ledger.recover(&mut |_| ())?.epoch;
        let mut script = Script::new(self.seed, self.batch_max, epoch);
        let (mut records, mut refused) = (0, 0);
        for _ in 0..self.batches {
            let batch = script.batch();
            records += batch.len();
            refused += record(ledger, &script, &batch)?;
            ack(records);
            for _ in 0..self.slices {
                if !ledger.tend(script.now)? {
                    break;
                }
            }
        }
        Ok(refused)
    }
}

/// Records a batch, again and again while there is no room. Returns how often there was none.
fn record(ledger: &mut EmbeddedLedger, script: &Script, batch: &[Planned]) -> Result<usize, Fatal> {
    let records: Vec<_> = batch.iter().map(|planned| planned.record.clone()).collect();
    for refused in 0..FULL_MAX {
        let verdicts = ledger.record(&records)?;
        if batch.len() == 1 && verdicts == [Verdict::Full] {
            // Time goes on, so that the store looks for room again.
            ledger.tend(script.now.plus(refused as i64 * SECOND_MS))?;
            continue;
        }
        for (planned, verdict) in batch.iter().zip(&verdicts) {
            let as_planned = match verdict {
                Verdict::Recorded => planned.fits,
                Verdict::KeyTaken(_) => !planned.fits,
                _ => false,
            };
            assert!(as_planned, "{verdict:?} for {:?}", planned.record);
        }
        return Ok(refused);
    }
    panic!("there was no room {FULL_MAX} times");
}
