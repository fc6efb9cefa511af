//! The checkers: evidence in, findings out. Each promise is one function.
//!
//! A promise is judged from the API's answers and from what the fakes received, and from nothing
//! else. Absent here: mercy. What cannot be explained by what the fakes did or by a kill is broken.

mod devices;
mod lanes;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::policy::Guarantee;

use super::evidence::{Asked, Evidence, Nature, Outage, Row};
use crate::fake::{Record, Verdict};

/// Longest time from a fake's answer until the engine has it on disk: a kill within it may make
/// the engine ask again.
const RECORDING_US_MAX: u64 = 2_000_000;
/// Longest time that a request may lie in a socket after its sender is dead.
const LINGERING_US_MAX: u64 = 1_000_000;

/// A promise, by the name that the report uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was accepted arrives, or ends with a reason that fits its receiver.
    NothingLost,
    /// What was never accepted is never handed over.
    NothingInvented,
    /// At-most-once: one request at the most.
    AtMostOnce,
    /// A second request follows only one that was not accepted, or a kill.
    RepeatsExplained,
    /// One ordering key, one at a time, in the order of submission.
    Order,
    /// Sequence ids without gaps, and the one before named rightly.
    Gapless,
    /// A repeat is answered with the first one's ids, and another payload is refused.
    Deduplication,
    /// One row for a delivery, versions without gaps, settled once.
    OneRow,
    /// What arrives is what was submitted, and its signature holds; what comes to a device is
    /// encrypted for it, or its sender was let in by its provider.
    Intact,
    /// At effectively-once a device shows each notification once, however often it is handed over.
    ShownOnce,
    /// A device is retired when its provider says that it is gone, not before, and gets nothing
    /// after.
    Retired,
}

impl Promise {
    /// All promises, in the order of the report.
    pub const ALL: [Promise; 11] = [
        Promise::NothingLost,
        Promise::NothingInvented,
        Promise::AtMostOnce,
        Promise::RepeatsExplained,
        Promise::Order,
        Promise::Gapless,
        Promise::Deduplication,
        Promise::OneRow,
        Promise::Intact,
        Promise::ShownOnce,
        Promise::Retired,
    ];

    /// The promise in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Promise::NothingLost => "what was accepted arrived, or ended with a cause that fits",
            Promise::NothingInvented => "nothing was handed over that was not accepted",
            Promise::AtMostOnce => "at-most-once was sent at most once",
            Promise::RepeatsExplained => "every repeated hand-over is explained",
            Promise::Order => "the order of each ordering key was kept",
            Promise::Gapless => "sequence ids have no gaps",
            Promise::Deduplication => "repeats were answered with the first one's ids",
            Promise::OneRow => "every delivery has one row and settled once",
            Promise::Intact => "payloads arrived unchanged, rightly signed or encrypted",
            Promise::ShownOnce => "effectively-once was shown exactly once on every device",
            Promise::Retired => "devices that are gone were retired, and left alone from then on",
        }
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// The delivery's correlation id, or the event's business id.
    pub whose: String,
    /// What was seen.
    pub what: String,
}

/// What the evidence comes to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Events that were answered with ids.
    pub events: usize,
    /// Deliveries that were accepted for them.
    pub accepted: usize,
    /// Deliveries of which at least one request was accepted by its fake.
    pub handed_over: usize,
    /// The same by channel.
    pub by_channel: BTreeMap<Channel, usize>,
    /// Requests that the fakes received.
    pub requests: usize,
    /// Submissions that were answered as repeats.
    pub duplicates_suppressed: usize,
    /// Deliveries for which a request may have acted without the engine knowing.
    pub ambiguous: usize,
    /// Deliveries that a fake acted on more than once; each is explained, or broken.
    pub acted_on_twice: usize,
    /// Effectively-once notifications that devices show exactly once.
    pub shown: usize,
    /// How often effectively-once notifications were handed to devices.
    pub shown_by: usize,
    /// Devices that were retired.
    pub retired: usize,
    /// Accepted deliveries that are lost.
    pub lost: usize,
    /// Dead letters by cause.
    pub dead_letters: BTreeMap<&'static str, usize>,
    /// Settled deliveries by state.
    pub states: BTreeMap<&'static str, usize>,
    /// Broken promises.
    pub broken: Vec<Broken>,
}

