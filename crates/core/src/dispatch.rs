//! Dispatch: from "due" to "open". Whoever is due joins its endpoint's line; the endpoint takes its
//! turns; when its gate is open and a slot is free, an attempt is opened and recorded, and leaves
//! once that is durable.
//!
//! Absent here: encoding and sending. A channel turns a [`Dispatch`] into a request.

use crate::cause::Cause;
use crate::endpoint::{Endpoint, Gate, Reach, Shut};
use crate::engine::{After, Effect, Engine, Place, Row};
use crate::event::{LaneCounter, Seen};
use crate::id::{CorrelationId, DeliveryId, EndpointId, EventId, PolicyId, TenantId};
use crate::ledger::{Delivery, Entry, Fact, Lane, State};
use crate::plant::Plant;
use crate::policy::Guarantee;
use crate::schedule::Timer;
use crate::time::Time;

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

impl Engine {
    /// Puts an unsettled delivery whose last entry is durable where it belongs.
    pub(crate) fn place(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        match row.delivery.state {
            State::InFlight => {
                if self.config.plant != Some(Plant::SendBeforeRecord) || row.delivery.attempt > 1 {
                    self.send(now, id, effects);
                }
            }
            State::Scheduled if row.delivery.due_at > now => {
                row.place = Place::Timer;
                let due_at = row.delivery.due_at;
                let far = now.plus(self.config.park_after_ms);
                let park = row.delivery.lane.is_none() && due_at > far;
                self.timers.set(due_at, Timer::Delivery(id));
                if park && self.rows.len() > self.config.window_max / 2 {
                    self.rows.remove(&id);
                    self.parked += 1;
                }
            }
            State::Scheduled => self.ready(now, id, effects),
            _ => self.forget(now, id, effects),
        }
    }

    /// A delivery is due.
    pub(crate) fn ready(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(&row.delivery.endpoint) else {
            self.close(
                now,
                id,
                State::Suppressed,
                Cause::EndpointDeleted,
                None,
                effects,
            );
            return;
        };
        if let Reach::Closed(cause) = endpoint.gate.reach {
            self.close(now, id, State::Suppressed, cause, None, effects);
            return;
        }
        if now >= row.delivery.expires_at {
            self.close(now, id, State::Expired, Cause::Expired, None, effects);
            return;
        }
        let endpoint_id = row.delivery.endpoint;
        endpoint.wait_begins(id, row.delivery.expires_at);
        let behind = row.delivery.lane.is_some_and(|place| {
            let lane = self.lanes.get(&(endpoint_id, place.key));
            lane.is_some_and(|lane| lane.head() != Some(id))
        });
        if behind {
            row.place = Place::Lane;
            self.watch(now, endpoint_id);
            return;
        }
        row.place = Place::Line;
        let probe = endpoint.probe.take_if(|probe| *probe == id).is_some();
        let room = self.slots_used < self.config.slots_max && !self.draining;
        if probe && room && endpoint.shut_to_probe(now).is_none() {
            endpoint.probing = Some(id);
            self.take(now, id, effects);
            return;
        }
        endpoint.due.push(id, row.delivery.attempt);
        self.rejoin(now, endpoint_id);
    }

    /// Lets endpoints take their turns until slots or endpoints run out.
    pub(crate) fn take_turns(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while self.slots_used < self.config.slots_max
            && self.pending.len() < self.config.records_max
            && !self.draining
        {
            let Some(id) = self.turns.next() else { return };
            let Some(endpoint) = self.endpoints.get_mut(&id) else {
                continue;
            };
            endpoint.in_circle = false;
            if endpoint.due.is_empty() {
                continue;
            }
            if endpoint.shut(now).is_some() {
                self.watch(now, id);
                continue;
            }
            let share = self.config.slots_max * self.config.troubled_percent_max / 100;
            if endpoint.limiter.is_troubled() && self.troubled_used >= share.max(1) {
                endpoint.in_circle = true;
                self.troubled_line.push_back(id);
                continue;
            }
            if let Some(delivery) = endpoint.due.pop() {
                self.take(now, delivery, effects);
            }
            self.rejoin(now, id);
        }
    }

    /// The delivery's turn has come.
    fn take(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        if row.place != Place::Line {
            return;
        }
        let endpoint = row.delivery.endpoint;
        let expired = now >= row.delivery.expires_at;
        self.leave(endpoint, id);
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
        endpoint.begin(now);
        row.troubled = endpoint.limiter.is_troubled();
        self.slots_used += 1;
        self.troubled_used += u32::from(row.troubled);
        let fact = Fact::Opened {
            attempt: row.delivery.attempt + 1,
            policy: row.delivery.policy,
        };
        self.append(now, id, fact)
    }

