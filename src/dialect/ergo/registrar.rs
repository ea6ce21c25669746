//! The packets of Ergo's registrar (net/registrar/types.go, client.go and server.go): a registration over TCP, a question
//! over UDP. Version, type, length, and an EDF value of a registered type.

use super::GenRoute;
use super::edf::{BadEdf, REGISTERED, Reader, put_error, put_slice, put_string};
use super::route::LEAST;

/// The version of the protocol.
const VERSION: u8 = 1;
/// Version, type, length.
const HEAD: usize = 4;
/// The most bytes of a packet.
pub const WHOLE: usize = HEAD + u16::MAX as usize;

const PACKAGE: &str = "#ergo.services/ergo/net/registrar/";

/// What a node and a registrar say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A node says where it listens (TCP, 44).
    Register {
        /// The node.
        node: String,
        /// Where it listens.
        routes: Vec<GenRoute>,
    },
    /// What came of it (TCP, 45).
    Registered {
        /// Why not; `None`: it is registered for as long as the connection lasts.
        error: Option<String>,
    },
    /// Where is that node (UDP, 46)?
    Resolve {
        /// The node.
        node: String,
    },
    /// There (UDP, 47). It bears neither the node's name nor a number: only the socket tells whose answer it is.
    Resolved {
        /// Where it listens, in its order.
        routes: Vec<GenRoute>,
        /// Why that is not known.
        error: Option<String>,
    },
}

impl Packet {
    /// How many bytes the packet at the front has, whatever its type; `None` while that is not known.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, BadEdf> {
        match bytes {
            [version, ..] if *version != VERSION => Err(bad_version(*version)),
            [_, _, l0, l1, ..] => Ok(Some(HEAD + usize::from(u16::from_be_bytes([*l0, *l1])))),
            _ => Ok(None),
        }
    }

    /// Reads a packet from the front, and how many bytes it has; `None` while more are needed.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadEdf> {
        let (Some(whole), Some(&kind)) = (Self::length(bytes)?, bytes.get(1)) else { return Ok(None) };
        if !(44..=47).contains(&kind) {
            return Err(BadEdf { at: 1, what: format!("the packet is of type {kind}, and there are 44 to 47") });
        }
        let Some(body) = bytes.get(..whole) else { return Ok(None) };
        let mut reader = Reader::new(body);
        reader.take(HEAD, "the head")?;
        let packet = Self::body(kind, &mut reader)?;
        if !reader.is_at_end() {
            return Err(reader.bad("bytes are left behind the value"));
        }
        Ok(Some((packet, whole)))
    }

    fn body(kind: u8, reader: &mut Reader<'_>) -> Result<Self, BadEdf> {
        reader.expect(REGISTERED, "a registered type")?;
        let name = reader.string("the name of the type")?;
        let wanted = name_of(kind);
        if name.strip_prefix(PACKAGE) != Some(wanted) {
            let name: String = name.chars().take(80).collect();
            return Err(reader.bad(format!("a packet of type {kind} has a {name:?}, and not a {wanted}")));
        }
        let routes = |reader: &mut Reader<'_>| reader.slice("the routes", LEAST, GenRoute::read);
        Ok(match kind {
            44 => Self::Register { node: reader.atom("the node")?, routes: routes(reader)? },
            45 => Self::Registered { error: reader.error("the error")? },
            46 => Self::Resolve { node: reader.atom("the node")? },
            _ => Self::Resolved { routes: routes(reader)?, error: reader.error("the error")? },
        })
    }

    /// As bytes. Who needs more than [`WHOLE`] of them gets fewer routes.
    pub fn written(&self) -> Vec<u8> {
        let kind = self.kind();
        let mut out = vec![VERSION, kind, 0, 0, REGISTERED];
        put_string(&mut out, &format!("{PACKAGE}{}", name_of(kind)));
        let put_routes = |out: &mut Vec<u8>, routes: &[GenRoute]| put_slice(out, routes, |out, route| route.put(out));
        match self {
            Self::Register { node, routes } => {
                put_string(&mut out, node);
                put_routes(&mut out, routes);
            }
            Self::Registered { error } => put_error(&mut out, error.as_deref()),
            Self::Resolve { node } => put_string(&mut out, node),
            Self::Resolved { routes, error } => {
                put_routes(&mut out, routes);
                put_error(&mut out, error.as_deref());
            }
        }
        let length = u16::try_from(out.len() - HEAD).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(2..HEAD) {
            place.copy_from_slice(&length);
        }
        out
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Register { .. } => 44,
            Self::Registered { .. } => 45,
            Self::Resolve { .. } => 46,
            Self::Resolved { .. } => 47,
        }
    }
}

