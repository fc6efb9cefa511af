//! The pace of one endpoint: a token bucket, a number of attempts that may be under way, and both
//! made smaller by trouble and larger by acceptance.
//!
//! Pure: `now` is an argument, whole numbers only. Absent here: queues. A closed gate says until
//! when; who waits is the scheduler's business.

use crate::policy::RatePolicy;
use crate::time::Time;

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
    /// When one attempt may try whether it still means it.
    probe_at: Time,
    /// Wait from one such attempt to the next.
    patience_ms: i64,
    /// Such an attempt is under way.
    probing: bool,
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
            probe_at: Time(i64::MIN),
            patience_ms: 0,
            probing: false,
        }
    }

    /// Until when the receiver's wish for silence lets no attempt begin; `None` if one may begin
    /// now, be it as a probe.
    #[must_use]
    pub fn held(&self, now: Time) -> Option<Time> {
        if now >= self.hold_until {
            None
        } else if self.probing {
            Some(self.hold_until)
        } else {
            let until = self.probe_at.min(self.hold_until);
            (now < until).then_some(until)
        }
    }

    /// An attempt is under way that tries whether the receiver still wishes for silence.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.probing
    }

    /// Until when the rate lets no attempt begin; `None` if one may begin now.
    ///
    /// `hour_percent` is the share of the rate that this hour allows.
    pub fn wait(
        &mut self,
        now: Time,
        rate: Option<&RatePolicy>,
        hour_percent: u8,
        adaptive: bool,
    ) -> Option<Time> {
        let rate = rate?;
        let gain = self.gain_per_ms(rate, hour_percent, adaptive);
        self.fill(now, rate, gain);
        if self.tokens >= TOKEN {
            return None;
        }
        if gain == 0 {
            return Some(Time::NEVER);
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

    /// An attempt begins. Returns whether it probes the silence that the receiver asked for.
    pub fn begin(&mut self, now: Time, rate: Option<&RatePolicy>) -> bool {
        if rate.is_some() {
            self.tokens = self.tokens.saturating_sub(TOKEN);
        }
        let probe = now < self.hold_until;
        self.probing |= probe;
        probe
    }

    /// An attempt was put back before it left.
    pub fn put_back(&mut self, rate: Option<&RatePolicy>) {
        if rate.is_some() {
            self.tokens += TOKEN;
        }
    }

    /// The probe was put back before it left: it is still to be made.
    pub fn probe_put_back(&mut self) {
        self.probing = false;
    }

    /// The probe was answered: the silence is over, or the next probe waits as long again.
    pub fn probe_answered(&mut self, now: Time, accepted: bool) {
        self.probing = false;
        self.probe_at = now.plus(self.patience_ms);
        if accepted {
            self.hold_until = now;
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

    /// The receiver asked for silence until `until`; after `patience_ms` one attempt may try.
    pub fn hold(&mut self, now: Time, until: Time, patience_ms: i64) {
        self.hold_until = self.hold_until.max(until);
        self.probe_at = self.probe_at.max(now.plus(patience_ms));
        self.patience_ms = patience_ms;
    }

    /// Millionths of an attempt that a millisecond earns: none only where the rate or the hour is
    /// nought, or the smallest rates would come to rest for good.
    fn gain_per_ms(&self, rate: &RatePolicy, hour_percent: u8, adaptive: bool) -> u64 {
        let share = if adaptive { self.share_percent } else { 100 };
        let share = u64::from(share) * u64::from(hour_percent);
        let least = u64::from(share > 0 && rate.per_second_milli > 0);
        (rate.per_second_milli.saturating_mul(share) / 10_000).max(least)
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
                .wait(Time(at), Some(&TEN_A_SECOND), hour_percent, true)
                .is_none()
            {
                limiter.begin(Time(at), Some(&TEN_A_SECOND));
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
        let wait =
            |limiter: &mut Limiter, at| limiter.wait(Time(at), Some(&TEN_A_SECOND), 100, true);
        for _ in 0..3 {
            assert_eq!(wait(&mut limiter, 0), None);
            assert!(!limiter.begin(Time(0), Some(&TEN_A_SECOND)));
        }
        assert_eq!(wait(&mut limiter, 0), Some(Time(100)));
        assert_eq!(wait(&mut limiter, 99), Some(Time(100)));
        assert_eq!(wait(&mut limiter, 100), None);
    }

    #[test]
    fn silence_is_kept_but_for_one_probe_at_a_time() {
        let mut limiter = Limiter::new(Time(0), None);
        limiter.hold(Time(0), Time(50), 120);
        assert_eq!(limiter.held(Time(49)), Some(Time(50)));
        assert_eq!(limiter.held(Time(50)), None);
        limiter.hold(Time(100), Time(1_000), 120);
        assert_eq!(limiter.held(Time(219)), Some(Time(220)));
        assert_eq!(limiter.held(Time(220)), None);
        assert!(limiter.begin(Time(220), None));
        assert_eq!(limiter.held(Time(221)), Some(Time(1_000)));
        limiter.probe_put_back();
        assert_eq!(limiter.held(Time(222)), None);
        assert!(limiter.begin(Time(222), None));
        limiter.probe_answered(Time(230), false);
        assert_eq!(limiter.held(Time(231)), Some(Time(350)));
        assert!(limiter.begin(Time(350), None));
        limiter.probe_answered(Time(360), true);
        assert_eq!(limiter.held(Time(360)), None);
        assert!(!limiter.begin(Time(360), None));
    }

    #[test]
    fn no_rate_above_nought_comes_to_rest() {
        let slowest = RatePolicy {
            per_second_milli: 1,
            burst: 1,
        };
        let mut limiter = Limiter::new(Time(0), Some(&slowest));
        for _ in 0..10 {
            limiter.slower();
        }
        limiter.begin(Time(0), Some(&slowest));
        let until = limiter.wait(Time(0), Some(&slowest), 100, true);
        assert_eq!(until, Some(Time(1_000_000)));
        let nought = limiter.wait(Time(0), Some(&slowest), 0, true);
        assert_eq!(nought, Some(Time::NEVER));
    }

    #[test]
    fn only_an_adaptive_rate_is_lowered() {
        for (adaptive, until) in [(true, 2_000), (false, 1_000)] {
            let rate = RatePolicy {
                per_second_milli: 1_000,
                burst: 1,
            };
            let mut limiter = Limiter::new(Time(0), Some(&rate));
            limiter.slower();
            limiter.begin(Time(0), Some(&rate));
            let wait = limiter.wait(Time(0), Some(&rate), 100, adaptive);
            assert_eq!(wait, Some(Time(until)), "adaptive={adaptive}");
        }
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
