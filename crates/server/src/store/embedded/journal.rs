//! The journal's segments in a ledger file, and the hash chain over them.
//!
//! Each segment's chain value is BLAKE3 over the chain value before it, the places of its first
//! and last entry, and its bytes. A file's chain begins where the chain of the file before it stood
//! when it was begun, so what was there by then cannot be changed without a trace.
//!
//! Who follows the journal checks the chain; who reads one entry checks the segment's checksum,
//! which tells damage as well, if not forgery.
//!
//! Absent here: an anchor outside. Who can write the files can make a new chain from any point on.

use std::sync::LazyLock;

use postrider_core::id::{DeliveryId, Seq};
use postrider_core::ledger::Entry;
use rusqlite::{Connection, Row, params};

use super::bulk::{Binder, Insert};
use super::codec::{Decoder, Garbled, Item};
use super::files::LedgerFile;
use super::row::{Sum, unsigned};

/// Segments at the end of a journal that are checked whenever the file is opened.
const CHECKED_AT_OPEN: u32 = 1_024;
/// Entries of one delivery at most that its history follows: more is a chain that runs in a circle.
const HISTORY_ENTRIES_MAX: usize = 10_000;

/// One segment as it is stored.
#[derive(Debug)]
pub struct Segment {
    /// Place of its first entry.
    pub first: Seq,
    /// Place of its last entry.
    pub last: Seq,
    /// Chain value after it.
    pub chain: [u8; 32],
    /// Its items, encoded.
    pub bytes: Vec<u8>,
}

/// What is wrong with a journal, or with reading it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It does not add up.
    #[error("the journal at {seq} is damaged: {what}")]
    Damaged {
        /// Where.
        seq: Seq,
        /// How.
        what: String,
    },
    /// SQLite's own word.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The chain value after a segment.
#[must_use]
pub fn link(before: &[u8; 32], first: Seq, last: Seq, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&first.0.to_le_bytes());
    hasher.update(&last.0.to_le_bytes());
    hasher.update(bytes);
    *hasher.finalize().as_bytes()
}

/// Checks the last segments of a journal and says where chain and journal stand.
///
/// # Errors
/// What is damaged, in words.
pub fn tail(connection: &Connection, file: &LedgerFile) -> Result<([u8; 32], Seq), String> {
    let check = || -> Result<([u8; 32], Seq), JournalError> {
        let mut statement =
            connection.prepare_cached("SELECT * FROM journal ORDER BY seq DESC LIMIT ?1")?;
        let mut rows = statement.query([CHECKED_AT_OPEN + 1])?;
        let mut segments = Vec::new();
        while let Some(row) = rows.next()? {
            segments.push(read_segment(row)?);
        }
        // The oldest one read gives the chain value in front of the others.
        let whole = segments.len() <= CHECKED_AT_OPEN as usize;
        segments.reverse();
        let mut before = match (whole, segments.first()) {
            (false, Some(oldest)) => oldest.chain,
            _ => file.chain,
        };
        for segment in &segments[usize::from(!whole)..] {
            before = segment.follows(&before)?;
        }
        Ok((
            before,
            segments.last().map_or(Seq(0), |segment| segment.last),
        ))
    };
    check().map_err(|error| error.to_string())
}

impl Segment {
    /// Checksum over everything else, which is a fiftieth of the work of the hash.
    fn sum(&self) -> i32 {
        Sum::new()
            .numbers([self.first.0, self.last.0])
            .bytes(&self.chain)
            .bytes(&self.bytes)
            .get()
    }

    /// Checks that it stands where it stood, and gives the chain value after it.
    ///
    /// # Errors
    /// [`JournalError::Damaged`].
    pub fn follows(&self, before: &[u8; 32]) -> Result<[u8; 32], JournalError> {
        match link(before, self.first, self.last, &self.bytes) == self.chain {
            true => Ok(self.chain),
            false => Err(JournalError::Damaged {
                seq: self.first,
                what: "its hash does not follow from the one before".into(),
            }),
        }
    }

    /// Its items.
    ///
    /// # Errors
    /// [`JournalError::Damaged`].
    pub fn items(&self) -> Result<Vec<Item>, JournalError> {
        let items = Decoder::new(&self.bytes).and_then(Iterator::collect);
        items.map_err(|garbled| self.garbled(garbled))
    }

    fn garbled(&self, garbled: Garbled) -> JournalError {
        JournalError::Damaged {
            seq: self.first,
            what: garbled.to_string(),
        }
    }
}

/// Inserts segments; see [`bind_segment`].
pub static SEGMENT_INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::into("journal", 5));

