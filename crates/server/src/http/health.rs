//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Absent here: judging. Alive means that this answers; ready means that intake takes submissions.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;

use super::Api;
use super::error::{Code, Problem};
use crate::observe::metrics::CONTENT_TYPE;

/// What `/readyz` answers.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// Everything that was unsettled at the start is back in memory.
    recovered: bool,
    draining: bool,
    storage_full: bool,
    /// Submissions on their way to the disk, and how many may be.
    waiting: u64,
    waiting_max: u64,
    /// Unsettled deliveries in memory, and how many may be.
    window: u64,
    window_max: u64,
}

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether intake takes submissions.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let load = api.intake.load();
    let draining = *api.draining.borrow();
    let ready = load.recovered && !draining && !load.storage_full;
    let readiness = Readiness {
        ready,
        recovered: load.recovered,
        draining,
        storage_full: load.storage_full,
        waiting: load.waiting,
        waiting_max: load.waiting_max,
        window: load.window,
        window_max: load.window_max,
    };
    let http_status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (http_status, axum::Json(readiness)).into_response()
}

/// All metrics as OpenMetrics text.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let endpoints = api.registry.directory().len();
    api.metrics
        .endpoints
        .set(i64::try_from(endpoints).unwrap_or(i64::MAX));
    let text = api
        .metrics
        .render()
        .map_err(|_| Problem::of(Code::Internal))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
