//! What the engine keeps of an endpoint: its gate, its pace, and who waits for it.
//!
//! Absent here: addresses, secrets, names. The engine never learns where an endpoint is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::breaker::Breaker;
use crate::cause::Cause;
use crate::id::{DeliveryId, EndpointId, OrderingKey, TenantId};
use crate::limiter::Limiter;
use crate::policy::{BreakerPolicy, RatePolicy};
use crate::schedule::Due;
use crate::time::Time;

/// Whether an endpoint is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Yes.
    Open,
    /// Not now: deliveries wait until their time to live ends.
    Paused,
    /// Never again, for this cause.
    Closed(Cause),
}

/// What the engine is told about an endpoint when it is created or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Which.
    pub endpoint: EndpointId,
    /// Whose.
    pub tenant: TenantId,
    /// Whether it is sent to.
    pub reach: Reach,
    /// When it rests.
    pub breaker: BreakerPolicy,
    /// How fast it is sent to.
    pub rate: Option<RatePolicy>,
    /// Lowered by trouble, raised by acceptance.
    pub adaptive: bool,
    /// Percent of the rate for each hour of the UTC day.
    pub hours_percent: Option<[u8; 24]>,
    /// Attempts under way at the most.
    pub slots_max: u16,
}

/// Why nothing may go to an endpoint now, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shut {
    /// Until when, [`Time::NEVER`] if something else than time must change.
    pub until: Time,
    /// The cause of what lapses meanwhile.
    pub lapses_as: Cause,
}

/// The engine's side of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub gate: Gate,
    pub breaker: Breaker,
    pub limiter: Limiter,
    /// Due deliveries whose turn is to come.
    pub due: Due,
    /// Attempts under way.
    pub in_flight: u16,
    /// It takes its turns.
    pub in_circle: bool,
    /// The delivery that may go although the endpoint is held; see [`Cause::RetryAfterCapped`].
    pub probe: Option<DeliveryId>,
    /// That delivery, while its attempt is under way.
    pub probing: Option<DeliveryId>,
    /// Lanes that a dead letter stopped; see [`crate::policy::HeadOfLine::Park`].
    pub parked_lanes: Vec<OrderingKey>,
    /// The moment its timer is set to.
    pub wake_at: Time,
    /// When those that wait here, in whatever line, lapse. Settled ones are dropped lazily.
    lapses: BinaryHeap<Reverse<(Time, DeliveryId)>>,
    /// How many of them are still waiting.
    waiting: usize,
}

impl Endpoint {
    pub fn new(gate: Gate, now: Time) -> Endpoint {
        Endpoint {
            limiter: Limiter::new(now, gate.rate.as_ref()),
            gate,
            breaker: Breaker::default(),
            due: Due::default(),
            in_flight: 0,
            in_circle: false,
            probe: None,
            probing: None,
            parked_lanes: Vec::new(),
            wake_at: Time::NEVER,
            lapses: BinaryHeap::new(),
            waiting: 0,
        }
    }

    /// It was changed: its history stays, its pace starts anew only if its rate is another one.
    pub fn regate(&mut self, gate: Gate, now: Time) {
        if gate.rate != self.gate.rate {
            self.limiter = Limiter::new(now, gate.rate.as_ref());
        }
        if gate.reach == Reach::Open && self.gate.reach == Reach::Paused {
            self.breaker = Breaker::default();
        }
        self.gate = gate;
    }

    /// Why nothing may go now, or `None` if the next may.
    pub fn shut(&mut self, now: Time) -> Option<Shut> {
        if let Some(until) = self.limiter.held(now) {
            return Some(Shut {
                until,
                lapses_as: Cause::ExpiredLimiter,
            });
        }
        self.shut_to_probe(now)
    }

    /// The same for the one delivery that may go although the receiver asked for silence.
    pub fn shut_to_probe(&mut self, now: Time) -> Option<Shut> {
        if self.gate.reach == Reach::Paused {
            return Some(Shut {
                until: Time::NEVER,
                lapses_as: Cause::ExpiredPaused,
            });
        }
        if let Some(until) = self.breaker.wait(now) {
            return Some(Shut {
                until,
                lapses_as: Cause::ExpiredBreaker,
            });
        }
        let percent = self
            .gate
            .hours_percent
            .map_or(100, |hours| hours[now.hour()]);
        if let Some(until) = self.limiter.wait(now, self.gate.rate.as_ref(), percent) {
            return Some(Shut {
                until,
                lapses_as: Cause::ExpiredLimiter,
            });
        }
        if self.in_flight >= self.limiter.slots(self.gate.slots_max, self.gate.adaptive) {
            return Some(Shut {
                until: Time::NEVER,
                lapses_as: Cause::ExpiredLimiter,
            });
        }
        None
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Time) {
        self.in_flight += 1;
        self.breaker.begin(now);
        self.limiter.begin(self.gate.rate.as_ref());
    }

    /// An attempt was put back before it left.
    pub fn put_back(&mut self, now: Time) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.breaker.put_back(now);
        self.limiter.put_back(self.gate.rate.as_ref());
    }

    /// A delivery starts to wait here and lapses at `expires_at`.
    pub fn wait_begins(&mut self, delivery: DeliveryId, expires_at: Time) {
        self.waiting += 1;
        self.lapses.push(Reverse((expires_at, delivery)));
    }

    /// One that waited does not wait any more. `still` tells which of the others do.
    pub fn wait_ends(&mut self, still: impl Fn(DeliveryId) -> bool) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.lapses.clear();
        } else if self.lapses.len() > 2 * self.waiting + 64 {
            self.lapses
                .retain(|Reverse((_, delivery))| still(*delivery));
        }
    }

    /// The earliest moment at which one of those that wait lapses.
    pub fn lapses_at(&self) -> Option<Time> {
        self.lapses.peek().map(|Reverse((at, _))| *at)
    }

    /// The next one whose time to live has ended; may have stopped waiting long ago.
    pub fn next_lapsed(&mut self, now: Time) -> Option<DeliveryId> {
        if self.lapses_at()? > now {
            return None;
        }
        self.lapses.pop().map(|Reverse((_, delivery))| delivery)
    }
}
