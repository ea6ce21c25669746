//! The rows that match a name, found one by one in the order of the table.

use std::cmp::Reverse;
use std::iter::Peekable;
use std::ptr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::index::{Hit, Index};
use super::runs::{Rows, RowsAfter, Runs};
use super::{Entry, Rank, Row};
use crate::node::NodeName;

/// What the index has told of one name, merged by rank; a pattern is asked only when it is its row's turn.
#[derive(Debug)]
pub(super) struct Search<'t, 'n, E> {
    node: &'n NodeName,
    /// Rows that a needle finds alone, the last first.
    alone: SmallVec<[&'t Arc<Row<E>>; 8]>,
    lists: SmallVec<[Peekable<RowsAfter<'t, E>>; 2]>,
}

impl<'t, 'n, E: Entry> Search<'t, 'n, E> {
    /// A search that begins behind `after`.
    pub(super) fn new(index: &'t Index, rows: &'t Rows<E>, node: &'n NodeName, after: Option<Rank>) -> Self {
        // Without `after`, a row is not read before its turn: that is a cache miss in a large table.
        let is_behind = |row: &Row<E>| after.is_none_or(|after| after < row.rank);
        let mut alone = SmallVec::<[_; 8]>::new();
        let mut lists = SmallVec::<[&Runs; 2]>::new();
        index.look_up(node, |hit| match hit {
            Hit::One(id) => alone.extend(rows.get(id).filter(|row| is_behind(row))),
            // A short needle may be in a name many times.
            Hit::Many(list) if lists.iter().any(|other| ptr::eq(*other, list)) => {}
            Hit::Many(list) => lists.push(list),
        });
        alone.sort_unstable_by_key(|row| Reverse(row.rank));
        alone.dedup_by_key(|row| row.rank);
        Self { node, alone, lists: lists.iter().map(|list| list.rows_after(rows, after).peekable()).collect() }
    }

    /// The next row of any list, whether it matches or not.
    fn next_row(&mut self) -> Option<&'t Arc<Row<E>>> {
        if self.lists.is_empty() {
            return self.alone.pop();
        }
        let alone = self.alone.last().copied();
        let heads = self.lists.iter_mut().filter_map(|list| list.peek().copied());
        let next = alone.into_iter().chain(heads).min_by_key(|row| row.rank)?;
        if alone.is_some_and(|row| row.rank == next.rank) {
            self.alone.pop();
        }
        for list in &mut self.lists {
            list.next_if(|row| row.rank == next.rank);
        }
        Some(next)
    }
}

impl<'t, E: Entry> Iterator for Search<'t, '_, E> {
    type Item = &'t Arc<Row<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = self.next_row()?;
            if row.pattern().matches(self.node) {
                return Some(row);
            }
        }
    }
}
