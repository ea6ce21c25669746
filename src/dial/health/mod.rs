//! What is known of every upstream that requests have wanted: it outlives requests and reloads, and is bounded.

mod dice;
mod ejection;
mod probe;
mod state;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hashbrown::HashTable;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) use self::dice::Dice;
use super::OwnLeases;
use super::network::Network;
use crate::drain::Drain;
use crate::route::{TlsPolicy, Upstream};

pub use state::{Health, LastError, Latency, Standing};

/// The [`Health`] of every upstream, by its address as it is written and its TLS policy.
///
/// To find one takes no lock. One is added when a plan first meets its upstream. There are at most 16,384: more than a
/// machine dials at once, and less than 10 MB. When there is no room, the one that was not dialed for longest gives
/// way, an ejected one only if there is no other beside it.
pub struct Upstreams {
    /// Each is copied when an upstream is added to it, and so is small.
    shards: [ArcSwap<Shard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    /// The number of the last that was added.
    last: AtomicU64,
    shared: Arc<Shared>,
}

type Shard = HashTable<Arc<Health>>;

const SHARDS: usize = 64;
/// The most upstreams of one shard.
const SHARD_ROOM: usize = 256;
/// The most probes at once; the next ones wait. Each has a descriptor, and a thread while it looks up a name.
const PROBES: usize = 32;

/// What every [`Health`] needs of the daemon.
#[derive(Debug)]
struct Shared {
    network: Box<dyn Network>,
    /// Nothing is dialed unasked once it has begun.
    drain: Drain,
    probes: Semaphore,
    dice: Dice,
    /// From when on the moments in atomics count.
    epoch: Instant,
}

impl Upstreams {
    /// None yet. What is started in the background ends when the drain begins; `own` is never dialed.
    pub fn new(drain: Drain, own: Arc<OwnLeases>) -> Self {
        Self::over(Box::new(super::network::Sockets(own)), drain, Dice::random())
    }

    pub(super) fn over(network: Box<dyn Network>, drain: Drain, dice: Dice) -> Self {
        let (probes, epoch) = (Semaphore::new(PROBES), Instant::now());
        Self {
            shards: std::array::from_fn(|_| ArcSwap::default()),
            hasher: foldhash::fast::RandomState::default(),
            last: AtomicU64::new(0),
            shared: Arc::new(Shared { network, drain, probes, dice, epoch }),
        }
    }

    /// What is known of an upstream; `None` if no request has wanted it yet.
    pub fn state_of(&self, upstream: &Upstream, tls: Option<&TlsPolicy>) -> Option<Arc<Health>> {
        let hash = self.hash(upstream);
        find(&self.shard(hash)?.load(), hash, upstream, tls).cloned()
    }

    /// At most `limit` of them, by their numbers, from behind `after` on; 0 is before the first.
    pub fn page(&self, after: u64, limit: usize) -> Vec<Arc<Health>> {
        let mut page: Vec<_> = self.all().filter(|health| health.id() > after).collect();
        page.sort_unstable_by_key(|health| health.id());
        page.truncate(limit);
        page
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// Whether no request has wanted any yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes one healthy at once, as if it had never failed; false if there is none of this number.
    pub fn reset(&self, id: u64) -> bool {
        let found = self.all().find(|health| health.id() == id);
        found.inspect(|health| health.reset()).is_some()
    }

    /// What is known of an upstream that a plan meets.
    pub(crate) fn meet(&self, upstream: &Upstream, tls: Option<&Arc<TlsPolicy>>) -> Arc<Health> {
        let hash = self.hash(upstream);
        let known = self.shard(hash).and_then(|shard| {
            let shard = shard.load();
            find(&shard, hash, upstream, tls.map(Arc::as_ref)).cloned()
        });
        known.unwrap_or_else(|| self.add(hash, upstream, tls))
    }

    /// How attempts are made.
    pub(super) fn network(&self) -> &dyn Network {
        self.shared.network.as_ref()
    }

    fn add(&self, hash: u64, upstream: &Upstream, tls: Option<&Arc<TlsPolicy>>) -> Arc<Health> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let new = Arc::new(Health::new(id, upstream.clone(), tls.cloned(), Arc::clone(&self.shared)));
        let (mut added, mut gone) = (Arc::clone(&new), None);
        let Some(shard) = self.shard(hash) else { return added };
        shard.rcu(|before| {
            if let Some(known) = find(before, hash, upstream, tls.map(Arc::as_ref)) {
                // Another request was faster.
                (added, gone) = (Arc::clone(known), None);
                return Arc::clone(before);
            }
            let mut after = Shard::clone(before);
            (added, gone) = (Arc::clone(&new), make_room(&mut after, |health| self.hash(health.upstream())));
            after.insert_unique(hash, Arc::clone(&new), |health| self.hash(health.upstream()));
            Arc::new(after)
        });
        if let Some(gone) = gone {
            // It is not probed any more.
            gone.reset();
        }
        added
    }

    fn all(&self) -> impl Iterator<Item = Arc<Health>> {
        self.shards.iter().flat_map(|shard| shard.load().iter().cloned().collect::<Vec<_>>())
    }

    /// There is one for every hash.
    fn shard(&self, hash: u64) -> Option<&ArcSwap<Shard>> {
        // Its lowest and highest bits are the tables'.
        let number = usize::try_from(hash >> 32).unwrap_or_default() % SHARDS;
        self.shards.get(number)
    }

    /// Without the TLS policy: there are not many for one upstream.
    fn hash(&self, upstream: &Upstream) -> u64 {
        self.hasher.hash_one(upstream)
    }
}

impl Shared {
    /// Milliseconds since the epoch.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn find<'a>(shard: &'a Shard, hash: u64, upstream: &Upstream, tls: Option<&TlsPolicy>) -> Option<&'a Arc<Health>> {
    shard.find(hash, |health| health.upstream() == upstream && same(health.tls().map(Arc::as_ref), tls))
}

/// Mostly it is the very same policy, which is known without a look at it.
fn same(one: Option<&TlsPolicy>, other: Option<&TlsPolicy>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => std::ptr::eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

/// Takes one out of a shard that is full, and returns it.
fn make_room(shard: &mut Shard, hash: impl Fn(&Health) -> u64) -> Option<Arc<Health>> {
    if shard.len() < SHARD_ROOM {
        return None;
    }
    let least = shard.iter().min_by_key(|health| (health.is_ejected(), health.last_dialed()))?;
    let (hash, id) = (hash(least), least.id());
    let entry = shard.find_entry(hash, |health| health.id() == id).ok()?;
    Some(entry.remove().0)
}

#[cfg(test)]
mod tests;
