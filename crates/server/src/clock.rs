//! The engine's clock: follows the wall, never runs backwards, and does not jump with it.
//!
//! It starts at the wall's time, or at the time of the journal's newest entry if that is later, and
//! runs with the monotonic clock. A wall that is off by a little is followed by slewing; one that
//! jumps is not followed at all until the next start, so that no time to live ends or starts anew
//! because somebody set the clock.
//!
//! How far one step follows the wall is [`slew_ms`]'s to say, which the simulator asks as well.
//!
//! Absent here: the time in signatures, which receivers hold against their own walls; that is
//! [`Clock::wall`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use postrider_core::time::{Time, slew_ms};

/// A clock that never runs backwards.
pub struct Clock {
    source: Source,
    start_ms: i64,
    slewed_ms: AtomicI64,
    newest_ms: AtomicI64,
}

/// Where time comes from.
enum Source {
    /// The machine: its wall, and its monotonic clock since this moment.
    Machine(Instant),
    /// Somebody who tells it, in milliseconds of the wall, and what was told first.
    Told(Arc<AtomicI64>, i64),
}

impl Source {
    fn wall_ms(&self) -> i64 {
        match self {
            Source::Machine(_) => wall_ms(),
            Source::Told(now_ms, _) => now_ms.load(Ordering::Relaxed),
        }
    }

    /// Since this was made.
    fn elapsed_ms(&self) -> i64 {
        match self {
            Source::Machine(started) => {
                i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX / 2)
            }
            Source::Told(now_ms, first_ms) => now_ms.load(Ordering::Relaxed) - first_ms,
        }
    }
}

impl Clock {
    /// A clock that starts now, and not before `not_before`.
    #[must_use]
    pub fn starting(not_before: Time) -> Clock {
        Clock::over(Source::Machine(Instant::now()), not_before)
    }

    /// A clock whose time is told it through `now_ms`, for a simulation.
    #[must_use]
    pub fn told(now_ms: Arc<AtomicI64>, not_before: Time) -> Clock {
        let first_ms = now_ms.load(Ordering::Relaxed);
        Clock::over(Source::Told(now_ms, first_ms), not_before)
    }

    fn over(source: Source, not_before: Time) -> Clock {
        let start_ms = source.wall_ms().max(not_before.0);
        Clock {
            source,
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
        Time(self.source.wall_ms())
    }

    /// Moves a little towards the wall. Called about once a second. Returns how far the wall is
    /// off if it has jumped.
    pub fn follow_wall(&self) -> Option<i64> {
        let off = self.source.wall_ms() - self.now().0;
        let Some(slew) = slew_ms(off) else {
            return Some(off);
        };
        self.slewed_ms.fetch_add(slew, Ordering::Relaxed);
        None
    }

    fn raw_ms(&self) -> i64 {
        self.start_ms + self.source.elapsed_ms()
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
    use super::{Arc, AtomicI64, Clock, Ordering};
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
    fn follows_what_it_is_told() {
        let told = Arc::new(AtomicI64::new(5_000));
        let clock = Clock::told(Arc::clone(&told), Time(7_000));
        told.store(5_250, Ordering::Relaxed);
        assert_eq!(
            (clock.now(), clock.wall()),
            (Time(7_250), Time(5_250)),
            "not before the journal's newest entry, and on from there"
        );
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
