//! `portolan explain`: what a request would do is said, and nothing is done.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::client::{connect, line, upgrade};
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

/// Discovery that knows two places of `db@x`, of which one speaks TLS and both are dead, and no port of `web@y`.
fn lab(dead: &[DeadPort; 2], more: &str) -> String {
    let [plain, tls] = dead.each_ref().map(DeadPort::port);
    let answers = format!("['127.0.0.1:{plain}', {{ host = '127.0.0.1', port = {tls}, tls = true }}]");
    let nodes = format!("{{ 'db@x' = {answers}, 'web@y' = '10.0.1.72' }}");
    format!("[discovery]\nresolver = 'lab'\n{more}[resolver.lab]\ntype = 'static'\nnodes = {nodes}\n")
}

fn two_dead() -> [DeadPort; 2] {
    [DeadPort::new(), DeadPort::new()]
}

#[test]
fn a_question_stands_in_its_place_and_nothing_is_asked() {
    let asking = "[[route]]\nmatch = '^db@'\nresolver = 'lab'\nhost = 'bastion.example'\ntls = false\nweight = 150\n";
    let (own, dead) = (DeadPort::new(), two_dead());
    let daemon = Daemon::start_with(&(asking.to_owned() + &own.route("@", "")), &lab(&dead, ""));
    let [own, plain, tls] = [&own, &dead[0], &dead[1]].map(DeadPort::port);
    let said = || explain(&daemon, &["db@x"]).1.lines().map(str::to_owned).collect::<Vec<_>>();
    let before = said();
    let nothing = "asks lab (static): nothing is known of the node: it would be asked";
    assert_eq!(before[1], format!("  -- route ^db@ {nothing}"));
    assert!(before[2].starts_with(&format!("  1. 127.0.0.1:{own}  weight 100")), "{before:?}");
    assert_eq!(before[6], format!("  -- discovery {nothing}"));
    assert_eq!(before[7], "then it is refused as all_failed: nothing comes behind discovery");
    let questions = &plan(&daemon, "db@x")["questions"];
    let place = |n: usize| [&questions[n]["step"], &questions[n]["match"], &questions[n]["before"]];
    assert_eq!(place(0), [&json!("static"), &json!("^db@"), &json!(0)]);
    assert_eq!(place(1), [&json!("discovery"), &Value::Null, &json!(1)]);
    assert_eq!(questions[0]["state"], "unasked");
    let asked = daemon.folder.run(&["resolvers", "--json", "--admin=admin.sock"]);
    assert!(text(&asked.stdout).contains("\"asked\":0,"), "{asked:?}");

    // All of it is dead, and so every step is taken.
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 502);
    let after = said();
    assert!(after[1].starts_with("  -- route ^db@ asks lab (static): 2 answers, said "), "{after:?}");
    let plan = plan(&daemon, "db@x");
    let candidates = plan["candidates"].as_array().unwrap();
    let shown = candidates.iter().map(|one| format!("{} {} {}", one["step"], one["upstream"], one["tls"]));
    let mut steps: Vec<_> = shown.map(|line| line.replace('"', "")).collect();
    // Which of them are ejected still is for the clock to say.
    steps.sort();
    let mut expected = [
        format!("discovery 127.0.0.1:{plain} false"),
        format!("discovery 127.0.0.1:{tls} true"),
        format!("static 127.0.0.1:{own} false"),
        format!("static bastion.example:{plain} false"),
        format!("static bastion.example:{tls} false"),
    ];
    expected.sort();
    assert_eq!(steps, expected);
    for discovered in candidates.iter().skip(3) {
        assert_eq!((&discovered["match"], &discovered["resolver"]), (&Value::Null, &json!("lab")));
    }
}

#[test]
fn why_discovery_is_not_asked_is_said() {
    let ends = |route: &str, more: &str| {
        let route = format!("[[route]]\nmatch = '^db@'\nhost = '10.0.1.60:4370'\n{route}");
        let daemon = Daemon::start_with(&route, &lab(&two_dead(), more));
        let plan = plan(&daemon, "db@x");
        assert_eq!((&plan["questions"], &plan["then"]), (&json!([]), &json!("all_failed")));
        plan["because"].as_str().unwrap().to_owned()
    };
    assert_eq!(ends("final = true\n", ""), "a route that matches is final");
    let not_asked = "discovery is not asked when a route matches (after_static_failure = false)";
    assert_eq!(ends("", "after_static_failure = false\n"), not_asked);
}

#[test]
fn a_node_that_discovery_does_not_know_is_said() {
    let daemon = Daemon::start_with("allow_empty = true\n", &lab(&two_dead(), ""));
    assert_eq!(upgrade(&daemon.socket(), "nosuch@x").1.status, 404);
    let (code, out, _) = explain(&daemon, &["nosuch@x"]);
    assert_eq!(code, 1);
    assert!(out.contains("-- discovery asks lab (static): it knows no such node, said "), "{out}");
    let ends = "then it is refused as no_route: no route matches, and lab knows no such node\n";
    assert!(out.contains(ends), "{out}");
    assert_eq!(upgrade(&daemon.socket(), "web@y").1.status, 502);
    let (code, out, _) = explain(&daemon, &["web@y"]);
    let portless = "; it cannot be asked for this name: it answers without a port";
    assert!(code == 0 && out.contains("1 answer, said ") && out.contains(portless), "{out}");
}
