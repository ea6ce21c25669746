//! Edits over files, restarts and broken disks.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::config::{Problems, Scope, load_config};
use crate::journal::testing::{Fate, Memory, any_fate};
use crate::route::testing::route;
use crate::route::{Origin, RouteTable};

/// Edits on a disk, and the files beneath them.
struct Daemon {
    disk: Memory,
    edits: Edits,
    files: RouteTable,
    applied: Applied,
    clock: SystemTime,
}

fn open(disk: &Memory) -> Edits {
    let (journal, contents) = disk.open().unwrap();
    assert_eq!(contents.damage, None);
    Edits::of(journal, contents.records)
}

fn table(routes: &[(&str, i64)]) -> RouteTable {
    RouteTable::from_entries(routes.iter().map(|(pattern, weight)| route(pattern, *weight)).collect()).unwrap()
}

fn spec(pattern: &str, weight: i64) -> RouteSpec {
    RouteSpec::of(&route(pattern, weight))
}

/// A route of the layer; one of the weight 13 cannot be read.
fn parse(spec: &RouteSpec, at: SystemTime) -> Option<Route> {
    let route = Route { origin: Origin::Edit { at }, ..route(&spec.pattern, spec.weight) };
    (spec.weight != 13).then_some(route)
}

impl Daemon {
    fn start(files: &[(&str, i64)]) -> Self {
        let (disk, files) = (Memory::default(), table(files));
        let edits = open(&disk);
        let applied = edits.layer().apply(files.clone(), parse);
        Self { disk, edits, files, applied, clock: UNIX_EPOCH }
    }

    fn now(&mut self) -> SystemTime {
        self.clock += Duration::from_secs(1);
        self.clock
    }

    fn add(&mut self, pattern: &str, weight: i64) -> Result<(), EditError> {
        let at = self.now();
        self.edits.add(spec(pattern, weight), at)?;
        self.build();
        Ok(())
    }

    fn remove(&mut self, pattern: &str) -> Result<(), EditError> {
        let at = self.now();
        let in_force = self.applied.table.get(pattern).map(|row| Route::clone(row));
        self.edits.remove(pattern, in_force.as_ref(), at)?;
        self.build();
        Ok(())
    }

    /// What has ended, and whether the journal knows.
    fn reload(&mut self, files: RouteTable) -> (Vec<String>, bool) {
        self.files = files;
        self.build();
        let told = self.edits.end(&self.applied.ended).is_ok();
        (self.applied.ended.iter().map(ToString::to_string).collect(), told)
    }

    fn restart(&mut self) {
        self.edits = open(&self.disk);
        self.reload(self.files.clone());
    }

    fn build(&mut self) {
        self.applied = self.edits.layer().apply(self.files.clone(), parse);
    }

    /// Patterns in force, `+` before an edit's, in their order; and those that are hidden.
    fn seen(&self) -> (Vec<String>, Vec<String>) {
        let mark = |route: &Route| if matches!(route.origin, Origin::Edit { .. }) { "+" } else { "" };
        let rows = self.applied.table.iter().map(|row| format!("{}{}", mark(row), row.pattern.as_str()));
        (rows.collect(), self.applied.removed.iter().map(|row| row.pattern.to_string()).collect())
    }
}

#[test]
fn edits_lie_over_the_files_and_outlive_a_restart() {
    let mut daemon = Daemon::start(&[("a", 100), ("b", 200)]);
    daemon.add("c", 100).unwrap();
    daemon.add("d", 300).unwrap();
    daemon.add("e", 100).unwrap();
    daemon.remove("b").unwrap();
    daemon.remove("c").unwrap();
    daemon.add("c", 100).unwrap();
    for _ in 0..2 {
        let (table, removed) = daemon.seen();
        assert_eq!(table, ["+d", "a", "+e", "+c"], "files first, then by time");
        assert_eq!(removed, ["b"]);
        daemon.restart();
    }
    assert!(matches!(daemon.remove("b"), Err(EditError::Unknown(Unknown))));
    daemon.add("b", 1).unwrap();
    daemon.remove("b").unwrap();
    assert_eq!(daemon.seen().1, ["b"], "the file's stays removed");
}

