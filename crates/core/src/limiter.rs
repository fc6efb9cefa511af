//! The pace of one endpoint: a token bucket, a number of attempts that may be under way, and both
//! made smaller by trouble and larger by acceptance.
//!
//! Pure: `now` is an argument, whole numbers only. Absent here: queues. A closed gate says until
//! when; who waits is the scheduler's business.

use crate::policy::RatePolicy;
use crate::time::{SECOND_MS, Time};

/// Attempts under way that a new endpoint starts with; acceptance raises it to the policy's bound.
pub const SLOTS_START: u16 = 4;
/// The rate is never lowered below this share, in percent.
pub const SHARE_PERCENT_MIN: u32 = 5;
/// What one acceptance gives back of the rate, in percent.
const SHARE_PERCENT_STEP: u32 = 2;
/// One token, in the unit the bucket counts in: an attempt at one per second takes 1,000 ms to earn
/// 1,000,000.
const TOKEN: u64 = 1_000_000;

/// The pace of one endpoint.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// Millionths of an attempt that may begin now.
    tokens: u64,
    filled_at: Time,
    /// Percent of the configured rate that is used now.
    share_percent: u32,
    /// Attempts that may be under way now.
    slots: u16,
    /// Acceptances since the slots were raised last.
    credit: u16,
    /// Before the first trouble every acceptance raises the slots; after it, every full round does.
    troubled: bool,
    /// The receiver asked for silence until then.
    hold_until: Time,
}

