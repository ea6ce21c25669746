//! A log of records that are on disk before anybody is told.
//!
//! One file of checksummed lines. A record is written and synced before [`Journal::append`] returns; when that fails,
//! the file is cut back to where it was, and nothing is written behind what could not be cut off. A crash at any point
//! leaves every record that was acknowledged, and at most one line that is not whole, which is dropped.

mod disk;
mod lines;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{plural, reason};
use crate::lock::LockError;
use disk::{Disk, Folder, NAME};
pub use lines::{Scan, Unreadable, line, scan};

/// A journal that this process may write.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None`: no record was ever written, and the folder need not be there.
    disk: Option<Box<dyn Disk>>,
    /// What of the file is good, in bytes.
    len: u64,
    /// How many records that is.
    records: usize,
    /// There may be more in the file than what is good, or its name may not outlive a crash.
    is_unsettled: bool,
}

/// What a journal held when it was read.
#[derive(Debug)]
pub struct Contents<R> {
    /// Its records, oldest first.
    pub records: Vec<R>,
    /// What was wrong with it.
    pub damage: Option<Damage>,
}

/// What was wrong with a journal that was read all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Its last line is not whole, because a crash cut its write short: nobody was told that it was done.
    Torn {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Lines are not as they were written, and what they held is lost.
    Lost {
        /// The file.
        path: PathBuf,
        /// The lines, from 1.
        lines: Vec<usize>,
        /// Where the file is kept as it was, if it was replaced.
        kept: Option<PathBuf>,
    },
}

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process writes it.
    #[error("`{}` is in use by {}: stop it, or give each its own `state` folder", .path.display(),
        .holder.map_or_else(|| "another process".to_owned(), |holder| format!("process {holder}")))]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process, if it is known.
        holder: Option<i32>,
    },
    /// It was not there when this process started, and another has written it since.
    #[error("`{}` was written by another process meanwhile: restart portolan, so that it reads it", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system does not let us.
    #[error("`{}` cannot be read: {}", .path.display(), reason(.error))]
    Read {
        /// The file.
        path: PathBuf,
        /// Its error.
        error: io::Error,
    },
    /// It is whole, and this version does not understand it; nothing of it was touched.
    #[error("`{}` {}: run the version of portolan that wrote it, or move the file away", .path.display(), Why(.why))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is not understood.
        why: Unreadable,
    },
    /// The records are not in the journal.
    #[error("`{}` cannot be written: {}", .path.display(), reason(.error))]
    Write {
        /// The file.
        path: PathBuf,
        /// Its error.
        error: io::Error,
    },
}

impl Journal {
    /// Opens the journal of a folder to write it, for this process alone. Without one, folder and file are made by the
    /// first [`append`](Self::append). What is damaged is mended, and said.
    pub fn open<R: DeserializeOwned + Serialize>(folder: &Path) -> Result<(Self, Contents<R>), JournalError> {
        let path = folder.join(NAME);
        match path.try_exists() {
            Ok(false) => {
                let journal = Self { path, disk: None, len: 0, records: 0, is_unsettled: false };
                Ok((journal, Contents { records: Vec::new(), damage: None }))
            }
            Ok(true) => match Folder::claim(folder) {
                Ok(disk) => Self::load(path, Box::new(disk)),
                Err(LockError::Held(holder)) => Err(JournalError::Locked { path, holder }),
                Err(LockError::Io(error)) => Err(JournalError::Read { path, error }),
            },
            Err(error) => Err(JournalError::Read { path, error }),
        }
    }

