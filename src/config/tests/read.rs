//! What the files mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Kind, route, said};
use crate::config::{
    Config, ForwardAddress, LogLevel, Problems, RoutesEntry, Scope, SocketAccess, kind_of, load, load_config,
    load_routes, routes_files,
};
use crate::dial::Trusts;
use crate::node::NodeName;

/// Files in a folder of their own, and what is said of them without the folder's name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn said(&self, problems: &Problems) -> String {
        problems.render(false).replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn config(text: &str) -> (Folder, Config) {
    let folder = Folder::of(&[("portolan.toml", text.as_bytes())]);
    let mut problems = Problems::default();
    let config = load_config(&folder.path("portolan.toml"), Scope::Text, &mut problems);
    let config = config.unwrap_or_else(|| panic!("{}", problems.render(false)));
    (folder, config)
}

#[test]
fn defaults() {
    let (folder, config) = config("");
    assert_eq!(config.routes, [RoutesEntry::File(folder.path("routes.toml"))]);
    assert_eq!(config.socket.access, SocketAccess::default());
    assert_eq!((config.dial, config.limits, config.log), Default::default());
}

#[test]
fn everything() {
    let text = "routes = ['a.toml', '/b.toml', 'd/*.toml']\n[socket]\npath = 'p.sock'\nmode = '600'\nowner = '0'\ngroup = 'x'\n\
                    [admin]\npath = 'a.sock'\nmode = '0600'\n\
                    [[forward]]\nlisten = '[::1]:0'\nnode = 'db@prod'\nopen = true\n\
                    [[forward]]\nlisten = 'unix:db.sock'\nnode = 'db@prod'\nmode = '0666'\n\
                    [dial]\nconnect_timeout = '1500ms'\nestablish = '1h'\nrace_after = 'never'\n\
                    [limits]\nrelays = 5\ndrain_timeout = '1m'\nhalf_close_timeout = 'never'\nidle_timeout = '2h'\n\
                    [log]\nlevel = 'debug'\nformat = 'json'\n";
    let (folder, config) = config(text);
    let [RoutesEntry::File(a), RoutesEntry::File(b), RoutesEntry::Glob(glob)] = config.routes.as_slice() else {
        panic!("{:?}", config.routes)
    };
    assert_eq!([a, b, &glob.path()], [&folder.path("a.toml"), Path::new("/b.toml"), &folder.path("d/*.toml")]);
    assert_eq!(config.socket.path, Some(folder.path("p.sock")));
    let access = SocketAccess { mode: 0o600, owner: Some("0".into()), group: Some("x".into()) };
    assert_eq!(config.socket.access, access);
    assert_eq!(config.forwards[0].listen, ForwardAddress::Tcp("[::1]:0".parse().unwrap()));
    let access = SocketAccess { mode: 0o666, ..Default::default() };
    assert_eq!(config.forwards[1].listen, ForwardAddress::Unix(folder.path("db.sock"), access));
    assert_eq!(config.forwards[1].node, NodeName::parse("db@prod").unwrap());
    assert_eq!(config.dial.connect_timeout, Duration::from_millis(1500));
    assert_eq!((config.limits.half_close_timeout, config.limits.relays), (None, 5));
    assert_eq!(config.limits.idle_timeout, Some(Duration::from_secs(7200)));
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn routes() {
    let text = "[[route]]\nmatch = 'a'\nhost = ['10.0.0.1', '[::1]:2', 'h']\nport = 1\nconnect_timeout = '2s'\n\
                    [[route]]\nmatch = 'b'\nweight = -1\nhost = 'h:1'\nfinal = true\ntls = { ca = 'ca.pem' }\n\
                    [[route]]\nmatch = 'c'\nhost = 'h:1'\nweight = 200\ntls = { ca = 'ca.pem' }\n";
    let folder = Folder::of(&[("r", text.as_bytes())]);
    let loaded = load_routes(&[folder.path("r")], None, &mut Problems::default()).unwrap();
    let routes: Vec<_> = loaded.table.iter().collect();
    let weights: Vec<_> = routes.iter().map(|route| (route.pattern.as_str(), route.weight)).collect();
    assert_eq!(weights, [("c", 200), ("a", 100), ("b", -1)]);
    let hosts: Vec<_> = routes[1].reach.upstreams().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["10.0.0.1:1", "[::1]:2", "h:1"]);
    let origins: Vec<_> = routes.iter().map(|route| route.origin.to_string()).collect();
    assert_eq!(origins, [13, 2, 7].map(|line| format!("{}:{line}", folder.path("r").display())));
    assert!(routes[2].is_final);
    assert_eq!(routes[0].tls.as_ref().unwrap().ca, Some(folder.path("ca.pem")));
    assert!(Arc::ptr_eq(routes[0].tls.as_ref().unwrap(), routes[2].tls.as_ref().unwrap()), "equal policies are one");
}

