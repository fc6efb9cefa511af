//! Reading everything once, to name what is damaged.
//!
//! Absent here: whether a key's event is the right one; the events know that.

use rusqlite::Connection;

use super::KeysError;
use super::manifest::Manifest;
use super::run::{self, Filter, Meta, Stage, damaged};

/// Reads every row of every sealed run and holds it against its checksum, its order, its filter and
/// its count; returns what does not add up, at most `findings_max` sentences. Not while slices are
/// being made, unless `db` is in a transaction.
///
/// # Errors
/// [`KeysError`] if the list of runs cannot be read.
pub fn verify(db: &Connection, findings_max: usize) -> Result<Vec<String>, KeysError> {
    let manifest = Manifest::load(db)?;
    let mut findings = Vec::new();
    for meta in manifest
        .runs
        .iter()
        .filter(|meta| meta.stage == Stage::Sealed)
    {
        if findings.len() < findings_max
            && let Err(error) = verify_run(db, meta)
        {
            findings.push(error.to_string());
        }
    }
    Ok(findings)
}

fn verify_run(db: &Connection, meta: &Meta) -> Result<(), KeysError> {
    let filter = Filter::load(db, meta)?;
    let (mut last, mut keys) = (0, 0);
    for number in 0..u64::from(meta.blocks) {
        let id = meta.row(number);
        let entries =
            run::block(db, meta, number)?.ok_or_else(|| damaged("a block is missing", id))?;
        for entry in entries {
            let at_home = run::scale(entry.fingerprint, u64::from(meta.blocks)) == number;
            if !at_home || entry.fingerprint < last {
                return Err(damaged("a key is out of its place", id));
            }
            if !filter.may_hold(entry.fingerprint) {
                return Err(damaged("the filter does not know a key", id));
            }
            last = entry.fingerprint;
            keys += 1;
        }
    }
    if keys != meta.keys {
        return Err(damaged(
            "a run has another number of keys than it should",
            meta.row(0),
        ));
    }
    Ok(())
}
