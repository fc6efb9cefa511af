//! What arrived: one compact record a request, the newest kept, searchable.
//!
//! Absent here: bodies beyond a bound, and judgement. A record says what was seen and answered.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::signature::Verdict;

/// Bytes of a header that are kept at most: keys and ids are shorter.
pub const FIELD_BYTES_MAX: usize = 256;

/// One request, as it arrived and as it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Order of arrival over all paths, from 1.
    pub serial: u64,
    /// Path, without the query.
    pub path: Arc<str>,
    /// Idempotency key: `X-Webhook-Idempotency-Key`, else `webhook-id`, else a push's `Topic`, else
    /// empty.
    pub key: Box<str>,
    /// Correlation id, or empty.
    pub correlation_id: Box<str>,
    /// Number of the attempt as the sender says; 0 if it does not.
    pub attempt: u32,
    /// Sequence id, 0 if there is none.
    pub sequence: u64,
    /// Sequence id of the last hand-over before this one as the sender says.
    pub previous_sequence: Option<u64>,
    /// When the request had arrived, in microseconds since 1970.
    pub arrived_us: u64,
    /// When its answer was handed to the socket; 0 if none was.
    pub answered_us: u64,
    /// HTTP status of the answer, 0 if there was none.
    #[serde(rename = "status")]
    pub http_status: u16,
    /// Whether the receiver acted on it: what a sender cannot see.
    pub processed: bool,
    /// What is to be said of its signature.
    pub signature: Verdict,
    /// Length of its body.
    pub body_bytes: u32,
    /// CRC-32C of its body.
    pub body_crc32c: u32,
    /// The beginning of its body, as far as bodies are kept; of a push, which is encrypted, as
    /// base64.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub body: Box<str>,
}

/// Which records are asked for: everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of this path, or of those with a prefix that ends in `*`.
    pub path: Option<String>,
    /// With this idempotency key.
    pub key: Option<String>,
    /// With this correlation id.
    pub correlation_id: Option<String>,
    /// Of this attempt.
    pub attempt: Option<u32>,
    /// With this sequence id.
    pub sequence: Option<u64>,
    /// Answered so; 0 finds those that got no answer.
    #[serde(rename = "status")]
    pub http_status: Option<u16>,
    /// Acted on, or not.
    pub processed: Option<bool>,
    /// Judged so.
    pub signature: Option<Verdict>,
    /// Whose kept body has this in it.
    pub body: Option<String>,
    /// With a higher serial.
    pub after: Option<u64>,
    /// So many at the most.
    pub limit: Option<usize>,
}

impl Filter {
    /// Everything of one path, or of a prefix that ends in `*`.
    #[must_use]
    pub fn path(path: &str) -> Filter {
        Filter {
            path: Some(path.to_owned()),
            ..Filter::default()
        }
    }

    fn fits(&self, record: &Record) -> bool {
        fn same<T: PartialEq>(asked: Option<&T>, is: &T) -> bool {
            asked.is_none_or(|asked| asked == is)
        }
        self.after.is_none_or(|after| record.serial > after)
            && same(self.attempt.as_ref(), &record.attempt)
            && same(self.sequence.as_ref(), &record.sequence)
            && same(self.http_status.as_ref(), &record.http_status)
            && same(self.processed.as_ref(), &record.processed)
            && same(self.signature.as_ref(), &record.signature)
            && self.key.as_deref().is_none_or(|key| key == &*record.key)
            && self
                .correlation_id
                .as_deref()
                .is_none_or(|id| id == &*record.correlation_id)
            && self
                .path
                .as_deref()
                .is_none_or(|path| covers(path, &record.path))
            && self
                .body
                .as_deref()
                .is_none_or(|part| record.body.contains(part))
    }
}

/// Whether `pattern`, a path or a prefix that ends in `*`, is meant by `path`.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// The records that are kept, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    kept: VecDeque<Record>,
    kept_max: usize,
    last: u64,
}

impl Log {
    /// A log that keeps so many.
    pub(super) fn new(kept_max: usize) -> Log {
        Log {
            kept_max,
            ..Log::default()
        }
    }

    /// Keeps a record under the next serial, which is returned.
    pub(super) fn push(&mut self, mut record: Record) -> u64 {
        self.last += 1;
        record.serial = self.last;
        if self.kept_max > 0 {
            if self.kept.len() >= self.kept_max {
                self.kept.pop_front();
            }
            self.kept.push_back(record);
        }
        self.last
    }

    /// Notes when a request got its answer.
    pub(super) fn answered(&mut self, serial: u64, at_us: u64) {
        let first = self.kept.front().map_or(u64::MAX, |record| record.serial);
        let place = serial
            .checked_sub(first)
            .and_then(|n| usize::try_from(n).ok());
        if let Some(record) = place.and_then(|place| self.kept.get_mut(place)) {
            record.answered_us = at_us;
        }
    }

    /// Those that fit, oldest first.
    pub(super) fn find(&self, filter: &Filter) -> Vec<Record> {
        self.kept
            .iter()
            .filter(|record| filter.fits(record))
            .take(filter.limit.unwrap_or(usize::MAX))
            .cloned()
            .collect()
    }

    /// How many fit.
    pub(super) fn count(&self, filter: &Filter) -> usize {
        let fitting = self.kept.iter().filter(|record| filter.fits(record));
        fitting.take(filter.limit.unwrap_or(usize::MAX)).count()
    }

    /// Forgets everything; serials begin again at 1.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.last = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Log, Record};

    fn record(path: &str, key: &str) -> Record {
        Record {
            path: path.into(),
            key: key.into(),
            ..Record::default()
        }
    }

    #[test]
    fn the_newest_are_kept_and_answers_find_their_record() {
        let mut log = Log::new(3);
        for n in 0..5 {
            log.push(record("/a", &n.to_string()));
        }
        log.answered(2, 99);
        log.answered(4, 77);
        let kept = log.find(&Filter::default());
        let seen: Vec<(u64, &str, u64)> = kept
            .iter()
            .map(|record| (record.serial, &*record.key, record.answered_us))
            .collect();
        assert_eq!(seen, [(3, "2", 0), (4, "3", 77), (5, "4", 0)]);
        log.clear();
        assert_eq!(log.push(record("/a", "x")), 1);
    }

    #[test]
    fn a_filter_wants_everything_it_names() {
        let mut log = Log::new(9);
        log.push(record("/a/1", "k"));
        log.push(record("/a/2", "k"));
        log.push(record("/b", "k"));
        let find = |filter: &str| {
            let filter: Filter = serde_json::from_str(filter).expect("a filter");
            log.count(&filter)
        };
        assert_eq!(find(r#"{"path":"/a/*"}"#), 2);
        assert_eq!(find(r#"{"path":"/a/1","key":"k"}"#), 1);
        assert_eq!(find(r#"{"path":"/a/1","key":"l"}"#), 0);
        assert_eq!(find(r#"{"after":2}"#), 1);
        assert_eq!(find(r#"{"limit":2}"#), 2);
        assert_eq!(find(r#"{"signature":"valid"}"#), 0);
        assert!(serde_json::from_str::<Filter>(r#"{"colour":1}"#).is_err());
    }
}
