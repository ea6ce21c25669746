//! `portolan relays` and `portolan relays close`: what is open is seen, and ends when an operator wants it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::support::HANG;
use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, text};
use crate::support::node::Node;

/// `portolan relays ARGS`: its exit code, stdout and stderr.
fn relays(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = daemon.folder.run(&[&["relays", "--admin=admin.sock"], args].concat());
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

/// The relays that `portolan relays ARGS --json` lists.
fn listed(daemon: &Daemon, args: &[&str]) -> Vec<Value> {
    let (code, out, err) = relays(daemon, &[args, &["--json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All relays, once each has had so many bytes: they are counted a moment after they were sent.
fn listed_with(daemon: &Daemon, bytes: &[(u64, u64)]) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let all = listed(daemon, &[]);
        let had = all.iter().map(|relay| (relay["up"].as_u64().unwrap(), relay["down"].as_u64().unwrap()));
        if had.eq(bytes.iter().copied()) {
            return all;
        }
        assert!(began.elapsed() < HANG, "{all:?}");
    }
}

/// `portolan relays close ARGS`.
fn close(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        daemon.folder.run(&[&["relays", "close", "--admin=admin.sock"], args].concat());
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

/// A client that has been greeted.
fn greeted(daemon: &Daemon, node: &str) -> UnixStream {
    let mut stream = connect(&daemon.socket(), node);
    assert!(!line(&mut stream).is_empty());
    stream
}

fn has_ended(stream: &mut UnixStream) -> bool {
    stream.read(&mut [0; 1]).unwrap() == 0
}

fn is_open(stream: &mut UnixStream) -> bool {
    stream.write_all(b"there?\n").unwrap();
    line(stream) == "there?"
}

#[test]
fn what_is_open_is_listed_with_who_asked_and_what_went() {
    let (db, web) = (Node::named("db"), Node::named("web"));
    let daemon = Daemon::start(&(db.route("^db@", "") + &web.route("^web@", "")));
    assert_eq!(relays(&daemon, &[]), (0, String::new(), String::new()));
    let mut streams = ["db@a", "db@b", "web@a"].map(|node| greeted(&daemon, node));
    assert!(is_open(&mut streams[0]));

    // "there?" and the greetings.
    let all = listed_with(&daemon, &[(7, 10), (0, 3), (0, 4)]);
    assert_eq!(all.iter().map(|relay| &relay["node"]).collect::<Vec<_>>(), ["db@a", "db@b", "web@a"]);
    let first = &all[0];
    let us = json!({"uid": rustix::process::getuid().as_raw(), "pid": std::process::id()});
    assert_eq!((&first["id"], &first["client"], &first["match"]), (&json!(1), &us, &json!("^db@")));
    assert!(first["ms"].is_u64() && first["address"] == db.address().to_string(), "{first}");

    let nodes = |args: &[&str]| listed(&daemon, args).iter().map(|relay| relay["node"].clone()).collect::<Vec<_>>();
    assert_eq!(nodes(&["--route", "^db@"]), ["db@a", "db@b"]);
    assert_eq!(nodes(&["--route", "^db"]), [""; 0], "a route is named by its whole pattern");
    assert_eq!(nodes(&["--node", "web@a"]), ["web@a"]);
    assert_eq!(nodes(&["--node", "web@a", "--route", "^db@"]), [""; 0]);

    let (_, table, _) = relays(&daemon, &[]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["id", "client", "node", "route", "address", "up", "down", "age"]);
    let address = db.address().to_string();
    let pid = std::process::id().to_string();
    assert_eq!((lines.len(), lines[1][0], lines[1][2]), (4, "1", pid.as_str()), "{table}");
    assert_eq!(lines[1][3..9], ["db@a", "^db@", &address, "7", "B", "10"], "{table}");
}

#[test]
fn relays_are_closed_by_route_by_node_and_by_number() {
    let (db, web) = (Node::named("db"), Node::named("web"));
    let daemon = Daemon::start(&(db.route("^db@", "") + &web.route("^web@", "")));
    let mut streams = ["db@a", "db@b", "web@a", "web@b", "web@c"].map(|node| greeted(&daemon, node));
    let [a, b, c, d, e] = &mut streams;

    let done = |closed: &str| (0, format!("closed {closed}\n"), String::new());
    assert_eq!(close(&daemon, &["--route", "^db@"]), done("2 relays"));
    assert!(has_ended(a) && has_ended(b) && is_open(c));
    assert_eq!(close(&daemon, &["--node", "web@a"]), done("1 relay"));
    assert!(has_ended(c) && is_open(d));
    assert_eq!(close(&daemon, &["--id", "4", "--id", "77", "--json"]), (0, "{\"closed\":1}\n".into(), String::new()));
    assert!(has_ended(d) && is_open(e));

    let line = daemon.wait_for("relay closed");
    assert_eq!((&line["by"], &line["end"]), (&json!("portolan"), &json!("closed")));
    let line = daemon.wait_for("relays closed");
    assert_eq!((&line["closed"], &line["route"], &line["pid"].is_u64()), (&json!(2), &json!("^db@"), &true));
    assert!(is_open(&mut greeted(&daemon, "db@a")), "who asks next is served");
}

#[test]
fn who_closes_nothing_is_told_and_nobody_closes_all_by_mistake() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let mut stream = greeted(&daemon, "db@a");
    let none = "error: no such relay is open; `portolan relays` lists those that are\n";
    for which in [["--route", "db"], ["--node", "db@b"], ["--id", "2"]] {
        assert_eq!(close(&daemon, &which), (1, String::new(), none.to_owned()));
    }
    assert_eq!(close(&daemon, &[]).0, 2);
    assert_eq!(
        close(&daemon, &["--route", "^db@", "--node", "db@a"]).0,
        2,
        "one kind, or it is not clear what is meant"
    );
    assert!(is_open(&mut stream));
}

#[test]
fn relays_of_a_route_that_is_gone_can_be_closed() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let mut stream = greeted(&daemon, "db@a");
    let removed = daemon.folder.run(&["routes", "remove", "--admin=admin.sock", "^db@"]);
    assert!(removed.status.success());
    assert!(is_open(&mut stream));
    assert_eq!(listed(&daemon, &["--route", "^db@"]).len(), 1);
    assert_eq!(close(&daemon, &["--route", "^db@"]).0, 0);
    assert!(has_ended(&mut stream));
}

#[test]
fn tcp_peers_of_a_closed_relay_get_a_reset() {
    let (told, ends) = channel();
    let node = Node::new(move |mut stream| {
        stream.write_all(b"db\n").unwrap();
        told.send(stream.read(&mut [0; 1]).map_err(|error| error.kind())).unwrap();
    });
    let forward = "[[forward]]\nlisten = \"127.0.0.1:0\"\nnode = \"db@a\"\nopen = true\n";
    let daemon = Daemon::start_with(&node.route("^db@", ""), forward);
    let mut client = TcpStream::connect(daemon.forward()).unwrap();
    client.set_read_timeout(Some(HANG)).unwrap();
    assert_eq!(line(&mut client), "db");
    let us = json!({"address": client.local_addr().unwrap().to_string()});
    assert_eq!(listed(&daemon, &[])[0]["client"], us);
    assert_eq!(close(&daemon, &["--id", "1"]).0, 0);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ends.recv_timeout(HANG).unwrap().unwrap_err(), ErrorKind::ConnectionReset);
}

/// A node that answers the first byte of each connection and holds it, in one thread; as many as `at_once`, twice.
fn node_of_one_thread(at_once: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().take(2 * at_once) {
            let mut stream = stream.unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
            held.push(stream);
            if held.len() == at_once {
                held.clear();
            }
        }
    });
    (address, thread)
}

