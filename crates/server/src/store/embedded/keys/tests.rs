//! The index against a plain map, under inserts, releases, time, slices and restarts at random.

use std::collections::BTreeMap;

use postrider_core::id::{EventId, KeyDigest};
use postrider_core::time::{SECOND_MS, Time};
use proptest::prelude::*;
use rusqlite::Connection;

use super::{Bounds, Finder, Keys, KeysError, create, verify};

fn small() -> Bounds {
    Bounds {
        recent_keys_max: 24,
        tables_max: 3,
        block_keys: 5,
        slice_blocks: 2,
        slice_deletes: 3,
        merge_runs: 3,
        level_max: 2,
        released_max: 1_000,
    }
}

fn digest(name: u16) -> KeyDigest {
    KeyDigest(
        (u128::from(name) + 1)
            .wrapping_mul(0x9e37_79b9_97f4_a7c1_5bf0_3635_0c89_1a37)
            .to_le_bytes(),
    )
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        name: u16,
        window_s: i64,
    },
    Release {
        name: u16,
    },
    Tend {
        slices: u8,
    },
    Wait {
        seconds: i64,
    },
    /// The process ends; what is in memory is gone.
    Reopen,
    /// The same, and the newest slices are lost too, as after a power loss.
    LoseTail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..200_u16, 1..400_i64)
            .prop_map(|(name, window_s)| Step::Insert { name, window_s }),
        6 => (0..200_u16).prop_map(|name| Step::Release { name }),
        30 => (1..12_u8).prop_map(|slices| Step::Tend { slices }),
        3 => (1..90_i64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Reopen),
        1 => Just(Step::LoseTail),
    ]
}

/// The model: for each event its key and expiry, as the event rows of the store have it.
struct World {
    dir: tempfile::TempDir,
    db: Connection,
    keys: Keys,
    events: BTreeMap<u64, (u16, Time)>,
    last_event: u64,
    now: Time,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir);
        create(&db).unwrap();
        let (keys, low_water) = Keys::open(&db, small()).unwrap();
        assert_eq!(low_water, EventId(0));
        std::fs::copy(dir.path().join("index.db"), dir.path().join("earlier.db")).unwrap();
        World {
            dir,
            db,
            keys,
            events: BTreeMap::new(),
            last_event: 0,
            now: Time(1_000_000),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Insert { name, window_s } => {
                while !self.keys.has_room(1) {
                    self.keys.tend(&self.db, self.now).unwrap();
                }
                self.last_event += 1;
                let expires_at = self.now.plus(window_s * SECOND_MS);
                self.keys
                    .insert(&digest(name), EventId(self.last_event), expires_at);
                self.events.insert(self.last_event, (name, expires_at));
            }
            Step::Release { name } => {
                let newest = self.events.iter().rev().find(|(_, held)| held.0 == name);
                if let Some((&event, _)) = newest {
                    self.events.remove(&event);
                    self.keys.remove(&digest(name), EventId(event));
                }
            }
            Step::Tend { slices } => {
                for _ in 0..slices {
                    self.keys.tend(&self.db, self.now).unwrap();
                }
            }
            Step::Wait { seconds } => self.now = self.now.plus(seconds * SECOND_MS),
            Step::Reopen => self.reopen(),
            Step::LoseTail => self.lose_tail(),
        }
    }

    /// The model's window is exact; that of the index may end up to a second later.
    fn check(&self, finder: &Finder) {
        for name in 0..210 {
            let found = finder.find(&self.db, &digest(name), self.now).unwrap();
            let holds = |event: &EventId| {
                self.events
                    .get(&event.0)
                    .is_some_and(|held| held.0 == name && held.1 > self.now)
            };
            let confirmed: Vec<u64> = found.iter().filter(|e| holds(e)).map(|e| e.0).collect();
            let of_name = self.events.iter().rev();
            let wanted: Vec<u64> = of_name
                .filter(|(_, held)| held.0 == name && held.1 > self.now)
                .map(|(event, _)| *event)
                .collect();
            assert_eq!(confirmed, wanted, "key {name}");
        }
    }

    fn reopen(&mut self) {
        self.db = open(&self.dir);
        let (keys, low_water) = Keys::open(&self.db, small()).unwrap();
        self.keys = keys;
        for (event, (name, expires_at)) in self.events.range(low_water.0 + 1..) {
            while !self.keys.has_room(1) {
                self.keys.tend(&self.db, self.now).unwrap();
            }
            self.keys
                .insert(&digest(*name), EventId(*event), *expires_at);
        }
    }

    /// Goes back to the copy made the last time this was called.
    fn lose_tail(&mut self) {
        let (index, earlier) = (
            self.dir.path().join("index.db"),
            self.dir.path().join("earlier.db"),
        );
        let kept = self.dir.path().join("kept.db");
        std::fs::copy(&index, &kept).unwrap();
        self.db = Connection::open_in_memory().unwrap();
        std::fs::copy(&earlier, &index).unwrap();
        std::fs::rename(&kept, &earlier).unwrap();
        self.reopen();
    }
}

