//! What tells one state of a file, or of a folder, from another without reading the files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{FileNames, RoutesGlob, Stamp};

/// A state of a file, or of the names in a folder; taken before they are read, so that a change in between differs from
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// Where its name leads; `None` if nowhere.
    target: Option<PathBuf>,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    File(Option<Stamp>),
    /// The names in a folder that count, and those that there are.
    Names(FileNames, Vec<OsString>),
}

impl Print {
    /// The file as it is now.
    pub fn of(path: &Path) -> Self {
        let stamp = fs::metadata(path).ok().as_ref().map(Stamp::of);
        Self { target: fs::canonicalize(path).ok(), state: State::File(stamp) }
    }

    /// What a pattern of names matches now; what the files hold is not looked at.
    pub fn of_glob(glob: &RoutesGlob) -> Self {
        Self::of_names(&glob.names, &glob.folder)
    }

    /// A file that is not there.
    pub(super) fn missing() -> Self {
        Self { target: None, state: State::File(None) }
    }

    /// The same as it is now; `path` is that of the file or of the pattern.
    pub(super) fn again(&self, path: &Path) -> Self {
        match self.names() {
            None => Self::of(path),
            Some(names) => Self::of_names(names, path.parent().unwrap_or(Path::new(""))),
        }
    }

    /// Which names in the folder count, if it is one of a folder.
    pub(super) fn names(&self) -> Option<&FileNames> {
        match &self.state {
            State::File(_) => None,
            State::Names(names, _) => Some(names),
        }
    }

    pub(super) fn of_names(names: &FileNames, folder: &Path) -> Self {
        let found = names.list(folder).unwrap_or_default();
        Self { target: fs::canonicalize(folder).ok(), state: State::Names(names.clone(), found) }
    }
}
