//! What a seed asks for: who is told what and when, and what goes wrong.

use std::fmt::Write as _;

use crate::caller::{Errand, Event};
use crate::chance::Chance;
use crate::net::Naming;
use crate::tls::Shown;

/// The hosts that the node has to do with.
pub const CALLERS: [&str; 3] = ["caller-1", "caller-2", "caller-3"];
pub const RECEIVERS: [&str; 4] = ["r1.example", "r2.example", "r3.example", "r4.example"];

/// Simulated time in which things go wrong.
pub const TROUBLE_MS: u64 = 60_000;
/// Events of a run.
const EVENTS: u64 = 56;
/// Moments about which events come in bursts, so that connections fill up, go cold, and are new.
const MOMENTS: u64 = 14;
/// How far around its moment an event comes.
const BURST_MS: u64 = 600;
/// Faults of a run, beside what receivers and callers do.
const FAULTS: std::ops::Range<u64> = 14..26;

/// One thing that goes wrong, and for how long.
#[derive(Clone, Debug)]
pub struct Fault {
    pub at_ms: u64,
    pub for_ms: u64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing passes between the node and this host.
    Partition(&'static str),
    /// Nothing passes from the first to the second.
    OneWay(&'static str, &'static str),
    /// What passes is held, and comes all at once.
    Hold(&'static str),
    /// One segment in so many is lost, and its connection with it.
    Lossy(&'static str),
    /// What passes takes this long.
    Slow(&'static str, u64),
    /// The host crashes. With `power`, nobody hears of it: connections are half open.
    Crash { host: &'static str, power: bool },
    /// A name server does not tell the truth.
    Name(&'static str, Naming),
    /// A receiver shows another certificate.
    Certificate(&'static str, Shown),
    /// Commits take this much longer.
    SlowDisk(u64),
    /// Admissions find no room.
    FullDisk,
    /// Handlers panic now and then.
    HandlerPanics,
    /// The network policy is loaded again: every connection is given up.
    Policy,
}

impl Kind {
    /// How many labels there are.
    const LABELS: usize = 15;

    pub fn label(self) -> &'static str {
        match self {
            Kind::Partition(_) => "network: partition",
            Kind::OneWay(..) => "network: one-way partition",
            Kind::Hold(_) => "network: packets held",
            Kind::Lossy(_) => "network: segments lost",
            Kind::Slow(..) => "network: slow link",
            Kind::Crash {
                host: "node",
                power: true,
            } => "node: power lost",
            Kind::Crash { host: "node", .. } => "node: crash",
            Kind::Crash { power: true, .. } => "receiver: vanished, half open",
            Kind::Crash { .. } => "receiver: crash",
            Kind::Name(..) => "names: wrong or missing",
            Kind::Certificate(..) => "TLS: wrong or stalled",
            Kind::SlowDisk(_) => "disk: slow",
            Kind::FullDisk => "disk: full",
            Kind::HandlerPanics => "handler: panics",
            Kind::Policy => "policy: loaded again",
        }
    }
}

/// The faults of a seed, by time.
pub fn faults(seed: u64) -> Vec<Fault> {
    let chance = Chance::of(seed, "faults");
    let mut faults: Vec<Fault> = (0..chance.between(FAULTS.start, FAULTS.end))
        .map(|_| Fault {
            at_ms: chance.between(1_000, TROUBLE_MS - 8_000),
            for_ms: chance.between(200, 8_000),
            kind: kind(&chance),
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

fn kind(chance: &Chance) -> Kind {
    let receiver = *chance.pick(&RECEIVERS);
    let peer = match chance.one_in(3) {
        true => *chance.pick(&CALLERS),
        false => receiver,
    };
    match chance.below(100) {
        0..10 => Kind::Partition(peer),
        10..15 => Kind::OneWay("node", peer),
        15..20 => Kind::OneWay(peer, "node"),
        20..28 => Kind::Hold(peer),
        28..33 => Kind::Lossy(peer),
        33..40 => Kind::Slow(peer, *chance.pick(&[200, 900, 2_500, 5_500])),
        40..55 => Kind::Crash {
            host: "node",
            power: chance.one_in(2),
        },
        55..64 => Kind::Crash {
            host: receiver,
            power: chance.one_in(2),
        },
        64..76 => Kind::Name(
            receiver,
            *chance.pick(&[
                Naming::Silent,
                Naming::Absent,
                Naming::Rebound,
                Naming::Mixed,
                Naming::Panicking,
            ]),
        ),
        76..86 => Kind::Certificate(
            receiver,
            *chance.pick(&[Shown::Expired, Shown::WrongName, Shown::Nothing]),
        ),
        86..90 => Kind::SlowDisk(*chance.pick(&[100, 400, 1_500])),
        90..93 => Kind::FullDisk,
        93..97 => Kind::HandlerPanics,
        _ => Kind::Policy,
    }
}

/// The errands of each caller. Most events are asked for by two callers at about the same time.
pub fn errands(seed: u64, endpoints: &[String]) -> Vec<Vec<Errand>> {
    let chance = Chance::of(seed, "errands");
    let mut all = vec![Vec::new(); CALLERS.len()];
    let mut number = 0;
    while number < EVENTS {
        let moment = chance.below(MOMENTS) * (TROUBLE_MS - 10_000) / MOMENTS;
        let at_ms = moment + chance.between(50, BURST_MS);
        let batch = if chance.one_in(5) {
            chance.between(2, 5)
        } else {
            1
        };
        let events: Vec<Event> = (number..number + batch)
            .map(|number| event(number, &chance, endpoints))
            .collect();
        number += batch;
        let first = usize::try_from(chance.below(CALLERS.len() as u64)).unwrap_or(0);
        let callers = if chance.one_in(3) { 1 } else { 2 };
        for next in 0..callers {
            all[(first + next) % CALLERS.len()].push(Errand {
                at_ms: at_ms + chance.below(80),
                events: events.clone(),
            });
        }
    }
    for errands in &mut all {
        errands.sort_by_key(|errand| errand.at_ms);
    }
    all
}

fn event(number: u64, chance: &Chance, endpoints: &[String]) -> Event {
    let key = format!("order-{number}");
    let guarantee = ["at_most_once", "at_least_once", "effectively_once"];
    let guarantee = chance.pick(&guarantee);
    let ttl_s = chance.between(15, 120);
    let ordered = chance.one_in(3);
    let targets = if ordered || chance.one_in(2) { 1 } else { 2 };
    let first = usize::try_from(chance.below(endpoints.len() as u64)).unwrap_or(0);
    let named: Vec<String> = (0..targets)
        .map(|next| format!("\"{}\"", endpoints[(first + next) % endpoints.len()]))
        .collect();
    let mut json = format!(
        "{{\"type\":\"order.paid\",\"id\":\"{key}\",\"endpoints\":[{}],\"ttl_s\":{ttl_s},\
         \"guarantee\":\"{guarantee}\"",
        named.join(",")
    );
    if ordered {
        let lane = chance.below(2);
        let _ = write!(json, ",\"ordering_key\":\"lane-{lane}\"");
    } else if chance.one_in(4) {
        let delay_s = chance.between(1, 12);
        let _ = write!(json, ",\"delay_s\":{delay_s}");
    }
    let padding = "x".repeat(usize::try_from(chance.below(2_000)).unwrap_or(0));
    let _ = write!(
        json,
        ",\"payload\":{{\"number\":{number},\"padding\":\"{padding}\"}}}}"
    );
    Event { key, json, targets }
}

#[test]
fn the_seeds_of_the_suite_hold_every_kind_of_fault() {
    let planned: std::collections::BTreeSet<&str> = (0..crate::SEEDS)
        .flat_map(faults)
        .map(|fault| fault.kind.label())
        .collect();
    assert_eq!(planned.len(), Kind::LABELS, "{planned:?}");
}
