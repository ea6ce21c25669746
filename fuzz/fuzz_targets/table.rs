//! A table in which edits and lookups follow one another as the bytes say: it finds what a scan of it finds.
#![no_main]

use std::path::Path;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use portolan::node::NodeName;
use portolan::route::{Origin, Pattern, Rank, Reach, Route, RouteTable};

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// Of a route that the table may have.
    Add(&'a str, i8),
    /// Of one of the routes, if there are so many.
    Remove(u8),
    /// Goes on with a clone, and sees at the end that the table before it has not changed.
    Clone,
    LookUp(&'a str),
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut table = RouteTable::new();
    let mut kept = Vec::new();
    let mut nodes = Vec::new();
    for step in steps {
        match step {
            Step::Add(pattern, weight) => drop(route(pattern, weight).map(|route| table.add(route))),
            Step::Remove(at) => {
                let key = table.iter().nth(at.into()).map(|row| row.pattern.as_str().to_owned());
                drop(key.map(|key| table.remove(&key).expect("it was there")));
            }
            Step::Clone => kept.push((table.clone(), ranks(&table))),
            Step::LookUp(node) => nodes.extend(NodeName::parse(node)),
        }
        nodes.iter().for_each(|node| check(&table, node));
    }
    for (table, before) in kept {
        assert_eq!(ranks(&table), before);
        nodes.iter().for_each(|node| check(&table, node));
    }
});

fn check(table: &RouteTable, node: &NodeName) {
    let scan = table.iter().filter(|row| row.pattern.matches(node)).map(|row| row.rank());
    let found = table.routes_for(node).into_iter().flatten().map(|row| row.rank());
    assert!(found.eq(scan), "{node} in {:?}", table.iter().map(|row| &row.pattern).collect::<Vec<_>>());
}

fn ranks(table: &RouteTable) -> Vec<Rank> {
    table.iter().map(|row| row.rank()).collect()
}

fn route(pattern: &str, weight: i8) -> Option<Route> {
    Some(Route {
        pattern: Pattern::parse(pattern).ok()?,
        weight: weight.into(),
        reach: Reach::Static(Box::default()),
        tls: None,
        settings: None,
        is_final: false,
        name: None,
        description: None,
        origin: Origin::File { file: Path::new("routes.toml").into(), line: 1 },
    })
}
