//! The relays that are open: for who asks which they are, and for who ends them.
//!
//! A relay takes a lock when it is opened and when it is closed, one of many, which nobody holds for longer than a few
//! microseconds. While it is open it shares nothing: its counters and the order to end are in an entry of its own.

use std::array;
use std::collections::BTreeMap;
use std::iter;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

use crate::close::{End, Facts, Side};

/// So many that the threads of a large machine seldom meet at one of them.
const SHARDS: usize = 64;

/// Relays that are looked at under one hold of a shard's lock.
const AT_ONCE: usize = 256;

/// Every relay that is open, by its number.
#[derive(Debug)]
pub struct Register {
    shards: [Shard; SHARDS],
    last: AtomicU64,
    /// What the relays' times count from.
    began: Instant,
    /// Every relay is cut, those that enter from now on too.
    is_over: AtomicBool,
}

/// The relays whose numbers leave the same rest, by number. Aligned, so that threads do not meet at a cache line either.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<Vec<(u64, Weak<Registered>)>>);

/// What is known of a relay, and the order to end it. It is in the register until it is dropped: a guard of its own
/// would be a part of the relay's task, whose size counts.
#[derive(Debug)]
pub struct Registered {
    /// Its number; the first has 1.
    pub id: u64,
    /// When it was opened, in microseconds since the register began: an `Instant` would be twice as long.
    opened: u64,
    up: Counter,
    down: Counter,
    /// In a box of its own: two small pieces find room between the aligned ones of the tasks and sockets, one large does not.
    facts: Box<Facts>,
    /// The code of a [`Cut`], or [`GOES_ON`].
    order: AtomicU8,
    /// The relay's task.
    task: AtomicWaker,
    register: Arc<Register>,
}

/// Counts bytes. One task adds, anybody reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Why a relay is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// A drain came to its end.
    Drained = 1,
    /// An operator wants it closed.
    Closed = 2,
}

/// No order to end.
const GOES_ON: u8 = 0;

impl Register {
    /// Enters a relay, for as long as somebody has what is returned.
    pub fn enter(self: &Arc<Self>, facts: Facts) -> Arc<Registered> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let registered = Arc::new(Registered {
            id,
            opened: micros(self.began.elapsed()),
            up: Counter::default(),
            down: Counter::default(),
            facts: Box::new(facts),
            order: AtomicU8::new(GOES_ON),
            task: AtomicWaker::new(),
            register: Arc::clone(self),
        });
        self.shard(id).enter(id, Arc::downgrade(&registered));
        // After the insertion: `cut_all` says so first and locks then, so that this relay is seen there or sees it here.
        if self.is_over.load(Ordering::Relaxed) {
            registered.cut(Cut::Drained);
        }
        registered
    }

    /// At most `limit` relays with a number above `after` that are wanted, by number.
    pub fn page(&self, after: u64, limit: usize, wanted: impl Fn(&Facts) -> bool) -> Vec<Arc<Registered>> {
        let mut page = BTreeMap::new();
        for shard in &self.shards {
            for relay in shard.iter_after(after).filter(|relay| wanted(relay)) {
                let is_full = page.len() == limit;
                if is_full && page.last_key_value().is_none_or(|(last, _)| relay.id > *last) {
                    break;
                }
                page.insert(relay.id, relay);
                if is_full {
                    page.pop_last();
                }
            }
        }
        page.into_values().collect()
    }

    /// Tells a relay to end; false if there is none with this number, or it has been told already.
    pub fn cut(&self, id: u64, cut: Cut) -> bool {
        let relay = self.shard(id).get(id);
        relay.is_some_and(|relay| relay.cut(cut))
    }

    /// Tells every relay that is wanted to end, and says how many they are.
    pub fn cut_where(&self, cut: Cut, wanted: impl Fn(&Facts) -> bool) -> usize {
        let relays = self.shards.iter().flat_map(|shard| shard.iter_after(0));
        relays.filter(|relay| wanted(relay) && relay.cut(cut)).count()
    }

    /// Tells every relay to end because the drain is over, and every one that enters later.
    pub fn cut_all(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.cut_where(Cut::Drained, |_| true);
    }

    fn shard(&self, id: u64) -> &Shard {
        let [first, ..] = &self.shards;
        // The rest is never out of range.
        let rest = usize::try_from(id % SHARDS as u64).unwrap_or_default();
        self.shards.get(rest).unwrap_or(first)
    }
}

