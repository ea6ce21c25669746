//! A journal over real folders, and over a disk that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use proptest::sample::Index;

use super::testing::{Fate, Memory, any_fate};
use super::*;

fn open(folder: &Path) -> (Journal, Contents<u32>) {
    Journal::open(folder).unwrap()
}

/// A folder with a journal of these records, and the folder's parent.
fn written(records: &[u32]) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/state");
    open(&folder).0.append(records).unwrap();
    (parent, folder)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_made_before_the_first_record_and_then_for_us_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/state");
    let (mut journal, contents) = open(&folder);
    assert_eq!((contents.records, contents.damage, names(parent.path())), (vec![], None, vec![]));
    journal.append(&[1, 2]).unwrap();
    journal.append(&[3]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("journal"))), (0o700, 0o600));
    assert_eq!(names(&folder), ["journal", "journal.lock"]);
    drop(journal);
    let (journal, contents) = open(&folder);
    assert_eq!((contents.records, contents.damage, journal.records()), (vec![1, 2, 3], None, 3));
}

#[test]
fn a_second_writer_is_told_of_the_first() {
    let (_parent, folder) = written(&[1]);
    let held = open(&folder);
    let journal = folder.join("journal");
    let told = Journal::open::<u32>(&folder).unwrap_err().to_string();
    let (path, own) = (journal.display(), std::process::id());
    assert_eq!(told, format!("`{path}` is in use by process {own}: stop it, or give each its own `state` folder"));
    assert_eq!(Journal::read::<u32>(&folder).unwrap().records, [1], "whoever only reads needs no lock");
    drop(held);
    open(&folder);
}

#[test]
fn what_another_has_written_meanwhile_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut early, _) = open(folder.path());
    let (mut other, _) = open(folder.path());
    other.append(&[1]).unwrap();
    assert!(matches!(early.append(&[2]), Err(JournalError::Locked { .. })));
    drop(other);
    assert!(matches!(early.append(&[2]), Err(JournalError::Foreign { .. })));
    assert_eq!(open(folder.path()).1.records, [1]);
}

