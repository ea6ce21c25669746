//! `portolan resolvers`: what resolvers know is seen, and forgotten when an operator wants it.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, text};
use crate::support::node::Node;

/// `portolan resolvers ARGS`: its exit code, stdout and stderr.
fn resolvers(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let args = [&["resolvers"], args, &["--admin=admin.sock"]].concat();
    let Output { status, stdout, stderr } = daemon.folder.run(&args);
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

fn listed(daemon: &Daemon, args: &[&str]) -> Vec<Value> {
    let (code, out, err) = resolvers(daemon, &[args, &["--json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A daemon whose discovery knows `db@x` and `web@x` at this node, beside a resolver that nobody asks.
fn daemon(node: &Node) -> Daemon {
    let address = node.address();
    let extra = format!(
        "[discovery]\nresolver = 'lab'\n[resolver.idle]\ntype = 'static'\nnodes = {{ a = '10.0.0.1:1' }}\n\
         [resolver.lab]\ntype = 'static'\nnodes = {{ 'db@x' = '{address}', 'web@x' = '{address}' }}\n"
    );
    Daemon::start_with("allow_empty = true\n", &extra)
}

#[test]
fn what_resolvers_were_asked_and_know_is_listed() {
    let node = Node::named("db");
    let daemon = daemon(&node);
    let idle = &listed(&daemon, &[])[1];
    assert_eq!((&idle["name"], &idle["state"], &idle["since"]), (&json!("lab"), &json!("idle"), &Value::Null));
    for _ in 0..3 {
        assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    }
    assert_eq!(upgrade(&daemon.socket(), "nosuch@x").1.status, 404);

    let all = listed(&daemon, &[]);
    let [idle, lab] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&idle["name"], &idle["default"], &idle["asked"]), (&json!("idle"), &json!(false), &json!(0)));
    assert_eq!((&lab["type"], &lab["default"], &lab["state"]), (&json!("static"), &json!(true), &json!("up")));
    let counts = ["asked", "answered", "unknown", "failed", "asking", "names"].map(|key| lab[key].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 0, 0, 2], "three requests for a node are one question");
    assert!(lab["since"].as_str().unwrap().ends_with('Z'), "{lab}");

    let known = listed(&daemon, &["lab"]);
    let [db, nosuch] = &known[..] else { panic!("{known:?}") };
    let answer = json!([{"host": "127.0.0.1", "port": node.port()}]);
    assert_eq!((&db["node"], &db["state"], &db["answers"]), (&json!("db@x"), &json!("fresh"), &answer));
    assert_eq!((&nosuch["state"], &nosuch["error"]), (&json!("negative"), &json!("knows no such node")));
    assert!(db["left_ms"].as_u64() > nosuch["left_ms"].as_u64(), "{known:?}");

    let (_, table, _) = resolvers(&daemon, &[]);
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let head = "name type state nodes asked answered unknown failed last error";
    assert_eq!(lines, [head, "idle static not asked yet 0 0 0 0 0", "lab (discovery) static up 2 2 1 1 0"]);
    let (_, table, _) = resolvers(&daemon, &["lab"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with(&format!("  db@x      {}", node.address())), "{table}");
    assert!(lines[1].starts_with("  nosuch@x  knows no such node") && lines[1].contains("holds for"), "{table}");
}

#[test]
fn what_is_flushed_is_asked_again() {
    let node = Node::named("db");
    let daemon = daemon(&node);
    for name in ["db@x", "web@x"] {
        assert_eq!(line(&mut connect(&daemon.socket(), name)), "db");
    }
    let (_, all, _) = resolvers(&daemon, &["flush", "lab", "--node", "db@x"]);
    assert_eq!(all, "lab: 1 node forgotten\n");
    let logged = daemon.wait_for("resolver flushed");
    assert_eq!((&logged["resolver"], &logged["node"], &logged["flushed"]), (&json!("lab"), &json!("db@x"), &json!(1)));
    let left: Vec<_> = listed(&daemon, &["lab"]).iter().map(|known| known["node"].clone()).collect();
    assert_eq!(left, ["web@x"]);
    let forgotten = (0, "idle: 0 nodes forgotten\nlab: 1 node forgotten\n".to_owned(), String::new());
    assert_eq!(resolvers(&daemon, &["flush"]), forgotten);
    assert!(listed(&daemon, &["lab"]).is_empty());
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    assert_eq!(listed(&daemon, &[])[1]["asked"], 3);
}

#[test]
fn a_resolver_that_is_not_there_is_said() {
    let daemon = daemon(&Node::named("db"));
    let said = "error: no resolver is called fleet; `portolan resolvers` lists those of the configuration\n";
    for args in [&["fleet"][..], &["flush", "fleet"]] {
        assert_eq!(resolvers(&daemon, args), (3, String::new(), said.to_owned()));
    }
}

#[test]
fn what_a_resolver_knows_outlives_a_reload_that_leaves_it_as_it_is() {
    let node = Node::named("db");
    let daemon = daemon(&node);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    daemon.reload(&node.route("^api@", ""));
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    assert_eq!(listed(&daemon, &[])[1]["asked"], 1);
    let config = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    let changed = config.replace("'web@x'", "'api@x'");
    daemon.folder.replace("portolan.toml", &changed);
    daemon.hang_up();
    let counts = listed(&daemon, &[]).iter().map(|one| one["asked"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(counts, [0, 0], "another configuration is another resolver");
}
