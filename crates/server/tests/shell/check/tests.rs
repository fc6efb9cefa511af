//! Histories made by hand: a good one, and each way to spoil it, by which its checker is seen to
//! complain.

use std::collections::BTreeMap;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::{Event, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, PolicyId, Seq, TenantId,
};
use postrider_core::ledger::{Admitted, Delivery, Entry, Fact, Next, State, apply};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;
use serde_json::{Value, json};

use super::push::Home;
use super::{Arrival, Case};
use crate::caller;
use crate::evidence::{Registered, Seen};
use crate::providers::Pushed;

const ENDPOINT: EndpointId = EndpointId(9);
const UUID: &str = "0198-the-endpoint";
const REGISTERED_AT: Time = Time(1);

/// Everything that a checker can look at.
struct History {
    journal: Vec<Entry>,
    seen: Seen,
    asked: Vec<caller::Event>,
    collapse_key: &'static str,
    home: Home,
}

fn content() -> Value {
    json!({ "data": { "number": "7" } })
}

fn key(number: u64) -> String {
    match number {
        1 => "order-1".into(),
        number => format!("welcome-back-{number}"),
    }
}

fn arrival(number: u64, attempt: u32, at_ms: i64, http_status: u16) -> Arrival {
    let id = u128::from(number);
    Arrival {
        correlation: id,
        attempt,
        at_ms,
        acted: http_status == 200 || http_status == 0,
        refused: false,
        http_status,
        pushed: Some(Pushed {
            device: 3,
            id,
            key: format!("key-{number}"),
            content: content(),
        }),
    }
}

impl History {
    fn new() -> History {
        History {
            journal: Vec::new(),
            seen: Seen::default(),
            asked: Vec::new(),
            collapse_key: "",
            home: Home {
                id: ENDPOINT,
                uuid: UUID.into(),
                registered_at: REGISTERED_AT,
                retired: None,
            },
        }
    }

    fn says(&mut self, number: u64, at: i64, fact: Fact) {
        let own = |entry: &&Entry| entry.delivery == DeliveryId(number);
        let version = self.journal.iter().filter(own).count();
        let previous = self.journal.iter().rfind(own).map_or(Seq(0), |it| it.seq);
        self.journal.push(Entry {
            seq: Seq(self.journal.len() as u64 + 1),
            delivery: DeliveryId(number),
            version: u32::try_from(version).unwrap(),
            at: Time(at),
            previous,
            fact,
        });
    }

    fn admits(&mut self, number: u64, at: i64) {
        let admitted = Admitted {
            correlation: CorrelationId(number.into()),
            event: EventId(number),
            tenant: TenantId(1),
            endpoint: ENDPOINT,
            channel: Channel::Apns,
            policy: PolicyId(1),
            guarantee: Guarantee::EffectivelyOnce,
            due_at: Time(at),
            expires_at: Time(90_000),
            lane: None,
        };
        self.says(number, at, Fact::Admitted(Box::new(admitted)));
        self.asked.push(caller::Event {
            key: key(number),
            json: String::new(),
            targets: 1,
            content: content(),
        });
    }

    fn opens(&mut self, number: u64, at: i64, attempt: u32) {
        let policy = PolicyId(1);
        self.says(number, at, Fact::Opened { attempt, policy });
    }

    fn answers(&mut self, number: u64, at: i64, attempt: u32, outcome: Outcome) {
        let next = match outcome.kind {
            OutcomeKind::Accept => (State::Accepted, Cause::Accepted),
            OutcomeKind::Gone => (State::Rejected, Cause::Gone),
            _ => (State::Scheduled, outcome.cause),
        };
        let next = match next {
            (State::Scheduled, _) => Next::Again { due_at: Time(at) },
            (state, cause) => Next::Settle { state, cause },
        };
        let fact = Fact::Answered {
            attempt,
            outcome: Box::new(outcome),
            next,
        };
        self.says(number, at, fact);
    }

