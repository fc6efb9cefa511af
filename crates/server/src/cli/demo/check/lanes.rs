//! Order and sequence ids, ordering key by ordering key.
//!
//! Absent here: everything else that is promised of a delivery.

use std::collections::BTreeMap;

use postrider_core::ledger::State;

use super::{Broken, Findings, Promise, Sight};
use crate::cli::demo::evidence::{Asked, Row};

impl Sight<'_> {
    /// Order and gapless sequence ids, lane by lane.
    pub(super) fn lanes(&self, findings: &mut Findings) {
        let mut lanes: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
        let mut in_order: Vec<&Asked> = self.evidence.asked.iter().collect();
        in_order.sort_by_key(|asked| asked.accepted_as);
        for asked in in_order {
            let Some(key) = &asked.ordering_key else {
                continue;
            };
            for (correlation, _) in asked.deliveries() {
                for row in self.rows.get(correlation).into_iter().flatten() {
                    lanes.entry((&row.path, key)).or_default().push(row);
                }
            }
        }
        for ((path, key), rows) in lanes {
            self.lane(&format!("{path} {key}"), &rows, findings);
        }
    }

    /// One lane, its rows in the order of submission.
    fn lane(&self, name: &str, rows: &[&Row], findings: &mut Findings) {
        let mut broken = |promise, row: &Row, what: String| {
            findings.broken.push(Broken {
                promise,
                whose: row.correlation_id.clone(),
                what: format!("{name}: {what}"),
            });
        };
        let mut last_arrival = 0;
        let mut last_accepted = 0;
        for (place, row) in rows.iter().enumerate() {
            let expected = place as u64 + 1;
            if row.sequence != Some(expected) {
                let what = format!("sequence id {:?} where {expected} was due", row.sequence);
                broken(Promise::Gapless, row, what);
                return;
            }
            let hits = self.hits(&row.correlation_id);
            for hit in hits {
                // A device is told its own place only.
                let previous = match self.evidence.devices.contains_key(&row.path) {
                    true => last_accepted,
                    false => hit.previous_sequence.unwrap_or(0),
                };
                if hit.sequence != expected || previous != last_accepted {
                    let what = format!(
                        "it says {} after {previous}; due is {expected} after {last_accepted}",
                        hit.sequence
                    );
                    broken(Promise::Gapless, row, what);
                }
            }
            if hits.first().is_some_and(|hit| hit.serial < last_arrival) {
                let what = format!("sequence {expected} was sent before an earlier one was done");
                broken(Promise::Order, row, what);
            }
            last_arrival = hits
                .last()
                .map_or(last_arrival, |hit| hit.serial.max(last_arrival));
            if row.state == State::Accepted {
                last_accepted = expected;
            }
        }
    }
}
