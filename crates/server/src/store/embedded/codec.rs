//! The bytes of the journal: how entries lie in a segment. Frozen; described here completely.
//!
//! A segment is `format (1 byte, 1)`, `base sequence (varint)`, `base time (zigzag varint)`, then
//! one item after the other: `length (varint)`, then that many bytes of fields. A field is a tag
//! byte, `number × 2 + kind`, and a value: kind 0 is a varint (LEB128, at most 10 bytes), kind 1 is
//! a length (varint) and that many bytes. A field that is zero, or empty, is left out. Fields stand
//! in ascending order of their numbers, so equal entries have equal bytes. Signed values are
//! zigzag.
//!
//! | no. | field | in |
//! | --- | --- | --- |
//! | 1 | kind: 1 Admitted, 2 Opened, 3 Answered, 4 NotSent, 5 Closed, 6 Confirmed, 7 freed | all |
//! | 2 | sequence − base sequence | 1–6 |
//! | 3 | delivery | 1–6 |
//! | 4 | version | 1–6 |
//! | 5 | time − base time, signed | 1–6 |
//! | 6 | sequence − previous sequence, 0 for none | 1–6 |
//! | 10 | correlation id, 16 bytes little-endian | 1 |
//! | 11 | event | 1, 7 |
//! | 12 | tenant | 1 |
//! | 13 | endpoint, 8 bytes little-endian | 1 |
//! | 14 | policy | 1, 2 |
//! | 15 | guarantee | 1 |
//! | 16 | due − time, signed | 1, 3, 4 |
//! | 17 | expiry − time, signed | 1 |
//! | 18 | lane: key, 8 bytes little-endian; there if there is a lane | 1 |
//! | 19 | lane: sequence | 1 |
//! | 20 | attempt | 2, 3, 4 |
//! | 21 | outcome: kind | 3 |
//! | 22 | outcome: cause | 3, 4 |
//! | 23 | outcome: 1 may have acted + 2 unsent | 3 |
//! | 24 | outcome: HTTP status code | 3 |
//! | 25 | outcome: latency, ms | 3 |
//! | 26 | outcome: named waiting time, ms, signed, plus one as a varint; 0 for none | 3 |
//! | 27 | outcome: the provider's id | 3 |
//! | 28 | outcome: evidence | 3 |
//! | 29 | outcome: time − gone since, signed, plus one as a varint; 0 for none | 3 |
//! | 30 | state; in 3 its absence means another attempt at 16 | 3, 5 |
//! | 31 | cause of that state | 3, 5 |
//! | 32 | receipt | 6 |
//! | 33 | outcome: shortest wait, ms | 3 |
//! | 34 | channel − 1 | 1 |
//!
//! Absent here: hashing, and where a segment is kept.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::id::{
    CorrelationId, DeliveryId, EndpointId, EventId, OrderingKey, PolicyId, Seq, TenantId,
};
use postrider_core::ledger::{Admitted, Entry, Fact, Lane, Next, State};
use postrider_core::outcome::{EVIDENCE_BYTES_MAX, Outcome, OutcomeKind};
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;

/// Number of this encoding.
const FORMAT: u8 = 1;
/// Kind of the item that says that a key was freed.
const RELEASED: u64 = 7;
/// Bytes of a provider's id at most; a longer one is cut at a character.
pub const PROVIDER_ID_BYTES_MAX: usize = 255;

/// One item of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An entry.
    Entry(Entry),
    /// The key of this event was freed.
    Released(EventId),
}

/// The bytes do not follow the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment breaks off or is garbled at byte {at}")]
pub struct Garbled {
    /// Where.
    pub at: usize,
}

/// Writes segments, into a buffer that is used again.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    item: Vec<u8>,
    base: Option<(Seq, Time)>,
    last: Seq,
}

