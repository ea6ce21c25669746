//! Chance that comes again with the same seed.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Random numbers that many throw at once (SplitMix64).
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    /// How much shorter a jittered time may be, in parts of 1,024.
    const JITTER: u64 = 205;

    /// Of a seed that nobody knows.
    pub(crate) fn random() -> Self {
        Self::seeded(RandomState::new().hash_one(()))
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A time up to a fifth shorter, so that what began together does not stay together.
    pub(crate) fn jittered(&self, time: Duration) -> Duration {
        let off = self.below(Self::JITTER);
        let parts = u32::try_from(1024 - off).unwrap_or(1024);
        time * parts / 1024
    }

    /// One of the numbers below a bound, which is more than 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

        let seen = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (seen ^ (seen >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_time_is_up_to_a_fifth_shorter_and_comes_again_with_its_seed() {
        let (dice, again) = (Dice::seeded(7), Dice::seeded(7));
        let times: Vec<_> = (0..1000).map(|_| dice.jittered(Duration::from_secs(1))).collect();
        assert!(times.iter().all(|time| (800..=1000).contains(&time.as_millis())));
        let spread = times.iter().max().unwrap().saturating_sub(*times.iter().min().unwrap());
        assert!(spread > Duration::from_millis(190), "{spread:?}");
        assert!(times.iter().all(|time| *time == again.jittered(Duration::from_secs(1))));
    }
}
