//! Version 1 of the API, a file for each kind of thing.
//!
//! Absent here: who may do what, which is `access`.

mod deliveries;
mod devices;
mod dry_run;
mod endpoint_in;
mod endpoints;
mod event_in;
mod events;
mod history;
mod keys;
mod policies;
pub mod receipts;
mod routes;
mod submission;
mod tenants;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use receipts::{ask as ask_receipts, take as take_receipts};

use super::Api;
use super::error::Problem;

/// Items of a page where the caller names no number.
const PAGE_ITEMS: usize = 50;
/// Items of a page at most.
const PAGE_ITEMS_MAX: usize = 500;

/// All routes, with their descriptions.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(tenants::create, tenants::list))
        .routes(routes!(tenants::show))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(endpoints::create, endpoints::list))
        .routes(routes!(
            endpoints::show,
            endpoints::change,
            endpoints::delete
        ))
        .routes(routes!(endpoints::pause))
        .routes(routes!(endpoints::resume))
        .routes(routes!(endpoints::rotate_secret))
        .routes(routes!(endpoints::test))
        .routes(routes!(events::submit))
        .routes(routes!(events::submit_batch))
        .routes(routes!(dry_run::dry_run))
        .routes(routes!(events::show))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(deliveries::cancel))
        .routes(routes!(policies::list))
        .routes(routes!(policies::show))
        .routes(routes!(routes::create, routes::list))
        .routes(routes!(routes::show, routes::change))
        .routes(routes!(routes::pause))
        .routes(routes!(routes::resume))
        .routes(routes!(devices::register))
        .routes(routes!(devices::register_batch))
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The items.
    items: Vec<T>,
    /// Ask again with this as `cursor`; absent on the last page. A page may be short, even empty,
    /// and have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    /// Items at most, 1 to 500.
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// Where the page before ended, as it said in `next`.
    cursor: Option<String>,
}

fn limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(PAGE_ITEMS) {
        limit @ 1..=PAGE_ITEMS_MAX => Ok(limit),
        other => Err(Problem::invalid(
            "limit",
            &other.to_string(),
            "must be between 1 and 500",
        )),
    }
}

/// A cursor is the inner id of the last row, in hexadecimal; `none` stands for none.
fn read_cursor(cursor: Option<&str>, none: u64) -> Result<u64, Problem> {
    let Some(text) = cursor else {
        return Ok(none);
    };
    u64::from_str_radix(text, 16)
        .map_err(|_| Problem::invalid("cursor", text, "must be the `next` of the page before"))
}

fn cursor(id: u64) -> String {
    format!("{id:x}")
}
