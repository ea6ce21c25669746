//! How a change of a file is noticed, whatever makes it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, Folder, PORTOLAN, can_unshare, utf8};
use crate::support::node::Node;

const DEBUG: &str = "[log]\nlevel = \"debug\"\n";

fn sh(folder: &Folder, script: &str) {
    let status = Command::new("sh").args(["-euc", script]).current_dir(folder.path("")).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Waits for the reload that brings this many routes.
fn until_there_are(daemon: &Daemon, mark: usize, routes: usize) {
    let reloaded = daemon.wait_until(mark, "reloaded", |line| line["routes"] == routes);
    assert_eq!(reloaded["cause"], "a file has changed");
}

/// The poll would notice everything in the end; the events must have noticed something too. (Not all of it: on a machine
/// that is slow enough the poll may come first.)
fn assert_by_events(daemon: &Daemon) {
    assert!(daemon.lines().iter().any(|line| line["message"] == "a file has changed"));
}

/// So many routes.
fn table(routes: usize) -> String {
    (0..routes).map(|n| format!("[[route]]\nmatch = '^{n}$'\nhost = '127.0.0.1:1'\n")).collect()
}

#[test]
fn a_file_may_be_changed_in_any_way() {
    let daemon = Daemon::start_with(&table(1), DEBUG);
    let ways = [
        ("written in place", "cat new.toml > routes.toml"),
        ("renamed over, as editors do", "mv new.toml routes.toml"),
        ("copied over", "cp new.toml routes.toml"),
        ("put away and made anew", "mv routes.toml routes.toml~; cp new.toml routes.toml"),
        ("removed and made anew", "rm routes.toml; cp new.toml routes.toml"),
        ("replaced by a link", "mv new.toml one.toml; ln -sf one.toml routes.toml"),
        ("written behind the link", "cat new.toml > one.toml"),
        ("renamed over behind the link", "mv new.toml one.toml"),
        ("the link swapped", "mv new.toml two.toml; ln -sfn two.toml routes.toml"),
        ("the link removed and made anew", "mv new.toml three.toml; rm routes.toml; ln -s three.toml routes.toml"),
        ("the link replaced by a file", "mv new.toml routes.toml"),
    ];
    for ((way, script), routes) in ways.into_iter().zip(2..) {
        let mark = daemon.mark();
        eprintln!("{way}");
        daemon.folder.write("new.toml", &table(routes));
        sh(&daemon.folder, script);
        until_there_are(&daemon, mark, routes);
    }
    assert_by_events(&daemon);
}

#[test]
fn a_config_map_is_swapped_by_a_link_in_the_middle() {
    let folder = Folder::new("", DEBUG);
    let version = |number: usize| {
        fs::create_dir(folder.path(&format!("..v{number}"))).unwrap();
        folder.write(&format!("..v{number}/routes.toml"), &table(number));
    };
    version(1);
    sh(&folder, "ln -s ..v1 ..data; rm routes.toml; ln -s ..data/routes.toml routes.toml");
    let daemon = Daemon::in_folder(folder);
    for number in 2..5 {
        let mark = daemon.mark();
        fs::create_dir(daemon.folder.path(&format!("..v{number}"))).unwrap();
        daemon.folder.write(&format!("..v{number}/routes.toml"), &table(number));
        // As the kubelet does it, who then removes what was there before.
        sh(&daemon.folder, &format!("ln -s ..v{number} ..tmp; mv -T ..tmp ..data; rm -r ..v{}", number - 1));
        until_there_are(&daemon, mark, number);
    }
    assert_by_events(&daemon);
}

#[test]
fn a_link_far_away_on_the_way_to_the_file_is_followed() {
    let folder = Folder::new("", DEBUG);
    sh(&folder, "mkdir -p releases/v1 releases/v2; ln -s v1 releases/current");
    folder.write("releases/v1/routes.toml", &table(1));
    folder.write("releases/v2/routes.toml", &table(2));
    sh(&folder, "ln -sf releases/current/routes.toml routes.toml");
    let daemon = Daemon::in_folder(folder);
    let mark = daemon.mark();
    sh(&daemon.folder, "ln -sfn v2 releases/current");
    until_there_are(&daemon, mark, 2);
    daemon.folder.write("new.toml", &table(3));
    sh(&daemon.folder, "mv new.toml releases/v2/routes.toml");
    until_there_are(&daemon, mark, 3);
    assert_by_events(&daemon);
}

#[test]
fn a_folder_may_go_and_come_back() {
    let folder = Folder::new("", "");
    folder.write("portolan.toml", &format!("routes = 'sub/routes.toml'\n{DEBUG}[socket]\npath = 'portolan.sock'\n"));
    let write = |folder: &Folder, routes| {
        fs::create_dir_all(folder.path("sub")).unwrap();
        folder.write("sub/routes.toml", &table(routes));
    };
    write(&folder, 1);
    let daemon = Daemon::in_folder(folder);
    for (way, routes) in [("rm -r sub", 2), ("mv sub away", 4), ("rm -r sub", 6)] {
        let mark = daemon.mark();
        sh(&daemon.folder, way);
        let refused = daemon.wait_after(mark, "reload refused");
        assert_eq!(refused["why"], "sub/routes.toml: the file cannot be read: no such file or directory");
        write(&daemon.folder, routes);
        until_there_are(&daemon, mark, routes);
        // The new folder is watched as the old one was.
        daemon.folder.write("sub/routes.toml", &table(routes + 1));
        until_there_are(&daemon, mark, routes + 1);
    }
    assert_by_events(&daemon);
}

/// A daemon that notices changes of a file in another's folder: what it has noticed twice, the other has had its time
/// to notice once.
struct Witness(Daemon);

impl Witness {
    fn of(path: &Path) -> Self {
        let folder = Folder::new("", "");
        folder.write("portolan.toml", &format!("routes = '{}'\n[socket]\npath = 'portolan.sock'\n", utf8(path)));
        Self(Daemon::in_folder(folder))
    }

    fn sees_twice(&self, change: impl Fn()) {
        for _ in 0..2 {
            let mark = self.0.mark();
            change();
            self.0.wait_after(mark, "reloaded");
        }
    }
}

fn reloads(daemon: &Daemon) -> usize {
    let is_reload = |line: &&Value| line["message"].as_str().is_some_and(|text| text.starts_with("reload"));
    daemon.lines().iter().filter(is_reload).count()
}

#[test]
fn other_files_of_the_folder_are_nobodys_business() {
    let daemon = Daemon::start(&table(1));
    daemon.folder.write("notes.toml", &table(1));
    let witness = Witness::of(&daemon.folder.path("notes.toml"));
    witness.sees_twice(|| daemon.folder.replace("notes.toml", &table(2)));
    witness.sees_twice(|| daemon.folder.write("notes.toml", &table(3)));
    assert_eq!(reloads(&daemon), 0);
    daemon.folder.replace("routes.toml", &table(2));
    assert_eq!(daemon.wait_for("reload")["generation"], 2);
}

#[test]
fn a_file_that_is_being_written_is_not_read() {
    let folder = Folder::new(&table(1), "");
    folder.write("portolan.toml", "routes = ['routes.toml', 'more.toml']\n[socket]\npath = 'portolan.sock'\n");
    let more = "[[route]]\nmatch = 'more'\nhost = 'h:1'\n";
    folder.write("more.toml", more);
    let daemon = Daemon::in_folder(folder);
    let witness = Witness::of(&daemon.folder.path("more.toml"));

    let text = table(8);
    let (first, second) = text.split_at(table(4).len());
    let mut file = File::create(daemon.folder.path("routes.toml")).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    // Another file changes and would have both read; the half is a good table, too.
    witness.sees_twice(|| daemon.folder.replace("more.toml", more));
    assert_eq!(reloads(&daemon), 0);
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    let reloaded = daemon.wait_for("reload");
    assert_eq!((&reloaded["generation"], &reloaded["changes"]), (&2.into(), &"+7 -0 ~0".into()));
}

#[test]
fn a_file_without_routes_is_a_problem_and_no_empty_table() {
    let daemon = Daemon::start(&table(1));
    for empty in ["", "# nothing\n", "allow_empty = false\n"] {
        let mark = daemon.mark();
        daemon.folder.replace("routes.toml", empty);
        let refused = daemon.wait_after(mark, "reload");
        assert_eq!(
            (&refused["generation"], &refused["why"]),
            (&1.into(), &"routes.toml: the file has no [[route]]".into())
        );
        assert!(daemon.said(mark, "ERROR")[0].ends_with("help: write one, or `allow_empty = true` if that is meant"));
    }
}

#[test]
fn a_file_that_is_named_first_and_made_then_is_noticed() {
    let daemon = Daemon::start_with(&table(1), DEBUG);
    let mark = daemon.mark();
    let named = format!("routes = ['routes.toml', 'more/more.toml']\n{DEBUG}[socket]\npath = 'portolan.sock'\n");
    daemon.folder.replace("portolan.toml", &named);
    let refused = daemon.wait_after(mark, "reload");
    assert_eq!(refused["why"], "more/more.toml: the file cannot be read: no such file or directory");
    fs::create_dir(daemon.folder.path("more")).unwrap();
    daemon.folder.write("more/more.toml", "[[route]]\nmatch = 'more'\nhost = 'h:1'\n");
    until_there_are(&daemon, mark, 2);
    assert_by_events(&daemon);
}

#[test]
fn a_file_may_come_and_go_under_a_pattern_of_names() {
    let folder = Folder::new("", "");
    let named = format!("routes = ['first.toml', 'routes.d/*.toml']\n{DEBUG}[socket]\npath = 'portolan.sock'\n");
    folder.write("portolan.toml", &named);
    folder.write("first.toml", &table(1));
    folder.write("new.toml", "[[route]]\nmatch = 'more'\nhost = 'h:1'\n");
    let daemon = Daemon::in_folder(folder);
    let warning = &daemon.said(0, "WARN")[0];
    assert!(warning.starts_with("warning: `routes.d/*.toml` matches no file\n --> portolan.toml:1:25\n"), "{warning}");
    let ways = [
        ("the folder is made", "mkdir routes.d; cp new.toml routes.d/a.toml", 2),
        ("copied", "sed s/more/most/ new.toml > routes.d/b.toml", 3),
        ("renamed into the folder", "sed s/more/x/ new.toml > x; mv x routes.d/x.toml", 4),
        ("a link", "sed s/more/y/ new.toml > y; ln -s ../y routes.d/y.toml", 5),
        ("hidden", "mv routes.d/x.toml routes.d/.x.toml", 4),
        ("removed", "rm routes.d/b.toml", 3),
        ("written behind the link", "sed s/more/z/ new.toml >> y", 4),
        ("the folder is another", "mkdir other; mv routes.d/a.toml other; mv routes.d away; mv other routes.d", 2),
        ("copied into the other", "cp away/.x.toml routes.d/x.toml", 3),
    ];
    for (way, script, routes) in ways {
        let mark = daemon.mark();
        eprintln!("{way}");
        sh(&daemon.folder, script);
        until_there_are(&daemon, mark, routes);
    }
    assert_by_events(&daemon);
}

#[test]
fn when_no_file_is_left_the_table_stays() {
    let folder = Folder::new("", "");
    fs::create_dir(folder.path("routes.d")).unwrap();
    folder.write("portolan.toml", "routes = 'routes.d/*.toml'\n[socket]\npath = 'portolan.sock'\n");
    folder.write("routes.d/a.toml", &table(1));
    let daemon = Daemon::in_folder(folder);
    sh(&daemon.folder, "rm routes.d/a.toml");
    let refused = daemon.wait_for("reload refused");
    assert_eq!(refused["why"], "portolan.toml: there is no routes file");
    daemon.folder.write("routes.d/b.toml", &table(2));
    until_there_are(&daemon, 0, 2);
}

#[test]
fn what_cannot_be_read_is_said_and_the_table_stays() {
    let node = Node::named("db");
    let routes = node.route("^db@", "");
    let daemon = Daemon::start(&routes);
    for (script, why) in [
        ("rm routes.toml", "routes.toml: the file cannot be read: no such file or directory"),
        ("rm routes.toml; mkdir routes.toml", "routes.toml: the file cannot be read: is a directory"),
        ("mkfifo pipe; mv pipe routes.toml", "routes.toml: this is not a regular file"),
        ("ln -sf /dev/zero routes.toml", "routes.toml: this is not a regular file"),
        ("ln -sf portolan.sock routes.toml", "routes.toml: the file cannot be read: no such device or address"),
        (
            "ln -s b a; ln -s a b; ln -sf a routes.toml",
            "routes.toml: the file cannot be read: too many levels of symbolic links",
        ),
        (r"printf '[[route]]\nmatch = \377' > routes.toml", "routes.toml:2:9: the file is not UTF-8"),
        ("truncate -s 300M routes.toml", "routes.toml: the file has more than 256 MiB"),
    ] {
        let mark = daemon.mark();
        sh(&daemon.folder, script);
        daemon.wait_until(mark, "reload refused", |line| line["why"] == why);
        assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db", "{script}");
        sh(&daemon.folder, "rm -rf routes.toml");
        daemon.folder.write("routes.toml", &routes);
        daemon.wait_after(mark, "reloaded");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_said_and_the_table_stays() {
    if !can_unshare() {
        return;
    }
    // Without any right over files, also where the tests run as root.
    let folder = Folder::new(&table(1), "");
    let mut command = folder.command(&[]);
    let inner = std::mem::replace(&mut command, Command::new("unshare"));
    command.current_dir(inner.get_current_dir().unwrap());
    command.args(["--user", PORTOLAN, "run", "--config", "portolan.toml"]);
    let daemon = Daemon::spawn(folder, command);
    let mark = daemon.mark();
    daemon.folder.write("new.toml", &table(2));
    fs::set_permissions(daemon.folder.path("new.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::rename(daemon.folder.path("new.toml"), daemon.folder.path("routes.toml")).unwrap();
    let refused = daemon.wait_after(mark, "reload");
    assert_eq!(refused["why"], "routes.toml: the file cannot be read: permission denied");
    assert_eq!(
        daemon.said(mark, "ERROR")[0],
        "error: the file cannot be read: permission denied\n--> routes.toml\n = help: check the path and who may read it"
    );
}

#[test]
fn what_cannot_be_watched_is_polled() {
    if !can_unshare() {
        return;
    }
    let folder = Folder::new(&table(1), DEBUG);
    let mut command = Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_inotify_watches; exec \"$0\" run --config portolan.toml";
    command.args(["--user", "--map-root-user", "sh", "-euc", script, PORTOLAN]).current_dir(folder.path(""));
    let daemon = Daemon::spawn(folder, command);
    let said = daemon.wait_for("cannot be watched; changes there are noticed by polling");
    assert_eq!(said["folder"], utf8(&fs::canonicalize(daemon.folder.path("")).unwrap()));
    daemon.folder.replace("routes.toml", &table(2));
    until_there_are(&daemon, 0, 2);
    daemon.wait_for("a file has changed, seen by polling");
}

#[test]
fn the_same_content_is_no_change_of_the_table() {
    let node = Node::named("db");
    let routes = node.route("db", "");
    let daemon = Daemon::start(&routes);
    let mut stream = connect(&daemon.socket(), "db@x");
    daemon.folder.write("routes.toml", &routes);
    assert_eq!(daemon.wait_for("reload")["changes"], "+0 -0 ~0");
    assert_eq!(line(&mut stream), "db");
}

#[test]
fn a_link_in_the_place_of_the_configuration_is_followed_too() {
    let folder = Folder::new(&table(1), DEBUG);
    sh(&folder, "mkdir v1 v2; mv portolan.toml routes.toml v1; ln -s v1 current; ln -s current/portolan.toml .");
    folder.write("v2/routes.toml", &table(2));
    fs::copy(folder.path("v1/portolan.toml"), folder.path("v2/portolan.toml")).unwrap();
    let command = folder.command(&["run", "--config", "current/portolan.toml"]);
    let daemon = Daemon::spawn(folder, command);
    symlink("v2", daemon.folder.path("next")).unwrap();
    fs::rename(daemon.folder.path("next"), daemon.folder.path("current")).unwrap();
    until_there_are(&daemon, 0, 2);
    assert_by_events(&daemon);
}
