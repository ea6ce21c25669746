//! What a journal does to its folder. A trait, so that tests can have one that fails and forgets.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::lock::{LockError, lock};

/// The file of a journal. Whatever fails may have been done in part; [`settle`](Self::settle) makes good.
pub(super) trait Disk: Send + fmt::Debug {
    /// All of the file; `None` when there is none.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;
    /// Writes behind the end; when this returns, the bytes outlive a crash.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to this length, and makes sure that it, and its name, outlive a crash.
    fn settle(&mut self, len: u64) -> io::Result<()>;
    /// Puts a file with these bytes in its place. An error leaves the old one; after a crash there is either, until it
    /// is settled.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Keeps a copy of the file as it is, and tells its name.
    fn keep_beside(&mut self) -> io::Result<PathBuf>;
}

/// A folder that belongs to this process for as long as it is held.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    file: Option<File>,
    _lock: File,
}

/// The name of the journal in its folder.
pub(super) const NAME: &str = "journal";

impl Folder {
    /// Makes the folder if it is not there, and locks it. The lock is on a file of its own, because the journal's is
    /// replaced now and then.
    pub(super) fn claim(path: &Path) -> Result<Self, LockError> {
        make_folder(path)?;
        let lock = lock(&path.join("journal.lock"))?;
        Ok(Self { path: path.to_owned(), file: None, _lock: lock })
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for Folder {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::options().read(true).append(true).open(self.path.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.file = Some(file);
        Ok(Some(bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let named = std::fs::metadata(self.path.join(NAME))?;
        let file = self.file()?;
        // What is written to a file that has no name any more is lost with its last descriptor.
        if named.ino() != file.metadata()?.ino() {
            return Err(io::Error::other("another file has taken its place: restart portolan"));
        }
        file.write_all(bytes)?;
        file.sync_data()
    }

    fn settle(&mut self, len: u64) -> io::Result<()> {
        let file = self.file()?;
        file.set_len(len)?;
        file.sync_data()?;
        sync_folder(&self.path)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join("journal.new");
        // What a crash has left under this name is nobody's, and a link there is not followed.
        drop(std::fs::remove_file(&new));
        let mut options = File::options();
        options.create_new(true).append(true).mode(0o600);
        let written = options.open(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()?;
            std::fs::rename(&new, self.path.join(NAME))?;
            Ok(file)
        });
        if written.is_err() {
            drop(std::fs::remove_file(&new));
        }
        self.file = Some(written?);
        Ok(())
    }

    fn keep_beside(&mut self) -> io::Result<PathBuf> {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let (from, to) = (self.path.join(NAME), self.path.join(format!("{NAME}.damaged-{now}")));
        let copied = std::fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all());
        if copied.is_err() {
            drop(std::fs::remove_file(&to));
        }
        copied?;
        Ok(to)
    }
}

/// Makes a folder, and those above it, so that they outlive a crash.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(above)?;
    // It may be there by now: another daemon starts too.
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_folder(above)
}

/// A name outlives a crash when its folder has been written.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
