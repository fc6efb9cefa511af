//! The node under test: everything of production but its two threads, its disk and its sockets.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use postrider::clock::Clock;
use postrider::config;
use postrider::entropy::Entropy;
use postrider::http::intake::{Intake, Load};
use postrider::http::{self, Api};
use postrider::observe::{Metrics, Observer};
use postrider::receipts::ReceiptTokens;
use postrider::registry::{KeyPace, Registry};
use postrider::run::{Announcer, Gauges, Inline, Parts, Start, Unsettled};
use postrider::stamp::OuterIds;
use postrider::store::model::{ModelLedger, ModelStore};
use postrider::store::{Ledger, Reader, Recovery};
use postrider::transport::lines::{Push, ReactionTables};
use postrider::transport::{Limits, NetworkPolicy, Transport};
use postrider::vault::Vault;
use postrider_core::cause::Cause;
use postrider_core::engine::{Config, Origin, Reply};
use postrider_core::event::Submission;
use postrider_core::id::DeliveryId;
use postrider_core::plant::Plant;
use postrider_core::time::Time;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::evidence::Evidence;
use crate::net::{Names, Open, SimDialer, SimListener, SimResolver};
use crate::taps::{Heard, Overheard, Seen, Tap};
use crate::{TICK_MS, pass_ms};

/// Where the API listens.
pub const API_PORT: u16 = 8_400;
/// Bytes of events kept at hand: few, so that many are read back for their attempts.
const EVENTS_BYTES_MAX: usize = 8 * 1_024;
/// Longest ordinary commit.
const COMMIT_MS_MAX: u64 = 25;

/// A pace that nobody reaches: it is kept by the machine's clock, which no seed knows.
pub const PACE: KeyPace = KeyPace {
    requests_per_s: NonZeroU32::new(1_000_000).unwrap(),
    burst: NonZeroU32::new(1_000_000).unwrap(),
};

/// Time limits and bounds of the pool in every run.
fn limits() -> Limits {
    Limits {
        idle_shared_ms: 10_000,
        idle_push_ms: 10_000,
        idle_host_max: 4,
        idle_total_max: 8,
        ..Limits::default()
    }
}

/// What is left of a node when it crashes, and what others may see and set of it.
#[derive(Clone)]
pub struct Ground {
    pub dir: PathBuf,
    pub store: ModelStore,
    pub now_ms: Arc<AtomicI64>,
    pub names: Names,
    pub evidence: Evidence,
    pub entropy: Entropy,
    pub disk: Chance,
    pub plant: Option<Plant>,
    pub dials: Dials,
}

/// What others may see and set.
#[derive(Clone, Default)]
pub struct Dials {
    pub out: Open,
    pub inward: Open,
    /// Connections that the API counts as open.
    pub inside: Arc<AtomicI64>,
    /// Tasks of the node's runtime.
    pub tasks: Arc<AtomicUsize>,
    /// Unsettled deliveries, and submissions and records under way.
    pub busy: Arc<AtomicU64>,
    /// Added to every commit.
    pub commit_slow_ms: Arc<AtomicU64>,
    /// One in so many submissions panics in its handler; 0 is none.
    pub panics_one_in: Arc<AtomicU64>,
    /// Another version of the network policy is put in force when this changes.
    pub policy: Arc<AtomicU64>,
    /// Attempts that panicked, over all lives of the node.
    pub panicked: Arc<AtomicU64>,
}

/// The key of every vault here.
pub fn vault() -> Vault {
    Vault::of(&[7; 32])
}

/// Devices are not asked for receipts here.
fn receipts() -> ReceiptTokens {
    ReceiptTokens::new(&vault(), None)
}

/// What the node may reach: the simulated network and nothing else.
pub fn network(version: u64) -> NetworkPolicy {
    NetworkPolicy {
        version,
        allow_http: true,
        allow: vec!["192.168.0.0/16".parse().expect("a network")],
        ..NetworkPolicy::default()
    }
}

