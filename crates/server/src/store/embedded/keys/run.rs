//! A sealed run: keys sorted by fingerprint, in blocks on disk behind a filter in memory.
//!
//! A run of `n` keys has a fixed number of blocks, and a key's block is its fingerprint scaled to
//! that number: fingerprints are spread evenly, so a block is found without an index, and nearly
//! all of them fill one page of the file. The filter has the same shape: a line of 64 bytes, one
//! cache line, is found by scaling, and six bits in it by the rest of the fingerprint. So both are
//! written front to back while the keys pass by in order, a slice at a time.
//!
//! Why an own filter of forty lines: it lies on disk, so its bits are a format that has to stay;
//! it has to be filled in order and in slices, which a xor or binary fuse filter (`xorf`) cannot;
//! and a look-up may cost one cache miss for each run, where a plain Bloom filter costs six.
//!
//! Every row carries a checksum over its place and its bytes. Absent here: when runs are made and
//! dropped; see [`super::build`].

use postrider_core::partition::mix;
use postrider_core::time::{SECOND_MS, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::KeysError;

/// Bytes of an entry on disk: fingerprint, event and expiry, little-endian.
const ENTRY_BYTES: usize = 20;
/// Keys for a filter line of 512 bits, on average: 12 bits a key, about one wrong answer in 150.
const LINE_KEYS: u64 = 42;
/// Bits set in a line for a key.
const LINE_BITS: u32 = 6;
/// Filter lines in a row of `key_filter`: what fits a page of 4096 bytes.
pub(super) const FILTER_ROW_LINES: u64 = 63;
/// A row's id is the run's number above this many bits, and the row's number in the run below.
const ROW_BITS: u32 = 32;

/// A key as the index knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Keyed hash of the digest, never 0.
    pub(super) fingerprint: u64,
    /// Who may hold it.
    pub(super) event: u64,
    /// Seconds since 1970, rounded up; `u32::MAX` is never.
    pub(super) expires_s: u32,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.fingerprint == 0
    }

    pub(super) fn has_expired(&self, now: Time) -> bool {
        has_expired(self.expires_s, now)
    }

    fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(&self.fingerprint.to_le_bytes());
        body.extend_from_slice(&self.event.to_le_bytes());
        body.extend_from_slice(&self.expires_s.to_le_bytes());
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let [
            f0,
            f1,
            f2,
            f3,
            f4,
            f5,
            f6,
            f7,
            e0,
            e1,
            e2,
            e3,
            e4,
            e5,
            e6,
            e7,
            x0,
            x1,
            x2,
            x3,
        ] = *bytes;
        Entry {
            fingerprint: u64::from_le_bytes([f0, f1, f2, f3, f4, f5, f6, f7]),
            event: u64::from_le_bytes([e0, e1, e2, e3, e4, e5, e6, e7]),
            expires_s: u32::from_le_bytes([x0, x1, x2, x3]),
        }
    }
}

/// Whether a key that expires at this second is forgotten at `now`.
pub(super) fn has_expired(expires_s: u32, now: Time) -> bool {
    expires_s != u32::MAX && i64::from(expires_s) * SECOND_MS <= now.0
}

/// A moment in whole seconds, rounded up so that no key is forgotten too early.
pub(super) fn seconds(at: Time) -> u32 {
    let whole = at.0.max(0) / SECOND_MS + i64::from(at.0 % SECOND_MS > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// The share of `fingerprint` in the range of all fingerprints, as one of `places`. Monotone.
pub(super) fn scale(fingerprint: u64, places: u64) -> u64 {
    u64::try_from((u128::from(fingerprint) * u128::from(places)) >> 64).unwrap_or(0)
}

/// What the manifest keeps of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Its number; ascending, never used twice.
    pub(super) id: u32,
    /// Whether its keys count.
    pub(super) stage: Stage,
    /// How often its keys have been merged.
    pub(super) level: u8,
    /// Number of its blocks.
    pub(super) blocks: u32,
    /// Number of its filter's lines.
    pub(super) lines: u32,
    /// Number of its keys.
    pub(super) keys: u64,
    /// When the last of them expires.
    pub(super) expires_max_s: u32,
}

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Being written. After a restart it is dropped.
    Building = 1,
    /// Its keys count.
    Sealed = 2,
    /// Its keys do not count any more, its rows are being deleted.
    Dropped = 3,
}