impl Limiter {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Time, rate: Option<&RatePolicy>) -> Limiter {
        Limiter {
            tokens: rate.map_or(0, |rate| u64::from(rate.burst) * TOKEN),
            filled_at: now,
            share_percent: 100,
            slots: SLOTS_START,
            credit: 0,
            troubled: false,
            hold_until: Time(i64::MIN),
        }
    }

    /// Until when the receiver asked for silence, if that lies ahead.
    #[must_use]
    pub fn held(&self, now: Time) -> Option<Time> {
        (now < self.hold_until).then_some(self.hold_until)
    }

    /// Until when the rate lets no attempt begin; `None` if one may begin now.
    pub fn wait(&mut self, now: Time, rate: Option<&RatePolicy>, hour_percent: u8) -> Option<Time> {
        let rate = rate?;
        let gain = self.gain_per_ms(rate, hour_percent);
        self.fill(now, rate, gain);
        if self.tokens >= TOKEN {
            return None;
        }
        if gain == 0 {
            return Some(now.plus(60 * SECOND_MS));
        }
        let missing = (TOKEN - self.tokens).div_ceil(gain);
        Some(now.plus(i64::try_from(missing).unwrap_or(i64::MAX)))
    }

    /// Attempts that may be under way at once, at most `slots_max`.
    #[must_use]
    pub fn slots(&self, slots_max: u16, adaptive: bool) -> u16 {
        if adaptive {
            self.slots.min(slots_max).max(1)
        } else {
            slots_max.max(1)
        }
    }

    /// The endpoint has failed since it was last at full pace.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.troubled
    }

    /// An attempt begins.
    pub fn begin(&mut self, rate: Option<&RatePolicy>) {
        if rate.is_some() {
            self.tokens = self.tokens.saturating_sub(TOKEN);
        }
    }

    /// An attempt was put back before it left.
    pub fn put_back(&mut self, rate: Option<&RatePolicy>) {
        if rate.is_some() {
            self.tokens += TOKEN;
        }
    }

    /// An attempt was accepted: a little faster.
    pub fn faster(&mut self, slots_max: u16) {
        self.share_percent = (self.share_percent + SHARE_PERCENT_STEP).min(100);
        self.credit += 1;
        if !self.troubled || self.credit >= self.slots {
            self.credit = 0;
            self.slots = self.slots.saturating_add(1).min(slots_max.max(1));
            self.troubled &= self.slots < slots_max;
        }
    }

    /// An attempt met a 429, a 5xx, or silence: half as fast.
    pub fn slower(&mut self) {
        self.share_percent = (self.share_percent / 2).max(SHARE_PERCENT_MIN);
        self.slots = (self.slots / 2).max(1);
        self.credit = 0;
        self.troubled = true;
    }

    /// The receiver asked for silence until `until`.
    pub fn hold(&mut self, until: Time) {
        self.hold_until = self.hold_until.max(until);
    }

    /// The silence that the receiver asked for is over.
    pub fn release(&mut self) {
        self.hold_until = Time(i64::MIN);
    }

    fn gain_per_ms(&self, rate: &RatePolicy, hour_percent: u8) -> u64 {
        let share = u64::from(self.share_percent) * u64::from(hour_percent);
        rate.per_second_milli.saturating_mul(share) / 10_000
    }

    fn fill(&mut self, now: Time, rate: &RatePolicy, gain: u64) {
        let passed = u64::try_from(now.since(self.filled_at)).unwrap_or(0);
        let full = u64::from(rate.burst.max(1)) * TOKEN;
        self.tokens = self
            .tokens
            .saturating_add(passed.saturating_mul(gain))
            .min(full);
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::{Limiter, SLOTS_START};
    use crate::policy::RatePolicy;
    use crate::time::Time;

    const TEN_A_SECOND: RatePolicy = RatePolicy {
        per_second_milli: 10_000,
        burst: 3,
    };

    fn sent_until(limiter: &mut Limiter, end_ms: i64, hour_percent: u8) -> usize {
        let mut sent = 0;
        for at in 0..end_ms {
            while limiter
                .wait(Time(at), Some(&TEN_A_SECOND), hour_percent)
                .is_none()
            {
                limiter.begin(Some(&TEN_A_SECOND));
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn keeps_the_rate_after_the_burst() {
        let mut limiter = Limiter::new(Time(0), Some(&TEN_A_SECOND));
        assert_eq!(sent_until(&mut limiter, 10_001, 100), 3 + 100);
        let mut slow = Limiter::new(Time(0), Some(&TEN_A_SECOND));
        assert_eq!(sent_until(&mut slow, 10_001, 50), 3 + 50);
    }

    #[test]
    fn says_exactly_when_the_next_may_go() {
        let mut limiter = Limiter::new(Time(0), Some(&TEN_A_SECOND));
        for _ in 0..3 {
            assert_eq!(limiter.wait(Time(0), Some(&TEN_A_SECOND), 100), None);
            limiter.begin(Some(&TEN_A_SECOND));
        }
        assert_eq!(
            limiter.wait(Time(0), Some(&TEN_A_SECOND), 100),
            Some(Time(100))
        );
        assert_eq!(
            limiter.wait(Time(99), Some(&TEN_A_SECOND), 100),
            Some(Time(100))
        );
        assert_eq!(limiter.wait(Time(100), Some(&TEN_A_SECOND), 100), None);
        limiter.hold(Time(500));
        assert_eq!(limiter.held(Time(499)), Some(Time(500)));
        assert_eq!(limiter.held(Time(500)), None);
    }

    #[test]
    fn trouble_halves_and_acceptance_gives_back() {
        let mut limiter = Limiter::new(Time(0), None);
        assert_eq!(limiter.slots(64, true), SLOTS_START);
        for _ in 0..60 {
            limiter.faster(64);
        }
        assert_eq!(limiter.slots(64, true), 64);
        limiter.slower();
        assert_eq!(limiter.slots(64, true), 32);
        assert_eq!(limiter.slots(64, false), 64);
        for _ in 0..32 {
            limiter.faster(64);
        }
        assert_eq!(limiter.slots(64, true), 33);
        for _ in 0..9 {
            limiter.slower();
        }
        assert_eq!(limiter.slots(64, true), 1);
        assert!(limiter.is_troubled());
    }
}