    /// The names of the checkers that complain.
    fn complaints(&self) -> Vec<String> {
        let mut rows: BTreeMap<DeliveryId, Option<Delivery>> = BTreeMap::new();
        for entry in &self.journal {
            apply(rows.entry(entry.delivery).or_default(), entry).unwrap();
        }
        let rows: Vec<Delivery> = rows.into_values().flatten().collect();
        let history = |row: &Delivery| {
            let own = self.journal.iter().filter(|it| it.delivery == row.id);
            own.cloned().collect()
        };
        let mut arrivals: BTreeMap<u128, Vec<&Arrival>> = BTreeMap::new();
        for arrival in &self.seen.arrivals {
            arrivals
                .entry(arrival.correlation)
                .or_default()
                .push(arrival);
        }
        let mut case = Case {
            seen: &self.seen,
            asked: &self.asked,
            events: rows
                .iter()
                .map(|row| (row.event, self.event(row.event)))
                .collect(),
            histories: rows.iter().map(history).collect(),
            deliveries: rows,
            arrivals,
            journal: self.journal.clone(),
            homes: vec![self.home.clone()],
            repeated: 0,
            violations: Vec::new(),
        };
        case.check();
        let name = |it: &String| it.split(':').next().unwrap_or_default().to_owned();
        case.violations.iter().map(name).collect()
    }

    fn event(&self, id: EventId) -> Event {
        Event {
            id,
            uuid: id.0.into(),
            tenant: TenantId(1),
            key_digest: KeyDigest::default(),
            body_digest: BodyDigest::default(),
            business_id: key(id.0).into(),
            event_type: "order.paid".into(),
            version: 1,
            recipient: "".into(),
            ordering_key: "".into(),
            collapse_key: self.collapse_key.into(),
            urgency: Urgency::Normal,
            traceparent: "".into(),
            content_type: "application/json".into(),
            admitted_at: Time(2),
            key_expires_at: Time(99_000),
            first_delivery: DeliveryId(id.0),
            deliveries: 1,
            retry_of: None,
            payload: Bytes::from_static(b"{}"),
        }
    }

    fn pushed(&mut self, place: usize) -> &mut Pushed {
        self.seen.arrivals[place].pushed.as_mut().unwrap()
    }
}

fn accepted() -> Outcome {
    Outcome {
        http_status: 200,
        ..Outcome::bare(OutcomeKind::Accept, Cause::Accepted)
    }
}

fn gone(since: i64) -> Outcome {
    Outcome {
        http_status: 410,
        gone_since: Some(Time(since)),
        ..Outcome::bare(OutcomeKind::Gone, Cause::Gone)
    }
}

/// A notification whose first answer was lost: it came twice, and is shown once.
fn twice() -> History {
    let mut history = History::new();
    history.admits(1, 10);
    history.opens(1, 10, 1);
    let lost = Outcome::bare(OutcomeKind::Unknown, Cause::ResponseTimeout);
    history.answers(1, 20, 1, lost);
    history.opens(1, 30, 2);
    history.answers(1, 40, 2, accepted());
    history.seen.arrivals = vec![arrival(1, 1, 15, 0), arrival(1, 2, 35, 200)];
    history
}

/// A device that left at 25, was found gone at 40, came back at 50, and was told something.
fn left() -> History {
    let mut history = History::new();
    history.admits(1, 30);
    history.opens(1, 30, 1);
    history.answers(1, 40, 1, gone(25));
    history.admits(2, 60);
    history.opens(2, 60, 1);
    history.answers(2, 70, 1, accepted());
    history.seen.arrivals = vec![arrival(1, 1, 35, 410), arrival(2, 1, 65, 200)];
    history.seen.registered.push(Registered {
        endpoint: UUID.into(),
        asked_ms: 50,
        told_ms: 55,
        anew: false,
    });
    history.home.registered_at = Time(50);
    history
}

