//! Rows of a ledger file and their explicit conversion to and from the core's values.
//!
//! Every row carries a checksum (CRC-32C) over all of its columns in the order of the table, and is
//! checked whenever it is read: a row that was changed behind the store's back is an error, never
//! an answer. Unsigned 64-bit numbers are stored as the signed number with the same bits. A row's
//! length hardly changes when it is settled, so pages stay as full as appending left them.
//!
//! Absent here: which file a row is in.

use std::sync::LazyLock;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::{Event, Seen, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, PolicyId,
    Seq, TenantId,
};
use postrider_core::ledger::{Delivery, Lane, State};
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;
use rusqlite::{CachedStatement, Row, params};

use super::bulk::{Binder, Insert};

/// All columns of a delivery, in order.
pub const DELIVERY_COLUMNS: &str = "id, correlation, event, tenant, endpoint, policy, guarantee, \
    channel, state, cause, version, attempt, due_at, expires_at, admitted_at, settled_at, \
    lane_key, lane_sequence, flags, last_http_status, last_seq, back, sum";

/// Moves a delivery, guarded by the version it had; see [`update_delivery`].
pub const DELIVERY_UPDATE: &str = "UPDATE delivery SET policy = ?3, state = ?4, cause = ?5, \
    version = ?6, attempt = ?7, due_at = ?8, settled_at = ?9, flags = ?10, \
    last_http_status = ?11, last_seq = ?12, sum = ?13 WHERE id = ?1 AND version = ?2";

/// One delivery by id.
pub const DELIVERY_BY_ID: &str = "SELECT * FROM delivery WHERE id = ?1";

/// One event by id.
pub const EVENT_BY_ID: &str = "SELECT * FROM event WHERE id = ?1";

/// A row does not add up.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Its checksum is another, or a column holds what it cannot hold.
    #[error("{table} {id} does not match its checksum")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which row.
        id: u64,
    },
    /// SQLite's own word.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// A delivery's row: the delivery, and what the store keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The row.
    pub delivery: Delivery,
    /// The delivery before it at the same endpoint, 0 for none.
    pub back: DeliveryId,
}

/// An event's row: the event without its payload, and what the store keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The event, with an empty payload.
    pub event: Event,
    /// Its key was freed.
    pub key_released: bool,
}

impl EventRow {
    /// What is remembered of the event under its key.
    #[must_use]
    pub fn seen(&self) -> Seen {
        seen_of(&self.event)
    }
}

/// What is remembered of an event under its key.
#[must_use]
pub fn seen_of(event: &Event) -> Seen {
    Seen {
        event: event.id,
        uuid: event.uuid,
        body_digest: event.body_digest,
        key_expires_at: event.key_expires_at,
        first_delivery: event.first_delivery,
        deliveries: event.deliveries,
    }
}

/// Bytes of a row that are gathered before they are summed: what most rows come to.
const SUM_BYTES: usize = 384;

/// A checksum in the making, over the columns of a row. It gathers them first: a checksum of many
/// short pieces costs many times that of one long one.
pub(super) struct Sum {
    sum: u32,
    gathered: [u8; SUM_BYTES],
    len: usize,
}

impl Sum {
    pub(super) fn new() -> Sum {
        Sum {
            sum: 0,
            gathered: [0; SUM_BYTES],
            len: 0,
        }
    }

    /// Adds numbers.
    pub(super) fn numbers<const N: usize>(mut self, numbers: [u64; N]) -> Sum {
        self.add(numbers.map(u64::to_le_bytes).as_flattened());
        self
    }

    /// Adds bytes, and how many they are.
    pub(super) fn bytes(self, bytes: &[u8]) -> Sum {
        let mut sum = self.numbers([bytes.len() as u64]);
        sum.add(bytes);
        sum
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() > SUM_BYTES {
            self.sum = crc32c::crc32c_append(self.sum, &self.gathered[..self.len]);
            self.len = 0;
        }
        match self.gathered.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.sum = crc32c::crc32c_append(self.sum, bytes),
        }
    }

    /// As it is stored: signed, so that it takes four bytes.
    pub(super) fn get(self) -> i32 {
        crc32c::crc32c_append(self.sum, &self.gathered[..self.len]).cast_signed()
    }
}

fn delivery_sum(delivery: &Delivery, back: DeliveryId) -> i32 {
    let (lane, key, sequence) = match delivery.lane {
        Some(lane) => (1, lane.key.0, lane.sequence),
        None => (0, 0, 0),
    };
    Sum::new()
        .numbers([
            delivery.id.0,
            delivery.correlation.0 as u64,
            (delivery.correlation.0 >> 64) as u64,
            delivery.event.0,
            u64::from(delivery.tenant.0),
            delivery.endpoint.0,
            u64::from(delivery.policy.0),
            delivery.guarantee as u64,
            delivery.channel as u64,
            delivery.state as u64,
            u64::from(delivery.cause.number()),
            u64::from(delivery.version),
            u64::from(delivery.attempt),
            delivery.due_at.0.cast_unsigned(),
            delivery.expires_at.0.cast_unsigned(),
            delivery.admitted_at.0.cast_unsigned(),
            settled_at(delivery).cast_unsigned(),
            lane,
            key,
            sequence,
            u64::from(flags(delivery)),
            u64::from(delivery.last_http_status),
            delivery.last_seq.0,
            back.0,
        ])
        .get()
}

