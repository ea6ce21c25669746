//! The stream of a client that is connected.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// An open connection to a node, through the daemon. Each direction ends by itself: shut down writing and read on.
#[derive(Debug)]
pub struct Tunnel {
    stream: UnixStream,
    /// The node's first bytes, where they came with the answer.
    tail: Cursor<Vec<u8>>,
}

impl Tunnel {
    pub(super) fn new(stream: UnixStream, tail: Vec<u8>) -> Self {
        Self { stream, tail: Cursor::new(tail) }
    }

    /// The socket, and the node's first bytes that were read from it already and are not read here.
    pub fn into_parts(self) -> (UnixStream, Vec<u8>) {
        let read = usize::try_from(self.tail.position()).unwrap_or(usize::MAX);
        let tail = self.tail.into_inner();
        (self.stream, tail.get(read..).unwrap_or_default().to_vec())
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, tail } = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(tail).poll_read(cx, buf))?;
        if buf.filled().len() > before { Poll::Ready(Ok(())) } else { Pin::new(stream).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_tail_is_read_before_the_stream_and_both_stay_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"later").await.unwrap();
        drop(theirs);
        let mut tunnel = Tunnel::new(ours, b"sooner ".to_vec());
        assert_eq!(tunnel.read_u8().await.unwrap(), b's');
        let mut rest = String::new();
        tunnel.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "ooner later");
    }

    #[tokio::test]
    async fn the_parts_have_what_was_not_read() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut tunnel = Tunnel::new(ours, b"tail".to_vec());
        tunnel.read_exact(&mut [0; 2]).await.unwrap();
        assert_eq!(tunnel.into_parts().1, b"il");
    }
}
