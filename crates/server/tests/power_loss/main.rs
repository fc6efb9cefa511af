//! What a store has promised is there after the power was gone, after a sync that went wrong, after
//! a full disk; and what is damaged is never answered.
//!
//! A process records a scripted load on a real store while `strace` writes down every call that
//! changes a file, with its bytes. From that log the disk is rebuilt as it may be found after a
//! power loss at any moment ([`disk`]), and the store has to open on it and answer for everything
//! that had been acknowledged by then ([`script`]). The same harness run on a store that does not
//! sync its commits has to find losses: it can.
//!
//! Needs `strace` (Debian package of the same name) and leave to trace.

mod damage;
mod disk;
mod load;
mod script;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::{Dice, Disk};
use load::{EXIT_FATAL, EXIT_UNOPENED, Plan, findings, store};
use postrider::store::embedded::Synchronous;
use postrider::store::{Ledger, Reader};
use postrider_core::id::{Epoch, EventId};
use postrider_core::time::DAY_MS;
use script::{Planned, World};
use trace::Op;

/// Images that are made of a load whose commits are synced.
const IMAGES: usize = 220;
/// Images that are made of one whose commits are not.
const IMAGES_UNSYNCED: usize = 40;
/// Threads that look at images.
const THREADS: usize = 2;

fn plan(dir: &Path) -> Plan {
    Plan {
        dir: dir.to_owned(),
        seed: 20_261_121,
        batches: 100,
        batch_max: 12,
        slices: 2,
        synchronous: Synchronous::Full,
    }
}

