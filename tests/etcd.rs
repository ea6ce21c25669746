//! etcd as a resolver: Debian's server, with the keys and values of Ergo's registrar.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portolan::dialect::ergo::{GenRoute, routes_to_base64};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::support::node::{DeadPort, Node};
use crate::support::tls::Lab;
use crate::support::until;

/// A value of Ergo's own: one route, `10.0.1.50:4370` with TLS.
const ERGO: &str = "ggAhnYMAHSNlcmdvLnNlcnZpY2VzL2VyZ28vZ2VuL1JvdXRlnQAAAAEACTEwLjAuMS41MBESAQADRUhTAAJSMQAAAANNSVQAA0VOUAACUjEAAAADTUlU";

const NONE: &str = "allow_empty = true\n";

fn key(node: &str) -> String {
    format!("services/ergo/cluster/production/routes/nodes/{node}")
}

/// Routes on these ports at the host of the node's name.
fn value(ports: &[u16]) -> String {
    let routes: Vec<_> = ports.iter().map(|port| GenRoute { port: *port, ..GenRoute::default() }).collect();
    routes_to_base64(&routes)
}

fn asking(endpoints: &[String], keys: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|one| format!("'{one}'")).collect();
    format!(
        "[discovery]\nresolver = 'fleet'\n[resolver.fleet]\ntype = 'etcd'\ncluster = 'production'\n\
         endpoints = [{}]\nnegative_ttl = '10ms'\n{keys}\n",
        endpoints.join(", ")
    )
}

fn daemon(etcd: &Etcd, keys: &str) -> Daemon {
    Daemon::start_with(NONE, &asking(&[etcd.endpoint()], keys))
}

fn reached(daemon: &Daemon, node: &str) -> String {
    line(&mut connect(&daemon.socket(), node))
}

fn status(daemon: &Daemon, node: &str) -> u16 {
    upgrade(&daemon.socket(), node).1.status
}

#[test]
fn what_ergo_registers_is_reached_and_every_change_followed() {
    let (etcd, dead) = (Etcd::new(), DeadPort::new());
    let [first, second] = ["first", "second"].map(Node::named);
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[dead.port(), first.port()])]);
    // An answer holds for so long that only the watch tells of a change.
    let daemon = daemon(&etcd, "ttl = '1h'");
    assert_eq!(reached(&daemon, "db@127.0.0.1"), "first");
    until("the watch is there", || {
        etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[second.port()])]);
        reached(&daemon, "db@127.0.0.1") == "second"
    });
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[first.port()])]);
    until("the next change is followed", || reached(&daemon, "db@127.0.0.1") == "first");
    etcd.ctl(&["del", &key("db@127.0.0.1")]);
    until("the node is gone", || status(&daemon, "db@127.0.0.1") == 404);

    // A lease of Ergo's that nobody keeps alive ends, and its key with it.
    let lease = etcd.ctl(&["lease", "grant", "1"]);
    let lease = lease.split_whitespace().nth(1).unwrap();
    etcd.ctl(&["put", "--lease", lease, &key("leased@127.0.0.1"), &value(&[first.port()])]);
    assert_eq!(reached(&daemon, "leased@127.0.0.1"), "first");
    until("the lease is over", || status(&daemon, "leased@127.0.0.1") == 404);
}

#[test]
fn a_value_of_ergos_own_is_understood_and_a_bad_one_concerns_its_node_alone() {
    let (etcd, good) = (Etcd::new(), Node::named("good"));
    etcd.ctl(&["put", &key("ergo@x"), ERGO]);
    etcd.ctl(&["put", &key("bad@x"), "no base64!"]);
    etcd.ctl(&["put", &key("cut@x"), &STANDARD.encode(&STANDARD.decode(ERGO).unwrap()[..50])]);
    etcd.ctl(&["put", &key("good@127.0.0.1"), &value(&[good.port()])]);
    let daemon = daemon(&etcd, "");
    let looked_up = daemon.folder.run(&["lookup", "--config", "portolan.toml", "--resolve", "ergo@x"]);
    let looked_up = String::from_utf8(looked_up.stdout).unwrap();
    assert!(looked_up.contains("10.0.1.50"), "{looked_up}");
    for (node, why) in [("bad@x", "no base64"), ("cut@x", "bytes are left")] {
        let (_, answer) = upgrade(&daemon.socket(), node);
        let error = answer.problem()["attempts"][0]["error"].as_str().unwrap().to_owned();
        let expected = format!("the resolver gave an answer that is not understood: the key {}: at byte ", key(node));
        assert!(error.starts_with(&expected) && error.contains(why), "{error}");
    }
    assert_eq!(reached(&daemon, "good@127.0.0.1"), "good");
}

