//! Schedule: when a delivery is due, and whose turn it is among those that are.
//!
//! Fairness is by turns, at three levels: tenants take turns, within a tenant its endpoints do,
//! and within an endpoint first tries go before retries three times out of four. An endpoint that
//! has used up its slots or whose gate is closed leaves the circle until that changes, so what is
//! slow waits alone.
//!
//! Absent here: sleeping. The earliest moment anything changes is a number
//! ([`crate::engine::Engine::next_wake`]); the driver waits for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::id::{DeliveryId, EndpointId, TenantId};
use crate::outcome::{Outcome, OutcomeKind};
use crate::policy::{Jitter, Policy, Schedule};
use crate::time::Time;

/// Shortest wait between two attempts.
pub const WAIT_MS_MIN: i64 = 1;

/// The wait after attempt number `attempt` came to `outcome`, in milliseconds.
///
/// A time that the receiver named is kept up to the policy's cap and never undercut.
#[must_use]
pub fn wait_ms(policy: &Policy, attempt: u32, outcome: &Outcome, entropy: u64) -> i64 {
    let planned = spread(
        planned_ms(&policy.schedule, attempt),
        policy.jitter,
        entropy,
    );
    let named = outcome
        .retry_after_ms
        .map(|named| named.clamp(0, policy.retry_after_cap_ms));
    let wait = match (outcome.kind, named) {
        (OutcomeKind::Throttle, Some(named)) => named,
        (OutcomeKind::Throttle, None) => planned.max(policy.throttle_ms),
        (_, Some(named)) => planned.max(named),
        (_, None) => planned,
    };
    wait.max(outcome.wait_min_ms).max(WAIT_MS_MIN)
}

/// The wait that the schedule plans after attempt number `attempt` (from 1), before jitter.
#[must_use]
pub fn planned_ms(schedule: &Schedule, attempt: u32) -> i64 {
    let step = attempt.saturating_sub(1);
    match schedule {
        Schedule::Exponential { base_ms, cap_ms } => {
            let factor = 1_i64.checked_shl(step.min(62)).unwrap_or(i64::MAX);
            base_ms.saturating_mul(factor).min(*cap_ms)
        }
        Schedule::Linear { step_ms, cap_ms } => step_ms
            .saturating_mul(i64::from(attempt.max(1)))
            .min(*cap_ms),
        Schedule::Fixed { waits_ms } => {
            let last = waits_ms.len().saturating_sub(1);
            waits_ms
                .get(usize::try_from(step).unwrap_or(last).min(last))
                .copied()
                .unwrap_or(0)
        }
    }
}

/// Spreads a wait by the policy's jitter; `entropy` is uniform.
fn spread(wait_ms: i64, jitter: Jitter, entropy: u64) -> i64 {
    let share = |of: i64| {
        let of = u128::try_from(of.max(0)).unwrap_or(0);
        i64::try_from((of * u128::from(entropy)) >> 64).unwrap_or(0)
    };
    match jitter {
        Jitter::None => wait_ms,
        Jitter::Equal => wait_ms / 2 + share(wait_ms - wait_ms / 2 + 1),
        Jitter::Full => share(wait_ms + 1),
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A delivery is due, or lapses.
    Delivery(DeliveryId),
    /// The same for one that is on disk only.
    Parked(DeliveryId),
    /// An endpoint's gate opens, or something that waits for it lapses.
    Endpoint(EndpointId),
    /// A delivery has become the head of its lane.
    Lane(DeliveryId),
    /// Records that the store had no room for are handed in again.
    Store,
}

/// Timers in the order of their moments. A timer that is no longer needed is ignored when it fires,
/// or swept away when there are too many; but for those of endpoints: there is one for each, and it
/// moves.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Time, Timer)>>,
    endpoints: BTreeSet<(Time, EndpointId)>,
}