/// Judges a run.
#[must_use]
pub fn check(evidence: &Evidence) -> Findings {
    let sight = Sight::new(evidence);
    let mut findings = Findings {
        requests: evidence.received.len(),
        ..Findings::default()
    };
    for asked in &evidence.asked {
        sight.deduplicated(asked, &mut findings);
        for (correlation, path) in asked.deliveries() {
            findings.accepted += 1;
            sight.delivery(asked, correlation, path, &mut findings);
        }
    }
    sight.invented(&mut findings);
    sight.lanes(&mut findings);
    sight.screens(&mut findings);
    sight.retired(&mut findings);
    sight.left_alone(&mut findings);
    for row in &evidence.rows {
        *findings.states.entry(row.state.name()).or_default() += 1;
        if row.is_dead_letter(evidence.devices.contains_key(&row.path)) {
            *findings.dead_letters.entry(row.cause.code()).or_default() += 1;
        }
    }
    findings.broken.sort();
    findings
}

impl Asked {
    /// The first answer that speaks of ids.
    fn first(&self) -> Option<&super::evidence::Said> {
        self.answers.first()
    }

    /// The correlation ids that were promised, each with the path it goes to if that is certain.
    fn deliveries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let only = match &*self.paths {
            [path] => Some(path.as_str()),
            _ => None,
        };
        let ids = self.first().map_or(&[][..], |said| &said.deliveries);
        ids.iter().map(move |id| (id.as_str(), only))
    }
}

impl Row {
    /// Whether somebody should look at it. Devices come and go; nobody has to do anything then.
    fn is_dead_letter(&self, is_device: bool) -> bool {
        match self.state {
            State::Rejected if is_device && self.cause.is_of_a_dead_address() => false,
            State::Rejected | State::Exhausted | State::Uncertain => true,
            State::Expired => self.guarantee != Guarantee::AtMostOnce,
            _ => false,
        }
    }
}

/// The evidence with its indexes.
struct Sight<'a> {
    evidence: &'a Evidence,
    rows: HashMap<&'a str, Vec<&'a Row>>,
    hits: HashMap<&'a str, Vec<&'a Record>>,
}

