//! An upstream that failed stands behind the others until a probe lets it back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, Node};

/// A node that says its name, and echoes; at an address of its own, where nobody else takes the port while it is down.
fn node_at(address: impl Into<SocketAddr>, name: &'static str) -> Node {
    Node::at(address.into(), move |mut stream: TcpStream| {
        drop(stream.write_all(format!("{name}\n").as_bytes()));
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|read| read > 0) && stream.write_all(&byte).is_ok() {}
    })
}

/// Which node is reached, and after how many attempts.
fn reached(daemon: &Daemon) -> (String, u64) {
    let mark = daemon.mark();
    let name = line(&mut connect(&daemon.socket(), "db@x"));
    (name, daemon.wait_after(mark, "relay closed")["attempts"].as_u64().unwrap())
}

#[test]
fn the_primary_is_used_again_when_a_probe_was_up_and_no_live_relay_is_moved() {
    let primary = node_at((Ipv4Addr::new(127, 83, 0, 2), 0), "primary");
    let backup = Node::named("backup");
    let daemon = Daemon::start(&(primary.route("^db@", "weight = 200") + &backup.route("db", "")));
    assert_eq!(reached(&daemon), ("primary".to_owned(), 1));
    let address = primary.address();
    drop(primary);
    let mut live = connect(&daemon.socket(), "db@x");
    assert_eq!(line(&mut live), "backup");

    let primary = node_at(address, "primary");
    let back = daemon.wait_for("upstream is back");
    assert_eq!((&back["level"], &back["upstream"]), (&"INFO".into(), &address.to_string().into()));
    eprintln!("back after {}", back["after"]);
    assert_eq!(reached(&daemon), ("primary".to_owned(), 1));
    assert_eq!(primary.accepted(), 2, "one probe, and this request");
    live.write_all(b"still there\n").unwrap();
    assert_eq!(line(&mut live), "still there");
}

#[test]
fn one_that_flaps_is_longer_away_each_time() {
    let mut primary = node_at((Ipv4Addr::new(127, 83, 0, 3), 0), "primary");
    let (address, backup) = (primary.address(), Node::named("backup"));
    let daemon = Daemon::start(&(primary.route("^db@", "weight = 200") + &backup.route("db", "")));
    let lengths = [0, 1].map(|_| {
        let mark = daemon.mark();
        drop(std::mem::replace(&mut primary, Node::named("nobody")));
        assert_eq!(reached(&daemon), ("backup".to_owned(), 2));
        assert_eq!(reached(&daemon), ("backup".to_owned(), 1));
        let ejected = daemon.wait_after(mark, "upstream ejected");
        primary = node_at(address, "primary");
        daemon.wait_after(mark, "upstream is back");
        assert_eq!(reached(&daemon), ("primary".to_owned(), 1));
        logged_time(ejected["length"].as_str().unwrap())
    });
    let seconds = Duration::from_secs;
    assert!(lengths[0] <= seconds(1) && seconds(1) < lengths[1], "{lengths:?}");
}

/// The log writes a time as `Debug` does: `812.5ms`, `1.7s`.
fn logged_time(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let scale = if unit == "ms" { 0.001 } else { 1.0 };
    Duration::from_secs_f64(number.parse::<f64>().unwrap() * scale)
}

#[test]
fn when_all_are_dead_all_are_tried_and_the_one_that_returns_is_taken_at_once() {
    let (one, other) = (DeadPort::new(), node_at((Ipv4Addr::new(127, 83, 0, 4), 0), "other"));
    let address = other.address();
    let daemon = Daemon::start(&(one.route("^db@", "weight = 200") + &other.route("db", "")));
    drop(other);
    for _ in 0..3 {
        let (_, answer) = upgrade(&daemon.socket(), "db@x");
        let problem = answer.problem();
        assert_eq!(problem["attempts"].as_array().unwrap().len(), 2, "none is left out: {problem}");
    }
    let _other = node_at(address, "other");
    let (name, _) = reached(&daemon);
    assert_eq!(name, "other", "whether a probe has seen it yet or not");
    assert_eq!(daemon.wait_for("upstream is back")["upstream"], address.to_string());
    assert_eq!(reached(&daemon), ("other".to_owned(), 1), "the one that is dead still stands behind it");
}

#[test]
fn what_is_known_of_an_upstream_outlives_a_reload() {
    let (dead, backup) = (DeadPort::new(), Node::named("backup"));
    let routes = dead.route("^db@", "weight = 200") + &backup.route("db", "");
    let daemon = Daemon::start(&routes);
    assert_eq!(reached(&daemon), ("backup".to_owned(), 2));
    daemon.reload(&routes.replace("weight = 200", "weight = 300"));
    assert_eq!(reached(&daemon), ("backup".to_owned(), 1));
}
