//! Histories that break a promise, made of one that keeps all: so each layer proves that its
//! checkers see what they are said to see.
//!
//! Absent here: whether a checker complains. That is for the tests of each layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::engine::Reply;
use postrider_core::event::Event;
use postrider_core::id::{CorrelationId, DeliveryId, EndpointId, Epoch, RouteId};
use postrider_core::ledger::{Admitted, Entry, Fact, Next, Record, State};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::Guarantee;
use postrider_core::route::ROUTE_PROBE_MS;
use postrider_core::time::Time;

use super::{Complaint, History, Layer, Witnessed, fed, judge};

/// Later than anything.
const FAR: Time = Time(i64::MAX / 4);

/// Holds that each of these histories breaks nothing, and that every checker that this layer is
/// said to feed complains of one in which its promise is broken.
pub fn every_checker_sees(layer: Layer, histories: &[History]) {
    for history in histories {
        assert_eq!(judge(layer, history), Vec::<Complaint>::new());
    }
    for name in fed::judged(layer) {
        let complains = histories.iter().any(|history| {
            let mut spoilt = history.clone();
            breaks(name, &mut spoilt)
                && judge(layer, &spoilt)
                    .iter()
                    .any(|complaint| complaint.invariant == name)
        });
        assert!(complains, "{name} complains of no history that breaks it");
    }
}

/// Breaks this promise. Whether the history has what it takes.
fn breaks(name: &str, history: &mut History) -> bool {
    let broken = match name {
        "nothing-lost" => loses_a_row(history),
        "one-answer" => again(history, |what| matches!(what, Witnessed::Replied(..))),
        "told-durable" => first(history, |what| {
            matches!(what, Witnessed::Replied(_, _, Reply::Admitted { .. }))
        }),
        "as-asked" => asks_for_longer(history),
        "dedupe-exact" => takes_a_key_twice(history),
        "sent-durable" => first(history, |what| matches!(what, Witnessed::Reached(_))),
        "owner-only" => edit(history, |what| match what {
            Witnessed::Turned(epoch, ..) => set(epoch, Epoch(u64::MAX)),
            _ => None,
        }),
        "at-most-once" => repeats_at_most_once(history),
        "repeats-explained" => repeats_what_was_processed(history),
        "time-to-live" => edit_entry(history, |entry| {
            opened(entry)?;
            set(&mut entry.at, FAR)
        }),
        "reachable" => is_gone_and_sent_to(history),
        "lane-order" => overtakes(history),
        "lane-gapless" => edit_entry(history, |entry| {
            let lane = admitted(entry)?.lane.as_mut()?;
            set(&mut lane.sequence, u64::MAX)
        }),
        "ledger-chain" => drops_entry(history, |entry| opened(entry).is_some()),
        "fenced" => edit_record(history, |record| {
            set(&mut record.fences.first_mut()?.1, Epoch(u64::MAX))
        }),
        "ledger-fold" => edit(history, |what| match what {
            Witnessed::Held(rows, _) => set(&mut rows.first_mut()?.cause, Cause::Waiting),
            _ => None,
        }),
        "not-early" => edit_entry(history, |entry| set(&mut admitted(entry)?.due_at, FAR)),
        "schedule-kept" => waits_without_end(history),
        "attempts-bounded" => edit_all(history, |what| match what {
            Witnessed::Policy(policy) => set(&mut Arc::make_mut(policy).attempts_max, 0),
            _ => None,
        }),
        "slots-kept" => edit_all(history, |what| match what {
            Witnessed::Told(_, _, gate) => set(&mut gate.slots_max, 0),
            _ => None,
        }),
        "route-held" => is_refused_and_sent_over(history),
        "refusals-free" => edit_entry(history, |entry| {
            let spent = Next::Settle {
                state: State::Exhausted,
                cause: Cause::AttemptsSpent,
            };
            match &mut entry.fact {
                Fact::Answered { next, .. } => set(next, spent),
                _ => None,
            }
        }),
        "gone-honoured" => retires_without_reason(history),
        "memory-bounded" => edit(history, |what| match what {
            Witnessed::Turned(_, figures, _) => set(&mut figures.timers, usize::MAX),
            _ => None,
        }),
        "books-agree" => edit(history, |what| match what {
            Witnessed::Turned(_, _, audit) => set(audit, Err("two are one".into())),
            _ => None,
        }),
        "comes-to-rest" => drops_entry(history, settles),
        _ => None,
    };
    broken.is_some()
}

fn set<T>(place: &mut T, value: T) -> Option<()> {
    *place = value;
    Some(())
}

