//! What the system lets a process have, and what that leaves of `limits.relays`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Limits;
use crate::relay::PIPE_DESCRIPTORS;

/// Descriptors that are not a relay's own: the log, epoll, the doors, the files of a reload, name lookups; and the pipes
/// that relays borrow.
const RESERVED: u64 = 64 + PIPE_DESCRIPTORS;
/// The client's and the upstream's.
const PER_RELAY: u64 = 2;

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
    // `None` is no limit.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let allowed = relays_within(descriptors);
    if allowed < limits.relays {
        warn!(
            relays = limits.relays,
            allowed, descriptors, "limits.relays is cut down to what the descriptors allow; raise LimitNOFILE for more"
        );
    }
    allowed.min(limits.relays)
}

fn relays_within(descriptors: u64) -> usize {
    let relays = descriptors.saturating_sub(RESERVED) / PER_RELAY;
    usize::try_from(relays).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_takes_two_descriptors() {
        assert_eq!(relays_within(20_000), 9_936);
        assert_eq!(relays_within(10), 1, "a daemon that can relay nothing would be of no use");
        assert!(relays_within(u64::MAX) > 1 << 40);
    }
}
