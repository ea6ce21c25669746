//! The admin API of the real daemon: the table is seen and edited while it runs.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::{Answer, ask, connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder, fails_to_start, run_by, text, utf8};
use crate::support::node::{DeadPort, Node};

const PAGE: &str = include_str!("../docs/admin.md");

/// Asks at an admin socket.
pub fn admin(socket: &Path, method: &str, target: &str, body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: {length}\r\n\r\n{body}");
    ask(socket, head.as_bytes()).1
}

fn said(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

impl Daemon {
    fn admin(&self, method: &str, target: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = admin(&self.folder.path("admin.sock"), method, target, body);
        (answer.status, said(&answer))
    }

    /// A page's patterns.
    fn patterns(&self, target: &str) -> Vec<String> {
        let (_, page) = self.admin("GET", target, None);
        let routes = page["routes"].as_array().unwrap();
        routes.iter().map(|route| route["match"].as_str().unwrap().to_owned()).collect()
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn an_edit_is_in_force_when_it_is_answered() {
    let node = Node::named("new");
    let daemon = Daemon::start(&DeadPort::new().route("^old@", ""));
    let route = json!({"match": "^new@", "host": node.address().to_string(), "weight": 300});
    let (status, added) = daemon.admin("POST", "/v1/routes", Some(&route));
    assert_eq!((status, &added["match"], &added["generation"]), (201, &json!("^new@"), &json!(2)));
    assert_eq!(line(&mut connect(&daemon.socket(), "new@x")), "new");
    assert_eq!(daemon.patterns("/v1/routes"), ["^new@", "^old@"]);

    let (status, taken) = daemon.admin("POST", "/v1/routes", Some(&route));
    assert_eq!((status, &taken["code"]), (409, &json!("taken")));
    let (status, removed) = daemon.admin("DELETE", "/v1/routes/%5Enew%40", None);
    assert_eq!((status, &removed["removed"], &removed["generation"]), (200, &json!(1), &json!(3)));
    assert_eq!(upgrade(&daemon.socket(), "new@x").1.problem()["code"], "no_route");
    let (status, unknown) = daemon.admin("DELETE", "/v1/routes/%5Enew%40", None);
    assert_eq!((status, &unknown["code"]), (404, &json!("unknown")));

    let by =
        |line: &Value| (line["route"].clone(), line["generation"].clone(), line["uid"].clone(), line["pid"].clone());
    let us = (json!(rustix::process::getuid().as_raw()), json!(std::process::id()));
    assert_eq!(by(&daemon.wait_for("route added")), (json!("^new@"), json!(2), us.0.clone(), us.1.clone()));
    assert_eq!(by(&daemon.wait_for("route removed")), (json!("^new@"), json!(3), us.0, us.1));
}

#[test]
fn of_writers_at_once_one_wins() {
    const WRITERS: usize = 8;
    let daemon = Daemon::start(&DeadPort::new().route("^old@", ""));
    for round in 0..20 {
        let pattern = format!("^new-{round}@");
        let add = |port: usize| {
            daemon.admin("POST", "/v1/routes", Some(&json!({"match": pattern, "host": "h", "port": port})))
        };
        let mut answers: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = (1..=WRITERS).map(|port| scope.spawn(move || (port, add(port)))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        answers.sort_by_key(|(_, (status, _))| *status);
        let (winner, (status, _)) = &answers[0];
        assert_eq!(*status, 201);
        let losers = answers.iter().skip(1);
        assert!(
            losers.clone().all(|(_, (status, told))| (*status, &told["code"]) == (409, &json!("taken"))),
            "{answers:?}"
        );
        let node = format!("/v1/lookup?node=new-{round}@x");
        assert_eq!(daemon.admin("GET", &node, None).1["routes"][0]["host"], json!([format!("h:{winner}")]));
    }
}

#[test]
fn a_file_route_that_was_removed_is_still_shown() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    assert_eq!(daemon.admin("DELETE", "/v1/routes/%5Edb@", None).0, 200);
    assert_eq!(daemon.patterns("/v1/routes"), [""; 0]);
    assert_eq!(daemon.patterns("/v1/routes?removed=true"), ["^db@"]);
    let (status, problem) = daemon.admin("GET", "/v1/lookup?node=db@x", None);
    assert_eq!((status, &problem["code"]), (404, &json!("no_route")));
    assert_eq!(problem["detail"], "no route matches the node; one that does was removed at run time");
    let (_, table) = daemon.admin("GET", "/v1/table", None);
    assert_eq!((&table["routes"], &table["removed"], &table["added"]), (&json!(0), &json!(1), &json!(0)));
    assert_eq!(table["files"][0]["routes"], 1);
}

#[test]
fn a_route_with_mistakes_is_refused_with_all_of_them() {
    let daemon = Daemon::start(&DeadPort::new().route("db", ""));
    let route = json!({"match": "^a(b", "host": "10.0.0.1:1", "wieght": 3});
    let (status, invalid) = daemon.admin("POST", "/v1/routes", Some(&route));
    assert_eq!((status, &invalid["code"]), (422, &json!("invalid")));
    let helps: Vec<_> = invalid["problems"].as_array().unwrap().iter().map(|problem| &problem["help"]).collect();
    assert!(helps.len() == 2 && helps.contains(&&json!("did you mean `weight`?")), "{invalid}");
    assert_eq!(daemon.admin("GET", "/v1/table", None).1["generation"], 1);
}

#[test]
fn a_reload_is_waited_for() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    daemon.folder.replace("routes.toml", &(node.route("^db@", "weight = 7") + &node.route("^web@", "")));
    assert_eq!(daemon.admin("POST", "/v1/reload", None).0, 200);
    assert_eq!(daemon.patterns("/v1/routes"), ["^web@", "^db@"], "whether this or the watch was first");
    daemon.folder.replace("routes.toml", "[[route]]\nmatch = 'db'\n");
    let (status, invalid) = daemon.admin("POST", "/v1/reload", None);
    assert_eq!((status, &invalid["code"]), (422, &json!("invalid")));
    assert_eq!(invalid["problems"][0]["message"], "the route has no `host`");
    let (_, table) = daemon.admin("GET", "/v1/table", None);
    assert!(table["refused"].as_str().unwrap().contains("the route has no `host`"), "{table}");
}

#[test]
fn the_relays_that_are_open_are_listed() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let mut streams = ["db@a", "db@b", "db@c"].map(|name| connect(&daemon.socket(), name));
    streams.iter_mut().for_each(|stream| assert_eq!(line(stream), "db"));
    let (_, first) = daemon.admin("GET", "/v1/relays?limit=2", None);
    let (_, second) = daemon.admin("GET", &format!("/v1/relays?limit=2&after={}", first["next"]), None);
    let relays = [first["relays"].as_array().unwrap().clone(), second["relays"].as_array().unwrap().clone()].concat();
    assert_eq!((relays.len(), &second["next"]), (3, &Value::Null));
    assert_eq!((&relays[0]["match"], &relays[0]["address"]), (&json!("^db@"), &json!(node.address().to_string())));
    let us = json!({"uid": rustix::process::getuid().as_raw(), "pid": std::process::id()});
    assert_eq!((&relays[0]["client"], &relays[0]["up"]), (&us, &json!(0)));
}

#[test]
fn the_socket_is_beside_the_main_one_and_for_its_owner_alone() {
    let mut daemon = Daemon::start(&DeadPort::new().route("db", ""));
    let path = daemon.folder.path("admin.sock");
    assert_eq!((mode(&path), mode(&daemon.socket())), (0o600, 0o660));
    assert_eq!(daemon.wait_for("admin API listening")["address"], "unix:admin.sock");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().0.success());
    assert!(!path.exists(), "its file goes with the daemon");
}

