//! The sockets that servers are asked over: hickory's own, but for UDP one that is connected. The kernel then drops what
//! others send to it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider, TokioTime};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

/// Makes sockets, and holds the tasks that serve them.
#[derive(Clone, Default)]
pub(super) struct Sockets(TokioRuntimeProvider);

/// A socket that hears one server.
pub(super) struct Connected {
    socket: Arc<UdpSocket>,
    server: SocketAddr,
    /// Why it will hear nothing.
    failure: Mutex<Failure>,
}

/// Ends when the kernel says that nobody listens there: an error of the socket, for which reading alone does not wait.
type Failure = Pin<Box<dyn Future<Output = io::Error> + Send>>;

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for Sockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = TokioTime;
    type Udp = Connected;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        self.0.connect_tcp(server, local, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            let socket = Arc::new(socket);
            let failure = Mutex::new(failure(Arc::clone(&socket)));
            Ok(Connected { socket, server, failure })
        })
    }
}

impl DnsUdpSocket for Connected {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        if let Poll::Ready(received) = self.socket.poll_recv(cx, &mut buffer) {
            return Poll::Ready(received.map(|()| (buffer.filled().len(), self.server)));
        }
        // Nothing that holds the lock can panic half-way through a change.
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_mut().poll(cx).map(|error| {
            *failure = Box::pin(std::future::pending());
            Err(error)
        })
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], _server: SocketAddr) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, bytes)
    }
}

fn failure(socket: Arc<UdpSocket>) -> Failure {
    Box::pin(async move {
        let failed = socket.async_io(Interest::ERROR, || match socket.take_error()? {
            Some(error) => Ok(error),
            None => Err(io::ErrorKind::WouldBlock.into()),
        });
        failed.await.unwrap_or_else(|error| error)
    })
}
