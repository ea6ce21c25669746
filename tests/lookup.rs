//! `portolan lookup`, and the papers that come out of the definition of the commands.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::{Folder, PORTOLAN, text};

const ROUTES: &str = "\
[[route]]
match = '^prod-'
host = ['10.0.1.50', '[fd00::1]:4371']
port = 4370

[[route]]
match = 'db@'
weight = 2000
host = 'db.example:1'
tls = true
final = true
name = 'primary'

[[route]]
match = '^prod'
host = 'equal.weight:1'

[[route]]
match = 'prod'
host = 'off:1'
disabled = true
";

#[test]
fn routes_come_in_the_order_in_which_they_are_tried() {
    let output = Folder::new(ROUTES, "").run(&["lookup", "--config", "portolan.toml", "prod-db@x"]);
    let expected = "\
prod-db@x
  2000  db@     db.example:1                    tls, final  routes.toml:7   primary
   100  ^prod-  10.0.1.50:4370, [fd00::1]:4371              routes.toml:2
   100  ^prod   equal.weight:1                              routes.toml:15
";
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), (expected, Some(0)));
}

#[test]
fn json_has_exactly_these_fields() {
    let output = Folder::new(ROUTES, "").run(&["lookup", "--routes", "routes.toml", "--json", "prod-db@x", "none"]);
    assert_eq!(output.status.code(), Some(1), "one name has no route");
    let answers: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({
            "node": "prod-db@x",
            "routes": [
                {"match": "db@", "weight": 2000, "host": ["db.example:1"], "tls": true, "final": true,
                 "name": "primary", "origin": {"file": "routes.toml", "line": 7}},
                {"match": "^prod-", "weight": 100, "host": ["10.0.1.50:4370", "[fd00::1]:4371"],
                 "origin": {"file": "routes.toml", "line": 2}},
                {"match": "^prod", "weight": 100, "host": ["equal.weight:1"],
                 "origin": {"file": "routes.toml", "line": 15}},
            ],
            "removed": [],
        }),
        json!({"node": "none", "routes": [], "removed": []}),
    ];
    assert_eq!(answers, expected);
}

#[test]
fn a_hundred_thousand_names_come_from_stdin() {
    const NAMES: usize = 100_000;
    let folder = Folder::new(ROUTES, "");
    let mut child = folder
        .command(&["lookup", "--routes", "routes.toml", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let names: String = (0..NAMES).map(|n| format!("prod-{n}\n")).collect();
        stdin.write_all(names.as_bytes()).unwrap();
    });
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answered = 0;
    for line in lines {
        assert!(line.unwrap().starts_with(&format!("{{\"node\":\"prod-{answered}\",\"routes\":[{{")));
        answered += 1;
    }
    writer.join().unwrap();
    assert_eq!(answered, NAMES);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_who_has_read_enough_is_no_error() {
    let folder = Folder::new(ROUTES, "");
    folder.write("names", &"prod-1\n".repeat(100_000));
    let script = "\"$0\" lookup --routes routes.toml - < names | head -1; echo ${PIPESTATUS[0]}";
    let mut shell = Command::new("bash");
    let output = shell.args(["-c", script, PORTOLAN]).current_dir(folder.path("")).output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("prod-1\n0\n", ""));
}