#[test]
fn good_histories_are_good() {
    assert_eq!(twice().complaints(), [""; 0]);
    assert_eq!(left().complaints(), [""; 0]);
    let mut gone_for_good = left();
    gone_for_good.journal.truncate(3);
    gone_for_good.asked.truncate(1);
    gone_for_good.seen.arrivals.truncate(1);
    gone_for_good.seen.registered.clear();
    gone_for_good.home.registered_at = REGISTERED_AT;
    gone_for_good.home.retired = Some(Cause::Gone);
    assert_eq!(gone_for_good.complaints(), [""; 0]);
}

#[test]
fn what_a_device_reads_is_held_against_what_was_submitted() {
    let mut other_words = twice();
    other_words.pushed(1).content = json!({ "data": { "number": "8" } });
    assert_eq!(other_words.complaints(), ["content"]);
    let mut other_id = twice();
    other_id.pushed(0).id = 2;
    assert_eq!(other_id.complaints(), ["content"]);
}

#[test]
fn a_second_place_and_a_place_of_two_are_found() {
    let mut elsewhere = twice();
    elsewhere.pushed(1).key = "another".into();
    assert_eq!(elsewhere.complaints(), ["shown_once"]);
    let mut nowhere = twice();
    nowhere.pushed(0).key = String::new();
    nowhere.pushed(1).key = String::new();
    assert_eq!(nowhere.complaints(), ["shown_once"]);
    let mut shared = left();
    shared.seen.arrivals[0].acted = true;
    shared.pushed(0).key = "key-2".into();
    assert_eq!(shared.complaints(), ["shown_once"]);
    shared.collapse_key = "thread";
    assert_eq!(shared.complaints(), [""; 0], "they are one thread");
}

#[test]
fn a_request_to_who_is_gone_is_found() {
    let mut never_back = left();
    never_back.seen.registered.clear();
    assert_eq!(never_back.complaints(), ["gone"]);
    let mut too_late = left();
    too_late.seen.registered[0].asked_ms = 61;
    assert_eq!(too_late.complaints(), ["gone"]);
    let mut too_early = left();
    too_early.seen.registered[0].asked_ms = 25;
    assert_eq!(too_early.complaints(), ["gone"]);
    too_early.seen.registered[0].anew = true;
    assert_eq!(
        too_early.complaints(),
        [""; 0],
        "nothing was known of that address"
    );
    too_early.seen.registered[0].told_ms = 25;
    assert_eq!(too_early.complaints(), ["gone"]);
}

#[test]
fn an_endpoint_that_is_wrongly_kept_or_retired_is_found() {
    let mut kept = left();
    kept.home.registered_at = Time(25);
    assert_eq!(kept.complaints(), ["retired"]);
    let mut believed = left();
    believed.home.retired = Some(Cause::Gone);
    assert_eq!(believed.complaints(), ["retired"]);
    let mut out_of_nothing = twice();
    out_of_nothing.home.retired = Some(Cause::Gone);
    assert_eq!(out_of_nothing.complaints(), ["retired"]);
}

#[test]
fn a_device_that_came_back_in_vain_is_found() {
    let mut unheard = left();
    unheard.journal.truncate(5);
    unheard.answers(2, 70, 1, gone(25));
    unheard.seen.arrivals[1] = arrival(2, 1, 65, 410);
    assert_eq!(unheard.complaints(), ["reached_again"]);
}

#[test]
fn what_held_before_holds_for_pushes() {
    let mut unexplained = twice();
    if let Fact::Answered { outcome, .. } = &mut unexplained.journal[2].fact {
        outcome.may_have_acted = false;
    }
    assert_eq!(unexplained.complaints(), ["repeat"]);
    let mut same_again = twice();
    same_again.seen.arrivals.push(arrival(1, 2, 36, 200));
    assert_eq!(same_again.complaints(), ["one_request"]);
    let mut unanswered = twice();
    unanswered.seen.arrivals[1].http_status = 500;
    assert_eq!(unanswered.complaints(), ["accepted"]);
    let mut lost = twice();
    lost.asked.push(caller::Event {
        key: "order-2".into(),
        ..lost.asked[0].clone()
    });
    assert_eq!(lost.complaints(), ["asked_for"]);
}
