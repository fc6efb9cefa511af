//! What a person sees on a device, and what becomes of devices that are gone.
//!
//! A device shows what it is handed under a key: what comes under a key that is shown already takes
//! its place. So a notification is shown as often as it came under different keys, and not at all
//! once another one came under its key. Absent here: the rest that is promised of a delivery,
//! which is the same for a device and for a webhook.

use std::collections::{BTreeSet, HashMap};

use postrider_core::ledger::State;
use postrider_core::policy::Guarantee;

use super::{Broken, Findings, LINGERING_US_MAX, Promise, Sight};
use crate::cli::demo::evidence::{Asked, Push, Row, Says, Step};
use crate::fake::Record;

/// What all devices were handed.
#[derive(Default)]
struct Screens<'a> {
    /// The keys of each delivery.
    keys: HashMap<&'a str, BTreeSet<&'a str>>,
    /// How often each delivery was handed to its device.
    times: HashMap<&'a str, usize>,
    /// The deliveries that came under each key of a device.
    under: HashMap<(&'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> Screens<'a> {
    fn of(pushes: &'a [Push]) -> Screens<'a> {
        let mut screens = Screens::default();
        for Push {
            path,
            correlation_id: id,
            key,
        } in pushes
        {
            screens.keys.entry(id).or_default().insert(key);
            *screens.times.entry(id).or_default() += 1;
            screens.under.entry((path, key)).or_default().insert(id);
        }
        screens
    }

    /// What is wrong with what the device of this delivery shows of it.
    fn wrong(&self, correlation: &str, row: &Row) -> Option<String> {
        let Some(keys) = self.keys.get(correlation) else {
            let seen = row.state != State::Accepted;
            return (!seen).then(|| "accepted, but its device shows nothing".to_owned());
        };
        if keys.len() > 1 {
            let times = keys.len();
            return Some(format!(
                "shown {times} times: its repeats came under other keys"
            ));
        }
        let alone = |key| {
            self.under
                .get(&(&*row.path, key))
                .is_none_or(|ids| ids.len() == 1)
        };
        match keys.iter().all(|&key| alone(key)) {
            true => None,
            false => Some("another notification took its place on the screen".to_owned()),
        }
    }
}

impl Sight<'_> {
    /// Every effectively-once notification on every device: shown once, or not sent.
    pub(super) fn screens(&self, findings: &mut Findings) {
        let screens = Screens::of(&self.evidence.pushes);
        let effectively = |asked: &&Asked| asked.guarantee == Guarantee::EffectivelyOnce;
        for asked in self.evidence.asked.iter().filter(effectively) {
            for (correlation, _) in asked.deliveries() {
                let row = self.rows.get(correlation).and_then(|rows| rows.first());
                let Some(row) = row.filter(|row| self.evidence.devices.contains_key(&row.path))
                else {
                    continue;
                };
                findings.shown_by += screens.times.get(correlation).copied().unwrap_or(0);
                let what = match screens.wrong(correlation, row) {
                    None => {
                        findings.shown += usize::from(screens.keys.contains_key(correlation));
                        continue;
                    }
                    Some(what) => what,
                };
                findings.broken.push(Broken {
                    promise: Promise::ShownOnce,
                    whose: correlation.to_owned(),
                    what,
                });
            }
        }
    }

    /// When it was first written down of each receiver that it is gone. The registry's own date may
    /// be earlier: since when the provider has known.
    fn gone_ms(&self) -> HashMap<&str, i64> {
        let mut gone_ms: HashMap<&str, i64> = HashMap::new();
        for row in &self.evidence.rows {
            for step in row.entries.iter().filter(|step| step.says == Says::Gone) {
                let at_ms = gone_ms.entry(&row.path).or_insert(step.at_ms);
                *at_ms = step.at_ms.min(*at_ms);
            }
        }
        gone_ms
    }

    /// Every receiver that said that it is gone: no attempt begins after its word was written down.
    pub(super) fn left_alone(&self, findings: &mut Findings) {
        let gone_ms = self.gone_ms();
        for row in &self.evidence.rows {
            let Some(&gone_ms) = gone_ms.get(&*row.path) else {
                continue;
            };
            let late = |step: &&Step| step.says == Says::Opened && step.at_ms > gone_ms;
            if let Some(late) = row.entries.iter().find(late) {
                let after_ms = late.at_ms - gone_ms;
                findings.broken.push(Broken {
                    promise: Promise::Retired,
                    whose: row.correlation_id.clone(),
                    what: format!(
                        "an attempt began {after_ms} ms after {} had said that it is gone",
                        row.path
                    ),
                });
            }
        }
    }

    /// Whether an attempt to which a request can belong was under way at this moment: that cannot
    /// be called back, however long it takes.
    fn began_before(&self, hit: &Record, moment_ms: i64) -> bool {
        let rows = self
            .rows
            .get(&*hit.correlation_id)
            .map_or(&[][..], Vec::as_slice);
        let mut steps = rows.iter().flat_map(|row| &row.entries);
        steps.any(|step| step.says == Says::Opened && step.at_ms <= moment_ms)
    }

    /// Every device: still known, and retired if and only if its provider said that it is gone. The
    /// journal says so as well, and what it says no kill undoes.
    pub(super) fn retired(&self, findings: &mut Findings) {
        let gone_ms = self.gone_ms();
        let mut by_path: HashMap<&str, Vec<&Record>> = HashMap::new();
        for hit in &self.evidence.received {
            by_path.entry(&hit.path).or_default().push(hit);
        }
        for (path, device) in &self.evidence.devices {
            let hits = by_path.get(&**path).map_or(&[][..], Vec::as_slice);
            let said_gone = |hit: &&&Record| matches!(hit.http_status, 404 | 410);
            let first = hits.iter().find(said_gone);
            findings.retired += usize::from(device.retired_us.is_some());
            let mut broken = |promise, what: String| {
                findings.broken.push(Broken {
                    promise,
                    whose: path.clone(),
                    what,
                });
            };
            if !device.known {
                broken(
                    Promise::NothingLost,
                    "the device is not known any more".into(),
                );
                continue;
            }
            let written = gone_ms.contains_key(&**path);
            if written != device.retired_us.is_some() {
                let what = match written {
                    true => "the journal says that it is gone, and it is not retired",
                    false => "it was retired, and no entry of the journal says why",
                };
                broken(Promise::Retired, what.into());
                continue;
            }
            let Some(retired_us) = device.retired_us else {
                // An answer that came as the engine was killed may never have been read.
                if hits
                    .iter()
                    .any(|hit| said_gone(&hit) && !self.near_a_kill(hit))
                {
                    let what = "its provider said that it is gone, and it is not retired";
                    broken(Promise::Retired, what.into());
                }
                continue;
            };
            let since_ms = i64::try_from(retired_us / 1_000).unwrap_or(i64::MAX);
            let known_ms = gone_ms
                .get(&**path)
                .map_or(since_ms, |&ms| ms.max(since_ms));
            let known_us = u64::try_from(known_ms).unwrap_or(0).saturating_mul(1_000);
            match first {
                None => broken(
                    Promise::Retired,
                    "it was retired, and nobody said that it is gone".into(),
                ),
                Some(hit) if known_us + LINGERING_US_MAX < hit.arrived_us => broken(
                    Promise::Retired,
                    "it was retired before anybody said that it is gone".into(),
                ),
                Some(_) => {}
            }
            let late = |hit: &&&Record| {
                hit.arrived_us > known_us + LINGERING_US_MAX && !self.began_before(hit, known_ms)
            };
            let late = hits.iter().filter(late).count();
            if late > 0 {
                let what = format!("{late} requests came after it was retired");
                broken(Promise::Retired, what);
            }
        }
    }
}
