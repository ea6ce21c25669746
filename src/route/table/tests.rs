//! The table against a scan of it.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Entry, Origin, Pattern, Rank, Route, RouteTable, Unknown};
use crate::node::NodeName;
use crate::route::testing::route;

fn table(routes: &[(&str, i64)]) -> RouteTable {
    RouteTable::from_entries(routes.iter().map(|(pattern, weight)| route(pattern, *weight)).collect()).unwrap()
}

fn names(table: &RouteTable, node: &str) -> Vec<String> {
    let node = NodeName::parse(node).unwrap();
    table.routes_for(&node).into_iter().flatten().map(|route| route.pattern.to_string()).collect()
}

#[test]
fn the_heaviest_is_first_and_equal_weights_keep_their_order() {
    let mut table = table(&[("a", 100), ("ab", 300), ("b", 100), ("^ab", -5), ("x", 900), ("c|a", 100)]);
    assert_eq!(names(&table, "ab"), ["ab", "a", "b", "c|a", "^ab"]);
    assert_eq!(names(&table, "none"), Vec::<String>::new());
    table.add(route("ab$", 100)).unwrap();
    table.remove("b").unwrap();
    assert_eq!(names(&table, "ab"), ["ab", "a", "c|a", "ab$", "^ab"]);
}

/// An entry whose pattern may be there several times, as it will be for routes through gateways.
struct Through {
    key: (String, String),
    pattern: Pattern,
    origin: Origin,
}

impl Entry for Through {
    type Key = (String, String);

    fn key(&self) -> &Self::Key {
        &self.key
    }

    fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    fn weight(&self) -> i64 {
        7
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

#[test]
fn a_key_may_be_more_than_the_pattern() {
    let through = |pattern: &str, gateway: &str| {
        let Route { pattern, origin, .. } = route(pattern, 0);
        Through { key: (pattern.to_string(), gateway.to_owned()), pattern, origin }
    };
    let mut table = RouteTable::from_entries(vec![through("^db@", "a"), through("^db@", "b")]).unwrap();
    assert!(table.add(through("^db@", "b")).is_err());
    table.add(through("^db@", "c")).unwrap();
    table.remove(&("^db@".to_owned(), "a".to_owned())).unwrap();
    let node = NodeName::parse("db@x").unwrap();
    let found: Vec<_> = table.routes_for(&node).unwrap().map(|row| row.key.1.as_str()).collect();
    assert_eq!(found, ["b", "c"]);
}

#[test]
fn find_goes_on_where_it_left_off() {
    let (table, node) = (table(&[("a", 2), ("b", 1), ("", 0)]), NodeName::parse("b").unwrap());
    let first = table.find(&node, None).unwrap();
    let second = table.find(&node, Some(first.rank())).unwrap();
    assert_eq!((first.pattern.as_str(), second.pattern.as_str()), ("b", ""));
    assert!(table.find(&node, Some(second.rank())).is_none());
}

#[test]
fn a_clone_goes_its_own_way() {
    let old = table(&[("a", 1)]);
    let mut new = old.clone();
    new.add(route("b", 1)).unwrap();
    new.remove("a").unwrap();
    assert_eq!((old.len(), names(&old, "ab")), (1, vec!["a".to_owned()]));
    assert_eq!(names(&new, "ab"), ["b"]);
    assert_eq!(new.remove("a").unwrap_err(), Unknown);
    assert_eq!(new.add(route("b", 7)).unwrap_err().to_string(), "the pattern is taken by the route at routes.toml:1");
}

#[test]
fn every_key_that_is_there_again_is_told_with_the_first() {
    let numbered = |(pattern, line): (&&str, u32)| {
        let mut route = route(pattern, 100);
        route.origin = Origin::File { file: std::path::Path::new("r").into(), line };
        route
    };
    let routes = ["a", "b", "a", "a"].iter().zip(1..).map(numbered).collect();
    let taken = RouteTable::from_entries(routes).unwrap_err();
    let lines: Vec<_> = taken.iter().map(|taken| format!("{} {}", taken.first, taken.second)).collect();
    assert_eq!(lines, ["r:1 r:3", "r:1 r:4"]);
}

/// What a table must do, by the shortest means.
#[derive(Clone, Default)]
struct Scan {
    rows: Vec<(Rank, Route)>,
    next: u64,
}

impl Scan {
    fn add(&mut self, route: Route) -> bool {
        if self.rows.iter().any(|(_, other)| other.key() == route.key()) {
            return false;
        }
        self.rows.push((Rank::new(route.weight, self.next), route));
        self.rows.sort_by_key(|(rank, _)| *rank);
        self.next += 1;
        true
    }

    fn remove(&mut self, key: &str) -> bool {
        let before = self.rows.len();
        self.rows.retain(|(_, route)| route.key() != key);
        self.rows.len() < before
    }

    fn matching(&self, node: &NodeName) -> Vec<(Rank, &str)> {
        let matching = self.rows.iter().filter(|(_, route)| route.pattern.matches(node));
        matching.map(|(rank, route)| (*rank, route.key())).collect()
    }
}

/// A table and the scan that it must agree with.
#[derive(Clone, Default)]
struct Pair {
    table: RouteTable,
    scan: Scan,
}

impl Pair {
    fn check(&self, node: &NodeName) {
        let want = self.scan.matching(node);
        let rows: Vec<_> = self.table.routes_for(node).into_iter().flatten().collect();
        assert_eq!(rows.iter().map(|row| (row.rank(), row.key())).collect::<Vec<_>>(), want, "{node}");
        let ranks = self.scan.rows.iter().map(|(rank, _)| Some(*rank));
        for after in ranks.chain([None]) {
            let found = self.table.find(node, after).map(|row| row.rank());
            assert_eq!(found, want.iter().map(|(rank, _)| *rank).find(|rank| Some(*rank) > after), "{node} {after:?}");
        }
    }

    fn check_all(&self, nodes: &[NodeName]) {
        nodes.iter().for_each(|node| self.check(node));
        let keys: Vec<_> = self.scan.rows.iter().map(|(_, route)| route.key()).collect();
        assert_eq!(self.table.iter().map(|row| row.key()).collect::<Vec<_>>(), keys);
        assert_eq!(self.table.len(), keys.len());
        for (at, (rank, route)) in self.scan.rows.iter().enumerate() {
            assert_eq!(self.table.get(route.key()).map(|row| row.rank()), Some(*rank));
            assert_eq!(self.table.iter_after(Some(*rank)).count(), keys.len() - at - 1);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(Index, i64),
    Remove(Index),
    /// Goes on with a clone.
    Clone,
}

/// Patterns of few letters, so that needles are shared, overlap and nest.
fn pattern() -> impl Strategy<Value = String> {
    let text = prop_oneof![6 => "[ab]{1,3}", 2 => "[abя@]{1,9}", 1 => "a{60,70}", 1 => "(ab){125,129}"];
    let piece = prop_oneof![
        6 => text.clone(),
        2 => Just(".*".to_owned()),
        1 => Just("[ab]".to_owned()),
        1 => Just("b?".to_owned()),
        1 => (text.clone(), text).prop_map(|(one, other)| format!("({one}|{other})")),
    ];
    let middle = prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    (prop::bool::ANY, middle, prop::bool::ANY)
        .prop_map(|(start, middle, end)| [if start { "^" } else { "" }, &middle, if end { "$" } else { "" }].concat())
}

fn node() -> impl Strategy<Value = NodeName> {
    let text = prop_oneof![6 => "[ab]{1,6}", 4 => "[abя@]{1,12}", 1 => "b?a{60,70}b?", 1 => "(ab){125,127}a?"];
    text.prop_map(|text| NodeName::parse(&text).unwrap())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<Index>(), -1..2i64).prop_map(|(pattern, weight)| Step::Add(pattern, weight)),
        3 => any::<Index>().prop_map(Step::Remove),
        1 => Just(Step::Clone),
    ]
}

/// How many random tables a test tries; proptest's own variable raises it:
/// `PROPTEST_CASES=1000000 cargo test --release --lib route::table`.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(400), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_index_finds_what_a_scan_finds(
        patterns in prop::collection::vec(pattern(), 1..20),
        bulk in prop::collection::vec(-1..2i64, 0..20),
        steps in prop::collection::vec(step(), 0..40),
        nodes in prop::collection::vec(node(), 1..6),
    ) {
        let routes: Vec<_> = patterns.iter().map(|pattern| route(pattern, 0)).collect();
        let weighted = |pattern: &Index, weight| Route { weight, ..pattern.get(&routes).clone() };
        let mut pair = Pair::default();
        let in_bulk = routes.iter().zip(&bulk).map(|(route, weight)| Route { weight: *weight, ..route.clone() });
        let mut loaded: Vec<Route> = in_bulk.collect();
        loaded.retain(|route| pair.scan.add(route.clone()));
        pair.table = RouteTable::from_entries(loaded).unwrap();
        pair.check_all(&nodes);
        let mut kept = Vec::new();
        for step in &steps {
            match step {
                Step::Add(pattern, weight) => {
                    let route = weighted(pattern, *weight);
                    prop_assert_eq!(pair.table.add(route.clone()).is_ok(), pair.scan.add(route));
                }
                Step::Remove(pattern) => {
                    let key = pattern.get(&patterns);
                    prop_assert_eq!(pair.table.remove(key).is_ok(), pair.scan.remove(key));
                }
                Step::Clone => kept.push(pair.clone()),
            }
            pair.check(&nodes[0]);
        }
        kept.push(pair);
        kept.iter().for_each(|pair| pair.check_all(&nodes));
    }
}