#[test]
fn a_torn_last_line_is_cut_off_and_said() {
    let (_parent, folder) = written(&[1, 2]);
    let path = folder.join("journal");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();

    let read = Journal::read::<u32>(&folder).unwrap();
    let torn = Some(Damage::Torn { path: path.clone(), line: 3 });
    assert_eq!((read.records, &read.damage), (vec![1], &torn));
    assert_eq!(fs::read(&path).unwrap().len(), whole.len() - 1, "reading touches nothing");

    let (mut journal, contents) = open(&folder);
    assert_eq!((contents.records, contents.damage), (vec![1], torn));
    journal.append(&[2]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_damaged_line_is_said_and_the_file_is_kept() {
    let (_parent, folder) = written(&[1, 2, 3]);
    let path = folder.join("journal");
    let text = fs::read_to_string(&path).unwrap();
    let damaged = text.replace(" 2\n", " 7\n") + "torn";
    fs::write(&path, &damaged).unwrap();

    let (journal, contents) = open(&folder);
    assert_eq!((contents.records, journal.records()), (vec![1, 3], 2));
    let said = contents.damage.unwrap().to_string();
    let (beginning, kept) = said.split_once("; the file as it was is kept as `").unwrap();
    assert_eq!(
        beginning,
        format!(
            "`{}`: 2 lines of it, the first of them line 3, not as written, and the edits in them are lost; \
             look at the table and make them again",
            path.display()
        )
    );
    assert_eq!(fs::read_to_string(kept.trim_end_matches('`')).unwrap(), damaged);
    drop(journal);
    let (_, again) = open(&folder);
    assert_eq!((again.records, again.damage), (vec![1, 3], None));
}

#[test]
fn what_no_crash_leaves_is_kept_even_at_the_end() {
    let (_parent, folder) = written(&[1, 2]);
    let path = folder.join("journal");
    let acknowledged = fs::read_to_string(&path).unwrap().replace(" 2\n", " 7\n");
    for (text, line) in [(acknowledged.as_str(), 3), ("somebody else's notes", 1)] {
        fs::write(&path, text).unwrap();
        let damage = open(&folder).1.damage;
        let Some(Damage::Lost { lines, kept: Some(kept), .. }) = damage else { panic!("{damage:?}") };
        assert_eq!((lines, fs::read_to_string(kept).unwrap().as_str()), (vec![line], text));
    }
}

#[test]
fn a_journal_of_a_later_version_is_not_touched() {
    let (_parent, folder) = written(&[1]);
    let before = fs::read(folder.join("journal")).unwrap();
    let told = Journal::open::<bool>(&folder).unwrap_err().to_string();
    assert!(told.contains("has a record in line 2 that this version does not know"), "{told}");
    assert!(told.ends_with("run the version of portolan that wrote it, or move the file away"), "{told}");
    assert_eq!(fs::read(folder.join("journal")).unwrap(), before);
}

#[test]
fn a_journal_that_was_removed_takes_no_more_records() {
    let (_parent, folder) = written(&[1]);
    let (mut journal, _) = open(&folder);
    fs::rename(folder.join("journal"), folder.join("moved")).unwrap();
    assert!(journal.append(&[2]).unwrap_err().to_string().ends_with("cannot be written: no such file or directory"));
    fs::write(folder.join("journal"), "").unwrap();
    let told = journal.append(&[2]).unwrap_err().to_string();
    assert!(told.ends_with("cannot be written: another file has taken its place: restart portolan"), "{told}");
}

#[test]
fn compaction_leaves_what_it_is_given() {
    let (_parent, folder) = written(&[1, 2, 3]);
    let (mut journal, _) = open(&folder);
    journal.compact(&[3]).unwrap();
    journal.append(&[4]).unwrap();
    assert_eq!(journal.records(), 2);
    assert!(matches!(Journal::open::<u32>(&folder), Err(JournalError::Locked { .. })), "the lock outlives the file");
    drop(journal);
    assert_eq!(open(&folder).1.records, [3, 4]);
    assert_eq!(names(&folder), ["journal", "journal.lock"]);
}

#[test]
fn what_lies_in_the_way_of_a_compaction_is_removed_and_a_link_is_not_followed() {
    let (parent, folder) = written(&[1, 2]);
    let (precious, new) = (parent.path().join("precious"), folder.join("journal.new"));
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, &new).unwrap();
    let (mut journal, _) = open(&folder);
    journal.compact(&[2]).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    fs::write(&new, "left by a crash").unwrap();
    journal.compact(&[2]).unwrap();
    journal.append(&[3]).unwrap();
    drop(journal);
    assert_eq!(open(&folder).1.records, [2, 3]);
    assert_eq!(fs::metadata(folder.join("journal")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_is_written_behind_what_could_not_be_cut_off() {
    let disk = Memory::default();
    let (mut journal, _) = disk.open::<u32>().unwrap();
    journal.append(&[1]).unwrap();
    let good = disk.bytes();
    disk.meet([Fate::Part(99), Fate::Nothing, Fate::Nothing]);
    assert!(journal.append(&[2]).unwrap_err().to_string().ends_with("cannot be written: no storage space"));
    assert!(journal.append(&[3]).unwrap_err().to_string().ends_with("cannot be written: the disk is bad"));
    assert!(disk.bytes().len() > good.len());
    journal.append(&[4]).unwrap();
    assert!(disk.bytes().starts_with(&good));
    assert_eq!(disk.open::<u32>().unwrap().1.records, [1, 4]);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u32>, [Fate; 4]),
    /// All but the first so many.
    Compact(usize, [Fate; 4]),
    Crash(Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    let fates = || [any_fate(), any_fate(), any_fate(), any_fate()];
    prop_oneof![
        6 => (prop::collection::vec(any::<u32>(), 1..3), fates()).prop_map(|(records, fates)| Step::Append(records, fates)),
        1 => (0..4usize, fates()).prop_map(|(count, fates)| Step::Compact(count, fates)),
        2 => any::<Index>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_was_acknowledged_outlives_every_fault_and_crash(steps in prop::collection::vec(any_step(), 1..20)) {
        let disk = Memory::default();
        let (mut journal, _) = disk.open::<u32>().unwrap();
        // What was acknowledged; after a compaction that failed there are two answers. And what was refused and may not
        // have been cut off yet.
        let (mut acknowledged, mut refused) = (vec![vec![]], Vec::<Vec<u32>>::new());
        for step in steps {
            match step {
                Step::Append(records, fates) => {
                    disk.meet(fates);
                    match journal.append(&records) {
                        Ok(()) => acknowledged.iter_mut().for_each(|all| all.extend_from_slice(&records)),
                        Err(_) => refused.push(records),
                    }
                }
                Step::Compact(count, fates) => {
                    disk.meet(fates);
                    let shorter = |all: &Vec<u32>| all.iter().skip(count).copied().collect::<Vec<_>>();
                    let live = shorter(&acknowledged[0]);
                    match journal.compact(&live) {
                        Ok(()) => acknowledged = vec![live],
                        Err(_) => acknowledged.push(live),
                    }
                }
                Step::Crash(choice) => {
                    disk.crash(choice);
                    let (reopened, contents) = disk.open::<u32>().unwrap();
                    let is_one = |all: &Vec<u32>| contents.records.strip_prefix(all.as_slice()).is_some_and(|more| {
                        more.is_empty() || refused.iter().any(|records| records.starts_with(more))
                    });
                    prop_assert!(acknowledged.iter().any(is_one), "{:?}: {:?} {:?}", contents, acknowledged, refused);
                    acknowledged = vec![contents.records];
                    journal = reopened;
                }
            }
            if !journal.is_unsettled {
                refused.clear();
            }
        }
    }
}