#[test]
fn files_of_tls_are_blamed_once_and_where_they_are_named() {
    let tls = "tls = { ca = 'ca.pem' }";
    let text = format!("{}{}", route(tls), route(tls).replace("db", "b"));
    let folder = Folder::of(&[("r", text.as_bytes()), ("ca.pem", b"nothing of the kind\n")]);
    let mut problems = Problems::default();
    assert!(load_routes(&[folder.path("r")], Some(&mut Trusts::new(None)), &mut problems).is_none());
    let said = folder.said(&problems);
    assert!(said.starts_with("error: `ca.pem` "), "{said}");
    assert!(said.contains("\n --> r:4:14\n  |\n4 | tls = { ca = 'ca.pem' }\n  |              ^^^^^^^^\n"), "{said}");
    assert_eq!((problems.errors(), problems.warnings()), (1, 0));
}

#[test]
fn a_file_that_has_gone_bad_is_a_warning_where_its_old_content_is_in_force() {
    let folder = Folder::of(&[("r", route("tls = { ca = 'ca.pem' }").as_bytes())]);
    let authority = crate::dial::certs::Authority::new("ours");
    authority.write(folder.0.path(), "ca");
    let mut before = Trusts::new(None);
    let mut problems = Problems::default();
    let loaded = load_routes(&[folder.path("r")], Some(&mut before), &mut problems);
    assert!(loaded.is_some(), "{}", folder.said(&problems));
    std::fs::write(folder.path("ca.pem"), "half of").unwrap();
    let mut after = Trusts::new(Some(&before));
    assert!(load_routes(&[folder.path("r")], Some(&mut after), &mut problems).is_some());
    let said = folder.said(&problems);
    assert!(said.starts_with("warning: `ca.pem` "), "{said}");
    assert!(said.contains("; what was read from it before stays in force\n"), "{said}");
}

#[test]
fn missing_files_and_bytes_that_are_no_text() {
    let folder = Folder::of(&[("p", b"routes = ['none.toml', 'r']"), ("r", b"[[route]]\nmatch = '\xff'\n")]);
    let mut problems = Problems::default();
    assert!(load(&folder.path("p"), Scope::Machine, None, &mut problems).is_none());
    let expected = "\
error: the file cannot be read: no such file or directory
--> none.toml
 = help: check the path and who may read it

error: the file is not UTF-8
 --> r:2:10
  |
2 | match = '\u{fffd}'
  |          ^ not UTF-8 from here on
  |
  = help: save the file in the encoding UTF-8

2 errors
";
    assert_eq!(folder.said(&problems), expected);
}

#[test]
fn same_pattern_in_two_files() {
    let folder = Folder::of(&[("a", route("").as_bytes()), ("b", format!("\n{}", route("")).as_bytes())]);
    let mut problems = Problems::default();
    assert!(load_routes(&[folder.path("a"), folder.path("b")], None, &mut problems).is_none());
    let expected = "\
error: the pattern `db` is taken
 --> b:3:9
  |
3 | match = 'db'
  |         ^^^^ written again here
  |
 ::: a:2:9
  |
2 | match = 'db'
  |         ---- first written here
  |
  = help: remove one of the two, or write their hosts as one array

1 error
";
    assert_eq!(folder.said(&problems), expected);
}

/// The files of these entries, and what is said of them.
fn found(folder: &Folder, entries: &str) -> (Option<Vec<String>>, String) {
    std::fs::write(folder.path("p"), format!("routes = {entries}")).unwrap();
    let mut problems = Problems::default();
    let files = load_config(&folder.path("p"), Scope::Text, &mut problems)
        .and_then(|config| routes_files(&config.routes, &mut problems));
    let name = |file: PathBuf| file.strip_prefix(folder.0.path()).unwrap().to_str().unwrap().to_owned();
    (files.map(|files| files.into_iter().map(name).collect()), folder.said(&problems))
}

