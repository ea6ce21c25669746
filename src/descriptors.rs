//! What the system lets a process have, and what that leaves of `limits.relays`.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Limits;
use crate::relay::PIPE_DESCRIPTORS;

/// Descriptors that are not a relay's own: the log, epoll, the doors, the files of a reload, name lookups; and the pipes
/// that relays borrow.
const RESERVED: u64 = 64 + PIPE_DESCRIPTORS;
/// The client's and the upstream's.
const PER_RELAY: u64 = 2;
/// One of so many is kept for [`Spare`]s.
const PER_SPARE: u64 = 16;

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
pub fn relays(limits: &Limits) -> usize {
    let descriptors = limit();
    let allowed = relays_within(descriptors);
    if allowed < limits.relays {
        warn!(
            relays = limits.relays,
            allowed, descriptors, "limits.relays is cut down to what the descriptors allow; raise LimitNOFILE for more"
        );
    }
    allowed.min(limits.relays)
}

fn limit() -> u64 {
    // `None` is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn relays_within(descriptors: u64) -> usize {
    let relays = descriptors.saturating_sub(RESERVED + spares_of(descriptors)) / PER_RELAY;
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
        assert_eq!((relays_within(20_000), spares_of(20_000)), (9_311, 1_250));
        assert_eq!(relays_within(10), 1, "a daemon that can relay nothing would be of no use");
        assert!(relays_within(u64::MAX) > 1 << 40);
    }
}
