//! One set of checkers for every layer: what a layer has seen becomes the history that the
//! simulator's checkers judge.
//!
//! A layer hands in what it [`Witnessed`], in the order in which it was seen. [`judge`] makes
//! [`Happened`] of it, in one shard, and asks those checkers that [`fed`] says this layer can feed.
//! Two moments are put in, because nobody outside of the engine sees them:
//!
//! - An attempt is taken to be let go when the entry that opened it is durable, the earliest
//!   moment it may be. For `lane-order` that is as strict as can be; for what an engine was told
//!   meanwhile it is the doubt in the engine's favour.
//! - It is said to have been *sent* only if it reached its receiver. One that reached it before its
//!   entry was durable is sent in that moment, which is what `sent-durable` complains of.
//!
//! Absent here: any checker. They are those of `postrider_sim::checkers`.

#![allow(dead_code, reason = "each layer uses its own part")]

pub mod afterwards;
pub mod fed;
pub mod spoil;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use postrider::store::Verdict;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::Gate;
use postrider_core::engine::{Figures, Reply};
use postrider_core::event::{LaneCounter, Submission};
use postrider_core::id::{Ask, CorrelationId, DeliveryId, EndpointId, Epoch, RouteId};
use postrider_core::id::{EventId, PolicyId, TenantId};
use postrider_core::ledger::{Delivery, Entry, Fact, Record};
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::Time;
use postrider_sim::checkers::{self, CHAIN, Checker};
use postrider_sim::history::{Happened, Who};
use postrider_sim::picture::Picture;

use fed::Layer;

/// The one shard that there is outside of the simulator.
const SHARD: usize = 0;

/// Something that a layer has seen: [`Happened`], owned. An epoch says which engine.
#[derive(Clone, Debug)]
pub enum Witnessed {
    Granted(Epoch),
    Ended(Epoch),
    /// Rows and records of an engine at the most.
    Bounds(usize, usize),
    Policy(Arc<Policy>),
    Told(Epoch, Time, Gate),
    ToldRoute(Epoch, Time, RouteId, bool),
    /// Which endpoint, gone since when, registered when.
    Retired(EndpointId, Time, Time),
    Asked(Epoch, Ask, Time, Box<Submission>),
    CancelAsked(Epoch, Ask, DeliveryId),
    ReceiptAsked(Epoch, Ask, DeliveryId, u8),
    Replied(Epoch, Ask, Reply),
    Committed(Record),
    Refused(Record, Verdict),
    /// The head of a request was read by its receiver.
    Reached(Attempt),
    /// The receiver has acted on it.
    Processed(Attempt),
    /// The receiver said, in a way that the protocol makes certain, that it did not act.
    Unprocessed(Attempt),
    Turned(Epoch, Figures, Result<(), String>),
    Calm,
    /// The world is idle, or was given up on.
    Rest(bool),
    /// Rows and journal of the store in the end.
    Held(Vec<Delivery>, Vec<Entry>),
}

/// An attempt, as its receiver knows it: 0 where the request does not say which.
pub type Attempt = (CorrelationId, u32);

/// What was witnessed, and when on the layer's clock.
pub type History = Vec<(Time, Witnessed)>;

/// Where what happens is written down while it happens. Clones write on the same one.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<History>>);

impl Tape {
    pub fn push(&self, at: Time, what: Witnessed) {
        self.0.lock().push((at, what));
    }

    pub fn take(&self) -> History {
        std::mem::take(&mut self.0.lock())
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The name of the checker.
    pub invariant: &'static str,
    /// What it says.
    pub words: String,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.words)
    }
}

/// Shows a history to every checker that `layer` feeds; the first complaint of each.
pub fn judge(layer: Layer, history: &[(Time, Witnessed)]) -> Vec<Complaint> {
    let reached = |(_, what): &(Time, Witnessed)| match what {
        Witnessed::Reached(attempt) => Some(*attempt),
        _ => None,
    };
    let mut court = Court {
        picture: Picture::default(),
        checkers: checkers::all(),
        complaints: BTreeMap::new(),
        reached: history.iter().filter_map(reached).collect(),
        opened: BTreeSet::new(),
    };
    court
        .checkers
        .retain(|checker| fed::is_judged(layer, checker.name()));
    for (at, what) in history {
        court.hears(*at, what);
    }
    let complaints = court.complaints.into_iter();
    complaints
        .map(|(invariant, words)| Complaint { invariant, words })
        .collect()
}

struct Court {
    picture: Picture,
    checkers: Vec<Box<dyn Checker>>,
    complaints: BTreeMap<&'static str, String>,
    /// Attempts that reach their receivers, early or late.
    reached: BTreeSet<Attempt>,
    /// Attempts whose opening is durable.
    opened: BTreeSet<Attempt>,
}

impl Court {
    /// The picture takes it in, and every checker that has not complained yet looks.
    fn see(&mut self, at: Time, happened: &Happened<'_>) {
        if let Err(words) = self.picture.take(at, happened) {
            self.complaints.entry(CHAIN).or_insert(words);
        }
        for checker in &mut self.checkers {
            if self.complaints.contains_key(checker.name()) {
                continue;
            }
            if let Err(words) = checker.see(&self.picture, at, happened) {
                self.complaints.insert(checker.name(), words);
            }
        }
    }

    fn hears(&mut self, at: Time, what: &Witnessed) {
        match what {
            Witnessed::Committed(record) => self.committed(at, record),
            Witnessed::Reached(attempt) => self.reached(at, *attempt),
            Witnessed::Rest(idle) => {
                let rested = *idle && self.picture.unsettled() == 0;
                self.see(at, &Happened::Rest { rested });
            }
            Witnessed::Refused(record, verdict) => {
                let (shard, verdict) = (SHARD, &in_the_simulators_words(verdict));
                let refused = Happened::Refused {
                    shard,
                    record,
                    verdict,
                };
                self.see(at, &refused);
            }
            other => {
                if let Some(happened) = plainly(other).or_else(|| told(other)) {
                    self.see(at, &happened);
                }
            }
        }
    }

