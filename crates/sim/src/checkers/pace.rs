//! Pace: not too early, not too often, not too fast, not too many at once.
//!
//! Absent here: the adaptive half of the limiter, which only ever goes slower.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::id::{DeliveryId, EndpointId};
use postrider_core::ledger::{Entry, Fact, Next, Record};
use postrider_core::outcome::{Outcome, OutcomeKind};
use postrider_core::policy::{Jitter, Policy, RatePolicy, Schedule};
use postrider_core::time::Time;

use super::{Checker, hold};
use crate::history::{Happened, Who};
use crate::picture::Picture;
use crate::store::Verdict;

/// See its promise.
#[derive(Default)]
pub struct NotEarly {
    not_before: BTreeMap<(usize, DeliveryId), Time>,
}

impl Checker for NotEarly {
    fn name(&self) -> &'static str {
        "not-early"
    }

    fn promise(&self) -> &'static str {
        "No attempt is opened before its time; a time that the receiver named is waited for up to \
         the policy's cap, and the shortest wait that the provider's rules name in full."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Committed { shard, record } = happened else {
            return Ok(());
        };
        for entry in &record.entries {
            let at = (*shard, entry.delivery);
            match &entry.fact {
                Fact::Admitted(admitted) => {
                    self.not_before.insert(at, admitted.due_at);
                }
                Fact::NotSent { due_at, .. } => {
                    self.not_before.insert(at, *due_at);
                }
                Fact::Answered {
                    outcome,
                    next: Next::Again { due_at },
                    ..
                } => {
                    let policy = picture.row(*shard, entry.delivery);
                    let policy = policy.and_then(|it| picture.policy(it.row.policy));
                    let waits = matches!(outcome.kind, OutcomeKind::Retry | OutcomeKind::Throttle);
                    let named = outcome.retry_after_ms.filter(|_| waits).unwrap_or(0);
                    let named = policy.map_or(0, |it| named.clamp(0, it.retry_after_cap_ms));
                    let wait_ms = named.max(outcome.wait_min_ms);
                    hold(*due_at >= entry.at.plus(wait_ms), || {
                        format!("{entry:?} does not wait for {wait_ms} ms")
                    })?;
                    self.not_before.insert(at, *due_at);
                }
                Fact::Opened { .. } => {
                    let not_before = self.not_before.get(&at).copied().unwrap_or_default();
                    hold(entry.at >= not_before, || {
                        format!("shard {shard}: {entry:?} is before {not_before}")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// See its promise. It reckons by itself: the engine's own table would agree with the engine.
pub struct ScheduleKept;

impl Checker for ScheduleKept {
    fn name(&self) -> &'static str {
        "schedule-kept"
    }

    fn promise(&self) -> &'static str {
        "A retry waits what its policy's schedule plans after so many spent attempts, within the \
         jitter, no shorter and no longer, unless the receiver throttles or names a time, or the \
         provider's rules ask for more."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Committed { shard, record } = happened else {
            return Ok(());
        };
        for entry in &record.entries {
            let Fact::Answered { outcome, next, .. } = &entry.fact else {
                continue;
            };
            // What waits for its route has no time of its own.
            let (Next::Again { due_at }, false) = (next, outcome.kind == OutcomeKind::Blocked)
            else {
                continue;
            };
            let row = picture.row(*shard, entry.delivery).map(|known| &known.row);
            let Some((row, policy)) = row.and_then(|row| Some((row, picture.policy(row.policy)?)))
            else {
                continue;
            };
            let spent = row.attempt - u32::from(row.unspent);
            let (least, most) = waits_ms(policy, spent, outcome);
            let waits = due_at.since(entry.at);
            hold((least..=most).contains(&waits), || {
                format!("{entry:?} waits for {waits} ms, not {least} to {most}")
            })?;
        }
        Ok(())
    }
}

/// The shortest and the longest wait after this outcome to the last of so many attempts.
fn waits_ms(policy: &Policy, spent: u32, outcome: &Outcome) -> (i64, i64) {
    let planned = match &policy.schedule {
        Schedule::Exponential { base_ms, cap_ms } => {
            let doubled = |wait: i64, _| wait.saturating_mul(2).min(*cap_ms);
            (1..spent).fold(*base_ms.min(cap_ms), doubled)
        }
        Schedule::Linear { step_ms, cap_ms } => (step_ms * i64::from(spent)).min(*cap_ms),
        Schedule::Fixed { waits_ms } => {
            let wait = (1..=spent).zip(waits_ms).last();
            wait.map_or(0, |(_, wait)| *wait)
        }
    };
    let least = match policy.jitter {
        Jitter::None => planned,
        Jitter::Equal => planned / 2,
        Jitter::Full => 0,
    };
    let named = outcome
        .retry_after_ms
        .map(|named| named.clamp(0, policy.retry_after_cap_ms));
    let throttled = outcome.kind == OutcomeKind::Throttle;
    let bound = |wait: i64| {
        let wait = match named {
            Some(named) if throttled => named,
            Some(named) => wait.max(named),
            None if throttled => wait.max(policy.throttle_ms),
            None => wait,
        };
        // Time goes on before anything is tried again.
        wait.max(outcome.wait_min_ms).max(1)
    };
    (bound(least), bound(planned))
}

/// See its promise.
pub struct AttemptsBounded;

impl Checker for AttemptsBounded {
    fn name(&self) -> &'static str {
        "attempts-bounded"
    }

    fn promise(&self) -> &'static str {
        "No delivery is tried more often than its policy allows; refused credentials spend nothing."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        let Happened::Committed { shard, record } = happened else {
            return Ok(());
        };
        for entry in &record.entries {
            if let Fact::Opened { attempt, policy } = &entry.fact {
                let most = picture.policy(*policy).map_or(0, |it| it.attempts_max);
                let known = picture.row(*shard, entry.delivery);
                let unspent = known.map_or(0, |known| u32::from(known.row.unspent));
                hold(attempt - unspent <= most, || {
                    format!("{entry:?} of {most} attempts, {unspent} unspent")
                })?;
            }
        }
        Ok(())
    }
}

/// One attempt, in the unit that the bucket counts in.
const TOKEN: i128 = 1_000_000;

/// The fastest that an endpoint may be sent to.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: RatePolicy,
    tokens: i128,
    filled_at: Time,
}

