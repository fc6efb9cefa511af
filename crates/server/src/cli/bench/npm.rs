//! What many senders use, against the same sink: `web-push` of npm, with connections that are kept.
//!
//! It speaks TLS only, so the sink does too for it; and it signs each push anew.
//!
//! Absent here: our own code. It is used where Node finds it (`NODE_PATH`), and nothing is said
//! where it does not.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::cli::failure::Failure;

/// What Node runs: base URL, payload, connections, seconds; prints pushes a second, or nothing
/// where there is no such package.
const SCRIPT: &str = r#"
let webPush;
try { webPush = require("web-push"); } catch { process.exit(0); }
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
    base: &str,
    ca_pem: &str,
    payload: &str,
    connections: usize,
    time: Duration,
    directory: &Path,
) -> Result<Option<f64>, Failure> {
    let cannot = |error| Failure::no("web-push of npm could not be run").because(error);
    let pem = directory.join("sink.pem");
    std::fs::write(&pem, ca_pem).map_err(cannot)?;
    let ran = Command::new("node")
        .args(["-e", SCRIPT, base, payload])
        .arg(connections.to_string())
        .arg(time.as_secs().max(1).to_string())
        .env("NODE_EXTRA_CA_CERTS", &pem)
        .stdin(Stdio::null())
        .output()
        .await;
    match ran {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(error)),
    }
}
