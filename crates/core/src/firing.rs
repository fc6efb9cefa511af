//! Firing: what happens when a timer's moment has come, and which timers nobody needs any more.
//!
//! Absent here: the timers themselves; see [`crate::schedule::Timers`].

use crate::engine::{Effect, Engine, Place};
use crate::schedule::Timer;
use crate::time::Time;

/// Timers of each row and endpoint, beside [`TIMERS_SPARE`], at the most.
pub const TIMERS_EACH_MAX: usize = 2;
/// Timers that may be there beyond, so that it is worth while to look for those nobody needs.
pub const TIMERS_SPARE: usize = 64;

impl Engine {
    /// Takes the timers whose moment has come, in their order.
    pub(crate) fn fire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.fire(now) {
            match timer {
                Timer::Delivery(id) => {
                    if self.place_of(id) == Some(Place::Timer) {
                        self.ready(now, id, effects);
                    }
                }
                Timer::Parked(id) => {
                    if self.parked.contains(&id) {
                        self.to_load.push_back(id);
                    }
                }
                Timer::Endpoint(id) => self.wake_endpoint(now, id, effects),
                Timer::Lane(id) => self.move_up(now, id, effects),
                Timer::Store => self.hand_in_again(effects),
            }
        }
    }

    /// Whoever was withdrawn or superseded leaves a timer behind: they go once they are many.
    pub(crate) fn sweep_timers(&mut self) {
        let held = self.rows.len() + self.parked.len() + self.endpoints.len();
        if self.timers.len() <= TIMERS_EACH_MAX * held + TIMERS_SPARE {
            return;
        }
        let (rows, parked) = (&self.rows, &self.parked);
        let at = |id| rows.get(&id).map(|row| row.place);
        self.timers.sweep(|timer| match timer {
            Timer::Delivery(id) => at(id) == Some(Place::Timer),
            Timer::Parked(id) => parked.contains(&id),
            Timer::Lane(id) => at(id).is_some(),
            Timer::Endpoint(_) | Timer::Store => true,
        });
    }
}
