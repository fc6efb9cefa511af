//! Dispatch: from "due" to "open". Whoever is due joins its endpoint's line; the endpoint takes its
//! turns; when its gate is open and a slot is free, an attempt is opened and recorded, and leaves
//! once that is durable.
//!
//! Absent here: encoding and sending. A channel turns a [`Dispatch`] into a request.

use crate::cause::Cause;
use crate::endpoint::{Endpoint, Gate, Reach, Slot};
use crate::engine::{After, Effect, Engine, Place, Row};
use crate::event::{LaneCounter, Seen};
use crate::id::{CorrelationId, DeliveryId, EndpointId, EventId, PolicyId, TenantId};
use crate::lease::Stand;
use crate::ledger::{Delivery, Entry, Fact, Lane, State};
use crate::observation::Observation;
use crate::plant::Plant;
use crate::policy::Guarantee;
use crate::schedule::Timer;
use crate::time::Time;

/// Waiting deliveries that one call closes at an endpoint at the most; the next follow in a moment.
const CLOSED_PER_WAKE_MAX: usize = 1_024;
/// Deliveries that wait no more and are still named in an endpoint's line at the most, beside as
/// many as do wait.
pub(crate) const STALE_MAX: usize = 64;

/// One attempt, recorded as opened and ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Its outer id.
    pub correlation: CorrelationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is to be told.
    pub event: EventId,
    /// Where to.
    pub endpoint: EndpointId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The policy it runs under.
    pub policy: PolicyId,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Its place in an order, if it has one.
    pub lane: Option<Lane>,
    /// Sequence id of the lane's last hand-over before this one, 0 if there was none.
    pub previous_accepted: u64,
    /// When the delivery was admitted.
    pub admitted_at: Time,
    /// When the delivery lapses: what is left until then is the time to live to pass on.
    pub expires_at: Time,
    /// When the attempt was opened.
    pub opened_at: Time,
}

impl Dispatch {
    /// The attempt that `delivery` has just been opened for.
    #[must_use]
    pub fn of(delivery: &Delivery, counter: LaneCounter, opened_at: Time) -> Dispatch {
        Dispatch {
            delivery: delivery.id,
            correlation: delivery.correlation,
            tenant: delivery.tenant,
            event: delivery.event,
            endpoint: delivery.endpoint,
            attempt: delivery.attempt,
            policy: delivery.policy,
            guarantee: delivery.guarantee,
            lane: delivery.lane,
            previous_accepted: counter.last_accepted,
            admitted_at: delivery.admitted_at,
            expires_at: delivery.expires_at,
            opened_at,
        }
    }
}

impl Dispatch {
    /// The last look before the first byte is written: whether the attempt may still leave, given
    /// what its owner's lease allows and the time on the engine's clock. One that may not is
    /// answered with [`Input::NotSent`](crate::engine::Input::NotSent).
    #[must_use]
    pub fn may_leave(&self, stand: Stand, now: Time) -> bool {
        stand == Stand::Begins && now < self.expires_at
    }
}

