//! A table that a fleet shares: daemons and pushes of the real binary, and Debian's etcd.

use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};

use portolan::etcd::{Compare, Etcd as Asked, EtcdConfig, Op, Txn};
use portolan::shared::{Keys, Plan, Publisher, Stamp, plan};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, Folder, Running, text};
use crate::support::etcd::Etcd;
use crate::support::node::Node;
use crate::support::until;

const PREFIX: &str = "portolan/routes/";

fn folder(etcd: &Etcd, routes: &str, resolver: &str) -> Folder {
    folder_at(&etcd.endpoint(), routes, resolver)
}

fn folder_at(endpoint: &str, routes: &str, resolver: &str) -> Folder {
    let folder = Folder::new(routes, "");
    folder.write(
        "portolan.toml",
        &format!(
            "routes = [\"routes.toml\", \"etcd:fleet\"]\n[socket]\npath = \"portolan.sock\"\n\
             [resolver.fleet]\ntype = \"etcd\"\nendpoints = [\"{endpoint}\"]\n{resolver}\n"
        ),
    );
    folder
}

const NONE: &str = "allow_empty = true\n";

fn route(pattern: &str, host: &str) -> String {
    format!("match = '{pattern}'\nhost = '{host}'\n")
}

fn file(patterns: &[&str]) -> String {
    patterns.iter().map(|pattern| format!("[[route]]\n{}", route(pattern, "h:1"))).collect()
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// `portolan ARGS`: its exit code, stdout and stderr.
fn portolan(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = folder.run(args);
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

fn push(folder: &Folder, args: &[&str]) -> String {
    let (code, out, err) =
        portolan(folder, &[&["routes", "push", "--to", "etcd:fleet", "--config", "portolan.toml"], args].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    out
}

/// The patterns in force, in their order.
fn list(folder: &Folder) -> Vec<String> {
    let (code, out, err) = portolan(folder, &["routes", "list", "--json", "--admin=admin.sock"]);
    assert_eq!(code, 0, "{err}");
    let route = |line: &str| serde_json::from_str::<Value>(line).unwrap()["match"].as_str().unwrap().to_owned();
    out.lines().map(route).collect()
}

/// Waits until what etcd holds now is in force.
fn catch_up(daemon: &Daemon, etcd: &Etcd) {
    let revision = etcd.revision();
    daemon.wait_until(0, "the shared table has changed", |line| line["revision"].as_i64() == Some(revision));
}

#[test]
fn a_change_is_in_force_without_anybody_doing_anything() {
    let (etcd, node) = (Etcd::new(), Node::named("shared"));
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    etcd.put(&key("db"), &route("^db@", &node.address().to_string()));
    catch_up(&daemon, &etcd);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "shared");
    etcd.put(&key("db"), &json!({ "match": "^web@", "host": [node.address().to_string()] }).to_string());
    catch_up(&daemon, &etcd);
    assert_eq!(line(&mut connect(&daemon.socket(), "web@x")), "shared");
    assert_eq!(list(&daemon.folder), ["^web@"]);
    etcd.delete(&key("db"));
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), Vec::<String>::new());
}

#[test]
fn a_bad_entry_is_refused_alone_with_its_key_in_the_log() {
    let etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    etcd.put(&key("good"), &route("^good@", "h:1"));
    etcd.put(&key("bad"), "match = '^bad('\nhost = 'h:1'\n");
    etcd.put(&key("files"), "match = 'x'\nhost = 'h:1'\ntls = { ca = '/etc/passwd' }\n");
    etcd.put(&key("insecure"), "match = 'x'\nhost = 'h:1'\ntls = { insecure_skip_verify = true }\n");
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["^good@"]);
    for (name, why) in [
        ("bad:1:14", "`match` is not a pattern"),
        ("files:3:14", "`ca` names a file, and a shared route may name none here"),
        ("insecure:3:32", "a shared route may not skip verification here"),
    ] {
        let line = daemon.wait_for(why);
        assert_eq!(line["level"], "ERROR");
        let said = line["message"].as_str().unwrap();
        assert!(said.contains(&format!("--> {}", key(name))), "{said}");
    }
    // A slip of the pen takes no route away.
    etcd.put(&key("good"), "match = '^good@'\n");
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["^good@"]);
}

