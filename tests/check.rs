//! `portolan check`: what the daemon would say, without a daemon.

use serde_json::{Value, json};

use crate::support::certs::Authority;
use crate::support::daemon::{Folder, PORTOLAN, text};

const GOOD: &str = "[[route]]\nmatch = '^db@'\nhost = '10.0.1.50:4370'\n";
const BAD: &str = "[[route]]\nmatch = 'a(b'\nhost = 'h:1'\nwieght = 1\n";

/// Exit code, stdout and stderr of `portolan check ARGS`.
fn check(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    let output = folder.run(&[&["check"], args].concat());
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn ok(out: &str) -> (i32, String, String) {
    (0, out.to_owned(), String::new())
}

#[test]
fn a_configuration_brings_its_routes() {
    let folder = Folder::new(GOOD, "");
    let expected = ok("portolan.toml: ok\nroutes.toml: 1 route: ok\n");
    assert_eq!(check(&folder, &["portolan.toml"]), expected);
    assert_eq!(check(&folder, &["--config", "portolan.toml"]), expected);
}

#[test]
fn the_configuration_is_found_where_the_daemon_finds_it() {
    let folder = Folder::new(GOOD, "");
    let (code, out, err) = check(&folder, &[]);
    // /etc/portolan/portolan.toml, if this machine has one, would be another test.
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "error: no configuration: neither --config nor $PORTOLAN_CONFIG is given, and there is no \
         /etc/portolan/portolan.toml and no ./config/portolan.toml; name one of them\n"
    );

    let output = folder.command(&["check"]).env("PORTOLAN_CONFIG", "portolan.toml").output().unwrap();
    assert_eq!(text(&output.stdout), "portolan.toml: ok\nroutes.toml: 1 route: ok\n");

    std::fs::create_dir(folder.path("config")).unwrap();
    folder.write("config/portolan.toml", "");
    folder.write("config/routes.toml", &(GOOD.to_owned() + "[[route]]\nmatch = 'b'\nhost = 'h:1'\ndisabled = true\n"));
    let found = "./config/portolan.toml: ok\n./config/routes.toml: 1 route, 1 disabled: ok\n";
    assert_eq!(check(&folder, &[]), ok(found));
}