/// Runs until the host crashes.
pub async fn run(ground: Ground) -> turmoil::Result {
    let vault = vault();
    let (mut ledger, reader) = ground.store.open();
    let mut unsettled = Unsettled::default();
    let recovery = ledger.recover(&mut |delivery| unsettled.push(delivery))?;
    let registry = Arc::new(Registry::open(&ground.dir, &vault, PACE)?);
    let gone = recovery.retired.iter();
    let gone: Vec<_> = gone.map(|(id, at)| (*id, Cause::Gone, *at)).collect();
    let config = ground.config();
    let tap = Tap::begins(&ground.evidence, recovery.epoch, &config);
    tap.surroundings(&registry, &registry.retire_all(&gone)?);
    let ids = OuterIds::new(&vault);
    let parts = ground.parts(reader.clone(), &registry, recovery.last_at);
    let (transport, metrics) = (Arc::clone(&parts.transport), Arc::clone(&parts.metrics));
    let gauges = Arc::clone(&parts.gauges);
    let ledger = Seen(tap.clone(), ledger);
    let start = ground.start(&ids, &recovery, unsettled, ledger, config);
    let mut driver = Inline::start(parts, start);
    registry.announce_to(Arc::new(Overheard {
        tap: tap.clone(),
        announcer: Announcer::new(driver.line(), &registry),
        registry: Arc::downgrade(&registry),
    }));
    let trapped = Trapped {
        intake: Heard(tap.clone(), driver.intake()),
        entropy: ground.entropy.clone(),
        one_in: Arc::clone(&ground.dials.panics_one_in),
    };
    let (_draining, drained) = watch::channel(false);
    serve(&ground, &registry, reader, ids, &metrics, trapped, drained).await?;
    let mut commit_at = None;
    let (mut panicked, mut policy) = (0, ground.dials.policy.load(Relaxed));
    loop {
        driver.turn();
        tap.turned(&driver);
        if commit_at.is_none() && driver.gather() {
            commit_at = Some(Instant::now() + ground.commit_takes());
        }
        if commit_at.is_some_and(|at| Instant::now() >= at) {
            driver.commit()?;
            commit_at = None;
        }
        let wanted = ground.dials.policy.load(Relaxed);
        if std::mem::replace(&mut policy, wanted) != wanted {
            transport.set_policy(network(wanted));
        }
        let all = metrics.attempts_panicked.get();
        let more = all - std::mem::replace(&mut panicked, all);
        ground.dials.panicked.fetch_add(more, Relaxed);
        ground.dials.show(&gauges, &metrics);
        pass_ms(TICK_MS).await;
    }
}

impl Dials {
    fn show(&self, gauges: &Gauges, metrics: &Metrics) {
        self.inside.store(metrics.api_connections.get(), Relaxed);
        let busy = gauges.window.load(Relaxed)
            + gauges.parked.load(Relaxed)
            + gauges.waiting.load(Relaxed)
            + u64::from(!gauges.idle.load(Relaxed));
        self.busy.store(busy, Relaxed);
        let tasks = Handle::current().metrics().num_alive_tasks();
        self.tasks.store(tasks, Relaxed);
    }
}

impl Ground {
    fn parts(&self, reader: Arc<dyn Reader>, registry: &Arc<Registry>, last_at: Time) -> Parts {
        let metrics = Arc::new(Metrics::default());
        let clock = Arc::new(Clock::told(Arc::clone(&self.now_ms), last_at));
        let transport = Transport::with_network(
            limits(),
            network(0),
            Arc::new(SimResolver(self.names.clone())),
            Arc::new(SimDialer {
                entropy: self.entropy.clone(),
                open: self.dials.out.clone(),
                evidence: self.evidence.clone(),
            }),
        );
        transport.push_over(Push::new(
            Arc::clone(registry),
            Arc::clone(&clock),
            Arc::new(receipts()),
            ReactionTables::default(),
        ));
        Parts {
            reader,
            registry: Arc::clone(registry),
            transport: Arc::new(transport),
            observer: Observer::new(Arc::clone(&metrics)),
            metrics,
            attempt_log: None,
            clock,
            entropy: self.entropy.clone(),
            runtime: Handle::current(),
            gauges: Arc::default(),
            events_bytes_max: EVENTS_BYTES_MAX,
        }
    }

