//! A route's pattern: a regular expression of Go's dialect, searched anywhere in the node name.
//!
//! Go's `regexp` is the reference, syntax and meaning both: tables that people bring were written for it. What Go refuses
//! is refused in its words. The text is parsed here, as Go parses it, because `regex-syntax` has another dialect:
//!
//! | piece | Go, and here | `regex-syntax` |
//! |---|---|---|
//! | `\d \s \w \b \B` | ASCII; `\s` has no vertical tab | Unicode |
//! | `(?i)` | Unicode's simple folding, also of `\w` and `[:alpha:]`; `\p{LC}` is left as it is | the same, of every class |
//! | `$` | the end of the text; with `(?m)` of a line | the same |
//! | flags | `i`, `m`, `s`, `U` | also `u`, `x`, `R` |
//! | `{`, `}` | a literal where no count is: `a{`, `{,3}`, `a{,3}`, `a{01}` | an error, or `{,3}` a count |
//! | counts | at most 1000, nested ones multiplied | as large as the program may be |
//! | `a**`, `a+*`, `a{2}{3}` | refused | repeats of repeats |
//! | `a??`, `a{2}?` | wants little | the same |
//! | `[a&&b]`, `[a--b]`, `[a~~b]`, `[[a]b]` | `&`, `-`, `~` and `[` are characters, or ends of a range | set operations, a class inside |
//! | `[]a]`, `[^]a]`, `[a-]` | `]` first and `-` last are characters | the same |
//! | `\Q...\E` | all between is literal | refused |
//! | `\7`, `\12`, `\012` | refused; octal; octal | refused |
//! | `\x7F`, `\x{10FFFF}` | the same; surrogates too, which no text has | the same, and `\u`, `\U`; no surrogates |
//! | `\a \f \n \r \t \v` | control characters | the same |
//! | `\_`, `\@`, `\<`, `\é` | any ASCII punctuation is itself; `\é` is refused | the same, but `\<` and `\>` are boundaries |
//! | `\A`, `\z` | begin and end of the text | the same |
//! | `\Z`, `\G`, `\C`, `\X`, `\R`, `\b{start}` | refused; the last is a boundary and the text `{start}` | refused; the last is one of four kinds of boundary |
//! | `\pN`, `\p{Greek}`, `\p{^Greek}`, `\PN` | categories, their long names, the scripts that have one word | also `=`, every property, short names of scripts |
//! | `(?P<n>a)`, `(?<n>a)` | ASCII letters, digits, `_`; twice the same name is allowed | also `.`, `[`, `]`, not first a digit; not twice |
//! | nesting | 1000 levels | 250 levels |
//!
//! The differences that remain are those of the Unicode tables, which are newer here, and [`BadPattern`]'s `too_large`.
//! A pattern that loaded never fails at lookup: its size is bounded from its tree, and it is compiled when it is first
//! needed, unless a comparison of strings decides it.

mod bad;
mod class;
mod compiled;
mod deep;
mod factor;
mod groups;
mod limits;
mod lower;
mod needle;
mod parse;
mod scan;
mod simple;
mod tree;

use std::fmt;
use std::sync::{Arc, OnceLock};

use regex_syntax::hir::Hir;

pub use bad::BadPattern;
use bad::Fault;
use compiled::Compiled;
use deep::deep;
use needle::needles;
pub use needle::{Anchor, Needle};
use simple::{Simple, simple};

use crate::node::NodeName;

/// A pattern; its text is the key of the table.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    shape: Shape,
}

/// What decides whether a name matches.
#[derive(Clone)]
enum Shape {
    /// Every name does.
    Always,
    /// A literal that stands in the pattern's text, from one byte to another.
    Verbatim(Anchor, u16, u16),
    /// A literal that is written in another way.
    Needle(Needle),
    /// One of these.
    Any(Box<[Needle]>),
    /// A program.
    Program(Arc<Program>),
}

/// A pattern that must be compiled, and what is known of its matches before.
struct Program {
    /// The fewest bytes of a name that matches.
    least: usize,
    /// The most bytes, if the pattern says that the match is the whole name.
    most: usize,
    /// See [`Pattern::requirements`]. Kept, because to find them is to parse the text, and the index, its edits and the
    /// lints all ask.
    needles: Box<[Vec<Needle>]>,
    /// Set by [`Pattern::compile_now`]; others are in the cache.
    pinned: OnceLock<Option<Compiled>>,
}

