//! What the system lets a process have, and what that leaves of the configuration's limits.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::{Config, RegistrarConfig};
use crate::relay::PIPE_DESCRIPTORS;

/// Descriptors that are not a relay's own: the log, epoll, the doors, the files of a reload, name lookups; and the pipes
/// that relays borrow.
const RESERVED: u64 = 64 + PIPE_DESCRIPTORS;
/// The client's and the upstream's.
const PER_RELAY: u64 = 2;
/// One of so many is kept for [`Spare`]s.
const PER_SPARE: u64 = 16;
/// One of so many at most is a lease's, and as many a registered node's.
const PER_DOOR: u64 = 16;

static SPARES: AtomicU64 = AtomicU64::new(0);

/// The right to a descriptor beyond a relay's two, out of those that are kept for this; given back when it is dropped.
///
/// Without a bound, relays that take a third would leave none to others that `limits.relays` lets in.
#[derive(Debug)]
pub struct Spare(());

impl Spare {
    /// One, unless all are taken.
    pub fn take() -> Option<Self> {
        let most = spares_of(limit());
        let more = |taken: u64| (taken < most).then_some(taken + 1);
        SPARES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(()))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        SPARES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Raises the soft limit of descriptors to the hard limit, as nothing here uses select(2).
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, ?current, "the limit of descriptors cannot be raised");
    }
}

/// `limits.relays`, cut down to what the limit of descriptors allows.
pub fn relays(config: &Config) -> usize {
    let (limits, descriptors) = (&config.limits, limit());
    let allowed = relays_within(descriptors, others(config, descriptors));
    if allowed < limits.relays {
        warn!(
            relays = limits.relays,
            allowed, descriptors, "limits.relays is cut down to what the descriptors allow; raise LimitNOFILE for more"
        );
    }
    allowed.min(limits.relays)
}

/// `limits.leases`, cut down to a share of the descriptors: each listens.
pub fn leases(config: &Config) -> usize {
    share(config.limits.leases, limit())
}

/// `registrar.nodes`, cut down to a share of the descriptors: each has a connection.
pub fn nodes(registrar: &RegistrarConfig) -> usize {
    share(registrar.nodes, limit())
}

/// What leases and registered nodes may have.
fn others(config: &Config, descriptors: u64) -> u64 {
    let nodes = config.registrar.as_ref().map_or(0, |registrar| share(registrar.nodes, descriptors));
    (share(config.limits.leases, descriptors) + nodes) as u64
}

fn share(wanted: usize, descriptors: u64) -> usize {
    wanted.min(usize::try_from(descriptors / PER_DOOR).unwrap_or(usize::MAX))
}

fn limit() -> u64 {
    // `None` is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn relays_within(descriptors: u64, others: u64) -> usize {
    let relays = descriptors.saturating_sub(RESERVED + spares_of(descriptors) + others) / PER_RELAY;
    usize::try_from(relays).unwrap_or(usize::MAX).max(1)
}

fn spares_of(descriptors: u64) -> u64 {
    descriptors / PER_SPARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_takes_two_descriptors_and_some_are_kept_for_a_third() {
        assert_eq!((relays_within(20_000, 0), spares_of(20_000)), (9_311, 1_250));
        assert_eq!(relays_within(20_000, 1_000), 8_811);
        assert_eq!(relays_within(10, 0), 1, "a daemon that can relay nothing would be of no use");
        assert!(relays_within(u64::MAX, 0) > 1 << 40);
    }

    #[test]
    fn what_else_has_descriptors_has_a_share_of_them() {
        assert_eq!((share(1024, 20_000), share(1024, 1_024), share(0, 20_000)), (1024, 64, 0));
    }
}
