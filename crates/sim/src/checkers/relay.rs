//! The broker: it hears of every settled delivery, and a repeat is the same event.
//!
//! Absent here: order at the broker. Events of one delivery settle it once, so there is none to
//! keep.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::id::{DeliveryId, Seq};
use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::Happened;
use crate::picture::Picture;

/// See its promise.
#[derive(Default)]
pub struct BrokerKnows {
    /// What is to be told, and whether it was.
    told: BTreeMap<(usize, Seq), (DeliveryId, bool)>,
    ids: BTreeMap<(usize, DeliveryId), Seq>,
}

impl Checker for BrokerKnows {
    fn name(&self) -> &'static str {
        "broker-knows"
    }

    fn promise(&self) -> &'static str {
        "The broker hears of every settled delivery and of nothing else, and a repeat carries the \
         same id."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Committed { shard, record } => {
                for entry in &record.entries {
                    if crate::world::settles(entry) {
                        self.told
                            .insert((*shard, entry.seq), (entry.delivery, false));
                    }
                }
            }
            Happened::Published { shard, seq, entry } => {
                let told = self.told.get_mut(&(*shard, *seq));
                let right = told.as_ref().is_some_and(|told| told.0 == entry.delivery);
                hold(right, || {
                    format!("shard {shard}: {entry:?} was not made durable")
                })?;
                if let Some(told) = told {
                    told.1 = true;
                }
                let id = self.ids.entry((*shard, entry.delivery)).or_insert(*seq);
                return hold(id == seq, || {
                    format!(
                        "shard {shard}: {} comes as {seq} after {id}",
                        entry.delivery
                    )
                });
            }
            Happened::Rest { rested: true } => {
                let missing = self.told.iter().find(|(_, (_, told))| !told);
                return hold(missing.is_none(), || format!("never told: {missing:?}"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// See its promise.
#[derive(Default)]
pub struct CursorTrue {
    /// Settlements that the broker has not heard of.
    untold: BTreeSet<(usize, Seq)>,
}

impl Checker for CursorTrue {
    fn name(&self) -> &'static str {
        "cursor-true"
    }

    fn promise(&self) -> &'static str {
        "The cursor that a relay keeps never passes what the broker has not heard of."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Committed { shard, record } => {
                let settling = record.entries.iter().filter(|it| crate::world::settles(it));
                self.untold
                    .extend(settling.map(|entry| (*shard, entry.seq)));
            }
            Happened::Published { shard, seq, .. } => {
                self.untold.remove(&(*shard, *seq));
            }
            Happened::CursorKept { who, seq } => {
                let passed = self
                    .untold
                    .range((who.shard, Seq(0))..=(who.shard, *seq))
                    .next();
                return hold(passed.is_none(), || {
                    format!("{who:?} keeps the cursor at {seq}, untold is {passed:?}")
                });
            }
            _ => {}
        }
        Ok(())
    }
}