impl Pattern {
    /// Reads a pattern; it is not compiled here.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let shape = match simple(text) {
            Some(Simple::Always) => Shape::Always,
            Some(Simple::Verbatim(anchor, start, end)) => match (u16::try_from(start), u16::try_from(end)) {
                (Ok(start), Ok(end)) => Shape::Verbatim(anchor, start, end),
                _ => Shape::of(text)?,
            },
            Some(Simple::Escaped(anchor, text)) => Shape::Needle(Needle { anchor, text }),
            None => Shape::of(text)?,
        };
        Ok(Self { text: text.into(), shape })
    }

    /// Whether the pattern is found anywhere in the name.
    pub fn matches(&self, node: &NodeName) -> bool {
        self.matches_line(node.as_str())
    }

    /// Whether the pattern is found anywhere in a text, which may have line feeds as no name has: what Go's `MatchString`
    /// says.
    pub fn matches_text(&self, text: &str) -> bool {
        if text.contains('\n') {
            return self.compiled().is_some_and(|compiled| compiled.is_match(text));
        }
        self.matches_line(text)
    }

    fn matches_line(&self, line: &str) -> bool {
        match &self.shape {
            Shape::Always => true,
            Shape::Verbatim(anchor, start, end) => anchor.holds(self.literal(*start, *end), line),
            Shape::Needle(needle) => needle.is_in(line),
            Shape::Any(needles) => needles.iter().any(|needle| needle.is_in(line)),
            Shape::Program(program) => {
                program.may_match(line)
                    && match program.pinned.get() {
                        Some(pinned) => pinned.as_ref().is_some_and(|compiled| compiled.is_match(line)),
                        None => self.compiled().is_some_and(|compiled| compiled.is_match(line)),
                    }
            }
        }
    }

    /// Every name that matches has at least one needle of each of these sets; a set is never empty. Without a set only a
    /// scan finds the pattern.
    pub fn requirements(&self) -> Vec<Vec<Needle>> {
        match &self.shape {
            Shape::Always => Vec::new(),
            Shape::Verbatim(anchor, start, end) => {
                vec![vec![Needle { anchor: *anchor, text: self.literal(*start, *end).into() }]]
            }
            Shape::Needle(needle) => vec![vec![needle.clone()]],
            Shape::Any(needles) => vec![needles.to_vec()],
            Shape::Program(program) => program.needles.to_vec(),
        }
    }

    /// Whether a name that has a needle of the one set of [`requirements`](Self::requirements) matches.
    pub fn is_decided_by_needles(&self) -> bool {
        matches!(self.shape, Shape::Verbatim(..) | Shape::Needle(_) | Shape::Any(_))
    }

    /// Whether there is no name that it does not match.
    pub fn matches_every_name(&self) -> bool {
        matches!(self.shape, Shape::Always)
    }

    /// A quick answer for one who looks at every pattern: false is sure.
    pub fn may_match(&self, name: &str) -> bool {
        match &self.shape {
            Shape::Program(program) => program.may_match(name),
            _ => true,
        }
    }

    /// Compiles the pattern now and keeps the program for as long as the pattern lives: for those that every lookup asks.
    pub fn compile_now(&self) {
        if let Shape::Program(program) = &self.shape {
            program.pinned.get_or_init(|| deep(&self.text, || Compiled::for_long(&self.parsed())));
        }
    }

    /// What the pattern says, for who wants to look at its pieces; it is parsed again.
    pub fn hir(&self) -> Hir {
        deep(&self.text, || self.parsed())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn literal(&self, start: u16, end: u16) -> &str {
        self.text.get(start.into()..end.into()).unwrap_or_default()
    }

    /// To be called with room for its depth.
    fn parsed(&self) -> Hir {
        // The same text was parsed before without an error.
        parse::parse(&self.text).map_or_else(|_| Hir::fail(), |tree| lower::lower(&tree))
    }

    fn compiled(&self) -> Option<Arc<Compiled>> {
        compiled::of(&self.text, || deep(&self.text, || Compiled::for_now(&self.parsed())))
    }
}

impl Shape {
    /// The shape of any pattern.
    fn of(text: &str) -> Result<Self, BadPattern> {
        deep(text, || Self::of_tree(text))
    }

    fn of_tree(text: &str) -> Result<Self, BadPattern> {
        let hir = lower::lower(&parse::parse(text)?);
        if lower::size(&hir) > compiled::MOST {
            return Err(BadPattern::new(Fault::TooLarge, text, 0..text.len()));
        }
        let mut needles = needles(&hir);
        if let Some(set) = needles.sets.pop_if(|_| needles.decide) {
            return Ok(match <[Needle; 1]>::try_from(set) {
                Ok([needle]) => Self::Needle(needle),
                Err(set) => Self::Any(set.into()),
            });
        }
        Ok(Self::Program(Arc::new(Program::of(&hir, needles.sets))))
    }
}

impl Program {
    fn of(hir: &Hir, needles: Vec<Vec<Needle>>) -> Self {
        use regex_syntax::hir::Look;
        let properties = hir.properties();
        let is_whole =
            properties.look_set_prefix().contains(Look::Start) && properties.look_set_suffix().contains(Look::End);
        let most = properties.maximum_len().filter(|_| is_whole);
        Self {
            // None: an alternative may never match, and says nothing of the others.
            least: properties.minimum_len().unwrap_or(0),
            most: most.unwrap_or(usize::MAX),
            needles: needles.into(),
            pinned: OnceLock::new(),
        }
    }

    fn may_match(&self, name: &str) -> bool {
        (self.least..=self.most).contains(&name.len())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
