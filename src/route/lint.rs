//! What is allowed in a table, and is probably not meant.

use std::collections::HashMap;
use std::fs;
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use foldhash::fast::RandomState;

use super::without_effect::without_effect;
use super::{Anchor, Needle, Pattern, Route, RouteTable, Row};
use crate::node::NodeName;

/// Fewer routes are not worth a thread.
const SHARE: usize = 10_000;

/// So many patterns are asked, and few times as many, to find routes that are never the first: a second's work at most.
/// It is enough for any table of literals, and for one with a few thousand patterns that are more than strings; of a
/// larger one, only the routes that are tried first are looked at.
const ASKED: usize = 10_000_000;

/// So many routes that come before another are looked at.
const BEFORE: usize = 8;

/// Something that somebody should look at.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The route that it is about.
    pub route: &'a Route,
    /// What is odd.
    pub message: String,
    /// The route that makes it so, and a few words for it.
    pub other: Option<(&'a Route, &'static str)>,
    /// What to do.
    pub help: &'static str,
}

/// Looks at the routes that `is_new` is true for, in the order of the table, and, if `with_files`, at who may read their
/// keys. A million of them are shared out to all cores.
pub fn findings<'a>(
    table: &'a RouteTable,
    is_new: impl Fn(&Route) -> bool + Sync,
    with_files: bool,
) -> Vec<Finding<'a>> {
    let (twins, searches) = (Twins::of(table), searches(table));
    let look = |(number, route): (usize, &'a Arc<Row<Route>>)| {
        let never_first = || if number < searches { never_first(table, route) } else { None };
        oddities(route, with_files).chain(twins.look(route).or_else(never_first))
    };
    let routes: Vec<_> = table.iter().filter(|route| is_new(route)).enumerate().collect();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = routes.len().div_ceil(cores).max(SHARE);
    thread::scope(|scope| {
        let looking: Vec<_> = routes
            .chunks(share)
            .map(|routes| scope.spawn(move || routes.iter().copied().flat_map(look).collect::<Vec<_>>()))
            .collect();
        // A lint that panics costs its findings, and no more.
        looking.into_iter().flat_map(|looking| looking.join().unwrap_or_default()).collect()
    })
}

/// What is odd about a route by itself, whatever else its table has.
pub fn oddities(route: &Route, with_files: bool) -> impl Iterator<Item = Finding<'_>> {
    let key = if with_files { readable_key(route) } else { None };
    more_than_it_seems(route).into_iter().chain(key).chain(without_effect(route))
}

/// A pattern that looks like the name of one node and matches others, too.
fn more_than_it_seems(route: &Route) -> Option<Finding<'_>> {
    let seemingly = Seemingly::read(route.pattern.as_str())?;
    let other = NodeName::parse(&seemingly.other).ok()?;
    route.pattern.matches(&other).then(|| Finding {
        route,
        message: format!("the pattern matches more than it seems to, for example `{}`", seemingly.other),
        other: None,
        help: "write `^` where the name begins, `$` where it ends, and `\\.` for a dot",
    })
}

/// A pattern that is a name but for a few signs.
struct Seemingly {
    /// A name that it matches and that nobody thinks of.
    other: String,
}

