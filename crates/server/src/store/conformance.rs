//! The conformance suite: what every store must do, as functions over a [`Subject`].
//!
//! A store is done when all of [`ALL`] hold for it and [`compare`] finds no difference between it
//! and the model over random operations.
//!
//! Absent here: what only one kind of store can do, such as losing power or running out of disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::event::{Event, LaneCounter};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, Epoch, EventId, KeyDigest, OrderingKey,
    Partition, PolicyId, Seq, TenantId, Ticket,
};
use postrider_core::ledger::{Admitted, Delivery, Entry, Fact, Lane, Next, Record, State, apply};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::Guarantee;
use postrider_core::time::{DAY_MS, HOUR_MS, Time};

use super::{Ledger, Query, Reader, Recovery, Verdict};

/// Both halves of an open store.
pub type Halves = (Box<dyn Ledger>, Arc<dyn Reader>);

/// A store that can be opened again: whatever was recorded through halves that were dropped since
/// is there.
pub trait Subject {
    /// Opens it.
    fn open(&mut self) -> Halves;
}

/// Noon of some day.
pub const NOON: Time = Time(20_000 * DAY_MS + 12 * HOUR_MS);

/// All checks, by name.
pub const ALL: &[(&str, fn(&mut dyn Subject))] = &[
    ("what is admitted is found", what_is_admitted_is_found),
    (
        "a refused record leaves no trace",
        a_refused_record_leaves_no_trace,
    ),
    (
        "keys are unique until they are free",
        keys_are_unique_until_they_are_free,
    ),
    ("a stale epoch is fenced", a_stale_epoch_is_fenced),
    (
        "only what is unsettled is visited",
        only_what_is_unsettled_is_visited,
    ),
    ("places never go back", places_never_go_back),
    (
        "days and clocks may do what they like",
        days_and_clocks_may_do_what_they_like,
    ),
    (
        "the journal is in order over all days",
        the_journal_is_in_order_over_all_days,
    ),
    ("lists find what matches", lists_find_what_matches),
    ("lanes only grow", lanes_only_grow),
];

/// Writes records as the engine would: assigns ids and places, and keeps the rows.
pub struct Author {
    /// The time of what is written next.
    pub now: Time,
    /// The epoch it writes under.
    pub epoch: Epoch,
    /// What was recorded last.
    pub last: (EventId, DeliveryId, Seq),
    /// Rows as they should be.
    pub rows: BTreeMap<DeliveryId, Delivery>,
    ticket: u64,
}

/// What an event is to be like.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Digest of its key, spelled as a number.
    pub key: u64,
    /// Whose.
    pub tenant: u32,
    /// Event type.
    pub event_type: &'static str,
    /// Where to, and in which lane at which place.
    pub targets: Vec<(u64, Option<(u64, u64)>)>,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Open the first attempt in the same record.
    pub open: bool,
    /// Bytes of its payload.
    pub payload: usize,
}

impl Wish {
    /// One delivery to `endpoint` under `key`, opened at once.
    #[must_use]
    pub fn one(key: u64, endpoint: u64) -> Wish {
        Wish {
            key,
            tenant: 1,
            event_type: "order.paid",
            targets: vec![(endpoint, None)],
            guarantee: Guarantee::AtLeastOnce,
            open: true,
            payload: 300,
        }
    }
}

impl Author {
    /// Goes on where a recovery says.
    #[must_use]
    pub fn after(recovery: &Recovery, now: Time) -> Author {
        Author {
            now: now.max(recovery.last_at),
            epoch: recovery.epoch,
            last: (
                recovery.last_event,
                recovery.last_delivery,
                recovery.last_seq,
            ),
            rows: BTreeMap::new(),
            ticket: 0,
        }
    }

    /// A record that admits an event.
    pub fn admit(&mut self, wish: &Wish) -> Record {
        let event_id = EventId(self.last.0.0 + 1);
        let first = DeliveryId(self.last.1.0 + 1);
        let mut entries = Vec::new();
        for (&(endpoint, lane), id) in wish.targets.iter().zip(first.0..) {
            let lane = lane.map(|(key, sequence)| Lane {
                key: OrderingKey(key),
                sequence,
            });
            let admitted = Fact::Admitted(Box::new(Admitted {
                correlation: CorrelationId(u128::from(id) << 64 | 77),
                event: event_id,
                tenant: TenantId(wish.tenant),
                endpoint: EndpointId(endpoint),
                policy: PolicyId(1),
                guarantee: wish.guarantee,
                due_at: self.now,
                expires_at: self.now.plus(HOUR_MS),
                lane,
            }));
            entries.push(self.entry(DeliveryId(id), admitted));
            if wish.open {
                entries.push(self.entry(DeliveryId(id), opened(1)));
            }
        }
        self.last.0 = event_id;
        self.last.1.0 += wish.targets.len() as u64;
        let event = Event {
            id: event_id,
            uuid: u128::from(event_id.0) << 64 | 99,
            tenant: TenantId(wish.tenant),
            key_digest: digest(wish.key),
            body_digest: BodyDigest([3; 16]),
            business_id: format!("business-{}", wish.key).into(),
            event_type: wish.event_type.into(),
            version: 1,
            recipient: format!("person-{}", wish.key % 3).into(),
            ordering_key: "".into(),
            traceparent: "".into(),
            content_type: "application/json".into(),
            admitted_at: self.now,
            key_expires_at: self.now.plus(HOUR_MS),
            first_delivery: first,
            deliveries: u32::try_from(wish.targets.len()).unwrap(),
            payload: payload(event_id, wish.payload),
        };
        let mut record = self.record(entries);
        record.event = Some(Arc::new(event));
        record
    }

