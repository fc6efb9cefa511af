//! The checks of the suite.
//!
//! Absent here: random operations; see [`super::compare`].

use std::sync::Arc;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::event::{Event, LaneCounter};
use postrider_core::id::{DeliveryId, EndpointId, EventId, OrderingKey, Seq, TenantId};
use postrider_core::ledger::{Delivery, Entry, Fact, Record, State};
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Guarantee;
use postrider_core::time::{DAY_MS, HOUR_MS, Time};

use super::author::{Wish, digest, opened, settle};
use super::{NOON, Subject, list_all, record, start, tend};
use crate::store::{Query, Verdict};

pub fn what_is_admitted_is_found(subject: &mut dyn Subject) {
    let ((mut ledger, mut reader), mut author, unsettled) = start(subject, NOON);
    assert_eq!(unsettled, []);
    let wish = Wish {
        targets: vec![(10, None), (11, Some((5, 1))), (10, None)],
        ..Wish::one(1, 10)
    };
    let admission = author.admit(&wish);
    let event = admission.event.clone().unwrap();
    record(&mut *ledger, std::slice::from_ref(&admission));
    author.now = author.now.plus(20);
    let accepted = author.accept(DeliveryId(2));
    record(&mut *ledger, std::slice::from_ref(&accepted));
    for _ in 0..2 {
        let ids = [DeliveryId(3), DeliveryId(1), DeliveryId(9), DeliveryId(2)];
        let rows: Vec<_> = author.rows.values().cloned().collect();
        assert_eq!(reader.deliveries(&ids).unwrap(), rows);
        let empty = Event {
            payload: Bytes::new(),
            ..(*event).clone()
        };
        assert_eq!(reader.event(event.id).unwrap(), Some(empty));
        assert_eq!(reader.event(EventId(2)).unwrap(), None);
        assert_eq!(
            reader.payload(event.id).unwrap(),
            Some(event.payload.clone())
        );
        assert_eq!(reader.payload(EventId(2)).unwrap(), None);
        let mut history = admission.entries[2..4].to_vec();
        history.extend(accepted.entries.clone());
        assert_eq!(reader.history(&rows[1]).unwrap(), history);
        let seen = reader.seen(&digest(1), author.now).unwrap().unwrap();
        assert_eq!(
            (seen.event, seen.uuid, seen.deliveries),
            (event.id, event.uuid, 3)
        );
        assert_eq!(reader.seen(&digest(2), author.now).unwrap(), None);
        let counter = LaneCounter {
            last_sequence: 1,
            last_accepted: 1,
        };
        assert_eq!(
            reader.lane(EndpointId(11), OrderingKey(5)).unwrap(),
            counter
        );
        let unused = reader.lane(EndpointId(11), OrderingKey(6)).unwrap();
        assert_eq!(unused, LaneCounter::default());

        let now = author.now;
        tend(&mut *ledger, now.plus(HOUR_MS / 2));
        drop((ledger, reader));
        ((ledger, reader), _, _) = start(subject, now);
    }
}

pub fn a_refused_record_leaves_no_trace(subject: &mut dyn Subject) {
    let ((mut ledger, reader), mut author, _) = start(subject, NOON);
    let first = author.admit(&Wish::one(1, 10));
    record(&mut *ledger, &[first]);
    let before = author.rows[&DeliveryId(1)].clone();

    let stale = author.fact(DeliveryId(1), opened(7));
    let mut half = author.admit(&Wish {
        open: false,
        ..Wish::one(2, 11)
    });
    let unfit = author.entry(DeliveryId(1), opened(9));
    half.entries.push(unfit);
    let fine = author.admit(&Wish::one(3, 12));
    let absent = author.fact(DeliveryId(1_000), opened(1));
    let verdicts = ledger.record(&[stale, half, fine, absent]).unwrap();
    let Verdict::Conflict(conflict) = verdicts[0] else {
        panic!("{:?}", verdicts[0]);
    };
    assert_eq!((conflict.has, conflict.expected), (2, 2));
    assert_eq!(conflict.state, Some(State::InFlight));
    assert!(matches!(verdicts[1], Verdict::Conflict(_)));
    assert_eq!(verdicts[2], Verdict::Recorded);
    assert!(matches!(verdicts[3], Verdict::Conflict(c) if c.state.is_none()));

    let ids = [DeliveryId(1), DeliveryId(2), DeliveryId(3)];
    let rows = reader.deliveries(&ids).unwrap();
    assert_eq!(rows, [before, author.rows[&DeliveryId(3)].clone()]);
    assert_eq!(reader.event(EventId(2)).unwrap(), None);
    assert_eq!(reader.seen(&digest(2), NOON).unwrap(), None);
    let entries = reader.journal(Seq(0), 100).unwrap();
    assert!(entries.iter().all(|entry| entry.delivery != DeliveryId(2)));
    assert_eq!(entries.len(), 4);
}

