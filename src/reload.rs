//! Reads the files again: the new table is built beside the old one and swapped in one store, or nothing changes.

mod shared;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::shared::{Following, next_change, shared_of};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admin::view::{ChangeView, ProblemView};
use crate::aside::{aside, blocking, free};
use crate::config::{AdminConfig, Config, Problem, RegistrarConfig, SocketConfig, visible};
use crate::control::{Ask, Refusal};
use crate::daemon::Daemon;
use crate::edits::{self, Edited, Edits, Ended};
use crate::listen::{Doors, Inherited};
use crate::load::{self, Loaded, Outcome, Over};
use crate::log::Log;
use crate::plan::Snapshot;
use crate::resolve::Home;
use crate::route::{Entry, Order, Rank, Route, RouteTable, Row};
use crate::shared::Shared;
use crate::systemd;
use crate::watch::{Print, Watch};

/// Keeps the daemon in step with its files.
pub struct Reloader {
    daemon: Arc<Daemon>,
    doors: Doors,
    log: Log,
    watch: Watch,
    /// What the last reload read or missed, with what it was before.
    files: Vec<(PathBuf, Print)>,
    /// The edits at run time. Only this task and what it waits for has them.
    edits: Arc<Mutex<Edits>>,
    /// What it is asked for; `None` when the daemon ends.
    asks: Option<mpsc::Receiver<Ask>>,
    /// Where resolvers ask.
    home: Home,
    /// The table that a fleet shares.
    shared: Option<Following>,
    /// What it was started with.
    start: AtStart,
    /// Tables that were in force and may be held by a request still.
    retired: Vec<Arc<Snapshot>>,
    /// How many lost log lines have been told.
    lost: usize,
}

/// What of `portolan.toml` is read at the start only.
struct AtStart {
    /// What the main socket was bound by.
    socket: SocketConfig,
    /// What the admin API's socket was bound by.
    admin: AdminConfig,
    /// What the registrar's door was bound by.
    registrar: Option<RegistrarConfig>,
    /// Where the edits are kept.
    state: PathBuf,
}

/// What a [`Reloader`] takes over from the start.
pub struct Parts {
    /// The doors that are open.
    pub doors: Doors,
    /// The log.
    pub log: Log,
    /// The files that the daemon was loaded from, each with what it was before it was read.
    pub files: Vec<(PathBuf, Print)>,
    /// The edits at run time.
    pub edits: Edits,
    /// What it will be asked for.
    pub asks: mpsc::Receiver<Ask>,
    /// Where resolvers ask.
    pub home: Home,
    /// The table that a fleet shares.
    pub shared: Option<Shared>,
}

impl Reloader {
    /// How often retired tables and lost log lines are looked at.
    const HOUSEKEEPING: Duration = Duration::from_secs(1);

    /// Watches the files that the daemon was loaded from.
    pub fn new(daemon: Arc<Daemon>, parts: Parts) -> Self {
        let Parts { doors, log, files, edits, asks, home, shared } = parts;
        let mut watch = Watch::new();
        watch.set(files.iter().cloned());
        let (edits, asks) = (Arc::new(Mutex::new(edits)), Some(asks));
        let start = AtStart::of(&daemon.config());
        let shared = shared.map(|shared| Following::start(shared, &home));
        let (retired, lost) = (Vec::new(), 0);
        Self { daemon, doors, log, watch, files, edits, asks, home, shared, start, retired, lost }
    }

    /// Reloads at each SIGHUP and at each change of a file, and does what it is asked for; for ever.
    pub async fn run(&mut self, hangup: &mut Signal) {
        let mut housekeeping = tokio::time::interval(Self::HOUSEKEEPING);
        loop {
            tokio::select! {
                _ = hangup.recv() => drop(self.reload("SIGHUP", false).await),
                () = self.watch.changed() => drop(self.reload("a file has changed", false).await),
                Some(ask) = next(&mut self.asks) => self.answer(ask).await,
                Some(change) = next_change(&mut self.shared) => self.follow(change).await,
                _ = housekeeping.tick() => self.keep_house(),
            }
        }
    }

