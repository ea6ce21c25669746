//! Edits at run time: what was added to the table and removed from it without an editor.
//!
//! They are a layer over the files. [`Layer`] says what that means, [`Edits`] keeps it in a journal: an edit is on disk
//! before anybody is told that it is done.

mod change;
mod layer;
mod record;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use crate::admin::view::RouteSpec;
use crate::config::Config;
use crate::journal::{Damage, Journal, JournalError};
use crate::route::{Route, Unknown};
pub use change::{Edited, add, remove};
pub use layer::{Applied, Ended, Layer};
pub use record::{Edit, Record};

/// The layer, and the journal that it is kept in.
#[derive(Debug)]
pub struct Edits {
    layer: Layer,
    journal: Journal,
    /// What has ended, and could not be written yet.
    unwritten: Vec<Record>,
    /// A journal with fewer dead records is not compacted.
    spare: usize,
}

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Nothing has the key.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It cannot be kept.
    #[error("the edit was not made: {0}")]
    Journal(#[from] JournalError),
}

/// Where edits are kept: `state` of the configuration, else the first folder of `$STATE_DIRECTORY`, which systemd sets,
/// else `portolan.state` beside `portolan.toml`.
pub fn state_folder(config: &Config) -> PathBuf {
    folder(config, std::env::var_os("STATE_DIRECTORY"))
}

fn folder(config: &Config, variable: Option<OsString>) -> PathBuf {
    let first = |list: OsString| {
        let first = list.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(first))).filter(|path| !path.as_os_str().is_empty())
    };
    let beside = || config.path.parent().unwrap_or(Path::new("")).join("portolan.state");
    config.state.clone().or_else(|| variable.and_then(first)).unwrap_or_else(beside)
}

impl Edits {
    /// So many dead records do no harm.
    const SPARE: usize = 1000;

    /// Opens the edits of a folder, for this process alone; without any, nothing is made before the first edit.
    pub fn open(folder: &Path) -> Result<(Self, Option<Damage>), JournalError> {
        let (journal, contents) = Journal::open(folder)?;
        Ok((Self::of(journal, contents.records), contents.damage))
    }

    fn of(journal: Journal, records: Vec<Record>) -> Self {
        let layer = Layer::of(records);
        let mut edits = Self { layer, journal, unwritten: Vec::new(), spare: Self::SPARE };
        edits.compact();
        edits
    }

    /// What is in force.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Adds a route. That its key is free in the table, or its removal from a file in force, is for the caller to know;
    /// one of the layer's own that has the key, and could not be read, is replaced.
    pub fn add(&mut self, route: RouteSpec, at: SystemTime) -> Result<(), EditError> {
        Ok(self.write(vec![Record::Add(Edit::new(route, at))])?)
    }

    /// Removes the route with this key. `in_force` is the table's: a file's is hidden from now on, an edit is undone.
    /// Without one, there may be an edit that could not be read.
    pub fn remove(&mut self, pattern: &str, in_force: Option<&Route>, at: SystemTime) -> Result<(), EditError> {
        let mut records = Vec::new();
        if self.layer.has_added(pattern) {
            records.push(Record::UndoAdd { pattern: pattern.to_owned() });
        }
        if let Some(route) = in_force.filter(|route| route.origin.is_written()) {
            records.push(Record::Remove(Edit::new(RouteSpec::of(route), at)));
        }
        if records.is_empty() {
            return Err(Unknown.into());
        }
        Ok(self.write(records)?)
    }

    /// Takes out what has ended with a table that is in force now. It is out at once; an error says that the journal
    /// does not know yet, and it will be told with the next edit.
    pub fn end(&mut self, ended: &[Ended]) -> Result<(), JournalError> {
        let records: Vec<_> = ended.iter().filter_map(|ended| self.layer.end(ended)).collect();
        for record in records {
            self.layer.follow(record.clone());
            self.unwritten.push(record);
        }
        if self.unwritten.is_empty() { Ok(()) } else { self.write(Vec::new()) }
    }

    fn write(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        let all: Vec<_> = self.unwritten.iter().chain(&records).collect();
        self.journal.append(&all)?;
        self.unwritten.clear();
        records.into_iter().for_each(|record| self.layer.follow(record));
        self.compact();
        Ok(())
    }

    /// A journal of which two thirds are dead is written anew. If it cannot be, all is as it was, only longer.
    fn compact(&mut self) {
        let live = self.layer.len();
        let dead = self.journal.records().saturating_sub(live);
        if dead < self.spare || dead <= 2 * live {
            return;
        }
        match self.journal.compact(&self.layer.records()) {
            Ok(()) => self.spare = Self::SPARE,
            Err(error) => {
                // Not at each edit from now on.
                self.spare = dead + Self::SPARE;
                warn!(%error, dead, "the journal of edits cannot be compacted");
            }
        }
    }
}
