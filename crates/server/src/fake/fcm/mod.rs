//! The fake as FCM's HTTP v1 API and as the token endpoint beside it.
//!
//! | path | |
//! | --- | --- |
//! | `POST /oauth2/token` | exchanges an assertion for an access token |
//! | `POST /v1/projects/<project>/messages:send` | takes a notification for one device |
//! | `GET /_/fcm/account?project=` | a service account of that project, as the console gives it |
//! | `POST /_/fcm/revoke` | takes every access token back |
//!
//! Both refuse what Google refuses, in Google's words. What passes is scripted and recorded under
//! the device's own path, `/fcm/<token or installation id>`, and requests for tokens under
//! `/oauth2/token`, so behaviours, filters and counts work as they do for webhooks: an answer with
//! an HTTP status and no body gets the body that Google gives with it. The record's key and
//! correlation id are the notification id.
//!
//! Absent here: devices. Every token that looks like one is registered until a script says 404.

mod desk;
mod send;
mod shape;
mod token;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Bytes, Incoming};
use serde_json::Value;

use super::behaviour::{Act, Answer, Choice};
use super::record::Record;
use super::serve::{TooLong, Word, broken, now_us, perform, read};
use super::signature::Verdict;
use super::state::State;
use super::wire::{Broken, Misdeed, Reply};

pub use desk::Desk;
pub(super) use token::Accounts;

use send::{Order, Refusal};
use token::{Bearer, TOKEN_PATH};

/// The check of a request's shape, for the test that holds it against Google's own.
pub use shape::{Kind, REQUEST};

/// The page that Google's front end gives for a URL that nothing answers to.
const NOT_FOUND_PAGE: &str =
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n";

/// Whether a path is one of FCM's. What begins as one of its API's, but is none, is too: that is
/// answered by a page.
pub(super) fn is_ours(path: &str) -> bool {
    path == TOKEN_PATH || path.starts_with("/v1/projects/")
}

