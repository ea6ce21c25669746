//! What a reload changes, and what it leaves alone.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use crate::support::HANG;
use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder};
use crate::support::node::{DeadPort, FullBacklog, Node};

/// A `portolan.toml` with this in it.
fn configuration(text: &str) -> String {
    format!("{text}\n[socket]\npath = \"portolan.sock\"\n")
}

/// Replaces `portolan.toml` and waits until that is in force.
fn reconfigure(daemon: &Daemon, text: &str) {
    let mark = daemon.mark();
    daemon.folder.replace("portolan.toml", &configuration(text));
    let reloaded = daemon.wait_after(mark, "reload");
    assert_eq!(reloaded["message"], "reloaded", "{reloaded}");
}

#[test]
fn sighup_reads_the_files_again() {
    let node = Node::echo();
    let daemon = Daemon::start(&node.route("db", ""));
    for generation in 2..5 {
        let reloaded = daemon.hang_up();
        assert_eq!(reloaded["message"], "reloaded");
        assert_eq!(reloaded["cause"], "SIGHUP");
        assert_eq!(reloaded["generation"], generation);
        assert_eq!((&reloaded["changes"], &reloaded["routes"]), (&"+0 -0 ~0".into(), &1.into()));
    }
}

#[test]
fn what_changed_is_summed_up() {
    let node = Node::named("db");
    let daemon = Daemon::start(&(node.route("stays", "") + &node.route("changes", "") + &node.route("goes", "")));
    let after = node.route("changes", "weight = 7") + "# moved\n" + &node.route("stays", "");
    for (routes, changes, count) in [
        (after.clone(), "+0 -1 ~1", 2),
        (after.clone() + &node.route("new", "") + &node.route("newer", ""), "+2 -0 ~0", 4),
        (after.clone() + &node.route("new", "disabled = true") + &node.route("newer", "name = 'n'"), "+0 -1 ~1", 3),
    ] {
        let mark = daemon.mark();
        daemon.folder.replace("routes.toml", &routes);
        let reloaded = daemon.wait_after(mark, "reload");
        assert_eq!((&reloaded["changes"], &reloaded["routes"]), (&changes.into(), &count.into()), "{reloaded}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_changes() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let mark = daemon.mark();
    daemon.folder.replace(
        "routes.toml",
        "[[route]]\nmatch = '^db@'\nhost = \"10.0.1.50\"\nport = 70000\n\n\
         [[route]]\nmatch = 'a(b'\nhost = \"10.0.1.50:1\"\nwieght = 3\n",
    );
    let refused = daemon.wait_after(mark, "reload");
    assert_eq!(refused["message"], "reload refused; the table in force stays");
    assert_eq!(refused["generation"], 1);
    assert_eq!(refused["why"], "routes.toml:4:8: `port` is 70000, out of range (and 2 more errors)");
    let said = daemon.said(mark, "ERROR");
    let expected = [
        "\
error: `port` is 70000, out of range
 --> routes.toml:4:8
  |
4 | port = 70000
  |        ^^^^^
  |
  = help: write a whole number from 1 to 65535",
        "\
error: `match` is not a pattern: missing closing ): `a(b`
 --> routes.toml:7:11
  |
7 | match = 'a(b'
  |           ^
  |
  = help: a literal character such as ( or [ is written with a backslash: \\(",
        "\
error: unknown key `wieght` in [[route]]
 --> routes.toml:9:1
  |
9 | wieght = 3
  | ^^^^^^
  |
  = help: did you mean `weight`?",
        "reload refused; the table in force stays",
    ];
    assert_eq!(said, expected);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");

    let mark = daemon.mark();
    daemon.folder.replace("routes.toml", &node.route("^db@", "weight = 1"));
    assert_eq!(daemon.wait_after(mark, "reload")["generation"], 2, "what was refused is no generation");
}

#[test]
fn a_pattern_in_two_files_is_refused_with_both_places() {
    let (node, folder) = (Node::named("db"), Folder::new("", ""));
    folder.write("portolan.toml", &configuration("routes = ['one.toml', 'two.toml']"));
    folder.write("one.toml", &node.route("^db@", ""));
    folder.write("two.toml", &node.route("^other@", ""));
    let daemon = Daemon::in_folder(folder);
    let mark = daemon.mark();
    daemon.folder.replace("two.toml", &format!("\n{}", node.route("^db@", "")));
    daemon.wait_after(mark, "reload refused");
    assert_eq!(
        daemon.said(mark, "ERROR")[0],
        "\
error: the pattern `^db@` is taken
 --> two.toml:3:9
  |
3 | match = '^db@'
  |         ^^^^^^ written again here
  |
 ::: one.toml:2:9
  |
2 | match = '^db@'
  |         ------ first written here
  |
  = help: remove one of the two, or write their hosts as one array"
    );
    assert_eq!(line(&mut connect(&daemon.socket(), "other@x")), "db");
}

#[test]
fn a_table_may_be_empty_when_that_is_meant() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let mark = daemon.mark();
    daemon.folder.replace("routes.toml", "allow_empty = true\n");
    let reloaded = daemon.wait_after(mark, "reload");
    assert_eq!((&reloaded["changes"], &reloaded["routes"]), (&"+0 -1 ~0".into(), &0.into()));
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 404);
}

#[test]
fn the_list_of_routes_files_follows() {
    let (one, two) = (Node::named("one"), Node::named("two"));
    let daemon = Daemon::start(&one.route("^one@", ""));
    daemon.folder.write("two.toml", &two.route("^two@", ""));
    reconfigure(&daemon, "routes = ['two.toml', 'routes.toml']");
    assert_eq!(line(&mut connect(&daemon.socket(), "one@x")), "one");
    assert_eq!(line(&mut connect(&daemon.socket(), "two@x")), "two");
    reconfigure(&daemon, "routes = 'two.toml'");
    assert_eq!(upgrade(&daemon.socket(), "one@x").1.status, 404);
}

#[test]
fn the_limit_of_relays_follows_and_leaves_what_is_open() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let mut open = [connect(&daemon.socket(), "db@x"), connect(&daemon.socket(), "db@x")];
    reconfigure(&daemon, "[limits]\nrelays = 1");
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!((answer.status, &answer.problem()["code"]), (503, &"busy".into()));
    for stream in &mut open {
        stream.write_all(b"still here\n").unwrap();
        assert_eq!((line(stream), line(stream)), ("db".to_owned(), "still here".to_owned()));
    }
    reconfigure(&daemon, "[limits]\nrelays = 3");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}

#[test]
fn the_times_of_a_dial_follow() {
    let silent = FullBacklog::new();
    let daemon = Daemon::start_with(&silent.route("db", ""), "[dial]\nconnect_timeout = '1h'\nestablish = '1h'\n");
    reconfigure(&daemon, "[dial]\nconnect_timeout = '20ms'\nestablish = '1h'\n");
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!((answer.status, &answer.problem()["attempts"][0]["error"]), (504, &"timed out".into()));
}

#[test]
fn the_level_of_the_log_follows() {
    let dead = DeadPort::new();
    let daemon = Daemon::start(&dead.route("db", ""));
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 502);
    daemon.wait_for("refused");
    reconfigure(&daemon, "[log]\nlevel = 'debug'");
    assert_eq!(daemon.said(0, "DEBUG"), Vec::<String>::new());
    let mark = daemon.mark();
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 502);
    daemon.wait_after(mark, "attempt failed");
}

