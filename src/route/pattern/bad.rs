//! Why a text is not a pattern, and where.

use std::fmt;
use std::ops::Range;

/// Why a text is not a pattern, in Go's words, and where in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: `{piece}`")]
pub struct BadPattern {
    fault: Fault,
    piece: Box<str>,
    place: Range<usize>,
}

impl BadPattern {
    /// What Go shows is a piece of the text, or nothing.
    pub(super) fn new(fault: Fault, text: &str, piece: Range<usize>) -> Self {
        Self { fault, piece: text.get(piece.clone()).unwrap_or_default().into(), place: piece }
    }

    /// The fault is in a smaller place than the piece that Go shows.
    pub(super) fn at(self, place: Range<usize>) -> Self {
        Self { place, ..self }
    }

    /// The bytes of the pattern that are at fault; the whole pattern where no piece of it is.
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// What to do.
    pub fn help(&self) -> &'static str {
        match self.fault {
            Fault::Escape => "a backslash stands before punctuation (\\.) or what has a meaning (\\d); there is no \\1",
            Fault::NamedCapture => "a group is named as in (?P<name>...), with letters, digits and _",
            Fault::PerlOp => {
                "there are groups (?:...), names (?P<name>...) and flags (?i); no look-around, no comments"
            }
            Fault::RepeatOp => "put what is repeated twice into a group: (?:a*)*",
            Fault::RepeatSize => "a count is at most 1000, those of repeats of repeats multiplied",
            Fault::TrailingBackslash => "a backslash itself is written \\\\",
            Fault::NestingDepth | Fault::Large | Fault::TooLarge => {
                "make it shorter or its repeats smaller, or write several routes"
            }
            Fault::CharRange
            | Fault::MissingBracket
            | Fault::MissingParen
            | Fault::MissingRepeatArgument
            | Fault::UnexpectedParen => "a literal character such as ( or [ is written with a backslash: \\(",
        }
    }

    /// For programs: `too_large` for a pattern that Go takes and we don't, `bad_pattern` for all that Go refuses.
    pub fn code(&self) -> &'static str {
        if self.fault == Fault::TooLarge { "too_large" } else { "bad_pattern" }
    }
}

/// The kinds of fault: Go's, in the order of its source, and one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    CharRange,
    Escape,
    NamedCapture,
    PerlOp,
    RepeatOp,
    RepeatSize,
    MissingBracket,
    MissingParen,
    MissingRepeatArgument,
    TrailingBackslash,
    UnexpectedParen,
    NestingDepth,
    Large,
    TooLarge,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CharRange => "invalid character class range",
            Self::Escape => "invalid escape sequence",
            Self::NamedCapture => "invalid named capture",
            Self::PerlOp => "invalid or unsupported Perl syntax",
            Self::RepeatOp => "invalid nested repetition operator",
            Self::RepeatSize => "invalid repeat count",
            Self::MissingBracket => "missing closing ]",
            Self::MissingParen => "missing closing )",
            Self::MissingRepeatArgument => "missing argument to repetition operator",
            Self::TrailingBackslash => "trailing backslash at end of expression",
            Self::UnexpectedParen => "unexpected )",
            Self::NestingDepth => "expression nests too deeply",
            Self::Large => "expression too large",
            Self::TooLarge => "too_large: the compiled pattern would have more than 100,000 states and transitions",
        })
    }
}
