//! One run: hosts, faults, healing, rest, and what is left afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use postrider::entropy::Entropy;
use postrider::registry::Registry;
use postrider::stamp::OuterIds;
use postrider::store::model::ModelStore;
use postrider_core::id::PolicyId;
use postrider_core::plant::Plant;
use postrider_core::policy::{BreakerPolicy, Policy, Schedule};
use postrider_core::time::{SECOND_MS, Time};

use crate::TICK_MS;
use crate::caller::{Caller, Errand};
use crate::chance::Chance;
use crate::check::{self, Verdict};
use crate::evidence::{Evidence, START_MS};
use crate::history_kit::fed::Layer;
use crate::history_kit::{History, Witnessed, judge};
use crate::net::Names;
use crate::node::{self, Dials, Ground, PACE, vault};
use crate::phone::{Phone, Step};
use crate::plan::{self, CALLERS, Fault, Kind, RECEIVERS, TROUBLE_MS};
use crate::providers::{DEVICES_COUNT, Providers};
use crate::receiver::{Receiver, Serves, Speaks};
use crate::settle::settle_in;
use crate::tls::{Certificates, Shown};

/// Longest simulated time from healing until everything is settled.
const REST_MS: u64 = 240_000;
/// Simulated time after that until nothing may be left open: every idle and request limit is over.
const QUIET_MS: u64 = 100_000;
/// Tasks of an idle node: the API's listener, the sweeper of idle connections.
const TASKS_MAX: usize = 2;

/// What is varied beside the seed.
#[derive(Clone, Copy, Default)]
pub struct Options {
    pub plant: Option<Plant>,
}

/// What a run came to.
pub struct Report {
    pub seed: u64,
    pub log: Vec<String>,
    pub verdict: Verdict,
    pub history: History,
    pub simulated_ms: u64,
}

/// A multiple of the lists over which tokio spreads the tasks of a runtime, by their ids.
const TASK_LISTS: u64 = 64;

/// Spends task ids up to the next multiple. They are counted through the whole process, and say in
/// which order a crash drops tasks: a seed would mean something else after another one.
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let id = async || tokio::spawn(async { tokio::task::id().to_string().parse() }).await;
        while id()
            .await
            .is_ok_and(|id: Result<u64, _>| id.is_ok_and(|id| id % TASK_LISTS != 0))
        {}
    });
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Report {
    align_task_ids();
    World::build(seed, options).play()
}

struct World {
    seed: u64,
    sim: turmoil::Sim<'static>,
    ground: Ground,
    providers: Arc<Providers>,
    receivers: Vec<Receiver>,
    polite: Arc<AtomicBool>,
    healed: Arc<AtomicBool>,
    errands_open: Arc<AtomicUsize>,
    asked: Vec<crate::caller::Event>,
    /// Faults under way, with when they end.
    under_way: Vec<(u64, Kind)>,
    step: u64,
    _dir: tempfile::TempDir,
}