#[test]
fn the_configuration_may_say_where_it_is_and_a_change_needs_a_restart() {
    let daemon =
        Daemon::start_with(&DeadPort::new().route("db", ""), "[admin]\npath = \"run/a.sock\"\nmode = \"0640\"\n");
    assert_eq!(mode(&daemon.folder.path("run/a.sock")), 0o640);
    let mark = daemon.mark();
    let changed = "[socket]\npath = \"portolan.sock\"\n[admin]\npath = \"run/a.sock\"\nmode = \"0600\"\n";
    daemon.folder.replace("portolan.toml", changed);
    daemon.wait_after(mark, "[admin] has changed: that needs a restart");
    assert_eq!(mode(&daemon.folder.path("run/a.sock")), 0o640);
}

#[test]
fn a_socket_that_cannot_be_bound_is_said_at_the_start() {
    let folder = Folder::new(&DeadPort::new().route("db", ""), "");
    folder.write("admin.sock", "precious");
    let said = fails_to_start(folder.command(&["run", "--config", "portolan.toml"]));
    assert!(said.contains("admin.sock is not a socket; portolan does not replace it"), "{said}");
}

#[test]
fn under_a_service_manager_it_is_in_the_service_s_own_folder() {
    let folder = Folder::new(&DeadPort::new().route("db", ""), "");
    folder.write("portolan.toml", &format!("[socket]\npath = \"{}\"\n", utf8(&folder.socket())));
    let main: OwnedFd = UnixListener::bind(folder.socket()).unwrap().into();
    let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\"";
    let mut command = run_by(&["sh", "-c", script], &folder.command(&["run", "--config", "portolan.toml"]));
    command.stdin(main).env("RUNTIME_DIRECTORY", folder.path("own")).stdout(Stdio::null());
    let daemon = Daemon::spawn(folder, command);
    let answer = admin(&daemon.folder.path("own/admin.sock"), "GET", "/v1/table", None);
    assert_eq!(said(&answer)["routes"], 1);
}

