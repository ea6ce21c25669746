//! `portolan explain`: what a request would do is said, and nothing is done.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, text};
use crate::support::node::{DeadPort, Node};

/// `portolan explain ARGS`: its exit code, stdout and stderr.
fn explain(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = daemon.folder.run(&[&["explain", "--admin=admin.sock"], args].concat());
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

fn plan(daemon: &Daemon, node: &str) -> Value {
    let (code, out, err) = explain(daemon, &[node, "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    serde_json::from_str(&out).unwrap()
}

fn upstreams(plan: &Value) -> Vec<&str> {
    plan["candidates"].as_array().unwrap().iter().map(|one| one["upstream"].as_str().unwrap()).collect()
}

const ROUTES: &str = r#"
[[route]]
match = "^db@"
host = ["10.0.1.50:4370", "db.example:4370"]
weight = 200
tls = true
name = "primary"
connect_timeout = "2s"
race_after = "never"

[[route]]
match = "@x$"
host = "10.0.1.60:4370"

[[route]]
match = "@"
host = "10.0.1.61:4370"
"#;

#[test]
fn every_candidate_stands_in_its_place_and_says_why() {
    let daemon = Daemon::start_with(ROUTES, "[limits]\nrelays = 100\n");
    let (code, out, err) = explain(&daemon, &["db@x"]);
    let expected = "\
db@x, by generation 1 of the table
  1. 10.0.1.50:4370  weight 200, host 1 of 2
     route ^db@ (primary), routes.toml:3
     healthy as far as is known: nobody has wanted it yet
     dials 10.0.1.50:4370, tls, at most 2s; the next only when it has failed
  2. db.example:4370  weight 200, host 2 of 2
     route ^db@ (primary), routes.toml:3
     healthy as far as is known: nobody has wanted it yet
     looks the name up at each attempt, tls, at most 2s; the next only when it has failed
  3. 10.0.1.60:4370  weight 100, in the order of the files
     route @x$, routes.toml:12
     healthy as far as is known: nobody has wanted it yet
     dials 10.0.1.60:4370, plain TCP, at most 3s; the next beside it after 1s 500ms without an answer
  4. 10.0.1.61:4370  weight 100, in the order of the files
     route @, routes.toml:16
     healthy as far as is known: nobody has wanted it yet
     dials 10.0.1.61:4370, plain TCP, at most 3s; the next beside it after 1s 500ms without an answer
then it is refused as all_failed: no discovery is configured
all of it within 5s; 0 of 100 relays are open
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));

    let plan = plan(&daemon, "db@x");
    assert_eq!(plan["routes"].as_array().unwrap().len(), 3);
    assert_eq!(plan["candidates"][1]["address"], Value::Null);
    assert_eq!((&plan["candidates"][0]["race_after"], &plan["open"]["limit"]), (&json!("never"), &json!(100)));
    let known = daemon.folder.run(&["upstreams", "--admin=admin.sock"]);
    assert_eq!(text(&known.stdout), "", "nothing is noted as wanted");
}

#[test]
fn what_is_ejected_stands_behind_until_it_is_reset() {
    let (dead, node) = (DeadPort::new(), Node::named("backup"));
    let daemon = Daemon::start(&(dead.route("^db@", "weight = 200") + &node.route("@", "")));
    let (dead, backup) = (format!("127.0.0.1:{}", dead.port()), node.address().to_string());
    assert_eq!(upstreams(&plan(&daemon, "db@x")), [&*dead, &*backup]);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "backup");

    let after = plan(&daemon, "db@x");
    assert_eq!(upstreams(&after), [&*backup, &*dead]);
    let [first, second] = [&after["candidates"][0], &after["candidates"][1]];
    assert_eq!((&first["known"]["state"], &first["why"]), (&json!("healthy"), &json!("weight 100")));
    assert_eq!(second["why"], "weight 200; ejected, and so behind those that are not");
    assert_eq!(second["known"]["last_error"]["error"], "connection refused");
    let (_, said, _) = explain(&daemon, &["db@x"]);
    assert!(said.contains("last error: connection refused, "), "{said}");

    assert!(daemon.folder.run(&["upstreams", "reset", &dead, "--admin=admin.sock"]).status.success());
    assert_eq!(upstreams(&plan(&daemon, "db@x")), [&*dead, &*backup]);
}

#[test]
fn what_a_route_wants_of_its_connections_is_said() {
    let node = Node::named("db");
    let wants = "source = \"127.0.0.1\"\nproxy_protocol = \"v2\"\nmax_relays = 1\n";
    let daemon = Daemon::start(&node.route("^db@", wants));
    let said = |daemon: &Daemon| explain(daemon, &["db@x"]).1;
    let text = said(&daemon);
    assert!(text.contains("plain TCP from 127.0.0.1 with PROXY protocol v2, at most"), "{text}");
    assert!(text.contains("     0 of its 1 relays are open\n"), "{text}");
    let mut stream = connect(&daemon.socket(), "db@x");
    assert_eq!(line(&mut stream), "db");
    let text = said(&daemon);
    assert!(text.contains("     1 of its 1 relays are open, and so it is passed over\n"), "{text}");
    assert!(text.contains("; 1 of "), "{text}");
}

#[test]
fn a_name_without_a_route_is_said() {
    let daemon = Daemon::start(&DeadPort::new().route("^db@", ""));
    assert_eq!(explain(&daemon, &["web@x"]), (1, String::new(), "error: no route matches the node\n".to_owned()));
    assert!(daemon.folder.run(&["routes", "remove", "^db@", "--admin=admin.sock"]).status.success());
    let removed = "error: no route matches the node; one that does was removed at run time\n";
    assert_eq!(explain(&daemon, &["db@x", "--json"]), (1, String::new(), removed.to_owned()));
    assert_eq!(explain(&daemon, &[""]).0, 2, "no node has this name");
}
