//! The literal texts that a name must have for a pattern to match it: the table's index is built of them.
//!
//! All of it is for names, which have no line feed: there `.` is any character, and the ends of a line are the ends of
//! the name.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Where in a name a [`Needle`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// It is the name.
    Whole,
    /// The name begins with it.
    Start,
    /// The name ends with it.
    End,
    /// It is somewhere in the name.
    Anywhere,
}

/// A text that a name must have for a pattern to match it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Needle {
    /// Where.
    pub anchor: Anchor,
    /// At least one byte.
    pub text: Box<str>,
}

impl Needle {
    /// Whether the name has it.
    pub fn is_in(&self, name: &str) -> bool {
        self.anchor.holds(&self.text, name)
    }
}

impl Anchor {
    /// Whether the text stands at this place of the name.
    pub(super) fn holds(self, text: &str, name: &str) -> bool {
        match self {
            Self::Whole => name == text,
            Self::Start => name.starts_with(text),
            Self::End => name.ends_with(text),
            Self::Anywhere => name.contains(text),
        }
    }

    fn of(starts: bool, ends: bool) -> Self {
        match (starts, ends) {
            (true, true) => Self::Whole,
            (true, false) => Self::Start,
            (false, true) => Self::End,
            (false, false) => Self::Anywhere,
        }
    }
}

/// How many needles a set may have.
const MOST: usize = 64;
/// How many characters of a class are told apart: a set for `[a-z]` would find nearly every name.
const MOST_CHARS: usize = 16;
/// How many copies of a piece are told apart.
const MOST_COPIES: u32 = 16;
/// How many bytes a needle may have: no name has more.
const MOST_BYTES: usize = 255;

/// What the needles of a pattern are.
pub(super) struct Needles {
    /// Every name that matches has at least one needle of each set.
    pub(super) sets: Vec<Vec<Needle>>,
    /// There is one set, and a name that has a needle of it matches.
    pub(super) decide: bool,
}

/// The needles of a pattern that is searched anywhere in a name.
pub(super) fn needles(hir: &Hir) -> Needles {
    let found = sets(hir, false, false);
    let sets: Vec<_> =
        found.sets.into_iter().filter(|set| set.iter().all(|needle| !needle.text.is_empty())).map(distinct).collect();
    let decide = found.decide && sets.len() == 1;
    Needles { sets, decide }
}

/// The sets of a piece; `starts` and `ends`: it stands at the very begin and end of the name.
fn sets(hir: &Hir, starts: bool, ends: bool) -> Needles {
    let pieces = match hir.kind() {
        HirKind::Concat(pieces) => pieces.as_slice(),
        HirKind::Alternation(branches) if !exact(hir).is_some_and(|exact| exact.is_pure) => {
            return alternatives(branches, starts, ends);
        }
        HirKind::Capture(capture) => return sets(&capture.sub, starts, ends),
        _ => std::slice::from_ref(hir),
    };
    let (pieces, starts, ends) = trimmed(pieces, starts, ends);
    let mut runs = Runs { sets: Vec::new(), run: Exact::empty(), starts, is_whole: true };
    for (at, piece) in pieces.iter().enumerate() {
        runs.add(piece, ends && at + 1 == pieces.len());
    }
    runs.finish(ends)
}

/// A name that matches has a needle of one of the alternatives.
fn alternatives(branches: &[Hir], starts: bool, ends: bool) -> Needles {
    let none = Needles { sets: Vec::new(), decide: false };
    let (mut set, mut decide) = (Vec::new(), true);
    for branch in branches {
        let found = sets(branch, starts, ends);
        decide &= found.decide && found.sets.len() == 1;
        let Some(best) = found.sets.into_iter().max_by_key(|set| worth(set)) else { return none };
        set.extend(best);
        if set.len() > MOST {
            return none;
        }
    }
    Needles { sets: vec![set], decide }
}

/// The shortest needle of a set says most about how few names have one.
fn worth(set: &[Needle]) -> usize {
    set.iter().map(|needle| needle.text.len() + usize::from(needle.anchor != Anchor::Anywhere)).min().unwrap_or(0)
}

/// Without what says nothing of a name: ends of the name become flags, and `.*` beside a side that is open, or that it
/// opens, goes.
fn trimmed(mut pieces: &[Hir], mut starts: bool, mut ends: bool) -> (&[Hir], bool, bool) {
    while let Some((first, rest)) = pieces.split_first() {
        match first.kind() {
            HirKind::Look(Look::Start | Look::StartLF) => starts = true,
            HirKind::Repetition(repetition) if is_anything(repetition) => starts = false,
            _ => break,
        }
        pieces = rest;
    }
    while let Some((last, rest)) = pieces.split_last() {
        match last.kind() {
            HirKind::Look(Look::End | Look::EndLF) => ends = true,
            HirKind::Repetition(repetition) if is_anything(repetition) => ends = false,
            _ => break,
        }
        pieces = rest;
    }
    (pieces, starts, ends)
}

/// `.*`, with or without `(?s)`.
fn is_anything(repetition: &Repetition) -> bool {
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else { return false };
    let ranges = class.ranges().iter().map(|range| (range.start(), range.end()));
    let is_any = ranges.clone().eq([('\0', char::MAX)]) || ranges.eq([('\0', '\t'), ('\u{b}', char::MAX)]);
    is_any && repetition.min == 0 && repetition.max.is_none()
}

/// The texts that a piece matches.
#[derive(Clone)]
struct Exact {
    texts: Vec<String>,
    /// It matches them wherever they stand.
    is_pure: bool,
}

