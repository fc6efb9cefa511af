//! An engine of our own as a child process: started, awaited, killed, started again.
//!
//! Absent here: anything that asks the engine how it is doing, but the one question whether it is
//! ready.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::api::Api;
use crate::cli::client::{DEV_FILE, DevFile};
use crate::cli::failure::Failure;

/// Ports that an engine may get: below those that the system hands out by itself, so that nobody
/// has taken it when a killed engine comes back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Ports that are tried.
const PORTS_TRIED_MAX: usize = 100;
/// Longest wait until an engine is ready.
const READY_MS_MAX: u64 = 120_000;
/// Pause between two questions whether it is.
const READY_PAUSE_MS: u64 = 5;
/// Longest wait for an orderly end.
const END_MS_MAX: u64 = 30_000;
/// Lines of the engine's log that are shown when it does not start.
const LOG_LINES_MAX: usize = 12;

/// An engine and where it lives.
pub(crate) struct Engine {
    program: PathBuf,
    home: PathBuf,
    address: SocketAddr,
    plant: Option<String>,
    child: Option<Child>,
}

impl Engine {
    /// Prepares an engine with its data under `home`, on a free port. `settings` go into its
    /// configuration, after what every such engine has: loopback allowed, plain HTTP allowed.
    pub(crate) fn prepare(
        program: &Path,
        home: &Path,
        plant: Option<&str>,
        settings: &str,
    ) -> Result<Engine, Failure> {
        let cannot = |error| Failure::no("the engine could not be prepared").because(error);
        std::fs::create_dir_all(home).map_err(cannot)?;
        let address = free_address().map_err(cannot)?;
        let engine = Engine {
            program: program.to_owned(),
            home: home.to_owned(),
            address,
            plant: plant.map(str::to_owned),
            child: None,
        };
        let data = engine.data().display().to_string();
        let quoted = serde_json::Value::from(data);
        let text = format!(
            "[store]\ndir = {quoted}\n\n[network]\nallow = [\"127.0.0.0/8\"]\nallow_http = true\n\n\
             {settings}"
        );
        std::fs::write(engine.config(), text).map_err(cannot)?;
        Ok(engine)
    }

    /// Where its API is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// The key that may do everything, once it has started.
    pub(crate) fn key(&self) -> Result<String, Failure> {
        let file = self.data().join(DEV_FILE);
        let cannot = || Failure::no(format!("{} does not say the key", file.display()));
        let text = std::fs::read(&file).map_err(|error| cannot().because(error))?;
        let dev: DevFile =
            serde_json::from_slice(&text).map_err(|error| cannot().because(error))?;
        Ok(dev.key)
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Starts it and waits until it is ready; returns how long that took.
    pub(crate) async fn start(&mut self) -> Result<Duration, Failure> {
        let began = Instant::now();
        let cannot = |error| Failure::no("the engine could not be started").because(error);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .arg("--dev")
            .arg("--config")
            .arg(self.config())
            .arg("--listen")
            .arg(self.address.to_string())
            .args(["--sink", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            .kill_on_drop(true);
        if let Some(plant) = &self.plant {
            command.arg("--plant").arg(plant);
        }
        self.child = Some(command.spawn().map_err(cannot)?);
        self.ready(began).await
    }

    async fn ready(&mut self, began: Instant) -> Result<Duration, Failure> {
        let mut api = Api::new(self.address, "");
        loop {
            let answer = api.get("/readyz").await;
            if answer.is_ok_and(|answer| answer.is_yes()) {
                return Ok(began.elapsed());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok()?);
            if let Some(how) = ended {
                let what = format!("the engine ended before it was ready: {how}");
                return Err(Failure::no(what).because(self.last_words()));
            }
            if began.elapsed() > Duration::from_millis(READY_MS_MAX) {
                let what = format!("the engine was not ready within {READY_MS_MAX} ms");
                return Err(Failure::no(what).because(self.last_words()));
            }
            tokio::time::sleep(Duration::from_millis(READY_PAUSE_MS)).await;
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let killed = child.kill().await;
        killed.map_err(|error| Failure::no("the engine could not be killed").because(error))
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let (Some(id), Some(mut child)) = (self.id(), self.child.take()) else {
            return Ok(());
        };
        let id = nix::unistd::Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX));
        // An engine that is gone already is as good as one that ends.
        let _sent = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
        let limit = Duration::from_millis(END_MS_MAX);
        match tokio::time::timeout(limit, child.wait()).await {
            Ok(Ok(how)) if how.success() => Ok(()),
            Ok(Ok(how)) => {
                let what = format!("the engine did not end in order: {how}");
                Err(Failure::no(what).because(self.last_words()))
            }
            _ => Err(Failure::no(format!(
                "the engine did not end within {END_MS_MAX} ms"
            ))),
        }
    }

    fn config(&self) -> PathBuf {
        self.home.join("postrider.toml")
    }

    fn log(&self) -> PathBuf {
        self.home.join("engine.log")
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_MAX);
        format!(
            "its last words in {}:\n{}",
            self.log().display(),
            lines[from..].join("\n")
        )
    }
}

/// An address on loopback that nobody listens on now.
fn free_address() -> std::io::Result<SocketAddr> {
    let mut last = std::io::Error::other("no port was tried");
    for _ in 0..PORTS_TRIED_MAX {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(PORTS))) {
            Ok(free) => return free.local_addr(),
            Err(error) => last = error,
        }
    }
    Err(last)
}
