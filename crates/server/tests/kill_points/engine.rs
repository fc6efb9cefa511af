//! The real binary as a child process, with a fault in its environment or without.
//!
//! Absent here: what is asked of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postrider::cli::client::DevFile;
use postrider::cli::demo::api::Api;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::hook::Fault;

/// Longest wait for an engine to be ready, and for it to end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits of milliseconds, so that a run is short.
const SETTINGS: &str = r#"
[network]
allow = ["127.0.0.0/8"]
allow_http = true

[log]
attempts = false

[policies.brisk]
base = "brief"
schedule = "fixed"
waits_ms = [5, 10, 20, 40]
jitter = "equal"
attempts_max = 100
throttle_ms = 20
breaker_error_percent = 100
breaker_answers_min = 1000
breaker_answers_max = 1000
adaptive = false
"#;

/// Where one engine lives: its configuration, its data, what it said and what was done to it.
#[derive(Clone, Debug)]
pub struct Home(pub PathBuf);

impl Home {
    /// Prepares one. `settings` come after what all of them have.
    pub fn prepare(path: &Path, store: &str, settings: &str) -> Home {
        let home = Home(path.canonicalize().expect("a directory"));
        let data = serde_json::Value::from(home.data().display().to_string());
        let text = format!(
            "[store]\ndir = {data}\nreserve_bytes = 1048576\n{store}\n{SETTINGS}{settings}"
        );
        std::fs::write(home.0.join("postrider.toml"), text).expect("a configuration");
        home
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub fn hook_log(&self) -> PathBuf {
        self.0.join("hook.log")
    }

    fn engine_log(&self) -> PathBuf {
        self.0.join("engine.log")
    }

    /// The last lines that an engine said.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.engine_log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// An engine that is ready, or was.
pub struct Engine {
    child: Child,
    pub address: SocketAddr,
    /// A key that may do everything inside of the development tenant.
    pub key: String,
    /// Held open: a closed one would be an error of its own at the next word.
    _page: BufReader<ChildStdout>,
}

impl Engine {
    /// Starts one and waits until it is ready; how it ended, if it ended before that.
    pub async fn start(
        home: &Home,
        fault: Option<&Fault>,
        more: &[&str],
    ) -> Result<Engine, ExitStatus> {
        Engine::start_by(&[], home, fault, more).await
    }

    /// The same behind another command, which is to execute its last arguments.
    pub async fn start_by(
        before: &[&str],
        home: &Home,
        fault: Option<&Fault>,
        more: &[&str],
    ) -> Result<Engine, ExitStatus> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(home.engine_log())
            .expect("a log");
        let program = env!("CARGO_BIN_EXE_postrider");
        let words: Vec<&str> = before.iter().copied().chain([program]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--sink"])
            .args(["127.0.0.1:0", "--config"])
            .arg(home.0.join("postrider.toml"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(fault) = fault {
            command.envs(fault.environment(&home.data(), &home.hook_log()));
        }
        let mut child = command.spawn().expect("the engine can be started");
        let mut page = BufReader::new(child.stdout.take().expect("piped"));
        let ready = tokio::time::timeout(PATIENCE, introduction(&mut page)).await;
        match ready.expect("it is ready or ends in time") {
            Some(address) => Ok(Engine {
                child,
                address,
                key: DevFile::read(&home.data()).expect("its key").tenant_key,
                _page: page,
            }),
            None => Err(ended(&mut child).await),
        }
    }

    pub fn api(&self) -> Api {
        Api::new(self.address, &self.key)
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        let id = self.child.id().expect("it was not waited for");
        Pid::from_raw(i32::try_from(id).expect("an id"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal).expect("it runs");
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|how| how.is_some())
    }

    /// The most memory that it had so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let text = text.expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) -> ExitStatus {
        ended(&mut self.child).await
    }

    pub async fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }
}

async fn ended(child: &mut Child) -> ExitStatus {
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    ended.expect("it ends in time").expect("it ran")
}

/// Reads what a development engine prints when it serves; the address of its API.
async fn introduction(page: &mut BufReader<ChildStdout>) -> Option<SocketAddr> {
    let mut address = None;
    let mut line = String::new();
    while page.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
        if let Some(rest) = line.strip_prefix("API   http://") {
            address = rest.split_whitespace().next()?.parse().ok();
        }
        // The last line of the page.
        if line.starts_with("curl") && line.contains("/_/requests") {
            return address;
        }
        line.clear();
    }
    None
}
