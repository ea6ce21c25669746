//! Forwards: doors without a head.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::HANG;
use crate::support::client::{connect, line, open, upgrade};
use crate::support::daemon::{Daemon, Folder, text};
use crate::support::node::{DeadPort, Node};

/// A `[[forward]]` on a free port.
fn tcp(node: &str) -> String {
    at("127.0.0.1:0", node)
}

fn at(address: &str, node: &str) -> String {
    format!("[[forward]]\nlisten = \"{address}\"\nnode = \"{node}\"\nopen = true\n")
}

fn unix(path: &str, node: &str, more: &str) -> String {
    format!("[[forward]]\nlisten = \"unix:{path}\"\nnode = \"{node}\"\n{more}\n")
}

/// The addresses of all forwards, in the order in which they were opened.
fn addresses(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.lines();
    let opened = lines.iter().filter(|line| line["message"] == "forwarding");
    opened.map(|line| line["address"].as_str().unwrap().to_owned()).collect()
}

fn dial(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

/// Replaces the forwards of `portolan.toml` and returns how the reload went.
fn reload_with(daemon: &Daemon, forwards: &str) -> Value {
    let mark = daemon.mark();
    daemon.folder.replace("portolan.toml", &format!("{forwards}\n[socket]\npath = \"portolan.sock\"\n"));
    daemon.wait_after(mark, "reload")
}

#[test]
fn every_byte_is_the_nodes_from_the_first() {
    let node = Node::echo();
    let daemon = Daemon::start_with(&node.route("^db@prod$", ""), &tcp("db@prod"));
    let mut stream = dial(&daemon.forward());
    let sent = b"GET /v1/connect/other HTTP/1.1\r\n\r\n\x05\x01\x00";
    stream.write_all(sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed, sent);
    let closed = daemon.wait_for("relay closed");
    assert_eq!((&closed["node"], &closed["end"]), (&"db@prod".into(), &"finished".into()));
}

#[test]
fn a_unix_forward_has_its_mode() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("db", ""), &unix("db.sock", "db@prod", "mode = \"0600\""));
    let mode = || fs::metadata(daemon.folder.path("db.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    assert_eq!(line(&mut open(&daemon.folder.path("db.sock"))), "db");
    assert_eq!(reload_with(&daemon, &unix("db.sock", "db@prod", "mode = \"0666\""))["message"], "reloaded");
    assert_eq!(mode(), 0o666);
    assert_eq!(line(&mut open(&daemon.folder.path("db.sock"))), "db");
}

#[test]
fn several_forwards_lead_each_to_its_node_also_after_a_reload() {
    let (one, two, three) = (Node::named("one"), Node::named("two"), Node::named("three"));
    let routes = one.route("^one@", "") + &two.route("^two@", "") + &three.route("^three@", "");
    let both = tcp("one@x") + &tcp("two@x");
    let daemon = Daemon::start_with(&routes, &both);
    assert_eq!(daemon.hang_up()["message"], "reloaded");
    let opened = addresses(&daemon);
    assert_eq!(opened.len(), 2, "{opened:?}");
    let reached: Vec<_> = opened.iter().map(|address| line(&mut dial(address))).collect();
    assert_eq!(reached, ["one", "two"]);

    assert_eq!(reload_with(&daemon, &(both + &tcp("three@x")))["message"], "reloaded");
    let reached: Vec<_> = addresses(&daemon).iter().map(|address| line(&mut dial(address))).collect();
    assert_eq!(reached, ["one", "two", "three"]);
}

#[test]
fn a_dial_that_fails_is_a_reset_on_tcp_and_an_end_on_unix() {
    let dead = DeadPort::new();
    let forwards = tcp("db@x") + &tcp("nobody@x") + &unix("db.sock", "db@x", "");
    let daemon = Daemon::start_with(&dead.route("db", ""), &forwards);
    for (address, code) in addresses(&daemon).iter().zip(["all_failed", "no_route"]) {
        let mark = daemon.mark();
        let error = dial(address).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{code}");
        assert_eq!(daemon.wait_after(mark, "refused")["code"], code);
    }
    assert_eq!(open(&daemon.folder.path("db.sock")).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_forward_may_change_its_node_and_keeps_its_relays() {
    let (old, new) = (Node::named("old"), Node::named("new"));
    let daemon = Daemon::start_with(&(old.route("^old@", "") + &new.route("^new@", "")), &tcp("old@x"));
    let address = daemon.forward();
    let mut stream = dial(&address);
    assert_eq!(line(&mut stream), "old");
    assert_eq!(reload_with(&daemon, &tcp("new@x"))["message"], "reloaded");
    assert_eq!(line(&mut dial(&address)), "new");
    stream.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut stream), "ping");
    assert_eq!(addresses(&daemon), [address], "it was never opened again");
}

#[test]
fn forwards_come_and_go_with_a_reload_and_relays_stay() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    assert_eq!(reload_with(&daemon, &(tcp("db@x") + &unix("db.sock", "db@x", "")))["message"], "reloaded");
    let address = addresses(&daemon)[0].clone();
    let (mut over_tcp, mut over_unix) = (dial(&address), open(&daemon.folder.path("db.sock")));
    assert_eq!((line(&mut over_tcp), line(&mut over_unix)), ("db".to_owned(), "db".to_owned()));

    assert_eq!(reload_with(&daemon, "")["message"], "reloaded");
    assert!(!daemon.folder.path("db.sock").exists());
    // Who still slips in is served; the listener goes as soon as its task has seen that it is shut.
    while TcpStream::connect(&address).is_ok() {
        std::thread::yield_now();
    }
    over_tcp.write_all(b"ping\n").unwrap();
    over_unix.write_all(b"ping\n").unwrap();
    assert_eq!((line(&mut over_tcp), line(&mut over_unix)), ("ping".to_owned(), "ping".to_owned()));

    // The same places are free again.
    assert_eq!(reload_with(&daemon, &(at(&address, "db@x") + &unix("db.sock", "db@x", "")))["message"], "reloaded");
    assert_eq!(line(&mut dial(&address)), "db");
    assert_eq!(line(&mut open(&daemon.folder.path("db.sock"))), "db");
}

