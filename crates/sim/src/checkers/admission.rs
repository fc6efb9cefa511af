//! What callers are told: once, the truth, and the same to all who ask for the same.
//!
//! Absent here: refusals. A caller that was refused may ask again.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::engine::Reply;
use postrider_core::id::{
    Ask, BodyDigest, DeliveryId, EndpointId, EventId, KeyDigest, NO_ENDPOINT, OrderingKey, PolicyId,
};
use postrider_core::ledger::{Fact, Record, State};
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;

use super::pace::writers;
use super::{Checker, hold};
use crate::history::{Happened, Who};
use crate::picture::Picture;

/// See its promise.
#[derive(Default)]
pub struct NothingLost {
    told: BTreeMap<(usize, DeliveryId), bool>,
}

impl Checker for NothingLost {
    fn name(&self) -> &'static str {
        "nothing-lost"
    }

    fn promise(&self) -> &'static str {
        "What a caller was told is admitted exists after every crash, and is settled once the \
         world has calmed down."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Replied { who, reply, .. } => {
                let (first, many) = match reply {
                    Reply::Admitted {
                        first_delivery,
                        deliveries,
                        ..
                    } => (first_delivery.0, deliveries.len() as u64),
                    Reply::Duplicate(seen) => (seen.first_delivery.0, seen.deliveries.into()),
                    _ => return Ok(()),
                };
                for id in first..first + many {
                    self.told
                        .entry((who.shard, DeliveryId(id)))
                        .or_insert(false);
                }
            }
            Happened::Purged { shard, gone } => {
                for id in *gone {
                    self.told.insert((*shard, *id), true);
                }
            }
            Happened::Rest { .. } => {
                for (&(shard, id), _) in self.told.iter().filter(|(_, purged)| !**purged) {
                    let state = picture.row(shard, id).map(|known| known.row.state);
                    hold(state.is_some_and(State::is_settled), || {
                        format!("delivery {id} of shard {shard} was acknowledged and is {state:?}")
                    })?;
                }
            }
            Happened::Held { shard, rows, .. } => {
                let held: BTreeSet<DeliveryId> = rows.iter().map(|row| row.id).collect();
                let kept = |(at, id): (usize, DeliveryId)| at != *shard || held.contains(&id);
                let told = self.told.iter().filter(|(_, purged)| !**purged);
                let lost = told.map(|(at, _)| *at).find(|at| !kept(*at));
                hold(lost.is_none(), || {
                    format!("{lost:?} was acknowledged and its store does not have it")
                })?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// See its promise.
#[derive(Default)]
pub struct OneAnswer {
    open: BTreeMap<Ask, Who>,
}

impl Checker for OneAnswer {
    fn name(&self) -> &'static str {
        "one-answer"
    }

    fn promise(&self) -> &'static str {
        "Every question that an engine took is answered once, unless the engine ends before."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Asked { who, ask, .. }
            | Happened::CancelAsked { who, ask, .. }
            | Happened::ReceiptAsked { who, ask, .. } => {
                self.open.insert(*ask, *who);
                Ok(())
            }
            Happened::Replied { ask, reply, .. } => hold(self.open.remove(ask).is_some(), || {
                format!("question {ask} is answered again: {reply:?}")
            }),
            Happened::Ended { who } => {
                self.open.retain(|_, asked| asked != who);
                Ok(())
            }
            Happened::Rest { rested: true } => hold(self.open.is_empty(), || {
                format!("never answered: {:?}", self.open)
            }),
            _ => Ok(()),
        }
    }
}

/// See its promise.
#[derive(Default)]
pub struct ToldDurable {
    cancels: BTreeMap<Ask, DeliveryId>,
    receipts: BTreeMap<Ask, (DeliveryId, u8)>,
}

