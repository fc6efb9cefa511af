//! Rows of a ledger file and their explicit conversion to and from the core's values.
//!
//! A row is its id, and one column with all else, packed as [`super::pack`] says. It is checked
//! whenever it is read: a row that was changed behind the store's back is an error, never an
//! answer. Unsigned 64-bit ids are stored as the signed number with the same bits.
//!
//! A delivery, in this order, with the bytes of each:
//!
//! | value | bytes |
//! | --- | --- |
//! | checksum | 4 |
//! | version | 4 |
//! | moment of settling, ms; 9223372036854775807 while it is not | 8 |
//! | state | 1 |
//! | cause | 1 |
//! | attempt | 4 |
//! | attempts among these that its budget does not count | 2 |
//! | what the device has reported, a bit for each kind of receipt | 1 |
//! | policy | 4 |
//! | due, ms | 8 |
//! | an attempt may have acted | 1 |
//! | HTTP status code of the last answer | 2 |
//! | place of its last entry | 8 |
//! | correlation id | 16 |
//! | event | 8 |
//! | tenant | 4 |
//! | endpoint | 8 |
//! | guarantee | 1 |
//! | channel: 1 webhook, 2 Web Push, 3 APNs, 4 FCM | 1 |
//! | expiry, ms | 8 |
//! | moment of admission, ms | 8 |
//! | the endpoint's delivery before this one, 0 for none | 8 |
//! | lane: key, sequence; there if there is a lane | 0 or 16 |
//!
//! What comes before the correlation id moves, and is overwritten in place: a row never changes its
//! length, so pages stay as full as appending left them.
//!
//! An event: checksum 4, its key was freed 1, outer id 16, tenant 4, digest of the key 16, digest
//! of the body 16, version of the schema 4, moment of admission 8, moment at which its key is
//! forgotten 8, first delivery 8, count of deliveries 4, urgency (1 very low to 4 high) 1; then the
//! texts: business id, type, recipient, ordering key, collapse key, `traceparent`, media type.
//!
//! Absent here: which file a row is in.

use std::sync::LazyLock;

use postrider_core::Bytes;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::event::{Event, Urgency};
use postrider_core::id::{
    BodyDigest, CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, PolicyId,
    Seq, TenantId,
};
use postrider_core::ledger::{Delivery, Lane, State};
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;
use rusqlite::blob::Blob;
use rusqlite::{CachedStatement, Connection, Row, params};

use super::bulk::{Binder, Insert};
use super::pack::{Packer, SUM_BYTES, Unpacker};

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

/// Bytes of a row that are gathered before they are summed: what most rows come to.
const GATHERED_BYTES: usize = 384;

/// A checksum in the making, over the columns of a row that is not packed. It gathers them first: a
/// checksum of many short pieces costs many times that of one long one.
pub(super) struct Sum {
    sum: u32,
    gathered: [u8; GATHERED_BYTES],
    len: usize,
}

