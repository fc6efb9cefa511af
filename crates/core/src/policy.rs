//! Policies: how hard a delivery is tried, in which order, and how fast.
//!
//! A policy is a versioned value. It is resolved at admission, named on each attempt, and never
//! changed in place: a change is a new [`PolicyId`].
//!
//! Absent here: where policies come from (files, API) and how one is chosen for an endpoint.

use crate::id::PolicyId;
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// How exactly a delivery is promised. One table says what each means; see
/// [`crate::acknowledge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Guarantee {
    /// One request at the most, ever. What became of it may stay unknown.
    AtMostOnce = 1,
    /// Tried until accepted, refused for good, lapsed or spent.
    AtLeastOnce = 2,
    /// At-least-once under a stable key from the first attempt on, so that a receiver that keeps
    /// the key sees one effect.
    EffectivelyOnce = 3,
}

impl Guarantee {
    /// All guarantees, in the order of their numbers.
    pub const ALL: [Guarantee; 3] = [
        Guarantee::AtMostOnce,
        Guarantee::AtLeastOnce,
        Guarantee::EffectivelyOnce,
    ];

    /// The guarantee with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Guarantee> {
        Guarantee::ALL
            .get(usize::from(number).checked_sub(1)?)
            .copied()
    }

    /// The word the API and the configuration use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Guarantee::AtMostOnce => "at_most_once",
            Guarantee::AtLeastOnce => "at_least_once",
            Guarantee::EffectivelyOnce => "effectively_once",
        }
    }

    /// The guarantee with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Guarantee> {
        Guarantee::ALL
            .into_iter()
            .find(|guarantee| guarantee.name() == name)
    }
}

/// The waits between attempts, before jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// `base_ms`, twice that, four times that, … at most `cap_ms`.
    Exponential {
        /// Wait after the first attempt.
        base_ms: i64,
        /// Longest wait.
        cap_ms: i64,
    },
    /// `step_ms`, `2 × step_ms`, `3 × step_ms`, … at most `cap_ms`.
    Linear {
        /// Wait after the first attempt, and what each further one adds.
        step_ms: i64,
        /// Longest wait.
        cap_ms: i64,
    },
    /// These waits in turn; the last one repeats.
    Fixed {
        /// Waits after the first, second, … attempt. Never empty.
        waits_ms: Vec<i64>,
    },
}

/// How a wait is spread, so that what failed together does not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// The wait as it is.
    None,
    /// Half of the wait, and a random share of the other half.
    Equal,
    /// A random share of the wait.
    Full,
}

/// What a lane does when the delivery at its head is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadOfLine {
    /// Those behind wait until the head is settled, in whatever way; then the next one goes.
    Block,
    /// The head gets one try; if it is not accepted it is given up (`ORDER_SKIPPED`) and the next
    /// one goes.
    Skip,
    /// As `Block`, but a head that ends as a dead letter stops the lane until an operator resumes
    /// the endpoint or the waiting ones lapse.
    Park,
}

/// When an endpoint is given a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    /// Attempts a second, in thousandths, so that slow rates can be written.
    pub per_second_milli: u64,
    /// Attempts that may go at once after a pause.
    pub burst: u32,
}

/// Pace of one device that Firebase reaches. A bucket of `burst` that gains `rate` a second lets at
/// most `burst + rate × t` pass in any `t` seconds, so this one keeps both quotas of a device
/// (Google, "Throttling and quotas"): 240 a minute, which is 159 + 60 × 1.344, and 5,000 an hour,
/// which is 159 + 3,600 × 1.344.
pub const FCM_DEVICE_RATE: RatePolicy = RatePolicy {
    per_second_milli: 1_344,
    burst: 159,
};

/// One version of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its id, which names the version.
    pub id: PolicyId,
    /// Its name, the same for all versions.
    pub name: Box<str>,
    /// How exactly, unless the submission or the endpoint says otherwise.
    pub guarantee: Guarantee,
    /// Waits between attempts.
    pub schedule: Schedule,
    /// Spread of the waits.
    pub jitter: Jitter,
    /// Attempts at the most, the first one included.
    pub attempts_max: u32,
    /// Time to live from admission on.
    pub ttl_ms: i64,
    /// Wait after an answer that asks for a slower pace and names no time.
    pub throttle_ms: i64,
    /// Longest time named by a receiver that is waited for without recording an incident.
    pub retry_after_cap_ms: i64,
    /// What happens behind a delivery that is not accepted.
    pub head_of_line: HeadOfLine,
    /// When the endpoint rests.
    pub breaker: BreakerPolicy,
    /// How fast it is sent to; `None` is as fast as it takes it.
    pub rate: Option<RatePolicy>,
    /// The rate is lowered by 429 and 5xx answers and raised again by accepted ones.
    pub adaptive: bool,
    /// Percent of the rate for each hour of the UTC day; 100 is the whole rate.
    pub hours_percent: Option<[u8; 24]>,
    /// Attempts under way to one endpoint at the most.
    pub slots_max: u16,
    /// How long a key is remembered from admission on.
    pub dedupe_window_ms: i64,
    /// A definite failure frees the key, so that the caller may ask again.
    pub release_on_definite_failure: bool,
    /// How long a payload is kept after its deliveries have settled.
    pub payload_keep_ms: i64,
    /// The same for dead letters.
    pub dead_payload_keep_ms: i64,
}

