//! Lanes: one at a time, in order, without gaps.
//!
//! Absent here: order over keys, which nobody promises.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::endpoint::Reach;
use postrider_core::ledger::{Fact, Record};
use postrider_core::policy::HeadOfLine;
use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::Happened;
use crate::picture::{LaneAt, Picture};

/// See its promise.
#[derive(Default)]
pub struct LaneOrder;

impl Checker for LaneOrder {
    fn name(&self) -> &'static str {
        "lane-order"
    }

    fn promise(&self) -> &'static str {
        "Of deliveries with one ordering key to one endpoint, one is let go only after all before \
         it are settled."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let (Happened::Sent { who, dispatch, .. } | Happened::Left { who, dispatch, .. }) =
            happened
        else {
            return Ok(());
        };
        let Some(place) = dispatch.lane else {
            return Ok(());
        };
        let lane = picture.lane((who.shard, dispatch.endpoint, place.key));
        let first = lane.and_then(|lane| lane.first_key_value());
        hold(
            first.is_none_or(|(first, _)| *first >= place.sequence),
            || {
                let id = dispatch.delivery;
                format!(
                    "{who:?} lets {id} go at place {}, unsettled is {first:?}",
                    place.sequence
                )
            },
        )
    }
}

/// See its promise.
#[derive(Default)]
pub struct LaneParked {
    parked: BTreeMap<LaneAt, u64>,
}

impl Checker for LaneParked {
    fn name(&self) -> &'static str {
        "lane-parked"
    }

    fn promise(&self) -> &'static str {
        "A lane whose head ended as a dead letter under the policy to park goes on only after its \
         endpoint was resumed, its lane has emptied, or its engine has ended."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Committed { shard, record } => self.settled(picture, *shard, record),
            Happened::Told { who, gate } if gate.reach == Reach::Open => {
                let here = |at: &LaneAt| (at.0, at.1) == (who.shard, gate.endpoint);
                self.parked.retain(|at, _| !here(at));
            }
            Happened::Ended { who } | Happened::Granted { who } => {
                self.parked.retain(|at, _| at.0 != who.shard);
            }
            Happened::Sent { who, dispatch, .. } => {
                let at = dispatch
                    .lane
                    .map(|lane| (who.shard, dispatch.endpoint, lane.key));
                let parked = at.and_then(|at| self.parked.get(&at));
                return hold(parked.is_none(), || {
                    let id = dispatch.delivery;
                    format!("{who:?} sends {id} in a lane that {parked:?} parked")
                });
            }
            _ => {}
        }
        Ok(())
    }
}

impl LaneParked {
    fn settled(&mut self, picture: &Picture, shard: usize, record: &Record) {
        let settling = record.entries.iter().filter(|it| crate::world::settles(it));
        for entry in settling {
            let Some(known) = picture.row(shard, entry.delivery) else {
                continue;
            };
            let row = &known.row;
            let Some(place) = row.lane.filter(|_| row.state.is_settled()) else {
                continue;
            };
            let at = (shard, row.endpoint, place.key);
            let waiting = picture.lane(at).filter(|lane| !lane.is_empty());
            let Some(waiting) = waiting else {
                self.parked.remove(&at);
                continue;
            };
            let head = waiting
                .first_key_value()
                .is_some_and(|it| *it.0 > place.sequence);
            let policy = picture.policy(row.policy);
            let parks = policy.is_some_and(|policy| policy.head_of_line == HeadOfLine::Park);
            if head && parks && row.is_dead_letter() {
                self.parked.insert(at, place.sequence);
            }
        }
    }
}

/// See its promise.
#[derive(Default)]
pub struct LaneGapless {
    last: BTreeMap<LaneAt, u64>,
    refused: BTreeSet<(LaneAt, u64)>,
}

impl Checker for LaneGapless {
    fn name(&self) -> &'static str {
        "lane-gapless"
    }

    fn promise(&self) -> &'static str {
        "Sequence ids of a lane ascend by one, over restarts and owners, none is given twice, and \
         one is left out only where the store refused its admission with others behind it."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Refused { shard, record, .. } => {
                self.refused.extend(places(*shard, record));
                Ok(())
            }
            Happened::Committed { shard, record } => {
                for (at, sequence) in places(*shard, record) {
                    let last = self.last.entry(at).or_insert(0);
                    let mut between = *last + 1..sequence;
                    let refused = between.all(|it| self.refused.contains(&(at, it)));
                    hold(sequence > *last && refused, || {
                        format!("{at:?} goes on with number {sequence} after {last}")
                    })?;
                    *last = sequence;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The places in lanes that a record gives out.
fn places(shard: usize, record: &Record) -> impl Iterator<Item = (LaneAt, u64)> {
    record.entries.iter().filter_map(move |entry| {
        let Fact::Admitted(admitted) = &entry.fact else {
            return None;
        };
        let lane = admitted.lane?;
        Some(((shard, admitted.endpoint, lane.key), lane.sequence))
    })
}