#[test]
fn what_the_files_end_is_said_and_stays_ended() {
    let mut daemon = Daemon::start(&[("a", 100), ("b", 100), ("c", 100)]);
    daemon.remove("a").unwrap();
    daemon.remove("b").unwrap();
    daemon.remove("c").unwrap();
    daemon.add("d", 100).unwrap();
    daemon.add("b", 7).unwrap();
    let (ended, told) = daemon.reload(table(&[("b", 200), ("c", 100), ("d", 100)]));
    let said = [
        "the removal of the route `a` by the edit of 1970-01-01T00:00:01Z has ended: no file has it any more",
        "the removal of the route `b` by the edit of 1970-01-01T00:00:02Z has ended: \
         routes.toml:1 says something else now",
        "the route `d` of the edit of 1970-01-01T00:00:04Z is replaced by routes.toml:1",
        "the route `b` of the edit of 1970-01-01T00:00:05Z is replaced by routes.toml:1",
    ];
    assert_eq!((ended, told), (said.map(str::to_owned).to_vec(), true));
    assert_eq!(daemon.seen(), (vec!["b".into(), "d".into()], vec!["c".into()]));
    daemon.restart();
    assert!(daemon.applied.ended.is_empty());
    daemon.reload(table(&[("a", 100)]));
    assert_eq!(daemon.seen(), (vec!["a".into()], vec![]), "neither the removal nor the routes come back");
}

#[test]
fn an_edit_that_cannot_be_kept_is_not_made() {
    let mut daemon = Daemon::start(&[("a", 100)]);
    daemon.disk.meet([Fate::Nothing]);
    let told = daemon.add("b", 100).unwrap_err().to_string();
    assert_eq!(told, "the edit was not made: `journal` cannot be written: no storage space");
    daemon.disk.meet([Fate::Nothing]);
    daemon.remove("a").unwrap_err();
    daemon.build();
    assert_eq!(daemon.seen().0, ["a"]);
}

#[test]
fn an_end_that_cannot_be_kept_is_written_with_the_next_edit() {
    let mut daemon = Daemon::start(&[]);
    daemon.add("a", 100).unwrap();
    daemon.disk.meet([Fate::Nothing]);
    assert!(!daemon.reload(table(&[("a", 200)])).1);
    daemon.reload(table(&[]));
    assert!(daemon.applied.table.is_empty(), "it does not come back");
    daemon.add("b", 100).unwrap();
    daemon.restart();
    assert_eq!(daemon.seen().0, ["+b"]);
}

#[test]
fn a_route_that_cannot_be_read_is_kept_and_can_be_replaced_or_removed() {
    let mut daemon = Daemon::start(&[]);
    daemon.add("a", 13).unwrap();
    daemon.add("b", 13).unwrap();
    daemon.restart();
    let unread: Vec<_> = daemon.applied.unread.iter().map(|edit| edit.route.pattern.as_str()).collect();
    assert_eq!((daemon.seen().0, unread), (vec![], vec!["a", "b"]));
    daemon.add("a", 14).unwrap();
    daemon.remove("b").unwrap();
    assert_eq!((daemon.seen().0, daemon.applied.unread.len()), (vec!["+a".into()], 0));
}

#[test]
fn a_journal_of_dead_records_is_compacted() {
    let mut daemon = Daemon::start(&[]);
    daemon.add("kept", 100).unwrap();
    for _ in 0..600 {
        daemon.add("a", 100).unwrap();
        daemon.remove("a").unwrap();
        assert!(daemon.edits.journal.records() <= 1001);
    }
    assert!(daemon.disk.bytes().len() < 100_000);
    daemon.restart();
    assert_eq!(daemon.seen().0, ["+kept"]);
}

#[test]
fn a_journal_that_cannot_be_compacted_grows_on() {
    let mut daemon = Daemon::start(&[]);
    for _ in 0..500 {
        daemon.add("a", 100).unwrap();
        // The edit is written, and if the journal is to be compacted then, that fails.
        daemon.disk.meet([Fate::Done, Fate::Nothing]);
        daemon.remove("a").unwrap();
        daemon.disk.meet([]);
    }
    assert_eq!(daemon.edits.journal.records(), 1000);
    daemon.add("b", 100).unwrap();
    daemon.restart();
    assert_eq!(daemon.seen().0, ["+b"]);
}

