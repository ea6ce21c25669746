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
