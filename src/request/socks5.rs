//! SOCKS5 (RFC 1928): the greeting and the request. Only "no authentication" and CONNECT are spoken.
//!
//! Fields are checked in the order in which they come, so that an error does not depend on how much was read.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::BadHead;
use crate::node::NodeName;

/// The first byte of everything that either side says.
pub(super) const VERSION: u8 = 5;

/// The answer to a greeting that offers the method 0.
pub(super) const NO_AUTHENTICATION: &[u8] = &[VERSION, 0];

const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN_NAME: u8 = 3;
const IPV6: u8 = 4;

/// Where the greeting ends (section 3): a version, a count, and so many methods, one of which must be 0. `None`: it is
/// not complete.
pub(super) fn greeting(bytes: &[u8]) -> Result<Option<usize>, BadHead> {
    check_version(bytes)?;
    let Some(count) = bytes.get(1) else { return Ok(None) };
    let end = 2 + usize::from(*count);
    match bytes.get(2..end) {
        None => Ok(None),
        Some(methods) if methods.contains(&0) => Ok(Some(end)),
        Some(_) => Err(BadHead::SocksMethod),
    }
}

/// The node that is asked for, and where the request ends (section 4): version, command, a zero, address type,
/// address, and a port that means nothing here. `None`: it is not complete.
pub(super) fn request(bytes: &[u8]) -> Result<Option<(NodeName, usize)>, BadHead> {
    check_version(bytes)?;
    match bytes.get(1) {
        Some(&CONNECT) | None => {}
        Some(command) => return Err(BadHead::SocksCommand(*command)),
    }
    match bytes.get(2) {
        Some(0) | None => {}
        Some(reserved) => {
            return Err(BadHead::Malformed(format!("the reserved byte of the SOCKS5 request is {reserved}, not 0")));
        }
    }
    let Some((address_type, rest)) = bytes.get(3..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let address = match *address_type {
        // A domain name is the node's name as it stands; an address is asked for by its text (RFC 5952).
        DOMAIN_NAME => rest
            .split_first()
            .and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)))
            .map(|(name, rest)| (name.to_vec(), rest)),
        IPV4 => rest.split_first_chunk().map(|(ip, rest)| (Ipv4Addr::from_octets(*ip).to_string().into_bytes(), rest)),
        IPV6 => rest.split_first_chunk().map(|(ip, rest)| (Ipv6Addr::from_octets(*ip).to_string().into_bytes(), rest)),
        other => return Err(BadHead::SocksAddressType(other)),
    };
    let Some((name, rest)) = address else { return Ok(None) };
    let Some((_port, behind)) = rest.split_first_chunk::<2>() else { return Ok(None) };
    let node = NodeName::from_bytes(&name).map_err(|bad| BadHead::Malformed(bad.to_string()))?;
    Ok(Some((node, bytes.len() - behind.len())))
}

fn check_version(bytes: &[u8]) -> Result<(), BadHead> {
    match bytes.first() {
        Some(&VERSION) | None => Ok(()),
        Some(other) => Err(BadHead::Malformed(format!("the version of the SOCKS5 request is {other}, not 5"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(address: &[u8]) -> Result<Option<(String, usize)>, BadHead> {
        let bytes = [&[5, 1, 0][..], address].concat();
        request(&bytes).map(|done| done.map(|(node, end)| (node.to_string(), end)))
    }

    #[test]
    fn a_greeting_must_offer_no_authentication() {
        assert_eq!(greeting(b"\x05\x01\x00"), Ok(Some(3)));
        assert_eq!(greeting(b"\x05\x02\x02\x00behind"), Ok(Some(4)));
        assert_eq!(greeting(b"\x05\x02\x02"), Ok(None));
        assert_eq!(greeting(b"\x05\x01\x02"), Err(BadHead::SocksMethod));
        assert_eq!(greeting(b"\x05\x00"), Err(BadHead::SocksMethod));
    }

    #[test]
    fn every_address_becomes_a_name_and_the_port_is_ignored() {
        assert_eq!(asked(b"\x03\x03a@b\xff\xff"), Ok(Some(("a@b".into(), 10))));
        assert_eq!(asked(b"\x01\x0a\x00\x01\x32\x00\x50behind"), Ok(Some(("10.0.1.50".into(), 10))));
        let ipv6 = b"\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0";
        assert_eq!(asked(ipv6), Ok(Some(("fd00::1".into(), 22))));
        let longest = [&[3, 255][..], &[b'x'; 255], &[0, 0]].concat();
        assert_eq!(asked(&longest).unwrap().unwrap().0.len(), 255);
    }

    #[test]
    fn what_is_not_spoken_is_refused_as_soon_as_it_is_seen() {
        assert_eq!(request(b"\x05\x02"), Err(BadHead::SocksCommand(2)));
        assert_eq!(request(b"\x05\x01\x00\x02"), Err(BadHead::SocksAddressType(2)));
        let text = |bytes: &[u8]| request(bytes).unwrap_err().to_string();
        assert_eq!(text(b"\x04\x01"), "the version of the SOCKS5 request is 4, not 5");
        assert_eq!(text(b"\x05\x01\x07"), "the reserved byte of the SOCKS5 request is 7, not 0");
        assert_eq!(text(b"\x05\x01\x00\x03\x00\x00\x00"), "the node name is empty");
        assert_eq!(text(b"\x05\x01\x00\x03\x01\xff\x00\x00"), "the node name is not UTF-8");
    }
}
