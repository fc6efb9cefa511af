//! Sending: takes dispatches to the transport and its answers back to the engine.
//!
//! Absent here: retries, and any bound of its own. The engine opened each attempt with a slot
//! reserved for it.

use std::sync::Arc;

use crossbeam_channel::Sender;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::engine::Input;
use postrider_core::event::Event;
use postrider_core::id::{DeliveryId, EventId};
use postrider_core::lease::Stand;
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::time::Time;
use tokio::runtime::Handle;

use super::command::Command;
use super::engine_thread::Parts;
use super::events::Events;
use super::world::read_rows;
use super::writer::micros;
use crate::channel::Attempted;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::observe::{Hop, Metrics};
use crate::registry::Registry;
use crate::store::Reader;
use crate::transport::{Prepared, Transport};
use crate::work;

/// Waits before a row that could not be read is asked for again.
const RELOAD_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Everything that an attempt needs beside itself.
struct Means {
    transport: Arc<Transport>,
    reader: Arc<dyn Reader>,
    registry: Arc<Registry>,
    clock: Arc<Clock>,
    entropy: Entropy,
    line: Sender<Command>,
    metrics: Arc<Metrics>,
}

pub(super) struct Senders {
    means: Arc<Means>,
    runtime: Handle,
}

impl Senders {
    pub fn new(parts: &Parts, line: Sender<Command>) -> Senders {
        Senders {
            means: Arc::new(Means {
                transport: Arc::clone(&parts.transport),
                reader: Arc::clone(&parts.reader),
                registry: Arc::clone(&parts.registry),
                clock: Arc::clone(&parts.clock),
                entropy: parts.entropy.clone(),
                line,
                metrics: Arc::clone(&parts.metrics),
            }),
            runtime: parts.runtime.clone(),
        }
    }

    /// Sends a batch. One spawn carries it onto the runtime, where each attempt becomes a task of
    /// its own without crossing threads again.
    pub fn send(&self, dispatches: Vec<Dispatch>, events: &Events) {
        let mut batch = Vec::with_capacity(dispatches.len());
        for dispatch in dispatches {
            let event = events.get(dispatch.event).cloned();
            match self.means.registry.endpoint(dispatch.endpoint) {
                Some(endpoint) => {
                    let prepared = self.means.transport.prepared(&endpoint);
                    batch.push((dispatch, prepared, event));
                }
                None => self.means.answer(&dispatch, answered(vanished())),
            }
        }
        let means = Arc::clone(&self.means);
        self.runtime.spawn(async move {
            for (dispatch, prepared, event) in batch {
                let begun = Begun {
                    means: Arc::clone(&means),
                    dispatch: Some(dispatch),
                };
                tokio::spawn(begun.attempt(prepared, event));
            }
        });
    }

    /// Reads rows for the engine.
    pub fn load(&self, ids: Vec<DeliveryId>) {
        let means = Arc::clone(&self.means);
        self.runtime.spawn(async move {
            loop {
                let (reader, wanted) = (Arc::clone(&means.reader), ids.clone());
                match work::blocking(move || read_rows(&*reader, &wanted)).await {
                    Ok(Ok(loaded)) => {
                        let _ = means.line.send(Command::Input(loaded));
                        return;
                    }
                    Ok(Err(error)) => tracing::error!(%error, "rows could not be loaded"),
                    Err(_) => return,
                }
                tokio::time::sleep(RELOAD_AFTER).await;
            }
        });
    }
}

/// An attempt under way. Should it end without a word (a panic of ours), then nobody knows what the
/// receiver has seen: the engine is told so, its slot is free again, and the tables decide.
struct Begun {
    means: Arc<Means>,
    dispatch: Option<Dispatch>,
}

