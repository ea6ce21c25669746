//! The patterns that most tables are made of, told from their text alone: a literal, its ends, and `.*` beside it.

use super::needle::Anchor;

/// What such a pattern asks of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Simple {
    /// Nothing.
    Always,
    /// The bytes of the pattern from the first number to the second.
    Verbatim(Anchor, usize, usize),
    /// A literal that is written with backslashes.
    Escaped(Anchor, Box<str>),
}

/// Above this length the limits of Go's parser are asked.
const MOST_BYTES: usize = 1000;

/// None: the pattern may be any.
pub(super) fn simple(text: &str) -> Option<Simple> {
    if text.len() > MOST_BYTES {
        return None;
    }
    let (starts, inner) = text.strip_prefix('^').map_or((false, text), |inner| (true, inner));
    // No name has a line feed, so `.*` stands for whatever is there.
    let (starts, inner) = inner.strip_prefix(".*").map_or((starts, inner), |inner| (false, inner));
    let (literal, tail) = inner.split_at_checked(literal_end(inner)?)?;
    let ends = match tail {
        "$" => true,
        "" | ".*" | ".*$" => false,
        _ => return None,
    };
    let anchor = match (starts, ends) {
        (true, true) => Anchor::Whole,
        (true, false) => Anchor::Start,
        (false, true) => Anchor::End,
        (false, false) => Anchor::Anywhere,
    };
    if literal.is_empty() {
        return (anchor != Anchor::Whole).then_some(Simple::Always);
    }
    if literal.contains('\\') {
        return Some(Simple::Escaped(anchor, unescaped(literal)));
    }
    let start = text.len() - inner.len();
    Some(Simple::Verbatim(anchor, start, start + literal.len()))
}

/// Where the literal at the begin of a text ends; None when it ends in an escape that is no literal.
fn literal_end(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next().filter(|(_, escaped)| escaped.is_ascii() && !escaped.is_ascii_alphanumeric())?;
            }
            b'.' | b'$' | b'^' | b'(' | b')' | b'[' | b'*' | b'+' | b'?' | b'{' | b'|' => return Some(at),
            _ => {}
        }
    }
    Some(text.len())
}

fn unescaped(literal: &str) -> Box<str> {
    let mut text = String::with_capacity(literal.len());
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_told_from_their_text() {
        let verbatim = |anchor, start, end| Some(Simple::Verbatim(anchor, start, end));
        assert_eq!(simple("^prod-db@"), verbatim(Anchor::Start, 1, 9));
        assert_eq!(simple("^prod-db@.*"), verbatim(Anchor::Start, 1, 9));
        assert_eq!(simple("^prod-db@.*$"), verbatim(Anchor::Start, 1, 9));
        assert_eq!(simple("^.*@host$"), verbatim(Anchor::End, 3, 8));
        assert_eq!(simple("db}]"), verbatim(Anchor::Anywhere, 0, 4));
        assert_eq!(simple("^мост$"), verbatim(Anchor::Whole, 1, 9));
        assert_eq!(simple(r"^a\.b\\$"), Some(Simple::Escaped(Anchor::Whole, r"a.b\".into())));
        for always in ["", "^", "$", ".*", "^.*", ".*.*", "^.*$"] {
            assert_eq!(simple(always), Some(Simple::Always), "{always}");
        }
        for other in
            ["^$", "a.b", "a*", ".*?", "^*", ".*{2}", r"a\d", r"a\", "a$b", "a|b", "^^a", "(a)", r"a\é", "a.*b"]
        {
            assert_eq!(simple(other), None, "{other}");
        }
    }
}
