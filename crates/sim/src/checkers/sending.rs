//! What leaves: recorded before, by the owner, in time, to who may be sent to, and not more often
//! than promised.
//!
//! Absent here: what a stopped process writes after its last look. That is counted, not forbidden:
//! see the page on simulation.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::endpoint::Reach;
use postrider_core::id::{CorrelationId, EndpointId};
use postrider_core::ledger::{Fact, State};
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::{Happened, Who};
use crate::picture::Picture;

/// See its promise.
pub struct SentDurable;

impl Checker for SentDurable {
    fn name(&self) -> &'static str {
        "sent-durable"
    }

    fn promise(&self) -> &'static str {
        "No attempt leaves before the entry that opened it is durable, under its sender's epoch."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Sent { who, dispatch, .. } = happened else {
            return Ok(());
        };
        let known = picture.row(who.shard, dispatch.delivery);
        let durable = known.is_some_and(|it| {
            it.row.state == State::InFlight
                && it.row.attempt == dispatch.attempt
                && it.row.correlation == dispatch.correlation
                && it.opened_under == who.epoch
        });
        hold(durable, || {
            let state = known.map(|it| (it.row.state, it.row.attempt, it.opened_under));
            format!("{who:?} sends {dispatch:?}, durable is {state:?}")
        })
    }
}

/// See its promise.
pub struct OwnerOnly;

impl Checker for OwnerOnly {
    fn name(&self) -> &'static str {
        "owner-only"
    }

    fn promise(&self) -> &'static str {
        "Only the engine of a shard's present owner takes turns and lets attempts go, at its last \
         look too."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Sent { who, dispatch, .. } | Happened::Left { who, dispatch, .. } => {
                let epoch = picture.epoch(who.shard);
                hold(epoch == who.epoch, || {
                    let id = dispatch.delivery;
                    format!("{who:?} lets delivery {id} go in epoch {epoch}")
                })
            }
            Happened::Turned { who, .. } => {
                let epoch = picture.epoch(who.shard);
                hold(epoch == who.epoch, || {
                    format!("{who:?} takes a turn in epoch {epoch}")
                })
            }
            _ => Ok(()),
        }
    }
}

/// See its promise.
#[derive(Default)]
pub struct AtMostOnce {
    written: BTreeMap<CorrelationId, u32>,
}

impl Checker for AtMostOnce {
    fn name(&self) -> &'static str {
        "at-most-once"
    }

    fn promise(&self) -> &'static str {
        "Of an at-most-once delivery one request is written at the most, over all nodes and \
         restarts; one that the receiver provably did not process does not count."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Written { dispatch, .. } if dispatch.guarantee == Guarantee::AtMostOnce => {
                let times = self.written.entry(dispatch.correlation).or_insert(0);
                *times += 1;
                hold(*times == 1, || {
                    let Happened::Written { who, dispatch } = happened else {
                        return String::new();
                    };
                    let (id, attempt) = (dispatch.delivery, dispatch.attempt);
                    format!("{who:?} writes delivery {id} again, as attempt {attempt}")
                })
            }
            Happened::Unprocessed { correlation } => {
                if let Some(times) = self.written.get_mut(correlation) {
                    *times = times.saturating_sub(1);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// See its promise.
#[derive(Default)]
pub struct RepeatsExplained {
    processed: BTreeSet<CorrelationId>,
}

impl Checker for RepeatsExplained {
    fn name(&self) -> &'static str {
        "repeats-explained"
    }

    fn promise(&self) -> &'static str {
        "A receiver processes a delivery again only where an earlier attempt is on record as one \
         that may have acted."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Arrived {
            correlation,
            attempt,
            processed: true,
        } = happened
        else {
            return Ok(());
        };
        let again = !self.processed.insert(*correlation);
        let explained = |known: &crate::picture::Known| known.row.may_have_acted;
        let known = picture.outer(*correlation);
        hold(
            !again || known.is_none_or(|(_, known)| explained(known)),
            || {
                let row = known.map(|(_, known)| &known.row);
                format!("attempt {attempt} repeats what was processed, unexplained: {row:?}")
            },
        )
    }
}

/// See its promise.
pub struct TimeToLive;

impl Checker for TimeToLive {
    fn name(&self) -> &'static str {
        "time-to-live"
    }

    fn promise(&self) -> &'static str {
        "No attempt is opened, let go or begun at or after the end of its time to live, on the \
         engine's clock."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Sent { who, at, dispatch } | Happened::Left { who, at, dispatch } => {
                hold(*at < dispatch.expires_at, || {
                    let (id, end) = (dispatch.delivery, dispatch.expires_at);
                    format!("{who:?} lets delivery {id} go at {at}, it ended at {end}")
                })
            }
            Happened::Committed { shard, record } => {
                for entry in &record.entries {
                    let known = picture.row(*shard, entry.delivery);
                    let expires_at = known.map_or(Time::NEVER, |it| it.row.expires_at);
                    let opens = matches!(entry.fact, Fact::Opened { .. });
                    hold(!opens || entry.at < expires_at, || {
                        format!("{entry:?} opens what ended at {expires_at}")
                    })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// See its promise.
#[derive(Default)]
pub struct Reachable {
    told: BTreeMap<(Who, EndpointId), Reach>,
    /// When an endpoint was registered last, as far as any engine was told.
    registered: BTreeMap<EndpointId, Time>,
    /// Endpoints whose retirement was recorded, and since when each is gone.
    gone: BTreeMap<(usize, EndpointId), Time>,
}

impl Checker for Reachable {
    fn name(&self) -> &'static str {
        "reachable"
    }

    fn promise(&self) -> &'static str {
        "Nothing is opened or let go to an endpoint after its retirement was recorded, unless it \
         was registered again later than it was gone, nor to one that the engine was told is \
         paused or closed."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Told { who, gate, .. } => {
                self.told.insert((*who, gate.endpoint), gate.reach);
                let registered = self.registered.entry(gate.endpoint).or_default();
                *registered = (*registered).max(gate.registered_at);
                let registered = *registered;
                let lives = |of: EndpointId, since: Time| of == gate.endpoint && since < registered;
                self.gone.retain(|(_, of), since| !lives(*of, *since));
            }
            Happened::Ended { who } => self.told.retain(|(told, _), _| told != who),
            Happened::Committed { shard, record } => {
                for entry in &record.entries {
                    let known = picture.row(*shard, entry.delivery);
                    let Some(endpoint) = known.map(|it| it.row.endpoint) else {
                        continue;
                    };
                    match &entry.fact {
                        Fact::Answered { outcome, .. } if outcome.kind == OutcomeKind::Gone => {
                            let since = outcome.gone_at(entry.at);
                            if self.registered.get(&endpoint).is_none_or(|it| *it <= since) {
                                self.gone.insert((*shard, endpoint), since);
                            }
                        }
                        Fact::Opened { .. } => {
                            hold(!self.gone.contains_key(&(*shard, endpoint)), || {
                                format!("shard {shard}: {entry:?} opens to retired {endpoint}")
                            })?;
                        }
                        _ => {}
                    }
                }
            }
            Happened::Sent { who, dispatch, .. } => {
                let endpoint = dispatch.endpoint;
                let told = self.told.get(&(*who, endpoint)).copied();
                let gone = self.gone.get(&(who.shard, endpoint));
                let open = told.is_none_or(|reach| reach == Reach::Open);
                return hold(open && gone.is_none(), || {
                    format!("{who:?} sends to {endpoint}: told {told:?}, gone since {gone:?}")
                });
            }
            _ => {}
        }
        Ok(())
    }
}
