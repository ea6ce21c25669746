//! The name of a node, checked once where it comes in.

use std::fmt;
use std::sync::Arc;

/// The name of a node as it was asked for: 1 to 255 bytes of UTF-8 without control characters, compared as written.
///
/// An `@` is usual, not required. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName(Arc<str>);

/// Why a text is not a node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNodeName {
    /// No byte at all.
    #[error("the node name is empty")]
    Empty,
    /// More than [`NodeName::MAX`] bytes.
    #[error("the node name has {0} bytes, at most {max} are allowed", max = NodeName::MAX)]
    TooLong(usize),
    /// Bytes that are not UTF-8.
    #[error("the node name is not UTF-8")]
    NotUtf8,
    /// A control character, which could forge a line in a log.
    #[error("the node name has the control character U+{:04X}", u32::from(*.0))]
    Control(char),
}

impl NodeName {
    /// The longest name, in bytes: what a SOCKS5 domain name can hold (RFC 1928, section 5).
    pub const MAX: usize = 255;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, BadNodeName> {
        if text.is_empty() {
            return Err(BadNodeName::Empty);
        }
        if text.len() > Self::MAX {
            return Err(BadNodeName::TooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(control) => Err(BadNodeName::Control(control)),
            None => Ok(Self(text.into())),
        }
    }

    /// Checks a name that came in as bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadNodeName> {
        if bytes.len() > Self::MAX {
            return Err(BadNodeName::TooLong(bytes.len()));
        }
        std::str::from_utf8(bytes).map_or(Err(BadNodeName::NotUtf8), Self::parse)
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_written() {
        assert_eq!(NodeName::parse("a@b").unwrap(), NodeName::parse("a@b").unwrap());
        assert_ne!(NodeName::parse("a@b").unwrap(), NodeName::parse("A@b").unwrap());
        assert_eq!(NodeName::parse("no-at-sign").unwrap().as_str(), "no-at-sign");
        assert_eq!(NodeName::parse("мост@дом").unwrap().to_string(), "мост@дом");
    }

    #[test]
    fn bounds_are_bytes() {
        assert!(NodeName::parse(&"x".repeat(255)).is_ok());
        assert_eq!(NodeName::parse(&"x".repeat(256)), Err(BadNodeName::TooLong(256)));
        assert_eq!(NodeName::parse(&"я".repeat(128)), Err(BadNodeName::TooLong(256)));
        assert_eq!(NodeName::parse(""), Err(BadNodeName::Empty));
    }

    #[test]
    fn what_could_forge_a_log_line_is_refused() {
        assert_eq!(NodeName::parse("a\nb").unwrap_err().to_string(), "the node name has the control character U+000A");
        assert_eq!(NodeName::parse("a\u{85}b"), Err(BadNodeName::Control('\u{85}')));
        assert_eq!(NodeName::from_bytes(b"\xff"), Err(BadNodeName::NotUtf8));
    }
}
