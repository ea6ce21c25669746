//! What a socket is told before it connects: where from, and how it finds out that its peer is gone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Socket, TcpKeepalive, Type};
use uapi::c;

use super::DialError;
use crate::route::{Settings, Source, Timeout};

/// A silent peer is asked after this long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// And again after so long without an answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often a peer may leave that unanswered.
const KEEPALIVE_RETRIES: u32 = 6;
/// Bytes that stay unacknowledged for this long end the connection (RFC 5482). Linux counts a peer that keeps its
/// window shut the same way, so it is no shorter than what back pressure may reasonably take.
const USER_TIMEOUT: Duration = Duration::from_secs(300);

/// A socket for this address that waits for nothing, with what the route says of it.
pub(super) fn socket(to: SocketAddr, settings: &Settings) -> Result<Socket, DialError> {
    let socket = open(to, settings.keepalive).map_err(|error| DialError::from_connect(&error))?;
    if let Some(source) = &settings.source {
        if let Source::Ip(ip) = source
            && ip.is_ipv4() != to.is_ipv4()
        {
            return Err(DialError::Unreachable("no way to this address: the route's source is of the other family"));
        }
        come_from(source, &socket).map_err(|why| DialError::Local(format!("source {source} {why}")))?;
    }
    Ok(socket)
}

/// How a peer that is silent is asked whether it is still there.
pub(crate) fn keepalive() -> TcpKeepalive {
    asking_after(KEEPALIVE).with_retries(KEEPALIVE_RETRIES)
}

fn open(to: SocketAddr, keepalive: Option<Timeout>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    let asked_after = keepalive.map_or(Some(KEEPALIVE), Timeout::duration);
    if let Some(after) = asked_after {
        socket.set_tcp_keepalive(&asking_after(after))?;
    }
    // Linux gives up a silent peer by this, then, and not by the count of its questions: there is time for all of them.
    let asking = asked_after.map(|after| after + KEEPALIVE_INTERVAL * KEEPALIVE_RETRIES);
    socket.set_tcp_user_timeout(asking.max(Some(USER_TIMEOUT)))?;
    Ok(socket)
}

/// The kernel counts whole seconds; a part of one counts as one.
fn asking_after(silence: Duration) -> TcpKeepalive {
    let seconds = Duration::from_secs(silence.as_secs() + u64::from(silence.subsec_nanos() > 0));
    TcpKeepalive::new().with_time(seconds).with_interval(KEEPALIVE_INTERVAL)
}

/// Says where the connection comes from; an error goes on behind the source's name.
fn come_from(source: &Source, socket: &Socket) -> Result<(), String> {
    match source {
        Source::Ip(ip) => bind(socket, *ip).map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => "is not an address of this machine".to_owned(),
            _ => format!("cannot be dialed from: {error}"),
        }),
        Source::Interface(name) => {
            socket.bind_device(Some(name.as_bytes())).map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::NODEV) => "is not an interface of this machine".to_owned(),
                Some(Errno::PERM) => "cannot be dialed from: before Linux 5.7 that takes CAP_NET_RAW".to_owned(),
                _ => format!("cannot be dialed from: {error}"),
            })
        }
    }
}

/// Binds to an address and leaves the port to the connect, which knows where it leads: ports that are in use to other
/// upstreams are free for this one.
fn bind(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    uapi::setsockopt(socket.as_raw_fd(), c::IPPROTO_IP, c::IP_BIND_ADDRESS_NO_PORT, &1)?;
    socket.bind(&SocketAddr::new(ip, 0).into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 1);

    fn from(source: Source, to: SocketAddr) -> Result<Socket, DialError> {
        socket(to, &Settings { source: Some(source), ..Settings::DEFAULT })
    }

    fn with_keepalive(keepalive: Option<Timeout>) -> (bool, Option<u64>, Option<Duration>) {
        let socket = socket(V4, &Settings { keepalive, ..Settings::DEFAULT }).unwrap();
        let is_on = socket.keepalive().unwrap();
        let after = is_on.then(|| socket.tcp_keepalive_time().unwrap().as_secs());
        (is_on, after, socket.tcp_user_timeout().unwrap())
    }

    #[test]
    fn a_silent_peer_is_asked_when_the_route_says() {
        let after = |milliseconds| Some(Timeout::After(Duration::from_millis(milliseconds)));
        assert_eq!(with_keepalive(None), (true, Some(60), Some(USER_TIMEOUT)));
        assert_eq!(with_keepalive(after(30_000)), (true, Some(30), Some(USER_TIMEOUT)));
        assert_eq!(with_keepalive(after(1_001)), (true, Some(2), Some(USER_TIMEOUT)));
        let hour = Duration::from_secs(3600);
        assert_eq!(with_keepalive(after(3_600_000)), (true, Some(3600), Some(hour + Duration::from_secs(60))));
        assert_eq!(with_keepalive(Some(Timeout::Never)), (false, None, Some(USER_TIMEOUT)));
    }

    #[test]
    fn an_address_is_bound_without_a_port() {
        for (source, to) in [(V4, V4), (V6, V6)] {
            let socket = from(Source::Ip(source.ip()), to).unwrap();
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(SocketAddr::new(source.ip(), 0)));
        }
    }

    #[test]
    fn a_source_that_will_not_do_is_said() {
        let said = |source, to| from(source, to).unwrap_err().to_string();
        assert_eq!(
            said(Source::Ip([192, 0, 2, 1].into()), V4),
            "this machine cannot connect: source 192.0.2.1 is not an address of this machine"
        );
        assert_eq!(
            said(Source::Interface("no-such-one".into()), V4),
            "this machine cannot connect: source no-such-one is not an interface of this machine"
        );
        let other_family = from(Source::Ip(V4.ip()), V6).unwrap_err();
        assert_eq!(other_family.to_string(), "no way to this address: the route's source is of the other family");
        assert!(other_family.ejects(), "it never has a chance, and must not speak for those that have");
    }
}
