//! The real binary, killed in the place of its n-th write, sync or rename, for every n of a
//! scripted load; and the same calls going wrong with EIO and ENOSPC.
//!
//! The calls are counted over all threads by a hook that is loaded into the process ([`hook`]), so
//! "the n-th" is one order. After each point the next life, without a fault, has to know everything
//! that was acknowledged, and answer repeats with the same ids ([`life`]).
//!
//! A point is repeated with `KILL_POINT=<n>`; see docs/kill-points.md.

mod engine;
#[path = "../history_kit/mod.rs"]
mod history_kit;
mod hook;
mod life;
mod load;
mod processes;
mod proofs;
mod receivers;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hook::{Fault, Hit, Kind, What, by_call};
use life::{Case, Origin, Point, Seen};
use parking_lot::Mutex;
use receivers::{Arrived, Receivers};

/// Workers, each with one point at a time.
const WORKERS: usize = 2;
/// Points without a hit, one after the other, after which a sweep is over: how many calls a life
/// makes differs a little from life to life.
const MISSES_MAX: usize = 4;
/// Kill points at the least, over all sweeps.
const KILL_POINTS_MIN: usize = 1_000;
/// Of these at the least: of a first life, of a later one, while a log is worked off.
const FIRST_MIN: usize = 500;
const LATER_MIN: usize = 340;
const FAT_MIN: usize = 80;
/// What makes a log so long that it is worked off, and how far apart those points are.
const FAT_ROUNDS: usize = 2;
const FAT_BYTES: usize = 240_000;
const FAT_STEP: usize = 12;
/// Points at which Firebase has lost an answer, and how far apart they are.
const PATIENT_POINTS: usize = 6;
const PATIENT_STEP: usize = 60;
/// Syncs of a first life at the least.
const SYNCS_MIN: usize = 45;
/// Calls in a row that find no room, and how far apart the first ones are.
const FULL_CALLS: usize = 3;
const FULL_STEP: usize = 10;
/// Lives that were without room for a while, and went on, at the least.
const FULL_MIN: usize = 10;
/// Planted faults, and what in the place of a sync shows them.
const PLANTS: [(What, &[&str]); 4] = [
    (What::Kill, &["--plant", "send-before-record"]),
    (What::Kill, &["--plant", "forget-dedupe-key"]),
    (What::Kill, &["--plant", "retry-at-at-most-once"]),
    (What::Eio, &["--plant", "reply-before-record"]),
];
/// Syncs of a life with a planted fault that are visited until it is found.
const PLANTED_POINTS: usize = 40;
/// Findings that are printed.
const WRONG_SHOWN: usize = 12;
/// How a process ends that can no longer tell what is on disk.
const EXIT_FATAL: i32 = postrider::run::EXIT_FATAL;

/// Where the points of a sweep begin.
#[derive(Clone, Copy)]
enum From {
    Nothing,
    LivedIn,
}

/// The same, made by one worker.
enum Start {
    Nothing(Arc<Receivers>),
    LivedIn(Origin),
}

/// What a sweep came to.
#[derive(Default)]
struct Sweep {
    hits: Vec<Hit>,
    /// The first hit of each life, and how that life ended.
    ends: Vec<(Hit, Option<i32>)>,
    acknowledged: usize,
    lost: usize,
    /// Hand-overs to devices, and devices that were retired.
    pushes: usize,
    retired: usize,
    wrong: Vec<String>,
}

/// Visits the points that `point` makes of 1, 2, 3, … until no call is left to be hit, or `max` of
/// them.
fn sweep(from: From, max: usize, point: impl Fn(usize) -> Point + Sync) -> Sweep {
    let (next, misses) = (AtomicUsize::new(1), AtomicUsize::new(0));
    let whole = Mutex::new(Sweep::default());
    let only = only();
    let work = async || {
        let from = match from {
            From::Nothing => Start::Nothing(Arc::new(Receivers::start().await)),
            From::LivedIn => Start::LivedIn(Origin::lived_in().await),
        };
        loop {
            let n = only.unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
            if n > max || misses.load(Ordering::Relaxed) >= MISSES_MAX {
                return;
            }
            let point = point(n);
            let seen = match &from {
                Start::Nothing(receivers) => {
                    let mut case = Case::empty(receivers, "");
                    case.point(&point, &Arrived::default()).await
                }
                Start::LivedIn(origin) => origin.point(&point).await,
            };
            match seen.hits.is_empty() {
                true => misses.fetch_add(1, Ordering::Relaxed),
                false => misses.swap(0, Ordering::Relaxed),
            };
            let mut whole = whole.lock();
            whole.take(n, seen);
            let found = !point.more.is_empty() && !whole.wrong.is_empty();
            drop(whole);
            if only.is_some() || found {
                return;
            }
        }
    };
    let workers = if only.is_some() { 1 } else { WORKERS };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(work());
            });
        }
    });
    whole.into_inner()
}

