//! An open byte stream of any kind, on either side.

mod hang_up;
mod read_ahead;

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;
use tokio_rustls::client::TlsStream;

pub(crate) use hang_up::HangUp;
use hang_up::is_hung_up;
pub use read_ahead::ReadAhead;

/// A client's or an upstream's stream.
#[derive(Debug)]
pub enum Stream {
    /// A Unix socket: a client's.
    Unix(UnixStream),
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP: an upstream's.
    Tls(Box<TlsStream<ReadAhead>>),
}

impl Stream {
    /// From here on, dropping a TCP stream sends a reset in place of an orderly end.
    ///
    /// A Unix socket has no reset: its peer sees an end of stream.
    pub fn reset_on_drop(&self) {
        let tcp = match self {
            Self::Unix(_) => return,
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0.tcp(),
        };
        // It fails only on a socket that is gone already, which has nobody left to tell.
        drop(socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)));
    }

    /// Throws away what has come and was not read, up to a bound. Left there, it makes the close of a Unix socket a
    /// reset, which its peer gets in place of the end behind the last bytes.
    pub fn discard_unread(&self) {
        const AT_ONCE: usize = 16 * 1024;
        const AT_MOST: usize = 1024 * 1024;

        let mut buffer = vec![0; AT_ONCE];
        for _ in 0..AT_MOST / AT_ONCE {
            match recv(self, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((1.., _)) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Whether bytes of the peer are there to be read.
    pub fn has_unread(&self) -> bool {
        matches!(recv(self, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((1.., _)))
    }

    /// Whether the peer has gone altogether: EPOLLHUP or an error, not a half-close.
    ///
    /// Once our own side has been shut down, an orderly end of the peer's looks the same.
    pub fn is_hung_up(&self) -> bool {
        self.has_heard_of_hang_up() || is_hung_up(self)
    }

    /// Whether the runtime knows already; it never takes this back.
    fn has_heard_of_hang_up(&self) -> bool {
        let heard = pin!(self.ready(Interest::WRITABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(heard, Poll::Ready(Ok(heard)) if heard.is_write_closed())
    }

    /// Waits until the peer has gone altogether; never ends on a half-close, and leaves unread bytes where they are.
    ///
    /// It costs nothing until the peer ends something, and one descriptor from then on. Without one to be had it looks
    /// now and then.
    pub async fn hung_up(&self) {
        // An error is about the peer too; what it means is asked below.
        drop(self.ready(Self::END).await);
        if self.is_hung_up() {
            return;
        }
        match HangUp::of(self) {
            Ok(hang_up) => poll_fn(|cx| hang_up.poll(cx)).await,
            Err(_) => self.is_seen_hung_up().await,
        }
    }

    /// The same for who has no descriptor to be told by.
    async fn is_seen_hung_up(&self) {
        const GLANCE: Duration = Duration::from_millis(100);

        while !self.is_hung_up() {
            sleep(GLANCE).await;
        }
    }

    /// The peer's end, of its own side or altogether: urgent data or an end, says tokio, and no socket is watched for the
    /// first. Unread bytes are neither.
    const END: Interest = Interest::PRIORITY;

    /// Waits until its socket is so, as far as the runtime has heard.
    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Unix(unix) => unix.ready(interest).await,
            Self::Tcp(tcp) => tcp.ready(interest).await,
            Self::Tls(tls) => tls.get_ref().0.tcp().ready(interest).await,
        }
    }

    /// Ready when there may be something to read from its socket, an end or an error included.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(unix) => unix.poll_read_ready(cx),
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(tls) => tls.get_ref().0.tcp().poll_read_ready(cx),
        }
    }

    /// Ready when its socket may take bytes, or has failed.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(unix) => unix.poll_write_ready(cx),
            Self::Tcp(tcp) => tcp.poll_write_ready(cx),
            Self::Tls(tls) => tls.get_ref().0.tcp().poll_write_ready(cx),
        }
    }

    /// Does something with its socket that may say that it would block; then it is not ready until something happens.
    pub(crate) fn try_io<T>(&self, interest: Interest, io: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Unix(unix) => unix.try_io(interest, io),
            Self::Tcp(tcp) => tcp.try_io(interest, io),
            Self::Tls(tls) => tls.get_ref().0.tcp().try_io(interest, io),
        }
    }

    /// Reads from its socket, which is empty only when it says so.
    ///
    /// tokio believes that nothing is left behind a read that has not filled its buffer. But a read ends early, too, at
    /// urgent data and behind bytes that came with descriptors, and no event would tell of what follows.
    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            let read = || Ok(recv(self, buf.initialize_unfilled(), RecvFlags::empty())?);
            match self.try_io(Interest::READABLE, read) {
                Ok((_, read)) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads, and asks a plain socket before the runtime, which has not heard yet of what came to a new one.
    pub(crate) fn poll_read_now(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.is_tls() {
            match recv(&*self, buf.initialize_unfilled(), RecvFlags::DONTWAIT) {
                Ok((_, read)) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Pin::new(self).poll_read(cx, buf)
    }

    /// Writes, and asks a plain socket before the runtime, which has not heard yet that a new one takes bytes.
    pub(crate) fn poll_write_now(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_tls() {
            match send(&*self, buf, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {}
                sent => return Poll::Ready(Ok(sent?)),
            }
        }
        Pin::new(self).poll_write(cx, buf)
    }

    /// Writes all of it to a new socket.
    pub(crate) async fn write_all_now(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write_now(cx, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether bytes are there that were read from its socket already, and are not decrypted yet.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.get_ref().0.has_more())
    }

    /// Whether its socket had so much under TLS that more is probably there.
    pub(crate) fn has_much(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.get_ref().0.has_much())
    }

    /// Whether its peer is on this machine, as far as the addresses tell.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(tcp) => is_local(tcp),
            Self::Tls(tls) => is_local(tls.get_ref().0.tcp()),
        }
    }

    /// Whether an end of this stream that comes without notice is a cut (TLS) and not an ordinary end.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// Whether both ends are on this machine, as far as the addresses tell.
