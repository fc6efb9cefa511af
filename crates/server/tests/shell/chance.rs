//! Draws that a seed decides.

use postrider::entropy::Entropy;

/// A sequence of draws. Clones draw from the same one.
#[derive(Clone)]
pub struct Chance(pub Entropy);

impl Chance {
    /// The sequence for one purpose of a run.
    pub fn of(seed: u64, purpose: &str) -> Chance {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Chance(Entropy::seeded(u64::from_le_bytes(first)))
    }

    pub fn below(&self, end: u64) -> u64 {
        self.0.narrow() % end.max(1)
    }

    pub fn between(&self, first: u64, end: u64) -> u64 {
        first + self.below(end - first)
    }

    pub fn one_in(&self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }
}
