//! The HTTP API: requests in, problem documents or answers out, and one seam to the engine.
//!
//! The way of a request: `server` (connections and their limits) → [`router`] → `access` (key,
//! pace, role, tenant) → a handler in `v1` → [`intake`] or the registry or the store's reading half
//! → `error`, the only file that knows which HTTP status a cause has.
//!
//! Absent here: deciding. Nothing in this module says what becomes of a delivery.

pub mod access;
mod body;
mod digest;
mod docs;
pub mod error;
mod health;
pub mod intake;
mod server;
mod v1;
pub mod words;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use postrider_core::engine::Why;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;

use crate::config;
use crate::observe::Metrics;
use crate::receipts::ReceiptTokens;
use crate::registry::Registry;
use crate::store::Reader;
use crate::transport::Transport;
use crate::work;
use error::{Code, Problem};
use intake::{Intake, Locate};
pub use server::{Listen, ServeError, serve};

/// Everything that handlers use.
pub struct Api {
    /// Tenants, keys, endpoints, policies.
    pub registry: Arc<Registry>,
    /// The way to the engine.
    pub intake: Arc<dyn Intake>,
    /// The ledger, to read.
    pub reader: Arc<dyn Reader>,
    /// From outer ids to inner ones.
    pub locate: Arc<dyn Locate>,
    /// The way out, for dry runs.
    pub transport: Arc<Transport>,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Limits of requests.
    pub limits: config::Server,
    /// Tokens by which devices prove their receipts.
    pub receipts: Arc<ReceiptTokens>,
    /// Hosts of push services beside those of the browsers' makers.
    pub push_hosts: Vec<String>,
    /// Plain `http://` endpoints may be registered.
    pub allow_http: bool,
    /// What a caller that finds no room is told to wait.
    pub retry_after_ms: u64,
    /// Turns true when the process was asked to end.
    pub draining: watch::Receiver<bool>,
    /// Room for bodies of events that are read or on their way to the disk; see [`body_room`].
    pub body_room: Arc<Semaphore>,
}

/// The room for bodies that the configuration allows, in KiB.
#[must_use]
pub fn body_room(limits: &config::Server) -> Arc<Semaphore> {
    let bytes = limits.bodies_bytes_max.max(limits.batch_bytes_max);
    Arc::new(Semaphore::new(
        (bytes / 1_024 + 1).min(Semaphore::MAX_PERMITS),
    ))
}

impl Api {
    /// There is room for a submission, as far as can be told before it is read. A full disk is not
    /// asked about: only trying finds out that there is room again.
    fn room(&self) -> Result<(), Problem> {
        if *self.draining.borrow() {
            self.count_refusal(Why::Draining);
            return Err(error::refused(Why::Draining, i64::from(DRAINING_RETRY_MS)));
        }
        let load = self.intake.load();
        if load.waiting < load.waiting_max && load.window < load.window_max {
            return Ok(());
        }
        self.count_refusal(Why::Overloaded);
        Err(Problem::of(Code::Overloaded).retry_after_ms(self.retry_after_ms))
    }

    /// There is room for a body of this length; it is taken until the permit is dropped.
    fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(bytes / 1_024 + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.body_room).try_acquire_many_owned(kib);
        room.map_err(|_| {
            self.count_refusal(Why::Overloaded);
            Problem::of(Code::Overloaded).retry_after_ms(self.retry_after_ms)
        })
    }

    fn count_refusal(&self, why: Why) {
        match why {
            Why::Overloaded => &self.metrics.refused_overloaded,
            Why::StorageFull => &self.metrics.refused_storage_full,
            Why::Draining => &self.metrics.refused_draining,
        }
        .inc();
    }
}

/// Between two writings of when keys were used last.
const LAST_USED_EVERY: Duration = Duration::from_secs(60);
/// What a caller is told to wait while the process ends: another one is up by then.
const DRAINING_RETRY_MS: u32 = 1_000;

/// The whole API.
pub fn router(api: Arc<Api>) -> Router {
    let (with_key, _) = v1::routes().split_for_parts();
    let with_key = with_key
        .route("/metrics", get(health::metrics))
        .route_layer(from_fn_with_state(Arc::clone(&api), access::gate));
    let open = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::overview))
        .route("/docs/errors/{code}", get(docs::error))
        .route(
            "/v1/receipts",
            post(v1::take_receipts).options(v1::ask_receipts),
        );
    finished(with_key.merge(open), api)
}

/// Health and metrics without a key, for a listener that only the operator reaches.
pub fn admin_router(api: Arc<Api>) -> Router {
    let open = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics));
    finished(open, api)
}

fn finished(router: Router<Arc<Api>>, api: Arc<Api>) -> Router {
    router
        .route_layer(from_fn_with_state(Arc::clone(&api), count))
        .method_not_allowed_fallback(async || Problem::of(Code::MethodNotAllowed))
        .fallback(async || Problem::of(Code::NotFound).detail("there is no such route"))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(plain))
        .with_state(api)
}

/// Counts requests by route and class of answer.
async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = path
        .and_then(|path| known_route(path.as_str()))
        .unwrap_or("other");
    api.metrics.request(route, response.status().as_u16());
    response
}

/// The route as it stands in the program, for a label that outlives the request.
fn known_route(path: &str) -> Option<&'static str> {
    const OPEN: [&str; 6] = [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/docs/errors/{code}",
        "/v1/receipts",
    ];
    let with_key = access::ROUTES.iter().map(|(_, route, _)| *route);
    with_key.chain(OPEN).find(|route| *route == path)
}

/// Nothing that is answered is to be sniffed, framed or kept by anybody in between.
async fn plain(request: Request, next: Next) -> Response {
    use http::{HeaderName, HeaderValue, header};
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A panic is a broken invariant of ours: this request ends, the others go on.
#[allow(clippy::needless_pass_by_value)] // as the layer hands it over
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(panic = text, "a handler panicked");
    Problem::of(Code::Internal).into_response()
}

/// Writes down now and then when keys were used last, until the process is asked to end, and once
/// more then.
pub async fn tend(api: Arc<Api>) {
    let mut draining = api.draining.clone();
    loop {
        let asked = draining.wait_for(|draining| *draining);
        let ended = tokio::time::timeout(LAST_USED_EVERY, asked).await.is_ok();
        if let Ok(Err(error)) = blocking(&api, |api| api.registry.write_last_used()).await {
            tracing::warn!(%error, "the last use of keys was not written");
        }
        if ended {
            return;
        }
    }
}

/// Does what waits for a disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    api: &Arc<Api>,
    work: impl FnOnce(&Arc<Api>) -> T + Send + 'static,
) -> Result<T, Problem> {
    let api = Arc::clone(api);
    work::blocking(move || work(&api)).await.map_err(|error| {
        tracing::error!(%error, "a blocking call ended early");
        Problem::of(Code::Internal)
    })
}
