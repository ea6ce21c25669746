//! What no route reaches is asked of a resolver, and what a route writes is in place of what a resolver answers.

use std::io::Write;
use std::net::SocketAddr;

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, Node};
use crate::support::tls::Lab;

/// Where the commands find the daemon.
const ADMIN: &str = "--admin=admin.sock";

/// `[resolver.NAME]` of type static, which knows `db@x` at these places.
fn knowing(name: &str, answers: &[String]) -> String {
    let answers: Vec<_> = answers.iter().map(|answer| format!("{{ {answer} }}")).collect();
    format!("[resolver.{name}]\ntype = 'static'\nnodes = {{ 'db@x' = [{}] }}\n", answers.join(", "))
}

fn at(address: SocketAddr) -> String {
    format!("host = '{}', port = {}", address.ip(), address.port())
}

fn reached(daemon: &Daemon) -> String {
    line(&mut connect(&daemon.socket(), "db@x"))
}

#[test]
fn discovery_is_for_what_no_route_matches_and_for_what_has_failed() {
    let (known, fixed, dead) = (Node::named("known"), Node::named("fixed"), DeadPort::new());
    let more = knowing("fleet", &[at(known.address())]) + "[discovery]\nresolver = 'fleet'\n";
    let daemon = Daemon::start_with("allow_empty = true\n", &more);
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!(answer.header("Portolan-Resolver"), "\"fleet\"");
    assert_eq!(daemon.wait_for("relay closed")["resolver"], "fleet");

    daemon.reload(&fixed.route("^db@", ""));
    assert_eq!(reached(&daemon), "fixed");
    daemon.reload(&dead.route("^db@", ""));
    assert_eq!(reached(&daemon), "known");
    daemon.reload(&dead.route("^db@", "final = true"));
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!(answer.problem()["attempts"].as_array().unwrap().len(), 1);
    let (_, answer) = upgrade(&daemon.socket(), "other@x");
    let problem = answer.problem();
    assert_eq!((&problem["status"], &problem["code"]), (&404.into(), &"no_route".into()));
    assert_eq!(problem["detail"], "no route matches the node, and the resolver \"fleet\" knows no such node");
}

#[test]
fn discovery_ends_where_a_route_matched_if_it_is_told_so() {
    let (known, dead) = (Node::named("known"), DeadPort::new());
    let discovery = "[discovery]\nresolver = 'fleet'\nafter_static_failure = false\n";
    let more = knowing("fleet", &[at(known.address())]) + discovery;
    let daemon = Daemon::start_with(&dead.route("^db@y", ""), &more);
    assert_eq!(reached(&daemon), "known");
    daemon.reload(&dead.route("^db@", ""));
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!(answer.problem()["code"], "all_failed");
}

#[test]
fn every_answer_is_tried_in_its_order_and_a_bastion_keeps_their_ports() {
    let (dead, node) = (DeadPort::new(), Node::named("second answer"));
    // Nothing is ever at these addresses: the route's host is dialed in their place.
    let answers = [dead.port(), node.port()].map(|port| format!("host = '192.0.2.1', port = {port}"));
    let routes = "[[route]]\nmatch = '^db@'\nresolver = 'lab'\nhost = '127.0.0.1'\n";
    let daemon = Daemon::start_with(routes, &knowing("lab", &answers));
    assert_eq!(reached(&daemon), "second answer");

    let (_, answer) = upgrade(&daemon.socket(), "db@y");
    let problem = answer.problem();
    let attempt = &problem["attempts"][0];
    assert_eq!((&problem["status"], &problem["code"]), (&502.into(), &"all_failed".into()), "{problem}");
    assert_eq!((&attempt["match"], &attempt["resolver"]), (&"^db@".into(), &"lab".into()));
    assert_eq!((&attempt["stage"], &attempt["address"]), (&"resolve".into(), &"lab".into()));
    assert_eq!(attempt["error"], "the resolver knows no such node");
}

/// Says a line to `openssl s_server -rev`, which turns it around.
fn turned(daemon: &Daemon) -> String {
    let mut stream = connect(&daemon.socket(), "db@x");
    stream.write_all(b"portolan\n").unwrap();
    line(&mut stream)
}

#[test]
fn tls_is_the_routes_or_the_answers_and_never_weaker_than_a_route_that_matched() {
    let (lab, dead) = (Lab::new(), DeadPort::new());
    let server = lab.openssl(&["-rev"]);
    let place = format!("host = '127.0.0.1', port = {}", server.port());
    let asking = |tls: &str| format!("[[route]]\nmatch = '^db@'\nresolver = 'fleet'\n{tls}\n");

    let silent = knowing("fleet", std::slice::from_ref(&place));
    let forced = Daemon::start_with(&asking(&lab.trusting("")), &silent);
    assert_eq!(turned(&forced), "nalotrop", "the answer does not say TLS, the route does");

    let said = knowing("fleet", &[place.clone() + ", tls = true"]);
    let trusting = format!("answer_tls = {{ ca = '{}' }}\n", lab.ca());
    let answered = Daemon::start_with(&asking(""), &(said.clone() + &trusting));
    assert_eq!(turned(&answered), "nalotrop", "the answer says TLS, the route nothing");

    let plain = Daemon::start_with(&asking("tls = false"), &(said + &trusting));
    drop(connect(&plain.socket(), "db@x"));
    assert_eq!(plain.wait_for("relay closed")["attempts"], 1, "the route says plain, and no handshake is awaited");

    let discovery = silent + "[discovery]\nresolver = 'fleet'\n";
    let strict = Daemon::start_with(&dead.route("^db@", &lab.trusting("")), &discovery);
    assert_eq!(turned(&strict), "nalotrop", "a route that matched has TLS, and so has what is discovered");
}

#[test]
fn a_resolver_that_is_not_there_is_said_with_its_place() {
    let daemon = Daemon::start("allow_empty = true\n");
    let added = daemon.folder.run(&["routes", "add", "^db@", "--resolver", "fleet", ADMIN]);
    assert_eq!(added.status.code(), Some(1));
    let told = String::from_utf8(added.stderr).unwrap();
    assert!(told.contains("there is no resolver \"fleet\""), "{told}");
    daemon.folder.replace("routes.toml", "[[route]]\nmatch = '^db@'\nresolver = 'fleet'\n");
    let checked = String::from_utf8(daemon.folder.run(&["check", "portolan.toml"]).stderr).unwrap();
    assert!(checked.contains("there is no resolver \"fleet\"\n --> routes.toml:3:12"), "{checked}");
}

#[test]
fn what_a_resolver_is_configured_as_follows_a_reload() {
    let (before, after) = (Node::named("before"), Node::named("after"));
    let routes = "[[route]]\nmatch = '^db@'\nresolver = 'lab'\n";
    let daemon = Daemon::start_with(routes, &knowing("lab", &[at(before.address())]));
    assert_eq!(reached(&daemon), "before");
    let text = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    let text = text.replace(&before.port().to_string(), &after.port().to_string());
    daemon.folder.replace("portolan.toml", &text);
    daemon.hang_up();
    assert_eq!(reached(&daemon), "after");
    let listed = daemon.folder.run(&["routes", "list", ADMIN]);
    assert!(String::from_utf8(listed.stdout).unwrap().contains("by lab"));
}
