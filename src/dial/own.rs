//! The leases of this daemon, as addresses that are never dialed: such a connection would come in again as a request for
//! a node, and go out again, and so on.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{PoisonError, RwLock};

/// The ports of 127.0.0.1 on which leases listen.
#[derive(Debug, Default)]
pub struct OwnLeases(RwLock<HashSet<u16>>);

impl OwnLeases {
    /// A lease listens there.
    pub fn enter(&self, port: u16) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(port);
    }

    /// It is gone.
    pub fn leave(&self, port: u16) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }

    /// Whether who dials this address comes to a lease.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        // Linux takes the unspecified address for the loopback one.
        let ip = address.ip().to_canonical();
        let is_there = ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip.is_unspecified();
        is_there && self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&address.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_known_however_its_address_is_written() {
        let own = OwnLeases::default();
        own.enter(7001);
        let has = |address: &str| own.has(address.parse().unwrap());
        for address in ["127.0.0.1:7001", "0.0.0.0:7001", "[::]:7001", "[::ffff:127.0.0.1]:7001"] {
            assert!(has(address), "{address}");
        }
        for address in ["127.0.0.1:7002", "127.0.0.2:7001", "[::1]:7001"] {
            assert!(!has(address), "{address}");
        }
        own.leave(7001);
        assert!(!has("127.0.0.1:7001"));
    }
}