    /// A record with one more entry for a delivery.
    pub fn fact(&mut self, id: DeliveryId, fact: Fact) -> Record {
        let entry = self.entry(id, fact);
        self.record(vec![entry])
    }

    /// A record that ends an attempt.
    pub fn answer(&mut self, id: DeliveryId, kind: OutcomeKind, next: Next) -> Record {
        let attempt = self.rows[&id].attempt;
        let outcome = Box::new(Outcome {
            http_status: 200,
            latency_ms: 12,
            ..Outcome::bare(kind, Cause::Accepted)
        });
        self.fact(
            id,
            Fact::Answered {
                attempt,
                outcome,
                next,
            },
        )
    }

    /// A record that hands a delivery over.
    pub fn accept(&mut self, id: DeliveryId) -> Record {
        self.answer(
            id,
            OutcomeKind::Accept,
            settle(State::Accepted, Cause::Accepted),
        )
    }

    /// The next entry of a delivery; its row moves.
    pub fn entry(&mut self, delivery: DeliveryId, fact: Fact) -> Entry {
        self.last.2.0 += 1;
        let row = self.rows.get(&delivery);
        let entry = Entry {
            seq: self.last.2,
            delivery,
            version: row.map_or(0, |row| row.version),
            at: self.now,
            previous: row.map_or(Seq(0), |row| row.last_seq),
            fact,
        };
        let mut row = self.rows.remove(&delivery);
        // Some tests write what does not fit, on purpose: then the row stays.
        let _ = apply(&mut row, &entry);
        if let Some(row) = row {
            self.rows.insert(delivery, row);
        }
        entry
    }

    /// A record of these entries.
    pub fn record(&mut self, entries: Vec<Entry>) -> Record {
        self.ticket += 1;
        Record {
            ticket: Ticket(self.ticket),
            event: None,
            fences: vec![(Partition(0), self.epoch)],
            entries,
            release: None,
        }
    }
}

/// An attempt is opened.
#[must_use]
pub fn opened(attempt: u32) -> Fact {
    Fact::Opened {
        attempt,
        policy: PolicyId(1),
    }
}

/// A settlement.
#[must_use]
pub fn settle(state: State, cause: Cause) -> Next {
    Next::Settle { state, cause }
}

/// A key, spelled as a number.
#[must_use]
pub fn digest(key: u64) -> KeyDigest {
    let mut digest = [7; 16];
    digest[..8].copy_from_slice(&key.to_le_bytes());
    KeyDigest(digest)
}

/// The payload of an event.
#[must_use]
pub fn payload(event: EventId, length: usize) -> Bytes {
    let bytes = event.0.to_le_bytes().into_iter().cycle();
    bytes.take(length).collect::<Vec<u8>>().into()
}

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

fn what_is_admitted_is_found(subject: &mut dyn Subject) {
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

fn a_refused_record_leaves_no_trace(subject: &mut dyn Subject) {
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

fn keys_are_unique_until_they_are_free(subject: &mut dyn Subject) {
    let ((mut ledger, reader), mut author, _) = start(subject, NOON);
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
    let (id, first) = (author.last.0, author.last.1);
    record(&mut *ledger, &[release, again]);
    assert_eq!(reader.seen(&digest(2), NOON).unwrap().unwrap().event, id);
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

fn a_stale_epoch_is_fenced(subject: &mut dyn Subject) {
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

fn only_what_is_unsettled_is_visited(subject: &mut dyn Subject) {
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
        let record_gone = author.answer(id, OutcomeKind::Gone, gone);
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
        assert!(recovery.retired.contains(&(endpoint, author.now)));
        author.epoch = recovery.epoch;
        (ledger, reader) = (again, new_reader);
    }
    let ids: Vec<_> = author.rows.keys().copied().collect();
    let rows: Vec<_> = author.rows.values().cloned().collect();
    assert_eq!(reader.deliveries(&ids).unwrap(), rows);
}

fn places_never_go_back(subject: &mut dyn Subject) {
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

fn days_and_clocks_may_do_what_they_like(subject: &mut dyn Subject) {
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

fn the_journal_is_in_order_over_all_days(subject: &mut dyn Subject) {
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

fn lists_find_what_matches(subject: &mut dyn Subject) {
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

fn lanes_only_grow(subject: &mut dyn Subject) {
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
        let accepted = if sequence > 3 { sequence - 3 } else { 0 };
        assert_eq!(
            (counter.last_sequence, counter.last_accepted),
            (sequence, accepted)
        );
        let other = reader.lane(EndpointId(11), OrderingKey(u64::MAX)).unwrap();
        assert_eq!((other.last_sequence, other.last_accepted), (sequence, 0));
    }
}
