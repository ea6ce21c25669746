//! Sets of characters, as Go builds them: lists of ranges, surrogates included.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// The greatest code point.
pub(super) const MAX: u32 = 0x10_FFFF;

/// The code points from the first to the second, both included.
pub(super) type Range = (u32, u32);

/// Code points in ranges; in the order in which they were added, until it is cleaned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Class(Vec<Range>);

impl Class {
    pub(super) fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Adds a range; one that touches either of the last two makes that longer.
    pub(super) fn add(&mut self, (low, high): Range) {
        let last = self.0.iter_mut().rev().take(2);
        for (last_low, last_high) in last {
            if low <= *last_high + 1 && *last_low <= high + 1 {
                *last_low = low.min(*last_low);
                *last_high = high.max(*last_high);
                return;
            }
        }
        self.0.push((low, high));
    }

    /// Adds a range and all that is equal to one of its code points when case is ignored.
    pub(super) fn add_folded(&mut self, range: Range) {
        self.add(range);
        for &other in fold(&Self(vec![range])).ranges() {
            self.add(other);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for &range in &other.0 {
            self.add(range);
        }
    }

    /// Sorted, disjoint, nothing twice.
    pub(super) fn clean(&mut self) {
        self.0.sort_unstable_by_key(|&(low, high)| (low, std::cmp::Reverse(high)));
        self.0.dedup_by(|next, last| {
            let joined = next.0 <= last.1 + 1;
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
    }

    /// All other code points; of a class that is clean.
    pub(super) fn negated(&self) -> Self {
        let mut others = Self::default();
        let mut next = 0;
        for &(low, high) in &self.0 {
            if next < low {
                others.add((next, low - 1));
            }
            next = high + 1;
        }
        if next <= MAX {
            others.add((next, MAX));
        }
        others
    }

    /// As the compiler takes it: without surrogates, which no UTF-8 text has.
    pub(super) fn to_unicode(&self) -> ClassUnicode {
        let char_at_least = |code| char::from_u32(code).unwrap_or('\u{E000}');
        let char_at_most = |code| char::from_u32(code).unwrap_or('\u{D7FF}');
        let ranges = self.0.iter().map(|&(low, high)| (char_at_least(low), char_at_most(high)));
        ClassUnicode::new(ranges.filter(|(low, high)| low <= high).map(|(low, high)| ClassUnicodeRange::new(low, high)))
    }
}

impl From<&[Range]> for Class {
    fn from(ranges: &[Range]) -> Self {
        Self(ranges.to_vec())
    }
}

impl From<&ClassUnicode> for Class {
    fn from(class: &ClassUnicode) -> Self {
        Self(class.iter().map(|range| (range.start().into(), range.end().into())).collect())
    }
}

/// A class and all that is equal to one of its code points when case is ignored (Unicode's simple case folding); clean.
pub(super) fn fold(class: &Class) -> Class {
    let mut folded = class.to_unicode();
    // It fails where the tables are left out of the build; ours has them.
    if folded.try_case_fold_simple().is_err() {
        return class.clone();
    }
    let mut all = Class::from(&folded);
    all.add_all(class);
    all.clean();
    all
}

/// The code points that are equal to this one when case is ignored, itself among them, lowest first.
pub(super) fn orbit(code: u32) -> Vec<u32> {
    let Some(ascii) = u8::try_from(code).ok().filter(u8::is_ascii) else {
        let class = fold(&Class(vec![(code, code)]));
        return class.0.iter().flat_map(|&(low, high)| low..=high).collect();
    };
    let mut all = vec![ascii.to_ascii_uppercase().into()];
    match ascii.to_ascii_lowercase() {
        b'k' => all.extend(['k', '\u{212A}'].map(u32::from)),
        b's' => all.extend(['s', 'ſ'].map(u32::from)),
        letter if letter.is_ascii_lowercase() => all.push(letter.into()),
        _ => {}
    }
    all
}

/// The least of [`orbit`].
pub(super) fn least_of_orbit(code: u32) -> u32 {
    match u8::try_from(code) {
        Ok(byte) if byte.is_ascii() => byte.to_ascii_uppercase().into(),
        _ => orbit(code).first().copied().unwrap_or(code),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orbits() {
        assert_eq!(orbit('k'.into()), ['K', 'k', '\u{212A}'].map(u32::from));
        assert_eq!(orbit('ſ'.into()), ['S', 's', 'ſ'].map(u32::from));
        assert_eq!(orbit('ß'.into()), ['ß', 'ẞ'].map(u32::from));
        assert_eq!(orbit('İ'.into()), [u32::from('İ')]);
        assert_eq!(orbit(0xD800), [0xD800]);
        for code in 0..0x80 {
            let mut folded = fold(&Class(vec![(code, code)]));
            folded.clean();
            assert!(folded.ranges().iter().flat_map(|&(low, high)| low..=high).eq(orbit(code)), "{code:#x}");
        }
        assert_eq!((least_of_orbit('ſ'.into()), least_of_orbit('9'.into())), ('S'.into(), '9'.into()));
    }

    proptest! {
        #[test]
        fn a_clean_class_and_its_negation_are_all(ranges in prop::collection::vec((0..300u32, 0..300u32), 0..12)) {
            let mut class = Class::default();
            for &(a, b) in &ranges {
                class.add((a.min(b), a.max(b)));
            }
            class.clean();
            let negated = class.negated();
            prop_assert_eq!(negated.negated(), class.clone());
            let has = |class: &Class, code| class.ranges().iter().any(|&(low, high)| low <= code && code <= high);
            for code in 0..300 {
                let added = ranges.iter().any(|&(a, b)| (a.min(b)..=a.max(b)).contains(&code));
                prop_assert_eq!(has(&class, code), added);
                prop_assert_eq!(has(&negated, code), !added);
            }
        }
    }
}