impl Begun {
    async fn attempt(mut self, prepared: Arc<Prepared>, event: Option<Arc<Event>>) {
        let Some(dispatch) = &self.dispatch else {
            return;
        };
        let mut attempted = self.means.attempt(dispatch, &prepared, event).await;
        if let Attempted::Answered(outcome) = &mut attempted
            && outcome.kind == OutcomeKind::Gone
        {
            let since = self.means.gone_since(dispatch, &prepared);
            outcome.gone_since.get_or_insert(since);
        }
        if let Some(dispatch) = self.dispatch.take() {
            self.means.answer(&dispatch, attempted);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(dispatch) = self.dispatch.take() else {
            return;
        };
        if std::thread::panicking() {
            self.means.metrics.attempts_panicked.inc();
            let delivery = dispatch.delivery.0;
            tracing::error!(delivery, "an attempt panicked; what it did is unknown");
        }
        self.means.answer(&dispatch, answered(Outcome::crashed()));
    }
}

impl Means {
    async fn attempt(
        self: &Arc<Self>,
        dispatch: &Dispatch,
        prepared: &Arc<Prepared>,
        event: Option<Arc<Event>>,
    ) -> Attempted {
        let event = match event {
            Some(event) => Some(event),
            None => self.read_event(dispatch.event).await,
        };
        let Some(event) = event else {
            return answered(unreadable());
        };
        let now = self.clock.now();
        // The lease is the lock on the data directory: it holds for as long as the process lives.
        if !dispatch.may_leave(Stand::Begins, now) {
            return Attempted::NotSent(Cause::Deferred);
        }
        let waited = micros(now, dispatch.opened_at);
        self.metrics.hop(Hop::DurableToSend).observe(waited);
        // Outside, times are the wall's; what is left of the time to live stays the same.
        let wall = self.clock.wall();
        let outward = Dispatch {
            expires_at: dispatch.expires_at.plus(wall.since(now)),
            ..dispatch.clone()
        };
        self.transport
            .attempt(prepared, &event, &outward, wall)
            .await
    }

    async fn read_event(self: &Arc<Self>, id: EventId) -> Option<Arc<Event>> {
        let reader = Arc::clone(&self.reader);
        let read = work::blocking(move || -> Result<_, crate::store::ReadError> {
            let Some(event) = reader.event(id)? else {
                return Ok(None);
            };
            let payload = reader.payload(id)?;
            Ok(payload.map(|payload| Arc::new(Event { payload, ..event })))
        });
        match read.await {
            Ok(Ok(event)) => {
                if let Some(event) = &event {
                    let _ = self.line.send(Command::Event(Arc::clone(event)));
                }
                event
            }
            Ok(Err(error)) => {
                tracing::error!(event = id.0, %error, "an event could not be read back");
                None
            }
            Err(_) => None,
        }
    }

    /// Since when an address is gone of which its provider says so without a time. It was taken up
    /// when the attempt was opened; what was registered since is another one. Where the endpoint
    /// has another address by now, nothing is known of that, however old it is said to be.
    fn gone_since(&self, dispatch: &Dispatch, prepared: &Prepared) -> Time {
        let asked = prepared.endpoint();
        match self.registry.endpoint(dispatch.endpoint) {
            Some(now) if now.address() != asked.address() => asked.registered_at(),
            _ => dispatch.opened_at,
        }
    }

