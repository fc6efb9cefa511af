//! The window: which unsettled deliveries are held in memory, and where each waits. One whose entry
//! is durable is put in its place; what is due far in the future stays on disk until then; what is
//! settled leaves.
//!
//! Absent here: whose turn it is ([`crate::dispatch`]), and what follows an answer
//! ([`crate::settling`]).

use crate::cause::Cause;
use crate::engine::{After, Effect, Engine, Place, Reply, Row, Why};
use crate::event::LaneCounter;
use crate::id::{Ask, DeliveryId, EndpointId, OrderingKey};
use crate::ledger::{Delivery, Fact, State};
use crate::ordering::Lane;
use crate::outcome::Outcome;
use crate::plant::Plant;
use crate::policy::HeadOfLine;
use crate::schedule::Timer;
use crate::time::{SECOND_MS, Time};

/// Rows that the store is asked for at a time at the most.
const LOADING_MAX: usize = 1_024;
/// Wait before a row is read again that the store knew better.
const READ_AGAIN_MS: i64 = SECOND_MS;

impl Engine {
    /// Puts a delivery whose last entry is durable where it belongs, and answers those who wished
    /// to withdraw it meanwhile.
    pub(crate) fn place(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        let (state, left) = (row.delivery.state, row.place == Place::Away);
        let superseded = row.superseded;
        if state != State::InFlight
            && !self.receipts.is_empty()
            && self.record_receipts(now, id, effects)
        {
            return;
        }
        let asks = match self.asked.is_empty() {
            true => Vec::new(),
            false => self.asked.remove(&id).unwrap_or_default(),
        };
        match state {
            State::Scheduled => {
                let mut asks = asks.into_iter();
                match asks.next() {
                    None if superseded => {
                        let (state, cause) = (State::Suppressed, Cause::Superseded);
                        self.close(now, id, state, cause, None, effects);
                    }
                    None => self.schedule(now, id, effects),
                    Some(first) => {
                        let (state, cause) = (State::Cancelled, Cause::Cancelled);
                        self.close(now, id, state, cause, Some(first), effects);
                        if asks.len() > 0 {
                            self.asked.insert(id, asks.collect());
                        }
                    }
                }
                return;
            }
            // Only where it is planted has an attempt left before it was recorded.
            State::InFlight if left => {}
            State::InFlight => self.send(now, id, effects),
            _ => self.forget(now, id, effects),
        }
        too_late(state, asks, effects);
    }

    /// Lets a scheduled delivery wait for its time, in memory or on disk, or for its turn.
    fn schedule(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let crowded = self.rows.len() > self.config.window_max / 2;
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        let at = row.delivery.due_at.min(row.delivery.expires_at);
        if at <= now {
            self.ready(now, id, effects);
        } else if crowded
            && can_wait_on_disk(&row.delivery)
            && at > now.plus(self.config.park_after_ms)
        {
            self.rows.remove(&id);
            self.parked.insert(id);
            self.timers.set(at, Timer::Parked(id));
        } else {
            row.place = Place::Timer;
            if row.delivery.attempt == 0 || !self.planted(Plant::RetryTimerLost) {
                self.timers.set(at, Timer::Delivery(id));
            }
        }
    }

    /// Rows came from the store.
    pub(crate) fn loaded(
        &mut self,
        now: Time,
        deliveries: Vec<(Delivery, LaneCounter)>,
        absent: &[DeliveryId],
        effects: &mut Vec<Effect>,
    ) {
        for (delivery, counter) in deliveries {
            let asked = self.loading.remove(&delivery.id);
            self.parked.remove(&delivery.id);
            if self.rows.contains_key(&delivery.id) {
                continue;
            }
            if delivery.state.is_settled() {
                let asks = self.asked.remove(&delivery.id).unwrap_or_default();
                too_late(delivery.state, asks, effects);
                self.record_late_receipts(now, delivery, effects);
                continue;
            }
            let crowded = self.rows.len() >= self.config.window_max;
            if !asked && crowded && can_wait_on_disk(&delivery) {
                let at = delivery.due_at.min(delivery.expires_at);
                self.parked.insert(delivery.id);
                self.timers.set(at, Timer::Parked(delivery.id));
                continue;
            }
            self.take_up(now, delivery, counter, effects);
        }
        for id in absent {
            self.loading.remove(id);
            self.parked.remove(id);
            if self.rows.contains_key(id) {
                continue;
            }
            for ask in self.asked.remove(id).unwrap_or_default() {
                let reply = Reply::Absent;
                effects.push(Effect::Reply { ask, reply });
            }
            self.refuse_receipts(*id, effects);
        }
    }

    /// Asks for rows that are due, as far as there is room for them.
    pub(crate) fn load_due(&mut self, effects: &mut Vec<Effect>) {
        let room = self.config.window_max.saturating_sub(self.rows.len());
        let room = room.min(LOADING_MAX).saturating_sub(self.loading.len());
        let mut due = Vec::new();
        while due.len() < room
            && let Some(id) = self.to_load.pop_front()
        {
            if self.parked.contains(&id) && self.loading.insert(id) {
                due.push(id);
            }
        }
        if !due.is_empty() {
            effects.push(Effect::Load(due));
        }
    }

