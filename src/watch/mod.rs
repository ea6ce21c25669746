//! Notices that a file has changed, however it was changed.
//!
//! The *folders* are watched, those of the files and those of every link on the way to them: editors rename over a
//! file, and a ConfigMap swaps a symlink beside it. A file has changed when somebody who wrote to it has closed it, when
//! it was renamed or removed, or when its name leads to another file. One that is being written is left alone, and
//! while one is, the others wait with it. Of a pattern of names, such as `routes.d/*.toml`, the folder is watched, too, for
//! files that appear and vanish. A slow poll covers what inotify cannot see, such as network file systems.

/// What tells one state of a file from another.
mod print;
/// The way from a name to its file.
mod way;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, warn};

pub use print::Print;
use way::names_on_the_way;

use crate::config::FileNames;

/// An event is followed by others: a reload waits for so long without one ...
const QUIET: Duration = Duration::from_millis(50);
/// ... and at most for so long.
const AT_MOST: Duration = Duration::from_millis(500);
/// Between two polls. A change counts when two of them agree on it, so that no half-written file is read.
const POLL: Duration = Duration::from_secs(5);
/// Changes that wait to be looked at; the poll covers those beyond.
const QUEUE: usize = 1024;

/// Watches a set of files, and which names there are that match a pattern.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<Change>,
    concern: Arc<Concern>,
    /// The folders that are watched, each with what it was then.
    folders: HashMap<PathBuf, FolderId>,
    files: Vec<Watched>,
    /// The reload that the changes so far call for.
    due: Option<Due>,
    poll: Interval,
}

/// A file, or a pattern of names, with what it was when it was last read.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Where a change of it shows.
    names: Vec<PathBuf>,
    seen: Print,
    /// What the last poll saw, if that differs.
    polled: Option<Print>,
    /// Somebody has written to it and not closed it.
    writing: bool,
    /// That has been said.
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    first: Instant,
    at: Instant,
}

/// Something that happened at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// A file there is being written.
    Writing(PathBuf),
    /// Something there is complete.
    Complete(PathBuf),
}

/// What the watcher's thread has to know, and to say beside the changes.
#[derive(Debug, Default)]
struct Concern {
    places: Mutex<Places>,
    /// Changes were lost: the queue, or the kernel's, was full.
    lost: AtomicBool,
}

/// Where a change matters.
#[derive(Debug, Default)]
struct Places {
    paths: HashSet<PathBuf>,
    /// Folders, and which of their names.
    names: Vec<(PathBuf, FileNames)>,
}

