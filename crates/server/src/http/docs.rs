//! `/openapi.json`, `/docs` and a page for every error code, all without a network.
//!
//! Written from the same tables that the program runs on, so they cannot say anything else.
//!
//! Absent here: scripts.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::response::{Html, IntoResponse, Response};
use http::header;
use postrider_core::cause::Cause;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::access::{MATRIX, ROUTES};
use super::body::Name;
use super::error::{Code, Problem};
use super::v1;
use crate::registry::Role;

/// Nothing but this page and its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
     base-uri 'none'; form-action 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postrider",
        description = "Events in, signed deliveries out, and a reason for everything."
    ),
    security(("key" = [])),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// The description of all routes.
pub(super) fn description() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(v1::routes())
        .into_openapi()
}

/// The description of all routes, as JSON.
pub(super) async fn openapi() -> Response {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        description()
            .to_json()
            .unwrap_or_else(|_| unreachable!("a constant document"))
    });
    ([(header::CONTENT_TYPE, "application/json")], JSON.as_str()).into_response()
}

/// Routes, roles, causes and error codes.
pub(super) async fn overview() -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(overview_page);
    page(PAGE.clone())
}

/// What one error code means.
pub(super) async fn error(Name(word): Name) -> Result<Response, Problem> {
    let code = Code::ALL.iter().find(|code| code.word() == word);
    let code = code.ok_or_else(|| Problem::of(Code::NotFound).detail("there is no such code"))?;
    let body = format!(
        "<p><a href=\"/docs\">All codes</a></p><h1><code>{}</code></h1><p>HTTP {}</p>\
         <h2>{}</h2><p>{}</p><h2>What to do</h2><p>{}</p>",
        code.word(),
        code.http_status().as_u16(),
        escaped(code.title()),
        escaped(code.meaning()),
        escaped(code.way_out()),
    );
    Ok(page(document(code.word(), &body)))
}

fn page(text: String) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(text)).into_response()
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <title>{title} – Postrider</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;\
         max-width:60rem;margin:2rem auto;padding:0 1rem}}table{{border-collapse:collapse}}\
         td,th{{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}}</style>{body}"
    )
}

fn overview_page() -> String {
    // Writing to a `String` cannot fail.
    let mut body = String::from(
        "<h1>Postrider</h1><p><a href=\"/openapi.json\">OpenAPI</a> · \
         <a href=\"#roles\">roles</a> · <a href=\"#codes\">error codes</a> · \
         <a href=\"#causes\">causes</a></p><h2>Routes</h2><table>",
    );
    for (method, path, action) in ROUTES {
        let path = escaped(path);
        let _ = write!(
            body,
            "<tr><td>{method}<td><code>{path}</code><td>{action:?}"
        );
    }
    body.push_str("</table><h2 id=\"roles\">Roles</h2><table><tr><th>");
    for role in Role::ALL {
        let _ = write!(body, "<th>{}", role.name());
    }
    for (action, roles) in MATRIX {
        let _ = write!(body, "<tr><td>{action:?}");
        for role in Role::ALL {
            body.push_str(if roles.contains(&role) {
                "<td>yes"
            } else {
                "<td>–"
            });
        }
    }
    body.push_str("</table><h2 id=\"codes\">Error codes</h2><table>");
    for code in Code::ALL {
        let (word, status) = (code.word(), code.http_status().as_u16());
        let title = escaped(code.title());
        let _ = write!(
            body,
            "<tr><td><a href=\"/docs/errors/{word}\"><code>{word}</code></a><td>{status}<td>{title}"
        );
    }
    body.push_str("</table><h2 id=\"causes\">Causes</h2><table>");
    for cause in Cause::ALL {
        let (code, text, advice) = (cause.code(), escaped(cause.text()), escaped(cause.advice()));
        let _ = write!(body, "<tr><td><code>{code}</code><td>{text}<td>{advice}");
    }
    body.push_str("</table>");
    document("API", &body)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
