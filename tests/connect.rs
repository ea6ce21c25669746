//! `portolan connect` as a process.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::support::client::line;
use crate::support::daemon::{Daemon, Folder, PORTOLAN, text, utf8};
use crate::support::node::{DeadPort, FullBacklog, Node};

/// Starts `portolan connect` with these arguments; stdin, stdout and stderr are the test's.
fn start(folder: &Folder, args: &[&str]) -> Child {
    let mut command = folder.command(&[&["connect"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Connects to a node through the daemon, says this and ends stdin.
fn say(daemon: &Daemon, node: &str, said: &[u8]) -> Output {
    let mut child = start(&daemon.folder, &["--socket", "portolan.sock", node]);
    child.stdin.take().unwrap().write_all(said).unwrap();
    child.wait_with_output().unwrap()
}

fn assert_ended(output: &Output, code: i32, stderr: &str) {
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(code), stderr));
}

/// Reads to the end, then answers with what it has counted.
fn counter() -> Node {
    Node::new(|mut stream| {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).unwrap();
        writeln!(stream, "{} bytes and an end", asked.len()).unwrap();
    })
}

/// Bytes of every value, in no short period.
fn binary(len: u32) -> Vec<u8> {
    (0..len).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

#[test]
fn fifty_megabytes_go_both_ways_at_once_unchanged() {
    let node = Node::echo();
    let daemon = Daemon::start(&node.route("db", ""));
    let mut child = start(&daemon.folder, &["--socket", "portolan.sock", "db@x"]);
    let (sent, mut stdin) = (binary(50_000_000), child.stdin.take().unwrap());
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&sent).unwrap();
            drop(stdin);
        });
        child.wait_with_output().unwrap()
    });
    assert_ended(&received, 0, "");
    assert!(received.stdout == sent, "{} bytes came back", received.stdout.len());
}

#[test]
fn the_end_of_stdin_is_passed_on_and_the_answer_still_comes() {
    let node = counter();
    let daemon = Daemon::start(&node.route("db", ""));
    for said in [&b""[..], b"\0\xff\r\n a question"] {
        let answer = say(&daemon, "db@x", said);
        assert_ended(&answer, 0, "");
        assert_eq!(text(&answer.stdout), format!("{} bytes and an end\n", said.len()));
    }
}

#[test]
fn a_node_that_ends_is_not_kept_by_a_stdin_that_stays_open() {
    let node = Node::new(|mut stream| stream.write_all(b"bye\n").unwrap());
    let daemon = Daemon::start(&node.route("db", ""));
    let mut child = start(&daemon.folder, &["--socket", "portolan.sock", "db@x"]);
    let open = child.stdin.take();
    let ended = child.wait_with_output().unwrap();
    drop(open);
    assert_ended(&ended, 0, "");
    assert_eq!(text(&ended.stdout), "bye\n");
}

#[test]
fn a_refusal_is_code_3_with_every_attempt_on_stderr() {
    let (first, second) = (DeadPort::new(), DeadPort::new());
    let daemon = Daemon::start(&(first.route("^db@", "weight = 1") + &second.route("db", "weight = 2")));
    let refused = say(&daemon, "db@x", b"");
    assert_eq!((refused.status.code(), text(&refused.stdout).as_str()), (Some(3), ""));
    let stderr = text(&refused.stderr);
    let lines: Vec<_> = stderr.lines().collect();
    let (first, second) = (first.port(), second.port());
    assert_eq!(
        lines[0],
        format!("portolan: refused: all 2 attempts failed, the last: 127.0.0.1:{first}, tcp: connection refused")
    );
    for (line, (port, route)) in lines[1..].iter().zip([(second, "db"), (first, "^db@")]) {
        assert!(line.starts_with(&format!("  127.0.0.1:{port}, tcp: connection refused (")), "{stderr}");
        assert!(line.ends_with(&format!(" ms), route {route}")), "{stderr}");
    }
    assert_eq!(lines.len(), 3);

    assert_ended(
        &say(&daemon, "other@x", b""),
        3,
        "portolan: refused: no route matches the node; `portolan lookup NAME` shows what the table has for a name\n",
    );
}

