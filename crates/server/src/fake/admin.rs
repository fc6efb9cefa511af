//! The paths under `/_/`: what the fake shall do, and what it saw. Lists are NDJSON.
//!
//! Absent here: any guard. Whoever reaches the fake may script it, which is why it listens on
//! loopback unless it is told otherwise.

use axum::extract::Query;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Bytes, Incoming};
use serde::{Deserialize, Serialize};

use super::apns;
use super::behaviour::Behaviour;
use super::push;
use super::record::Filter;
use super::serve::{TooLong, read};
use super::state::State;
use super::tally::Expected;
use super::wire::{Broken, Reply};

/// Records in one answer, unless fewer are asked for; `after` goes on.
pub const PAGE_RECORDS_MAX: usize = 10_000;

const HELP: &str = r#"GET    /_/behaviour        what each path does, a JSON object a line
POST   /_/behaviour        sets it: one JSON object a line
DELETE /_/behaviour        forgets all, or ?path=
GET    /_/requests         what arrived, a JSON object a line; ?path= (may end in *), key=,
                           correlation_id=, attempt=, sequence=, status= (0: no answer),
                           processed=, signature=, body=, after= (a serial), limit=
GET    /_/requests/count   how many, with the same filters
POST   /_/clear            forgets what arrived; behaviours stay
GET    /_/fcm/account      a service account of FCM, ?project= (demo)
POST   /_/fcm/revoke       takes every access token of FCM back
POST   /_/tally            begins to count numbered bodies (for benchmarks)
GET    /_/tally            what was counted
POST   /_/push/subscribe   push subscriptions without a user agent, {"count":1,"key":"..."}
POST   /_/push/end         ends one as its user agent would, {"endpoint":"..."}
GET    /_/push/history     what became of pushes, a JSON object a line; ?endpoint=
GET    /_/browser          a page that subscribes a browser, #<public key>,<API>,<API key>
"#;

/// The page that subscribes a browser, and the worker that shows what comes: the one that is
/// shipped.
const PAGE: &str = include_str!("push/page.html");
const WORKER_PATH: &str = "/_/browser/postrider-sw.js";
const WORKER: &str = include_str!("../../../../clients/web/postrider-sw.js");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichPath {
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichProject {
    #[serde(default = "demo")]
    project: String,
}

fn demo() -> String {
    "demo".to_owned()
}

#[derive(Serialize)]
struct Count {
    count: usize,
    arrived: u64,
}

/// Answers one request under `/_/`.
pub(super) async fn answer(
    state: &State,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Broken> {
    let (head, incoming) = request.into_parts();
    let body = match read(incoming).await? {
        Ok(body) => body,
        Err(TooLong) => {
            return Ok(refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too long",
            ));
        }
    };
    let done = match (&head.method, head.uri.path()) {
        (&Method::GET, "/_/") => Ok(text("text/plain", format!("{HELP}{}", apns::admin::HELP))),
        (&Method::GET, "/_/behaviour") => Ok(lines(&state.behaviours())),
        (&Method::POST, "/_/behaviour") => set(state, &body),
        (&Method::DELETE, "/_/behaviour") => query(&head.uri).map(|which: WhichPath| {
            state.unset(which.path.as_deref());
            text("application/json", "{}\n".to_owned())
        }),
        (&Method::GET, "/_/requests") => query(&head.uri).map(|mut filter: Filter| {
            let limit = filter.limit.unwrap_or(PAGE_RECORDS_MAX);
            filter.limit = Some(limit.min(PAGE_RECORDS_MAX));
            lines(&state.find(&filter))
        }),
        (&Method::GET, "/_/requests/count") => query(&head.uri).map(|filter: Filter| {
            let (count, arrived) = state.count(&filter);
            lines(&[Count { count, arrived }])
        }),
        (&Method::POST, "/_/clear") => {
            state.clear();
            Ok(text("application/json", "{}\n".to_owned()))
        }
        (&Method::GET, "/_/fcm/account") => query(&head.uri).map(|which: WhichProject| {
            let account = state
                .fcm
                .account(&which.project, &super::fcm::origin(&head));
            text("application/json", format!("{account:#}\n"))
        }),
        (&Method::POST, "/_/fcm/revoke") => {
            state.fcm.revoke();
            Ok(text("application/json", "{}\n".to_owned()))
        }
        (&Method::POST, "/_/tally") => expect(state, &body),
        (&Method::GET, "/_/tally") => match state.counted() {
            Some(counted) => Ok(lines(&[counted])),
            None => return Ok(refusal(StatusCode::NOT_FOUND, "nothing is being counted")),
        },
        (&Method::POST, "/_/push/subscribe") => subscribe(&state.push, &body),
        (&Method::POST, "/_/push/end") => end(&state.push, &body),
        (&Method::GET, "/_/push/history") => query(&head.uri).map(|asked: PerhapsEndpoint| {
            let token = asked.endpoint.as_deref().map(last_part);
            lines(&state.push.history(token))
        }),
        (&Method::GET, path @ ("/_/browser" | WORKER_PATH)) => Ok(browser(path)),
        (method, path) if path.starts_with("/_/apns") => {
            let service = state.apns.get();
            match service.and_then(|it| apns::admin::answer(it, method, &head.uri, &body)) {
                Some(done) => done.map(|objects| lines(&objects)),
                None => return Ok(refusal(StatusCode::NOT_FOUND, "see GET /_/; is APNs on?")),
            }
        }
        _ => {
            return Ok(refusal(
                StatusCode::NOT_FOUND,
                "see GET /_/ for what there is",
            ));
        }
    };
    Ok(done.unwrap_or_else(|why| refusal(StatusCode::BAD_REQUEST, &why)))
}

fn browser(path: &str) -> Response<Reply> {
    if path != WORKER_PATH {
        return text("text/html; charset=utf-8", PAGE);
    }
    let mut response = text("text/javascript; charset=utf-8", WORKER);
    // The page is above the worker's own directory.
    let scope = HeaderValue::from_static("/_/browser");
    response
        .headers_mut()
        .insert("service-worker-allowed", scope);
    response
}

fn set(state: &State, body: &Bytes) -> Result<Response<Reply>, String> {
    for (number, behaviour) in objects::<Behaviour>(body).enumerate() {
        behaviour
            .and_then(|behaviour| state.set(behaviour).map_err(|error| error.to_string()))
            .map_err(|why| format!("behaviour {}: {why}", number + 1))?;
    }
    Ok(text("application/json", "{}\n".to_owned()))
}

fn expect(state: &State, body: &Bytes) -> Result<Response<Reply>, String> {
    let expected: Expected = objects(body).next().ok_or("an object is needed")??;
    state.expect(expected).map_err(|error| error.to_string())?;
    Ok(text("application/json", "{}\n".to_owned()))
}

/// Subscriptions made by one request at the most.
pub const SUBSCRIBE_MAX: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    #[serde(default = "one")]
    count: usize,
    key: Option<String>,
}

