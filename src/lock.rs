//! A file that one process holds at a time.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Why a lock cannot be had.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process holds it; its number, if it is known.
    Held(Option<i32>),
    /// The system does not let us.
    Io(io::Error),
}

/// Holds the lock until the file is dropped. The file stays, because removing it would let a third process lock another
/// file of the same name.
pub(crate) fn lock(path: &Path) -> Result<File, LockError> {
    // No link is followed: in a folder where others may write it could lead to any file, which would be overwritten.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(io::Error::other("it is a link, and none is followed here: remove it").into()),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Whatever it holds, a process id or nothing, is only said.
            drop(file.read_to_string(&mut holder));
            return Err(LockError::Held(holder.trim().parse().ok().filter(|id| is_alive(*id))));
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // On a full disk the number cannot be written; the lock holds all the same.
    drop(file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())));
    Ok(file)
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The lock's file has the number of the process before for as long as its holder has not written its own.
fn is_alive(process: i32) -> bool {
    // One that we may not send a signal to is there too.
    Pid::from_raw(process).is_some_and(|process| test_kill_process(process) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(lock(&path), Err(LockError::Held(Some(holder))) if holder == own));
        drop(held);
        lock(&path).unwrap();
    }
}