/// Device, inode and birth: a folder that was made anew often has the inode of the one before it.
type FolderId = (u64, u64, Option<SystemTime>);

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let (sender, changes) = mpsc::channel(QUEUE);
        let concern = Arc::<Concern>::default();
        let watcher = notify::recommended_watcher(listener(sender, Arc::clone(&concern)))
            .inspect_err(|error| warn!(%error, "folders cannot be watched; changes are noticed by polling"))
            .ok();
        Self::of(watcher, changes, concern)
    }

    fn of(watcher: Option<RecommendedWatcher>, changes: mpsc::Receiver<Change>, concern: Arc<Concern>) -> Self {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watcher, changes, concern, folders: HashMap::new(), files: Vec::new(), due: None, poll }
    }

    /// Says that all files are about to be read: what has changed so far calls for no other reload.
    pub fn begin(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            self.note(change);
        }
        self.due = None;
    }

    /// Watches these files, each with what it was before it was read.
    pub fn set(&mut self, files: impl IntoIterator<Item = (PathBuf, Print)>) {
        let writing = self.files.drain(..).filter(|file| file.writing).map(|file| file.path);
        let writing: HashSet<_> = writing.collect();
        let mut known = HashSet::new();
        for (path, seen) in files {
            // Only a process without a working folder has no absolute paths; such a file is polled as it is named.
            let path = absolute(&path).unwrap_or(path);
            if known.insert(path.clone()) {
                let writing = writing.contains(&path);
                self.files.push(Watched { writing, ..Watched::new(path, seen) });
            }
        }
        self.watch_folders();
    }

    /// Takes the files as they are now for read.
    pub fn remember(&mut self) {
        for file in &mut self.files {
            (file.seen, file.polled) = (file.seen.again(&file.path), None);
        }
    }

    /// Waits until a file has changed, its folder is quiet, and no file is being written. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let is_written = self.files.iter().any(|file| file.writing);
            let due = self.due.filter(|_| !is_written);
            tokio::select! {
                Some(change) = self.changes.recv() => self.note(change),
                () = time_of(due) => {
                    self.due = None;
                    return;
                }
                _ = self.poll.tick() => self.look(),
            }
        }
    }

    fn note(&mut self, change: Change) {
        match change {
            Change::Writing(path) => {
                if self.concern.places().is_named(&path) && !self.files.iter().any(|file| file.names.contains(&path)) {
                    // It has come since the others were read.
                    let names = vec![path.clone()];
                    self.files.push(Watched { names, ..Watched::new(path.clone(), Print::missing()) });
                }
                for file in self.files.iter_mut().filter(|file| file.names.contains(&path)) {
                    file.writing = true;
                }
            }
            Change::Complete(path) => {
                debug!(path = %path.display(), "a file has changed");
                // Who writes to a file that has lost its name, or whose folder has, writes nothing of ours.
                for file in self.files.iter_mut().filter(|file| file.names.iter().any(|name| name.starts_with(&path))) {
                    (file.writing, file.told) = (false, false);
                }
                let now = Instant::now();
                let first = self.due.map_or(now, |due| due.first);
                self.due = Some(Due { first, at: (now + QUIET).min(first + AT_MOST) });
                // The watch of a folder goes with the folder, also when that was only renamed.
                if self.folders.remove(&path).is_some() {
                    self.unwatch(&path);
                }
                self.watch_folders();
            }
        }
    }

    /// Looks at every file, in case nobody has told of a change.
    fn look(&mut self) {
        if self.concern.lost.swap(false, Ordering::Relaxed) {
            // Whether a writer has closed its file is among what was lost.
            self.files.iter_mut().for_each(|file| file.writing = false);
        }
        self.watch_folders();
        let mut changed = false;
        for file in &mut self.files {
            let now = file.seen.again(&file.path);
            let agreed = now != file.seen && file.polled.as_ref() == Some(&now);
            file.polled = (now != file.seen).then_some(now);
            changed |= agreed && !file.writing;
            if agreed && file.writing && !file.told {
                file.told = true;
                warn!(
                    file = %file.path.display(),
                    "somebody writes to this file; reloads wait until it is closed, but for those by SIGHUP"
                );
            }
        }
        if changed && self.due.is_none() {
            debug!("a file has changed, seen by polling");
            let now = Instant::now();
            self.due = Some(Due { first: now, at: now });
        }
    }

    /// Watches the folder of every name on the way to a file; a folder that was made anew is watched anew.
    fn watch_folders(&mut self) {
        for file in &mut self.files {
            file.names = names_on_the_way(&file.path);
        }
        let names = || self.files.iter().flat_map(|file| &file.names);
        let folders = names().filter_map(|name| name.parent());
        let wanted: HashMap<_, _> = folders.filter_map(|path| Some((path.to_owned(), folder_id(path)?))).collect();
        // Before the folders are watched, so that nothing that is told of them is taken for a stranger's.
        let patterns = self.files.iter().filter_map(|file| {
            let folder = file.names.last()?.parent()?;
            Some((folder.to_owned(), file.seen.names()?.clone()))
        });
        let paths = names().chain(wanted.keys()).cloned().collect();
        let names = patterns.collect();
        *self.concern.places() = Places { paths, names };

        let (keep, drop): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut self.folders).into_iter().partition(|(path, id)| wanted.get(path) == Some(id));
        drop.keys().for_each(|path| self.unwatch(path));
        if let Some(watcher) = &mut self.watcher {
            for folder in wanted.keys().filter(|folder| !keep.contains_key(*folder)) {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    let folder = folder.display();
                    warn!(%folder, %error, "cannot be watched; changes there are noticed by polling");
                }
            }
        }
        self.folders = wanted;
    }

    fn unwatch(&mut self, folder: &Path) {
        if let Some(watcher) = &mut self.watcher {
            // It fails for a folder that is gone and has taken its watch along.
            drop(watcher.unwatch(folder));
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watched {
    fn new(path: PathBuf, seen: Print) -> Self {
        Self { path, names: Vec::new(), seen, polled: None, writing: false, told: false }
    }
}

impl Concern {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn has(&self, path: &Path) -> bool {
        self.paths.contains(path) || self.is_named(path)
    }

    /// Whether a pattern matches it.
    fn is_named(&self, path: &Path) -> bool {
        let Some((folder, name)) = path.parent().zip(path.file_name()) else { return false };
        self.names.iter().any(|(of, names)| of == folder && names.match_name(name))
    }
}

async fn time_of(due: Option<Due>) {
    match due {
        Some(due) => sleep_until(due.at).await,
        None => pending().await,
    }
}

fn folder_id(path: &Path) -> Option<FolderId> {
    let folder = fs::metadata(path).ok()?;
    Some((folder.dev(), folder.ino(), folder.created().ok()))
}

/// What the watcher's thread does with an event: what does not concern us never reaches the queue.
fn listener(sender: mpsc::Sender<Change>, concern: Arc<Concern>) -> impl FnMut(notify::Result<Event>) {
    // A file that is written in many pieces is one change.
    let mut last = None;
    move |event| {
        let Ok(event) = event else { return };
        if event.need_rescan() {
            concern.lost.store(true, Ordering::Relaxed);
        }
        for change in changes_of(event) {
            let (Change::Writing(path) | Change::Complete(path)) = &change;
            if !concern.places().has(path) || matches!(change, Change::Writing(_)) && last.as_ref() == Some(&change) {
                continue;
            }
            last = Some(change.clone());
            if sender.try_send(change).is_err() {
                concern.lost.store(true, Ordering::Relaxed);
                last = None;
            }
        }
    }
}

fn changes_of(event: Event) -> Vec<Change> {
    let change = match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => Change::Writing,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => Change::Complete,
        // A file that was created will be written and closed; a link or a folder is complete at once.
        EventKind::Create(_) if !event.paths.iter().any(|path| is_file(path)) => Change::Complete,
        _ => return Vec::new(),
    };
    event.paths.into_iter().map(change).collect()
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}
