//! The web site that people visit: the shipped client package behind a page, and the list of what
//! its worker tells.
//!
//! Absent here: any part of the client of its own. The worker of the site is the shipped script,
//! imported after a few lines that tell of each push and of each `showNotification`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest wait for something that the browser has to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A site on a free port of this machine, under the name `localhost`, which browsers trust.
pub struct Site {
    port: u16,
    told: watch::Receiver<Vec<Value>>,
    serving: tokio::task::AbortHandle,
}

/// Every page tells that it was opened.
const PAGE: &str = r#"<!doctype html><title>A shop</title><script type="module">
    const body = JSON.stringify({ kind: "opened", path: location.pathname });
    fetch("/told", { method: "POST", headers: { "content-type": "application/json" }, body });
</script>"#;

type Told = Arc<watch::Sender<Vec<Value>>>;

impl Site {
    pub async fn start() -> Site {
        let (tell, told) = watch::channel(Vec::new());
        let routes = Router::new()
            .route("/", get(|| async { Html(PAGE) }))
            .route("/orders/{order}", get(|| async { Html(PAGE) }))
            .route("/worker.js", get(|| script(include_str!("site/worker.js"))))
            .route("/postrider-sw.js", get(|| file("postrider-sw.js".into())))
            .route(
                "/client/{*path}",
                get(|UrlPath(path): UrlPath<String>| file(path)),
            )
            .route("/told", post(told_of))
            .route("/receipts", post(receipts))
            .with_state(Told::new(tell));
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        Site {
            port,
            told,
            serving: serving.abort_handle(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    /// What was told of this kind: `opened` by the pages, `push`, `show` and `push handled` by the
    /// worker, and `receipts` that were sent here.
    pub fn told(&self, kind: &str) -> Vec<Value> {
        of_kind(&self.told.borrow(), kind)
    }

    /// Waits until that much of this kind was told.
    pub async fn wait(&self, kind: &str, count: usize) -> Vec<Value> {
        self.wait_for(|| self.told(kind).len() >= count).await;
        self.told(kind)
    }

    /// Waits until what was told makes this hold.
    pub async fn wait_for(&self, holds: impl Fn() -> bool) {
        let mut told = self.told.clone();
        let held = async {
            while !holds() {
                told.changed().await.expect("the site runs");
            }
        };
        if tokio::time::timeout(PATIENCE, held).await.is_err() {
            panic!("it does not come: {:#?}", self.told.borrow());
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn of_kind(told: &[Value], kind: &str) -> Vec<Value> {
    let of = |told: &&Value| told["kind"] == kind;
    told.iter().filter(of).cloned().collect()
}

async fn told_of(State(told): State<Told>, Json(what): Json<Value>) -> StatusCode {
    told.send_modify(|told| told.push(what));
    StatusCode::NO_CONTENT
}

async fn receipts(State(told): State<Told>, Json(mut what): Json<Value>) -> StatusCode {
    what["kind"] = "receipts".into();
    told.send_modify(|told| told.push(what));
    StatusCode::OK
}

/// A file of the package, as it is shipped.
async fn file(path: String) -> Response {
    let package: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/web");
    match std::fs::read_to_string(package.join(path)) {
        Ok(text) => script(text).await,
        Err(_none) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn script(text: impl Into<String>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/javascript")];
    (headers, text.into()).into_response()
}
