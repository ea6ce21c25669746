//! Leases: forwards that are made when somebody asks for one, each for one user and one node. They end when they are
//! of no use any more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::close::millis;
use crate::config::reason;
use crate::daemon::Daemon;
use crate::dial::OwnLeases;
use crate::listen::{Forward, LeasePort};
use crate::node::NodeName;
use crate::request::LeaseView;
use crate::workers::Workers;

/// The leases that there are. A reload leaves them alone.
#[derive(Debug)]
pub struct Leases {
    held: Mutex<Held>,
    limit: AtomicUsize,
    own: Arc<OwnLeases>,
    /// Where their doors are; gone when the daemon ends.
    workers: Weak<Workers>,
}

/// The leases of each user.
type Held = HashMap<u32, HashMap<NodeName, Arc<Lease>>>;

/// A forward on a port of its own, for one user.
#[derive(Debug)]
pub struct Lease {
    /// Whose it is.
    pub uid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it leads to, and who uses it.
    pub forward: Arc<Forward>,
    /// Nobody new comes in from then on.
    shut: CancellationToken,
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLease {
    /// There are as many as there may be.
    #[error(
        "as many leases are open as limits.leases, or a sixteenth of the descriptors, allows ({0}); ask again later"
    )]
    Full(usize),
    /// The user has as many as one may have.
    #[error("user {0} has {1} leases, and the last quarter of limits.leases is for others; ask again later")]
    FullForUser(u32, usize),
    /// The daemon is ending.
    #[error("the daemon is ending and gives no leases")]
    Draining,
    /// The system gives no port.
    #[error("the system gives no port for a lease: {0}; ask again later")]
    System(String),
}

/// Who uses a forward, and since when nobody does.
#[derive(Debug)]
pub struct Uses {
    now: Mutex<Now>,
    /// Nobody uses it any more, or something else is to be looked at again.
    changed: Notify,
}

#[derive(Debug)]
struct Now {
    open: usize,
    /// When it was used or asked for last.
    last: Instant,
}

/// One connection at a forward, from its accept to its end.
#[derive(Debug)]
pub struct InUse(Arc<Uses>);

impl Leases {
    /// None yet, and never more than `limit`.
    pub fn new(limit: usize, own: Arc<OwnLeases>, workers: Weak<Workers>) -> Self {
        Self { held: Mutex::default(), limit: AtomicUsize::new(limit), own, workers }
    }

    /// The lease of this user to this node, and whether it is new; one that there is already begins anew to be idle.
    pub fn take(&self, daemon: &Arc<Daemon>, uid: u32, node: &NodeName) -> Result<(Arc<Lease>, bool), NoLease> {
        let workers = self.workers.upgrade().filter(|_| !daemon.drain.has_begun()).ok_or(NoLease::Draining)?;
        let mut held = self.lock();
        if let Some(lease) = held.get(&uid).and_then(|of_user| of_user.get(node)) {
            lease.forward.uses.touch();
            return Ok((Arc::clone(lease), false));
        }
        self.check(&held, uid)?;
        let port = LeasePort::bind(&workers).map_err(|error| NoLease::System(reason(&error)))?;
        let (address, forward) = (port.address(), Arc::new(Forward::leased(node.clone(), uid)));
        let lease = Arc::new(Lease { uid, address, forward, shut: CancellationToken::new() });
        self.own.enter(address.port());
        held.entry(uid).or_default().insert(node.clone(), Arc::clone(&lease));
        drop(held);
        info!(node = node.as_str(), uid, %address, "lease made");
        port.open(daemon, &lease.forward, lease.shut.clone(), keep(Arc::clone(daemon), Arc::clone(&lease)));
        Ok((lease, true))
    }

    /// Whether this user may have one more. The last quarter is for others, so that one user's names, of which there is
    /// no end, do not keep everybody from a lease.
    fn check(&self, held: &Held, uid: u32) -> Result<(), NoLease> {
        let limit = self.limit.load(Ordering::Relaxed);
        if held.values().map(HashMap::len).sum::<usize>() >= limit {
            return Err(NoLease::Full(limit));
        }
        let of_user = held.get(&uid).map_or(0, HashMap::len);
        if of_user >= limit - limit / 4 { Err(NoLease::FullForUser(uid, of_user)) } else { Ok(()) }
    }

    /// All of them, by address.
    pub fn list(&self) -> Vec<Arc<Lease>> {
        let mut list: Vec<_> = self.lock().values().flat_map(HashMap::values).cloned().collect();
        list.sort_unstable_by_key(|lease| lease.address);
        list
    }

    /// Changes the limit, and how long a lease may be idle is looked up again; what there is stays.
    pub fn follow(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.lock().values().flat_map(HashMap::values).for_each(|lease| lease.forward.uses.changed.notify_one());
    }

