//! Hashes of every piece of a name, each in a few instructions.

use smallvec::SmallVec;

use super::Anchor;
use crate::node::NodeName;

/// What a piece of text is hashed for; pieces of two kinds have different hashes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A needle.
    Needle(Anchor),
    /// The first bytes of a needle that may stand anywhere.
    Head,
}

/// The sums of a text's beginnings. Every byte counts for itself times a power of an odd base, modulo 2^64: so the
/// sum of a piece is the difference of two beginnings' sums, moved back to the first power by the inverse's.
///
/// Nobody is kept from choosing texts of the same hash. They would be the operator's own, and would only cost a look
/// at one row more: the pattern decides.
#[derive(Debug)]
pub(super) struct Sums {
    /// Of the first byte, the first two, ...; in place for the longest name.
    sums: SmallVec<[u64; NodeName::MAX]>,
}

const BASE: u64 = 0x9FB2_1C65_1E98_DF25;
const POWERS: [u64; NodeName::MAX] = powers(BASE);
const INVERSES: [u64; NodeName::MAX] = powers(inverse(BASE));

impl Sums {
    /// Of a text of at most [`NodeName::MAX`] bytes; what is behind them does not count.
    pub(super) fn of(text: &str) -> Self {
        let mut sum: u64 = 0;
        let add = |(byte, power): (u8, &u64)| {
            sum = sum.wrapping_add((u64::from(byte) + 1).wrapping_mul(*power));
            sum
        };
        Self { sums: text.bytes().zip(&POWERS).map(add).collect() }
    }

    /// How many bytes the text has.
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// The hash of `length` bytes from `start` on; both lie within the text.
    pub(super) fn hash(&self, kind: Kind, start: usize, length: usize) -> u32 {
        let before = |end: usize| end.checked_sub(1).and_then(|last| self.sums.get(last)).copied().unwrap_or_default();
        let sum = before(start + length).wrapping_sub(before(start));
        let sum = sum.wrapping_mul(INVERSES.get(start).copied().unwrap_or_default());
        mix(sum ^ ((length as u64) << 8 | kind.number()))
    }
}

impl Kind {
    const fn number(self) -> u64 {
        match self {
            Self::Needle(Anchor::Whole) => 1,
            Self::Needle(Anchor::Start) => 2,
            Self::Needle(Anchor::End) => 3,
            Self::Needle(Anchor::Anywhere) => 4,
            Self::Head => 5,
        }
    }
}

/// Spreads every bit over the 32 (the finalizer of MurmurHash3 with the constants of David Stafford's mix 13).
fn mix(sum: u64) -> u32 {
    let sum = (sum ^ (sum >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (sum >> 32) as u32
}

const fn powers(base: u64) -> [u64; NodeName::MAX] {
    let mut powers = [0; NodeName::MAX];
    let mut power: u64 = 1;
    let mut rest = powers.as_mut_slice();
    while let Some((next, others)) = rest.split_first_mut() {
        *next = power;
        power = power.wrapping_mul(base);
        rest = others;
    }
    powers
}

/// The number that an odd one times makes 1 (Newton's iteration: each step doubles the bits that are right, from 3).
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_piece_has_the_hash_that_it_has_alone(before in ".{0,20}", piece in ".{1,20}", after in ".{0,20}") {
            let all = [before.as_str(), &piece, &after].concat();
            for kind in [Kind::Needle(Anchor::Start), Kind::Head] {
                let inside = Sums::of(&all).hash(kind, before.len(), piece.len());
                prop_assert_eq!(inside, Sums::of(&piece).hash(kind, 0, piece.len()));
            }
        }
    }

    #[test]
    fn pieces_of_another_kind_or_length_have_another_hash() {
        let sums = Sums::of(&"a".repeat(NodeName::MAX));
        let anchors = [Anchor::Whole, Anchor::Start, Anchor::End, Anchor::Anywhere].map(Kind::Needle);
        let hashes: std::collections::BTreeSet<_> = (1..=NodeName::MAX)
            .flat_map(|length| anchors.map(|kind| (kind, length)))
            .map(|(kind, length)| sums.hash(kind, 0, length))
            .collect();
        assert_eq!(hashes.len(), 4 * NodeName::MAX);
    }
}