#[test]
fn old_answers_serve_while_etcd_is_dead_or_hangs_and_nobody_else_waits_for_it() {
    let (mut etcd, node, fixed) = (Etcd::new(), Node::named("known"), Node::named("fixed"));
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[node.port()])]);
    let more = asking(&[etcd.endpoint()], "ttl = '10ms'\ntimeout = '300ms'");
    let daemon = Daemon::start_with(&fixed.route("^fixed@", ""), &more);
    assert_eq!(reached(&daemon, "db@127.0.0.1"), "known");

    etcd.stop();
    assert_eq!(reached(&daemon, "fixed@x"), "fixed");
    for _ in 0..100 {
        assert_eq!(reached(&daemon, "db@127.0.0.1"), "known");
    }
    etcd.go_on();
    etcd.kill();
    let mut lost = 0;
    for number in 0..1000 {
        if number == 500 {
            etcd.restart();
        }
        lost += usize::from(reached(&daemon, "db@127.0.0.1") != "known");
        lost += usize::from(reached(&daemon, "fixed@x") != "fixed");
    }
    assert_eq!(lost, 0);
    let moved = Node::named("moved");
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[moved.port()])]);
    until("it is asked again", || reached(&daemon, "db@127.0.0.1") == "moved");
}

#[test]
fn dead_endpoints_are_passed_over() {
    let (etcd, node, dead) = (Etcd::new(), Node::named("by the third"), [DeadPort::new(), DeadPort::new()]);
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[node.port()])]);
    let mut endpoints: Vec<_> = dead.iter().map(|dead| format!("http://127.0.0.1:{}", dead.port())).collect();
    endpoints.push(etcd.endpoint());
    let daemon = Daemon::start_with(NONE, &asking(&endpoints, ""));
    let (_, answer) = upgrade(&Daemon::start_with(NONE, &asking(&endpoints[..1], "")).socket(), "db@127.0.0.1");
    let error = answer.problem()["attempts"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("Connection refused"), "{error}");
    until("the third has its turn", || status(&daemon, "db@127.0.0.1") == 101);
    assert_eq!(reached(&daemon, "db@127.0.0.1"), "by the third");
}

#[test]
fn a_user_and_a_password_are_shown_and_a_wrong_one_is_said() {
    let (etcd, node) = (Etcd::new(), Node::named("for who may"));
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[node.port()])]);
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["auth", "enable"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        format!("user = 'root'\npassword = {{ file = '{}' }}", folder.path().join(name).display())
    };
    let right = daemon(&etcd, &(file("right", "secret\n") + "\nttl = '10ms'"));
    assert_eq!(reached(&right, "db@127.0.0.1"), "for who may");
    let wrong = daemon(&etcd, &file("wrong", "guess"));
    let (_, answer) = upgrade(&wrong.socket(), "db@127.0.0.1");
    let error = answer.problem()["attempts"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("authentication failed") && !error.contains("guess"), "{error}");
    // Longer than a token holds.
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(3) {
        assert_eq!(reached(&right, "db@127.0.0.1"), "for who may");
    }
}

#[test]
fn etcd_is_asked_over_tls_that_is_verified() {
    let (lab, node) = (Lab::new(), Node::named("over TLS"));
    let pair = lab.authority.server(&["127.0.0.1"]).write(lab.path(), "etcd");
    let etcd = Etcd::with(Some(pair));
    let ctl = ["--cacert", lab.ca(), "put", &key("db@127.0.0.1"), &value(&[node.port()])].map(str::to_owned);
    let ctl: Vec<_> = ctl.iter().map(String::as_str).collect();
    until("etcd is up", || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| etcd.ctl(&ctl))).is_ok());
    let trusting = daemon(&etcd, &format!("tls = {{ ca = '{}' }}", lab.ca()));
    assert_eq!(reached(&trusting, "db@127.0.0.1"), "over TLS");
    let other = Lab::new();
    let strange = daemon(&etcd, &format!("tls = {{ ca = '{}' }}", other.ca()));
    let (_, answer) = upgrade(&strange.socket(), "db@127.0.0.1");
    let error = answer.problem()["attempts"][0]["error"].as_str().unwrap().to_owned();
    assert!(answer.status == 503 && error.contains("invalid peer certificate: "), "{error}");
}

#[test]
fn a_watch_whose_changes_are_forgotten_begins_anew() {
    let (mut etcd, node, moved) = (Etcd::new(), Node::named("before"), Node::named("after"));
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[node.port()])]);
    let daemon = daemon(&etcd, "ttl = '1h'");
    assert_eq!(reached(&daemon, "db@127.0.0.1"), "before");
    etcd.kill();
    etcd.restart();
    etcd.ctl(&["put", &key("db@127.0.0.1"), &value(&[moved.port()])]);
    let state = etcd.ctl(&["get", &key("db@127.0.0.1"), "--write-out", "json"]);
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    etcd.ctl(&["compaction", &state["header"]["revision"].to_string()]);
    until("it has caught up", || reached(&daemon, "db@127.0.0.1") == "after");
}
