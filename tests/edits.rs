//! Edits at run time: the commands, what they change, and what becomes of them when the files change.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder, text};
use crate::support::node::Node;

const ADMIN: &str = "--admin=admin.sock";

/// `portolan ARGS --admin admin.sock`, its exit code, stdout and stderr.
fn portolan(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = folder.run(&[args, &[ADMIN]].concat());
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

/// A command that succeeds, and what it wrote.
fn done(folder: &Folder, args: &[&str]) -> String {
    let (code, out, err) = portolan(folder, args);
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    out
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn patterns(text: &str) -> Vec<String> {
    json_lines(text).iter().map(|route| route["match"].as_str().unwrap().to_owned()).collect()
}

fn list(folder: &Folder) -> Vec<String> {
    patterns(&done(folder, &["routes", "list", "--json"]))
}

fn removed(folder: &Folder) -> Vec<String> {
    patterns(&done(folder, &["routes", "list", "--json", "--removed"]))
}

#[test]
fn a_route_is_added_used_listed_and_removed() {
    let (of_file, new) = (Node::named("file"), Node::named("new"));
    let daemon = Daemon::start(&of_file.route("^db@", ""));
    let folder = &daemon.folder;
    let host = new.address().to_string();
    let added = done(folder, &["routes", "add", "^new@", "--host", &host, "--weight", "-7", "--name", "n", "--json"]);
    let added: Value = serde_json::from_str(&added).unwrap();
    assert_eq!((&added["match"], &added["weight"], &added["host"]), (&json!("^new@"), &json!(-7), &json!([host])));
    assert!(added["origin"]["edit"].as_str().unwrap().ends_with('Z'), "{added}");
    assert_eq!(line(&mut connect(&daemon.socket(), "new@x")), "new");

    assert_eq!(list(folder), ["^db@", "^new@"]);
    let table = done(folder, &["routes", "list"]);
    assert!(table.contains("routes.toml:") && table.contains("edit of 20") && table.contains(&host), "{table}");
    let offline = text(&folder.run(&["lookup", "--config", "portolan.toml", "new@x", "--json"]).stdout);
    assert_eq!(json_lines(&offline)[0]["routes"][0], added, "the commands see it without the daemon, too");

    let mut live = connect(&daemon.socket(), "new@x");
    assert_eq!(line(&mut live), "new");
    assert!(done(folder, &["routes", "remove", "^new@"]).starts_with("removed ^new@: generation 3, 1 route\n"));
    assert_eq!(upgrade(&daemon.socket(), "new@x").1.status, 404);
    assert_eq!(list(folder), ["^db@"]);
    assert!(removed(folder).is_empty(), "what was never in a file leaves nothing");
    std::io::Write::write_all(&mut live, b"still there\n").unwrap();
    assert_eq!(line(&mut live), "still there", "a live relay is left alone");
}

#[test]
fn what_is_taken_unknown_or_wrong_changes_nothing() {
    let daemon = Daemon::start("[[route]]\nmatch = '^db@'\nhost = '127.0.0.1:1'\n");
    let folder = &daemon.folder;
    let (code, out, err) = portolan(folder, &["routes", "add", "^db@", "--host", "127.0.0.1:2"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("the pattern is taken by the route at routes.toml:2"), "{err}");
    let (code, _, err) = portolan(folder, &["routes", "remove", "^db"]);
    assert_eq!(code, 3);
    assert!(err.contains("no route of the table has this pattern"), "{err}");
    let (code, _, err) =
        portolan(folder, &["routes", "add", "a(b", "--host", "127.0.0.1", "--connect-timeout", "soon"]);
    assert_eq!(code, 1);
    assert!(err.contains("missing closing )") && err.contains('^') && err.contains("no port"), "{err}");
    assert!(err.contains("`connect_timeout` is \"soon\", which is no duration"), "all at once: {err}");
    let (code, _, err) = portolan(folder, &["routes", "add", "^x@", "--host", "h:1", "--ca", "none.pem"]);
    assert_eq!(code, 1);
    assert!(err.contains("none.pem` "), "{err}");
    assert_eq!(list(folder), ["^db@"]);
    let (code, _, err) = portolan(folder, &["routes", "list", "--admin", "nowhere.sock"]);
    assert_eq!(code, 2, "{err}");
    let nobody = folder.run(&["routes", "list", "--admin", "nowhere.sock"]);
    assert_eq!(nobody.status.code(), Some(5));
    assert!(text(&nobody.stderr).contains("nowhere.sock: there is no such socket"));
}

#[test]
fn an_edit_that_is_odd_is_warned_of_when_it_is_made_and_at_a_strict_reload() {
    let daemon = Daemon::start("[[route]]\nmatch = '^db@'\nhost = '127.0.0.1:1'\n");
    let folder = &daemon.folder;
    let odd = "`web@x.y`: the pattern matches more than it seems to, for example `xweb@xXy.evil`";
    let (code, out, err) = portolan(folder, &["routes", "add", "web@x.y", "--host", "127.0.0.1:2"]);
    assert_eq!((code, out.contains("web@x.y")), (0, true));
    assert!(err.contains(odd), "{err}");
    done(folder, &["reload"]);
    let (code, _, err) = portolan(folder, &["reload", "--strict"]);
    assert_eq!(code, 1);
    assert!(err.contains(odd) && err.ends_with("error: 1 warning, and none was to be let pass\n"), "{err}");
}

#[test]
fn a_removed_route_of_a_file_stays_removed_until_its_entry_is_changed() {
    let node = Node::named("db");
    let routes = |more: &str| node.route("^db@", more) + &node.route("^other@", "");
    let folder = Folder::new(&routes(""), "");
    {
        let daemon = Daemon::in_folder(folder.clone());
        done(&folder, &["routes", "remove", "^db@"]);
        assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 404);
        assert_eq!(daemon.hang_up()["changes"], "+0 -0 ~0", "a reload leaves it removed");
        assert_eq!((list(&folder), removed(&folder)), (vec!["^other@".to_owned()], vec!["^db@".to_owned()]));
        let shown = done(&folder, &["routes", "list"]);
        assert!(shown.ends_with("1 route of files removed at run time; --removed lists them\n"), "{shown}");
        assert!(daemon.stop().0.success());
    }
    let daemon = Daemon::in_folder(folder.clone());
    assert_eq!(upgrade(&daemon.socket(), "db@x").1.status, 404, "so does a restart");
    let offline = folder.run(&["lookup", "--config", "portolan.toml", "db@x", "--json"]);
    let offline = json_lines(&text(&offline.stdout));
    assert_eq!((&offline[0]["routes"], &offline[0]["removed"][0]["match"]), (&json!([]), &json!("^db@")));

    let mark = daemon.mark();
    assert_eq!(daemon.reload(&routes("weight = 7"))["changes"], "+1 -0 ~0");
    daemon.wait_after(mark, "an edit at run time has ended");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    assert!(removed(&folder).is_empty());
    assert_eq!(daemon.reload(&routes(""))["changes"], "+0 -0 ~1", "the removal has ended for good");
}

#[test]
fn a_file_that_gains_the_pattern_of_an_edit_replaces_it() {
    let (edited, of_file) = (Node::named("edited"), Node::named("of the file"));
    let daemon = Daemon::start(&of_file.route("^other@", ""));
    let host = edited.address().to_string();
    done(&daemon.folder, &["routes", "add", "^db@", "--host", &host]);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "edited");
    let mark = daemon.mark();
    assert_eq!(daemon.reload(&of_file.route("^db@", ""))["changes"], "+0 -1 ~1");
    let ended = daemon.wait_after(mark, "an edit at run time has ended");
    assert!(ended["what"].as_str().unwrap().ends_with("is replaced by routes.toml:2"), "{ended}");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "of the file");
    assert_eq!(daemon.reload("allow_empty = true")["routes"], 0, "the edit has ended for good");
}

