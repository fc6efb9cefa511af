//! The journal: what stores make durable, keep, and remove.
//!
//! Absent here: how a store does it.

use std::collections::BTreeMap;

use postrider_core::id::{DeliveryId, Epoch, EventId, Seq};
use postrider_core::ledger::{Delivery, Entry, Fact, apply};
use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::Happened;
use crate::picture::Picture;

/// What the chain of a delivery has come to.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    version: u32,
    seq: Seq,
    settled: bool,
}

/// See its promise.
#[derive(Default)]
pub struct Chain {
    links: BTreeMap<(usize, DeliveryId), Link>,
    last_seq: BTreeMap<usize, Seq>,
    last_event: BTreeMap<usize, EventId>,
}

impl Checker for Chain {
    fn name(&self) -> &'static str {
        super::CHAIN
    }

    fn promise(&self) -> &'static str {
        "A journal ascends; a delivery's entries expect versions without a gap, each names the one \
         before it, and after the one that settles it nothing comes but receipts."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Committed { shard, record } = happened else {
            return Ok(());
        };
        if let Some(event) = &record.event {
            let last = self.last_event.entry(*shard).or_default();
            hold(event.id > *last, || {
                format!("event {} after {last}", event.id)
            })?;
            *last = event.id;
        }
        for entry in &record.entries {
            let last = self.last_seq.entry(*shard).or_default();
            hold(entry.seq > *last, || {
                format!("{entry:?} stands behind {last}")
            })?;
            *last = entry.seq;
            let link = self.links.entry((*shard, entry.delivery)).or_default();
            let receipt = matches!(entry.fact, Fact::Confirmed { .. });
            let fits = entry.version == link.version
                && entry.previous == link.seq
                && (receipt || !link.settled);
            hold(fits, || format!("shard {shard}: {entry:?} after {link:?}"))?;
            link.version += 1;
            link.seq = entry.seq;
            link.settled |= crate::world::settles(entry);
        }
        Ok(())
    }
}

/// See its promise.
pub struct Fenced;

impl Checker for Fenced {
    fn name(&self) -> &'static str {
        "fenced"
    }

    fn promise(&self) -> &'static str {
        "What is made durable was written under the epoch of the present owner: a deposed node \
         writes nothing, cursors included."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let (shard, epochs): (usize, Vec<Epoch>) = match happened {
            Happened::Committed { shard, record } => (
                *shard,
                record.fences.iter().map(|(_, epoch)| *epoch).collect(),
            ),
            Happened::CursorKept { who, .. } => (who.shard, vec![who.epoch]),
            _ => return Ok(()),
        };
        let owner = picture.epoch(shard);
        let right = !epochs.is_empty() && epochs.iter().all(|epoch| *epoch == owner);
        hold(right, || {
            format!("shard {shard}: written under {epochs:?} in epoch {owner}")
        })
    }
}

/// See its promise.
#[derive(Default)]
pub struct Purged {
    /// What was settled.
    settled: BTreeMap<(usize, DeliveryId), bool>,
}

impl Checker for Purged {
    fn name(&self) -> &'static str {
        "purge-settled"
    }

    fn promise(&self) -> &'static str {
        "Housekeeping removes nothing that is not settled."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Committed { shard, record } => {
                for entry in &record.entries {
                    let settled = self.settled.entry((*shard, entry.delivery)).or_default();
                    *settled |= crate::world::settles(entry);
                }
            }
            Happened::Purged { shard, gone } => {
                for id in *gone {
                    let settled = self.settled.remove(&(*shard, *id));
                    hold(settled == Some(true), || {
                        format!("shard {shard}: delivery {id} was removed, settled {settled:?}")
                    })?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// See its promise.
pub struct Fold;

impl Checker for Fold {
    fn name(&self) -> &'static str {
        "ledger-fold"
    }

    fn promise(&self) -> &'static str {
        "At the end a store's rows are the fold of its journal, and of what it said was durable."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Held {
            shard,
            rows,
            journal,
        } = happened
        else {
            return Ok(());
        };
        let folded = fold(journal)?;
        let mut held: Vec<&Delivery> = rows.iter().collect();
        held.sort_by_key(|row| row.id);
        same(*shard, "its journal", folded.values(), &held)?;
        same(
            *shard,
            "the history",
            picture.rows(*shard).map(|it| &it.row),
            &held,
        )
    }
}

fn fold(journal: &[Entry]) -> Result<BTreeMap<DeliveryId, Delivery>, String> {
    let mut rows = BTreeMap::new();
    for entry in journal {
        let mut row = rows.remove(&entry.delivery);
        apply(&mut row, entry)
            .map_err(|conflict| format!("the journal does not fold: {conflict}"))?;
        if let Some(row) = row {
            rows.insert(entry.delivery, row);
        }
    }
    Ok(rows)
}

fn same<'a>(
    shard: usize,
    what: &str,
    folded: impl Iterator<Item = &'a Delivery>,
    held: &[&Delivery],
) -> Result<(), String> {
    let folded: Vec<&Delivery> = folded.collect();
    let apart = folded.iter().zip(held).find(|(one, other)| one != other);
    hold(apart.is_none() && folded.len() == held.len(), || {
        let (many, held) = (folded.len(), held.len());
        format!("shard {shard} holds {held} rows, {what} folds to {many}; first apart {apart:?}")
    })
}
