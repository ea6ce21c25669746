//! Leases: a client asks for a forward of its own, and nobody else may use it.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::admin::admin;
use crate::support::client::{Answer, ask, line, open, read_answer};
use crate::support::daemon::{Daemon, text, utf8};
use crate::support::node::{DeadPort, Node};
use crate::support::{HANG, until};

fn request(body: &str) -> String {
    format!("POST /v1/forwards HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Asks for a lease.
fn lease(daemon: &Daemon, node: &str) -> Answer {
    ask(&daemon.socket(), request(&json!({ "node": node }).to_string()).as_bytes()).1
}

/// The port of one that is given.
fn port(answer: &Answer) -> u16 {
    let view: Value = serde_json::from_slice(&answer.body).unwrap();
    u16::try_from(view["port"].as_u64().unwrap_or_else(|| panic!("{answer:?} {view}"))).unwrap()
}

fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

fn is_reset(port: u16) -> bool {
    dial(port).read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn forwards(daemon: &Daemon) -> Vec<Value> {
    let answer = admin(&daemon.folder.path("admin.sock"), "GET", "/v1/forwards", None);
    let view: Value = serde_json::from_slice(&answer.body).unwrap();
    view["forwards"].as_array().unwrap().clone()
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Runs a script as a user that is not this one; `None` if this one may not.
fn as_nobody(script: &str) -> Option<String> {
    // Only root can be somebody else.
    (own_uid() == 0).then(|| {
        let mut client = Command::new("setpriv");
        client.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", script]);
        let output = client.current_dir("/").output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    })
}

#[test]
fn a_lease_leads_to_its_node_and_is_the_same_when_it_is_asked_for_again() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let answer = lease(&daemon, "db@x");
    assert_eq!((answer.status, answer.header("Content-Type")), (201, "application/json"));
    let view: Value = serde_json::from_slice(&answer.body).unwrap();
    let first = port(&answer);
    let expected = json!({"node": "db@x", "host": "127.0.0.1", "port": first, "idle_timeout_ms": 300_000});
    assert_eq!(view, expected);
    assert_eq!(node.accepted(), 0, "nobody is dialed for a lease");
    assert_eq!(line(&mut dial(first)), "db");

    let again = lease(&daemon, "db@x");
    assert_eq!((again.status, port(&again)), (200, first));
    let other = port(&lease(&daemon, "db@y"));
    assert_ne!(other, first);
    let made = daemon.wait_for_lines(2, "lease made");
    let expected = (&json!("db@x"), &json!(own_uid()), &json!(format!("127.0.0.1:{first}")));
    assert_eq!((&made[0]["node"], &made[0]["uid"], &made[0]["address"]), expected);
}

#[test]
fn what_is_no_wish_for_a_lease_is_refused() {
    let daemon = Daemon::start(&DeadPort::new().route("^db@", ""));
    let refused = |head: &str| {
        let answer = ask(&daemon.socket(), head.as_bytes()).1;
        let problem = answer.problem();
        (answer.status, problem["code"].as_str().unwrap().to_owned(), problem["detail"].as_str().unwrap().to_owned())
    };
    let (status, code, detail) = refused(&request(r#"{"nod": "db@x"}"#));
    assert_eq!((status, code.as_str()), (400, "bad_request"));
    let told = "this is not a request: the body: unknown field `nod`, expected `node` at line 1 column 6; \
                write {\"node\": \"db@prod\"}";
    assert_eq!(detail, told);
    let (status, code, detail) = refused(&request(r#"{"node": "web@x"}"#));
    assert_eq!((status, code.as_str()), (404, "no_route"));
    assert!(detail.starts_with("no route matches the node;"), "{detail}");
    let bare = "POST /v1/forwards HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(refused(bare).2.ends_with("the head has no Content-Length, and the node is asked for in the body"));
    assert_eq!(refused(&bare.replace("\r\n\r\n", "\r\nContent-Length: 9000\r\n\r\n")).0, 431);
    assert_eq!(forwards(&daemon), Vec::<Value>::new());
}

#[test]
fn what_discovery_may_know_has_a_lease() {
    let node = Node::named("found");
    let resolver = format!("[resolver.lab]\ntype = 'static'\nnodes = {{ 'db@x' = '{}' }}\n", node.address());
    let daemon = Daemon::start_with("allow_empty = true\n", &format!("[discovery]\nresolver = 'lab'\n{resolver}"));
    assert_eq!(line(&mut dial(port(&lease(&daemon, "db@x")))), "found");
    assert!(is_reset(port(&lease(&daemon, "nosuch@x"))), "it is not asked before a client comes");
    assert_eq!(daemon.wait_for("refused")["code"], "no_route");
}

#[test]
fn another_users_connection_is_reset_and_logged_and_it_has_a_lease_of_its_own() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let ours = port(&lease(&daemon, "db@x"));
    let Some(said) = as_nobody(&format!("curl -sS http://127.0.0.1:{ours}/")) else { return };
    // A reset that comes at once is a connection that was never made, to curl.
    assert!(said.starts_with("curl: ("), "{said}");
    let refused = daemon.wait_for("refused");
    assert_eq!((&refused["code"], &refused["node"]), (&json!("not_allowed"), &json!("db@x")));
    let why = refused["why"].as_str().unwrap();
    assert!(why.ends_with("is of user 65534, and the lease is of user 0"), "{why}");
    assert_eq!(node.accepted(), 0, "nothing was dialed for it");

    fs::set_permissions(daemon.folder.path(""), Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o666)).unwrap();
    let socket = daemon.socket();
    let post = format!("curl -sS --unix-socket {} http://x/v1/forwards -d '{{\"node\": \"db@x\"}}'", utf8(&socket));
    let theirs: Value = serde_json::from_str(&as_nobody(&post).unwrap()).unwrap();
    assert_ne!(theirs["port"], ours);
    let port = u16::try_from(theirs["port"].as_u64().unwrap()).unwrap();
    let said = as_nobody(&format!("printf 'mine\\n' | socat -t 5 - TCP:127.0.0.1:{port}")).unwrap();
    assert_eq!(said, "db\nmine\n");
    assert!(is_reset(port), "root is another user, too");
}

#[test]
fn a_lease_ends_when_it_is_of_no_use() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("^db@", ""), "[limits]\nlease_idle_timeout = '100ms'\n");
    let used = port(&lease(&daemon, "db@used"));
    let mut relay = dial(used);
    assert_eq!(line(&mut relay), "db");
    let idle = port(&lease(&daemon, "db@idle"));
    let ended = daemon.wait_for("lease ended");
    let expected = (&json!("db@idle"), &json!("idle"), &json!(format!("127.0.0.1:{idle}")));
    assert_eq!((&ended["node"], &ended["why"], &ended["address"]), expected);
    until("nobody listens there", || TcpStream::connect(("127.0.0.1", idle)).is_err());

    let listed = forwards(&daemon);
    let [only] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&only["node"], &only["open"]), (&json!("db@used"), &json!(1)));
    assert_eq!(only["lease"], json!({"idle_timeout_ms": 100, "left_ms": null}));
    relay.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut relay), "ping");
    drop(relay);
    assert_eq!(daemon.wait_for_lines(2, "lease ended")[1]["node"], "db@used");
}