impl Meta {
    /// A run about to be built from at most `keys`.
    pub(super) fn planned(id: u32, level: u8, keys: u64, block_keys: u64) -> Meta {
        let pieces = |each: u64| u32::try_from(keys.div_ceil(each).max(1)).unwrap_or(u32::MAX);
        Meta {
            id,
            stage: Stage::Building,
            level,
            blocks: pieces(block_keys),
            lines: pieces(LINE_KEYS),
            keys: 0,
            expires_max_s: 0,
        }
    }

    /// Row id of its row number `row`, in either table.
    pub(super) fn row(&self, row: u64) -> i64 {
        i64::try_from((u64::from(self.id) << ROW_BITS) | row).unwrap_or(i64::MAX)
    }

    /// How many rows its filter takes.
    pub(super) fn filter_rows(&self) -> u64 {
        u64::from(self.lines).div_ceil(FILTER_ROW_LINES)
    }
}

/// A sealed run that is looked up in.
pub(super) struct Run {
    pub(super) meta: Meta,
    pub(super) filter: Filter,
}

/// A blocked Bloom filter.
pub(super) struct Filter {
    lines: Vec<[u64; 8]>,
}

impl Filter {
    pub(super) fn new(lines: u32) -> Filter {
        Filter {
            lines: vec![[0; 8]; lines as usize],
        }
    }

    /// The line of a fingerprint, by its number.
    pub(super) fn line(&self, fingerprint: u64) -> u64 {
        scale(fingerprint, self.lines.len() as u64)
    }

    pub(super) fn insert(&mut self, fingerprint: u64) {
        let line = usize::try_from(self.line(fingerprint)).unwrap_or(usize::MAX);
        let mask = mask(fingerprint);
        for (word, bits) in self.lines[line].iter_mut().zip(mask) {
            *word |= bits;
        }
    }

    /// `false` is certain.
    pub(super) fn may_hold(&self, fingerprint: u64) -> bool {
        let line = usize::try_from(self.line(fingerprint)).unwrap_or(usize::MAX);
        let mask = mask(fingerprint);
        self.lines[line]
            .iter()
            .zip(mask)
            .all(|(word, bits)| word & bits == bits)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.lines.len() * size_of::<[u64; 8]>()
    }

    /// Writes row number `row` of the filter of `meta`.
    pub(super) fn save(&self, db: &Connection, meta: &Meta, row: u64) -> Result<(), KeysError> {
        let first = usize::try_from(row * FILTER_ROW_LINES).unwrap_or(usize::MAX);
        let last = self
            .lines
            .len()
            .min(first + usize::try_from(FILTER_ROW_LINES).unwrap_or(0));
        let mut body: Vec<u8> = self.lines[first..last]
            .iter()
            .flatten()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        seal(meta.row(row), &mut body);
        db.prepare_cached("INSERT INTO key_filter (id, body) VALUES (?1, ?2)")?
            .execute(params![meta.row(row), body])?;
        Ok(())
    }

    /// Reads the filter of `meta`.
    pub(super) fn load(db: &Connection, meta: &Meta) -> Result<Filter, KeysError> {
        let mut lines = Vec::with_capacity(meta.lines as usize);
        let mut select = db.prepare_cached("SELECT body FROM key_filter WHERE id = ?1")?;
        for row in 0..meta.filter_rows() {
            let id = meta.row(row);
            let body: Option<Vec<u8>> = select.query_row([id], |found| found.get(0)).optional()?;
            let body = body.ok_or_else(|| damaged("a filter row is missing", id))?;
            let (words, _) = unseal(id, &body, "a filter row")?.as_chunks::<8>();
            let (rows, _) = words.as_chunks::<8>();
            lines.extend(rows.iter().map(|line| line.map(u64::from_le_bytes)));
        }
        if lines.len() != meta.lines as usize {
            return Err(damaged("a filter has the wrong length", meta.row(0)));
        }
        Ok(Filter { lines })
    }
}

