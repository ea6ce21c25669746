//! What docs/openapi.yaml says of the admin API is so: schemathesis draws requests from it, good and bad, sends them to
//! the real daemon through a bridge from TCP, and checks every answer.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::daemon::{Daemon, Running, text, utf8};
use crate::support::node::DeadPort;

/// Where tests/run.sh installs it.
fn schemathesis() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_portolan")).ancestors().nth(2).unwrap();
    target.join("schemathesis/bin/schemathesis")
}

/// A TCP port of this machine that leads to a Unix socket.
fn bridge(socket: &Path) -> (Running, u16) {
    let to = format!("UNIX-CONNECT:{}", utf8(socket));
    let mut socat = Command::new("socat");
    socat.args(["-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork", &to]).stderr(Stdio::piped());
    let mut child: Child = socat.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "socat does not listen");
    }
    // What it says of each connection is read on, so that it can be written.
    std::thread::spawn(move || said.lines().for_each(drop));
    (Running(child), line.trim_end().rsplit(':').next().unwrap().parse().unwrap())
}

#[test]
fn the_daemon_answers_as_the_description_says() {
    let schemathesis = schemathesis();
    assert!(schemathesis.exists(), "no {}: tests/run.sh installs it", schemathesis.display());
    let routes = DeadPort::new().route("^db@", "") + &DeadPort::new().route("[0-9]", "weight = 7");
    let resolver = "type = 'static'\nnodes = { 'db@x' = '127.0.0.1:1', '0' = '127.0.0.1:2' }";
    let forward = "[[forward]]\nlisten = '127.0.0.1:0'\nnode = 'db@x'\nusers = ['root']\n";
    let discovery = format!("{forward}[discovery]\nresolver = 'fleet'\n[resolver.fleet]\n{resolver}\n");
    let daemon = Daemon::start_with(&routes, &discovery);
    let leased = daemon.folder.run(&["forwards", "lease", "db@x", "--socket", "portolan.sock"]);
    assert!(leased.status.success(), "{}", text(&leased.stderr));
    let (_socat, port) = bridge(&daemon.folder.path("admin.sock"));

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut run = Command::new(schemathesis);
    run.args(["--config-file", utf8(&root.join("tests/schemathesis.toml"))]);
    run.args(["run", utf8(&root.join("docs/openapi.yaml")), "--url", &format!("http://127.0.0.1:{port}")]);
    run.args(["--max-examples", "25", "--generation-database", "none", "--no-color", "--warnings", "off"]);
    let output = run.current_dir(daemon.folder.path("")).output().unwrap();
    // It names its seed, with which `--seed` draws the same again.
    let told = text(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.contains("Tested: 16"), "every operation of the description");
}