impl<'a> Sight<'a> {
    fn new(evidence: &'a Evidence) -> Sight<'a> {
        let mut rows: HashMap<&str, Vec<&Row>> = HashMap::new();
        for row in &evidence.rows {
            rows.entry(&row.correlation_id).or_default().push(row);
        }
        let mut hits: HashMap<&str, Vec<&Record>> = HashMap::new();
        for record in &evidence.received {
            hits.entry(&record.correlation_id).or_default().push(record);
        }
        Sight {
            evidence,
            rows,
            hits,
        }
    }

    fn hits(&self, correlation: &str) -> &[&'a Record] {
        self.hits.get(correlation).map_or(&[], Vec::as_slice)
    }

    fn deduplicated(&self, asked: &Asked, findings: &mut Findings) {
        let mut broken = |what: String| {
            findings.broken.push(Broken {
                promise: Promise::Deduplication,
                whose: asked.id.clone(),
                what,
            });
        };
        let fresh = asked.answers.iter().filter(|said| !said.repeat).count();
        if fresh > 1 {
            broken(format!("{fresh} submissions of one key were taken as new"));
        }
        if fresh == 0 && asked.unanswered == 0 && !asked.answers.is_empty() {
            broken("the first submission was answered as a repeat".into());
        }
        if let Some(first) = asked.first() {
            let other = asked.answers.iter().find(|said| !said.same_ids(first));
            if let Some(other) = other {
                broken(format!(
                    "answered with event {} and {}",
                    first.event, other.event
                ));
            }
        }
        if asked.conflicts.contains(&false) {
            broken("another payload under the same key was not refused".into());
        }
        if !asked.answers.is_empty() {
            findings.events += 1;
        }
        findings.duplicates_suppressed += asked.answers.iter().filter(|said| said.repeat).count();
    }

    fn delivery(
        &self,
        asked: &Asked,
        correlation: &str,
        path: Option<&str>,
        findings: &mut Findings,
    ) {
        let hits = self.hits(correlation);
        let accepted = hits.iter().filter(|hit| is_acceptance(hit)).count();
        if accepted > 0 {
            findings.handed_over += 1;
            let device = self.evidence.devices.get(&*hits[0].path);
            let channel = device.map_or(Channel::Webhook, |device| device.channel);
            *findings.by_channel.entry(channel).or_default() += 1;
        }
        let acted = hits.iter().filter(|hit| hit.processed).count();
        findings.acted_on_twice += usize::from(acted > 1);
        let rows = self.rows.get(correlation).map_or(&[][..], Vec::as_slice);
        let uncertain = rows.iter().any(|row| row.state == State::Uncertain);
        let murky = hits.iter().any(|hit| may_have_acted(hit)) || accepted > 1 || uncertain;
        findings.ambiguous += usize::from(murky);

        let mut broken = |promise, what: String| {
            findings.broken.push(Broken {
                promise,
                whose: correlation.to_owned(),
                what,
            });
        };
        match rows {
            [row] => {
                if let Err(what) = one_life(row) {
                    broken(Promise::OneRow, what);
                }
                if let Err(what) = self.fits(asked, row, hits, path) {
                    broken(Promise::NothingLost, what);
                    findings.lost += 1;
                }
            }
            [] => {
                broken(
                    Promise::NothingLost,
                    "accepted, but the ledger has no row".into(),
                );
                findings.lost += 1;
            }
            rows => broken(
                Promise::OneRow,
                format!("the ledger has {} rows", rows.len()),
            ),
        }
        self.requests(asked, correlation, findings);
    }

    /// The requests of one delivery, as its fake saw them.
    fn requests(&self, asked: &Asked, correlation: &str, findings: &mut Findings) {
        let hits = self.hits(correlation);
        let mut broken = |promise, what: String| {
            findings.broken.push(Broken {
                promise,
                whose: correlation.to_owned(),
                what,
            });
        };
        if asked.guarantee == Guarantee::AtMostOnce && hits.len() > 1 {
            broken(
                Promise::AtMostOnce,
                format!("{} requests arrived", hits.len()),
            );
        }
        for pair in hits.windows(2) {
            if let Err(what) = self.explained(pair[0], pair[1]) {
                broken(Promise::RepeatsExplained, what);
            }
        }
        for hit in hits {
            if hit.body_crc32c != asked.payload_crc32c && hit.body_bytes > 0 {
                broken(
                    Promise::Intact,
                    "the payload that arrived is another one".into(),
                );
            }
            if !matches!(hit.signature, Verdict::Valid) && hit.body_bytes > 0 {
                broken(
                    Promise::Intact,
                    format!("the signature is {:?}", hit.signature),
                );
            }
            if !asked.paths.iter().any(|path| *path == *hit.path) {
                broken(Promise::Intact, format!("it arrived at {}", hit.path));
            }
        }
    }

    /// Whether where the row ended fits what its fake does and saw.
    fn fits(
        &self,
        asked: &Asked,
        row: &Row,
        hits: &[&Record],
        path: Option<&str>,
    ) -> Result<(), String> {
        let said = || format!("it is {} ({})", row.state.name(), row.cause);
        if !row.state.is_settled() {
            return Err(format!("{} although everything should be settled", said()));
        }
        if path.is_some_and(|path| path != row.path) || !asked.paths.contains(&row.path) {
            return Err(format!("its row names {:?} as receiver", row.path));
        }
        if row.guarantee != asked.guarantee {
            return Err(format!("its row says {}", row.guarantee.name()));
        }
        let accepted = hits.iter().any(|hit| is_acceptance(hit));
        if row.state == State::Accepted {
            return if accepted {
                Ok(())
            } else {
                Err(format!("{} but its fake never accepted it", said()))
            };
        }
        if row.state == State::Uncertain {
            return self
                .may_be_uncertain(row, hits)
                .map_err(|why| format!("{}: {why}", said()));
        }
        let Some(nature) = self.evidence.fakes.get(&row.path) else {
            return Err(format!("its fake {:?} is not known", row.path));
        };
        if row.state == State::Rejected && hits.is_empty() && row.cause != Cause::EndpointRetired {
            return Err(format!("{} but its fake never saw it", said()));
        }
        // An attempt that left no trace died in a kill, before its first byte.
        let traceless = row.attempts.saturating_sub(hits.len() as u64);
        let kills = self.evidence.outages.len() as u64;
        if *nature != Nature::Absent && row.state == State::Exhausted && traceless > kills {
            let many = format!("{traceless} attempts left no trace, with {kills} kills");
            return Err(format!("{} but {many}", said()));
        }
        if nature.permits(row) {
            Ok(())
        } else {
            Err(format!(
                "{} which does not fit a fake that {nature:?}",
                said()
            ))
        }
    }

    /// Uncertain is honest only at at-most-once, and only if its one request got no answer that
    /// the engine lived to record.
    fn may_be_uncertain(&self, row: &Row, hits: &[&Record]) -> Result<(), String> {
        if row.guarantee != Guarantee::AtMostOnce {
            return Err("it should have been tried again".into());
        }
        match hits {
            // The kill came between the opening and the first byte.
            [] if self.evidence.outages.is_empty() => Err("it was never sent, nor killed".into()),
            [] => Ok(()),
            hits => hits
                .iter()
                .all(|hit| hit.http_status == 0 || self.near_a_kill(hit))
                .then_some(())
                .ok_or_else(|| "its request was answered, and no kill came near".into()),
        }
    }

    /// Whether a second request after the first is what was promised.
    fn explained(&self, first: &Record, second: &Record) -> Result<(), String> {
        if second.attempt <= first.attempt {
            let (one, other) = (first.attempt, second.attempt);
            return Err(format!("attempt {other} arrived after attempt {one}"));
        }
        let retried = matches!(first.http_status, 0 | 408 | 425 | 429 | 500..=599);
        if retried || self.near_a_kill(first) {
            return Ok(());
        }
        Err(format!(
            "attempt {} came although attempt {} was answered {} and no kill came near",
            second.attempt, first.attempt, first.http_status
        ))
    }

    fn near_a_kill(&self, hit: &Record) -> bool {
        let ended_us = hit.answered_us.max(hit.arrived_us);
        self.evidence.outages.iter().any(|outage: &Outage| {
            hit.arrived_us <= outage.dead_us.saturating_add(LINGERING_US_MAX)
                && ended_us.saturating_add(RECORDING_US_MAX) >= outage.kill_us
        })
    }

    /// Requests and rows of deliveries that nobody was promised.
    fn invented(&self, findings: &mut Findings) {
        let promised: BTreeSet<&str> = self
            .evidence
            .asked
            .iter()
            .flat_map(|asked| &asked.answers)
            .flat_map(|said| said.deliveries.iter().map(String::as_str))
            .collect();
        for (correlation, hits) in &self.hits {
            if !promised.contains(correlation) {
                findings.broken.push(Broken {
                    promise: Promise::NothingInvented,
                    whose: (*correlation).to_owned(),
                    what: format!("{} requests arrived at {}", hits.len(), hits[0].path),
                });
            }
        }
        for correlation in self.rows.keys().filter(|id| !promised.contains(*id)) {
            findings.broken.push(Broken {
                promise: Promise::NothingInvented,
                whose: (*correlation).to_owned(),
                what: "the ledger has a row that nobody was answered with".into(),
            });
        }
    }
}

impl super::evidence::Said {
    fn same_ids(&self, other: &super::evidence::Said) -> bool {
        let sorted = |said: &super::evidence::Said| {
            let mut ids = said.deliveries.clone();
            ids.sort();
            ids
        };
        self.event == other.event && sorted(self) == sorted(other)
    }
}

impl Nature {
    /// Whether a delivery to such a fake may end so, other than Accepted or Uncertain.
    fn permits(self, row: &Row) -> bool {
        let at_most_once = row.guarantee == Guarantee::AtMostOnce;
        let lapsed = row.state == State::Expired;
        let spent = row.state == State::Exhausted && row.cause == Cause::AttemptsSpent;
        let rejected = |cause| row.state == State::Rejected && row.cause == cause;
        match self {
            Nature::Accepts => false,
            Nature::Relents(cause) => at_most_once && rejected(cause),
            Nature::Refuses(cause) => rejected(cause),
            // What was unknown until the time to live ended was never told that nobody is there.
            Nature::Gone if lapsed => row.cause != Cause::Gone,
            Nature::Gone | Nature::Leaves => {
                rejected(Cause::Gone) || row.cause == Cause::EndpointRetired
            }
            Nature::Fails(cause) => lapsed || if at_most_once { rejected(cause) } else { spent },
            Nature::Silent => lapsed || spent && !at_most_once,
            Nature::Absent => lapsed || spent,
        }
    }
}

/// Whether a history is a life: versions without gaps, settled once and at the end.
fn one_life(row: &Row) -> Result<(), String> {
    let entries = &row.entries;
    for (place, entry) in entries.iter().enumerate() {
        let expected = place as u64 + 1;
        if entry.version != expected {
            return Err(format!(
                "version {} where {expected} was due",
                entry.version
            ));
        }
        if entry.settles != (place + 1 == entries.len()) {
            return Err(format!(
                "it is settled {} at version {expected}",
                entry.settles
            ));
        }
    }
    Ok(())
}

fn is_acceptance(hit: &Record) -> bool {
    (200..300).contains(&hit.http_status)
}

fn may_have_acted(hit: &Record) -> bool {
    matches!(hit.http_status, 0 | 408 | 500..=599)
}

#[cfg(test)]
mod tests;