impl World {
    fn build(seed: u64, options: Options) -> World {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(Duration::from_millis(TICK_MS))
            .simulation_duration(Duration::from_secs(100_000))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(60))
            .tcp_capacity(4_096)
            .build();
        let dir = tempfile::tempdir().expect("a directory");
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        let evidence = Evidence::new(Arc::clone(&now_ms));
        let certificates = Certificates::new(&RECEIVERS);
        let providers = Arc::new(Providers::new());
        let settled = settle_in(dir.path(), &certificates, &providers);
        let ground = Ground {
            dir: dir.path().to_owned(),
            store: ModelStore::default(),
            now_ms,
            names: Names::default(),
            evidence: evidence.clone(),
            entropy: Entropy::seeded(seed),
            disk: Chance::of(seed, "disk"),
            plant: options.plant,
            dials: Dials::default(),
        };
        let (polite, healed) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let on_ground = ground.clone();
        sim.host("node", move || node::run(on_ground.clone()));
        let receivers = receivers(seed, &ground, &polite, &Arc::new(certificates), &providers);
        for receiver in receivers.clone() {
            sim.host(receiver.name, move || receiver.clone().run());
        }
        let steps = plan::steps(seed);
        let errands = plan::errands(seed, &settled.hooks, &settled.devices);
        let asked = errands.iter().flatten();
        let asked: Vec<_> = asked.flat_map(|errand| errand.events.clone()).collect();
        let asking = steps.iter().flatten().filter(|(_, step)| step.asks());
        let open = errands.iter().map(Vec::len).sum::<usize>() + asking.count();
        let errands_open = Arc::new(AtomicUsize::new(open));
        let caller = |name: &'static str| Caller {
            name,
            api_key: settled.api_key.clone(),
            chance: Chance::of(seed, name),
            evidence: evidence.clone(),
            healed: Arc::clone(&healed),
            open: Arc::clone(&errands_open),
        };
        let mut steps = steps.into_iter().enumerate();
        for (name, errands) in CALLERS.iter().zip(errands) {
            let steps = steps.by_ref().take(DEVICES_COUNT.div_ceil(CALLERS.len()));
            sim.client(
                *name,
                ask(caller(name), errands, steps.collect(), &providers),
            );
        }
        World {
            seed,
            sim,
            ground,
            providers,
            receivers,
            polite,
            healed,
            errands_open,
            asked,
            under_way: Vec::new(),
            step: 0,
            _dir: dir,
        }
    }

    fn play(mut self) -> Report {
        let mut faults = plan::faults(self.seed).into_iter().peekable();
        while self.at_ms() < TROUBLE_MS {
            let at_ms = self.at_ms();
            let (over, on): (Vec<_>, Vec<_>) =
                self.under_way.drain(..).partition(|(end, _)| *end <= at_ms);
            self.under_way = on;
            over.into_iter().for_each(|(_, kind)| self.mend(kind));
            while let Some(fault) = faults.next_if(|fault| fault.at_ms <= at_ms) {
                self.begin(&fault);
            }
            self.pass();
        }
        self.heal();
        let healed_at = self.at_ms();
        while !self.is_at_rest() && self.at_ms() < healed_at + REST_MS {
            self.pass();
        }
        if !self.is_at_rest() {
            let (errands, busy) = (self.errands_open.load(Relaxed), self.busy());
            self.ground.evidence.wrong(format!(
                "liveness: {errands} errands open, {busy} unsettled or under way"
            ));
        }
        let rested_at = self.at_ms();
        while !self.is_quiet() && self.at_ms() < rested_at + QUIET_MS {
            self.pass();
        }
        if !self.is_quiet() {
            let dials = &self.ground.dials;
            let (out, inward) = (dials.out.count(), dials.inward.count());
            let (tasks, inside) = (dials.tasks.load(Relaxed), dials.inside.load(Relaxed));
            self.ground.evidence.wrong(format!(
                "leak: {out} connections out, {inward} in, {inside} counted, {tasks} tasks are left"
            ));
        }
        let rest = Witnessed::Rest(self.is_at_rest());
        self.ground.evidence.witness(rest);
        let simulated_ms = self.at_ms();
        let panicked = self.ground.dials.panicked.load(Relaxed);
        let World {
            sim,
            ground,
            asked,
            seed,
            ..
        } = self;
        // Hosts end before their ground is looked at.
        drop(sim);
        let (_, reader) = ground.store.open();
        let mut seen = ground.evidence.take();
        let mut history = ground.evidence.tape.take();
        seen.infer_attempts(&check::deliveries(&*reader), &*reader, &mut history);
        if panicked > 0 {
            seen.counts.insert("attempt: panicked", panicked);
        }
        let registry = Registry::open(&ground.dir, &vault(), PACE).expect("a registry");
        let asked = [asked, std::mem::take(&mut seen.asked)].concat();
        let mut verdict = check::all(&mut seen, &*reader, &registry, &asked);
        let held = Witnessed::Held(check::deliveries(&*reader), check::journal(&*reader));
        history.push((Time(ground.evidence.now_ms()), held));
        let complaints = judge(Layer::Shell, &history);
        let complaints = complaints.iter().map(ToString::to_string);
        verdict.violations.extend(complaints);
        Report {
            seed,
            log: seen.log,
            verdict,
            history,
            simulated_ms,
        }
    }

    fn at_ms(&self) -> u64 {
        self.step * TICK_MS
    }

    fn pass(&mut self) {
        self.step += 1;
        let now = START_MS + i64::try_from(self.at_ms()).unwrap_or(i64::MAX);
        self.ground.now_ms.store(now, Relaxed);
        if let Err(error) = self.sim.step() {
            self.ground
                .evidence
                .wrong(format!("a host failed: {error}"));
        }
    }

    fn busy(&self) -> u64 {
        self.ground.dials.busy.load(Relaxed)
    }

    fn is_at_rest(&self) -> bool {
        self.errands_open.load(Relaxed) == 0 && self.busy() == 0
    }

    fn is_quiet(&self) -> bool {
        let dials = &self.ground.dials;
        let open = dials.out.count() + dials.inward.count();
        let inside = dials.inside.load(Relaxed);
        open == 0 && inside == 0 && dials.tasks.load(Relaxed) <= TASKS_MAX
    }

    fn begin(&mut self, fault: &Fault) {
        let kind = fault.kind;
        let same = |(_, other): &(u64, Kind)| host(*other).is_some() && host(*other) == host(kind);
        if self.under_way.iter().any(same) {
            // One at a time for one host: they would mend each other.
            return;
        }
        self.ground
            .evidence
            .say(format_args!("{kind:?} for {} ms", fault.for_ms));
        self.ground.evidence.count(kind.label());
        self.under_way.push((fault.at_ms + fault.for_ms, kind));
        let (sim, dials) = (&mut self.sim, &self.ground.dials);
        match kind {
            Kind::Partition(peer) => sim.partition("node", peer),
            Kind::OneWay(from, to) => sim.partition_oneway(from, to),
            Kind::Hold(peer) => sim.hold("node", peer),
            Kind::Lossy(peer) => sim.set_link_fail_rate("node", peer, 0.01),
            Kind::Slow(peer, ms) => {
                sim.set_link_latency("node", peer, Duration::from_millis(ms));
            }
            Kind::Crash { host, power } => {
                if power {
                    // Nobody hears of it: what the host's end of its connections says is lost.
                    others(host).for_each(|other| sim.partition(host, other));
                }
                sim.crash(host);
                if host == "node" {
                    dials.busy.store(1, Relaxed);
                }
            }
            Kind::Name(name, naming) => self.ground.names.set(name, naming),
            Kind::Certificate(name, shown) => self.show(name, shown),
            Kind::SlowDisk(ms) => dials.commit_slow_ms.store(ms, Relaxed),
            Kind::FullDisk => self.ground.store.set_full(true),
            Kind::HandlerPanics => dials.panics_one_in.store(4, Relaxed),
            Kind::Policy => {
                dials.policy.fetch_add(1, Relaxed);
            }
            Kind::ExpireTokens => self.providers.expire_tokens(),
            Kind::RevokeTokens => self.providers.revoke_tokens(),
        }
    }

    fn mend(&mut self, kind: Kind) {
        self.ground.evidence.say(format_args!("{kind:?} is over"));
        let (sim, dials) = (&mut self.sim, &self.ground.dials);
        match kind {
            Kind::Partition(peer) => sim.repair("node", peer),
            Kind::OneWay(from, to) => sim.repair_oneway(from, to),
            Kind::Hold(peer) => sim.release("node", peer),
            Kind::Lossy(peer) => {
                sim.set_link_fail_rate("node", peer, 0.0);
                sim.repair("node", peer);
            }
            Kind::Slow(peer, _) => {
                sim.set_link_latency("node", peer, Duration::from_millis(20));
            }
            Kind::Crash { host, power } => {
                if power {
                    others(host).for_each(|other| sim.repair(host, other));
                }
                sim.bounce(host);
            }
            Kind::Name(name, _) => self.ground.names.set(name, Default::default()),
            Kind::Certificate(name, _) => self.show(name, Shown::Good),
            Kind::SlowDisk(_) => dials.commit_slow_ms.store(0, Relaxed),
            Kind::FullDisk => self.ground.store.set_full(false),
            Kind::HandlerPanics => dials.panics_one_in.store(0, Relaxed),
            Kind::Policy | Kind::ExpireTokens | Kind::RevokeTokens => {}
        }
    }

    fn show(&self, name: &str, shown: Shown) {
        for receiver in self
            .receivers
            .iter()
            .filter(|receiver| receiver.name == name)
        {
            *receiver.shown.lock() = shown;
        }
    }

    fn heal(&mut self) {
        for (_, kind) in std::mem::take(&mut self.under_way) {
            self.mend(kind);
        }
        self.ground.names.heal();
        self.ground.evidence.say("everything is mended");
        self.ground.evidence.witness(Witnessed::Calm);
        self.polite.store(true, Relaxed);
        self.healed.store(true, Relaxed);
    }
}

