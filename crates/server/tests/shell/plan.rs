//! What a seed asks for: who is told what and when, and what goes wrong.

use serde_json::{Value, json};

use crate::caller::{Errand, Event};
use crate::chance::Chance;
use crate::net::Naming;
use crate::phone::Step;
use crate::providers::DEVICES_COUNT;
use crate::tls::Shown;

/// The hosts that the node has to do with.
pub const CALLERS: [&str; 3] = ["caller-1", "caller-2", "caller-3"];
/// Those that take webhooks.
pub const HOOKS: [&str; 4] = ["r1.example", "r2.example", "r3.example", "r4.example"];
/// All that the node sends to: those, two push services, APNs, FCM and where its tokens are from.
pub const RECEIVERS: [&str; 9] = [
    HOOKS[0],
    HOOKS[1],
    HOOKS[2],
    HOOKS[3],
    "push-1.example",
    "push-2.example",
    "apns.example",
    "fcm.example",
    "token.example",
];

/// Simulated time in which things go wrong.
pub const TROUBLE_MS: u64 = 60_000;
/// Events of a run.
const EVENTS: u64 = 72;
/// Moments about which events come in bursts, so that connections fill up, go cold, and are new.
const MOMENTS: u64 = 14;
/// How far around its moment an event comes.
const BURST_MS: u64 = 600;
/// Faults of a run, beside what receivers and callers do.
const FAULTS: std::ops::Range<u64> = 18..32;

/// What the key of an event begins with that goes to a device which came back.
pub const WELCOME: &str = "welcome-back-";

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
    /// Apple takes the provider token for an expired one.
    ExpireTokens,
    /// Google takes its access tokens back.
    RevokeTokens,
}

impl Kind {
    /// How many labels there are.
    const LABELS: usize = 17;

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
            Kind::ExpireTokens => "provider: token expired early",
            Kind::RevokeTokens => "provider: tokens taken back",
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
        93..95 => Kind::HandlerPanics,
        95..97 => Kind::Policy,
        97..98 => Kind::ExpireTokens,
        _ => Kind::RevokeTokens,
    }
}

/// The errands of each caller. Most events are asked for by two callers at about the same time.
pub fn errands(seed: u64, hooks: &[String], devices: &[String]) -> Vec<Vec<Errand>> {
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
            .map(|number| {
                let endpoints = *chance.pick(&[hooks, devices]);
                event(&format!("order-{number}"), number, &chance, endpoints)
            })
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

/// What an application tells: something to show, or something for the app alone.
fn payload(number: u64, chance: &Chance) -> Value {
    let padding = "x".repeat(usize::try_from(chance.below(2_000)).unwrap_or(0));
    let mut payload = json!({ "data": { "number": number.to_string(), "padding": padding } });
    if !chance.one_in(5) {
        let (title, body) = ("Order", format!("Number {number} is paid"));
        payload["notification"] = json!({ "title": title, "body": body });
    }
    payload
}

/// An event for one or two of `endpoints`.
fn event(key: &str, number: u64, chance: &Chance, endpoints: &[String]) -> Event {
    let guarantee = ["at_most_once", "at_least_once", "effectively_once"];
    let guarantee = chance.pick(&guarantee);
    let ordered = chance.one_in(3);
    let targets = match ordered || endpoints.len() == 1 || chance.one_in(2) {
        true => 1,
        false => 2,
    };
    let first = usize::try_from(chance.below(endpoints.len() as u64)).unwrap_or(0);
    let named: Vec<&String> = (0..targets)
        .map(|next| &endpoints[(first + next) % endpoints.len()])
        .collect();
    let content = payload(number, chance);
    let mut event = json!({
        "type": "order.paid",
        "id": key,
        "endpoints": named,
        "ttl_s": chance.between(15, 120),
        "guarantee": guarantee,
        "payload": content,
    });
    if ordered {
        event["ordering_key"] = format!("lane-{}", chance.below(2)).into();
    } else if chance.one_in(4) {
        event["delay_s"] = chance.between(1, 12).into();
    }
    if chance.one_in(8) {
        event["collapse_key"] = format!("thread-{}", chance.below(2)).into();
    }
    Event {
        key: key.to_owned(),
        json: event.to_string(),
        targets,
        content,
    }
}

/// What is told to a device that came back.
pub fn welcome(device: usize, endpoint: &str) -> Event {
    let chance = Chance::of(device as u64, "welcome");
    let number = 1_000 + device as u64;
    let key = format!("{WELCOME}{device}");
    event(&key, number, &chance, &[endpoint.to_owned()])
}

/// What becomes of each device, by time.
pub fn steps(seed: u64) -> Vec<Vec<(u64, Step)>> {
    let chance = Chance::of(seed, "devices");
    let device = |_| {
        let at_ms = chance.between(4_000, TROUBLE_MS - 25_000);
        match chance.below(6) {
            0 => vec![(at_ms, Step::Leaves)],
            1 | 2 => {
                let anew = chance.one_in(2);
                let back_ms = at_ms + chance.between(500, 20_000);
                vec![(at_ms, Step::Leaves), (back_ms, Step::Returns { anew })]
            }
            3 => vec![(at_ms, Step::Registers)],
            _ => Vec::new(),
        }
    };
    (0..DEVICES_COUNT).map(device).collect()
}

#[test]
fn the_seeds_of_the_suite_hold_every_kind_of_fault() {
    let planned: std::collections::BTreeSet<&str> = (0..crate::SEEDS)
        .flat_map(faults)
        .map(|fault| fault.kind.label())
        .collect();
    assert_eq!(planned.len(), Kind::LABELS, "{planned:?}");
}
