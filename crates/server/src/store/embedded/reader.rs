//! Questions, from any thread, on connections that only read.
//!
//! Every row and every journal segment is held against its checksum, so that what
//! was changed behind the store's back is reported and never handed out. A page of a list reads at
//! most [`SCAN_ROWS_MAX`] rows: a search for what is rare comes in short, even empty pages.
//!
//! Absent here: changing anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postrider_core::Bytes;
use postrider_core::event::{Event, LaneCounter, Seen};
use postrider_core::id::{DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, Seq};
use postrider_core::ledger::{Delivery, Entry};
use postrider_core::time::Time;
use rusqlite::Connection;

use super::day::{find_delivery, find_event, find_payload};
use super::files::{self, LedgerFile};
use super::group::{held, holds};
use super::journal::{self, JournalError};
use super::keys::KeysError;
use super::row::{self, DeliveryRow, EventRow, RowError};
use super::{Shared, absence};
use crate::store::{Page, Query, ReadError, Reader};

/// Rows that one page of a list reads at the most.
pub const SCAN_ROWS_MAX: usize = 10_000;
/// Rows of a page at the most, whatever is asked for.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// The reading half of the embedded store.
pub struct EmbeddedReader {
    shared: Arc<Shared>,
}

impl EmbeddedReader {
    pub(super) fn new(shared: Arc<Shared>) -> EmbeddedReader {
        EmbeddedReader { shared }
    }

    /// Figures for the metrics, live.
    #[must_use]
    pub fn stats(&self) -> &super::StoreStats {
        &self.shared.stats
    }

    /// Reads `index.db`.
    fn index<T, E>(&self, read: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, ReadError>
    where
        Trouble: From<E>,
    {
        self.shared.index.read(|connection| {
            read(connection).map_err(|error| Trouble::from(error).in_file(super::INDEX_FILE))
        })
    }

    fn known(&self, id: DeliveryId) -> bool {
        id.0 <= self.shared.last_delivery.load(Ordering::Acquire)
    }
}

impl Reader for EmbeddedReader {
    fn seen(&self, key: &KeyDigest, now: Time) -> Result<Option<Seen>, ReadError> {
        let candidates = self.index(|index| self.shared.finder.find(index, key, now))?;
        let files = self.shared.files.load();
        let mut freed: Option<Seen> = None;
        for id in candidates {
            // A file that was purged held no key that counts any more.
            let Some(file) = files::of_event(&files, id) else {
                continue;
            };
            let row = file.read(|connection| event_row(file, connection, id))?;
            let Some(row) = row else {
                let what = format!("event {id}, which has a key, is not there");
                return Err(Trouble::Damaged(what).of(file));
            };
            if holds(&row, key, now) {
                return Ok(Some(row.event.seen()));
            }
            if held(&row, key, now) && freed.is_none_or(|seen| seen.event < id) {
                freed = Some(Seen {
                    released: true,
                    ..row.event.seen()
                });
            }
        }
        Ok(freed)
    }

    fn lane(&self, endpoint: EndpointId, key: OrderingKey) -> Result<LaneCounter, ReadError> {
        self.index(|index| self.shared.lanes.lane(index, (endpoint, key)))
    }

