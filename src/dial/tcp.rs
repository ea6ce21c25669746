//! TCP to one address, with the options of a connection that lives long.

use std::net::SocketAddr;
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
    connect.await.map_err(|error| DialError::from_connect(&error))
}

fn set_options(socket: &SockRef<'_>) -> std::io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
    async fn a_port_without_a_listener_refuses() {
        let address = {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            listener.local_addr().unwrap()
        };
        assert_eq!(connect(address).await.unwrap_err(), DialError::Refused);
    }
}
