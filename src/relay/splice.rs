//! Bytes on their way through a pipe: they never enter user space.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;

use super::direction::Way;
use super::pipes::Pipe;
use crate::buffer;
use crate::stream::Stream;

/// Waits neither for the pipe nor for the socket.
const AT_ONCE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
/// Asks for as much as the pipe has room for.
const ALL: usize = 1 << 30;

/// Bytes between a read and a write.
#[derive(Debug)]
pub(super) struct Spliced {
    pipe: Pipe,
    read: usize,
    written: usize,
}

impl Spliced {
    /// What can be read at once; `None` if it takes a copying read to tell what there is.
    ///
    /// That is so when there is no pipe, when nothing has come, and at the end. It is so, too, when urgent data comes
    /// next: splice(2) stops before it and says what it says when nothing has come, and a relay that waited for more
    /// would wait for ever.
    pub(super) fn read(from: &Stream) -> io::Result<Option<Self>> {
        let Some(pipe) = Pipe::take() else { return Ok(None) };
        match splice(from, None, pipe.writer(), None, ALL, AT_ONCE) {
            Ok(read @ 1..) => Ok(Some(Self { pipe, read, written: 0 })),
            Ok(_) | Err(Errno::AGAIN) => {
                pipe.keep();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what `to` takes.
    pub(super) fn poll_write(&mut self, to: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            // The pipe is not empty: if this would block, it is the socket that takes no more.
            let rest = self.len();
            let write = || Ok(splice(self.pipe.reader(), None, to, None, rest, AT_ONCE)?);
            match to.try_io(Interest::WRITABLE, write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.written += written.as_ref().copied().unwrap_or_default();
                    return Poll::Ready(written);
                }
            }
        }
    }

    /// Bytes that are still to be written.
    pub(super) fn len(&self) -> usize {
        self.read - self.written
    }

    /// All is written: gives the pipe back, and says how to read what comes next.
    pub(super) fn done(self) -> Way {
        self.pipe.keep();
        // Where a read brings no more than a buffer, copying costs no more calls and wakes nobody more often.
        if self.read < buffer::SIZE { Way::Copy } else { Way::Splice }
    }
}
