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
