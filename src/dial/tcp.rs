//! TCP to one address, with the options of a connection that lives long.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, Socket};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{DialError, OwnLeases, has_way, options};
use crate::route::Settings;

/// Connects; dropping the future ends the attempt.
pub(super) async fn connect(address: SocketAddr, settings: &Settings, own: &OwnLeases) -> Result<TcpStream, DialError> {
    if own.has(address) {
        return Err(DialError::Loop);
    }
    let connected = establish(options::socket(address, settings)?, address).await;
    let stream = connected.map_err(|error| failure(&error, address))?;
    if is_to_itself(&stream, address) {
        // Closed in order it would wait in TIME_WAIT, and the port with it.
        drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        return Err(DialError::Refused);
    }
    Ok(stream)
}

/// The handshake. Over loopback it is done when connect(2) returns, which says all the same that it is under way: asked
/// again, it says how it ended, and nobody waits for an event.
async fn establish(socket: Socket, address: SocketAddr) -> io::Result<TcpStream> {
    let mut connected = rustix::net::connect(&socket, &address);
    if connected == Err(Errno::INPROGRESS) {
        connected = rustix::net::connect(&socket, &address);
    }
    match connected {
        Ok(()) => return TcpStream::from_std(socket.into()),
        Err(Errno::ALREADY) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

/// Linux says the same of an address that there is no way to, and of one for which no port of our own is left.
fn failure(error: &io::Error, address: SocketAddr) -> DialError {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) if has_way(address.ip()) => DialError::Local(
            "every port is in use for this address: widen net.ipv4.ip_local_port_range, or bound the route by max_relays"
                .to_owned(),
        ),
        _ => DialError::from_connect(error),
    }
}

/// Says what the upstream is to hear before anything else.
pub(super) async fn introduce(stream: &mut TcpStream, preface: &[u8]) -> Result<(), DialError> {
    stream.write_all(preface).await.map_err(|error| DialError::from_connect(&error))
}

/// Whether the kernel took the very port that is dialed for our own end. To a port of this machine where nobody listens
/// it then connects the socket to itself, which echoes, and keeps the node that should be there from its port.
fn is_to_itself(stream: &TcpStream, dialed: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|ours| ours.port() == dialed.port() && ours.ip() == dialed.ip())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_options_of_one_that_lives_long() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = connect(listener.local_addr().unwrap(), &Settings::DEFAULT, &OwnLeases::default()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(300)));
    }

    #[tokio::test]
    async fn a_socket_that_is_connected_to_itself_reaches_nobody() {
        let socket = options::socket((Ipv4Addr::LOCALHOST, 1).into(), &Settings::DEFAULT).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(is_to_itself(&establish(socket, address).await.unwrap(), address));

        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_to_itself(&connect(address, &Settings::DEFAULT, &OwnLeases::default()).await.unwrap(), address));
    }

    #[tokio::test]
    async fn a_port_without_a_listener_refuses() {
        let address = {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            listener.local_addr().unwrap()
        };
        assert_eq!(connect(address, &Settings::DEFAULT, &OwnLeases::default()).await.unwrap_err(), DialError::Refused);
    }
}
