//! `portolan upstreams`: what is known of upstreams is seen, and forgotten when an operator wants it.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, text};
use crate::support::node::{DeadPort, Node};

/// `portolan upstreams ARGS`: its exit code, stdout and stderr.
fn upstreams(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let args = [&["upstreams"], args, &["--admin=admin.sock"]].concat();
    let Output { status, stdout, stderr } = daemon.folder.run(&args);
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

fn listed(daemon: &Daemon) -> Vec<Value> {
    let (code, out, err) = upstreams(daemon, &["--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A daemon whose primary is dead, after a request that its backup has served.
fn with_a_dead_primary() -> (Daemon, DeadPort, Node) {
    let (dead, node) = (DeadPort::new(), Node::named("backup"));
    let daemon = Daemon::start(&(dead.route("^db@", "weight = 200") + &node.route("@", "")));
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "backup");
    (daemon, dead, node)
}

#[test]
fn what_failed_is_shown_with_why_and_until_when() {
    let (daemon, dead, node) = with_a_dead_primary();
    let all = listed(&daemon);
    let [primary, backup] = &all[..] else { panic!("{all:?}") };
    assert_eq!(primary["upstream"], format!("127.0.0.1:{}", dead.port()));
    // It may be probed by now, and have failed again.
    assert_ne!(primary["state"], "healthy");
    assert!(primary["failures"].as_u64() >= Some(1) && primary["attempts"].as_u64() >= Some(1), "{primary}");
    assert_eq!(primary["last_error"]["error"], "connection refused");
    assert!(primary["last_error"]["at"].as_str().unwrap().ends_with('Z'), "{primary}");
    assert_eq!(
        (&primary["last_good"], &primary["latency_us"], &primary["tls"]),
        (&Value::Null, &Value::Null, &json!(false))
    );
    let (until, left) = (primary["until"].is_string(), primary["left_ms"].is_u64());
    assert_eq!((until, left), (primary["state"] == "ejected", primary["state"] == "ejected"), "{primary}");

    assert_eq!((&backup["state"], &backup["failures"], &backup["until"]), (&json!("healthy"), &json!(0), &Value::Null));
    assert_eq!((&backup["last_good"], &backup["attempts"]), (&json!(node.address().to_string()), &json!(1)));
    assert!(backup["smoothed_us"].is_u64() && backup["latency_us"].is_u64(), "{backup}");

    let (_, table, _) = upstreams(&daemon, &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("upstream") && lines[0].contains("last error"), "{table}");
    assert!(lines[1].contains("ejected, ") && lines[1].contains("connection refused, "), "{table}");
    assert!(lines[2].contains("healthy") && lines[2].contains(" ms"), "{table}");
}

#[test]
fn an_upstream_that_is_reset_is_as_if_it_had_never_failed() {
    let (daemon, dead, _node) = with_a_dead_primary();
    let address = format!("127.0.0.1:{}", dead.port());
    let done = (0, format!("{address} is healthy\n"), String::new());
    assert_eq!(upstreams(&daemon, &["reset", &address]), done);
    let primary = &listed(&daemon)[0];
    assert_eq!((&primary["state"], &primary["failures"]), (&json!("healthy"), &json!(0)));
    assert_eq!((&primary["last_error"], &primary["until"]), (&Value::Null, &Value::Null));
    let line = daemon.wait_for("upstream reset");
    assert_eq!((&line["upstream"], &line["id"]), (&json!(address), &primary["id"]));
    assert!(line["pid"].is_u64(), "{line}");
    assert_eq!(upstreams(&daemon, &["reset", &primary["id"].to_string()]), done, "by its number, too");
}

#[test]
fn what_nobody_has_wanted_cannot_be_reset() {
    let daemon = Daemon::start(&DeadPort::new().route("^db@", ""));
    assert_eq!(upstreams(&daemon, &[]), (0, String::new(), String::new()));
    let (code, _, err) = upstreams(&daemon, &["reset", "10.0.0.1:1"]);
    assert_eq!((code, err.as_str()), (3, "error: no request has wanted 10.0.0.1:1 yet, so nothing is known of it\n"));
    let (code, _, err) = upstreams(&daemon, &["reset", "7"]);
    let said = "error: no upstream has the number 7; `portolan upstreams` lists those that requests have wanted\n";
    assert_eq!((code, err.as_str()), (3, said));
}
