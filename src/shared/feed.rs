//! Keeps in touch with etcd: reads, watches, and begins again when that ends. Its changes go to the task that owns the
//! table, one after the other.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{error, info};

use super::core::Shared;
use super::follow::{Follower, Unfit, Want};
use super::held::Change;
use crate::config::visible;
use crate::etcd::{Etcd, EtcdError};
use crate::resolve::Home;

/// Changes of the shared table as they come. Dropping it ends the questions.
#[derive(Debug)]
pub struct Feed {
    changes: mpsc::Receiver<Change>,
    task: AbortHandle,
}

/// How it stands between this daemon and etcd.
#[derive(Debug, Default)]
pub struct Link(Mutex<LinkState>);

/// How it stands between this daemon and etcd.
#[derive(Debug, Clone)]
pub struct LinkState {
    /// Whether every change is heard of.
    pub is_up: bool,
    /// Since when it is so.
    pub since: SystemTime,
    /// Why it is not.
    pub why: Option<String>,
}

/// Between two tries, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Before something that did not fit is read again, at first and at most.
const DOUBT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why the question is asked anew.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// The task.
struct Task {
    table: Arc<str>,
    etcd: Etcd,
    follower: Follower,
    changes: mpsc::Sender<Change>,
    link: Arc<Link>,
    pauses: u32,
}

impl Feed {
    /// Changes that wait for the table's owner; etcd keeps the others.
    const WAITING: usize = 16;

    /// Follows from what is held.
    pub fn start(shared: &Shared, home: &Home) -> Self {
        let (sender, changes) = mpsc::channel(Self::WAITING);
        let (keys, held) = (shared.keys().clone(), shared.held().clone());
        let follower = if held.revision > 0 { Follower::resume(keys, held) } else { Follower::new(keys) };
        let task = Task {
            table: shared.summary().table,
            etcd: Etcd::new(shared.etcd().clone()),
            follower,
            changes: sender,
            link: Arc::clone(shared.link()),
            pauses: 0,
        };
        Self { changes, task: home.task(task.run()) }
    }

    /// The next change.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Task {
    async fn run(mut self) {
        // Until nobody takes the changes any more.
        while !self.changes.is_closed() {
            let Err(broken) = self.ask().await else { continue };
            match &broken {
                // Page by page.
                Broken::Etcd(EtcdError::Compacted | EtcdError::TooMuch) => {
                    self.follower.again();
                    continue;
                }
                // What it says is what the next question is for.
                Broken::Unfit(unseen @ Unfit::Unseen(_)) => {
                    info!(table = %self.table, "{}", visible(&unseen.to_string()));
                    sleep(jittered(PAUSE.0)).await;
                    continue;
                }
                _ => {}
            }
            let (first, most) = if broken.is_doubt() { DOUBT } else { PAUSE };
            self.tell(&broken);
            let pause = first.saturating_mul(1 << self.pauses.min(16)).min(most);
            self.pauses += 1;
            // A thousand daemons that have lost the same etcd do not come back at once.
            sleep(jittered(pause)).await;
        }
    }

    /// Does what is wanted next.
    async fn ask(&mut self) -> Result<(), Broken> {
        match self.follower.want() {
            Want::Read { from, to, revision } => {
                let page = self.etcd.page(&from, &to, revision).await?;
                let change = self.follower.page(page.cluster, page.revision, page.keys, page.has_more)?;
                self.send(change).await;
                Ok(())
            }
            Want::Watch { from } => self.watch(from).await,
        }
    }

    async fn watch(&mut self, from: i64) -> Result<(), Broken> {
        let prefix = self.follower.keys().prefix().to_owned();
        let mut watching = self.etcd.watch(&prefix, from).await?;
        while let Want::Watch { .. } = self.follower.want() {
            let heard = watching.next().await?;
            self.follower.heard(heard.cluster, heard.revision, heard.is_progress)?;
            self.came_up();
            for events in heard.events.chunk_by(|one, other| one.revision == other.revision) {
                let change = self.follower.revision(events)?;
                self.send(change).await;
            }
        }
        Ok(())
    }

    async fn send(&self, change: Option<Change>) {
        if let Some(change) = change {
            // Without an owner the task ends.
            drop(self.changes.send(change).await);
        }
    }

    fn came_up(&mut self) {
        if !self.follower.is_following() {
            return;
        }
        self.pauses = 0;
        let before = self.link.set(true, None);
        if !before.is_up {
            let (table, revision) = (&self.table, self.follower.held().revision);
            info!(%table, revision, "the shared table is followed");
        }
    }

    fn tell(&self, broken: &Broken) {
        let why = broken.to_string();
        let before = self.link.set(false, Some(why.clone()));
        // Once for an outage, and again for what somebody has to put right.
        if before.is_up || before.why.is_none() || (broken.is_doubt() && before.why.as_ref() != Some(&why)) {
            error!(table = %self.table, why, "the shared table is not followed; what is in force stays");
        }
    }
}

impl Broken {
    /// Whether it would not go otherwise if it were asked again at once.
    fn is_doubt(&self) -> bool {
        !matches!(self, Self::Etcd(_) | Self::Unfit(Unfit::Unseen(_) | Unfit::Foreign))
    }
}

/// Between half of a time and all of it.
fn jittered(time: Duration) -> Duration {
    let parts = (RandomState::new().hash_one(()) % 1024) as u32;
    time / 2 + time / 2 / 1024 * parts
}

impl Link {
    /// How it stands.
    pub fn state(&self) -> LinkState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells how it stood before.
    fn set(&self, is_up: bool, why: Option<String>) -> LinkState {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = if state.is_up == is_up { state.since } else { SystemTime::now() };
        std::mem::replace(&mut state, LinkState { is_up, since, why })
    }
}

impl Default for LinkState {
    fn default() -> Self {
        Self { is_up: false, since: SystemTime::now(), why: None }
    }
}
