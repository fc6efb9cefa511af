//! Serving: puts the parts of a node together, in the order in which they depend on each other, and
//! takes them apart again.
//!
//! Absent here: HTTP. Whoever serves the API takes the [`Node`]'s parts.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use postrider_core::cause::Cause;
use postrider_core::engine::{Config as EngineConfig, Origin};
use postrider_core::plant::Plant;
use postrider_core::time::{DAY_MS, SECOND_MS};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::forgetting::Forgetting;
use super::watcher::Watcher;
use super::{Announcer, EngineIntake, EngineThread, Gauges, Parts, Start, Unsettled};
use crate::channel::web_push::Padding;
use crate::clock::Clock;
use crate::config::{Config, Network};
use crate::entropy::Entropy;
use crate::observe::{AttemptLog, Metrics, Observer};
use crate::receipts::ReceiptTokens;
use crate::registry::{KeyPace, Registry, RegistryError};
use crate::stamp::OuterIds;
use crate::store::embedded::{self, EmbeddedReader, OpenError, Retention};
use crate::store::{Fatal, Ledger, Reader, Recovery};
use crate::transport::lines::{Push, ReactionTables, ReactionsError};
use crate::transport::{Limits, NetworkPolicy, Transport};
use crate::vault::{MASTER_KEY_FILE, Vault, VaultError};

/// How a process ends that can no longer tell what is on disk (`EX_IOERR` of sysexits.h).
pub const EXIT_FATAL: i32 = 74;
/// Bytes of events kept at hand for their attempts.
const EVENTS_BYTES_MAX: usize = 128 << 20;

/// A node under way.
pub struct Node {
    /// Endpoints, tenants, keys, policies.
    pub registry: Arc<Registry>,
    /// The reading half of the store.
    pub reader: Arc<dyn Reader>,
    /// Finds inner ids.
    pub ids: Arc<OuterIds>,
    /// Tokens by which devices prove their receipts.
    pub receipts: Arc<ReceiptTokens>,
    /// The way to the engine.
    pub intake: EngineIntake,
    /// The way out.
    pub transport: Arc<Transport>,
    /// What the engine shows of itself.
    pub gauges: Arc<Gauges>,
    /// The engine's clock.
    pub clock: Arc<Clock>,
    watching: [JoinHandle<()>; 2],
    engine: EngineThread,
    drain: Duration,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("the data directory {dir} cannot be made: {error}")]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The master key cannot be read or made.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] Fatal),
    /// The registry cannot be opened.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A reaction table of the operator's cannot be used.
    #[error(transparent)]
    Reactions(#[from] ReactionsError),
    /// The system gives no thread.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
}

impl Node {
    /// Opens everything, recovers, and starts the engine. Must be called inside a tokio runtime,
    /// on which attempts will run.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: &Config,
        metrics: &Arc<Metrics>,
        plant: Option<Plant>,
    ) -> Result<Node, StartError> {
        let dir = &config.store.dir;
        std::fs::create_dir_all(dir).map_err(|error| StartError::Directory {
            dir: dir.clone(),
            error,
        })?;
        let vault = Arc::new(Vault::open_or_create(&key_file(config))?);
        let (mut ledger, reader) = embedded::open(dir, store_options(config, &vault))?;
        let store = Arc::clone(&reader);
        let reader: Arc<dyn Reader> = reader;
        let mut unsettled = Unsettled::default();
        let recovery = ledger.recover(&mut |delivery| unsettled.push(delivery))?;
        let registry = Arc::new(Registry::open(dir, &vault, key_pace(config))?);
        let clock = Arc::new(Clock::starting(recovery.last_at));
        registry.apply_policies(config.policies.iter().cloned(), clock.now())?;
        retire_again(&registry, &recovery)?;
        let gauges = Arc::new(Gauges::default());
        let ids = Arc::new(OuterIds::new(&vault));
        let receipt_url = Some(config.push.receipt_url.as_str());
        let receipts = Arc::new(ReceiptTokens::new(&vault, receipt_url));
        let transport = Arc::new(Transport::new(limits(config), network(config)));
        transport.push_over(push(config, (&registry, &clock), &receipts)?);
        let parts = Parts {
            reader: Arc::clone(&reader),
            registry: Arc::clone(&registry),
            transport: Arc::clone(&transport),
            metrics: Arc::clone(metrics),
            observer: Observer::new(Arc::clone(metrics)),
            attempt_log: attempt_log(config, metrics)?,
            clock: Arc::clone(&clock),
            entropy: Entropy::Machine,
            runtime: Handle::current(),
            gauges: Arc::clone(&gauges),
            events_bytes_max: EVENTS_BYTES_MAX,
        };
        let start = Start {
            config: engine_config(config, plant),
            stamp: Box::new(OuterIds::clone(&ids)),
            origin: origin(&recovery),
            unsettled,
            ledger: Box::new(ledger),
            commit_records_max: config.store.commit_records_max,
            waiting_max: config.engine.intake_queue_max as u64,
            commit_slow_ms: i64::try_from(config.engine.commit_slow_ms).unwrap_or(i64::MAX),
        };
        let known = (&registry, &reader, &clock);
        let watching = watch(config, known, store, (&gauges, metrics));
        let engine = EngineThread::start(parts, start, die).map_err(StartError::Thread)?;
        registry.announce_to(Arc::new(Announcer::new(engine.line(), &registry)));
        Ok(Node {
            registry,
            reader,
            ids,
            receipts,
            intake: engine.intake(),
            transport,
            gauges,
            clock,
            watching,
            engine,
            drain: Duration::from_millis(config.server.drain_ms),
        })
    }

    /// Begins nothing more, lets what is under way finish within the configured time, and ends.
    ///
    /// # Errors
    /// [`Fatal`] if the store failed meanwhile.
    pub fn stop(self) -> Result<(), Fatal> {
        self.watching.iter().for_each(JoinHandle::abort);
        self.engine.stop(self.drain)
    }
}

