//! `Retry-After` (RFC 9110 section 10.2.3): seconds, or an HTTP date.
//!
//! Absent here: what is made of it. Caps and incidents are the policy's.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use postrider_core::time::{DAY_MS, SECOND_MS, Time};

/// Longest wait that is reported: ten years. What names more is held to this.
pub const RETRY_AFTER_MAX_MS: i64 = 10 * 365 * DAY_MS;

/// The wait that the first `Retry-After` names, counted from `now`. `None` if there is none or it
/// cannot be read (a sign, a fraction, a word); 0 for a date that has passed.
#[must_use]
pub fn retry_after_ms(headers: &HeaderMap, now: Time) -> Option<i64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits and no number: it is too large for one.
        let seconds = value.parse::<i64>().unwrap_or(i64::MAX);
        return Some(seconds.saturating_mul(SECOND_MS).min(RETRY_AFTER_MAX_MS));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let at = Time(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX));
    Some(at.since(now).clamp(0, RETRY_AFTER_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::{RETRY_AFTER_MAX_MS, retry_after_ms};
    use http::{HeaderMap, HeaderValue};
    use postrider_core::time::Time;

    /// 2026-11-06 08:49:37 UTC.
    const NOW: Time = Time(1_793_954_977_000);

    #[test]
    fn every_spelling() {
        let table = [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("120", Some(120_000)),
            (" 7 ", Some(7_000)),
            ("0000000000000000000000000005", Some(5_000)),
            ("315360000", Some(RETRY_AFTER_MAX_MS)),
            ("315360001", Some(RETRY_AFTER_MAX_MS)),
            ("1000000000000", Some(RETRY_AFTER_MAX_MS)),
            ("99999999999999999999999999999999", Some(RETRY_AFTER_MAX_MS)),
            ("Fri, 06 Nov 2026 08:50:37 GMT", Some(60_000)),
            ("Friday, 06-Nov-26 08:50:37 GMT", Some(60_000)),
            ("Fri Nov  6 08:50:37 2026", Some(60_000)),
            ("Fri, 06 Nov 2026 08:49:37 GMT", Some(0)),
            ("Fri, 06 Nov 2020 08:49:37 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(RETRY_AFTER_MAX_MS)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("0x10", None),
            ("10 s", None),
            ("soon", None),
            ("", None),
            ("Fri, 32 Nov 2026 08:50:37 GMT", None),
            ("2026-11-06T08:50:37Z", None),
            ("Fri, 06 Nov 2026 08:50:37", None),
        ];
        for (text, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_static(text));
            assert_eq!(retry_after_ms(&headers, NOW), expected, "{text:?}");
        }
        assert_eq!(retry_after_ms(&HeaderMap::new(), NOW), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_ignored_and_the_first_of_two_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(retry_after_ms(&headers, NOW), None);
        headers.insert("retry-after", HeaderValue::from_static("3"));
        headers.append("retry-after", HeaderValue::from_static("9"));
        assert_eq!(retry_after_ms(&headers, NOW), Some(3_000));
    }
}