#[test]
fn thousands_come_and_go_and_leave_nothing() {
    const RELAYS: usize = 4000;
    const WORKERS: usize = 4;
    portolan::descriptors::raise();
    if getrlimit(Resource::Nofile).current.is_some_and(|limit| limit < 20_000) {
        eprintln!("thousands_come_and_go: skipped: it takes 20,000 descriptors");
        return;
    }
    let (address, node) = node_of_one_thread(RELAYS);
    let daemon = Daemon::start(&format!("[[route]]\nmatch = '^db@'\nhost = \"{address}\"\n"));
    let proc = |file: &str| format!("/proc/{}/{file}", daemon.pid().as_raw_nonzero());
    let descriptors = || fs::read_dir(proc("fd")).unwrap().count();
    let kib = || {
        let status = fs::read_to_string(proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap()
    };
    let open = |count: usize| -> Vec<UnixStream> {
        let some = || (0..count).map(|_| connect(&daemon.socket(), "db@many"));
        some()
            .map(|mut stream| {
                stream.write_all(b"!").unwrap();
                stream.read_exact(&mut [0; 1]).unwrap();
                stream
            })
            .collect()
    };

    let before = descriptors();
    let mut held = [0; 2];
    for held in &mut held {
        let mut clients: Vec<UnixStream> = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| open(RELAYS / WORKERS))).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        *held = kib();
        let all = listed_with(&daemon, &[(1, 1); RELAYS]);
        let ids: Vec<u64> = all.iter().map(|relay| relay["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), RELAYS);
        assert!(ids.is_sorted());
        assert_eq!(close(&daemon, &["--node", "db@many"]), (0, format!("closed {RELAYS} relays\n"), String::new()));
        assert!(clients.iter_mut().all(has_ended));
    }
    node.join().unwrap();
    let began = Instant::now();
    while descriptors() > before {
        assert!(began.elapsed() < HANG, "{} descriptors, {before} before", descriptors());
        thread::yield_now();
    }
    assert_eq!(listed(&daemon, &[]), [Value::Null; 0]);
    // What the first round took is used again by the second.
    assert!(held[1] < held[0] + held[0] / 10, "{held:?} KiB");
}
