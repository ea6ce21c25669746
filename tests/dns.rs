//! The DNS as a resolver: knot answers, on a port of the test.

use std::fmt::Write as _;

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::dns::{NameServer, TCP_ONLY};
use crate::support::node::{DeadPort, Node};
use crate::support::until;

/// `[resolver.names]` that asks this server, and discovery by it.
fn asking(server: &NameServer, keys: &str) -> String {
    let address = server.address();
    format!("[discovery]\nresolver = 'names'\n[resolver.names]\ntype = 'dns'\nservers = '{address}'\n{keys}\n")
}

fn daemon(server: &NameServer, keys: &str) -> Daemon {
    Daemon::start_with("allow_empty = true\n", &asking(server, keys))
}

fn reached(daemon: &Daemon, node: &str) -> String {
    line(&mut connect(&daemon.socket(), node))
}

/// The error of the only attempt for a node.
fn failed(daemon: &Daemon, node: &str) -> String {
    let (_, answer) = upgrade(&daemon.socket(), node);
    let problem = answer.problem();
    match problem["attempts"].as_array().map(Vec::as_slice) {
        Some([only]) => only["error"].as_str().unwrap().to_owned(),
        _ => problem["detail"].as_str().unwrap().to_owned(),
    }
}

const SRV: &str = "srv = '_ergo._tcp.{name}.{host}'";

#[test]
fn services_are_tried_by_priority_and_their_targets_asked_of_the_same_server() {
    let (dead, node) = (DeadPort::new(), Node::named("priority 2"));
    let records = format!(
        "_ergo._tcp.db SRV 1 0 {} first\n_ergo._tcp.db SRV 2 0 {} second\nfirst A 127.0.0.1\nsecond CNAME alias\nalias A 127.0.0.1",
        dead.port(),
        node.port()
    );
    let server = NameServer::new("fleet.test", &records);
    let daemon = daemon(&server, SRV);
    assert_eq!(reached(&daemon, "db@fleet.test"), "priority 2");
    let unknown = failed(&daemon, "other@fleet.test");
    assert_eq!(unknown, "no route matches the node, and the resolver \"names\" knows no such node");
    assert_eq!(
        failed(&daemon, "db"),
        "the resolver cannot be asked for this name: `_ergo._tcp.{name}.{host}` takes what stands before and behind its `@`"
    );
}

#[test]
fn a_host_without_a_service_is_dialed_at_the_port_of_the_file() {
    let node = Node::named("by its address");
    let server = NameServer::new("fleet.test", "db A 127.0.0.1\ndb AAAA fd00::1\n_ergo._tcp.web SRV 0 0 1 .\n");
    let keys = format!("{SRV}\naddress = '{{name}}.{{host}}'\nport = {}", node.port());
    let daemon = daemon(&server, &keys);
    assert_eq!(reached(&daemon, "db@fleet.test"), "by its address");
    // A service that decidedly is not there is not looked for at an address either.
    assert!(failed(&daemon, "web@fleet.test").ends_with("knows no such node"));
}

#[test]
fn what_is_true_no_longer_is_asked_for_again() {
    let (before, after) = (Node::named("before"), Node::named("after"));
    let records = |node: &Node| format!("_ergo._tcp.db SRV 0 0 {} here\nhere A 127.0.0.1", node.port());
    let mut server = NameServer::new("fleet.test", &records(&before));
    let daemon = daemon(&server, SRV);
    assert_eq!(reached(&daemon, "db@fleet.test"), "before");
    let (_, unknown) = upgrade(&daemon.socket(), "new@fleet.test");
    assert_eq!(unknown.problem()["code"], "no_route");
    let more = records(&after) + "\n_ergo._tcp.new SRV 0 0 " + &after.port().to_string() + " here";
    server.change("fleet.test", &more);
    // Both hold for a second: the record's time to live, and the zone's for what is not there.
    until("after", || reached(&daemon, "db@fleet.test") == "after");
    until("the node is known", || upgrade(&daemon.socket(), "new@fleet.test").1.status == 101);
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    let node = Node::named("over TCP");
    let mut records = String::new();
    // More than fits into a datagram.
    for number in 0..60 {
        writeln!(records, "_ergo._tcp.db SRV {} 0 1 long-name-of-a-host-{number}", number + 1).unwrap();
    }
    writeln!(records, "_ergo._tcp.db SRV 0 0 {} here\nhere A 127.0.0.1", node.port()).unwrap();
    let server = NameServer::with(&[("fleet.test", &records), (TCP_ONLY, &records)]);
    let daemon = daemon(&server, SRV);
    assert_eq!(reached(&daemon, "db@fleet.test"), "over TCP");
    assert_eq!(reached(&daemon, &format!("db@{TCP_ONLY}")), "over TCP");
}

