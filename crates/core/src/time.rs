//! Time as the engine knows it: told, never asked.
//!
//! Absent here: any clock. Durations are plain `i64` milliseconds with the unit in their name.

use std::fmt;

/// Milliseconds since 1970-01-01 UTC on the engine's clock, which never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// One second in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One minute in milliseconds.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// One hour in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Time {
    /// Later than everything.
    pub const NEVER: Time = Time(i64::MAX);

    /// This moment moved by `ms`, held inside the range of the type.
    #[must_use]
    pub fn plus(self, ms: i64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; negative if it lies after.
    #[must_use]
    pub fn since(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Hour of the UTC day, 0 to 23.
    #[must_use]
    pub fn hour(self) -> usize {
        usize::try_from(self.0.rem_euclid(DAY_MS) / HOUR_MS).unwrap_or(0)
    }

    /// When the next UTC hour begins.
    #[must_use]
    pub fn next_hour(self) -> Time {
        Time(
            self.0
                .div_euclid(HOUR_MS)
                .saturating_add(1)
                .saturating_mul(HOUR_MS),
        )
    }

    /// Number of the UTC day since 1970-01-01.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}
