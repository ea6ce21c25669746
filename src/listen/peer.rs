//! Who is at the other end of a client's stream.

use std::net::SocketAddr;

use tokio::net::UnixStream;

use crate::stream::Stream;

/// Who a client is, as far as the system tells. It is small, because every relay keeps one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A local process, as it was when it connected (`SO_PEERCRED`).
    Process {
        /// Its user.
        uid: u32,
        /// Its number; `None` where it is of another process namespace.
        pid: Option<i32>,
    },
    /// The address of a TCP client; in a box, for the sake of the others.
    Address(Box<SocketAddr>),
    /// It was gone before it could be asked for.
    Unknown,
}

impl Peer {
    /// The peer of a client's stream.
    pub fn of(stream: &Stream) -> Self {
        match stream {
            Stream::Unix(unix) => Self::of_unix(unix),
            Stream::Tcp(tcp) => Self::at(tcp.peer_addr().ok()),
            Stream::Tls(tls) => Self::at(tls.get_ref().0.tcp().peer_addr().ok()),
        }
    }

    /// The peer of a Unix socket.
    pub fn of_unix(stream: &UnixStream) -> Self {
        let process = |peer: tokio::net::unix::UCred| Self::Process {
            uid: peer.uid(),
            // The kernel says 0 of a process that this one cannot see.
            pid: peer.pid().filter(|pid| *pid != 0),
        };
        stream.peer_cred().map_or(Self::Unknown, process)
    }

    /// The user, if it is a local process.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Process { uid, .. } => Some(*uid),
            Self::Address(_) | Self::Unknown => None,
        }
    }

    /// The process, if it is a local one that can be seen.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Process { pid, .. } => *pid,
            Self::Address(_) | Self::Unknown => None,
        }
    }

    fn at(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::Unknown, |address| Self::Address(Box::new(address)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_local_process_is_known_by_user_and_number() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&Stream::Unix(ours));
        assert_eq!(peer.uid(), Some(rustix::process::getuid().as_raw()));
        assert_eq!(peer.pid(), i32::try_from(std::process::id()).ok());
    }

    #[tokio::test]
    async fn a_tcp_client_is_known_by_its_address() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = Peer::of(&Stream::Tcp(listener.accept().await.unwrap().0));
        assert_eq!(peer, Peer::Address(Box::new(client.local_addr().unwrap())));
        assert_eq!((peer.uid(), peer.pid()), (None, None));
    }

    #[test]
    fn it_takes_two_words() {
        assert_eq!(size_of::<Peer>(), 16);
    }
}
