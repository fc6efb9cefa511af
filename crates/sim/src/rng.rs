//! Random numbers from one seed: xoshiro256++ (Blackman and Vigna), seeded by SplitMix64.
//!
//! Absent here: any other source. The same seed gives the same numbers on every machine.

use postrider_core::partition::mix;

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        let word = |nth: u64| mix(seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Rng([word(1), word(2), word(3), word(4)])
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let out = self.0[0].wrapping_add(self.0[3]).rotate_left(23);
        let out = out.wrapping_add(self.0[0]);
        let shifted = self.0[1] << 17;
        self.0[2] ^= self.0[0];
        self.0[3] ^= self.0[1];
        self.0[1] ^= self.0[2];
        self.0[0] ^= self.0[3];
        self.0[2] ^= shifted;
        self.0[3] = self.0[3].rotate_left(45);
        out
    }

    /// The next 128 bits.
    pub fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        let spread = (u128::from(self.bits()) * u128::from(end)) >> 64;
        u64::try_from(spread).unwrap_or(0)
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: i64, last: i64) -> i64 {
        let span = u64::try_from(last - first + 1).unwrap_or(1);
        first + i64::try_from(self.below(span)).unwrap_or(0)
    }

    /// Yes in so many cases of a hundred.
    pub fn percent(&mut self, yes: u64) -> bool {
        self.below(100) < yes
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_does_not() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..100).map(|_| rng.bits()).collect::<Vec<u64>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn numbers_stay_in_their_bounds_and_reach_them() {
        let mut rng = Rng::new(1);
        let drawn: Vec<i64> = (0..1_000).map(|_| rng.between(-2, 2)).collect();
        for wanted in -2..=2 {
            assert!(drawn.contains(&wanted));
        }
        assert!(drawn.iter().all(|number| (-2..=2).contains(number)));
        assert_eq!(rng.below(0), 0);
        assert!((0..100).filter(|_| rng.percent(50)).count() > 20);
    }
}