#[test]
fn where_edits_are_kept() {
    let folder_of = |state: &str, variable: Option<&str>| {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("portolan.toml");
        std::fs::write(&path, state).unwrap();
        let config = load_config(&path, Scope::Text, &mut Problems::default()).unwrap();
        folder(&config, variable.map(OsString::from)).strip_prefix(temporary.path()).map(Path::to_owned).ok()
    };
    assert_eq!(folder_of("state = 'edits'", Some("/var/lib/portolan")), Some("edits".into()));
    assert_eq!(folder_of("", Some("/var/lib/portolan:/var/lib/other")), None);
    assert_eq!(folder_of("", Some("")), Some("portolan.state".into()));
    assert_eq!(folder_of("", None), Some("portolan.state".into()));
}

/// What edits mean, said once more and as simply as can be: keys with weights.
#[derive(Debug, Default)]
struct Model {
    files: BTreeMap<String, i64>,
    added: Vec<(String, i64)>,
    hidden: BTreeMap<String, i64>,
}

impl Model {
    fn in_force(&self) -> Vec<String> {
        let files = self.files.iter().filter(|(key, _)| !self.hidden.contains_key(*key));
        let mut all: Vec<_> = files.map(|(key, weight)| (*weight, key.clone())).collect();
        all.extend(self.added.iter().map(|(key, weight)| (*weight, format!("+{key}"))));
        all.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        all.into_iter().map(|(_, key)| key).collect()
    }

    fn has(&self, key: &str) -> bool {
        self.in_force().iter().any(|other| other.trim_start_matches('+') == key)
    }

    fn remove(&mut self, key: &str) {
        let before = self.added.len();
        self.added.retain(|(other, _)| other != key);
        if self.added.len() == before {
            self.hidden.insert(key.to_owned(), self.files[key]);
        }
    }

    fn reload(&mut self, files: BTreeMap<String, i64>) {
        self.hidden.retain(|key, weight| files.get(key) == Some(weight));
        self.added.retain(|(key, _)| !files.contains_key(key) || self.hidden.contains_key(key));
        self.files = files;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(String, i64),
    Remove(String),
    Reload(BTreeMap<String, i64>),
    Restart,
}

fn any_step() -> impl Strategy<Value = (Step, [Fate; 3])> {
    let key = || "[a-d]";
    let step = prop_oneof![
        3 => (key(), 1..3i64).prop_map(|(key, weight)| Step::Add(key, weight)),
        3 => key().prop_map(Step::Remove),
        2 => prop::collection::btree_map(key(), 1..3i64, 0..4).prop_map(Step::Reload),
        1 => Just(Step::Restart),
    ];
    (step, [any_fate(), any_fate(), any_fate()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn edits_are_what_the_model_says(steps in prop::collection::vec(any_step(), 1..25)) {
        let (mut daemon, mut model) = (Daemon::start(&[]), Model::default());
        for (step, fates) in steps {
            match step {
                Step::Add(key, weight) if !model.has(&key) => {
                    daemon.disk.meet(fates);
                    if daemon.add(&key, weight).is_ok() {
                        model.added.push((key, weight));
                    }
                }
                Step::Add(..) => {}
                Step::Remove(key) => {
                    daemon.disk.meet(fates);
                    match daemon.remove(&key) {
                        Ok(()) => model.remove(&key),
                        Err(EditError::Unknown(_)) => prop_assert!(!model.has(&key)),
                        Err(EditError::Journal(_)) => prop_assert!(model.has(&key)),
                    }
                }
                Step::Reload(files) => {
                    daemon.disk.meet(fates);
                    let routes: Vec<_> = files.iter().map(|(key, weight)| (key.as_str(), *weight)).collect();
                    daemon.reload(table(&routes));
                    model.reload(files);
                    daemon.build();
                }
                Step::Restart => {
                    // It ends in good order: what could not be written before is, and what was refused is cut off.
                    daemon.disk.meet([]);
                    daemon.edits.write(Vec::new()).unwrap();
                    daemon.restart();
                }
            }
            prop_assert_eq!(daemon.seen().0, model.in_force());
            let hidden: Vec<_> = daemon.edits.layer().removed().map(|edit| edit.route.pattern.clone()).collect();
            prop_assert_eq!(hidden.len(), model.hidden.len());
            prop_assert!(hidden.iter().all(|key| model.hidden.contains_key(key)));
        }
    }
}
