//! Notices that a file has changed, however it was changed.
//!
//! The *folders* are watched: editors rename over a file, and a ConfigMap swaps a symlink beside it. A file counts as
//! changed when somebody who wrote to it has closed it, when it was renamed or removed, or when its name leads to
//! another file; one that is being written is left alone. A slow poll covers what inotify cannot see, such as network
//! file systems.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};
use tracing::{debug, warn};

/// An event is followed by others: a reload waits for so long without one ...
const QUIET: Duration = Duration::from_millis(50);
/// ... and at most for so long.
const AT_MOST: Duration = Duration::from_millis(500);
/// Between two polls. A change counts when two of them agree on it, so that no half-written file is read.
const POLL: Duration = Duration::from_secs(5);
/// Events that wait to be looked at; the poll covers those beyond.
const QUEUE: usize = 1024;

/// Watches a set of files.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<PathBuf>,
    /// The folders that are watched, each with the inode that it had.
    folders: HashMap<PathBuf, Option<u64>>,
    files: Vec<Watched>,
    poll: Interval,
}

/// A file, with what it was when it was last read.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    seen: Print,
    /// What the last poll saw, if that differs.
    polled: Option<Print>,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    /// Where its name leads; `None` if nowhere.
    target: Option<PathBuf>,
    /// Inode, size, and the times of the last change of its content and of itself, with nanoseconds.
    state: Option<(u64, u64, [i64; 4])>,
}

impl Print {
    fn of(path: &Path) -> Self {
        let state = fs::metadata(path)
            .ok()
            .map(|at| (at.ino(), at.size(), [at.mtime(), at.mtime_nsec(), at.ctime(), at.ctime_nsec()]));
        Self { target: fs::canonicalize(path).ok(), state }
    }

    /// Whether both are of the same file, whatever it holds.
    fn is_same_file(&self, other: &Self) -> bool {
        let inode = |print: &Self| print.state.map(|(inode, ..)| inode);
        self.target == other.target && inode(self) == inode(other)
    }
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            for path in event.map(changed_paths).unwrap_or_default() {
                // A full queue means that a reload is due anyway, and the poll sees what it missed.
                drop(sender.try_send(path));
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "folders cannot be watched; changes are noticed by polling"))
            .ok();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watcher, events, folders: HashMap::new(), files: Vec::new(), poll }
    }

    /// Remembers the files as they are now; to be called before they are read.
    pub fn remember(&mut self) {
        for file in &mut self.files {
            *file = Watched { seen: Print::of(&file.path), polled: None, path: std::mem::take(&mut file.path) };
        }
    }

    /// Watches these files; of those that it watches already it keeps what was remembered.
    pub fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut known: HashMap<_, _> = self.files.drain(..).map(|file| (file.path.clone(), file)).collect();
        for path in files {
            // Only a process without a working folder has no absolute paths; such a file is polled as it is named.
            let path = absolute(&path).unwrap_or(path);
            if self.files.iter().all(|file| file.path != path) {
                let new = || Watched { seen: Print::of(&path), polled: None, path: path.clone() };
                self.files.push(known.remove(&path).unwrap_or_else(new));
            }
        }
        self.watch_folders();
    }

    /// Waits until a file has changed and its folder is quiet.
    ///
    /// Cancel-safe for a caller who reads the files whenever it returns to this.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                Some(path) = self.events.recv() => {
                    if self.concerns(&path) {
                        debug!(path = %path.display(), "a file has changed");
                        return self.quiet().await;
                    }
                }
                _ = self.poll.tick() => {
                    self.watch_folders();
                    if self.poll_files() {
                        debug!("a file has changed, seen by polling");
                        return;
                    }
                }
            }
        }
    }

    async fn quiet(&mut self) {
        let last = Instant::now() + AT_MOST;
        let mut quiet = Instant::now() + QUIET;
        while let Ok(Some(path)) = timeout_at(quiet.min(last), self.events.recv()).await {
            if self.concerns(&path) {
                quiet = Instant::now() + QUIET;
            }
        }
    }

    /// Whether an event at a path is about a file, or about a link on the way to it.
    fn concerns(&self, path: &Path) -> bool {
        self.files.iter().any(|file| {
            file.path == path
                || file.seen.target.as_deref() == Some(path)
                || !file.seen.is_same_file(&Print::of(&file.path))
        })
    }

    /// Whether a file differs from what was read, and did so in the same way at the last poll.
    fn poll_files(&mut self) -> bool {
        let mut changed = false;
        for file in &mut self.files {
            let now = Print::of(&file.path);
            changed |= now != file.seen && file.polled.as_ref() == Some(&now);
            file.polled = (now != file.seen).then_some(now);
        }
        changed
    }

    /// Watches the folder of each file and of its link's target; a folder that was made anew is watched anew.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let names = self.files.iter().map(|file| file.path.clone());
        let targets = self.files.iter().filter_map(|file| fs::canonicalize(&file.path).ok());
        let mut wanted = HashMap::new();
        for folder in names.chain(targets).filter_map(|path| path.parent().map(Path::to_owned)) {
            let inode = fs::metadata(&folder).ok().map(|metadata| metadata.ino());
            wanted.insert(folder, inode);
        }
        for (folder, inode) in &self.folders {
            if wanted.get(folder) != Some(inode) {
                // A folder that is gone has no watch any more, and says so.
                drop(watcher.unwatch(folder));
            }
        }
        for (folder, inode) in &mut wanted {
            if inode.is_some()
                && self.folders.get(folder) != Some(inode)
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                warn!(folder = %folder.display(), %error, "cannot be watched; changes there are noticed by polling");
            }
        }
        self.folders = wanted;
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

/// The paths at which something is complete.
fn changed_paths(event: Event) -> Vec<PathBuf> {
    let complete = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => true,
        // A file that was created will be written and closed; a link is complete at once.
        EventKind::Create(_) => event.paths.iter().any(|path| path.is_symlink()),
        _ => false,
    };
    if complete { event.paths } else { Vec::new() }
}
