//! The tree that a pattern is parsed to, node for node as Go builds it, because Go's limits count nodes.

use super::class::{Class, MAX};

/// What a node does; the order is Go's, by which the more complex of two character classes is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    NoMatch,
    EmptyMatch,
    Literal,
    CharClass,
    AnyCharNotNewline,
    AnyChar,
    BeginLine,
    EndLine,
    BeginText,
    EndText,
    WordBoundary,
    NoWordBoundary,
    Capture,
    Star,
    Plus,
    Quest,
    /// `min` to `max` times.
    Repeat,
    Concat,
    Alternate,
    /// An open group, on the parser's stack only.
    LeftParen,
    /// Alternatives stand below it, on the parser's stack only.
    VerticalBar,
}

impl Op {
    /// Whether it is only a mark on the parser's stack.
    pub(super) fn is_mark(self) -> bool {
        self >= Self::LeftParen
    }
}

/// What `(?imsU)` sets, and what a node keeps of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// `i`: case is ignored.
    pub(super) fold_case: bool,
    /// `m`: `^` and `$` are ends of lines.
    pub(super) multi_line: bool,
    /// `s`: `.` is also a line feed.
    pub(super) dot_newline: bool,
    /// `U`: repeats want little.
    pub(super) non_greedy: bool,
    /// The end of the text was written `$`, not `\z`.
    pub(super) was_dollar: bool,
}

/// A piece of a pattern.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) flags: Flags,
    pub(super) subs: Vec<Node>,
    /// Of a literal: its characters.
    pub(super) literal: Vec<u32>,
    /// Of a class: its characters.
    pub(super) class: Class,
    /// Of a repeat: how often at least.
    pub(super) min: u16,
    /// Of a repeat: how often at most.
    pub(super) max: Option<u16>,
    /// Of a capturing group: its number, from 1.
    pub(super) capture: usize,
    /// Of an open group: the byte at which it opens.
    pub(super) at: usize,
    /// What [`Limits`] last counted for it.
    pub(super) size: Option<i64>,
    pub(super) height: Option<u32>,
}

impl Node {
    /// An empty node; `size` is what was counted for the node in whose memory Go would put it.
    pub(super) fn new(op: Op, size: Option<i64>) -> Self {
        let (flags, subs, literal, class) = Default::default();
        Self { op, flags, subs, literal, class, min: 0, max: None, capture: 0, at: 0, size, height: None }
    }

    /// Whether it stands for one character of a set.
    pub(super) fn is_char_class(&self) -> bool {
        match self.op {
            Op::Literal => self.literal.len() == 1,
            op => matches!(op, Op::CharClass | Op::AnyCharNotNewline | Op::AnyChar),
        }
    }

    /// How many numbers Go keeps for its characters.
    pub(super) fn runes(&self) -> usize {
        self.literal.len() + 2 * self.class.ranges().len()
    }

    /// Whether both say the same in the same way.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let same_subs = || {
            self.subs.len() == other.subs.len() && self.subs.iter().zip(&other.subs).all(|(one, two)| one.equals(two))
        };
        let (flags, others) = (self.flags, other.flags);
        self.op == other.op
            && match self.op {
                Op::EndText => flags.was_dollar == others.was_dollar,
                Op::Literal | Op::CharClass => {
                    flags.fold_case == others.fold_case && self.literal == other.literal && self.class == other.class
                }
                Op::Alternate | Op::Concat => same_subs(),
                Op::Star | Op::Plus | Op::Quest => flags.non_greedy == others.non_greedy && same_subs(),
                Op::Repeat => {
                    flags.non_greedy == others.non_greedy
                        && (self.min, self.max) == (other.min, other.max)
                        && same_subs()
                }
                Op::Capture => self.capture == other.capture && same_subs(),
                _ => true,
            }
    }

    /// Makes it also match what `other` matches; it is the more complex of two character classes.
    pub(super) fn merge_class(&mut self, other: &Self) {
        match self.op {
            Op::AnyCharNotNewline if other.matches_newline() => self.op = Op::AnyChar,
            Op::CharClass => self.class.add_node(other),
            Op::Literal if self.literal != other.literal || self.flags != other.flags => {
                let mut class = Class::default();
                class.add_node(self);
                class.add_node(other);
                self.op = Op::CharClass;
                self.literal.clear();
                self.class = class;
            }
            _ => {}
        }
    }

    fn matches_newline(&self) -> bool {
        let newline = u32::from('\n');
        match self.op {
            Op::Literal => self.literal == [newline],
            Op::CharClass => self.class.ranges().iter().any(|&(low, high)| low <= newline && newline <= high),
            op => op == Op::AnyChar,
        }
    }

    /// Cleans a class that alternatives were merged to; one of all characters has its own name.
    pub(super) fn clean_class(&mut self) {
        if self.op != Op::CharClass {
            return;
        }
        self.class.clean();
        match self.class.ranges() {
            [(0, MAX)] => self.op = Op::AnyChar,
            [(0, 0x09), (0x0B, MAX)] => self.op = Op::AnyCharNotNewline,
            _ => return,
        }
        self.class = Class::default();
    }
}

impl Class {
    /// Adds the character or the class of a node.
    fn add_node(&mut self, node: &Node) {
        match *node.literal.as_slice() {
            [only] if node.flags.fold_case => self.add_folded((only, only)),
            [only] => self.add((only, only)),
            _ => self.add_all(&node.class),
        }
    }
}