impl Policy {
    /// `brief`, the default for webhooks: five attempts, exponential from 2 s to 60 s, full jitter.
    #[must_use]
    pub fn brief(id: PolicyId) -> Policy {
        Policy {
            id,
            name: "brief".into(),
            guarantee: Guarantee::AtLeastOnce,
            schedule: Schedule::Exponential {
                base_ms: 2 * SECOND_MS,
                cap_ms: 60 * SECOND_MS,
            },
            jitter: Jitter::Full,
            attempts_max: 5,
            ttl_ms: 72 * HOUR_MS,
            throttle_ms: 60 * SECOND_MS,
            retry_after_cap_ms: 120 * SECOND_MS,
            head_of_line: HeadOfLine::Block,
            breaker: BreakerPolicy {
                error_percent: 50,
                answers_min: 10,
                answers_max: 100,
                window_ms: MINUTE_MS,
                open_ms: 30 * SECOND_MS,
            },
            rate: None,
            adaptive: true,
            hours_percent: None,
            slots_max: 16,
            dedupe_window_ms: 7 * DAY_MS,
            release_on_definite_failure: false,
            payload_keep_ms: 72 * HOUR_MS,
            dead_payload_keep_ms: 14 * DAY_MS,
        }
    }

    /// `patient`: eight attempts spread over 28 hours.
    #[must_use]
    pub fn patient(id: PolicyId) -> Policy {
        Policy {
            name: "patient".into(),
            schedule: Schedule::Fixed {
                waits_ms: vec![
                    5 * SECOND_MS,
                    5 * MINUTE_MS,
                    30 * MINUTE_MS,
                    2 * HOUR_MS,
                    5 * HOUR_MS,
                    10 * HOUR_MS,
                    10 * HOUR_MS + 24 * MINUTE_MS,
                ],
            },
            jitter: Jitter::None,
            attempts_max: 8,
            ..Policy::brief(id)
        }
    }

    /// What all push channels share: a device is worth little trouble, and soon none.
    fn push(id: PolicyId, name: &str, schedule: Schedule, attempts_max: u32) -> Policy {
        Policy {
            name: name.into(),
            guarantee: Guarantee::EffectivelyOnce,
            schedule,
            jitter: Jitter::Equal,
            attempts_max,
            ttl_ms: DAY_MS,
            dedupe_window_ms: HOUR_MS,
            release_on_definite_failure: true,
            payload_keep_ms: 0,
            dead_payload_keep_ms: 72 * HOUR_MS,
            ..Policy::brief(id)
        }
    }

    /// `web_push`, the default for browsers: three attempts, 2 s and 4 s apart.
    #[must_use]
    pub fn web_push(id: PolicyId) -> Policy {
        let schedule = Schedule::Linear {
            step_ms: 2 * SECOND_MS,
            cap_ms: 60 * SECOND_MS,
        };
        Policy::push(id, "web_push", schedule, 3)
    }

    /// `apns`, the default for Apple's devices: five more attempts, 1 to 16 s apart, as far as the
    /// provider's own minimum waits allow.
    #[must_use]
    pub fn apns(id: PolicyId) -> Policy {
        let schedule = Schedule::Exponential {
            base_ms: SECOND_MS,
            cap_ms: 16 * SECOND_MS,
        };
        Policy {
            jitter: Jitter::None,
            ..Policy::push(id, "apns", schedule, 6)
        }
    }

    /// `fcm`, the default for Firebase: five attempts, at least 10 s apart (Google, "Handling
    /// retries"), and never more to one device than its quota.
    #[must_use]
    pub fn fcm(id: PolicyId) -> Policy {
        let schedule = Schedule::Exponential {
            base_ms: 10 * SECOND_MS,
            cap_ms: 10 * MINUTE_MS,
        };
        Policy {
            rate: Some(FCM_DEVICE_RATE),
            ..Policy::push(id, "fcm", schedule, 5)
        }
    }
}
