//! The last good table on disk: a daemon that starts while etcd is away serves what it served before.
//!
//! It is a journal of changes, a line for each: a step from one published state to the next. What a crash leaves is the
//! state before the last step or the one behind it, and never half of a push.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::held::{Change, Held};
use crate::config::{Place, Problem};
use crate::journal::{Contents, Damage, Journal};

/// The copy of a table that this process keeps.
#[derive(Debug)]
pub struct Copy {
    journal: Journal,
    prefix: Box<str>,
    /// How many routes the lines behind the last whole one tell of.
    since: usize,
}

/// A copy that was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// Where the next changes are kept; `None`: nothing is kept.
    pub copy: Option<Copy>,
    /// What it held.
    pub held: Held,
    /// Why it does not hold what it should.
    pub warning: Option<Problem>,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// What the keys began with.
    prefix: Box<str>,
    /// The step.
    change: Change,
}

/// Where the copy of a table is kept.
pub fn copy_folder(state: &Path, resolver: &str) -> PathBuf {
    state.join("shared").join(resolver)
}

impl Copy {
    /// A copy may tell of so many more routes than there are.
    const SPARE: usize = 1000;

    /// Opens the copy of the table under this prefix, and reads what it holds. What cannot be read counts as nothing:
    /// etcd has it all.
    pub fn open(folder: &Path, prefix: &str) -> Opened {
        match Journal::open::<Line>(folder) {
            Ok((journal, contents)) => {
                let (held, warning) = held(folder, prefix, contents);
                let mut copy = Self { journal, prefix: prefix.into(), since: held.len() };
                if held.is_empty() && copy.journal.records() > 0 {
                    copy.replace(&held);
                }
                Opened { copy: Some(copy), held, warning }
            }
            Err(error) => {
                let help = "put it right and restart portolan: until then nothing is kept for a start without etcd";
                let warning = Some(unused(folder, &format!("cannot be used: {error}")).help(help));
                Opened { warning, ..Opened::default() }
            }
        }
    }

    /// Reads a copy while a daemon may write it; touches nothing.
    pub fn read(folder: &Path, prefix: &str) -> Opened {
        match Journal::read::<Line>(folder) {
            Ok(contents) => {
                let (held, warning) = held(folder, prefix, contents);
                Opened { copy: None, held, warning }
            }
            Err(error) => Opened { warning: Some(unused(folder, &error.to_string())), ..Opened::default() },
        }
    }

    /// Keeps a step that leads to what is held under this prefix. It is on disk when this returns, unless a warning says that it is not:
    /// a start without etcd would then serve what was kept before.
    pub fn keep(&mut self, prefix: &str, change: &Change, held: &Held) {
        self.since += change.upsert.len() + change.remove.len();
        let is_another = *self.prefix != *prefix;
        if is_another || self.since > 2 * held.len() + Self::SPARE {
            self.prefix = prefix.into();
            return self.replace(held);
        }
        let line = Line { prefix: self.prefix.clone(), change: change.clone() };
        if let Err(error) = self.journal.append(&[line]) {
            warn!(%error, "the copy of the shared table is behind");
        }
    }

    fn replace(&mut self, held: &Held) {
        let line = Line { prefix: self.prefix.clone(), change: held.whole() };
        match self.journal.compact(&[line]) {
            Ok(()) => self.since = held.len(),
            Err(error) => warn!(%error, "the copy of the shared table is behind"),
        }
    }
}

/// What the lines say, or why they say nothing.
fn held(folder: &Path, prefix: &str, contents: Contents<Line>) -> (Held, Option<Problem>) {
    let nothing = |why: &str| (Held::default(), Some(unused(folder, why)));
    if let Some(Damage::Lost { .. }) = contents.damage {
        // A line that is gone may have been the one that took a route away.
        return nothing("is damaged and is not used");
    }
    let mut held = Held::default();
    for line in &contents.records {
        if *line.prefix != *prefix {
            return nothing(&format!("is of the prefix {}, not {prefix}, and is not used", line.prefix));
        }
        held.follow(&line.change);
    }
    if held.is_fit() { (held, None) } else { nothing("does not fit together and is not used") }
}

fn unused(folder: &Path, why: &str) -> Problem {
    Problem::warning(format!("the copy of the shared table {why}"))
        .at(Place::of_file(folder))
        .help("nothing need be done: it is made anew when etcd is read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{Item, Name};

    fn change(held: &Held, upsert: &[(&str, &str)], remove: &[&str]) -> Change {
        let item =
            |(name, value): &(&str, &str)| Item { name: Name::by_hand(name), came: 7, value: Some((*value).into()) };
        let upsert = upsert.iter().map(item).collect();
        let remove = remove.iter().map(|name| Name::by_hand(name)).collect();
        Change { cluster: 3, revision: held.revision + 1, head: None, upsert, remove }
    }

    fn kept(folder: &Path, steps: usize) -> Held {
        let Opened { copy, mut held, .. } = Copy::open(folder, "p/");
        let mut copy = copy.unwrap();
        for step in 0..steps {
            let change =
                change(&held, &[("a", &step.to_string()), ("b", "x")], if step % 2 == 0 { &["c"] } else { &[] });
            held.follow(&change);
            copy.keep("p/", &change, &held);
        }
        held
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = copy_folder(folder.path(), "fleet");
        assert_eq!(Copy::open(&path, "p/").held, Held::default(), "there is none");
        assert!(!path.exists(), "nothing is made for nothing");
        for steps in [3, 0, 5, 2 * Copy::SPARE] {
            let held = kept(&path, steps);
            assert_eq!(Copy::open(&path, "p/").held, held);
            assert_eq!(Copy::read(&path, "p/").held, held);
        }
        let other = Copy::read(&path, "q/");
        assert_eq!(other.held, Held::default());
        assert!(other.warning.unwrap().message.contains("is of the prefix p/, not q/"));
        let lines = std::fs::read_to_string(path.join("journal")).unwrap().lines().count();
        assert!(lines < Copy::SPARE, "it is written anew now and then: {lines} lines");
    }

    #[test]
    fn a_copy_that_was_cut_short_is_what_was_kept_before() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path(), 4);
        let file = folder.path().join("journal");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
        let held = Copy::open(folder.path(), "p/").held;
        assert_eq!((held.revision, held.len()), (3, 2));
    }

    #[test]
    fn a_copy_that_cannot_be_kept_is_somebodys_to_put_right() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path(), 2);
        let first = Copy::open(folder.path(), "p/");
        let second = Copy::open(folder.path(), "p/");
        assert!(first.copy.is_some() && second.copy.is_none());
        let warning = second.warning.unwrap();
        assert!(warning.message.contains("is in use by process"), "{warning:?}");
        let help = warning.help.unwrap();
        assert!(help.starts_with("put it right and restart portolan"), "{help}");
    }

    #[test]
    fn a_copy_that_is_damaged_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        kept(folder.path(), 4);
        let file = folder.path().join("journal");
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let opened = Copy::open(folder.path(), "p/");
        assert_eq!(opened.held, Held::default());
        assert!(opened.warning.unwrap().message.contains("is damaged and is not used"));
        drop(opened.copy);
        assert_eq!(kept(folder.path(), 2).revision, 2, "and the next one is");
        assert_eq!(Copy::open(folder.path(), "p/").held.revision, 2);
    }
}