    fn answer(&self, dispatch: &Dispatch, attempted: Attempted) {
        if let Attempted::Answered(Outcome {
            kind: OutcomeKind::Accept,
            ..
        }) = &attempted
        {
            let took = micros(self.clock.now(), dispatch.admitted_at);
            self.metrics.hop(Hop::AcceptToArrival).observe(took);
        }
        let (delivery, attempt) = (dispatch.delivery, dispatch.attempt);
        let input = match attempted {
            Attempted::Answered(outcome) => Input::Answered {
                delivery,
                attempt,
                outcome: Box::new(outcome),
                entropy: self.entropy.narrow(),
            },
            Attempted::NotSent(cause) => Input::NotSent {
                delivery,
                attempt,
                cause,
            },
        };
        let _ = self.line.send(Command::Input(input));
    }
}

fn answered(outcome: Outcome) -> Attempted {
    Attempted::Answered(outcome)
}

fn vanished() -> Outcome {
    Outcome {
        unsent: true,
        ..Outcome::bare(OutcomeKind::Reject, Cause::EndpointDeleted)
    }
}

fn unreadable() -> Outcome {
    Outcome {
        unsent: true,
        ..Outcome::bare(OutcomeKind::Reject, Cause::PayloadUnreadable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use postrider_core::cause::Cause;
    use postrider_core::dispatch::Dispatch;
    use postrider_core::event::LaneCounter;
    use postrider_core::id::{DeliveryId, PolicyId, TenantId};
    use postrider_core::time::Time;

    use super::Means;
    use crate::channel::Attempted;
    use crate::clock::Clock;
    use crate::entropy::Entropy;
    use crate::observe::Metrics;
    use crate::registry::{ApnsDevice, Device, EndpointDraft, Kind, Registry};
    use crate::store::Recovery;
    use crate::store::conformance::author::{Author, Wish};
    use crate::store::model::ModelStore;
    use crate::transport::{Limits, NetworkPolicy, Transport};
    use crate::vault::Vault;

    /// Means over a registry, and the time that its clock tells.
    fn means(registry: &Arc<Registry>, now_ms: i64) -> (Arc<Means>, Arc<AtomicI64>) {
        let now_ms = Arc::new(AtomicI64::new(now_ms));
        let (line, _inputs) = crossbeam_channel::unbounded();
        let transport = Transport::new(Limits::default(), NetworkPolicy::default());
        let means = Means {
            transport: Arc::new(transport),
            reader: ModelStore::default().open().1,
            registry: Arc::clone(registry),
            clock: Arc::new(Clock::told(Arc::clone(&now_ms), Time(0))),
            entropy: Entropy::Machine,
            line,
            metrics: Arc::new(Metrics::default()),
        };
        (Arc::new(means), now_ms)
    }

    fn registry() -> (Arc<Registry>, TenantId) {
        let registry = Registry::in_memory(&Vault::of(&[7; 32])).unwrap();
        let tenant = registry.create_tenant("acme", Time(1)).unwrap().id;
        (Arc::new(registry), tenant)
    }

    #[tokio::test]
    async fn what_lapsed_on_its_way_to_the_network_does_not_leave() {
        let (registry, tenant) = registry();
        // No address that anything may go to: an attempt that is made is refused.
        let url = "https://127.0.0.1/hook".parse().unwrap();
        let draft = EndpointDraft::new(url, Kind::Webhook, PolicyId(1));
        let endpoint = registry.create_endpoint(tenant, draft, Time(1)).unwrap();
        let mut author = Author::after(&Recovery::default(), Time(1));
        let event = author.admit(&Wish::one(1, endpoint.id.0)).event;
        let row = &author.rows[&DeliveryId(1)];
        let dispatch = Dispatch::of(row, LaneCounter::default(), author.now);
        let lapses = dispatch.expires_at;
        let (means, now_ms) = means(&registry, lapses.0 - 1);
        let prepared = means.transport.prepared(&endpoint);
        let made = means.attempt(&dispatch, &prepared, event.clone()).await;
        assert!(matches!(made, Attempted::Answered(_)), "{made:?}");
        now_ms.store(lapses.0, Ordering::Relaxed);
        let late = means.attempt(&dispatch, &prepared, event).await;
        assert_eq!(late, Attempted::NotSent(Cause::Deferred));
    }

    /// An application may bring an address long after the device had it.
    #[test]
    fn that_an_old_address_is_gone_says_nothing_of_the_one_that_replaced_it() {
        let (registry, tenant) = registry();
        let draft = |token: char, said: i64| {
            let token = token.to_string().repeat(64);
            let url = format!("https://apns.example/3/device/{token}");
            EndpointDraft {
                device: Some(Device {
                    id: "phone".into(),
                    refreshed_at: Time(said),
                    ..Device::default()
                }),
                ..EndpointDraft::new(
                    url.parse().unwrap(),
                    Kind::Apns(ApnsDevice { token }),
                    PolicyId(1),
                )
            }
        };
        let register = |token, said, now: i64| {
            let draft = draft(token, said);
            let made = registry.register_device(tenant, draft, None, Time(now));
            made.unwrap().0
        };
        let old = register('a', 10, 10);
        let (means, _) = means(&registry, 60);
        let prepared = means.transport.prepared(&old);
        let mut author = Author::after(&Recovery::default(), Time(50));
        author.admit(&Wish::one(1, old.id.0));
        let row = &author.rows[&DeliveryId(1)];
        let dispatch = Dispatch::of(row, LaneCounter::default(), Time(50));
        let since = means.gone_since(&dispatch, &prepared);
        assert_eq!(since, dispatch.opened_at, "it has no other address yet");
        let new = register('b', 40, 60);
        assert_eq!((new.id, new.registered_at()), (old.id, Time(60)));
        let late = means.gone_since(&dispatch, &prepared);
        assert!(late < Time(40), "{late:?}");
        for since in [since, late] {
            let gone = [(old.id, Cause::Gone, since)];
            assert!(registry.retire_all(&gone).unwrap().is_empty());
        }
        let same = register('b', 45, 70);
        assert_eq!(same.registered_at(), Time(60), "it was there before");
    }
}
