//! What only a store on a disk meets: other processes, foreign files, a full disk, age.

use std::fs;
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::id::{DeliveryId, EndpointId, EventId, Seq};
use postrider_core::ledger::State;
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::{DAY_MS, HOUR_MS, Time};
use rusqlite::Connection;

use super::InDirectory;
use crate::store::conformance::author::{Author, Wish, settle};
use crate::store::conformance::{NOON, list_all, record, tend};
use crate::store::embedded::files::file_name;
use crate::store::embedded::{
    EmbeddedLedger, EmbeddedReader, INDEX_FILE, OpenError, Options, Retention, open,
};
use crate::store::{Ledger, Query, Reader, Verdict};
use crate::vault::Vault;

fn started(store: &InDirectory) -> (EmbeddedLedger, Arc<EmbeddedReader>, Author) {
    let (mut ledger, reader) = open(store.dir.path(), store.options.clone()).unwrap();
    let recovery = ledger.recover(&mut |_| ()).unwrap();
    let author = Author::after(&recovery, NOON);
    (ledger, reader, author)
}

fn why(store: &InDirectory, options: Options) -> OpenError {
    match open(store.dir.path(), options) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let store = InDirectory::new();
    let first = started(&store);
    let error = why(&store, store.options.clone());
    let pid = std::process::id().to_string();
    assert!(matches!(&error, OpenError::Locked { pid: of, .. } if *of == pid));
    assert!(error.to_string().contains(&pid));
    drop(first);
    started(&store);
}

