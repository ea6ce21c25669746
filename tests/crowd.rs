//! etcd with more in it than is good: what is bounded stays so, and what is not understood is refused alone.

use std::collections::HashSet;

use portolan::dialect::ergo::{GenRoute, routes_to_base64};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder};
use crate::support::etcd::Etcd;
use crate::support::node::Node;
use crate::support::until;

const MANY: usize = 100_000;

/// Nodes are under `nodes/`, routes under `routes/`.
fn folder(etcd: &Etcd, routes: &str) -> Folder {
    let folder = Folder::new(routes, "");
    let endpoint = etcd.endpoint();
    folder.write(
        "portolan.toml",
        &format!(
            "routes = ['routes.toml', 'etcd:fleet']\n[socket]\npath = 'portolan.sock'\n[discovery]\nresolver = 'fleet'\n\
             [resolver.fleet]\ntype = 'etcd'\nendpoints = ['{endpoint}']\nprefix = 'nodes/'\ntable = 'routes/'\n\
             ttl = '1h'\n"
        ),
    );
    folder
}

fn value(port: u16) -> String {
    routes_to_base64(&[GenRoute { port, ..GenRoute::default() }])
}

fn in_force(daemon: &Daemon, mark: usize, routes: usize) {
    daemon.wait_until(mark, "the shared table has changed", |line| line["routes"] == routes);
}

#[test]
fn a_hundred_thousand_nodes_cost_what_is_asked_of_them() {
    let (etcd, node, moved) = (Etcd::new(), Node::named("one of many"), Node::named("moved"));
    let key = |n: usize| format!("nodes/n{n}@127.0.0.1");
    etcd.fill((0..MANY).map(|n| (key(n), value(node.port()))));
    let daemon = Daemon::in_folder(folder(&etcd, "allow_empty = true\n"));
    let reached = || line(&mut connect(&daemon.socket(), "n99999@127.0.0.1"));
    assert_eq!(reached(), "one of many");
    until("the watch is there", || {
        etcd.put(&key(99_999), &value(moved.port()));
        reached() == "moved"
    });
    let before = daemon.resident();
    // Each of these is told, and nobody has asked for them.
    etcd.fill((0..MANY).map(|n| (key(n), value(node.port()))));
    until("all of that is heard", || reached() == "one of many");
    assert!(daemon.resident() < before + (16 << 20), "{before} bytes, and then {}", daemon.resident());
    let listed = daemon.folder.run(&["resolvers", "fleet", "--json", "--admin=admin.sock"]);
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 1, "what nobody asks for is not kept");
}

#[test]
fn a_hundred_thousand_routes_by_hand_are_in_force_and_a_bad_tenth_is_refused_alone() {
    let (etcd, node) = (Etcd::new(), Node::named("one of many"));
    let route = |n: usize| match n % 10 {
        9 => format!("match = '^n{n}('\nhost = 'h:1'\n"),
        _ => format!("match = '^n{n}@'\nhost = '{}'\n", node.address()),
    };
    etcd.fill((0..MANY).map(|n| (format!("routes/{n}"), route(n))));
    let daemon = Daemon::in_folder(folder(&etcd, &node.route("^fixed@", "")));
    // Read or not, it serves what its files say.
    assert_eq!(line(&mut connect(&daemon.socket(), "fixed@x")), "one of many");
    in_force(&daemon, 0, 1 + MANY / 10 * 9);
    assert_eq!(line(&mut connect(&daemon.socket(), "n99998@x")), "one of many");
    let told = daemon.said(0, "ERROR").iter().filter(|text| text.contains("`match` is not a pattern")).count();
    assert_eq!(told, 1000, "a flood shall not fill the log");
    assert_eq!(daemon.wait_for("more of that is not shown")["more"], MANY / 10 - 1000);
    assert!(daemon.resident() < 512 << 20, "{}", daemon.resident());

    let mark = daemon.mark();
    etcd.put("routes/9", &route(8).replace("^n8@", "^n9@"));
    in_force(&daemon, mark, 2 + MANY / 10 * 9);
    assert_eq!(line(&mut connect(&daemon.socket(), "n9@x")), "one of many");
}

#[test]
fn values_that_are_too_large_are_refused_alone_also_when_they_are_more_than_a_response_holds() {
    let (etcd, node) = (Etcd::new(), Node::named("in force"));
    // 72 MB; a response may have 64 MiB.
    let large = |by: &'static str| (0..60).map(move |n| (format!("routes/large{n}"), by.repeat(1_200_000)));
    let route = |pattern: &str| format!("match = '{pattern}'\nhost = '{}'\n", node.address());
    etcd.fill(large("x"));
    etcd.put("routes/z", &route("^first@"));
    let daemon = Daemon::in_folder(folder(&etcd, "allow_empty = true\n"));
    in_force(&daemon, 0, 1);
    assert_eq!(line(&mut connect(&daemon.socket(), "first@x")), "in force");
    let keys: HashSet<_> = daemon
        .said(0, "ERROR")
        .iter()
        .filter_map(|text| text.split("--> ").nth(1)?.split('\n').next().map(str::to_owned))
        .collect();
    assert_eq!(keys.iter().filter(|key| key.starts_with("routes/large")).count(), 60, "{keys:?}");
    let folder = daemon.folder.clone();
    daemon.stop();

    // What it has missed is more than a watch may tell at a time.
    etcd.fill(large("y"));
    etcd.put("routes/z", &route("^second@"));
    let daemon = Daemon::in_folder(folder);
    until("it has caught up", || upgrade(&daemon.socket(), "second@x").1.status == 101);
    assert!(daemon.resident() < 512 << 20, "{}", daemon.resident());
}

#[test]
fn a_resolver_that_is_no_more_is_no_watcher_of_etcd() {
    let (etcd, node) = (Etcd::new(), Node::named("asked"));
    etcd.put("nodes/db@127.0.0.1", &value(node.port()));
    let daemon = Daemon::in_folder(folder(&etcd, "allow_empty = true\n"));
    let config = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    for times in 1..10 {
        assert_eq!(line(&mut connect(&daemon.socket(), "db@127.0.0.1")), "asked");
        daemon.folder.replace("portolan.toml", &config.replace("'1h'", &format!("'{times}m'")));
        daemon.hang_up();
    }
    until("one watches the nodes, and one the table", || {
        // Nobody watches before somebody has asked, and the last resolver may be in force only now.
        assert_eq!(line(&mut connect(&daemon.socket(), "db@127.0.0.1")), "asked");
        etcd.watchers() == 2
    });
}
