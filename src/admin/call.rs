//! What a request of the API asks for: its method and target, checked.

use super::problem::Error;
use super::query::{Query, text};
use crate::node::NodeName;
use crate::route::Rank;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// To see something.
    Read(Read),
    /// `POST /v1/routes`; the route is the body.
    Add,
    /// `DELETE /v1/routes/{match}`
    Remove(String),
    /// `POST /v1/reload`
    Reload {
        /// Whether a warning counts as an error.
        strict: bool,
    },
    /// `POST /v1/relays/close`; the body says which.
    Close,
    /// `POST /v1/upstreams/{id}/reset`
    Reset(u64),
    /// `POST /v1/resolvers/{name}/flush`
    Flush {
        /// Whose answers are forgotten.
        resolver: String,
        /// Only what is known of this node.
        node: Option<NodeName>,
    },
}

/// What is to be seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// `GET /v1/routes`
    Routes {
        /// The routes of files that were removed at run time, in the place of those in force.
        removed: bool,
        /// Behind which one the page begins.
        after: Option<Rank>,
        /// How many at most.
        limit: usize,
    },
    /// `GET /v1/routes/{match}`
    Route(String),
    /// `GET /v1/lookup`
    Lookup(NodeName),
    /// `GET /v1/explain`
    Explain(NodeName),
    /// `GET /v1/table`
    Table,
    /// `GET /v1/forwards`
    Forwards,
    /// `GET /v1/relays`
    Relays {
        /// Only those that were dialed by the route with this pattern.
        pattern: Option<String>,
        /// Only those to this node.
        node: Option<String>,
        /// Behind which one the page begins.
        after: u64,
        /// How many at most.
        limit: usize,
    },
    /// `GET /v1/resolvers`
    Resolvers,
    /// `GET /v1/resolvers/{name}/answers`
    Answers {
        /// Whose.
        resolver: String,
        /// Behind which node the page begins.
        after: String,
        /// How many at most.
        limit: usize,
    },
    /// `GET /v1/upstreams`
    Upstreams {
        /// Behind which one the page begins.
        after: u64,
        /// How many at most.
        limit: usize,
    },
}

/// What a path names.
enum Resource {
    Routes,
    Route(String),
    Lookup,
    Explain,
    Table,
    Forwards,
    Relays,
    Close,
    Upstreams,
    Reset(u64),
    Resolvers,
    Answers(String),
    Flush(String),
    Reload,
}

impl Call {
    /// Reads a method, a path as it was sent, and a query without its question mark.
    pub(super) fn parse(method: &str, path: &str, query: &str) -> Result<Self, Error> {
        let resource = Resource::of(path)?;
        match (resource, method) {
            (Resource::Routes, "GET" | "HEAD") => routes(query).map(Self::Read),
            (Resource::Routes, "POST") => without_query(query, Self::Add),
            (Resource::Route(pattern), "GET" | "HEAD") => without_query(query, Self::Read(Read::Route(pattern))),
            (Resource::Route(pattern), "DELETE") => without_query(query, Self::Remove(pattern)),
            (Resource::Lookup, "GET" | "HEAD") => node(query).map(|node| Self::Read(Read::Lookup(node))),
            (Resource::Explain, "GET" | "HEAD") => node(query).map(|node| Self::Read(Read::Explain(node))),
            (Resource::Table, "GET" | "HEAD") => without_query(query, Self::Read(Read::Table)),
            (Resource::Forwards, "GET" | "HEAD") => without_query(query, Self::Read(Read::Forwards)),
            (Resource::Relays, "GET" | "HEAD") => relays(query).map(Self::Read),
            (Resource::Close, "POST") => without_query(query, Self::Close),
            (Resource::Upstreams, "GET" | "HEAD") => upstreams(query).map(Self::Read),
            (Resource::Reset(id), "POST") => without_query(query, Self::Reset(id)),
            (Resource::Resolvers, "GET" | "HEAD") => without_query(query, Self::Read(Read::Resolvers)),
            (Resource::Answers(resolver), "GET" | "HEAD") => answers(resolver, query).map(Self::Read),
            (Resource::Flush(resolver), "POST") => {
                let node = Query::parse(query, &["node"])?.get("node").map(node_name).transpose()?;
                Ok(Self::Flush { resolver, node })
            }
            (Resource::Reload, "POST") => {
                let query = Query::parse(query, &["strict"])?;
                Ok(Self::Reload { strict: query.flag("strict")? })
            }
            (resource, _) => Err(Error::MethodNotAllowed(resource.methods())),
        }
    }
}

