//! The shared table in step with etcd: a change that arrives is laid over the files and swapped in, like an edit.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{error, info};

use super::{Reloader, lock};
use crate::aside::{aside, blocking};
use crate::config::Config;
use crate::load;
use crate::resolve::Home;
use crate::shared::{Change, Feed, Shared};
use crate::systemd;

/// The shared table, and what follows it.
pub(super) struct Following {
    shared: Arc<Mutex<Shared>>,
    feed: Feed,
}

/// More routes than this are built on a thread that yields to the requests.
const MANY: usize = 1000;

/// A start waits for so long for a table that was never read.
const FIRST_READ: Duration = Duration::from_secs(5);

impl Following {
    /// Follows from what is held.
    pub(super) fn start(shared: Shared, home: &Home) -> Self {
        let feed = Feed::start(&shared, home);
        Self { shared: Arc::new(Mutex::new(shared)), feed }
    }

    /// Goes on with what a reload has made of it; whom it asks stays the same unless the configuration says another.
    pub(super) fn go_on(before: Option<Self>, shared: Shared, home: &Home) -> Self {
        match before {
            Some(before) if held(&before.shared).is_asked_as(&shared) => {
                Self { shared: Arc::new(Mutex::new(shared)), feed: before.feed }
            }
            _ => Self::start(shared, home),
        }
    }

    /// What is in force, to be asked from another thread.
    pub(super) fn shared(&self) -> Arc<Mutex<Shared>> {
        Arc::clone(&self.shared)
    }
}

/// A panic with the lock leaves a change that is made in part; the next reload lays all of it anew.
fn held(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shared table that a configuration names: the one in force, or what is on disk of another.
pub(super) fn shared_of(config: &Config, before: Option<&Mutex<Shared>>, state: &Path) -> Option<Shared> {
    let (name, etcd) = config.shared()?;
    let same = before.and_then(|before| held(before).following(name, etcd, state));
    Some(same.unwrap_or_else(|| Shared::open(name, etcd, state)))
}

/// The next change; never, if there is no shared table.
pub(super) async fn next_change(following: &mut Option<Following>) -> Option<Change> {
    following.as_mut()?.feed.next().await
}

impl Reloader {
    /// Waits a while for a shared table of which there is not even a copy: a daemon that says that it serves should have
    /// its routes.
    pub async fn first_read(&mut self) {
        let Some(following) = &mut self.shared else { return };
        if held(&following.shared).held().revision > 0 {
            return;
        }
        match timeout(FIRST_READ, following.feed.next()).await {
            Ok(Some(change)) => self.follow(change).await,
            Ok(None) | Err(_) => {
                let table = held(&following.shared).summary().table;
                error!(%table, "the shared table was never read, and there is no copy of it: serving without it");
            }
        }
    }

    /// Puts a change of the shared table in force.
    pub(super) async fn follow(&mut self, change: Change) {
        let Some(following) = &self.shared else { return };
        let started = Instant::now();
        let (old, edits, shared) = (self.daemon.snapshot(), Arc::clone(&self.edits), Arc::clone(&following.shared));
        let is_large = change.upsert.len() + change.remove.len() > MANY;
        let change = Arc::new(change);
        let work = {
            let change = Arc::clone(&change);
            move || held(&shared).follow(&change, &old, lock(&edits).layer())
        };
        let done = if is_large { aside(work).await } else { blocking(work).await };
        let (snapshot, laid) = match done {
            Ok(done) => done,
            Err(panic) => return error!(%panic, "a change of the shared table is not in force; reload to lay it anew"),
        };
        load::log_problems(&laid.problems);
        let (generation, routes, revision) = (snapshot.generation, snapshot.table.len(), change.revision);
        let table = snapshot.shared.as_ref().map(|summary| Arc::clone(&summary.table)).unwrap_or_default();
        self.put_in_force(snapshot);
        let changes = format!("+{} -{} ~{}", laid.added, laid.removed, laid.changed);
        info!(%table, revision, generation, routes, changes, took = ?started.elapsed(), "the shared table has changed");
        self.end(laid.ended).await;
        let shared = self.shared.as_ref().map(|following| Arc::clone(&following.shared));
        let kept = blocking(move || shared.map(|shared| held(&shared).keep(&change))).await;
        if let Err(panic) = kept {
            error!(%panic, "the copy of the shared table is behind");
        }
        systemd::status(&self.status());
    }
}