/// The one point that is asked for, if one is.
fn only() -> Option<usize> {
    std::env::var("KILL_POINT").ok()?.parse().ok()
}

impl Sweep {
    fn take(&mut self, n: usize, seen: Seen) {
        let place = match seen.hits.first() {
            Some(hit) => format!("point {n} ({} {})", hit.call, hit.path),
            None => format!("point {n} (not reached)"),
        };
        if only().is_some() {
            eprintln!("{place}: ended {:?}, {:?}", seen.ended, seen.findings);
        }
        let wrong = seen.wrong.iter().map(|what| format!("{place}: {what}"));
        self.wrong.extend(wrong);
        self.acknowledged += seen.acknowledged;
        self.lost += seen.findings.lost;
        self.pushes += seen.pushes;
        self.retired += seen.retired;
        if let Some(hit) = seen.hits.into_iter().next() {
            self.ends.push((hit.clone(), seen.ended));
            self.hits.push(hit);
        }
    }

    fn say(&self, name: &str, began: Instant) {
        eprintln!(
            "{name}: {} points in {:.0} s ({}), {} deliveries acknowledged before them, {} lost, \
             {} wrong; {} pushes to devices, {} devices retired",
            self.hits.len(),
            began.elapsed().as_secs_f64(),
            by_call(&self.hits),
            self.acknowledged,
            self.lost,
            self.wrong.len(),
            self.pushes,
            self.retired
        );
    }
}

/// Holds that a sweep visited so many points.
fn enough(sweep: &Sweep, min: usize) {
    let points = sweep.hits.len();
    assert!(
        only().is_some() || points >= min,
        "{points} points, {min} at least"
    );
}

/// Prints what a sweep came to, and holds that nothing was lost and nothing else went wrong.
fn clean(name: &str, began: Instant, sweep: &Sweep) {
    sweep.say(name, began);
    let shown = sweep.wrong.iter().take(WRONG_SHOWN).cloned();
    assert_eq!(shown.collect::<Vec<_>>(), Vec::<String>::new(), "{name}");
    assert_eq!(sweep.lost, 0);
}

fn kill(n: usize) -> Fault {
    Fault::at(What::Kill, Kind::Any, n)
}

/// Visits kill points, at least `min`, and holds that none of them loses anything. Gives how many.
fn killed(name: &str, from: From, min: usize, point: impl Fn(usize) -> Point + Sync) -> usize {
    let began = Instant::now();
    let sweep = sweep(from, usize::MAX, point);
    clean(name, began, &sweep);
    enough(&sweep, min);
    sweep.hits.len()
}

#[test]
fn a_kill_at_any_call_loses_nothing() {
    let call = |n| Point::of(kill(n));
    let worked_off = |n| {
        let fault = Fault {
            names: ".db",
            ..kill(n * FAT_STEP)
        };
        Point {
            rounds: FAT_ROUNDS,
            pad_bytes: FAT_BYTES,
            ..Point::of(fault)
        }
    };
    let name = "killed in the first life";
    let first = killed(name, From::Nothing, FIRST_MIN, call);
    let name = "killed in a later life";
    let later = killed(name, From::LivedIn, LATER_MIN, call);
    let name = "killed while the log is worked off";
    let fat = killed(name, From::LivedIn, FAT_MIN, worked_off);
    let all = first + later + fat;
    eprintln!("{all} kill points: {first} of a first life, {later} of a later one, {fat} beside");
    assert!(
        only().is_some() || all >= KILL_POINTS_MIN,
        "{all} kill points, {KILL_POINTS_MIN} at least"
    );
}

