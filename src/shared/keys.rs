//! Names of keys under the prefix, and the values that are not routes.

use std::fmt;
use std::ops::BitXorAssign;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::admin::view::RouteSpec;

/// The format of [`Head`] and [`Written`] that is written, and the only one that is read.
pub(super) const FORMAT: u64 = 1;

/// The keys of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: Box<str>,
}

/// What a key under the prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Which set is in force.
    Head,
    /// A route of a set.
    Set(&'a str, &'a str),
    /// A set is being written.
    Stage(&'a str),
    /// A route that was written by hand: the key without the prefix.
    Hand(&'a str),
    /// None of ours.
    Other,
}

/// What names a set: letters, digits and `-`.
pub type SetName = Box<str>;

/// What names a route in each set: the first half of the SHA-256 of its pattern, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(Box<str>);

/// What stands under `.head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Always 1.
    pub format: u64,
    /// The set that is in force.
    pub set: SetName,
    /// How many routes it has.
    pub routes: usize,
    /// Of these routes.
    pub digest: Digest,
    /// When it was pushed: RFC 3339, UTC.
    pub at: String,
    /// By whom: `user@host`.
    pub by: String,
    /// What was in force before, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// What was in force before a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// The set: another, which is still there, or the same, and `.undo` says what was different.
    pub set: SetName,
    /// How many routes it had.
    pub routes: usize,
    /// Of these routes.
    pub digest: Digest,
}

/// What stands under a key of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Where the route stands among those of its weight: the smallest is the first. No two of a set have the same.
    pub order: u64,
    /// The route.
    pub route: RouteSpec,
}

/// Of a set of routes in any order: the exclusive or of the first half of the SHA-256 of each with its ID. One route
/// more or less changes it without a look at the others.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Keys {
    /// The keys under a prefix, such as `portolan/routes/`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What each of them begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `.head`
    pub fn head(&self) -> String {
        format!("{}.head", self.prefix)
    }

    /// `.undo`
    pub fn undo(&self) -> String {
        format!("{}.undo", self.prefix)
    }

    /// `.stage/SET`
    pub fn stage(&self, set: &str) -> String {
        format!("{}.stage/{set}", self.prefix)
    }

    /// What each key of the set begins with.
    pub fn set(&self, set: &str) -> String {
        format!("{}.set/{set}/", self.prefix)
    }

    /// `.set/SET/ID`
    pub fn route(&self, set: &str, id: &Id) -> String {
        format!("{}{id}", self.set(set))
    }

    /// What the keys of all sets begin with.
    pub fn sets(&self) -> String {
        format!("{}.set/", self.prefix)
    }

    /// The first key that may be one of the routes written by hand, the end of those before ours, the first behind ours
    /// (`/` follows `.`), and the end.
    pub(super) fn by_hand(&self) -> [(Vec<u8>, Vec<u8>); 2] {
        let key = |end: &str| format!("{}{end}", self.prefix).into_bytes();
        [(key(""), key(".")), (key("/"), range_end(self.prefix.as_bytes()))]
    }

    /// What a key is.
    pub fn part<'a>(&self, key: &'a [u8]) -> Part<'a> {
        let rest = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&*self.prefix));
        match rest {
            None | Some("") => Part::Other,
            Some(".head") => Part::Head,
            Some(rest) => match rest.strip_prefix('.') {
                None => Part::Hand(rest),
                Some(ours) => of_ours(ours).unwrap_or(Part::Other),
            },
        }
    }
}

fn of_ours(key: &str) -> Option<Part<'_>> {
    if let Some(set) = key.strip_prefix("stage/") {
        return Some(Part::Stage(set));
    }
    let (set, id) = key.strip_prefix("set/")?.split_once('/')?;
    Some(Part::Set(set, id))
}

/// The first key behind all that begin with this.
pub(super) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // To etcd: every key.
    vec![0]
}

impl Id {
    /// Of the route with this pattern.
    pub fn of(pattern: &str) -> Self {
        Self(format!("{:032x}", half(digest(&SHA256, pattern.as_bytes()).as_ref())).into())
    }

    /// As it stands in a key.
    pub(super) fn read(text: &str) -> Self {
        Self(text.into())
    }

    /// As it stands in a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Digest {
    /// Of one route.
    pub fn of(id: &str, value: &str) -> Self {
        let mut context = Context::new(&SHA256);
        // No ID has a newline.
        for part in [id, "\n", value] {
            context.update(part.as_bytes());
        }
        Self(half(context.finish().as_ref()))
    }
}

impl BitXorAssign for Digest {
    fn bitxor_assign(&mut self, other: Self) {
        self.0 ^= other.0;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The first half of a SHA-256.
fn half(hash: &[u8]) -> u128 {
    hash.first_chunk().map_or(0, |half| u128::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_thing() {
        let keys = Keys::new("p/");
        let id = Id::of("^db@");
        for (key, part) in [
            (keys.head(), Part::Head),
            (keys.route("g-1", &id), Part::Set("g-1", id.as_str())),
            (keys.stage("g-1"), Part::Stage("g-1")),
            (keys.undo(), Part::Other),
            ("p/db".to_owned(), Part::Hand("db")),
            ("p/eu/db.prod".to_owned(), Part::Hand("eu/db.prod")),
            ("p/.later/x".to_owned(), Part::Other),
            ("p/".to_owned(), Part::Other),
            ("q/db".to_owned(), Part::Other),
        ] {
            assert_eq!(keys.part(key.as_bytes()), part, "{key}");
        }
        assert_eq!(keys.part(b"p/\xff"), Part::Other);
    }

    #[test]
    fn what_is_read_by_hand_is_all_that_is_not_ours() {
        let [before, behind] = Keys::new("p/").by_hand();
        let is_in = |key: &str| {
            [&before, &behind]
                .iter()
                .any(|(from, to)| key.as_bytes() >= from.as_slice() && key.as_bytes() < to.as_slice())
        };
        assert!(["p/a", "p/-", "p//x", "p/~", "p/0"].into_iter().all(is_in));
        assert!(!["p/.head", "p/.set/x/y", "p/.~", "o", "p0", "q"].into_iter().any(is_in));
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff"), [0]);
    }

    #[test]
    fn an_id_is_what_it_was() {
        // printf '^db@' | sha256sum
        assert_eq!(Id::of("").as_str(), "e3b0c44298fc1c149afbf4c8996fb924");
        let mut digest = Digest::of("a", "x");
        digest ^= Digest::of("b", "y");
        digest ^= Digest::of("a", "x");
        assert_eq!(digest, Digest::of("b", "y"));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }
}