    /// What the service manager shows.
    pub fn status(&self) -> String {
        let snapshot = self.daemon.snapshot();
        let (generation, routes) = (snapshot.generation, snapshot.table.len());
        match self.daemon.refused() {
            None => format!("serving generation {generation}, {routes} routes"),
            Some(why) => {
                format!("serving generation {generation}, {routes} routes; the last reload was refused: {why}")
            }
        }
    }

    /// Shuts every door.
    pub fn shut_doors(&mut self) {
        // Who waits for an answer is told that there is none.
        self.asks = None;
        self.doors.shut();
    }

    /// Says what is left to say.
    pub fn finish(mut self) {
        self.tell_lost_lines();
    }

    /// Does what was asked for, and says what came of it; one who does not wait for that is none of our affair.
    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Add(json, reply) => {
                let edited = self.edit(move |old, edits| edits::add(old, edits, &json)).await;
                drop(reply.send(edited.and_then(|(row, change)| Ok((row.ok_or(Refusal::Ending)?, change)))));
            }
            Ask::Remove(pattern, reply) => {
                let edited = self.edit(move |old, edits| edits::remove(old, edits, &pattern)).await;
                drop(reply.send(edited.map(|(_, change)| change)));
            }
            Ask::Reload { strict, reply } => drop(reply.send(self.reload("request", strict).await)),
        }
    }

    /// Makes an edit and puts it in force.
    async fn edit(
        &mut self,
        edit: impl FnOnce(&Snapshot, &mut Edits) -> Result<Edited, Refusal> + Send + 'static,
    ) -> Result<(Option<Arc<Row<Route>>>, ChangeView), Refusal> {
        let (old, edits) = (self.daemon.snapshot(), Arc::clone(&self.edits));
        let edited = blocking(move || edit(&old, &mut lock(&edits))).await;
        let edited = edited.unwrap_or_else(|error| Err(Refusal::Unkept(error.to_string())));
        let Edited { snapshot, row, warnings } = edited.inspect_err(|refusal| {
            if let Refusal::Unkept(why) = refusal {
                error!(why, "an edit cannot be kept, and is not made");
            }
        })?;
        let old = self.daemon.snapshot();
        let (generation, routes) = (snapshot.generation, snapshot.table.len());
        let (added, removed) = (routes.saturating_sub(old.table.len()), old.table.len().saturating_sub(routes));
        self.put_in_force(snapshot);
        systemd::status(&self.status());
        Ok((row, ChangeView { generation, routes, added, removed, changed: 0, warnings }))
    }

    /// Swaps in a table that was made of the one in force.
    fn put_in_force(&mut self, snapshot: Snapshot) {
        let old = self.daemon.snapshot();
        if snapshot.trusts.files().count() != old.trusts.files().count() {
            // Files that only a new route names are watched from now on.
            let named = snapshot.trusts.files().map(|(file, print)| (file.to_owned(), print.clone()));
            self.watch.set(self.files.iter().cloned().chain(named));
        }
        self.retired.push(self.daemon.replace_snapshot(snapshot));
    }

    /// Reads the files again. `strict` makes a warning an error.
    async fn reload(&mut self, cause: &'static str, strict: bool) -> Result<ChangeView, Refusal> {
        let started = Instant::now();
        systemd::reloading();
        self.watch.begin();
        let (path, old, edits) =
            (Arc::clone(&self.daemon.config().path), self.daemon.snapshot(), Arc::clone(&self.edits));
        let (home, state) = (self.home.clone(), self.start.state.clone());
        let before = self.shared.as_ref().map(Following::shared);
        let read = aside(move || {
            // Who does not put up with warnings wants all of them, however often they were said.
            let told = (!strict).then_some(&old.table);
            let outcome = load::load(&path, Some(&old), told, &home, |config| Over {
                shared: shared_of(config, before.as_deref(), &state),
                edits: lock(&edits).layer().clone(),
            });
            let changes = outcome.loaded.as_ref().map(|new| Changes::between(&old.table, &new.snapshot.table));
            (outcome, changes)
        });
        let done = match read.await {
            Ok((outcome, changes)) => {
                self.files.clone_from(&outcome.files);
                self.watch.set(outcome.files.iter().cloned());
                load::log_problems(&outcome.problems);
                load::log_problems(&outcome.refused);
                // In a box: what was read is large.
                Box::pin(self.decide(outcome, changes, cause, strict, started)).await
            }
            Err(panic) => {
                // It would not go otherwise with the same files.
                self.watch.remember();
                self.refuse(cause, panic.to_string());
                Err(Refusal::Unkept(panic.to_string()))
            }
        };
        systemd::ready(&self.status());
        done
    }

    async fn decide(
        &mut self,
        outcome: Outcome,
        changes: Option<Changes>,
        cause: &'static str,
        strict: bool,
        started: Instant,
    ) -> Result<ChangeView, Refusal> {
        let Outcome { loaded, problems, ended, .. } = outcome;
        let said: Vec<_> = problems.iter().map(ProblemView::of).collect();
        let is_good = !strict || problems.is_empty();
        let Some((loaded, changes)) = loaded.zip(changes).filter(|_| is_good) else {
            self.refuse(cause, problems.why());
            return Err(Refusal::Invalid(said));
        };
        let routes = loaded.snapshot.table.len();
        let generation = self.swap(loaded, &changes, cause, started)?;
        self.end(ended).await;
        let Changes { added, removed, changed } = changes;
        Ok(ChangeView { generation, routes, added, removed, changed, warnings: said })
    }

    /// Takes out the edits that the files have ended.
    pub async fn end(&self, ended: Vec<Ended>) {
        for edit in &ended {
            // The key of a shared route may have a line end in it.
            info!(what = %visible(&edit.to_string()), "an edit at run time has ended");
        }
        if ended.is_empty() {
            return;
        }
        let edits = Arc::clone(&self.edits);
        match blocking(move || lock(&edits).end(&ended)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "what has ended is not written down yet"),
            Err(error) => error!(%error, "what has ended is not written down"),
        }
    }

    fn swap(
        &mut self,
        mut loaded: Loaded,
        changes: &Changes,
        cause: &'static str,
        started: Instant,
    ) -> Result<u64, Refusal> {
        let prepared = match self.doors.prepare_forwards(&loaded.config.forwards, &mut Inherited::default()) {
            Ok(prepared) => prepared,
            Err(errors) => {
                for error in &errors {
                    error!("{error}");
                }
                let problems: Vec<_> = errors.iter().map(|error| Problem::error(error.to_string())).collect();
                self.refuse(cause, errors.first().map(ToString::to_string).unwrap_or_default());
                return Err(Refusal::Invalid(problems.iter().map(ProblemView::of).collect()));
            }
        };
        let config = loaded.config.clone();
        self.say_what_needs_a_restart(&config);
        loaded.snapshot.generation = self.daemon.snapshot().generation + 1;
        let (generation, routes) = (loaded.snapshot.generation, loaded.snapshot.table.len());
        let removed = loaded.snapshot.removed.len();
        self.shared = loaded.shared.take().map(|shared| Following::go_on(self.shared.take(), shared, &self.home));
        self.retired.push(self.daemon.replace(loaded));
        self.doors.keep_forwards(&config.forwards);
        self.doors.open(&self.daemon, prepared);
        self.log.follow(&config.log);
        self.daemon.set_refused(None);
        info!(generation, routes, removed, %changes, cause, took = ?started.elapsed(), "reloaded");
        Ok(generation)
    }

    /// What of `portolan.toml` is read at the start only; said at each reload for as long as it is out of step.
    fn say_what_needs_a_restart(&self, new: &Config) {
        if self.start.socket != new.socket {
            warn!(file = %new.path.display(), "[socket] has changed: that needs a restart");
        }
        if self.start.admin != new.admin {
            warn!(file = %new.path.display(), "[admin] has changed: that needs a restart");
        }
        if self.start.registrar != new.registrar {
            warn!(file = %new.path.display(), "[registrar] has changed: that needs a restart");
        }
        if self.start.state != edits::state_folder(new) {
            warn!(file = %new.path.display(), "`state` has changed: that needs a restart");
        }
    }

    fn refuse(&mut self, cause: &'static str, why: String) {
        let generation = self.daemon.snapshot().generation;
        error!(generation, cause, why, "reload refused; the table in force stays");
        self.daemon.set_refused(Some(why));
    }

    fn keep_house(&mut self) {
        self.tell_lost_lines();
        // Nobody can get hold of a retired table any more: at one holder, that is this one.
        let (unheld, held) = self.retired.drain(..).partition(|table| Arc::strong_count(table) == 1);
        self.retired = held;
        let unheld: Vec<Arc<Snapshot>> = unheld;
        if !unheld.is_empty() {
            free(unheld);
        }
    }

    fn tell_lost_lines(&mut self) {
        let lost = self.log.lost();
        if lost > self.lost {
            warn!(lines = lost - self.lost, "lines of the log were lost; is its disk full, or its reader slow?");
        }
        self.lost = lost;
    }
}