impl Sum {
    pub(super) fn new() -> Sum {
        Sum {
            sum: 0,
            gathered: [0; GATHERED_BYTES],
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
        if self.len + bytes.len() > GATHERED_BYTES {
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

/// Inserts deliveries; see [`bind_delivery`].
pub static DELIVERY_INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::into("delivery", 2));

/// Binds both columns of a delivery, packed in `buffer`.
///
/// # Errors
/// SQLite's.
pub fn bind_delivery(
    to: &mut Binder<'_, '_>,
    buffer: &mut Vec<u8>,
    delivery: &Delivery,
    back: DeliveryId,
) -> rusqlite::Result<()> {
    pack_delivery(buffer, delivery, back);
    to.put(delivery.id.0.cast_signed())?;
    to.put(&buffer[..])
}

/// Packs a delivery. Returns the length of the front part, which is all that ever changes.
fn pack_delivery(buffer: &mut Vec<u8>, delivery: &Delivery, back: DeliveryId) -> usize {
    let mut packer = Packer::new(buffer);
    packer
        .put(delivery.version.to_le_bytes())
        .put(delivery.settled_at.unwrap_or(Time::NEVER).0.to_le_bytes())
        .put([delivery.state as u8])
        .put(delivery.cause.number().to_le_bytes())
        .put(delivery.attempt.to_le_bytes())
        .put(delivery.unspent.to_le_bytes())
        .put([delivery.receipts])
        .put(delivery.policy.0.to_le_bytes())
        .put(delivery.due_at.0.to_le_bytes())
        .put([u8::from(delivery.may_have_acted)])
        .put(delivery.last_http_status.to_le_bytes())
        .put(delivery.last_seq.0.to_le_bytes());
    let moving = packer.len();
    packer
        .put(delivery.correlation.0.to_le_bytes())
        .put(delivery.event.0.to_le_bytes())
        .put(delivery.tenant.0.to_le_bytes())
        .put(delivery.endpoint.0.to_le_bytes())
        .put([delivery.guarantee as u8])
        .put([delivery.channel as u8])
        .put(delivery.expires_at.0.to_le_bytes())
        .put(delivery.admitted_at.0.to_le_bytes())
        .put(back.0.to_le_bytes());
    if let Some(lane) = delivery.lane {
        packer.put(lane.key.0.to_le_bytes());
        packer.put(lane.sequence.to_le_bytes());
    }
    packer.seal(delivery.id.0);
    moving
}

/// Overwrites rows of deliveries in place. It must be gone before the transaction is committed.
pub struct Mover<'c> {
    connection: &'c Connection,
    row: Option<Blob<'c>>,
    buffer: Vec<u8>,
}

impl<'c> Mover<'c> {
    /// One for this file.
    #[must_use]
    pub fn new(connection: &'c Connection) -> Mover<'c> {
        Mover {
            connection,
            row: None,
            buffer: Vec::new(),
        }
    }

    /// Moves a row from `version` to where `delivery` is. Returns whether it was at that version.
    ///
    /// # Errors
    /// SQLite's, also if there is no such row.
    pub fn advance(
        &mut self,
        version: u32,
        delivery: &Delivery,
        back: DeliveryId,
    ) -> rusqlite::Result<bool> {
        let id = delivery.id.0.cast_signed();
        let row = match &mut self.row {
            Some(row) => {
                row.reopen(id)?;
                row
            }
            none => {
                none.insert(
                    self.connection
                        .blob_open(c"main", c"delivery", c"row", id, false)?,
                )
            }
        };
        let mut has = [0; size_of::<u32>()];
        row.read_at_exact(&mut has, SUM_BYTES)?;
        if u32::from_le_bytes(has) != version {
            return Ok(false);
        }
        let moving = pack_delivery(&mut self.buffer, delivery, back);
        row.write_at(&self.buffer[..moving], 0)?;
        Ok(true)
    }
}

/// What a row says of where its delivery is and when it was settled, without a look at the rest or
/// at its checksum. `None` if it cannot say.
pub fn glance(row: &Row<'_>) -> Option<(State, Time)> {
    let mut values = Unpacker::unchecked(row.get_ref(1).ok()?.as_blob().ok()?)?;
    let _version: [u8; 4] = values.take()?;
    let settled_at = Time(i64::from_le_bytes(values.take()?));
    Some((
        State::from_number(u8::from_le_bytes(values.take()?))?,
        settled_at,
    ))
}

/// Reads a row of the delivery table.
///
/// # Errors
/// [`RowError`].
pub fn read_delivery(row: &Row<'_>) -> Result<DeliveryRow, RowError> {
    let id = unsigned(row, 0)?;
    let packed = row.get_ref(1)?.as_blob().ok();
    packed
        .and_then(|packed| unpack_delivery(id, packed))
        .ok_or(RowError::Damaged {
            table: "delivery",
            id,
        })
}

fn unpack_delivery(id: u64, packed: &[u8]) -> Option<DeliveryRow> {
    let mut values = Unpacker::checked(id, packed)?;
    let version = u32::from_le_bytes(values.take()?);
    let settled_at = Time(i64::from_le_bytes(values.take()?));
    let mut delivery = Delivery {
        id: DeliveryId(id),
        version,
        settled_at: (settled_at != Time::NEVER).then_some(settled_at),
        state: State::from_number(u8::from_le_bytes(values.take()?))?,
        cause: Cause::from_number(u8::from_le_bytes(values.take()?))?,
        attempt: u32::from_le_bytes(values.take()?),
        unspent: u16::from_le_bytes(values.take()?),
        receipts: u8::from_le_bytes(values.take()?),
        policy: PolicyId(u32::from_le_bytes(values.take()?)),
        due_at: Time(i64::from_le_bytes(values.take()?)),
        may_have_acted: u8::from_le_bytes(values.take()?) != 0,
        last_http_status: u16::from_le_bytes(values.take()?),
        last_seq: Seq(u64::from_le_bytes(values.take()?)),
        correlation: CorrelationId(u128::from_le_bytes(values.take()?)),
        event: EventId(u64::from_le_bytes(values.take()?)),
        tenant: TenantId(u32::from_le_bytes(values.take()?)),
        endpoint: EndpointId(u64::from_le_bytes(values.take()?)),
        guarantee: Guarantee::from_number(u8::from_le_bytes(values.take()?))?,
        channel: Channel::from_number(u8::from_le_bytes(values.take()?))?,
        expires_at: Time(i64::from_le_bytes(values.take()?)),
        admitted_at: Time(i64::from_le_bytes(values.take()?)),
        lane: None,
    };
    let back = DeliveryId(u64::from_le_bytes(values.take()?));
    if !values.is_empty() {
        delivery.lane = Some(Lane {
            key: OrderingKey(u64::from_le_bytes(values.take()?)),
            sequence: u64::from_le_bytes(values.take()?),
        });
    }
    values.is_empty().then_some(DeliveryRow { delivery, back })
}

/// Inserts events; see [`bind_event`].
pub static EVENT_INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::into("event", 2));

/// Binds both columns of an event, packed in `buffer`.
///
/// # Errors
/// SQLite's.
pub fn bind_event(
    to: &mut Binder<'_, '_>,
    buffer: &mut Vec<u8>,
    event: &Event,
    key_released: bool,
) -> rusqlite::Result<()> {
    pack_event(buffer, event, key_released);
    to.put(event.id.0.cast_signed())?;
    to.put(&buffer[..])
}

fn pack_event(buffer: &mut Vec<u8>, event: &Event, key_released: bool) {
    Packer::new(buffer)
        .put([u8::from(key_released)])
        .put(event.uuid.to_le_bytes())
        .put(event.tenant.0.to_le_bytes())
        .put(event.key_digest.0)
        .put(event.body_digest.0)
        .put(event.version.to_le_bytes())
        .put(event.admitted_at.0.to_le_bytes())
        .put(event.key_expires_at.0.to_le_bytes())
        .put(event.first_delivery.0.to_le_bytes())
        .put(event.deliveries.to_le_bytes())
        .put([event.urgency as u8])
        .put(event.retry_of.map_or(0, |id| id.0).to_le_bytes())
        .text(&event.business_id)
        .text(&event.event_type)
        .text(&event.recipient)
        .text(&event.ordering_key)
        .text(&event.collapse_key)
        .text(&event.traceparent)
        .text(&event.content_type)
        .seal(event.id.0);
}

/// Replaces an event's row.
pub const EVENT_UPDATE: &str = "UPDATE event SET row = ?2 WHERE id = ?1";

/// Marks an event's key as freed by [`EVENT_UPDATE`].
///
/// # Errors
/// SQLite's.
pub fn release_event(statement: &mut CachedStatement<'_>, event: &Event) -> rusqlite::Result<()> {
    let mut buffer = Vec::new();
    pack_event(&mut buffer, event, true);
    statement.execute(params![event.id.0.cast_signed(), buffer])?;
    Ok(())
}

/// Reads a row of the event table.
///
/// # Errors
/// [`RowError`].
pub fn read_event(row: &Row<'_>) -> Result<EventRow, RowError> {
    let id = unsigned(row, 0)?;
    let packed = row.get_ref(1)?.as_blob().ok();
    packed
        .and_then(|packed| unpack_event(id, packed))
        .ok_or(RowError::Damaged { table: "event", id })
}

fn unpack_event(id: u64, packed: &[u8]) -> Option<EventRow> {
    let mut values = Unpacker::checked(id, packed)?;
    let key_released = u8::from_le_bytes(values.take()?) != 0;
    let event = Event {
        id: EventId(id),
        uuid: u128::from_le_bytes(values.take()?),
        tenant: TenantId(u32::from_le_bytes(values.take()?)),
        key_digest: KeyDigest(values.take()?),
        body_digest: BodyDigest(values.take()?),
        version: u32::from_le_bytes(values.take()?),
        admitted_at: Time(i64::from_le_bytes(values.take()?)),
        key_expires_at: Time(i64::from_le_bytes(values.take()?)),
        first_delivery: DeliveryId(u64::from_le_bytes(values.take()?)),
        deliveries: u32::from_le_bytes(values.take()?),
        urgency: Urgency::from_number(u8::from_le_bytes(values.take()?))?,
        retry_of: Some(EventId(u64::from_le_bytes(values.take()?))).filter(|id| id.0 != 0),
        business_id: values.text()?,
        event_type: values.text()?,
        recipient: values.text()?,
        ordering_key: values.text()?,
        collapse_key: values.text()?,
        traceparent: values.text()?,
        content_type: values.text()?,
        payload: Bytes::new(),
    };
    let row = EventRow {
        event,
        key_released,
    };
    values.is_empty().then_some(row)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}
