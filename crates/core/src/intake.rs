//! Intake: a submission becomes an event and its deliveries, or an answer that says why not.
//!
//! [`admit`] is the verdict. What it admits is recorded in one commit: the event, a row for each
//! endpoint, and, where an endpoint can be sent to at once, the opening of its first attempt, so
//! that the normal life of a delivery costs the journal two appends.
//!
//! Absent here: parsing, fan-out and key digests, which the edges do; the look-up of a key, whose
//! result comes with the submission.

use std::sync::Arc;

use crate::cause::Cause;
use crate::endpoint::{Channel, Reach};
use crate::engine::{After, Claim, Effect, Engine, Place, Reply, Row, Why};
use crate::event::{Event, Seen, Submission, Target};
use crate::id::{Ask, CollapseKey, DeliveryId, EndpointId, KeyDigest, NO_ENDPOINT, PolicyId};
use crate::ledger::{self, Admitted, Entry, Fact, Record, State};
use crate::observation::Observation;
use crate::ordering::Lane;
use crate::plant::Plant;
use crate::policy::Guarantee;
use crate::time::Time;

/// The engine's verdict on a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nobody asked for this before.
    Fresh,
    /// The same was asked for before, and became this.
    Duplicate(Seen),
    /// Something else was asked for under the same key.
    KeyConflict(Seen),
}

/// Decides whether an event is new, given what is known of its key.
#[must_use]
pub fn admit(event: &Event, known: Option<&Seen>, now: Time) -> Admission {
    match known {
        Some(seen) if seen.key_expires_at > now && !seen.released => {
            if seen.body_digest == event.body_digest {
                Admission::Duplicate(*seen)
            } else {
                Admission::KeyConflict(*seen)
            }
        }
        _ => Admission::Fresh,
    }
}

impl Engine {
    pub(crate) fn submit(
        &mut self,
        now: Time,
        mut submission: Box<Submission>,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        if self.planted(Plant::ForgetDedupeKey) {
            submission.known = None;
            submission.event.key_digest = KeyDigest(
                self.origin
                    .last_event
                    .0
                    .to_le_bytes()
                    .repeat(2)
                    .try_into()
                    .unwrap_or_default(),
            );
        }
        if let Some(claim) = self.keys.get_mut(&submission.event.key_digest) {
            claim.waiters.push((ask, submission));
            return;
        }
        let admission = admit(&submission.event, submission.known.as_ref(), now);
        if admission != Admission::Fresh {
            answer_repeat(&submission.event, admission, ask, effects);
            return;
        }
        if let Some(why) = self.no_room(submission.targets.len()) {
            let tenant = submission.event.tenant;
            effects.push(Effect::Observe(Observation::Refused { tenant }));
            self.refuse(why, ask, effects);
            return;
        }
        self.admit_fresh(now, *submission, ask, effects);
    }

    fn no_room(&self, deliveries: usize) -> Option<Why> {
        if self.draining {
            Some(Why::Draining)
        } else if !self.stuck.is_empty() {
            Some(Why::StorageFull)
        } else if self.pending.len() >= self.config.records_max
            || self.rows.len() + deliveries.max(1) > self.config.window_max
        {
            Some(Why::Overloaded)
        } else {
            None
        }
    }

    /// Answers that it cannot be done now.
    pub(crate) fn refuse(&self, why: Why, ask: Ask, effects: &mut Vec<Effect>) {
        let retry_after_ms = self.config.refused_retry_after_ms;
        let reply = Reply::Refused {
            why,
            retry_after_ms,
        };
        effects.push(Effect::Reply { ask, reply });
    }

