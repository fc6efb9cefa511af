//! Push: what a person sees, what refused credentials cost, and which addresses are gone.
//!
//! Absent here: what a provider makes of a repeat. A device shows what arrives, once for each id.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::cause::Cause;
use postrider_core::endpoint::Reach;
use postrider_core::id::{CorrelationId, DeliveryId, EndpointId, EventId, KeyDigest, RouteId};
use postrider_core::ledger::{Entry, Fact, Next, State};
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Guarantee;
use postrider_core::route::ROUTE_PROBE_MS;
use postrider_core::time::{SECOND_MS, Time};

use super::pace::{Stuck, writers};
use super::{Checker, hold};
use crate::history::{Happened, Who};
use crate::picture::{KnownEvent, Picture};
use crate::store::Verdict;

/// See its promise.
#[derive(Default)]
pub struct ShownOnce {
    /// The events that a device has shown under a key.
    shown: BTreeMap<(EndpointId, KeyDigest), BTreeSet<(usize, EventId)>>,
    times: BTreeMap<CorrelationId, u32>,
    freed: BTreeSet<(usize, EventId)>,
}

impl Checker for ShownOnce {
    fn name(&self) -> &'static str {
        "shown-once"
    }

    fn promise(&self) -> &'static str {
        "Of an effectively-once event the owner of a device sees one notification inside the \
         dedupe window, however often and wherever it was triggered and tried; what a freed key \
         stood for was never seen."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Shown { correlation, .. } => self.shows(picture, *correlation),
            Happened::Committed { shard, record } => {
                let Some(event) = record.release else {
                    return Ok(());
                };
                let freed = (*shard, event);
                self.freed.insert(freed);
                let seen = self
                    .shown
                    .iter()
                    .find(|(_, events)| events.contains(&freed));
                hold(seen.is_none(), || {
                    format!("shard {shard}: the key of event {event} is freed, shown: {seen:?}")
                })
            }
            _ => Ok(()),
        }
    }
}

impl ShownOnce {
    fn shows(&mut self, picture: &Picture, correlation: CorrelationId) -> Result<(), String> {
        let Some((shard, known)) = picture.outer(correlation) else {
            return Ok(());
        };
        let row = &known.row;
        let freed = self.freed.contains(&(shard, row.event));
        hold(!freed, || format!("{row:?} is shown, its key was freed"))?;
        let Some(event) = picture.event(shard, row.event) else {
            return Ok(());
        };
        let shown = self.shown.entry((row.endpoint, event.key)).or_default();
        shown.insert((shard, row.event));
        if row.guarantee != Guarantee::EffectivelyOnce {
            return Ok(());
        }
        let times = self.times.entry(correlation).or_insert(0);
        *times += 1;
        hold(*times == 1, || format!("{row:?} is shown again"))?;
        let others = shown.iter().filter(|other| **other != (shard, row.event));
        for other in others.filter_map(|(shard, other)| picture.event(*shard, *other)) {
            // Where one's window was over the other may begin; they may be shown in any order.
            let after =
                |one: &KnownEvent, other: &KnownEvent| one.key_expires_at <= other.admitted_at;
            hold(after(other, event) || after(event, other), || {
                format!("{row:?} is shown as well as {other:?}")
            })?;
        }
        Ok(())
    }
}

/// A route whose credentials were refused.
#[derive(Clone, Copy, Debug)]
struct Held {
    until: Time,
    /// The one attempt that asks again.
    probe: Option<DeliveryId>,
}

/// See its promise.
#[derive(Default)]
pub struct RouteHeld {
    of: BTreeMap<EndpointId, RouteId>,
    held: BTreeMap<(Who, RouteId), Held>,
    paused: BTreeSet<(Who, RouteId)>,
    /// When a route was opened last by hand, on the engine's clock.
    opened: BTreeMap<(Who, RouteId), Time>,
    /// Attempts that were opened to ask again, until they end.
    probing: BTreeSet<(Who, DeliveryId)>,
    stuck: Stuck,
}

