//! Random operations on a store and on the model, side by side.
//!
//! Absent here: what the operations should do. The model says.

use std::collections::BTreeMap;

use postrider_core::cause::Cause;
use postrider_core::id::{DeliveryId, EndpointId, OrderingKey, Seq, TenantId};
use postrider_core::ledger::{Delivery, Fact, Next, Record, State};
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Guarantee;
use postrider_core::time::{HOUR_MS, MINUTE_MS, Time};
use proptest::prelude::*;

use super::author::{Author, Wish, digest, opened, settle};
use super::{Halves, NOON, Subject, list_all};
use crate::store::model::ModelStore;
use crate::store::{Query, Recovery, Verdict};

/// Keys that are used: few, so that they meet.
const KEYS: u64 = 12;
/// Endpoints that are used.
const ENDPOINTS: u64 = 4;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Admit an event under a key to so many targets, in lanes or not.
    Admit {
        key: u64,
        targets: Vec<(u64, Option<u64>)>,
        open: bool,
    },
    /// The next entry for one of the deliveries there are, whether it fits or not.
    Move { pick: usize, how: u8 },
    /// Settle one and free its event's key.
    Release { pick: usize },
    /// Write under an epoch that has passed.
    Stale { pick: usize },
    /// Commit what has gathered.
    Commit,
    /// Let time pass.
    Pass { minutes: u16 },
    /// Some housekeeping.
    Tend { slices: u8 },
    /// Drop everything and open it again.
    Reopen,
    /// The process is killed as it is, with what has gathered, and the store is opened again.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let target = (0..ENDPOINTS, proptest::option::of(0..3_u64));
    let step = prop_oneof![
        6 => (0..KEYS, proptest::collection::vec(target, 1..5), any::<bool>())
            .prop_map(|(key, targets, open)| Step::Admit { key, targets, open }),
        12 => (any::<usize>(), 0..9_u8).prop_map(|(pick, how)| Step::Move { pick, how }),
        1 => any::<usize>().prop_map(|pick| Step::Release { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Stale { pick }),
        6 => Just(Step::Commit),
        2 => (0..400_u16).prop_map(|minutes| Step::Pass { minutes }),
        2 => (1..20_u8).prop_map(|slices| Step::Tend { slices }),
        1 => Just(Step::Reopen),
        2 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Compares a store with the model over `cases` random runs, each on a store of its own.
pub fn compare<S: Subject>(cases: u32, fresh: impl Fn() -> S) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps())| {
        let mut pair = Pair::new(fresh());
        for step in &steps {
            pair.step(step);
        }
        pair.step(&Step::Commit);
        pair.agree();
        pair.step(&Step::Kill);
        pair.agree();
        pair.step(&Step::Reopen);
        pair.agree();
    });
}

/// A store and the model, in the same state as far as anybody can tell.
struct Pair<S> {
    subject: S,
    model: ModelStore,
    halves: Option<(Halves, Halves)>,
    author: Author,
    gathered: Vec<Record>,
}

impl<S: Subject> Pair<S> {
    fn new(subject: S) -> Pair<S> {
        let mut pair = Pair {
            subject,
            model: ModelStore::default(),
            halves: None,
            author: Author::after(&Recovery::default(), NOON),
            gathered: Vec::new(),
        };
        pair.reopen();
        pair
    }