/// Firebase lets nobody ask again within ten seconds, so the engine dies and lives again while it
/// waits.
#[test]
fn what_firebase_may_have_shown_is_repeated_over_a_kill_and_shown_once() {
    let began = Instant::now();
    let patient = |n| Point {
        patient: true,
        ..Point::of(kill(n * PATIENT_STEP))
    };
    let sweep = sweep(From::LivedIn, PATIENT_POINTS, patient);
    clean("killed while Firebase may not be asked", began, &sweep);
    enough(&sweep, PATIENT_POINTS);
}

/// The hook cuts off what the sync was to bring to the disk, so an answer that did not wait for it
/// would be lost.
#[test]
fn a_sync_that_went_wrong_is_followed_by_no_acknowledgment() {
    let began = Instant::now();
    let eio = |n| Point::of(Fault::at(What::Eio, Kind::Sync, n));
    let sweep = sweep(From::Nothing, usize::MAX, eio);
    clean("a sync that reports EIO", began, &sweep);
    enough(&sweep, SYNCS_MIN);
    // Where the journal could not be synced the process ended by itself, and at once.
    for (hit, ended) in sweep.ends.iter().filter(|(hit, _)| is_journal(hit)) {
        assert_eq!(*ended, Some(EXIT_FATAL), "{hit:?}");
    }
}

/// Whether the call was about the write-ahead log of a ledger file.
fn is_journal(hit: &Hit) -> bool {
    hit.path.starts_with("/ledger-") && hit.path.ends_with(".db-wal")
}

#[test]
fn a_write_that_reports_a_broken_device_loses_nothing() {
    let began = Instant::now();
    // Every fifth: most are pages of one commit.
    let eio = |n| Point::of(Fault::at(What::Eio, Kind::Write, n * 5));
    let sweep = sweep(From::Nothing, usize::MAX, eio);
    clean("a write that reports EIO", began, &sweep);
}

#[test]
fn a_disk_full_for_a_while_refuses_and_the_process_goes_on() {
    let began = Instant::now();
    let sweep = sweep(From::LivedIn, usize::MAX, |n| {
        Point::of(Fault {
            last: n * FULL_STEP + FULL_CALLS,
            ..Fault::at(What::Enospc, Kind::Any, n * FULL_STEP)
        })
    });
    clean("no room for a while", began, &sweep);
    let went_on = sweep.ends.iter().filter(|(_, ended)| ended.is_none());
    assert!(
        only().is_some() || went_on.count() >= FULL_MIN,
        "no process went on"
    );
}

#[test]
fn each_planted_fault_is_found() {
    for (what, plant) in PLANTS {
        let began = Instant::now();
        let sweep = sweep(From::LivedIn, PLANTED_POINTS, |n| Point {
            more: plant,
            ..Point::of(Fault::at(what, Kind::Sync, n))
        });
        sweep.say(plant[1], began);
        assert!(!sweep.wrong.is_empty(), "{} was not found", plant[1]);
    }
}

/// Calls of a life with one round of the load, at the least.
const CALLS_MIN: usize = 250;
/// Calls that the hook counts, as the kernel names them, and those that it would have to.
const CALLS: &str = "write,pwrite64,writev,pwritev,fsync,fdatasync,sync_file_range,ftruncate,\
    fallocate,rename,renameat,renameat2,unlink,unlinkat,copy_file_range,sendfile,splice";

#[test]
fn the_hook_counts_what_strace_sees() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut case = Case::alone("").await;
        let log = case.home.0.join("strace.log");
        let trace = format!("--trace={CALLS}");
        let strace = [
            "strace",
            "-f",
            "-y",
            "-o",
            log.to_str().expect("a path"),
            &trace,
        ];
        case.watched(&strace).await;
        let data = format!("<{}", case.home.data().display());
        let text = std::fs::read_to_string(&log).expect("what strace saw");
        let seen = text.lines().filter(|line| line.contains(&data)).count();
        let named = |line: &&str| {
            let call = line.split_whitespace().nth(1).unwrap_or_default();
            (call.starts_with("rename") || call.starts_with("unlink"))
                && line.contains(case.home.data().to_str().expect("a path"))
        };
        let named = text.lines().filter(named).count();
        let counted = hook::hits(&case.home.hook_log()).len();
        assert_eq!(counted, seen + named);
        assert!(counted > CALLS_MIN, "{counted} calls");
    });
}
