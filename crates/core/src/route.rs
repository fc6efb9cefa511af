//! Routes: endpoints that are sent to with the same credentials wait together when these are
//! refused.
//!
//! A refusal of credentials ([`OutcomeKind::Blocked`](crate::outcome::OutcomeKind::Blocked)) holds
//! the route for [`ROUTE_PROBE_MS`]; then one attempt goes, whoever's turn it is, and its answer
//! decides for all. Deliveries keep their attempts and wait until they lapse. Holding and opening
//! a route walks its endpoints: rare, and bounded by their number.
//!
//! Absent here: the credentials, which the engine never sees.

use std::collections::BTreeSet;

use crate::cause::Cause;
use crate::endpoint::Slot;
use crate::engine::{Effect, Engine};
use crate::id::{EndpointId, RouteId};
use crate::observation::Observation;
use crate::outcome::{Outcome, OutcomeKind};
use crate::plant::Plant;
use crate::time::{MINUTE_MS, SECOND_MS, Time};

/// Wait between two attempts over a route whose credentials are refused.
pub const ROUTE_PROBE_MS: i64 = MINUTE_MS;
/// Wait after an attempt over a held route that came back unsent.
const PUT_BACK_MS: i64 = SECOND_MS;

/// What a route does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Everything goes.
    #[default]
    Open,
    /// Nothing goes until then; then one attempt does. [`Time::NEVER`] if it was paused by hand.
    Held(Time),
    /// One attempt is under way that decides.
    Probing,
}

/// The engine's side of a route.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    passage: Passage,
    endpoints: BTreeSet<EndpointId>,
}

impl Engine {
    /// A person paused a route, or opened it: after its credentials were renewed, say.
    pub(crate) fn switch_route(
        &mut self,
        now: Time,
        id: RouteId,
        open: bool,
        effects: &mut Vec<Effect>,
    ) {
        let passage = match open {
            true => Passage::Open,
            false => Passage::Held(Time::NEVER),
        };
        let before = self.routes.get(&id).map(|route| route.passage);
        self.set_passage(now, id, passage);
        let was_refused = !matches!(
            before,
            None | Some(Passage::Open | Passage::Held(Time::NEVER))
        );
        if was_refused {
            effects.push(Effect::Observe(Observation::Route {
                route: id,
                open: true,
                cause: None,
            }));
        }
    }

    /// An endpoint is sent to with the credentials of `to` from now on.
    pub(crate) fn change_route(
        &mut self,
        endpoint: EndpointId,
        from: Option<RouteId>,
        to: Option<RouteId>,
    ) {
        if from != to
            && let Some(route) = from.and_then(|id| self.routes.get_mut(&id))
        {
            route.endpoints.remove(&endpoint);
        }
        let held = to.and_then(|id| {
            let route = self.routes.entry(id).or_default();
            route.endpoints.insert(endpoint);
            held_until(route.passage)
        });
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
            endpoint.route_held = held;
        }
    }

    /// An attempt is about to be opened over the route of its endpoint, which was found open or
    /// due for a probe. Returns whether the attempt is that probe.
    pub(crate) fn probes_route(&mut self, now: Time, id: Option<RouteId>) -> bool {
        let Some(id) = id else { return false };
        let passage = self.routes.get(&id).map(|route| route.passage);
        let probes = matches!(passage, Some(Passage::Held(until)) if until <= now);
        if probes {
            self.set_passage(now, id, Passage::Probing);
        }
        probes
    }

    /// Whether an attempt whose opening took a while may still leave: its route may have been
    /// refused or paused meanwhile, even one that was to be asked with this attempt.
    pub(crate) fn lets_leave(&self, now: Time, id: Option<RouteId>, slot: Slot) -> bool {
        let passage = id.and_then(|id| self.routes.get(&id)).map(|it| it.passage);
        match passage.unwrap_or_default() {
            Passage::Open => true,
            Passage::Held(until) => until <= now,
            Passage::Probing => slot.route_probe,
        }
    }

    /// What an answer says about its route: its credentials, its address or its quota.
    pub(crate) fn judge_route(
        &mut self,
        now: Time,
        id: Option<RouteId>,
        slot: Slot,
        outcome: &Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(id) = id else { return };
        let before = self.routes.get(&id).map(|route| route.passage);
        let by_hand = before == Some(Passage::Held(Time::NEVER));
        let passage = match outcome.kind {
            OutcomeKind::Blocked if self.planted(Plant::RouteNotHeld) => return,
            OutcomeKind::Blocked if !by_hand => Passage::Held(now.plus(ROUTE_PROBE_MS)),
            // Our own crash says nothing about the credentials.
            _ if slot.route_probe && outcome.cause == Cause::Crashed => {
                Passage::Held(now.plus(PUT_BACK_MS))
            }
            OutcomeKind::Blocked => return,
            _ if slot.route_probe && !by_hand => Passage::Open,
            _ => return,
        };
        let was_open = matches!(before, None | Some(Passage::Open));
        self.set_passage(now, id, passage);
        let is_open = passage == Passage::Open;
        if was_open != is_open {
            effects.push(Effect::Observe(Observation::Route {
                route: id,
                open: is_open,
                cause: Some(outcome.cause),
            }));
        }
    }

    /// The attempt that was to decide came back unsent: another one will.
    pub(crate) fn probe_of_route_put_back(&mut self, now: Time, id: Option<RouteId>) {
        let Some(id) = id else { return };
        if self.routes.get(&id).map(|route| route.passage) == Some(Passage::Probing) {
            self.set_passage(now, id, Passage::Held(now.plus(PUT_BACK_MS)));
        }
    }

    fn set_passage(&mut self, now: Time, id: RouteId, passage: Passage) {
        let route = self.routes.entry(id).or_default();
        if route.passage == passage {
            return;
        }
        route.passage = passage;
        let endpoints: Vec<_> = route.endpoints.iter().copied().collect();
        for id in endpoints {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.route_held = held_until(passage);
                if !endpoint.waiting().is_empty() {
                    self.rejoin(now, id);
                }
            }
        }
    }
}

fn held_until(passage: Passage) -> Option<Time> {
    match passage {
        Passage::Open => None,
        Passage::Held(until) => Some(until),
        Passage::Probing => Some(Time::NEVER),
    }
}
