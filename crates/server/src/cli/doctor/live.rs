//! What can be seen of a running engine: whether it answers, is ready, and has the right time.
//!
//! Absent here: an engine that nobody named. Without an address there is nothing to ask.

use http::Method;
use jiff::Timestamp;

use super::{Check, Finding};
use crate::cli::client::{Client, Reach};

/// A clock that is off by more makes receivers refuse our signatures before long.
const SKEW_MS_MAX: i64 = 30_000;

/// All checks of a running engine.
pub fn checks(reach: &Reach) -> Vec<Check> {
    let Ok(client) = reach.client() else {
        let detail = "no address and key are known";
        return vec![Check::new("engine", Finding::Unseen, detail, "")];
    };
    let mut checks = vec![answers(&client)];
    if checks[0].finding == Finding::Good {
        checks.push(ready(&client));
        checks.extend(clock(&client));
    }
    checks
}

fn answers(client: &Client) -> Check {
    match client.send(&Method::GET, "/healthz", None) {
        Ok(answer) if answer.http_status.is_success() => Check::good("engine", "it answers"),
        Ok(answer) => Check::new(
            "engine",
            Finding::Bad,
            format!("it answers HTTP {}", answer.http_status.as_u16()),
            "see its log",
        ),
        Err(failure) => Check::new(
            "engine",
            Finding::Mind,
            failure.to_string(),
            "start it, or correct the address",
        ),
    }
}

fn ready(client: &Client) -> Check {
    match client.send(&Method::GET, "/readyz", None) {
        Ok(answer) if answer.http_status.is_success() => {
            Check::good("intake", "it takes submissions")
        }
        Ok(answer) => Check::new(
            "intake",
            Finding::Bad,
            format!("it takes no submissions: {}", answer.body),
            "after a start it opens by itself once everything unsettled is back in memory; a full \
             disk wants room",
        ),
        Err(failure) => Check::new("intake", Finding::Unseen, failure.to_string(), ""),
    }
}

/// `None` where the engine does not say what time it has.
fn clock(client: &Client) -> Option<Check> {
    let answer = client.send(&Method::GET, "/healthz", None).ok()?;
    let theirs = Timestamp::try_from(httpdate::parse_http_date(&answer.date?).ok()?).ok()?;
    let skew_ms = (Timestamp::now().as_millisecond() - theirs.as_millisecond()).abs();
    let detail = format!(
        "{} apart from this machine's",
        crate::cli::show::span(skew_ms)
    );
    Some(if skew_ms > SKEW_MS_MAX {
        let advice = "signatures carry the time: set both clocks (NTP)";
        Check::new("clock", Finding::Bad, detail, advice)
    } else {
        Check::good("clock", "within a second or so of this machine's")
    })
}
