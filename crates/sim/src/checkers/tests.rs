//! Every checker complains about a history made by hand that breaks its promise, and about nothing
//! in the one beside it that keeps it.
//!
//! Absent here: faults planted in a whole world; see [`crate::plant`].

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Figures, Reply};
use postrider_core::event::{Event, LaneCounter, Urgency};
use postrider_core::id::{
    Ask, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, OrderingKey, Partition, PolicyId,
    RouteId, Seq, TenantId, Ticket,
};
use postrider_core::ledger::{Admitted, Entry, Fact, Lane, Next, Record, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Guarantee, HeadOfLine, Policy, RatePolicy};
use postrider_core::route::ROUTE_PROBE_MS;
use postrider_core::time::Time;

use super::{Checker, NO_PANIC, all};
use crate::history::{Happened, Who};
use crate::picture::Picture;
use crate::plant::Planted;
use crate::store::Verdict;

const ENDPOINT: EndpointId = EndpointId(1);
const POLICY: PolicyId = PolicyId(1);
const ROUTE: RouteId = RouteId(1);
const KEY: OrderingKey = OrderingKey(1);
const ENDS: Time = Time(1_000_000);
const ONE: DeliveryId = DeliveryId(1);
const TWO: DeliveryId = DeliveryId(2);

/// A checker, and the history that it is shown.
struct Bench {
    checker: Box<dyn Checker>,
    picture: Picture,
    broken: Option<String>,
    journal: Vec<Entry>,
    last: BTreeMap<DeliveryId, (u32, Seq)>,
    who: Who,
}

impl Bench {
    fn new(name: &str) -> Bench {
        let checker = all().into_iter().find(|checker| checker.name() == name);
        Bench {
            checker: checker.unwrap_or_else(|| panic!("no checker is called {name}")),
            picture: Picture::default(),
            broken: None,
            journal: Vec::new(),
            last: BTreeMap::new(),
            who: Who {
                shard: 0,
                epoch: Epoch(0),
            },
        }
    }

    fn see(&mut self, happened: &Happened<'_>) {
        let at = Time(0);
        let folded = self.picture.take(at, happened);
        folded.expect("histories keep to the state table");
        let seen = self.checker.see(&self.picture, at, happened);
        self.broken = self.broken.take().or(seen.err());
    }

    fn record(&mut self, record: &Record) {
        self.journal.extend(record.entries.iter().cloned());
        let shard = self.who.shard;
        self.see(&Happened::Committed { shard, record });
    }

    /// A fact, where the chain of its delivery has come to.
    fn entry(&mut self, at: i64, delivery: DeliveryId, fact: Fact) -> Entry {
        let seq = Seq(self.journal.last().map_or(1, |entry| entry.seq.0 + 1));
        let (version, previous) = self.last.get(&delivery).copied().unwrap_or_default();
        self.last.insert(delivery, (version + 1, seq));
        Entry {
            seq,
            delivery,
            version,
            at: Time(at),
            previous,
            fact,
        }
    }

    fn write(&mut self, at: i64, delivery: DeliveryId, fact: Fact) {
        let entries = vec![self.entry(at, delivery, fact)];
        let record = self.holding(entries);
        self.record(&record);
    }

    fn holding(&self, entries: Vec<Entry>) -> Record {
        Record {
            ticket: Ticket(1),
            event: None,
            fences: vec![(Partition(0), self.who.epoch)],
            entries,
            release: None,
        }
    }

    /// An event of one delivery, both with this number.
    fn admits(&mut self, at: i64, delivery: DeliveryId, change: impl FnOnce(&mut Admitted)) {
        self.admits_event(at, delivery, change, |_| {});
    }

    fn admits_event(
        &mut self,
        at: i64,
        delivery: DeliveryId,
        change: impl FnOnce(&mut Admitted),
        change_event: impl FnOnce(&mut Event),
    ) {
        let mut admitted = admitted(delivery);
        change(&mut admitted);
        let mut event = event(at, delivery);
        change_event(&mut event);
        let entry = self.entry(at, delivery, Fact::Admitted(Box::new(admitted)));
        let mut record = self.holding(vec![entry]);
        record.event = Some(Arc::new(event));
        self.record(&record);
    }

