//! Telling what was never there from what is gone.
//!
//! A damaged page can hide a row without breaking anything else: a look-up then says that there is
//! none, and that would be a wrong answer. So where an id in a file's range is not found, its
//! neighbours are asked. Every event says which deliveries it has, and every delivery says of which
//! event it is; a true gap, which a refused record leaves, is one that neither side claims.
//!
//! Absent here: rows that are there. The price is only paid for what is not.

use postrider_core::id::{DeliveryId, EventId};
use postrider_core::time::Time;
use rusqlite::{Connection, Params};

use super::Retention;
use super::day::find_event;
use super::reader::Trouble;
use super::row::{self, DeliveryRow, EventRow};

/// Events between two neighbours that are looked at: more were never refused in a row at one place.
const EVENTS_MAX: u32 = 1_024;

/// Checks that no event claims the delivery, which was not found.
pub(super) fn of_delivery(connection: &Connection, id: DeliveryId) -> Result<(), Trouble> {
    let key = [id.0.cast_signed()];
    let before = delivery(
        connection,
        "SELECT * FROM delivery WHERE id < ?1 ORDER BY id DESC LIMIT 1",
        key,
    )?;
    let after = delivery(
        connection,
        "SELECT * FROM delivery WHERE id > ?1 ORDER BY id LIMIT 1",
        key,
    )?;
    let gone = || Trouble::Damaged(format!("delivery {id} is not where it was"));
    let in_order = before.as_ref().is_none_or(|row| row.delivery.id < id)
        && after.as_ref().is_none_or(|row| row.delivery.id > id);
    if !in_order {
        return Err(gone());
    }
    let from = before.map_or(EventId(0), |row| row.delivery.event);
    let until = after.map_or(EventId(u64::MAX >> 1), |row| row.delivery.event);
    let mut statement = connection
        .prepare_cached("SELECT * FROM event WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT ?3")?;
    let range = (from.0.cast_signed(), until.0.cast_signed(), EVENTS_MAX);
    let mut rows = statement.query(range)?;
    while let Some(row) = rows.next()? {
        if claims(&row::read_event(row)?, id) {
            return Err(gone());
        }
    }
    // The neighbours are there, so their events must be.
    for event in [from, until] {
        let known = event != EventId(0) && event != EventId(u64::MAX >> 1);
        if known && find_event(connection, event)?.is_none() {
            return Err(Trouble::Damaged(format!("event {event} is not there")));
        }
    }
    Ok(())
}

/// Checks that no delivery claims to be of the event, which was not found.
pub(super) fn of_event(connection: &Connection, id: EventId) -> Result<(), Trouble> {
    let key = [id.0.cast_signed()];
    let before = event(
        connection,
        "SELECT * FROM event WHERE id < ?1 ORDER BY id DESC LIMIT 1",
        key,
    )?;
    let after = event(
        connection,
        "SELECT * FROM event WHERE id > ?1 ORDER BY id LIMIT 1",
        key,
    )?;
    let gone = || Trouble::Damaged(format!("event {id} is not where it was"));
    let in_order = before.as_ref().is_none_or(|row| row.event.id < id)
        && after.as_ref().is_none_or(|row| row.event.id > id);
    let end = before.map_or(0, |row| end(&row));
    let claimant = delivery(
        connection,
        "SELECT * FROM delivery WHERE id >= ?1 ORDER BY id LIMIT 1",
        [end.cast_signed()],
    )?;
    match claimant.filter(|row| row.delivery.event == id) {
        None if in_order => Ok(()),
        _ => Err(gone()),
    }
}

/// Checks that the payload of an event, which was not found, may have been deleted by `seen_at`.
pub(super) fn of_payload(
    connection: &Connection,
    id: EventId,
    retention: &Retention,
    seen_at: Time,
) -> Result<(), Trouble> {
    let Some(row) = find_event(connection, id)? else {
        return of_event(connection, id);
    };
    let mut statement = connection
        .prepare_cached("SELECT * FROM delivery WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let range = (
        row.event.first_delivery.0.cast_signed(),
        end(&row).cast_signed(),
    );
    let mut rows = statement.query(range)?;
    while let Some(row) = rows.next()? {
        if !retention.is_due(&row::read_delivery(row)?.delivery, seen_at) {
            let what = format!("the payload of event {id} is not where it was");
            return Err(Trouble::Damaged(what));
        }
    }
    Ok(())
}

fn claims(row: &EventRow, id: DeliveryId) -> bool {
    (row.event.first_delivery.0..end(row)).contains(&id.0)
}

/// The first delivery behind an event's own.
fn end(row: &EventRow) -> u64 {
    row.event.first_delivery.0 + u64::from(row.event.deliveries)
}

fn delivery(
    connection: &Connection,
    sql: &str,
    key: impl Params,
) -> Result<Option<DeliveryRow>, Trouble> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(key)?;
    Ok(rows.next()?.map(row::read_delivery).transpose()?)
}

fn event(
    connection: &Connection,
    sql: &str,
    key: impl Params,
) -> Result<Option<EventRow>, Trouble> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(key)?;
    Ok(rows.next()?.map(row::read_event).transpose()?)
}