#[test]
fn foreign_newer_missing_and_unreadable_files_are_told_apart() {
    let store = InDirectory::new();
    let (mut ledger, _, mut author) = started(&store);
    let admission = author.admit(&Wish::one(1, 1));
    record(&mut ledger, &[admission]);
    drop(ledger);
    let other = Vault::of(&[8; 32]);
    let error = why(&store, Options::new(Arc::new(other)));
    assert!(matches!(error, OpenError::Vault(_)), "{error}");

    for name in [INDEX_FILE.to_owned(), file_name(1)] {
        let path = store.dir.path().join(&name);
        let whole = fs::read(&path).unwrap();
        let with = |change: &dyn Fn()| {
            change();
            let error = why(&store, store.options.clone());
            fs::write(&path, &whole).unwrap();
            assert!(error.to_string().contains(&name), "{error}");
            error
        };
        let pragma = |name: &str, value: i32| {
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, name, value).unwrap();
            connection.close().unwrap();
        };
        let error = with(&|| pragma("application_id", 77));
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        // Of an earlier build, and of a later one.
        for other in [1, 3] {
            let error = with(&|| pragma("user_version", other));
            let told =
                matches!(error, OpenError::Version { version, known: 2, .. } if version == other);
            assert!(told, "{error}");
        }
        let error = with(&|| {
            fs::write(
                &path,
                b"not a database, but long enough to be read as one\n".repeat(100),
            )
            .unwrap()
        });
        assert!(matches!(error, OpenError::Sqlite { .. }), "{error}");
        let error = with(&|| fs::write(&path, b"").unwrap());
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }
    fs::remove_file(store.dir.path().join(INDEX_FILE)).unwrap();
    let error = why(&store, store.options.clone());
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[test]
fn a_ledger_file_that_is_gone_is_noticed() {
    let mut store = InDirectory::new();
    store.options.file_deliveries_max = 1;
    let (mut ledger, _, mut author) = started(&store);
    for key in 0..3 {
        let admission = author.admit(&Wish::one(key, 1));
        record(&mut ledger, &[admission]);
    }
    drop(ledger);
    fs::remove_file(store.dir.path().join(file_name(2))).unwrap();
    let error = why(&store, store.options.clone());
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[test]
fn a_full_disk_refuses_admissions_lets_settlements_in_and_recovers() {
    let mut store = InDirectory::new();
    store.options.file_bytes_max = Some(400_000);
    let (mut ledger, reader, mut author) = started(&store);
    let mut admitted = Vec::new();
    let mut refused = 0;
    for key in 0..2_000 {
        let wish = Wish {
            payload: 2_000,
            ..Wish::one(key, 1)
        };
        let admission = author.admit(&wish);
        let id = author.last.1;
        match &ledger.record(&[admission]).unwrap()[..] {
            [Verdict::Recorded] => {
                assert_eq!(refused, 0, "nothing is admitted while the disk is full");
                admitted.push(id);
            }
            [Verdict::Full] => {
                author.rows.remove(&id);
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(admitted.len() > 50 && refused == 3);
    // Settlements and a refused admission in one group: the former get in.
    let late = author.admit(&Wish::one(9_999, 1));
    author.rows.remove(&author.last.1.clone());
    let mut group = vec![late];
    group.extend(admitted.iter().map(|&id| author.accept(id)));
    let verdicts = ledger.record(&group).unwrap();
    assert_eq!(verdicts[0], Verdict::Full);
    assert!(
        verdicts[1..]
            .iter()
            .all(|verdict| *verdict == Verdict::Recorded)
    );
    assert_eq!(
        reader
            .seen(&crate::store::conformance::author::digest(9_999), NOON)
            .unwrap(),
        None
    );

    // No room yet: looking for it changes nothing.
    tend(&mut ledger, author.now.plus(5_000));
    let again = author.admit(&Wish::one(10_000, 1));
    author.rows.remove(&author.last.1.clone());
    assert_eq!(ledger.record(&[again]).unwrap(), [Verdict::Full]);

    ledger.set_file_bytes_max(Some(4_000_000)).unwrap();
    author.now = author.now.plus(10_000);
    tend(&mut ledger, author.now);
    let again = author.admit(&Wish::one(10_001, 1));
    record(&mut ledger, &[again]);
    let ids: Vec<DeliveryId> = author.rows.keys().copied().collect();
    let rows: Vec<_> = author.rows.values().cloned().collect();
    assert_eq!(reader.deliveries(&ids).unwrap(), rows);
    drop(ledger);
    let (_ledger, reader, _) = started(&store);
    assert_eq!(reader.deliveries(&ids).unwrap(), rows);
}

#[test]
fn what_was_changed_behind_the_writer_is_fatal_for_good() {
    let store = InDirectory::new();
    let (mut ledger, _, mut author) = started(&store);
    let admission = author.admit(&Wish::one(1, 1));
    record(&mut ledger, &[admission]);
    let other = Connection::open(store.dir.path().join(file_name(1))).unwrap();
    other
        .execute(
            "UPDATE delivery SET row = CAST(x'0000000009' || substr(row, 6) AS BLOB)",
            [],
        )
        .unwrap();
    let accepted = author.accept(DeliveryId(1));
    let fatal = ledger.record(&[accepted]).unwrap_err();
    assert!(fatal.reason.contains("delivery 1"), "{fatal}");
    assert!(ledger.record(&[]).is_err());
    assert!(ledger.tend(NOON).is_err());
    assert!(ledger.recover(&mut |_| ()).is_err());
}

/// Lets time pass in steps, as a running engine would see it.
fn live(ledger: &mut EmbeddedLedger, author: &mut Author, ms: i64) {
    let until = author.now.plus(ms);
    while author.now < until {
        author.now = author.now.plus(12 * HOUR_MS);
        tend(ledger, author.now);
    }
}

fn kept() -> Retention {
    Retention {
        ledger_ms: 30 * DAY_MS,
        payload_keep_ms: 3 * DAY_MS,
        dead_payload_keep_ms: 14 * DAY_MS,
    }
}

#[test]
fn payloads_go_when_their_time_has_come_and_dead_letters_keep_theirs() {
    let mut store = InDirectory::new();
    store.options.retention = kept();
    let (mut ledger, reader, mut author) = started(&store);
    for key in 1..=3 {
        let admission = author.admit(&Wish::one(key, 1));
        record(&mut ledger, &[admission]);
    }
    let accepted = author.accept(DeliveryId(1));
    let rejected = settle(State::Rejected, Cause::NotFound);
    let dead = author.answer(DeliveryId(2), OutcomeKind::Reject, rejected);
    record(&mut ledger, &[accepted, dead]);
    let payloads = |reader: &EmbeddedReader| {
        [1, 2, 3].map(|id| reader.payload(EventId(id)).unwrap().is_some())
    };
    live(&mut ledger, &mut author, 2 * DAY_MS);
    assert_eq!(payloads(&reader), [true, true, true]);
    live(&mut ledger, &mut author, 2 * DAY_MS);
    assert_eq!(
        payloads(&reader),
        [false, true, true],
        "the third is unsettled"
    );
    live(&mut ledger, &mut author, 12 * DAY_MS);
    assert_eq!(payloads(&reader), [false, false, true]);
    assert_eq!(reader.deliveries(&[DeliveryId(1)]).unwrap().len(), 1);
}

#[test]
fn old_files_go_oldest_first_and_only_when_all_is_settled() {
    let mut store = InDirectory::new();
    store.options.retention = kept();
    let (mut ledger, reader, mut author) = started(&store);
    for key in 0..6_u64 {
        let admission = author.admit(&Wish::one(key, 1));
        record(&mut ledger, &[admission]);
        if key != 0 {
            let accepted = author.accept(author.last.1);
            record(&mut ledger, &[accepted]);
        }
        live(&mut ledger, &mut author, DAY_MS);
    }
    let there = || (1..=6).filter(|&n| store.dir.path().join(file_name(n)).exists());
    live(&mut ledger, &mut author, 28 * DAY_MS);
    live(&mut ledger, &mut author, 10 * DAY_MS);
    assert_eq!(there().count(), 6, "the first is not settled");

    let expired = author.answer(
        DeliveryId(1),
        OutcomeKind::Accept,
        settle(State::Accepted, Cause::Accepted),
    );
    record(&mut ledger, &[expired]);
    live(&mut ledger, &mut author, DAY_MS);
    assert_eq!(there().collect::<Vec<_>>(), [6], "the newest always stays");
    assert_eq!(reader.deliveries(&[DeliveryId(1)]).unwrap(), []);
    assert_eq!(reader.event(EventId(5)).unwrap(), None);
    let query = Query {
        endpoint: Some(EndpointId(1)),
        limit: 10,
        ..Query::default()
    };
    let listed = list_all(&*reader, &query);
    assert_eq!(listed.len(), 1);
    assert_eq!(reader.journal(Seq(0), 10).unwrap().len(), 3, "of the sixth");
    drop(ledger);
    let (_ledger, reader, again) = started(&store);
    assert_eq!(again.last, author.last);
    assert_eq!(list_all(&*reader, &query), listed);
}

#[test]
fn a_clock_that_jumps_years_deletes_nothing() {
    let mut store = InDirectory::new();
    store.options.retention = kept();
    let (mut ledger, reader, mut author) = started(&store);
    for key in 0..3 {
        let admission = author.admit(&Wish::one(key, 1));
        let accepted = author.accept(author.last.1);
        record(&mut ledger, &[admission, accepted]);
        live(&mut ledger, &mut author, DAY_MS);
    }
    author.now = author.now.plus(10 * 365 * DAY_MS);
    tend(&mut ledger, author.now);
    let admission = author.admit(&Wish::one(9, 1));
    record(&mut ledger, &[admission]);
    tend(&mut ledger, author.now);
    drop(ledger);
    let (mut ledger, again, _) = started(&store);
    tend(&mut ledger, author.now);
    // And back again: the engine's clock does not follow, but a store must survive it.
    tend(&mut ledger, NOON);
    tend(&mut ledger, Time(0));
    for reader in [reader, again] {
        let ids = [1, 2, 3, 4].map(DeliveryId);
        assert_eq!(reader.deliveries(&ids).unwrap().len(), 4);
        assert!(reader.payload(EventId(3)).unwrap().is_some());
    }
}
