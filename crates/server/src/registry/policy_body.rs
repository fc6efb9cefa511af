//! A policy as JSON: how it is stored, and how the API shows it.
//!
//! Field names and words are frozen: rows hold them. Absent here: the file's flat spelling, which
//! is `config::policy`.

use postrider_core::id::PolicyId;
use postrider_core::policy::{
    BreakerPolicy, Guarantee, HeadOfLine, Jitter, Policy, RatePolicy, Schedule,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything in a policy but its name and version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// How exactly: `at_most_once`, `at_least_once` or `effectively_once`.
    pub guarantee: GuaranteeWord,
    /// Waits between attempts.
    pub schedule: ScheduleBody,
    /// How the waits are spread.
    pub jitter: JitterWord,
    /// Attempts at the most, the first one included.
    pub attempts_max: u32,
    /// Time to live, in milliseconds.
    pub ttl_ms: i64,
    /// Wait after an answer that asks for a slower pace and names no time.
    pub throttle_ms: i64,
    /// Longest time named by a receiver that is waited for without recording an incident.
    pub retry_after_cap_ms: i64,
    /// What happens behind a delivery that is not accepted.
    pub head_of_line: HeadOfLineWord,
    /// When the endpoint rests.
    pub breaker: BreakerBody,
    /// How fast it is sent to; absent is as fast as it takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateBody>,
    /// The rate follows the answers.
    pub adaptive: bool,
    /// Percent of the rate for each hour of the UTC day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours_percent: Option<[u8; 24]>,
    /// Attempts under way to one endpoint at the most.
    pub slots_max: u16,
    /// How long a key is remembered.
    pub dedupe_window_ms: i64,
    /// A definite failure frees the key.
    pub release_on_definite_failure: bool,
    /// How long a payload is kept after its deliveries have settled.
    pub payload_keep_ms: i64,
    /// The same for dead letters.
    pub dead_payload_keep_ms: i64,
}

/// Waits between attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)] // described at `Schedule`
pub enum ScheduleBody {
    Exponential { base_ms: i64, cap_ms: i64 },
    Linear { step_ms: i64, cap_ms: i64 },
    Fixed { waits_ms: Vec<i64> },
}

/// When an endpoint is given a rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerBody {
    /// Share of errors, in percent, at which the breaker opens.
    pub error_percent: u8,
    /// Answers that must be in the window before the share counts.
    pub answers_min: u16,
    /// Answers that the window remembers at the most.
    pub answers_max: u16,
    /// How far back the window reaches.
    pub window_ms: i64,
    /// Rest before one probe is let through.
    pub open_ms: i64,
}

/// How fast an endpoint is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateBody {
    /// Attempts in 1,000 seconds: 500 is one every two seconds.
    pub per_second_milli: u64,
    /// Attempts that may go at once after a pause.
    pub burst: u32,
}

