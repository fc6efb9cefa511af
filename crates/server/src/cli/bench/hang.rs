//! What many endpoints notice of a few that never answer.
//!
//! The same traffic runs twice, in an open loop at half of the machine's rate: once where everyone
//! answers, once where one endpoint in a hundred takes the request and says nothing. Retries are
//! on, so what hangs asks for more slots than there are.
//!
//! Absent here: the figures of those that hang.

use std::path::Path;

use serde_json::{Value, json};

use super::load::Load;
use super::stage::Stage;
use super::webhooks::{Runner, arrivals_per_s};
use super::{Sizes, round};
use crate::cli::demo::progress::Progress;
use crate::cli::failure::Failure;
use crate::fake::Expected;
use crate::fake::{Act, Behaviour, Counted, When};

/// Endpoints.
const ENDPOINTS: usize = 10_000;
/// One in so many hangs.
const ONE_IN: usize = 100;

/// Runs both and compares.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    quick: bool,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let sizes = Sizes::of(quick);
    let mut stage = Stage::set(program, data).await?;
    progress.phase("finding the maximum rate", sizes.events);
    let mut runner = Runner::new(&mut stage, "most", 1).await?;
    runner.full(sizes.events / 10, progress).await?;
    let most = runner.full(sizes.events / 2, progress).await?;
    let rate = arrivals_per_s(&most) / 2.0;

    let hang = Behaviour::of("/hang/*").rule(When::Always, Act::Hang);
    stage.sink.set(&hang).await?;
    progress.phase(&format!("making {} endpoints", 2 * ENDPOINTS), 0);
    let all_well = stage
        .spread(ENDPOINTS, |number| format!("/well/{number}"))
        .await?;
    let some_hang = stage
        .spread(ENDPOINTS, |number| match number % ONE_IN {
            0 => format!("/hang/{number}"),
            _ => format!("/some/{number}"),
        })
        .await?;
    // Long enough for what hangs to fill every slot there is.
    let seconds = if quick { 8 } else { 30 };
    progress.phase("everyone answers", 0);
    let without = open(&mut stage, &all_well, "/well/", rate, seconds, 1).await?;
    progress.phase("one in a hundred hangs", 0);
    let with = open(&mut stage, &some_hang, "/some/", rate, seconds, 2).await?;
    stage.engine.kill().await?;
    Ok(json!({
        "endpoints": ENDPOINTS,
        "hanging": ENDPOINTS / ONE_IN,
        "rate_per_s": round(rate),
        "seconds": seconds,
        "without": figures(&without),
        "with": figures(&with),
        "p99_ratio": round(with.p99_ms / without.p99_ms),
        "lost": lost(&without, 0) + lost(&with, hung(&with)),
        "duplicates": without.duplicates + with.duplicates,
    }))
}

async fn open(
    stage: &mut Stage,
    load: &Load,
    prefix: &str,
    rate: f64,
    seconds: u64,
    round: u64,
) -> Result<Counted, Failure> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of minutes fits, and is not negative"
    )]
    let events = (rate * seconds as f64) as u64 / ENDPOINTS as u64 * ENDPOINTS as u64;
    let first = round * 1_000_000_000 * ENDPOINTS as u64;
    let expected = Expected {
        prefix: prefix.to_owned(),
        first,
        events,
        endpoints: ENDPOINTS as u64,
        spread: true,
    };
    stage.sink.expect(&expected).await?;
    let hanging = if prefix == "/some/" {
        events / ONE_IN as u64
    } else {
        0
    };
    let arriving = stage.sink.await_all(events - hanging, |_| ());
    let (_, counted) = tokio::try_join!(load.open(first, events, rate), arriving)?;
    Ok(counted)
}

/// Deliveries to those that hang: the events take turns, and their number is a multiple.
fn hung(counted: &Counted) -> u64 {
    counted.expected / ONE_IN as u64
}

fn lost(counted: &Counted, hung: u64) -> u64 {
    (counted.expected - hung).saturating_sub(counted.distinct)
}

fn figures(counted: &Counted) -> Value {
    json!({
        "p50_ms": round(counted.p50_ms),
        "p95_ms": round(counted.p95_ms),
        "p99_ms": round(counted.p99_ms),
        "max_ms": round(counted.max_ms),
        "arrived": counted.distinct,
    })
}
