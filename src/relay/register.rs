//! The relays that are open, for who asks which they are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::close::Facts;

/// Every relay that is open, by its number.
#[derive(Debug, Default)]
pub struct Register {
    open: Mutex<BTreeMap<u64, Arc<Facts>>>,
    last: AtomicU64,
}

/// The place of one relay in the register; dropped when the relay ends.
#[derive(Debug)]
pub struct Registered<'a> {
    register: &'a Register,
    id: u64,
}

impl Register {
    /// Enters a relay, for as long as the guard lives. The first has number 1.
    pub fn enter(&self, facts: &Arc<Facts>) -> Registered<'_> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.lock().insert(id, Arc::clone(facts));
        Registered { register: self, id }
    }

    /// At most `limit` relays with a number above `after`, by number.
    pub fn page(&self, after: u64, limit: usize) -> Vec<(u64, Arc<Facts>)> {
        let open = self.lock();
        let behind = open.range((Bound::Excluded(after), Bound::Unbounded));
        behind.take(limit).map(|(id, facts)| (*id, Arc::clone(facts))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Facts>>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered<'_> {
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
    fn a_relay_is_there_until_its_guard_is_dropped() {
        let facts = |node: &str| {
            let (node, route) = (NodeName::parse(node).unwrap(), testing::row(testing::route("", 1)));
            Arc::new(Facts { node, route, address: ([127, 0, 0, 1], 1).into(), attempts: 1 })
        };
        let register = Register::default();
        let [a, b, c] = ["a", "b", "c"].map(|node| register.enter(&facts(node)));
        let ids = |after, limit| -> Vec<_> {
            let page = register.page(after, limit);
            page.iter().map(|(id, facts)| format!("{id}{}", facts.node.as_str())).collect()
        };
        assert_eq!(ids(0, 2), ["1a", "2b"]);
        assert_eq!(ids(2, 2), ["3c"]);
        drop(b);
        assert_eq!(ids(0, 9), ["1a", "3c"]);
        drop((a, c));
        assert!(ids(0, 9).is_empty());
    }
}
