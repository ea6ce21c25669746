//! The relays that are open, for who asks which they are.

use std::collections::BTreeMap;
use std::ops::{Bound, Deref};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::close::Facts;

/// Every relay that is open, by its number.
#[derive(Debug, Default)]
pub struct Register {
    open: Mutex<BTreeMap<u64, Weak<Registered>>>,
    last: AtomicU64,
}

/// What is known of a relay. It is in the register until it is dropped: a guard of its own would be a part of the
/// relay's task, whose size counts.
#[derive(Debug)]
pub struct Registered {
    /// Its number; the first has 1.
    pub id: u64,
    facts: Facts,
    register: Arc<Register>,
}

impl Register {
    /// Enters a relay, for as long as somebody has what is returned.
    pub fn enter(self: &Arc<Self>, facts: Facts) -> Arc<Registered> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let registered = Arc::new(Registered { id, facts, register: Arc::clone(self) });
        self.lock().insert(id, Arc::downgrade(&registered));
        registered
    }

    /// At most `limit` relays with a number above `after`, by number.
    pub fn page(&self, after: u64, limit: usize) -> Vec<Arc<Registered>> {
        let open = self.lock();
        let behind = open.range((Bound::Excluded(after), Bound::Unbounded));
        behind.filter_map(|(_, relay)| relay.upgrade()).take(limit).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Registered>>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Registered {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.register.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeName;
    use crate::route::testing;

    #[test]
    fn a_relay_is_there_until_it_is_dropped() {
        let facts = |node: &str| {
            let (node, route) = (NodeName::parse(node).unwrap(), testing::row(testing::route("", 1)));
            Facts { node, route, address: ([127, 0, 0, 1], 1).into(), attempts: 1, slot: None }
        };
        let register = Arc::<Register>::default();
        let [a, b, c] = ["a", "b", "c"].map(|node| register.enter(facts(node)));
        let ids = |after, limit| -> Vec<_> {
            let page = register.page(after, limit);
            page.iter().map(|relay| format!("{}{}", relay.id, relay.node.as_str())).collect()
        };
        assert_eq!(ids(0, 2), ["1a", "2b"]);
        assert_eq!(ids(2, 2), ["3c"]);
        drop(b);
        assert_eq!(ids(0, 9), ["1a", "3c"]);
        drop((a, c));
        assert!(ids(0, 9).is_empty());
    }
}