/// What is little and seldom, in one number: see the table's own words on it.
fn flags(delivery: &Delivery) -> u32 {
    u32::from(delivery.may_have_acted)
        | u32::from(delivery.receipts) << 1
        | u32::from(delivery.unspent) << 9
}

fn settled_at(delivery: &Delivery) -> i64 {
    delivery.settled_at.unwrap_or(Time::NEVER).0
}

/// Inserts deliveries; see [`bind_delivery`].
pub static DELIVERY_INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::into("delivery", 23));

/// Binds all columns of a delivery.
///
/// # Errors
/// SQLite's.
pub fn bind_delivery(
    to: &mut Binder<'_, '_>,
    delivery: &Delivery,
    back: DeliveryId,
) -> rusqlite::Result<()> {
    to.put(delivery.id.0.cast_signed())?;
    to.put(&delivery.correlation.0.to_be_bytes()[..])?;
    to.put(delivery.event.0.cast_signed())?;
    to.put(delivery.tenant.0)?;
    to.put(delivery.endpoint.0.cast_signed())?;
    to.put(delivery.policy.0)?;
    to.put(delivery.guarantee as u8)?;
    to.put(delivery.channel as u8)?;
    to.put(delivery.state as u8)?;
    to.put(delivery.cause.number())?;
    to.put(delivery.version)?;
    to.put(delivery.attempt)?;
    to.put(delivery.due_at.0)?;
    to.put(delivery.expires_at.0)?;
    to.put(delivery.admitted_at.0)?;
    to.put(settled_at(delivery))?;
    to.put(delivery.lane.map(|lane| lane.key.0.cast_signed()))?;
    to.put(delivery.lane.map(|lane| lane.sequence.cast_signed()))?;
    to.put(flags(delivery))?;
    to.put(delivery.last_http_status)?;
    to.put(delivery.last_seq.0.cast_signed())?;
    to.put(back.0.cast_signed())?;
    to.put(delivery_sum(delivery, back))
}

/// Moves a row from `version` to where `delivery` is, by [`DELIVERY_UPDATE`]. Returns whether there
/// was a row at that version.
///
/// # Errors
/// SQLite's.
pub fn update_delivery(
    statement: &mut CachedStatement<'_>,
    version: u32,
    delivery: &Delivery,
    back: DeliveryId,
) -> rusqlite::Result<bool> {
    let changed = statement.execute(params![
        delivery.id.0.cast_signed(),
        version,
        delivery.policy.0,
        delivery.state as u8,
        delivery.cause.number(),
        delivery.version,
        delivery.attempt,
        delivery.due_at.0,
        settled_at(delivery),
        flags(delivery),
        delivery.last_http_status,
        delivery.last_seq.0.cast_signed(),
        delivery_sum(delivery, back),
    ])?;
    Ok(changed == 1)
}

/// Reads a row of [`DELIVERY_COLUMNS`].
///
/// # Errors
/// [`RowError`].
pub fn read_delivery(row: &Row<'_>) -> Result<DeliveryRow, RowError> {
    let id = unsigned(row, 0)?;
    let damaged = || RowError::Damaged {
        table: "delivery",
        id,
    };
    let read = || -> Option<DeliveryRow> {
        let flags: u32 = row.get(18).ok()?;
        let settled = Time(row.get(15).ok()?);
        let lane = match row.get::<_, Option<i64>>(16).ok()? {
            Some(key) => Some(Lane {
                key: OrderingKey(key.cast_unsigned()),
                sequence: unsigned(row, 17).ok()?,
            }),
            None => None,
        };
        let delivery = Delivery {
            id: DeliveryId(id),
            correlation: CorrelationId(u128::from_be_bytes(fixed(row, 1)?)),
            event: EventId(unsigned(row, 2).ok()?),
            tenant: TenantId(row.get(3).ok()?),
            endpoint: EndpointId(unsigned(row, 4).ok()?),
            policy: PolicyId(row.get(5).ok()?),
            guarantee: Guarantee::from_number(row.get(6).ok()?)?,
            channel: Channel::from_number(row.get(7).ok()?)?,
            state: State::from_number(row.get(8).ok()?)?,
            cause: Cause::from_number(row.get(9).ok()?)?,
            version: row.get(10).ok()?,
            attempt: row.get(11).ok()?,
            due_at: Time(row.get(12).ok()?),
            expires_at: Time(row.get(13).ok()?),
            admitted_at: Time(row.get(14).ok()?),
            settled_at: (settled != Time::NEVER).then_some(settled),
            lane,
            may_have_acted: flags & 1 != 0,
            receipts: u8::try_from(flags >> 1 & 0xff).ok()?,
            unspent: u16::try_from(flags >> 9).ok()?,
            last_http_status: row.get(19).ok()?,
            last_seq: Seq(unsigned(row, 20).ok()?),
        };
        let back = DeliveryId(unsigned(row, 21).ok()?);
        Some(DeliveryRow { delivery, back })
    };
    let read = read().ok_or_else(damaged)?;
    let sum: i32 = row.get(22).map_err(|_| damaged())?;
    match delivery_sum(&read.delivery, read.back) == sum {
        true => Ok(read),
        false => Err(damaged()),
    }
}

