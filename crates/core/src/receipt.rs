//! Receipts: what a device reports about a notification is evidence, and kept.
//!
//! A receipt becomes an entry of its delivery wherever that is: in the window, between two of its
//! attempts, or long settled. While an attempt or a record of the delivery is under way it waits
//! for that. A kind of receipt that is known already changes nothing and is answered like the
//! first.
//!
//! Absent here: who may report. The edge checks that a receipt is genuine.

use crate::engine::{After, Effect, Engine, Place, Reply, Why};
use crate::id::{Ask, DeliveryId};
use crate::ledger::{Delivery, Entry, Fact, Record, State, apply};
use crate::time::Time;

/// Receipts that wait for one delivery at the most.
pub const RECEIPTS_WAITING_MAX: usize = 64;

/// The receipts of one delivery that are not recorded yet.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: Vec<(u8, Ask)>,
    /// Some of a settled delivery are on their way to the store.
    recording: bool,
}

impl Engine {
    /// A device reported something about a delivery.
    pub(crate) fn receipt(
        &mut self,
        now: Time,
        id: DeliveryId,
        receipt: u8,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        let full = self.pending.len() >= self.config.records_max;
        let waiting = self.receipts.get(&id).map_or(0, |it| it.waiting.len());
        if full || waiting >= RECEIPTS_WAITING_MAX {
            self.refuse(Why::Overloaded, ask, effects);
            return;
        }
        let receipts = self.receipts.entry(id).or_default();
        receipts.waiting.push((receipt, ask));
        let recording = receipts.recording;
        match self.place_of(id) {
            None if recording => {}
            None => self.ask_for(id, effects),
            Some(Place::Busy | Place::Away) => {}
            Some(place) => {
                if place != Place::Timer {
                    self.leave(id);
                }
                if !self.record_receipts(now, id, effects) {
                    self.place(now, id, effects);
                }
            }
        }
    }

    /// Records the receipts that wait for a delivery of the window, which has nothing else under
    /// way. Returns whether a record has left.
    pub(crate) fn record_receipts(
        &mut self,
        now: Time,
        id: DeliveryId,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(row) = self.rows.get(&id) else {
            return false;
        };
        let mut delivery = row.delivery.clone();
        let Some(receipts) = self.receipts.remove(&id) else {
            return false;
        };
        let (entries, asks) = self.enter_receipts(now, &mut delivery, receipts, effects);
        if entries.is_empty() {
            return false;
        }
        if let Some(row) = self.rows.get_mut(&id) {
            row.delivery = delivery;
            row.place = Place::Busy;
        }
        self.send_receipts(id, entries, asks, true, effects);
        true
    }

    /// Records the receipts that wait for a delivery that was settled before.
    pub(crate) fn record_late_receipts(
        &mut self,
        now: Time,
        mut delivery: Delivery,
        effects: &mut Vec<Effect>,
    ) {
        let id = delivery.id;
        let Some(receipts) = self.receipts.remove(&id) else {
            return;
        };
        let (entries, asks) = self.enter_receipts(now, &mut delivery, receipts, effects);
        if entries.is_empty() {
            return;
        }
        let recording = Receipts {
            waiting: Vec::new(),
            recording: true,
        };
        self.receipts.insert(id, recording);
        let fence = self.fence(&delivery);
        self.send_receipts_of(id, entries, asks, false, vec![fence], effects);
    }

    /// The receipts are durable.
    pub(crate) fn receipts_recorded(
        &mut self,
        now: Time,
        id: DeliveryId,
        asks: Vec<Ask>,
        in_window: bool,
        effects: &mut Vec<Effect>,
    ) {
        for ask in asks {
            let reply = Reply::Received;
            effects.push(Effect::Reply { ask, reply });
        }
        if in_window {
            self.place(now, id, effects);
            return;
        }
        self.go_on_with_late_receipts(id, effects);
    }

