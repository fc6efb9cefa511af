//! Planted faults: known ways to be wrong, switched on one at a time, by which the checkers of
//! `postrider demo` and of the simulator are shown to bite.
//!
//! Absent here: any way to switch one on in a serving process but a hidden flag that only a
//! process in development mode takes.

use crate::acknowledge::{self, Settlement};
use crate::ledger::Delivery;
use crate::outcome::Outcome;
use crate::policy::{Guarantee, Policy, Schedule};
use crate::schedule::planned_ms;
use crate::time::Time;

macro_rules! plants {
    ($($(#[$doc:meta])* $name:ident $word:literal;)*) => {
        /// A fault that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant {
            $($(#[$doc])* $name,)*
        }

        impl Plant {
            /// All of them.
            pub const ALL: &'static [Plant] = &[$(Plant::$name),*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Plant::$name => $word,)*
                }
            }
        }
    };
}

plants! {
    /// A request leaves before the entry that opens its attempt is durable.
    SendBeforeRecord "send-before-record";
    /// The key of an admitted event is not remembered.
    ForgetDedupeKey "forget-dedupe-key";
    /// At-most-once deliveries are retried like the others.
    RetryAtAtMostOnce "retry-at-at-most-once";
    /// A caller is told before its event is durable.
    ReplyBeforeRecord "reply-before-record";
    /// Who asked for a key that was on its way to the store is forgotten.
    WaitersForgotten "waiters-forgotten";
    /// A delivery does not wait for those before it in its lane.
    LaneHeadSkipped "lane-head-skipped";
    /// An attempt leaves although its time to live ended while it was recorded.
    LapseUnchecked "lapse-unchecked";
    /// An attempt leaves although its endpoint was shut by hand while it was recorded.
    PauseIgnored "pause-ignored";
    /// The answer to a breaker's probe decides nothing.
    BreakerNeverCloses "breaker-never-closes";
    /// Every answer gives the limiter back what its attempt took.
    LimiterLeaks "limiter-leaks";
    /// An attempt that did not leave keeps its slot.
    SlotLeaks "slot-leaks";
    /// A waiting time that the receiver named is not heard.
    RetryAfterIgnored "retry-after-ignored";
    /// Attempts are not counted against their budget.
    AttemptsUncounted "attempts-uncounted";
    /// A delivery that is under way is said to be withdrawn.
    CancelAfterSend "cancel-after-send";
    /// The timer of a retry is not set.
    RetryTimerLost "retry-timer-lost";
    /// An endpoint that says it is gone is sent to on.
    GoneIgnored "gone-ignored";
    /// What a crash cut off counts as never sent.
    CrashForgiven "crash-forgiven";
    /// A record that the store had no room for is forgotten.
    StuckForgotten "stuck-forgotten";
    /// News that an address is gone counts although it was registered again later.
    StaleGoneBelieved "stale-gone-believed";
    /// A route whose credentials are refused is sent over on.
    RouteNotHeld "route-not-held";
    /// Attempts that met refused credentials are counted against their budget.
    RefusalSpends "refusal-spends";
    /// A failure frees the key of its event although the receiver may have acted.
    ReleaseIndefinite "release-indefinite";
    /// Attempts under way are not counted against the slots of their endpoint.
    SlotUncounted "slot-uncounted";
    /// Every wait is planned as the one after the first attempt.
    WaitsNeverGrow "waits-never-grow";
    /// The last endpoint of several gets no delivery.
    TargetForgotten "target-forgotten";
}

impl Plant {
    /// The fault with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Plant> {
        let mut all = Plant::ALL.iter().copied();
        all.find(|plant| plant.name() == name)
    }
}

/// As [`acknowledge::settle`], the way a planted fault has it.
pub(crate) fn settle(
    plant: Plant,
    (delivery, policy): (&Delivery, &Policy),
    outcome: &Outcome,
    entropy: u64,
    now: Time,
) -> Settlement {
    let (mut delivery, mut policy) = (delivery.clone(), policy.clone());
    let mut outcome = outcome.clone();
    match plant {
        Plant::RetryAtAtMostOnce => delivery.guarantee = Guarantee::AtLeastOnce,
        Plant::AttemptsUncounted => policy.attempts_max = u32::MAX,
        Plant::RetryAfterIgnored => outcome.retry_after_ms = None,
        Plant::RefusalSpends => delivery.unspent = 0,
        Plant::WaitsNeverGrow => {
            let first_ms = planned_ms(&policy.schedule, 1);
            policy.schedule = Schedule::Fixed {
                waits_ms: vec![first_ms],
            };
        }
        _ => {}
    }
    let mut settlement = acknowledge::settle(&delivery, &policy, &outcome, entropy, now);
    if plant == Plant::GoneIgnored {
        settlement.retire = None;
    }
    settlement
}
