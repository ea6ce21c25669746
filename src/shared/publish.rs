//! Runs the transactions of a push.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::keys::{Head, Id, Keys, Part, range_end};
use super::push::{self, Differences, Plan, Published, Stamp, TooLarge};
use crate::admin::view::RouteSpec;
use crate::etcd::{Etcd, EtcdError, Op, Txn};

/// Pushes tables.
#[derive(Debug)]
pub struct Publisher {
    etcd: Etcd,
    keys: Keys,
    by: String,
}

/// What is to be in force.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// These routes, in their order.
    Routes(&'a [RouteSpec]),
    /// What was in force before the last push.
    Before,
}

/// What came of a push.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// To what was in force before.
    pub differences: Differences,
    /// How many routes are in force now.
    pub routes: usize,
    /// How many transactions that took, or would take; 0: it was in force already.
    pub transactions: usize,
    /// Whether what an earlier push has left could be taken away.
    pub left: Result<(), String>,
}

/// Why nothing was pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// etcd did not do it.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// A route is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// What is there is none of ours.
    #[error("`{0}` holds no head that this version knows: another version has written it, or somebody by hand")]
    Head(String),
    /// Somebody else has pushed, or the stage has ended.
    #[error("somebody else pushed at the same time, {0} times in a row: try again")]
    Lost(u32),
    /// There is no way back.
    #[error("nobody knows what was in force before the last push: push a file")]
    NoWayBack,
}

/// Why one try was none.
enum Failed {
    Push(PushError),
    /// Worth another look: somebody else was faster, or an answer was lost.
    Again(PushError),
}

impl Publisher {
    /// A stage that nobody keeps alive ends after so many seconds.
    const STAGE: i64 = 60;

    /// So often a push is tried.
    const TRIES: u32 = 5;

    /// After the first try, and so much longer after each: all of them take longer than etcd is without a leader.
    const PAUSE: Duration = Duration::from_millis(200);

    /// Pushes to this table. `by` is who pushes: `user@host`.
    pub fn new(etcd: Etcd, keys: Keys, by: String) -> Self {
        Self { etcd, keys, by }
    }