impl Checker for RouteHeld {
    fn name(&self) -> &'static str {
        "route-held"
    }

    fn promise(&self) -> &'static str {
        "One engine lets nothing go over a route that it was told is paused, and over one whose \
         credentials were refused one attempt at a time, a minute after the refusal at the \
         earliest, except while it hands in again what its store had no room for."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Told { gate, .. } => {
                self.of
                    .extend(gate.route.map(|route| (gate.endpoint, route)));
            }
            Happened::ToldRoute {
                who,
                at,
                route,
                open,
            } => {
                let here = (*who, *route);
                self.held.remove(&here);
                self.opened.insert(here, *at);
                match open {
                    true => self.paused.remove(&here),
                    false => self.paused.insert(here),
                };
            }
            Happened::Ended { who } => {
                self.held.retain(|(of, _), _| of != who);
                self.paused.retain(|(of, _)| of != who);
                self.opened.retain(|(of, _), _| of != who);
                self.probing.retain(|(of, _)| of != who);
                self.stuck.end(*who);
            }
            Happened::Refused {
                shard,
                record,
                verdict: Verdict::Full,
            } => {
                self.stuck.refused(*shard, record);
                let stuck = &self.stuck;
                self.held.retain(|(of, _), _| !stuck.has(*of));
            }
            Happened::Committed { shard, record } => {
                for who in writers(*shard, record).take(1) {
                    for entry in &record.entries {
                        self.follow(picture, who, entry)?;
                    }
                }
                self.stuck.recorded(*shard, record);
            }
            Happened::Sent { who, at, dispatch } => {
                let (id, route) = (dispatch.delivery, self.of.get(&dispatch.endpoint));
                let Some(here) = route.map(|route| (*who, *route)) else {
                    return Ok(());
                };
                hold(!self.paused.contains(&here), || {
                    format!("{who:?} lets {id} go over {route:?}, which is paused")
                })?;
                let probes = self.probing.contains(&(*who, id));
                let held = self.held.get(&here);
                let over = |held: &Held| held.probe.is_none() && *at >= held.until;
                return hold(probes || held.is_none_or(over), || {
                    format!("{who:?} lets {id} go at {at} over {route:?}: {held:?}")
                });
            }
            _ => {}
        }
        Ok(())
    }
}

impl RouteHeld {
    fn follow(&mut self, picture: &Picture, who: Who, entry: &Entry) -> Result<(), String> {
        let known = picture.row(who.shard, entry.delivery);
        let route = known.and_then(|known| self.of.get(&known.row.endpoint));
        let Some(here) = route.map(|route| (who, *route)) else {
            return Ok(());
        };
        if matches!(entry.fact, Fact::Answered { .. } | Fact::NotSent { .. }) {
            self.probing.remove(&(who, entry.delivery));
        }
        let opened = self.opened.get(&here).is_some_and(|at| entry.at <= *at);
        if opened || self.stuck.has(who) {
            return Ok(());
        }
        let held = self.held.get_mut(&here);
        match (&entry.fact, held) {
            (Fact::Answered { outcome, .. }, _) if outcome.kind == OutcomeKind::Blocked => {
                let held = Held {
                    until: entry.at.plus(ROUTE_PROBE_MS),
                    probe: None,
                };
                self.held.insert(here, held);
            }
            (Fact::Answered { .. }, Some(held)) if held.probe == Some(entry.delivery) => {
                self.held.remove(&here);
            }
            (Fact::NotSent { .. }, Some(held)) if held.probe == Some(entry.delivery) => {
                held.probe = None;
                held.until = entry.at.plus(SECOND_MS);
            }
            (Fact::Opened { .. }, Some(held)) => {
                let may = held.probe.is_none() && entry.at >= held.until;
                hold(may, || format!("{who:?} opens {entry:?} over {held:?}"))?;
                held.probe = Some(entry.delivery);
                self.probing.insert((who, entry.delivery));
            }
            _ => {}
        }
        Ok(())
    }
}

/// See its promise.
#[derive(Default)]
pub struct RefusalsFree {
    /// Answers of a delivery's attempts, refused credentials left out.
    answers: BTreeMap<(usize, DeliveryId), u32>,
}

