//! Go's syntax: the text of a pattern becomes a tree, or is refused as Go refuses it.
//!
//! It follows Go's `regexp/syntax/parse.go` step by step, with the flags of `regexp.Compile`. The stack holds what is
//! complete and can still be repeated or joined, and marks for open groups and alternations.

use super::bad::{BadPattern, Fault};
use super::class::{Class, least_of_orbit, orbit};
use super::factor::collapse;
use super::limits::{Limits, repeats_are_few};
use super::scan::{Repeat, Scanner};
use super::tree::{Flags, Node, Op};

type Result<T> = std::result::Result<T, BadPattern>;

/// The tree of a pattern.
pub(super) fn parse(text: &str) -> Result<Node> {
    let parser = Parser {
        scanner: Scanner::new(text),
        flags: Flags::default(),
        stack: Vec::new(),
        captures: 0,
        limits: Limits::new(),
    };
    parser.parse()
}

struct Parser<'t> {
    scanner: Scanner<'t>,
    flags: Flags,
    stack: Vec<Node>,
    /// How many capturing groups there are so far.
    captures: usize,
    limits: Limits,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Node> {
        // Where the repeat begins that was read last, if nothing came after it.
        let mut last_repeat = None;
        while let Some(byte) = self.scanner.peek() {
            let start = self.scanner.at();
            last_repeat = if self.repeat(byte, last_repeat)? { Some(start) } else { None };
            if last_repeat.is_none() {
                self.piece(byte)?;
            }
        }
        self.alternate_all()?;
        if self.stack.len() > 1 {
            let open = self.stack.iter().rev().find(|node| node.op == Op::LeftParen).map_or(0, |node| node.at);
            return Err(self.scanner.whole(Fault::MissingParen).at(open..open + 1));
        }
        match self.stack.pop() {
            Some(tree) => Ok(tree),
            None => Ok(self.limits.node(Op::EmptyMatch)),
        }
    }

    /// Reads what is not a repeat.
    fn piece(&mut self, byte: u8) -> Result<()> {
        let multi_line = self.flags.multi_line;
        let op = match byte {
            b'(' if self.scanner.rest().starts_with("(?") => return self.perl_group(),
            b'(' => {
                self.captures += 1;
                self.open(self.captures, self.scanner.at())?;
                self.scanner.skip(1);
                return Ok(());
            }
            b'|' => {
                self.vertical_bar()?;
                self.scanner.skip(1);
                return Ok(());
            }
            b')' => return self.close(),
            b'[' => return self.class(),
            b'\\' => return self.escape(),
            b'^' if multi_line => Op::BeginLine,
            b'^' => Op::BeginText,
            b'$' if multi_line => Op::EndLine,
            b'$' => Op::EndText,
            b'.' if self.flags.dot_newline => Op::AnyChar,
            b'.' => Op::AnyCharNotNewline,
            _ => {
                let code = self.scanner.next_char().map_or(0, u32::from);
                return self.literal(code);
            }
        };
        self.scanner.skip(1);
        self.op(op)?;
        if byte == b'$'
            && op == Op::EndText
            && let Some(end) = self.stack.last_mut()
        {
            end.flags.was_dollar = true;
        }
        Ok(())
    }

    /// Reads `*`, `+`, `?` or `{n,m}`; false if there is none. A brace that begins no count is a literal.
    fn repeat(&mut self, byte: u8, last_repeat: Option<usize>) -> Result<bool> {
        let start = self.scanner.at();
        let (op, min, max) = match byte {
            b'*' => (Op::Star, 0, None),
            b'+' => (Op::Plus, 0, None),
            b'?' => (Op::Quest, 0, None),
            b'{' => match self.scanner.repeat() {
                Repeat::None => return Ok(false),
                Repeat::TooLarge => return Err(self.scanner.piece(Fault::RepeatSize, start)),
                Repeat::Times(min, max) => (Op::Repeat, min, max),
            },
            _ => return Ok(false),
        };
        if op != Op::Repeat {
            self.scanner.skip(1);
        }
        let mut flags = self.flags;
        if self.scanner.eat("?") {
            flags.non_greedy = !flags.non_greedy;
        }
        if let Some(last) = last_repeat {
            return Err(self.scanner.piece(Fault::RepeatOp, last));
        }
        let Some(sub) = self.stack.pop_if(|top| !top.op.is_mark()) else {
            return Err(self.scanner.piece(Fault::MissingRepeatArgument, start));
        };
        let mut node = self.limits.node(op);
        (node.flags, node.min, node.max) = (flags, min, max);
        node.subs.push(sub);
        self.limits.check(&mut self.stack, &mut node).map_err(|fault| self.scanner.whole(fault))?;
        if op == Op::Repeat && (min >= 2 || max.is_some_and(|max| max >= 2)) && !repeats_are_few(&node) {
            return Err(self.scanner.piece(Fault::RepeatSize, start));
        }
        self.stack.push(node);
        Ok(true)
    }

    /// Reads `(?flags)`, `(?flags:`, `(?P<name>` or `(?<name>`.
    fn perl_group(&mut self) -> Result<()> {
        let start = self.scanner.at();
        let Some(named) = self.scanner.capture_name()? else {
            let (flags, opens) = self.scanner.flags(self.flags)?;
            if opens {
                self.open(0, start)?;
            }
            self.flags = flags;
            return Ok(());
        };
        self.captures += 1;
        self.open(self.captures, start)?;
        self.scanner.skip(named);
        Ok(())
    }

    /// Opens a group; 0 is one that does not capture. The flags of this place are in force again after it.
    fn open(&mut self, capture: usize, at: usize) -> Result<()> {
        self.op(Op::LeftParen)?;
        if let Some(group) = self.stack.last_mut() {
            (group.capture, group.at) = (capture, at);
        }
        Ok(())
    }

    /// Reads the parenthesis that ends a group.
    fn close(&mut self) -> Result<()> {
        self.alternate_all()?;
        let inner = self.stack.pop();
        let group = self.stack.pop_if(|group| group.op == Op::LeftParen);
        let (Some(inner), Some(mut group)) = (inner, group) else {
            let at = self.scanner.at();
            return Err(self.scanner.whole(Fault::UnexpectedParen).at(at..at + 1));
        };
        self.scanner.skip(1);
        self.flags = group.flags;
        if group.capture == 0 {
            return self.push(inner);
        }
        group.op = Op::Capture;
        group.subs = vec![inner];
        self.push(group)
    }

    /// Reads what a backslash begins.
    fn escape(&mut self) -> Result<()> {
        let letter = self.scanner.rest().as_bytes().get(1).copied();
        let op = match letter {
            Some(b'A') => Op::BeginText,
            Some(b'b') => Op::WordBoundary,
            Some(b'B') => Op::NoWordBoundary,
            Some(b'z') => Op::EndText,
            Some(b'C') => {
                let start = self.scanner.at();
                self.scanner.skip(2);
                return Err(self.scanner.piece(Fault::Escape, start));
            }
            Some(b'Q') => return self.quoted(),
            _ => return self.character(),
        };
        self.scanner.skip(2);
        self.op(op)
    }

    /// Reads `\Q...\E`, all of it literal; the end of the pattern also ends it.
    fn quoted(&mut self) -> Result<()> {
        self.scanner.skip(2);
        while !self.scanner.eat(r"\E") {
            let Some(c) = self.scanner.next_char() else { break };
            self.literal(c.into())?;
        }
        Ok(())
    }

    /// Reads an escape that stands for a character or a class of them.
    fn character(&mut self) -> Result<()> {
        let mut node = self.limits.node(Op::CharClass);
        node.flags = self.flags;
        if let Some(class) = self.scanner.named_class(self.flags.fold_case)? {
            node.class = class;
            return self.push(node);
        }
        self.limits.reuse(&node);
        let code = self.scanner.escape()?;
        self.literal(code)
    }

    /// Reads `[...]`.
    fn class(&mut self) -> Result<()> {
        let start = self.scanner.at();
        let fold_case = self.flags.fold_case;
        let mut node = self.limits.node(Op::CharClass);
        node.flags = self.flags;
        self.scanner.skip(1);
        let negated = self.scanner.eat("^");
        let mut class = Class::default();
        let mut first = true;
        while first || self.scanner.peek() != Some(b']') {
            first = false;
            if let Some(named) = self.scanner.posix_class(fold_case)? {
                class.add_all(&named);
                continue;
            }
            if let Some(named) = self.scanner.named_class(fold_case)? {
                class.add_all(&named);
                continue;
            }
            let range = self.range(start)?;
            if fold_case { class.add_folded(range) } else { class.add(range) }
        }
        self.scanner.skip(1);
        class.clean();
        node.class = if negated { class.negated() } else { class };
        self.push(node)
    }

    /// Reads one character of a class, or two with a hyphen between them.
    fn range(&mut self, class: usize) -> Result<(u32, u32)> {
        let start = self.scanner.at();
        let low = self.scanner.class_char(class)?;
        let rest = self.scanner.rest().as_bytes();
        if rest.first() != Some(&b'-') || matches!(rest.get(1), None | Some(b']')) {
            return Ok((low, low));
        }
        self.scanner.skip(1);
        let high = self.scanner.class_char(class)?;
        if high < low { Err(self.scanner.piece(Fault::CharRange, start)) } else { Ok((low, high)) }
    }

    fn op(&mut self, op: Op) -> Result<()> {
        let mut node = self.limits.node(op);
        node.flags = self.flags;
        self.push(node)
    }

    fn literal(&mut self, code: u32) -> Result<()> {
        let mut node = self.limits.node(Op::Literal);
        node.flags = self.flags;
        node.literal.push(if self.flags.fold_case { least_of_orbit(code) } else { code });
        self.push(node)
    }

    /// Puts a piece on the stack. Characters come together there as one literal, and a class of one character, or of one
    /// in both cases, is a character.
    fn push(&mut self, mut node: Node) -> Result<()> {
        self.limits.count_runes(&node);
        let single = single(&node);
        if let Some((code, fold_case)) = single {
            let flags = Flags { fold_case, ..self.flags };
            if self.join_literals(Some((code, flags))) {
                return Ok(());
            }
            node.op = Op::Literal;
            node.flags = flags;
            node.class = Class::default();
            node.literal = vec![code];
        } else {
            self.join_literals(None);
        }
        self.limits.check(&mut self.stack, &mut node).map_err(|fault| self.scanner.whole(fault))?;
        self.stack.push(node);
        Ok(())
    }

    /// Joins the two literals on top of the stack, which nothing can repeat any more. `next` then takes the place of the
    /// upper one, if there were two; whether it did is returned.
    fn join_literals(&mut self, next: Option<(u32, Flags)>) -> bool {
        let [.., lower, upper] = self.stack.as_mut_slice() else { return false };
        let are_literals = lower.op == Op::Literal && upper.op == Op::Literal;
        if !are_literals || lower.flags.fold_case != upper.flags.fold_case {
            return false;
        }
        lower.literal.append(&mut upper.literal);
        if let Some((code, flags)) = next {
            upper.literal.push(code);
            upper.flags = flags;
            return true;
        }
        if let Some(upper) = self.stack.pop() {
            self.limits.reuse(&upper);
        }
        false
    }

    /// The pieces on top of the stack become one.
    fn concat(&mut self) -> Result<()> {
        self.join_literals(None);
        let subs = self.above_mark();
        let node = if subs.is_empty() { self.limits.node(Op::EmptyMatch) } else { self.collapse(subs, Op::Concat)? };
        self.push(node)
    }

    /// What stands on top of the stack, to the start of the group, becomes one piece.
    fn alternate_all(&mut self) -> Result<()> {
        self.concat()?;
        if self.swap_vertical_bar() {
            self.stack.pop();
        }
        let mut subs = self.above_mark();
        if let Some(last) = subs.last_mut() {
            last.clean_class();
        }
        let node = if subs.is_empty() { self.limits.node(Op::NoMatch) } else { self.collapse(subs, Op::Alternate)? };
        self.push(node)
    }

    fn above_mark(&mut self) -> Vec<Node> {
        let mark = self.stack.iter().rposition(|node| node.op.is_mark());
        self.stack.split_off(mark.map_or(0, |mark| mark + 1))
    }

    fn collapse(&mut self, subs: Vec<Node>, op: Op) -> Result<Node> {
        collapse(&mut self.limits, &mut self.stack, subs, op).map_err(|fault| self.scanner.whole(fault))
    }

    fn vertical_bar(&mut self) -> Result<()> {
        self.concat()?;
        if self.swap_vertical_bar() { Ok(()) } else { self.op(Op::VerticalBar) }
    }

    /// Brings the vertical bar above the alternative that has just ended; false if there is no bar below it. Two single
    /// characters or classes become one.
    fn swap_vertical_bar(&mut self) -> bool {
        let [below @ .., bar, top] = self.stack.as_mut_slice() else { return false };
        if bar.op != Op::VerticalBar {
            return false;
        }
        if let Some(below) = below.last_mut() {
            if below.is_char_class() && top.is_char_class() {
                if top.op > below.op {
                    std::mem::swap(top, below);
                }
                below.merge_class(top);
                if let Some(top) = self.stack.pop() {
                    self.limits.reuse(&top);
                }
                return true;
            }
            // Nothing is merged to it from here on.
            below.clean_class();
        }
        std::mem::swap(bar, top);
        true
    }
}

/// The character that a class of one stands for, or of one in both its cases, and whether that is so.
fn single(node: &Node) -> Option<(u32, bool)> {
    if node.op != Op::CharClass {
        return None;
    }
    let pair = |one, two| orbit(one) == [one, two];
    match *node.class.ranges() {
        [(one, same)] if one == same => Some((one, false)),
        [(one, two)] if one + 1 == two && pair(one, two) => Some((one, true)),
        [(one, same), (two, same_two)] if one == same && two == same_two && pair(one, two) => Some((one, true)),
        _ => None,
    }
}