    fn committed(&mut self, world: Time, record: &Record) {
        let shard = SHARD;
        self.see(world, &Happened::Committed { shard, record });
        for entry in &record.entries {
            let Fact::Opened { attempt, .. } = entry.fact else {
                continue;
            };
            let Some(known) = self.picture.row(shard, entry.delivery) else {
                continue;
            };
            let (who, at) = (by(known.opened_under), entry.at);
            let dispatch = &Dispatch {
                attempt,
                ..Dispatch::of(&known.row, LaneCounter::default(), at)
            };
            let left = (dispatch.correlation, attempt);
            self.opened.insert(left);
            if self.reached.contains(&left) {
                self.see(world, &Happened::Sent { who, at, dispatch });
            }
            self.see(world, &Happened::Left { who, at, dispatch });
        }
    }

    fn reached(&mut self, world: Time, (correlation, attempt): Attempt) {
        let known = self.picture.outer(correlation).map(|(_, known)| known);
        let who = by(known.map_or_else(|| self.picture.epoch(SHARD), |known| known.opened_under));
        let dispatch = known.map_or_else(
            || nobodys(correlation),
            |known| Dispatch::of(&known.row, LaneCounter::default(), known.row.due_at),
        );
        let dispatch = &Dispatch {
            attempt,
            ..dispatch
        };
        let at = dispatch.opened_at;
        let (least, most) = match attempt {
            0 => (0, u32::MAX),
            attempt => (attempt, attempt),
        };
        let mut opened = self
            .opened
            .range((correlation, least)..=(correlation, most));
        if opened.next().is_none() {
            self.see(world, &Happened::Sent { who, at, dispatch });
        }
        self.see(world, &Happened::Written { who, dispatch });
    }
}

/// The engine of this epoch.
fn by(epoch: Epoch) -> Who {
    Who {
        shard: SHARD,
        epoch,
    }
}

/// What is sent of a delivery that no entry has admitted.
fn nobodys(correlation: CorrelationId) -> Dispatch {
    Dispatch {
        delivery: DeliveryId::default(),
        correlation,
        tenant: TenantId::default(),
        event: EventId::default(),
        endpoint: EndpointId::default(),
        attempt: 0,
        policy: PolicyId::default(),
        guarantee: Guarantee::AtLeastOnce,
        lane: None,
        previous_accepted: 0,
        admitted_at: Time(0),
        expires_at: Time::NEVER,
        opened_at: Time(0),
    }
}

/// What needs nothing put in beside it.
fn plainly(what: &Witnessed) -> Option<Happened<'_>> {
    let shard = SHARD;
    Some(match what {
        &Witnessed::Granted(epoch) => Happened::Granted { who: by(epoch) },
        &Witnessed::Ended(epoch) => Happened::Ended { who: by(epoch) },
        &Witnessed::Bounds(window_max, records_max) => Happened::Bounds {
            window_max,
            records_max,
        },
        Witnessed::Policy(policy) => Happened::Policy(policy),
        &Witnessed::Retired(endpoint, since, registered_at) => Happened::Retired {
            endpoint,
            since,
            registered_at,
        },
        &Witnessed::Processed((correlation, attempt)) => Happened::Arrived {
            correlation,
            attempt,
            processed: true,
        },
        &Witnessed::Unprocessed((correlation, _)) => Happened::Unprocessed { correlation },
        Witnessed::Turned(epoch, figures, audit) => Happened::Turned {
            who: by(*epoch),
            figures: *figures,
            audit: audit.clone(),
        },
        Witnessed::Calm => Happened::Calm,
        Witnessed::Held(rows, journal) => Happened::Held {
            shard,
            rows,
            journal,
        },
        _ => return None,
    })
}

/// What engines were told, asked and answered.
fn told(what: &Witnessed) -> Option<Happened<'_>> {
    Some(match what {
        Witnessed::Told(epoch, at, gate) => Happened::Told {
            who: by(*epoch),
            at: *at,
            gate,
        },
        &Witnessed::ToldRoute(epoch, at, route, open) => Happened::ToldRoute {
            who: by(epoch),
            at,
            route,
            open,
        },
        Witnessed::Asked(epoch, ask, at, submission) => Happened::Asked {
            who: by(*epoch),
            ask: *ask,
            at: *at,
            submission,
        },
        &Witnessed::CancelAsked(epoch, ask, delivery) => Happened::CancelAsked {
            who: by(epoch),
            ask,
            delivery,
        },
        &Witnessed::ReceiptAsked(epoch, ask, delivery, receipt) => Happened::ReceiptAsked {
            who: by(epoch),
            ask,
            delivery,
            receipt,
        },
        Witnessed::Replied(epoch, ask, reply) => Happened::Replied {
            who: by(*epoch),
            ask: *ask,
            reply,
        },
        _ => return None,
    })
}

/// The same verdict: the simulator compiles the file that it stands in for itself.
fn in_the_simulators_words(verdict: &Verdict) -> postrider_sim::store::Verdict {
    use postrider_sim::store::Verdict as Theirs;
    match verdict {
        Verdict::Recorded => Theirs::Recorded,
        Verdict::Full => Theirs::Full,
        Verdict::Fenced => Theirs::Fenced,
        Verdict::Conflict(conflict) => Theirs::Conflict(*conflict),
        Verdict::KeyTaken(seen) => Theirs::KeyTaken(*seen),
    }
}
