//! The conformance suite: what every store must do, as functions over a [`Subject`].
//!
//! A store is done when all of [`ALL`] hold for it and [`compare`] finds no difference between it
//! and the model over random operations.
//!
//! Absent here: what only one kind of store can do, such as losing power or running out of disk.

pub mod author;
mod checks;
mod compare;

use std::sync::Arc;

use postrider_core::ledger::{Delivery, Record};
use postrider_core::time::{DAY_MS, HOUR_MS, Time};

use self::author::{Author, Wish};
pub use self::compare::compare;
use super::model::ModelStore;
use super::{Ledger, Query, Reader, Verdict};

/// Both halves of an open store.
pub type Halves = (Box<dyn Ledger>, Arc<dyn Reader>);

/// A store that can be opened again: whatever was recorded through halves that were dropped since
/// is there.
pub trait Subject {
    /// Opens it.
    fn open(&mut self) -> Halves;

    /// The process that has it open is killed now: what is opened next is what it leaves behind,
    /// whatever its halves still do when they are dropped.
    fn kill(&mut self) {}
}

/// Noon of some day.
pub const NOON: Time = Time(20_000 * DAY_MS + 12 * HOUR_MS);

/// All checks, by name.
pub const ALL: &[(&str, fn(&mut dyn Subject))] = &[
    (
        "what is admitted is found",
        checks::what_is_admitted_is_found,
    ),
    (
        "a refused record leaves no trace",
        checks::a_refused_record_leaves_no_trace,
    ),
    (
        "keys are unique until they are free",
        checks::keys_are_unique_until_they_are_free,
    ),
    ("a stale epoch is fenced", checks::a_stale_epoch_is_fenced),
    (
        "only what is unsettled is visited",
        checks::only_what_is_unsettled_is_visited,
    ),
    ("places never go back", checks::places_never_go_back),
    (
        "days and clocks may do what they like",
        checks::days_and_clocks_may_do_what_they_like,
    ),
    (
        "the journal is in order over all days",
        checks::the_journal_is_in_order_over_all_days,
    ),
    ("lists find what matches", checks::lists_find_what_matches),
    ("lanes only grow", checks::lanes_only_grow),
];

/// Opens and recovers; the author goes on where the store stands.
pub fn start(subject: &mut dyn Subject, now: Time) -> (Halves, Author, Vec<Delivery>) {
    let (mut ledger, reader) = subject.open();
    let mut unsettled = Vec::new();
    let recovery = ledger.recover(&mut |row| unsettled.push(row)).unwrap();
    let mut author = Author::after(&recovery, now);
    for row in &unsettled {
        author.rows.insert(row.id, row.clone());
    }
    ((ledger, reader), author, unsettled)
}

/// Records, and expects all of it to be recorded.
pub fn record(ledger: &mut dyn Ledger, records: &[Record]) {
    let verdicts = ledger.record(records).unwrap();
    assert_eq!(verdicts, vec![Verdict::Recorded; records.len()]);
}

/// Does housekeeping until there is none.
pub fn tend(ledger: &mut dyn Ledger, now: Time) {
    for _ in 0..100_000 {
        if !ledger.tend(now).unwrap() {
            return;
        }
    }
    panic!("housekeeping does not come to an end");
}

/// All pages of a list, one after the other.
pub fn list_all(reader: &dyn Reader, query: &Query) -> Vec<Delivery> {
    let mut query = query.clone();
    let mut all = Vec::new();
    loop {
        let page = reader.list(&query).unwrap();
        assert!(page.deliveries.len() <= query.limit);
        all.extend(page.deliveries);
        match page.next {
            Some(next) => {
                assert!(query.before.is_none_or(|before| next < before));
                query.before = Some(next);
            }
            None => return all,
        }
    }
}

impl Subject for ModelStore {
    fn open(&mut self) -> Halves {
        let (ledger, reader) = ModelStore::open(self);
        (Box::new(ledger), reader)
    }
}

#[test]
fn the_model_conforms() {
    for (name, check) in ALL {
        println!("{name}");
        check(&mut ModelStore::default());
    }
}

#[test]
fn a_purge_takes_what_it_is_told_and_nothing_is_given_out_again() {
    let mut store = ModelStore::default();
    let ((mut ledger, reader), mut author, _) = start(&mut store, NOON);
    let records = [
        author.admit(&Wish::one(1, 1)),
        author.admit(&Wish::one(2, 1)),
    ];
    record(&mut *ledger, &records);
    let first = records[0].event.as_ref().expect("it admits").id;
    let gone = store.purge(|event, _| event.id == first);
    assert!(!gone.is_empty());
    assert!(reader.event(first).expect("a model reads").is_none());
    assert!(reader.deliveries(&gone).expect("a model reads").is_empty());
    let again = ledger.record(&records[..1]).expect("a model writes");
    assert!(matches!(again[0], Verdict::Conflict(_)), "{again:?}");
}