    fn admit_fresh(
        &mut self,
        now: Time,
        submission: Submission,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        let Submission {
            mut event,
            mut targets,
            known,
        } = submission;
        if self.planted(Plant::TargetForgotten) && targets.len() > 1 {
            targets.pop();
        }
        if targets.is_empty() {
            targets.push(nowhere(&event, now));
        }
        self.origin.last_event.0 += 1;
        event.id = self.origin.last_event;
        event.uuid = self.stamp.event(event.id, event.uuid);
        event.admitted_at = now;
        let before = known.filter(|seen| seen.released && seen.key_expires_at > now);
        event.retry_of = before.map(|seen| seen.event);
        event.first_delivery = DeliveryId(self.origin.last_delivery.0 + 1);
        event.deliveries = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let seen = event.seen();
        let mut entries = Vec::with_capacity(2 * targets.len());
        let mut fences = Vec::with_capacity(1);
        for target in &targets {
            let id = self.enter(now, &event, target, &mut entries);
            if let Some(row) = self.rows.get(&id) {
                let fence = self.fence(&row.delivery);
                if !fences.contains(&fence) {
                    fences.push(fence);
                }
            }
        }
        let releases = |target: &Target| {
            let policy = self.policies.get(&target.policy);
            policy.is_some_and(|policy| policy.release_on_definite_failure)
        };
        if targets.iter().all(releases) {
            self.releases.insert(event.id, event.deliveries);
        }
        self.keys.insert(
            event.key_digest,
            Claim {
                waiters: Vec::new(),
            },
        );
        let ticket = self.await_ticket(After::Admitted {
            ask,
            key: event.key_digest,
            seen,
        });
        let event = Some(Arc::new(event));
        let record = Record {
            ticket,
            event,
            fences,
            entries,
            release: None,
        };
        effects.push(Effect::Record(Box::new(record)));
        if self.planted(Plant::ReplyBeforeRecord) {
            let reply = self.early_reply(&seen);
            effects.push(Effect::Reply { ask, reply });
        }
        if self.planted(Plant::SendBeforeRecord) {
            self.send_opened(now, &seen, effects);
        }
    }

    /// Makes the row of one target, with the entries of its admission.
    fn enter(
        &mut self,
        now: Time,
        event: &Event,
        target: &Target,
        entries: &mut Vec<Entry>,
    ) -> DeliveryId {
        self.origin.last_delivery.0 += 1;
        let id = self.origin.last_delivery;
        let admitted = Admitted {
            correlation: self.stamp.correlation(id, target.entropy),
            event: event.id,
            tenant: event.tenant,
            endpoint: target.endpoint,
            channel: self
                .endpoints
                .get(&target.endpoint)
                .map_or(Channel::default(), |endpoint| endpoint.gate.channel),
            policy: target.policy,
            guarantee: target.guarantee,
            due_at: target.due_at,
            expires_at: target.expires_at,
            lane: self.line_up(id, target),
        };
        self.origin.last_seq.0 += 1;
        let entry = Entry {
            seq: self.origin.last_seq,
            delivery: id,
            version: 0,
            at: now,
            previous: crate::id::Seq(0),
            fact: Fact::Admitted(Box::new(admitted)),
        };
        let mut born = None;
        let fits = ledger::apply(&mut born, &entry);
        assert!(fits.is_ok(), "an admission fits no row: {fits:?}");
        entries.push(entry);
        if let Some(delivery) = born {
            let row = Row {
                collapse_key: target.collapse_key,
                ..Row::busy(delivery)
            };
            self.rows.insert(id, row);
        }
        entries.extend(self.first_fact(now, target, id));
        id
    }

    fn line_up(&mut self, id: DeliveryId, target: &Target) -> Option<ledger::Lane> {
        let key = target.ordering_key?;
        let counter = target.lane.unwrap_or_default();
        let lane = self
            .lanes
            .entry((target.endpoint, key))
            .or_insert_with(|| Lane::new(counter));
        let sequence = lane.number();
        lane.push(id, sequence);
        Some(ledger::Lane { key, sequence })
    }