    fn deliveries(&self, ids: &[DeliveryId]) -> Result<Vec<Delivery>, ReadError> {
        let mut ids: Vec<_> = ids.iter().copied().filter(|&id| self.known(id)).collect();
        ids.sort_unstable();
        ids.dedup();
        let files = self.shared.files.load();
        let mut found = Vec::with_capacity(ids.len());
        for of_file in ids.chunk_by(|a, b| number_of(&files, *a) == number_of(&files, *b)) {
            let Some(file) = files::of_delivery(&files, of_file[0]) else {
                continue;
            };
            file.read(|connection| {
                for &id in of_file {
                    if let Some(row) = delivery_row(file, connection, id)? {
                        found.push(row.delivery);
                    }
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn event(&self, id: EventId) -> Result<Option<Event>, ReadError> {
        if id.0 > self.shared.last_event.load(Ordering::Acquire) {
            return Ok(None);
        }
        let files = self.shared.files.load();
        let Some(file) = files::of_event(&files, id) else {
            return Ok(None);
        };
        let row = file.read(|connection| event_row(file, connection, id))?;
        Ok(row.map(|row| row.event))
    }

    fn payload(&self, id: EventId) -> Result<Option<Bytes>, ReadError> {
        if id.0 > self.shared.last_event.load(Ordering::Acquire) {
            return Ok(None);
        }
        let files = self.shared.files.load();
        let Some(file) = files::of_event(&files, id) else {
            return Ok(None);
        };
        file.read(|connection| {
            let find = || match find_payload(connection, id)? {
                None => {
                    let seen_at = Time(self.shared.seen_at.load(Ordering::Acquire));
                    let retention = &self.shared.retention;
                    absence::of_payload(connection, id, retention, seen_at).map(|()| None)
                }
                found => Ok(found),
            };
            let Some(sealed) = find().map_err(|trouble: Trouble| trouble.of(file))? else {
                return Ok(None);
            };
            let place = id.0.to_le_bytes();
            match file.cipher.open(&place, &sealed) {
                Ok(payload) => Ok(Some(Bytes::from(payload))),
                Err(error) => {
                    Err(Trouble::Damaged(format!("payload of event {id}: {error}")).of(file))
                }
            }
        })
    }

    fn history(&self, delivery: &Delivery) -> Result<Vec<Entry>, ReadError> {
        let files = self.shared.files.load();
        let Some(file) = files::of_delivery(&files, delivery.id) else {
            return Ok(Vec::new());
        };
        file.read(|connection| {
            journal::history(connection, delivery.id, delivery.last_seq)
                .map_err(|error| Trouble::from(error).of(file))
        })
    }

    fn list(&self, query: &Query) -> Result<Page, ReadError> {
        let files = self.shared.files.load();
        let mut scan = Scan::new(query);
        match (query.event, query.endpoint) {
            (Some(event), _) => self.list_event(event, query, &files, &mut scan)?,
            (None, Some(endpoint)) => self.list_chain(endpoint, query, &files, &mut scan)?,
            (None, None) => self.list_all(query, &files, &mut scan)?,
        }
        Ok(scan.page)
    }

    fn journal(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let until = Seq(self.shared.durable.load(Ordering::Acquire));
        let files = self.shared.files.load();
        let mut all = Vec::new();
        for file in files.iter().filter(|file| file.last_seq() > after) {
            let mut entries = file.read(|connection| {
                journal::entries_after(connection, file, after, until, limit)
                    .map_err(|error| Trouble::from(error).of(file))
            })?;
            all.append(&mut entries);
        }
        // What was settled later stands in the file of its admission.
        all.sort_unstable_by_key(|entry| entry.seq);
        all.truncate(limit);
        Ok(all)
    }
}

/// A page in the making.
struct Scan<'q> {
    query: &'q Query,
    limit: usize,
    rows_left: usize,
    page: Page,
    /// Nothing further can match.
    done: bool,
}

impl<'q> Scan<'q> {
    fn new(query: &'q Query) -> Scan<'q> {
        Scan {
            query,
            limit: query.limit.min(PAGE_ROWS_MAX),
            rows_left: SCAN_ROWS_MAX,
            page: Page::default(),
            done: query.limit == 0,
        }
    }

    /// Takes a row into account; rows come newest first. Returns whether to go on.
    fn take(
        &mut self,
        file: &LedgerFile,
        connection: &Connection,
        delivery: Delivery,
    ) -> Result<bool, ReadError> {
        let id = delivery.id;
        // Ids ascend with the moment of admission, so nothing older matches either.
        if self
            .query
            .since
            .is_some_and(|since| delivery.admitted_at < since)
        {
            self.done = true;
            return Ok(false);
        }
        if matches(self.query, &delivery) && self.event_matches(file, connection, &delivery)? {
            self.page.deliveries.push(delivery);
        }
        self.rows_left -= 1;
        self.done = self.page.deliveries.len() >= self.limit || self.rows_left == 0;
        if self.done {
            self.page.next = Some(id);
        }
        Ok(!self.done)
    }

    fn event_matches(
        &self,
        file: &LedgerFile,
        connection: &Connection,
        delivery: &Delivery,
    ) -> Result<bool, ReadError> {
        let Query {
            event_type,
            recipient,
            ..
        } = self.query;
        if event_type.is_none() && recipient.is_none() {
            return Ok(true);
        }
        let Some(row) = event_row(file, connection, delivery.event)? else {
            let what = format!("event {} is not there", delivery.event);
            return Err(Trouble::Damaged(what).of(file));
        };
        let event = row.event;
        Ok(event_type.as_ref().is_none_or(|of| *of == event.event_type)
            && recipient.as_ref().is_none_or(|of| *of == event.recipient))
    }
}

/// Whether everything that a row alone can tell holds.
fn matches(query: &Query, delivery: &Delivery) -> bool {
    query.tenant.is_none_or(|of| of == delivery.tenant)
        && query.state.is_none_or(|of| of == delivery.state)
        && query.cause.is_none_or(|of| of == delivery.cause)
        && query.endpoint.is_none_or(|of| of == delivery.endpoint)
        && query.event.is_none_or(|of| of == delivery.event)
        && (!query.dead_letters || delivery.is_dead_letter())
        && query
            .since
            .is_none_or(|since| delivery.admitted_at >= since)
        && query.until.is_none_or(|until| delivery.admitted_at < until)
}

impl EmbeddedReader {
    /// The deliveries of one event.
    fn list_event(
        &self,
        id: EventId,
        query: &Query,
        files: &[Arc<LedgerFile>],
        scan: &mut Scan<'_>,
    ) -> Result<(), ReadError> {
        let (Some(event), Some(file)) = (self.event(id)?, files::of_event(files, id)) else {
            return Ok(());
        };
        let first = event.first_delivery.0;
        let end = query.before.map_or(u64::MAX, |before| before.0);
        let end = end.min(first + u64::from(event.deliveries));
        self.scan_file(file, first, end, scan)
    }

    /// The deliveries of one endpoint, along its chain.
    fn list_chain(
        &self,
        endpoint: EndpointId,
        query: &Query,
        files: &[Arc<LedgerFile>],
        scan: &mut Scan<'_>,
    ) -> Result<(), ReadError> {
        let mut id = match query.before {
            Some(before) => self.chain_before(endpoint, before, files)?,
            None => self.index(|index| self.shared.lanes.head(index, endpoint))?,
        };
        while id > DeliveryId(0) && !scan.done {
            let Some(file) = files::of_delivery(files, id) else {
                break;
            };
            let row = file.read(|connection| {
                let row = delivery_row(file, connection, id)?
                    .filter(|row| row.delivery.endpoint == endpoint && row.back < id)
                    .ok_or_else(|| {
                        Trouble::Damaged(format!("the chain of endpoint {endpoint} at {id}"))
                            .of(file)
                    })?;
                scan.take(file, connection, row.delivery)?;
                Ok(row.back)
            })?;
            id = row;
        }
        if id == DeliveryId(0) {
            scan.page.next = None;
        }
        Ok(())
    }

    /// The newest delivery of an endpoint that is older than `before`.
    fn chain_before(
        &self,
        endpoint: EndpointId,
        before: DeliveryId,
        files: &[Arc<LedgerFile>],
    ) -> Result<DeliveryId, ReadError> {
        // A page ends at a row of the chain, so that is where the next one goes on.
        if let Some(file) = files::of_delivery(files, before).filter(|_| self.known(before)) {
            let row = file.read(|connection| delivery_row(file, connection, before))?;
            if let Some(row) = row.filter(|row| row.delivery.endpoint == endpoint) {
                return Ok(row.back);
            }
        }
        let mut id = self.index(|index| self.shared.lanes.head(index, endpoint))?;
        while id >= before {
            let Some(file) = files::of_delivery(files, id) else {
                return Ok(DeliveryId(0));
            };
            let row = file.read(|connection| delivery_row(file, connection, id))?;
            id = row.map_or(DeliveryId(0), |row| row.back);
        }
        Ok(id)
    }

    /// All deliveries, newest first.
    fn list_all(
        &self,
        query: &Query,
        files: &[Arc<LedgerFile>],
        scan: &mut Scan<'_>,
    ) -> Result<(), ReadError> {
        let mut end = self.shared.last_delivery.load(Ordering::Acquire) + 1;
        end = query.before.map_or(end, |before| before.0.min(end));
        for file in files.iter().rev() {
            if scan.done {
                break;
            }
            if file.first_delivery.0 >= end {
                continue;
            }
            let from = file.first_delivery.0;
            let until = match query.until {
                Some(until) => file.read(|c| admitted_from(file, c, until, from, end))?,
                None => end,
            };
            self.scan_file(file, from, until, scan)?;
            end = from;
        }
        Ok(())
    }

    /// Rows with ids in `from..until`, newest first.
    fn scan_file(
        &self,
        file: &LedgerFile,
        from: u64,
        until: u64,
        scan: &mut Scan<'_>,
    ) -> Result<(), ReadError> {
        if scan.done {
            return Ok(());
        }
        file.read(|connection| {
            let mut run = || -> Result<(), Trouble> {
                let mut statement = connection.prepare_cached(
                    "SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id DESC",
                )?;
                let until = until.min(i64::MAX as u64);
                let mut rows = statement.query((from.cast_signed(), until.cast_signed()))?;
                while let Some(row) = rows.next()? {
                    let row = row::read_delivery(row)?;
                    if !scan
                        .take(file, connection, row.delivery)
                        .map_err(Trouble::Read)?
                    {
                        break;
                    }
                }
                Ok(())
            };
            run().map_err(|trouble| trouble.of(file))
        })
    }
}

/// The first id in `from..until` that was admitted at or after `moment`; `until` if there is none.
fn admitted_from(
    file: &LedgerFile,
    connection: &Connection,
    moment: Time,
    from: u64,
    until: u64,
) -> Result<u64, ReadError> {
    let search = || -> Result<u64, Trouble> {
        let mut statement = connection
            .prepare_cached("SELECT * FROM delivery WHERE id >= ?1 ORDER BY id LIMIT 1")?;
        let (mut low, mut high) = (from, until);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut rows = statement.query([middle.cast_signed()])?;
            match rows.next()?.map(row::read_delivery).transpose()? {
                Some(row) if row.delivery.admitted_at < moment => low = row.delivery.id.0 + 1,
                _ => high = middle,
            }
        }
        Ok(low.min(until))
    };
    search().map_err(|trouble| trouble.of(file))
}

fn number_of(files: &[Arc<LedgerFile>], id: DeliveryId) -> Option<u32> {
    files::of_delivery(files, id).map(|file| file.number)
}

/// A delivery's row of this file.
fn delivery_row(
    file: &LedgerFile,
    connection: &Connection,
    id: DeliveryId,
) -> Result<Option<DeliveryRow>, ReadError> {
    let find = || match find_delivery(connection, id)? {
        None => absence::of_delivery(connection, id).map(|()| None),
        found => Ok(found),
    };
    find().map_err(|trouble| trouble.of(file))
}

/// An event's row of this file.
pub(super) fn event_row(
    file: &LedgerFile,
    connection: &Connection,
    id: EventId,
) -> Result<Option<EventRow>, ReadError> {
    let find = || match find_event(connection, id)? {
        None => absence::of_event(connection, id).map(|()| None),
        found => Ok(found),
    };
    find().map_err(|trouble| trouble.of(file))
}

/// Why a question could not be answered, before it is known by which file.
pub(super) enum Trouble {
    /// Something does not add up.
    Damaged(String),
    /// SQLite's own word.
    Sqlite(rusqlite::Error),
    /// It is told already.
    Read(ReadError),
}

impl Trouble {
    fn of(self, file: &LedgerFile) -> ReadError {
        self.in_file(&file.name())
    }

    fn in_file(self, file: &str) -> ReadError {
        match self {
            Trouble::Damaged(what) => ReadError::Damaged {
                file: file.into(),
                what,
            },
            Trouble::Sqlite(error) => match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                | None => ReadError::Damaged {
                    file: file.into(),
                    what: error.to_string(),
                },
                Some(_) => ReadError::Unavailable(format!("{file}: {error}")),
            },
            Trouble::Read(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::Sqlite(error)
    }
}

impl From<RowError> for Trouble {
    fn from(error: RowError) -> Trouble {
        match error {
            RowError::Sqlite(error) => Trouble::Sqlite(error),
            damaged => Trouble::Damaged(damaged.to_string()),
        }
    }
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Trouble {
        match error {
            JournalError::Sqlite(error) => Trouble::Sqlite(error),
            damaged => Trouble::Damaged(damaged.to_string()),
        }
    }
}

impl From<KeysError> for Trouble {
    fn from(error: KeysError) -> Trouble {
        match error {
            KeysError::Sqlite(error) => Trouble::Sqlite(error),
            damaged => Trouble::Damaged(damaged.to_string()),
        }
    }
}