pub fn keys_are_unique_until_they_are_free(subject: &mut dyn Subject) {
    let ((mut ledger, mut reader), mut author, _) = start(subject, NOON);
    let records = [1, 2, 1].map(|key| author.admit(&Wish::one(key, 10)));
    let verdicts = ledger.record(&records).unwrap();
    assert_eq!(verdicts[..2], [Verdict::Recorded, Verdict::Recorded]);
    assert!(matches!(verdicts[2], Verdict::KeyTaken(seen) if seen.event == EventId(1)));
    author.rows.remove(&DeliveryId(3));

    let again = author.admit(&Wish::one(2, 10));
    let verdicts = ledger.record(&[again]).unwrap();
    assert!(matches!(verdicts[0], Verdict::KeyTaken(seen) if seen.event == EventId(2)));

    let rejected = settle(State::Rejected, Cause::BadRequest);
    let mut release = author.answer(DeliveryId(2), OutcomeKind::Reject, rejected);
    release.release = Some(EventId(2));
    let again = author.admit(&Wish::one(2, 10));
    let (mut id, mut first) = (author.last.0, author.last.1);
    record(&mut *ledger, &[release, again]);
    let seen = reader.seen(&digest(2), NOON).unwrap().unwrap();
    assert_eq!((seen.event, seen.released), (id, false));

    // Who tries again is told which one came to nothing: the last one, over restarts too.
    for _ in 0..2 {
        let mut release = author.answer(first, OutcomeKind::Reject, rejected);
        release.release = Some(id);
        record(&mut *ledger, &[release]);
        drop((ledger, reader));
        let (opened, again, _) = start(subject, NOON);
        (ledger, reader) = opened;
        author.epoch = again.epoch;
        let seen = reader.seen(&digest(2), NOON).unwrap().unwrap();
        assert_eq!((seen.event, seen.released), (id, true));
        let end = NOON.plus(HOUR_MS);
        assert_eq!(reader.seen(&digest(2), end).unwrap(), None);
        let mut retry = author.admit(&Wish::one(2, 10));
        Arc::make_mut(retry.event.as_mut().unwrap()).retry_of = Some(id);
        record(&mut *ledger, &[retry]);
        let before = id;
        (id, first) = (author.last.0, author.last.1);
        assert_eq!(reader.event(id).unwrap().unwrap().retry_of, Some(before));
        let seen = reader.seen(&digest(2), NOON).unwrap().unwrap();
        assert_eq!((seen.event, seen.released), (id, false));
    }
    drop((ledger, reader));
    let ((mut ledger, reader), again, _) = start(subject, NOON);
    author.epoch = again.epoch;
    let seen = reader.seen(&digest(2), NOON).unwrap().unwrap();
    assert_eq!((seen.event, seen.first_delivery), (id, first));

    // A key that has expired is free, to the millisecond.
    author.now = NOON.plus(HOUR_MS - 1);
    let early = author.admit(&Wish::one(1, 10));
    let verdicts = ledger.record(&[early]).unwrap();
    assert!(matches!(verdicts[0], Verdict::KeyTaken(_)));
    author.now = NOON.plus(HOUR_MS);
    let late = author.admit(&Wish::one(1, 10));
    let late_id = author.last.0;
    record(&mut *ledger, &[late]);

    let now = author.now;
    drop((ledger, reader));
    let ((_ledger, reader), ..) = start(subject, now);
    assert_eq!(
        reader.seen(&digest(1), now).unwrap().unwrap().event,
        late_id
    );
    assert_eq!(reader.seen(&digest(1), now.plus(HOUR_MS)).unwrap(), None);
}

