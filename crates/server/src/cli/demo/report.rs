//! The guarantee report: what was promised, what was kept, in words and as one JSON object.
//!
//! Absent here: finding out. See `check`.

use std::fmt::Write as _;

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
            "requests": findings.requests,
            "duplicates_suppressed": findings.duplicates_suppressed,
            "ambiguous": findings.ambiguous,
            "acted_on_twice": findings.acted_on_twice,
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

    /// The report for a person.
    pub(crate) fn words(&self, paint: Paint) -> String {
        let findings = self.findings;
        let mut text = format!("\n{}\n\n", paint.strong("Guarantee report"));
        // Writing to a string cannot go wrong.
        let mut line = |number: String, words: &str| {
            let _ = writeln!(text, "  {number:>9}  {words}");
        };
        let events = findings.events;
        line(
            findings.accepted.to_string(),
            &format!("deliveries accepted, of {events} events"),
        );
        line(findings.handed_over.to_string(), "handed over");
        line(
            findings.duplicates_suppressed.to_string(),
            "repeated submissions suppressed",
        );
        line(
            findings.ambiguous.to_string(),
            "ambiguous: a request may have acted, unknown to us",
        );
        line(
            findings.acted_on_twice.to_string(),
            "acted on more than once by a receiver, each time after such a request",
        );
        line(
            self.outages.len().to_string(),
            "times killed with SIGKILL under load",
        );
        let recovery = format!("{} ms", self.recovery(50));
        line(
            recovery,
            &format!("to recover, at the most {} ms", self.recovery(100)),
        );
        line(findings.lost.to_string(), "lost");
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
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::cli::demo::check::{Broken, Findings, Promise};
    use crate::cli::demo::evidence::Outage;
    use crate::cli::show::Paint;

    #[test]
    fn what_is_broken_is_counted_and_told() {
        let findings = Findings {
            accepted: 7,
            lost: 1,
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
        assert_eq!(words.matches("kept  ").count(), 8, "{words}");
    }
}