#[test]
fn the_examples_of_the_page_answer_as_they_say() {
    let routes = "[[route]]\nmatch = '^prod-db@'\nweight = 200\nhost = ['10.0.1.50:4370', '10.0.1.51:4371']\n\n\
                  [[route]]\n# the partner\nmatch = '@partner\\.example$'\nhost = 'gw.partner.example:4370'\ntls = true\n";
    let discovery = "[discovery]\nresolver = 'fleet'\n[resolver.fleet]\ntype = 'static'\nnodes = { 'db@y' = { host = '10.0.1.50', tls = true } }\n";
    // A limit that the descriptors of every machine allow.
    let folder = Folder::new(routes, &format!("[limits]\nrelays = 100\n{discovery}"));
    let config: PathBuf = folder.path("portolan.toml");
    let command = folder.command(&["run", "--config", utf8(&config)]);
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(upgrade(&daemon.socket(), "db@y").1.status, 502, "the answer has no port");

    let indented = PAGE.split("\n\n").filter(|block| block.starts_with("    "));
    let blocks: Vec<String> = indented.map(|block| block.replace("\n    ", "\n").trim().to_owned()).collect();
    let root = daemon.folder.path("");
    let root = utf8(&root).trim_end_matches('/');
    for example in blocks.chunks(2) {
        let [command, expected] = example else { panic!("a command without its answer: {example:?}") };
        let command = command.replace("/run/portolan", root);
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let told = text(&output.stdout).replace(root, "/etc/portolan");
        let told = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{command}: {error}: {output:?}"));
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(timeless(told), timeless(expected), "{command}");
    }
    assert_eq!(blocks.len(), 36);
}

/// The same with every time taken out.
fn timeless(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| match key.as_str() {
                "edit" | "since" => (key, json!("then")),
                "age_ms" | "left_ms" if value.is_u64() => (key, json!("a while")),
                _ => (key, timeless(value)),
            })
            .collect(),
        Value::Array(array) => array.into_iter().map(timeless).collect(),
        Value::String(text) => text.split("edit of ").next().unwrap().into(),
        other => other,
    }
}
