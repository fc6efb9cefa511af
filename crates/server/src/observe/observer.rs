//! Turns what the engine observed into counts and lines.
//!
//! Absent here: looking anything up. Whoever has the event at hand passes what a line needs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use postrider_core::breaker::BreakerState;
use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, RouteId};
use postrider_core::observation::{Attempt, Observation};

use super::metrics::{Hop, Metrics};

/// Counts observations. Cheap to share.
pub struct Observer {
    metrics: Arc<Metrics>,
    /// Breakers that are not closed, so that the gauges count endpoints and not changes.
    breakers: Mutex<HashMap<EndpointId, Breaker>>,
    /// Routes that are held, and why.
    held: Mutex<HashMap<RouteId, Cause>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Open,
    Probing,
}

impl Observer {
    /// An observer that counts in `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Observer {
        Observer {
            metrics,
            breakers: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Counts what happened. An attempt's line is the caller's to say.
    pub fn observe(&self, observation: &Observation) {
        let metrics = &*self.metrics;
        match observation {
            Observation::Admitted { deliveries, .. } => {
                metrics.admissions.inc();
                metrics.deliveries.inc_by(u64::from(*deliveries));
            }
            Observation::Duplicate { .. } => {
                metrics.duplicates.inc();
            }
            Observation::KeyConflict { .. } => {
                metrics.key_conflicts.inc();
            }
            // The answer to the caller counts it, with its reason.
            Observation::Refused { .. } => {}
            Observation::Attempt(attempt) => self.attempt(attempt),
            Observation::Closed { state, cause, .. } => metrics.settled(*state, *cause),
            Observation::Incident {
                endpoint,
                retry_after_ms,
            } => {
                metrics.retry_after_incidents.inc();
                tracing::warn!(
                    endpoint = endpoint.0,
                    retry_after_ms,
                    "waiting time beyond the cap"
                );
            }
            Observation::Route { route, open, cause } => self.route(*route, *open, *cause),
            Observation::Breaker { endpoint, state } => self.breaker(*endpoint, *state),
            Observation::Conflict { delivery } => {
                metrics.ledger_conflicts.inc();
                tracing::error!(delivery = delivery.0, "the ledger's row is not as expected");
            }
        }
    }

    fn attempt(&self, attempt: &Attempt) {
        let Attempt {
            channel,
            kind,
            cause,
            ..
        } = *attempt;
        self.metrics.attempt(channel, kind, cause);
        self.metrics
            .hop(Hop::Response)
            .observe(u64::from(attempt.latency_ms) * 1_000);
        if let Some(state) = attempt.settled {
            self.metrics.settled(state, attempt.cause);
        }
    }

    fn route(&self, route: RouteId, open: bool, cause: Option<Cause>) {
        let mut held = self.held.lock();
        let before = match cause.filter(|_| !open) {
            Some(cause) => {
                let (route_id, code, why) = (route.0, cause.code(), why_held(cause));
                match cause {
                    // It ends by itself.
                    Cause::RateLimited => {
                        tracing::warn!(route = route_id, cause = code, "{why}");
                    }
                    _ => tracing::error!(route = route_id, cause = code, "{why}"),
                }
                self.metrics.route_held(cause, true);
                held.insert(route, cause)
            }
            None => {
                tracing::info!(
                    route = route.0,
                    by_hand = cause.is_none(),
                    "a route is no longer held for what a provider said"
                );
                held.remove(&route)
            }
        };
        if let Some(before) = before {
            self.metrics.route_held(before, false);
        }
    }

    fn breaker(&self, endpoint: EndpointId, state: BreakerState) {
        let now = match state {
            BreakerState::Closed => None,
            BreakerState::Open { .. } => Some(Breaker::Open),
            BreakerState::Probing => Some(Breaker::Probing),
        };
        let mut breakers = self.breakers.lock();
        let before = match now {
            Some(now) => breakers.insert(endpoint, now),
            None => breakers.remove(&endpoint),
        };
        let gauge = |breaker| match breaker {
            Breaker::Open => &self.metrics.breakers_open,
            Breaker::Probing => &self.metrics.breakers_probing,
        };
        if let Some(before) = before {
            gauge(before).dec();
        }
        if let Some(now) = now {
            gauge(now).inc();
        }
        if before != Some(Breaker::Probing) || now.is_none() {
            tracing::info!(endpoint = endpoint.0, open = now.is_some(), "breaker");
        }
    }
}

/// What is said when a route begins to wait.
fn why_held(cause: Cause) -> &'static str {
    match cause {
        Cause::RateLimited => "the quota of a route is used up: what goes over it waits",
        Cause::NotFound => "the address of a route leads nowhere: what goes over it waits",
        Cause::RouteUnusable => "a route cannot be used: what goes over it waits",
        _ => "the credentials of a route are refused: what goes over it waits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::TenantId;
    use postrider_core::time::Time;

    #[test]
    fn gauges_count_endpoints_and_not_changes() {
        let metrics = Arc::new(Metrics::default());
        let observer = Observer::new(Arc::clone(&metrics));
        let tell = |endpoint, state| {
            let endpoint = EndpointId(endpoint);
            observer.observe(&Observation::Breaker { endpoint, state });
        };
        let open = BreakerState::Open { until: Time(5) };
        tell(1, open);
        tell(1, open);
        tell(2, open);
        tell(2, BreakerState::Probing);
        assert_eq!(
            (metrics.breakers_open.get(), metrics.breakers_probing.get()),
            (1, 1)
        );
        tell(1, BreakerState::Closed);
        tell(2, BreakerState::Closed);
        tell(2, BreakerState::Closed);
        assert_eq!(
            (metrics.breakers_open.get(), metrics.breakers_probing.get()),
            (0, 0)
        );
    }

    #[test]
    fn a_route_is_held_once_whatever_the_cause() {
        let metrics = Arc::new(Metrics::default());
        let observer = Observer::new(Arc::clone(&metrics));
        let tell = |open, cause| {
            let route = RouteId(7);
            observer.observe(&Observation::Route { route, open, cause });
            let text = metrics.render().unwrap();
            let held = |cause: &str| {
                let series = format!("postrider_routes_held{{cause=\"{cause}\"}} 1");
                text.lines().any(|line| line == series)
            };
            (held("AUTH_FAILURE"), held("NOT_FOUND"))
        };
        assert_eq!(tell(false, Some(Cause::AuthFailure)), (true, false));
        assert_eq!(tell(false, Some(Cause::NotFound)), (false, true));
        assert_eq!(tell(true, None), (false, false));
        assert_eq!(tell(true, Some(Cause::Accepted)), (false, false));
    }

    #[test]
    fn only_refused_credentials_are_said_to_be_refused() {
        let of = |cause| super::why_held(cause).split(':').next().unwrap();
        for (cause, expected) in [
            (Cause::AuthFailure, "the credentials of a route are refused"),
            (Cause::TlsFailure, "the credentials of a route are refused"),
            (Cause::RateLimited, "the quota of a route is used up"),
            (Cause::NotFound, "the address of a route leads nowhere"),
            (Cause::RouteUnusable, "a route cannot be used"),
        ] {
            assert_eq!(of(cause), expected, "{cause}");
        }
    }

    #[test]
    fn admissions_and_attempts_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let observer = Observer::new(Arc::clone(&metrics));
        observer.observe(&Observation::Admitted {
            tenant: TenantId(1),
            deliveries: 10,
        });
        observer.observe(&Observation::Attempt(
            super::super::attempts::tests::attempt(1),
        ));
        assert_eq!(
            (metrics.admissions.get(), metrics.deliveries.get()),
            (1, 10)
        );
        assert_eq!(metrics.hop(Hop::Response).count(), 1);
    }
}