#[test]
fn the_servers_of_a_resolv_conf_are_those_that_it_names_now() {
    let node = Node::named("by the file");
    let records = format!("_ergo._tcp.db SRV 0 0 {} here\nhere A 127.0.0.1", node.port());
    let server = NameServer::new("fleet.test", &records);
    let dead = DeadPort::new();
    let keys = format!(
        "[discovery]\nresolver = 'names'\n[resolver.names]\ntype = 'dns'\nresolv_conf = 'resolv.conf'\n{SRV}\n"
    );
    let folder = crate::support::daemon::Folder::new("allow_empty = true\n", &keys);
    folder.write("resolv.conf", &format!("nameserver [127.0.0.1]:{}\n", dead.port()));
    let daemon = Daemon::in_folder(folder);
    let away = failed(&daemon, "db@fleet.test");
    assert!(away.starts_with("the resolver is away: ") || away.contains("did not answer in time"), "{away}");
    let named = format!("nameserver [{}]:{}\n", server.address().ip(), server.address().port());
    daemon.folder.replace("resolv.conf", &named);
    until("the node is known", || upgrade(&daemon.socket(), "db@fleet.test").1.status == 101);
}

#[test]
fn a_zone_that_the_server_does_not_serve_says_nothing_of_the_others() {
    let node = Node::named("served");
    let records = format!("_ergo._tcp.db SRV 0 0 {} here\nhere A 127.0.0.1", node.port());
    let server = NameServer::new("fleet.test", &records);
    let daemon = daemon(&server, SRV);
    let refused = format!("the resolver has no answer for this name: {} says `Query Refused`", server.address());
    assert_eq!(failed(&daemon, "db@elsewhere.test"), refused);
    assert_eq!(reached(&daemon, "db@fleet.test"), "served");
    let line = daemon.wait_for("resolver has no answer for a node");
    assert_eq!((&line["resolver"], &line["node"]), (&"names".into(), &"db@elsewhere.test".into()));
}

#[test]
fn old_answers_serve_while_the_server_is_dead_and_it_is_asked_again_when_it_is_back() {
    let (node, other) = (Node::named("known before"), Node::named("moved meanwhile"));
    let records = |node: &Node| format!("_ergo._tcp.db SRV 0 0 {} here\nhere A 127.0.0.1", node.port());
    let mut server = NameServer::new("fleet.test", &records(&node));
    let daemon = daemon(&server, &format!("{SRV}\ntimeout = '200ms'"));
    assert_eq!(reached(&daemon, "db@fleet.test"), "known before");
    server.kill();
    // Beyond the time to live, and not one request is lost.
    let mark = daemon.mark();
    while daemon.said(mark, "WARN").is_empty() {
        assert_eq!(reached(&daemon, "db@fleet.test"), "known before");
    }
    let away = failed(&daemon, "never-asked@fleet.test");
    assert!(away.starts_with("the resolver is away: ") || away.contains("did not answer in time"), "{away}");
    server.write_now("fleet.test", &records(&other));
    server.restart();
    until("moved meanwhile", || reached(&daemon, "db@fleet.test") == "moved meanwhile");
}
