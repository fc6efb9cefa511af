//! The world as the engine's executor acts on it: the store's reader, the writer's line, the
//! senders, and the callers that wait.
//!
//! Absent here: waiting. Every call returns at once; what takes time is answered later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::Gate;
use postrider_core::engine::{Input, Reply, Why};
use postrider_core::event::{Event, LaneCounter, Seen};
use postrider_core::executor::World;
use postrider_core::id::{Ask, DeliveryId, EndpointId, KeyDigest, OrderingKey, RouteId};
use postrider_core::ledger::{Delivery, Record};
use postrider_core::map::Map;
use postrider_core::observation::Observation;
use postrider_core::parked;
use postrider_core::policy::{HeadOfLine, Policy};
use postrider_core::time::Time;
use tokio::sync::oneshot;

use super::announce::gate;
use super::command::Command;
use super::engine_thread::Parts;
use super::events::Events;
use super::sending::Senders;
use crate::observe::{AttemptLine, Metrics};
use crate::registry::{Endpoint, EndpointState};
use crate::store::{Query, ReadError};
use crate::work;

/// Who waits for answers.
enum Caller {
    Submitter {
        answers: Vec<Option<Reply>>,
        missing: usize,
        to: oneshot::Sender<Vec<Reply>>,
    },
    One(oneshot::Sender<Reply>),
}

/// Callers are numbered from 1; the place of a submission within its request is below this.
const ITEMS_PER_CALL_MAX: u64 = 1 << 16;

pub(super) struct RealWorld {
    parts: Parts,
    records: Sender<Vec<Box<Record>>>,
    senders: Senders,
    events: Events,
    callers: Map<u64, Caller>,
    last_caller: u64,
    /// Endpoints whose end waits to be written down.
    ended: Arc<Mutex<Vec<(EndpointId, Cause, Time)>>>,
}

/// Rows that are read at a time where it is looked for what stopped a lane.
const LOOK_BACK_ROWS: usize = 200;
/// Endpoints that one commit retires at the most.
const RETIRED_AT_ONCE_MAX: usize = 1_000;
/// Wait before endpoints are retired that the registry had no room for.
const RETIRE_AGAIN: Duration = Duration::from_secs(1);

impl RealWorld {
    pub fn new(parts: Parts, records: Sender<Vec<Box<Record>>>, line: Sender<Command>) -> Self {
        RealWorld {
            events: Events::new(parts.events_bytes_max),
            senders: Senders::new(&parts, line),
            parts,
            records,
            callers: Map::default(),
            last_caller: 0,
            ended: Arc::default(),
        }
    }

    /// An event was read back for an attempt: its next attempts find it at hand.
    pub fn keep(&mut self, event: &Arc<Event>) {
        if self.events.get(event.id).is_none() {
            self.events.add(event);
        }
    }

    /// Everything the engine has to know before deliveries: policies first, then gates, then the
    /// routes that are paused.
    pub fn surroundings(&self) -> (Vec<Arc<Policy>>, Vec<Gate>, Vec<RouteId>) {
        let policies = self.parts.registry.policies();
        let directory = self.parts.registry.directory();
        let gates = directory
            .iter()
            .map(|endpoint| gate(endpoint, &policies))
            .collect();
        let paused = self.parts.registry.paused_routes();
        (policies.versions().to_vec(), gates, paused)
    }

    /// The lanes that a dead letter had stopped before the process started.
    pub fn stopped<'a>(
        &self,
        unsettled: impl Iterator<Item = &'a Delivery>,
    ) -> Result<Vec<(EndpointId, OrderingKey)>, ReadError> {
        let (policies, registry) = (self.parts.registry.policies(), &self.parts.registry);
        let parks = |policy: &&Arc<Policy>| policy.head_of_line == HeadOfLine::Park;
        let parking = policies.versions().iter().filter(parks);
        let parking: BTreeSet<_> = parking.map(|policy| policy.id).collect();
        if parking.is_empty() {
            return Ok(Vec::new());
        }
        let changed_at = |id| {
            let endpoint = registry.endpoint(id);
            endpoint.map_or(Time::NEVER, |endpoint| endpoint.updated_at)
        };
        let page = |endpoint, before| {
            let query = Query {
                endpoint: Some(endpoint),
                before,
                limit: LOOK_BACK_ROWS,
                ..Query::default()
            };
            let page = self.parts.reader.list(&query)?;
            Ok((page.deliveries, page.next))
        };
        parked::stopped(unsettled, |id| parking.contains(&id), changed_at, page)
    }

    /// Notes who waits for the answers to the submissions of a request. Gives the ask of the first;
    /// those of the others follow.
    pub fn expect(&mut self, items: usize, to: oneshot::Sender<Vec<Reply>>) -> Ask {
        assert!(
            (items as u64) < ITEMS_PER_CALL_MAX,
            "a request of {items} items got through"
        );
        let answers = vec![None; items];
        self.note(Caller::Submitter {
            answers,
            missing: items,
            to,
        })
    }

    /// Notes who waits for one answer.
    pub fn expect_one(&mut self, to: oneshot::Sender<Reply>) -> Ask {
        self.note(Caller::One(to))
    }

    fn note(&mut self, caller: Caller) -> Ask {
        self.last_caller += 1;
        self.callers.insert(self.last_caller, caller);
        Ask(self.last_caller * ITEMS_PER_CALL_MAX)
    }
}

