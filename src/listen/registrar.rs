//! The sockets of the registrar's door: TCP and UDP on the same port, for each of its addresses.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::SockRef;

use super::doors::{listening, usable, with_options};
use super::{BindError, Door, Inherited, Kind, Listener, Prepared};
use crate::config::ForwardAddress;
use crate::registrar::Registrar;
use crate::workers::Workers;

/// How often another free port is tried, where the one that TCP got is taken for UDP.
const TRIES: usize = 32;

/// Binds one address; UDP is read elsewhere.
pub(super) fn prepare(
    address: SocketAddr,
    registrar: &Arc<Registrar>,
    from: &mut Inherited,
    workers: &Arc<Workers>,
) -> Result<(Prepared, UdpSocket), BindError> {
    let (tcp, udp, inherited) = bind(address, from)?;
    let place = ForwardAddress::Tcp(usable(&address, udp.local_addr())?);
    usable(&address, with_options(&tcp))?;
    usable(&address, udp.set_nonblocking(true))?;
    let listener = usable(&address, Listener::new(tcp, Kind::Tcp, inherited, workers))?;
    Ok((Prepared { place, door: Door::Registrar(Arc::clone(registrar)), listener, bound: None }, udp))
}

/// A service manager may keep the TCP port while the daemon is away: a node that finds it free makes itself the
/// registrar.
fn bind(address: SocketAddr, from: &mut Inherited) -> Result<(OwnedFd, UdpSocket, bool), BindError> {
    if let Some(tcp) = from.take_tcp(address) {
        return Ok((tcp.into(), bind_udp(address)?, true));
    }
    let mut tries = if address.port() == 0 { TRIES } else { 1 };
    loop {
        let tcp = listening(address).map_err(|error| failed(address, "TCP", error))?;
        let bound = usable(&address, SockRef::from(&tcp).local_addr())?.as_socket().unwrap_or(address);
        tries -= 1;
        match bind_udp(bound) {
            Err(BindError::RegistrarInUse { .. }) if tries > 0 => {}
            udp => return udp.map(|udp| (tcp, udp, false)),
        }
    }
}

fn bind_udp(address: SocketAddr) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(address).map_err(|error| failed(address, "UDP", error))
}

fn failed(address: SocketAddr, transport: &'static str, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::RegistrarInUse { address, transport },
        _ => BindError::failed(address, "cannot be bound", error),
    }
}
