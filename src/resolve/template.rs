//! Texts with places for the parts of a node's name, which make a name of the DNS.

use std::fmt;

use super::{NoAnswer, parts};
use crate::node::NodeName;
use crate::route::Host;

/// A text such as `_ergo._tcp.{name}.{host}`, in which `{node}` is the whole name of a node, `{name}` what stands before
/// its last `@`, and `{host}` what stands behind that.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Node,
    Name,
    Host,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// A `{` without its `}`, or a `}` without its `{`.
    #[error("a brace has no counterpart")]
    Unpaired,
    /// A place that no part of a node's name belongs to.
    #[error("there is no {{{0}}}: a name has {{node}}, {{name}} and {{host}}")]
    NoSuchPart(String),
    /// No node's name could make a name of the DNS of it, and why.
    #[error("it never is a name of the DNS: {0}")]
    NeverAName(BadDomain),
}

/// Why a text is no name of the DNS that is asked for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDomain {
    /// Of no byte, or with two dots side by side, or one at its begin.
    #[error("a part between its dots is empty")]
    EmptyLabel,
    /// More than 63 bytes between two dots (RFC 1035, section 2.3.4).
    #[error("a part between its dots is longer than 63 bytes")]
    LongLabel,
    /// More than 253 bytes as text, which are 255 on the wire.
    #[error("it is longer than 253 bytes")]
    TooLong,
    /// Something else than what hosts and services are named with.
    #[error("{0:?} is neither an ASCII letter nor a digit, a hyphen, an underscore or a dot")]
    Character(char),
}

impl Template {
    /// Checks a text.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (part, behind) = behind.split_once('}').ok_or(BadTemplate::Unpaired)?;
            pieces.push(plain(before)?);
            pieces.push(match part {
                "node" => Piece::Node,
                "name" => Piece::Name,
                "host" => Piece::Host,
                _ => return Err(BadTemplate::NoSuchPart(part.to_owned())),
            });
            rest = behind;
        }
        pieces.push(plain(rest)?);
        let template = Self { text: text.into(), pieces: pieces.into() };
        checked(&template.filled("x", Some(("x", "x"))).unwrap_or_default()).map_err(BadTemplate::NeverAName)?;
        Ok(template)
    }

    /// The host that it names for a node, without a dot at its end. An address stays one: a node's name often bears it.
    pub fn fill(&self, node: &NodeName) -> Result<Host, NoAnswer> {
        let Some(text) = self.filled(node.as_str(), parts(node)) else {
            let why = format!("`{self}` takes what stands before and behind its `@`");
            return Err(NoAnswer::NotAskable(why));
        };
        if let Ok(ip) = text.parse() {
            return Ok(Host::Ip(ip));
        }
        match checked(&text) {
            Ok(name) => Ok(Host::Name(name.into())),
            Err(why) => Err(NoAnswer::NotAskable(format!("`{self}` makes no name of the DNS of it: {why}"))),
        }
    }

    /// `None` where it takes a part that the name has not.
    fn filled(&self, node: &str, parts: Option<(&str, &str)>) -> Option<String> {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            Piece::Node => Some(node),
            Piece::Name => parts.map(|(name, _)| name),
            Piece::Host => parts.map(|(_, host)| host),
        });
        pieces.collect()
    }
}

fn plain(text: &str) -> Result<Piece, BadTemplate> {
    if text.contains('}') { Err(BadTemplate::Unpaired) } else { Ok(Piece::Text(text.into())) }
}

