//! Who owns the other end of a connection inside this machine: the kernel is asked by `sock_diag(7)`.
//!
//! It is an exact question for one socket, the peer's, of which our own address is the destination. What the kernel does
//! not know for certain is nobody's: a socket that is closed, or waits for its end, has lost its owner and is told with
//! the user 0 and no inode, and for a pair that is not there the kernel answers with whoever listens on the port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// The protocols that are asked about (RFC 790).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Transport {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

/// `nlmsghdr`, `inet_diag_req_v2` with its `inet_diag_sockid` (linux/netlink.h, linux/inet_diag.h).
const QUESTION: u32 = 16 + 8 + 48;
/// `nlmsghdr` and `inet_diag_msg`; attributes follow.
const ANSWER: usize = 16 + 72;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, and no dump: one socket is asked for.
const REQUEST: u16 = 1;

/// States of TCP in which a socket still has its owner: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT (linux/tcp.h). A UDP
/// socket is ESTABLISHED when it is connected, else CLOSE.
const OWNED: [u8; 5] = [1, 4, 5, 8, 7];

/// The user whose socket is at `peer`, connected to `ours`; `None` if the kernel knows of none.
pub(crate) fn owner(transport: Transport, peer: SocketAddr, ours: SocketAddr) -> io::Result<Option<u32>> {
    let (peer, ours) = (canonical(peer), canonical(ours));
    let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG))?;
    send(&socket, &question(transport, peer, ours), SendFlags::empty())?;
    // The kernel answers before `send` has returned. 1 KiB has room for every attribute.
    let mut answer = [0; 1024];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    Ok(read(answer.get(..length).unwrap_or_default(), transport, peer, ours))
}

/// An IPv4 peer of a socket for both families is told as IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn question(transport: Transport, peer: SocketAddr, ours: SocketAddr) -> Vec<u8> {
    let mut question = Vec::new();
    question.extend(QUESTION.to_ne_bytes());
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    // Sequence and port: there is one question, and the kernel fills in the port.
    question.extend([0; 8]);
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    question.extend([u8::try_from(family.as_raw()).unwrap_or_default(), transport as u8, 0, 0]);
    question.extend(u32::MAX.to_ne_bytes());
    // UDP wants the two the other way round "for historical reasons" (net/ipv4/udp_diag.c).
    let (from, to) = if transport == Transport::Tcp { (peer, ours) } else { (ours, peer) };
    question.extend(from.port().to_be_bytes());
    question.extend(to.port().to_be_bytes());
    question.extend(sixteen(from.ip()));
    question.extend(sixteen(to.ip()));
    question.extend(0_u32.to_ne_bytes());
    // INET_DIAG_NOCOOKIE
    question.extend([u8::MAX; 8]);
    question
}

/// An IPv4 address is in the first four bytes.
fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The owner that an answer names, if it is one, and of the socket that was asked for.
fn read(answer: &[u8], transport: Transport, peer: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let answer = answer.first_chunk::<ANSWER>()?;
    let bytes = |at: usize| answer.get(at..at + 4)?.try_into().ok();
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let state = *answer.get(17)?;
    let ports = [peer.port().to_be_bytes(), ours.port().to_be_bytes()].concat();
    let is_it = answer.get(20..24)? == ports && answer.get(24..40)? == sixteen(peer.ip());
    let is_connected_to_us = answer.get(40..56)? == sixteen(ours.ip());
    // Who sends a datagram from a socket that is not connected is known by its own address alone.
    let is_free = transport == Transport::Udp && answer.get(22..24)? == [0, 0];
    let is_it = is_it && is_connected_to_us || is_free && answer.get(20..22)? == peer.port().to_be_bytes();
    let (uid, inode) = (u32::from_ne_bytes(bytes(80)?), u32::from_ne_bytes(bytes(84)?));
    (kind == BY_FAMILY && is_it && OWNED.contains(&state) && inode != 0).then_some(uid)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn us() -> u32 {
        rustix::process::getuid().as_raw()
    }

    /// A connection to a listener at this address: the listener, the client, and what was accepted.
    fn connection(ip: IpAddr) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        (listener, client, accepted)
    }

    fn owner_of(accepted: &TcpStream) -> Option<u32> {
        owner(Transport::Tcp, accepted.peer_addr().unwrap(), accepted.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn the_owner_of_a_connection_is_known_for_both_families() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let (_listener, _client, accepted) = connection(ip);
            assert_eq!(owner_of(&accepted), Some(us()));
        }
    }

    #[test]
    fn nobody_owns_a_socket_that_is_closed_or_was_never_there() {
        let (listener, client, accepted) = connection(Ipv4Addr::LOCALHOST.into());
        drop(client);
        assert_eq!(owner_of(&accepted), None, "its uid is told as 0, which is not root's");
        let ours = listener.local_addr().unwrap();
        let from_listener = owner(Transport::Tcp, ours, accepted.peer_addr().unwrap()).unwrap();
        assert_eq!(from_listener, Some(us()), "our own end, asked from the other side");
        let nobody = SocketAddr::new(ours.ip(), 1);
        assert_eq!(owner(Transport::Tcp, ours, nobody).unwrap(), None, "the kernel answers with who listens there");
        assert_eq!(owner(Transport::Tcp, nobody, ours).unwrap(), None);
    }

    #[test]
    fn an_ipv4_peer_of_a_socket_for_both_families_is_known() {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port())).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert!(peer.is_ipv6());
        assert_eq!(owner_of(&accepted), Some(us()));
    }

    #[test]
    fn who_sent_a_datagram_is_known_connected_or_not() {
        let ours = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = ours.local_addr().unwrap();
        let theirs = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let asker = || owner(Transport::Udp, theirs.local_addr().unwrap(), at).unwrap();
        assert_eq!(asker(), Some(us()));
        theirs.connect(at).unwrap();
        assert_eq!(asker(), Some(us()));
        let gone = theirs.local_addr().unwrap();
        drop(theirs);
        assert_eq!(owner(Transport::Udp, gone, at).unwrap(), None);
    }

    #[test]
    fn an_answer_about_another_socket_names_nobody() {
        let (peer, ours) = (SocketAddr::from(([127, 0, 0, 1], 7)), SocketAddr::from(([127, 0, 0, 1], 8)));
        let good = {
            let mut answer = question(Transport::Tcp, peer, ours);
            // The socket's id stands 4 bytes further to the front there.
            answer.drain(20..24);
            answer.resize(ANSWER, 0);
            answer[17] = 1;
            answer[80..84].copy_from_slice(&1000_u32.to_ne_bytes());
            answer[84..88].copy_from_slice(&5_u32.to_ne_bytes());
            answer
        };
        let told = |answer: &[u8]| read(answer, Transport::Tcp, peer, ours);
        assert_eq!(told(&good), Some(1000));
        assert_eq!(told(&good[..ANSWER - 1]), None);
        for at in [4, 20, 22, 24, 40] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(told(&other), None, "byte {at}");
        }
        let mut orphan = good.clone();
        orphan[84..88].fill(0);
        assert_eq!(told(&orphan), None);
        let mut listening = good;
        listening[17] = 10;
        assert_eq!(told(&listening), None);
    }
}
