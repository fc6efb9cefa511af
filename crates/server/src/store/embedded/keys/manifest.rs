//! What is known of all runs, in one row of `index.db` that is replaced as a whole.
//!
//! One row under one checksum, because a run that got lost unnoticed would be a duplicate admitted:
//! if the row is there and holds, it names every run there is.
//!
//! Absent here: the rows of the runs themselves.

use rusqlite::{Connection, OptionalExtension, params};

use super::KeysError;
use super::run::{Meta, Stage, damaged, seal, unseal};

/// Id of the only row, and its format.
const MANIFEST_ROW: i64 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Keys of the hash from digest to fingerprint, drawn once: a caller who picks business ids
    /// cannot pick where they land.
    pub(super) seeds: [u64; 2],
    /// The keys of all events up to this one are in runs, or have been dropped.
    pub(super) low_water: u64,
    /// Number of the next run.
    pub(super) next_run: u32,
    /// All runs that have rows.
    pub(super) runs: Vec<Meta>,
}

impl Manifest {
    pub(super) fn new(seeds: [u64; 2]) -> Manifest {
        Manifest {
            seeds,
            low_water: 0,
            next_run: 1,
            runs: Vec::new(),
        }
    }

    /// The run with this number.
    pub(super) fn run_mut(&mut self, id: u32) -> Option<&mut Meta> {
        self.runs.iter_mut().find(|meta| meta.id == id)
    }

    pub(super) fn save(&self, db: &Connection) -> Result<(), KeysError> {
        let mut body = Vec::with_capacity(28 + 30 * self.runs.len());
        body.extend_from_slice(&self.seeds[0].to_le_bytes());
        body.extend_from_slice(&self.seeds[1].to_le_bytes());
        body.extend_from_slice(&self.low_water.to_le_bytes());
        body.extend_from_slice(&self.next_run.to_le_bytes());
        for meta in &self.runs {
            body.extend_from_slice(&meta.id.to_le_bytes());
            body.extend_from_slice(&[meta.stage as u8, meta.level]);
            body.extend_from_slice(&meta.blocks.to_le_bytes());
            body.extend_from_slice(&meta.lines.to_le_bytes());
            body.extend_from_slice(&meta.keys.to_le_bytes());
            body.extend_from_slice(&meta.expires_max_s.to_le_bytes());
        }
        seal(MANIFEST_ROW, &mut body);
        db.prepare_cached("INSERT OR REPLACE INTO key_manifest (id, body) VALUES (?1, ?2)")?
            .execute(params![MANIFEST_ROW, body])?;
        Ok(())
    }

    pub(super) fn load(db: &Connection) -> Result<Manifest, KeysError> {
        let body: Option<Vec<u8>> = db
            .query_row(
                "SELECT body FROM key_manifest WHERE id = ?1",
                [MANIFEST_ROW],
                |row| row.get(0),
            )
            .optional()?;
        let body = body.ok_or_else(|| damaged("the list of runs is missing", MANIFEST_ROW))?;
        let mut bytes = unseal(MANIFEST_ROW, &body, "the list of runs")?;
        read(&mut bytes).ok_or_else(|| damaged("the list of runs makes no sense", MANIFEST_ROW))
    }

    /// Whether there is a place for one yet.
    pub(super) fn has_table(db: &Connection) -> Result<bool, KeysError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'key_manifest')";
        Ok(db.query_row(sql, [], |row| row.get(0))?)
    }
}

fn read(bytes: &mut &[u8]) -> Option<Manifest> {
    let mut manifest = Manifest {
        seeds: [u64_of(bytes)?, u64_of(bytes)?],
        low_water: u64_of(bytes)?,
        next_run: u32_of(bytes)?,
        runs: Vec::new(),
    };
    while !bytes.is_empty() {
        manifest.runs.push(Meta {
            id: u32_of(bytes)?,
            stage: match u8_of(bytes)? {
                1 => Stage::Building,
                2 => Stage::Sealed,
                3 => Stage::Dropped,
                _ => return None,
            },
            level: u8_of(bytes)?,
            blocks: u32_of(bytes)?,
            lines: u32_of(bytes)?,
            keys: u64_of(bytes)?,
            expires_max_s: u32_of(bytes)?,
        });
    }
    Some(manifest)
}

fn u8_of(bytes: &mut &[u8]) -> Option<u8> {
    bytes.split_off_first().copied()
}

fn u32_of(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

fn u64_of(bytes: &mut &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_or_not_at_all() {
        let db = Connection::open_in_memory().unwrap();
        super::super::create(&db).unwrap();
        let mut manifest = Manifest::new([3, 4]);
        manifest.low_water = 77;
        manifest.runs = vec![Meta::planned(9, 2, 1_000_000, 170); 3];
        manifest.runs[1].stage = Stage::Sealed;
        manifest.save(&db).unwrap();
        assert_eq!(Manifest::load(&db).unwrap(), manifest);
        for place in [1, 17, 29, 60, 110] {
            db.execute(
                "UPDATE key_manifest SET body = cast(substr(body, 1, ?1 - 1) || x'a5' ||
                 substr(body, ?1 + 1) AS BLOB)",
                [place],
            )
            .unwrap();
            assert!(
                Manifest::load(&db).is_err(),
                "a flip at {place} goes unnoticed"
            );
            manifest.save(&db).unwrap();
        }
    }
}
