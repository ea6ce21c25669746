//! Which route is taken, and what happens when it does not lead anywhere.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, FullBacklog, Node};

#[test]
fn the_heaviest_route_is_taken_and_equal_weights_keep_the_order_of_the_file() {
    let nodes: Vec<_> = ["light", "first", "second", "heavy"].map(Node::named).into();
    let routes = nodes[0].route("db", "weight = -3")
        + &nodes[1].route("^db", "")
        + &nodes[2].route("^db@", "")
        + &nodes[3].route("^db@x$", "weight = 9223372036854775807");
    let daemon = Daemon::start(&routes);
    let reached = |node: &str| line(&mut connect(&daemon.socket(), node));
    assert_eq!(reached("db@x"), "heavy");
    assert_eq!(reached("db@y"), "first");
    assert_eq!(reached("a-db@y"), "light");
}

#[test]
fn the_next_route_is_taken_when_the_primary_dies_and_the_primary_again_when_it_is_back() {
    // At an address where nobody else takes the port while the primary is down.
    let greet =
        |name: &'static str| move |mut stream: TcpStream| stream.write_all(format!("{name}\n").as_bytes()).unwrap();
    let primary = Node::at((Ipv4Addr::new(127, 83, 0, 1), 0).into(), greet("primary"));
    let backup = Node::named("backup");
    let daemon = Daemon::start(&(backup.route("db", "weight = 1") + &primary.route("^db", "weight = 2")));
    let reached = || line(&mut connect(&daemon.socket(), "db@x"));
    assert_eq!(reached(), "primary");
    let address = primary.address();
    drop(primary);
    assert_eq!(reached(), "backup");
    let closed = daemon.wait_after(0, "relay closed");
    assert_eq!(closed["attempts"], 1);
    let _primary = Node::at(address, greet("primary again"));
    daemon.wait_for("upstream is back");
    assert_eq!(reached(), "primary again");
}

#[test]
fn the_hosts_of_a_route_are_tried_in_their_order() {
    let (dead, node) = (DeadPort::new(), Node::named("second host"));
    let routes = format!(
        "[[route]]\nmatch = 'db'\nhost = [\"127.0.0.1:{}\", \"localhost:{}\", \"127.0.0.1\"]\nport = 1\n",
        dead.port(),
        node.port()
    );
    let daemon = Daemon::start(&routes);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "second host");
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up() {
    let (silent, backup) = (FullBacklog::new(), Node::named("backup"));
    let routes = silent.route("db", "connect_timeout = \"20ms\"\nweight = 200") + &backup.route("^db", "");
    let daemon = Daemon::start(&routes);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "backup");
    assert_eq!(daemon.wait_for("relay closed")["attempts"], 2);
}

#[test]
fn a_host_without_an_address_is_passed_over() {
    let backup = Node::named("backup");
    // RFC 6761, section 6.4: it never resolves. Where no name service answers either, the attempt times out.
    let routes = "[[route]]\nmatch = '^db'\nweight = 200\nhost = 'nowhere.invalid'\nport = 1\n\
                  connect_timeout = '500ms'\n\n";
    let daemon = Daemon::start(&(routes.to_owned() + &backup.route("db", "")));
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "backup");
    assert_eq!(daemon.wait_for("relay closed")["attempts"], 2);
}

#[test]
fn one_deadline_holds_for_all_attempts() {
    let silent = FullBacklog::new();
    let routes = silent.route("db", "weight = 3") + &silent.route("^db", "weight = 2") + &silent.route("^db@", "");
    let daemon = Daemon::start_with(&routes, "[dial]\nconnect_timeout = \"40ms\"\nestablish = \"60ms\"\n");
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!(answer.status, 504);
    let problem = answer.problem();
    let attempts = problem["attempts"].as_array().unwrap();
    assert!(attempts.len() < 3, "the third was never its turn: {problem}");
}

#[test]
fn a_disabled_route_is_not_there() {
    let (off, on) = (Node::named("off"), Node::named("on"));
    let daemon = Daemon::start(&(off.route("db", "weight = 500\ndisabled = true") + &on.route("^db", "")));
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "on");
    assert_eq!(off.accepted(), 0);
}
