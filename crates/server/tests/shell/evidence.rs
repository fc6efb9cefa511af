//! What everybody outside of the engine saw, for the checkers, and the log of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use postrider::store::Reader;
use postrider_core::id::CorrelationId;
use postrider_core::ledger::Delivery;
use postrider_core::time::Time;

use crate::caller;
use crate::history_kit::{Attempt, History, Tape, Witnessed};
use crate::providers::Pushed;
use crate::tries::{self, Came};

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
    /// Which attempt it was. A push does not say so: it is inferred.
    pub attempt: u32,
    pub at_ms: i64,
    /// It was read whole, and the receiver did what it asks for.
    pub acted: bool,
    /// The receiver said, in a way that the protocol makes certain, that it did not look at it.
    pub refused: bool,
    /// HTTP status that the receiver began to answer with, 0 if it did not.
    pub http_status: u16,
    /// What a device read in it, if it went to one.
    pub pushed: Option<Pushed>,
}

/// A device was registered, under an endpoint that it may have had before.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The endpoint's outer id.
    pub endpoint: String,
    /// When it was asked for first: what the registration says of itself.
    pub asked_ms: i64,
    /// When the answer came.
    pub told_ms: i64,
    /// It brought another address.
    pub anew: bool,
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
    /// What was asked for beside the plan.
    pub asked: Vec<caller::Event>,
    pub registered: Vec<Registered>,
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

    /// The attempt that a push which arrives just now most likely is.
    pub fn attempt(&self, reader: &dyn Reader, row: &Delivery) -> u32 {
        let history = reader.history(row).expect("the model reads");
        let seen = self.seen.lock();
        let arrivals = seen.arrivals.iter();
        let same = arrivals.filter(|arrival| arrival.correlation == row.correlation.0);
        let taken: Vec<u32> = same.map(|arrival| arrival.attempt).collect();
        tries::guess(&history, &taken)
    }

    pub fn asked(&self, event: caller::Event) {
        self.seen.lock().asked.push(event);
    }

    /// A device was registered, as was first asked for at `asked_ms`.
    pub fn registered(&self, endpoint: String, asked_ms: i64, anew: bool) {
        let registered = Registered {
            endpoint,
            asked_ms,
            told_ms: self.now_ms(),
            anew,
        };
        self.seen.lock().registered.push(registered);
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

impl Seen {
    /// Puts the attempts of pushes right, as far as all that is known now tells them, here and in
    /// what was written down for the shared checkers.
    pub fn infer_attempts(
        &mut self,
        deliveries: &[Delivery],
        reader: &dyn Reader,
        history: &mut History,
    ) {
        let mut pushed: BTreeMap<u128, Vec<&mut Arrival>> = BTreeMap::new();
        for arrival in self.arrivals.iter_mut().filter(|it| it.pushed.is_some()) {
            pushed.entry(arrival.correlation).or_default().push(arrival);
        }
        let mut renamed: BTreeMap<Attempt, Attempt> = BTreeMap::new();
        for row in deliveries {
            let Some(arrivals) = pushed.get_mut(&row.correlation.0) else {
                continue;
            };
            let came = |it: &&mut Arrival| Came {
                at: Time(it.at_ms),
                http_status: it.http_status,
                guessed: it.attempt,
            };
            let came: Vec<Came> = arrivals.iter().map(came).collect();
            let entries = reader.history(row).expect("the model reads");
            let inferred = tries::infer(&entries, &came);
            for (arrival, attempt) in arrivals.iter_mut().zip(inferred) {
                let guessed = std::mem::replace(&mut arrival.attempt, attempt);
                let outer = row.correlation;
                renamed.insert((outer, guessed), (outer, attempt));
            }
        }
        for (_, what) in history {
            if let Witnessed::Reached(it) | Witnessed::Processed(it) | Witnessed::Unprocessed(it) =
                what
            {
                *it = renamed.get(it).copied().unwrap_or(*it);
            }
        }
    }
}
