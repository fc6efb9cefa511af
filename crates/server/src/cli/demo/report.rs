//! The guarantee report: what was promised, what was kept, in words and as one JSON object.
//!
//! Absent here: finding out. See `check`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use postrider_core::endpoint::Channel;
use serde_json::{Value, json};

use super::check::{Findings, Promise};
use super::evidence::Outage;
use crate::cli::show::Paint;

/// Broken promises that are told one by one in words; the JSON has them all.
const TOLD_MAX: usize = 20;

/// Everything the report says.
pub(crate) struct Report<'a> {
    pub(crate) findings: &'a Findings,
    pub(crate) outages: &'a [Outage],
    pub(crate) seed: u64,
    pub(crate) plant: Option<&'a str>,
    pub(crate) elapsed_ms: u64,
}

impl Report<'_> {
    /// The report as one object.
    pub(crate) fn json(&self) -> Value {
        let findings = self.findings;
        let recovery_ms: Vec<u64> = self
            .outages
            .iter()
            .map(|outage| outage.recovery_ms)
            .collect();
        let broken: Vec<Value> = findings
            .broken
            .iter()
            .map(|broken| {
                json!({
                    "promise": name(broken.promise),
                    "whose": broken.whose,
                    "what": broken.what,
                })
            })
            .collect();
        json!({
            "seed": self.seed,
            "plant": self.plant,
            "events": findings.events,
            "accepted": findings.accepted,
            "handed_over": findings.handed_over,
            "handed_over_by_channel": self.by_channel(),
            "requests": findings.requests,
            "duplicates_suppressed": findings.duplicates_suppressed,
            "ambiguous": findings.ambiguous,
            "acted_on_twice": findings.acted_on_twice,
            "shown_once": { "notifications": findings.shown, "hand_overs": findings.shown_by },
            "devices_retired": findings.retired,
            "kills": self.outages.len(),
            "lost": findings.lost,
            "broken_promises": findings.broken.len(),
            "broken": broken,
            "states": findings.states,
            "dead_letters": findings.dead_letters,
            "recovery_ms": recovery_ms,
            "recovery_p50_ms": self.recovery(50),
            "recovery_max_ms": self.recovery(100),
            "elapsed_ms": self.elapsed_ms,
        })
    }

    /// Numbers, and what each of them counts.
    fn counts(&self) -> Vec<(String, String)> {
        let findings = self.findings;
        let channels = Channel::ALL.iter().map(|channel| {
            let count = findings.by_channel.get(channel).copied().unwrap_or(0);
            format!("{count} {}", plural(*channel))
        });
        let channels: Vec<String> = channels.collect();
        let plain: [(usize, String); 8] = [
            (
                findings.accepted,
                format!("deliveries accepted, of {} events", findings.events),
            ),
            (
                findings.handed_over,
                format!("handed over: {}", channels.join(", ")),
            ),
            (
                findings.duplicates_suppressed,
                "repeated submissions suppressed".into(),
            ),
            (
                findings.ambiguous,
                "ambiguous: a request may have acted, unknown to us".into(),
            ),
            (
                findings.acted_on_twice,
                "acted on more than once by a receiver, each time after such a request".into(),
            ),
            (
                findings.shown,
                format!(
                    "effectively-once notifications shown once on a device, handed over {} times",
                    findings.shown_by
                ),
            ),
            (
                findings.retired,
                "devices retired because their app is gone".into(),
            ),
            (
                self.outages.len(),
                "times killed with SIGKILL under load".into(),
            ),
        ];
        let mut counts: Vec<(String, String)> = plain
            .into_iter()
            .map(|(number, words)| (number.to_string(), words))
            .collect();
        counts.push((
            format!("{} ms", self.recovery(50)),
            format!("to recover, at the most {} ms", self.recovery(100)),
        ));
        counts.push((findings.lost.to_string(), "lost".into()));
        counts
    }

    /// The report for a person.
    pub(crate) fn words(&self, paint: Paint) -> String {
        let findings = self.findings;
        let mut text = format!("\n{}\n\n", paint.strong("Guarantee report"));
        // Writing to a string cannot go wrong.
        let mut line = |number: String, words: &str| {
            let _ = writeln!(text, "  {number:>9}  {words}");
        };
        for (number, words) in self.counts() {
            line(number, &words);
        }
        let dead: usize = findings.dead_letters.values().sum();
        line(dead.to_string(), "dead letters, by cause:");
        for (cause, count) in &findings.dead_letters {
            let _ = writeln!(text, "             {count:>6}  {cause}");
        }
        text.push('\n');
        for promise in Promise::ALL {
            let broken = findings
                .broken
                .iter()
                .filter(|one| one.promise == promise)
                .count();
            let mark = match broken {
                0 => paint.good("kept  "),
                _ => paint.bad("BROKEN"),
            };
            let times = match broken {
                0 => String::new(),
                count => format!(" ({count} times)"),
            };
            let _ = writeln!(text, "  {mark}  {}{times}", promise.text());
        }
        for broken in findings.broken.iter().take(TOLD_MAX) {
            let _ = writeln!(text, "\n  {}: {}", broken.whose, broken.what);
        }
        let _ = writeln!(
            text,
            "\n  seed {}, {} s",
            self.seed,
            self.elapsed_ms / 1_000
        );
        text
    }

    fn by_channel(&self) -> BTreeMap<&'static str, usize> {
        let counts = self.findings.by_channel.iter();
        counts
            .map(|(channel, count)| (channel.name(), *count))
            .collect()
    }

    fn recovery(&self, percent: usize) -> u64 {
        let mut times: Vec<u64> = self
            .outages
            .iter()
            .map(|outage| outage.recovery_ms)
            .collect();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        times.get(last * percent / 100).copied().unwrap_or(0)
    }
}

