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
    /// Highest sequence id that is durable.
    durable: u64,
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
            durable: counter.last_sequence,
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

    /// The store has admitted the delivery with this number.
    pub fn admitted(&mut self, sequence: u64) {
        self.durable = self.durable.max(sequence);
    }

    /// The store refused to admit this delivery. Its number is given out again, unless one behind
    /// it is on its way to the store or there already: no number is ever used twice.
    pub fn refused(&mut self, delivery: DeliveryId) {
        self.waiting.retain(|(id, _)| *id != delivery);
        let last = self.waiting.back().map_or(0, |(_, sequence)| *sequence);
        self.counter.last_sequence = self.durable.max(last);
    }

    /// Adds a delivery at the place of its number.
    pub fn push(&mut self, delivery: DeliveryId, sequence: u64) {
        self.counter.last_sequence = self.counter.last_sequence.max(sequence);
        let place = self.waiting.partition_point(|(_, other)| *other < sequence);
        self.waiting.insert(place, (delivery, sequence));
    }

    /// The delivery whose turn it is, unless the lane is parked.
    #[must_use]
    pub fn head(&self) -> Option<DeliveryId> {
        if self.parked { None } else { self.front() }
    }

    /// The first one, parked or not.
    #[must_use]
    pub fn front(&self) -> Option<DeliveryId> {
        self.waiting.front().map(|(delivery, _)| *delivery)
    }

    /// How many are unsettled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a delivery out because it has been settled; tells how far the hand-over has come.
    pub fn remove(&mut self, delivery: DeliveryId, accepted: bool) {
        let place = self.waiting.iter().position(|(id, _)| *id == delivery);
        if let Some((_, sequence)) = place.and_then(|place| self.waiting.remove(place))
            && accepted
        {
            self.counter.last_accepted = self.counter.last_accepted.max(sequence);
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

    fn grown(lane: &mut Lane, id: u64) -> u64 {
        let number = lane.number();
        lane.push(DeliveryId(id), number);
        number
    }

    #[test]
    fn a_refused_number_is_given_out_again() {
        let mut lane = Lane::default();
        grown(&mut lane, 1);
        grown(&mut lane, 2);
        lane.refused(DeliveryId(1));
        lane.refused(DeliveryId(2));
        assert_eq!(lane.number(), 1);
    }

    #[test]
    fn no_number_is_used_twice_when_refusals_come_late() {
        let mut lane = Lane::default();
        assert_eq!(grown(&mut lane, 1), 1);
        lane.admitted(1);
        grown(&mut lane, 2);
        grown(&mut lane, 3);
        lane.refused(DeliveryId(2));
        assert_eq!(grown(&mut lane, 4), 4, "the third is on its way");
        lane.refused(DeliveryId(3));
        lane.admitted(4);
        lane.remove(DeliveryId(4), true);
        assert_eq!(lane.number(), 5);
        assert_eq!(lane.head(), Some(DeliveryId(1)));
    }

    #[test]
    fn rows_read_again_take_the_place_of_their_number() {
        let mut lane = Lane::default();
        for (id, sequence) in [(5, 5), (3, 3), (4, 4)] {
            lane.push(DeliveryId(id), sequence);
        }
        assert_eq!(lane.head(), Some(DeliveryId(3)));
        assert_eq!(lane.number(), 6);
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