impl Checker for RefusalsFree {
    fn name(&self) -> &'static str {
        "refusals-free"
    }

    fn promise(&self) -> &'static str {
        "Refused credentials spend no attempt: a delivery is given up for its attempts only after \
         as many other answers as its policy allows, and one that meets them waits until it \
         lapses, is withdrawn or has nowhere to go."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Committed { shard, record } = happened else {
            return Ok(());
        };
        for entry in &record.entries {
            let Some(known) = picture.row(*shard, entry.delivery) else {
                continue;
            };
            let row = &known.row;
            match &entry.fact {
                Fact::Answered { outcome, next, .. } if outcome.kind == OutcomeKind::Blocked => {
                    let waits = matches!(next, Next::Again { .. });
                    let once = row.guarantee == Guarantee::AtMostOnce;
                    hold(waits || once, || format!("{entry:?} ends {row:?}"))?;
                }
                Fact::Answered { next, .. } => {
                    let answers = self.answers.entry((*shard, entry.delivery)).or_insert(0);
                    *answers += 1;
                    let spent = Next::Settle {
                        state: State::Exhausted,
                        cause: Cause::AttemptsSpent,
                    };
                    let most = picture.policy(row.policy).map_or(0, |it| it.attempts_max);
                    hold(*next != spent || *answers >= most, || {
                        format!("{entry:?} after {answers} answers of {most}")
                    })?;
                }
                Fact::Closed {
                    state: State::Expired,
                    ..
                } => hold(entry.at >= row.expires_at, || {
                    format!("{entry:?} lapses before {}", row.expires_at)
                })?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// See its promise.
#[derive(Default)]
pub struct GoneHonoured {
    /// When an endpoint was registered last, as an engine was told, and when it was.
    registered: BTreeMap<(Who, EndpointId), Vec<(Time, Time)>>,
    /// Engines that were told that an endpoint is closed, or have found it gone.
    closed: BTreeSet<(Who, EndpointId)>,
    /// Since when an endpoint is gone, as the last answer on record that says so has it.
    gone: BTreeMap<EndpointId, Time>,
}

impl Checker for GoneHonoured {
    fn name(&self) -> &'static str {
        "gone-honoured"
    }

    fn promise(&self) -> &'static str {
        "An address is retired only if it was not registered again later than it was gone, by the \
         registry and by what an engine was told."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Told { who, at, gate } => {
                let here = (*who, gate.endpoint);
                let told = self.registered.entry(here).or_default();
                told.push((*at, gate.registered_at));
                if matches!(gate.reach, Reach::Closed(_)) {
                    self.closed.insert(here);
                }
                Ok(())
            }
            Happened::Retired {
                endpoint,
                registered_at,
                ..
            } => {
                let gone = self.gone.get(endpoint);
                hold(gone.is_some_and(|since| registered_at <= since), || {
                    format!("{endpoint} is retired, gone {gone:?}, registered {registered_at}")
                })
            }
            Happened::Committed { shard, record } => {
                for who in writers(*shard, record).take(1) {
                    for entry in &record.entries {
                        self.follow(picture, who, entry)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl GoneHonoured {
    fn follow(&mut self, picture: &Picture, who: Who, entry: &Entry) -> Result<(), String> {
        let Some(known) = picture.row(who.shard, entry.delivery) else {
            return Ok(());
        };
        let here = (who, known.row.endpoint);
        match &entry.fact {
            Fact::Answered { outcome, .. } if outcome.kind == OutcomeKind::Gone => {
                let since = outcome.gone_at(entry.at);
                let gone = self.gone.entry(known.row.endpoint).or_default();
                *gone = (*gone).max(since);
                // What was told in the moment of the answer may have counted or not.
                let told = self.registered.get(&here).map_or(&[][..], Vec::as_slice);
                let before = told.iter().rev().find(|(at, _)| *at < entry.at);
                let then = told.iter().filter(|(at, _)| *at == entry.at);
                let honoured = before.into_iter().chain(then).any(|(_, at)| *at <= since);
                if honoured {
                    self.closed.insert(here);
                }
                Ok(())
            }
            Fact::Closed {
                cause: Cause::EndpointRetired,
                ..
            } => hold(self.closed.contains(&here), || {
                format!("{entry:?}: {here:?} was neither closed nor found gone")
            }),
            _ => Ok(()),
        }
    }
}
