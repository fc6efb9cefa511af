//! Announcing: what the registry knows about endpoints and policies, as the engine is told it.
//!
//! Absent here: addresses and secrets, which the engine never learns.

use std::sync::{Arc, Weak};

use crossbeam_channel::Sender;
use postrider_core::cause::Cause;
use postrider_core::endpoint::{Gate, Reach};
use postrider_core::engine::Input;
use postrider_core::id::{EndpointId, PolicyId};
use postrider_core::policy::Policy;

use super::command::Command;
use crate::registry::{Change, Endpoint, EndpointState, Gatekeeper, Policies, Registry, Route};

/// Tells the engine about every change of the registry.
pub struct Announcer {
    line: Sender<Command>,
    registry: Weak<Registry>,
}

impl Announcer {
    /// From this registry to the engine at the end of this line.
    #[must_use]
    pub fn new(line: Sender<Command>, registry: &Arc<Registry>) -> Announcer {
        Announcer {
            line,
            registry: Arc::downgrade(registry),
        }
    }

    fn tell(&self, input: Input) {
        let _ = self.line.send(Command::Input(input));
    }
}

impl Gatekeeper for Announcer {
    fn endpoint_changed(&self, endpoint: &Arc<Endpoint>, _: Change) {
        if let Some(registry) = self.registry.upgrade() {
            self.tell(Input::Endpoint(gate(endpoint, &registry.policies())));
        }
    }

    fn endpoint_forgotten(&self, id: EndpointId) {
        self.tell(Input::Forget(id));
    }

    fn route_changed(&self, route: &Arc<Route>) {
        self.tell(Input::Route {
            route: route.id,
            open: route.paused.is_none(),
        });
    }

    fn policy_changed(&self, policy: &Arc<Policy>) {
        self.tell(Input::Policy(Arc::clone(policy)));
        let Some(registry) = self.registry.upgrade() else {
            return;
        };
        let policies = registry.policies();
        for endpoint in registry.directory().iter() {
            let named = policies.version(endpoint.policy).map(|used| &used.name);
            if named == Some(&policy.name) {
                self.tell(Input::Endpoint(gate(endpoint, &policies)));
            }
        }
    }
}

/// What the engine is told about an endpoint.
#[must_use]
pub fn gate(endpoint: &Endpoint, policies: &Policies) -> Gate {
    let policy = policies.current(endpoint.policy).cloned();
    let policy = policy.unwrap_or_else(|| Arc::new(Policy::brief(PolicyId(0))));
    Gate {
        endpoint: endpoint.id,
        tenant: endpoint.tenant,
        channel: endpoint.kind.channel(),
        route: endpoint.route,
        registered_at: endpoint.registered_at(),
        changed_at: endpoint.updated_at,
        reach: match &endpoint.state {
            EndpointState::Active => Reach::Open,
            EndpointState::Paused { .. } => Reach::Paused,
            EndpointState::Retired {
                cause: Cause::EndpointDeleted,
                ..
            } => Reach::Closed(Cause::EndpointDeleted),
            EndpointState::Retired { .. } => Reach::Closed(Cause::EndpointRetired),
        },
        breaker: policy.breaker,
        rate: endpoint.rate.or(policy.rate),
        adaptive: policy.adaptive,
        hours_percent: policy.hours_percent,
        slots_max: endpoint.slots_max.unwrap_or(policy.slots_max),
    }
}