/// The name without the dot at its end. What may stand in it is less than the DNS itself allows: the rest comes from
/// peers, and has no place in the name of a host.
fn checked(text: &str) -> Result<&str, BadDomain> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Some(odd) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
        return Err(BadDomain::Character(odd));
    }
    if name.len() > 253 {
        return Err(BadDomain::TooLong);
    }
    for label in name.split('.') {
        match label.len() {
            0 => return Err(BadDomain::EmptyLabel),
            1..=63 => {}
            _ => return Err(BadDomain::LongLabel),
        }
    }
    Ok(name)
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(template: &str, node: &str) -> Result<String, String> {
        let filled = Template::parse(template).unwrap().fill(&NodeName::parse(node).unwrap());
        filled.map(|host| host.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_of_the_name_take_their_places() {
        assert_eq!(fill("_ergo._tcp.{name}.{host}", "db@prod.example").unwrap(), "_ergo._tcp.db.prod.example");
        assert_eq!(fill("{host}", "a@b@c.example").unwrap(), "c.example");
        assert_eq!(fill("{node}.fleet.test.", "db").unwrap(), "db.fleet.test");
        assert_eq!(fill("db.example", "anything").unwrap(), "db.example");
    }

    #[test]
    fn an_address_stays_an_address() {
        let host = |node| Template::parse("{host}").unwrap().fill(&NodeName::parse(node).unwrap()).unwrap();
        assert_eq!(host("db@10.0.1.50"), Host::Ip([10, 0, 1, 50].into()));
        assert_eq!(host("db@fd00::1"), Host::Ip("fd00::1".parse().unwrap()));
    }

    #[test]
    fn what_makes_no_name_of_the_dns_is_not_asked() {
        let no = |template, node| fill(template, node).unwrap_err();
        let cannot = "cannot be asked for this name: ";
        let no_host = format!("{cannot}`{{host}}` takes what stands before and behind its `@`");
        assert_eq!(no("{host}", "db"), no_host);
        assert_eq!(no("{host}", "db@"), no_host);
        assert_eq!(no("{name}.x", "@host"), no_host.replace("{host}", "{name}.x"));
        assert_eq!(
            no("{node}.x", "db@host"),
            format!(
                "{cannot}`{{node}}.x` makes no name of the DNS of it: '@' is neither an ASCII letter nor a digit, a hyphen, \
                 an underscore or a dot"
            )
        );
        assert!(no("{host}", "db@a..b").ends_with("a part between its dots is empty"));
        assert!(no("{host}", "db@.").ends_with("a part between its dots is empty"));
        let (label, name) = (format!("{}@h", "l".repeat(64)), format!("a@{}c", "b.".repeat(126)));
        assert!(no("{name}.x", &label).ends_with("is longer than 63 bytes"));
        assert!(no("{host}.x", &name).ends_with("it is longer than 253 bytes"));
        assert!(no("{host}", "db@дом").contains("'д' is neither"));
        assert!(no("{host}", r"db@a\.b").contains(r"'\\' is neither"));
    }

    #[test]
    fn a_text_that_is_no_template_is_refused() {
        let no = |text| Template::parse(text).unwrap_err().to_string();
        assert_eq!(no("{nod}.x"), "there is no {nod}: a name has {node}, {name} and {host}");
        assert_eq!(no("{name"), "a brace has no counterpart");
        assert_eq!(no("name}.x"), "a brace has no counterpart");
        assert_eq!(no("{name}}.x"), "a brace has no counterpart");
        assert_eq!(no(""), "it never is a name of the DNS: a part between its dots is empty");
        assert_eq!(no("{name}..x"), "it never is a name of the DNS: a part between its dots is empty");
        assert!(no("{name}@{host}").starts_with("it never is a name of the DNS: '@' is neither"));
    }

    proptest! {
        #[test]
        fn what_is_filled_is_an_address_or_a_name_of_the_dns(node in "\\PC{1,40}(@[a-z0-9.:_-]{0,260})?") {
            let Ok(node) = NodeName::parse(&node) else { return Ok(()) };
            for template in ["{node}", "{host}", "_x._tcp.{name}.{host}", "{name}.fleet.test."] {
                if let Ok(Host::Name(name)) = Template::parse(template).unwrap().fill(&node) {
                    prop_assert!(name.len() <= 253 && name.is_ascii());
                    prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())));
                }
            }
        }
    }
}
