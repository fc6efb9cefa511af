//! Coverage: which states were reached by which facts under which faults.
//!
//! Absent here: lines of code. A line may run and a situation may still never have come up.

use postrider_core::ledger::{Fact, State};

use crate::fault::FaultKind;

/// Kinds of facts.
const FACTS: [&str; 6] = [
    "admitted",
    "opened",
    "answered",
    "not sent",
    "closed",
    "confirmed",
];
const STATES: usize = State::ALL.len();
const KINDS: usize = FaultKind::ALL.len();

/// Counts, by state after the fact, fact, and fault that was under way.
#[derive(Clone, Debug)]
pub struct Coverage {
    reached: Vec<u64>,
    /// Faults that began, by kind.
    pub faults: [u64; KINDS],
    active: [u32; KINDS],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage {
            reached: vec![0; STATES * FACTS.len() * (KINDS + 1)],
            faults: [0; KINDS],
            active: [0; KINDS],
        }
    }
}

fn fact_of(fact: &Fact) -> usize {
    match fact {
        Fact::Admitted(_) => 0,
        Fact::Opened { .. } => 1,
        Fact::Answered { .. } => 2,
        Fact::NotSent { .. } => 3,
        Fact::Closed { .. } => 4,
        Fact::Confirmed { .. } => 5,
    }
}

/// What the state table permits: the states that each kind of fact can lead to. A receipt may come
/// in others too, and moves nothing there.
fn permitted(state: State, fact: usize) -> bool {
    match fact {
        0 | 3 => state == State::Scheduled,
        1 => state == State::InFlight,
        2 => !matches!(
            state,
            State::InFlight | State::Confirmed | State::Cancelled | State::Suppressed
        ),
        4 => matches!(state, State::Expired | State::Cancelled | State::Suppressed),
        _ => state == State::Confirmed,
    }
}

impl Coverage {
    /// A fact led to a state.
    pub fn reached(&mut self, state: State, fact: &Fact) {
        let at = self.place(state as usize - 1, fact_of(fact), KINDS);
        self.reached[at] += 1;
        for kind in 0..KINDS {
            if self.active[kind] > 0 {
                let at = self.place(state as usize - 1, fact_of(fact), kind);
                self.reached[at] += 1;
            }
        }
    }

    /// A fault begins.
    pub fn begins(&mut self, kind: FaultKind) {
        self.faults[kind as usize] += 1;
        self.active[kind as usize] += 1;
    }

    /// A fault is over.
    pub fn ends(&mut self, kind: FaultKind) {
        let active = &mut self.active[kind as usize];
        *active = active.saturating_sub(1);
    }

    /// Faults that began.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Coverage) {
        for (sum, more) in self.reached.iter_mut().zip(&other.reached) {
            *sum += more;
        }
        for (sum, more) in self.faults.iter_mut().zip(&other.faults) {
            *sum += more;
        }
    }

    /// How many of the situations that can come up did, out of how many, and the names of those
    /// that did not.
    #[must_use]
    pub fn summary(&self) -> (usize, usize, Vec<String>) {
        let mut missing = Vec::new();
        let (mut seen, mut all) = (0, 0);
        for (nth, state) in State::ALL.into_iter().enumerate() {
            for (fact, name) in FACTS.iter().enumerate() {
                if !permitted(state, fact) {
                    continue;
                }
                for kind in 0..=KINDS {
                    all += 1;
                    let at = self.place(nth, fact, kind);
                    if self.reached[at] > 0 {
                        seen += 1;
                    } else {
                        let under = FaultKind::ALL.get(kind);
                        let under = under.map_or("any".to_owned(), |kind| format!("{kind:?}"));
                        missing.push(format!("{} by {name} under {under}", state.name()));
                    }
                }
            }
        }
        (seen, all, missing)
    }

    #[expect(clippy::unused_self, reason = "reads as a place in this table")]
    fn place(&self, state: usize, fact: usize, kind: usize) -> usize {
        (state * FACTS.len() + fact) * (KINDS + 1) + kind
    }
}

#[cfg(test)]
mod tests {
    use super::Coverage;
    use crate::fault::FaultKind;
    use postrider_core::cause::Cause;
    use postrider_core::ledger::{Fact, State};

    #[test]
    fn a_fact_counts_under_every_fault_that_is_under_way() {
        let closed = Fact::Closed {
            state: State::Expired,
            cause: Cause::Expired,
        };
        let mut coverage = Coverage::default();
        let (none, all, _) = coverage.summary();
        assert_eq!(none, 0);
        coverage.begins(FaultKind::DiskFull);
        coverage.reached(State::Expired, &closed);
        coverage.ends(FaultKind::DiskFull);
        coverage.reached(State::Expired, &closed);
        let (seen, of, missing) = coverage.summary();
        assert_eq!((seen, of), (2, all));
        assert_eq!(missing.len(), all - 2);
        assert_eq!(coverage.faults(), 1);
    }
}
