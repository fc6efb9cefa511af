//! What the parts of a run that send pushes have in common: devices, and as many pushes as arrive.
//!
//! Absent here: providers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use postrider_core::event::Urgency;
use postrider_core::time::{MINUTE_MS, Time};
use serde_json::{Value, json};
use uuid::Uuid;

use super::load::{Load, Pace, per_s};
use super::sink::Count;
use super::stage::Stage;
use crate::channel::Told;
use crate::cli::demo::api::Api;
use crate::cli::demo::progress::Progress;
use crate::cli::demo::world::{make, word};
use crate::cli::failure::Failure;

/// Devices that pushes are spread over, each an endpoint of its own.
pub(super) const DEVICES: usize = 1_000;
/// Share of the pushes that go first, uncounted: connections stand, and what endpoints share is
/// made.
const WARMING_SHARE: u64 = 10;
/// Pause between two looks at the sink.
const LOOK_MS: u64 = 10;
/// Longest time without an arrival until what is missing counts as lost.
const STALL_MS_MAX: u64 = 15_000;

/// What sending came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) per_s: f64,
    pub(super) lost: u64,
    /// CPU of the engine's process, each push.
    pub(super) engine_cpu_us: f64,
    /// CPU of the sink's process, each push.
    pub(super) sink_cpu_us: f64,
}

/// Pushes a second through the whole engine, from the first submission to the last arrival.
pub(super) async fn full(
    stage: &mut Stage,
    load: &Load,
    count: Count,
    pushes: u64,
    progress: &Progress,
) -> Result<Sent, Failure> {
    let warming = pushes / WARMING_SHARE;
    submit(stage, load, count, (0, warming), progress).await?;
    let mark = stage.mark()?;
    let (arrived, elapsed) = submit(stage, load, count, (warming, pushes), progress).await?;
    let used = stage.mark()?;
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    #[expect(clippy::cast_precision_loss, reason = "counts of minutes fit")]
    let each = |whole: u64| whole as f64 / arrived.max(1) as f64;
    Ok(Sent {
        per_s: per_s(arrived, elapsed_us),
        lost: pushes.saturating_sub(arrived),
        engine_cpu_us: each(used.engine.since(mark.engine).cpu_us),
        sink_cpu_us: each(used.sink.since(mark.sink).cpu_us),
    })
}

/// How many of `pushes` from number `first` on arrived, and after what time the last one did.
async fn submit(
    stage: &mut Stage,
    load: &Load,
    count: Count,
    (first, pushes): (u64, u64),
    progress: &Progress,
) -> Result<(u64, Duration), Failure> {
    let before = stage.sink.count(count).await?;
    let arrived = Arc::new(AtomicU64::new(0));
    let pace = Pace::Arrivals(Arc::clone(&arrived));
    let began = Instant::now();
    let arriving = async {
        let mut last = (0, Instant::now());
        loop {
            let now = stage.sink.count(count).await?.saturating_sub(before);
            progress.at(now);
            arrived.store(now, Relaxed);
            if now > last.0 {
                last = (now, Instant::now());
            }
            let stalled = last.1.elapsed() > Duration::from_millis(STALL_MS_MAX);
            if now >= pushes || stalled {
                return Ok::<_, Failure>(last);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    let (_, (came, at)) = tokio::try_join!(load.full(first, pushes, &pace), arriving)?;
    Ok((came, at - began))
}

/// The moment that many microseconds since 1970.
pub(super) fn moment(now_us: u64) -> Time {
    Time(i64::try_from(now_us / 1_000).unwrap_or(i64::MAX))
}

/// What raw clients tell: as the engine has it of an event without a key or an order.
pub(super) fn told(payload: &str, now: Time) -> Told<'_> {
    Told {
        payload: payload.as_bytes(),
        id: Uuid::new_v4(),
        sequence: None,
        replace_key: "0123456789abcdefghijklmnopqrstuv".into(),
        collapses: false,
        urgency: Urgency::Normal,
        admitted_at: now,
        expires_at: now.plus(MINUTE_MS),
        receipt: None,
    }
}

/// Microseconds that one of `times` takes.
pub(super) fn each_us<E>(times: u32, mut once: impl FnMut(i64) -> Result<(), E>) -> Result<f64, E> {
    let began = Instant::now();
    for number in 1..=times {
        once(i64::from(number))?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
}

/// Makes a route.
pub(super) async fn route(stage: &Stage, body: &Value) -> Result<(), Failure> {
    let mut api = Api::new(stage.engine.address(), &stage.key);
    make(&mut api, "/v1/routes", body).await.map(drop)
}

/// Registers devices, and makes a load that goes to them in turns.
pub(super) async fn devices(stage: &Stage, devices: Vec<Value>) -> Result<Load, Failure> {
    let mut api = Api::new(stage.engine.address(), &stage.key);
    let body = json!({ "devices": devices });
    let made = make(&mut api, "/v1/devices/batch", &body).await?;
    let made = made.as_array().map_or(&[][..], Vec::as_slice);
    let ids: Result<Vec<String>, Failure> = made.iter().map(|made| word(made, "id")).collect();
    Ok(stage.spread_over(ids?))
}
