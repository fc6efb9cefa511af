//! The checkpoint: from where on the ledger files have to be read again at a restart.
//!
//! One row of `index.db` that is replaced as a whole. Everything up to its places is in the tables
//! of `index.db`; the unsettled deliveries up to there lie in the blocks it names, so that a
//! restart reads those blocks and what came after, and nothing else of the past.
//!
//! Absent here: when it moves; see [`super::tend`].

use std::collections::BTreeMap;

use postrider_core::id::{DeliveryId, Epoch, EventId, Seq};
use postrider_core::time::Time;
use rusqlite::{Connection, OptionalExtension, params};

use super::codec::{Cursor, Garbled, varint};
use super::row::{RowError, Sum};

/// Deliveries in a block: the grain in which it is remembered where unsettled ones lie.
pub const BLOCK_DELIVERIES: u64 = 1_024;
/// Number of this encoding.
const FORMAT: u64 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Under which all partitions are held, or were by the last process.
    pub epoch: Epoch,
    /// Events up to here are known.
    pub event: EventId,
    /// Deliveries up to here are known.
    pub delivery: DeliveryId,
    /// Entries up to here are known.
    pub seq: Seq,
    /// Moment of the newest of them.
    pub at: Time,
    /// Age of the ledger, ms: the engine's time as far as it passed steadily. A clock that jumps
    /// years does not make anything old.
    pub lived_ms: i64,
    /// The engine's time when the age was counted last.
    pub seen_at: Time,
    /// The oldest ledger file there is; those before it were purged.
    pub first_file: u32,
    /// When the last key of each ledger file is forgotten, from the oldest file on.
    pub keys_until: Vec<i64>,
    /// The blocks that hold unsettled deliveries, ascending.
    pub blocks: Vec<u64>,
}

impl Checkpoint {
    /// Reads it.
    ///
    /// # Errors
    /// [`RowError`] if it is not there or does not match its checksum.
    pub fn load(index: &Connection) -> Result<Checkpoint, RowError> {
        let damaged = RowError::Damaged {
            table: "checkpoint",
            id: 1,
        };
        let found: Option<(Vec<u8>, i32)> = index
            .query_row("SELECT state, sum FROM checkpoint", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        match found {
            Some((state, sum)) if Sum::new().bytes(&state).get() == sum => {
                decode(&state).map_err(|_| damaged)
            }
            _ => Err(damaged),
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn save(&self, index: &Connection) -> rusqlite::Result<()> {
        let state = self.encode();
        let sum = Sum::new().bytes(&state).get();
        index
            .prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES (1, ?1, ?2)")?
            .execute(params![state, sum])?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let heads = [
            FORMAT,
            self.epoch.0,
            self.event.0,
            self.delivery.0,
            self.seq.0,
            self.at.0.cast_unsigned(),
            self.lived_ms.cast_unsigned(),
            self.seen_at.0.cast_unsigned(),
            u64::from(self.first_file),
            self.keys_until.len() as u64,
        ];
        let keys_until = self.keys_until.iter().map(|until| until.cast_unsigned());
        for number in heads.into_iter().chain(keys_until) {
            varint(&mut out, number);
        }
        varint(&mut out, self.blocks.len() as u64);
        let mut before = 0;
        for &block in &self.blocks {
            varint(&mut out, block - before);
            before = block;
        }
        out
    }
}

fn decode(bytes: &[u8]) -> Result<Checkpoint, Garbled> {
    let mut cursor = Cursor { bytes, at: 0 };
    if cursor.varint()? != FORMAT {
        return Err(Garbled { at: 0 });
    }
    let mut checkpoint = Checkpoint {
        epoch: Epoch(cursor.varint()?),
        event: EventId(cursor.varint()?),
        delivery: DeliveryId(cursor.varint()?),
        seq: Seq(cursor.varint()?),
        at: Time(cursor.varint()?.cast_signed()),
        lived_ms: cursor.varint()?.cast_signed(),
        seen_at: Time(cursor.varint()?.cast_signed()),
        first_file: u32::try_from(cursor.varint()?).map_err(|_| Garbled { at: cursor.at })?,
        ..Checkpoint::default()
    };
    for _ in 0..cursor.varint()? {
        checkpoint.keys_until.push(cursor.varint()?.cast_signed());
    }
    let mut block = 0_u64;
    for _ in 0..cursor.varint()? {
        block = block.wrapping_add(cursor.varint()?);
        checkpoint.blocks.push(block);
    }
    Ok(checkpoint)
}

/// How many unsettled deliveries lie in each block; blocks without any are not there.
#[derive(Debug, Default)]
pub struct Blocks {
    counts: BTreeMap<u64, u32>,
}

impl Blocks {
    /// One more.
    pub fn add(&mut self, id: DeliveryId) {
        *self.counts.entry(id.0 / BLOCK_DELIVERIES).or_default() += 1;
    }

    /// One less.
    pub fn remove(&mut self, id: DeliveryId) {
        let block = id.0 / BLOCK_DELIVERIES;
        if let Some(count) = self.counts.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&block);
            }
        }
    }

    /// Those that hold any, ascending.
    #[must_use]
    pub fn unsettled(&self) -> Vec<u64> {
        self.counts.keys().copied().collect()
    }

    /// Whether any with an id in `from..until` is possibly unsettled. Errs to `true` at the edges.
    #[must_use]
    pub fn any(&self, from: DeliveryId, until: DeliveryId) -> bool {
        let last = until.0.saturating_sub(1).max(from.0) / BLOCK_DELIVERIES;
        self.counts
            .range(from.0 / BLOCK_DELIVERIES..=last)
            .next()
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_checkpoint_survives(at: i64, seq: u64, mut blocks: Vec<u64>, keys_until: Vec<i64>) {
            blocks.sort_unstable();
            let checkpoint = Checkpoint {
                at: Time(at),
                seq: Seq(seq),
                blocks,
                keys_until,
                first_file: 3,
                ..Checkpoint::default()
            };
            proptest::prop_assert_eq!(decode(&checkpoint.encode()), Ok(checkpoint));
        }
    }
}
