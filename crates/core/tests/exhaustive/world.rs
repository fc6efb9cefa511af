//! What a world is made of: small and whole, so that two that are the same compare as the same.
//!
//! Absent here: what may happen in it.

use postrider_core::cause::Cause;
use postrider_core::id::Epoch;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;

/// Nodes and deliveries.
pub const NODES: usize = 2;
pub const DELIVERIES: usize = 2;
/// The first is at-most-once, the second at-least-once.
pub const GUARANTEES: [Guarantee; DELIVERIES] = [Guarantee::AtMostOnce, Guarantee::AtLeastOnce];
/// Attempts of a delivery.
pub const ATTEMPTS: u32 = 2;
/// Ticks of a lease: the shortest there is. A node begins in the first two, and may renew after the
/// first.
pub const LEASE: i64 = 3;
/// Records of one node that may be on their way to the store: one of a passed epoch, and one for
/// each delivery.
pub const QUEUE: usize = 1 + DELIVERIES;
/// Now, in every world.
pub const NOW: Time = Time(0);
/// The store's epoch, in every world, and whatever is older.
pub const CURRENT: Epoch = Epoch(2);
pub const PASSED: Epoch = Epoch(1);

/// A known way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// The store takes records of any epoch.
    NoFence,
    /// A request may leave before its opening is in the store.
    ClaimNotDurable,
    /// At-most-once goes on after an attempt of which nothing is known.
    RetryUnknown,
    /// An owner reckons its lease from when it heard of it, twice as long.
    LongLease,
}

/// What is heard of a request on which the receiver acted, and of one on which it did not.
pub fn answers(acted: bool) -> [Outcome; 2] {
    let silence = Outcome::bare(OutcomeKind::Unknown, Cause::RequestTimeout);
    match acted {
        true => [Outcome::bare(OutcomeKind::Accept, Cause::Accepted), silence],
        false => [
            Outcome::bare(OutcomeKind::Throttle, Cause::RateLimited),
            silence,
        ],
    }
}

/// Where an attempt of one delivery is, at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flight {
    /// Nowhere.
    Idle,
    /// Its opening is on the way to the store.
    Opening,
    /// Its opening is recorded, and nobody has looked at the clock yet.
    Held,
    /// The clock was looked at, and the next thing that happens is the first byte.
    Leaving,
    /// The request is out, and the receiver acts on it or does not.
    Out { acted: bool },
    /// What it came to is on the way to the store.
    Answering,
}

/// A record on its way to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Write {
    pub delivery: u8,
    /// Its entry, by number.
    pub entry: u16,
    /// It was written under the store's epoch.
    pub current: bool,
    /// The process that wrote it is alive and waits to hear of it.
    pub awaited: bool,
}

/// One that was written under an epoch that has passed.
pub const PASSED_WRITE: Write = Write {
    delivery: 0,
    entry: 0,
    current: false,
    awaited: false,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    Nothing,
    /// For how long the question has been on its way.
    Take(i8),
    Renew(i8),
}

/// What a node has of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hold {
    /// Ticks since it was asked for.
    pub age: i8,
    /// Its epoch is the store's.
    pub current: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    pub up: bool,
    pub ask: Ask,
    pub hold: Option<Hold>,
    /// The rows as it believes them to be, by number.
    pub rows: [u16; DELIVERIES],
    pub flights: [Flight; DELIVERIES],
    /// Attempts, as bits, that leave although the engine that looked at the clock for them is gone.
    pub strays: [u8; DELIVERIES],
    pub queue: [Option<Write>; QUEUE],
}

pub const DOWN: Node = Node {
    up: false,
    ask: Ask::Nothing,
    hold: None,
    rows: [0; DELIVERIES],
    flights: [Flight::Idle; DELIVERIES],
    strays: [0; DELIVERIES],
    queue: [None; QUEUE],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct World {
    /// Who holds the lease: a node's life, nobody, or a life that is over.
    pub holder: Owner,
    /// Ticks until the lease lapses.
    pub left: i8,
    /// The store's rows, by number.
    pub rows: [u16; DELIVERIES],
    pub nodes: [Node; NODES],
    /// Attempts that have left, by delivery, as bits; and those that the receiver acted on.
    pub sent: [u8; DELIVERIES],
    pub acted: [u8; DELIVERIES],
    /// Troubles so far, where they are counted.
    pub troubles: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Nobody,
    Node(u8),
    Dead,
}

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Which deliveries there are; the others are settled from the beginning.
    pub open: [bool; DELIVERIES],
    /// Deaths of nodes and questions that are lost, at the most. Being stopped is no trouble.
    pub troubles_max: Option<u8>,
}

/// A promise that is broken.
pub type Broken = &'static str;

pub const REPEAT: Broken = "a repeat without an attempt before it that may have acted";