#[test]
fn a_reload_leaves_leases_alone_and_their_time_follows_it() {
    let (old, new) = (Node::named("old"), Node::named("new"));
    let daemon = Daemon::start_with(&old.route("^db@", ""), "[limits]\nlease_idle_timeout = '1h'\n");
    let port = port(&lease(&daemon, "db@x"));
    let mut relay = dial(port);
    assert_eq!(line(&mut relay), "old");
    assert_eq!(daemon.reload(&new.route("^db@", ""))["message"], "reloaded");
    assert_eq!(line(&mut dial(port)), "new");
    relay.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut relay), "ping");
    drop(relay);

    let file = fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    daemon.folder.replace("portolan.toml", &file.replace("'1h'", "'10ms'"));
    assert_eq!(daemon.hang_up()["message"], "reloaded");
    assert_eq!(daemon.wait_for("lease ended")["why"], "idle");
}

#[test]
fn there_are_no_more_leases_than_there_may_be() {
    let daemon = Daemon::start_with(&DeadPort::new().route("^db@", ""), "[limits]\nleases = 1\n");
    let first = port(&lease(&daemon, "db@x"));
    let refused = lease(&daemon, "db@y");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, "1"));
    let problem = refused.problem();
    assert_eq!((&problem["code"], &problem["node"]), (&json!("busy"), &json!("db@y")));
    let told =
        "as many leases are open as limits.leases, or a sixteenth of the descriptors, allows (1); ask again later";
    assert_eq!(problem["detail"], told);
    assert_eq!(port(&lease(&daemon, "db@x")), first);

    let file = fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    daemon.folder.replace("portolan.toml", &file.replace("leases = 1", "leases = 4"));
    assert_eq!(daemon.hang_up()["message"], "reloaded");
    for node in ["db@y", "db@z"] {
        assert_eq!(lease(&daemon, node).status, 201);
    }
    let told = lease(&daemon, "db@w").problem()["detail"].as_str().unwrap().to_owned();
    assert!(
        told.ends_with("has 3 leases, and the last quarter of limits.leases is for others; ask again later"),
        "{told}"
    );
}