/// What is done beside the deliveries, again and again.
fn watch(
    config: &Config,
    (registry, reader, clock): (&Arc<Registry>, &Arc<dyn Reader>, &Arc<Clock>),
    store: Arc<EmbeddedReader>,
    (gauges, metrics): (&Arc<Gauges>, &Arc<Metrics>),
) -> [JoinHandle<()>; 2] {
    let watcher = Watcher {
        gauges: Arc::clone(gauges),
        metrics: Arc::clone(metrics),
        store,
        registry: Arc::clone(registry),
        clock: Arc::clone(clock),
        wall_is_off: false,
    };
    let forgetting = Forgetting {
        registry: Arc::clone(registry),
        reader: Arc::clone(reader),
        clock: Arc::clone(clock),
        keep_ms: i64::from(config.store.retention_days) * DAY_MS,
    };
    [
        tokio::spawn(watcher.watch()),
        tokio::spawn(forgetting.run()),
    ]
}

/// Retires what the journal says is gone: the process may have ended before the registry knew. What
/// was registered again since then lives on.
fn retire_again(registry: &Registry, recovery: &Recovery) -> Result<(), RegistryError> {
    let gone = recovery.retired.iter();
    let gone: Vec<_> = gone.map(|(id, at)| (*id, Cause::Gone, *at)).collect();
    registry.retire_all(&gone).map(drop)
}

/// Where the master key lies.
#[must_use]
pub fn key_file(config: &Config) -> PathBuf {
    let beside = || config.store.dir.join(MASTER_KEY_FILE);
    config.store.master_key_file.clone().unwrap_or_else(beside)
}

/// How fast one API key may be used.
#[must_use]
pub fn key_pace(config: &Config) -> KeyPace {
    KeyPace {
        requests_per_s: at_least_one(config.server.key_requests_per_s_max),
        burst: at_least_one(config.server.key_burst_max),
    }
}

fn origin(recovery: &Recovery) -> Origin {
    Origin {
        last_event: recovery.last_event,
        last_delivery: recovery.last_delivery,
        last_seq: recovery.last_seq,
        epoch: recovery.epoch,
    }
}

/// Nothing may be acknowledged any more, and no later attempt to write could be trusted.
fn die(error: &Fatal) {
    tracing::error!(%error, "the store failed; the next start finds out what is on disk");
    eprintln!("error: {error}");
    std::process::exit(EXIT_FATAL);
}

fn attempt_log(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<AttemptLog>, StartError> {
    if !config.log.attempts {
        return Ok(None);
    }
    let queue_max = config.log.attempt_queue_max;
    // The thread ends by itself once the engine thread, which holds the near end, has ended.
    let (log, _) = AttemptLog::start(queue_max, Arc::clone(metrics), std::io::stderr())
        .map_err(StartError::Thread)?;
    Ok(Some(log))
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn store_options(config: &Config, vault: &Arc<Vault>) -> embedded::Options {
    embedded::Options {
        retention: Retention {
            ledger_ms: i64::from(config.store.retention_days) * DAY_MS,
            payload_keep_ms: i64::from(config.store.payload_keep_s) * SECOND_MS,
            dead_payload_keep_ms: i64::from(config.store.dead_payload_keep_s) * SECOND_MS,
        },
        reserve_bytes: config.store.reserve_bytes,
        ..embedded::Options::new(Arc::clone(vault))
    }
}

fn engine_config(config: &Config, plant: Option<Plant>) -> EngineConfig {
    EngineConfig {
        slots_max: u32::try_from(config.engine.slots_max).unwrap_or(u32::MAX),
        window_max: config.engine.window_max,
        records_max: config.engine.record_queue_max,
        refused_retry_after_ms: i64::try_from(config.engine.retry_after_ms).unwrap_or(i64::MAX),
        plant,
        ..EngineConfig::default()
    }
}

fn push(
    config: &Config,
    (registry, clock): (&Arc<Registry>, &Arc<Clock>),
    receipts: &Arc<ReceiptTokens>,
) -> Result<Push, ReactionsError> {
    let reactions = ReactionTables::with(&config.push.reactions)?;
    let mut push = Push::new(
        Arc::clone(registry),
        Arc::clone(clock),
        Arc::clone(receipts),
        reactions,
    );
    if config.push.pad {
        push.padding = Padding::Buckets;
    }
    Ok(push)
}

fn limits(config: &Config) -> Limits {
    Limits {
        connect_ms: config.transport.connect_ms,
        response_ms: config.transport.response_ms,
        idle_ms: config.transport.idle_ms,
        idle_host_max: config.transport.idle_per_host_max,
        idle_total_max: config.transport.idle_total_max,
        idle_shared_ms: config.transport.idle_shared_ms,
        shared_host_max: config.transport.shared_per_host_max,
        ..Limits::default()
    }
}

fn network(config: &Config) -> NetworkPolicy {
    let nets = |networks: &[Network]| networks.iter().filter_map(net).collect();
    NetworkPolicy {
        allow: nets(&config.network.allow),
        deny: nets(&config.network.deny),
        allow_http: config.network.allow_http,
        allow_hosts: config.network.allow_hosts.clone(),
        allow_ports: config.network.allow_ports.clone(),
        own: [Some(config.server.listen), config.server.admin_listen]
            .into_iter()
            .flatten()
            .collect(),
        ..NetworkPolicy::default()
    }
}

fn net(network: &Network) -> Option<IpNet> {
    IpNet::new(network.address, network.prefix_bits).ok()
}