pub fn a_stale_epoch_is_fenced(subject: &mut dyn Subject) {
    let ((mut ledger, _), mut author, _) = start(subject, NOON);
    let first = author.admit(&Wish::one(1, 10));
    record(&mut *ledger, &[first]);
    drop(ledger);
    let ((mut ledger, reader), mut newer, unsettled) = start(subject, NOON);
    assert!(newer.epoch > author.epoch);
    assert_eq!(unsettled.len(), 1);
    let stale = [
        author.accept(DeliveryId(1)),
        author.admit(&Wish::one(2, 10)),
    ];
    let verdicts = ledger.record(&stale).unwrap();
    assert_eq!(verdicts, [Verdict::Fenced, Verdict::Fenced]);
    assert_eq!(reader.deliveries(&[DeliveryId(1)]).unwrap(), unsettled);
    let fresh = newer.accept(DeliveryId(1));
    record(&mut *ledger, &[fresh]);
}

pub fn only_what_is_unsettled_is_visited(subject: &mut dyn Subject) {
    let ((mut ledger, mut reader), mut author, _) = start(subject, NOON);
    for round in 0..3_u64 {
        let keys = 1_000 * round..1_000 * round + 700;
        let group: Vec<_> = keys
            .map(|key| author.admit(&Wish::one(key, key % 7)))
            .collect();
        record(&mut *ledger, &group);
        let all: Vec<_> = author.rows.keys().copied().collect();
        let accepted = all.iter().filter(|id| id.0 % 5 != round);
        let group: Vec<_> = accepted
            .filter(|id| author.rows[id].state == State::InFlight)
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .map(|id| author.accept(id))
            .collect();
        record(&mut *ledger, &group);
        if round % 2 == 0 {
            tend(&mut *ledger, author.now.plus(60_000));
        }
        let gone = settle(State::Rejected, Cause::Gone);
        let some = author
            .rows
            .values()
            .find(|row| row.state == State::InFlight);
        let id = some.unwrap().id;
        author.now = author.now.plus(5);
        let mut record_gone = author.answer(id, OutcomeKind::Gone, gone);
        let said = (round != 1).then(|| author.now.plus(-40 * DAY_MS));
        let since = date(&mut record_gone, said);
        record(&mut *ledger, &[record_gone]);
        let endpoint = author.rows[&id].endpoint;

        let last = (author.last, author.now);
        let expected = author.rows.values().filter(|row| !row.state.is_settled());
        let expected: Vec<Delivery> = expected.cloned().collect();
        drop((ledger, reader));
        let (mut again, new_reader) = subject.open();
        let mut visited = Vec::new();
        let recovery = again.recover(&mut |row| visited.push(row)).unwrap();
        assert_eq!(visited, expected);
        let found = (
            recovery.last_event,
            recovery.last_delivery,
            recovery.last_seq,
        );
        assert_eq!((found, recovery.last_at), last);
        assert!(recovery.retired.contains(&(endpoint, since)));
        author.epoch = recovery.epoch;
        (ledger, reader) = (again, new_reader);
    }
    let ids: Vec<_> = author.rows.keys().copied().collect();
    let rows: Vec<_> = author.rows.values().cloned().collect();
    assert_eq!(reader.deliveries(&ids).unwrap(), rows);
}

/// Has the provider say since when the address is gone, or not. Gives what counts.
fn date(record: &mut Record, said: Option<Time>) -> Time {
    let entry = &mut record.entries[0];
    let Fact::Answered { outcome, .. } = &mut entry.fact else {
        panic!("no answer: {:?}", entry.fact)
    };
    outcome.gone_since = said;
    outcome.gone_at(entry.at)
}

pub fn places_never_go_back(subject: &mut dyn Subject) {
    let ((mut ledger, _), mut author, _) = start(subject, NOON);
    let skipped = author.admit(&Wish::one(1, 10));
    let later = author.admit(&Wish::one(2, 10));
    record(&mut *ledger, &[later]);
    let verdicts = ledger.record(&[skipped]).unwrap();
    assert!(matches!(verdicts[0], Verdict::Conflict(_)));
    let mut moved = author.accept(DeliveryId(2));
    moved.entries[0].seq = Seq(3);
    let verdicts = ledger.record(&[moved]).unwrap();
    assert!(matches!(verdicts[0], Verdict::Conflict(_)));
}

