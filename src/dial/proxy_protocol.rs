//! The PROXY protocol, version 2: the first bytes of a connection, which tell the upstream who the client is.
//!
//! From haproxy's `doc/proxy-protocol.txt`, section 2.2: a signature, version and command, address family and length in
//! 16 bytes, then the addresses, then values that have a type.

use std::net::{IpAddr, SocketAddr};

use crate::node::NodeName;

/// The two ends of a client's TCP connection to a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client's.
    pub client: SocketAddr,
    /// The forward's.
    pub forward: SocketAddr,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 with the command LOCAL: the connection is the proxy's own, and its addresses are those that count.
const LOCAL: u8 = 0x20;
/// Version 2 with the command PROXY: the addresses are those of a client.
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// The name that the client asks for (PP2_TYPE_AUTHORITY), up to 255 bytes of UTF-8, as a node's name is.
const AUTHORITY: u8 = 0x02;

/// What an upstream is told of a client that asks for this node.
///
/// A client of a Unix socket has no address that the protocol could tell an upstream on another machine. The command is
/// LOCAL then, which every receiver has to take; PROXY with the family UNSPEC or UNIX ends in a reset at HAProxy 2.6.
/// There is no checksum: TCP has one.
pub(crate) fn header(ends: Option<Ends>, node: &NodeName) -> Box<[u8]> {
    let mut body = Vec::new();
    let family = ends.and_then(|ends| push_addresses(ends, &mut body));
    push_value(AUTHORITY, node.as_str(), &mut body);
    let (command, family) = family.map_or((LOCAL, UNSPEC), |family| (PROXY, family));
    whole(command, family, &body)
}

/// What an upstream is told of a connection that no client asked for.
pub(crate) fn of_probe() -> Box<[u8]> {
    whole(LOCAL, UNSPEC, &[])
}

fn whole(command: u8, family: u8, body: &[u8]) -> Box<[u8]> {
    // A name of 255 bytes and two addresses are far below what two bytes count.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&SIGNATURE, [command, family].as_slice(), &length, body].concat().into()
}

/// Source address, destination address, source port, destination port. A socket that serves both families calls an IPv4
/// address `::ffff:10.0.0.5`.
fn push_addresses(ends: Ends, body: &mut Vec<u8>) -> Option<u8> {
    let family = match (ends.client.ip().to_canonical(), ends.forward.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(forward)) => {
            body.extend([client.octets(), forward.octets()].as_flattened());
            TCP_OVER_IPV4
        }
        (IpAddr::V6(client), IpAddr::V6(forward)) => {
            body.extend([client.octets(), forward.octets()].as_flattened());
            TCP_OVER_IPV6
        }
        // No connection has two families.
        _ => return None,
    };
    body.extend([ends.client.port(), ends.forward.port()].map(u16::to_be_bytes).as_flattened());
    Some(family)
}

fn push_value(kind: u8, value: &str, body: &mut Vec<u8>) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    body.push(kind);
    body.extend(length);
    body.extend(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn ends(client: &str, forward: &str) -> Ends {
        Ends { client: client.parse().unwrap(), forward: forward.parse().unwrap() }
    }

    #[test]
    fn a_client_of_ipv4() {
        let told = header(Some(ends("10.1.2.3:258", "10.9.9.9:7001")), &node("db@x"));
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x13\x0a\x01\x02\x03\x0a\x09\x09\x09\x01\x02\x1b\x59\x02\x00\x04db@x";
        assert_eq!(&*told, expected);
        assert_eq!(header(Some(ends("[::ffff:10.1.2.3]:258", "[::ffff:10.9.9.9]:7001")), &node("db@x")), told);
    }

    #[test]
    fn a_client_of_ipv6() {
        let told = header(Some(ends("[fd00::1]:258", "[fd00::2]:7001")), &node("db@x"));
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x2b\
            \xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01\x02\x1b\x59\x02\x00\x04db@x";
        assert_eq!(&*told, expected);
    }

    #[test]
    fn who_has_no_address_is_the_proxy_itself() {
        assert_eq!(&*header(None, &node("db@x")), b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x07\x02\x00\x04db@x");
        assert_eq!(&*of_probe(), b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00");
    }

    proptest! {
        #[test]
        fn it_has_the_length_that_it_says(
            client in any::<SocketAddr>(), forward in any::<SocketAddr>(), name in "[a-zé@]{1,120}",
        ) {
            for ends in [None, Some(Ends { client, forward })] {
                let told = header(ends, &node(&name));
                prop_assert_eq!(usize::from(u16::from_be_bytes([told[14], told[15]])) + 16, told.len());
                prop_assert!(told.ends_with(name.as_bytes()));
            }
        }
    }
}
