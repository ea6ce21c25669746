//! The small pieces of Go's syntax: counts, names, flags, escapes.

use super::bad::{BadPattern, Fault};
use super::class::{Class, MAX};
use super::groups;
use super::tree::Flags;

type Result<T> = std::result::Result<T, BadPattern>;

/// A place in the text of a pattern.
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

/// What stands at a `{`.
pub(super) enum Repeat {
    /// No count: the brace is a literal.
    None,
    /// A count above 1000, or one that ends below its begin.
    TooLarge,
    /// At least so often, and at most.
    Times(u16, Option<u16>),
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte at which it stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest().as_bytes().first().copied()
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Reads this text, if it is there.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn next_char(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// A fault of the whole text.
    pub(super) fn whole(&self, fault: Fault) -> BadPattern {
        BadPattern::new(fault, self.text, 0..self.text.len())
    }

    /// A fault of what was read from this place on.
    pub(super) fn piece(&self, fault: Fault, from: usize) -> BadPattern {
        BadPattern::new(fault, self.text, from..self.at)
    }

    /// A fault of all from this place on.
    fn all_from(&self, fault: Fault, from: usize) -> BadPattern {
        BadPattern::new(fault, self.text, from..self.text.len())
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`.
    pub(super) fn repeat(&mut self) -> Repeat {
        const MOST: u32 = 1000;
        let Some((inside, _)) = self.rest().strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Repeat::None;
        };
        let (min, max) = match inside.split_once(',') {
            None => (number(inside), Some(number(inside))),
            Some((min, "")) => (number(min), None),
            Some((min, max)) => (number(min), Some(number(max))),
        };
        let (Some(min), None | Some(Some(_))) = (min, max) else { return Repeat::None };
        self.skip(inside.len() + 2);
        let max = max.flatten();
        let few = |times: u32| u16::try_from(times).ok().filter(|_| times <= MOST);
        match (few(min), max.map(few)) {
            (Some(min), None) => Repeat::Times(min, None),
            (Some(min), Some(Some(max))) if min <= max => Repeat::Times(min, Some(max)),
            _ => Repeat::TooLarge,
        }
    }

    /// Finds `(?P<name>` or `(?<name>`, and how long it is; nothing is read.
    pub(super) fn capture_name(&self) -> Result<Option<usize>> {
        let rest = self.rest();
        let name = rest.strip_prefix("(?P<").or(rest.strip_prefix("(?<"));
        // Go wants one byte more after the `<`, or else takes it for a flag.
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let Some((name, after)) = name.split_once('>') else {
            return Err(self.all_from(Fault::NamedCapture, self.at));
        };
        let length = rest.len() - after.len();
        if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            return Err(BadPattern::new(Fault::NamedCapture, self.text, self.at..self.at + length));
        }
        Ok(Some(length))
    }

    /// Reads `(?flags)` or `(?flags:`; the flags, and whether they open a group.
    pub(super) fn flags(&mut self, mut flags: Flags) -> Result<(Flags, bool)> {
        let start = self.at;
        self.skip(2);
        let (mut on, mut seen) = (true, false);
        while let Some(next) = self.next_char() {
            match next {
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.non_greedy = on,
                '-' if on => on = false,
                ':' | ')' if on || seen => return Ok((flags, next == ':')),
                _ => break,
            }
            seen = next != '-';
        }
        Err(self.piece(Fault::PerlOp, start))
    }

    /// Reads `\pN`, `\p{name}`, `\d` and their like.
    pub(super) fn named_class(&mut self, fold_case: bool) -> Result<Option<Class>> {
        let [b'\\', letter, ..] = *self.rest().as_bytes() else { return Ok(None) };
        if letter.eq_ignore_ascii_case(&b'p') {
            return self.unicode_class(letter == b'P', fold_case).map(Some);
        }
        let class = groups::perl(letter, fold_case);
        if class.is_some() {
            self.skip(2);
        }
        Ok(class)
    }

    /// Reads `\pN` or `\p{name}`; a `^` before the name negates it, and so does a capital P.
    fn unicode_class(&mut self, negated: bool, fold_case: bool) -> Result<Class> {
        let start = self.at;
        self.skip(2);
        let name = if self.eat("{") {
            let Some((name, _)) = self.rest().split_once('}') else {
                return Err(self.all_from(Fault::CharRange, start));
            };
            self.skip(name.len() + 1);
            name
        } else {
            let rest = self.rest();
            let length = self.next_char().map_or(0, char::len_utf8);
            rest.get(..length).unwrap_or_default()
        };
        let (caret, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
        groups::unicode(name, caret != negated, fold_case).ok_or_else(|| self.piece(Fault::CharRange, start))
    }

    /// Reads `[:name:]`; a bracket and colon without an end are characters.
    pub(super) fn posix_class(&mut self, fold_case: bool) -> Result<Option<Class>> {
        let Some((name, _)) = self.rest().strip_prefix("[:").and_then(|rest| rest.split_once(":]")) else {
            return Ok(None);
        };
        let start = self.at;
        self.skip(name.len() + 4);
        groups::posix(name, fold_case).map(Some).ok_or_else(|| self.piece(Fault::CharRange, start))
    }

    /// Reads a character of the class that begins at `class`.
    pub(super) fn class_char(&mut self, class: usize) -> Result<u32> {
        if self.peek() == Some(b'\\') {
            return self.escape();
        }
        self.next_char().map(u32::from).ok_or_else(|| self.all_from(Fault::MissingBracket, class))
    }

    /// Reads an escape that stands for one character.
    pub(super) fn escape(&mut self) -> Result<u32> {
        let start = self.at;
        self.skip(1);
        let Some(letter) = self.next_char() else {
            let end = self.text.len();
            return Err(BadPattern::new(Fault::TrailingBackslash, self.text, end..end).at(start..end));
        };
        let code = match letter {
            '1'..='7' if !matches!(self.peek(), Some(b'0'..=b'7')) => None,
            '0'..='7' => Some(self.octal(letter)),
            'x' => self.hex(),
            'a' => Some(0x07),
            'f' => Some(0x0C),
            'n' => Some(0x0A),
            'r' => Some(0x0D),
            't' => Some(0x09),
            'v' => Some(0x0B),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other.into()),
            _ => None,
        };
        code.ok_or_else(|| self.piece(Fault::Escape, start))
    }

    /// Reads the rest of up to three octal digits.
    fn octal(&mut self, first: char) -> u32 {
        let mut code = first.to_digit(8).unwrap_or(0);
        for _ in 1..3 {
            let Some(digit) = self.rest().chars().next().and_then(|c| c.to_digit(8)) else { break };
            self.skip(1);
            code = code * 8 + digit;
        }
        code
    }

    /// Reads two hexadecimal digits, or any number of them in braces. What does not belong is read too: Go shows it.
    fn hex(&mut self) -> Option<u32> {
        let first = self.next_char()?;
        if first != '{' {
            let second = self.next_char();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut code, mut digits) = (0, 0);
        loop {
            match self.next_char()? {
                '}' => return (digits > 0).then_some(code),
                digit => code = code * 16 + digit.to_digit(16)?,
            }
            if code > MAX {
                return None;
            }
            digits += 1;
        }
    }
}

/// A decimal number without a leading zero; one too large for any use is [`u32::MAX`].
fn number(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = digits == "0" || !digits.starts_with('0');
    (is_number && is_plain).then(|| digits.parse().unwrap_or(u32::MAX))
}
