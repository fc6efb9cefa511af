//! Audit: the engine's books held against its rows. What is kept twice, so that a decision costs
//! no walk over everything, must agree with itself after every call.
//!
//! Absent here: mending. A finding is a defect of the engine, for tests and the simulator to see.

use std::collections::{BTreeMap, BTreeSet};

use crate::breaker::BreakerState;
use crate::dispatch::STALE_MAX;
use crate::endpoint::{CLOSE_AGAIN_MS, Endpoint};
use crate::engine::{After, Engine, Place, Row};
use crate::id::{DeliveryId, EndpointId, OrderingKey};
use crate::ledger::State;
use crate::ordering::Lane;
use crate::plant::Plant;
use crate::time::Time;

impl Engine {
    /// Holds the books against the rows, in the order of ids. Costs a walk over everything.
    ///
    /// # Errors
    /// The first finding, in words.
    pub fn audit(&self, now: Time) -> Result<(), String> {
        let rows = self.rows_in_order();
        if self.config.plant != Some(Plant::SendBeforeRecord) {
            self.audit_records(&rows)?;
        }
        self.audit_slots(&rows)?;
        let mut by_endpoint: BTreeMap<EndpointId, Vec<&Row>> = BTreeMap::new();
        for row in &rows {
            let endpoint = row.delivery.endpoint;
            by_endpoint.entry(endpoint).or_default().push(row);
        }
        for (id, endpoint) in self.endpoints_in_order() {
            let rows = by_endpoint.get(&id).map_or(&[][..], Vec::as_slice);
            audit_waiting(now, endpoint, rows)
                .and_then(|()| audit_wake(now, endpoint, rows))
                .map_err(|finding| format!("endpoint {id}: {finding}"))?;
        }
        let waits = |row: &&&Row| matches!(row.place, Place::Line | Place::Lane);
        let due = rows.iter().filter(waits);
        let due = due.map(|row| (row.delivery.due_at, row.delivery.id));
        agree(due.collect::<BTreeSet<_>>() == self.due_since, || {
            "others are due than those that wait".into()
        })?;
        self.audit_lanes(&rows)
    }

    #[expect(clippy::disallowed_methods, reason = "sorted before anything is done")]
    fn rows_in_order(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_unstable_by_key(|row| row.delivery.id);
        rows
    }

    #[expect(clippy::disallowed_methods, reason = "sorted before anything is done")]
    fn endpoints_in_order(&self) -> BTreeMap<EndpointId, &Endpoint> {
        self.endpoints.iter().map(|(id, it)| (*id, it)).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "sorted before anything is done")]
    fn lanes_in_order(&self) -> BTreeMap<(EndpointId, OrderingKey), &Lane> {
        self.lanes.iter().map(|(at, lane)| (*at, lane)).collect()
    }

    /// One record at the most is on its way for a delivery, and exactly those rows are busy.
    fn audit_records(&self, rows: &[&Row]) -> Result<(), String> {
        let mut busy = BTreeSet::new();
        let pending = self.pending.iter().map(|(_, after)| after);
        let stuck = self.stuck.iter().map(|(_, after)| after);
        for after in pending.chain(stuck) {
            for id in deliveries_of(after) {
                agree(busy.insert(id), || {
                    format!("{id} has two records on their way")
                })?;
            }
        }
        for row in rows {
            let id = row.delivery.id;
            let state = row.delivery.state;
            let fits = match row.place {
                Place::Busy => busy.remove(&id),
                Place::Away => state == State::InFlight && !busy.contains(&id),
                Place::Timer | Place::Line | Place::Lane => {
                    state == State::Scheduled && !busy.contains(&id)
                }
            };
            agree(fits, || format!("{id} is {state:?} in {:?}", row.place))?;
        }
        agree(busy.is_empty(), || format!("records for no row: {busy:?}"))
    }

    fn audit_slots(&self, rows: &[&Row]) -> Result<(), String> {
        let open = |row: &&&Row| row.delivery.state == State::InFlight;
        let used = rows.iter().filter(open).count();
        let troubled = rows
            .iter()
            .filter(open)
            .filter(|row| row.slot.troubled)
            .count();
        let booked = (self.slots_used as usize, self.troubled_used as usize);
        agree(booked == (used, troubled), || {
            format!("slots booked {booked:?}, used {:?}", (used, troubled))
        })?;
        let endpoints = self.endpoints_in_order();
        let woken = endpoints.values().filter(|it| it.wake_at < Time::NEVER);
        let timers = (woken.count(), self.timers.endpoints());
        agree(timers.0 == timers.1, || {
            format!("{} endpoints have {} timers", timers.0, timers.1)
        })?;
        let in_circle = endpoints.values().filter(|it| it.in_circle).count();
        let circle = self.turns.len() + self.troubled_line.len();
        agree(in_circle == circle, || {
            format!("{in_circle} endpoints in a circle of {circle}")
        })?;
        let free = self.slots_used < self.config.slots_max
            && self.pending.len() < self.config.records_max
            && !self.draining;
        agree(!free || self.turns.is_empty(), || {
            "slots are free and turns not taken".into()
        })
    }

    /// Of a lane only the head is sent, and it does not wait for itself.
    fn audit_lanes(&self, rows: &[&Row]) -> Result<(), String> {
        let mut in_lanes = 0;
        for (at, lane) in self.lanes_in_order() {
            let said = |what: &str| format!("lane {at:?}: {what}");
            agree(!lane.is_empty(), || said("kept empty"))?;
            in_lanes += lane.len();
            let parked = self.endpoints.get(&at.0);
            let parked = parked.is_some_and(|it| it.parked_lanes.contains(&at.1));
            agree(parked == lane.is_parked(), || {
                said("parked in one book only")
            })?;
            if let Some(head) = lane.head() {
                let waits = self.place_of(head) == Some(Place::Lane);
                agree(!waits, || said("its head waits for itself"))?;
            }
        }
        let mut laned = 0;
        for row in rows {
            let Some(place) = row.delivery.lane else {
                continue;
            };
            laned += 1;
            let at = (row.delivery.endpoint, place.key);
            let head = self.lanes.get(&at).and_then(Lane::front);
            let goes = row.delivery.state == State::InFlight;
            agree(!goes || head == Some(row.delivery.id), || {
                format!("{} is under way behind {head:?}", row.delivery.id)
            })?;
        }
        agree(laned == in_lanes, || {
            format!("{laned} rows in lanes of {in_lanes}")
        })
    }
}

