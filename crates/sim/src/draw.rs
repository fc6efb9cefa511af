//! Drawing a plan from a seed: the standard workload and the standard faults.
//!
//! Absent here: anything that depends on how the run goes.

use std::sync::Arc;

use postrider_core::endpoint::Channel;
use postrider_core::id::{EndpointId, PolicyId, RouteId, TenantId};
use postrider_core::policy::{
    BreakerPolicy, Guarantee, HeadOfLine, Jitter, Policy, RatePolicy, Schedule,
};
use postrider_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

use crate::fault::{Behaviour, Fault, FaultKind};
use crate::plan::{Change, EndpointSpec, Item, NODES, Options, Plan, SHARDS, What, Wish};
use crate::rng::Rng;

/// Deliveries that a plan asks for at the least, repeats not counted.
pub const DELIVERIES_MIN: usize = 240;
/// Faults of the surroundings in a plan; those of receivers come on top.
const FAULTS: i64 = 10;
/// Spells of bad behaviour of receivers in a plan.
const SPELLS: i64 = 10;
/// Span in which things happen, in milliseconds.
const ACTIVE_MS: i64 = 15 * MINUTE_MS;
/// When the faults are over.
const CALM_MS: i64 = 16 * MINUTE_MS;
/// Separates what the plan draws from what the run draws.
const SALT: u64 = 0x706c_616e;

/// The plan of a seed.
#[must_use]
pub fn draw(seed: u64) -> Plan {
    let mut rng = Rng::new(seed ^ SALT);
    let options = options(&mut rng);
    let mut items = Vec::with_capacity(400);
    changes(&mut rng, &options, &mut items);
    devices(&mut rng, &options, &mut items);
    routes(&mut rng, &options, &mut items);
    let since = since(&options, &items);
    submissions(&mut rng, &since, &mut items);
    pauses(&mut rng, &mut items);
    let busy: Vec<i64> = items.iter().map(|item| item.at_ms).collect();
    for _ in 0..FAULTS + rng.between(0, 6) {
        // Most things break while much is going on.
        let at_ms = match rng.percent(70) {
            true => rng.pick(&busy) + rng.between(0, 30),
            false => rng.between(SECOND_MS, ACTIVE_MS),
        };
        let what = What::Fault(fault(&mut rng, options.lease_ms));
        items.push(Item { at_ms, what });
    }
    for _ in 0..SPELLS + rng.between(0, 8) {
        let what = What::Fault(spell(&mut rng, options.endpoints.len()));
        let at_ms = rng.between(0, ACTIVE_MS);
        items.push(Item { at_ms, what });
    }
    Plan {
        seed,
        options,
        items,
    }
}

fn options(rng: &mut Rng) -> Options {
    let policies_first = 4;
    let policies = (1..=7)
        .map(|id| Arc::new(policy(rng, PolicyId(id))))
        .collect();
    let tenants = rng.between(2, 4);
    let routes: Vec<RouteId> = (1..=4).map(RouteId).collect();
    let endpoints_first = usize::try_from(rng.between(6, 10)).unwrap_or(6);
    let endpoints = (0..endpoints_first as u64 + 4)
        .map(|place| endpoint(rng, EndpointId(place + 1), tenants))
        .collect();
    let skew = |rng: &mut Rng| match rng.percent(60) {
        true => rng.between(-200, 200),
        false => rng.between(-2 * MINUTE_MS, 2 * MINUTE_MS),
    };
    Options {
        slots_max: rng.pick(&[2, 8, 64, 4_096]),
        window_max: rng.pick(&[12, 40, 2_000]),
        records_max: rng.pick(&[6, 40, 10_000]),
        commit_records_max: rng.pick(&[1, 4, 512]),
        lease_ms: rng.pick(&[9, 15, 30]) * SECOND_MS,
        retention_ms: rng.pick(&[0, 2, 30]) * MINUTE_MS,
        skew_ms: std::array::from_fn::<i64, NODES, _>(|_| skew(rng)),
        pauses_percent: rng.pick(&[0, 2, 10]),
        answers_lost_percent: rng.pick(&[0, 3, 15]),
        calm_ms: CALM_MS,
        policies,
        policies_first,
        endpoints,
        endpoints_first,
        routes,
    }
}

/// Half of the endpoints are systems, the others devices, whose credentials some share.
fn endpoint(rng: &mut Rng, id: EndpointId, tenants: i64) -> EndpointSpec {
    let channel = rng.pick(&[
        Channel::Webhook,
        Channel::Webhook,
        Channel::Webhook,
        Channel::WebPush,
        Channel::Apns,
        Channel::Fcm,
    ]);
    let (one, other) = (RouteId(1), RouteId(channel as u32));
    EndpointSpec {
        id,
        tenant: TenantId(u32::try_from(rng.between(1, tenants)).unwrap_or(1)),
        policy: PolicyId(u32::try_from(rng.between(1, 4)).unwrap_or(1)),
        channel,
        route: channel.is_push().then(|| rng.pick(&[one, other])),
    }
}