    fn halves(&mut self) -> &mut (Halves, Halves) {
        self.halves.as_mut().expect("opened")
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Admit { key, targets, open } => self.admit(*key, targets, *open),
            Step::Move { pick, how } => {
                if let Some(row) = self.pick(*pick) {
                    let fact = fact(&row, *how, self.author.now);
                    let record = self.author.fact(row.id, fact);
                    self.gathered.push(record);
                }
            }
            Step::Release { pick } => {
                if let Some(row) = self.pick(*pick) {
                    let fact = fact(&row, 1, self.author.now);
                    let mut record = self.author.fact(row.id, fact);
                    record.release = Some(row.event);
                    self.gathered.push(record);
                }
            }
            Step::Stale { pick } => {
                if let Some(row) = self.pick(*pick) {
                    let mut record = self.author.fact(row.id, opened(row.attempt + 1));
                    record.fences[0].1.0 -= 1;
                    self.gathered.push(record);
                }
            }
            Step::Commit => self.commit(),
            Step::Pass { minutes } => {
                self.author.now = self.author.now.plus(i64::from(*minutes) * MINUTE_MS);
            }
            Step::Tend { slices } => {
                let now = self.author.now;
                for _ in 0..*slices {
                    self.halves().0.0.tend(now).unwrap();
                }
            }
            Step::Reopen => {
                self.commit();
                self.reopen();
            }
            Step::Kill => {
                for record in std::mem::take(&mut self.gathered) {
                    self.forget(&record);
                }
                self.subject.kill();
                self.reopen();
            }
        }
    }

    /// A record was not recorded: the author goes on from what is there.
    fn forget(&mut self, record: &Record) {
        let reader = std::sync::Arc::clone(&self.halves().1.1);
        for entry in &record.entries {
            match reader.deliveries(&[entry.delivery]).unwrap().pop() {
                Some(row) => self.author.rows.insert(row.id, row),
                None => self.author.rows.remove(&entry.delivery),
            };
        }
    }

    fn pick(&self, pick: usize) -> Option<Delivery> {
        let rows = &self.author.rows;
        rows.values().nth(pick % rows.len().max(1)).cloned()
    }

    fn admit(&mut self, key: u64, targets: &[(u64, Option<u64>)], open: bool) {
        let model = std::sync::Arc::clone(&self.halves().1.1);
        let targets = targets.iter().map(|&(endpoint, lane)| {
            let counter = lane.map(|key| {
                let counter = model.lane(EndpointId(endpoint), OrderingKey(key)).unwrap();
                (key, counter.last_sequence + 1)
            });
            (endpoint, counter)
        });
        let wish = Wish {
            tenant: u32::try_from(key % 2).unwrap(),
            targets: targets.collect(),
            open,
            guarantee: Guarantee::ALL[usize::try_from(key % 3).unwrap()],
            payload: usize::try_from(key * 100).unwrap(),
            ..Wish::one(key, 0)
        };
        let record = self.author.admit(&wish);
        self.gathered.push(record);
    }

    fn commit(&mut self) {
        let records = std::mem::take(&mut self.gathered);
        let (store, model) = self.halves();
        let verdicts = store.0.record(&records).unwrap();
        assert_eq!(verdicts, model.0.record(&records).unwrap());
        for (record, verdict) in records.iter().zip(&verdicts) {
            if *verdict != Verdict::Recorded {
                self.forget(record);
            }
        }
        self.agree_on_keys_and_lanes();
    }

    fn reopen(&mut self) {
        self.halves = None;
        let mut store = self.subject.open();
        let mut model = Subject::open(&mut self.model);
        let (mut of_store, mut of_model) = (Vec::new(), Vec::new());
        let a = store.0.recover(&mut |row| of_store.push(row)).unwrap();
        let b = model.0.recover(&mut |row| of_model.push(row)).unwrap();
        assert_eq!(of_store, of_model);
        // Ids and places of refused records may be passed over, but never used again.
        assert!(a.last_event >= b.last_event && a.last_delivery >= b.last_delivery);
        assert_eq!(
            (a.last_seq, a.last_at, a.epoch),
            (b.last_seq, b.last_at, b.epoch)
        );
        let newest = |retired: &[(EndpointId, Time)]| {
            let mut newest = BTreeMap::<EndpointId, Time>::new();
            for (endpoint, since) in retired {
                let at = newest.entry(*endpoint).or_insert(*since);
                *at = (*at).max(*since);
            }
            newest
        };
        assert_eq!(newest(&a.retired), newest(&b.retired));
        self.author.epoch = a.epoch;
        self.halves = Some((store, model));
    }

    fn agree_on_keys_and_lanes(&mut self) {
        let now = self.author.now;
        let ((_, store), (_, model)) = self.halves();
        for key in 0..KEYS {
            let seen = store.seen(&digest(key), now).unwrap();
            assert_eq!(seen, model.seen(&digest(key), now).unwrap());
        }
        for endpoint in 0..ENDPOINTS {
            for key in 0..3 {
                let (endpoint, key) = (EndpointId(endpoint), OrderingKey(key));
                let lane = store.lane(endpoint, key).unwrap();
                assert_eq!(lane, model.lane(endpoint, key).unwrap());
            }
        }
    }

    fn agree(&mut self) {
        let now = self.author.now;
        let last = self.author.last;
        let ((_, store), (_, model)) = self.halves();
        let ids: Vec<_> = (1..=last.1.0 + 1).map(DeliveryId).collect();
        let rows = store.deliveries(&ids).unwrap();
        assert_eq!(rows, model.deliveries(&ids).unwrap());
        for row in &rows {
            assert_eq!(store.history(row).unwrap(), model.history(row).unwrap());
            let event = row.event;
            assert_eq!(store.event(event).unwrap(), model.event(event).unwrap());
            assert_eq!(store.payload(event).unwrap(), model.payload(event).unwrap());
        }
        for after in [0, last.2.0 / 2] {
            let entries = store.journal(Seq(after), 50).unwrap();
            assert_eq!(entries, model.journal(Seq(after), 50).unwrap());
        }
        let limit = 7;
        for query in [
            Query::default(),
            Query {
                endpoint: Some(EndpointId(1)),
                ..Query::default()
            },
            Query {
                dead_letters: true,
                ..Query::default()
            },
            Query {
                tenant: Some(TenantId(1)),
                until: Some(now),
                ..Query::default()
            },
            Query {
                since: Some(now.plus(-HOUR_MS)),
                ..Query::default()
            },
            Query {
                recipient: Some("person-1".into()),
                ..Query::default()
            },
        ] {
            let query = Query { limit, ..query };
            assert_eq!(list_all(&**store, &query), list_all(&**model, &query));
        }
    }
}

/// A fact that may follow, or may not.
fn fact(row: &Delivery, how: u8, now: Time) -> Fact {
    let attempt = row.attempt;
    let answered = |kind, next| {
        let outcome = Box::new(postrider_core::outcome::Outcome {
            evidence: vec![how; 40].into(),
            provider_id: "id".into(),
            ..postrider_core::outcome::Outcome::bare(kind, Cause::ServiceDegraded)
        });
        Fact::Answered {
            attempt,
            outcome,
            next,
        }
    };
    match how {
        0 | 7 => answered(
            OutcomeKind::Accept,
            settle(State::Accepted, Cause::Accepted),
        ),
        1 => answered(
            OutcomeKind::Reject,
            settle(State::Rejected, Cause::BadRequest),
        ),
        2 => answered(OutcomeKind::Gone, settle(State::Rejected, Cause::Gone)),
        3 => answered(
            OutcomeKind::Retry,
            Next::Again {
                due_at: now.plus(2_000),
            },
        ),
        4 => Fact::NotSent {
            attempt,
            cause: Cause::Deferred,
            due_at: now.plus(10),
        },
        5 => Fact::Closed {
            state: State::Cancelled,
            cause: Cause::Cancelled,
        },
        6 => Fact::Confirmed { receipt: 2 },
        _ => opened(attempt + 1),
    }
}
