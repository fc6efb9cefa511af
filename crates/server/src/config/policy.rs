//! `[policies.<name>]`: a policy in flat keys, on top of the one it is based on.
//!
//! Absent here: versions. The registry makes a new one where something differs.

use postrider_core::id::PolicyId;
use postrider_core::policy::{
    BreakerPolicy, Guarantee, HeadOfLine, Jitter, Policy, RatePolicy, Schedule,
};

use super::section::section;

section! {
    /// How hard deliveries are tried. What is not set is as in the policy it is based on. A change
    /// becomes a new version at the next start; deliveries that are under way keep theirs.
    PolicySection {
        /// `brief` or `patient`: what the policy is without the other keys.
        base: Option<String> = None;
        /// `at_most_once`, `at_least_once` or `effectively_once`.
        guarantee: Option<String> = None;
        /// `exponential` (base_ms, cap_ms), `linear` (step_ms, cap_ms) or `fixed` (waits_ms).
        schedule: Option<String> = None;
        /// Wait after the first attempt of an exponential schedule; it doubles each time.
        base_ms: i64 = 2_000, 1..=86_400_000;
        /// Wait after the first attempt of a linear schedule, and what each further one adds.
        step_ms: i64 = 2_000, 1..=86_400_000;
        /// Longest wait of an exponential or linear schedule.
        cap_ms: i64 = 60_000, 1..=604_800_000;
        /// Waits of a fixed schedule, in turn; the last one repeats.
        waits_ms: Vec<i64> = Vec::new();
        /// `none`, `equal` (half of the wait is random) or `full` (all of it is).
        jitter: Option<String> = None;
        /// Attempts at the most, the first one included.
        attempts_max: Option<u32> = None;
        /// Time to live from admission, or from the chosen moment of sending where there is one.
        ttl_s: Option<u32> = None;
        /// Wait after an answer that asks for a slower pace and names no time.
        throttle_ms: Option<u32> = None;
        /// Longest time named by a receiver that is waited for without recording an incident.
        retry_after_cap_s: Option<u32> = None;
        /// Behind a delivery that is not accepted: `block`, `skip` or `park`.
        head_of_line: Option<String> = None;
        /// Share of errors, in percent, at which the endpoint is given a rest.
        breaker_error_percent: Option<u8> = None;
        /// Answers that must be known before that share counts.
        breaker_answers_min: Option<u16> = None;
        /// Answers that are remembered for it at most.
        breaker_answers_max: Option<u16> = None;
        /// How far back they may lie.
        breaker_window_ms: Option<u32> = None;
        /// How long the rest is before one probe goes out.
        breaker_open_ms: Option<u32> = None;
        /// Attempts in 1,000 seconds to one endpoint; 500 is one every two seconds. Not set: as
        /// fast as it takes them.
        rate_per_1000_s: Option<u64> = None;
        /// Attempts that may go at once after a pause, where there is a rate.
        rate_burst: u32 = 1, 1..=1_000_000;
        /// The rate is lowered by 429 and 5xx answers and raised again by accepted ones.
        adaptive: Option<bool> = None;
        /// Percent of the rate for each of the 24 hours of the UTC day.
        hours_percent: Vec<u8> = Vec::new();
        /// Attempts under way to one endpoint at the most.
        slots_max: Option<u16> = None;
        /// How long an idempotency key is remembered.
        dedupe_window_s: Option<u32> = None;
    }
}