impl AtStart {
    fn of(config: &Config) -> Self {
        let (socket, admin, registrar) = (config.socket.clone(), config.admin.clone(), config.registrar.clone());
        Self { socket, admin, registrar, state: edits::state_folder(config) }
    }
}

async fn next(asks: &mut Option<mpsc::Receiver<Ask>>) -> Option<Ask> {
    asks.as_mut()?.recv().await
}

/// A panic with the lock leaves edits that are written or not, and the journal knows which.
fn lock(edits: &Mutex<Edits>) -> MutexGuard<'_, Edits> {
    edits.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a reload changes in the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Changes {
    fn between(old: &RouteTable, new: &RouteTable) -> Self {
        let mut changes = Self { removed: old.len(), ..Self::default() };
        let mut order = Order::<Rank>::default();
        for route in new.iter() {
            match old.get(route.key()) {
                None => changes.added += 1,
                Some(before) => {
                    changes.removed -= 1;
                    let is_moved = order.is_moved((before.weight, before.rank()), route.weight);
                    changes.changed += usize::from(!route.means_the_same(before) || is_moved);
                }
            }
        }
        changes
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} -{} ~{}", self.added, self.removed, self.changed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::route::Origin;
    use crate::route::testing::route;

    fn table(routes: &[(&str, i64)]) -> RouteTable {
        RouteTable::from_entries(routes.iter().map(|(pattern, weight)| route(pattern, *weight)).collect()).unwrap()
    }

    #[test]
    fn changes_are_counted_by_pattern() {
        let old = table(&[("a", 1), ("b", 1), ("c", 1)]);
        let mut moved = route("a", 1);
        moved.origin = Origin::File { file: Path::new("routes.toml").into(), line: 99 };
        let new = RouteTable::from_entries(vec![moved, route("b", 2), route("d", 1), route("e", 1)]).unwrap();
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.to_string(), "+2 -1 ~1", "a route that only moved in its file has not changed");
        assert_eq!(Changes::between(&old, &old), Changes::default());
    }

    #[test]
    fn a_route_that_stands_behind_another_of_its_weight_has_changed() {
        let old = table(&[("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 0)]);
        let order = |routes: &[(&str, i64)]| Changes::between(&old, &table(routes)).to_string();
        assert_eq!(order(&[("e", 0), ("d", 2), ("a", 1), ("b", 1), ("c", 1)]), "+0 -0 ~0", "weights have their order");
        assert_eq!(order(&[("b", 1), ("a", 1), ("c", 1), ("d", 2), ("e", 0)]), "+0 -0 ~1");
        assert_eq!(order(&[("c", 1), ("x", 1), ("a", 1), ("d", 2), ("e", 0)]), "+1 -1 ~1");
        assert_eq!(order(&[("c", 1), ("b", 1), ("a", 1), ("d", 2), ("e", 0)]), "+0 -0 ~2");
    }
}
