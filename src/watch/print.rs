//! What tells one state of a file from another without reading it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Stamp;

/// A state of a file; taken before the file is read, so that a change in between differs from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// Where its name leads; `None` if nowhere.
    target: Option<PathBuf>,
    state: Option<Stamp>,
}

impl Print {
    /// The file as it is now.
    pub fn of(path: &Path) -> Self {
        Self { target: fs::canonicalize(path).ok(), state: fs::metadata(path).ok().as_ref().map(Stamp::of) }
    }
}