/// The first for which this gives something.
fn edit(history: &mut History, mut change: impl FnMut(&mut Witnessed) -> Option<()>) -> Option<()> {
    history.iter_mut().find_map(|(_, what)| change(what))
}

/// All for which it does.
fn edit_all(
    history: &mut History,
    mut change: impl FnMut(&mut Witnessed) -> Option<()>,
) -> Option<()> {
    let changed = history.iter_mut().filter_map(|(_, what)| change(what));
    (changed.count() > 0).then_some(())
}

fn edit_record(
    history: &mut History,
    mut change: impl FnMut(&mut Record) -> Option<()>,
) -> Option<()> {
    edit(history, |what| match what {
        Witnessed::Committed(record) => change(record),
        _ => None,
    })
}

fn edit_entry(
    history: &mut History,
    mut change: impl FnMut(&mut Entry) -> Option<()>,
) -> Option<()> {
    edit_record(history, |record| {
        record.entries.iter_mut().find_map(&mut change)
    })
}

fn drops_entry(history: &mut History, which: impl Fn(&Entry) -> bool) -> Option<()> {
    edit_record(history, |record| {
        let place = record.entries.iter().position(&which)?;
        record.entries.remove(place);
        Some(())
    })
}

fn opened(entry: &Entry) -> Option<u32> {
    match entry.fact {
        Fact::Opened { attempt, .. } => Some(attempt),
        _ => None,
    }
}

fn admitted(entry: &mut Entry) -> Option<&mut Admitted> {
    match &mut entry.fact {
        Fact::Admitted(admitted) => Some(admitted),
        _ => None,
    }
}

fn answered(entry: &Entry) -> Option<(&Outcome, Next)> {
    match &entry.fact {
        Fact::Answered { outcome, next, .. } => Some((outcome, *next)),
        _ => None,
    }
}

fn settles(entry: &Entry) -> bool {
    let settled = answered(entry).is_some_and(|(_, next)| matches!(next, Next::Settle { .. }));
    settled || matches!(entry.fact, Fact::Closed { .. })
}

/// What is made durable, in order.
fn entries(history: &History) -> Vec<Entry> {
    let records = history.iter().filter_map(|(_, what)| match what {
        Witnessed::Committed(record) => Some(record),
        _ => None,
    });
    records.flat_map(|record| record.entries.clone()).collect()
}

/// What deliveries were admitted as.
fn all_admitted(history: &History) -> BTreeMap<DeliveryId, Admitted> {
    let mut entries = entries(history);
    let admitted = entries.iter_mut().filter_map(|entry| {
        let delivery = entry.delivery;
        Some((delivery, admitted(entry)?.clone()))
    });
    admitted.collect()
}

/// The first of these happens twice.
fn again(history: &mut History, which: impl Fn(&Witnessed) -> bool) -> Option<()> {
    let place = history.iter().position(|(_, what)| which(what))?;
    let twin = history[place].clone();
    history.insert(place, twin);
    Some(())
}

/// The first of these happens before everything but what engines were told.
fn first(history: &mut History, which: impl Fn(&Witnessed) -> bool) -> Option<()> {
    let place = history.iter().position(|(_, what)| which(what))?;
    let early = history.remove(place);
    let begins = |(_, what): &(Time, Witnessed)| matches!(what, Witnessed::Granted(_));
    let granted = history.iter().position(begins)?;
    history.insert(granted + 1, early);
    Some(())
}

fn loses_a_row(history: &mut History) -> Option<()> {
    let told = history.iter().find_map(|(_, what)| match what {
        Witnessed::Replied(_, _, Reply::Admitted { first_delivery, .. }) => Some(*first_delivery),
        _ => None,
    })?;
    edit(history, |what| match what {
        Witnessed::Held(rows, _) => {
            rows.retain(|row| row.id != told);
            Some(())
        }
        _ => None,
    })
}

/// Callers asked for something else than they got.
fn asks_for_longer(history: &mut History) -> Option<()> {
    edit_all(history, |what| match what {
        Witnessed::Asked(_, _, _, submission) => {
            set(&mut submission.targets.first_mut()?.expires_at, FAR)
        }
        _ => None,
    })
}

fn waits_without_end(history: &mut History) -> Option<()> {
    edit_entry(history, |entry| match &mut entry.fact {
        Fact::Answered {
            outcome,
            next: Next::Again { due_at },
            ..
        } if outcome.kind != OutcomeKind::Blocked => set(due_at, FAR),
        _ => None,
    })
}