#[test]
fn a_reload_is_waited_for_and_says_what_is_wrong() {
    let daemon = Daemon::start("[[route]]\nmatch = '^db@'\nhost = '127.0.0.1:1'\n");
    let folder = &daemon.folder;
    // A pipe is no file that a watch would reload by itself before the command does.
    assert_eq!(done(folder, &["reload"]), "generation 2: 1 route, +0 -0 ~0\n");
    folder.replace("routes.toml", "[[route]]\nmatch = '^db@'\nhost = '127.0.0.1'\nwieght = 3\n");
    let (code, out, err) = portolan(folder, &["reload"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(" --> routes.toml:4:1\n") && err.contains("did you mean `weight`?"), "{err}");
    assert!(err.contains(" --> routes.toml:3:8\n") && err.contains('^'), "{err}");

    for (route, odd) in [
        ("match = '^db@'\nhost = 'h:1'\ntls = { insecure_skip_verify = true }", "does not verify who answers"),
        ("match = 'db@x'\nhost = 'h:1'", "matches more than it seems to"),
    ] {
        folder.replace("routes.toml", &format!("[[route]]\n{route}\n"));
        let (code, _, err) = portolan(folder, &["reload", "--strict"]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(odd), "{err}");
        let (code, out, err) = portolan(folder, &["reload"]);
        assert_eq!(code, 0, "{out}{err}");
        let (code, _, err) = portolan(folder, &["reload", "--strict"]);
        assert_eq!(code, 1, "it is in force, and as odd as before");
        assert!(err.contains(odd), "{err}");
    }
}

#[test]
fn edits_that_cannot_be_kept_are_not_made_and_the_log_says_so() {
    let folder = Folder::new("[[route]]\nmatch = '^db@'\nhost = '127.0.0.1:1'\n", "");
    let state = |name: &str| format!("state = '{name}'\n[socket]\npath = 'portolan.sock'\n");
    folder.write("portolan.toml", &state("first"));
    let daemon = Daemon::in_folder(folder.clone());
    folder.write("first", "not a folder");
    let (code, _, err) = portolan(&folder, &["routes", "remove", "^db@"]);
    assert_eq!(code, 3);
    assert!(err.starts_with("error: the edit cannot be kept: `first/journal` cannot be written: "), "{err}");
    assert_eq!(list(&folder), ["^db@"]);
    daemon.wait_for("an edit cannot be kept, and is not made");

    let mark = daemon.mark();
    folder.replace("portolan.toml", &state("second"));
    daemon.wait_after(mark, "`state` has changed: that needs a restart");
}

#[test]
fn a_diff_says_what_a_reload_would_change_and_which_relays_lose_their_route() {
    let node = Node::named("db");
    let routes = node.route("^stays@", "") + &node.route("^goes@", "") + &node.route("^changes@", "");
    let daemon = Daemon::start(&routes);
    let folder = &daemon.folder;
    done(folder, &["routes", "add", "^edit@", "--host", &node.address().to_string()]);
    done(folder, &["routes", "remove", "^changes@"]);
    let mut relay = connect(&daemon.socket(), "goes@x");
    assert_eq!(line(&mut relay), "db");
    assert_eq!(done(folder, &["diff"]), "+0 -0 ~0\n", "edits are no difference");

    let new = node.route("^stays@", "weight = 1") + &node.route("^changes@", "") + &node.route("^new@|^goes", "");
    folder.write("new.toml", &new);
    let diff = json_lines(&done(folder, &["diff", "new.toml", "--json"])).remove(0);
    let of = |part: &str| -> Vec<Value> { diff[part].as_array().unwrap().iter().map(|r| r["match"].clone()).collect() };
    assert_eq!((of("added"), of("removed")), (vec![json!("^new@|^goes")], vec![json!("^goes@")]));
    let changed = &diff["changed"][0];
    assert_eq!((&changed["before"]["weight"], &changed["after"]["weight"]), (&json!(100), &json!(1)));
    let relays = diff["relays"].as_array().unwrap();
    assert_eq!(relays.len(), 1);
    assert_eq!((&relays[0]["node"], &relays[0]["match"]), (&json!("goes@x"), &json!("^goes@")));
    assert_eq!(relays[0]["then"], "^new@|^goes");
    let human = done(folder, &["diff", "new.toml"]);
    assert!(human.ends_with("+1 -1 ~1\n") && human.contains("goes@x at "), "{human}");
    assert_eq!(daemon.hang_up()["changes"], "+0 -0 ~0", "nothing was changed by looking");

    folder.write("bad.toml", "[[route]]\nmatch = '('\nhost = 'h:1'\n");
    let (code, _, err) = portolan(folder, &["diff", "bad.toml"]);
    assert_eq!(code, 1);
    assert!(err.contains("--> bad.toml:2:"), "{err}");
}

#[test]
fn a_diff_reads_a_file_in_the_place_of_the_daemon_s() {
    let tls = |port: u16| format!("[[route]]\nmatch = '^db@'\nhost = 'h:{port}'\ntls = {{ ca = 'ca.pem' }}\n");
    let authority = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap();
    let folder = Folder::new(&tls(1), "");
    folder.write("ca.pem", &authority.cert.pem());
    let _daemon = Daemon::in_folder(folder.clone());
    std::fs::create_dir(folder.path("new")).unwrap();
    folder.write("new/routes.toml", &tls(1));
    assert_eq!(done(&folder, &["diff", "new/routes.toml"]), "+0 -0 ~0\n", "its paths are those of the daemon's folder");
    folder.write("new/routes.toml", &tls(2));
    assert!(done(&folder, &["diff", "new/routes.toml", "--replaces", "routes.toml"]).ends_with("+0 -0 ~1\n"));
    let (code, _, err) = portolan(&folder, &["diff", "new/routes.toml", "--replaces", "none.toml"]);
    assert_eq!(code, 1);
    assert!(err.contains("the daemon has no routes file none.toml; try --replaces /"), "{err}");
}

#[test]
fn a_file_of_an_edit_that_is_bad_now_is_told() {
    let daemon = Daemon::start("[[route]]\nmatch = '^db@'\nhost = '127.0.0.1:1'\n");
    let authority = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap();
    daemon.folder.write("ca.pem", &authority.cert.pem());
    done(&daemon.folder, &["routes", "add", "^new@", "--host", "h:1", "--ca", "ca.pem"]);
    let mark = daemon.mark();
    daemon.folder.replace("ca.pem", "nothing");
    daemon.wait_after(mark, "ca.pem` is not PEM");
    daemon.wait_after(mark, "what was read from it before stays in force");
    assert_eq!(list(&daemon.folder), ["^db@", "^new@"]);
}