/// Answers one request to a path of FCM's.
pub(super) async fn answer(
    state: &State,
    word: &Word,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Broken> {
    let (head, incoming) = request.into_parts();
    let body = match read(incoming).await? {
        Ok(body) => body,
        Err(TooLong) => return Ok(page(StatusCode::PAYLOAD_TOO_LARGE)),
    };
    let arrived_us = now_us();
    if head.uri.path() == TOKEN_PATH {
        return exchange(state, word, &head, &body, arrived_us).await;
    }
    let Some(project) = project(&head) else {
        return Ok(page(StatusCode::NOT_FOUND));
    };
    let now_s = arrived_us / 1_000_000;
    let judged = let_in(&state.fcm, project, &head.headers, now_s);
    let order = match judged.and_then(|()| send::judge(&body)) {
        Ok(order) => order,
        Err(refusal) => {
            note(
                state,
                head.uri.path(),
                &Value::Null,
                &body,
                arrived_us,
                refusal.http_status,
            );
            return Ok(spoken(&refusal));
        }
    };
    send_on(state, word, project, &order, &body, arrived_us).await
}

/// The project of `/v1/projects/<project>/messages:send`.
fn project(head: &Parts) -> Option<&str> {
    let rest = head.uri.path().strip_prefix("/v1/projects/")?;
    let project = rest.strip_suffix("/messages:send")?;
    let fits = !project.is_empty() && !project.contains('/') && head.method == Method::POST;
    fits.then_some(project)
}

fn let_in(
    accounts: &Accounts,
    project: &str,
    headers: &HeaderMap,
    now_s: u64,
) -> Result<(), Refusal> {
    let token = headers.get(header::AUTHORIZATION);
    let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = token else {
        let words = "Request is missing required authentication credential.";
        return Err(send::refusal(401, "UNAUTHENTICATED", "", words));
    };
    match accounts.bearer(token, project, now_s) {
        Bearer::Good => Ok(()),
        Bearer::Bad => {
            let words = "Request had invalid authentication credentials.";
            Err(send::refusal(401, "UNAUTHENTICATED", "", words))
        }
        Bearer::Elsewhere => {
            let words = "Permission 'cloudmessaging.messages.create' denied on resource.";
            Err(send::refusal(403, "PERMISSION_DENIED", "", words))
        }
    }
}

/// Does with a request that FCM would take what the device's script says.
async fn send_on(
    state: &State,
    word: &Word,
    project: &str,
    order: &Order,
    body: &Bytes,
    arrived_us: u64,
) -> Result<Response<Reply>, Broken> {
    let visit = state.visit(&format!("/fcm/{}", order.target));
    let id = order.data["postrider_id"].as_str().unwrap_or_default();
    let choice = Choice {
        number: visit.number,
        attempt: u32::try_from(visit.number).unwrap_or(u32::MAX),
        key: id,
    };
    let mut act = visit.script.act(&choice).clone();
    if let Act::Answer(answer) = &mut act {
        let name = match order.validate_only {
            true => "fake_message_id".to_owned(),
            false => format!("0:{arrived_us}%{:08x}", crc32c::crc32c(body)),
        };
        complete(answer, || {
            format!(r#"{{"name":"projects/{project}/messages/{name}"}}"#)
        });
        if order.validate_only {
            answer.processes = Some(false);
        }
    }
    let payload = order.data["payload"].as_str().unwrap_or_default();
    state.tally(&visit.path, payload.as_bytes(), arrived_us);
    let (http_status, at_once) = match &act {
        Act::Answer(answer) => (answer.http_status, answer.delay_ms == 0),
        _ => (0, false),
    };
    let serial = push(
        state,
        Record {
            path: visit.path,
            http_status,
            processed: act.processes(),
            answered_us: if at_once { arrived_us } else { 0 },
            ..record(&order.data, body, state.body_keep_bytes, arrived_us)
        },
    );
    if matches!(act, Act::ResetBeforeBody) {
        return broken(word, Misdeed::Reset);
    }
    perform(state, word, &act, serial).await
}

async fn exchange(
    state: &State,
    word: &Word,
    head: &Parts,
    body: &Bytes,
    arrived_us: u64,
) -> Result<Response<Reply>, Broken> {
    let visit = state.visit(TOKEN_PATH);
    let choice = Choice {
        number: visit.number,
        attempt: 1,
        key: "",
    };
    let mut act = visit.script.act(&choice).clone();
    if let Act::Answer(answer) = &mut act
        && answer.http_status == 200
        && answer.body.is_empty()
    {
        let audience = format!("{}{TOKEN_PATH}", origin(head));
        let (http_status, said) =
            grant(&state.fcm, (head, body), &audience, arrived_us / 1_000_000);
        (answer.http_status, answer.body) = (http_status, said.to_string());
        answer.headers.push(json_type());
    }
    let http_status = match &act {
        Act::Answer(answer) => answer.http_status,
        _ => 0,
    };
    let serial = note(
        state,
        TOKEN_PATH,
        &Value::Null,
        &[],
        arrived_us,
        http_status,
    );
    perform(state, word, &act, serial).await
}

/// What an assertion is answered with, and under which HTTP status.
fn grant(
    accounts: &Accounts,
    (head, body): (&Parts, &Bytes),
    audience: &str,
    now_s: u64,
) -> (u16, Value) {
    let form = head.headers.get(header::CONTENT_TYPE);
    let form = form.is_some_and(|value| value == "application/x-www-form-urlencoded");
    let granted = match head.method == Method::POST && form {
        true => accounts.exchange(body, audience, now_s),
        false => Err(("invalid_request", "a form must be posted".to_owned())),
    };
    match granted {
        Ok(grant) => (200, grant),
        Err((error, words)) => (
            400,
            serde_json::json!({ "error": error, "error_description": words }),
        ),
    }
}

/// Where a client has reached this fake, as its URL begins.
pub(super) fn origin(head: &Parts) -> String {
    let host = head
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let secure = head.uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}", host.or(authority).unwrap_or_default())
}

/// Gives an answer without a body the one that Google gives with its status.
fn complete(answer: &mut Answer, accepted: impl FnOnce() -> String) {
    if !answer.body.is_empty() {
        return;
    }
    answer.body = match send::usual(answer.http_status) {
        Some(usual) => usual.body.to_string(),
        None if (200..300).contains(&answer.http_status) => accepted(),
        None => return,
    };
    answer.headers.push(json_type());
}

fn json_type() -> (String, String) {
    (
        "content-type".into(),
        "application/json; charset=UTF-8".into(),
    )
}

fn note(
    state: &State,
    path: &str,
    data: &Value,
    body: &[u8],
    arrived_us: u64,
    http_status: u16,
) -> u64 {
    push(
        state,
        Record {
            path: path.into(),
            http_status,
            processed: (200..300).contains(&http_status),
            answered_us: arrived_us,
            ..record(data, body, state.body_keep_bytes, arrived_us)
        },
    )
}

fn push(state: &State, record: Record) -> u64 {
    if state.records { state.push(record) } else { 0 }
}

fn record(data: &Value, body: &[u8], keep: usize, arrived_us: u64) -> Record {
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    Record {
        key: text("postrider_id").into(),
        correlation_id: text("postrider_id").into(),
        sequence: text("postrider_sequence").parse().unwrap_or(0),
        arrived_us,
        signature: Verdict::Unchecked,
        body_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
        body_crc32c: crc32c::crc32c(body),
        body: String::from_utf8_lossy(&body[..body.len().min(keep)]).into(),
        ..Record::default()
    }
}

fn spoken(refusal: &Refusal) -> Response<Reply> {
    let body = Bytes::from(refusal.body.to_string());
    let mut response = Response::new(Reply::Whole(body));
    let http_status = StatusCode::from_u16(refusal.http_status);
    *response.status_mut() = http_status.unwrap_or(StatusCode::BAD_REQUEST);
    let json = HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn page(http_status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Bytes::from_static(NOT_FOUND_PAGE.as_bytes())));
    *response.status_mut() = http_status;
    let html = HeaderValue::from_static("text/html; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

#[cfg(test)]
mod tests;
