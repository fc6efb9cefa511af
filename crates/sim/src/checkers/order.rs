//! Lanes: one at a time, in order, without gaps.
//!
//! Absent here: order over keys, which nobody promises.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::cause::Cause;
use postrider_core::endpoint::Reach;
use postrider_core::id::{DeliveryId, EndpointId};
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
    parked: BTreeMap<LaneAt, Parked>,
    /// When an endpoint was changed last, as far as engines of a shard were told.
    changed: BTreeMap<(usize, EndpointId), Time>,
    /// The lanes of what was settled.
    settled: BTreeMap<(usize, DeliveryId), LaneAt>,
}

/// What parked a lane.
#[derive(Clone, Copy, Debug)]
struct Parked {
    /// When, on the engine's clock.
    at: Time,
    /// When the endpoint had been changed before.
    changed_at: Time,
}

impl Checker for LaneParked {
    fn name(&self) -> &'static str {
        "lane-parked"
    }

    fn promise(&self) -> &'static str {
        "A lane whose head ended as a dead letter under the policy to park goes on, over restarts \
         and owners, only after its endpoint was changed or resumed, its lane has emptied, or what \
         was settled in it is purged."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Committed { shard, record } => self.settled(picture, *shard, record),
            Happened::Told { who, gate, .. } => {
                let here = |at: &LaneAt| (at.0, at.1) == (who.shard, gate.endpoint);
                let open = gate.reach == Reach::Open;
                let since = |it: &Parked| gate.changed_at > it.changed_at.min(it.at);
                self.parked
                    .retain(|at, parked| !(open && here(at) && since(parked)));
                let changed = self.changed.entry((who.shard, gate.endpoint)).or_default();
                *changed = (*changed).max(gate.changed_at);
            }
            Happened::Purged { shard, gone } => {
                for id in *gone {
                    if let Some(at) = self.settled.remove(&(*shard, *id)) {
                        self.parked.remove(&at);
                    }
                }
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
            self.settled.insert((shard, row.id), at);
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
            let lapsed_behind = row.cause == Cause::ExpiredOrder;
            if head && parks && row.is_dead_letter() && !lapsed_behind {
                let changed_at = self.changed.get(&(shard, row.endpoint)).copied();
                let parked = Parked {
                    at: entry.at,
                    changed_at: changed_at.unwrap_or_default(),
                };
                self.parked.insert(at, parked);
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
