//! Google's quotas, kept from our side so that the answers never have to say 429.
//!
//! | quota | kept by |
//! | --- | --- |
//! | 240 a minute and 5,000 an hour to one device | the engine's limiter: the policy `fcm` has [`FCM_DEVICE_RATE`](postrider_core::policy::FCM_DEVICE_RATE) |
//! | 600,000 a minute for one project | [`Bucket`], one for each route |
//!
//! Pure: `now` is an argument. Absent here: waiting. A request that finds no token near goes back
//! to the engine, which holds the route and spends no attempt.

use parking_lot::Mutex;
use postrider_core::time::{MINUTE_MS, Time};

/// Requests for one project a minute (Google, "Throttling and quotas").
pub const PROJECT_PER_MINUTE: i64 = 600_000;
/// Requests that may go at once after a pause.
const BURST: i64 = PROJECT_PER_MINUTE / 60;
/// Requests a minute that a bucket gains at full pace: with a burst, no minute has more than the
/// quota.
const GAIN_PER_MINUTE: i64 = PROJECT_PER_MINUTE - BURST;
/// One token, in the unit the bucket counts in: what a millisecond at one a minute earns.
const TOKEN: i64 = MINUTE_MS;
/// Share of the pace that a new bucket begins with, in percent, and how long it takes to the whole:
/// Google asks for a ramp of a minute at least ("Best practices when sending at scale").
const SHARE_PERCENT_START: i64 = 20;
const RAMP_MS: i64 = MINUTE_MS;
/// Longest wait of a request that holds a place meanwhile. At the foot of the ramp 10,000 may wait
/// so, which is more than the engine has under way.
pub const AHEAD_MS_MAX: i64 = 5_000;

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

    /// Takes one token, of those that are still to come if need be, and says after how many
    /// milliseconds it counts: 0 for at once, [`AHEAD_MS_MAX`] at the most.
    ///
    /// # Errors
    /// The moment from which on it is worth asking again; no token was taken.
    pub fn take(&mut self, now: Time) -> Result<i64, Time> {
        if now < self.hold_until {
            return Err(self.hold_until);
        }
        let per_minute = self.per_minute(now);
        let passed_ms = now.since(self.filled_at).clamp(0, MINUTE_MS);
        self.tokens = (self.tokens + passed_ms * per_minute).min(BURST * TOKEN);
        self.filled_at = self.filled_at.max(now);
        let missing = (TOKEN - self.tokens).max(0);
        let wait_ms = (missing + per_minute - 1) / per_minute;
        if wait_ms > AHEAD_MS_MAX {
            return Err(now.plus(wait_ms - AHEAD_MS_MAX));
        }
        self.tokens -= TOKEN;
        Ok(wait_ms)
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
        let start = GAIN_PER_MINUTE * SHARE_PERCENT_START / 100;
        start + (GAIN_PER_MINUTE - start) * risen_ms / RAMP_MS
    }
}

/// Takes one token of a bucket that several attempts share, as [`Bucket::take`].
///
/// # Errors
/// As [`Bucket::take`].
pub fn take(shared: &Mutex<Option<Bucket>>, now: Time) -> Result<i64, Time> {
    let mut bucket = shared.lock();
    bucket.get_or_insert_with(|| Bucket::new(now)).take(now)
}

/// Holds a bucket that several attempts share, as [`Bucket::hold`].
pub fn hold(shared: &Mutex<Option<Bucket>>, now: Time, wait_ms: i64) {
    let mut bucket = shared.lock();
    bucket
        .get_or_insert_with(|| Bucket::new(now))
        .hold(now, wait_ms);
}

#[cfg(test)]
mod tests {
    use super::{AHEAD_MS_MAX, Bucket, PROJECT_PER_MINUTE};
    use postrider_core::policy::FCM_DEVICE_RATE;
    use postrider_core::time::Time;

    /// The seconds in which requests go out, when somebody asks from `from` to `to` again each time
    /// it is worth it.
    fn passed(bucket: &mut Bucket, from: i64, to: i64) -> Vec<i64> {
        let (mut now, mut seconds) = (from, vec![0; 400]);
        while now < to {
            match bucket.take(Time(now)) {
                Ok(wait_ms) => {
                    assert!((0..=AHEAD_MS_MAX).contains(&wait_ms), "{wait_ms}");
                    seconds[usize::try_from((now + wait_ms) / 1_000).unwrap()] += 1;
                }
                Err(at) => {
                    assert!(at.0 > now, "time goes on");
                    now = at.0;
                }
            }
        }
        seconds
    }

    #[test]
    fn no_minute_has_more_than_the_project_s_quota() {
        let mut bucket = Bucket::new(Time(0));
        let mut seconds = passed(&mut bucket, 0, 150_000);
        // After a rest there is a burst.
        let later = passed(&mut bucket, 200_000, 220_000);
        seconds
            .iter_mut()
            .zip(later)
            .for_each(|(all, more)| *all += more);
        assert!(
            (2_000..6_000).contains(&seconds[0]),
            "slowly at first: {}",
            seconds[0]
        );
        let most = seconds
            .windows(60)
            .map(|minute| minute.iter().sum::<i64>())
            .max()
            .unwrap();
        assert!(most <= PROJECT_PER_MINUTE && most > 580_000, "{most}");
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
        let after = passed(&mut bucket, 121_000, 122_000)[121];
        assert!((2_000..6_000).contains(&after), "{after}");
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
            u64::from(FCM_DEVICE_RATE.burst) * 1_000 + FCM_DEVICE_RATE.per_second_milli * seconds
        };
        assert!(most(60) <= 240_000);
        assert!(most(3_600) <= 5_000_000);
    }
}