impl Encoder {
    /// Starts over.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.base = None;
        self.last = Seq(0);
    }

    /// Nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.is_none()
    }

    /// Place of the first and of the last entry.
    #[must_use]
    pub fn span(&self) -> (Seq, Seq) {
        (self.base.map_or(Seq(0), |(seq, _)| seq), self.last)
    }

    /// What was written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an entry. Entries come in ascending order.
    pub fn entry(&mut self, entry: &Entry) {
        let (base_seq, base_at) = *self.base.get_or_insert_with(|| {
            self.bytes.push(FORMAT);
            varint(&mut self.bytes, entry.seq.0);
            varint(&mut self.bytes, zigzag(entry.at.0));
            (entry.seq, entry.at)
        });
        self.last = entry.seq;
        let out = &mut self.item;
        out.clear();
        number(out, 1, u64::from(kind(&entry.fact)));
        number(out, 2, entry.seq.0 - base_seq.0);
        number(out, 3, entry.delivery.0);
        number(out, 4, u64::from(entry.version));
        number(out, 5, zigzag(entry.at.0.wrapping_sub(base_at.0)));
        if entry.previous.0 > 0 {
            number(out, 6, entry.seq.0.wrapping_sub(entry.previous.0));
        }
        fact(out, entry);
        varint(&mut self.bytes, self.item.len() as u64);
        self.bytes.extend_from_slice(&self.item);
    }

    /// Notes that an event's key was freed. Only behind an entry.
    pub fn released(&mut self, event: EventId) {
        debug_assert!(self.base.is_some(), "a note stands behind an entry");
        self.item.clear();
        number(&mut self.item, 1, RELEASED);
        number(&mut self.item, 11, event.0);
        varint(&mut self.bytes, self.item.len() as u64);
        self.bytes.extend_from_slice(&self.item);
    }
}

fn kind(fact: &Fact) -> u8 {
    match fact {
        Fact::Admitted(_) => 1,
        Fact::Opened { .. } => 2,
        Fact::Answered { .. } => 3,
        Fact::NotSent { .. } => 4,
        Fact::Closed { .. } => 5,
        Fact::Confirmed { .. } => 6,
    }
}

fn fact(out: &mut Vec<u8>, entry: &Entry) {
    let after = |time: Time| zigzag(time.0.wrapping_sub(entry.at.0));
    match &entry.fact {
        Fact::Admitted(admitted) => admitted_fields(out, admitted, after),
        Fact::Opened { attempt, policy } => {
            number(out, 14, u64::from(policy.0));
            number(out, 20, u64::from(*attempt));
        }
        Fact::Answered {
            attempt,
            outcome,
            next,
        } => {
            if let Next::Again { due_at } = next {
                number(out, 16, after(*due_at));
            }
            number(out, 20, u64::from(*attempt));
            outcome_fields(out, outcome, entry.at);
            if let Next::Settle { state, cause } = next {
                number(out, 30, *state as u64);
                number(out, 31, u64::from(cause.number()));
            }
            number(out, 33, zigzag(outcome.wait_min_ms));
        }
        Fact::NotSent {
            attempt,
            cause,
            due_at,
        } => {
            number(out, 16, after(*due_at));
            number(out, 20, u64::from(*attempt));
            number(out, 22, u64::from(cause.number()));
        }
        Fact::Closed { state, cause } => {
            number(out, 30, *state as u64);
            number(out, 31, u64::from(cause.number()));
        }
        Fact::Confirmed { receipt } => number(out, 32, u64::from(*receipt)),
    }
}

fn admitted_fields(out: &mut Vec<u8>, admitted: &Admitted, after: impl Fn(Time) -> u64) {
    string(out, 10, &admitted.correlation.0.to_le_bytes());
    number(out, 11, admitted.event.0);
    number(out, 12, u64::from(admitted.tenant.0));
    string(out, 13, &admitted.endpoint.0.to_le_bytes());
    number(out, 14, u64::from(admitted.policy.0));
    number(out, 15, admitted.guarantee as u64);
    number(out, 16, after(admitted.due_at));
    number(out, 17, after(admitted.expires_at));
    if let Some(lane) = admitted.lane {
        string(out, 18, &lane.key.0.to_le_bytes());
        number(out, 19, lane.sequence);
    }
    number(out, 34, admitted.channel as u64 - 1);
}

fn outcome_fields(out: &mut Vec<u8>, outcome: &Outcome, at: Time) {
    number(out, 21, outcome.kind as u64);
    number(out, 22, u64::from(outcome.cause.number()));
    let flags = u64::from(outcome.may_have_acted) + 2 * u64::from(outcome.unsent);
    number(out, 23, flags);
    number(out, 24, u64::from(outcome.http_status));
    number(out, 25, u64::from(outcome.latency_ms));
    if let Some(wait_ms) = outcome.retry_after_ms {
        number(out, 26, zigzag(wait_ms).saturating_add(1));
    }
    let id = &outcome.provider_id;
    string(
        out,
        27,
        &id.as_bytes()[..id.floor_char_boundary(PROVIDER_ID_BYTES_MAX)],
    );
    let evidence = &outcome.evidence;
    string(out, 28, &evidence[..evidence.len().min(EVIDENCE_BYTES_MAX)]);
    if let Some(since) = outcome.gone_since {
        let age = zigzag(at.0.wrapping_sub(since.0));
        number(out, 29, age.saturating_add(1));
    }
}

