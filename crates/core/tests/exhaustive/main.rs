//! Everything that can happen in a small world, looked at completely: two nodes that share a store,
//! a lease between them, one at-most-once and one at-least-once delivery of two attempts each.
//!
//! A node may be killed between any two steps, and stopped for as long as one likes: time passes
//! while it does nothing. What it sends to the store arrives later, also after its death, or never;
//! so does what the store grants. The receiver acts or does not, and answers or does not. The world
//! is explored breadth first until nothing new is reached. What decides is the production code:
//! `Lease`, `Tenure`, `apply` and `settle`.
//!
//! Time is told relative to now and epochs relative to the store's, so that a world that differs
//! only in how long it has existed is the same world, and their number is finite.
//!
//! Absent here: clocks that run at different speeds, which are the simulator's, and anything
//! larger.

mod code;
mod steps;
mod table;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use postrider_core::map::Map;

use code::Code;
use world::*;

/// Worlds that are reached, at the least: fewer, and something is no longer explored.
const WORLDS_MIN: usize = 1_000_000;
/// Kinds of steps that are taken, at the least.
const KINDS_MIN: usize = 19;

/// Everything for one delivery, of either guarantee; and both together, where nodes are only
/// stopped.
const SIZES: [Size; 3] = [
    Size {
        open: [true, false],
        troubles_max: None,
    },
    Size {
        open: [false, true],
        troubles_max: None,
    },
    Size {
        open: [true, true],
        troubles_max: Some(0),
    },
];

/// What an exploration came to.
#[derive(Debug)]
struct Explored {
    worlds: usize,
    steps: usize,
    /// Steps by name.
    names: BTreeMap<&'static str, usize>,
    /// Worlds from which nothing leads to all deliveries being settled.
    stuck: usize,
    /// The shortest way to a broken promise.
    broken: Option<(Broken, Vec<&'static str>)>,
}

/// Explores everything, or up to the first promise that is broken.
fn explore(plant: Plant, size: Size) -> Explored {
    let mut code = Code::new(plant, size);
    let first = World::first(&mut code).sorted();
    let mut numbers: Map<World, u32> = Map::default();
    let mut worlds = vec![first];
    let mut from: Vec<(u32, &'static str)> = vec![(0, "")];
    let mut back: Vec<Vec<u32>> = vec![Vec::new()];
    let (mut steps, mut names) = (0, BTreeMap::new());
    numbers.insert(first, 0);
    let mut at = 0;
    while at < worlds.len() {
        let number = u32::try_from(at).expect("a bounded world");
        let nexts = match worlds[at].next(&mut code) {
            Ok(nexts) => nexts,
            Err((step, broken)) => {
                let mut way = vec![step];
                let mut back = at;
                while back != 0 {
                    way.push(from[back].1);
                    back = from[back].0 as usize;
                }
                way.reverse();
                let broken = Some((broken, way));
                let worlds = worlds.len();
                return Explored {
                    worlds,
                    steps,
                    names,
                    stuck: 0,
                    broken,
                };
            }
        };
        for (name, next) in nexts {
            steps += 1;
            *names.entry(name).or_default() += 1;
            let next = next.sorted();
            let known = *numbers.entry(next).or_insert_with(|| {
                worlds.push(next);
                from.push((number, name));
                back.push(Vec::new());
                u32::try_from(worlds.len() - 1).expect("a bounded world")
            });
            back[known as usize].push(number);
        }
        at += 1;
    }
    let stuck = stuck(&code, &worlds, &back);
    let worlds = worlds.len();
    Explored {
        worlds,
        steps,
        names,
        stuck,
        broken: None,
    }
}

/// Worlds from which no settled one can be reached.
fn stuck(code: &Code, worlds: &[World], back: &[Vec<u32>]) -> usize {
    let mut reaches: Vec<bool> = worlds.iter().map(|world| world.is_settled(code)).collect();
    let settled = reaches.iter().enumerate();
    let mut open: Vec<usize> = settled.filter_map(|(at, yes)| yes.then_some(at)).collect();
    while let Some(at) = open.pop() {
        for &before in &back[at] {
            if !std::mem::replace(&mut reaches[before as usize], true) {
                open.push(before as usize);
            }
        }
    }
    reaches.iter().filter(|reaches| !**reaches).count()
}

#[test]
fn no_promise_is_broken_in_any_world() {
    let (mut whole, mut figures, mut kinds) = (0, String::new(), BTreeSet::new());
    for size in SIZES {
        let explored = explore(Plant::Nothing, size);
        let report = format!("{size:?}: {explored:#?}");
        assert_eq!(explored.broken, None, "{report}");
        assert_eq!(explored.stuck, 0, "{report}");
        let Explored {
            worlds,
            steps,
            names,
            ..
        } = explored;
        kinds.extend(names.into_keys());
        writeln!(figures, "{size:?}: {worlds} worlds, {steps} steps").expect("a string");
        whole += worlds;
    }
    assert!(whole >= WORLDS_MIN, "{figures}");
    assert!(kinds.len() >= KINDS_MIN, "{kinds:?}");
    // Shown with --nocapture.
    std::io::stderr()
        .write_all(figures.as_bytes())
        .expect("a place for figures");
}

#[test]
fn each_planted_fault_is_found() {
    for (plant, expected) in [
        (Plant::NoFence, "a deposed node has written"),
        (Plant::ClaimNotDurable, REPEAT),
        (Plant::RetryUnknown, "at-most-once was sent twice"),
        (Plant::LongLease, "two may begin at once"),
    ] {
        let whole = Size {
            open: [true; DELIVERIES],
            troubles_max: None,
        };
        let (broken, way) = explore(plant, whole).broken.expect("it is found");
        assert_eq!(broken, expected, "{plant:?}: {way:#?}");
    }
}