#[test]
fn the_daemons_own_file_may_allow_more() {
    let etcd = Etcd::new();
    let folder = folder(&etcd, NONE, "table_files = 'certs'\ntable_insecure = true");
    std::fs::create_dir(folder.path("certs")).unwrap();
    let authority = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    folder.write("certs/ca.pem", &authority.cert.pem());
    folder.write("ca.pem", &authority.cert.pem());
    let daemon = Daemon::in_folder(folder);
    etcd.put(&key("a"), "match = 'a'\nhost = 'h:1'\ntls = { ca = 'ca.pem' }\n");
    etcd.put(&key("b"), "match = 'b'\nhost = 'h:1'\ntls = { insecure_skip_verify = true }\n");
    etcd.put(&key("c"), "match = 'c'\nhost = 'h:1'\ntls = { ca = '../ca.pem' }\n");
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["a", "b"]);
    daemon.wait_for("`ca` is \"../ca.pem\", which is outside of");
}

#[test]
fn files_win_and_edits_lie_over_both() {
    let etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, &file(&["^a@"]), ""));
    etcd.put(&key("1"), &route("^a@", "shared:1"));
    etcd.put(&key("2"), &route("^b@", "shared:1"));
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["^a@", "^b@"]);
    let (code, ..) = portolan(&daemon.folder, &["routes", "remove", "^b@", "--admin=admin.sock"]);
    assert_eq!((code, list(&daemon.folder)), (0, vec!["^a@".to_owned()]));
    daemon.hang_up();
    assert_eq!(list(&daemon.folder), ["^a@"], "a removal holds across reloads");
    assert_eq!(daemon.reload(NONE)["changes"], "+0 -0 ~1", "what the file had hidden comes in its place");
    let (_, out, _) = portolan(&daemon.folder, &["routes", "list", "--admin=admin.sock"]);
    assert!(out.contains("shared:1") && out.contains("etcd:fleet, key portolan/routes/1"), "{out}");
    etcd.put(&key("2"), &route("^b@", "other:1"));
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["^a@", "^b@"], "it says something else now");
    daemon.wait_for("an edit at run time has ended");
}

#[test]
fn the_last_good_table_outlives_etcd_and_a_restart() {
    let (mut etcd, node) = (Etcd::new(), Node::named("kept"));
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    etcd.put(&key("db"), &route("^db@", &node.address().to_string()));
    catch_up(&daemon, &etcd);
    etcd.kill();
    daemon.wait_for("the shared table is not followed");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "kept");
    let folder = daemon.folder.clone();
    daemon.stop();

    let daemon = Daemon::in_folder(folder);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "kept", "without etcd");
    etcd.restart();
    daemon.wait_for("the shared table is followed");
    etcd.put(&key("db"), &route("^web@", &node.address().to_string()));
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["^web@"]);
    let folder = daemon.folder.clone();
    daemon.stop();

    // A copy that is damaged is as good as none.
    let copy = folder.path("portolan.state/shared/fleet/journal");
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let daemon = Daemon::in_folder(folder);
    assert_eq!(list(&daemon.folder), ["^web@"]);
    assert!(
        daemon.said(0, "WARN").iter().any(|line| line.contains("is damaged and is not used")),
        "{:?}",
        daemon.said(0, "WARN")
    );
}

#[test]
fn under_another_prefix_the_copy_on_disk_is_made_anew() {
    let mut etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    etcd.put("other/b", &route("^b@", "h:1"));
    etcd.put(&key("a"), &route("^a@", "h:1"));
    catch_up(&daemon, &etcd);
    let config = std::fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    daemon.folder.replace("portolan.toml", &(config + "table = 'other/'\n"));
    assert_eq!(daemon.hang_up()["message"], "reloaded");
    until("the other table is in force", || list(&daemon.folder) == ["^b@"]);
    // What came before a reload is kept before it.
    daemon.hang_up();
    let folder = daemon.folder.clone();
    daemon.stop();
    etcd.kill();
    let daemon = Daemon::in_folder(folder);
    assert_eq!(list(&daemon.folder), ["^b@"], "without etcd");
}

#[test]
fn who_says_that_it_serves_has_its_routes() {
    let etcd = Etcd::new();
    etcd.put(&key("db"), &route("^db@", "h:1"));
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    let serving = daemon.wait_for("serving");
    assert_eq!((&serving["routes"], &serving["generation"]), (&json!(1), &json!(2)));
}