impl Engine {
    /// A delivery is due.
    pub(crate) fn ready(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        let endpoint_id = row.delivery.endpoint;
        let suppressed = match self.endpoints.get(&endpoint_id).map(|it| it.gate.reach) {
            None => Some(Cause::EndpointDeleted),
            Some(Reach::Closed(cause)) => Some(cause),
            Some(Reach::Open | Reach::Paused) => None,
        };
        if let Some(cause) = suppressed {
            self.close(now, id, State::Suppressed, cause, None, effects);
            return;
        }
        let skips = self.config.plant == Some(Plant::LaneHeadSkipped);
        let behind = row.delivery.lane.filter(|_| !skips).is_some_and(|place| {
            let lane = self.lanes.get(&(endpoint_id, place.key));
            lane.is_some_and(|lane| lane.head() != Some(id))
        });
        if now >= row.delivery.expires_at {
            let cause = match behind {
                true => Cause::ExpiredOrder,
                false => Cause::Expired,
            };
            self.close(now, id, State::Expired, cause, None, effects);
            return;
        }
        row.place = if behind { Place::Lane } else { Place::Line };
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint_id) {
            endpoint.wait_begins(id, row.delivery.expires_at);
            self.due_since.insert((row.delivery.due_at, id));
            if !behind {
                endpoint.due.push(id, row.delivery.attempt);
            }
        }
        self.rejoin(now, endpoint_id);
    }

    /// Lets endpoints take their turns until slots or endpoints run out.
    pub(crate) fn take_turns(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let troubled_max = self.troubled_max();
        while self.slots_used < self.config.slots_max
            && self.pending.len() < self.config.records_max
            && !self.draining
        {
            let Some(id) = self.next_turn() else { return };
            let Some(endpoint) = self.endpoints.get_mut(&id) else {
                continue;
            };
            endpoint.in_circle = false;
            let troubled = endpoint.limiter.is_troubled();
            if endpoint.shut(now).is_none() && !endpoint.due.is_empty() {
                if troubled && self.troubled_used >= troubled_max {
                    endpoint.in_circle = true;
                    self.troubled_line.push_back(id);
                    continue;
                }
                if let Some(delivery) = endpoint.due.pop() {
                    self.take(now, delivery, effects);
                }
            }
            self.rejoin(now, id);
        }
    }

    /// The endpoint whose turn it is. Those in trouble have had their turn and wait for a slot.
    fn next_turn(&mut self) -> Option<EndpointId> {
        if self.troubled_used < self.troubled_max()
            && let Some(id) = self.troubled_line.pop_front()
        {
            return Some(id);
        }
        self.turns.pop()
    }

    fn troubled_max(&self) -> u32 {
        let share = self.config.slots_max / 100 * self.config.troubled_percent_max
            + self.config.slots_max % 100 * self.config.troubled_percent_max / 100;
        share.max(1)
    }

    /// The delivery's turn has come.
    fn take(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        if row.place != Place::Line {
            return;
        }
        let expired = now >= row.delivery.expires_at;
        self.leave(id);
        if expired {
            self.close(now, id, State::Expired, Cause::Expired, None, effects);
        } else if let Some(entry) = self.open(now, id) {
            self.record(id, entry, After::Opened(id), effects);
        }
    }

    /// Opens the next attempt of a delivery: reserves a slot and writes the entry. The gate was
    /// found open before.
    pub(crate) fn open(&mut self, now: Time, id: DeliveryId) -> Option<Entry> {
        let row = self.rows.get_mut(&id)?;
        let endpoint = self.endpoints.get_mut(&row.delivery.endpoint)?;
        let slot = endpoint.begin(now);
        if self.config.plant == Some(Plant::SlotUncounted) {
            endpoint.in_flight = 0;
        }
        let route = endpoint.gate.route;
        self.slots_used += 1;
        self.troubled_used += u32::from(slot.troubled);
        let route_probe = self.probes_route(now, route);
        let row = self.rows.get_mut(&id)?;
        row.slot = Slot {
            route_probe,
            ..slot
        };
        let fact = Fact::Opened {
            attempt: row.delivery.attempt + 1,
            policy: row.delivery.policy,
        };
        self.append(now, id, fact)
    }

    /// The opening is durable: the attempt leaves. Where the store took so long that it lapsed
    /// meanwhile, the endpoint was shut by hand, or its route is held, it is put back.
    pub(crate) fn send(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        let (delivery, attempt) = (&row.delivery, row.delivery.attempt);
        let open = self.endpoints.get(&delivery.endpoint).is_some_and(|it| {
            let open = it.gate.reach == Reach::Open && it.gone.is_none();
            open && self.lets_leave(now, it.gate.route, row.slot)
        });
        let open = open || self.planted(Plant::PauseIgnored);
        let lapsed = now >= delivery.expires_at && !self.planted(Plant::LapseUnchecked);
        let Some(row) = self.rows.get_mut(&id).filter(|_| open && !lapsed) else {
            self.not_sent(now, id, attempt, Cause::Deferred, effects);
            return;
        };
        row.place = Place::Away;
        let delivery = &row.delivery;
        let lane = delivery.lane;
        let lane = lane.and_then(|place| self.lanes.get(&(delivery.endpoint, place.key)));
        let counter = lane.map_or(LaneCounter::default(), crate::ordering::Lane::counter);
        effects.push(Effect::Send(Dispatch::of(delivery, counter, now)));
    }

    /// The planted fault: what has been opened leaves before it is recorded.
    pub(crate) fn send_opened(&mut self, now: Time, seen: &Seen, effects: &mut Vec<Effect>) {
        let first = seen.first_delivery.0;
        for id in (first..first + u64::from(seen.deliveries)).map(DeliveryId) {
            if self
                .rows
                .get(&id)
                .is_some_and(|row| row.delivery.state == State::InFlight)
            {
                self.send(now, id, effects);
            }
        }
    }

    /// An attempt that will not leave gives its slot back, and its share of the rate if that is on
    /// record.
    pub(crate) fn give_back(&mut self, now: Time, id: EndpointId, slot: Slot, on_record: bool) {
        let freed = u32::from(!self.planted(Plant::SlotLeaks));
        self.slots_used = self.slots_used.saturating_sub(freed);
        self.troubled_used = self.troubled_used.saturating_sub(u32::from(slot.troubled));
        let route = self.endpoints.get_mut(&id).and_then(|endpoint| {
            endpoint.put_back(now, slot, on_record);
            endpoint.gate.route
        });
        if slot.route_probe {
            self.probe_of_route_put_back(now, route);
        }
        self.rejoin(now, id);
    }

    /// Puts an endpoint into the circle if somebody may go, and sets its timer to the next moment
    /// at which something changes for those who wait.
    pub(crate) fn rejoin(&mut self, now: Time, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if !endpoint.in_circle && !endpoint.due.is_empty() && endpoint.shut(now).is_none() {
            endpoint.in_circle = true;
            self.turns.join(endpoint.gate.tenant, id);
        }
        let at = endpoint.changes_at(now);
        if at < endpoint.wake_at {
            self.timers.shift(id, endpoint.wake_at, at);
            endpoint.wake_at = at;
        }
    }

    /// Something has changed for those who wait: whoever must not wait any longer is closed, within
    /// a bound, and the others may have their turn.
    pub(crate) fn wake_endpoint(&mut self, now: Time, id: EndpointId, effects: &mut Vec<Effect>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        self.timers.shift(id, endpoint.wake_at, Time::NEVER);
        endpoint.wake_at = Time::NEVER;
        let shut = endpoint.shut(now).map(|shut| shut.lapses_as);
        let closed = matches!(endpoint.gate.reach, Reach::Closed(_));
        let room = self.config.records_max.saturating_sub(self.pending.len());
        for _ in 0..CLOSED_PER_WAKE_MAX.min(room) {
            let Some(delivery) = self.endpoints.get(&id).and_then(|it| it.overdue(now)) else {
                break;
            };
            let (state, cause) = match (shut, self.place_of(delivery)) {
                (Some(cause), _) if closed => (State::Suppressed, cause),
                (_, Some(Place::Lane)) => (State::Expired, Cause::ExpiredOrder),
                (held, _) => (State::Expired, held.unwrap_or(Cause::Expired)),
            };
            self.leave(delivery);
            self.close(now, delivery, state, cause, None, effects);
        }
        self.rejoin(now, id);
    }

    /// A delivery stops waiting at its endpoint.
    pub(crate) fn leave(&mut self, id: DeliveryId) {
        let Engine {
            endpoints,
            rows,
            due_since,
            ..
        } = self;
        let Some(Row { delivery, .. }) = rows.get(&id) else {
            return;
        };
        let Some(endpoint) = endpoints.get_mut(&delivery.endpoint) else {
            return;
        };
        endpoint.wait_ends(id, delivery.expires_at);
        due_since.remove(&(delivery.due_at, id));
        if endpoint.due.len() > 2 * endpoint.waiting().len() + STALE_MAX {
            endpoint.due.retain(|other| {
                let place = rows.get(&other).map(|row| row.place);
                other != id && place == Some(Place::Line)
            });
        }
    }

    /// An endpoint was created or changed.
    pub(crate) fn regate(&mut self, now: Time, gate: Gate, effects: &mut Vec<Effect>) {
        let id = gate.endpoint;
        let (open, changed_at) = (gate.reach == Reach::Open, gate.changed_at);
        let reopened;
        let route = gate.route;
        let before = self.endpoints.get(&id).and_then(|it| it.gate.route);
        match self.endpoints.get_mut(&id) {
            None => {
                self.endpoints.insert(id, Endpoint::new(gate, now));
                self.change_route(id, before, route);
                return;
            }
            Some(endpoint) => {
                let before = endpoint.breaker.state();
                let was_open = endpoint.gate.reach == Reach::Open;
                reopened = open && (!was_open || changed_at > endpoint.gate.changed_at);
                endpoint.regate(gate, now);
                let state = endpoint.breaker.state();
                if state != before {
                    let change = Observation::Breaker {
                        endpoint: id,
                        state,
                    };
                    effects.push(Effect::Observe(change));
                }
            }
        }
        self.change_route(id, before, route);
        if reopened {
            self.unpark_lanes(now, id);
        }
        self.wake_endpoint(now, id, effects);
    }

    /// Forgets an endpoint that is closed, if nothing waits for it and nothing is under way.
    pub(crate) fn forget_endpoint(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        let closed = matches!(endpoint.gate.reach, Reach::Closed(_));
        if !closed || endpoint.in_flight > 0 || !endpoint.waiting().is_empty() {
            return;
        }
        self.timers.shift(id, endpoint.wake_at, Time::NEVER);
        self.change_route(id, endpoint.gate.route, None);
        self.endpoints.remove(&id);
    }

    fn unpark_lanes(&mut self, now: Time, id: EndpointId) {
        let parked = self
            .endpoints
            .get_mut(&id)
            .map(|endpoint| std::mem::take(&mut endpoint.parked_lanes));
        for key in parked.into_iter().flatten() {
            let Some(lane) = self.lanes.get_mut(&(id, key)) else {
                continue;
            };
            lane.set_parked(false);
            if let Some(head) = lane.head() {
                self.timers.set(now, Timer::Lane(head));
            }
        }
    }
}
