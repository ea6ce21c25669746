//! The bounds of what is open at once, and of how long it may be quiet.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread::yield_now;
use std::time::Instant;

use rustix::process::{Resource, getrlimit, getuid};

use crate::support::HANG;
use crate::support::client::{ask, connect, line, open, read_answer, upgrade, upgrade_head};
use crate::support::daemon::{Daemon, Folder, run_by};
use crate::support::node::{DeadPort, Node};

const FORWARD: &str = "[[forward]]\nlisten = \"127.0.0.1:0\"\nnode = \"db@x\"\nopen = true\n";

/// Starts a daemon that may have so many descriptors.
fn with_descriptors(count: usize, routes: &str, extra: &str) -> Daemon {
    let folder = Folder::new(routes, extra);
    let limit = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
    let command = run_by(&["sh", "-c", &limit], &folder.command(&["run", "--config", "portolan.toml"]));
    Daemon::spawn(folder, command)
}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

#[test]
fn one_relay_too_many_is_refused_in_its_own_form_and_the_next_is_not() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("db", ""), &format!("{FORWARD}[limits]\nrelays = 2\n"));
    let (forward, socket) = (daemon.forward(), daemon.socket());
    let mut first = connect(&socket, "db@x");
    let mut second = tcp(&forward);
    assert_eq!((line(&mut first), line(&mut second)), ("db".to_owned(), "db".to_owned()));

    let (_, answer) = upgrade(&socket, "db@x");
    assert_eq!((answer.status, answer.header("Retry-After")), (503, "1"));
    assert!(answer.header("Proxy-Status").starts_with("portolan; error=connection_limit_reached"));
    let problem = answer.problem();
    assert_eq!((&problem["code"], &problem["node"]), (&"busy".into(), &"db@x".into()));
    assert_eq!(problem["detail"], "as many requests and relays are open as limits.relays allows");
    let (_, answer) = ask(&socket, b"CONNECT db@x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, &answer.problem()["code"]), (503, &"busy".into()));
    let mut socks = open(&socket);
    socks.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x04db@x\x00\x00").unwrap();
    let mut replies = Vec::new();
    socks.read_to_end(&mut replies).unwrap();
    assert_eq!(replies, [5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(tcp(&forward).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let refused = daemon.wait_for_lines(4, "refused");
    assert!(refused.iter().all(|line| line["code"] == "busy" && line["node"] == "db@x"), "{refused:?}");
    assert_eq!(node.accepted(), 2);

    for ended in 1..=2 {
        drop(first);
        daemon.wait_for_lines(ended, "relay closed");
        first = connect(&socket, "db@x");
        assert_eq!(line(&mut first), "db");
    }
    drop(second);
    daemon.wait_for_lines(3, "relay closed");
    assert_eq!(line(&mut tcp(&forward)), "db");
}

#[test]
fn a_reload_changes_the_limit_and_cuts_nothing() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("db", ""), "[limits]\nrelays = 2\n");
    let mut relays = [(); 2].map(|()| connect(&daemon.socket(), "db@x"));
    let text = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    for (limit, status) in [(1, 503), (2, 503), (3, 101)] {
        daemon.folder.replace("portolan.toml", &text.replace("relays = 2", &format!("relays = {limit}")));
        assert_eq!(daemon.hang_up()["message"], "reloaded");
        assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, status, "relays = {limit}");
    }
    for relay in &mut relays {
        assert_eq!(line(relay), "db");
    }
}

#[test]
fn the_limit_is_cut_down_to_what_the_descriptors_allow() {
    let daemon = with_descriptors(164, &DeadPort::new().route("db", ""), "[limits]\nrelays = 14\n");
    let warning = daemon.wait_for("limits.relays is cut down");
    assert_eq!(
        warning["message"],
        "limits.relays is cut down to what the descriptors allow; raise LimitNOFILE for more"
    );
    assert_eq!(warning["level"], "WARN");
    assert_eq!(
        (&warning["relays"], &warning["allowed"], &warning["descriptors"]),
        (&14.into(), &8.into(), &164.into())
    );

    let daemon = with_descriptors(164, &DeadPort::new().route("db", ""), "[limits]\nrelays = 8\n");
    assert!(!daemon.lines().iter().any(|line| line["level"] == "WARN"), "that many are allowed");
}

