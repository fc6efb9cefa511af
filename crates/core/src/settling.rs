//! Settling: what the engine does when an attempt has ended, and when the store has answered.
//!
//! An answer becomes an entry at once and moves the row; the caller, the lane and the next attempt
//! learn of it only when the entry is durable.
//!
//! Absent here: the tables. What follows an outcome is in [`crate::acknowledge`].

use std::sync::Arc;

use crate::acknowledge::{Settlement, settle, sign};
use crate::cause::Cause;
use crate::endpoint::Reach;
use crate::engine::{After, Effect, Engine, Place, Refusal, Reply, Row, STUCK_RETRY_MS, Why};
use crate::event::LaneCounter;
use crate::id::{Ask, DeliveryId, Ticket};
use crate::ledger::{Delivery, Fact, Next, Record, State};
use crate::observation::{Attempt, Observation};
use crate::ordering::Lane;
use crate::outcome::{Outcome, OutcomeKind};
use crate::plant::Plant;
use crate::policy::{Guarantee, HeadOfLine, Policy};
use crate::schedule::Timer;
use crate::time::{SECOND_MS, Time};

impl Engine {
    /// An attempt ended.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        id: DeliveryId,
        attempt: u32,
        mut outcome: Box<Outcome>,
        entropy: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        if row.delivery.state != State::InFlight || row.delivery.attempt != attempt {
            return;
        }
        row.put_backs = 0;
        let mut judged = row.delivery.clone();
        if self.config.plant == Some(Plant::RetryAtAtMostOnce) {
            judged.guarantee = Guarantee::AtLeastOnce;
        }
        let policy = self.policy(&judged);
        let Settlement {
            next,
            cause,
            retire,
            hold_until,
            incident_ms,
        } = settle(&judged, &policy, &outcome, entropy, now);
        outcome.cause = cause;
        self.pace(now, id, &outcome, hold_until, effects);
        if let Some(retry_after_ms) = incident_ms {
            self.incident(id, retry_after_ms, next, effects);
        }
        let observed = Box::new(observe(&judged, &outcome, next, now));
        let Some(entry) = self.append(
            now,
            id,
            Fact::Answered {
                attempt,
                outcome,
                next,
            },
        ) else {
            return;
        };
        if retire && let Some(endpoint) = self.endpoints.get_mut(&judged.endpoint) {
            endpoint.gate.reach = Reach::Closed(Cause::EndpointRetired);
        }
        self.record(
            id,
            entry,
            After::Answered {
                delivery: id,
                retire,
                observed,
            },
            effects,
        );
    }

    /// An attempt ended before a byte was written: its number is given back, within a bound.
    pub(crate) fn not_sent(
        &mut self,
        now: Time,
        id: DeliveryId,
        attempt: u32,
        cause: Cause,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        if row.delivery.state != State::InFlight || row.delivery.attempt != attempt {
            return;
        }
        if row.put_backs >= self.config.put_backs_max {
            let outcome = Outcome {
                unsent: true,
                ..Outcome::bare(OutcomeKind::Retry, Cause::ConnectFailed)
            };
            self.answered(now, id, attempt, Box::new(outcome), 0, effects);
            return;
        }
        row.put_backs += 1;
        let wait_ms = (1_i64 << row.put_backs.min(10)).min(SECOND_MS);
        let row = Row {
            delivery: row.delivery.clone(),
            ..*row
        };
        self.give_back(now, &row);
        let fact = Fact::NotSent {
            attempt,
            cause,
            due_at: now.plus(wait_ms),
        };
        if let Some(entry) = self.append(now, id, fact) {
            self.record(id, entry, After::PutBack(id), effects);
        }
    }

    /// The store has answered.
    pub(crate) fn recorded(
        &mut self,
        now: Time,
        through: Ticket,
        refused: Vec<(Box<Record>, Refusal)>,
        effects: &mut Vec<Effect>,
    ) {
        let mut refused = refused.into_iter().peekable();
        while let Some((ticket, _)) = self.pending.front()
            && *ticket <= through
        {
            let Some((ticket, after)) = self.pending.pop_front() else {
                return;
            };
            match refused.next_if(|(record, _)| record.ticket == ticket) {
                None => self.go_on(now, after, effects),
                Some((record, why)) => self.give_up(now, after, record, why, effects),
            }
        }
    }

    /// The record is durable: what waited for it may happen.
    fn go_on(&mut self, now: Time, after: After, effects: &mut Vec<Effect>) {
        match after {
            After::Admitted { ask, key, seen } => self.admitted(now, ask, key, &seen, effects),
            After::Opened(id) => self.send(now, id, effects),
            After::PutBack(id) => self.place(now, id, effects),
            After::Answered {
                delivery,
                retire,
                observed,
            } => {
                let endpoint = self.rows.get(&delivery).map(|row| row.delivery.endpoint);
                effects.push(Effect::Observe(*observed));
                if let Some(endpoint) = endpoint.filter(|_| retire) {
                    effects.push(Effect::Retire {
                        endpoint,
                        cause: Cause::Gone,
                        at: now,
                    });
                }
                self.place(now, delivery, effects);
            }
            After::Closed { delivery, ask } => {
                if let Some(ask) = ask {
                    effects.push(Effect::Reply {
                        ask,
                        reply: Reply::Cancelled,
                    });
                }
                self.observe_closed(delivery, effects);
                self.place(now, delivery, effects);
            }
        }
    }

    /// The record was refused: what waited for it must not happen.
    fn give_up(
        &mut self,
        now: Time,
        after: After,
        record: Box<Record>,
        why: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        match (after, why) {
            (After::Admitted { ask, key, seen }, why) => {
                let why = match why {
                    Refusal::KeyTaken(first) => Ok(first),
                    Refusal::Full => Err(Why::StorageFull),
                    Refusal::Fenced => Err(Why::Draining),
                    Refusal::Conflict => Err(Why::Overloaded),
                };
                self.not_admitted(now, ask, key, &seen, why, effects);
            }
            (after, Refusal::Full) => {
                if self.stuck.is_empty() {
                    self.timers.set(now.plus(STUCK_RETRY_MS), Timer::Store);
                }
                self.stuck.push((record, after));
            }
            (after, _) => {
                let id = match after {
                    After::Opened(id) | After::PutBack(id) => id,
                    After::Answered { delivery, .. } | After::Closed { delivery, .. } => delivery,
                    After::Admitted { seen, .. } => seen.first_delivery,
                };
                effects.push(Effect::Observe(Observation::Conflict { delivery: id }));
                self.drop_row(now, id, effects);
            }
        }
    }

    /// Hands in again what the store had no room for.
    pub(crate) fn hand_in_again(&mut self, effects: &mut Vec<Effect>) {
        for (mut record, after) in std::mem::take(&mut self.stuck) {
            record.ticket = self.await_ticket(after);
            // The journal has gone on meanwhile: they take their place at its end.
            for entry in &mut record.entries {
                self.origin.last_seq.0 += 1;
                entry.seq = self.origin.last_seq;
                if let Some(row) = self.rows.get_mut(&entry.delivery) {
                    row.delivery.last_seq = entry.seq;
                }
            }
            effects.push(Effect::Record(record));
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
            let id = delivery.id;
            let asks = self.cancels.remove(&id).unwrap_or_default();
            if delivery.state.is_settled() {
                for ask in asks {
                    let reply = Reply::TooLate(delivery.state);
                    effects.push(Effect::Reply { ask, reply });
                }
                continue;
            }
            self.take_up(now, delivery, counter, effects);
            for ask in asks {
                self.cancel(now, id, ask, effects);
            }
        }
        for id in absent {
            for ask in self.cancels.remove(id).unwrap_or_default() {
                effects.push(Effect::Reply {
                    ask,
                    reply: Reply::Absent,
                });
            }
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
        if self.rows.contains_key(&id) {
            return;
        }
        self.parked = self.parked.saturating_sub(1);
        if let Some(place) = delivery.lane {
            let lane = self.lanes.entry((delivery.endpoint, place.key));
            lane.or_insert_with(|| Lane::new(counter))
                .push(id, place.sequence);
        }
        let crashed = (delivery.state == State::InFlight).then_some(delivery.attempt);
        let row = Row {
            delivery,
            place: Place::Busy,
            put_backs: 0,
            troubled: false,
        };
        self.rows.insert(id, row);
        match crashed {
            // What a crash leaves in flight has an unknown outcome, and takes the way of any other.
            Some(attempt) => {
                self.slots_used += 1;
                let spread = crate::partition::mix(id.0);
                self.answered(
                    now,
                    id,
                    attempt,
                    Box::new(Outcome::crashed()),
                    spread,
                    effects,
                );
            }
            None => self.place(now, id, effects),
        }
    }

    /// Withdraws a delivery, if it is not too late.
    pub(crate) fn cancel(
        &mut self,
        now: Time,
        id: DeliveryId,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        match self
            .rows
            .get(&id)
            .map(|row| (row.place, row.delivery.state))
        {
            None => {
                self.cancels.entry(id).or_default().push(ask);
                effects.push(Effect::Load(vec![id]));
            }
            Some((Place::Busy, state)) => {
                effects.push(Effect::Reply {
                    ask,
                    reply: Reply::TooLate(state),
                });
            }
            Some((place, _)) => {
                let endpoint = self.rows.get(&id).map(|row| row.delivery.endpoint);
                if let Some(endpoint) = endpoint.filter(|_| place != Place::Timer) {
                    self.leave(endpoint, id);
                }
                self.close(
                    now,
                    id,
                    State::Cancelled,
                    Cause::Cancelled,
                    Some(ask),
                    effects,
                );
            }
        }
    }

    /// A settled delivery leaves the window, and the next of its lane moves up.
    pub(crate) fn forget(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(Row { delivery, .. }) = self.rows.remove(&id) else {
            return;
        };
        let Some(place) = delivery.lane else { return };
        let at = (delivery.endpoint, place.key);
        let parks =
            delivery.is_dead_letter() && self.policy(&delivery).head_of_line == HeadOfLine::Park;
        let Some(lane) = self.lanes.get_mut(&at) else {
            return;
        };
        lane.remove(id, delivery.state == State::Accepted);
        if lane.is_empty() {
            self.lanes.remove(&at);
            return;
        }
        if parks && !lane.is_parked() {
            lane.set_parked(true);
            if let Some(endpoint) = self.endpoints.get_mut(&delivery.endpoint) {
                endpoint.parked_lanes.push(place.key);
            }
        }
        if let Some(head) = lane.head() {
            self.move_up(now, head, effects);
        }
    }

    /// A delivery has become the head of its lane.
    pub(crate) fn move_up(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        if row.place == Place::Lane {
            self.leave(row.delivery.endpoint, id);
            self.ready(now, id, effects);
        }
    }

    /// Drops a row that the store knows better; what it holds is read when it is needed.
    fn drop_row(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        if row.delivery.state == State::InFlight {
            let row = Row {
                delivery: row.delivery.clone(),
                ..*row
            };
            self.give_back(now, &row);
        }
        self.forget(now, id, effects);
    }

    /// What an outcome does to the pace of its endpoint, and to the slots.
    fn pace(
        &mut self,
        now: Time,
        id: DeliveryId,
        outcome: &Outcome,
        hold_until: Option<Time>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        let endpoint_id = row.delivery.endpoint;
        self.slots_used = self.slots_used.saturating_sub(1);
        let troubled = std::mem::take(&mut row.troubled);
        self.troubled_used = self.troubled_used.saturating_sub(u32::from(troubled));
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint_id) {
            endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
            let before = endpoint.breaker.state();
            endpoint
                .breaker
                .answered(now, sign(outcome), &endpoint.gate.breaker);
            let state = endpoint.breaker.state();
            if state != before {
                let change = Observation::Breaker {
                    endpoint: endpoint_id,
                    state,
                };
                effects.push(Effect::Observe(change));
            }
            let probed = endpoint.probing.take_if(|probe| *probe == id).is_some();
            match outcome.kind {
                OutcomeKind::Accept => {
                    endpoint.limiter.faster(endpoint.gate.slots_max);
                    if probed {
                        endpoint.limiter.release();
                    }
                }
                OutcomeKind::Retry | OutcomeKind::Throttle | OutcomeKind::Unknown => {
                    if outcome.cause != Cause::Crashed {
                        endpoint.limiter.slower();
                    }
                }
                OutcomeKind::Reject | OutcomeKind::Gone => {}
            }
            if let Some(until) = hold_until {
                endpoint.limiter.hold(until);
            }
        }
        self.rejoin(now, endpoint_id);
        self.rejoin_troubled();
    }

    /// A receiver asked for more patience than the policy has: one delivery probes at the cap, the
    /// others wait for the receiver's time.
    fn incident(
        &mut self,
        id: DeliveryId,
        retry_after_ms: i64,
        next: Next,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        let endpoint = row.delivery.endpoint;
        effects.push(Effect::Observe(Observation::Incident {
            endpoint,
            retry_after_ms,
        }));
        if matches!(next, Next::Again { .. })
            && let Some(endpoint) = self.endpoints.get_mut(&endpoint)
        {
            endpoint.probe = Some(id);
        }
    }

    fn observe_closed(&self, id: DeliveryId, effects: &mut Vec<Effect>) {
        if let Some(Row { delivery, .. }) = self.rows.get(&id) {
            effects.push(Effect::Observe(Observation::Closed {
                delivery: id,
                correlation: delivery.correlation,
                endpoint: delivery.endpoint,
                state: delivery.state,
                cause: delivery.cause,
            }));
        }
    }

    fn policy(&self, delivery: &Delivery) -> Arc<Policy> {
        let policy = self.policies.get(&delivery.policy).cloned();
        policy.unwrap_or_else(|| Arc::new(Policy::brief(delivery.policy)))
    }
}

fn observe(delivery: &Delivery, outcome: &Outcome, next: Next, now: Time) -> Observation {
    let (next_due_at, settled) = match next {
        Next::Again { due_at } => (Some(due_at), None),
        Next::Settle { state, .. } => (None, Some(state)),
    };
    let ended = settled.map(|state| Delivery {
        state,
        ..delivery.clone()
    });
    Observation::Attempt(Attempt {
        delivery: delivery.id,
        correlation: delivery.correlation,
        event: delivery.event,
        tenant: delivery.tenant,
        endpoint: delivery.endpoint,
        attempt: delivery.attempt,
        policy: delivery.policy,
        kind: outcome.kind,
        cause: outcome.cause,
        http_status: outcome.http_status,
        latency_ms: outcome.latency_ms,
        ended_at: now,
        next_due_at,
        settled,
        dead_letter: ended.is_some_and(|delivery| delivery.is_dead_letter()),
    })
}
