//! The log: its formats and levels, and that it never holds up a request.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use serde_json::Value;
use socket2::SockRef;

use crate::support::HANG;
use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder};
use crate::support::node::{DeadPort, Node};

/// Changes `portolan.toml` and reloads by SIGHUP.
fn reconfigure(daemon: &Daemon, from: &str, to: &str) -> Value {
    let text = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    assert!(text.contains(from));
    daemon.folder.replace("portolan.toml", &text.replace(from, to));
    daemon.hang_up()
}

#[test]
fn a_log_that_is_no_terminal_has_one_json_object_a_line() {
    let node = Node::named("db");
    let folder = Folder::new(&(node.route("db", "") + &DeadPort::new().route("^\"odd\\\\", "")), "");
    let mut command = folder.command(&["run", "--config", "portolan.toml"]);
    // The journal's of a parent whose stderr was not ours.
    command.env("JOURNAL_STREAM", "1:1");
    let daemon = Daemon::spawn(folder, command);
    drop(connect(&daemon.socket(), "db@x"));
    assert_eq!(upgrade(&daemon.socket(), "%22odd%5C%C3%A9").1.status, 502);
    assert_eq!(daemon.reload("[[route]\n")["message"], "reload refused; the table in force stays");
    let (status, lines) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().expect("a JSON object")).collect();
    for expected in ["listening", "serving", "relay closed", "refused", "ended"] {
        assert!(messages.contains(&expected), "no {expected:?} in {messages:?}");
    }
    for line in &lines {
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(matches!(line["level"].as_str().unwrap(), "INFO" | "WARN" | "ERROR"), "{line}");
        assert!(line["target"].as_str().unwrap().starts_with("portolan"), "{line}");
    }
    let refused = lines.iter().find(|line| line["message"] == "refused").unwrap();
    assert_eq!(refused["node"], "\"odd\\é");
    assert!(refused["ms"].is_u64(), "{refused}");
    assert!(lines.iter().any(|line| line["message"] == "relay closed" && line["ms"].is_u64()), "{lines:?}");
    let problem = lines.iter().find(|line| line["message"].as_str().unwrap().contains("routes.toml:1:")).unwrap();
    assert!(problem["message"].as_str().unwrap().contains("1 | [[route]\n"), "with its line and a caret: {problem}");
}

#[test]
fn text_is_for_people_and_has_no_colours_in_a_pipe() {
    let daemon = Daemon::start_with(&DeadPort::new().route("db", ""), "[log]\nformat = \"text\"\n");
    assert_eq!(upgrade(&daemon.socket(), "other@x").1.status, 404);
    daemon.wait_for("refused");
    let (_, lines) = daemon.stop();
    let said: Vec<_> = lines.iter().map(|line| line.as_str().expect("text").split_once(' ').unwrap().1).collect();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        said.contains(
            &format!(" INFO serving version=\"{version}\" config=portolan.toml generation=1 routes=1 removed=0")
                .as_str()
        ),
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line.starts_with(
            " WARN refused node=\"other@x\" code=\"no_route\" why=no route matches the node; `portolan lookup NAME` \
             shows what the table has for a name attempts=0 ms="
        )),
        "{said:?}"
    );
    assert!(!said.iter().any(|line| line.contains('\u{1b}')), "{said:?}");
}

#[test]
fn the_level_follows_a_reload() {
    let daemon = Daemon::start_with(&DeadPort::new().route("db", ""), "[log]\nlevel = \"info\"\n");
    let refuse = || assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 502);
    refuse();
    assert_eq!(reconfigure(&daemon, "\"info\"", "\"debug\"")["message"], "reloaded");
    assert!(!daemon.lines().iter().any(|line| line["message"] == "attempt failed"));
    refuse();
    assert_eq!(daemon.wait_for("attempt failed")["level"], "DEBUG");
    assert_eq!(reconfigure(&daemon, "\"debug\"", "\"info\"")["message"], "reloaded");
    let mark = daemon.mark();
    refuse();
    daemon.wait_after(mark, "refused");
    assert!(!daemon.lines()[mark..].iter().any(|line| line["message"] == "attempt failed"));
}

#[test]
fn the_format_follows_a_reload() {
    let daemon = Daemon::start_with(&DeadPort::new().route("db", ""), "[log]\nformat = \"json\"\n");
    let reloaded = reconfigure(&daemon, "\"json\"", "\"text\"");
    assert!(reloaded.as_str().expect("text").contains(" INFO reloaded generation=2 "), "{reloaded}");
    let reloaded = reconfigure(&daemon, "\"text\"", "\"json\"");
    assert_eq!((&reloaded["message"], &reloaded["generation"]), (&"reloaded".into(), &3.into()));
    for line in daemon.stop().1 {
        let is_text = |text: &str| text.contains(" INFO ") || text.contains(" WARN ");
        assert!(line["message"].is_string() || line.as_str().is_some_and(is_text), "a line of two formats: {line}");
    }
}

#[test]
fn a_full_disk_holds_up_nobody() {
    let node = Node::named("db");
    let folder = Folder::new(&node.route("db", ""), "[log]\nlevel = \"trace\"\n");
    let command = folder.command(&["run", "--config", "portolan.toml"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let daemon = Daemon::spawn_unread(folder, command, full.into());
    for _ in 0..100 {
        assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    }
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn lines_that_nobody_took_are_counted_and_told_when_somebody_does() {
    let node = Node::named("db");
    let folder = Folder::new(&node.route("db", ""), "");
    let command = folder.command(&["run", "--config", "portolan.toml"]);
    // A stream that nobody empties is full soon; not blocking, it fails a write as a full disk does.
    let (reader, writer) = UnixStream::pair().unwrap();
    SockRef::from(&writer).set_send_buffer_size(1).unwrap();
    writer.set_nonblocking(true).unwrap();
    reader.set_read_timeout(Some(HANG)).unwrap();
    let daemon = Daemon::spawn_unread(folder, command, Stdio::from(OwnedFd::from(writer)));
    for _ in 0..100 {
        assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    }
    let lines = BufReader::new(reader).lines().map(|line| line.unwrap());
    let mut told = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let lost = told.find(|line| line["message"].as_str().unwrap().starts_with("lines of the log were lost")).unwrap();
    assert_eq!(lost["message"], "lines of the log were lost; is its disk full, or its reader slow?");
    assert!(lost["lines"].as_u64().unwrap() > 0, "{lost}");
}