impl Seemingly {
    /// Nothing when the pattern is more than a name with `^`, `$`, `.`, `.*` and escaped signs, or when nothing about it
    /// is odd.
    fn read(pattern: &str) -> Option<Self> {
        // What most patterns are, found out without a copy of their text: anchored, and without a bare dot.
        let is_closed = pattern.starts_with('^') && pattern.ends_with(['$', '@', '-', '*']);
        if is_closed && !has_bare_dot(pattern) {
            return None;
        }
        let (begins, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
        let (ends, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let (mut name, mut odd) = (String::new(), false);
        let mut signs = rest.chars().peekable();
        while let Some(sign) = signs.next() {
            match sign {
                '\\' => name.push(signs.next().filter(char::is_ascii_punctuation)?),
                '.' if signs.next_if_eq(&'*').is_some() => name.push('x'),
                '.' => {
                    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
                    let a_dot = inside(name.chars().next_back()) && inside(signs.peek().copied());
                    odd |= a_dot;
                    name.push('X');
                }
                '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
                sign => name.push(sign),
            }
        }
        let (user, host) = name.split_once('@')?;
        let open = |part: &str, edge: Option<char>| !part.is_empty() && edge.is_some_and(char::is_alphanumeric);
        // `^prod-db@` and `@partner\.example$` say on purpose how a name begins or ends.
        let before = !begins && !rest.starts_with(".*") && open(user, user.chars().next());
        let after = !ends && !rest.ends_with(".*") && open(host, host.chars().next_back());
        let other = format!("{}{name}{}", if before { "x" } else { "" }, if after { ".evil" } else { "" });
        (odd || before || after).then_some(Self { other })
    }
}

/// Whether there is a dot that is not escaped, or seems so.
fn has_bare_dot(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    bytes.first() == Some(&b'.') || bytes.windows(2).any(|pair| matches!(pair, [before, b'.'] if *before != b'\\'))
}

/// How many searches of a table a load can wait for: each may ask every pattern that is more than strings.
fn searches(table: &RouteTable) -> usize {
    ASKED / (1 + table.iter().filter(|route| !route.pattern.is_decided_by_needles()).count())
}

/// A route that is tried only after another that matches all of its nodes. Said only where it is certain.
fn never_first<'a>(table: &'a RouteTable, route: &'a Row<Route>) -> Option<Finding<'a>> {
    let other = route.pattern.requirements().iter().find_map(|set| {
        let shortest = NodeName::parse(&set.first()?.text).ok()?;
        let next = |after| table.find(&shortest, after);
        let matching = std::iter::successors(next(None), |other| next(Some(other.rank())));
        let mut before = matching.take_while(|other| other.rank() < route.rank()).take(BEFORE);
        before.find(|other| set.iter().all(|needle| covers(&other.pattern, needle)))
    })?;
    Some(Finding {
        route,
        message: "the route is never the first: another matches all of its nodes and comes before it".to_owned(),
        other: Some((other, "this one comes before it")),
        help: "if it is meant as a backup, write its hosts behind those of the other; else give it more weight",
    })
}

/// Whether a pattern matches every name that has the needle.
fn covers(pattern: &Pattern, needle: &Needle) -> bool {
    let covers = |own: &Needle| match (own.anchor, needle.anchor) {
        (Anchor::Anywhere, _) => needle.text.contains(&*own.text),
        (Anchor::Start, Anchor::Start | Anchor::Whole) => needle.text.starts_with(&*own.text),
        (Anchor::End, Anchor::End | Anchor::Whole) => needle.text.ends_with(&*own.text),
        (Anchor::Whole, Anchor::Whole) => own.text == needle.text,
        _ => false,
    };
    pattern.matches_every_name()
        || pattern.is_decided_by_needles() && pattern.requirements().first().is_some_and(|set| set.iter().any(covers))
}

/// Patterns that are the same but for their anchors.
struct Twins<'a> {
    first: HashMap<&'a str, &'a Row<Route>, RandomState>,
}

impl<'a> Twins<'a> {
    fn of(table: &'a RouteTable) -> Self {
        let mut first = HashMap::with_capacity_and_hasher(table.len(), RandomState::default());
        for route in table.iter() {
            first.entry(bare(route.pattern.as_str())).or_insert(&**route);
        }
        Self { first }
    }