impl Checker for ToldDurable {
    fn name(&self) -> &'static str {
        "told-durable"
    }

    fn promise(&self) -> &'static str {
        "A caller is told only what is durable: an admission, a repeat's first event, a \
         withdrawal, a receipt."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let (who, ask, reply) = match happened {
            Happened::CancelAsked { ask, delivery, .. } => {
                self.cancels.insert(*ask, *delivery);
                return Ok(());
            }
            Happened::ReceiptAsked {
                ask,
                delivery,
                receipt,
                ..
            } => {
                self.receipts.insert(*ask, (*delivery, *receipt));
                return Ok(());
            }
            Happened::Replied { who, ask, reply } => (who, ask, reply),
            _ => return Ok(()),
        };
        // What was purged meanwhile was durable.
        let durable = match reply {
            Reply::Admitted {
                event,
                first_delivery,
                deliveries,
                ..
            } => {
                let ids = (first_delivery.0..).map(DeliveryId);
                picture.event(who.shard, *event).is_some()
                    && ids.zip(deliveries).all(|(id, told)| {
                        let known = picture.row(who.shard, id);
                        known.is_none_or(|it| (it.row.endpoint, it.row.correlation) == *told)
                    })
            }
            Reply::Duplicate(seen) | Reply::KeyConflict(seen) => {
                let event = picture.event(who.shard, seen.event);
                event.is_some_and(|event| event.first_delivery == seen.first_delivery)
            }
            Reply::Cancelled => {
                let delivery = self.cancels.get(ask).copied().unwrap_or_default();
                let known = picture.row(who.shard, delivery);
                known.is_none_or(|known| known.row.state == State::Cancelled)
            }
            Reply::Received => self.receipts.get(ask).is_some_and(|(delivery, receipt)| {
                let known = picture.row(who.shard, *delivery);
                known.is_none_or(|known| known.row.has_receipt(*receipt))
            }),
            Reply::TooLate(_) | Reply::Absent | Reply::Refused { .. } => true,
        };
        hold(durable, || {
            format!("{who:?} told {ask} what is not durable: {reply:?}")
        })
    }
}

/// What a caller wants for one endpoint, and what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    endpoint: EndpointId,
    policy: PolicyId,
    guarantee: Guarantee,
    ordering_key: Option<OrderingKey>,
    due_at: Time,
    expires_at: Time,
}

/// See its promise.
#[derive(Default)]
pub struct AsAsked {
    asked: BTreeMap<Ask, Vec<Wanted>>,
    made: BTreeMap<(usize, EventId), Vec<Wanted>>,
}

