//! What a delivery costs as the ledger grows.
//!
//! Absent here: reads. Only the way of a delivery is measured.

use std::path::Path;

use serde_json::{Value, json};

use super::round;
use super::stage::{Stage, Stretch};
use super::webhooks::{Runner, arrivals_per_s};
use crate::cli::demo::progress::Progress;
use crate::cli::failure::Failure;

/// Deliveries of a measured stretch.
const STRETCH: u64 = 100_000;

/// Fills a ledger to 100,000 rows and to 5,000,000, and measures the next hundred thousand at each.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    quick: bool,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let large_rows: u64 = if quick { 500_000 } else { 5_000_000 };
    let mut stage = Stage::set(program, data).await?;
    let mut runner = Runner::new(&mut stage, "grow", 1).await?;
    progress.phase("filling to 100,000 rows", STRETCH);
    let mut all = vec![runner.full(STRETCH, progress).await?];
    progress.phase("measuring", STRETCH);
    let small = runner.full(STRETCH, progress).await?;
    let mut rows = 2 * STRETCH;
    while rows < large_rows {
        progress.phase(&format!("{rows} rows of {large_rows}"), STRETCH);
        all.push(runner.full(STRETCH, progress).await?);
        rows += STRETCH;
    }
    progress.phase("measuring", STRETCH);
    let large = runner.full(STRETCH, progress).await?;
    stage.engine.stop().await?;
    let cpu = |stretch: &Stretch| stretch.each(stretch.engine.cpu_us);
    let every = || all.iter().chain([&small, &large]);
    Ok(json!({
        "small_rows": STRETCH,
        "small": figures(&small),
        "large_rows": rows,
        "large": figures(&large),
        "cpu_ratio": round(cpu(&large) / cpu(&small)),
        "slowest_per_s": every().map(arrivals_per_s).map(round).fold(f64::INFINITY, f64::min),
        "lost": every().map(Stretch::lost).sum::<u64>(),
        "duplicates": every().map(|stretch| stretch.counted.duplicates).sum::<u64>(),
    }))
}

fn figures(stretch: &Stretch) -> Value {
    json!({
        "per_s": round(arrivals_per_s(stretch)),
        "cpu_us_per_delivery": round(stretch.each(stretch.engine.cpu_us)),
        "written_bytes_per_delivery": round(stretch.each(stretch.engine.written_bytes)),
        "rss_bytes": stretch.engine.rss_bytes,
    })
}