    /// The receipts were not recorded: whoever sent them may send them again.
    pub(crate) fn receipts_refused(
        &mut self,
        id: DeliveryId,
        asks: Vec<Ask>,
        in_window: bool,
        why: Why,
        effects: &mut Vec<Effect>,
    ) {
        for ask in asks {
            self.refuse(why, ask, effects);
        }
        if !in_window {
            self.go_on_with_late_receipts(id, effects);
        }
    }

    /// There is no such delivery, or none that a receipt could be about.
    pub(crate) fn refuse_receipts(&mut self, id: DeliveryId, effects: &mut Vec<Effect>) {
        let receipts = self.receipts.remove(&id).unwrap_or_default();
        for (_, ask) in receipts.waiting {
            let reply = Reply::Absent;
            effects.push(Effect::Reply { ask, reply });
        }
    }

    fn go_on_with_late_receipts(&mut self, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(receipts) = self.receipts.get_mut(&id) else {
            return;
        };
        receipts.recording = false;
        if receipts.waiting.is_empty() {
            self.receipts.remove(&id);
        } else {
            self.ask_for(id, effects);
        }
    }

    /// Asks the store for a row, unless it was asked already.
    pub(crate) fn ask_for(&mut self, id: DeliveryId, effects: &mut Vec<Effect>) {
        if self.loading.insert(id) {
            effects.push(Effect::Load(vec![id]));
        }
    }

    /// The entries of those receipts that say something new; the others are answered at once.
    fn enter_receipts(
        &mut self,
        now: Time,
        delivery: &mut Delivery,
        receipts: Receipts,
        effects: &mut Vec<Effect>,
    ) -> (Vec<Entry>, Vec<Ask>) {
        let (mut entries, mut asks) = (Vec::new(), Vec::new());
        for (receipt, ask) in receipts.waiting {
            let answered = |reply| Effect::Reply { ask, reply };
            if delivery.attempt == 0 || delivery.state == State::InFlight {
                effects.push(answered(Reply::TooLate(delivery.state)));
                continue;
            }
            if delivery.has_receipt(receipt) {
                // What it repeats may be on its way in the same record.
                match entries.is_empty() {
                    true => effects.push(answered(Reply::Received)),
                    false => asks.push(ask),
                }
                continue;
            }
            let entry = Entry {
                seq: crate::id::Seq(self.origin.last_seq.0 + 1),
                delivery: delivery.id,
                version: delivery.version,
                at: now,
                previous: delivery.last_seq,
                fact: Fact::Confirmed { receipt },
            };
            let mut moved = Some(delivery.clone());
            let fits = apply(&mut moved, &entry);
            assert!(fits.is_ok(), "a receipt fits no row: {fits:?}");
            if let Some(moved) = moved {
                *delivery = moved;
            }
            self.origin.last_seq = entry.seq;
            entries.push(entry);
            asks.push(ask);
        }
        (entries, asks)
    }

    fn send_receipts(
        &mut self,
        id: DeliveryId,
        entries: Vec<Entry>,
        asks: Vec<Ask>,
        in_window: bool,
        effects: &mut Vec<Effect>,
    ) {
        let fences = self.rows.get(&id).map(|row| self.fence(&row.delivery));
        let fences = fences.into_iter().collect();
        self.send_receipts_of(id, entries, asks, in_window, fences, effects);
    }

    fn send_receipts_of(
        &mut self,
        delivery: DeliveryId,
        entries: Vec<Entry>,
        asks: Vec<Ask>,
        in_window: bool,
        fences: Vec<(crate::id::Partition, crate::id::Epoch)>,
        effects: &mut Vec<Effect>,
    ) {
        let ticket = self.await_ticket(After::Receipts {
            delivery,
            asks,
            in_window,
        });
        effects.push(Effect::Record(Box::new(Record {
            ticket,
            event: None,
            fences,
            entries,
            release: None,
        })));
    }
}