/// An unsigned field; left out when zero.
fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 1);
        varint(out, value);
    }
}

/// A field of bytes; left out when empty.
fn string(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        out.push(field << 1 | 1);
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// LEB128.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Reads the items of a segment, one after the other.
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    base: (Seq, Time),
}

impl<'a> Decoder<'a> {
    /// Reads the head of a segment.
    ///
    /// # Errors
    /// [`Garbled`].
    pub fn new(bytes: &'a [u8]) -> Result<Decoder<'a>, Garbled> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.byte()? != FORMAT {
            return Err(Garbled { at: 0 });
        }
        let base = (Seq(cursor.varint()?), Time(unzigzag(cursor.varint()?)));
        Ok(Decoder {
            bytes,
            at: cursor.at,
            base,
        })
    }

    /// The entry at `seq`, without decoding those before it any further than needed.
    ///
    /// # Errors
    /// [`Garbled`].
    pub fn find(mut self, seq: Seq) -> Result<Option<Entry>, Garbled> {
        while self.at < self.bytes.len() {
            let mut cursor = Cursor {
                bytes: self.bytes,
                at: self.at,
            };
            let (start, body) = cursor.framed()?;
            let place = place(self.base.0, body).map_err(|e| Garbled { at: start + e.at })?;
            match place {
                Some(found) if found == seq => break,
                Some(found) if found > seq => return Ok(None),
                _ => self.at = cursor.at,
            }
        }
        match self.next().transpose()? {
            Some(Item::Entry(entry)) => Ok(Some(entry)),
            _ => Ok(None),
        }
    }
}

/// The place of an item, if it has one, from its first two fields.
fn place(base: Seq, body: &[u8]) -> Result<Option<Seq>, Garbled> {
    let mut cursor = Cursor { bytes: body, at: 0 };
    if cursor.byte()? != 1 << 1 {
        return Err(Garbled { at: 0 });
    }
    if cursor.varint()? == RELEASED {
        return Ok(None);
    }
    let distance = match body.get(cursor.at) {
        Some(&tag) if tag == 2 << 1 => {
            cursor.at += 1;
            cursor.varint()?
        }
        _ => 0,
    };
    Ok(Some(Seq(base.0.wrapping_add(distance))))
}

impl Iterator for Decoder<'_> {
    type Item = Result<Item, Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let mut cursor = Cursor {
            bytes: self.bytes,
            at: self.at,
        };
        let item = cursor.framed().and_then(|(start, body)| {
            item(self.base, body).map_err(|e| Garbled { at: start + e.at })
        });
        // After an error nothing more can be told from the bytes.
        self.at = if item.is_ok() {
            cursor.at
        } else {
            self.bytes.len()
        };
        Some(item)
    }
}

/// The fields of an item, by number.
#[derive(Clone, Copy)]
struct Fields<'a> {
    numbers: [u64; FIELDS],
    strings: [&'a [u8]; FIELDS],
    present: u64,
    end: usize,
}

/// One more than the highest field number.
const FIELDS: usize = 35;

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> Result<Fields<'a>, Garbled> {
        let mut cursor = Cursor { bytes: body, at: 0 };
        let mut fields = Fields {
            numbers: [0; FIELDS],
            strings: [&[]; FIELDS],
            present: 0,
            end: body.len(),
        };
        let mut least = 0;
        while cursor.at < body.len() {
            let at = cursor.at;
            let tag = cursor.byte()?;
            let field = usize::from(tag >> 1);
            if field < least || field >= FIELDS {
                return Err(Garbled { at });
            }
            least = field + 1;
            fields.present |= 1 << field;
            match tag & 1 {
                0 => fields.numbers[field] = cursor.varint()?,
                _ => fields.strings[field] = cursor.framed()?.1,
            }
        }
        Ok(fields)
    }

    /// What went wrong lies somewhere in this item.
    fn garbled(&self) -> Garbled {
        Garbled { at: self.end }
    }

    fn small<T: TryFrom<u64>>(&self, field: usize) -> Result<T, Garbled> {
        T::try_from(self.numbers[field]).map_err(|_| self.garbled())
    }

    fn fixed<const N: usize>(&self, field: usize) -> Result<[u8; N], Garbled> {
        self.strings[field].try_into().map_err(|_| self.garbled())
    }

    fn after(&self, field: usize, at: Time) -> Time {
        Time(at.0.wrapping_add(unzigzag(self.numbers[field])))
    }

    fn cause(&self, field: usize) -> Result<Cause, Garbled> {
        Cause::from_number(self.small(field)?).ok_or(self.garbled())
    }

    fn state(&self) -> Result<State, Garbled> {
        State::from_number(self.small(30)?).ok_or(self.garbled())
    }
}