#[test]
fn who_waits_for_its_first_table_ends_when_it_is_told_to() {
    let silent = Node::new(|mut stream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
    let folder = folder_at(&format!("http://{}", silent.address()), NONE, "");
    let mut command = folder.command(&["run", "--config", "portolan.toml"]);
    let mut daemon = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    log.find(|line| line.contains("\"admin API listening\"")).unwrap();
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).unwrap();
    let rest: Vec<_> = log.collect();
    assert!(daemon.0.wait().unwrap().success());
    let has = |message: &str| rest.iter().any(|line| line.contains(message));
    assert!(has("\"ended\"") && !has("\"serving\""), "{rest:?}");
}

#[test]
fn a_member_of_etcd_without_a_leader_is_not_taken_for_one_that_has_nothing_to_tell() {
    let [etcd, mut other] = Etcd::two();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    etcd.put(&key("a"), &route("^a@", "h:1"));
    catch_up(&daemon, &etcd);
    other.kill();
    daemon.wait_for("the shared table is not followed");
    let mark = daemon.mark();
    other.restart();
    daemon.wait_after(mark, "the shared table is followed");
    etcd.put(&key("b"), &route("^b@", "h:1"));
    catch_up(&daemon, &etcd);
    assert_eq!(list(&daemon.folder), ["^a@", "^b@"]);
}

#[test]
fn a_file_is_checked_and_published() {
    let etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    let folder = &daemon.folder;
    folder.write("bad.toml", "[[route]]\nmatch = 'a('\nhost = 'h:1'\n");
    let arguments = ["routes", "push", "bad.toml", "--to", "etcd:fleet", "--config", "portolan.toml"];
    let (code, out, err) = portolan(folder, &arguments);
    assert!(code == 1 && out.is_empty() && err.contains("bad.toml:2:11"), "{code} {out} {err}");
    assert!(etcd.keys(PREFIX).is_empty());

    folder.write("fleet.toml", &file(&["^b@", "^a@"]));
    assert_eq!(
        push(folder, &["fleet.toml", "--dry-run"]),
        "etcd:fleet: 2 routes, +2 -0 ~0, by 3 transactions; nothing was changed\n"
    );
    assert!(etcd.keys(PREFIX).is_empty());
    assert_eq!(push(folder, &["fleet.toml"]), "etcd:fleet: 2 routes, +2 -0 ~0\n");
    catch_up(&daemon, &etcd);
    assert_eq!(list(folder), ["^b@", "^a@"]);
    assert_eq!(push(folder, &["fleet.toml"]), "etcd:fleet: 2 routes, in force already\n");

    folder.write("fleet.toml", &file(&["^b@", "^new@", "^a@"]));
    let before = etcd.revision();
    assert_eq!(push(folder, &["fleet.toml"]), "etcd:fleet: 3 routes, +1 -0 ~0\n");
    assert_eq!(etcd.revision(), before + 1, "one transaction");
    catch_up(&daemon, &etcd);
    assert_eq!(list(folder), ["^b@", "^new@", "^a@"]);
    assert_eq!(push(folder, &["--back"]), "etcd:fleet: 2 routes, +0 -1 ~0\n");
    catch_up(&daemon, &etcd);
    assert_eq!(list(folder), ["^b@", "^a@"]);
}

#[test]
fn a_route_whose_pattern_is_changed_keeps_its_place() {
    let etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    let folder = &daemon.folder;
    for patterns in [["^z@", "^k@"], ["^y@", "^k@"], ["^k@", "^b@"], ["^a@", "^j@"]] {
        folder.write("fleet.toml", &file(&patterns));
        push(folder, &["fleet.toml"]);
        catch_up(&daemon, &etcd);
        assert_eq!(list(folder), patterns);
    }
    assert_eq!(daemon.said(0, "ERROR"), Vec::<String>::new());
}

/// A pusher that does its work step by step, with this library.
struct Pusher {
    runtime: tokio::runtime::Runtime,
    etcd: Asked,
    keys: Keys,
}