    /// Ends a lease unless it is in use again.
    fn end(&self, lease: &Lease, idle_timeout: Duration) -> bool {
        let mut held = self.lock();
        // Who asks for it again does so under this lock.
        let is_idle = lease.forward.uses.idle().is_some_and(|idle| idle >= idle_timeout);
        if is_idle && let Some(of_user) = held.get_mut(&lease.uid) {
            of_user.remove(&lease.forward.node);
            if of_user.is_empty() {
                held.remove(&lease.uid);
            }
        }
        is_idle
    }

    /// A panic with the lock leaves the map as it was, or with one lease more or less.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a lease is idle for too long, or the daemon ends, and shuts its door.
async fn keep(daemon: Arc<Daemon>, lease: Arc<Lease>) {
    let idle_timeout = || daemon.lease_idle_timeout();
    let why = loop {
        tokio::select! {
            () = lease.forward.uses.idle_for(idle_timeout) => {
                if daemon.leases.end(&lease, idle_timeout()) {
                    break "idle";
                }
            }
            () = daemon.drain.begun() => break "draining",
        }
    };
    lease.shut.cancel();
    daemon.leases.own.leave(lease.address.port());
    let Lease { uid, address, forward, .. } = &*lease;
    info!(node = forward.node.as_str(), uid, %address, why, "lease ended");
}

impl Lease {
    /// What its holder is told.
    pub fn view(&self, idle_timeout: Duration) -> LeaseView {
        let (node, host) = (self.forward.node.to_string(), self.address.ip().to_string());
        LeaseView { node, host, port: self.address.port(), idle_timeout_ms: millis(idle_timeout) }
    }

    /// How long it has left if nobody uses it; `None` while somebody does.
    pub fn left(&self, idle_timeout: Duration) -> Option<Duration> {
        self.forward.uses.idle().map(|idle| idle_timeout.saturating_sub(idle))
    }
}

impl Uses {
    /// How many connections there are, of those whose node is still being dialed, too.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// One more, for as long as what is returned is there.
    pub(crate) fn enter(self: &Arc<Self>) -> InUse {
        self.lock().open += 1;
        InUse(Arc::clone(self))
    }

    /// It was asked for.
    fn touch(&self) {
        self.lock().last = Instant::now();
    }

    /// For how long nobody has used it; `None` while somebody does.
    fn idle(&self) -> Option<Duration> {
        let now = self.lock();
        (now.open == 0).then(|| now.last.elapsed())
    }

    /// Waits until nobody has used it for so long.
    async fn idle_for(&self, idle_timeout: impl Fn() -> Duration) {
        loop {
            match self.idle().map(|idle| idle_timeout().saturating_sub(idle)) {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::select! {
                    () = sleep(left) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Uses {
    fn default() -> Self {
        Self { now: Mutex::new(Now { open: 0, last: Instant::now() }), changed: Notify::new() }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut now = self.0.lock();
        now.open -= 1;
        now.last = Instant::now();
        if now.open == 0 {
            self.0.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_for_other_users() {
        let leases = Leases::new(4, Arc::default(), Weak::new());
        let (mut held, address) = (Held::new(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut take = |uid, name| {
            leases.check(&held, uid)?;
            let node = NodeName::parse(name).unwrap();
            let forward = Arc::new(Forward::leased(node.clone(), uid));
            let lease = Lease { uid, address, forward, shut: CancellationToken::new() };
            held.entry(uid).or_default().insert(node, Arc::new(lease));
            Ok(())
        };
        for name in ["a", "b", "c"] {
            assert_eq!(take(1, name), Ok(()));
        }
        assert_eq!(take(1, "d"), Err(NoLease::FullForUser(1, 3)));
        assert_eq!(take(2, "a"), Ok(()));
        assert_eq!(take(2, "b"), Err(NoLease::Full(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_or_asked_for_is_not_idle() {
        let (uses, began) = (Arc::new(Uses::default()), Instant::now());
        let seconds = Duration::from_secs;
        let waiting = tokio::spawn({
            let uses = Arc::clone(&uses);
            async move { uses.idle_for(|| seconds(10)).await }
        });
        sleep(seconds(9)).await;
        uses.touch();
        sleep(seconds(9)).await;
        let [first, second] = [(); 2].map(|()| uses.enter());
        assert_eq!((uses.open(), uses.idle()), (2, None));
        sleep(seconds(60)).await;
        drop(first);
        sleep(seconds(60)).await;
        drop(second);
        assert_eq!(uses.idle(), Some(Duration::ZERO));
        waiting.await.unwrap();
        assert_eq!(began.elapsed(), seconds(9 + 9 + 60 + 60 + 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_timeout_is_seen_when_it_is_told() {
        let (uses, timeout) = (Arc::new(Uses::default()), Arc::new(AtomicUsize::new(3600)));
        let waiting = tokio::spawn({
            let (uses, timeout) = (Arc::clone(&uses), Arc::clone(&timeout));
            async move { uses.idle_for(|| Duration::from_secs(timeout.load(Ordering::Relaxed) as u64)).await }
        });
        sleep(Duration::from_secs(5)).await;
        timeout.store(1, Ordering::Relaxed);
        uses.changed.notify_one();
        let began = Instant::now();
        waiting.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
