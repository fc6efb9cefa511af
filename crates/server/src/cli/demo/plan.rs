//! The workload, drawn from a seed: who receives, what is submitted, when the engine is killed.
//!
//! Absent here: sockets and time. The same seed and sizes give the same plan.

mod devices;
mod receivers;

use std::collections::HashMap;

use postrider_core::policy::Guarantee;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::evidence::Nature;
pub use devices::{Fault, Presence, Trouble};
pub(crate) use receivers::Receiver;
pub use receivers::Way;

/// Tenants of a run.
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Callers for each tenant; every third submits in batches.
const CALLERS: usize = 6;
/// Items of a batch at most.
const BATCH_ITEMS_MAX: usize = 25;
/// Ordering keys of a tenant.
const KEYS: usize = 24;
/// Time to live of what goes where nothing is ever accepted.
const HOPELESS_TTL_S: u32 = 20;

/// Settings of the engine that make a run short: waits of milliseconds, answers within a second.
pub(crate) const SETTINGS: &str = r#"
[transport]
response_ms = 1000

[policies.demo-patient]
base = "brief"
schedule = "fixed"
waits_ms = [40, 80, 160, 320]
jitter = "equal"
attempts_max = 100
throttle_ms = 100
retry_after_cap_s = 1
breaker_error_percent = 100
breaker_answers_min = 1000
breaker_answers_max = 1000
adaptive = false

[policies.demo-brief]
base = "brief"
schedule = "exponential"
base_ms = 40
cap_ms = 200
attempts_max = 3
throttle_ms = 100
retry_after_cap_s = 1
breaker_error_percent = 100
breaker_answers_min = 1000
breaker_answers_max = 1000
adaptive = false

[policies.demo-rested]
base = "brief"
schedule = "linear"
step_ms = 40
cap_ms = 200
attempts_max = 3
breaker_open_ms = 200
"#;

/// What Apple's answers mean in a run, where that differs from `reactions/apns.toml`.
pub(crate) const APNS_REACTIONS: &str = r#"
[[rows]]
http = 503
reason = "ServiceUnavailable"
kind = "retry"
cause = "SERVICE_DEGRADED"
wait_s = 1

[[rows]]
http = 429
reason = "TooManyRequests"
kind = "throttle"
cause = "DEVICE_THROTTLED"
scope = "endpoint"
wait_s = 1
"#;

/// A plan.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) events: Vec<Planned>,
    pub(crate) callers: Vec<Caller>,
    /// After how many answers the engine is killed, each time.
    pub(crate) kills_at: Vec<u64>,
}

/// A tenant and who receives for it.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) receivers: Vec<Receiver>,
}

/// One event to submit.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) tenant: usize,
    pub(crate) id: String,
    pub(crate) event_type: &'static str,
    pub(crate) guarantee: Guarantee,
    pub(crate) ordering_key: Option<String>,
    pub(crate) to: To,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) payload: String,
}

/// Where an event goes.
#[derive(Clone, Debug)]
pub(crate) enum To {
    /// To these receivers of the tenant, by their places.
    Receivers(Vec<usize>),
    /// To all endpoints of a recipient.
    Recipient(&'static str),
    /// To all that subscribe to its type.
    Subscribers,
}

/// One who submits, step after step.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: usize,
    pub(crate) steps: Vec<Step>,
    /// Steps that go in one request.
    pub(crate) batch: usize,
}

/// One thing to do with an event, by its place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Submit it, for the first time or again.
    Submit(usize),
    /// Submit it twice at the same moment.
    Race(usize),
    /// Submit another payload under its key.
    Conflict(usize),
}

impl Step {
    pub(crate) fn event(self) -> usize {
        match self {
            Step::Submit(event) | Step::Race(event) | Step::Conflict(event) => event,
        }
    }
}