fn name_of(kind: u8) -> &'static str {
    match kind {
        44 => "MessageRegisterRoutes",
        45 => "MessageRegisterReply",
        46 => "MessageResolveRoutes",
        _ => "MessageResolveReply",
    }
}

fn bad_version(version: u8) -> BadEdf {
    BadEdf { at: 0, what: format!("the packet is of version {version}, and there is {VERSION}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::route::tests::{any_route, route};
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap()).collect()
    }

    /// What nodes of Ergo 3.1.0 and their registrar have said to one another.
    fn recorded() -> Vec<(&'static str, Packet)> {
        let register =
            |node: &str, port, tls| Packet::Register { node: node.into(), routes: vec![route("", port, tls)] };
        let error = |text: &str| Some(text.to_owned());
        vec![
            (
                "012c0072830037236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265676973746572526f75746573000c636c403132372e302e302e319d0000000100003a9a00000345485300025231000000034d49540003454e5000025231000000034d4954",
                register("cl@127.0.0.1", 15002, false),
            ),
            (
                "012c0073830037236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265676973746572526f75746573000d636c32403132372e302e302e319d0000000100003a9b01000345485300025231000000034d49540003454e5000025231000000034d4954",
                register("cl2@127.0.0.1", 15003, true),
            ),
            (
                "012d003b830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d65737361676552656769737465725265706c79ffff",
                Packet::Registered { error: None },
            ),
            (
                "012d004c830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d65737361676552656769737465725265706c7900117265736f757263652069732074616b656e",
                Packet::Registered { error: error("resource is taken") },
            ),
            (
                "012e0048830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c7665526f75746573000d737276403132372e302e302e31",
                Packet::Resolve { node: "srv@127.0.0.1".into() },
            ),
            (
                "012f0064830035236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c76655265706c799d0000000100003a9900000345485300025231000000034d49540003454e5000025231000000034d4954ffff",
                Packet::Resolved { routes: vec![route("", 15001, false)], error: None },
            ),
            (
                "012f0042830035236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c76655265706c79ff0007756e6b6e6f776e",
                Packet::Resolved { routes: vec![], error: error("unknown") },
            ),
        ]
    }

    #[test]
    fn what_was_recorded_is_read_and_written_byte_for_byte_and_by_byte() {
        for (hex, packet) in recorded() {
            let whole = bytes(hex);
            assert_eq!(packet.written(), whole);
            for end in 0..whole.len() {
                assert_eq!(Packet::read(&whole[..end]), Ok(None), "{end}");
                assert_eq!(Packet::length(&whole[..end]), Ok((end >= HEAD).then_some(whole.len())));
            }
            let behind = [&whole[..], b"more"].concat();
            assert_eq!(Packet::read(&behind), Ok(Some((packet, whole.len()))));
        }
    }

    #[test]
    fn what_is_no_packet_is_said() {
        let said = |bytes: &[u8]| Packet::read(bytes).unwrap_err().to_string();
        assert_eq!(said(b"\x02"), "at byte 0: the packet is of version 2, and there is 1");
        assert_eq!(Packet::length(b"\x01\x30\0\x02x"), Ok(Some(6)), "its type is not looked at");
        assert!(Packet::length(b"\x02").is_err());
        assert_eq!(said(b"\x01\x30\0\0"), "at byte 1: the packet is of type 48, and there are 44 to 47");
        assert_eq!(said(b"\x01\x2e\0\x01\x82"), "at byte 4: 0x82 stands in the place of a registered type (0x83)");
        let mut other = recorded()[4].0.to_owned();
        other.replace_range(2..4, "2d");
        assert!(said(&bytes(&other)).contains("and not a MessageRegisterReply"), "{}", said(&bytes(&other)));
    }

    proptest! {
        #[test]
        fn packets_are_read_as_they_are_written(
            node in "[a-z]{0,9}@?[a-zé.]{0,9}",
            routes in prop::collection::vec(any_route(), 0..4),
            error in proptest::option::of("[a-z ]{0,20}"),
        ) {
            for packet in [
                Packet::Register { node: node.clone(), routes: routes.clone() },
                Packet::Registered { error: error.clone() },
                Packet::Resolve { node },
                Packet::Resolved { routes, error },
            ] {
                let written = packet.written();
                prop_assert_eq!(Packet::read(&written), Ok(Some((packet, written.len()))));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(kind in 44..48u8, bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            drop(Packet::read(&bytes));
            drop(Packet::length(&bytes));
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            drop(Packet::read(&[&[VERSION, kind, length[0], length[1]], &bytes[..]].concat()));
        }
    }
}
