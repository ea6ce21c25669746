//! What tells one state of a file from another without reading it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A state of a file; taken before the file is read, so that a change in between differs from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// Where its name leads; `None` if nowhere.
    target: Option<PathBuf>,
    state: Option<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    file: (u64, u64),
    size: u64,
    /// When its content changed, with nanoseconds.
    written: (i64, i64),
    /// When it changed itself.
    changed: (i64, i64),
}

impl Print {
    /// The file as it is now.
    pub fn of(path: &Path) -> Self {
        Self { target: fs::canonicalize(path).ok(), state: fs::metadata(path).ok().as_ref().map(State::of) }
    }
}

impl State {
    fn of(file: &Metadata) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}
