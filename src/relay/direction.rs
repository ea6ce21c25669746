//! One direction of a relay: what one side sends, on its way to the other.
//!
//! Little is copied in user space, and what comes in bulk is spliced in the kernel. Which it is, each read asks
//! anew. A read happens only when nothing is on its way, so that no byte overtakes another.

use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::task::yield_now;

use super::copy::Copied;
use super::splice::Spliced;
use super::{Counter, affinity, bulk};
use crate::buffer;
use crate::stream::Stream;

/// One poll reads until it has so many bytes: bulk starves neither its other direction nor other relays. What
/// a pipe holds may be more, but takes no longer; a large buffer is more, and takes 0.2 ms to decrypt.
///
/// tokio's own budget does not do: it counts operations on sockets, and TLS has bytes without asking its socket.
const BYTES_PER_POLL: usize = 4 * buffer::SIZE;

/// What one side sends, on its way to the other.
#[derive(Debug, Default)]
pub(super) struct Direction {
    carried: Carried,
}

/// What is read, and not yet accepted by the other side. Nothing is read while it is there: this is the back pressure.
#[derive(Debug)]
enum Carried {
    /// And how to read what comes next.
    Nothing(Way),
    Copied {
        bytes: Copied,
        /// How they were read.
        way: Way,
        /// Whether more is probably behind them.
        goes_on: bool,
    },
    Spliced(Spliced),
}

/// How bytes get from one socket to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// Through a buffer.
    #[default]
    Copy,
    /// Through a buffer, though much comes.
    Much,
    /// Through a large buffer: much that comes out of TLS.
    Large,
    /// Through a pipe.
    Splice,
    /// Through a buffer, and without waiting to hear that there is something and room for it: for the first bytes of one
    /// who had time to send some.
    Now,
}

/// Which of the two streams broke a direction.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one that is read.
    Read(io::Error),
    /// The one that is written.
    Write(io::Error),
}

impl Direction {
    /// A direction whose first bytes may be there, or have been read already.
    pub(super) fn starting_with(tail: Vec<u8>) -> Self {
        let way = Way::Now;
        let carried = match tail.is_empty() {
            true => Carried::Nothing(way),
            false => Carried::Copied { bytes: tail.into(), way, goes_on: false },
        };
        Self { carried }
    }

    /// Whether it waits for the other side to accept bytes.
    pub(super) fn is_stalled(&self) -> bool {
        !matches!(self.carried, Carried::Nothing(_))
    }

    /// Whether it holds a pipe.
    #[cfg(test)]
    pub(super) fn has_pipe(&self) -> bool {
        matches!(self.carried, Carried::Spliced(_))
    }

    /// Whether it holds more than a buffer of the usual size.
    #[cfg(test)]
    pub(super) fn has_large_buffer(&self) -> bool {
        matches!(self.carried, Carried::Copied { .. }) && self.carried.len() > buffer::SIZE
    }

    /// Moves bytes until `from` has ended and `to` has accepted all that came before. `delivered` counts what it accepts.
    pub(super) fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        delivered: &Counter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let mut left = BYTES_PER_POLL;
        loop {
            let way = ready!(self.poll_deliver(from, to, delivered, cx)).map_err(Broken::Write)?;
            if left == 0 {
                return poll_later(cx);
            }
            #[cfg(test)]
            let way = super::tests::ways::forced(from, to).unwrap_or(way);
            let Poll::Ready(read) = poll_read(from, way, cx) else {
                if way == Way::Now {
                    self.carried = Carried::default();
                }
                return poll_flush(to, cx);
            };
            let carried = read.map_err(Broken::Read)?;
            if carried.len() == 0 {
                return Poll::Ready(Ok(()));
            }
            left = left.saturating_sub(carried.len());
            affinity::moved(from, to, carried.len());
            self.carried = carried;
        }
    }

    /// Reads what `from` has sent and drops it, until it ends or fails.
    pub(super) fn poll_discard(&mut self, from: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
        self.carried = Carried::default();
        let mut left = BYTES_PER_POLL;
        while left > 0 {
            match ready!(Copied::poll_read(from, Way::Copy, cx)) {
                Ok(read) if read.len() > 0 => left = left.saturating_sub(read.len()),
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        poll_later(cx)
    }

    /// Ready when nothing is on its way; tells which way is the better one for what comes next.
    fn poll_deliver(
        &mut self,
        from: &Stream,
        to: &mut Stream,
        delivered: &Counter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Way>> {
        loop {
            let written = match &mut self.carried {
                Carried::Nothing(next) => return Poll::Ready(Ok(*next)),
                Carried::Copied { bytes, way, .. } => ready!(bytes.poll_write(to, *way, cx))?,
                Carried::Spliced(spliced) => ready!(spliced.poll_write(to, cx))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            delivered.add(written);
            if self.carried.len() == 0 {
                let next = match mem::take(&mut self.carried) {
                    Carried::Nothing(next) => next,
                    Carried::Copied { goes_on: false, .. } => Way::Copy,
                    Carried::Copied { way: Way::Copy | Way::Now, .. } => bulk::begin(from, to),
                    Carried::Copied { way, .. } => way,
                    Carried::Spliced(spliced) => spliced.done(),
                };
                self.carried = Carried::Nothing(next);
            }
        }
    }
}

impl Carried {
    /// Bytes that are still to be delivered.
    fn len(&self) -> usize {
        match self {
            Self::Nothing(_) => 0,
            Self::Copied { bytes, .. } => bytes.len(),
            Self::Spliced(spliced) => spliced.len(),
        }
    }
}

impl Default for Carried {
    fn default() -> Self {
        Self::Nothing(Way::default())
    }
}

/// What can be read at once; nothing at the end of the stream.
fn poll_read(from: &mut Stream, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<Carried>> {
    if way == Way::Splice {
        ready!(from.poll_read_ready(cx))?;
        if let Some(spliced) = Spliced::read(from)? {
            return Poll::Ready(Ok(Carried::Spliced(spliced)));
        }
    }
    let bytes = ready!(Copied::poll_read(from, way, cx))?;
    let goes_on = bytes.is_full() || from.has_much();
    Poll::Ready(Ok(Carried::Copied { bytes, way, goes_on }))
}

/// Nothing is left to read for now: nothing may stay in a TLS buffer either. Ready only when that fails.
fn poll_flush(to: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    ready!(Pin::new(to).poll_flush(cx)).map_err(Broken::Write)?;
    Poll::Pending
}

/// Comes back when everybody else has had a turn.
fn poll_later<T>(cx: &mut Context<'_>) -> Poll<T> {
    // Behind the sockets too: a waker alone would put it before what has come for others meanwhile.
    let _first_poll: Poll<()> = pin!(yield_now()).poll(cx);
    Poll::Pending
}
