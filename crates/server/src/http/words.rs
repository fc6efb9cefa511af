//! How moments and ids are written in JSON and in URLs.
//!
//! Absent here: time zones. Moments are shown in UTC and read with any offset.

use jiff::Timestamp;
use postrider_core::time::Time;
use uuid::Uuid;

/// A moment as RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn moment(at: Time) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(at) => format!("{at:.3}"),
        // Beyond the year 9999 there is no RFC 3339 date (section 1).
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// A moment that a caller wrote: RFC 3339, with an offset.
#[must_use]
pub fn parse_moment(text: &str) -> Option<Time> {
    Some(Time(text.parse::<Timestamp>().ok()?.as_millisecond()))
}

/// A UUID that a caller wrote, in the hyphenated form only (RFC 9562 section 4).
#[must_use]
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == uuid::fmt::Hyphenated::LENGTH {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment(Time(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(Time::NEVER), "9999-12-31T23:59:59.999Z");
        assert_eq!(
            parse_moment("2023-11-14T23:13:20.5+01:00"),
            Some(Time(1_700_000_000_500))
        );
        for text in ["", "2023-11-14", "2023-11-14T22:13:20", "now"] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }
}