/// Runs the errands of one host: those of an application, and those of devices.
fn ask(
    caller: Caller,
    errands: Vec<Errand>,
    steps: Vec<(usize, Vec<(u64, Step)>)>,
    providers: &Arc<Providers>,
) -> impl Future<Output = turmoil::Result> + use<> {
    let phone = |(device, steps): (usize, Vec<(u64, Step)>)| Phone {
        device,
        steps,
        providers: Arc::clone(providers),
        caller: caller.clone(),
    };
    let phones: Vec<Phone> = steps.into_iter().map(phone).collect();
    async {
        let mut at_work = tokio::task::JoinSet::new();
        phones.into_iter().for_each(|phone| {
            at_work.spawn(phone.run());
        });
        caller.run(errands).await?;
        while at_work.join_next().await.is_some() {}
        Ok(())
    }
}

fn receivers(
    seed: u64,
    ground: &Ground,
    polite: &Arc<AtomicBool>,
    certificates: &Arc<Certificates>,
    providers: &Arc<Providers>,
) -> Vec<Receiver> {
    let (_, reader) = ground.store.open();
    let receiver = |(place, name): (usize, &&'static str)| Receiver {
        name,
        speaks: SPEAKS[place],
        serves: match place {
            0..4 => Serves::Hooks,
            8 => Serves::Tokens,
            _ => Serves::Pushes,
        },
        providers: Arc::clone(providers),
        certificates: Arc::clone(certificates),
        shown: Arc::new(Mutex::default()),
        polite: Arc::clone(polite),
        chance: Chance::of(seed, name),
        evidence: ground.evidence.clone(),
        reader: reader.clone(),
        ids: Arc::new(OuterIds::new(&vault())),
    };
    RECEIVERS.iter().enumerate().map(receiver).collect()
}

