//! A route's pattern: a regular expression, searched anywhere in the node name.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::node::NodeName;

/// A compiled pattern; its text is the key of the table.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
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