    /// What is recorded together with the admission: why it will never be sent, or that it is.
    fn first_fact(&mut self, now: Time, target: &Target, id: DeliveryId) -> Option<Entry> {
        let closed = |cause| Fact::Closed {
            state: State::Suppressed,
            cause,
        };
        if target.endpoint == NO_ENDPOINT {
            return self.append(now, id, closed(Cause::NoEndpoint));
        }
        let endpoint = self.endpoints.get_mut(&target.endpoint)?;
        if let Reach::Closed(cause) = endpoint.gate.reach {
            return self.append(now, id, closed(cause));
        }
        let first = target.ordering_key.is_none_or(|key| {
            let lane = self.lanes.get(&(target.endpoint, key));
            lane.is_some_and(|lane| lane.head() == Some(id))
        });
        let at_once = first
            && target.due_at <= now
            && now < target.expires_at
            && !self.draining
            && endpoint.due.is_empty()
            && !endpoint.limiter.is_troubled()
            && self.slots_used < self.config.slots_max
            && endpoint.shut(now).is_none();
        if at_once { self.open(now, id) } else { None }
    }

    /// The record that admitted an event is durable.
    pub(crate) fn admitted(
        &mut self,
        now: Time,
        ask: Ask,
        key: KeyDigest,
        seen: &Seen,
        effects: &mut Vec<Effect>,
    ) {
        let mut deliveries = Vec::with_capacity(usize::try_from(seen.deliveries).unwrap_or(0));
        let mut tenant = None;
        for id in ids_of(seen) {
            let Some(row) = self.rows.get(&id) else {
                continue;
            };
            let delivery = &row.delivery;
            tenant = Some(delivery.tenant);
            deliveries.push((delivery.endpoint, delivery.correlation));
            if let Some(place) = delivery.lane
                && let Some(lane) = self.lanes.get_mut(&(delivery.endpoint, place.key))
            {
                lane.admitted(place.sequence);
            }
        }
        let reply = Reply::Admitted {
            event: seen.event,
            uuid: seen.uuid,
            first_delivery: seen.first_delivery,
            deliveries,
        };
        if !self.planted(Plant::ReplyBeforeRecord) {
            effects.push(Effect::Reply { ask, reply });
        }
        if let Some(tenant) = tenant {
            let deliveries = seen.deliveries;
            effects.push(Effect::Observe(Observation::Admitted {
                tenant,
                deliveries,
            }));
        }
        for id in ids_of(seen) {
            self.observe_closed(id, effects);
            self.supersede(now, id, effects);
            self.place(now, id, effects);
        }
        let forgotten = self.planted(Plant::WaitersForgotten);
        for (ask, submission) in self
            .keys
            .remove(&key)
            .map(|claim| claim.waiters)
            .into_iter()
            .flatten()
            .filter(|_| !forgotten)
        {
            let admission = admit(&submission.event, Some(seen), now);
            answer_repeat(&submission.event, admission, ask, effects);
        }
    }

    /// The planted fault: what a caller is told before it is durable.
    fn early_reply(&self, seen: &Seen) -> Reply {
        let rows = ids_of(seen).filter_map(|id| self.rows.get(&id));
        Reply::Admitted {
            event: seen.event,
            uuid: seen.uuid,
            first_delivery: seen.first_delivery,
            deliveries: rows
                .map(|row| (row.delivery.endpoint, row.delivery.correlation))
                .collect(),
        }
    }

    /// Of a thread only the newest is worth sending: the one before it is closed, at once or, if it
    /// is on its way, when it would be sent again.
    fn supersede(&mut self, now: Time, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(&id) else {
            return;
        };
        let endpoint = row.delivery.endpoint;
        let Some(key) = row
            .collapse_key
            .filter(|_| !row.delivery.state.is_settled())
        else {
            return;
        };
        let Some(older) = self.threads.insert((endpoint, key), id) else {
            return;
        };
        let place = self.place_of(older);
        if matches!(place, Some(Place::Timer | Place::Line | Place::Lane)) {
            if place != Some(Place::Timer) {
                self.leave(older);
            }
            let (state, cause) = (State::Suppressed, Cause::Superseded);
            self.close(now, older, state, cause, None, effects);
        } else if let Some(row) = self.rows.get_mut(&older) {
            row.superseded = true;
        }
    }

