//! Relay: how far the journal has been told to a broker.
//!
//! A relay publishes entries in journal order, several at once, and its broker confirms them in any
//! order. The cursor that is kept durably moves only over entries that are all confirmed, so that a
//! crash repeats some and skips none.
//!
//! Absent here: brokers. This is the arithmetic only.

use std::collections::{BTreeSet, VecDeque};

use crate::id::Seq;

/// The cursor of one relay.
#[derive(Clone, Debug, Default)]
pub struct RelayCursor {
    confirmed: Seq,
    /// Published and not yet passed by the cursor, in journal order.
    published: VecDeque<Seq>,
    /// Those of them that the broker has confirmed out of order.
    ahead: BTreeSet<Seq>,
}

impl RelayCursor {
    /// A relay that has told everything up to `confirmed`.
    #[must_use]
    pub fn new(confirmed: Seq) -> RelayCursor {
        RelayCursor {
            confirmed,
            ..RelayCursor::default()
        }
    }

    /// Up to here everything is confirmed: the durable cursor.
    #[must_use]
    pub fn confirmed(&self) -> Seq {
        self.confirmed
    }

    /// After which entry to read on.
    #[must_use]
    pub fn read_after(&self) -> Seq {
        self.published.back().copied().unwrap_or(self.confirmed)
    }

    /// How many are published and not confirmed in order.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.published.len()
    }

    /// An entry was handed to the broker. Ignored unless it lies after everything published before.
    pub fn publish(&mut self, seq: Seq) {
        if seq > self.read_after() {
            self.published.push_back(seq);
        }
    }

    /// The broker confirmed an entry. Returns the cursor to keep, if it moved.
    pub fn confirm(&mut self, seq: Seq) -> Option<Seq> {
        if seq <= self.confirmed || self.published.binary_search(&seq).is_err() {
            return None;
        }
        self.ahead.insert(seq);
        let before = self.confirmed;
        while let Some(first) = self.published.front()
            && self.ahead.remove(first)
        {
            self.confirmed = *first;
            self.published.pop_front();
        }
        (self.confirmed > before).then_some(self.confirmed)
    }

    /// The connection is gone: what was not confirmed in order is published again.
    pub fn rewind(&mut self) {
        self.published.clear();
        self.ahead.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::RelayCursor;
    use crate::id::Seq;

    #[test]
    fn moves_only_over_what_is_confirmed() {
        let mut cursor = RelayCursor::new(Seq(10));
        for seq in [11, 13, 14] {
            cursor.publish(Seq(seq));
        }
        cursor.publish(Seq(13));
        assert_eq!(cursor.outstanding(), 3);
        assert_eq!(cursor.confirm(Seq(13)), None);
        assert_eq!(cursor.confirm(Seq(12)), None);
        assert_eq!(cursor.confirm(Seq(11)), Some(Seq(13)));
        assert_eq!(cursor.read_after(), Seq(14));
        cursor.rewind();
        assert_eq!(cursor.read_after(), Seq(13));
        assert_eq!(cursor.confirm(Seq(14)), None);
    }

    proptest::proptest! {
        /// Whatever is published and confirmed, in whatever order and however often: the cursor
        /// never runs backwards, and never passes an entry that was not confirmed.
        #[test]
        fn never_passes_what_is_not_confirmed(
            steps in proptest::collection::vec((0..3_u8, 1..20_u64), 0..200),
        ) {
            let mut cursor = RelayCursor::new(Seq(0));
            let mut published = std::collections::BTreeMap::new();
            for (step, seq) in steps {
                let before = cursor.confirmed();
                match step {
                    0 if Seq(seq) > cursor.read_after() => {
                        cursor.publish(Seq(seq));
                        published.insert(seq, false);
                    }
                    0 => cursor.publish(Seq(seq)),
                    1 => {
                        let moved = cursor.confirm(Seq(seq));
                        published.entry(seq).and_modify(|confirmed| *confirmed = true);
                        proptest::prop_assert_eq!(moved.is_some(), cursor.confirmed() > before);
                    }
                    _ if seq == 1 => {
                        cursor.rewind();
                        published.split_off(&(cursor.confirmed().0 + 1));
                    }
                    _ => {}
                }
                proptest::prop_assert!(cursor.confirmed() >= before);
                let first_open = published.iter().find(|(_, confirmed)| !**confirmed);
                let first_open = first_open.map_or(u64::MAX, |(seq, _)| *seq);
                proptest::prop_assert!(cursor.confirmed().0 < first_open);
                let told = published.range(..first_open).next_back();
                proptest::prop_assert_eq!(told.map_or(0, |(seq, _)| *seq), cursor.confirmed().0);
            }
        }
    }
}