#[test]
fn a_timeout_is_the_clients_patience() {
    let silent = FullBacklog::new();
    let daemon = Daemon::start_with(&silent.route("db", ""), "[dial]\nconnect_timeout = \"1h\"\nestablish = \"1h\"\n");
    let refused = daemon.folder.run(&["connect", "--socket", "portolan.sock", "--timeout", "50ms", "db@x"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("tcp: timed out"), "{}", text(&refused.stderr));
}

/// A Unix socket has no reset, so a cut is known by bytes of ours that nobody takes.
#[test]
fn a_node_that_resets_is_code_4_if_it_had_more_to_take_and_else_an_end() {
    let node = Node::resetting();
    let daemon = Daemon::start(&node.route("db", ""));
    let endless = File::open("/dev/zero").unwrap();
    let cut = daemon.folder.command(&["connect", "--socket", "portolan.sock", "db@x"]).stdin(endless).output().unwrap();
    assert_eq!(cut.status.code(), Some(4));
    let stderr = text(&cut.stderr);
    assert!(stderr.starts_with("portolan: the connection was cut: "), "{stderr}");

    // It resets when it has read all that there was.
    let node = Node::resetting();
    let daemon = Daemon::start(&node.route("db", ""));
    assert_ended(&say(&daemon, "db@x", b"x"), 0, "");
    let closed = daemon.wait_for("relay closed");
    assert_eq!((&closed["by"], &closed["end"]), (&"upstream".into(), &"reset".into()), "the log knows: {closed}");
}

#[test]
fn a_daemon_that_dies_is_code_4_if_it_had_more_to_take() {
    let (reached, connected) = mpsc::channel();
    let node = Node::new(move |mut stream| {
        drop(stream.read(&mut [0]));
        reached.send(()).unwrap();
        // Takes no more, until the daemon is gone.
        poll(&mut [PollFd::new(&stream, PollFlags::RDHUP)], None).unwrap();
    });
    let daemon = Daemon::start(&node.route("db", ""));
    let endless = File::open("/dev/zero").unwrap();
    let mut command = daemon.folder.command(&["connect", "--socket", "portolan.sock", "db@x"]);
    let child = command.stdin(endless).stderr(Stdio::piped()).spawn().unwrap();
    connected.recv().unwrap();
    daemon.signal(Signal::KILL);
    let cut = child.wait_with_output().unwrap();
    assert_eq!(cut.status.code(), Some(4), "{}", text(&cut.stderr));
}

#[test]
fn without_a_daemon_it_is_code_5_and_says_where_it_looked() {
    let folder = Folder::new("", "");
    let remedy = "start one with `portolan run`, or name its socket with --socket or $PORTOLAN_SOCKET\n";
    assert_ended(
        &folder.run(&["connect", "--socket", "nowhere.sock", "db@x"]),
        5,
        &format!("portolan: no daemon there; tried\n  nowhere.sock: there is no such socket\n{remedy}"),
    );
    drop(std::os::unix::net::UnixListener::bind(folder.path("dead.sock")).unwrap());
    let dead = folder.command(&["connect", "db@x"]).env("PORTOLAN_SOCKET", "dead.sock").output().unwrap();
    assert_ended(
        &dead,
        5,
        &format!("portolan: no daemon there; tried\n  dead.sock: nobody listens on it any more\n{remedy}"),
    );
    folder.write("file", "");
    let file = folder.run(&["connect", "--socket", "file", "db@x"]);
    assert_ended(
        &file,
        5,
        &format!("portolan: no daemon there; tried\n  file: nobody listens on it any more\n{remedy}"),
    );
}

#[test]
fn a_bad_name_or_flag_is_usage() {
    let folder = Folder::new("", "");
    let long = "x".repeat(256);
    for (args, why) in [
        (&["a\nb"][..], "the node name has the control character U+000A"),
        (&[""], "the node name is empty"),
        (&[&long], "the node name has 256 bytes, at most 255 are allowed"),
        (&[], "<NAME>"),
        (&["--timeout", "soon", "a@b"], "write a duration such as 2s or 1500ms"),
        (&["--sokcet", "s", "a@b"], "--socket"),
    ] {
        let output = folder.run(&[&["connect"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(why), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_socket_is_that_of_the_flag_the_environment_or_the_configuration() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let reached = |command: &mut Command| text(&command.output().unwrap().stdout);
    let (socket, elsewhere) = (daemon.socket(), Path::new("/nowhere.sock"));
    let connect = || daemon.folder.command(&["connect", "db@x"]);
    assert_eq!(reached(connect().env("PORTOLAN_SOCKET", &socket)), "db\n");
    assert_eq!(reached(connect().env("PORTOLAN_CONFIG", "portolan.toml")), "db\n");
    // The nearer one wins alone.
    let mut command = daemon.folder.command(&["connect", "--socket", utf8(&socket), "db@x"]);
    assert_eq!(reached(command.env("PORTOLAN_SOCKET", elsewhere)), "db\n");
    assert_eq!(reached(connect().env("PORTOLAN_SOCKET", elsewhere).env("PORTOLAN_CONFIG", "portolan.toml")), "");
}

#[test]
fn a_full_disk_behind_stdout_is_code_1_and_a_reader_that_has_enough_is_none() {
    let node = Node::new(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    let daemon = Daemon::start(&node.route("db", ""));
    let connect = || daemon.folder.command(&["connect", "--socket", "portolan.sock", "db@x"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let failed = connect().stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_ended(&failed, 1, "portolan: cannot write stdout: No space left on device (os error 28)\n");

    let mut child = connect().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_ended(&child.wait_with_output().unwrap(), 0, "");
}

#[test]
fn it_is_a_proxy_command() {
    let (source, sink) = (Node::new(|mut stream| stream.write_all(&binary(300_000)).unwrap()), counter());
    let (told, answers) = mpsc::channel();
    let asker = Node::new(move |mut stream| {
        stream.write_all(b"what is my name?\n").unwrap();
        told.send(line(&mut stream)).unwrap();
    });
    let answerer = Node::new(|mut stream| {
        let question = line(&mut stream);
        writeln!(stream, "you asked: {question}").unwrap();
    });
    let daemon = Daemon::start(
        &(source.route("^source@", "")
            + &sink.route("^sink@", "")
            + &asker.route("^asker@", "")
            + &answerer.route("^answerer@", "")),
    );
    let sh = |script: &str| {
        let mut sh = Command::new("sh");
        sh.args(["-euc", script]).env("PORTOLAN", PORTOLAN).env("PORTOLAN_SOCKET", daemon.socket());
        sh.output().unwrap()
    };
    // One behind the other ...
    let piped = sh("\"$PORTOLAN\" connect source@x </dev/null | \"$PORTOLAN\" connect sink@x");
    assert_eq!(text(&piped.stdout), "300000 bytes and an end\n", "{}", text(&piped.stderr));
    // ... and face to face: each one's stdin and stdout are one socket, as ssh has it.
    let joined = sh("socat EXEC:\"$PORTOLAN connect asker@x\" EXEC:\"$PORTOLAN connect answerer@x\"");
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    assert_eq!(answers.recv().unwrap(), "you asked: what is my name?");
}