#[test]
fn problems_are_exit_1_with_their_text() {
    let folder = Folder::new(BAD, "");
    let (code, out, err) = check(&folder, &["routes.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "\
error: `match` is not a pattern: missing closing ): `a(b`
 --> routes.toml:2:11
  |
2 | match = 'a(b'
  |           ^
  |
  = help: a literal character such as ( or [ is written with a backslash: \\(

error: unknown key `wieght` in [[route]]
 --> routes.toml:4:1
  |
4 | wieght = 1
  | ^^^^^^
  |
  = help: did you mean `weight`?

2 errors
"
    );
    assert_eq!(check(&folder, &["none.toml"]).0, 1);
    assert_eq!(check(&folder, &["--no-such-flag"]).0, 2, "usage");
}

#[test]
fn json_is_one_object_a_line() {
    let folder = Folder::new(BAD, "");
    let (code, out, err) = check(&folder, &["--json", "routes.toml", "none.toml"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let mut problems: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(problems.len(), 3, "{out}");
    for problem in &mut problems {
        let rendered = problem.as_object_mut().unwrap().remove("rendered").unwrap();
        let head = format!("error: {}\n", problem["message"].as_str().unwrap());
        assert!(rendered.as_str().unwrap().starts_with(&head), "{rendered}");
    }
    let unknown = json!({"severity": "error", "file": "routes.toml", "line": 4, "column": 1,
        "message": "unknown key `wieght` in [[route]]", "help": "did you mean `weight`?"});
    let missing = json!({"severity": "error", "file": "none.toml", "line": null, "column": null,
        "message": "the file cannot be read: no such file or directory",
        "help": "check the path and who may read it"});
    assert!(problems.contains(&unknown) && problems.contains(&missing), "{out}");
    folder.write("routes.toml", GOOD);
    assert_eq!(check(&folder, &["--json", "routes.toml"]), ok(""));
}

#[test]
fn a_file_is_what_it_seems_unless_it_is_said() {
    let folder = Folder::new(GOOD, "");
    folder.write("limits.toml", "[limits]\nrelays = 5\n");
    assert_eq!(check(&folder, &["limits.toml"]), ok("limits.toml: ok\nroutes.toml: 1 route: ok\n"));
    let (code, _, err) = check(&folder, &["--kind", "routes", "limits.toml"]);
    assert!(code == 1 && err.contains("limits.toml:1:2"), "{err}");
    let (code, _, err) = check(&folder, &["--kind", "daemon", "routes.toml"]);
    assert!(code == 1 && err.contains("routes.toml:1:3"), "{err}");
}

#[test]
fn several_routes_files_are_one_table() {
    let folder = Folder::new(GOOD, "");
    folder.write("more.toml", GOOD);
    let (code, _, err) = check(&folder, &["routes.toml", "more.toml"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: the pattern `^db@` is taken\n --> more.toml:2:9\n"), "{err}");
    assert!(err.contains(" ::: routes.toml:2:9\n"), "{err}");
    folder.write("more.toml", &GOOD.replace("db", "b"));
    let both = ok("routes.toml: 1 route: ok\nmore.toml: 1 route: ok\n");
    assert_eq!(check(&folder, &["routes.toml", "more.toml"]), both);
}

#[test]
fn files_that_are_found_by_name_are_one_table() {
    let folder = Folder::new(GOOD, "");
    folder.write("daemon", "routes = ['routes.toml', 'routes.d/*.toml', './r*.toml']\n");
    std::fs::create_dir(folder.path("routes.d")).unwrap();
    folder.write("routes.d/9.toml", &GOOD.replace("db", "nine"));
    folder.write("routes.d/10.toml", &GOOD.replace("db", "ten"));
    folder.write("routes.d/.hidden.toml", BAD);
    folder.write("routes.d/9.toml~", BAD);
    let found = "daemon: ok\nroutes.toml: 1 route: ok\nroutes.d/10.toml: 1 route: ok\nroutes.d/9.toml: 1 route: ok\n";
    assert_eq!(check(&folder, &["daemon"]), ok(found));
    let lookup = folder.run(&["lookup", "--config", "daemon", "nine@x"]);
    assert!(text(&lookup.stdout).contains("routes.d/9.toml:2"), "{}", text(&lookup.stdout));

    folder.write("routes.d/8.toml", &format!("\n{GOOD}"));
    folder.write("routes.d/9.toml", &GOOD.replace("db", "ten"));
    let (code, out, err) = check(&folder, &["daemon"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let expected = "\
error: the pattern `^db@` is taken
 --> routes.d/8.toml:3:9
  |
3 | match = '^db@'
  |         ^^^^^^ written again here
  |
 ::: routes.toml:2:9
  |
2 | match = '^db@'
  |         ------ first written here
  |
  = help: remove one of the two, or write their hosts as one array

error: the pattern `^ten@` is taken
 --> routes.d/9.toml:2:9
  |
2 | match = '^ten@'
  |         ^^^^^^^ written again here
  |
 ::: routes.d/10.toml:2:9
  |
2 | match = '^ten@'
  |         ------- first written here
  |
  = help: remove one of the two, or write their hosts as one array

2 errors
";
    assert_eq!(err, expected);
}

#[test]
fn a_file_of_100_000_routes() {
    let route = |n| format!("[[route]]\nmatch = '^node-{n}@'\nhost = '10.0.0.1'\nport = 4370\n");
    let mut routes: String = (0..100_000).map(route).collect();
    let folder = Folder::new(&routes, "");
    assert_eq!(check(&folder, &["routes.toml"]), ok("routes.toml: 100000 routes: ok\n"));

    routes.insert_str(routes.find("[[route]]\nmatch = '^node-50000@").unwrap(), "wieght = 1\n");
    folder.write("routes.toml", &(routes.clone() + &route(7)));
    let (code, _, err) = check(&folder, &["routes.toml"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: unknown key `wieght` in [[route]]\n      --> routes.toml:200001:1\n"), "{err}");
    assert!(err.contains("error: the pattern `^node-7@` is taken\n      --> routes.toml:400003:9\n"), "{err}");
    assert!(err.contains(" ::: routes.toml:30:9\n"), "{err}");
}

#[test]
fn certificates_are_opened_unless_the_text_alone_counts() {
    let folder = Folder::new(
        &format!("{GOOD}tls = {{ ca = 'ca.pem' }}\n"),
        "[[forward]]\nlisten = 'unix:f.sock'\n\
        node = 'db@x'\nowner = 'no-such-user'\n",
    );
    let (code, _, err) = check(&folder, &["portolan.toml"]);
    assert_eq!(code, 1);
    assert!(err.contains("error: `ca.pem` does not exist\n --> routes.toml:4:14\n"), "{err}");
    assert!(err.contains("there is no user `no-such-user` on this machine"), "{err}");
    assert_eq!(check(&folder, &["--no-files", "portolan.toml"]).0, 0);

    Authority::new("ours").write(&folder.path(""), "ca");
    assert_eq!(check(&folder, &["routes.toml"]), ok("routes.toml: 1 route: ok\n"));
}

#[test]
fn warnings_alone_are_exit_0() {
    let folder = Folder::new(&format!("{GOOD}tls = {{ insecure_skip_verify = true }}\n"), "");
    let (code, out, err) = check(&folder, &["routes.toml"]);
    assert_eq!((code, out.as_str()), (0, "routes.toml: 1 route: ok\n"));
    assert!(err.starts_with("warning: the route `^db@` does not verify who answers"), "{err}");
    assert!(err.ends_with("\n\n1 warning\n"), "{err}");
    let (code, out, err) = check(&folder, &["--strict", "routes.toml"]);
    assert_eq!((code, out.as_str()), (1, ""), "unless they are errors");
    assert!(err.ends_with("\n\n1 warning\nerror: 1 warning, and none was to be let pass\n"), "{err}");
    assert_eq!(check(&Folder::new(GOOD, ""), &["--strict", "routes.toml"]), ok("routes.toml: 1 route: ok\n"));
}

#[test]
fn a_pipe_can_be_checked_and_one_with_a_name_is_not_waited_for() {
    let folder = Folder::new(GOOD, "");
    let script = "cat routes.toml | \"$0\" check /dev/stdin && mkfifo pipe && \"$0\" check pipe";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, PORTOLAN]).current_dir(folder.path(""));
    let output = shell.output().unwrap();
    assert_eq!(text(&output.stdout), "/dev/stdin: 1 route: ok\n");
    assert!(
        text(&output.stderr).starts_with("error: this is not a regular file\n--> pipe\n"),
        "{}",
        text(&output.stderr)
    );
}