pub fn days_and_clocks_may_do_what_they_like(subject: &mut dyn Subject) {
    let ((mut ledger, mut reader), mut author, _) = start(subject, NOON);
    let steps = [
        HOUR_MS,
        12 * HOUR_MS,
        -6 * HOUR_MS,
        9 * 366 * DAY_MS,
        DAY_MS,
        -12 * 366 * DAY_MS,
        2 * DAY_MS,
    ];
    let mut key = 0;
    for step in steps {
        // The engine's clock would not go back; a store must not depend on it.
        author.now = author.now.plus(step);
        let mut group = Vec::new();
        for _ in 0..20 {
            key += 1;
            let wish = Wish {
                targets: vec![(1, None), (key, None)],
                ..Wish::one(key, 1)
            };
            group.push(author.admit(&wish));
            // Midnight falls somewhere into the group.
            author.now = author.now.plus(HOUR_MS);
        }
        let old: Vec<_> = author
            .rows
            .values()
            .filter(|row| row.id.0 % 3 == 0)
            .collect();
        let old: Vec<_> = old
            .into_iter()
            .filter(|row| row.state == State::InFlight)
            .map(|row| row.id)
            .collect();
        for id in old {
            group.push(author.accept(id));
        }
        record(&mut *ledger, &group);
        tend(&mut *ledger, author.now);
    }
    for _ in 0..2 {
        let ids: Vec<_> = author.rows.keys().copied().collect();
        let rows: Vec<_> = author.rows.values().cloned().collect();
        assert_eq!(reader.deliveries(&ids).unwrap(), rows);
        for row in &rows {
            let history = reader.history(row).unwrap();
            assert_eq!(history.len(), row.version as usize);
            assert!(reader.payload(row.event).unwrap().is_some());
        }
        let query = Query {
            endpoint: Some(EndpointId(1)),
            limit: 13,
            ..Query::default()
        };
        let of_endpoint = rows
            .iter()
            .rev()
            .filter(|row| row.endpoint == EndpointId(1));
        let of_endpoint: Vec<_> = of_endpoint.cloned().collect();
        assert_eq!(list_all(&*reader, &query), of_endpoint);
        drop((ledger, reader));
        let (halves, again, unsettled) = start(subject, author.now);
        (ledger, reader) = halves;
        assert_eq!(again.last, author.last);
        let expected = rows.iter().filter(|row| !row.state.is_settled());
        assert_eq!(unsettled, expected.cloned().collect::<Vec<_>>());
    }
}

pub fn the_journal_is_in_order_over_all_days(subject: &mut dyn Subject) {
    let ((mut ledger, reader), mut author, _) = start(subject, NOON);
    let mut all = Vec::new();
    for day in 0..4_u64 {
        let mut group = Vec::new();
        for key in 0..30 {
            group.push(author.admit(&Wish::one(day * 100 + key, key)));
            let open = author
                .rows
                .values()
                .find(|row| row.state == State::InFlight);
            if key % 3 == 0 {
                let id = open.unwrap().id;
                group.push(author.accept(id));
            }
        }
        record(&mut *ledger, &group);
        all.extend(group.into_iter().flat_map(|record| record.entries));
        author.now = author.now.plus(DAY_MS);
    }
    let mut read = Vec::new();
    loop {
        let after = read.last().map_or(Seq(0), |entry: &Entry| entry.seq);
        let page = reader.journal(after, 17).unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 17);
        read.extend(page);
    }
    assert_eq!(read, all);
}

