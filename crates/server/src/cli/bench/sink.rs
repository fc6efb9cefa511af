//! The sink of a benchmark: a fake in a process of its own that counts instead of remembering.
//!
//! Absent here: the counting; see [`crate::fake`].

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::process::Usage;
use crate::cli::demo::api::Api;
use crate::cli::demo::world::make;
use crate::cli::failure::Failure;
use crate::fake::{Behaviour, Counted, Expected};

/// Longest wait for the sink's address.
const START_MS_MAX: u64 = 10_000;
/// Pause between two looks at the count.
const LOOK_MS: u64 = 10;
/// Longest time without an arrival until what is missing counts as lost.
const STALL_MS_MAX: u64 = 15_000;

/// What is counted as an arrival.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    /// Requests that are recorded.
    Requests,
    /// Requests to APNs.
    Apns,
    /// Different deliveries among those that [`Sink::expect`] named.
    Tally,
}

/// A running sink.
pub(super) struct Sink {
    child: Child,
    address: SocketAddr,
    /// Its URL with TLS, and the PEM by which it is trusted.
    tls: (String, String),
    api: Api,
    /// Where it is APNs, and the certificate to trust there.
    apns: (String, String),
}

impl Sink {
    /// Starts one.
    pub(super) async fn start(program: &Path) -> Result<Sink, Failure> {
        let cannot = |error| Failure::no("the sink could not be started").because(error);
        let mut child = Command::new(program)
            .args([
                "fake",
                "--listen",
                "127.0.0.1:0",
                "--listen-tls",
                "127.0.0.1:0",
                "--listen-apns",
                "127.0.0.1:0",
                "--records",
                "0",
                "--json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let mute = || Failure::no("the sink does not say where it listens");
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(mute)?).lines();
        let limit = Duration::from_millis(START_MS_MAX);
        let line = tokio::time::timeout(limit, lines.next_line()).await;
        let line = line
            .map_err(|_| mute())?
            .map_err(cannot)?
            .unwrap_or_default();
        let said: Value = serde_json::from_str(&line).map_err(|error| mute().because(error))?;
        let url = said["url"]
            .as_str()
            .and_then(|url| url.strip_prefix("http://"));
        let address: SocketAddr = url.and_then(|url| url.parse().ok()).ok_or_else(mute)?;
        let word = |name: &str| said[name].as_str().map(str::to_owned).ok_or_else(mute);
        Ok(Sink {
            child,
            address,
            tls: (word("tls_url")?, word("ca_pem")?),
            api: Api::new(address, ""),
            apns: (word("apns_url")?, word("apns_ca_pem")?),
        })
    }

    /// URL of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its URL with TLS, and the PEM by which it is trusted.
    pub(super) fn tls(&self) -> (&str, &str) {
        (&self.tls.0, &self.tls.1)
    }

    /// Its host and port.
    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Where it is APNs, and the certificate to trust there.
    pub(super) fn apns(&self) -> (&str, &str) {
        (&self.apns.0, &self.apns.1)
    }

    /// What it says about a path of its own.
    pub(super) async fn ask(&mut self, path: &str) -> Result<Value, Failure> {
        let unread = || Failure::no(format!("the sink does not answer {path}"));
        let answer = self.api.get(path).await;
        Ok(answer.map_err(|lost| unread().because(lost))?.json())
    }

    /// What its process has used.
    pub(super) fn usage(&self) -> Result<Usage, Failure> {
        let gone = || Failure::no("the sink is gone");
        Usage::of(self.child.id().ok_or_else(gone)?)
    }

    /// Scripts a path.
    pub(super) async fn set(&mut self, behaviour: &Behaviour) -> Result<(), Failure> {
        let body = serde_json::to_value(behaviour)
            .map_err(|error| Failure::no("a behaviour cannot be written").because(error))?;
        make(&mut self.api, "/_/behaviour", &body).await.map(drop)
    }

    /// Begins to count.
    pub(super) async fn expect(&mut self, expected: &Expected) -> Result<(), Failure> {
        let body = serde_json::to_value(expected)
            .map_err(|error| Failure::no("a count cannot be asked for").because(error))?;
        make(&mut self.api, "/_/tally", &body).await.map(drop)
    }

    /// What was counted so far.
    pub(super) async fn counted(&mut self) -> Result<Counted, Failure> {
        let unread = || Failure::no("the sink's count cannot be read");
        let answer = self.api.get("/_/tally").await;
        let answer = answer.map_err(|lost| unread().because(lost))?;
        serde_json::from_slice(&answer.body).map_err(|error| unread().because(error))
    }

    /// What arrived so far.
    pub(super) async fn count(&mut self, count: Count) -> Result<u64, Failure> {
        let unread = || Failure::no("the sink does not say what arrived");
        let path = match count {
            Count::Requests => "/_/requests/count",
            Count::Apns => "/_/apns",
            Count::Tally => return Ok(self.counted().await?.distinct),
        };
        self.ask(path).await?["arrived"].as_u64().ok_or_else(unread)
    }

    /// Waits until `deliveries` have arrived, or nothing arrives any more.
    pub(super) async fn await_all(
        &mut self,
        deliveries: u64,
        mut seen: impl FnMut(&Counted),
    ) -> Result<Counted, Failure> {
        let mut last = (0, Instant::now());
        loop {
            let counted = self.counted().await?;
            seen(&counted);
            if counted.received > last.0 {
                last = (counted.received, Instant::now());
            }
            let stalled = last.1.elapsed() > Duration::from_millis(STALL_MS_MAX);
            if counted.distinct >= deliveries || stalled {
                return Ok(counted);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}
