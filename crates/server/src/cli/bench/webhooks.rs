//! Webhooks: how many a second get out, what each costs, and how long it takes.
//!
//! The raw client and an independent generator repeat the same hand-over against the same sink in
//! the same run, headers, signatures and body: where these two differ by more than 15 %, the run is
//! void.
//!
//! Absent here: a verdict. The figures are compared with budgets by whoever reads them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::load::{self, Load, Pace, payload, per_s};
use super::raw::{self, HandOver, Raw};
use super::stage::{Stage, Stretch};
use super::{CONNECTIONS, Sizes, THREADS, TURNS, disk, round, wrk};
use crate::cli::demo::progress::Progress;
use crate::cli::failure::Failure;
use crate::fake::{Counted, Expected};

/// Endpoints of a fan-out.
const FAN_OUT: usize = 10;
/// How far the raw client may be off the independent generator, in percent.
const VOID_PERCENT: f64 = 15.0;

/// Measures all of it on a stage of its own.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    sizes: Sizes,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    progress.phase("starting a sink and an engine", 0);
    let mut stage = Stage::set(program, data).await?;
    let fdatasync_p99_ms = disk::fdatasync_p99_ms(stage.directory())?;
    progress.phase("raw client and wrk against the sink", 0);
    let (raw, wrk_per_s) = limit(&stage, sizes.raw).await?;

    let mut one = Runner::new(&mut stage, "one", 1).await?;
    progress.phase("warming up", 0);
    one.full(sizes.events / 10, progress).await?;
    progress.phase("full speed, one endpoint", sizes.events);
    let full = one.full(sizes.events, progress).await?;
    let full_per_s = arrivals_per_s(&full);
    let half_per_s = full_per_s / 2.0;
    progress.phase("open loop at half of that", 0);
    let half = one.open(sizes.open_s, half_per_s, progress).await?;

    progress.phase("a burst, as fast as it is taken", sizes.events / 4);
    let (fed_per_s, burst) = one.burst(sizes.events / 4, progress).await?;

    let mut ten = Runner::new(&mut stage, "ten", FAN_OUT).await?;
    progress.phase("full speed, ten endpoints", 0);
    let fanned = ten.full(sizes.events / FAN_OUT as u64, progress).await?;
    let (fanned_fed_per_s, fanned_burst) = ten
        .burst(sizes.events / 4 / FAN_OUT as u64, progress)
        .await?;
    stage.engine.stop().await?;

    let wrk_off = wrk_per_s.map(|wrk| (raw.per_s / wrk - 1.0) * 100.0);
    let stretches = [&full, &half, &burst, &fanned, &fanned_burst];
    let lost: u64 = stretches.iter().map(|stretch| stretch.lost()).sum();
    let duplicates: u64 = stretches
        .iter()
        .map(|stretch| stretch.counted.duplicates)
        .sum();
    Ok(json!({
        "end_to_end_per_s": round(full_per_s),
        "raw_per_s": round(raw.per_s),
        "ratio": round(full_per_s / raw.per_s),
        "wrk_per_s": wrk_per_s.map(round),
        "raw_off_wrk_percent": wrk_off.map(round),
        "void": wrk_off.is_some_and(|off| off.abs() > VOID_PERCENT),
        "admissions_per_s": round(fed_per_s),
        "burst_per_s": round(arrivals_per_s(&burst)),
        "burst_cpu_us_per_delivery": round(burst.each(burst.engine.cpu_us)),
        "cpu_us_per_delivery": round(full.each(full.engine.cpu_us)),
        "raw_cpu_us_per_request": round(raw.cpu_us_per_request),
        "sink_cpu_us_per_delivery": round(full.each(full.sink.cpu_us)),
        "client_cpu_us_per_delivery": round(full.each(full.client.cpu_us)),
        "written_bytes_per_delivery": round(full.each(full.engine.written_bytes)),
        "rss_bytes": full.engine.rss_bytes,
        "half_per_s": round(half_per_s),
        "p50_ms": round(half.counted.p50_ms),
        "p95_ms": round(half.counted.p95_ms),
        "p99_ms": round(half.counted.p99_ms),
        "max_ms": round(half.counted.max_ms),
        "half_cpu_us_per_delivery": round(half.each(half.engine.cpu_us)),
        "fdatasync_p99_ms": round(fdatasync_p99_ms),
        "fan_out_10_per_s": round(arrivals_per_s(&fanned)),
        "fan_out_10_admissions_per_s": round(fanned_fed_per_s),
        "fan_out_10_cpu_us_per_delivery": round(fanned.each(fanned.engine.cpu_us)),
        "fan_out_10_written_bytes_per_delivery": round(fanned.each(fanned.engine.written_bytes)),
        "lost": lost,
        "duplicates": duplicates,
        "deliveries": stretches.iter().map(|stretch| stretch.counted.expected).sum::<u64>(),
        "payload_bytes": load::PAYLOAD_BYTES,
        "connections": CONNECTIONS,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
    }))
}

