//! Counting for benchmarks: which of the numbered bodies arrived, how often, and how late.
//!
//! A body begins `{"n":<number>,"due_us":<microseconds since 1970>`; the path ends in the number of
//! the endpoint. Absent here: records. A tally keeps one byte for each delivery it expects.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Deliveries of one tally at most: a byte each.
pub const DELIVERIES_MAX: u64 = 200_000_000;
/// Latest arrival that is told from a later one.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What is expected.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Paths that count, without the number at their end.
    pub prefix: String,
    /// Number of the first event.
    #[serde(default)]
    pub first: u64,
    /// Events, each of which goes to every endpoint.
    pub events: u64,
    /// Endpoints, numbered from 0.
    pub endpoints: u64,
    /// Whether event `n` goes only to endpoint `n % endpoints`.
    #[serde(default)]
    pub spread: bool,
}

/// What arrived.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Deliveries that are expected.
    pub expected: u64,
    /// Requests that were counted.
    pub received: u64,
    /// Different deliveries among them.
    pub distinct: u64,
    /// Repetitions of a delivery that had arrived before.
    pub duplicates: u64,
    /// Requests that are not of this tally, or cannot be read.
    pub strange: u64,
    /// First arrival, in microseconds since 1970.
    pub first_us: u64,
    /// Last arrival.
    pub last_us: u64,
    /// Latency from the instant an event was due, half of the deliveries.
    pub p50_ms: f64,
    /// The same, 95 percent.
    pub p95_ms: f64,
    /// The same, 99 percent.
    pub p99_ms: f64,
    /// The latest.
    pub max_ms: f64,
}

/// More is expected than is kept.
#[derive(Debug, thiserror::Error)]
#[error("{0} deliveries are expected; at most {DELIVERIES_MAX} are counted")]
pub struct TooMany(u64);

/// A running count.
pub(super) struct Tally {
    expected: Expected,
    seen: Vec<u8>,
    latency: Histogram<u32>,
    counted: Counted,
}

impl Tally {
    pub(super) fn new(expected: Expected) -> Result<Tally, TooMany> {
        let endpoints = if expected.spread {
            1
        } else {
            expected.endpoints
        };
        let deliveries = expected.events.saturating_mul(endpoints);
        if deliveries > DELIVERIES_MAX {
            return Err(TooMany(deliveries));
        }
        Ok(Tally {
            seen: vec![0; usize::try_from(deliveries).unwrap_or(usize::MAX)],
            latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .expect("the bounds are constants that fit"),
            counted: Counted {
                expected: deliveries,
                ..Counted::default()
            },
            expected,
        })
    }

    /// Whether requests of this path are counted here.
    pub(super) fn wants(&self, path: &str) -> bool {
        path.starts_with(&self.expected.prefix)
    }

    /// Counts one request.
    pub(super) fn count(&mut self, path: &str, body: &[u8], now_us: u64) {
        let Some((place, due_us)) = self.place(path, body) else {
            self.counted.strange += 1;
            return;
        };
        let seen = &mut self.seen[place];
        self.counted.received += 1;
        if *seen == 0 {
            self.counted.distinct += 1;
            self.latency
                .saturating_record(now_us.saturating_sub(due_us).max(1));
        } else {
            self.counted.duplicates += 1;
        }
        *seen = seen.saturating_add(1);
        if self.counted.first_us == 0 {
            self.counted.first_us = now_us;
        }
        self.counted.last_us = now_us;
    }

    /// What has arrived until now.
    pub(super) fn read(&self) -> Counted {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit")]
        let at = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1_000.0;
        Counted {
            p50_ms: at(0.50),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            ..self.counted.clone()
        }
    }

    fn place(&self, path: &str, body: &[u8]) -> Option<(usize, u64)> {
        let endpoint: u64 = path.strip_prefix(&*self.expected.prefix)?.parse().ok()?;
        let (number, rest) = digits(body.strip_prefix(br#"{"n":"#)?)?;
        let (due_us, _) = digits(rest.strip_prefix(br#","due_us":"#)?)?;
        let event = number.checked_sub(self.expected.first)?;
        if event >= self.expected.events || endpoint >= self.expected.endpoints {
            return None;
        }
        let place = match self.expected.spread {
            true if number % self.expected.endpoints != endpoint => return None,
            true => event,
            false => event * self.expected.endpoints + endpoint,
        };
        Some((usize::try_from(place).ok()?, due_us))
    }
}

fn digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let number = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    Some((number, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::{Expected, Tally};

    fn tally(events: u64, endpoints: u64, spread: bool) -> Tally {
        Tally::new(Expected {
            prefix: "/b/".into(),
            first: 10,
            events,
            endpoints,
            spread,
        })
        .expect("small")
    }

    #[test]
    fn losses_repeats_and_strangers_are_told_apart() {
        let mut tally = tally(3, 2, false);
        for (path, n) in [("/b/0", 10), ("/b/1", 10), ("/b/1", 12), ("/b/1", 12)] {
            tally.count(
                path,
                format!(r#"{{"n":{n},"due_us":1000}}"#).as_bytes(),
                3_000,
            );
        }
        for (path, body) in [
            ("/b/2", r#"{"n":10,"due_us":1}"#),
            ("/b/0", r#"{"n":13,"due_us":1}"#),
            ("/b/0", r#"{"n":9,"due_us":1}"#),
            ("/b/0", r#"{"m":10}"#),
        ] {
            tally.count(path, body.as_bytes(), 3_000);
        }
        let counted = tally.read();
        assert_eq!(
            (counted.expected, counted.received, counted.distinct),
            (6, 4, 3)
        );
        assert_eq!((counted.duplicates, counted.strange), (1, 4));
        assert!((counted.p50_ms - 2.0).abs() < 0.01, "{}", counted.p50_ms);
    }

    #[test]
    fn a_spread_event_has_one_endpoint() {
        let mut tally = tally(4, 2, true);
        tally.count("/b/0", br#"{"n":10,"due_us":1}"#, 2);
        tally.count("/b/1", br#"{"n":10,"due_us":1}"#, 2);
        let counted = tally.read();
        assert_eq!(
            (counted.expected, counted.distinct, counted.strange),
            (4, 1, 1)
        );
    }
}
