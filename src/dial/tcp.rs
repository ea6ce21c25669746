//! TCP to one address, with the options of a connection that lives long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use super::DialError;

/// A silent peer is asked after this long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// And again after so long without an answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often a peer may leave that unanswered.
const KEEPALIVE_RETRIES: u32 = 6;
/// Bytes that stay unacknowledged for this long end the connection (RFC 5482). Linux counts a peer that keeps its
/// window shut the same way, so it is no shorter than what back pressure may reasonably take.
const USER_TIMEOUT: Duration = Duration::from_secs(300);

/// Connects; dropping the future ends the attempt.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
    let connect = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_nodelay(true)?;
        set_options(&SockRef::from(&socket))?;
        socket.connect(address).await
    };
    let stream = connect.await.map_err(|error| DialError::from_connect(&error))?;
    if is_to_itself(&stream) {
        // Closed in order it would wait in TIME_WAIT, and the port with it.
        drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        return Err(DialError::Refused);
    }
    Ok(stream)
}

/// Whether this machine has a way to an address: what connecting a UDP socket asks the kernel, without a packet.
pub(super) fn has_way(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

/// Whether the kernel took the very port that is dialed for our own end. To a port of this machine where nobody listens
/// it then connects the socket to itself, which echoes, and keeps the node that should be there from its port.
fn is_to_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(ours), Ok(theirs)) if ours == theirs)
}

fn set_options(socket: &SockRef<'_>) -> std::io::Result<()> {
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// How a peer that is silent is asked whether it is still there.
pub(crate) fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    keepalive.with_retries(KEEPALIVE_RETRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_options_of_one_that_lives_long() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }

    #[tokio::test]
    async fn a_socket_that_is_connected_to_itself_reaches_nobody() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        assert!(is_to_itself(&socket.connect(address).await.unwrap()));

        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        assert!(!is_to_itself(&connect(listener.local_addr().unwrap()).await.unwrap()));
    }

    #[tokio::test]
    async fn a_port_without_a_listener_refuses() {
        let address = {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            listener.local_addr().unwrap()
        };
        assert_eq!(connect(address).await.unwrap_err(), DialError::Refused);
    }
}
