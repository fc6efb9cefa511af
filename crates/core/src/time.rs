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

/// Most that one step moves the engine's clock towards the wall by.
const SLEW_MS_MAX: i64 = 5;
/// A wall that is off by more has jumped, and is not followed.
const JUMP_MS: i64 = HOUR_MS;

/// How the engine's clock follows a wall that is `off_ms` ahead of it, asked about once a second:
/// by how much it moves, or `None` where the wall has jumped, so that no time to live ends or
/// starts anew because somebody set a clock.
#[must_use]
pub fn slew_ms(off_ms: i64) -> Option<i64> {
    let followed = (-JUMP_MS..=JUMP_MS).contains(&off_ms);
    followed.then(|| off_ms.clamp(-SLEW_MS_MAX, SLEW_MS_MAX))
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{HOUR_MS, slew_ms};

    #[test]
    fn a_wall_is_followed_slowly_and_a_jump_not_at_all() {
        for (off_ms, expected) in [
            (0, Some(0)),
            (3, Some(3)),
            (-4, Some(-4)),
            (HOUR_MS, Some(5)),
            (-HOUR_MS, Some(-5)),
            (HOUR_MS + 1, None),
            (-HOUR_MS - 1, None),
            (i64::MIN, None),
        ] {
            assert_eq!(slew_ms(off_ms), expected, "{off_ms}");
        }
    }
}
