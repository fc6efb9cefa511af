//! The circuit breaker: gives an endpoint that mostly fails a rest, then tries it with one probe.
//!
//! Pure: `now` is an argument. Absent here: what an error is. [`crate::acknowledge`] says which
//! outcomes count for and against an endpoint.

use std::collections::VecDeque;

use crate::policy::BreakerPolicy;
use crate::time::Time;

/// What an answer says about the endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Good,
    /// It fails.
    Bad,
    /// It answered, and the answer says nothing about its health (a refusal, a plea to wait).
    Neutral,
}

/// What the breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets everything through.
    Closed,
    /// Lets nothing through before this moment.
    Open {
        /// When one probe may go.
        until: Time,
    },
    /// One probe is under way; nothing else passes.
    Probing,
}

/// The breaker of one endpoint. Empty until the first answer.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: BreakerState,
    /// Answers inside the window, oldest first.
    answers: VecDeque<(Time, bool)>,
    errors: u16,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            state: BreakerState::Closed,
            answers: VecDeque::new(),
            errors: 0,
        }
    }
}

impl Breaker {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Until when nothing may pass; `None` if an attempt may begin now.
    #[must_use]
    pub fn wait(&self, now: Time) -> Option<Time> {
        match self.state {
            BreakerState::Open { until } if now < until => Some(until),
            BreakerState::Closed | BreakerState::Open { .. } => None,
            BreakerState::Probing => Some(Time::NEVER),
        }
    }

    /// An attempt begins. Returns whether it is the probe: the first one in an open breaker whose
    /// rest is over.
    pub fn begin(&mut self, now: Time) -> bool {
        let probe = matches!(self.state, BreakerState::Open { until } if now >= until);
        if probe {
            self.state = BreakerState::Probing;
        }
        probe
    }

    /// The probe was put back before it left: it is still to be made.
    pub fn probe_put_back(&mut self, now: Time) {
        if self.state == BreakerState::Probing {
            self.state = BreakerState::Open { until: now };
        }
    }

    /// The probe was answered, and decides.
    pub fn probe_answered(&mut self, now: Time, sign: Sign, policy: &BreakerPolicy) {
        match (self.state, sign) {
            (BreakerState::Probing, Sign::Bad) => {
                self.state = BreakerState::Open {
                    until: now.plus(policy.open_ms),
                };
            }
            (BreakerState::Probing, Sign::Good | Sign::Neutral) => *self = Breaker::default(),
            _ => self.answered(now, sign, policy),
        }
    }

    /// Another attempt was answered. Those begun before the breaker opened decide nothing any more.
    pub fn answered(&mut self, now: Time, sign: Sign, policy: &BreakerPolicy) {
        if self.state == BreakerState::Closed && sign != Sign::Neutral {
            self.remember(now, sign == Sign::Bad, policy);
        }
    }

    fn remember(&mut self, now: Time, error: bool, policy: &BreakerPolicy) {
        self.answers.push_back((now, error));
        self.errors += u16::from(error);
        while self.answers.len() > usize::from(policy.answers_max.max(1))
            || self
                .answers
                .front()
                .is_some_and(|(at, _)| now.since(*at) > policy.window_ms)
        {
            if let Some((_, true)) = self.answers.pop_front() {
                self.errors -= 1;
            }
        }
        let answers = self.answers.len();
        if error
            && answers >= usize::from(policy.answers_min)
            && usize::from(self.errors) * 100 >= answers * usize::from(policy.error_percent)
        {
            *self = Breaker {
                state: BreakerState::Open {
                    until: now.plus(policy.open_ms),
                },
                ..Breaker::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, BreakerState, Sign};
    use crate::id::PolicyId;
    use crate::policy::{BreakerPolicy, Policy};
    use crate::time::Time;

    fn policy() -> BreakerPolicy {
        Policy::brief(PolicyId(1)).breaker
    }

    fn fed(signs: &[(i64, Sign)]) -> Breaker {
        let mut breaker = Breaker::default();
        for &(at, sign) in signs {
            breaker.answered(Time(at), sign, &policy());
        }
        breaker
    }

    #[test]
    fn opens_at_the_share_and_not_before_the_least_number() {
        let nine: Vec<_> = (0..9).map(|at| (at, Sign::Bad)).collect();
        assert_eq!(fed(&nine).state(), BreakerState::Closed);
        let ten: Vec<_> = (0..10).map(|at| (at, Sign::Bad)).collect();
        assert_eq!(
            fed(&ten).state(),
            BreakerState::Open {
                until: Time(30_009)
            }
        );
        let even: Vec<_> = (0..10)
            .map(|at| (at, if at % 2 == 0 { Sign::Good } else { Sign::Bad }))
            .collect();
        assert_eq!(
            fed(&even).state(),
            BreakerState::Open {
                until: Time(30_009)
            }
        );
        let mostly_good: Vec<_> = (0..100)
            .map(|at| (at, if at % 3 == 0 { Sign::Bad } else { Sign::Good }))
            .collect();
        assert_eq!(fed(&mostly_good).state(), BreakerState::Closed);
    }

    #[test]
    fn forgets_what_lies_outside_the_window() {
        let mut signs: Vec<_> = (0..9).map(|at| (at, Sign::Bad)).collect();
        signs.push((60_100, Sign::Bad));
        assert_eq!(fed(&signs).state(), BreakerState::Closed);
    }

    #[test]
    fn one_probe_decides() {
        let open: Vec<_> = (0..10).map(|at| (at, Sign::Bad)).collect();
        let mut breaker = fed(&open);
        assert_eq!(breaker.wait(Time(30_008)), Some(Time(30_009)));
        assert_eq!(breaker.wait(Time(30_009)), None);
        assert!(breaker.begin(Time(30_009)));
        assert_eq!(breaker.wait(Time(30_010)), Some(Time::NEVER));
        for sign in [Sign::Good, Sign::Bad, Sign::Neutral] {
            breaker.answered(Time(30_015), sign, &policy());
            assert_eq!(breaker.state(), BreakerState::Probing, "an older attempt");
        }
        breaker.probe_answered(Time(30_020), Sign::Bad, &policy());
        assert_eq!(
            breaker.state(),
            BreakerState::Open {
                until: Time(60_020)
            }
        );
        assert!(breaker.begin(Time(60_020)));
        breaker.probe_put_back(Time(60_021));
        assert_eq!(breaker.wait(Time(60_021)), None);
        assert!(breaker.begin(Time(60_021)));
        breaker.probe_answered(Time(60_030), Sign::Neutral, &policy());
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(!breaker.begin(Time(60_031)));
    }
}