fn event_sum(event: &Event, key_released: bool) -> i32 {
    Sum::new()
        .numbers([
            event.id.0,
            event.uuid as u64,
            (event.uuid >> 64) as u64,
            u64::from(event.tenant.0),
        ])
        .bytes(&event.key_digest.0)
        .bytes(&event.body_digest.0)
        .bytes(event.business_id.as_bytes())
        .bytes(event.event_type.as_bytes())
        .bytes(event.recipient.as_bytes())
        .bytes(event.ordering_key.as_bytes())
        .bytes(event.collapse_key.as_bytes())
        .bytes(event.traceparent.as_bytes())
        .bytes(event.content_type.as_bytes())
        .numbers([
            u64::from(event.version),
            event.urgency as u64,
            event.admitted_at.0.cast_unsigned(),
            event.key_expires_at.0.cast_unsigned(),
            u64::from(key_released),
            event.first_delivery.0,
            u64::from(event.deliveries),
        ])
        .get()
}

/// Inserts events; see [`bind_event`].
pub static EVENT_INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::into("event", 20));

/// Binds all columns of an event.
///
/// # Errors
/// SQLite's.
pub fn bind_event(
    to: &mut Binder<'_, '_>,
    event: &Event,
    key_released: bool,
) -> rusqlite::Result<()> {
    to.put(event.id.0.cast_signed())?;
    to.put(&event.uuid.to_be_bytes()[..])?;
    to.put(event.tenant.0)?;
    to.put(&event.key_digest.0[..])?;
    to.put(&event.body_digest.0[..])?;
    to.put(&*event.business_id)?;
    to.put(&*event.event_type)?;
    to.put(event.version)?;
    to.put(&*event.recipient)?;
    to.put(&*event.ordering_key)?;
    to.put(&*event.collapse_key)?;
    to.put(event.urgency as u8)?;
    to.put(&*event.traceparent)?;
    to.put(&*event.content_type)?;
    to.put(event.admitted_at.0)?;
    to.put(event.key_expires_at.0)?;
    to.put(key_released)?;
    to.put(event.first_delivery.0.cast_signed())?;
    to.put(event.deliveries)?;
    to.put(event_sum(event, key_released))
}

/// Frees a key: sets the mark and the checksum that goes with it.
pub const EVENT_RELEASE: &str = "UPDATE event SET key_released = 1, sum = ?2 WHERE id = ?1";

/// Marks an event's key as freed by [`EVENT_RELEASE`].
///
/// # Errors
/// SQLite's.
pub fn release_event(statement: &mut CachedStatement<'_>, event: &Event) -> rusqlite::Result<()> {
    statement.execute(params![event.id.0.cast_signed(), event_sum(event, true)])?;
    Ok(())
}

/// Reads a row of the event table.
///
/// # Errors
/// [`RowError`].
pub fn read_event(row: &Row<'_>) -> Result<EventRow, RowError> {
    let id = unsigned(row, 0)?;
    let damaged = || RowError::Damaged { table: "event", id };
    let read = || -> Option<EventRow> {
        let event = Event {
            id: EventId(id),
            uuid: u128::from_be_bytes(fixed(row, 1)?),
            tenant: TenantId(row.get(2).ok()?),
            key_digest: KeyDigest(fixed(row, 3)?),
            body_digest: BodyDigest(fixed(row, 4)?),
            business_id: text(row, 5)?,
            event_type: text(row, 6)?,
            version: row.get(7).ok()?,
            recipient: text(row, 8)?,
            ordering_key: text(row, 9)?,
            collapse_key: text(row, 10)?,
            urgency: Urgency::from_number(row.get(11).ok()?)?,
            traceparent: text(row, 12)?,
            content_type: text(row, 13)?,
            admitted_at: Time(row.get(14).ok()?),
            key_expires_at: Time(row.get(15).ok()?),
            first_delivery: DeliveryId(unsigned(row, 17).ok()?),
            deliveries: row.get(18).ok()?,
            payload: Bytes::new(),
        };
        let key_released = row.get(16).ok()?;
        Some(EventRow {
            event,
            key_released,
        })
    };
    let read = read().ok_or_else(damaged)?;
    let sum: i32 = row.get(19).map_err(|_| damaged())?;
    match event_sum(&read.event, read.key_released) == sum {
        true => Ok(read),
        false => Err(damaged()),
    }
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn fixed<const N: usize>(row: &Row<'_>, column: usize) -> Option<[u8; N]> {
    row.get_ref(column).ok()?.as_blob().ok()?.try_into().ok()
}

fn text(row: &Row<'_>, column: usize) -> Option<Box<str>> {
    Some(row.get_ref(column).ok()?.as_str().ok()?.into())
}
