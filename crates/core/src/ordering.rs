//! Lanes: deliveries of one ordering key to one endpoint, one at a time, under gapless numbers.
//!
//! Absent here: gates and time. A lane knows who is first; whether the first may go now is decided
//! elsewhere.

use std::collections::VecDeque;

use crate::event::LaneCounter;
use crate::id::DeliveryId;

/// The unsettled deliveries of one ordering key at one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    counter: LaneCounter,
    /// In the order of their sequence ids; the first is the head.
    waiting: VecDeque<(DeliveryId, u64)>,
    /// A dead letter stopped it; see [`crate::policy::HeadOfLine::Park`].
    parked: bool,
}

impl Lane {
    /// A lane without unsettled deliveries that has come as far as `counter`.
    #[must_use]
    pub fn new(counter: LaneCounter) -> Lane {
        Lane {
            counter,
            ..Lane::default()
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn counter(&self) -> LaneCounter {
        self.counter
    }

    /// The number that the next admitted delivery gets.
    pub fn number(&mut self) -> u64 {
        self.counter.last_sequence += 1;
        self.counter.last_sequence
    }

    /// The store refused to admit the delivery with this number: the number is free again. The
    /// store refuses the ones behind it too, because theirs would leave a gap.
    pub fn take_back(&mut self, sequence: u64) {
        self.counter.last_sequence = self.counter.last_sequence.min(sequence.saturating_sub(1));
    }

    /// Adds a delivery at the end.
    pub fn push(&mut self, delivery: DeliveryId, sequence: u64) {
        self.counter.last_sequence = self.counter.last_sequence.max(sequence);
        self.waiting.push_back((delivery, sequence));
    }

    /// The delivery whose turn it is, unless the lane is parked.
    #[must_use]
    pub fn head(&self) -> Option<DeliveryId> {
        if self.parked {
            None
        } else {
            self.waiting.front().map(|(delivery, _)| *delivery)
        }
    }

    /// Takes a delivery out because it has been settled; tells how far the hand-over has come.
    pub fn remove(&mut self, delivery: DeliveryId, accepted: bool) {
        if let Some(place) = self.waiting.iter().position(|(id, _)| *id == delivery) {
            if let Some((_, sequence)) = self.waiting.remove(place)
                && accepted
            {
                self.counter.last_accepted = self.counter.last_accepted.max(sequence);
            }
        }
    }

    /// Stops the lane, or lets it go on.
    pub fn set_parked(&mut self, parked: bool) {
        self.parked = parked;
    }

    /// Stopped by a dead letter.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked
    }

    /// Nothing waits here: the counters can be read again from the store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Lane;
    use crate::event::LaneCounter;
    use crate::id::DeliveryId;

    #[test]
    fn one_at_a_time_without_gaps() {
        let mut lane = Lane::new(LaneCounter {
            last_sequence: 7,
            last_accepted: 5,
        });
        for id in 1..=3 {
            let number = lane.number();
            assert_eq!(number, 7 + id);
            lane.push(DeliveryId(id), number);
        }
        assert_eq!(lane.head(), Some(DeliveryId(1)));
        lane.remove(DeliveryId(1), true);
        assert_eq!(lane.counter().last_accepted, 8);
        lane.remove(DeliveryId(2), false);
        assert_eq!(lane.head(), Some(DeliveryId(3)));
        assert_eq!(
            lane.counter(),
            LaneCounter {
                last_sequence: 10,
                last_accepted: 8
            }
        );
    }

    #[test]
    fn a_refused_number_is_given_out_again() {
        let mut lane = Lane::default();
        let (first, second) = (lane.number(), lane.number());
        lane.take_back(first);
        lane.take_back(second);
        assert_eq!(lane.number(), 1);
    }

    #[test]
    fn a_parked_lane_has_no_head() {
        let mut lane = Lane::default();
        lane.push(DeliveryId(1), 1);
        lane.set_parked(true);
        assert_eq!(lane.head(), None);
        lane.set_parked(false);
        assert_eq!(lane.head(), Some(DeliveryId(1)));
    }
}
