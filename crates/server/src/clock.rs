//! The engine's clock: follows the wall, never runs backwards, and does not jump with it.
//!
//! It starts at the wall's time, or at the time of the journal's newest entry if that is later, and
//! runs with the monotonic clock. A wall that is off by a little is followed by slewing; one that
//! jumps is not followed at all until the next start, so that no time to live ends or starts anew
//! because somebody set the clock.
//!
//! Absent here: the time in signatures, which receivers hold against their own walls; that is
//! [`Clock::wall`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use postrider_core::time::{HOUR_MS, Time};

/// Most that one call of [`Clock::follow_wall`] moves the clock by.
const SLEW_MS_MAX: i64 = 5;
/// A wall that is off by more has jumped, and is not followed.
const JUMP_MS: i64 = HOUR_MS;

/// A clock that never runs backwards.
pub struct Clock {
    started: Instant,
    start_ms: i64,
    slewed_ms: AtomicI64,
    newest_ms: AtomicI64,
}

impl Clock {
    /// A clock that starts now, and not before `not_before`.
    #[must_use]
    pub fn starting(not_before: Time) -> Clock {
        let start_ms = wall_ms().max(not_before.0);
        Clock {
            started: Instant::now(),
            start_ms,
            slewed_ms: AtomicI64::new(0),
            newest_ms: AtomicI64::new(start_ms),
        }
    }

    /// The engine's time.
    #[must_use]
    pub fn now(&self) -> Time {
        let raw = self.raw_ms() + self.slewed_ms.load(Ordering::Relaxed);
        Time(self.newest_ms.fetch_max(raw, Ordering::Relaxed).max(raw))
    }

    /// The wall's time, whatever it says.
    #[must_use]
    pub fn wall(&self) -> Time {
        Time(wall_ms())
    }

    /// Moves a little towards the wall. Called about once a second. Returns how far the wall is
    /// off if it has jumped.
    pub fn follow_wall(&self) -> Option<i64> {
        let off = wall_ms() - self.now().0;
        if off.abs() > JUMP_MS {
            return Some(off);
        }
        self.slewed_ms
            .fetch_add(off.clamp(-SLEW_MS_MAX, SLEW_MS_MAX), Ordering::Relaxed);
        None
    }

    fn raw_ms(&self) -> i64 {
        self.start_ms + i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX / 2)
    }
}

fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX / 2)
        })
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use postrider_core::time::{DAY_MS, Time};

    #[test]
    fn starts_at_the_journal_if_the_wall_is_behind_it() {
        let future = Time(super::wall_ms()).plus(400 * DAY_MS);
        let clock = Clock::starting(future);
        assert!(clock.now() >= future);
        assert!(clock.follow_wall().is_some_and(|off| off < -399 * DAY_MS));
        assert!(clock.now() >= future);
    }

    #[test]
    fn slews_towards_the_wall_and_never_back() {
        let clock = Clock::starting(Time(super::wall_ms()).plus(1_000));
        let mut before = clock.now();
        for _ in 0..100 {
            assert_eq!(clock.follow_wall(), None);
            let now = clock.now();
            assert!(now >= before);
            before = now;
        }
        assert!(clock.slewed_ms.load(std::sync::atomic::Ordering::Relaxed) <= -400);
    }
}
