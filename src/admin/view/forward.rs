//! The shapes of forwards: those of the configuration, and leases.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::close::millis;
use crate::lease::Lease;
use crate::listen::OpenForward;

/// A door without a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardView {
    /// Where it listens: `address:port` or `unix:path`.
    pub address: String,
    /// The node that its clients are connected to.
    pub node: String,
    /// Who may connect, by number; null: whoever reaches it.
    pub users: Option<Vec<u32>>,
    /// How many connections there are, of those whose node is still being dialed, too.
    pub open: usize,
    /// When it ends, if it is a lease; null if it is one of the configuration.
    pub lease: Option<LeaseTimeView>,
}

/// When a lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimeView {
    /// After so many milliseconds of no use.
    pub idle_timeout_ms: u64,
    /// In so many from now on, if nobody uses it and nobody asks for it again; null while somebody uses it.
    pub left_ms: Option<u64>,
}

/// The forwards that are open: `GET /v1/forwards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardList {
    /// Those of the configuration, then the leases.
    pub forwards: Vec<ForwardView>,
}

impl ForwardView {
    /// One of the configuration.
    pub fn of(open: &OpenForward) -> Self {
        let OpenForward { address, forward } = open;
        Self {
            address: address.to_string(),
            node: forward.node.to_string(),
            users: forward.users.as_ref().map(|users| users.to_vec()),
            open: forward.uses.open(),
            lease: None,
        }
    }

    /// A lease.
    pub fn of_lease(lease: &Lease, idle_timeout: Duration) -> Self {
        let left_ms = lease.left(idle_timeout).map(millis);
        Self {
            address: lease.address.to_string(),
            node: lease.forward.node.to_string(),
            users: Some(vec![lease.uid]),
            open: lease.forward.uses.open(),
            lease: Some(LeaseTimeView { idle_timeout_ms: millis(idle_timeout), left_ms }),
        }
    }
}
