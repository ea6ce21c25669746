//! Which lengths the needles of an anchor have.

use std::sync::Arc;

use crate::node::NodeName;

/// Lengths from 1 to [`NodeName::MAX`], each with how often it is there.
#[derive(Debug, Clone)]
pub(super) struct Lengths {
    counts: Arc<[u32; NodeName::MAX + 1]>,
    /// A bit for each length whose count is not zero.
    present: [u64; 4],
}

impl Lengths {
    pub(super) fn new() -> Self {
        Self { counts: Arc::new([0; NodeName::MAX + 1]), present: [0; 4] }
    }

    pub(super) fn add(&mut self, length: usize) {
        self.change(length, |count| count.saturating_add(1));
    }

    pub(super) fn remove(&mut self, length: usize) {
        self.change(length, |count| count.saturating_sub(1));
    }

    fn change(&mut self, length: usize, change: impl Fn(u32) -> u32) {
        let Some(count) = Arc::make_mut(&mut self.counts).get_mut(length) else { return };
        *count = change(*count);
        if let Some(word) = self.present.get_mut(length / 64) {
            let bit = 1 << (length % 64);
            *word = if *count == 0 { *word & !bit } else { *word | bit };
        }
    }

    /// Those that are there up to `limit`, the shortest first.
    pub(super) fn up_to(&self, limit: usize) -> impl Iterator<Item = usize> {
        let lengths =
            (0..).step_by(64).zip(self.present).flat_map(|(base, word)| bits(word).map(move |bit| base + bit));
        lengths.take_while(move |length| *length <= limit)
    }
}

/// Which bits are set, the lowest first.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = word.trailing_zeros();
        // Without the lowest bit; `None` once there is none.
        word &= word.checked_sub(1)?;
        Some(lowest as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_there_until_its_last_is_gone() {
        let mut lengths = Lengths::new();
        [255, 3, 64, 3, 63].into_iter().for_each(|length| lengths.add(length));
        let all = |lengths: &Lengths, limit| lengths.up_to(limit).collect::<Vec<_>>();
        assert_eq!(all(&lengths, 255), [3, 63, 64, 255]);
        lengths.remove(3);
        lengths.remove(63);
        assert_eq!(all(&lengths, 254), [3, 64]);
        lengths.remove(3);
        assert!(all(&lengths, 63).is_empty());
    }
}