    /// A delivery is no longer the newest of its thread, because it is settled.
    pub(crate) fn leave_thread(
        &mut self,
        endpoint: EndpointId,
        key: Option<CollapseKey>,
        id: DeliveryId,
    ) {
        if let Some(key) = key
            && self.threads.get(&(endpoint, key)) == Some(&id)
        {
            self.threads.remove(&(endpoint, key));
        }
    }

    /// The record that was to admit an event was refused: as if it had never been asked for.
    pub(crate) fn not_admitted(
        &mut self,
        now: Time,
        ask: Ask,
        key: KeyDigest,
        seen: &Seen,
        why: Result<Seen, Why>,
        effects: &mut Vec<Effect>,
    ) {
        self.releases.remove(&seen.event);
        for id in ids_of(seen) {
            let Some(row) = self.rows.remove(&id) else {
                continue;
            };
            if row.delivery.state == State::InFlight {
                self.give_back(now, row.delivery.endpoint, row.slot, false);
            }
            for ask in self.asked.remove(&id).unwrap_or_default() {
                let reply = Reply::Absent;
                effects.push(Effect::Reply { ask, reply });
            }
            if let Some(place) = row.delivery.lane
                && let Some(lane) = self.lanes.get_mut(&(row.delivery.endpoint, place.key))
            {
                lane.refused(id);
                self.sweep_lane(row.delivery.endpoint, place.key);
            }
        }
        let waiters = self
            .keys
            .remove(&key)
            .map(|claim| claim.waiters)
            .unwrap_or_default();
        match why {
            Ok(first) => {
                let same = first.body_digest == seen.body_digest;
                let reply = if same {
                    Reply::Duplicate(first)
                } else {
                    Reply::KeyConflict(first)
                };
                effects.push(Effect::Reply { ask, reply });
                for (ask, submission) in waiters {
                    let admission = admit(&submission.event, Some(&first), now);
                    answer_repeat(&submission.event, admission, ask, effects);
                }
            }
            Err(why) => {
                for ask in std::iter::once(ask).chain(waiters.into_iter().map(|(ask, _)| ask)) {
                    self.refuse(why, ask, effects);
                }
            }
        }
    }
}

/// The deliveries of an event.
fn ids_of(seen: &Seen) -> impl Iterator<Item = DeliveryId> + use<> {
    let first = seen.first_delivery.0;
    (first..first + u64::from(seen.deliveries)).map(DeliveryId)
}

fn answer_repeat(event: &Event, admission: Admission, ask: Ask, effects: &mut Vec<Effect>) {
    let tenant = event.tenant;
    let (reply, observation) = match admission {
        Admission::Duplicate(seen) => (Reply::Duplicate(seen), Observation::Duplicate { tenant }),
        Admission::KeyConflict(seen) => (
            Reply::KeyConflict(seen),
            Observation::KeyConflict { tenant },
        ),
        // The key lapsed while the first one was on its way to the store.
        Admission::Fresh => (
            Reply::Refused {
                why: Why::Overloaded,
                retry_after_ms: 1,
            },
            Observation::Refused { tenant },
        ),
    };
    effects.push(Effect::Observe(observation));
    effects.push(Effect::Reply { ask, reply });
}

/// What stands for the endpoint of an event that matched none, so that there is a row with the
/// reason.
fn nowhere(event: &Event, now: Time) -> Target {
    Target {
        endpoint: NO_ENDPOINT,
        policy: PolicyId(0),
        guarantee: Guarantee::AtLeastOnce,
        collapse_key: None,
        ordering_key: None,
        lane: None,
        due_at: now,
        expires_at: now.plus(1),
        entropy: event.uuid.rotate_left(64) ^ u128::from(event.version),
    }
}