    fn take_up(
        &mut self,
        now: Time,
        delivery: Delivery,
        counter: LaneCounter,
        effects: &mut Vec<Effect>,
    ) {
        let id = delivery.id;
        if let Some(place) = delivery.lane {
            let endpoint = self.endpoints.get(&delivery.endpoint);
            let parked = endpoint.is_some_and(|it| it.parked_lanes.contains(&place.key));
            let lane = self.lanes.entry((delivery.endpoint, place.key));
            let lane = lane.or_insert_with(|| Lane::new(counter));
            lane.set_parked(parked);
            lane.push(id, place.sequence);
        }
        let crashed = (delivery.state == State::InFlight).then_some(delivery.attempt);
        let endpoint = delivery.endpoint;
        self.rows.insert(id, Row::busy(delivery));
        let Some(attempt) = crashed else {
            self.place(now, id, effects);
            return;
        };
        // What a crash leaves in flight has an unknown outcome, and takes the way of any other: it
        // holds a slot for as long as it takes to say so.
        self.slots_used += 1;
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
            endpoint.in_flight += 1;
        }
        if self.planted(Plant::CrashForgiven) {
            self.not_sent(now, id, attempt, Cause::Deferred, effects);
            return;
        }
        let outcome = Box::new(Outcome::crashed());
        let spread = crate::partition::mix(id.0);
        self.answered(now, id, attempt, outcome, spread, effects);
    }

    /// Withdraws a delivery, if it is not too late. Where that depends on what is on its way from
    /// or to the store, the answer waits for it.
    pub(crate) fn cancel(
        &mut self,
        now: Time,
        id: DeliveryId,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        match self.place_of(id) {
            None => {
                self.asked.entry(id).or_default().push(ask);
                self.ask_for(id, effects);
            }
            Some(Place::Busy) => self.asked.entry(id).or_default().push(ask),
            Some(Place::Away) if self.planted(Plant::CancelAfterSend) => {
                let reply = Reply::Cancelled;
                effects.push(Effect::Reply { ask, reply });
            }
            Some(Place::Away) => too_late(State::InFlight, vec![ask], effects),
            Some(place) => {
                if place != Place::Timer {
                    self.leave(id);
                }
                let (state, cause) = (State::Cancelled, Cause::Cancelled);
                self.close(now, id, state, cause, Some(ask), effects);
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
        ask: Option<Ask>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(entry) = self.append(now, id, Fact::Closed { state, cause }) {
            self.record(id, entry, After::Closed { delivery: id, ask }, effects);
        }
    }

    /// A settled delivery leaves the window, and the next of its lane moves up.
    fn forget(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(Row {
            delivery,
            collapse_key,
            ..
        }) = self.rows.remove(&id)
        else {
            return;
        };
        self.leave_thread(delivery.endpoint, collapse_key, id);
        let Some(place) = delivery.lane else { return };
        let at = (delivery.endpoint, place.key);
        let parks =
            delivery.is_dead_letter() && self.policy(&delivery).head_of_line == HeadOfLine::Park;
        let Some(lane) = self.lanes.get_mut(&at) else {
            return;
        };
        let head = lane.head() == Some(id);
        let handed_over = matches!(delivery.state, State::Accepted | State::Confirmed);
        lane.remove(id, handed_over);
        if head && parks {
            lane.set_parked(true);
            if let Some(endpoint) = self.endpoints.get_mut(&delivery.endpoint) {
                endpoint.parked_lanes.insert(place.key);
            }
        }
        if let Some(head) = lane.head() {
            self.move_up(now, head, effects);
        }
        self.sweep_lane(delivery.endpoint, place.key);
    }

    /// A lane without unsettled deliveries needs no memory: the store knows how far it has come.
    pub(crate) fn sweep_lane(&mut self, endpoint: EndpointId, key: OrderingKey) {
        let at = (endpoint, key);
        if self.lanes.get(&at).is_some_and(Lane::is_empty) {
            self.lanes.remove(&at);
            if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
                endpoint.parked_lanes.remove(&key);
            }
        }
    }

    /// A delivery has become the head of its lane.
    pub(crate) fn move_up(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        if self.place_of(id) == Some(Place::Lane) {
            self.leave(id);
            self.ready(now, id, effects);
        }
    }

    /// Drops a row that the store knows better. Unless another node has it now, it is read again.
    pub(crate) fn drop_row(
        &mut self,
        now: Time,
        id: DeliveryId,
        fenced: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        if row.delivery.state == State::InFlight {
            self.give_back(now, row.delivery.endpoint, row.slot, false);
        }
        let why = if fenced {
            Why::Draining
        } else {
            self.parked.insert(id);
            let at = now.plus(READ_AGAIN_MS);
            self.timers.set(at, Timer::Parked(id));
            Why::Overloaded
        };
        self.forget(now, id, effects);
        for ask in self.asked.remove(&id).unwrap_or_default() {
            self.refuse(why, ask, effects);
        }
    }
}

/// An order is kept in memory, and what crashed has to be settled.
fn can_wait_on_disk(delivery: &Delivery) -> bool {
    delivery.lane.is_none() && delivery.state == State::Scheduled
}

fn too_late(state: State, asks: Vec<Ask>, effects: &mut Vec<Effect>) {
    for ask in asks {
        let reply = Reply::TooLate(state);
        effects.push(Effect::Reply { ask, reply });
    }
}