impl Checker for AsAsked {
    fn name(&self) -> &'static str {
        "as-asked"
    }

    fn promise(&self) -> &'static str {
        "What a caller was told is admitted is what it asked for: one delivery for each endpoint, \
         all in one record, under the policy, guarantee, ordering key and times that it named."
    }

    fn see(&mut self, _: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Asked {
                ask, submission, ..
            } => {
                let wanted = submission.targets.iter().map(|target| Wanted {
                    endpoint: target.endpoint,
                    policy: target.policy,
                    guarantee: target.guarantee,
                    ordering_key: target.ordering_key,
                    due_at: target.due_at,
                    expires_at: target.expires_at,
                });
                self.asked.insert(*ask, wanted.collect());
            }
            Happened::Committed { shard, record } => {
                let Some(event) = &record.event else {
                    return Ok(());
                };
                let made = record.entries.iter().filter_map(|entry| match &entry.fact {
                    Fact::Admitted(admitted) => Some(Wanted {
                        endpoint: admitted.endpoint,
                        policy: admitted.policy,
                        guarantee: admitted.guarantee,
                        ordering_key: admitted.lane.map(|lane| lane.key),
                        due_at: admitted.due_at,
                        expires_at: admitted.expires_at,
                    }),
                    _ => None,
                });
                // What goes nowhere has one delivery that says so.
                let made = made.filter(|it| it.endpoint != NO_ENDPOINT);
                self.made.insert((*shard, event.id), made.collect());
            }
            Happened::Replied { who, ask, reply } => {
                let asked = self.asked.remove(ask);
                let Reply::Admitted {
                    event,
                    first_delivery: first,
                    ..
                } = reply
                else {
                    return Ok(());
                };
                let made = self.made.remove(&(who.shard, *event));
                return hold(asked == made, || {
                    format!("{who:?} made {made:?} of {asked:?}, from delivery {first} on")
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// What holds a key.
#[derive(Clone, Copy, Debug)]
struct Holder {
    event: EventId,
    until: Time,
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    key: KeyDigest,
    body: BodyDigest,
    at: Time,
    until: Time,
    /// When it was asked, on the world's clock.
    world: Time,
}

/// See its promise.
#[derive(Default)]
pub struct Dedupe {
    /// By the keys that callers named.
    named: BTreeMap<(usize, KeyDigest), Holder>,
    /// By the keys that were stored.
    stored: BTreeMap<(usize, KeyDigest), Holder>,
    asked: BTreeMap<Ask, Question>,
    /// Events whose key was freed, and when, on the world's clock.
    freed: BTreeMap<(usize, EventId), Time>,
    /// The last event that freed each key.
    freed_keys: BTreeMap<(usize, KeyDigest), EventId>,
    /// Keys that an engine could not look up: it may have admitted without knowing who freed them.
    unread: BTreeSet<(Who, KeyDigest)>,
}

impl Checker for Dedupe {
    fn name(&self) -> &'static str {
        "dedupe-exact"
    }

    fn promise(&self) -> &'static str {
        "Inside its window a key makes one event, over restarts, owners and races; a repeat names \
         that event, other content is a conflict, after the window the key is free, and a retry \
         names the event that freed it, where the store could be asked and has it."
    }

    fn see(
        &mut self,
        picture: &Picture,
        world: Time,
        happened: &Happened<'_>,
    ) -> Result<(), String> {
        match happened {
            Happened::Asked {
                ask,
                at,
                submission,
                ..
            } => {
                let event = &submission.event;
                let question = Question {
                    key: event.key_digest,
                    body: event.body_digest,
                    at: *at,
                    until: event.key_expires_at,
                    world,
                };
                self.asked.insert(*ask, question);
                Ok(())
            }
            Happened::Unread { who, key } => {
                self.unread.insert((*who, *key));
                Ok(())
            }
            Happened::Committed { shard, record } => self.stored(picture, world, *shard, record),
            Happened::Replied { who, ask, reply } => {
                let Some(question) = self.asked.remove(ask) else {
                    return Ok(());
                };
                self.replied(picture, who.shard, &question, reply)
            }
            _ => Ok(()),
        }
    }
}

/// Whether the store knows at `now` who freed a key: inside its window, and before it is purged.
fn is_kept(picture: &Picture, shard: usize, event: EventId, now: Time) -> bool {
    picture.event(shard, event).is_some_and(|known| {
        known.key_expires_at > now && picture.row(shard, known.first_delivery).is_some()
    })
}

impl Dedupe {
    fn stored(
        &mut self,
        picture: &Picture,
        world: Time,
        shard: usize,
        record: &Record,
    ) -> Result<(), String> {
        if let Some(released) = record.release {
            self.freed.insert((shard, released), world);
            let held =
                |(at, it): &(&(usize, KeyDigest), &Holder)| at.0 == shard && it.event == released;
            if let Some((&at, _)) = self.stored.iter().find(held) {
                self.freed_keys.insert(at, released);
            }
            let other =
                |at: &(usize, KeyDigest), it: &mut Holder| at.0 != shard || it.event != released;
            self.stored.retain(other);
            self.named.retain(other);
        }
        let Some(event) = &record.event else {
            return Ok(());
        };
        let holder = Holder {
            event: event.id,
            until: event.key_expires_at,
        };
        let at = (shard, event.key_digest);
        let freed = self.freed_keys.remove(&at);
        let writer = writers(shard, record).next();
        let unread = writer.is_some_and(|who| self.unread.remove(&(who, event.key_digest)));
        let named = match event.retry_of {
            None => {
                unread || freed.is_none_or(|it| !is_kept(picture, shard, it, event.admitted_at))
            }
            retried => retried == freed,
        };
        hold(named, || {
            let (id, retried) = (event.id, event.retry_of);
            format!("shard {shard}: event {id} retries {retried:?}, the key was freed by {freed:?}")
        })?;
        let before = self.stored.insert(at, holder);
        hold(
            before.is_none_or(|before| before.until <= event.admitted_at),
            || {
                format!(
                    "shard {shard}: the key of event {} is held: {before:?}",
                    event.id
                )
            },
        )
    }

    fn replied(
        &mut self,
        picture: &Picture,
        shard: usize,
        question: &Question,
        reply: &Reply,
    ) -> Result<(), String> {
        let at = (shard, question.key);
        match reply {
            Reply::Admitted { event, .. } => {
                let holder = Holder {
                    event: *event,
                    until: question.until,
                };
                let before = self.named.insert(at, holder);
                let admitted = picture.event(shard, *event).map(|it| it.admitted_at);
                let free = before.is_none_or(|before| {
                    before.event == *event || admitted.is_some_and(|at| before.until <= at)
                });
                hold(free, || {
                    format!("shard {shard}: {question:?} became event {event}, after {before:?}")
                })
            }
            Reply::Duplicate(seen) => {
                // A key may have been freed while the answer was on its way.
                let freed = self.freed.get(&(shard, seen.event));
                let freed = freed.is_some_and(|freed| *freed >= question.world);
                let right = freed
                    || self.stored.get(&at).is_some_and(|holder| {
                        holder.event >= seen.event && seen.body_digest == question.body
                    });
                hold(right && seen.key_expires_at > question.at, || {
                    format!("shard {shard}: {question:?} is no repeat of {seen:?}")
                })
            }
            Reply::KeyConflict(seen) => hold(
                seen.body_digest != question.body && seen.key_expires_at > question.at,
                || format!("shard {shard}: {question:?} is in no conflict with {seen:?}"),
            ),
            _ => Ok(()),
        }
    }
}
