//! The tree becomes what the library compiles, and the bound of what that will be.

use regex_syntax::hir::{Class as HirClass, ClassUnicode, Dot, Hir, HirKind, Look, Repetition};
use regex_syntax::utf8::Utf8Sequences;

use super::class::{Class, orbit};
use super::tree::{Node, Op};

/// What the tree matches. Groups capture nothing: nobody asks what they hold.
pub(super) fn lower(node: &Node) -> Hir {
    let subs = || node.subs.iter().map(lower).collect();
    let first = || node.subs.first().map_or_else(Hir::empty, lower);
    let repeat = |min, max| {
        let sub = Box::new(first());
        Hir::repetition(Repetition { min, max, greedy: !node.flags.non_greedy, sub })
    };
    match node.op {
        Op::NoMatch | Op::LeftParen | Op::VerticalBar => Hir::fail(),
        Op::EmptyMatch => Hir::empty(),
        Op::Literal => literal(&node.literal, node.flags.fold_case),
        Op::CharClass => class(&node.class),
        Op::AnyCharNotNewline => Hir::dot(Dot::AnyCharExceptLF),
        Op::AnyChar => Hir::dot(Dot::AnyChar),
        Op::BeginLine => Hir::look(Look::StartLF),
        Op::EndLine => Hir::look(Look::EndLF),
        Op::BeginText => Hir::look(Look::Start),
        Op::EndText => Hir::look(Look::End),
        Op::WordBoundary => Hir::look(Look::WordAscii),
        Op::NoWordBoundary => Hir::look(Look::WordAsciiNegate),
        Op::Capture => first(),
        Op::Star => repeat(0, None),
        Op::Plus => repeat(1, None),
        Op::Quest => repeat(0, Some(1)),
        Op::Repeat => repeat(node.min.into(), node.max.map(u32::from)),
        Op::Concat => Hir::concat(subs()),
        Op::Alternate => Hir::alternation(subs()),
    }
}

/// Characters, each with those that are equal to it when case is ignored. A surrogate is in no UTF-8 text.
fn literal(codes: &[u32], fold_case: bool) -> Hir {
    if fold_case {
        let folded = |&code| {
            let mut all = Class::default();
            orbit(code).into_iter().for_each(|equal| all.add((equal, equal)));
            class(&all)
        };
        return Hir::concat(codes.iter().map(folded).collect());
    }
    let text: Option<String> = codes.iter().copied().map(char::from_u32).collect();
    text.map_or_else(Hir::fail, |text| Hir::literal(text.into_bytes()))
}

fn class(class: &Class) -> Hir {
    Hir::class(HirClass::Unicode(class.to_unicode()))
}

/// How many states and transitions the compiled program has at most, beside the few of every program.
pub(super) fn size(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 2,
        // A state and a transition for each byte.
        HirKind::Literal(literal) => 2 * literal.0.len() as u64,
        HirKind::Class(HirClass::Unicode(class)) => 2 + class_size(class),
        HirKind::Class(HirClass::Bytes(class)) => 2 + class.ranges().len() as u64,
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Repetition(repetition) => {
            // Each copy has a choice of two before it; without an upper end there is one more, to go round in.
            let copies = repetition.max.unwrap_or(repetition.min.saturating_add(1));
            size(&repetition.sub).saturating_add(3).saturating_mul(copies.into()).saturating_add(5)
        }
        HirKind::Concat(subs) => subs.iter().map(size).fold(0, u64::saturating_add),
        // A choice of all branches, and the place where they meet.
        HirKind::Alternation(subs) => subs.iter().map(|sub| size(sub).saturating_add(1)).fold(3, u64::saturating_add),
    }
}

/// A class is compiled to sequences of byte ranges; those that begin alike share their beginning.
fn class_size(class: &ClassUnicode) -> u64 {
    let mut size = 0;
    let mut last = Vec::new();
    for range in class.iter() {
        for sequence in Utf8Sequences::new(range.start(), range.end()) {
            let sequence = sequence.as_slice();
            let shared = last.iter().zip(sequence).take_while(|(one, two)| one == two).count();
            // A transition, and the state that it leads from.
            size += 2 * (sequence.len() - shared) as u64;
            last = sequence.to_vec();
        }
    }
    size
}
