//! `serve`: runs the engine until it is asked to end.
//!
//! Absent here: what an engine is made of, which is `run::Node`, and what a development engine has
//! besides, which is `dev`.

mod dev;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use postrider_core::plant::Plant;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::failure::{Failure, Outcome};
use crate::config::Config;
use crate::http::{self, Api};
use crate::observe::{Metrics, logging};
use crate::run::Node;
use dev::Dev;

/// What may be asked.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration; `postrider.toml` in the working directory where none is named
    #[arg(long, env = "POSTRIDER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory, where it is not the configuration's
    #[arg(long, env = "POSTRIDER_DATA", value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Where the API listens, where it is not the configuration's
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// For development: on loopback only, with a tenant, a key, a sink, and lines to try
    #[arg(long)]
    dev: bool,
    /// Where the sink of a development engine listens; for browsers and for what Apple speaks it
    /// takes the next two ports
    #[arg(long, value_name = "ADDRESS", default_value = dev::SINK, requires = "dev")]
    sink: SocketAddr,
    /// A known way to be wrong, by which checkers are shown to bite
    #[arg(long, hide = true, value_parser = plant, requires = "dev")]
    plant: Option<Plant>,
}

fn plant(name: &str) -> Result<Plant, String> {
    let known = || {
        let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
        names.join(", ")
    };
    Plant::from_name(name).ok_or_else(|| format!("the faults are {}", known()))
}

/// Runs it.
pub fn run(args: &Args) -> Outcome {
    let mut config = super::config::load(args.config.clone(), args.data.clone())?;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    if args.dev {
        dev::adjust(&mut config)?;
    }
    logging::init(&config.log);
    // As many connections as the system lets one process have; fewer than hoped is no error.
    let _raised = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::no("the runtime could not be started").because(error))?;
    runtime.block_on(serve(config, args))
}

async fn serve(mut config: Config, args: &Args) -> Outcome {
    // A port that is taken is found out before the data directory is touched.
    let listener = listen(config.server.listen).await?;
    let admin = match config.server.admin_listen {
        Some(at) => Some(listen(at).await?),
        None => None,
    };
    let address = listener.local_addr().unwrap_or(config.server.listen);
    let fakes = match args.dev {
        true => dev::fakes(&mut config, args.sink).await,
        false => None,
    };
    let config = &config;
    let metrics = Arc::new(Metrics::default());
    let node = Node::start(config, &metrics, args.plant).map_err(|error| {
        Failure::no("the engine does not start")
            .because(error)
            .hint("`postrider doctor` looks the data directory over")
    })?;
    let (ending, draining) = watch::channel(false);
    let api = Arc::new(api(config, &node, metrics, draining.clone()));
    let dev = match args.dev {
        true => Some(Dev::prepare(config, &node, address, fakes)?),
        false => None,
    };
    let metrics = Arc::clone(&api.metrics);
    let limits = config.server.clone();
    let admin = admin.map(|admin| {
        let router = http::admin_router(Arc::clone(&api));
        let (limits, metrics, draining) = (limits.clone(), Arc::clone(&metrics), draining.clone());
        tokio::spawn(async move { http::serve(admin, router, &limits, metrics, draining).await })
    });
    let tending = tokio::spawn(http::tend(Arc::clone(&api)));
    let router = http::router(api);
    let serving =
        tokio::spawn(
            async move { http::serve(listener, router, &limits, metrics, draining).await },
        );
    tracing::info!(%address, dir = %config.store.dir.display(), "serving");
    // Heard from now on: whoever reads what comes next may ask at once.
    let mut asked = Asked::listen()?;
    if let Some(dev) = &dev {
        dev.introduce();
    }
    asked.wait().await;
    tracing::info!("ending: nothing new is taken, what is under way may finish");
    // Whoever listens has ended already if nobody receives it.
    let _ = ending.send(true);
    for server in [Some(serving), admin].into_iter().flatten() {
        match server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failure::no("the API failed").because(error)),
            Err(error) => return Err(Failure::no("the API ended early").because(error)),
        }
    }
    // It has nothing to say, and a panic of its own was reported already.
    let _ = tending.await;
    drop(dev);
    let stopped = tokio::task::spawn_blocking(move || node.stop()).await;
    match stopped {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fatal)) => Err(Failure::no("the store failed at the end").because(fatal)),
        Err(error) => Err(Failure::no("the engine ended early").because(error)),
    }
}

async fn listen(at: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).await.map_err(|error| {
        Failure::usage(format!("nothing can listen on {at}"))
            .because(error)
            .hint("--listen, or server.listen in the configuration, names another address")
    })
}

fn api(
    config: &Config,
    node: &Node,
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
) -> Api {
    Api {
        registry: Arc::clone(&node.registry),
        intake: Arc::new(node.intake.clone()),
        reader: Arc::clone(&node.reader),
        locate: Arc::<crate::stamp::OuterIds>::clone(&node.ids),
        transport: Arc::clone(&node.transport),
        metrics,
        receipts: Arc::clone(&node.receipts),
        push_hosts: config.push.extra_hosts.clone(),
        limits: config.server.clone(),
        allow_http: config.network.allow_http,
        retry_after_ms: config.engine.retry_after_ms,
        draining,
        body_room: http::body_room(&config.server),
    }
}

/// SIGTERM and SIGINT.
struct Asked {
    terminate: Signal,
    interrupt: Signal,
}

impl Asked {
    fn listen() -> Result<Asked, Failure> {
        let no_signals = |error| Failure::no("signals cannot be received").because(error);
        Ok(Asked {
            terminate: signal(SignalKind::terminate()).map_err(no_signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(no_signals)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