impl Exact {
    fn empty() -> Self {
        Self { texts: vec![String::new()], is_pure: true }
    }

    /// Every text of this one with every text of the next behind it, while that is few.
    fn then(&self, next: &Self) -> Option<Self> {
        if self.texts.len() * next.texts.len() > MOST {
            return None;
        }
        let mut texts = Vec::with_capacity(self.texts.len() * next.texts.len());
        for one in &self.texts {
            texts.extend(next.texts.iter().map(|two| format!("{one}{two}")));
        }
        let is_few = texts.iter().all(|text| text.len() <= MOST_BYTES);
        is_few.then_some(Self { texts, is_pure: self.is_pure && next.is_pure })
    }
}

/// All texts of a piece, if they are few.
fn exact(hir: &Hir) -> Option<Exact> {
    match hir.kind() {
        HirKind::Empty => Some(Exact::empty()),
        // A look has no text; where it holds is not said by any.
        HirKind::Look(_) => Some(Exact { is_pure: false, ..Exact::empty() }),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?.to_owned();
            (text.len() <= MOST_BYTES).then(|| Exact { texts: vec![text], is_pure: true })
        }
        HirKind::Class(Class::Unicode(class)) => {
            let all = class.iter().flat_map(|range| range.start()..=range.end());
            let texts: Vec<_> = all.take(MOST_CHARS + 1).map(String::from).collect();
            (1..=MOST_CHARS).contains(&texts.len()).then_some(Exact { texts, is_pure: true })
        }
        HirKind::Class(Class::Bytes(_)) => None,
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.filter(|&max| max <= MOST_COPIES)?;
            let sub = exact(&repetition.sub)?;
            let mut all = Exact { texts: Vec::new(), is_pure: sub.is_pure };
            let mut run = Exact::empty();
            for times in 0..=most {
                if times >= repetition.min {
                    all.texts.extend(run.texts.iter().cloned());
                }
                if all.texts.len() > MOST {
                    return None;
                }
                if times < most {
                    run = run.then(&sub)?;
                }
            }
            Some(all)
        }
        HirKind::Concat(pieces) => pieces.iter().try_fold(Exact::empty(), |run, piece| run.then(&exact(piece)?)),
        HirKind::Alternation(branches) => {
            let mut all = Exact { texts: Vec::new(), is_pure: true };
            for branch in branches {
                let branch = exact(branch)?;
                all.is_pure &= branch.is_pure;
                all.texts.extend(branch.texts);
                if all.texts.len() > MOST {
                    return None;
                }
            }
            Some(all)
        }
    }
}

/// The pieces of a concatenation, joined while their texts are few; between two runs anything may stand.
struct Runs {
    sets: Vec<Vec<Needle>>,
    run: Exact,
    /// The run stands at the begin of the name.
    starts: bool,
    /// Nothing has ended a run.
    is_whole: bool,
}

impl Runs {
    /// Adds a piece, which is the last of the name if it `ends`.
    fn add(&mut self, piece: &Hir, ends: bool) {
        if let Some(exact) = exact(piece) {
            match self.run.then(&exact) {
                Some(longer) => self.run = longer,
                None => {
                    self.cut();
                    self.run = exact;
                }
            }
            return;
        }
        let starts = self.starts && self.run.texts.iter().all(String::is_empty);
        match piece.kind() {
            // It begins and ends with one that is there.
            HirKind::Repetition(repetition) if repetition.min > 0 => {
                match exact(&repetition.sub) {
                    // One text of many, at each end of the run, says too little for so many needles.
                    Some(sub) if sub.texts.len() > 1 => self.cut(),
                    Some(sub) => {
                        if let Some(longer) = self.run.then(&sub) {
                            self.run = longer;
                        }
                        self.cut();
                        self.run = sub;
                    }
                    None => {
                        let found = sets(&repetition.sub, false, false);
                        self.cut();
                        self.sets.extend(found.sets);
                    }
                }
            }
            HirKind::Repetition(_) => self.cut(),
            HirKind::Concat(_) | HirKind::Alternation(_) | HirKind::Capture(_) => {
                let found = sets(piece, starts, ends);
                self.cut();
                self.sets.extend(found.sets);
            }
            _ => self.cut(),
        }
    }

    /// Ends a run.
    fn cut(&mut self) {
        self.end_run(false);
        self.starts = false;
        self.is_whole = false;
        self.run = Exact::empty();
    }

    fn end_run(&mut self, ends: bool) {
        let anchor = Anchor::of(self.starts, ends);
        let texts = std::mem::take(&mut self.run.texts);
        let set: Vec<_> = texts.into_iter().map(|text| Needle { anchor, text: text.into() }).collect();
        if set.iter().all(|needle| !needle.text.is_empty()) {
            self.sets.push(set);
        }
    }

    fn finish(mut self, ends: bool) -> Needles {
        let decide = self.is_whole && self.run.is_pure;
        self.end_run(ends);
        Needles { sets: self.sets, decide }
    }
}

/// Without the needles that another of the set stands for.
fn distinct(mut set: Vec<Needle>) -> Vec<Needle> {
    set.sort_by_key(|needle| needle.text.len());
    let mut few: Vec<Needle> = Vec::with_capacity(set.len());
    for needle in set {
        let implies = |shorter: &Needle| shorter.anchor == needle.anchor && shorter.is_in(&needle.text);
        if !few.iter().any(implies) {
            few.push(needle);
        }
    }
    few
}