impl Plan {
    /// Draws a plan of so many events and kills.
    pub(crate) fn draw(seed: u64, events: usize, kills: usize) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed);
        let tenants: Vec<Tenant> = (0..TENANTS.len())
            .map(|tenant| Tenant {
                name: TENANTS[tenant],
                receivers: receivers::all(TENANTS[tenant]),
            })
            .collect();
        let mut quotas = HashMap::new();
        let events: Vec<Planned> = (0..events)
            .map(|number| event(&mut rng, &tenants, number, &mut quotas))
            .collect();
        let callers = callers(&mut rng, &events);
        let steps: usize = callers.iter().map(|caller| caller.steps.len()).sum();
        let share = steps as u64 / (kills as u64 + 1);
        let kills_at = (1..=kills as u64)
            .map(|kill| (kill * share).saturating_sub(rng.random_range(0..=share / 2)))
            .collect();
        Plan {
            tenants,
            events,
            callers,
            kills_at,
        }
    }

    /// The paths that an event goes to.
    pub(crate) fn paths(&self, event: &Planned) -> Vec<String> {
        let receivers = &self.tenants[event.tenant].receivers;
        let path = |receiver: &Receiver| receiver.path.clone();
        match &event.to {
            To::Receivers(places) => places.iter().map(|&at| path(&receivers[at])).collect(),
            To::Recipient(name) => {
                let theirs = receivers.iter().filter(|one| one.recipient == *name);
                theirs.map(path).collect()
            }
            To::Subscribers => {
                let theirs = receivers
                    .iter()
                    .filter(|one| one.event_type == event.event_type);
                theirs.map(path).collect()
            }
        }
    }
}

/// What an event says, in the form that every channel understands. A device that got it in its
/// provider's form can say it again, byte for byte.
#[must_use]
pub fn payload(event: &str, number: &str, pad: &str) -> String {
    let data = json!({ "event": event, "number": number, "pad": pad });
    json!({ "notification": { "title": event }, "data": data }).to_string()
}

/// How many deliveries each receiver has, by tenant and place.
type Quotas = HashMap<(usize, usize), usize>;

fn event(rng: &mut StdRng, tenants: &[Tenant], number: usize, quotas: &mut Quotas) -> Planned {
    let tenant = number % tenants.len();
    let receivers = &tenants[tenant].receivers;
    let kind = rng.random_range(0..100);
    let to = match kind {
        0..4 => To::Recipient("anna"),
        4..8 => To::Subscribers,
        8..16 => To::Receivers(several(rng, receivers)),
        _ => To::Receivers(vec![one(rng, tenant, receivers, quotas)]),
    };
    let any = |holds: &dyn Fn(&Receiver) -> bool| match &to {
        To::Receivers(places) => places.iter().any(|&at| holds(&receivers[at])),
        _ => false,
    };
    let hopeless = any(&Receiver::is_hopeless);
    // Whose order ends in the middle has none to be held to.
    let ends = any(&|receiver| receiver.nature == Nature::Leaves);
    let ordered = !hopeless && !ends && rng.random_bool(0.4);
    let pad = "x".repeat(rng.random_range(0..240));
    let id = format!("{}-{number:06}", tenants[tenant].name);
    Planned {
        tenant,
        event_type: if matches!(to, To::Subscribers) {
            "stock.moved"
        } else {
            "order.paid"
        },
        guarantee: *Guarantee::ALL
            .choose(rng)
            .unwrap_or(&Guarantee::AtLeastOnce),
        ordering_key: ordered.then(|| format!("order-{}", rng.random_range(0..KEYS))),
        ttl_s: hopeless.then_some(HOPELESS_TTL_S),
        payload: payload(&id, &number.to_string(), &pad),
        id,
        to,
    }
}

fn one(rng: &mut StdRng, tenant: usize, receivers: &[Receiver], quotas: &mut Quotas) -> usize {
    let places: Vec<usize> = (0..receivers.len()).collect();
    let weigh = |&at: &usize| {
        let (weight, most) = receivers[at].weight();
        let so_far = quotas.get(&(tenant, at)).copied().unwrap_or(0);
        if so_far < most { weight } else { 0 }
    };
    // The first one has no quota, so there is always one to choose.
    let at = places.choose_weighted(rng, weigh).copied().unwrap_or(0);
    *quotas.entry((tenant, at)).or_default() += 1;
    at
}

/// Two to four that accept in the end.
fn several(rng: &mut StdRng, receivers: &[Receiver]) -> Vec<usize> {
    let hopeful: Vec<usize> = (0..receivers.len())
        .filter(|&at| receivers[at].weight().1 == usize::MAX && !receivers[at].is_hopeless())
        .collect();
    let count = rng.random_range(2..=4);
    let mut places: Vec<usize> = hopeful.sample(rng, count).copied().collect();
    places.sort_unstable();
    places
}