    /// Puts what is wanted in force, all of it at once. `is_dry`: only says what that would take.
    pub async fn push(&self, wanted: Wanted<'_>, is_dry: bool) -> Result<Pushed, PushError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_push(wanted, is_dry).await {
                Ok(pushed) => return Ok(pushed),
                Err(Failed::Push(error)) => return Err(error),
                Err(Failed::Again(error)) if tries == Self::TRIES => return Err(error),
                Err(Failed::Again(_)) => sleep(Self::PAUSE * tries).await,
            }
        }
    }

    async fn try_push(&self, wanted: Wanted<'_>, is_dry: bool) -> Result<Pushed, Failed> {
        let published = self.published().await?;
        let plan = self.plan(wanted, &published).await?;
        let (differences, transactions) = match &plan {
            Plan::Nothing => (Differences::default(), 0),
            Plan::Change(differences, _) => (*differences, 1),
            Plan::Switch { differences, fill, .. } => (*differences, fill.len() + 2),
        };
        let routes = published.values.len() + differences.added - differences.removed;
        let mut pushed = Pushed { differences, routes, transactions, left: Ok(()) };
        if is_dry {
            return Ok(pushed);
        }
        let lost = || Failed::Again(PushError::Lost(Self::TRIES));
        match plan {
            Plan::Nothing => {}
            Plan::Change(_, txn) => self.etcd.run(&txn, None).await?.then_some(()).ok_or_else(lost)?,
            Plan::Switch { stage, fill, switch, .. } => {
                let lease = self.etcd.lease(Self::STAGE).await?;
                let done = self.switch(stage, &fill, &switch, lease).await;
                // Whatever came of it: the stage is over. If that cannot be said, it ends by itself.
                drop(self.etcd.end_lease(lease).await);
                done?.then_some(()).ok_or_else(lost)?;
            }
        }
        pushed.left = self.collect().await.map_err(|error| error.to_string());
        Ok(pushed)
    }

    async fn plan(&self, wanted: Wanted<'_>, published: &Published) -> Result<Plan, Failed> {
        let stamp = self.stamp();
        match wanted {
            Wanted::Routes(routes) => {
                push::plan(&self.keys, published, routes, stamp).map_err(|error| Failed::Push(error.into()))
            }
            Wanted::Before => {
                let no_way = || Failed::Push(PushError::NoWayBack);
                let before = published.head.as_ref().and_then(|(head, _)| head.before.clone()).ok_or_else(no_way)?;
                let values = self.values(&before.set, 0).await?;
                let undo = self.text(self.keys.undo()).await?.map(|(undo, _)| undo);
                push::back(&self.keys, published, values, undo.as_deref(), stamp).ok_or_else(no_way)
            }
        }
    }

    /// Writes a set and puts it in force; `false`: the stage has ended, or somebody else was faster.
    async fn switch(&self, stage: String, fill: &[Txn], switch: &Txn, lease: i64) -> Result<bool, EtcdError> {
        let begin = Txn { when: Vec::new(), then: vec![Op::Put(stage, self.by.clone())] };
        self.etcd.run(&begin, Some(lease)).await?;
        let mut kept = Instant::now();
        for txn in fill {
            if kept.elapsed() > Duration::from_secs(10) {
                self.etcd.keep_alive(lease).await?;
                kept = Instant::now();
            }
            if !self.etcd.run(txn, None).await? {
                return Ok(false);
            }
        }
        self.etcd.run(switch, None).await
    }

    /// What is in force, at one revision.
    pub async fn published(&self) -> Result<Published, PushError> {
        let key = self.keys.head();
        let Some((text, modified)) = self.text(key.clone()).await? else { return Ok(Published::default()) };
        let head: Head = serde_json::from_str(&text).map_err(|_unreadable| PushError::Head(key))?;
        // The set changes only together with the head, and that is compared before anything is done.
        let values = self.values(&head.set, 0).await?;
        Ok(Published { head: Some((head, modified)), values })
    }

    /// What a key holds, and the revision at which it was put last.
    async fn text(&self, key: String) -> Result<Option<(String, i64)>, EtcdError> {
        let text = |(value, at): (Vec<u8>, i64)| (String::from_utf8_lossy(&value).into_owned(), at);
        Ok(self.etcd.get(key).await?.value.map(text))
    }

    /// The routes of a set, at a revision; 0 is the newest.
    async fn values(&self, set: &str, mut revision: i64) -> Result<BTreeMap<Id, String>, EtcdError> {
        let mut from = self.keys.set(set).into_bytes();
        let to = range_end(&from);
        let mut values = BTreeMap::new();
        loop {
            let page = self.etcd.page(&from, &to, revision).await?;
            revision = if revision == 0 { page.revision } else { revision };
            from = page.keys.last().map(|last| [last.key.as_slice(), &[0]].concat()).unwrap_or_default();
            for found in page.keys {
                if let Part::Set(_, id) = self.keys.part(&found.key) {
                    values.insert(Id::read(id), String::from_utf8_lossy(&found.value).into_owned());
                }
            }
            if !page.has_more {
                return Ok(values);
            }
        }
    }

    /// Takes away what is left of sets that nobody needs.
    async fn collect(&self) -> Result<(), PushError> {
        let published = self.text(self.keys.head()).await?;
        let Some((head, modified)) =
            published.and_then(|(text, modified)| Some((serde_json::from_str(&text).ok()?, modified)))
        else {
            return Ok(());
        };
        for set in self.sets().await? {
            for txn in push::garbage(&self.keys, &set, &head, modified).unwrap_or_default() {
                if !self.etcd.run(&txn, None).await? {
                    // It is being written, or somebody else has pushed and does this.
                    break;
                }
            }
        }
        Ok(())
    }

    /// The names of all sets: a question for each, whatever it holds.
    async fn sets(&self) -> Result<BTreeSet<String>, EtcdError> {
        let mut sets = BTreeSet::new();
        let mut from = self.keys.sets().into_bytes();
        let to = range_end(&from);
        loop {
            let found = self.etcd.first(&from, &to).await?;
            let Some(Part::Set(set, _)) = found.as_deref().map(|key| self.keys.part(key)) else { return Ok(sets) };
            from = range_end(self.keys.set(set).as_bytes());
            sets.insert(set.to_owned());
        }
    }

    fn stamp(&self) -> Stamp {
        let now = SystemTime::now();
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), millis);
        let at = humantime::format_rfc3339_seconds(now).to_string();
        Stamp { set: format!("{millis}-{random:016x}").into(), at, by: self.by.clone() }
    }
}

impl From<PushError> for Failed {
    fn from(error: PushError) -> Self {
        match error {
            // The answer may have been lost after it was done; then the next try finds it done.
            PushError::Etcd(_) => Self::Again(error),
            other => Self::Push(other),
        }
    }
}

impl From<EtcdError> for Failed {
    fn from(error: EtcdError) -> Self {
        PushError::Etcd(error).into()
    }
}
