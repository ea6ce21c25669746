//! Reads a file whole, as it was at one moment.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// A larger file is refused before it is read: 256 MiB.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// So many times a file that changes under our eyes is read.
const ATTEMPTS: u32 = 5;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the file cannot be read: {}", reason(.0))]
    Io(#[from] io::Error),
    #[error("this is not a regular file")]
    NotAFile,
    #[error("the file has more than {max} MiB", max = MAX_BYTES >> 20)]
    TooLarge,
    #[error("the file changed each of the {ATTEMPTS} times that it was read")]
    Changing,
}

/// The bytes of a file that did not change while they were read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    steady(|| {
        let mut file = open(path)?;
        let before = file.metadata()?;
        if !before.is_file() && !before.is_dir() && !is_handed(path) {
            return Err(ReadError::NotAFile);
        }
        if before.len() > MAX_BYTES {
            return Err(ReadError::TooLarge);
        }
        let mut bytes = Vec::new();
        if Read::by_ref(&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_BYTES {
            return Err(ReadError::TooLarge);
        }
        // The path is asked, not the descriptor: an editor may have put another file in its place. A pipe has no state.
        let same = !before.is_file() || Stamp::of(&before) == Stamp::of(&std::fs::metadata(path)?);
        Ok(same.then_some(bytes))
    })
}

/// Opens a file without waiting: a pipe, or a device, would otherwise hold up its reader for as long as it likes.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    if !is_handed(path) {
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

/// Whether it is a descriptor of this process, which its parent has opened: `portolan check /dev/stdin`, and the
/// `<(command)` of a shell.
fn is_handed(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd")
}

/// An error of the system in our words: lower case, without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn steady(mut read: impl FnMut() -> Result<Option<Vec<u8>>, ReadError>) -> Result<Vec<u8>, ReadError> {
    for _ in 0..ATTEMPTS {
        if let Some(bytes) = read()? {
            return Ok(bytes);
        }
    }
    Err(ReadError::Changing)
}

/// What differs when a file was written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    size: u64,
    /// When its content changed, with nanoseconds.
    written: (i64, i64),
    /// When it changed itself.
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"\xffabc").unwrap();
        assert_eq!(read(&path).unwrap(), b"\xffabc");
        assert_eq!(read(folder.path()).unwrap_err().to_string(), "the file cannot be read: is a directory");
        let missing = read(&folder.path().join("b")).unwrap_err().to_string();
        assert_eq!(missing, "the file cannot be read: no such file or directory");
    }

    #[test]
    fn what_may_never_end_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        make_pipe(&pipe);
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            assert_eq!(read(path).unwrap_err().to_string(), "this is not a regular file");
        }
    }

    fn make_pipe(path: &Path) {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn a_large_file_is_refused_before_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(file.path()).unwrap_err().to_string(), "the file has more than 256 MiB");
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_then_refused() {
        let mut left = 3;
        let settles = steady(|| {
            left -= 1;
            Ok((left == 0).then(|| vec![1]))
        });
        assert_eq!(settles.unwrap(), [1]);
        assert!(matches!(steady(|| Ok(None)), Err(ReadError::Changing)));
    }

    #[test]
    fn a_write_leaves_its_stamp() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let before = Stamp::of(&file.as_file().metadata().unwrap());
        std::fs::write(file.path(), "x").unwrap();
        assert!(before != Stamp::of(&std::fs::metadata(file.path()).unwrap()));
    }
}