/// A version of a policy: drawn, or what a push channel has by default.
fn policy(rng: &mut Rng, id: PolicyId) -> Policy {
    match rng.below(8) {
        0 => Policy::web_push(id),
        1 => Policy::apns(id),
        2 => Policy::fcm(id),
        _ => drawn(rng, id),
    }
}

fn drawn(rng: &mut Rng, id: PolicyId) -> Policy {
    let base_ms = rng.pick(&[200, 1_000, 3_000]);
    let cap_ms = rng.pick(&[10, 40]) * SECOND_MS;
    let rate = RatePolicy {
        per_second_milli: rng.pick(&[800, 3_000, 20_000]),
        burst: rng.pick(&[1, 3, 10]),
    };
    Policy {
        schedule: match rng.below(3) {
            0 => Schedule::Exponential { base_ms, cap_ms },
            1 => Schedule::Linear {
                step_ms: base_ms,
                cap_ms,
            },
            _ => Schedule::Fixed {
                waits_ms: vec![base_ms, 5 * SECOND_MS, 20 * SECOND_MS],
            },
        },
        jitter: rng.pick(&[Jitter::None, Jitter::Equal, Jitter::Full]),
        attempts_max: rng.pick(&[2, 4, 6, 9]),
        throttle_ms: rng.pick(&[1, 8]) * SECOND_MS,
        retry_after_cap_ms: rng.pick(&[5, 30]) * SECOND_MS,
        head_of_line: rng.pick(&[HeadOfLine::Block, HeadOfLine::Skip, HeadOfLine::Park]),
        breaker: BreakerPolicy {
            error_percent: rng.pick(&[30, 60]),
            answers_min: rng.pick(&[3, 6]),
            answers_max: 20,
            window_ms: MINUTE_MS,
            open_ms: rng.pick(&[4, 15]) * SECOND_MS,
        },
        rate: rng.percent(40).then_some(rate),
        adaptive: rng.percent(60),
        release_on_definite_failure: rng.percent(30),
        slots_max: rng.pick(&[1, 3, 16]),
        ..Policy::brief(id)
    }
}

/// Since when endpoints and policies exist, by their places.
struct Since {
    endpoints: Vec<i64>,
    policies: Vec<i64>,
}

fn since(options: &Options, items: &[Item]) -> Since {
    let mut since = Since {
        endpoints: vec![0; options.endpoints.len()],
        policies: vec![0; options.policies.len()],
    };
    for item in items {
        match item.what {
            What::Endpoint {
                place,
                change: Change::Register,
            } => since.endpoints[place] = item.at_ms,
            What::Policy { place } => since.policies[place] = item.at_ms,
            _ => {}
        }
    }
    since
}

/// One of those that exist by then.
fn existing(rng: &mut Rng, since: &[i64], at_ms: i64) -> usize {
    let there: Vec<usize> = (0..since.len()).filter(|it| since[*it] <= at_ms).collect();
    rng.pick(&there)
}

fn submissions(rng: &mut Rng, since: &Since, items: &mut Vec<Item>) {
    let mut deliveries = 0;
    let mut key = 0;
    let mut past: Vec<(i64, Wish)> = Vec::new();
    while deliveries < DELIVERIES_MIN {
        let burst = rng.pick(&[1, 1, 1, 4, 12]);
        let begins_ms = rng.between(0, ACTIVE_MS - MINUTE_MS);
        for _ in 0..burst {
            key += 1;
            let at_ms = begins_ms + rng.between(0, 400);
            let wish = wish(rng, since, (key, at_ms), &past);
            deliveries += wish.endpoints.len();
            repeats(rng, at_ms, &wish, items);
            if rng.percent(6) {
                let at_ms = at_ms + rng.pick(&[2, 40, 3_000, 30_000]);
                let what = What::Cancel { key };
                items.push(Item { at_ms, what });
            }
            past.push((at_ms, wish.clone()));
            let what = What::Submit(wish);
            items.push(Item { at_ms, what });
        }
    }
}