#[test]
fn what_cannot_be_looked_up_is_said() {
    let folder = Folder::new("[[route]]\nmatch = 'a'\n", "");
    let output = folder.run(&["lookup", "--routes", "routes.toml", "a"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("error: the route has no `host`\n --> routes.toml:1:1\n"));

    let output = folder.run(&["lookup", "--routes", "none.toml", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("error: the file cannot be read: no such file or directory\n--> none.toml\n")
    );

    assert_eq!(folder.run(&["lookup"]).status.code(), Some(2), "usage");
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let folder = Folder::new(ROUTES, "");
    for (shell, checker) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let output = folder.run(&["completions", shell]);
        assert!(output.status.success());
        let script = text(&output.stdout);
        assert!(script.contains("portolan") && script.contains("lookup"), "{shell}: {script}");
        folder.write(shell, &script);
        match Command::new(checker).arg("-n").arg(folder.path(shell)).output() {
            Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}"),
            Err(error) => {
                assert_ne!(shell, "bash", "{error}");
                eprintln!("not checked: there is no {checker} here");
            }
        }
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let folder = Folder::new(ROUTES, "");
    fs::create_dir(folder.path("man")).unwrap();
    assert!(folder.run(&["man", "man"]).status.success());
    for command in ["", "-run", "-check", "-lookup", "-connect", "-demo", "-completions", "-man"] {
        let page = fs::read_to_string(folder.path(&format!("man/portolan{command}.1"))).unwrap();
        assert!(page.contains(".TH portolan"), "{command}: {page}");
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(text(&folder.run(&["man"]).stdout).contains(".TH portolan 1"));
}

const ASKING: &str = r"
[[route]]
match = '^db@'
resolver = 'lab'
host = 'bastion.example'
tls = { server_name = 'db', insecure_skip_verify = true }
[[route]]
match = '@x$'
host = '10.0.1.60:4370'
";

const LAB: &str = r"
[discovery]
resolver = 'lab'
[resolver.lab]
type = 'static'
nodes = { 'db@x' = ['10.0.1.70:4370', { host = '10.0.1.71', port = 4371, tls = true }], 'web@y' = '10.0.1.72:1' }
";

#[test]
fn resolvers_are_asked_where_that_is_wanted_and_each_step_is_shown() {
    let folder = Folder::new(ASKING, LAB);
    let output = folder.run(&["lookup", "--config=portolan.toml", "--resolve", "db@x", "web@y", "nosuch@y"]);
    let expected = "\
db@x
  100  ^db@  bastion.example by lab  tls  routes.toml:3
  100  @x$   10.0.1.60:4370               routes.toml:8
  -- route ^db@ asks lab (static): 2 answers in 0 ms
     answer 10.0.1.70:4370
     answer 10.0.1.71:4371 TLS
     dials bastion.example:4370, tls with insecure_skip_verify, server_name db
     dials bastion.example:4371, tls with insecure_skip_verify, server_name db
  -- discovery asks lab (static): 2 answers in 0 ms
     answer 10.0.1.70:4370
     answer 10.0.1.71:4371 TLS
     dials 10.0.1.70:4370, tls with insecure_skip_verify, server_name db
     dials 10.0.1.71:4371, tls with insecure_skip_verify, server_name db
web@y
  no route
  -- discovery asks lab (static): 1 answer in 0 ms
     answer 10.0.1.72:1
     dials 10.0.1.72:1, plain TCP
nosuch@y
  no route
  -- discovery asks lab (static): 0 answers in 0 ms; it knows no such node
";
    // How long it takes is not ours to say.
    let said = text(&output.stdout).lines().fold(String::new(), |said, line| match line.split_once(" in ") {
        Some((before, after)) => said + before + " in 0 ms" + after.split_once(" ms").unwrap().1 + "\n",
        None => said + line + "\n",
    });
    assert_eq!((output.status.code(), said.as_str(), text(&output.stderr).as_str()), (Some(1), expected, ""));

    let output = folder.run(&["lookup", "--config=portolan.toml", "--resolve", "--json", "web@y"]);
    let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["resolved"][0]["ms"] = json!(0);
    let resolved = json!([{
        "step": "discovery", "match": null, "resolver": "lab", "type": "static", "ms": 0,
        "answers": [{"host": "10.0.1.72", "port": 1}], "error": null,
        "upstreams": [{"upstream": "10.0.1.72:1", "tls": false}],
    }]);
    assert_eq!((output.status.code(), &answer["resolved"]), (Some(0), &resolved));

    let output = folder.run(&["lookup", "--config=portolan.toml", "web@y"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "web@y\n  no route\n"));
}