pub(crate) fn is_local(tcp: &TcpStream) -> bool {
    match (tcp.peer_addr(), tcp.local_addr()) {
        (Ok(peer), Ok(local)) => peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip(),
        _ => false,
    }
}

/// Has the runtime watch a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that are less strict about a descriptor than OwnedFd"
)]
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(unix) => unix.as_fd(),
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Tls(tls) => tls.get_ref().0.tcp().as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            plain => plain.poll_recv(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn unix_pair() -> (Stream, Stream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::Unix(ours), Stream::Unix(theirs))
    }

    async fn tcp_pair() -> (Stream, Stream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Stream::Tcp(listener.accept().await.unwrap().0), Stream::Tcp(theirs))
    }

    /// Whether it has hung up once nothing more happens.
    async fn has_hung_up(ours: &Stream) -> bool {
        // The clock is paused: the second is over as soon as nothing else happens.
        tokio::time::timeout(Duration::from_secs(1), ours.hung_up()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_has_not_hung_up() {
        for (ours, _theirs) in [unix_pair(), tcp_pair().await] {
            assert!(!has_hung_up(&ours).await);
        }
    }

    #[tokio::test]
    async fn a_unix_peer_that_closes_hangs_up() {
        let (ours, theirs) = unix_pair();
        tokio::join!(ours.hung_up(), async { drop(theirs) });
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_close_is_no_hang_up_and_what_follows_it_is() {
        for (mut ours, mut theirs) in [unix_pair(), tcp_pair().await] {
            theirs.write_all(b"unread").await.unwrap();
            assert!(!has_hung_up(&ours).await);
            theirs.shutdown().await.unwrap();
            assert!(!has_hung_up(&ours).await);
            tokio::join!(ours.hung_up(), async {
                theirs.reset_on_drop();
                drop(theirs);
            });
            let mut read = String::new();
            ours.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, "unread");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_descriptor_a_hang_up_is_seen_all_the_same() {
        for (ours, mut theirs) in [unix_pair(), tcp_pair().await] {
            theirs.write_all(b"unread").await.unwrap();
            theirs.shutdown().await.unwrap();
            let minute = Duration::from_secs(60);
            assert!(tokio::time::timeout(minute, ours.is_seen_hung_up()).await.is_err());
            theirs.reset_on_drop();
            drop(theirs);
            tokio::time::timeout(minute, ours.is_seen_hung_up()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_reset_is_a_hang_up() {
        let (ours, theirs) = tcp_pair().await;
        theirs.reset_on_drop();
        drop(theirs);
        ours.hung_up().await;
    }

    #[tokio::test]
    async fn what_was_discarded_does_not_reset_a_unix_peer() {
        for (discards, end) in [(true, None), (false, Some(io::ErrorKind::ConnectionReset))] {
            let (mut ours, mut theirs) = unix_pair();
            theirs.write_all(&[b'x'; 40_000]).await.unwrap();
            ours.write_all(b"answer").await.unwrap();
            if discards {
                ours.discard_unread();
            }
            drop(ours);
            let mut read = String::new();
            let ended = theirs.read_to_string(&mut read).await;
            assert_eq!(ended.map_err(|error| error.kind()).err(), end);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_as_writable_as_before() {
        for (mut ours, mut theirs) in [unix_pair(), tcp_pair().await] {
            theirs.write_all(b"?").await.unwrap();
            assert!(!has_hung_up(&ours).await);
            ours.write_all(b"!").await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), b'!');
            assert_eq!(ours.read_u8().await.unwrap(), b'?');
        }
    }
}
