//! Reads for TLS, which asks for 4 KiB at a time: what a socket has is read at once, and handed on as it is asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::buffer::{self, Buffer};

/// A TCP stream under TLS.
#[derive(Debug)]
pub struct ReadAhead {
    tcp: TcpStream,
    /// Read, and not asked for yet; only while there are such bytes.
    ahead: Option<Ahead>,
    /// So much came with the last read that more is probably there.
    much: bool,
    /// The socket has failed. It says so once, and its reader may ask more often.
    failed: Option<i32>,
}

#[derive(Debug)]
struct Ahead {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl ReadAhead {
    /// Nothing is read yet.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: None, much: false, failed: None }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether bytes were read that nobody has asked for yet.
    pub(crate) fn has_more(&self) -> bool {
        self.ahead.is_some()
    }

    /// Whether the last read brought as much as a buffer holds.
    pub(crate) fn has_much(&self) -> bool {
        self.much
    }

    /// Reads what has come.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(errno) = self.failed {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        let mut buffer = if self.much { Buffer::take_large() } else { Buffer::take() };
        let mut read = ReadBuf::new(buffer.bytes_mut());
        if let Err(error) = ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read)) {
            self.failed = error.raw_os_error();
            return Poll::Ready(Err(error));
        }
        let end = read.filled().len();
        self.much = end >= buffer::SIZE;
        self.ahead = (end > 0).then_some(Ahead { buffer, start: 0, end });
        Poll::Ready(Ok(()))
    }
}

impl Ahead {
    fn rest(&self) -> &[u8] {
        self.buffer.bytes().get(self.start..self.end).unwrap_or_default()
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_none() {
            ready!(this.poll_fill(cx))?;
        }
        if let Some(ahead) = &mut this.ahead {
            let rest = ahead.rest();
            let taken = rest.len().min(buf.remaining());
            buf.put_slice(rest.get(..taken).unwrap_or_default());
            ahead.start += taken;
        }
        this.ahead.take_if(|ahead| ahead.rest().is_empty());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (ReadAhead, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ReadAhead::new(listener.accept().await.unwrap().0), theirs)
    }

    #[tokio::test]
    async fn what_has_come_is_read_at_once_and_handed_on_in_parts() {
        let (mut ours, mut theirs) = pair().await;
        let sent: Vec<u8> = (0..200u8).cycle().take(50_000).collect();
        theirs.write_all(&sent).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut received = vec![0; 7];
        ours.read_exact(&mut received).await.unwrap();
        assert!(ours.has_more());
        ours.read_to_end(&mut received).await.unwrap();
        assert!(received == sent && !ours.has_more());
    }

    #[tokio::test]
    async fn a_reset_is_said_as_often_as_it_is_asked_for() {
        let (mut ours, theirs) = pair().await;
        socket2::SockRef::from(&theirs).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(theirs);
        for _ in 0..3 {
            assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