impl World for RealWorld {
    fn seen(&mut self, key: &KeyDigest, now: Time) -> Option<Seen> {
        // What cannot be read here is refused by the store's own guard on keys.
        self.parts.reader.seen(key, now).unwrap_or_else(|error| {
            tracing::error!(%error, "a key could not be looked up");
            None
        })
    }

    fn lane(&mut self, endpoint: EndpointId, key: OrderingKey) -> Option<LaneCounter> {
        let lane = self.parts.reader.lane(endpoint, key);
        lane.inspect_err(|error| tracing::error!(%error, "a lane could not be looked up"))
            .ok()
    }

    fn record(&mut self, records: Vec<Box<Record>>) {
        for event in records.iter().filter_map(|record| record.event.as_ref()) {
            self.events.add(event);
        }
        let _ = self.records.send(records);
    }

    fn send(&mut self, dispatches: Vec<Dispatch>) {
        self.senders.send(dispatches, &self.events);
    }

    fn reply(&mut self, ask: Ask, reply: Reply) {
        let (number, item) = (ask.0 / ITEMS_PER_CALL_MAX, ask.0 % ITEMS_PER_CALL_MAX);
        if matches!(
            reply,
            Reply::Refused {
                why: Why::StorageFull,
                ..
            }
        ) {
            self.parts
                .gauges
                .storage_full
                .store(true, Ordering::Relaxed);
        } else if matches!(reply, Reply::Admitted { .. }) {
            self.parts
                .gauges
                .storage_full
                .store(false, Ordering::Relaxed);
        }
        match self.callers.get_mut(&number) {
            Some(Caller::Submitter {
                answers, missing, ..
            }) => {
                self.parts.gauges.waiting.fetch_sub(1, Ordering::Relaxed);
                let item = usize::try_from(item).unwrap_or(usize::MAX);
                if let Some(place @ None) = answers.get_mut(item) {
                    *place = Some(reply);
                    *missing -= 1;
                }
                if *missing == 0
                    && let Some(Caller::Submitter { answers, to, .. }) =
                        self.callers.remove(&number)
                {
                    // The caller may have gone away; what it asked for is done all the same.
                    let _ = to.send(answers.into_iter().flatten().collect());
                }
            }
            Some(Caller::One(_)) => {
                if let Some(Caller::One(to)) = self.callers.remove(&number) {
                    let _ = to.send(reply);
                }
            }
            None => {}
        }
    }

    fn load(&mut self, deliveries: Vec<DeliveryId>) {
        self.senders.load(deliveries);
    }

    fn retire(&mut self, endpoint: EndpointId, cause: Cause, at: Time) {
        let mut ended = self.ended.lock();
        ended.push((endpoint, cause, at));
        // Whoever was first has a commit to wait for, and takes the others with it.
        if ended.len() > 1 {
            return;
        }
        let (ended, registry) = (Arc::clone(&self.ended), Arc::clone(&self.parts.registry));
        let metrics = Arc::clone(&self.parts.metrics);
        let retire = move || {
            let all = std::mem::take(&mut *ended.lock());
            for some in all.chunks(RETIRED_AT_ONCE_MAX) {
                match registry.retire_all(some) {
                    Ok(retired) => count(&metrics, &retired),
                    Err(error) => {
                        let count = some.len();
                        tracing::error!(%error, count, "endpoints could not be retired yet");
                        ended.lock().extend_from_slice(some);
                    }
                }
            }
            ended.lock().is_empty()
        };
        self.parts.runtime.spawn(async move {
            // An error there is one of the process, which is ending.
            while work::blocking(retire.clone())
                .await
                .is_ok_and(|is_over| !is_over)
            {
                tokio::time::sleep(RETIRE_AGAIN).await;
            }
        });
    }

    fn observe(&mut self, observation: Observation) {
        self.parts.observer.observe(&observation);
        let Observation::Attempt(attempt) = observation else {
            return;
        };
        let (event, settled) = (attempt.event, attempt.settled.is_some());
        if let Some(log) = &self.parts.attempt_log {
            log.say(AttemptLine {
                event: self.events.get(event).cloned(),
                attempt,
            });
        }
        if settled {
            self.events.settled(event);
        }
    }
}

fn count(metrics: &Metrics, retired: &[Arc<Endpoint>]) {
    for endpoint in retired {
        if let EndpointState::Retired { cause, .. } = endpoint.state {
            metrics.ended(endpoint.kind.channel(), cause);
        }
    }
}

/// Reads rows that the engine asked for, with how far their lanes have come.
pub(super) fn read_rows(
    reader: &dyn crate::store::Reader,
    ids: &[DeliveryId],
) -> Result<Input, crate::store::ReadError> {
    let mut deliveries = Vec::with_capacity(ids.len());
    for delivery in reader.deliveries(ids)? {
        let counter = match delivery.lane {
            Some(lane) => reader.lane(delivery.endpoint, lane.key)?,
            None => LaneCounter::default(),
        };
        deliveries.push((delivery, counter));
    }
    let found: std::collections::BTreeSet<_> = deliveries.iter().map(|(row, _)| row.id).collect();
    let absent = ids
        .iter()
        .copied()
        .filter(|id| !found.contains(id))
        .collect();
    Ok(Input::Loaded { deliveries, absent })
}
