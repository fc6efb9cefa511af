//! Settling: what the engine does when an attempt has ended, and when the store has answered.
//!
//! An answer becomes an entry at once and moves the row; the caller, the lane and the next attempt
//! learn of it only when the entry is durable.
//!
//! Absent here: the tables. What follows an outcome is in [`crate::acknowledge`].

use std::sync::Arc;

use crate::acknowledge::{Hold, Settlement, settle};
use crate::cause::Cause;
use crate::endpoint::{Channel, Gone};
use crate::engine::{After, Effect, Engine, Refusal, Reply, Row, STUCK_RETRY_MS, Why};
use crate::id::{DeliveryId, EndpointId, EventId, Ticket};
use crate::ledger::{Delivery, Fact, Next, Record, State};
use crate::observation::{Attempt, Observation};
use crate::outcome::{Outcome, OutcomeKind};
use crate::plant::{self, Plant};
use crate::policy::Policy;
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
        let judged = row.delivery.clone();
        let policy = self.policy(&judged);
        let Settlement {
            next,
            cause,
            retire,
            hold,
            incident_ms,
        } = match self.config.plant {
            None => settle(&judged, &policy, &outcome, entropy, now),
            Some(plant) => plant::settle(plant, (&judged, &policy), &outcome, entropy, now),
        };
        outcome.cause = cause;
        let retire = self.honoured(now, &judged, &outcome, retire);
        self.pace(now, id, &outcome, hold, effects);
        if let Some(retry_after_ms) = incident_ms {
            effects.push(Effect::Observe(Observation::Incident {
                endpoint: judged.endpoint,
                retry_after_ms,
            }));
        }
        let observed = Box::new(self.observe(&judged, &outcome, next, now));
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
        let after = After::Answered {
            delivery: id,
            retire,
            observed,
        };
        self.record(id, entry, after, effects);
        if let Some((_, since)) = retire
            && let Some(endpoint) = self.endpoints.get_mut(&judged.endpoint)
            && endpoint.gone.is_none()
        {
            let on_record = false;
            endpoint.gone = Some(Gone { since, on_record });
            self.wake_endpoint(now, judged.endpoint, effects);
        }
    }

    /// That an endpoint is gone is on record: whatever waits for it is closed, unless it was
    /// registered again meanwhile.
    fn retire(&mut self, now: Time, id: EndpointId, since: Time, effects: &mut Vec<Effect>) {
        if self.is_stale(id, since) {
            return;
        }
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let on_record = true;
        endpoint.gone = Some(Gone { since, on_record });
        endpoint.gate.reach = endpoint.gate.reach.retired();
        self.wake_endpoint(now, id, effects);
    }

    /// The answer that says that its endpoint is gone did not get on record: the endpoint goes on.
    fn unretire(&mut self, now: Time, answered: DeliveryId, effects: &mut Vec<Effect>) {
        let id = self.rows.get(&answered).map(|row| row.delivery.endpoint);
        if let Some(id) = id
            && let Some(endpoint) = self.endpoints.get_mut(&id)
        {
            endpoint.gone = endpoint.gone.filter(|gone| gone.on_record);
            self.wake_endpoint(now, id, effects);
        }
    }

    /// Why and since when the endpoint is gone, if it is: an address that was registered again
    /// later lives on.
    fn honoured(
        &self,
        now: Time,
        judged: &Delivery,
        outcome: &Outcome,
        retire: Option<Cause>,
    ) -> Option<(Cause, Time)> {
        let since = outcome.gone_at(now);
        let stale = self.is_stale(judged.endpoint, since);
        Some((retire.filter(|_| !stale)?, since))
    }

    /// News that an endpoint is gone since then is old: it was registered again later.
    fn is_stale(&self, endpoint: EndpointId, since: Time) -> bool {
        let registered_at = self
            .endpoints
            .get(&endpoint)
            .map(|it| it.gate.registered_at);
        Some(since) < registered_at && !self.planted(Plant::StaleGoneBelieved)
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
        let (endpoint, slot) = (row.delivery.endpoint, std::mem::take(&mut row.slot));
        self.give_back(now, endpoint, slot, true);
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
            After::Opened(id) | After::PutBack(id) => self.place(now, id, effects),
            After::Answered {
                delivery,
                retire,
                observed,
            } => {
                let endpoint = self.rows.get(&delivery).map(|row| row.delivery.endpoint);
                effects.push(Effect::Observe(*observed));
                if let (Some(endpoint), Some((cause, at))) = (endpoint, retire) {
                    effects.push(Effect::Retire {
                        endpoint,
                        cause,
                        at,
                    });
                    self.retire(now, endpoint, at, effects);
                }
                self.place(now, delivery, effects);
            }
            After::Receipts {
                delivery,
                asks,
                in_window,
            } => self.receipts_recorded(now, delivery, asks, in_window, effects),
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
            (_, Refusal::Full) if self.planted(Plant::StuckForgotten) => {}
            (after, Refusal::Full) => {
                if self.stuck.is_empty() {
                    self.timers.set(now.plus(STUCK_RETRY_MS), Timer::Store);
                }
                self.stuck.push((record, after));
            }
            (
                After::Receipts {
                    delivery,
                    asks,
                    in_window,
                },
                why,
            ) => {
                let fenced = why == Refusal::Fenced;
                let said = if fenced {
                    Why::Draining
                } else {
                    Why::Overloaded
                };
                self.receipts_refused(delivery, asks, in_window, said, effects);
                if in_window {
                    self.drop_row(now, delivery, fenced, effects);
                }
            }
            (after, why) => {
                let (id, ask) = match after {
                    After::Receipts { delivery, .. } => (delivery, None),
                    After::Opened(id) | After::PutBack(id) => (id, None),
                    After::Answered {
                        delivery, retire, ..
                    } => {
                        if retire.is_some() {
                            self.unretire(now, delivery, effects);
                        }
                        (delivery, None)
                    }
                    After::Closed { delivery, ask } => (delivery, ask),
                    After::Admitted { seen, .. } => (seen.first_delivery, None),
                };
                if let Some(ask) = ask {
                    self.asked.entry(id).or_default().push(ask);
                }
                effects.push(Effect::Observe(Observation::Conflict { delivery: id }));
                self.drop_row(now, id, why == Refusal::Fenced, effects);
            }
        }
    }

    /// Hands in again what the store had no room for.
    pub(crate) fn hand_in_again(&mut self, effects: &mut Vec<Effect>) {
        for (mut record, after) in std::mem::take(&mut self.stuck) {
            record.ticket = self.await_ticket(after);
            // The journal has gone on meanwhile: they take their place at its end.
            let mut before = None;
            for entry in &mut record.entries {
                self.origin.last_seq.0 += 1;
                let was = std::mem::replace(&mut entry.seq, self.origin.last_seq);
                if before.is_some_and(|(of, _)| of == entry.previous)
                    && let Some((_, is)) = before
                {
                    entry.previous = is;
                }
                before = Some((was, entry.seq));
                if let Some(row) = self.rows.get_mut(&entry.delivery) {
                    row.delivery.last_seq = entry.seq;
                }
            }
            effects.push(Effect::Record(record));
        }
    }

    /// What an outcome does to the pace of its endpoint, and to the slots.
    fn pace(
        &mut self,
        now: Time,
        id: DeliveryId,
        outcome: &Outcome,
        hold: Option<Hold>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        let mut slot = std::mem::take(&mut row.slot);
        slot.breaker_probe &= self.config.plant != Some(Plant::BreakerNeverCloses);
        let endpoint_id = row.delivery.endpoint;
        let route = self.endpoints.get(&endpoint_id);
        let route = route.and_then(|endpoint| endpoint.gate.route);
        self.slots_used = self.slots_used.saturating_sub(1);
        self.troubled_used = self.troubled_used.saturating_sub(u32::from(slot.troubled));
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint_id) {
            let before = endpoint.breaker.state();
            let troubled = endpoint.limiter.is_troubled();
            endpoint.answered(now, slot, outcome);
            if self.config.plant == Some(Plant::LimiterLeaks) {
                endpoint.limiter.put_back(endpoint.gate.rate.as_ref());
            }
            let state = endpoint.breaker.state();
            if troubled && !endpoint.limiter.is_troubled() {
                let line = &mut self.troubled_line;
                if let Some(place) = line.iter().position(|other| *other == endpoint_id) {
                    line.remove(place);
                    self.turns.join(endpoint.gate.tenant, endpoint_id);
                }
            }
            if state != before {
                let change = Observation::Breaker {
                    endpoint: endpoint_id,
                    state,
                };
                effects.push(Effect::Observe(change));
            }
            if let Some(Hold { until, patience_ms }) = hold {
                endpoint.limiter.hold(now, until, patience_ms);
            }
        }
        self.judge_route(now, route, slot, outcome, effects);
        self.rejoin(now, endpoint_id);
    }

    /// The event whose key the delivery frees by being settled: where its policy wants that, and
    /// nothing of the event can have arrived anywhere.
    pub(crate) fn release(&mut self, id: DeliveryId) -> Option<EventId> {
        if self.releases.is_empty() {
            return None;
        }
        let delivery = &self.rows.get(&id)?.delivery;
        let event = delivery.event;
        let definite = matches!(
            delivery.state,
            State::Rejected | State::Exhausted | State::Expired
        ) && (!delivery.may_have_acted || self.planted(Plant::ReleaseIndefinite));
        if !delivery.state.is_settled() {
            return None;
        }
        let left = self.releases.get_mut(&event)?;
        *left = left.saturating_sub(1);
        if definite && *left > 0 {
            return None;
        }
        self.releases.remove(&event);
        definite.then_some(event)
    }

    /// Tells of a delivery that was settled without an attempt.
    pub(crate) fn observe_closed(&self, id: DeliveryId, effects: &mut Vec<Effect>) {
        if let Some(Row { delivery, .. }) = self.rows.get(&id)
            && delivery.state.is_settled()
        {
            effects.push(Effect::Observe(Observation::Closed {
                delivery: id,
                correlation: delivery.correlation,
                endpoint: delivery.endpoint,
                state: delivery.state,
                cause: delivery.cause,
            }));
        }
    }

    pub(crate) fn policy(&self, delivery: &Delivery) -> Arc<Policy> {
        let policy = self.policies.get(&delivery.policy).cloned();
        policy.unwrap_or_else(|| Arc::new(Policy::brief(delivery.policy)))
    }

    fn observe(
        &self,
        delivery: &Delivery,
        outcome: &Outcome,
        next: Next,
        now: Time,
    ) -> Observation {
        let (next_due_at, settled) = match next {
            Next::Again { due_at } => (Some(due_at), None),
            Next::Settle { state, .. } => (None, Some(state)),
        };
        let endpoint = self.endpoints.get(&delivery.endpoint);
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
            channel: endpoint.map_or_else(Channel::default, |it| it.gate.channel),
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
}