#[test]
fn clients_that_have_ended_their_side_leave_descriptors_for_all_relays() {
    let (ends, _ended) = channel();
    let node = Node::new(move |mut stream| {
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream.write_all(b"over\n").unwrap();
        // Silent, and not ended.
        ends.send(stream).unwrap();
    });
    let daemon = with_descriptors(600, &node.route("db", ""), "[limits]\nrelays = 1000\n");
    let allowed = daemon.wait_for("limits.relays is cut down")["allowed"].as_u64().unwrap();
    let half_closed = (0..allowed).map(|_| {
        let mut stream = connect(&daemon.socket(), "db@x");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(line(&mut stream), "over");
        stream
    });
    let _half_closed: Vec<_> = half_closed.collect();
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.problem()["code"], "busy");
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let folder = Folder::new(&DeadPort::new().route("db", ""), "[limits]\nrelays = 1000\n");
    let limits = "ulimit -Sn 70; ulimit -Hn 200; exec \"$0\" \"$@\"";
    let command = run_by(&["sh", "-c", limits], &folder.command(&["run", "--config", "portolan.toml"]));
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(daemon.wait_for("limits.relays is cut down")["descriptors"], 200);
}

#[test]
fn a_daemon_that_is_out_of_descriptors_says_so_and_works_again_when_there_are_some() {
    let node = Node::named("db");
    // Clients that do not finish their heads stay until they go.
    let daemon = with_descriptors(40, &node.route("db", ""), "[dial]\nestablish = \"1h\"\n");
    let clients: Vec<_> = (0..60).map(|_| open(&daemon.socket())).collect();
    let warning = daemon.wait_for("cannot accept a client");
    assert_eq!(
        warning["message"],
        "cannot accept a client; the process is out of descriptors: raise LimitNOFILE, or lower limits.relays"
    );
    assert_eq!(warning["error"], "Too many open files (os error 24)");

    let refused = daemon.hang_up();
    assert_eq!(refused["message"], "reload refused; the table in force stays");
    assert!(refused["why"].as_str().unwrap().contains("too many open files"), "{refused}");

    drop(clients);
    daemon.wait_for_lines(60, "refused");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    assert_eq!(daemon.hang_up()["message"], "reloaded");
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn a_lack_of_descriptors_is_no_fault_of_a_name() {
    let node = Node::named("db");
    let routes = node.route("^db@", "").replace("127.0.0.1", "localhost");
    let daemon = with_descriptors(400, &routes, "[dial]\nestablish = \"1h\"\n");
    let mut client = open(&daemon.socket());
    client.write_all(b"GET /v1/connect").unwrap();
    // Clients that do not finish their heads stay until they go.
    let others: Vec<_> = (0..450).map(|_| open(&daemon.socket())).collect();
    daemon.wait_for("cannot accept a client");
    client.write_all(upgrade_head("db@x").strip_prefix("GET /v1/connect").unwrap().as_bytes()).unwrap();
    let problem = read_answer(&mut client).problem();
    let attempt = &problem["attempts"][0];
    let error = "this machine cannot connect: Too many open files (os error 24)";
    assert_eq!((&attempt["stage"], &attempt["error"]), (&"dns".into(), &error.into()), "{problem}");
    assert!(!daemon.said(0, "WARN").contains(&"upstream ejected".to_owned()));
    drop(others);
    daemon.wait_for_lines(451, "refused");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}

#[test]
fn a_relay_that_is_idle_for_too_long_is_ended() {
    let (ends, ended) = channel();
    let node = Node::new(move |mut stream| {
        ends.send(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).unwrap();
    });
    let limits = "[limits]\nidle_timeout = \"30ms\"\n";
    let daemon = Daemon::start_with(&node.route("db", ""), &format!("{FORWARD}{limits}"));
    let mut client = tcp(&daemon.forward());
    let closed = daemon.wait_for("relay closed");
    assert_eq!(
        (&closed["end"], &closed["by"], &closed["down"]),
        (&"idle_timeout".into(), &"portolan".into(), &0.into())
    );
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ended.recv_timeout(HANG).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_relay_with_one_side_ended_and_the_other_silent_is_ended() {
    let (ends, ended) = channel();
    let ends = Mutex::new(ends);
    let node = Node::new(move |mut stream| {
        // On a slow machine it reads the reset already.
        drop(stream.read_to_end(&mut Vec::new()));
        // Silent, and not ended: the stream lives on with the test.
        ends.lock().unwrap().send(stream).unwrap();
    });
    let daemon = Daemon::start_with(&node.route("db", ""), "[limits]\nhalf_close_timeout = \"30ms\"\n");
    let mut client = connect(&daemon.socket(), "db@x");
    client.write_all(b"over").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut node_side = ended.recv_timeout(HANG).unwrap();
    let closed = daemon.wait_for("relay closed");
    assert_eq!((&closed["end"], &closed["by"]), (&"half_close_timeout".into(), &"portolan".into()));
    assert_eq!((&closed["up"], &closed["down"]), (&4.into(), &0.into()));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    // EPIPE is what Linux makes of a reset that comes after an end; without the reset, the first byte would be taken.
    assert_eq!(node_side.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn those_who_are_slow_with_their_heads_do_not_hold_up_a_forward() {
    const HEADS: usize = 4096;
    portolan::descriptors::raise();
    if getrlimit(Resource::Nofile).current.is_some_and(|limit| limit < 12_000) {
        eprintln!("those_who_are_slow_with_their_heads: skipped: it takes 12,000 descriptors");
        return;
    }
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("db", ""), &format!("{FORWARD}[dial]\nestablish = \"1h\"\n"));
    let forward = daemon.forward();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = descriptors();
    // Two more than may be read at once stay in the backlog.
    let mut silent: Vec<_> = (0..HEADS + 2).map(|_| open(&daemon.socket())).collect();
    let began = Instant::now();
    while descriptors() < before + HEADS - 1 {
        assert!(began.elapsed() < HANG, "{} descriptors", descriptors());
        yield_now();
    }
    for _ in 0..3 {
        assert_eq!(line(&mut tcp(&forward)), "db");
    }
    silent.clear();
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}

/// The words before a command that run it as a user who is held to limits, if there is such a user.
fn as_nobody() -> Option<&'static [&'static str]> {
    const NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let command =
        Command::new(NOBODY[0]).args(&NOBODY[1..]).args([env!("CARGO_BIN_EXE_portolan"), "--version"]).output();
    let can = getuid().is_root() && command.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: needs root and setpriv, and a binary that everybody may run");
    }
    can.then_some(NOBODY)
}

#[test]
fn a_lack_of_threads_ends_neither_the_daemon_nor_a_request_without_an_answer() {
    let Some(nobody) = as_nobody() else { return };
    let node = Node::named("db");
    let folder =
        Folder::new(&(node.route("^db@", "") + &node.route("^name@", "").replace("127.0.0.1", "localhost")), "");
    chown(folder.path("."), Some(65534), None).unwrap();
    let daemon = Daemon::spawn(folder.clone(), run_by(nobody, &folder.command(&["run", "--config", "portolan.toml"])));
    let pid = format!("--pid={}", daemon.pid().as_raw_nonzero());
    let limited = Command::new(nobody[0]).args(&nobody[1..]).args(["prlimit", &pid, "--nproc=1:1"]).status();
    assert!(limited.unwrap().success());

    let (_, refused) = upgrade(&daemon.socket(), "name@x");
    assert_eq!((refused.status, &refused.problem()["code"]), (503, &"all_failed".into()));
    let admin = ["--admin", "admin.sock"];
    for asked in [&["upstreams"][..], &["routes", "add", "^x@", "--host", "127.0.0.1:1"]] {
        let said = folder.run(&[asked, &admin].concat());
        assert!(!said.status.success(), "{asked:?}");
    }
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}
