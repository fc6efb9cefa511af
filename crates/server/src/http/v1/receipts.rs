//! `/v1/receipts`: what devices report, in batches, without an API key.
//!
//! Each receipt proves itself by the token that its notification carried. Browsers send from other
//! origins, so this route alone answers them.
//!
//! Absent here: believing. A receipt says what a device claims; nothing is sent or not sent because
//! of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderValue, StatusCode};
use postrider_core::engine::Reply;
use postrider_core::id::CorrelationId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::body::Json;
use crate::http::error::{self, Code, Problem, ProblemBody};
use crate::http::{Api, blocking};

/// Receipts of one request at the most.
const RECEIPTS_MAX: usize = 200;

/// What devices report.
#[derive(Deserialize, ToSchema)]
pub(in crate::http) struct ReceiptsIn {
    /// The receipts, 200 at most.
    receipts: Vec<ReceiptIn>,
}

/// What a device reports about one notification.
#[derive(Deserialize, ToSchema)]
#[schema(as = Receipt)]
pub(in crate::http) struct ReceiptIn {
    /// The notification's id: the correlation id of its delivery.
    id: Uuid,
    /// The token that the notification carried.
    token: String,
    /// `displayed`, `clicked` or `dismissed`.
    kind: Kind,
}

/// What a device reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReceiptKind)]
pub enum Kind {
    /// It was shown.
    Displayed = 1,
    /// It was opened.
    Clicked = 2,
    /// It was put away.
    Dismissed = 3,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 3] = [Kind::Displayed, Kind::Clicked, Kind::Dismissed];

    /// The word that the API speaks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Displayed => "displayed",
            Kind::Clicked => "clicked",
            Kind::Dismissed => "dismissed",
        }
    }
}

/// What became of the receipts.
#[derive(Serialize, ToSchema)]
pub(super) struct Taken {
    /// Receipts that are kept, those that were known before included.
    kept: usize,
    /// Those that are not: sending them again changes nothing.
    refused: Vec<Refused>,
}

/// A receipt that is not kept.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedReceipt)]
pub(super) struct Refused {
    id: Uuid,
    /// `forged` if the token is not the notification's, `unknown` if there is no such notification
    /// any more, `too_early` if it was never sent.
    why: &'static str,
}

/// Report what became of notifications
///
/// Answered once everything is durable. A receipt that comes again changes nothing.
#[utoipa::path(
    post, path = "/v1/receipts", tag = "receipts", request_body = ReceiptsIn,
    security(()),
    responses(
        (status = 200, body = Taken),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(in crate::http) async fn take(
    State(api): State<Arc<Api>>,
    Json(receipts): Json<ReceiptsIn>,
) -> Response {
    match keep(&api, receipts.receipts).await {
        Ok(taken) => from_anywhere(axum::Json(taken).into_response()),
        Err(problem) => from_anywhere(problem.into_response()),
    }
}

/// A browser asks whether it may.
pub(in crate::http) async fn ask() -> Response {
    let mut response = from_anywhere(StatusCode::NO_CONTENT.into_response());
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

fn from_anywhere(mut response: Response) -> Response {
    let anywhere = HeaderValue::from_static("*");
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, anywhere);
    response
}

async fn keep(api: &Arc<Api>, receipts: Vec<ReceiptIn>) -> Result<Taken, Problem> {
    if receipts.len() > RECEIPTS_MAX {
        let rule = "must hold at most 200 receipts";
        let count = receipts.len().to_string();
        return Err(Problem::invalid("receipts", &count, rule));
    }
    let (genuine, forged): (Vec<_>, Vec<_>) = receipts.into_iter().partition(|receipt| {
        let delivery = CorrelationId(receipt.id.as_u128());
        api.receipts.is_genuine(delivery, &receipt.token)
    });
    let mut refused: Vec<Refused> = forged
        .into_iter()
        .map(|receipt| Refused {
            id: receipt.id,
            why: "forged",
        })
        .collect();
    let found = blocking(api, move |api| {
        let find = |receipt: ReceiptIn| Ok((api.delivery_with(receipt.id)?, receipt));
        genuine
            .into_iter()
            .map(find)
            .collect::<Result<Vec<_>, Problem>>()
    });
    let mut answers = Vec::new();
    for (row, receipt) in found.await?? {
        match row {
            Some(row) => {
                let answer = api.intake.receipt(row.id, receipt.kind as u8);
                answers.push((receipt.id, answer));
            }
            None => refused.push(Refused {
                id: receipt.id,
                why: "unknown",
            }),
        }
    }
    let mut kept = 0;
    for (id, answer) in answers {
        match answer.await.map_err(|_| Problem::of(Code::Unavailable))? {
            Reply::Received => kept += 1,
            Reply::TooLate(_) => refused.push(Refused {
                id,
                why: "too_early",
            }),
            Reply::Refused {
                why,
                retry_after_ms,
            } => return Err(error::refused(why, retry_after_ms)),
            _ => refused.push(Refused { id, why: "unknown" }),
        }
    }
    Ok(Taken { kept, refused })
}
