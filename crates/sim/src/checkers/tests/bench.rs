//! A checker on a bench, and what histories made by hand are made of.
//!
//! Absent here: the histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::{Figures, Reply};
use postrider_core::event::{Event, LaneCounter, Submission, Target, Urgency};
use postrider_core::id::{
    Ask, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, OrderingKey, Partition, PolicyId,
    RouteId, Seq, TenantId, Ticket,
};
use postrider_core::ledger::{Admitted, Entry, Fact, Lane, Next, Record, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::Time;

use super::super::{Checker, all};
use crate::history::{Happened, Who};
use crate::picture::Picture;
use crate::store::Verdict;

pub(super) const ENDPOINT: EndpointId = EndpointId(1);
pub(super) const POLICY: PolicyId = PolicyId(1);
pub(super) const ROUTE: RouteId = RouteId(1);
pub(super) const KEY: OrderingKey = OrderingKey(1);
pub(super) const ENDS: Time = Time(1_000_000);
pub(super) const ONE: DeliveryId = DeliveryId(1);
pub(super) const TWO: DeliveryId = DeliveryId(2);

/// A checker, and the history that it is shown.
pub(super) struct Bench {
    checker: Box<dyn Checker>,
    pub(super) picture: Picture,
    pub(super) broken: Option<String>,
    pub(super) journal: Vec<Entry>,
    last: BTreeMap<DeliveryId, (u32, Seq)>,
    pub(super) who: Who,
}

impl Bench {
    pub(super) fn new(name: &str) -> Bench {
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

    pub(super) fn see(&mut self, happened: &Happened<'_>) {
        let at = Time(0);
        let folded = self.picture.take(at, happened);
        folded.expect("histories keep to the state table");
        let seen = self.checker.see(&self.picture, at, happened);
        self.broken = self.broken.take().or(seen.err());
    }

    pub(super) fn record(&mut self, record: &Record) {
        self.journal.extend(record.entries.iter().cloned());
        let shard = self.who.shard;
        self.see(&Happened::Committed { shard, record });
    }

    /// A fact, where the chain of its delivery has come to.
    pub(super) fn entry(&mut self, at: i64, delivery: DeliveryId, fact: Fact) -> Entry {
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

    pub(super) fn write(&mut self, at: i64, delivery: DeliveryId, fact: Fact) {
        let entries = vec![self.entry(at, delivery, fact)];
        let record = self.holding(entries);
        self.record(&record);
    }

    pub(super) fn holding(&self, entries: Vec<Entry>) -> Record {
        Record {
            ticket: Ticket(1),
            event: None,
            fences: vec![(Partition(0), self.who.epoch)],
            entries,
            release: None,
        }
    }

    /// The question that [`Bench::replied`] answers.
    pub(super) fn asks(&mut self, endpoints: &[EndpointId]) {
        let admitted = admitted(ONE);
        let target = |endpoint: &EndpointId| Target {
            endpoint: *endpoint,
            policy: admitted.policy,
            guarantee: admitted.guarantee,
            collapse_key: None,
            ordering_key: None,
            lane: None,
            due_at: admitted.due_at,
            expires_at: admitted.expires_at,
            entropy: 0,
        };
        let submission = &Submission {
            event: event(0, ONE),
            targets: endpoints.iter().map(target).collect(),
            known: None,
        };
        let (who, ask, at) = (self.who, Ask(1), Time(0));
        self.see(&Happened::Asked {
            who,
            ask,
            at,
            submission,
        });
    }

    /// An event of one delivery, both with this number.
    pub(super) fn admits(
        &mut self,
        at: i64,
        delivery: DeliveryId,
        change: impl FnOnce(&mut Admitted),
    ) {
        self.admits_event(at, delivery, change, |_| {});
    }

    pub(super) fn admits_event(
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

    pub(super) fn opens(&mut self, at: i64, delivery: DeliveryId, attempt: u32) {
        let policy = POLICY;
        self.write(at, delivery, Fact::Opened { attempt, policy });
    }

    /// The record that opens the first attempt is refused, for want of room.
    pub(super) fn finds_no_room(&mut self, at: i64, delivery: DeliveryId) {
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

    pub(super) fn answers(
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

    pub(super) fn closes(&mut self, at: i64, delivery: DeliveryId) {
        let (state, cause) = (State::Cancelled, Cause::Cancelled);
        self.write(at, delivery, Fact::Closed { state, cause });
    }

    /// Admits a delivery, opens its first attempt and lets it be refused for now.
    pub(super) fn is_tried(&mut self, may_have_acted: bool) {
        self.opens(1, ONE, 1);
        let mut outcome = Outcome::bare(OutcomeKind::Retry, Cause::ServiceDegraded);
        outcome.may_have_acted = may_have_acted;
        self.answers(2, (ONE, 1), outcome, AGAIN);
    }

    pub(super) fn told(&mut self, at: i64, change: impl FnOnce(&mut Gate)) {
        let mut gate = gate();
        change(&mut gate);
        let (who, at, gate) = (self.who, Time(at), &gate);
        self.see(&Happened::Told { who, at, gate });
    }

    pub(super) fn sends(&mut self, at: i64, delivery: DeliveryId) {
        let dispatch = &self.dispatch(delivery);
        let (who, at) = (self.who, Time(at));
        self.see(&Happened::Sent { who, at, dispatch });
    }

    pub(super) fn dispatch(&self, delivery: DeliveryId) -> Dispatch {
        let known = self.picture.row(self.who.shard, delivery);
        let row = &known.expect("what is sent was admitted").row;
        Dispatch::of(row, LaneCounter::default(), Time(0))
    }

    pub(super) fn policy(&mut self, change: impl FnOnce(&mut Policy)) {
        let mut policy = Policy::brief(POLICY);
        change(&mut policy);
        self.see(&Happened::Policy(&policy));
    }

    pub(super) fn granted(&mut self, epoch: u64) {
        self.who.epoch = Epoch(epoch);
        self.see(&Happened::Granted { who: self.who });
    }

    pub(super) fn turned(&mut self, figures: Figures, audit: Result<(), String>) {
        let who = self.who;
        self.see(&Happened::Turned {
            who,
            figures,
            audit,
        });
    }

    /// An engine of 100 rows and 10 records, which took over nothing, comes to hold this.
    pub(super) fn fills(&mut self, figures: Figures) {
        let (window_max, records_max) = (100, 10);
        self.see(&Happened::Bounds {
            window_max,
            records_max,
        });
        self.granted(1);
        self.turned(figures, Ok(()));
    }

    pub(super) fn replied(&mut self, reply: &Reply) {
        let (who, ask) = (self.who, Ask(1));
        self.see(&Happened::Replied { who, ask, reply });
    }
}

pub(super) const AGAIN: Next = Next::Again { due_at: Time(2) };
pub(super) const REJECTED: Next = Next::Settle {
    state: State::Rejected,
    cause: Cause::ClientError,
};

pub(super) fn outer(delivery: DeliveryId) -> CorrelationId {
    CorrelationId(u128::from(delivery.0))
}

pub(super) fn admitted(delivery: DeliveryId) -> Admitted {
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

pub(super) fn event(at: i64, delivery: DeliveryId) -> Event {
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

pub(super) fn gate() -> Gate {
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

pub(super) fn in_lane(sequence: u64) -> impl FnOnce(&mut Admitted) {
    move |admitted| admitted.lane = Some(Lane { key: KEY, sequence })
}

pub(super) fn admitted_reply() -> Reply {
    Reply::Admitted {
        event: EventId(1),
        uuid: 0,
        first_delivery: ONE,
        deliveries: vec![(ENDPOINT, outer(ONE))],
    }
}

pub(super) fn plain(_: &mut Admitted) {}