/// Runs a plan under strace; returns what it did, and its exit code.
fn watched(plan: &Plan, strace: &[&str]) -> (Vec<Op>, i32) {
    let log = plan.dir.with_extension("log");
    fs::create_dir_all(&plan.dir).unwrap();
    let output = plan.command(&log, strace).output().expect(
        "strace can be started: install the package, or run `cargo xtask test`, which does",
    );
    let code = output.status.code().unwrap_or(-1);
    let text = fs::read_to_string(&log).unwrap();
    let ops = trace::read(&text, &plan.dir);
    assert!(
        [0, EXIT_UNOPENED, EXIT_FATAL].contains(&code),
        "the load ended with {code}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    fs::remove_file(log).unwrap();
    (ops, code)
}

/// An image to be looked at.
struct Image {
    seed: u64,
    cut: usize,
    acked: usize,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// The disk at `count` random moments.
fn images(ops: &[Op], count: usize) -> Vec<Image> {
    let mut cuts: Vec<(usize, u64)> = (0..count as u64)
        .map(|seed| (Dice::new(seed).below(ops.len() + 1), seed))
        .collect();
    cuts.sort_unstable();
    let (mut disk, mut acked, mut done) = (Disk::default(), 0, 0);
    let image = |(cut, seed): (usize, u64)| {
        for op in &ops[done..cut] {
            disk.perform(op);
            if let Op::Ack { records } = op {
                acked = *records;
            }
        }
        done = cut;
        Image {
            seed,
            cut,
            acked,
            files: disk.image(&mut Dice::new(!seed)),
        }
    };
    cuts.into_iter().map(image).collect()
}

/// Looks at all images; returns what is wrong with each that something is wrong with.
fn look_at(images: &[Image], batches: &[Vec<Planned>]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
            let dir = tempfile::tempdir().unwrap();
            for (path, content) in &image.files {
                fs::write(dir.path().join(path.file_name().unwrap()), content).unwrap();
            }
            if let Err(what) = check(dir.path(), batches, image.acked) {
                let Image {
                    seed, cut, acked, ..
                } = image;
                wrong.push(format!(
                    "image {seed} (cut at {cut}, {acked} acknowledged): {what}"
                ));
            }
        }
        wrong
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Opens a store and holds everything it answers against the script: all that was acknowledged is
/// there, of the batch under way any records or none, each of them whole, and nothing else.
fn check(dir: &Path, batches: &[Vec<Planned>], acked: usize) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let (mut ledger, reader) = store(dir, Synchronous::Full).map_err(|error| words(&error))?;
    let mut unsettled = Vec::new();
    ledger
        .recover(&mut |row| unsettled.push(row))
        .map_err(|error| words(&error))?;
    let journal = script::journal(&*reader).map_err(|error| words(&error))?;
    let there: BTreeSet<_> = journal.iter().map(|entry| entry.seq).collect();
    let (mut world, mut before) = (World::default(), 0);
    for batch in batches {
        for planned in batch {
            if before < acked || there.contains(&planned.record.entries[0].seq) {
                world.take(planned);
            }
        }
        if before >= acked {
            break;
        }
        before += batch.len();
    }
    if unsettled != world.unsettled() {
        let (has, wants) = (unsettled.len(), world.unsettled().len());
        return Err(format!(
            "{has} unsettled deliveries are handed out, not {wants}"
        ));
    }
    for question in world.questions() {
        let answer = world
            .ask(&*reader, &question)
            .map_err(|error| words(&error))?;
        if let Some(right) = world.answer(&question)
            && answer != right
        {
            return Err(format!(
                "{question:?} is answered\n  {answer}\n  and not\n  {right}"
            ));
        }
    }
    drop((ledger, reader));
    match findings(dir, world.now).as_slice() {
        [] => Ok(()),
        findings => Err(findings.join("; ")),
    }
}

/// The load itself, without any trouble. Started with a plan in the environment, it is the process
/// that the other tests watch.
#[test]
fn the_load_is_recorded() {
    if let Some(plan) = Plan::of_this_process() {
        plan.carry_out_and_exit();
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let mut acked = 0;
    let (mut ledger, _) = store(dir.path(), Synchronous::Full).unwrap();
    plan.carry_out(&mut ledger, |records| acked = records)
        .unwrap();
    drop(ledger);
    let batches = plan.batches(Epoch(1));
    assert_eq!(acked, batches.iter().map(Vec::len).sum::<usize>());
    check(dir.path(), &batches, acked).unwrap();
}

/// Payloads go when everything of their event is settled and their time has come, and no sooner.
#[test]
fn payloads_go_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let (mut ledger, reader) = store(dir.path(), Synchronous::Full).unwrap();
    plan.carry_out(&mut ledger, |_| ()).unwrap();
    let mut world = World::default();
    let batches = plan.batches(Epoch(1));
    batches
        .iter()
        .flatten()
        .for_each(|planned| world.take(planned));
    let kept = |days| {
        let mut now = world.now;
        // The ledger's own age counts too, and grows by steps of a week at the most.
        for _ in 0..days {
            now = now.plus(DAY_MS);
            while ledger.tend(now).unwrap() {}
        }
        let there = |id: &EventId| reader.payload(*id).unwrap().is_some();
        world.events().filter(there).collect::<BTreeSet<EventId>>()
    };
    let [after_days, after_weeks] = [5, 15].map(kept);
    assert_eq!(
        after_days,
        world.payloads_needed(|row| row.is_dead_letter())
    );
    assert_eq!(after_weeks, world.payloads_needed(|_| false));
    assert!(after_weeks.len() < after_days.len() && !after_weeks.is_empty());
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&dir.path().join("data"));
    let (ops, code) = watched(&plan, &[]);
    assert_eq!(code, 0);
    let images = images(&ops, IMAGES);
    let wrong = look_at(&images, &plan.batches(Epoch(1)));
    let count = wrong.len();
    assert_eq!(
        count,
        0,
        "{count} of {IMAGES} images:\n{}",
        wrong.join("\n")
    );
    let cuts: BTreeSet<usize> = images.iter().map(|image| image.acked).collect();
    assert!(
        cuts.len() > IMAGES / 4,
        "the images are of different moments"
    );
}

