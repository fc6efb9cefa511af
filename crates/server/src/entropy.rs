//! Random bits: the machine's, or drawn from a seed so that a run can be had again.
//!
//! Absent here: keys and secrets. Those are drawn where they are made, from the machine, always.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Where the bits of ids and of jitter come from. Clones draw from the same place.
#[derive(Clone, Default)]
pub enum Entropy {
    /// The generator of the thread: cryptographic, and buffered.
    #[default]
    Machine,
    /// A sequence that its seed decides.
    Seeded(Arc<Mutex<StdRng>>),
}

impl Entropy {
    /// The sequence of this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Entropy {
        Entropy::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Sixteen bytes.
    #[must_use]
    pub fn wide(&self) -> u128 {
        match self {
            Entropy::Machine => rand::random(),
            Entropy::Seeded(sequence) => sequence.lock().random(),
        }
    }

    /// Eight bytes.
    #[must_use]
    pub fn narrow(&self) -> u64 {
        match self {
            Entropy::Machine => rand::random(),
            Entropy::Seeded(sequence) => sequence.lock().random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Entropy;

    #[test]
    fn a_seed_decides_what_is_drawn_and_the_machine_repeats_nothing() {
        let (one, same, other) = (Entropy::seeded(1), Entropy::seeded(1), Entropy::seeded(2));
        let draws = |entropy: &Entropy| [entropy.wide(), entropy.wide()];
        let first = draws(&one);
        assert_eq!(first, draws(&same));
        assert_ne!(first, draws(&other));
        assert_ne!(first, draws(&one.clone()));
        assert_ne!(draws(&Entropy::Machine), draws(&Entropy::Machine));
    }
}
