//! Which invariant is held on which layer, as data: by what evidence, or why there is none.
//!
//! The page docs/invariants.md is made from it, and each layer has a test that breaks every
//! promise that it says it holds. Absent here: the promises themselves.

/// Where the shared checkers run, beside the simulator, which feeds all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// tests/shell: intake, driver and client on a simulated network. Everything is written down
    /// while it happens, in its true order.
    Shell,
    /// tests/kill_points: the real process, killed. Read when it is over: what callers were told,
    /// what receivers wrote down, and what lies on the disk.
    Kill,
}

/// What a checker sees on a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// This evidence.
    Judged(&'static str),
    /// Nothing, and why.
    Blind(&'static str),
}

use Sight::{Blind, Judged};

/// A checker by its name, and what it sees on each layer.
#[derive(Clone, Copy, Debug)]
pub struct Fed {
    pub name: &'static str,
    pub shell: Sight,
    pub kill: Sight,
}

const fn fed(name: &'static str, shell: Sight, kill: Sight) -> Fed {
    Fed { name, shell, kill }
}

const COMMITS: Sight = Judged("commits");
const JOURNAL: Sight = Judged("the journal");
const NO_EPOCHS: Sight = Blind("an entry does not say under which epoch it was written");
const NO_ENGINE: Sight = Blind("an engine is not looked into from outside of its process");
const NO_BROKER: Sight = Blind("no broker is connected");
const NO_PARKING: Sight = Blind("no policy of the workload parks");
const NO_PURGE: Sight = Blind("nothing gets old enough to be purged");
const NO_RATES: Sight = Blind("no endpoint of the workload has a rate");

/// Every checker, in the order of `postrider_sim::checkers::all`.
#[rustfmt::skip]
pub const FED: &[Fed] = &[
    fed("nothing-lost", Judged("answers of the engine, rows"), Judged("answers over HTTP, rows")),
    fed("one-answer", Judged("questions to the engine and its answers"),
        Blind("which answers were on their way when a process died is not known")),
    fed("told-durable", Judged("answers, commits before them"),
        Judged("answers over HTTP; that an entry is there, not since when")),
    fed("as-asked", Judged("questions, answers, commits"),
        Blind("which entries were one record is not known, nor what was asked for")),
    fed("dedupe-exact", Judged("questions, answers, commits"), Judged("the events of the ledger")),
    fed("sent-durable", Judged("requests that arrived, commits before them"),
        Judged("requests that arrived; that an entry is there, not since when")),
    fed("owner-only", Judged("turns, commits"), NO_EPOCHS),
    fed("at-most-once", Judged("requests that arrived"), Judged("requests that arrived")),
    fed("repeats-explained", Judged("requests that were acted on, commits before them"),
        Judged("requests that were acted on, the journal before them")),
    fed("time-to-live", COMMITS, JOURNAL),
    fed("reachable", Judged("commits, what the registry announced"),
        Judged("the journal, when an address was registered last")),
    fed("lane-order", COMMITS, JOURNAL),
    fed("lane-parked", NO_PARKING, NO_PARKING),
    fed("lane-gapless", Judged("commits and refusals"), JOURNAL),
    fed("ledger-chain", COMMITS, JOURNAL),
    fed("fenced", COMMITS, NO_EPOCHS),
    fed("purge-settled", NO_PURGE, NO_PURGE),
    fed("ledger-fold", Judged("rows, journal, commits"), Judged("rows, journal")),
    fed("not-early", COMMITS, JOURNAL),
    fed("schedule-kept", COMMITS, JOURNAL),
    fed("attempts-bounded", COMMITS, JOURNAL),
    fed("rate-kept", NO_RATES, NO_EPOCHS),
    fed("slots-kept", Judged("commits, what the registry announced"), NO_EPOCHS),
    fed("shown-once", Blind("devices are held by the layer's own checker"),
        Blind("devices are held by the checkers of `postrider demo`")),
    fed("route-held", Judged("commits, requests that left, routes as announced"), NO_EPOCHS),
    fed("refusals-free", COMMITS, JOURNAL),
    fed("gone-honoured", Judged("commits, what the registry announced"),
        Blind("the registry does not keep when an address was registered before the last time")),
    fed("broker-knows", NO_BROKER, NO_BROKER),
    fed("cursor-true", NO_BROKER, NO_BROKER),
    fed("memory-bounded", Judged("figures after every turn"), NO_ENGINE),
    fed("books-agree", Judged("an audit now and then"), NO_ENGINE),
    fed("comes-to-rest", Judged("rows, idleness"), Judged("rows")),
];

impl Fed {
    pub fn on(&self, layer: Layer) -> Sight {
        match layer {
            Layer::Shell => self.shell,
            Layer::Kill => self.kill,
        }
    }
}

/// The checkers that this layer feeds.
pub fn judged(layer: Layer) -> impl Iterator<Item = &'static str> {
    let is_judged = move |fed: &&Fed| matches!(fed.on(layer), Judged(_));
    FED.iter().filter(is_judged).map(|fed| fed.name)
}

pub fn is_judged(layer: Layer, name: &str) -> bool {
    judged(layer).any(|judged| judged == name)
}