impl Bucket {
    fn fill(&mut self, at: Time) {
        let passed = i128::from(at.since(self.filled_at).max(0));
        let full = i128::from(self.rate.burst.max(1)) * TOKEN;
        let gain = passed * i128::from(self.rate.per_second_milli);
        self.tokens = (self.tokens + gain).min(full);
        self.filled_at = self.filled_at.max(at);
    }
}

/// See its promise.
#[derive(Default)]
pub struct RateKept {
    /// `None` once its rate was changed: what was begun before may be recorded after.
    buckets: BTreeMap<(Who, EndpointId), Option<Bucket>>,
    stuck: Stuck,
}

impl Checker for RateKept {
    fn name(&self) -> &'static str {
        "rate-kept"
    }

    fn promise(&self) -> &'static str {
        "One engine opens attempts to an endpoint no faster than the endpoint's rate and burst, \
         except while it hands in again what its store had no room for."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Told { who, gate, .. } => {
                let at = (*who, gate.endpoint);
                let bucket = gate.rate.map(|rate| Bucket {
                    rate,
                    tokens: i128::from(rate.burst) * TOKEN,
                    filled_at: Time(0),
                });
                let told = self.buckets.entry(at).or_insert(bucket);
                if told.map(|told| told.rate) != gate.rate {
                    *told = None;
                }
            }
            Happened::Ended { who } => {
                self.buckets.retain(|(told, _), _| told != who);
                self.stuck.end(*who);
            }
            Happened::Refused {
                shard,
                record,
                verdict: Verdict::Full,
            } => self.stuck.refused(*shard, record),
            Happened::Committed { shard, record } => {
                self.count(picture, *shard, record)?;
                let Some(over) = self.stuck.recorded(*shard, record) else {
                    return Ok(());
                };
                // What was opened out of order has cost tokens at the wrong times.
                let buckets = self.buckets.iter_mut().filter(|((who, _), _)| *who == over);
                for bucket in buckets.filter_map(|(_, bucket)| bucket.as_mut()) {
                    bucket.tokens = i128::from(bucket.rate.burst.max(1)) * TOKEN;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl RateKept {
    fn count(&mut self, picture: &Picture, shard: usize, record: &Record) -> Result<(), String> {
        for entry in &record.entries {
            let Some((who, endpoint)) = engine_of(picture, shard, record, entry) else {
                continue;
            };
            let Some(Some(bucket)) = self.buckets.get_mut(&(who, endpoint)) else {
                continue;
            };
            match &entry.fact {
                Fact::Opened { .. } => {
                    bucket.fill(entry.at);
                    bucket.tokens -= TOKEN;
                    let kept = bucket.tokens >= 0 || self.stuck.has(who);
                    hold(kept, || {
                        format!("{who:?} opens {entry:?} too fast: {bucket:?}")
                    })?;
                }
                Fact::NotSent { .. } => bucket.tokens += TOKEN,
                _ => {}
            }
        }
        Ok(())
    }
}

/// See its promise.
#[derive(Default)]
pub struct SlotsKept {
    most: BTreeMap<(Who, EndpointId), u16>,
    open: BTreeMap<(Who, EndpointId), BTreeSet<DeliveryId>>,
    stuck: Stuck,
}

impl Checker for SlotsKept {
    fn name(&self) -> &'static str {
        "slots-kept"
    }

    fn promise(&self) -> &'static str {
        "One engine has no more attempts under way to an endpoint than the endpoint's slots, \
         except while it hands in again what its store had no room for."
    }

    fn see(&mut self, picture: &Picture, _: Time, happened: &Happened<'_>) -> Result<(), String> {
        match happened {
            Happened::Told { who, gate, .. } => {
                let most = self.most.entry((*who, gate.endpoint)).or_insert(1);
                *most = gate.slots_max.max(*most);
            }
            Happened::Refused {
                shard,
                record,
                verdict: Verdict::Full,
            } => self.stuck.refused(*shard, record),
            Happened::Ended { who } => self.stuck.end(*who),
            Happened::Committed { shard, record } => {
                for entry in &record.entries {
                    let Some(at) = engine_of(picture, *shard, record, entry) else {
                        continue;
                    };
                    let open = self.open.entry(at).or_default();
                    match &entry.fact {
                        Fact::Opened { .. } => {
                            open.insert(entry.delivery);
                            let most = self.most.get(&at).copied().unwrap_or(u16::MAX);
                            let kept = open.len() <= usize::from(most);
                            hold(kept || self.stuck.has(at.0), || {
                                let many = open.len();
                                format!("{at:?} has {many} attempts under way of {most}")
                            })?;
                        }
                        Fact::Answered { .. } | Fact::NotSent { .. } => {
                            open.remove(&entry.delivery);
                        }
                        _ => {}
                    }
                }
                self.stuck.recorded(*shard, record);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Records that found no room: their engine hands them in again behind later ones, under their old
/// times. Admissions are given up instead.
#[derive(Default)]
pub(super) struct Stuck(BTreeMap<Who, BTreeSet<(DeliveryId, u32)>>);

impl Stuck {
    pub fn refused(&mut self, shard: usize, record: &Record) {
        let waits = record.event.is_none();
        if let Some((who, entry)) = first(shard, record).filter(|_| waits) {
            self.0.entry(who).or_default().insert(entry);
        }
    }

    /// Some of this engine's are not recorded yet.
    pub fn has(&self, who: Who) -> bool {
        self.0.contains_key(&who)
    }

    /// The engine whose last one this record was, if it was one.
    pub fn recorded(&mut self, shard: usize, record: &Record) -> Option<Who> {
        let (who, entry) = first(shard, record)?;
        let waiting = self.0.get_mut(&who)?;
        waiting.remove(&entry);
        let over = waiting.is_empty().then_some(who)?;
        self.0.remove(&over);
        Some(over)
    }

    pub fn end(&mut self, who: Who) {
        self.0.remove(&who);
    }
}

/// Who wrote a record, and what its first entry is of. Its place in the journal may change.
fn first(shard: usize, record: &Record) -> Option<(Who, (DeliveryId, u32))> {
    let entry = record.entries.first()?;
    let who = writers(shard, record).next()?;
    Some((who, (entry.delivery, entry.version)))
}

/// The engine that wrote a record.
pub(super) fn writers(shard: usize, record: &Record) -> impl Iterator<Item = Who> {
    let epochs = record.fences.iter().map(|(_, epoch)| *epoch);
    epochs.map(move |epoch| Who { shard, epoch })
}

/// Which engine wrote an entry, and to which endpoint it is.
fn engine_of(
    picture: &Picture,
    shard: usize,
    record: &Record,
    entry: &Entry,
) -> Option<(Who, EndpointId)> {
    let (_, epoch) = *record.fences.first()?;
    let endpoint = picture.row(shard, entry.delivery)?.row.endpoint;
    Some((Who { shard, epoch }, endpoint))
}