/// Nobody waits for something that will not come.
fn audit_wake(now: Time, endpoint: &Endpoint, rows: &[&Row]) -> Result<(), String> {
    let in_line = rows.iter().any(|row| row.place == Place::Line);
    if in_line && !endpoint.in_circle {
        let shut = endpoint.clone().shut(now);
        let until = shut.map(|shut| shut.until);
        agree(until.is_some_and(|until| endpoint.wake_at <= until), || {
            format!("a line waits, shut {shut:?}, woken at {}", endpoint.wake_at)
        })?;
    }
    let mut open = rows
        .iter()
        .filter(|row| row.delivery.state == State::InFlight);
    let probing = endpoint.breaker.state() == BreakerState::Probing;
    agree(
        !probing || open.clone().any(|row| row.slot.breaker_probe),
        || "the breaker waits for no probe".into(),
    )?;
    agree(
        !endpoint.limiter.is_probing() || open.any(|row| row.slot.hold_probe),
        || "the silence waits for no probe".into(),
    )
}

/// The endpoint knows who waits for it, and when each lapses.
fn audit_waiting(now: Time, endpoint: &Endpoint, rows: &[&Row]) -> Result<(), String> {
    let waiting: BTreeSet<_> = rows
        .iter()
        .filter(|row| matches!(row.place, Place::Line | Place::Lane))
        .map(|row| (row.delivery.expires_at, row.delivery.id))
        .collect();
    agree(waiting == *endpoint.waiting(), || {
        format!("{waiting:?} wait, booked {:?}", endpoint.waiting())
    })?;
    let open = |row: &&&Row| row.delivery.state == State::InFlight;
    let in_flight = rows.iter().filter(open).count();
    agree(in_flight == usize::from(endpoint.in_flight), || {
        format!("{in_flight} under way, booked {}", endpoint.in_flight)
    })?;
    let in_line = rows.iter().filter(|row| row.place == Place::Line).count();
    agree(in_line <= endpoint.due.len(), || {
        "somebody is not in the line".into()
    })?;
    let line_max = 2 * waiting.len() + STALE_MAX;
    agree(endpoint.due.len() <= line_max, || {
        format!("a line of {} for {}", endpoint.due.len(), waiting.len())
    })?;
    let lapses = waiting.first().map_or(Time::NEVER, |(at, _)| *at);
    agree(
        endpoint.wake_at <= lapses.max(now.plus(CLOSE_AGAIN_MS)),
        || format!("one lapses at {lapses}, woken at {}", endpoint.wake_at),
    )
}

fn deliveries_of(after: &After) -> Vec<DeliveryId> {
    match after {
        After::Admitted { seen, .. } => {
            let first = seen.first_delivery.0;
            let ids = first..first + u64::from(seen.deliveries);
            ids.map(DeliveryId).collect()
        }
        After::Receipts {
            in_window: false, ..
        } => Vec::new(),
        After::Receipts { delivery, .. } => vec![*delivery],
        After::Opened(id) | After::PutBack(id) => vec![*id],
        After::Answered { delivery, .. } | After::Closed { delivery, .. } => vec![*delivery],
    }
}

fn agree(does: bool, finding: impl FnOnce() -> String) -> Result<(), String> {
    if does { Ok(()) } else { Err(finding()) }
}