#[test]
fn a_drain_ends_leases_and_gives_none() {
    let node = Node::named("db");
    let mut daemon = Daemon::start_with(&node.route("^db@", ""), "[limits]\ndrain_timeout = '30s'\n");
    let port = port(&lease(&daemon, "db@x"));
    let mut relay = dial(port);
    assert_eq!(line(&mut relay), "db");
    let whole = request(r#"{"node": "db@y"}"#);
    let mut late = open(&daemon.socket());
    late.write_all(&whole.as_bytes()[..whole.len() - 1]).unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for("lease ended")["why"], "draining");
    until("nobody listens there", || TcpStream::connect(("127.0.0.1", port)).is_err());
    let refused = read_answer(&mut late);
    assert_eq!((refused.status, &refused.problem()["code"]), (503, &json!("draining")));
    relay.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut relay), "ping", "relays have their time");
    drop(relay);
    assert_eq!(daemon.wait().1.last().unwrap()["message"], "ended");
}

#[test]
fn a_route_that_leads_back_to_a_lease_fails_and_does_not_loop() {
    let daemon = Daemon::start(&DeadPort::new().route("^db@", ""));
    let port = port(&lease(&daemon, "db@x"));
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        let route = format!("[[route]]\nmatch = '^db@'\nhost = '{host}:{port}'\n");
        assert_eq!(daemon.reload(&route)["message"], "reloaded");
        let mark = daemon.mark();
        assert!(is_reset(port));
        let refused = daemon.wait_after(mark, "refused");
        assert_eq!((&refused["code"], &refused["node"]), (&json!("all_failed"), &json!("db@x")));
        let why = refused["why"].as_str().unwrap();
        assert!(why.contains("leads back to this daemon, to one of its leases"), "{why}");
    }
    assert_eq!(daemon.wait_for_lines(3, "refused").len(), 3, "one request each");
}

#[test]
fn forwards_are_listed_and_asked_for_by_the_command() {
    let node = Node::named("db");
    let fixed = format!("[[forward]]\nlisten = '127.0.0.1:0'\nnode = 'db@x'\nusers = ['{}']\n", own_uid());
    let unix = "[[forward]]\nlisten = 'unix:db.sock'\nnode = 'db@y'\n";
    let daemon = Daemon::start_with(&node.route("^db@", ""), &(fixed + unix));
    let leased = daemon.folder.run(&["forwards", "lease", "db@z", "--socket", "portolan.sock"]);
    assert!(leased.status.success(), "{}", text(&leased.stderr));
    let address = text(&leased.stdout).trim_end().to_owned();
    assert_eq!(line(&mut TcpStream::connect(&address).unwrap()), "db");
    daemon.wait_for("relay closed");
    let json = daemon.folder.run(&["forwards", "lease", "--json", "db@z", "--socket", "portolan.sock"]);
    let view: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(format!("127.0.0.1:{}", view["port"]), address);

    let list = daemon.folder.run(&["forwards", "--json", "--admin", "admin.sock"]);
    let lines: Vec<Value> = text(&list.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [tcp, unix, lease] = &lines[..] else { panic!("{lines:?}") };
    let users = json!([own_uid()]);
    let expected = json!({"address": daemon.forward(), "node": "db@x", "users": users, "open": 0, "lease": null});
    assert_eq!(tcp, &expected);
    let path = unix["address"].as_str().unwrap();
    assert!(path.starts_with("unix:") && path.ends_with("db.sock") && unix["users"].is_null(), "{unix}");
    assert_eq!((&lease["address"], &lease["users"], &lease["open"]), (&json!(address), &users, &json!(0)));
    assert!(lease["lease"]["left_ms"].as_u64().unwrap() > 200_000, "{lease}");
    let table = text(&daemon.folder.run(&["forwards", "--admin", "admin.sock"]).stdout);
    assert!(
        table.lines().next().unwrap().split_whitespace().eq(["address", "node", "users", "open", "lease"]),
        "{table}"
    );
    assert!(table.contains(" left\n"), "{table}");

    let refused = daemon.folder.run(&["forwards", "lease", "web@x", "--socket", "portolan.sock"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        text(&refused.stderr).starts_with("error: refused: no route matches the node"),
        "{}",
        text(&refused.stderr)
    );
    let nobody = daemon.folder.run(&["forwards", "lease", "db@x", "--socket", "nowhere.sock"]);
    assert_eq!(nobody.status.code(), Some(5));
}
