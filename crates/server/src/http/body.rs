//! Reading what a request brings: bodies up to a bound, JSON with a place for every fault.
//!
//! Absent here: what the values mean.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Code, Problem};

/// The whole body, if it has at most `bytes_max` bytes.
///
/// # Errors
/// [`Code::BodyTooLarge`], or [`Code::MalformedRequest`] if it breaks off.
pub async fn read(body: Body, length: Option<usize>, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the limit is {bytes_max} bytes");
        Problem::of(Code::BodyTooLarge).detail(detail)
    };
    // What says that it is too large need not be read to be believed.
    if length.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::malformed(None, "the body must arrive whole")),
    }
}

/// The length that the request says its body has.
#[must_use]
pub fn length(parts: &Parts) -> Option<usize> {
    parts
        .headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// A JSON body, read into `T`. An empty body is read as `{}`.
pub struct Json<T>(pub T);

/// Bytes of a JSON body outside of intake at most: PEM texts are the largest part of any.
const JSON_BYTES_MAX: usize = 262_144;

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, length(&parts), JSON_BYTES_MAX).await?;
        parse(if bytes.is_empty() { b"{}" } else { &bytes }).map(Json)
    }
}

/// JSON into `T`.
///
/// # Errors
/// [`Code::MalformedRequest`], with line and column.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(&error))
}

/// What serde says of a body.
#[must_use]
pub fn unreadable(error: &serde_json::Error) -> Problem {
    // The text names fields and kinds, and may repeat a word of the body: cut and escaped.
    Problem::malformed(None, "the body must be the JSON that this route takes").detail(
        error
            .to_string()
            .chars()
            .filter(|c| !c.is_control())
            .take(256)
            .collect::<String>(),
    )
}

/// A query, read into `T`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        let read: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|query| Query(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            Problem::malformed(None, "the query must hold only what this route takes").detail(
                text.chars()
                    .filter(|c| !c.is_control())
                    .take(256)
                    .collect::<String>(),
            )
        })
    }
}

/// The part of the path that names something.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, Problem> {
        let read: Result<axum::extract::Path<String>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|path| Name(path.0))
            .map_err(|_| Problem::of(Code::NotFound))
    }
}