    fn opens(&mut self, at: i64, delivery: DeliveryId, attempt: u32) {
        let policy = POLICY;
        self.write(at, delivery, Fact::Opened { attempt, policy });
    }

    /// The record that opens the first attempt is refused, for want of room.
    fn finds_no_room(&mut self, at: i64, delivery: DeliveryId) {
        let (attempt, policy) = (1, POLICY);
        let before = self.last.clone();
        let entry = self.entry(at, delivery, Fact::Opened { attempt, policy });
        self.last = before;
        let record = &self.holding(vec![entry]);
        let (shard, verdict) = (self.who.shard, &Verdict::Full);
        self.see(&Happened::Refused {
            shard,
            record,
            verdict,
        });
    }

    fn answers(
        &mut self,
        at: i64,
        (delivery, attempt): (DeliveryId, u32),
        what: Outcome,
        next: Next,
    ) {
        let outcome = Box::new(what);
        let fact = Fact::Answered {
            attempt,
            outcome,
            next,
        };
        self.write(at, delivery, fact);
    }

    fn closes(&mut self, at: i64, delivery: DeliveryId) {
        let (state, cause) = (State::Cancelled, Cause::Cancelled);
        self.write(at, delivery, Fact::Closed { state, cause });
    }

    /// Admits a delivery, opens its first attempt and lets it be refused for now.
    fn is_tried(&mut self, may_have_acted: bool) {
        self.opens(1, ONE, 1);
        let mut outcome = Outcome::bare(OutcomeKind::Retry, Cause::ServiceDegraded);
        outcome.may_have_acted = may_have_acted;
        self.answers(2, (ONE, 1), outcome, AGAIN);
    }

    fn told(&mut self, at: i64, change: impl FnOnce(&mut Gate)) {
        let mut gate = gate();
        change(&mut gate);
        let (who, at, gate) = (self.who, Time(at), &gate);
        self.see(&Happened::Told { who, at, gate });
    }

    fn sends(&mut self, at: i64, delivery: DeliveryId) {
        let dispatch = &self.dispatch(delivery);
        let (who, at) = (self.who, Time(at));
        self.see(&Happened::Sent { who, at, dispatch });
    }

    fn dispatch(&self, delivery: DeliveryId) -> Dispatch {
        let known = self.picture.row(self.who.shard, delivery);
        let row = &known.expect("what is sent was admitted").row;
        Dispatch::of(row, LaneCounter::default(), Time(0))
    }

    fn policy(&mut self, change: impl FnOnce(&mut Policy)) {
        let mut policy = Policy::brief(POLICY);
        change(&mut policy);
        self.see(&Happened::Policy(&policy));
    }

    fn granted(&mut self, epoch: u64) {
        self.who.epoch = Epoch(epoch);
        self.see(&Happened::Granted { who: self.who });
    }

    fn turned(&mut self, figures: Figures, audit: Result<(), String>) {
        let who = self.who;
        self.see(&Happened::Turned {
            who,
            figures,
            audit,
        });
    }

    /// An engine of 100 rows and 10 records, which took over nothing, comes to hold this.
    fn fills(&mut self, figures: Figures) {
        let (window_max, records_max) = (100, 10);
        self.see(&Happened::Bounds {
            window_max,
            records_max,
        });
        self.granted(1);
        self.turned(figures, Ok(()));
    }

    fn replied(&mut self, reply: &Reply) {
        let (who, ask) = (self.who, Ask(1));
        self.see(&Happened::Replied { who, ask, reply });
    }
}

const AGAIN: Next = Next::Again { due_at: Time(2) };
const REJECTED: Next = Next::Settle {
    state: State::Rejected,
    cause: Cause::ClientError,
};

fn outer(delivery: DeliveryId) -> CorrelationId {
    CorrelationId(u128::from(delivery.0))
}

