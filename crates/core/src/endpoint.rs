//! What the engine keeps of an endpoint: its gate, its pace, and who waits for it.
//!
//! Absent here: addresses, secrets, names. The engine never learns where an endpoint is.

use std::collections::BTreeSet;

use crate::acknowledge::sign;
use crate::breaker::Breaker;
use crate::cause::Cause;
use crate::id::{DeliveryId, EndpointId, OrderingKey, RouteId, TenantId};
use crate::limiter::Limiter;
use crate::outcome::{Outcome, OutcomeKind};
use crate::policy::{BreakerPolicy, RatePolicy};
use crate::schedule::Due;
use crate::time::Time;

/// Wait before more of those are closed that must not wait any longer, where they are many.
pub(crate) const CLOSE_AGAIN_MS: i64 = 10;

/// A way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// A signed HTTP request to a system.
    #[default]
    Webhook = 1,
    /// A browser, through its push service (RFC 8030).
    WebPush = 2,
    /// An Apple device.
    Apns = 3,
    /// A device that Firebase Cloud Messaging reaches.
    Fcm = 4,
}

impl Channel {
    /// All of them, in the order of their numbers.
    pub const ALL: [Channel; 4] = [
        Channel::Webhook,
        Channel::WebPush,
        Channel::Apns,
        Channel::Fcm,
    ];

    /// The channel with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Channel> {
        let place = usize::from(number).checked_sub(1)?;
        Channel::ALL.get(place).copied()
    }

    /// The word that the API and the log speak.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Channel::Webhook => "webhook",
            Channel::WebPush => "web_push",
            Channel::Apns => "apns",
            Channel::Fcm => "fcm",
        }
    }

    /// The channel with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL
            .into_iter()
            .find(|channel| channel.name() == name)
    }

    /// It ends at a device that a person holds, which comes and goes by itself.
    #[must_use]
    pub fn is_push(self) -> bool {
        self != Channel::Webhook
    }
}

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

impl Reach {
    /// The same once the address is gone: what was closed keeps its cause.
    pub(crate) fn retired(self) -> Reach {
        match self {
            Reach::Closed(_) => self,
            Reach::Open | Reach::Paused => Reach::Closed(Cause::EndpointRetired),
        }
    }
}

/// What the engine is told about an endpoint when it is created or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Which.
    pub endpoint: EndpointId,
    /// Whose.
    pub tenant: TenantId,
    /// Which way it is reached.
    pub channel: Channel,
    /// The credentials it is sent to with: when they are refused, everything on the same route
    /// waits.
    pub route: Option<RouteId>,
    /// When the address was registered last: news that it is gone since before is stale.
    pub registered_at: Time,
    /// When somebody changed or resumed it last: lanes that a dead letter stopped before go on.
    pub changed_at: Time,
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

/// What an attempt holds of its endpoint while it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// It counts among those that endpoints in trouble hold.
    pub troubled: bool,
    /// Its answer decides whether the breaker closes.
    pub breaker_probe: bool,
    /// Its answer decides whether the receiver's wish for silence still holds.
    pub hold_probe: bool,
    /// Its answer decides whether the route's credentials are accepted again.
    pub route_probe: bool,
}

/// What the engine makes of an answer that says that an address is gone: nothing more is sent at
/// once, and once the answer is on record whatever waits is closed, and stays so whatever the
/// endpoint is changed to before that is known everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    /// Since when it is.
    pub since: Time,
    /// The answer is durable.
    pub on_record: bool,
}

