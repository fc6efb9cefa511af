//! Google's quotas, kept from our side so that the answers never have to say 429.
//!
//! | quota | kept by |
//! | --- | --- |
//! | 240 a minute and 5,000 an hour to one device | the engine's limiter, under [`DEVICE_RATE`] |
//! | 600,000 a minute for one project | [`Bucket`], one for each route |
//!
//! A bucket of `burst` that gains `rate` a second lets at most `burst + rate × t` pass in any `t`
//! seconds, so one bucket keeps both quotas of a device: 159 + 60 × 1.344 = 239.6 and
//! 159 + 3,600 × 1.344 = 4,997.4.
//!
//! Pure: `now` is an argument. Absent here: queues. A request that finds no token goes back to the
//! engine, which spends no attempt on it.

use postrider_core::policy::RatePolicy;
use postrider_core::time::{MINUTE_MS, SECOND_MS, Time};

/// Requests for one project a minute (Google, "Throttling and quotas").
pub const PROJECT_PER_MINUTE: i64 = 600_000;
/// Pace of one device: never more than 240 in a minute or 5,000 in an hour.
pub const DEVICE_RATE: RatePolicy = RatePolicy {
    per_second_milli: 1_344,
    burst: 159,
};
/// Requests that may go at once after a pause. Google asks for an even pace, and refills a whole
/// minute's quota at once: a second's worth is far from that.
const BURST: i64 = PROJECT_PER_MINUTE / 60;
/// One token, in the unit the bucket counts in: what a millisecond at one a minute earns.
const TOKEN: i64 = MINUTE_MS;
/// Share of the pace that a new bucket begins with, in percent, and what each second adds: full
/// pace after a minute, as Google asks of a ramp ("ramp up from 0 to peak over at least 60 s").
const SHARE_PERCENT_START: i64 = 5;
const RAMP_MS: i64 = MINUTE_MS;

/// The pace of one project. Begins slowly, and begins anew after the project was told to wait.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: i64,
    filled_at: Time,
    /// Since when the pace rises.
    began_at: Time,
    /// Nothing goes before this moment.
    hold_until: Time,
}

impl Bucket {
    /// A bucket at the foot of its ramp.
    #[must_use]
    pub fn new(now: Time) -> Bucket {
        Bucket {
            tokens: BURST * TOKEN * SHARE_PERCENT_START / 100,
            filled_at: now,
            began_at: now,
            hold_until: Time(i64::MIN),
        }
    }

    /// Takes one token, or says when there will be one.
    ///
    /// # Errors
    /// The moment from which on it is worth asking again.
    pub fn take(&mut self, now: Time) -> Result<(), Time> {
        if now < self.hold_until {
            return Err(self.hold_until);
        }
        let per_minute = self.per_minute(now);
        let passed_ms = now.since(self.filled_at).clamp(0, MINUTE_MS);
        self.tokens = (self.tokens + passed_ms * per_minute).min(BURST * TOKEN);
        self.filled_at = self.filled_at.max(now);
        if self.tokens < TOKEN {
            let missing = TOKEN - self.tokens;
            return Err(now.plus((missing + per_minute - 1) / per_minute));
        }
        self.tokens -= TOKEN;
        Ok(())
    }

    /// The project was told to wait: nothing goes for that long, and then the ramp begins again.
    pub fn hold(&mut self, now: Time, wait_ms: i64) {
        let until = now.plus(wait_ms);
        if until > self.hold_until {
            *self = Bucket {
                hold_until: until,
                ..Bucket::new(until)
            };
        }
    }

    fn per_minute(&self, now: Time) -> i64 {
        let risen_ms = now.since(self.began_at).clamp(0, RAMP_MS);
        let start = PROJECT_PER_MINUTE * SHARE_PERCENT_START / 100;
        start + (PROJECT_PER_MINUTE - start) * risen_ms / RAMP_MS
    }
}

/// Longest that a request that found no token is held back at once.
pub const PUT_BACK_MS: i64 = SECOND_MS;

#[cfg(test)]
mod tests {
    use super::{BURST, Bucket, DEVICE_RATE, PROJECT_PER_MINUTE};
    use postrider_core::time::Time;

    /// Requests that pass when somebody asks again each time it is worth it, by the millisecond.
    fn passed(bucket: &mut Bucket, from: i64, to: i64) -> i64 {
        let (mut now, mut passed) = (from, 0);
        while now < to {
            match bucket.take(Time(now)) {
                Ok(()) => passed += 1,
                Err(at) => {
                    assert!(at.0 > now, "time goes on");
                    now = at.0;
                }
            }
        }
        passed
    }

    #[test]
    fn no_minute_has_more_than_the_project_s_quota() {
        let mut bucket = Bucket::new(Time(0));
        let first = passed(&mut bucket, 0, 60_000);
        assert!((200_000..=330_000).contains(&first), "the ramp: {first}");
        let second = passed(&mut bucket, 60_000, 120_000);
        assert!(second <= PROJECT_PER_MINUTE && second > 590_000, "{second}");
        // After a rest, a burst, and still no more in a minute than a second's worth above.
        let third = passed(&mut bucket, 300_000, 301_000);
        assert!(third <= 2 * BURST, "{third}");
    }

    #[test]
    fn a_project_that_was_told_to_wait_waits_and_begins_slowly() {
        let mut bucket = Bucket::new(Time(0));
        passed(&mut bucket, 0, 61_000);
        bucket.hold(Time(61_000), 60_000);
        assert_eq!(bucket.take(Time(61_001)), Err(Time(121_000)));
        // A shorter wait does not end a longer one.
        bucket.hold(Time(62_000), 1_000);
        assert_eq!(bucket.take(Time(120_999)), Err(Time(121_000)));
        let after = passed(&mut bucket, 121_000, 122_000);
        assert!((500..1_300).contains(&after), "{after}");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_and_breaks_nothing() {
        let mut bucket = Bucket::new(Time(1_000));
        while bucket.take(Time(1_000)).is_ok() {}
        assert!(bucket.take(Time(0)).is_err());
        assert!(bucket.take(Time(2_000)).is_ok());
    }

    #[test]
    fn the_device_s_rate_keeps_both_of_its_quotas() {
        let most = |seconds: u64| {
            u64::from(DEVICE_RATE.burst) * 1_000 + DEVICE_RATE.per_second_milli * seconds
        };
        assert!(most(60) <= 240_000);
        assert!(most(3_600) <= 5_000_000);
    }
}