/// What goes over a channel, as a person calls it.
fn plural(channel: Channel) -> &'static str {
    match channel {
        Channel::Webhook => "webhooks",
        Channel::WebPush => "to browsers",
        Channel::Apns => "to Apple devices",
        Channel::Fcm => "over Firebase",
    }
}

/// A promise's name in JSON.
fn name(promise: Promise) -> &'static str {
    match promise {
        Promise::NothingLost => "nothing_lost",
        Promise::NothingInvented => "nothing_invented",
        Promise::AtMostOnce => "at_most_once",
        Promise::RepeatsExplained => "repeats_explained",
        Promise::Order => "order",
        Promise::Gapless => "gapless",
        Promise::Deduplication => "deduplication",
        Promise::OneRow => "one_row",
        Promise::Intact => "intact",
        Promise::ShownOnce => "shown_once",
        Promise::Retired => "retired",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Channel, Report};
    use crate::cli::demo::check::{Broken, Findings, Promise};
    use crate::cli::demo::evidence::Outage;
    use crate::cli::show::Paint;

    #[test]
    fn what_is_broken_is_counted_and_told() {
        let findings = Findings {
            accepted: 7,
            lost: 1,
            handed_over: 3,
            by_channel: BTreeMap::from([(Channel::Webhook, 2), (Channel::Apns, 1)]),
            retired: 5,
            broken: vec![Broken {
                promise: Promise::NothingLost,
                whose: "abc".into(),
                what: "it is gone".into(),
            }],
            ..Findings::default()
        };
        let outage = |recovery_ms| Outage {
            kill_us: 1,
            dead_us: 2,
            ready_us: 3,
            recovery_ms,
        };
        let report = Report {
            findings: &findings,
            outages: &[outage(30), outage(10), outage(20)],
            seed: 9,
            plant: None,
            elapsed_ms: 2_500,
        };
        let json = report.json();
        for (key, value) in [
            ("accepted", 7),
            ("lost", 1),
            ("broken_promises", 1),
            ("kills", 3),
            ("recovery_p50_ms", 20),
            ("recovery_max_ms", 30),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(json["broken"][0]["promise"], "nothing_lost");
        let words = report.words(Paint::PLAIN);
        assert!(
            words.contains("BROKEN  what was accepted arrived"),
            "{words}"
        );
        assert!(words.contains("abc: it is gone"), "{words}");
        assert_eq!(words.matches("kept  ").count(), 10, "{words}");
        let channels = "3  handed over: 2 webhooks, 0 to browsers, 1 to Apple devices";
        assert!(words.contains(channels), "{words}");
        assert!(words.contains("5  devices retired"), "{words}");
    }
}