/// The engine's side of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub gate: Gate,
    pub breaker: Breaker,
    pub limiter: Limiter,
    /// Due deliveries whose turn is to come. May name some that wait no more.
    pub due: Due,
    /// Attempts under way.
    pub in_flight: u16,
    /// It takes its turns.
    pub in_circle: bool,
    /// Until when its route is held; see [`crate::route`].
    pub route_held: Option<Time>,
    /// Lanes that a dead letter stopped; see [`crate::policy::HeadOfLine::Park`].
    pub parked_lanes: BTreeSet<OrderingKey>,
    /// An answer said that it is gone.
    pub gone: Option<Gone>,
    /// The moment its timer is set to.
    pub wake_at: Time,
    /// Who waits here, in whatever line, and when each lapses.
    waiting: BTreeSet<(Time, DeliveryId)>,
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
            route_held: None,
            parked_lanes: BTreeSet::new(),
            gone: None,
            wake_at: Time::NEVER,
            waiting: BTreeSet::new(),
        }
    }

    /// It was changed: its history stays, its pace starts anew only if its rate is another one.
    pub fn regate(&mut self, mut gate: Gate, now: Time) {
        // Only another registration makes it another address.
        self.gone = self.gone.filter(|gone| gate.registered_at <= gone.since);
        if self.gone.is_some_and(|gone| gone.on_record) {
            gate.reach = gate.reach.retired();
        }
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
        let shut = |until, lapses_as| Some(Shut { until, lapses_as });
        match self.gate.reach {
            Reach::Open => {}
            Reach::Paused => return shut(Time::NEVER, Cause::ExpiredPaused),
            Reach::Closed(cause) => return shut(Time::NEVER, cause),
        }
        if self.gone.is_some() {
            return shut(Time::NEVER, Cause::Expired);
        }
        if let Some(until) = self.route_held.filter(|until| now < *until) {
            return shut(until, Cause::ExpiredBlocked);
        }
        if let Some(until) = self.breaker.wait(now) {
            return shut(until, Cause::ExpiredBreaker);
        }
        if let Some(until) = self.limiter.held(now).or_else(|| self.too_fast(now)) {
            return shut(until, Cause::ExpiredLimiter);
        }
        let slots = self.limiter.slots(self.gate.slots_max, self.gate.adaptive);
        if self.in_flight >= slots {
            return shut(Time::NEVER, Cause::ExpiredLimiter);
        }
        None
    }

    fn too_fast(&mut self, now: Time) -> Option<Time> {
        let rate = self.gate.rate.as_ref();
        let adaptive = self.gate.adaptive;
        let Some(hours) = self.gate.hours_percent else {
            return self.limiter.wait(now, rate, 100, adaptive);
        };
        let until = self.limiter.wait(now, rate, hours[now.hour()], adaptive);
        until.map(|until| until.min(now.next_hour()))
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Time) -> Slot {
        self.in_flight += 1;
        Slot {
            troubled: self.limiter.is_troubled(),
            breaker_probe: self.breaker.begin(now),
            hold_probe: self.limiter.begin(now, self.gate.rate.as_ref()),
            route_probe: false,
        }
    }

    /// An attempt was put back before it left. What it took of the rate comes back only where that
    /// is on record: what is left of it may have gone to another one meanwhile.
    pub fn put_back(&mut self, now: Time, slot: Slot, on_record: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if on_record {
            self.limiter.put_back(self.gate.rate.as_ref());
        }
        if slot.breaker_probe {
            self.breaker.probe_put_back(now);
        }
        if slot.hold_probe {
            self.limiter.probe_put_back();
        }
    }

    /// An attempt was answered.
    pub fn answered(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let sign = sign(outcome);
        let policy = &self.gate.breaker;
        if slot.breaker_probe {
            self.breaker.probe_answered(now, sign, policy);
        } else {
            self.breaker.answered(now, sign, policy);
        }
        if slot.hold_probe {
            let accepted = outcome.kind == OutcomeKind::Accept;
            self.limiter.probe_answered(now, accepted);
        }
        match outcome.kind {
            OutcomeKind::Accept => self.limiter.faster(self.gate.slots_max),
            // Our own crash says nothing about the endpoint.
            _ if outcome.cause == Cause::Crashed => {}
            OutcomeKind::Retry | OutcomeKind::Throttle | OutcomeKind::Unknown => {
                self.limiter.slower();
            }
            OutcomeKind::Reject | OutcomeKind::Gone | OutcomeKind::Blocked => {}
        }
    }

    /// A delivery starts to wait here and lapses at `expires_at`.
    pub fn wait_begins(&mut self, delivery: DeliveryId, expires_at: Time) {
        self.waiting.insert((expires_at, delivery));
    }

    /// It waits no more.
    pub fn wait_ends(&mut self, delivery: DeliveryId, expires_at: Time) {
        self.waiting.remove(&(expires_at, delivery));
    }

    /// Who waits here.
    pub fn waiting(&self) -> &BTreeSet<(Time, DeliveryId)> {
        &self.waiting
    }

    /// One that must not wait any longer: its time to live has ended, or the endpoint is closed.
    pub fn overdue(&self, now: Time) -> Option<DeliveryId> {
        let closed = matches!(self.gate.reach, Reach::Closed(_));
        let first = self.waiting.first();
        let (_, delivery) = first.filter(|(expires_at, _)| closed || *expires_at <= now)?;
        Some(*delivery)
    }

    /// The next moment at which time alone changes something for those who wait.
    pub fn changes_at(&mut self, now: Time) -> Time {
        let opens = match self.shut(now) {
            Some(Shut { until, .. }) if !self.due.is_empty() => until,
            _ => Time::NEVER,
        };
        let lapses = match self.overdue(now) {
            // More than could be closed at once.
            Some(_) => Some(now.plus(CLOSE_AGAIN_MS)),
            None => self.waiting.first().map(|(expires_at, _)| *expires_at),
        };
        lapses.map_or(opens, |lapses| lapses.min(opens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PolicyId, TenantId};
    use crate::policy::Policy;

    /// One attempt a second, one at once.
    fn paced() -> Gate {
        let policy = Policy::brief(PolicyId(1));
        Gate {
            endpoint: EndpointId(1),
            tenant: TenantId(1),
            channel: Channel::Webhook,
            route: None,
            registered_at: Time(0),
            changed_at: Time(0),
            reach: Reach::Open,
            breaker: policy.breaker,
            rate: Some(RatePolicy {
                per_second_milli: 1_000,
                burst: 1,
            }),
            adaptive: false,
            hours_percent: None,
            slots_max: 4,
        }
    }

    #[test]
    fn only_what_is_on_record_as_not_sent_gives_its_share_of_the_rate_back() {
        for (on_record, until) in [(true, None), (false, Some(Time(1_000)))] {
            let mut endpoint = Endpoint::new(paced(), Time(0));
            let slot = endpoint.begin(Time(0));
            endpoint.put_back(Time(100), slot, on_record);
            assert_eq!(endpoint.in_flight, 0);
            assert_eq!(endpoint.shut(Time(100)).map(|shut| shut.until), until);
        }
    }

    #[test]
    fn closing_what_is_late_does_not_keep_the_others_waiting() {
        let mut endpoint = Endpoint::new(paced(), Time(0));
        let _slot = endpoint.begin(Time(0));
        endpoint.due.push(DeliveryId(2), 1);
        endpoint.wait_begins(DeliveryId(1), Time(990));
        endpoint.wait_begins(DeliveryId(2), Time(5_000));
        const { assert!(CLOSE_AGAIN_MS > 5) };
        assert_eq!(endpoint.changes_at(Time(980)), Time(990));
        assert_eq!(endpoint.changes_at(Time(995)), Time(1_000));
        endpoint.wait_ends(DeliveryId(1), Time(990));
        assert_eq!(endpoint.changes_at(Time(995)), Time(1_000));
    }
}