#[test]
fn a_changed_socket_is_said_for_as_long_as_it_needs_a_restart() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let restart = "[socket] has changed: that needs a restart";
    for (path, is_said) in [("elsewhere.sock", true), ("elsewhere.sock", true), ("portolan.sock", false)] {
        let mark = daemon.mark();
        daemon.folder.replace("portolan.toml", &format!("[socket]\npath = '{path}'\n"));
        assert_eq!(daemon.wait_after(mark, "reload")["message"], "reloaded");
        assert_eq!(daemon.said(mark, "WARN").iter().any(|said| said == restart), is_said, "{path}");
        assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    }
    assert!(!daemon.folder.path("elsewhere.sock").exists());
}

#[test]
fn a_relay_outlives_its_route() {
    let (old, new) = (Node::named("old"), Node::named("new"));
    let daemon = Daemon::start(&old.route("^db@", "name = 'the old one'"));
    let mut stream = connect(&daemon.socket(), "db@x");
    assert_eq!(line(&mut stream), "old");
    for routes in [new.route("^db@", ""), new.route("other", ""), "allow_empty = true\n".to_owned()] {
        assert_eq!(daemon.reload(&routes)["message"], "reloaded");
        stream.write_all(b"ping\n").unwrap();
        assert_eq!(line(&mut stream), "ping");
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let closed = daemon.wait_for("relay closed");
    assert_eq!((&closed["route"], &closed["end"]), (&"^db@".into(), &"finished".into()));
}

#[test]
fn a_request_that_is_being_dialed_keeps_its_table() {
    let (dialing, is_dialed) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (dialing, may_go_on) = (Mutex::new(dialing), Mutex::new(may_go_on));
    // It takes the TLS handshake's first bytes, and ends only when it is told to.
    let primary = Node::new(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        dialing.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().ok();
    });
    let backup = Node::named("backup");
    let routes = primary.route("^db", "weight = 200\ntls = { insecure_skip_verify = true }") + &backup.route("db", "");
    let daemon = Daemon::start_with(&routes, "[dial]\nconnect_timeout = '1h'\nestablish = '1h'\n");

    let socket = daemon.socket();
    let request = thread::spawn(move || line(&mut connect(&socket, "db@x")));
    is_dialed.recv_timeout(HANG).unwrap();
    let mark = daemon.mark();
    daemon.folder.replace("routes.toml", "allow_empty = true\n");
    assert_eq!(daemon.wait_after(mark, "reload")["routes"], 0);
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 404);
    go_on.send(()).unwrap();
    assert_eq!(request.join().unwrap(), "backup", "the next route of the table that it began with");
}