#[test]
fn an_address_in_use_refuses_the_start() {
    let node = Node::echo();
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = [&one, &two].map(|listener| listener.local_addr().unwrap().to_string());
    let folder = Folder::new(&node.route("db", ""), &(at(&one, "db@x") + &at(&two, "db@x")));
    let output = folder.run(&["run", "--config", "portolan.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let in_use = |address: &str| {
        format!(
            "error: {address} cannot be bound: address already in use; stop what listens there, or choose another address\n"
        )
    };
    assert!(text(&output.stderr).ends_with(&(in_use(&one) + &in_use(&two))), "{}", text(&output.stderr));
}

#[test]
fn an_address_in_use_refuses_the_reload_and_changes_nothing() {
    let (old, new) = (Node::named("old"), Node::named("new"));
    let daemon = Daemon::start_with(&old.route("^old@", ""), &tcp("old@x"));
    let address = daemon.forward();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();

    let mark = daemon.mark();
    daemon.folder.write("new.toml", &new.route("^new@", ""));
    let refused = reload_with(
        &daemon,
        &("routes = 'new.toml'\n".to_owned() + &tcp("new@x") + &tcp("b@x") + &at(&taken, "new@x")),
    );
    assert_eq!(refused["message"], "reload refused; the table in force stays");
    let why =
        format!("{taken} cannot be bound: address already in use; stop what listens there, or choose another address");
    assert_eq!(refused["why"], why);
    assert!(daemon.said(mark, "ERROR").contains(&why));

    assert_eq!(line(&mut dial(&address)), "old");
    assert_eq!(line(&mut connect(&daemon.socket(), "old@x")), "old");
    assert_eq!(upgrade(&daemon.socket(), "new@x").1.status, 404);
    assert_eq!(addresses(&daemon).len(), 1, "what could be bound was given back");
}

#[test]
fn a_tcp_forward_that_is_not_said_to_be_open_is_refused() {
    let forward = "[[forward]]\nlisten = \"127.0.0.1:0\"\nnode = \"db@x\"\n";
    let output = Folder::new("allow_empty = true\n", forward).run(&["run", "--config", "portolan.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "\
error: it is not written who may use the TCP forward
 --> portolan.toml:4:10
  |
4 | listen = \"127.0.0.1:0\"
  |          ^^^^^^^^^^^^^
  |
  = help: write `users = ['app']`, or `open = true` for every user of this machine

1 error
"
    );
}