fn admitted(delivery: DeliveryId) -> Admitted {
    Admitted {
        correlation: outer(delivery),
        event: EventId(delivery.0),
        tenant: TenantId(1),
        endpoint: ENDPOINT,
        channel: Default::default(),
        policy: POLICY,
        guarantee: Guarantee::AtLeastOnce,
        due_at: Time(0),
        expires_at: ENDS,
        lane: None,
    }
}

fn event(at: i64, delivery: DeliveryId) -> Event {
    Event {
        id: EventId(delivery.0),
        uuid: 0,
        tenant: TenantId(1),
        key_digest: Default::default(),
        body_digest: Default::default(),
        business_id: "".into(),
        event_type: "".into(),
        version: 1,
        recipient: "".into(),
        ordering_key: "".into(),
        collapse_key: "".into(),
        urgency: Urgency::Normal,
        traceparent: "".into(),
        content_type: "".into(),
        admitted_at: Time(at),
        key_expires_at: Time(at),
        first_delivery: delivery,
        deliveries: 1,
        retry_of: None,
        payload: Default::default(),
    }
}

fn gate() -> Gate {
    let policy = Policy::brief(POLICY);
    Gate {
        endpoint: ENDPOINT,
        tenant: TenantId(1),
        channel: Default::default(),
        route: Some(ROUTE),
        registered_at: Time(0),
        changed_at: Time(0),
        reach: Reach::Open,
        breaker: policy.breaker,
        rate: None,
        adaptive: false,
        hours_percent: None,
        slots_max: 1,
    }
}

fn in_lane(sequence: u64) -> impl FnOnce(&mut Admitted) {
    move |admitted| admitted.lane = Some(Lane { key: KEY, sequence })
}

fn admitted_reply() -> Reply {
    Reply::Admitted {
        event: EventId(1),
        uuid: 0,
        first_delivery: ONE,
        deliveries: vec![(ENDPOINT, outer(ONE))],
    }
}

fn plain(_: &mut Admitted) {}

/// A history that breaks the promise if it is told to, and keeps it if not.
type Tell = fn(&mut Bench, bool);