fn item((base_seq, base_at): (Seq, Time), body: &[u8]) -> Result<Item, Garbled> {
    let fields = Fields::read(body)?;
    if fields.numbers[1] == RELEASED {
        return Ok(Item::Released(EventId(fields.numbers[11])));
    }
    let at = fields.after(5, base_at);
    let seq = Seq(base_seq.0.wrapping_add(fields.numbers[2]));
    let previous = match fields.numbers[6] {
        0 => Seq(0),
        distance => Seq(seq.0.wrapping_sub(distance)),
    };
    let fact = match fields.numbers[1] {
        1 => Fact::Admitted(Box::new(read_admitted(&fields, at)?)),
        2 => Fact::Opened {
            attempt: fields.small(20)?,
            policy: PolicyId(fields.small(14)?),
        },
        3 => Fact::Answered {
            attempt: fields.small(20)?,
            outcome: Box::new(read_outcome(&fields, at)?),
            next: match fields.numbers[30] {
                0 => Next::Again {
                    due_at: fields.after(16, at),
                },
                _ => Next::Settle {
                    state: fields.state()?,
                    cause: fields.cause(31)?,
                },
            },
        },
        4 => Fact::NotSent {
            attempt: fields.small(20)?,
            cause: fields.cause(22)?,
            due_at: fields.after(16, at),
        },
        5 => Fact::Closed {
            state: fields.state()?,
            cause: fields.cause(31)?,
        },
        6 => Fact::Confirmed {
            receipt: fields.small(32)?,
        },
        _ => return Err(fields.garbled()),
    };
    Ok(Item::Entry(Entry {
        seq,
        delivery: DeliveryId(fields.numbers[3]),
        version: fields.small(4)?,
        at,
        previous,
        fact,
    }))
}

fn read_admitted(fields: &Fields<'_>, at: Time) -> Result<Admitted, Garbled> {
    let lane = match fields.present & (1 << 18) {
        0 => None,
        _ => Some(Lane {
            key: OrderingKey(u64::from_le_bytes(fields.fixed(18)?)),
            sequence: fields.numbers[19],
        }),
    };
    Ok(Admitted {
        correlation: CorrelationId(u128::from_le_bytes(fields.fixed(10)?)),
        event: EventId(fields.numbers[11]),
        tenant: TenantId(fields.small(12)?),
        endpoint: EndpointId(u64::from_le_bytes(fields.fixed(13)?)),
        policy: PolicyId(fields.small(14)?),
        channel: fields
            .small::<u8>(34)
            .ok()
            .and_then(|number| Channel::from_number(number.checked_add(1)?))
            .ok_or(fields.garbled())?,
        guarantee: Guarantee::from_number(fields.small(15)?).ok_or(fields.garbled())?,
        due_at: fields.after(16, at),
        expires_at: fields.after(17, at),
        lane,
    })
}

fn read_outcome(fields: &Fields<'_>, at: Time) -> Result<Outcome, Garbled> {
    let provider_id = std::str::from_utf8(fields.strings[27]).map_err(|_| fields.garbled())?;
    Ok(Outcome {
        kind: OutcomeKind::from_number(fields.small(21)?).ok_or(fields.garbled())?,
        cause: fields.cause(22)?,
        may_have_acted: fields.numbers[23] & 1 != 0,
        unsent: fields.numbers[23] & 2 != 0,
        http_status: fields.small(24)?,
        latency_ms: fields.small(25)?,
        retry_after_ms: fields.numbers[26].checked_sub(1).map(unzigzag),
        wait_min_ms: unzigzag(fields.numbers[33]),
        gone_since: fields.numbers[29]
            .checked_sub(1)
            .map(|age| Time(at.0.wrapping_sub(unzigzag(age)))),
        provider_id: provider_id.into(),
        evidence: fields.strings[28].into(),
    })
}

pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Garbled> {
        let byte = *self.bytes.get(self.at).ok_or(Garbled { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Garbled> {
        let at = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Garbled { at });
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Garbled { at })
    }

    /// A length and that many bytes; and where they start.
    pub(super) fn framed(&mut self) -> Result<(usize, &'a [u8]), Garbled> {
        let at = self.at;
        let length = usize::try_from(self.varint()?).map_err(|_| Garbled { at })?;
        let start = self.at;
        let end = start.checked_add(length).ok_or(Garbled { at })?;
        let bytes = self.bytes.get(start..end).ok_or(Garbled { at })?;
        self.at = end;
        Ok((start, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of every fact, with values at the edges of their types.
    fn samples() -> Vec<Entry> {
        let facts = [
            Fact::Admitted(Box::new(Admitted {
                correlation: CorrelationId(u128::MAX - 5),
                event: EventId(9),
                tenant: TenantId(u32::MAX),
                endpoint: EndpointId(u64::MAX),
                policy: PolicyId(3),
                channel: Channel::Fcm,
                guarantee: Guarantee::AtMostOnce,
                due_at: Time(-4),
                expires_at: Time::NEVER,
                lane: Some(Lane {
                    key: OrderingKey(0),
                    sequence: 0,
                }),
            })),
            Fact::Opened {
                attempt: 1,
                policy: PolicyId(0),
            },
            Fact::Answered {
                attempt: u32::MAX,
                outcome: Box::new(Outcome {
                    kind: OutcomeKind::Throttle,
                    cause: Cause::RateLimited,
                    may_have_acted: false,
                    unsent: true,
                    http_status: 429,
                    latency_ms: 12,
                    retry_after_ms: Some(-1),
                    wait_min_ms: 900_000,
                    gone_since: Some(Time(-9)),
                    provider_id: "abc".into(),
                    evidence: [0, 1, 2].into(),
                }),
                next: Next::Again { due_at: Time(77) },
            },
            Fact::Answered {
                attempt: 2,
                outcome: Box::new(Outcome::crashed()),
                next: Next::Settle {
                    state: State::Uncertain,
                    cause: Cause::UnknownOutcome,
                },
            },
            Fact::NotSent {
                attempt: 3,
                cause: Cause::Deferred,
                due_at: Time(i64::MIN),
            },
            Fact::Closed {
                state: State::Expired,
                cause: Cause::ExpiredBreaker,
            },
            Fact::Confirmed { receipt: 255 },
        ];
        let entry = |(n, fact): (u64, Fact)| Entry {
            seq: Seq(100 + 3 * n),
            delivery: DeliveryId(u64::MAX - n),
            version: u32::try_from(n).unwrap(),
            at: Time(1_790_000_000_000 - 400 * n.cast_signed()),
            previous: Seq(n * 7),
            fact,
        };
        (0..).zip(facts).map(entry).collect()
    }

    fn segment() -> (Vec<Item>, Vec<u8>) {
        let mut encoder = Encoder::default();
        let mut items = Vec::new();
        for entry in samples() {
            encoder.entry(&entry);
            items.push(Item::Entry(entry));
        }
        encoder.released(EventId(12));
        items.push(Item::Released(EventId(12)));
        (items, encoder.bytes().to_vec())
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (items, bytes) = segment();
        let read: Result<Vec<_>, _> = Decoder::new(&bytes).unwrap().collect();
        assert_eq!(read.unwrap(), items);
        for entry in samples() {
            let found = Decoder::new(&bytes).unwrap().find(entry.seq).unwrap();
            assert_eq!(found, Some(entry));
        }
        let absent = Decoder::new(&bytes).unwrap().find(Seq(101)).unwrap();
        assert_eq!(absent, None);
    }

    /// The encoding is frozen: these bytes were written by the first release.
    #[test]
    fn the_encoding_is_the_one_of_the_first_release() {
        let (_, bytes) = segment();
        assert_eq!(
            blake3::hash(&bytes).to_hex().as_str(),
            "9e332dfd87b81fc836c59e6505f770da60728e6baf16a41f0b3c3be3d75cac75"
        );
    }

    #[test]
    fn garbled_bytes_are_an_error_and_never_a_panic() {
        let (items, bytes) = segment();
        for cut in 0..bytes.len() {
            if let Ok(decoder) = Decoder::new(&bytes[..cut]) {
                let read: Vec<_> = decoder.collect();
                let whole = read.iter().filter_map(|item| item.clone().ok()).count();
                assert!(
                    whole < items.len()
                        && items
                            .iter()
                            .zip(&read)
                            .take(whole)
                            .all(|(item, read)| read.as_ref() == Ok(item))
                );
            }
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(decoder) = Decoder::new(&damaged) {
                    decoder.for_each(drop);
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_survive(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            varint(&mut bytes, value);
            let read = Cursor { bytes: &bytes, at: 0 }.varint();
            proptest::prop_assert_eq!(read, Ok(value));
            proptest::prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }
}
