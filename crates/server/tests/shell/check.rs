//! The shell's own checkers, beside those of all layers: what only callers' answers over HTTP,
//! receivers' answers and connections tell, each under its name.

mod push;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use postrider::registry::Registry;
use postrider::store::{Query, Reader};
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::Event;
use postrider_core::id::{EndpointId, EventId, OrderingKey, Seq};
use postrider_core::ledger::{Delivery, Entry, Fact, Next, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;

use crate::caller;
use crate::evidence::{Arrival, Seen};
use push::Home;

/// Longest time from an attempt's entry to the entry that ends it: the commit before it, waiting
/// for a connection or for room on one, connecting, the answer, its body.
const ATTEMPT_MS_MAX: i64 = 17_000;

/// What the checkers say.
pub struct Verdict {
    pub violations: Vec<String>,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Everything that the ledger holds, and everything that was seen.
struct Case<'a> {
    seen: &'a Seen,
    asked: &'a [caller::Event],
    events: BTreeMap<EventId, Event>,
    deliveries: Vec<Delivery>,
    /// By delivery, in the order of `deliveries`.
    histories: Vec<Vec<Entry>>,
    /// By correlation id.
    arrivals: BTreeMap<u128, Vec<&'a Arrival>>,
    journal: Vec<Entry>,
    homes: Vec<Home>,
    /// Effectively-once notifications that arrived at their devices more than once.
    repeated: u64,
    violations: Vec<String>,
}

/// Runs every checker.
pub fn all(
    seen: &mut Seen,
    reader: &dyn Reader,
    registry: &Registry,
    asked: &[caller::Event],
) -> Verdict {
    let mut counts = std::mem::take(&mut seen.counts);
    let journal = journal(reader);
    for entry in &journal {
        seen.log.push(format!("journal {:?}", without_words(entry)));
    }
    let deliveries = deliveries(reader);
    let history = |row: &Delivery| reader.history(row).expect("the model reads");
    let event = |row: &Delivery| {
        let event = reader.event(row.event).expect("the model reads");
        (row.event, event.expect("a delivery has an event"))
    };
    let mut arrivals: BTreeMap<u128, Vec<&Arrival>> = BTreeMap::new();
    for arrival in &seen.arrivals {
        arrivals
            .entry(arrival.correlation)
            .or_default()
            .push(arrival);
    }
    let mut case = Case {
        seen,
        asked,
        events: deliveries.iter().map(event).collect(),
        histories: deliveries.iter().map(history).collect(),
        deliveries,
        arrivals,
        journal,
        homes: push::homes(registry),
        repeated: 0,
        violations: seen.violations.clone(),
    };
    case.check();
    *counts.entry("deliveries").or_default() += case.deliveries.len() as u64;
    *counts.entry("attempts").or_default() += case.opened();
    *counts.entry("push: shown once, came again").or_default() += case.repeated;
    for arrival in &seen.arrivals {
        *counts.entry(case.request(arrival)).or_default() += 1;
    }
    for row in &case.deliveries {
        *counts.entry(row.state.name()).or_default() += 1;
    }
    Verdict {
        violations: case.violations,
        counts,
    }
}

/// The entry without what TLS says in words: there stands the machine's own time.
fn without_words(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let Fact::Answered { outcome, .. } = &mut entry.fact {
        outcome.evidence = [].into();
    }
    entry
}

pub fn deliveries(reader: &dyn Reader) -> Vec<Delivery> {
    let query = Query {
        limit: usize::MAX,
        ..Query::default()
    };
    let mut rows = reader.list(&query).expect("the model reads").deliveries;
    rows.reverse();
    rows
}

pub fn journal(reader: &dyn Reader) -> Vec<Entry> {
    reader.journal(Seq(0), usize::MAX).expect("the model reads")
}

impl Case<'_> {
    fn check(&mut self) {
        self.kept();
        self.asked_for();
        self.arrivals_are_known();
        self.repeats_are_explained();
        self.unsent_is_true();
        self.accepted_is_true();
        self.attempts_end();
        self.gapless();
        self.nothing_to_the_gone();
        self.nowhere_forbidden();
        self.content();
        self.shown_once();
        self.retired();
        self.reached_again();
    }

    /// By which channel a request came.
    fn request(&self, arrival: &Arrival) -> &'static str {
        let mut rows = self.deliveries.iter();
        match rows.find(|row| row_id(row) == arrival.correlation) {
            Some(row) if row.channel == Channel::WebPush => "request: web push",
            Some(row) if row.channel == Channel::Apns => "request: APNs",
            Some(row) if row.channel == Channel::Fcm => "request: FCM",
            _ => "request: webhook",
        }
    }

    fn wrong(&mut self, name: &str, what: impl std::fmt::Display) {
        self.violations.push(format!("{name}: {what}"));
    }

    fn opened(&self) -> u64 {
        let opened = |entry: &&Entry| matches!(entry.fact, Fact::Opened { .. });
        self.journal.iter().filter(opened).count() as u64
    }

    /// What was acknowledged is there, under the ids that were told; and every answer for one key
    /// tells the same ones.
    fn kept(&mut self) {
        let by_uuid: BTreeMap<String, &Event> = self
            .events
            .values()
            .map(|event| (uuid::Uuid::from_u128(event.uuid).to_string(), event))
            .collect();
        let mut first: BTreeMap<&str, &crate::evidence::Told> = BTreeMap::new();
        let mut wrong = Vec::new();
        for told in &self.seen.told {
            let same = first.entry(&told.key).or_insert(told);
            if **same != *told {
                wrong.push(format!("{same:?} and {told:?}"));
            }
            let Some(event) = by_uuid.get(&told.event) else {
                wrong.push(format!("{told:?} is not in the ledger"));
                continue;
            };
            let mut ids: Vec<String> = Vec::new();
            for row in self.deliveries.iter().filter(|row| row.event == event.id) {
                ids.push(uuid::Uuid::from_u128(row.correlation.0).to_string());
            }
            if ids != told.deliveries || *event.business_id != *told.key {
                wrong.push(format!("{told:?}, but the ledger has {ids:?}"));
            }
        }
        for what in wrong {
            self.wrong("kept", what);
        }
    }

    /// Nothing is there that nobody asked for; every key is there once, wholly.
    fn asked_for(&mut self) {
        let mut wrong = Vec::new();
        let mut found = BTreeSet::new();
        let wanted: BTreeMap<&str, usize> = self
            .asked
            .iter()
            .map(|event| (event.key.as_str(), event.targets))
            .collect();
        for event in self.events.values() {
            let rows = self.deliveries.iter().filter(|row| row.event == event.id);
            let rows = rows.count();
            if wanted.get(&*event.business_id) != Some(&rows) {
                wrong.push(format!("{} has {rows} deliveries", event.business_id));
            }
            if !found.insert(event.business_id.clone()) {
                wrong.push(format!("{} was admitted twice", event.business_id));
            }
        }
        for key in wanted.keys().filter(|key| !found.contains(**key)) {
            wrong.push(format!("{key} never got in"));
        }
        for what in wrong {
            self.wrong("asked_for", what);
        }
    }

    /// Each thing that arrived was sent by an attempt that the journal opened, once.
    fn arrivals_are_known(&mut self) {
        let known: BTreeSet<u128> = self
            .deliveries
            .iter()
            .map(|row| row.correlation.0)
            .collect();
        let unknown = |id: &&u128| !known.contains(id);
        let unknown: Vec<u128> = self.arrivals.keys().filter(unknown).copied().collect();
        for correlation in unknown {
            self.wrong(
                "ghost",
                format_args!("{correlation:x} arrived and is not known"),
            );
        }
        let mut wrong = Vec::new();
        for (row, arrivals) in self.arrived() {
            let mut attempts = BTreeSet::new();
            for arrival in arrivals.iter().filter(|arrival| !arrival.refused) {
                if !attempts.insert(arrival.attempt) {
                    let (id, attempt) = (row.id.0, arrival.attempt);
                    wrong.push(format!("delivery {id} attempt {attempt} arrived twice"));
                }
            }
        }
        for what in wrong {
            self.wrong("one_request", what);
        }
    }

    fn arrived(&self) -> impl Iterator<Item = (&Delivery, &Vec<&Arrival>)> {
        let of = |row| Some((row, self.arrivals.get(&row_id(row))?));
        self.deliveries.iter().filter_map(of)
    }

    /// What an attempt came to, as the journal has it.
    fn outcome(&self, row: &Delivery, of: u32) -> Option<&Outcome> {
        let place = self
            .deliveries
            .iter()
            .position(|other| other.id == row.id)?;
        self.histories[place]
            .iter()
            .find_map(|entry| match &entry.fact {
                Fact::Answered {
                    attempt, outcome, ..
                } if *attempt == of => Some(&**outcome),
                _ => None,
            })
    }

    /// Where a receiver acted and got the same again, the journal says that it may have acted.
    fn repeats_are_explained(&mut self) {
        let mut wrong = Vec::new();
        for (row, arrivals) in self.arrived() {
            let last = arrivals.iter().map(|arrival| arrival.attempt).max();
            for arrival in arrivals.iter().filter(|arrival| arrival.acted) {
                let repeated = Some(arrival.attempt) < last;
                let outcome = self.outcome(row, arrival.attempt);
                if repeated && !outcome.is_some_and(|outcome| outcome.may_have_acted) {
                    let (id, attempt) = (row.id.0, arrival.attempt);
                    wrong.push(format!(
                        "delivery {id} was acted on at attempt {attempt}, which came to \
                         {outcome:?}, and was sent again"
                    ));
                }
            }
        }
        for what in wrong {
            self.wrong("repeat", what);
        }
    }

    /// Of what is called unsent, no receiver read a whole request.
    fn unsent_is_true(&mut self) {
        let mut wrong = Vec::new();
        for (row, arrivals) in self.arrived() {
            for arrival in arrivals.iter().filter(|arrival| !arrival.refused) {
                let unsent = self.outcome(row, arrival.attempt).is_some_and(|o| o.unsent);
                if unsent {
                    let (id, attempt) = (row.id.0, arrival.attempt);
                    wrong.push(format!(
                        "delivery {id} attempt {attempt} arrived all the same"
                    ));
                }
            }
        }
        for what in wrong {
            self.wrong("unsent", what);
        }
    }

    /// What is called accepted was answered so by the receiver.
    fn accepted_is_true(&mut self) {
        let mut wrong = Vec::new();
        for row in self
            .deliveries
            .iter()
            .filter(|row| row.state == State::Accepted)
        {
            let arrivals = self.arrivals.get(&row_id(row));
            let answered = |arrival: &&&Arrival| {
                arrival.attempt == row.attempt && (200..300).contains(&arrival.http_status)
            };
            if arrivals.is_none_or(|arrivals| !arrivals.iter().any(|a| answered(&a))) {
                wrong.push(format!("delivery {} was accepted by nobody", row.id.0));
            }
        }
        for what in wrong {
            self.wrong("accepted", what);
        }
    }

    /// Every attempt ends within its limits, but for one that a crash ended.
    fn attempts_end(&mut self) {
        let mut wrong = Vec::new();
        for history in &self.histories {
            for pair in history.windows(2) {
                let took_ms = pair[1].at.since(pair[0].at);
                let ended = match &pair[1].fact {
                    Fact::Answered { outcome, .. } => outcome.cause != Cause::Crashed,
                    fact => matches!(fact, Fact::NotSent { .. }),
                };
                if ended && took_ms > ATTEMPT_MS_MAX {
                    wrong.push(format!("{:?} took {took_ms} ms", pair[1]));
                }
            }
        }
        for what in wrong {
            self.wrong("attempt_ends", what);
        }
    }

    /// Numbers of a lane are gapless. `lane-gapless` of the shared checkers permits a gap where the
    /// store refused an admission; here there has never been one.
    fn gapless(&mut self) {
        let mut lanes: BTreeMap<(EndpointId, OrderingKey), u64> = BTreeMap::new();
        let mut wrong = Vec::new();
        for row in &self.deliveries {
            let Some(lane) = row.lane else {
                continue;
            };
            let last = lanes.entry((row.endpoint, lane.key)).or_default();
            if lane.sequence != *last + 1 {
                wrong.push(format!("delivery {} is number {}", row.id.0, lane.sequence));
            }
            *last = lane.sequence;
        }
        for what in wrong {
            self.wrong("gapless", what);
        }
    }

    /// Once an outcome says that an endpoint is gone, no attempt to it is opened, unless it was
    /// registered again later than it was gone.
    fn nothing_to_the_gone(&mut self) {
        let rows = self.deliveries.iter().map(|row| (row.id, row.endpoint));
        let endpoints: BTreeMap<_, _> = rows.collect();
        let mut gone: BTreeMap<EndpointId, Time> = BTreeMap::new();
        let mut wrong = Vec::new();
        for entry in &self.journal {
            let Some(endpoint) = endpoints.get(&entry.delivery) else {
                continue;
            };
            match &entry.fact {
                Fact::Answered { outcome, .. } if outcome.kind == OutcomeKind::Gone => {
                    let since = gone.entry(*endpoint).or_insert(Time(i64::MIN));
                    *since = (*since).max(outcome.gone_at(entry.at));
                }
                Fact::Opened { .. } => {
                    let gone = gone.get(endpoint);
                    if gone.is_some_and(|since| !self.registered(*endpoint, *since, entry.at)) {
                        wrong.push(format!("{entry:?} to an endpoint that is gone"));
                    }
                }
                Fact::Answered {
                    next: Next::Settle { cause, .. },
                    ..
                } if *cause == Cause::PayloadUnreadable => {
                    wrong.push(format!("{entry:?}"));
                }
                _ => {}
            }
        }
        for what in wrong {
            self.wrong("gone", what);
        }
    }

    /// Whether an endpoint was registered later than `since`, and not after `by`. Of another
    /// address nothing is known before it is brought, however long the device had it.
    fn registered(&self, endpoint: EndpointId, since: Time, by: Time) -> bool {
        let home = self.homes.iter().find(|home| home.id == endpoint);
        let mut registered = self.seen.registered.iter();
        registered.any(|it| {
            let same = home.is_some_and(|home| home.uuid == it.endpoint);
            let later = it.asked_ms > since.0 || it.anew && it.told_ms > since.0;
            same && later && it.asked_ms <= by.0
        })
    }

    fn nowhere_forbidden(&mut self) {
        let inside = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[..2] == [192, 168]);
        let forbidden = |ip: &IpAddr| !inside(*ip);
        let dialled = self.seen.dialled.iter().map(std::net::SocketAddr::ip);
        let forbidden: Vec<IpAddr> = dialled.filter(forbidden).collect();
        for ip in forbidden {
            self.wrong("forbidden", format_args!("{ip} was connected to"));
        }
    }
}

fn row_id(row: &Delivery) -> u128 {
    row.correlation.0
}