const HISTORIES: &[(&str, Tell)] = &[
    ("nothing-lost", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.replied(&admitted_reply());
        bench.closes(1, ONE);
        let rows: Vec<_> = bench.picture.rows(0).map(|it| it.row.clone()).collect();
        bench.see(&Happened::Rest { rested: true });
        bench.see(&Happened::Held {
            shard: 0,
            rows: if bad { &[] } else { &rows },
            journal: &[],
        });
    }),
    ("nothing-lost", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.replied(&admitted_reply());
        if !bad {
            bench.closes(1, ONE);
        }
        bench.see(&Happened::Rest { rested: false });
    }),
    ("one-answer", |bench, bad| {
        let (who, ask, delivery) = (bench.who, Ask(1), ONE);
        bench.see(&Happened::CancelAsked { who, ask, delivery });
        bench.replied(&Reply::Absent);
        if bad {
            bench.replied(&Reply::Absent);
        }
        bench.see(&Happened::Rest { rested: true });
    }),
    ("told-durable", |bench, bad| {
        if !bad {
            bench.admits(0, ONE, plain);
        }
        bench.replied(&admitted_reply());
    }),
    ("dedupe-exact", |bench, bad| {
        bench.admits_event(0, ONE, plain, |event| event.key_expires_at = Time(100));
        bench.admits(if bad { 99 } else { 100 }, TWO, plain);
    }),
    ("dedupe-exact", |bench, bad| {
        bench.admits_event(0, ONE, plain, |event| event.key_expires_at = ENDS);
        let mut freeing = bench.holding(Vec::new());
        freeing.release = Some(EventId(1));
        bench.record(&freeing);
        let retry_of = (!bad).then_some(EventId(1));
        bench.admits_event(1, TWO, plain, |event| event.retry_of = retry_of);
    }),
    ("sent-durable", |bench, bad| {
        bench.admits(0, ONE, plain);
        if !bad {
            bench.opens(1, ONE, 1);
        }
        bench.sends(1, ONE);
    }),
    ("owner-only", |bench, bad| {
        bench.granted(2);
        bench.who.epoch = Epoch(if bad { 1 } else { 2 });
        bench.turned(Figures::default(), Ok(()));
    }),
    ("at-most-once", |bench, bad| {
        let once = |admitted: &mut Admitted| admitted.guarantee = Guarantee::AtMostOnce;
        bench.admits(0, ONE, once);
        let dispatch = &bench.dispatch(ONE);
        let who = bench.who;
        bench.see(&Happened::Written { who, dispatch });
        if !bad {
            let correlation = dispatch.correlation;
            bench.see(&Happened::Unprocessed { correlation });
        }
        bench.see(&Happened::Written { who, dispatch });
    }),
    ("repeats-explained", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.is_tried(!bad);
        bench.opens(3, ONE, 2);
        for attempt in [1, 2] {
            bench.see(&Happened::Arrived {
                correlation: outer(ONE),
                attempt,
                processed: true,
            });
        }
    }),
    ("time-to-live", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.sends(ENDS.0 - i64::from(!bad), ONE);
    }),
    ("reachable", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.told(1, |gate| {
            gate.reach = if bad { Reach::Paused } else { Reach::Open };
        });
        bench.sends(2, ONE);
    }),
    ("lane-order", |bench, bad| {
        bench.admits(0, ONE, in_lane(1));
        bench.admits(0, TWO, in_lane(2));
        bench.sends(1, if bad { TWO } else { ONE });
    }),
    ("lane-parked", |bench, bad| {
        bench.policy(|policy| policy.head_of_line = HeadOfLine::Park);
        bench.admits(0, ONE, in_lane(1));
        bench.admits(0, TWO, in_lane(2));
        bench.opens(1, ONE, 1);
        let refused = Outcome::bare(OutcomeKind::Reject, Cause::ClientError);
        bench.answers(2, (ONE, 1), refused, REJECTED);
        if !bad {
            bench.told(3, |gate| gate.changed_at = Time(3));
        }
        bench.sends(4, TWO);
    }),
    ("lane-gapless", |bench, bad| {
        bench.admits(0, ONE, in_lane(1));
        bench.admits(0, TWO, in_lane(if bad { 3 } else { 2 }));
    }),
    ("ledger-chain", |bench, bad| {
        bench.admits(0, ONE, plain);
        let policy = POLICY;
        let mut entry = bench.entry(1, ONE, Fact::Opened { attempt: 1, policy });
        entry.previous.0 -= u64::from(bad);
        let record = bench.holding(vec![entry]);
        bench.record(&record);
    }),
    ("fenced", |bench, bad| {
        bench.granted(2);
        bench.who.epoch = Epoch(if bad { 1 } else { 2 });
        bench.admits(0, ONE, plain);
    }),
    ("fenced", |bench, bad| {
        bench.granted(2);
        let (shard, epoch) = (0, Epoch(if bad { 1 } else { 2 }));
        let (who, seq) = (Who { shard, epoch }, Seq(0));
        bench.see(&Happened::CursorKept { who, seq });
    }),
    ("purge-settled", |bench, bad| {
        bench.admits(0, ONE, plain);
        if !bad {
            bench.closes(1, ONE);
        }
        let (shard, gone) = (0, &[ONE][..]);
        bench.see(&Happened::Purged { shard, gone });
    }),
    ("ledger-fold", |bench, bad| {
        bench.admits(0, ONE, plain);
        let mut rows: Vec<_> = bench.picture.rows(0).map(|it| it.row.clone()).collect();
        rows[0].version += u32::from(bad);
        let journal = &bench.journal.clone();
        let (shard, rows) = (0, &rows);
        bench.see(&Happened::Held {
            shard,
            rows,
            journal,
        });
    }),
    ("not-early", |bench, bad| {
        bench.admits(0, ONE, |admitted| admitted.due_at = Time(10));
        bench.opens(if bad { 9 } else { 10 }, ONE, 1);
    }),
    ("attempts-bounded", |bench, bad| {
        bench.policy(|policy| policy.attempts_max = if bad { 1 } else { 2 });
        bench.admits(0, ONE, plain);
        bench.is_tried(false);
        bench.opens(3, ONE, 2);
    }),
    ("rate-kept", |bench, bad| {
        let rate = RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        };
        bench.told(0, |gate| gate.rate = Some(rate));
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.opens(0, ONE, 1);
        bench.opens(if bad { 999 } else { 1_000 }, TWO, 1);
    }),
    ("rate-kept", |bench, bad| {
        let rate = RatePolicy {
            per_second_milli: 1_000,
            burst: 1,
        };
        bench.told(0, |gate| gate.rate = Some(rate));
        for delivery in (1..=4).map(DeliveryId) {
            bench.admits(0, delivery, plain);
        }
        bench.finds_no_room(0, ONE);
        bench.opens(1_000, TWO, 1);
        bench.opens(0, ONE, 1);
        bench.opens(2_000, DeliveryId(3), 1);
        bench.opens(if bad { 2_999 } else { 3_000 }, DeliveryId(4), 1);
    }),
    ("slots-kept", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        match bad {
            true => bench.opens(1, ONE, 1),
            false => bench.is_tried(false),
        }
        bench.opens(3, TWO, 1);
    }),
    ("slots-kept", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.finds_no_room(1, ONE);
        bench.is_tried(false);
        if bad {
            bench.opens(3, ONE, 2);
        }
        bench.opens(3, TWO, 1);
    }),
    ("shown-once", |bench, bad| {
        let once = |admitted: &mut Admitted| admitted.guarantee = Guarantee::EffectivelyOnce;
        bench.admits(0, ONE, once);
        for _ in 0..=u8::from(bad) {
            let (correlation, replaced) = (outer(ONE), None);
            bench.see(&Happened::Shown {
                correlation,
                replaced,
            });
        }
    }),
    ("route-held", |bench, bad| {
        bench.told(0, |_| {});
        let (who, at, route, open) = (bench.who, Time(1), ROUTE, !bad);
        bench.see(&Happened::ToldRoute {
            who,
            at,
            route,
            open,
        });
        bench.admits(2, ONE, plain);
        bench.sends(3, ONE);
    }),
    ("route-held", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.opens(1, ONE, 1);
        bench.opens(1, TWO, 1);
        let kind = match bad {
            true => OutcomeKind::Blocked,
            false => OutcomeKind::Retry,
        };
        bench.answers(2, (ONE, 1), Outcome::bare(kind, Cause::AuthFailure), AGAIN);
        bench.sends(3, TWO);
    }),
    ("route-held", |bench, bad| {
        bench.told(0, |_| {});
        bench.admits(0, ONE, plain);
        bench.admits(0, TWO, plain);
        bench.finds_no_room(1, ONE);
        bench.opens(1, ONE, 1);
        let refused = Outcome::bare(OutcomeKind::Blocked, Cause::AuthFailure);
        bench.answers(2, (ONE, 1), refused, AGAIN);
        bench.opens(if bad { 3 } else { 2 + ROUTE_PROBE_MS }, TWO, 1);
    }),
    ("refusals-free", |bench, bad| {
        bench.policy(|policy| policy.attempts_max = if bad { 2 } else { 1 });
        bench.admits(0, ONE, plain);
        bench.opens(1, ONE, 1);
        let outcome = Outcome::bare(OutcomeKind::Retry, Cause::ServiceDegraded);
        let spent = Next::Settle {
            state: State::Exhausted,
            cause: Cause::AttemptsSpent,
        };
        bench.answers(2, (ONE, 1), outcome, spent);
    }),
    ("gone-honoured", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.opens(1, ONE, 1);
        let gone = Outcome::bare(OutcomeKind::Gone, Cause::ClientError);
        bench.answers(2, (ONE, 1), gone, REJECTED);
        bench.see(&Happened::Retired {
            endpoint: ENDPOINT,
            since: Time(2),
            registered_at: Time(if bad { 3 } else { 2 }),
        });
    }),
    ("broker-knows", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.closes(1, ONE);
        let entry = bench.journal[1].clone();
        if !bad {
            let (shard, seq, entry) = (0, entry.seq, &entry);
            bench.see(&Happened::Published { shard, seq, entry });
        }
        bench.see(&Happened::Rest { rested: true });
    }),
    ("broker-knows", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.closes(1, ONE);
        let entry = &bench.journal[usize::from(!bad)].clone();
        let (shard, seq) = (0, entry.seq);
        bench.see(&Happened::Published { shard, seq, entry });
    }),
    ("cursor-true", |bench, bad| {
        bench.admits(0, ONE, plain);
        bench.closes(1, ONE);
        let entry = &bench.journal[1].clone();
        let (who, shard, seq) = (bench.who, 0, entry.seq);
        if !bad {
            bench.see(&Happened::Published { shard, seq, entry });
        }
        bench.see(&Happened::CursorKept { who, seq });
    }),
    ("memory-bounded", |bench, bad| {
        let window = if bad { 200 } else { 100 };
        bench.fills(Figures {
            window,
            ..Figures::default()
        });
    }),
    ("memory-bounded", |bench, bad| {
        let records_pending = if bad { 30 } else { 10 };
        bench.fills(Figures {
            records_pending,
            ..Figures::default()
        });
    }),
    ("memory-bounded", |bench, bad| {
        let timers = if bad { 4 } else { 3 };
        bench.fills(Figures {
            timers,
            window: 1,
            ..Figures::default()
        });
    }),
    ("books-agree", |bench, bad| {
        let audit = match bad {
            true => Err("a slot is counted twice".to_owned()),
            false => Ok(()),
        };
        bench.turned(Figures::default(), audit);
    }),
    ("comes-to-rest", |bench, bad| {
        bench.see(&Happened::Rest { rested: !bad });
    }),
];

