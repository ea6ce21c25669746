//! Bytes on their way through a buffer.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::direction::Way;
use crate::buffer::Buffer;
use crate::stream::Stream;

/// Bytes between a read and a write.
#[derive(Debug)]
pub(super) struct Copied {
    buffer: Buffer,
    /// In as few bytes as an idle relay's task has to spare.
    rest: Range<u32>,
}

impl Copied {
    /// What can be read at once; nothing at the end of the stream.
    pub(super) fn poll_read(from: &mut Stream, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<Self>> {
        let mut buffer = if way == Way::Large { Buffer::take_large() } else { Buffer::take() };
        let mut read = ReadBuf::new(buffer.bytes_mut());
        if way == Way::Now {
            ready!(from.poll_read_now(cx, &mut read))?;
        } else {
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
        }
        // TLS gives one record of 16 KiB at most; those that came with it go on in the same write. What this says in
        // place of bytes, it says again when it is asked the next time.
        while from.has_more() && read.remaining() > 0 {
            let before = read.remaining();
            let more = Pin::new(&mut *from).poll_read(cx, &mut read);
            if !matches!(more, Poll::Ready(Ok(()))) || read.remaining() == before {
                break;
            }
        }
        let rest = 0..count(read.filled());
        Poll::Ready(Ok(Self { buffer, rest }))
    }

    /// Writes what `to` takes.
    pub(super) fn poll_write(&mut self, to: &mut Stream, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let rest = self.rest.start as usize..self.rest.end as usize;
        let rest = self.buffer.bytes().get(rest).unwrap_or_default();
        let written = if way == Way::Now { to.poll_write_now(cx, rest) } else { Pin::new(to).poll_write(cx, rest) };
        let written = ready!(written)?;
        self.rest.start += count(rest.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    /// Bytes that are still to be written.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether the read has filled its buffer: behind it is probably more.
    pub(super) fn is_full(&self) -> bool {
        self.rest.end == count(self.buffer.bytes())
    }
}

/// Bytes that were read elsewhere.
impl From<Vec<u8>> for Copied {
    fn from(bytes: Vec<u8>) -> Self {
        let rest = 0..count(&bytes);
        Self { buffer: bytes.into(), rest }
    }
}

/// A buffer has [`LARGE`](crate::buffer::LARGE) bytes at most, and what was read elsewhere is less.
fn count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