fn one() -> usize {
    1
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    endpoint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PerhapsEndpoint {
    endpoint: Option<String>,
}

fn subscribe(service: &push::Subscriptions, body: &Bytes) -> Result<Response<Reply>, String> {
    let asked: Subscribe = objects(body).next().ok_or("an object is needed")??;
    let made = (0..asked.count.min(SUBSCRIBE_MAX)).map(|_| {
        let endpoint = service.subscribe(asked.key.as_deref());
        endpoint.map(|endpoint| Endpoint { endpoint })
    });
    let made: Result<Vec<Endpoint>, _> = made.collect();
    made.map(|made| lines(&made))
        .map_err(|error| error.to_string())
}

fn end(service: &push::Subscriptions, body: &Bytes) -> Result<Response<Reply>, String> {
    let Endpoint { endpoint } = objects(body).next().ok_or("an object is needed")??;
    match service.end(last_part(&endpoint)) {
        Ok(()) | Err(push::Missing::Gone) => Ok(text("application/json", "{}\n".to_owned())),
        Err(push::Missing::Unknown) => Err(format!("{endpoint} is no subscription")),
    }
}

/// The token at the end of an endpoint.
fn last_part(endpoint: &str) -> &str {
    endpoint.rsplit('/').next().unwrap_or_default()
}

fn objects<T: serde::de::DeserializeOwned>(
    body: &Bytes,
) -> impl Iterator<Item = Result<T, String>> {
    serde_json::Deserializer::from_slice(body)
        .into_iter()
        .map(|object| object.map_err(|error| error.to_string()))
}

fn query<T: serde::de::DeserializeOwned>(uri: &http::Uri) -> Result<T, String> {
    let Query(value) = Query::try_from_uri(uri).map_err(|error| error.body_text())?;
    Ok(value)
}

fn lines(objects: &[impl Serialize]) -> Response<Reply> {
    let mut out = Vec::new();
    for object in objects {
        // Writing into memory what derives its own serialisation does not go wrong.
        let _written = serde_json::to_writer(&mut out, object);
        out.push(b'\n');
    }
    text("application/x-ndjson", out)
}

fn refusal(http_status: StatusCode, why: &str) -> Response<Reply> {
    let object = serde_json::json!({ "error": why });
    let mut response = text("application/json", format!("{object}\n"));
    *response.status_mut() = http_status;
    response
}

fn text(media_type: &'static str, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(body.into()));
    let value = HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