/// One file without a log beside it, so that a copy of it is a state of it.
fn open(dir: &tempfile::TempDir) -> Connection {
    let db = Connection::open(dir.path().join("index.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")
        .unwrap();
    db
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_map_finds(steps in prop::collection::vec(step(), 1..500)) {
        let mut world = World::new();
        for (n, step) in steps.iter().enumerate() {
            world.take(step);
            if n % 25 == 0 || matches!(step, Step::Reopen | Step::LoseTail) {
                world.check(&world.keys.finder());
            }
        }
        world.check(&world.keys.finder());
        prop_assert_eq!(verify(&world.db, 9).unwrap(), Vec::<String>::new());
    }
}

/// Inserts `names` keys that expire at `expires_at` and tends until there is nothing to do.
fn settle(world: &mut World, names: std::ops::Range<u16>, window_s: i64) {
    for name in names {
        world.take(&Step::Insert { name, window_s });
    }
    while world.keys.tend(&world.db, world.now).unwrap() {}
}

fn rows(db: &Connection) -> i64 {
    db.query_row(
        "SELECT (SELECT count(*) FROM key_block) + (SELECT count(*) FROM key_filter)",
        [],
        |row| row.get(0),
    )
    .unwrap()
}

#[test]
fn merges_and_drops_until_nothing_is_left() {
    let mut world = World::new();
    settle(&mut world, 0..200, 100);
    let size = world.keys.size();
    assert_eq!(size.run_keys + size.recent_keys as u64, 200);
    assert!(size.runs < 5, "8 tables in {} runs", size.runs);
    world.take(&Step::Wait { seconds: 101 });
    settle(&mut world, 0..0, 0);
    assert_eq!(world.keys.size().run_keys, 0);
    assert_eq!(rows(&world.db), 0, "every row of a dropped run is deleted");
}

#[test]
fn readers_on_other_threads_miss_nothing_while_runs_change() {
    let mut world = World::new();
    settle(&mut world, 0..24, 1_000);
    let finder = world.keys.finder();
    let path = world.dir.path().join("index.db");
    let now = world.now;
    let running = std::sync::atomic::AtomicBool::new(true);
    world.db.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let db = Connection::open(path).unwrap();
            let mut rounds = 0_u32;
            while running.load(std::sync::atomic::Ordering::Relaxed) || rounds == 0 {
                for name in 0..24_u16 {
                    let found = finder.find(&db, &digest(name), now).unwrap();
                    assert!(found.contains(&EventId(u64::from(name) + 1)), "key {name}");
                }
                rounds += 1;
            }
        });
        for _ in 0..10 {
            settle(&mut world, 100..200, 1_000);
        }
        running.store(false, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn damage_is_named_and_never_answered() {
    let mut world = World::new();
    settle(&mut world, 0..150, 1_000);
    let finder = world.keys.finder();
    for sql in [
        "UPDATE key_block SET body = zeroblob(length(body)) WHERE length(body) > 4",
        "DELETE FROM key_block",
    ] {
        world.db.execute_batch("SAVEPOINT before").unwrap();
        world.db.execute_batch(sql).unwrap();
        let asked = finder.find(&world.db, &digest(3), world.now);
        assert!(
            matches!(asked, Err(KeysError::Damaged { .. })),
            "{asked:?} after {sql}"
        );
        assert!(!verify(&world.db, 9).unwrap().is_empty());
        world
            .db
            .execute_batch("ROLLBACK TO before; RELEASE before")
            .unwrap();
    }
    assert!(verify(&world.db, 9).unwrap().is_empty());
    for sql in [
        "UPDATE key_filter SET body = zeroblob(length(body))",
        "DELETE FROM key_filter",
        "DELETE FROM key_manifest",
    ] {
        world.db.execute_batch("SAVEPOINT before").unwrap();
        world.db.execute_batch(sql).unwrap();
        create(&world.db).unwrap();
        let opened = Keys::open(&world.db, small());
        assert!(
            matches!(opened, Err(KeysError::Damaged { .. })),
            "opened after {sql}"
        );
        world
            .db
            .execute_batch("ROLLBACK TO before; RELEASE before")
            .unwrap();
    }
}

#[test]
fn a_slice_that_fails_loses_nothing() {
    let mut world = World::new();
    for name in 0..24 {
        world.take(&Step::Insert {
            name,
            window_s: 1_000,
        });
    }
    world.take(&Step::Insert {
        name: 24,
        window_s: 1_000,
    });
    let mut refused = 0;
    for slice in 0..200 {
        // Every other slice meets a database that takes no writes.
        world
            .db
            .execute_batch(&format!("PRAGMA query_only = {}", slice % 2))
            .unwrap();
        refused += usize::from(world.keys.tend(&world.db, world.now).is_err());
        world.check(&world.keys.finder());
    }
    assert!(refused > 0);
    world.db.execute_batch("PRAGMA query_only = 0").unwrap();
    settle(&mut world, 0..0, 0);
    assert_eq!(world.keys.size().run_keys, 24);
}