impl Pusher {
    fn new(etcd: &Etcd) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let etcd = Asked::new(EtcdConfig { endpoints: vec![etcd.endpoint()], user: None, tls: None });
        Self { runtime, etcd, keys: Keys::new(PREFIX) }
    }

    /// The transactions of a push of so many routes, in their order.
    fn plan(&self, routes: usize, set: &str) -> Vec<Txn> {
        let publisher = Publisher::new(self.etcd.clone(), self.keys.clone(), "me@here".to_owned());
        let published = self.runtime.block_on(publisher.published()).unwrap();
        let text: String =
            (0..routes).map(|n| format!("[[route]]\n{}", route(&format!("^{set}{n}@"), "h:1"))).collect();
        let (path, folder) = ("f.toml", tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join(path), text).unwrap();
        let mut problems = portolan::config::Problems::default();
        let loaded = portolan::config::load_routes(
            &[folder.path().join(path)],
            portolan::config::Context::default(),
            &mut problems,
        )
        .unwrap();
        let routes: Vec<_> = loaded.table.iter().map(|row| portolan::admin::view::RouteSpec::of(row)).collect();
        let stamp = Stamp { set: set.into(), at: "now".into(), by: "me@here".into() };
        match plan(&self.keys, &published, &routes, stamp).unwrap() {
            Plan::Nothing => Vec::new(),
            Plan::Change(_, txn) => vec![txn],
            Plan::Switch { stage, fill, switch, .. } => {
                let begin = Txn { when: Vec::new(), then: vec![Op::Put(stage, String::new())] };
                [vec![begin], fill, vec![switch]].concat()
            }
        }
    }

    fn run(&self, txn: &Txn) -> bool {
        self.runtime.block_on(self.etcd.run(txn, None)).unwrap()
    }
}

#[test]
fn a_push_that_dies_at_any_step_is_not_seen_and_leaves_nothing_behind() {
    let etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    let folder = &daemon.folder;
    folder.write("fleet.toml", &file(&["^a@", "^b@"]));
    push(folder, &["fleet.toml"]);
    catch_up(&daemon, &etcd);
    let good = list(folder);
    let pusher = Pusher::new(&etcd);
    let steps = pusher.plan(250, "x").len();
    assert_eq!(steps, 5, "the stage, three to fill the set, the switch");
    for die_after in 1..steps {
        let set = format!("s{die_after}");
        for txn in pusher.plan(250, &set).iter().take(die_after) {
            assert!(pusher.run(txn));
        }
        // Something that every daemon sees, and behind which it has seen all of that.
        etcd.put(&key("mark"), &route(&format!("^mark{die_after}@"), "h:1"));
        catch_up(&daemon, &etcd);
        assert_eq!(list(folder)[..2], good);
        assert_eq!(list(folder).len(), 3);
        // Its lease ends.
        etcd.delete(&pusher.keys.stage(&set));
    }
    folder.write("fleet.toml", &file(&["^a@", "^c@"]));
    push(folder, &["fleet.toml"]);
    until("the push is in force", || list(folder) == ["^a@", "^c@", "^mark4@"]);
    let sets: std::collections::HashSet<_> =
        etcd.keys(&key(".set/")).iter().map(|key| key.rsplit_once('/').unwrap().0.to_owned()).collect();
    assert_eq!(sets.len(), 1, "{sets:?}");

    // And one that lives.
    for txn in pusher.plan(250, "y") {
        assert!(pusher.run(&txn));
    }
    daemon.wait_until(0, "the shared table has changed", |line| line["routes"] == 251);
    assert_eq!(list(folder).len(), 251);
}

#[test]
fn of_two_that_push_at_once_one_is_told() {
    let etcd = Etcd::new();
    let daemon = Daemon::in_folder(folder(&etcd, NONE, ""));
    let (one, other) = (Pusher::new(&etcd), Pusher::new(&etcd));
    let (first, second) = (one.plan(250, "x"), other.plan(250, "y"));
    // Step by step, side by side.
    let done: Vec<_> = first.iter().zip(&second).map(|(first, second)| (one.run(first), other.run(second))).collect();
    assert_eq!(done.last(), Some(&(true, false)));
    daemon.wait_until(0, "the shared table has changed", |line| line["routes"] == 250);
    assert!(list(&daemon.folder).iter().all(|pattern| pattern.starts_with("^x")));
    let unchanged = Txn { when: vec![Compare::There(other.keys.head())], then: Vec::new() };
    assert!(other.run(&unchanged));
}