#[expect(
    clippy::too_many_lines,
    reason = "one table of questions and their answers"
)]
pub fn lists_find_what_matches(subject: &mut dyn Subject) {
    let ((mut ledger, reader), mut author, _) = start(subject, NOON);
    for key in 0..400_u64 {
        let wish = Wish {
            tenant: u32::try_from(key % 2).unwrap(),
            event_type: if key % 4 == 0 { "a.b" } else { "c" },
            targets: vec![(key % 5, None), (100 + key % 3, None)],
            guarantee: Guarantee::ALL[usize::try_from(key % 3).unwrap()],
            ..Wish::one(key, 0)
        };
        let admission = author.admit(&wish);
        record(&mut *ledger, &[admission]);
        author.now = author.now.plus(30 * 60_000);
        let id = author.last.1;
        let settled = match key % 7 {
            0 => Some((OutcomeKind::Reject, State::Rejected, Cause::NotFound)),
            1 => Some((OutcomeKind::Accept, State::Accepted, Cause::Accepted)),
            2 => Some((OutcomeKind::Unknown, State::Expired, Cause::ExpiredRetry)),
            _ => None,
        };
        if let Some((kind, state, cause)) = settled {
            let answered = author.answer(id, kind, settle(state, cause));
            record(&mut *ledger, &[answered]);
        }
    }
    let some = Query {
        limit: 25,
        ..Query::default()
    };
    let queries = [
        some.clone(),
        Query {
            tenant: Some(TenantId(1)),
            ..some.clone()
        },
        Query {
            state: Some(State::Accepted),
            ..some.clone()
        },
        Query {
            cause: Some(Cause::NotFound),
            ..some.clone()
        },
        Query {
            endpoint: Some(EndpointId(3)),
            ..some.clone()
        },
        Query {
            event_type: Some("a.b".into()),
            ..some.clone()
        },
        Query {
            event: Some(EventId(9)),
            limit: 1,
            ..some.clone()
        },
        Query {
            recipient: Some("person-2".into()),
            ..some.clone()
        },
        Query {
            dead_letters: true,
            ..some.clone()
        },
        Query {
            since: Some(NOON.plus(DAY_MS)),
            until: Some(NOON.plus(3 * DAY_MS)),
            ..some.clone()
        },
        Query {
            endpoint: Some(EndpointId(101)),
            dead_letters: true,
            limit: 3,
            ..some.clone()
        },
        Query {
            tenant: Some(TenantId(9)),
            ..some.clone()
        },
        Query {
            endpoint: Some(EndpointId(9_999)),
            ..some
        },
    ];
    for query in queries {
        let expected = author.rows.values().rev().filter(|row| {
            let event = reader.event(row.event).unwrap().unwrap();
            query.tenant.is_none_or(|of| of == row.tenant)
                && query.state.is_none_or(|of| of == row.state)
                && query.cause.is_none_or(|of| of == row.cause)
                && query.endpoint.is_none_or(|of| of == row.endpoint)
                && query.event.is_none_or(|of| of == row.event)
                && query
                    .event_type
                    .as_ref()
                    .is_none_or(|of| *of == event.event_type)
                && query
                    .recipient
                    .as_ref()
                    .is_none_or(|of| *of == event.recipient)
                && (!query.dead_letters || row.is_dead_letter())
                && query.since.is_none_or(|since| row.admitted_at >= since)
                && query.until.is_none_or(|until| row.admitted_at < until)
        });
        let expected: Vec<_> = expected.cloned().collect();
        assert_eq!(list_all(&*reader, &query), expected, "{query:?}");
    }
}

pub fn lanes_only_grow(subject: &mut dyn Subject) {
    let ((mut ledger, mut reader), mut author, _) = start(subject, NOON);
    for sequence in 1..=40_u64 {
        let wish = Wish {
            targets: vec![(10, Some((5, sequence))), (11, Some((u64::MAX, sequence)))],
            ..Wish::one(sequence, 10)
        };
        let admission = author.admit(&wish);
        record(&mut *ledger, &[admission]);
        if sequence > 3 {
            // Those three places back, in both lanes.
            let id = DeliveryId(author.last.1.0 - 7);
            let accepted = author.accept(id);
            record(&mut *ledger, &[accepted]);
        }
        if sequence % 8 == 0 {
            author.now = author.now.plus(10_000);
            tend(&mut *ledger, author.now);
        }
        if sequence % 5 == 0 {
            drop((ledger, reader));
            let (halves, again, _) = start(subject, author.now);
            (ledger, reader) = halves;
            author.epoch = again.epoch;
        }
        let counter = reader.lane(EndpointId(10), OrderingKey(5)).unwrap();
        let accepted = sequence.saturating_sub(3);
        assert_eq!(
            (counter.last_sequence, counter.last_accepted),
            (sequence, accepted)
        );
        let other = reader.lane(EndpointId(11), OrderingKey(u64::MAX)).unwrap();
        assert_eq!((other.last_sequence, other.last_accepted), (sequence, 0));
    }
}
