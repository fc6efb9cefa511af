//! A restart with much unsettled: how long it takes, what it weighs, and whether all of it is still
//! there.
//!
//! The endpoint is paused while the deliveries are submitted, and resumed after the restart, so
//! that each has to arrive exactly once.
//!
//! Absent here: a clean end. The engine is killed.

use std::path::Path;

use serde_json::{Value, json};

use super::load::{Pace, per_s};
use super::process::Usage;
use super::round;
use super::stage::Stage;
use crate::cli::demo::api::Api;
use crate::cli::demo::progress::Progress;
use crate::cli::demo::world::make;
use crate::cli::failure::Failure;
use crate::fake::Expected;

/// Submits, kills, restarts, resumes, counts.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    quick: bool,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let unsettled: u64 = if quick { 100_000 } else { 1_000_000 };
    let mut stage = Stage::set(program, data).await?;
    let load = stage.recipient("rest", 1).await?;
    let mut api = Api::new(stage.engine.address(), &stage.key);
    let answer = api.get("/v1/endpoints?recipient=rest").await;
    let answer = answer.map_err(|lost| Failure::no("the endpoint is not listed").because(lost))?;
    let id = answer.json()["items"][0]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let pause = json!({ "reason": "bench" });
    make(&mut api, &format!("/v1/endpoints/{id}/pause"), &pause).await?;

    progress.phase(&format!("submitting {unsettled} to a paused endpoint"), 0);
    let expected = Expected {
        prefix: "/rest/".into(),
        first: 0,
        events: unsettled,
        endpoints: 1,
        spread: false,
    };
    stage.sink.expect(&expected).await?;
    let empty = memory(&stage)?;
    let fed = load.full(0, unsettled, &Pace::Burst).await?;
    let full = memory(&stage)?;
    progress.phase("killing and starting again", 0);
    stage.engine.kill().await?;
    let recovery = stage.engine.start().await?;
    let again = memory(&stage)?;

    progress.phase("resuming, and counting what arrives", unsettled);
    let mut api = Api::new(stage.engine.address(), &stage.key);
    make(&mut api, &format!("/v1/endpoints/{id}/resume"), &json!({})).await?;
    let began_us = super::load::now_us();
    let counted = stage
        .sink
        .await_all(unsettled, |counted| progress.at(counted.distinct))
        .await?;
    stage.engine.stop().await?;
    let each = |now: u64| {
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory fit")]
        let grown = now.saturating_sub(empty) as f64 / unsettled as f64;
        round(grown)
    };
    Ok(json!({
        "unsettled": unsettled,
        "admissions_per_s": round(fed.per_s(unsettled)),
        "refused": fed.refused,
        "recovery_ms": u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX),
        "rss_bytes_per_unsettled": each(full),
        "rss_bytes_per_unsettled_after_restart": each(again),
        "drained_per_s": round(per_s(counted.distinct, counted.last_us.saturating_sub(began_us))),
        "lost": counted.expected.saturating_sub(counted.distinct),
        "duplicates": counted.duplicates,
    }))
}

fn memory(stage: &Stage) -> Result<u64, Failure> {
    let id = stage
        .engine
        .id()
        .ok_or_else(|| Failure::no("the engine is gone"))?;
    Ok(Usage::of(id)?.rss_bytes)
}