#[test]
fn the_harness_notices_a_store_that_does_not_sync() {
    let dir = tempfile::tempdir().unwrap();
    let synchronous = Synchronous::Normal;
    let plan = Plan {
        synchronous,
        ..plan(&dir.path().join("data"))
    };
    let (ops, code) = watched(&plan, &[]);
    assert_eq!(code, 0);
    let wrong = look_at(&images(&ops, IMAGES_UNSYNCED), &plan.batches(Epoch(1)));
    assert!(
        wrong.len() > IMAGES_UNSYNCED / 4,
        "{} images show a loss",
        wrong.len()
    );
}

/// The syncs of a plan that go wrong, one in each run: early ones, and some under load.
const SYNCS_BROKEN: [usize; 10] = [3, 20, 41, 50, 63, 75, 100, 125, 140, 150];

#[test]
fn after_a_sync_that_went_wrong_nothing_is_acknowledged() {
    let mut under_load = 0;
    for nth in SYNCS_BROKEN {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(&dir.path().join("data"));
        let fault = format!("--inject=fdatasync,fsync:error=EIO:when={nth}");
        let (ops, code) = watched(&plan, &[&fault]);
        let acks = |ops: &[Op]| ops.iter().rev().find_map(acked);
        let injected = |op: &Op| matches!(op, Op::Injected { .. });
        let at = ops.iter().position(injected).expect("a sync went wrong");
        if matches!(&ops[at], Op::Injected { path } if *path == plan.dir) && code == 0 {
            // SQLite syncs the name of a log and takes no notice when that goes wrong: the store
            // has to see to the name itself, before it acknowledges anything.
            let mut disk = Disk::default();
            let next = ops[at..]
                .iter()
                .position(|op| acked(op).is_some())
                .unwrap_or(0);
            ops[..at + next].iter().for_each(|op| disk.perform(op));
            assert_eq!(disk.unsafe_names(&[".db", "-wal"]), Vec::<&Path>::new());
            continue;
        }
        assert_eq!(
            acks(&ops[at..]),
            None,
            "acknowledged after sync {nth} went wrong"
        );
        let acked = acks(&ops).unwrap_or(0);
        let expected = if acked == 0 {
            &[EXIT_UNOPENED, EXIT_FATAL][..]
        } else {
            &[EXIT_FATAL]
        };
        assert!(
            expected.contains(&code),
            "the process ended with {code} after sync {nth}"
        );
        under_load += usize::from(acked > 0);
        check(&plan.dir, &plan.batches(Epoch(1)), acked).unwrap();
    }
    assert!(
        under_load > SYNCS_BROKEN.len() / 2,
        "most went wrong under load"
    );
}

fn acked(op: &Op) -> Option<usize> {
    match op {
        Op::Ack { records } => Some(*records),
        _ => None,
    }
}

/// The writes that find no room.
const WRITES_REFUSED: [&str; 3] = ["when=260..320", "when=500..502", "when=800..1000"];

#[test]
fn a_full_disk_refuses_and_recovers_in_process() {
    for when in WRITES_REFUSED {
        let dir = tempfile::tempdir().unwrap();
        // One record at a time: what is refused is handed in again before the next.
        let plan = Plan {
            batch_max: 1,
            batches: 250,
            ..plan(&dir.path().join("data"))
        };
        let fault = format!("--inject=pwrite64,fallocate:error=ENOSPC:{when}");
        let (ops, code) = watched(&plan, &[&fault]);
        assert_eq!(code, 0, "the process went on although {when} found no room");
        assert!(ops.iter().any(|op| matches!(op, Op::Injected { .. })));
        let acked = ops.iter().rev().find_map(acked);
        let batches = plan.batches(Epoch(1));
        assert_eq!(
            acked,
            Some(batches.len()),
            "everything was recorded in the end"
        );
        check(&plan.dir, &batches, batches.len()).unwrap();
    }
}