impl Resource {
    fn of(path: &str) -> Result<Self, Error> {
        match path.strip_prefix("/v1/") {
            Some("routes") => Ok(Self::Routes),
            Some("lookup") => Ok(Self::Lookup),
            Some("explain") => Ok(Self::Explain),
            Some("table") => Ok(Self::Table),
            Some("forwards") => Ok(Self::Forwards),
            Some("relays") => Ok(Self::Relays),
            Some("relays/close") => Ok(Self::Close),
            Some("upstreams") => Ok(Self::Upstreams),
            Some("resolvers") => Ok(Self::Resolvers),
            Some("reload") => Ok(Self::Reload),
            Some(path) => match path.split_once('/') {
                // Nothing behind the slash is a pattern too: the one that matches every node.
                Some(("routes", pattern)) if !pattern.contains('/') => in_path(pattern).map(Self::Route),
                Some(("upstreams", path)) => match path.strip_suffix("/reset") {
                    Some(id) if !id.contains('/') => number(id).map(Self::Reset),
                    _ => Err(Error::NotFound),
                },
                Some(("resolvers", path)) => match path.split_once('/') {
                    Some((name, "answers")) => in_path(name).map(Self::Answers),
                    Some((name, "flush")) => in_path(name).map(Self::Flush),
                    _ => Err(Error::NotFound),
                },
                _ => Err(Error::NotFound),
            },
            None => Err(Error::NotFound),
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Routes => "GET, HEAD, POST",
            Self::Route(_) => "GET, HEAD, DELETE",
            Self::Lookup
            | Self::Explain
            | Self::Table
            | Self::Forwards
            | Self::Relays
            | Self::Upstreams
            | Self::Resolvers
            | Self::Answers(_) => "GET, HEAD",
            Self::Close | Self::Reset(_) | Self::Flush(_) | Self::Reload => "POST",
        }
    }
}

fn routes(query: &str) -> Result<Read, Error> {
    let query = Query::parse(query, &["removed", "after", "limit"])?;
    let after = query.get("after").map(cursor).transpose()?;
    Ok(Read::Routes { removed: query.flag("removed")?, after, limit: query.limit()? })
}

fn node(query: &str) -> Result<NodeName, Error> {
    let query = Query::parse(query, &["node"])?;
    let node = query.get("node").ok_or(Error::BadRequest("the query lacks the key node: which node?".to_owned()))?;
    node_name(node)
}

fn node_name(text: &str) -> Result<NodeName, Error> {
    NodeName::parse(text).map_err(|bad| Error::BadRequest(format!("`node` in the query: {bad}")))
}

fn relays(query: &str) -> Result<Read, Error> {
    let query = Query::parse(query, &["match", "node", "after", "limit"])?;
    let text = |key| query.get(key).map(str::to_owned);
    let (pattern, node) = (text("match"), text("node"));
    Ok(Read::Relays { pattern, node, after: after(&query)?, limit: query.limit()? })
}

fn upstreams(query: &str) -> Result<Read, Error> {
    let query = Query::parse(query, &["after", "limit"])?;
    Ok(Read::Upstreams { after: after(&query)?, limit: query.limit()? })
}

fn answers(resolver: String, query: &str) -> Result<Read, Error> {
    let query = Query::parse(query, &["after", "limit"])?;
    Ok(Read::Answers { resolver, after: query.get("after").unwrap_or_default().to_owned(), limit: query.limit()? })
}

/// A segment of a path.
fn in_path(segment: &str) -> Result<String, Error> {
    text(segment).map_err(|why| Error::BadRequest(format!("the path: {why}")))
}

