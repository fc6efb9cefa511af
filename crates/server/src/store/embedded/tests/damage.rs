//! Deliberate damage: it is named, and never answered wrongly.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use postrider_core::id::{DeliveryId, EventId};
use postrider_core::ledger::{Delivery, State};
use postrider_core::partition::mix;

use super::InDirectory;
use crate::store::conformance::author::{Author, Wish, digest, payload};
use crate::store::conformance::{NOON, record, tend};
use crate::store::embedded::files::file_name;
use crate::store::embedded::salvage::salvage;
use crate::store::embedded::verify::{Report, verify};
use crate::store::embedded::{EmbeddedReader, INDEX_FILE, open};
use crate::store::{Ledger, Reader};

/// Events in the directory that is damaged.
const EVENTS: u64 = 120;

/// A directory with three files, some deliveries settled and some not, and what is in it.
fn filled() -> (InDirectory, Author) {
    let mut store = InDirectory::new();
    store.options.file_deliveries_max = 60;
    let (mut ledger, _) = open(store.dir.path(), store.options.clone()).unwrap();
    let recovery = ledger.recover(&mut |_| ()).unwrap();
    let mut author = Author::after(&recovery, NOON);
    for key in 1..=EVENTS {
        let wish = Wish {
            targets: vec![(key % 5, Some((1, key))), (7, None)],
            ..Wish::one(key, 0)
        };
        let mut group = vec![author.admit(&wish)];
        let open = author
            .rows
            .values()
            .filter(|row| row.state == State::InFlight);
        let some = open
            .map(|row| row.id)
            .find(|id| !mix(id.0 + key).is_multiple_of(3));
        group.extend(some.map(|id| author.accept(id)));
        record(&mut ledger, &group);
    }
    let gone = author.fact(
        DeliveryId(6),
        postrider_core::ledger::Fact::Confirmed { receipt: 1 },
    );
    record(&mut ledger, &[gone]);
    author.now = author.now.plus(10_000);
    tend(&mut ledger, author.now);
    (store, author)
}

fn verified(dir: &Path, store: &InDirectory) -> Report {
    verify(dir, &store.options.vault, NOON, &mut |_| ()).unwrap()
}

#[test]
fn a_sound_directory_verifies() {
    let (store, author) = filled();
    let report = verified(store.dir.path(), &store);
    assert_eq!(report.findings, []);
    assert!(report.is_clean());
    assert_eq!(report.files, 4);
    assert_eq!(report.deliveries, 2 * EVENTS);
    assert_eq!((report.events, report.payloads), (EVENTS, EVENTS));
    assert_eq!(report.entries, author.last.2.0);
    assert_eq!(report.heads.len(), 4);
}

/// Asks everything. Returns how many questions were refused; panics where an answer is wrong.
fn ask(reader: &EmbeddedReader, rows: &[Delivery]) -> usize {
    let mut refused = 0;
    for row in rows {
        match reader.deliveries(&[row.id]) {
            Ok(found) => assert_eq!(found, std::slice::from_ref(row), "delivery {}", row.id),
            Err(_) => refused += 1,
        }
        match reader.history(row) {
            Ok(found) => assert_eq!(found.len(), row.version as usize),
            Err(_) => refused += 1,
        }
    }
    for event in (1..=EVENTS).map(EventId) {
        match reader.event(event) {
            Ok(found) => {
                let found = found.unwrap_or_else(|| panic!("event {event} is said to be absent"));
                assert_eq!(&*found.business_id, format!("business-{event}"));
            }
            Err(_) => refused += 1,
        }
        match reader.payload(event) {
            Ok(found) => assert_eq!(found, Some(payload(event, 300)), "payload of {event}"),
            Err(_) => refused += 1,
        }
        match reader.seen(&digest(event.0), NOON) {
            Ok(found) => assert_eq!(found.map(|seen| seen.event), Some(event)),
            Err(_) => refused += 1,
        }
    }
    refused
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_changed_byte_is_named_and_never_answered_wrongly() {
    let (store, author) = filled();
    let rows: Vec<Delivery> = author.rows.values().cloned().collect();
    let (mut harmless, mut refused) = (0, 0);
    for (nth, name) in [file_name(1), file_name(3), INDEX_FILE.to_owned()]
        .iter()
        .cycle()
        .take(150)
        .enumerate()
    {
        let place = tempfile::tempdir_in(store.dir.path().parent().unwrap()).unwrap();
        let dir = place.path().join("data");
        copy(store.dir.path(), &dir);
        let path = dir.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = usize::try_from(mix(nth as u64) % bytes.len() as u64).unwrap();
        bytes[at] ^= 1 << (mix(nth as u64 + 7) % 8);
        fs::write(&path, &bytes).unwrap();

        let answers = match open(&dir, store.options.clone()) {
            Err(error) => {
                assert!(error.to_string().contains(name), "{error}");
                refused += 1;
                continue;
            }
            Ok((mut ledger, reader)) => match ledger.recover(&mut |_| ()) {
                Err(_) => 1,
                Ok(_) => ask(&reader, &rows),
            },
        };
        let report = verified(&dir, &store);
        assert!(
            answers == 0 || !report.is_clean(),
            "byte {at} of {name} passed unnoticed"
        );
        assert!(
            report.is_clean() || report.findings.iter().any(|finding| finding.file == *name),
            "{:?}",
            report.findings
        );
        harmless += usize::from(report.is_clean());
        refused += usize::from(answers > 0);
    }
    // Some bytes mean nothing, such as those of free space; most do.
    assert!(
        refused > 40 && harmless < 110,
        "{refused} refused, {harmless} harmless"
    );
}

#[test]
fn what_is_readable_is_salvaged() {
    let (store, author) = filled();
    let path = store.dir.path().join(file_name(2));
    let mut bytes = fs::read(&path).unwrap();
    // A whole page in the middle is gone.
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    assert!(!verified(store.dir.path(), &store).is_clean());

    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("salvaged");
    let salvaged = salvage(store.dir.path(), &to, &store.options.vault).unwrap();
    assert!(salvaged.lost_count > 0);
    assert!(
        salvage(store.dir.path(), &to, &store.options.vault).is_err(),
        "never over another"
    );
    assert!(salvaged.deliveries >= 2 * EVENTS - 60, "{salvaged:?}");

    let (mut ledger, reader) = open(&to, store.options.clone()).unwrap();
    let mut unsettled = 0;
    ledger.recover(&mut |_| unsettled += 1).unwrap();
    assert!(unsettled > 0);
    let ids: Vec<DeliveryId> = author.rows.keys().copied().collect();
    let found = reader.deliveries(&ids).unwrap();
    assert_eq!(found.len() as u64, salvaged.deliveries);
    for row in found {
        assert!(row.version <= author.rows[&row.id].version);
    }
    let reader: Arc<dyn Reader> = reader;
    assert!(reader.payload(EventId(1)).unwrap().is_some());
}