/// Defines the word for each variant of one of the core's enums, in both directions.
macro_rules! words {
    ($($(#[$doc:meta])* $word:ident = $core:ident { $($variant:ident),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs)] // described at the core's type
        pub enum $word { $($variant),* }

        impl From<$core> for $word {
            fn from(value: $core) -> $word {
                match value { $($core::$variant => $word::$variant),* }
            }
        }

        impl From<$word> for $core {
            fn from(word: $word) -> $core {
                match word { $($word::$variant => $core::$variant),* }
            }
        }
    )*};
}

words! {
    /// How exactly a delivery is promised.
    GuaranteeWord = Guarantee { AtMostOnce, AtLeastOnce, EffectivelyOnce }
    /// How a wait is spread.
    JitterWord = Jitter { None, Equal, Full }
    /// What a lane does when its head is not accepted.
    HeadOfLineWord = HeadOfLine { Block, Skip, Park }
}

impl From<RatePolicy> for RateBody {
    fn from(rate: RatePolicy) -> RateBody {
        RateBody {
            per_second_milli: rate.per_second_milli,
            burst: rate.burst,
        }
    }
}

impl From<RateBody> for RatePolicy {
    fn from(rate: RateBody) -> RatePolicy {
        RatePolicy {
            per_second_milli: rate.per_second_milli,
            burst: rate.burst,
        }
    }
}

impl From<&Policy> for PolicyBody {
    fn from(policy: &Policy) -> PolicyBody {
        let breaker = policy.breaker;
        PolicyBody {
            guarantee: policy.guarantee.into(),
            schedule: match policy.schedule.clone() {
                Schedule::Exponential { base_ms, cap_ms } => {
                    ScheduleBody::Exponential { base_ms, cap_ms }
                }
                Schedule::Linear { step_ms, cap_ms } => ScheduleBody::Linear { step_ms, cap_ms },
                Schedule::Fixed { waits_ms } => ScheduleBody::Fixed { waits_ms },
            },
            jitter: policy.jitter.into(),
            attempts_max: policy.attempts_max,
            ttl_ms: policy.ttl_ms,
            throttle_ms: policy.throttle_ms,
            retry_after_cap_ms: policy.retry_after_cap_ms,
            head_of_line: policy.head_of_line.into(),
            breaker: BreakerBody {
                error_percent: breaker.error_percent,
                answers_min: breaker.answers_min,
                answers_max: breaker.answers_max,
                window_ms: breaker.window_ms,
                open_ms: breaker.open_ms,
            },
            rate: policy.rate.map(RateBody::from),
            adaptive: policy.adaptive,
            hours_percent: policy.hours_percent,
            slots_max: policy.slots_max,
            dedupe_window_ms: policy.dedupe_window_ms,
            release_on_definite_failure: policy.release_on_definite_failure,
            payload_keep_ms: policy.payload_keep_ms,
            dead_payload_keep_ms: policy.dead_payload_keep_ms,
        }
    }
}

impl PolicyBody {
    /// The policy that this is the body of.
    #[must_use]
    pub fn into_policy(self, id: PolicyId, name: &str) -> Policy {
        let breaker = self.breaker;
        Policy {
            id,
            name: name.into(),
            guarantee: self.guarantee.into(),
            schedule: match self.schedule {
                ScheduleBody::Exponential { base_ms, cap_ms } => {
                    Schedule::Exponential { base_ms, cap_ms }
                }
                ScheduleBody::Linear { step_ms, cap_ms } => Schedule::Linear { step_ms, cap_ms },
                ScheduleBody::Fixed { waits_ms } => Schedule::Fixed { waits_ms },
            },
            jitter: self.jitter.into(),
            attempts_max: self.attempts_max,
            ttl_ms: self.ttl_ms,
            throttle_ms: self.throttle_ms,
            retry_after_cap_ms: self.retry_after_cap_ms,
            head_of_line: self.head_of_line.into(),
            breaker: BreakerPolicy {
                error_percent: breaker.error_percent,
                answers_min: breaker.answers_min,
                answers_max: breaker.answers_max,
                window_ms: breaker.window_ms,
                open_ms: breaker.open_ms,
            },
            rate: self.rate.map(RatePolicy::from),
            adaptive: self.adaptive,
            hours_percent: self.hours_percent,
            slots_max: self.slots_max,
            dedupe_window_ms: self.dedupe_window_ms,
            release_on_definite_failure: self.release_on_definite_failure,
            payload_keep_ms: self.payload_keep_ms,
            dead_payload_keep_ms: self.dead_payload_keep_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_policy_comes_back() {
        let mut policy = Policy::patient(PolicyId(3));
        let check = |policy: &Policy| {
            let text = serde_json::to_string(&PolicyBody::from(policy)).unwrap();
            let body: PolicyBody = serde_json::from_str(&text).unwrap();
            assert_eq!(&body.into_policy(policy.id, &policy.name), policy);
        };
        check(&policy);
        policy.schedule = Schedule::Linear {
            step_ms: 1,
            cap_ms: 2,
        };
        policy.rate = Some(RatePolicy {
            per_second_milli: 500,
            burst: 2,
        });
        policy.hours_percent = Some([50; 24]);
        policy.jitter = Jitter::Equal;
        policy.head_of_line = HeadOfLine::Park;
        policy.guarantee = Guarantee::EffectivelyOnce;
        check(&policy);
    }
}
