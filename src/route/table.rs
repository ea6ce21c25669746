//! The table: every route, in the order in which they are tried.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Origin, Route};
use crate::node::NodeName;

/// Every route in force, heaviest first, equal weights in the order in which they were written.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

/// The same pattern stands in the table already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is taken by the route at {first}")]
pub struct Taken {
    /// Where the pattern was first written.
    pub first: Origin,
    /// Where it was written again.
    pub second: Origin,
}

impl RouteTable {
    /// A table of these routes; a pattern that is written twice is an error, and every such error is told.
    pub fn new(mut routes: Vec<Arc<Route>>) -> Result<Self, Vec<Taken>> {
        let mut keys = HashMap::with_capacity(routes.len());
        let mut taken = Vec::new();
        for route in &routes {
            if let Some(first) = keys.insert(route.pattern.as_str(), &route.origin) {
                taken.push(Taken { first: first.clone(), second: route.origin.clone() });
                keys.insert(route.pattern.as_str(), first);
            }
        }
        if !taken.is_empty() {
            return Err(taken);
        }
        // The sort is stable: equal weights keep their order.
        routes.sort_by_key(|route| std::cmp::Reverse(route.weight));
        Ok(Self { routes })
    }

    /// The routes that match, in the order in which they are tried; found one by one as they are asked for.
    pub fn routes_for<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Arc<Route>> {
        self.routes.iter().filter(move |route| route.pattern.matches(node))
    }

    /// The first route that matches at or after a position in the order of the table, and its position: the same search
    /// as [`routes_for`](Self::routes_for), for one who must let go of it in between.
    pub fn find(&self, node: &NodeName, from: usize) -> Option<(usize, &Arc<Route>)> {
        self.routes.iter().enumerate().skip(from).find(|(_, route)| route.pattern.matches(node))
    }

    /// Every route, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::route;

    fn names(table: &RouteTable, node: &str) -> Vec<String> {
        table.routes_for(&NodeName::parse(node).unwrap()).map(|route| route.pattern.to_string()).collect()
    }

    #[test]
    fn the_heaviest_is_first_and_equal_weights_keep_their_order() {
        let routes = [("a", 100), ("ab", 300), ("b", 100), ("^ab", -5), ("x", 900), ("c|a", 100)];
        let table = RouteTable::new(routes.map(|(pattern, weight)| Arc::new(route(pattern, weight))).into()).unwrap();
        assert_eq!(names(&table, "ab"), ["ab", "a", "b", "c|a", "^ab"]);
        assert_eq!(names(&table, "none"), Vec::<String>::new());
    }

    #[test]
    fn find_goes_on_where_it_left_off() {
        let table = RouteTable::new(vec![Arc::new(route("a", 2)), Arc::new(route("b", 1)), Arc::new(route("", 0))]);
        let (table, node) = (table.unwrap(), NodeName::parse("b").unwrap());
        let (first, route) = table.find(&node, 0).unwrap();
        assert_eq!((first, route.pattern.as_str()), (1, "b"));
        let (second, route) = table.find(&node, first + 1).unwrap();
        assert_eq!((second, route.pattern.as_str()), (2, ""));
        assert!(table.find(&node, second + 1).is_none());
    }

    #[test]
    fn every_pattern_that_is_written_again_is_told_with_the_first() {
        let routes: Vec<_> = ["a", "b", "a", "a"]
            .iter()
            .zip(1..)
            .map(|(pattern, line)| {
                let mut route = route(pattern, 100);
                route.origin.line = line;
                Arc::new(route)
            })
            .collect();
        let taken = RouteTable::new(routes).unwrap_err();
        let lines: Vec<_> = taken.iter().map(|taken| (taken.first.line, taken.second.line)).collect();
        assert_eq!(lines, [(1, 3), (1, 4)]);
    }
}
