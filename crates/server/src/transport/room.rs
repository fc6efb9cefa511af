//! How many requests a connection carries at once: what its far side says, as it changes.
//!
//! Absent here: HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Places on one connection. Before the far side has named a number nobody enters.
pub(super) struct Room {
    free: Arc<Semaphore>,
    /// What the far side said last; [`usize::MAX`] until it has.
    places: AtomicUsize,
    /// Places that were taken away while somebody was in them.
    owed: Arc<AtomicUsize>,
    /// The far side has spoken, or never will.
    told: Notify,
}

/// One place, for as long as this lives.
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    owed: Arc<AtomicUsize>,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            free: Arc::new(Semaphore::new(0)),
            places: AtomicUsize::new(usize::MAX),
            owed: Arc::default(),
            told: Notify::new(),
        }
    }
}

impl Room {
    /// Places as far as is known; no bound until the far side has named one.
    pub(super) fn places(&self) -> usize {
        self.places.load(Relaxed)
    }

    /// Waits until the far side has named a number, or the connection has ended.
    pub(super) async fn known(&self) {
        let told = self.told.notified();
        if self.places() == usize::MAX && !self.is_closed() {
            told.await;
        }
    }

    /// Waits for a place, first come first served; `None` once the connection takes no more.
    pub(super) async fn enter(&self) -> Option<Place> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Place {
            permit: Some(permit),
            owed: self.owed.clone(),
        })
    }

    /// Sets the number of places. For one caller only: the connection's driver. 0 before anything
    /// else says nothing.
    pub(super) fn resize(&self, places: usize) {
        let before = self.places.load(Relaxed);
        if before == places || (before == usize::MAX && places == 0) {
            return;
        }
        self.places.store(places, Relaxed);
        self.told.notify_waiters();
        let before = if before == usize::MAX { 0 } else { before };
        if places > before {
            self.widen(places - before);
        } else {
            let less = before - places;
            let taken = self.free.forget_permits(less);
            self.owed.fetch_add(less - taken, Relaxed);
        }
    }

    fn widen(&self, more: usize) {
        let mut forgiven = 0;
        let _ = self.owed.fetch_update(Relaxed, Relaxed, |owed| {
            forgiven = owed.min(more);
            Some(owed - forgiven)
        });
        self.free.add_permits(more - forgiven);
    }

    /// Lets nobody in any more; those who wait are told.
    pub(super) fn close(&self) {
        self.free.close();
        self.told.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.free.is_closed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let owes = |owed: usize| owed.checked_sub(1);
        if self.owed.fetch_update(Relaxed, Relaxed, owes).is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Room};
    use std::task::{Context, Poll, Waker};

    /// Somebody who is let in at once.
    fn enter(room: &Room) -> Option<Place> {
        let mut entering = Box::pin(room.enter());
        match entering
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(place) => place,
            Poll::Pending => None,
        }
    }

    #[test]
    fn nobody_enters_before_the_far_side_has_spoken() {
        let room = Room::default();
        room.resize(0);
        assert!(enter(&room).is_none());
        assert_eq!(room.places(), usize::MAX);
        room.resize(1);
        let one = enter(&room);
        assert!(one.is_some() && enter(&room).is_none());
        drop(one);
        assert!(enter(&room).is_some());
    }

    #[test]
    fn places_that_are_taken_away_are_gone_when_they_are_left() {
        let room = Room::default();
        room.resize(3);
        let inside: Vec<_> = (0..3).map(|_| enter(&room).unwrap()).collect();
        room.resize(1);
        let mut left = inside.into_iter();
        drop(left.next());
        assert!(enter(&room).is_none(), "two are still inside");
        drop(left.next());
        assert!(enter(&room).is_none(), "the last one has the only place");
        drop(left.next());
        let one = enter(&room);
        assert!(one.is_some() && enter(&room).is_none());
    }

    #[test]
    fn what_was_owed_is_forgiven_when_there_is_room_again() {
        let room = Room::default();
        room.resize(2);
        let (first, second) = (enter(&room).unwrap(), enter(&room).unwrap());
        room.resize(1);
        room.resize(4);
        let (third, fourth) = (enter(&room), enter(&room));
        assert!(third.is_some() && fourth.is_some() && enter(&room).is_none());
        drop((first, second, third, fourth));
        let again: Vec<_> = std::iter::from_fn(|| enter(&room)).collect();
        assert_eq!(again.len(), 4);
        room.close();
        assert!(room.is_closed());
    }

    #[test]
    fn whoever_waits_at_a_closed_door_is_told() {
        let room = Room::default();
        let mut waiting = Box::pin(room.enter());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        room.close();
        assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(None)));
    }
}