impl Timers {
    /// Adds one.
    pub fn set(&mut self, at: Time, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// Moves the timer of an endpoint; [`Time::NEVER`] stands for none.
    pub fn shift(&mut self, endpoint: EndpointId, from: Time, to: Time) {
        self.endpoints.remove(&(from, endpoint));
        if to < Time::NEVER {
            self.endpoints.insert((to, endpoint));
        }
    }

    /// The earliest moment, if there is one.
    #[must_use]
    pub fn earliest(&self) -> Option<Time> {
        let endpoint = self.endpoints.first().map(|(at, _)| *at);
        let other = self.heap.peek().map(|Reverse((at, _))| *at);
        endpoint.into_iter().chain(other).min()
    }

    /// The next timer whose moment has come.
    pub fn fire(&mut self, now: Time) -> Option<Timer> {
        let at = self.earliest().filter(|at| *at <= now)?;
        if self
            .heap
            .peek()
            .is_some_and(|Reverse((other, _))| *other == at)
        {
            return self.heap.pop().map(|Reverse((_, timer))| timer);
        }
        self.endpoints
            .pop_first()
            .map(|(_, id)| Timer::Endpoint(id))
    }

    /// Drops those that nobody needs any more, and all but one of those that are the same; not
    /// those of endpoints, which are needed as long as they are there.
    pub fn sweep(&mut self, mut needed: impl FnMut(Timer) -> bool) {
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        timers.retain(|Reverse((_, timer))| needed(*timer));
        timers.sort_unstable();
        timers.dedup();
        self.heap = timers.into();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len() + self.endpoints.len()
    }

    /// How many endpoints have one.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// None is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.endpoints.is_empty()
    }
}

/// First tries that go for each retry, where both wait.
const FIRST_TRIES_PER_RETRY: u8 = 3;

/// Due deliveries of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Due {
    first_tries: VecDeque<DeliveryId>,
    retries: VecDeque<DeliveryId>,
    since_retry: u8,
}

impl Due {
    /// Adds a delivery that has `attempt` attempts behind it.
    pub fn push(&mut self, delivery: DeliveryId, attempt: u32) {
        if attempt == 0 {
            self.first_tries.push_back(delivery);
        } else {
            self.retries.push_back(delivery);
        }
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<DeliveryId> {
        let retry = self.first_tries.is_empty()
            || (self.since_retry >= FIRST_TRIES_PER_RETRY && !self.retries.is_empty());
        if retry {
            self.since_retry = 0;
            self.retries.pop_front()
        } else {
            self.since_retry = self.since_retry.saturating_add(1);
            self.first_tries.pop_front()
        }
    }

    /// Forgets those that `keep` says nothing for.
    pub fn retain(&mut self, keep: impl Fn(DeliveryId) -> bool) {
        self.first_tries.retain(|delivery| keep(*delivery));
        self.retries.retain(|delivery| keep(*delivery));
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first_tries.len() + self.retries.len()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first_tries.is_empty() && self.retries.is_empty()
    }
}

/// The circle in which tenants, and within a tenant its endpoints, take turns.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    tenants: VecDeque<TenantId>,
    endpoints: BTreeMap<TenantId, VecDeque<EndpointId>>,
}

impl Turns {
    /// Adds an endpoint at the end of its tenant's line. The caller adds each only once.
    pub fn join(&mut self, tenant: TenantId, endpoint: EndpointId) {
        let line = self.endpoints.entry(tenant).or_default();
        if line.is_empty() {
            self.tenants.push_back(tenant);
        }
        line.push_back(endpoint);
    }

    /// Takes the endpoint whose turn it is out of the circle.
    pub fn pop(&mut self) -> Option<EndpointId> {
        let tenant = self.tenants.pop_front()?;
        let line = self.endpoints.get_mut(&tenant)?;
        let endpoint = line.pop_front();
        if line.is_empty() {
            self.endpoints.remove(&tenant);
        } else {
            self.tenants.push_back(tenant);
        }
        endpoint
    }

