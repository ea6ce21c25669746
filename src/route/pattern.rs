//! A route's pattern: a regular expression, searched anywhere in the node name.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::node::NodeName;

/// A compiled pattern; its text is the key of the table.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
}

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

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

impl Pattern {
    /// A program larger than this many bytes is refused.
    const SIZE_LIMIT: usize = 10 << 20;

    /// Compiles a pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        match RegexBuilder::new(text).size_limit(Self::SIZE_LIMIT).build() {
            Ok(regex) => Ok(Self { regex }),
            Err(regex::Error::CompiledTooBig(limit)) => {
                Err(BadPattern(format!("the compiled pattern is larger than {limit} bytes")))
            }
            Err(error) => Err(BadPattern(last_line(&error.to_string()))),
        }
    }

    /// Whether the pattern is found anywhere in the name.
    pub fn matches(&self, node: &NodeName) -> bool {
        self.regex.is_match(node.as_str())
    }

    /// Every name that matches has at least one needle of each of these sets; a set is never empty. Without a set only a
    /// scan finds the pattern.
    pub fn requirements(&self) -> Vec<Vec<Needle>> {
        let Ok(hir) = regex_syntax::parse(self.as_str()) else { return Vec::new() };
        let literals = |kind| regex_syntax::hir::literal::Extractor::new().kind(kind).extract(&hir);
        let needles = |seq: regex_syntax::hir::literal::Seq| -> Option<Vec<Needle>> {
            let literals = seq.literals()?.iter().filter(|literal| !literal.is_empty());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok().map(String::into_boxed_str);
            let needles =
                literals.map(|literal| Some(Needle { anchor: Anchor::Anywhere, text: text(literal.as_bytes())? }));
            needles
                .collect::<Option<Vec<_>>>()
                .filter(|needles| !needles.is_empty() && needles.len() == seq.len().unwrap_or(0))
        };
        use regex_syntax::hir::literal::ExtractKind::{Prefix, Suffix};
        [Prefix, Suffix].into_iter().filter_map(|kind| needles(literals(kind))).collect()
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

/// `regex` draws the pattern with a caret over several lines; the last one says what is wrong, and the file's own
/// diagnostic draws the rest.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
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
mod tests {
    use super::*;

    fn matches(pattern: &str, node: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(&NodeName::parse(node).unwrap())
    }

    #[test]
    fn a_pattern_is_searched_anywhere() {
        assert!(matches("db", "prod-db@host"));
        assert!(matches("^prod-", "prod-db@host"));
        assert!(!matches("^db", "prod-db@host"));
        assert!(matches(r"@partner\.example$", "x@partner.example"));
        assert!(!matches(r"@partner\.example$", "x@partnerXexample"));
    }

    #[test]
    fn an_error_says_what_is_wrong_in_one_line() {
        assert_eq!(Pattern::parse("a(b").unwrap_err().to_string(), "unclosed group");
        assert_eq!(
            Pattern::parse(r"(\pL{500}){500}").unwrap_err().to_string(),
            "the compiled pattern is larger than 10485760 bytes"
        );
    }
}