/// What each receiver speaks, in their order.
pub const SPEAKS: [Speaks; 9] = [
    Speaks::Http1,
    Speaks::Http1OverTls,
    Speaks::Http2 { streams_max: 100 },
    Speaks::Http2 { streams_max: 1 },
    Speaks::Http1OverTls,
    Speaks::Http2 { streams_max: 100 },
    Speaks::Http2 { streams_max: 1 },
    Speaks::Http2 { streams_max: 100 },
    Speaks::Http1OverTls,
];

/// The host or link that a fault keeps for itself.
fn host(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Partition(peer) | Kind::Hold(peer) | Kind::Lossy(peer) | Kind::Slow(peer, _) => {
            Some(peer)
        }
        Kind::OneWay("node", peer) | Kind::OneWay(peer, _) => Some(peer),
        Kind::Crash { host, .. } => Some(host),
        Kind::Name(..) => Some("names"),
        Kind::Certificate(..) => Some("certificates"),
        Kind::SlowDisk(_) | Kind::FullDisk => Some("disk"),
        Kind::HandlerPanics => Some("handlers"),
        Kind::Policy | Kind::ExpireTokens | Kind::RevokeTokens => None,
    }
}

/// Everybody whom this host has to do with.
fn others(host: &str) -> impl Iterator<Item = &'static str> + use<> {
    let is_node = host == "node";
    let peers = CALLERS.into_iter().chain(RECEIVERS);
    let node = std::iter::once("node");
    peers
        .filter(move |_| is_node)
        .chain(node.filter(move |_| !is_node))
}

/// Short waits, so that a run sees many attempts.
pub fn quick() -> Policy {
    Policy {
        name: "quick".into(),
        schedule: Schedule::Exponential {
            base_ms: 400,
            cap_ms: 4 * SECOND_MS,
        },
        attempts_max: 7,
        throttle_ms: 3 * SECOND_MS,
        breaker: BreakerPolicy {
            open_ms: 4 * SECOND_MS,
            ..Policy::brief(PolicyId(0)).breaker
        },
        ..Policy::brief(PolicyId(0))
    }
}
