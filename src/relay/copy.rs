//! One direction of a relay, by reading and writing in user space.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Counter;
use super::buffer::{self, Buffer};
use crate::stream::Stream;

/// The most bytes that one poll moves, so that a bulk transfer starves neither its other direction nor other relays.
///
/// tokio's own budget does not do: it counts operations on sockets, and TLS has bytes without asking its socket.
const BYTES_PER_POLL: usize = 4 * buffer::SIZE;

/// What one side sends, on its way to the other.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// Read, and not yet accepted by the other side. Nothing is read while it is there: this is the back pressure.
    pending: Option<Pending>,
}

/// Which of the two streams broke a direction.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one that is read.
    Read(io::Error),
    /// The one that is written.
    Write(io::Error),
}

impl Copy {
    /// A direction whose first bytes have been read already.
    pub(super) fn starting_with(tail: Vec<u8>) -> Self {
        let rest = 0..tail.len();
        let pending = (!tail.is_empty()).then(|| Pending { buffer: tail.into(), rest });
        Self { pending }
    }

    /// Whether it waits for the other side to accept bytes.
    pub(super) fn is_stalled(&self) -> bool {
        self.pending.is_some()
    }

    /// Copies until `from` has ended and `to` has accepted all that came before. `delivered` counts what it accepts.
    pub(super) fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        delivered: &Counter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let mut left = BYTES_PER_POLL;
        loop {
            ready!(self.poll_deliver(to, delivered, cx)).map_err(Broken::Write)?;
            if left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Poll::Ready(read) = Pending::poll_read(from, cx) else {
                return poll_flush(to, cx);
            };
            let read = read.map_err(Broken::Read)?;
            if read.rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            left = left.saturating_sub(read.rest.len());
            self.pending = Some(read);
        }
    }

    /// Reads what `from` has sent and drops it, until it ends or fails.
    pub(super) fn poll_discard(&mut self, from: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
        self.pending = None;
        let mut left = BYTES_PER_POLL;
        while left > 0 {
            match ready!(Pending::poll_read(from, cx)) {
                Ok(read) if !read.rest.is_empty() => left = left.saturating_sub(read.rest.len()),
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_deliver(&mut self, to: &mut Stream, delivered: &Counter, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pending) = &mut self.pending {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, pending.bytes()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            delivered.add(written);
            pending.rest.start += written;
            if pending.rest.is_empty() {
                self.pending = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Nothing is left to read for now: nothing may stay in a TLS buffer either. Ready only when that fails.
fn poll_flush(to: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    ready!(Pin::new(to).poll_flush(cx)).map_err(Broken::Write)?;
    Poll::Pending
}

/// Bytes between a read and a write.
#[derive(Debug)]
struct Pending {
    buffer: Buffer,
    rest: Range<usize>,
}

impl Pending {
    /// What can be read at once; nothing at the end of the stream.
    fn poll_read(from: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<Self>> {
        let mut buffer = Buffer::take();
        let mut read = ReadBuf::new(buffer.bytes_mut());
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let rest = 0..read.filled().len();
        Poll::Ready(Ok(Self { buffer, rest }))
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.bytes().get(self.rest.clone()).unwrap_or_default()
    }
}
