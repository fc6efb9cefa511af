//! Events at hand: what was admitted a moment ago is sent without being read again.
//!
//! Absent here: the truth. What falls out is read from the store.

use std::collections::VecDeque;
use std::sync::Arc;

use postrider_core::event::Event;
use postrider_core::id::EventId;
use postrider_core::map::Map;

/// What an event costs beside its payload, about.
const OVERHEAD_BYTES: usize = 512;

/// Events in the order of their admission, up to a bound in bytes.
pub struct Events {
    by_id: Map<EventId, Arc<Event>>,
    /// In the order of admission; some may be gone from the map already.
    order: VecDeque<EventId>,
    bytes: usize,
    bytes_max: usize,
}

impl Events {
    /// Keeps at most `bytes_max` bytes, about.
    pub fn new(bytes_max: usize) -> Events {
        Events {
            by_id: Map::default(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// An event was admitted.
    pub fn add(&mut self, event: &Arc<Event>) {
        self.bytes += cost(event);
        self.order.push_back(event.id);
        self.by_id.insert(event.id, Arc::clone(event));
        while self.bytes > self.bytes_max || self.order.len() > 2 * self.by_id.len() + 64 {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.bytes > self.bytes_max {
                self.remove(oldest);
            } else if self.by_id.contains_key(&oldest) {
                // Settled ones behind it are dropped when their turn comes.
                self.order.push_back(oldest);
            }
        }
    }

    /// The event, if it is at hand.
    pub fn get(&self, id: EventId) -> Option<&Arc<Event>> {
        self.by_id.get(&id)
    }

    /// The event's only delivery has settled.
    pub fn settled(&mut self, id: EventId) {
        if self
            .by_id
            .get(&id)
            .is_some_and(|event| event.deliveries == 1)
        {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: EventId) {
        if let Some(event) = self.by_id.remove(&id) {
            self.bytes = self.bytes.saturating_sub(cost(&event));
        }
    }
}

fn cost(event: &Event) -> usize {
    event.payload.len() + OVERHEAD_BYTES
}
