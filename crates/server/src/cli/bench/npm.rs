//! What many senders use, against the same sink: `web-push` of npm, with connections that are kept.
//!
//! It speaks TLS only, so the sink does too for it; and it signs each push anew.
//!
//! Absent here: our own code, and installing anything. The package is used where Node finds it
//! (`NODE_PATH`), or where `cargo xtask` has put it beside this program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::cli::failure::Failure;

/// Where `cargo xtask bench` and the tests install packages, as seen from Cargo's target directory.
const HOMES: [&str; 2] = ["bench-packages", "tmp/web-push-npm"];
/// How the script ends where there is no such package.
const NO_PACKAGE: i32 = 77;

/// What Node runs: base URL, payload, connections, seconds; prints pushes a second.
const SCRIPT: &str = r#"
let webPush;
try { webPush = require("web-push"); } catch { process.exit(77); }
const crypto = require("node:crypto"), https = require("node:https");
const [base, payload, connections, seconds] = process.argv.slice(1);
const vapid = { subject: "mailto:bench@example.com", ...webPush.generateVAPIDKeys() };
const agent = new https.Agent({ keepAlive: true, maxSockets: Number(connections) });
const crowd = Array.from({ length: 1000 }, (_, n) => ({
  endpoint: `${base}/npm/${n}`,
  keys: {
    p256dh: crypto.createECDH("prime256v1").generateKeys("base64url"),
    auth: crypto.randomBytes(16).toString("base64url"),
  },
}));
const began = performance.now(), until = began + seconds * 1000;
let next = 0, sent = 0;
const client = async () => {
  while (performance.now() < until) {
    const to = crowd[next++ % crowd.length];
    await webPush.sendNotification(to, payload, { vapidDetails: vapid, TTL: 60, agent });
    sent += 1;
  }
};
Promise.all(Array.from({ length: Number(connections) }, client)).then(() => {
  console.log((sent * 1000) / (performance.now() - began));
  process.exit(0);
});
"#;

/// Pushes a second that it makes; `None` if it is not there.
pub(super) async fn per_s(
    (base, ca_pem): (&str, &str),
    payload: &str,
    connections: usize,
    time: Duration,
    directory: &Path,
) -> Result<Option<f64>, Failure> {
    let cannot = || Failure::no("npm's web-push could not be measured");
    let pem = directory.join("sink.pem");
    std::fs::write(&pem, ca_pem).map_err(|error| cannot().because(error))?;
    let mut node = Command::new("node");
    node.args(["-e", SCRIPT, base, payload])
        .arg(connections.to_string())
        .arg(time.as_secs().max(1).to_string())
        .env("NODE_EXTRA_CA_CERTS", &pem)
        .stdin(Stdio::null());
    if let Some(paths) = paths() {
        node.env("NODE_PATH", paths);
    }
    let output = match node.output().await {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot().because(error)),
    };
    if output.status.code() == Some(NO_PACKAGE) {
        return Ok(None);
    }
    let rate = String::from_utf8_lossy(&output.stdout).trim().parse();
    rate.map(Some).map_err(|_| {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        cannot().because(words)
    })
}

/// Where Node looks for packages: where it was told to, then beside this program.
fn paths() -> Option<OsString> {
    let told = std::env::var_os("NODE_PATH").unwrap_or_default();
    let program = std::env::current_exe().ok()?;
    // `target/release/postrider`, with Cargo's own names.
    let target = program.parent()?.parent()?;
    let installed = HOMES.map(|home| target.join(home).join("node_modules"));
    let told: Vec<PathBuf> = std::env::split_paths(&told).collect();
    std::env::join_paths(told.into_iter().chain(installed)).ok()
}