    /// Reads the journal of a folder while another may write it; touches nothing.
    pub fn read<R: DeserializeOwned>(folder: &Path) -> Result<Contents<R>, JournalError> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(JournalError::Read { path, error }),
        };
        let scan = scan(&bytes).map_err(|why| JournalError::Unreadable { path: path.clone(), why })?;
        let damage = Damage::of(&scan, &path);
        Ok(Contents { records: scan.records, damage })
    }

    /// Writes records behind all others. They are on disk when this returns, or will never be read.
    pub fn append<R: Serialize>(&mut self, records: &[R]) -> Result<(), JournalError> {
        let bytes = lines::encode(records).map_err(|error| self.failed(error))?;
        self.prepare()?;
        if let Err(error) = self.disk()?.append(&bytes) {
            self.is_unsettled = true;
            // If this fails too, it is tried again before anything else is written.
            drop(self.settle());
            return Err(self.failed(error));
        }
        self.len += bytes.len() as u64;
        self.records += records.len();
        Ok(())
    }

    /// Puts these records, which come to the same, in the place of all that there are. An error leaves either; what
    /// was acknowledged is in both.
    pub fn compact<R: Serialize>(&mut self, records: &[R]) -> Result<(), JournalError> {
        let lines = lines::encode(records).map_err(|error| self.failed(error))?;
        self.prepare()?;
        self.replace(&lines, records.len())
    }

    /// How many records the file has.
    pub fn records(&self) -> usize {
        self.records
    }

    fn load<R: DeserializeOwned + Serialize>(
        path: PathBuf,
        mut disk: Box<dyn Disk>,
    ) -> Result<(Self, Contents<R>), JournalError> {
        let bytes = disk.read().map_err(|error| JournalError::Read { path: path.clone(), error })?.unwrap_or_default();
        let scan = scan(&bytes).map_err(|why| JournalError::Unreadable { path: path.clone(), why })?;
        let mut damage = Damage::of(&scan, &path);
        let is_unsettled = damage.is_some();
        let mut journal = Self { path, disk: Some(disk), len: scan.end, records: scan.records.len(), is_unsettled };
        if let Some(damage) = &mut damage {
            journal.mend(damage, &scan.records);
        }
        Ok((journal, Contents { records: scan.records, damage }))
    }

    /// What cannot be mended now is cut off before the next write, or read and said again by the next start.
    fn mend<R: Serialize>(&mut self, damage: &mut Damage, records: &[R]) {
        match damage {
            Damage::Torn { .. } => drop(self.settle()),
            Damage::Lost { kept, .. } => {
                *kept = self.disk().ok().and_then(|disk| disk.keep_beside().ok());
                if kept.is_some() {
                    drop(self.compact(records));
                }
            }
        }
    }

    /// Makes sure that what is written next stands behind what is good, and nothing else.
    fn prepare(&mut self) -> Result<(), JournalError> {
        self.disk()?;
        self.settle()?;
        if self.len == 0 { self.replace(&[], 0) } else { Ok(()) }
    }

    fn replace(&mut self, lines: &[u8], records: usize) -> Result<(), JournalError> {
        let header = lines::header().map_err(|error| self.failed(error))?;
        let bytes = [&header, lines].concat();
        let replaced = self.disk()?.replace(&bytes);
        replaced.map_err(|error| self.failed(error))?;
        self.len = bytes.len() as u64;
        self.records = records;
        self.is_unsettled = true;
        self.settle()
    }

    fn settle(&mut self) -> Result<(), JournalError> {
        if self.is_unsettled {
            let len = self.len;
            let settled = self.disk()?.settle(len);
            settled.map_err(|error| self.failed(error))?;
            self.is_unsettled = false;
        }
        Ok(())
    }

    /// The folder, which is made and locked when it is first asked for.
    fn disk(&mut self) -> Result<&mut dyn Disk, JournalError> {
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => none.insert(Box::new(claim_new(&self.path)?)),
        };
        Ok(disk.as_mut())
    }

    fn failed(&self, error: impl Into<io::Error>) -> JournalError {
        JournalError::Write { path: self.path.clone(), error: error.into() }
    }
}

/// Claims the folder of a journal that was not there.
fn claim_new(path: &Path) -> Result<Folder, JournalError> {
    let path = path.to_owned();
    match Folder::claim(path.parent().unwrap_or(Path::new(""))) {
        Ok(mut folder) => match folder.read() {
            Ok(None) => Ok(folder),
            Ok(Some(_)) => Err(JournalError::Foreign { path }),
            Err(error) => Err(JournalError::Write { path, error }),
        },
        Err(LockError::Held(holder)) => Err(JournalError::Locked { path, holder }),
        Err(LockError::Io(error)) => Err(JournalError::Write { path, error }),
    }
}

impl Damage {
    fn of<R>(scan: &Scan<R>, path: &Path) -> Option<Self> {
        let path = path.to_owned();
        match (scan.damaged.is_empty(), scan.torn) {
            (true, None) => None,
            (true, Some(line)) => Some(Self::Torn { path, line }),
            (false, torn) => {
                Some(Self::Lost { path, lines: scan.damaged.iter().copied().chain(torn).collect(), kept: None })
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { path, line } => {
                write!(f, "`{}`: line {line}, its last, is not whole and is dropped: ", path.display())?;
                f.write_str("it was cut short while it was written, before anybody was told that it was done")
            }
            Self::Lost { path, lines, kept } => {
                let (count, first) = (plural(lines.len(), "line"), lines.first().copied().unwrap_or_default());
                write!(f, "`{}`: {count} of it, the first of them line {first}, ", path.display())?;
                f.write_str("not as written, and the edits in them are lost; look at the table and make them again")?;
                match kept {
                    Some(kept) => write!(f, "; the file as it was is kept as `{}`", kept.display()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What is wrong with a journal, as words that go on after its name.
struct Why<'a>(&'a Unreadable);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unreadable::NoHeader => f.write_str("does not begin as a journal does"),
            Unreadable::Version(version) => {
                write!(f, "is of the format {version}, which this version does not know")
            }
            Unreadable::Record { line, why } => {
                write!(f, "has a record in line {line} that this version does not know ({why})")
            }
        }
    }
}
