//! The packets of Ergo's registrar, as they were recorded, and who sends them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::HANG;

/// What nodes of Ergo 3.1.0 and their registrar have said to one another.
pub const REGISTER: &str = "012c0072830037236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265676973746572526f75746573000c636c403132372e302e302e319d0000000100003a9a00000345485300025231000000034d49540003454e5000025231000000034d4954";
pub const REGISTER_TLS: &str = "012c0073830037236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265676973746572526f75746573000d636c32403132372e302e302e319d0000000100003a9b01000345485300025231000000034d49540003454e5000025231000000034d4954";
/// Of `srv@127.0.0.1`, which another has.
pub const REGISTER_TAKEN: &str = "012c0073830037236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265676973746572526f75746573000d737276403132372e302e302e319d0000000100003a9b00000345485300025231000000034d49540003454e5000025231000000034d4954";
pub const REGISTERED: &str = "012d003b830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d65737361676552656769737465725265706c79ffff";
pub const TAKEN: &str = "012d004c830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d65737361676552656769737465725265706c7900117265736f757263652069732074616b656e";
/// Of `srv@127.0.0.1`, which is on port 15001.
pub const RESOLVE: &str = "012e0048830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c7665526f75746573000d737276403132372e302e302e31";
pub const RESOLVED: &str = "012f0064830035236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c76655265706c799d0000000100003a9900000345485300025231000000034d49540003454e5000025231000000034d4954ffff";
/// Of `nosuch@127.0.0.1`.
pub const RESOLVE_UNKNOWN: &str = "012e004b830036236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c7665526f7574657300106e6f73756368403132372e302e302e31";
pub const UNKNOWN: &str = "012f0042830035236572676f2e73657276696365732f6572676f2f6e65742f7265676973747261722f4d6573736167655265736f6c76655265706c79ff0007756e6b6e6f776e";

pub fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap()).collect()
}

/// The registration of `srv@127.0.0.1` on another port.
pub fn registration(port: u16) -> Vec<u8> {
    let mut packet = bytes(REGISTER_TAKEN);
    packet[84..86].copy_from_slice(&port.to_be_bytes());
    packet
}

/// The question for a node.
pub fn question(node: &str) -> Vec<u8> {
    let mut packet = bytes(RESOLVE)[..61].to_vec();
    packet.extend(u16::try_from(node.len()).unwrap().to_be_bytes());
    packet.extend(node.as_bytes());
    let length = u16::try_from(packet.len() - 4).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

/// Sends a packet, and says what is answered; the connection stays.
pub fn register(door: SocketAddr, packet: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut node = TcpStream::connect(door).unwrap();
    node.set_read_timeout(Some(HANG)).unwrap();
    node.write_all(packet).unwrap();
    let answer = answer(&mut node);
    (node, answer)
}

/// The next packet.
pub fn answer(node: &mut TcpStream) -> Vec<u8> {
    let mut answer = vec![0; 4];
    node.read_exact(&mut answer).unwrap();
    answer.resize(4 + usize::from(u16::from_be_bytes([answer[2], answer[3]])), 0);
    node.read_exact(&mut answer[4..]).unwrap();
    answer
}

/// What comes until the door ends the connection, which it does in order.
pub fn rest(node: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    node.read_to_end(&mut rest).unwrap();
    rest
}

/// Asks as Ergo's client does: from a socket of its own, which hears nobody but the one that it asks.
pub fn resolve(door: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(door).unwrap();
    let mut answer = [0; 4096];
    // A datagram may be lost.
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    for _ in 0..10 {
        socket.send(packet).unwrap();
        if let Ok(length) = socket.recv(&mut answer) {
            return answer[..length].to_vec();
        }
    }
    panic!("no answer");
}

/// The port of the lease that an answer tells of, which is otherwise as it was recorded but for the host.
pub fn leased(answer: &[u8]) -> u16 {
    let recorded = bytes(RESOLVED);
    let host = b"\0\x09127.0.0.1";
    assert_eq!(answer.len(), recorded.len() + 9, "{}", String::from_utf8_lossy(answer));
    assert_eq!((&answer[4..65], &answer[65..76], &answer[78..]), (&recorded[4..65], &host[..], &recorded[69..]));
    u16::from_be_bytes([answer[76], answer[77]])
}