    /// The opening is durable: the attempt leaves.
    pub(crate) fn send(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        let lane = row.delivery.lane;
        let lane = lane.and_then(|place| self.lanes.get(&(row.delivery.endpoint, place.key)));
        let counter = lane.map_or(LaneCounter::default(), crate::ordering::Lane::counter);
        effects.push(Effect::Send(Dispatch::of(&row.delivery, counter, now)));
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

    /// An attempt that will not leave, or will not come back, gives its slot back.
    pub(crate) fn give_back(&mut self, now: Time, row: &Row) {
        self.slots_used = self.slots_used.saturating_sub(1);
        self.troubled_used = self.troubled_used.saturating_sub(u32::from(row.troubled));
        if let Some(endpoint) = self.endpoints.get_mut(&row.delivery.endpoint) {
            endpoint.put_back(now);
        }
        self.rejoin(now, row.delivery.endpoint);
        self.rejoin_troubled();
    }

    /// A slot that endpoints in trouble held is free: the next of them takes its turn.
    pub(crate) fn rejoin_troubled(&mut self) {
        if let Some(id) = self.troubled_line.pop_front()
            && let Some(endpoint) = self.endpoints.get(&id)
        {
            self.turns.join(endpoint.gate.tenant, id);
        }
    }

    /// Puts an endpoint into the circle if somebody waits in its line, or sets its timer.
    pub(crate) fn rejoin(&mut self, now: Time, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if endpoint.in_circle || endpoint.due.is_empty() {
            return;
        }
        if endpoint.shut(now).is_some() {
            self.watch(now, id);
        } else {
            endpoint.in_circle = true;
            self.turns.join(endpoint.gate.tenant, id);
        }
    }

    /// Sets the endpoint's timer to the next moment at which something changes for those who wait.
    fn watch(&mut self, now: Time, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let opens = match endpoint.shut(now) {
            Some(Shut { until, .. }) if !endpoint.due.is_empty() => until,
            _ => Time::NEVER,
        };
        let at = opens
            .min(endpoint.lapses_at().unwrap_or(Time::NEVER))
            .max(now.plus(1));
        if at < endpoint.wake_at {
            endpoint.wake_at = at;
            self.timers.set(at, Timer::Endpoint(id));
        }
    }

    pub(crate) fn wake_endpoint(&mut self, now: Time, id: EndpointId, effects: &mut Vec<Effect>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if endpoint.wake_at > now {
            return;
        }
        endpoint.wake_at = Time::NEVER;
        let held = endpoint
            .shut(now)
            .map_or(Cause::Expired, |shut| shut.lapses_as);
        while let Some(delivery) = self
            .endpoints
            .get_mut(&id)
            .and_then(|endpoint| endpoint.next_lapsed(now))
        {
            let cause = match self.rows.get(&delivery).map(|row| row.place) {
                Some(Place::Line) => held,
                Some(Place::Lane) => Cause::ExpiredOrder,
                _ => continue,
            };
            self.leave(id, delivery);
            self.close(now, delivery, State::Expired, cause, None, effects);
        }
        self.rejoin(now, id);
        self.watch(now, id);
    }

    /// A delivery stops waiting at its endpoint.
    pub(crate) fn leave(&mut self, endpoint: EndpointId, id: DeliveryId) {
        let Engine {
            endpoints, rows, ..
        } = self;
        if let Some(endpoint) = endpoints.get_mut(&endpoint) {
            endpoint.wait_ends(|other| {
                let place = rows.get(&other).map(|row| row.place);
                other != id && matches!(place, Some(Place::Line | Place::Lane))
            });
        }
    }

    /// An endpoint was created or changed.
    pub(crate) fn regate(&mut self, now: Time, gate: Gate) {
        let id = gate.endpoint;
        let reopened = gate.reach == Reach::Open;
        match self.endpoints.get_mut(&id) {
            None => {
                self.endpoints.insert(id, Endpoint::new(gate, now));
                return;
            }
            Some(endpoint) => endpoint.regate(gate, now),
        }
        if reopened {
            self.unpark_lanes(now, id);
        }
        self.rejoin(now, id);
    }

    fn unpark_lanes(&mut self, now: Time, id: EndpointId) {
        let parked = self
            .endpoints
            .get_mut(&id)
            .map(|endpoint| endpoint.parked_lanes.split_off(0));
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

    /// Settles a delivery without an attempt.
    pub(crate) fn close(
        &mut self,
        now: Time,
        id: DeliveryId,
        state: State,
        cause: Cause,
        ask: Option<crate::id::Ask>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(entry) = self.append(now, id, Fact::Closed { state, cause }) {
            self.record(id, entry, After::Closed { delivery: id, ask }, effects);
        }
    }
}