#[test]
fn every_checker_complains_about_a_history_that_breaks_its_promise_and_no_other() {
    for (name, tell) in HISTORIES {
        let mut bench = Bench::new(name);
        tell(&mut bench, false);
        assert_eq!(bench.broken, None, "{name}");
        let mut bench = Bench::new(name);
        tell(&mut bench, true);
        assert!(bench.broken.is_some(), "{name} did not complain");
    }
}

#[test]
fn every_checker_has_a_history_that_breaks_its_promise() {
    for checker in all() {
        let shown = HISTORIES.iter().any(|(name, _)| *name == checker.name());
        assert!(shown, "{} was never seen to complain", checker.name());
    }
}

#[test]
fn what_a_planted_fault_breaks_is_an_invariant() {
    let names: Vec<&str> = all().iter().map(|checker| checker.name()).collect();
    for plant in Planted::all() {
        let breaks = plant.breaks();
        assert!(!breaks.is_empty(), "{} breaks nothing", plant.name());
        for name in breaks {
            assert!(names.contains(name), "{} breaks {name}", plant.name());
        }
    }
}

const PAGE: &str = include_str!("../../../../docs/simulation.md");

/// The rows of the page's table whose header begins like this, without header and rule.
fn table(header: &str) -> Vec<&'static str> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with(header));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    rows.collect()
}

#[test]
fn the_page_lists_the_invariants_in_the_checkers_words() {
    let mut rows: Vec<String> = all()
        .iter()
        .map(|checker| format!("| `{}` | {} |", checker.name(), checker.promise()))
        .collect();
    rows.push(format!(
        "| `{NO_PANIC}` | No assertion of the engine fails. |"
    ));
    assert_eq!(
        table("| name | what holds |"),
        rows,
        "\n{}\n",
        rows.join("\n")
    );
}

#[test]
fn the_page_lists_what_catches_each_planted_fault() {
    let rows = table("| planted fault | seeds |").into_iter().map(|row| {
        let cells: Vec<&str> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        (cells[1], cells[3])
    });
    let caught = Planted::all()
        .flat_map(|plant| plant.breaks().iter().map(move |name| (plant.name(), *name)));
    assert_eq!(rows.collect::<Vec<_>>(), caught.collect::<Vec<_>>());
}