/// A key of a policy whose value cannot be used, and what is demanded.
pub(super) type Broken = (&'static str, String);

impl PolicySection {
    /// The policy that this describes. Its id is not its own yet.
    pub(super) fn policy(&self, name: &str) -> Result<Policy, Broken> {
        let base = match (self.base.as_deref(), name) {
            (Some("brief"), _) | (None, "brief") => Policy::brief(PolicyId(0)),
            (Some("patient"), _) | (None, "patient") => Policy::patient(PolicyId(0)),
            (None, _) => Policy::brief(PolicyId(0)),
            (Some(_), _) => return refuse("base", "must be \"brief\" or \"patient\""),
        };
        let policy = Policy {
            id: PolicyId(0),
            name: name.into(),
            guarantee: word(
                "guarantee",
                self.guarantee.as_deref(),
                base.guarantee,
                &Guarantee::ALL.map(|guarantee| (guarantee.name(), guarantee)),
            )?,
            schedule: self.schedule(base.schedule)?,
            jitter: word(
                "jitter",
                self.jitter.as_deref(),
                base.jitter,
                &[
                    ("none", Jitter::None),
                    ("equal", Jitter::Equal),
                    ("full", Jitter::Full),
                ],
            )?,
            head_of_line: word(
                "head_of_line",
                self.head_of_line.as_deref(),
                base.head_of_line,
                &[
                    ("block", HeadOfLine::Block),
                    ("skip", HeadOfLine::Skip),
                    ("park", HeadOfLine::Park),
                ],
            )?,
            attempts_max: least("attempts_max", self.attempts_max, base.attempts_max)?,
            ttl_ms: seconds(self.ttl_s, base.ttl_ms),
            throttle_ms: self.throttle_ms.map_or(base.throttle_ms, i64::from),
            retry_after_cap_ms: seconds(self.retry_after_cap_s, base.retry_after_cap_ms),
            breaker: self.breaker(base.breaker)?,
            rate: self
                .rate_per_1000_s
                .map(|rate| RatePolicy {
                    per_second_milli: rate,
                    burst: self.rate_burst,
                })
                .or(base.rate),
            adaptive: self.adaptive.unwrap_or(base.adaptive),
            hours_percent: self.hours(base.hours_percent)?,
            slots_max: least("slots_max", self.slots_max, base.slots_max)?,
            dedupe_window_ms: seconds(self.dedupe_window_s, base.dedupe_window_ms),
            release_on_definite_failure: base.release_on_definite_failure,
            payload_keep_ms: base.payload_keep_ms,
            dead_payload_keep_ms: base.dead_payload_keep_ms,
        };
        if policy.ttl_ms == 0 {
            return refuse("ttl_s", "must be at least 1");
        }
        if policy.rate.is_some_and(|rate| rate.per_second_milli == 0) {
            return refuse("rate_per_1000_s", "must be at least 1");
        }
        Ok(policy)
    }

    fn schedule(&self, base: Schedule) -> Result<Schedule, Broken> {
        match self.schedule.as_deref() {
            None if self.waits_ms.is_empty() => Ok(base),
            None | Some("fixed") if self.waits_ms.iter().any(|&wait| wait < 0) => {
                refuse("waits_ms", "must not hold negative waits")
            }
            None | Some("fixed") if !self.waits_ms.is_empty() => Ok(Schedule::Fixed {
                waits_ms: self.waits_ms.clone(),
            }),
            Some("fixed") => refuse("waits_ms", "must hold at least one wait"),
            Some("exponential") => Ok(Schedule::Exponential {
                base_ms: self.base_ms,
                cap_ms: self.cap_ms,
            }),
            Some("linear") => Ok(Schedule::Linear {
                step_ms: self.step_ms,
                cap_ms: self.cap_ms,
            }),
            _ => refuse(
                "schedule",
                "must be \"exponential\", \"linear\" or \"fixed\"",
            ),
        }
    }

    fn breaker(&self, base: BreakerPolicy) -> Result<BreakerPolicy, Broken> {
        let breaker = BreakerPolicy {
            error_percent: self.breaker_error_percent.unwrap_or(base.error_percent),
            answers_min: self.breaker_answers_min.unwrap_or(base.answers_min),
            answers_max: self.breaker_answers_max.unwrap_or(base.answers_max),
            window_ms: self.breaker_window_ms.map_or(base.window_ms, i64::from),
            open_ms: self.breaker_open_ms.map_or(base.open_ms, i64::from),
        };
        if !(1..=100).contains(&breaker.error_percent) {
            return refuse("breaker_error_percent", "must be between 1 and 100");
        }
        if breaker.answers_min == 0 || breaker.answers_min > breaker.answers_max {
            return refuse(
                "breaker_answers_min",
                "must be between 1 and breaker_answers_max",
            );
        }
        // Two bytes for each endpoint and answer, so a slip of the pen would cost gigabytes.
        if breaker.answers_max > 1_000 {
            return refuse("breaker_answers_max", "must be at most 1000");
        }
        Ok(breaker)
    }

    fn hours(&self, base: Option<[u8; 24]>) -> Result<Option<[u8; 24]>, Broken> {
        if self.hours_percent.is_empty() {
            return Ok(base);
        }
        match <[u8; 24]>::try_from(self.hours_percent.as_slice()) {
            Ok(hours) if hours.iter().all(|percent| (1..=100).contains(percent)) => Ok(Some(hours)),
            _ => refuse("hours_percent", "must hold 24 values between 1 and 100"),
        }
    }
}

fn word<T: Copy>(
    key: &'static str,
    text: Option<&str>,
    base: T,
    words: &[(&str, T)],
) -> Result<T, Broken> {
    let Some(text) = text else {
        return Ok(base);
    };
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let all: Vec<String> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            (key, format!("must be one of {}", all.join(", ")))
        })
}

fn least<T: Default + PartialEq>(key: &'static str, set: Option<T>, base: T) -> Result<T, Broken> {
    match set {
        Some(value) if value == T::default() => refuse(key, "must be at least 1"),
        Some(value) => Ok(value),
        None => Ok(base),
    }
}

fn seconds(set: Option<u32>, base_ms: i64) -> i64 {
    set.map_or(base_ms, |seconds| i64::from(seconds) * 1_000)
}

fn refuse<T>(key: &'static str, rule: &str) -> Result<T, Broken> {
    Err((key, rule.to_owned()))
}