/// The same again: by racers at the same moment, inside the dedupe window, about its end, after it;
/// and another content under the same key.
fn repeats(rng: &mut Rng, at_ms: i64, wish: &Wish, items: &mut Vec<Item>) {
    let mut again = |at_ms: i64, body: u64| {
        let what = What::Submit(Wish {
            body,
            ..wish.clone()
        });
        items.push(Item { at_ms, what });
    };
    let racing = match wish.guarantee {
        Guarantee::EffectivelyOnce => 25,
        _ => 10,
    };
    if rng.percent(racing) {
        for _ in 0..rng.between(1, 4) {
            again(at_ms + rng.between(0, 8), wish.body);
        }
    }
    if rng.percent(12) {
        again(
            at_ms + rng.between(0, wish.window_ms.min(5 * MINUTE_MS)),
            wish.body,
        );
    }
    if rng.percent(6) && wish.window_ms < 4 * MINUTE_MS {
        again(at_ms + wish.window_ms + rng.between(-200, 2_000), wish.body);
        again(
            at_ms + wish.window_ms + rng.between(0, MINUTE_MS),
            wish.body,
        );
    }
    if rng.percent(4) {
        again(at_ms + rng.between(0, MINUTE_MS), wish.body + 1);
    }
}

fn wish(rng: &mut Rng, since: &Since, (key, at_ms): (u64, i64), past: &[(i64, Wish)]) -> Wish {
    let replays = (rng.percent(3) && !past.is_empty()).then(|| {
        past[usize::try_from(rng.below(past.len() as u64)).unwrap_or(0)]
            .1
            .clone()
    });
    if let Some(replayed) = replays {
        return Wish {
            key,
            replays: Some(replayed.key),
            ..replayed
        };
    }
    let mut endpoints: Vec<usize> = (0..rng.pick(&[1, 1, 1, 1, 2, 5]))
        .map(|_| existing(rng, &since.endpoints, at_ms))
        .collect();
    // Half of what is submitted goes to two endpoints, so that lines form there.
    if rng.percent(50) {
        endpoints = vec![usize::try_from(rng.below(2)).unwrap_or(0)];
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    Wish {
        key,
        body: 10 * key,
        endpoints,
        policy: existing(rng, &since.policies, at_ms),
        guarantee: rng.pick(&Guarantee::ALL),
        ordering_key: rng.percent(35).then(|| rng.below(3)),
        collapse_key: rng.percent(12).then(|| rng.below(2)),
        due_ms: rng.pick(&[0, 0, 0, 0, 0, 500, 20_000, 6 * MINUTE_MS]),
        ttl_ms: rng.pick(&[
            0,
            300,
            3_000,
            30_000,
            4 * MINUTE_MS,
            6 * HOUR_MS,
            6 * HOUR_MS,
            3 * DAY_MS,
            3 * DAY_MS,
            3 * DAY_MS,
        ]),
        window_ms: rng.pick(&[2_000, 30_000, 2 * MINUTE_MS, 6 * HOUR_MS, DAY_MS]),
        replays: None,
    }
}

fn changes(rng: &mut Rng, options: &Options, items: &mut Vec<Item>) {
    for place in options.endpoints_first..options.endpoints.len() {
        let change = Change::Register;
        let what = What::Endpoint { place, change };
        let at_ms = rng.between(0, ACTIVE_MS / 2);
        items.push(Item { at_ms, what });
    }
    for place in options.policies_first..options.policies.len() {
        let at_ms = rng.between(0, ACTIVE_MS);
        let what = What::Policy { place };
        items.push(Item { at_ms, what });
    }
    for _ in 0..rng.between(4, 9) {
        let place = usize::try_from(rng.below(options.endpoints.len() as u64)).unwrap_or(0);
        let at_ms = rng.between(0, ACTIVE_MS);
        let policy = PolicyId(u32::try_from(rng.between(1, 4)).unwrap_or(1));
        let change = match rng.below(10) {
            0 => Change::Delete,
            1..=4 => Change::Pause,
            5..=7 => Change::Resume,
            _ => Change::Pace(policy),
        };
        let what = What::Endpoint { place, change };
        items.push(Item { at_ms, what });
        if change == Change::Pause {
            let change = Change::Resume;
            let what = What::Endpoint { place, change };
            let at_ms = at_ms + rng.between(100, 2 * MINUTE_MS);
            items.push(Item { at_ms, what });
        }
    }
}

/// Devices go without a word, and some register again.
fn devices(rng: &mut Rng, options: &Options, items: &mut Vec<Item>) {
    let specs = options.endpoints.iter().enumerate();
    let devices: Vec<usize> = specs
        .filter_map(|(place, spec)| spec.channel.is_push().then_some(place))
        .collect();
    for place in devices {
        let mut change = |at_ms, change| {
            let what = What::Endpoint { place, change };
            items.push(Item { at_ms, what });
        };
        let at_ms = rng.between(MINUTE_MS, ACTIVE_MS);
        if rng.percent(30) {
            change(at_ms, Change::Refresh(0));
        }
        if rng.percent(60) {
            let at_ms = rng.between(MINUTE_MS, ACTIVE_MS);
            let back_ms = at_ms + rng.pick(&[20, 400, 4_000, 60_000]);
            let unheard_ms = rng.pick(&[0, 3_000, 90_000]);
            change(at_ms, Change::Leave);
            change(back_ms, Change::Refresh(unheard_ms));
        } else if rng.percent(30) {
            change(at_ms, Change::Leave);
        }
    }
}

/// Routes are paused by hand and opened again, and opened where nobody paused them: their
/// credentials were renewed.
fn routes(rng: &mut Rng, options: &Options, items: &mut Vec<Item>) {
    for _ in 0..rng.between(1, 4) {
        let route = rng.pick(&options.routes);
        let at_ms = rng.between(0, ACTIVE_MS);
        if rng.percent(70) {
            let what = What::Route { route, open: false };
            items.push(Item { at_ms, what });
        }
        let at_ms = at_ms + rng.between(100, 3 * MINUTE_MS);
        let what = What::Route { route, open: true };
        items.push(Item { at_ms, what });
    }
}

/// Endpoints are paused while something is on its way to them.
fn pauses(rng: &mut Rng, items: &mut Vec<Item>) {
    let sent: Vec<(i64, usize)> = items
        .iter()
        .filter_map(|item| match &item.what {
            What::Submit(wish) => Some((item.at_ms, *wish.endpoints.first()?)),
            _ => None,
        })
        .collect();
    for _ in 0..rng.between(4, 10) {
        let (at_ms, place) = rng.pick(&sent);
        let mut change = |at_ms, change| {
            let what = What::Endpoint { place, change };
            items.push(Item { at_ms, what });
        };
        // News takes a while: some of them are sent ahead.
        let at_ms = at_ms + rng.between(-200, 10);
        change(at_ms, Change::Pause);
        change(at_ms + rng.between(50, 20_000), Change::Resume);
    }
}

fn fault(rng: &mut Rng, lease_ms: i64) -> Fault {
    let infra = FaultKind::ALL.len() as u64 - 1;
    let mut kind = FaultKind::ALL[usize::try_from(rng.below(infra)).unwrap_or(0)];
    if rng.percent(25) {
        kind = FaultKind::NodeCrash;
    }
    let for_ms = match kind {
        FaultKind::NodeCrash => rng.pick(&[50, 2_000, 40_000]),
        FaultKind::NodeStall => rng.pick(&[1_000, 8_000, 25_000, 70_000, 10 * MINUTE_MS]),
        FaultKind::DiskFullUp => rng.pick(&[1_000, 10_000]),
        // Some end just when another has taken over, or is about to.
        FaultKind::StoreCutTo | FaultKind::StoreCutFrom if rng.percent(60) => {
            lease_ms + rng.between(-1_000, 3_000)
        }
        _ => rng.pick(&[500, 5_000, 20_000, 60_000]),
    };
    let jump_ms = rng.pick(&[
        -10 * 365 * DAY_MS,
        -HOUR_MS,
        -3_000,
        700,
        30_000,
        HOUR_MS,
        10 * 365 * DAY_MS,
    ]);
    Fault {
        kind,
        target: usize::try_from(rng.below(NODES.max(SHARDS) as u64)).unwrap_or(0),
        for_ms,
        behaviour: Behaviour::Takes(0),
        jump_ms,
    }
}

fn spell(rng: &mut Rng, endpoints: usize) -> Fault {
    let retry_after = rng.pick(&[None, Some(2), Some(20), Some(3_600)]);
    let behaviour = match rng.below(17) {
        0 => Behaviour::Takes(4_000),
        1 => Behaviour::Says(503, retry_after),
        2 => Behaviour::Says(429, retry_after),
        3 => Behaviour::Says(rng.pick(&[400, 401, 404, 413, 418, 302]), None),
        4 => Behaviour::Says(rng.pick(&[408, 425, 500, 502]), None),
        5 => match rng.percent(30) {
            true => Behaviour::Says(410, None),
            false => Behaviour::Says(429, Some(3)),
        },
        6 => Behaviour::Refuses,
        7 => Behaviour::ResetsBefore,
        8 => Behaviour::ResetsAfter,
        9 => Behaviour::Hangs,
        10 => Behaviour::PretendsToTake,
        11 => Behaviour::TakesAndFails,
        12 => Behaviour::TakesTooLate,
        13 => Behaviour::Flaps,
        14 => Behaviour::Unprocessed,
        15 => Behaviour::Blocks,
        _ => Behaviour::Anything,
    };
    // The two endpoints with lines are those that most of this happens to.
    let target = match rng.percent(50) {
        true => usize::try_from(rng.below(2)).unwrap_or(0),
        false => usize::try_from(rng.below(endpoints as u64)).unwrap_or(0),
    };
    Fault {
        kind: FaultKind::Receiver,
        target,
        for_ms: rng.between(2_000, 90_000),
        behaviour,
        jump_ms: 0,
    }
}
