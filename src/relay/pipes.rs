//! Pipes that a relay borrows while it splices; an idle relay has none.
//!
//! All threads share them, because a user may have few: what one kept for itself, another would lack. Nobody waits for
//! one; who gets none copies.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The sizes of a pipe, in bytes: the second if the first cannot be had. The kernel gives what it is asked for or more.
///
/// The larger it is, the fewer wake-ups a GB costs: from TCP to a Unix socket it takes about 0.12 s of CPU with 1 MiB,
/// 0.2 s with 256 KiB, 0.3 s with 64 KiB, and 0.4 s copied (`docs/performance.md`).
const SIZES: [usize; 2] = [1024 * 1024, 256 * 1024];

/// The most pipes that are open, and so the most relays whose bytes wait in one; more of them copy.
///
/// They take half of the 64 MiB that all processes of an unprivileged user have for pipes (fs.pipe-user-pages-soft).
const MOST: usize = 32;

/// The most descriptors that pipes take.
pub const PIPE_DESCRIPTORS: u64 = 2 * MOST as u64;

/// How many asks are not passed on to a system that has refused one. Each stands for a full buffer of copied bytes.
const UNASKED: u32 = 1024;

static KEPT: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());
static OPEN: AtomicUsize = AtomicUsize::new(0);
static TO_SKIP: AtomicU32 = AtomicU32::new(0);

/// A pipe; the next to take it is who gives it back empty with [`Pipe::keep`]. One that is dropped is closed.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    _slot: Slot,
}

impl Pipe {
    /// An empty pipe, if there is one to be had.
    pub(super) fn take() -> Option<Self> {
        #[cfg(test)]
        return super::tests::ways::supplied(Self::take_usual);
        #[cfg(not(test))]
        Self::take_usual()
    }

    fn take_usual() -> Option<Self> {
        let kept = KEPT.try_lock().ok()?.pop();
        kept.or_else(Self::open)
    }

    /// Gives it back for the next one. It must be empty.
    pub(super) fn keep(self) {
        if let Ok(mut kept) = KEPT.try_lock() {
            kept.push(self);
        }
    }

    /// The end that is read.
    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The end that is written.
    pub(super) fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    fn open() -> Option<Self> {
        let slot = Slot::take()?;
        let skips = |left: u32| left.checked_sub(1);
        if TO_SKIP.fetch_update(Ordering::Relaxed, Ordering::Relaxed, skips).is_ok() {
            return None;
        }
        let pipe = Self::of_a_size_that_pays(slot);
        if pipe.is_none() {
            TO_SKIP.store(UNASKED, Ordering::Relaxed);
        }
        pipe
    }

    /// Without a descriptor, or beyond what an unprivileged user may have, there is none.
    fn of_a_size_that_pays(slot: Slot) -> Option<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        SIZES.into_iter().find(|size| fcntl_setpipe_size(&writer, *size).is_ok())?;
        Some(Self { reader, writer, _slot: slot })
    }
}

/// The place of an open pipe among [`MOST`].
#[derive(Debug)]
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let more = |open: usize| (open < MOST).then_some(open + 1);
        OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{fcntl_getpipe_size, splice};

    use super::*;
    use crate::relay::tests::ways::ALL_PIPES;

    #[test]
    fn there_are_no_more_than_the_descriptors_that_are_reserved() {
        let _alone = ALL_PIPES.blocking_lock();
        // Other tests take some, and one that they give back just now is not waited for.
        let pipes: Vec<_> = (0..4 * MOST).filter_map(|_| Pipe::take()).collect();
        assert!((1..=MOST).contains(&pipes.len()));
        pipes.into_iter().for_each(Pipe::keep);
    }

    #[test]
    fn a_pipe_has_one_of_the_sizes_and_waits_for_nothing() {
        // Beside the pool, which is full when another test has taken all.
        OPEN.fetch_add(1, Ordering::Relaxed);
        let pipe = Pipe::of_a_size_that_pays(Slot).unwrap();
        assert!(SIZES.contains(&fcntl_getpipe_size(pipe.writer()).unwrap()));
        let (into, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let nothing = splice(pipe.reader(), None, into, None, 1, rustix::pipe::SpliceFlags::empty());
        assert_eq!(nothing, Err(rustix::io::Errno::AGAIN));
    }
}