/// The six bits of a fingerprint within its line.
fn mask(fingerprint: u64) -> [u64; 8] {
    let mut mask = [0_u64; 8];
    let mut bits = mix(fingerprint);
    for _ in 0..LINE_BITS {
        let word = usize::try_from((bits >> 6) & 7).unwrap_or(0);
        mask[word] |= 1 << (bits & 63);
        bits >>= 9;
    }
    mask
}

/// A block while it is filled.
#[derive(Default)]
pub(super) struct Block {
    body: Vec<u8>,
}

impl Block {
    pub(super) fn push(&mut self, entry: Entry) {
        entry.write(&mut self.body);
    }

    /// Writes it as block number `number` of `meta` and empties it. An empty block is written too,
    /// so that a missing one is damage.
    pub(super) fn save(
        &mut self,
        db: &Connection,
        meta: &Meta,
        number: u64,
    ) -> Result<(), KeysError> {
        let id = meta.row(number);
        seal(id, &mut self.body);
        db.prepare_cached("INSERT INTO key_block (id, body) VALUES (?1, ?2)")?
            .execute(params![id, self.body])?;
        self.body.clear();
        Ok(())
    }
}

/// The entries of block number `number` of `meta`, or `None` if there is no such row.
pub(super) fn block(
    db: &Connection,
    meta: &Meta,
    number: u64,
) -> Result<Option<Vec<Entry>>, KeysError> {
    with_block(db, meta, number, |entries| {
        entries.iter().map(Entry::read).collect()
    })
}

/// The entries with `fingerprint` in the block it belongs to, or `None` if there is no such row.
pub(super) fn find(
    db: &Connection,
    meta: &Meta,
    fingerprint: u64,
) -> Result<Option<Vec<Entry>>, KeysError> {
    with_block(
        db,
        meta,
        scale(fingerprint, u64::from(meta.blocks)),
        |entries| {
            let first =
                entries.partition_point(|bytes| Entry::read(bytes).fingerprint < fingerprint);
            entries[first..]
                .iter()
                .map(Entry::read)
                .take_while(|entry| entry.fingerprint == fingerprint)
                .collect()
        },
    )
}

fn with_block<T>(
    db: &Connection,
    meta: &Meta,
    number: u64,
    look: impl FnOnce(&[[u8; ENTRY_BYTES]]) -> T,
) -> Result<Option<T>, KeysError> {
    let id = meta.row(number);
    let mut select = db.prepare_cached("SELECT body FROM key_block WHERE id = ?1")?;
    let mut rows = select.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let body = row
        .get_ref(0)?
        .as_blob()
        .map_err(|_| damaged("a block is no blob", id))?;
    let (entries, rest) = unseal(id, body, "a block")?.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(damaged("a block has the wrong length", id));
    }
    Ok(Some(look(entries)))
}

/// Puts the checksum of its place and its bytes behind a row's body.
pub(super) fn seal(id: i64, body: &mut Vec<u8>) {
    let sum = checksum(id, body);
    body.extend_from_slice(&sum.to_le_bytes());
}

/// A row's body without its checksum, if that holds.
pub(super) fn unseal<'a>(id: i64, body: &'a [u8], what: &str) -> Result<&'a [u8], KeysError> {
    match body.split_last_chunk::<4>() {
        Some((rest, sum)) if checksum(id, rest) == u32::from_le_bytes(*sum) => Ok(rest),
        _ => Err(damaged(
            &format!("the checksum of {what} does not hold"),
            id,
        )),
    }
}

fn checksum(id: i64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), body)
}

pub(super) fn damaged(what: &str, id: i64) -> KeysError {
    KeysError::Damaged {
        what: format!("{what} (run {}, row {})", id >> ROW_BITS, id & 0xffff_ffff),
    }
}
