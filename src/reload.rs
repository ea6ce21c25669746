//! Reads the files again: the new table is built beside the old one and swapped in one store, or nothing changes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::{AdminConfig, Config, SocketConfig};
use crate::daemon::Daemon;
use crate::listen::{Doors, Inherited};
use crate::load::{self, Loaded, Outcome};
use crate::log::Log;
use crate::plan::Snapshot;
use crate::route::{Entry, RouteTable};
use crate::systemd;
use crate::watch::{Print, Watch};

/// Keeps the daemon in step with its files.
pub struct Reloader {
    daemon: Arc<Daemon>,
    doors: Doors,
    log: Log,
    watch: Watch,
    /// What the main socket was bound by.
    socket: SocketConfig,
    /// What the admin API's socket was bound by.
    admin: AdminConfig,
    /// Tables that were in force and may be held by a request still.
    retired: Vec<Arc<Snapshot>>,
    /// How many lost log lines have been told.
    lost: usize,
}

impl Reloader {
    /// How often retired tables and lost log lines are looked at.
    const HOUSEKEEPING: Duration = Duration::from_secs(1);

    /// Watches the files that the daemon was loaded from, each with what it was before it was read.
    pub fn new(daemon: Arc<Daemon>, doors: Doors, log: Log, files: Vec<(PathBuf, Print)>) -> Self {
        let mut watch = Watch::new();
        watch.set(files);
        let (socket, admin) = (daemon.config().socket.clone(), daemon.config().admin.clone());
        Self { daemon, doors, log, watch, socket, admin, retired: Vec::new(), lost: 0 }
    }

    /// Reloads at each SIGHUP and at each change of a file, for ever.
    pub async fn run(&mut self, hangup: &mut Signal) {
        let mut housekeeping = tokio::time::interval(Self::HOUSEKEEPING);
        loop {
            tokio::select! {
                _ = hangup.recv() => self.reload("SIGHUP").await,
                () = self.watch.changed() => self.reload("a file has changed").await,
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
        self.doors.shut();
    }

    /// Says what is left to say.
    pub fn finish(mut self) {
        self.tell_lost_lines();
    }

    async fn reload(&mut self, cause: &'static str) {
        let started = Instant::now();
        systemd::reloading();
        self.watch.begin();
        let (path, old) = (Arc::clone(&self.daemon.config().path), self.daemon.snapshot());
        let read = spawn_blocking(move || {
            let outcome = load::load(&path, Some(&old.trusts));
            let changes = outcome.loaded.as_ref().map(|new| Changes::between(&old.table, &new.snapshot.table));
            (outcome, changes)
        });
        match read.await {
            Ok((outcome, changes)) => {
                let Outcome { loaded, problems, files } = outcome;
                load::log_problems(&problems);
                match loaded.zip(changes) {
                    Some((loaded, changes)) => self.swap(loaded, &changes, cause, started),
                    None => self.refuse(cause, problems.first_error()),
                }
                self.watch.set(files);
            }
            Err(panic) => {
                // It would not go otherwise with the same files.
                self.watch.remember();
                self.refuse(cause, panic.to_string());
            }
        }
        systemd::ready(&self.status());
    }

    fn swap(&mut self, mut loaded: Loaded, changes: &Changes, cause: &'static str, started: Instant) {
        let prepared = match self.doors.prepare_forwards(&loaded.config.forwards, &mut Inherited::default()) {
            Ok(prepared) => prepared,
            Err(errors) => {
                for error in &errors {
                    error!("{error}");
                }
                let first = errors.first().map(ToString::to_string).unwrap_or_default();
                return self.refuse(cause, first);
            }
        };
        let config = loaded.config.clone();
        self.say_what_needs_a_restart(&config);
        loaded.snapshot.generation = self.daemon.snapshot().generation + 1;
        let (generation, routes) = (loaded.snapshot.generation, loaded.snapshot.table.len());
        self.retired.push(self.daemon.replace(loaded));
        self.doors.keep_forwards(&config.forwards);
        self.doors.open(&self.daemon, prepared);
        self.log.follow(&config.log);
        self.daemon.set_refused(None);
        info!(generation, routes, %changes, cause, took = ?started.elapsed(), "reloaded");
    }

    /// What of `portolan.toml` is read at the start only; said at each reload for as long as it is out of step.
    fn say_what_needs_a_restart(&self, new: &Config) {
        if self.socket != new.socket {
            warn!(file = %new.path.display(), "[socket] has changed: that needs a restart");
        }
        if self.admin != new.admin {
            warn!(file = %new.path.display(), "[admin] has changed: that needs a restart");
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
        let (free, held) = self.retired.drain(..).partition(|table| Arc::strong_count(table) == 1);
        self.retired = held;
        let free: Vec<Arc<Snapshot>> = free;
        if !free.is_empty() {
            drop(spawn_blocking(move || drop(free)));
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
        for route in new.iter() {
            match old.get(route.key()) {
                None => changes.added += 1,
                Some(before) => {
                    changes.removed -= 1;
                    changes.changed += usize::from(!route.means_the_same(before));
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
}