impl Default for Register {
    fn default() -> Self {
        let (shards, began) = (array::from_fn(|_| Shard::default()), Instant::now());
        Self { shards, last: AtomicU64::new(0), began, is_over: AtomicBool::new(false) }
    }
}

impl Shard {
    /// Its relays with a number above `after`, by number. The lock is not held while one is looked at.
    fn iter_after(&self, mut after: u64) -> impl Iterator<Item = Arc<Registered>> {
        let mut some = Vec::new().into_iter();
        iter::from_fn(move || {
            if some.len() == 0 {
                some = self.some_after(after).into_iter();
            }
            let relay: Arc<Registered> = some.next()?;
            after = relay.id;
            Some(relay)
        })
    }

    fn some_after(&self, after: u64) -> Vec<Arc<Registered>> {
        let open = self.lock();
        let behind = open.iter().skip(open.partition_point(|(id, _)| *id <= after));
        behind.filter_map(|(_, relay)| relay.upgrade()).take(AT_ONCE).collect()
    }

    fn enter(&self, id: u64, relay: Weak<Registered>) {
        let mut open = self.lock();
        if open.len() == open.capacity() {
            // By a quarter and not to the double: there is an entry for each idle relay.
            let more = open.len() / 4 + 8;
            open.reserve_exact(more);
        }
        // Mostly behind all others: the numbers were given out a moment ago.
        let place = open.partition_point(|(other, _)| *other < id);
        open.insert(place, (id, relay));
    }

    fn leave(&self, id: u64) {
        let mut open = self.lock();
        if let Ok(place) = open.binary_search_by_key(&id, |(id, _)| *id) {
            open.remove(place);
        }
    }

    fn get(&self, id: u64) -> Option<Arc<Registered>> {
        let open = self.lock();
        let place = open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        open.get(place)?.1.upgrade()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Weak<Registered>)>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// What it keeps of its request.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Bytes that came from this side and that the other one has accepted.
    pub fn delivered(&self, from: Side) -> &Counter {
        match from {
            Side::Client => &self.up,
            Side::Upstream => &self.down,
        }
    }

    /// Ready when the relay is told to end; the task that asked last is woken for it.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<End> {
        if let Some(cut) = self.ordered() {
            return Poll::Ready(cut.into());
        }
        self.task.register(cx.waker());
        // The order may have come before there was a task to wake.
        self.ordered().map_or(Poll::Pending, |cut| Poll::Ready(cut.into()))
    }

    /// For how long it has been open.
    pub fn age(&self) -> Duration {
        self.register.began.elapsed().saturating_sub(Duration::from_micros(self.opened))
    }

    /// Tells the relay to end; false if it has been told already.
    fn cut(&self, cut: Cut) -> bool {
        let first = self.order.compare_exchange(GOES_ON, cut as u8, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first {
            self.task.wake();
        }
        first
    }

    fn ordered(&self) -> Option<Cut> {
        let order = self.order.load(Ordering::Relaxed);
        [Cut::Drained, Cut::Closed].into_iter().find(|cut| *cut as u8 == order)
    }
}

impl Counter {
    /// The sum of what was added.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds; for the relay's own task.
    pub(super) fn add(&self, bytes: usize) {
        // There is one writer: an addition in one step would lock the cache line for nothing.
        self.0.store(self.get().wrapping_add(bytes as u64), Ordering::Relaxed);
    }
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Drained => Self::Drained,
            Cut::Closed => Self::Closed,
        }
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
        self.register.shard(self.id).leave(self.id);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Relays in a register, for the tests of every room.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::listen::Peer;
    use crate::node::NodeName;
    use crate::route::testing;

    /// What is known of a relay to this node, by the route with this pattern.
    pub(crate) fn facts(node: &str, pattern: &str) -> Facts {
        let (node, course) = (NodeName::parse(node).unwrap(), testing::row(testing::route(pattern, 1)).into());
        Facts { client: Peer::Unknown, node, course, address: ([127, 0, 0, 1], 1).into(), attempts: 1, slot: None }
    }

    /// A relay in a register of its own.
    pub(crate) fn registered() -> Arc<Registered> {
        Arc::<Register>::default().enter(facts("node", ""))
    }
}

#[cfg(test)]
mod tests;