    fn look(&self, route: &'a Row<Route>) -> Option<Finding<'a>> {
        let first = self.first.get(bare(route.pattern.as_str()))?;
        (first.rank() != route.rank()).then(|| Finding {
            route,
            message: "the pattern differs from another only in its anchors".to_owned(),
            other: Some((first, "this one")),
            help: "remove one of the two, or write their hosts as one array",
        })
    }
}

/// A pattern without what stands for its beginning and its end.
fn bare(pattern: &str) -> &str {
    let begun = pattern.strip_prefix('^').or_else(|| pattern.strip_prefix("\\A")).unwrap_or(pattern);
    let begun = begun.strip_prefix(".*").unwrap_or(begun);
    let ended = begun.strip_suffix("\\z").or_else(|| begun.strip_suffix('$').filter(|rest| !rest.ends_with('\\')));
    let ended = ended.unwrap_or(begun);
    ended.strip_suffix(".*").filter(|rest| !rest.ends_with('\\')).unwrap_or(ended)
}

/// A private key that everybody on this machine can read.
fn readable_key(route: &Route) -> Option<Finding<'_>> {
    let key = &route.tls.as_ref()?.identity.as_ref()?.key;
    let is_readable = |path: &Path| fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0);
    is_readable(key).then(|| Finding {
        route,
        message: format!("everybody on this machine can read the private key `{}`", key.display()),
        other: None,
        help: "chmod o= the file, and give it to portolan's user or group",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::route;
    use crate::route::{Identity, TlsPolicy};

    fn said(routes: &[(&str, i64)]) -> Vec<String> {
        let routes = routes.iter().map(|(pattern, weight)| route(pattern, *weight)).collect();
        let table = RouteTable::from_entries(routes).unwrap();
        let said = |finding: Finding<'_>| {
            let other = finding.other.map(|(other, _)| format!(" [{}]", other.pattern)).unwrap_or_default();
            format!("{}: {}{other}", finding.route.pattern, finding.message)
        };
        findings(&table, |_| true, false).into_iter().map(said).collect()
    }

    #[test]
    fn a_pattern_that_seems_to_be_a_name() {
        let more = |pattern: &str, other: &str| {
            vec![format!("{pattern}: the pattern matches more than it seems to, for example `{other}`")]
        };
        for (pattern, other) in [
            ("prod-db@example.com", "xprod-db@exampleXcom.evil"),
            (r"prod-db@example\.com", "xprod-db@example.com.evil"),
            (r"^prod-db@example.com$", "prod-db@exampleXcom"),
            (r"^prod-db@10\.0\.1\.50", "prod-db@10.0.1.50.evil"),
            (r"backend-.*@internal\.local$", "xbackend-x@internal.local"),
        ] {
            assert_eq!(said(&[(pattern, 1)]), more(pattern, other), "{pattern}");
        }
        for fine in [r"^prod-db@example\.com$", "^prod-db@.*", "^prod-", r"@partner\.example$", "db", "", "^a@b(c|d)"] {
            assert_eq!(said(&[(fine, 1)]), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn a_route_that_is_never_the_first() {
        let never = |pattern: &str, other: &str| {
            vec![format!(
                "{pattern}: the route is never the first: another matches all of its nodes and comes before it [{other}]"
            )]
        };
        for (pattern, other) in [
            ("^prod-db@", "^prod-"),
            ("^prod-db@x[0-9]+", "^prod-"),
            (r"^prod-db@x\.y$", "^prod-"),
            (r"^prod-db@x\.y$", "y$"),
            (r"^prod-db@x\.y$", "db"),
            ("-db@", "db"),
            ("^a-(b|c)-d$", ".*"),
            (r"@x\.y$", r"\.y$"),
        ] {
            assert_eq!(said(&[(pattern, 1), (other, 2)]), never(pattern, other));
            assert_eq!(said(&[(other, 1), (pattern, 1)]), never(pattern, other), "equal weights go by their order");
            assert_eq!(said(&[(pattern, 2), (other, 1)]), Vec::<String>::new());
        }
        for (pattern, other) in [("^prod-", "^prod-db@"), ("prod-", "^prod-"), ("^a-b", "^a-[b]$"), ("@x", "@x$|y")] {
            let said = said(&[(pattern, 1), (other, 2)]);
            assert!(!said.iter().any(|line| line.contains("never")), "{said:?}");
        }
    }

    #[test]
    fn a_load_does_not_wait_for_more_than_so_many_searches() {
        let with = |others: usize| {
            let others = (0..others).map(|number| route(&format!("^x[0-9]{{{}}}$", 2 + number), 1));
            searches(&RouteTable::from_entries([route("b", 2)].into_iter().chain(others).collect()).unwrap())
        };
        assert_eq!((with(0), with(99)), (ASKED, ASKED / 100));
        // Each of these matches the shortest name of the last, and none all of its names.
        let others = |others: usize| -> Vec<_> { (0..others).map(|n| format!("^a[0-9]{{0,{n}}}c*b?$")).collect() };
        let said = |others: Vec<String>| {
            let others = others.iter().map(|pattern| (pattern.as_str(), 3));
            said(&others.chain([("^a", 2), ("^ab", 1)]).collect::<Vec<_>>())
        };
        assert_eq!(said(others(1)).len(), 1);
        assert_eq!(said(others(100)).len(), 0, "too many come before");
    }

    #[test]
    fn a_key_that_everybody_can_read() {
        let key = tempfile::NamedTempFile::new().unwrap();
        let identity = Identity { cert: "cert.pem".into(), key: key.path().to_owned() };
        let tls = TlsPolicy { identity: Some(identity), ..TlsPolicy::default() };
        let table = RouteTable::from_entries(vec![Route { tls: Some(Arc::new(tls)), ..route("^db@", 1) }]).unwrap();
        let said = |mode: u32, with_files: bool| {
            fs::set_permissions(key.path(), fs::Permissions::from_mode(mode)).unwrap();
            findings(&table, |_| true, with_files).into_iter().map(|finding| finding.message).collect::<Vec<_>>()
        };
        let readable = format!("everybody on this machine can read the private key `{}`", key.path().display());
        assert_eq!((said(0o644, true), said(0o640, true)), (vec![readable], Vec::new()));
        assert_eq!(said(0o644, false), Vec::<String>::new(), "the text alone counts");
    }

    #[test]
    fn patterns_that_differ_only_in_their_anchors() {
        assert_eq!(bare(r"\A.*a\.b.*$"), r"a\.b");
        assert_eq!(bare(r"^a\$"), r"a\$");
        assert_eq!(bare(r"a\.*"), r"a\.*");
        assert_eq!(
            said(&[("^db", 1), ("db$", 2)]),
            ["^db: the pattern differs from another only in its anchors [db$]"]
        );
    }
}