    /// How many endpoints are in the circle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.values().map(VecDeque::len).sum()
    }

    /// Nobody is in the circle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Due, Timer, Timers, Turns, planned_ms, spread, wait_ms};
    use crate::cause::Cause;
    use crate::id::{DeliveryId, EndpointId, PolicyId, TenantId};
    use crate::outcome::{Outcome, OutcomeKind};
    use crate::policy::{Jitter, Policy, Schedule};
    use crate::time::Time;

    #[test]
    fn schedules_as_tables() {
        let rows: [(Schedule, &[i64]); 3] = [
            (
                Schedule::Exponential {
                    base_ms: 2_000,
                    cap_ms: 60_000,
                },
                &[2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000],
            ),
            (
                Schedule::Linear {
                    step_ms: 2_000,
                    cap_ms: 5_000,
                },
                &[2_000, 4_000, 5_000, 5_000],
            ),
            (
                Schedule::Fixed {
                    waits_ms: vec![5, 300],
                },
                &[5, 300, 300],
            ),
        ];
        for (schedule, waits) in rows {
            for (attempt, wait) in (1..).zip(waits) {
                assert_eq!(
                    planned_ms(&schedule, attempt),
                    *wait,
                    "{schedule:?} {attempt}"
                );
            }
            assert!(planned_ms(&schedule, u32::MAX) > 0);
        }
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_uses_them() {
        for (jitter, least, most) in [
            (Jitter::None, 100, 100),
            (Jitter::Equal, 50, 100),
            (Jitter::Full, 0, 100),
        ] {
            assert_eq!(spread(100, jitter, 0), least, "{jitter:?}");
            assert_eq!(spread(100, jitter, u64::MAX), most, "{jitter:?}");
        }
    }

    #[test]
    fn a_named_time_is_kept_up_to_the_cap() {
        let policy = Policy {
            jitter: Jitter::None,
            ..Policy::brief(PolicyId(1))
        };
        let rows = [
            (OutcomeKind::Throttle, Some(7_000), 7_000),
            (OutcomeKind::Throttle, Some(-5), 1),
            (OutcomeKind::Throttle, Some(i64::MAX), 120_000),
            (OutcomeKind::Throttle, None, 60_000),
            (OutcomeKind::Retry, Some(7_000), 7_000),
            (OutcomeKind::Retry, Some(1), 2_000),
            (OutcomeKind::Retry, None, 2_000),
        ];
        for (kind, named, wait) in rows {
            let mut outcome = Outcome::bare(kind, Cause::ServiceDegraded);
            outcome.retry_after_ms = named;
            assert_eq!(wait_ms(&policy, 1, &outcome, 0), wait, "{kind:?} {named:?}");
        }
    }

    #[test]
    fn timers_fire_in_order_and_not_early() {
        let mut timers = Timers::default();
        timers.set(Time(5), Timer::Store);
        timers.set(Time(3), Timer::Delivery(DeliveryId(1)));
        assert_eq!(timers.fire(Time(2)), None);
        assert_eq!(timers.fire(Time(5)), Some(Timer::Delivery(DeliveryId(1))));
        assert_eq!(timers.fire(Time(5)), Some(Timer::Store));
        assert_eq!(timers.fire(Time(5)), None);
    }

    #[test]
    fn an_endpoint_has_one_timer_that_moves() {
        let mut timers = Timers::default();
        let endpoint = EndpointId(7);
        timers.shift(endpoint, Time::NEVER, Time(9));
        timers.shift(endpoint, Time(9), Time(4));
        timers.set(Time(6), Timer::Store);
        assert_eq!((timers.len(), timers.earliest()), (2, Some(Time(4))));
        assert_eq!(timers.fire(Time(9)), Some(Timer::Endpoint(endpoint)));
        assert_eq!(timers.fire(Time(9)), Some(Timer::Store));
        timers.shift(endpoint, Time::NEVER, Time(9));
        timers.shift(endpoint, Time(9), Time::NEVER);
        assert!(timers.is_empty());
    }

    #[test]
    fn tenants_then_endpoints_take_turns() {
        let mut turns = Turns::default();
        for endpoint in 1..=3 {
            turns.join(TenantId(1), EndpointId(endpoint));
        }
        turns.join(TenantId(2), EndpointId(9));
        let order: Vec<u64> = std::iter::from_fn(|| turns.pop())
            .map(|endpoint| endpoint.0)
            .collect();
        assert_eq!(order, [1, 9, 2, 3]);
        assert!(turns.is_empty());
    }

    #[test]
    fn retries_get_one_turn_in_four() {
        let mut due = Due::default();
        for id in 0..6 {
            due.push(DeliveryId(id), 0);
            due.push(DeliveryId(100 + id), 1);
        }
        let order: Vec<u64> = std::iter::from_fn(|| due.pop()).map(|id| id.0).collect();
        assert_eq!(order, [0, 1, 2, 100, 3, 4, 5, 101, 102, 103, 104, 105]);
    }
}