#[test]
fn files_are_found_by_name_and_each_once() {
    let folder = Folder::of(&[("b.toml", b""), ("a.toml", b""), (".h.toml", b""), ("c.toml~", b""), ("z", b"")]);
    std::fs::create_dir(folder.path("d")).unwrap();
    std::fs::write(folder.path("d/a.toml"), "").unwrap();
    let names = |entries| found(&folder, entries).0.unwrap();
    assert_eq!(names("'*.toml'"), ["a.toml", "b.toml"]);
    assert_eq!(names("['z', './*.toml', 'a.toml', 'd/*']"), ["z", "a.toml", "b.toml", "d/a.toml"]);
    assert_eq!(names("['b.toml', '*.toml', 'none.toml']"), ["b.toml", "a.toml", "none.toml"]);
    assert_eq!(found(&folder, "['b.toml', '*.toml']").1, "");
}

#[test]
fn a_pattern_of_names_that_matches_nothing_is_said() {
    let folder = Folder::of(&[("a", b"")]);
    let (files, said) = found(&folder, "['a', 'none/*.toml']");
    assert_eq!(files.unwrap(), ["a"]);
    let warning = "\
warning: `none/*.toml` matches no file
 --> p:1:LINE
  |
1 | routes = SOURCE
  |          CARET
  |
  = help: put a file there, or remove the entry
";
    let warning = |column: usize, source: &str| {
        let caret = " ".repeat(column - 10) + "^^^^^^^^^^^^^";
        warning
            .replace("LINE", &column.to_string())
            .replace("SOURCE", source)
            .replace("         CARET", &format!("         {caret}"))
    };
    assert_eq!(said, format!("{}\n1 warning\n", warning(16, "['a', 'none/*.toml']")));
    let (files, said) = found(&folder, "'none/*.toml'");
    assert_eq!(files, None);
    let error = "error: there is no routes file\n--> p\n = help: put one where `routes` looks for it, or name one\n";
    assert_eq!(said, format!("{}\n{error}\n1 error, 1 warning\n", warning(10, "'none/*.toml'")));
    let (files, said) = found(&folder, "'a/*.toml'");
    assert_eq!(files, None);
    assert!(said.starts_with("error: the folder `a` cannot be read: not a directory\n --> p:1:10\n"), "{said}");
}

#[test]
fn a_file_is_known_by_its_keys() {
    let folder = Folder::of(&[("r", b"allow_empty = false"), ("d", b"[limits]\n[node]"), ("e", b"")]);
    let kinds = ["r", "d", "e", "none"].map(|name| kind_of(&folder.path(name)));
    assert_eq!(kinds, [Kind::Routes, Kind::Daemon, Kind::Routes, Kind::Routes]);
}

#[test]
fn shipped_examples() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/portolan.toml");
    let mut problems = Problems::default();
    let loaded = load(&path, Scope::Text, None, &mut problems);
    assert_eq!(problems.render(false), "");
    assert_eq!(loaded.unwrap().1.table.len(), 3);
}

/// Every example of the manual is good, and every key stands in it.
#[test]
fn manual() {
    let manual = include_str!("../../../docs/configuration.md");
    let mut seen = BTreeMap::new();
    for block in manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let folder = Folder::of(&[("x", block.as_bytes())]);
        let kind = kind_of(&folder.path("x"));
        assert_eq!(said(kind, block), "", "{block}");
        *seen.entry(format!("{kind:?}")).or_insert(0) += 1;
    }
    assert!(seen.values().all(|blocks| *blocks >= 3), "not all are found: {seen:?}");

    let all = [
        &crate::config::routes_file::KEYS,
        &crate::config::routes_file::ROUTE_KEYS,
        &crate::config::tls::KEYS,
        &crate::config::daemon_file::KEYS,
        &crate::config::daemon_file::SOCKET_KEYS,
        &crate::config::daemon_file::ADMIN_KEYS,
        &crate::config::daemon_file::DIAL_KEYS,
        &crate::config::daemon_file::LIMITS_KEYS,
        &crate::config::daemon_file::LOG_KEYS,
        &crate::config::forward::KEYS,
        &crate::config::registrar::KEYS,
        &crate::config::resolver::DISCOVERY_KEYS,
    ];
    let resolvers = crate::config::resolver::KINDS.iter().map(|(_, keys)| keys);
    for key in all.iter().chain(resolvers).flat_map(|keys| keys.known.iter().chain(keys.later)) {
        let written = [format!("`{key}`"), format!("`[{key}"), format!("`[[{key}")];
        assert!(written.iter().any(|key| manual.contains(key.as_str())), "{key} is not in the manual");
    }
}
