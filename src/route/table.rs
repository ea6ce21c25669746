//! The table: every entry, in the order in which they are tried.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use super::{Origin, Pattern, Route};
use crate::node::NodeName;

/// What a [`RouteTable`] can hold.
pub trait Entry {
    /// What names one entry of a table.
    type Key: ?Sized + Eq + Hash;

    /// Its key.
    fn key(&self) -> &Self::Key;
    /// Which nodes it is for.
    fn pattern(&self) -> &Pattern;
    /// Strict order, highest first.
    fn weight(&self) -> i64;
    /// Where it is written.
    fn origin(&self) -> &Origin;
}

/// Where an entry stands in the order of its table: heaviest first, equal weights in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    weight: Reverse<i64>,
    number: u64,
}

/// An entry in a table.
#[derive(Debug)]
pub struct Row<E> {
    rank: Rank,
    entry: E,
}

/// Every entry in force. A clone shares what it has with the table that it is of, and costs as if the table were small.
#[derive(Debug, Clone)]
pub struct RouteTable<E = Route> {
    rows: Vec<Arc<Row<E>>>,
    next: u64,
}

/// The key stands in the table already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is taken by the route at {first}")]
pub struct Taken {
    /// Where it was first written.
    pub first: Origin,
    /// Where it was written again.
    pub second: Origin,
}

/// No entry has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no route of the table has this pattern")]
pub struct Unknown;

/// No entry matches the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no route matches the node")]
pub struct NoRoute;

impl Rank {
    /// The place of an entry of this weight that came as the `number`th.
    pub fn new(weight: i64, number: u64) -> Self {
        Self { weight: Reverse(weight), number }
    }

    /// Strict order, highest first.
    pub fn weight(self) -> i64 {
        self.weight.0
    }

    /// Which it was to come, among all that the table has had.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl<E> Row<E> {
    /// Where it stands.
    pub fn rank(&self) -> Rank {
        self.rank
    }
}

impl<E> Deref for Row<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.entry
    }
}

impl<E: Entry> RouteTable<E> {
    /// A table without entries.
    pub fn new() -> Self {
        Self { rows: Vec::new(), next: 0 }
    }

    /// A table of these entries in their order; a key that is there twice is an error, and every such error is told.
    pub fn from_entries(entries: Vec<E>) -> Result<Self, Vec<Taken>> {
        let mut taken = Vec::new();
        let mut keys = HashMap::with_capacity(entries.len());
        for entry in &entries {
            if let Some(first) = keys.insert(entry.key(), entry.origin()) {
                taken.push(Taken { first: first.clone(), second: entry.origin().clone() });
                keys.insert(entry.key(), first);
            }
        }
        drop(keys);
        if !taken.is_empty() {
            return Err(taken);
        }
        let row = |(number, entry): (u64, E)| Arc::new(Row { rank: Rank::new(entry.weight(), number), entry });
        let mut rows: Vec<_> = (0..).zip(entries).map(row).collect();
        rows.sort_unstable_by_key(|row| row.rank);
        let next = rows.len() as u64;
        Ok(Self { rows, next })
    }

    /// Adds an entry, behind all that have its weight.
    pub fn add(&mut self, entry: E) -> Result<Arc<Row<E>>, Taken> {
        if let Some(first) = self.get(entry.key()) {
            return Err(Taken { first: first.origin().clone(), second: entry.origin().clone() });
        }
        let row = Arc::new(Row { rank: Rank::new(entry.weight(), self.next), entry });
        self.next += 1;
        let at = self.rows.partition_point(|other| other.rank < row.rank);
        self.rows.insert(at, Arc::clone(&row));
        Ok(row)
    }

    /// Takes the entry with this key out.
    pub fn remove(&mut self, key: &E::Key) -> Result<Arc<Row<E>>, Unknown> {
        let at = self.rows.iter().position(|row| row.key() == key).ok_or(Unknown)?;
        Ok(self.rows.remove(at))
    }

    /// The entry with this key.
    pub fn get(&self, key: &E::Key) -> Option<&Arc<Row<E>>> {
        self.rows.iter().find(|row| row.key() == key)
    }

    /// The entries that match, in the order in which they are tried; found one by one as they are asked for.
    pub fn routes_for<'a>(&'a self, node: &'a NodeName) -> Result<impl Iterator<Item = &'a Arc<Row<E>>>, NoRoute> {
        let first = self.find(node, None).ok_or(NoRoute)?;
        Ok(std::iter::successors(Some(first), |row| self.find(node, Some(row.rank))))
    }

    /// The first entry that matches and stands behind `after`: the search of [`routes_for`](Self::routes_for), for one
    /// who lets go of it in between.
    pub fn find(&self, node: &NodeName, after: Option<Rank>) -> Option<&Arc<Row<E>>> {
        self.iter_after(after).find(|row| row.pattern().matches(node))
    }

    /// Every entry, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row<E>>> {
        self.iter_after(None)
    }

    /// The entries that stand behind `after`, in the order of the table.
    pub fn iter_after(&self, after: Option<Rank>) -> impl Iterator<Item = &Arc<Row<E>>> {
        let at = after.map_or(0, |after| self.rows.partition_point(|row| row.rank <= after));
        self.rows.iter().skip(at)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<E: Entry> Default for RouteTable<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(
            new.add(route("b", 7)).unwrap_err().to_string(),
            "the pattern is taken by the route at routes.toml:1"
        );
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
}
