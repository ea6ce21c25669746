//! What edits mean for the table that the files make.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use super::record::{Edit, Record};
use crate::admin::view::RouteSpec;
use crate::journal::{Damage, Journal, JournalError};
use crate::route::{Origin, Route, RouteTable};

/// Routes that were added, and routes of files that were removed; each key at most once among either.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    added: HashMap<String, Numbered>,
    removed: HashMap<String, Numbered>,
    next: u64,
}

/// An edit, and which it was to be made: the clock may have been set back between two.
#[derive(Debug, Clone)]
struct Numbered {
    number: u64,
    edit: Edit,
}

/// The files' table with the layer over it.
#[derive(Debug)]
pub struct Applied {
    /// What is to be in force.
    pub table: RouteTable,
    /// The files' routes that are removed from it.
    pub removed: RouteTable,
    /// What the files have ended. It is not in this table; the layer has it until [`super::Edits::end`].
    pub ended: Vec<Ended>,
    /// Routes that were added and cannot be read any more. They are not in the table, and stay in the layer.
    pub unread: Vec<Edit>,
}

/// An edit that the files have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A route was added, and now a file has its key.
    Added {
        /// The key.
        pattern: String,
        /// When it was added.
        at: SystemTime,
        /// The file's route, which replaces it.
        by: Origin,
    },
    /// A route of a file was removed, and the file does not say any more what it said then.
    Removed {
        /// The key.
        pattern: String,
        /// When it was removed.
        at: SystemTime,
        /// The file's route that says something else now; `None`: no file has the key.
        by: Option<Origin>,
    },
}

impl Layer {
    /// The layer that these records make.
    pub fn of(records: impl IntoIterator<Item = Record>) -> Self {
        let mut layer = Self::default();
        records.into_iter().for_each(|record| layer.follow(record));
        layer
    }

    /// Reads the layer of a folder while a daemon may write it; touches nothing.
    pub fn read(folder: &Path) -> Result<(Self, Option<Damage>), JournalError> {
        let contents = Journal::read(folder)?;
        Ok((Self::of(contents.records), contents.damage))
    }

    /// The routes that were added, in the order in which they were.
    pub fn added(&self) -> impl Iterator<Item = &Edit> {
        in_order(self.added.values()).map(|numbered| &numbered.edit)
    }

    /// The routes of files that were removed, in the order in which they were.
    pub fn removed(&self) -> impl Iterator<Item = &Edit> {
        in_order(self.removed.values()).map(|numbered| &numbered.edit)
    }

    /// How many edits there are.
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lays the edits over a table of files. `parse` makes a route of what was added at that time. Its work is that of
    /// the edits, however large the table is.
    pub fn apply(&self, files: RouteTable, mut parse: impl FnMut(&RouteSpec, SystemTime) -> Option<Route>) -> Applied {
        let (removed, ended, unread) = (RouteTable::new(), Vec::new(), Vec::new());
        let mut applied = Applied { table: files, removed, ended, unread };
        for edit in self.removed() {
            applied.remove(edit);
        }
        for edit in self.added() {
            applied.add(edit, &mut parse);
        }
        applied
    }

    /// The edit that added the route with this key, if it was added.
    pub fn addition(&self, pattern: &str) -> Option<&Edit> {
        self.added.get(pattern).map(|numbered| &numbered.edit)
    }

    /// The edit that removed the route with this key, if it was removed.
    pub fn removal(&self, pattern: &str) -> Option<&Edit> {
        self.removed.get(pattern).map(|numbered| &numbered.edit)
    }

    pub(super) fn has_added(&self, pattern: &str) -> bool {
        self.added.contains_key(pattern)
    }

    /// What the journal is to be told of an end; nothing when the edit is gone already, or was made anew since.
    pub(super) fn end(&self, ended: &Ended) -> Option<Record> {
        match ended {
            Ended::Added { pattern, at, .. } => {
                let same = self.added.get(pattern).is_some_and(|numbered| numbered.edit.at == *at);
                same.then(|| Record::UndoAdd { pattern: pattern.clone() })
            }
            Ended::Removed { pattern, at, .. } => {
                let same = self.removed.get(pattern).is_some_and(|numbered| numbered.edit.at == *at);
                same.then(|| Record::UndoRemove { pattern: pattern.clone() })
            }
        }
    }

    /// The layer after one more record.
    pub(super) fn follow(&mut self, record: Record) {
        match record {
            Record::Add(edit) => {
                self.added.insert(edit.route.pattern.clone(), Numbered { number: self.next, edit });
            }
            Record::Remove(edit) => {
                self.removed.insert(edit.route.pattern.clone(), Numbered { number: self.next, edit });
            }
            Record::UndoAdd { pattern } => {
                self.added.remove(&pattern);
            }
            Record::UndoRemove { pattern } => {
                self.removed.remove(&pattern);
            }
        }
        self.next += 1;
    }

    /// The fewest records that make this layer.
    pub(super) fn records(&self) -> Vec<Record> {
        let added = self.added().cloned().map(Record::Add);
        self.removed().cloned().map(Record::Remove).chain(added).collect()
    }
}

fn in_order<'a>(edits: impl Iterator<Item = &'a Numbered>) -> impl Iterator<Item = &'a Numbered> {
    let mut edits: Vec<_> = edits.collect();
    edits.sort_unstable_by_key(|numbered| numbered.number);
    edits.into_iter()
}

impl Applied {
    /// A removal holds for as long as the file says what it said then.
    fn remove(&mut self, edit: &Edit) {
        let pattern = edit.route.pattern.as_str();
        let ended = match self.table.get(pattern) {
            None => Some(None),
            Some(route) => (RouteSpec::of(route) != edit.route).then(|| Some(route.origin.clone())),
        };
        if let Some(by) = ended {
            self.ended.push(Ended::Removed { pattern: pattern.to_owned(), at: edit.at, by });
        } else if let Ok(row) = self.table.remove(pattern) {
            // No key is removed twice, so none is taken.
            drop(self.removed.add(Route::clone(&row)));
        }
    }

    /// Files win over what was added.
    fn add(&mut self, edit: &Edit, parse: &mut impl FnMut(&RouteSpec, SystemTime) -> Option<Route>) {
        let pattern = edit.route.pattern.as_str();
        if let Some(file) = self.table.get(pattern) {
            let by = file.origin.clone();
            return self.ended.push(Ended::Added { pattern: pattern.to_owned(), at: edit.at, by });
        }
        let added = parse(&edit.route, edit.at).and_then(|route| self.table.add(route).ok());
        if added.is_none() {
            self.unread.push(edit.clone());
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { pattern, at, by } => {
                write!(f, "the route `{pattern}` of the {} is replaced by {by}", Origin::Edit { at: *at })
            }
            Self::Removed { pattern, at, by } => {
                write!(f, "the removal of the route `{pattern}` by the {} has ended: ", Origin::Edit { at: *at })?;
                match by {
                    Some(by) => write!(f, "{by} says something else now"),
                    None => f.write_str("no file has it any more"),
                }
            }
        }
    }
}
