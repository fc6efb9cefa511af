//! An independent generator against the same sink, so that the raw figure can be believed.
//!
//! Absent here: our own code. `wrk` is used if it is installed, and nothing is said if it is not.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::cli::failure::Failure;

/// Requests a second that `wrk` makes with `connections`, each of them with these headers and this
/// body; `None` if there is no `wrk`.
pub(super) async fn per_s<'a>(
    url: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &str,
    connections: usize,
    threads: usize,
    time: Duration,
    directory: &Path,
) -> Result<Option<f64>, Failure> {
    let cannot = |error| Failure::no("wrk could not be run").because(error);
    let script = directory.join("wrk.lua");
    std::fs::write(&script, lua(headers, body)).map_err(cannot)?;
    let ran = Command::new("wrk")
        .arg(format!("-t{threads}"))
        .arg(format!("-c{connections}"))
        .arg(format!("-d{}s", time.as_secs().max(1)))
        .arg("-s")
        .arg(&script)
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .await;
    match ran {
        Ok(output) => Ok(rate(&String::from_utf8_lossy(&output.stdout))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(error)),
    }
}

/// A script that says the same every time. A header's value is visible ASCII, whose literals are
/// alike in Rust and Lua.
fn lua<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, body: &str) -> String {
    let mut script = format!("wrk.method = \"POST\"\nwrk.body = [==[{body}]==]\n");
    for (name, value) in headers {
        // Writing to a string cannot go wrong.
        let _ = writeln!(script, "wrk.headers[{name:?}] = {value:?}");
    }
    script
}

fn rate(output: &str) -> Option<f64> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{lua, rate};

    #[test]
    fn the_rate_is_read() {
        let output = "  1114520 requests in 5.10s\nRequests/sec: 218529.39\nTransfer/sec: 1MB\n";
        assert_eq!(rate(output), Some(218_529.39));
        assert_eq!(rate("unable to connect"), None);
    }
    #[test]
    fn the_script_says_headers_and_body() {
        let script = lua([("a-b", "t=1,v1=\"x\"")].into_iter(), "{}");
        assert!(
            script.contains("wrk.headers[\"a-b\"] = \"t=1,v1=\\\"x\\\"\""),
            "{script}"
        );
        assert!(script.contains("wrk.body = [==[{}]==]"), "{script}");
    }
}
