//! The clients in other languages reach nodes through the real binary.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::client::line;
use crate::support::daemon::{Daemon, text};
use crate::support::node::{DeadPort, FullBacklog, Node};

fn folder(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language)
}

/// Whether there is a Go that knows what the package is written in.
fn has_go() -> bool {
    let version = Command::new("go").arg("version").output();
    let version = version.map(|output| text(&output.stdout)).unwrap_or_default();
    let minor = version.split_once("go1.").and_then(|(_, after)| after.split(|c: char| !c.is_ascii_digit()).next());
    let has = minor.and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor >= 19);
    if !has {
        eprintln!("skipped: needs Go 1.19");
    }
    has
}

fn go(args: &[&str], socket: &Path) {
    let mut go = Command::new("go");
    go.args(args).current_dir(folder("go")).env("PORTOLAN_TEST_SOCKET", socket);
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "").env("GOPROXY", "off");
    let Output { status, stdout, stderr } = go.output().unwrap();
    assert!(status.success(), "{args:?}: {}{}", text(&stdout), text(&stderr));
    assert!(!text(&stdout).contains("--- SKIP"), "{}", text(&stdout));
}

#[test]
fn the_go_package_passes_its_tests() {
    if !has_go() {
        return;
    }
    let web = Node::new(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
    });
    let (echo, greeter, dead, silent) = (Node::echo(), Node::named("greeter"), DeadPort::new(), FullBacklog::new());
    let routes = [
        echo.route("^echo@x$", ""),
        greeter.route("^greeter@x$", ""),
        web.route("^web$", ""),
        dead.route("^dead@x$", ""),
        dead.route("^tls@x$", "tls = true"),
        silent.route("^silent@x$", ""),
    ];
    let daemon = Daemon::start(&routes.concat());
    go(&["vet", "./..."], &daemon.socket());
    go(&["test", "-count=1", "-timeout=60s", "-v", "./..."], &daemon.socket());
    assert_eq!(daemon.wait_for("handed off")["level"], "INFO");
}

#[test]
fn no_program_that_the_python_example_starts_inherits_its_connection() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let script = "import handoff, sys; print(handoff.connect('db@x', sys.argv[1]).get_inheritable())";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(daemon.socket()).env("PYTHONPATH", folder("python"));
    let said = python.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert_eq!(text(&said.stdout), "False\n", "{}", text(&said.stderr));
}

#[test]
fn the_python_example_joins_its_streams_to_a_node() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let run = |node: &str| {
        let mut python = Command::new("python3");
        python.arg(folder("python").join("handoff.py")).arg(node).env("PORTOLAN_SOCKET", daemon.socket());
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = run("db@x");
    child.stdin.take().unwrap().write_all(b"question").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    assert_eq!(line(&mut stdout), "db");
    let mut echoed = String::new();
    stdout.read_to_string(&mut echoed).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(echoed, "question");
    assert_eq!(daemon.wait_for("handed off")["node"], "db@x");

    let refused = run("other").wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("\"code\":\"no_route\""), "{}", text(&refused.stderr));
}
