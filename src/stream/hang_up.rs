//! Notices that a peer has gone altogether.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Stream, watch};

/// Waits for the end of a peer that has ended its own side, or whose bytes are not read for now.
///
/// The stream's own registration is of no use for this: it stays readable, and its readiness to write must not be
/// cleared. So this is a second registration of the same socket, under a descriptor of its own.
#[derive(Debug)]
pub(crate) struct HangUp(AsyncFd<OwnedFd>);

impl HangUp {
    /// Of the peer of this stream.
    pub(crate) fn of(stream: &Stream) -> io::Result<Self> {
        let duplicate = stream.as_fd().try_clone_to_owned()?;
        // Of all interests this one is woken least; EPOLLHUP and EPOLLERR come unasked.
        watch(duplicate, Interest::WRITABLE).map(Self)
    }

    /// Ready when the peer has gone altogether.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // It fails only when the runtime is ending.
            let Ok(mut event) = ready!(self.0.poll_write_ready(cx)) else { return Poll::Ready(()) };
            if event.ready().is_write_closed() || is_hung_up(&self.0) {
                return Poll::Ready(());
            }
            // Clears this event only: one that came since it was taken stays.
            event.clear_ready();
        }
    }
}

/// Whether it has, right now.
pub(super) fn is_hung_up(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)),
        Err(_) => false,
    }
}