/// Behind which number a page begins.
fn after(query: &Query) -> Result<u64, Error> {
    Ok(query.number("after", 0..=i64::MAX.cast_unsigned())?.unwrap_or(0))
}

/// A number in a path, in digits.
fn number(digits: &str) -> Result<u64, Error> {
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| Error::BadRequest("the path: an upstream is named by its number".to_owned()))
}

fn without_query(query: &str, call: Call) -> Result<Call, Error> {
    Query::parse(query, &[]).map(|_empty| call)
}

/// A place in the order of a table, as a text that says nothing to its reader: the bits of weight and number in
/// hexadecimal, so that every text of that form is a place.
pub(super) fn cursor_of(rank: Rank) -> String {
    format!("{:016x}{:016x}", rank.weight().cast_unsigned(), rank.number())
}

fn cursor(text: &str) -> Result<Rank, Error> {
    let half = |half: &str| u64::from_str_radix(half, 16).ok();
    let is_cursor = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let halves = text.split_at_checked(16).filter(|_| is_cursor);
    let rank = halves.and_then(|(weight, number)| Some(Rank::new(half(weight)?.cast_signed(), half(number)?)));
    rank.ok_or(Error::BadRequest("`after` in the query is not what `next` of a page said".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(method: &str, target: &str) -> Result<Call, Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Call::parse(method, path, query)
    }

    fn routes(removed: bool, after: Option<Rank>, limit: usize) -> Call {
        Call::Read(Read::Routes { removed, after, limit })
    }

    #[test]
    fn every_call_is_understood() {
        let call = |method, target| parse(method, target).unwrap();
        assert_eq!(call("GET", "/v1/routes"), routes(false, None, 100));
        assert_eq!(call("HEAD", "/v1/routes?removed=true&limit=1000"), routes(true, None, 1000));
        assert_eq!(call("POST", "/v1/routes"), Call::Add);
        assert_eq!(call("GET", "/v1/routes/%5Edb@%2F%D1%8F+"), Call::Read(Read::Route("^db@/я+".to_owned())));
        assert_eq!(call("DELETE", "/v1/routes/"), Call::Remove(String::new()));
        let node = NodeName::parse("db@x y+").unwrap();
        assert_eq!(call("GET", "/v1/lookup?node=db%40x+y%2B"), Call::Read(Read::Lookup(node)));
        assert_eq!(call("GET", "/v1/table"), Call::Read(Read::Table));
        assert_eq!(call("GET", "/v1/forwards"), Call::Read(Read::Forwards));
        let relays = |pattern: Option<&str>, node: Option<&str>, after, limit| {
            let [pattern, node] = [pattern, node].map(|text| text.map(str::to_owned));
            Call::Read(Read::Relays { pattern, node, after, limit })
        };
        assert_eq!(call("GET", "/v1/relays?after=7&limit=1"), relays(None, None, 7, 1));
        assert_eq!(call("GET", "/v1/relays?match=%5Edb@&node="), relays(Some("^db@"), Some(""), 0, 100));
        assert_eq!(call("POST", "/v1/relays/close"), Call::Close);
        assert_eq!(call("GET", "/v1/resolvers"), Call::Read(Read::Resolvers));
        let answers = |resolver: &str, after: &str, limit| {
            Call::Read(Read::Answers { resolver: resolver.to_owned(), after: after.to_owned(), limit })
        };
        assert_eq!(call("GET", "/v1/resolvers/fleet/answers"), answers("fleet", "", 100));
        assert_eq!(call("GET", "/v1/resolvers/a%2Fb/answers?after=db%40x&limit=7"), answers("a/b", "db@x", 7));
        let flush = |node: Option<&str>| Call::Flush {
            resolver: "fleet".to_owned(),
            node: node.map(|node| NodeName::parse(node).unwrap()),
        };
        assert_eq!(call("POST", "/v1/resolvers/fleet/flush"), flush(None));
        assert_eq!(call("POST", "/v1/resolvers/fleet/flush?node=db%40x"), flush(Some("db@x")));
        assert_eq!(call("GET", "/v1/upstreams?after=3"), Call::Read(Read::Upstreams { after: 3, limit: 100 }));
        assert_eq!(call("POST", "/v1/upstreams/17/reset"), Call::Reset(17));
        let node = NodeName::parse("a").unwrap();
        assert_eq!(call("GET", "/v1/explain?node=a"), Call::Read(Read::Explain(node)));
        assert_eq!(call("POST", "/v1/reload"), Call::Reload { strict: false });
        assert_eq!(call("POST", "/v1/reload?strict=true"), Call::Reload { strict: true });
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (target, why) in [
            ("/v1/routes?limits=1", "the key \"limits\" in the query is unknown; there are removed, after, limit"),
            ("/v1/table?x", "the key \"x\" in the query is unknown; there is none here"),
            ("/v1/routes?limit=0", "`limit` in the query is \"0\", not a whole number from 1 to 1000"),
            ("/v1/routes?limit=+1", "`limit` in the query is \" 1\", not a whole number from 1 to 1000"),
            ("/v1/routes?limit=1&limit=2", "the key \"limit\" stands twice in the query"),
            ("/v1/routes?removed", "`removed` in the query is \"\", not true or false"),
            ("/v1/routes?after=x", "`after` in the query is not what `next` of a page said"),
            ("/v1/lookup", "the query lacks the key node: which node?"),
            ("/v1/lookup?node=", "`node` in the query: the node name is empty"),
            ("/v1/lookup?node=%FF", "the query: \"%FF\" is not UTF-8"),
            ("/v1/lookup?node=%F", "the query: a % in \"%F\" does not begin two hexadecimal digits"),
            ("/v1/routes/%FF", "the path: \"%FF\" is not UTF-8"),
            ("/v1/explain", "the query lacks the key node: which node?"),
            ("/v1/upstreams/x/reset", "the path: an upstream is named by its number"),
            ("/v1/upstreams//reset", "the path: an upstream is named by its number"),
            ("/v1/upstreams/99999999999999999999/reset", "the path: an upstream is named by its number"),
        ] {
            assert_eq!(parse("GET", target), Err(Error::BadRequest(why.to_owned())), "{target}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_from_what_cannot_be_done_with_it() {
        for path in [
            "",
            "/",
            "*",
            "/v1",
            "/v1/",
            "/v1/Routes",
            "/v1/routes/a/b",
            "/v1/upstreams/1",
            "/v1/upstreams/1/2/reset",
            "/v1/resolvers/fleet",
            "/v1/resolvers/a/b/answers",
            "/v2/table",
            "/v1/table/",
        ] {
            assert_eq!(parse("GET", path), Err(Error::NotFound), "{path}");
        }
        for (method, path, allowed) in [
            ("PUT", "/v1/routes", "GET, HEAD, POST"),
            ("POST", "/v1/routes/x", "GET, HEAD, DELETE"),
            ("DELETE", "/v1/table", "GET, HEAD"),
            ("POST", "/v1/forwards", "GET, HEAD"),
            ("GET", "/v1/reload", "POST"),
            ("get", "/v1/relays", "GET, HEAD"),
            ("GET", "/v1/relays/close", "POST"),
            ("DELETE", "/v1/upstreams", "GET, HEAD"),
            ("GET", "/v1/upstreams/1/reset", "POST"),
            ("POST", "/v1/resolvers/fleet/answers", "GET, HEAD"),
            ("GET", "/v1/resolvers/fleet/flush", "POST"),
        ] {
            assert_eq!(parse(method, path), Err(Error::MethodNotAllowed(allowed)), "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_the_place_that_it_was_made_of(weight: i64, number: u64) {
            let rank = Rank::new(weight, number);
            prop_assert_eq!(cursor(&cursor_of(rank)), Ok(rank));
        }

        #[test]
        fn nothing_that_is_sent_panics(method in "GET|POST|DELETE", path in "(/v1/)?(routes/?)?[ -~]{0,20}", query in "\\PC*") {
            drop(Call::parse(&method, &path, &query));
        }
    }
}