fn takes_a_key_twice(history: &mut History) -> Option<()> {
    let mut taken = None;
    edit_record(history, |record| {
        let event: &mut Event = Arc::make_mut(record.event.as_mut()?);
        let key = *taken.get_or_insert(event.key_digest);
        let twice = key != event.key_digest;
        event.key_digest = key;
        twice.then_some(())
    })
}

fn repeats_at_most_once(history: &mut History) -> Option<()> {
    let once = |it: &Admitted| it.guarantee == Guarantee::AtMostOnce;
    let all = all_admitted(history);
    let once: Vec<CorrelationId> = all
        .values()
        .filter(|it| once(it))
        .map(|it| it.correlation)
        .collect();
    again(history, |what| match what {
        Witnessed::Reached((correlation, _)) => once.contains(correlation),
        _ => false,
    })
}

fn repeats_what_was_processed(history: &mut History) -> Option<()> {
    let clear: Vec<CorrelationId> = history.iter().find_map(|(_, what)| match what {
        Witnessed::Held(rows, _) => {
            let clear = rows.iter().filter(|row| !row.may_have_acted);
            Some(clear.map(|row| row.correlation).collect())
        }
        _ => None,
    })?;
    again(history, |what| match what {
        Witnessed::Processed((correlation, _)) => clear.contains(correlation),
        _ => false,
    })
}

/// An answer says that its endpoint is gone; another attempt to it follows.
fn is_gone_and_sent_to(history: &mut History) -> Option<()> {
    let all = all_admitted(history);
    let entries = entries(history);
    let endpoint = |entry: &Entry| all.get(&entry.delivery).map(|it| it.endpoint);
    let goes = entries.iter().enumerate().find_map(|(place, entry)| {
        answered(entry)?;
        let later = &entries[place + 1..];
        let again = |it: &&Entry| opened(it).is_some() && endpoint(it) == endpoint(entry);
        later.iter().find(again).map(|_| entry.seq)
    })?;
    edit_entry(history, |entry| match &mut entry.fact {
        Fact::Answered { outcome, .. } if entry.seq == goes => {
            outcome.gone_since = None;
            set(&mut outcome.kind, OutcomeKind::Gone)
        }
        _ => None,
    })
}

/// An answer says that its route's credentials are refused; another attempt over it follows soon.
fn is_refused_and_sent_over(history: &mut History) -> Option<()> {
    let told = history.iter().filter_map(|(_, what)| match what {
        Witnessed::Told(_, _, gate) => Some((gate.endpoint, gate.route?)),
        _ => None,
    });
    let routes: BTreeMap<EndpointId, RouteId> = told.collect();
    let all = all_admitted(history);
    let entries = entries(history);
    let route = |entry: &Entry| routes.get(&all.get(&entry.delivery)?.endpoint);
    let refused = entries.iter().enumerate().find_map(|(place, entry)| {
        answered(entry)?;
        let over = route(entry)?;
        let soon = |it: &&Entry| it.at < entry.at.plus(ROUTE_PROBE_MS);
        let mut later = entries[place + 1..].iter().take_while(soon);
        let again = |it: &Entry| opened(it).is_some() && route(it) == Some(over);
        later.any(again).then_some(entry.seq)
    })?;
    edit_entry(history, |entry| match &mut entry.fact {
        Fact::Answered { outcome, .. } if entry.seq == refused => {
            set(&mut outcome.kind, OutcomeKind::Blocked)
        }
        _ => None,
    })
}

/// What settles the one before is lost, and the next of the lane is opened all the same.
fn overtakes(history: &mut History) -> Option<()> {
    let all = all_admitted(history);
    let entries = entries(history);
    let lane = |id: &DeliveryId| all.get(id).and_then(|it| Some((it.endpoint, it.lane?)));
    let behind = entries.iter().filter(|entry| opened(entry).is_some());
    let before = behind.filter_map(|entry| {
        let (endpoint, place) = lane(&entry.delivery)?;
        let ahead = |id: &&DeliveryId| {
            lane(id).is_some_and(|(at, other): (EndpointId, _)| {
                (at, other.key, other.sequence + 1) == (endpoint, place.key, place.sequence)
            })
        };
        all.keys().find(ahead).copied()
    });
    let before = before.into_iter().next()?;
    drops_entry(history, |entry| entry.delivery == before && settles(entry))
}

fn retires_without_reason(history: &mut History) -> Option<()> {
    let endpoint = all_admitted(history).values().next()?.endpoint;
    let at = history.last()?.0;
    history.push((at, Witnessed::Retired(endpoint, Time(1), Time(2))));
    Some(())
}
