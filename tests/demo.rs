//! `portolan demo`: the tour of a newcomer.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::daemon::{PORTOLAN, text, utf8};

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(PORTOLAN);
    command.arg("demo").env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

fn assert_toured(output: &Output, temporary: &Path) {
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let stdout = text(&output.stdout);
    let mut lines = stdout.lines();
    for step in [
        " 1. two nodes listen: the primary on port ",
        " 2. routes.toml has two routes to prod-db, the primary's heavier (",
        " 3. portolan run: the daemon serves on a Unix socket",
        " 4. portolan connect prod-db@demo  ->  I am the primary",
        "        log: relay closed route=\"^prod-db@\" attempts=1",
        " 5. the primary dies",
        " 6. portolan connect prod-db@demo  ->  I am the backup",
        "        log: relay closed route=\"^prod-db@.*\" attempts=2",
        " 7. routes.toml gets a third route; nobody restarts anything",
        "        log: reloaded generation=2 changes=\"+1 -0 ~0\"",
        " 8. portolan connect cache@demo    ->  I am the cache",
        " 9. routes.toml gets a mistake; the table in force stays",
        "        log: reload refused why=\"routes.toml:3:1: unknown key `wieght` in [[route]] (and 1 more error)\"",
        "10. portolan connect cache@demo    ->  I am the cache",
        "11. the daemon is told to end        ->  exit status: 0",
    ] {
        assert!(lines.any(|line| line.starts_with(step)), "{step:?} is not there, or not in its place:\n{stdout}");
    }
    let left: Vec<_> = fs::read_dir(temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_step_is_taken_in_order_and_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    assert_toured(&demo(temporary.path()).output().unwrap(), temporary.path());
}

#[test]
fn a_temporary_folder_may_have_a_longer_path_than_a_socket() {
    let temporary = tempfile::tempdir().unwrap();
    let long = temporary.path().join("x".repeat(200));
    fs::create_dir(&long).unwrap();
    assert_toured(&demo(&long).output().unwrap(), &long);
}

#[test]
fn two_tours_at_once_do_not_meet() {
    let temporaries = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let tours = temporaries
        .each_ref()
        .map(|temporary| demo(temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    for (tour, temporary) in tours.into_iter().zip(&temporaries) {
        assert_toured(&tour.wait_with_output().unwrap(), temporary.path());
    }
}

#[test]
fn without_a_temporary_folder_it_says_what_to_do() {
    let temporary = tempfile::tempdir().unwrap();
    let (nowhere, file) = (temporary.path().join("nowhere"), temporary.path().join("file"));
    fs::write(&file, "").unwrap();
    for (path, why) in [(&nowhere, "no such file or directory"), (&file, "not a directory")] {
        let output = demo(path).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        let path = utf8(path);
        assert_eq!(
            text(&output.stderr),
            format!(
                "error: the demo cannot go on: no folder can be made in {path}: {why}; set TMPDIR to a folder where you \
                 may write\n"
            )
        );
    }
}

#[test]
fn who_has_seen_enough_leaves_nothing_behind_either() {
    let temporary = tempfile::tempdir().unwrap();
    let mut tour = demo(temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = tour.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 20]).unwrap();
    drop(stdout);
    let output = tour.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}
