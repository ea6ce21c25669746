//! A list of entries in the order of the table, whose clones share all that an edit does not touch.

use std::sync::Arc;

use super::slab::{Id, Slab};
use super::{Rank, Row};

/// The rows that the ids of a table stand for.
pub(super) type Rows<E> = Slab<Arc<Row<E>>>;

/// Ids of rows, sorted by their rank, in runs that an edit copies one of.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    /// No run is empty.
    runs: Arc<Vec<Arc<Vec<Id>>>>,
    len: usize,
}

/// The longest run: 16 KB, and 250 of them hold a million. Tests have short ones, so that small tables split them.
const RUN: usize = if cfg!(test) { 4 } else { 4096 };

impl Runs {
    /// A list of ids that are in order.
    pub(super) fn from_sorted(ids: &[Id]) -> Self {
        Self { runs: Arc::new(ids.chunks(RUN).map(|run| Arc::new(run.to_vec())).collect()), len: ids.len() }
    }

    /// A list of ids in any order.
    pub(super) fn from_unsorted<E>(rows: &Rows<E>, mut ids: Vec<Id>) -> Self {
        ids.sort_by_cached_key(|id| rank(rows, *id));
        Self::from_sorted(&ids)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The only id, if there is one only.
    pub(super) fn only(&self) -> Option<Id> {
        if self.len == 1 { self.runs.first()?.first().copied() } else { None }
    }

    /// Whether it changed the list: the id may be there already.
    pub(super) fn insert<E>(&mut self, rows: &Rows<E>, id: Id) -> bool {
        let rank = rank(rows, id);
        let at = self.place(rows, |other| other < rank);
        let full = self.runs.get(at.run).is_some_and(|run| run.len() >= RUN);
        if self.get(at) == Some(id) {
            return false;
        }
        self.len += 1;
        let runs = Arc::make_mut(&mut self.runs);
        // Behind the end of a full list a new run begins, so that runs of a list that is made in order are full.
        if at.run >= runs.len() {
            runs.push(Arc::new(vec![id]));
            return true;
        }
        let Some(run) = runs.get_mut(at.run).map(Arc::make_mut) else { return false };
        run.insert(at.offset.min(run.len()), id);
        if full {
            let half = run.split_off(RUN / 2);
            runs.insert(at.run + 1, Arc::new(half));
        }
        true
    }

    /// Whether it changed the list.
    pub(super) fn remove<E>(&mut self, rows: &Rows<E>, id: Id) -> bool {
        let rank = rank(rows, id);
        let at = self.place(rows, |other| other < rank);
        if self.get(at) != Some(id) {
            return false;
        }
        self.len -= 1;
        let runs = Arc::make_mut(&mut self.runs);
        if let Some(run) = runs.get_mut(at.run).map(Arc::make_mut) {
            run.remove(at.offset);
            if run.is_empty() {
                runs.remove(at.run);
            }
        }
        true
    }

    /// The rows behind `after`, in order.
    pub(super) fn rows_after<'a, E>(&'a self, rows: &'a Rows<E>, after: Option<Rank>) -> RowsAfter<'a, E> {
        let next = after.map_or(Place::default(), |after| self.place(rows, |other| other <= Some(after)));
        RowsAfter { list: self, rows, next }
    }

    fn get(&self, at: Place) -> Option<Id> {
        self.runs.get(at.run)?.get(at.offset).copied()
    }

    /// The first place for whose row `before` does not hold; in the last run if there is room, rather than behind it.
    fn place<E>(&self, rows: &Rows<E>, before: impl Fn(Option<Rank>) -> bool) -> Place {
        let is_before = |id: &Id| before(rank(rows, *id));
        let run = self.runs.partition_point(|run| run.last().is_some_and(is_before));
        let last = self.runs.len().saturating_sub(1);
        match self.runs.get(run) {
            Some(ids) => Place { run, offset: ids.partition_point(is_before) },
            None => match self.runs.get(last) {
                Some(ids) if ids.len() < RUN => Place { run: last, offset: ids.len() },
                _ => Place { run, offset: 0 },
            },
        }
    }
}

/// All rows of a list have one.
fn rank<E>(rows: &Rows<E>, id: Id) -> Option<Rank> {
    rows.get(id).map(|row| row.rank)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    run: usize,
    offset: usize,
}

/// The rows of a list, from a place on.
#[derive(Debug)]
pub(super) struct RowsAfter<'a, E> {
    list: &'a Runs,
    rows: &'a Rows<E>,
    next: Place,
}

impl<'a, E> Iterator for RowsAfter<'a, E> {
    type Item = &'a Arc<Row<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = self.list.runs.get(self.next.run)?;
        match run.get(self.next.offset) {
            Some(id) => {
                self.next.offset += 1;
                self.rows.get(*id)
            }
            None => {
                self.next = Place { run: self.next.run + 1, offset: 0 };
                self.next()
            }
        }
    }
}