/// The raw client and the independent generator, in turns against the same sink. The best of each
/// is the limit: what is lower was disturbed.
async fn limit(stage: &Stage, time: Duration) -> Result<(Raw, Option<f64>), Failure> {
    let url = stage.sink.url("/raw/0");
    let body = payload(1, load::now_us());
    let hand_over = Arc::new(HandOver::new(&url, Bytes::from(body.clone()))?);
    let mut best: Option<Raw> = None;
    let mut best_wrk: Option<f64> = None;
    for _ in 0..TURNS {
        let same = Arc::clone(&hand_over);
        let raw = tokio::task::spawn_blocking(move || raw::run(&same, CONNECTIONS, THREADS, time));
        let raw = raw.await;
        let raw = raw.map_err(|e| Failure::no("the raw client ended badly").because(e))??;
        best = best.filter(|best| best.per_s > raw.per_s).or(Some(raw));
        let (headers, home) = (hand_over.headers(), stage.directory());
        let wrk = wrk::per_s(&url, headers, &body, CONNECTIONS, THREADS, time, home).await?;
        best_wrk = best_wrk
            .filter(|best| wrk.is_none_or(|wrk| *best > wrk))
            .or(wrk);
    }
    let raw = best.ok_or_else(|| Failure::no("the raw client had no turn"))?;
    Ok((raw, best_wrk))
}

/// One recipient, its endpoints, and the number of the next event.
pub(super) struct Runner<'a> {
    stage: &'a mut Stage,
    load: Load,
    prefix: String,
    endpoints: u64,
    next: u64,
    /// Events of the stretch under way that have arrived everywhere.
    arrived: Arc<AtomicU64>,
}

impl<'a> Runner<'a> {
    pub(super) async fn new(
        stage: &'a mut Stage,
        name: &str,
        endpoints: usize,
    ) -> Result<Self, Failure> {
        let load = stage.recipient(name, endpoints).await?;
        Ok(Runner {
            load,
            stage,
            arrived: Arc::default(),
            prefix: format!("/{name}/"),
            endpoints: endpoints as u64,
            next: name.len() as u64 * 1_000_000_000 + endpoints as u64 * 100_000_000_000,
        })
    }

    /// So many events as fast as they arrive.
    pub(super) async fn full(
        &mut self,
        events: u64,
        progress: &Progress,
    ) -> Result<Stretch, Failure> {
        let pace = Pace::Arrivals(Arc::clone(&self.arrived));
        Ok(self.submit(events, &pace, progress).await?.1)
    }

    /// So many events as fast as they are taken: the rate of admission, and the stretch.
    pub(super) async fn burst(
        &mut self,
        events: u64,
        progress: &Progress,
    ) -> Result<(f64, Stretch), Failure> {
        self.submit(events, &Pace::Burst, progress).await
    }

    async fn submit(
        &mut self,
        events: u64,
        pace: &Pace,
        progress: &Progress,
    ) -> Result<(f64, Stretch), Failure> {
        let first = self.expect(events).await?;
        self.arrived.store(0, Ordering::Relaxed);
        let mark = self.stage.mark()?;
        let began_us = load::now_us();
        let load = self.load.clone();
        let submitting = load.full(first, events, pace);
        let (fed, counted) = self.beside(submitting, events, progress).await?;
        let mut stretch = self.stage.stretch(&mark, counted)?;
        // From the first submission, not from the first arrival: waiting to begin is work too.
        stretch.counted.first_us = began_us;
        Ok((fed.per_s(events), stretch))
    }

    /// So many seconds of events at instants fixed beforehand.
    pub(super) async fn open(
        &mut self,
        seconds: u64,
        rate: f64,
        progress: &Progress,
    ) -> Result<Stretch, Failure> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of minutes fits, and is not negative"
        )]
        let events = (rate * seconds as f64) as u64;
        let first = self.expect(events).await?;
        let mark = self.stage.mark()?;
        let load = self.load.clone();
        let submitting = load.open(first, events, rate);
        let (_, counted) = self.beside(submitting, events, progress).await?;
        self.stage.stretch(&mark, counted)
    }

    async fn expect(&mut self, events: u64) -> Result<u64, Failure> {
        let first = self.next;
        self.next += events;
        let expected = Expected {
            prefix: self.prefix.clone(),
            first,
            events,
            endpoints: self.endpoints,
            spread: false,
        };
        self.stage.sink.expect(&expected).await?;
        Ok(first)
    }

    /// Submits, and waits for the arrivals beside it.
    async fn beside(
        &mut self,
        submitting: impl Future<Output = Result<load::Fed, Failure>>,
        events: u64,
        progress: &Progress,
    ) -> Result<(load::Fed, Counted), Failure> {
        let deliveries = events * self.endpoints;
        let per_event = self.endpoints;
        let arrived = Arc::clone(&self.arrived);
        let arriving = self.stage.sink.await_all(deliveries, |counted| {
            progress.at(counted.distinct / per_event);
            arrived.store(counted.distinct / per_event, Ordering::Relaxed);
        });
        tokio::try_join!(submitting, arriving)
    }
}

/// Arrivals a second from the first submission to the last arrival.
pub(super) fn arrivals_per_s(stretch: &Stretch) -> f64 {
    let counted = &stretch.counted;
    per_s(
        counted.distinct,
        counted.last_us.saturating_sub(counted.first_us),
    )
}