/// Deals the events out. All with one ordering key go to one caller, so that the order in which
/// they are submitted is certain.
fn callers(rng: &mut StdRng, events: &[Planned]) -> Vec<Caller> {
    let mut callers: Vec<Caller> = (0..TENANTS.len() * CALLERS)
        .map(|number| Caller {
            tenant: number / CALLERS,
            steps: Vec::new(),
            batch: if number % 3 == 0 { BATCH_ITEMS_MAX } else { 1 },
        })
        .collect();
    for (place, event) in events.iter().enumerate() {
        let within = match &event.ordering_key {
            Some(key) => key.bytes().map(usize::from).sum::<usize>(),
            None => rng.random_range(0..CALLERS),
        };
        let caller = &mut callers[event.tenant * CALLERS + within % CALLERS];
        let race = event.ordering_key.is_none() && rng.random_bool(0.04);
        caller.steps.push(if race {
            Step::Race(place)
        } else {
            Step::Submit(place)
        });
    }
    for caller in &mut callers {
        repeat(rng, &mut caller.steps);
    }
    callers
}

/// Adds repeats and conflicts, each somewhere after its event was submitted first.
fn repeat(rng: &mut StdRng, steps: &mut Vec<Step>) {
    let first = std::mem::take(steps);
    let mut later: Vec<(usize, Step)> = Vec::new();
    for (place, step) in first.iter().enumerate() {
        for (chance, again) in [
            (0.15, Step::Submit(step.event())),
            (0.03, Step::Conflict(step.event())),
        ] {
            if rng.random_bool(chance) {
                later.push((rng.random_range(place + 1..=first.len()), again));
            }
        }
    }
    later.sort_by_key(|(place, _)| *place);
    let mut later = later.into_iter().peekable();
    for (place, step) in first.into_iter().enumerate() {
        while let Some((_, again)) = later.next_if(|(at, _)| *at <= place) {
            steps.push(again);
        }
        steps.push(step);
    }
    steps.extend(later.map(|(_, again)| again));
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::{Plan, Step, To};

    #[test]
    fn a_seed_is_a_plan() {
        let text = |seed| format!("{:?}", Plan::draw(seed, 500, 5));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn every_event_is_submitted_before_it_is_repeated() {
        let plan = Plan::draw(1, 3_000, 5);
        let mut submitted = HashSet::new();
        let (mut repeats, mut races, mut conflicts) = (0, 0, 0);
        for caller in &plan.callers {
            for step in &caller.steps {
                let event = &plan.events[step.event()];
                assert_eq!(event.tenant, caller.tenant);
                let first = submitted.insert(step.event());
                match step {
                    Step::Submit(_) => repeats += usize::from(!first),
                    Step::Race(_) => races += 1,
                    Step::Conflict(_) => conflicts += 1,
                }
                assert!(!first || !matches!(step, Step::Conflict(_)));
            }
        }
        assert_eq!(submitted.len(), 3_000);
        assert!(
            repeats > 300 && races > 30 && conflicts > 50,
            "{repeats} {races} {conflicts}"
        );
    }

    #[test]
    fn one_ordering_key_has_one_caller_and_every_guarantee_and_receiver_is_used() {
        let plan = Plan::draw(3, 6_000, 5);
        let mut owners = BTreeSet::new();
        for (number, caller) in plan.callers.iter().enumerate() {
            for step in &caller.steps {
                if let Some(key) = &plan.events[step.event()].ordering_key {
                    owners.insert((caller.tenant, key.clone(), number));
                }
            }
        }
        let keys: BTreeSet<_> = owners
            .iter()
            .map(|(tenant, key, _)| (tenant, key))
            .collect();
        assert_eq!(keys.len(), owners.len());
        let guarantees: BTreeSet<_> = plan.events.iter().map(|event| event.guarantee).collect();
        assert_eq!(guarantees.len(), 3);
        let paths: BTreeSet<_> = plan
            .events
            .iter()
            .flat_map(|event| plan.paths(event))
            .collect();
        let receivers: usize = plan
            .tenants
            .iter()
            .map(|tenant| tenant.receivers.len())
            .sum();
        assert_eq!(paths.len(), receivers);
        let fanned = plan
            .events
            .iter()
            .filter(|e| !matches!(e.to, To::Receivers(_)));
        assert!(fanned.clone().count() > 100);
        assert!(fanned.clone().all(|event| plan.paths(event).len() > 1));
    }

    #[test]
    fn kills_fall_under_load_one_after_the_other() {
        let plan = Plan::draw(3, 2_000, 8);
        let steps: u64 = plan
            .callers
            .iter()
            .map(|caller| caller.steps.len() as u64)
            .sum();
        assert_eq!(plan.kills_at.len(), 8);
        assert!(plan.kills_at.is_sorted() && plan.kills_at[0] > 0);
        assert!(*plan.kills_at.last().expect("eight") < steps * 95 / 100);
    }
}