    fn config(&self) -> Config {
        Config {
            slots_max: 64,
            window_max: 10_000,
            plant: self.plant,
            ..Config::default()
        }
    }

    fn start(
        &self,
        ids: &OuterIds,
        recovery: &Recovery,
        unsettled: Unsettled,
        ledger: Seen<ModelLedger>,
        config: Config,
    ) -> Start {
        Start {
            config,
            stamp: Box::new(ids.clone()),
            origin: Origin {
                last_event: recovery.last_event,
                last_delivery: recovery.last_delivery,
                last_seq: recovery.last_seq,
                epoch: recovery.epoch,
            },
            unsettled,
            ledger: Box::new(ledger),
            commit_records_max: 64,
            waiting_max: 1_000,
            commit_slow_ms: 5_000,
        }
    }

    fn commit_takes(&self) -> Duration {
        let slow = self.dials.commit_slow_ms.load(Relaxed);
        Duration::from_millis(self.disk.below(COMMIT_MS_MAX) + slow)
    }
}

async fn serve(
    ground: &Ground,
    registry: &Arc<Registry>,
    reader: Arc<dyn Reader>,
    ids: OuterIds,
    metrics: &Arc<Metrics>,
    intake: Trapped,
    draining: watch::Receiver<bool>,
) -> turmoil::Result {
    let limits = config::Server::default();
    let api = Arc::new(Api {
        registry: Arc::clone(registry),
        intake: Arc::new(intake),
        reader,
        locate: Arc::new(ids),
        transport: Arc::new(Transport::new(Limits::default(), NetworkPolicy::default())),
        metrics: Arc::clone(metrics),
        body_room: http::body_room(&limits),
        limits: limits.clone(),
        receipts: Arc::new(receipts()),
        push_hosts: vec!["*.example".to_owned()],
        allow_http: true,
        retry_after_ms: 1_000,
        draining: draining.clone(),
    });
    let (entropy, open) = (ground.entropy.clone(), ground.dials.inward.clone());
    let listener = SimListener::bind(API_PORT, entropy, open).await?;
    let metrics = Arc::clone(metrics);
    tokio::spawn(async move {
        http::serve(listener, http::router(api), &limits, metrics, draining).await
    });
    Ok(())
}

/// The way in, with a handler now and then that panics: before it has handed anything over, or
/// when it has.
struct Trapped {
    intake: Heard,
    entropy: Entropy,
    one_in: Arc<AtomicU64>,
}

impl Trapped {
    fn springs(&self) -> bool {
        match self.one_in.load(Relaxed) {
            0 => false,
            one_in => self.entropy.narrow().is_multiple_of(one_in),
        }
    }
}

impl Intake for Trapped {
    fn submit(&self, submissions: Vec<Box<Submission>>) -> oneshot::Receiver<Vec<Reply>> {
        assert!(!self.springs(), "{}", crate::PLANTED_PANIC);
        let answered = self.intake.submit(submissions);
        assert!(!self.springs(), "{}", crate::PLANTED_PANIC);
        answered
    }

    fn cancel(&self, delivery: DeliveryId) -> oneshot::Receiver<Reply> {
        self.intake.cancel(delivery)
    }

    fn receipt(&self, delivery: DeliveryId, receipt: u8) -> oneshot::Receiver<Reply> {
        self.intake.receipt(delivery, receipt)
    }

    fn load(&self) -> Load {
        self.intake.load()
    }

    fn now(&self) -> Time {
        self.intake.now()
    }

    fn random(&self) -> u128 {
        self.intake.random()
    }
}
