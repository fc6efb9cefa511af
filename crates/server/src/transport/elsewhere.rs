//! A token that one of Apple's two environments does not know may be one of the other: Xcode's
//! builds get tokens of the sandbox, and nothing in a token tells. Where the tenant has a route to
//! the other one for the same app, the device is moved to it, once, and what was refused is tried
//! there.
//!
//! Absent here: guessing. Without such a route, or if both have refused, the device has ended.

use std::sync::Arc;

use postrider_core::id::{EndpointId, RouteId};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;

use crate::channel::{Attempted, registration};
use crate::registry::{Credentials, Moved, Registry, RegistryError, Route};
use crate::work;

/// Which device was refused, by which token, and on which route.
#[derive(Clone)]
pub(super) struct Refused {
    pub endpoint: EndpointId,
    pub token: Box<str>,
    pub route: RouteId,
}

/// What becomes of an attempt whose token is not known where it was sent.
pub(super) async fn tried(
    registry: &Arc<Registry>,
    refused: &Refused,
    attempted: Attempted,
    now: Time,
) -> Attempted {
    let Attempted::Answered(outcome) = attempted else {
        return attempted;
    };
    let (registry, endpoint) = (Arc::clone(registry), refused.endpoint.0);
    let refused = refused.clone();
    let moved = work::blocking(move || move_over(&registry, &refused, now)).await;
    let kind = match moved {
        Ok(Ok(true)) => OutcomeKind::Retry,
        Ok(Ok(false)) | Err(_) => outcome.kind,
        Ok(Err(error)) => {
            tracing::error!(endpoint, %error, "a device could not be moved elsewhere");
            outcome.kind
        }
    };
    Attempted::Answered(Outcome { kind, ..outcome })
}

/// Whether the device is to be reached otherwise than where it was refused, now or since before.
fn move_over(registry: &Registry, refused: &Refused, now: Time) -> Result<bool, RegistryError> {
    let Some(route) = registry.route(refused.route) else {
        return Ok(false);
    };
    let mut routes = registry.routes(route.tenant);
    routes.retain(|other| other.paused.is_none() && are_twins(&route, other));
    let twin = routes.first();
    let Some((twin, Ok((url, kind)))) =
        twin.map(|twin| (twin, registration::apns(twin, &refused.token)))
    else {
        return Ok(false);
    };
    let from = (&kind, refused.route);
    let moved = registry.move_device(refused.endpoint, from, (twin.id, url), now)?;
    if moved == Moved::Now {
        tracing::info!(
            endpoint = refused.endpoint.0,
            from = refused.route.0,
            to = twin.id.0,
            "Apple does not know a device token in one environment: it is tried in the other"
        );
    }
    Ok(moved != Moved::No)
}

/// Whether two routes lead to the same app in different environments.
fn are_twins(one: &Route, other: &Route) -> bool {
    match (&one.credentials, &other.credentials) {
        (
            Credentials::Apns { topic, sandbox, .. },
            Credentials::Apns {
                topic: same,
                sandbox: not,
                ..
            },
        ) => topic == same && sandbox != not,
        _ => false,
    }
}