/// Binds all columns of a segment.
///
/// # Errors
/// SQLite's.
pub fn bind_segment(to: &mut Binder<'_, '_>, segment: &Segment) -> rusqlite::Result<()> {
    to.put(segment.first.0.cast_signed())?;
    to.put(segment.last.0.cast_signed())?;
    to.put(&segment.chain[..])?;
    to.put(segment.sum())?;
    to.put(&segment.bytes[..])
}

/// Reads a row of the journal, and holds it against its checksum.
///
/// # Errors
/// [`JournalError`].
pub fn read_segment(row: &Row<'_>) -> Result<Segment, JournalError> {
    let first = Seq(unsigned(row, 0)?);
    let damaged = |_| JournalError::Damaged {
        seq: first,
        what: "a column holds what it cannot hold".into(),
    };
    let segment = Segment {
        first,
        last: Seq(unsigned(row, 1).map_err(damaged)?),
        chain: row.get(2).map_err(damaged)?,
        bytes: row.get(4).map_err(damaged)?,
    };
    match segment.sum() == row.get::<_, i32>(3).map_err(damaged)? {
        true => Ok(segment),
        false => Err(JournalError::Damaged {
            seq: first,
            what: "it does not match its checksum".into(),
        }),
    }
}

/// The segment that holds `seq`.
///
/// # Errors
/// [`JournalError`].
pub fn segment_of(connection: &Connection, seq: Seq) -> Result<Segment, JournalError> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM journal WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1")?;
    let mut rows = statement.query([seq.0.cast_signed()])?;
    let segment = rows.next()?.map(read_segment).transpose()?;
    segment
        .filter(|segment| segment.last >= seq)
        .ok_or(JournalError::Damaged {
            seq,
            what: "there is no such entry".into(),
        })
}

/// The entries of a delivery up to `last`, oldest first.
///
/// # Errors
/// [`JournalError`].
pub fn history(
    connection: &Connection,
    delivery: DeliveryId,
    last: Seq,
) -> Result<Vec<Entry>, JournalError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut segment: Option<Segment> = None;
    let mut seq = last;
    while seq > Seq(0) {
        let held = match segment.take() {
            Some(held) if held.first <= seq => held,
            _ => segment_of(connection, seq)?,
        };
        let damaged = |what: &str| JournalError::Damaged {
            seq,
            what: what.into(),
        };
        let entry = Decoder::new(&held.bytes)
            .and_then(|decoder| decoder.find(seq))
            .map_err(|garbled| held.garbled(garbled))?
            .filter(|entry| entry.delivery == delivery)
            .ok_or(damaged("there is no such entry of this delivery"))?;
        if entry.previous >= seq || entries.len() >= HISTORY_ENTRIES_MAX {
            return Err(damaged("the chain of this delivery's entries is broken"));
        }
        seq = entry.previous;
        entries.push(entry);
        segment = Some(held);
    }
    entries.reverse();
    Ok(entries)
}

/// At most `limit` entries with `after < seq <= until`, in order.
///
/// # Errors
/// [`JournalError`].
pub fn entries_after(
    connection: &Connection,
    file: &LedgerFile,
    after: Seq,
    until: Seq,
    limit: usize,
) -> Result<Vec<Entry>, JournalError> {
    let mut entries = Vec::new();
    each_segment(connection, file, after, until, |segment| {
        for item in segment.items()? {
            match item {
                Item::Entry(entry) if entry.seq > after && entry.seq <= until => {
                    entries.push(entry);
                    if entries.len() >= limit {
                        return Ok(false);
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    })?;
    Ok(entries)
}

/// Hands every segment that reaches past `after` and begins before `until` to `visit`, checked,
/// until it returns `false`.
///
/// # Errors
/// [`JournalError`], and those of `visit`.
pub fn each_segment(
    connection: &Connection,
    file: &LedgerFile,
    after: Seq,
    until: Seq,
    mut visit: impl FnMut(&Segment) -> Result<bool, JournalError>,
) -> Result<(), JournalError> {
    // The segment that holds `after` may reach past it; the one in front gives the chain value.
    let mut start = connection.prepare_cached(
        "SELECT seq, chain FROM journal WHERE seq <= ?1 ORDER BY seq DESC LIMIT 2",
    )?;
    let mut rows = start.query([after.0.cast_signed()])?;
    let from = match rows.next()? {
        Some(row) => row.get::<_, i64>(0)?,
        None => 0,
    };
    let mut before: [u8; 32] = match rows.next()? {
        Some(row) => row.get(1)?,
        None => file.chain,
    };
    let mut statement = connection
        .prepare_cached("SELECT * FROM journal WHERE seq >= ?1 AND seq <= ?2 ORDER BY seq")?;
    let mut rows = statement.query(params![from, until.0.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let segment = read_segment(row)?;
        before = segment.follows(&before)?;
        if segment.last > after && !visit(&segment)? {
            break;
        }
    }
    Ok(())
}
