//! Files that are changed behind the store's back: a byte, a page of zeroes, a page in the place of
//! another. Either nobody can tell the difference, or it is named; no question is answered wrongly.
//!
//! Absent here: the last commit of a write-ahead log. That one damaged is the same as one that was
//! never completed.

use std::fs;
use std::path::{Path, PathBuf};

use postrider::store::Ledger;
use postrider::store::embedded::Synchronous;
use postrider_core::id::Epoch;

use crate::disk::Dice;
use crate::load::{Plan, findings, store};
use crate::plan;
use crate::script::{Question, World};

/// Changes to each kind of file.
const CHANGES: u64 = 60;
const PAGE_BYTES: usize = 4_096;

/// Loads a store and copies its files: all it has in its write-ahead logs if there is no
/// housekeeping, nearly all in the files themselves otherwise.
fn loaded(dir: &Path, slices: usize) -> (PathBuf, World) {
    let plan = Plan {
        slices,
        ..plan(&dir.join("data"))
    };
    fs::create_dir_all(&plan.dir).unwrap();
    let (mut ledger, _reader) = store(&plan.dir, Synchronous::Full).unwrap();
    plan.carry_out(&mut ledger, |_| ()).unwrap();
    let mut world = World::default();
    plan.batches(Epoch(1))
        .iter()
        .flatten()
        .for_each(|planned| world.take(planned));
    if slices > 0 {
        while ledger.tend(world.now).unwrap() {}
    }
    let copy = dir.join("copy");
    copy_files(&plan.dir, &copy);
    (copy, world)
}

/// Copies everything but the indexes of the logs, which every start makes anew.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !name.to_string_lossy().ends_with("-shm") {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// The files of `dir` whose names end so, largest first.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

/// Changes something in the first `share` percent of a file; says what.
fn change(path: &Path, share: usize, dice: &mut Dice) -> String {
    let mut content = fs::read(path).unwrap();
    let end = content.len() * share / 100;
    let at = dice.below(end);
    let what = match dice.below(4) {
        0 => {
            let page = at / PAGE_BYTES * PAGE_BYTES;
            let stop = content.len().min(page + PAGE_BYTES);
            content[page..stop].fill(0);
            format!("zeroes from {page}")
        }
        1 if content.len() >= 3 * PAGE_BYTES => {
            let from = dice.below(content.len() / PAGE_BYTES) * PAGE_BYTES;
            let page = (at / PAGE_BYTES).min(content.len() / PAGE_BYTES - 1) * PAGE_BYTES;
            content.copy_within(from..from + PAGE_BYTES, page);
            format!("the page at {from} over that at {page}")
        }
        _ => {
            content[at] ^= 1 + dice.below(255) as u8;
            format!("another byte at {at}")
        }
    };
    fs::write(path, content).unwrap();
    what
}

/// All answers of the store in `dir`; `Err` says what of it was named as damage.
fn answers(dir: &Path, world: &World, questions: &[Question]) -> Result<Vec<Answer>, String> {
    let (mut ledger, reader) = store(dir, Synchronous::Full).map_err(|error| error.to_string())?;
    let mut unsettled = 0;
    ledger
        .recover(&mut |_| unsettled += 1)
        .map_err(|fatal| fatal.to_string())?;
    // A page in another's place may hide whole rows, which no sum of a row can tell.
    let due = world.unsettled().len();
    if unsettled != due {
        return Err(format!(
            "{unsettled} unsettled deliveries are handed out of {due}"
        ));
    }
    let ask = |question| {
        world
            .ask(&*reader, question)
            .map_err(|error| error.to_string())
    };
    Ok(questions.iter().map(ask).collect())
}

type Answer = Result<String, String>;

/// Changes files whose names end in `end`; returns how many changes were named.
fn try_changes(copy: &Path, world: &World, end: &str, share: usize) -> usize {
    let mut questions = world.questions();
    let whole = tempfile::tempdir().unwrap();
    copy_files(copy, whole.path());
    let right = answers(whole.path(), world, &questions).unwrap();
    assert!(right.iter().all(Result::is_ok));
    let mut named = 0;
    for seed in 0..CHANGES {
        let mut dice = Dice::new(seed);
        let dir = tempfile::tempdir().unwrap();
        copy_files(copy, dir.path());
        let all = files(dir.path(), end);
        let path = &all[dice.below(all.len())];
        let what = change(path, share, &mut dice);
        let case = format!("{what} in {}", path.file_name().unwrap().display());
        let findings = findings(dir.path(), world.now);
        let Ok(answers) = answers(dir.path(), world, &questions) else {
            assert!(!findings.is_empty(), "{case}: not opened, and not named");
            named += 1;
            continue;
        };
        for ((question, right), answer) in questions.iter_mut().zip(&right).zip(&answers) {
            match answer {
                Ok(_) => assert_eq!(answer, right, "{case}: {question:?}"),
                Err(error) => assert!(!findings.is_empty(), "{case}: {error}, and not named"),
            }
        }
        named += usize::from(!findings.is_empty());
    }
    named
}

#[test]
fn a_damaged_ledger_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (copy, world) = loaded(dir.path(), 3);
    let named = try_changes(&copy, &world, ".db", 100);
    assert!(named > CHANGES as usize / 2, "{named} of {CHANGES}");
}

#[test]
fn a_damaged_index_is_named_or_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let (copy, world) = loaded(dir.path(), 3);
    try_changes(&copy, &world, "index.db", 100);
}

#[test]
fn a_damaged_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (copy, world) = loaded(dir.path(), 0);
    let named = try_changes(&copy, &world, "-wal", 75);
    assert!(named > CHANGES as usize / 2, "{named} of {CHANGES}");
}
