//! Who may use a TCP forward: the kernel says whose a client's socket is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::support::client::line;
use crate::support::daemon::{Daemon, Folder, text};
use crate::support::node::Node;

/// A forward for these users.
fn forward(users: &str) -> String {
    format!("[[forward]]\nlisten = \"127.0.0.1:0\"\nnode = \"db@x\"\nusers = {users}\n")
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// What a client at the forward comes to: the node's first line, or how the connection ends.
fn reached(at: &str) -> String {
    let mut client = TcpStream::connect(at).unwrap();
    let mut answer = String::new();
    match client.read_to_string(&mut answer) {
        Ok(_) => answer.trim_end().to_owned(),
        Err(error) => error.kind().to_string(),
    }
}

#[test]
fn a_forward_is_for_its_users_and_follows_a_reload() {
    let node = Node::named("for its users");
    let routes = node.route("^db@", "");
    let daemon = Daemon::start_with(&routes, &forward(&format!("['{}']", own_uid())));
    let at = daemon.forward();
    assert_eq!(line(&mut TcpStream::connect(&at).unwrap()), "for its users");

    let file = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    let other = file.replace(&format!("'{}'", own_uid()), "'4711'");
    daemon.folder.replace("portolan.toml", &other);
    let mark = daemon.mark();
    daemon.hang_up();
    assert_eq!(reached(&at), "connection reset");
    let refused = daemon.wait_after(mark, "refused");
    assert_eq!((&refused["code"], &refused["node"]), (&"not_allowed".into(), &"db@x".into()));
    let why = refused["why"].as_str().unwrap();
    assert!(why.contains(&format!("is of user {}, whom `users` of the forward does not have", own_uid())), "{why}");
    assert_eq!(node.accepted(), 1, "nothing was dialed for it");
}

#[test]
fn another_users_connection_is_reset() {
    let node = Node::echo();
    let daemon = Daemon::start_with(&node.route("^db@", ""), &forward("['nobody']"));
    let at = daemon.forward();
    assert_eq!(reached(&at), "connection reset");
    if own_uid() != 0 {
        // Only root can be somebody else.
        return;
    }
    let script = format!("printf 'mine\\n' | socat -t 5 - TCP:{at}");
    let mut client = Command::new("setpriv");
    client.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", &script]);
    let output = client.current_dir("/").output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "mine", "{}", text(&output.stderr));
}

#[test]
fn a_client_that_is_gone_is_nobodys() {
    let daemon = Daemon::start_with("allow_empty = true\n", &forward("['root']"));
    let mut client = TcpStream::connect(daemon.forward()).unwrap();
    // It may have been refused already.
    drop(client.write_all(b"x"));
    drop(client);
    // It was accepted before it went, or after: it is refused as nobody's, or there is no route.
    let code = daemon.wait_for("refused")["code"].as_str().unwrap().to_owned();
    assert!(["not_allowed", "no_route", "client_gone"].contains(&code.as_str()), "{code}");
}

#[test]
fn what_is_wrong_with_users_is_said() {
    let said = |forward: &str| {
        let folder = Folder::new("allow_empty = true\n", forward);
        text(&folder.run(&["check", "portolan.toml"]).stderr)
    };
    let unknown = said(&forward("['no-such-user']"));
    assert!(unknown.contains("there is no user `no-such-user` on this machine\n --> portolan.toml:6:10"), "{unknown}");
    let both = said(&(forward("['root']") + "open = true\n"));
    assert!(both.contains("`users` says who may use the forward, and `open = true` that everybody may"), "{both}");
    let unix = said("[[forward]]\nlisten = 'unix:x.sock'\nnode = 'db@x'\nusers = ['root']\n");
    assert!(unix.contains("`users` is for a TCP forward"), "{unix}");
}
