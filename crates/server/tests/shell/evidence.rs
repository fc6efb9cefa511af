//! What everybody outside of the engine saw, for the checkers, and the log of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use postrider_core::id::CorrelationId;
use postrider_core::time::Time;

use crate::history_kit::{Tape, Witnessed};

/// When every run begins.
pub const START_MS: i64 = 1_800_000_000_000;

/// What one caller was told of one key, in the API's ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub key: String,
    pub event: String,
    pub deliveries: Vec<String>,
}

/// A request as a receiver saw it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its correlation id.
    pub correlation: u128,
    pub attempt: u32,
    /// It was read whole, and the receiver did what it asks for.
    pub acted: bool,
    /// The receiver said, in a way that the protocol makes certain, that it did not look at it.
    pub refused: bool,
    /// HTTP status that the receiver began to answer with, 0 if it did not.
    pub http_status: u16,
}

/// A number that tells one arrival from all others.
pub type Ticket = usize;

/// Everything that was seen. Clones share it.
#[derive(Clone)]
pub struct Evidence {
    now_ms: Arc<AtomicI64>,
    seen: Arc<Mutex<Seen>>,
    /// Everything for the shared checkers, in its true order.
    pub tape: Tape,
}

#[derive(Default)]
pub struct Seen {
    pub log: Vec<String>,
    pub told: Vec<Told>,
    pub arrivals: Vec<Arrival>,
    pub dialled: BTreeSet<SocketAddr>,
    /// What was found to be wrong while it happened.
    pub violations: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Evidence {
    pub fn new(now_ms: Arc<AtomicI64>) -> Evidence {
        Evidence {
            now_ms,
            seen: Arc::default(),
            tape: Tape::default(),
        }
    }

    pub fn witness(&self, what: Witnessed) {
        self.tape.push(Time(self.now_ms()), what);
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms.load(Relaxed)
    }

    pub fn say(&self, line: impl Display) {
        let at = self.now_ms() - START_MS;
        let line = format!("{:>4}.{:03}  {line}", at / 1_000, at % 1_000);
        self.seen.lock().log.push(line);
    }

    pub fn count(&self, kind: &'static str) {
        *self.seen.lock().counts.entry(kind).or_default() += 1;
    }

    pub fn told(&self, told: Told) {
        self.seen.lock().told.push(told);
    }

    pub fn arrived(&self, arrival: Arrival) -> Ticket {
        let attempt = (CorrelationId(arrival.correlation), arrival.attempt);
        self.witness(Witnessed::Reached(attempt));
        let mut seen = self.seen.lock();
        seen.arrivals.push(arrival);
        seen.arrivals.len() - 1
    }

    pub fn amend(&self, ticket: Ticket, amend: impl FnOnce(&mut Arrival)) {
        let mut seen = self.seen.lock();
        let arrival = &mut seen.arrivals[ticket];
        let (acted, refused) = (arrival.acted, arrival.refused);
        amend(arrival);
        let attempt = (CorrelationId(arrival.correlation), arrival.attempt);
        if arrival.acted && !acted {
            self.witness(Witnessed::Processed(attempt));
        }
        if arrival.refused && !refused {
            self.witness(Witnessed::Unprocessed(attempt));
        }
    }

    pub fn dialled(&self, address: SocketAddr) {
        self.seen.lock().dialled.insert(address);
    }

    pub fn wrong(&self, what: String) {
        self.say(format_args!("WRONG {what}"));
        self.seen.lock().violations.push(what);
    }

    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock())
    }
}
