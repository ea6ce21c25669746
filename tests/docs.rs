//! What README.md and docs/ say is done as it is written.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::support::client::{ask, line, upgrade};
use crate::support::daemon::{Daemon, Folder, PORTOLAN, text, utf8};
use crate::support::node::{DeadPort, Node};

const README: &str = include_str!("../README.md");
const SOCKET: &str = include_str!("../docs/socket.md");

/// README.md, CONTRIBUTING.md and docs/*.md, each with its path.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = docs.chain([root.join("README.md"), root.join("CONTRIBUTING.md")]).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks of a language.
fn fenced<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// The blocks that are indented by four, without the indent.
fn indented(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(line) => *blocks.last_mut().unwrap() += &format!("{line}\n"),
            None if line.is_empty() && blocks.last().unwrap().ends_with('\n') => *blocks.last_mut().unwrap() += "\n",
            None => blocks.push(String::new()),
        }
    }
    blocks.into_iter().map(|block| block.trim_end().to_owned()).filter(|block| !block.is_empty()).collect()
}

/// The only indented block of `docs/socket.md` with this beginning.
fn example(beginning: &str) -> String {
    let mut found: Vec<_> = indented(SOCKET).into_iter().filter(|block| block.starts_with(beginning)).collect();
    assert_eq!(found.len(), 1, "{beginning}: {found:?}");
    found.remove(0)
}

/// `sh -euc` in a folder, with portolan where the shell finds it.
fn sh(folder: &Path, script: &str) -> Command {
    let path = format!("{}:{}", Path::new(PORTOLAN).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut sh = Command::new("sh");
    sh.args(["-euc", script]).current_dir(folder).env("PATH", path).env("PYTHONUNBUFFERED", "1").env("no_proxy", "");
    sh.env_remove("PORTOLAN_CONFIG").env_remove("PORTOLAN_SOCKET").stdin(Stdio::null());
    sh
}

fn succeed(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// What a script has left running; it ends when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
        drop(self.0.wait());
    }
}

#[test]
fn the_first_route_of_the_readme_is_reached_as_it_says() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let blocks: Vec<_> = fenced(README, "sh").into_iter().map(|block| block.replace("8000", &port)).collect();
    assert_eq!(blocks.len(), 5, "two commands, a first route, how to reach it, discovery, as a service");
    let (first_route, reach, discovery) = (&blocks[1], &blocks[2], &blocks[3]);

    let mut script = sh(folder, &format!("exec 2>&1\n{first_route}"));
    let mut group = Group(script.process_group(0).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    let mut output = BufReader::new(group.0.stdout.take().unwrap());
    while !(said.contains("Serving HTTP on") && said.contains("\"message\":\"serving\"")) {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    assert!(said.contains("/portolan.toml: ok\n") && said.contains("/routes.toml: 1 route: ok\n"), "{said}");

    let lines: Vec<_> = reach.lines().collect();
    let [curl, connect] = lines[..] else { panic!("{reach}") };
    let exported = "export PORTOLAN_CONFIG=$PWD/portolan.toml\n";
    assert!(succeed(sh(folder, curl)).contains("routes.toml"));
    let page = succeed(sh(folder, &format!("{exported}{connect}")));
    assert!(page.starts_with("HTTP/1.0 200 OK\r\n") && page.contains("routes.toml"), "{page}");
    assert!(succeed(sh(folder, &format!("{exported}portolan lookup web@here"))).contains("^web@"));

    let python = fenced(README, "python");
    assert_eq!(python.len(), 1);
    let get = "s = connect('web@here')\ns.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\nprint(s.makefile().read())";
    let client = |last: &str| {
        let mut client = Command::new("python3");
        client.args(["-c", &format!("{}\n{last}", python[0])]).current_dir(folder);
        client
    };
    assert!(succeed(client(get)).contains("routes.toml"));
    let refused = client("connect('other@here')").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("\"code\":\"no_route\""), "{}", text(&refused.stderr));

    let discovered = succeed(sh(folder, &format!("{exported}{discovery}")));
    assert!(discovered.contains("HTTP/1.0 200 OK\r\n") && discovered.contains("lab"), "{discovered}");
}

#[test]
fn every_toml_block_is_good() {
    let mut seen = 0;
    for (path, page) in pages() {
        for block in fenced(&page, "toml") {
            let folder = Folder::new("allow_empty = true\n", "");
            folder.write("partners.toml", "allow_empty = true\n");
            folder.write("block.toml", block);
            let checked = folder.run(&["check", "--no-files", "block.toml"]);
            if cfg!(not(feature = "etcd"))
                && text(&checked.stderr).contains("error: this portolan was built without etcd")
            {
                continue;
            }
            assert!(checked.status.success(), "{}:\n{block}\n{}", path.display(), text(&checked.stderr));
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen} blocks: some are not found any more");
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut seen = 0;
    for (path, page) in pages() {
        for link in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = link.split('#').next().unwrap();
            if !link.contains("://") && !file.is_empty() {
                assert!(path.parent().unwrap().join(file).exists(), "{}: {link}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn every_command_and_flag_is_in_the_help() {
    let folder = Folder::new("", "");
    let mut seen = BTreeSet::new();
    for (path, page) in pages() {
        let spans = page.split('`').map(|span| span.trim_start_matches("sh\n"));
        let commands = spans.flat_map(str::lines).flat_map(|line| line.split(['|', '&', '#']));
        for command in commands.map(str::trim).filter(|text| text.starts_with("portolan ")) {
            let mut words = command.split_whitespace().skip(1);
            let Some(name) = words.next().filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())) else {
                continue;
            };
            // `portolan routes add` has a help of its own.
            let nested = words
                .clone()
                .next()
                .filter(|word| name == "routes" && ["list", "add", "remove", "push"].contains(word));
            let help = folder.run(&[&[name], nested.as_slice(), &["--help"]].concat());
            // Running text may begin a line with "portolan dials".
            let is_prose = !page.contains(&format!("`{command}")) && !page.contains(&format!("    {command}"));
            assert!(help.status.success() || is_prose, "{}: {command}", path.display());
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(text(&help.stdout).contains(flag), "{}: {command}", path.display());
            }
            seen.insert(name.to_owned());
        }
    }
    for name in ["check", "completions", "connect", "diff", "lookup", "man", "reload", "routes", "run"] {
        assert!(seen.contains(name), "{name} is nowhere: {seen:?}");
    }

    let help: String = ["run", "check", "lookup", "connect", "diff", "reload"]
        .map(|name| text(&folder.run(&[name, "--help"]).stdout))
        .concat();
    let mut flags = BTreeSet::new();
    for (path, page) in pages() {
        for flag in page.split('`').filter(|span| span.starts_with("--") && !span.contains([' ', '\n'])) {
            // curl's, and those of the benchmark.
            let others = ["--connect-to", "--only", "--both"];
            assert!(help.contains(flag) || others.contains(&flag), "{}: {flag}", path.display());
            flags.insert(flag.to_owned());
        }
    }
    assert!(["--config", "--json", "--socket"].iter().all(|flag| flags.contains(*flag)), "{flags:?}");
}

#[test]
fn the_heads_of_the_socket_page_are_what_is_said() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^prod-db@.*", ""));
    for (form, status) in [("GET /v1/connect/", 101), ("CONNECT prod-db", 200)] {
        let example = example(form);
        let (request, answer) = example.split_once("\n\n").unwrap();
        let head = request.replace('\n', "\r\n") + "\r\n\r\n";
        let (mut stream, answered) = ask(&daemon.socket(), head.as_bytes());
        assert_eq!((answered.status, line(&mut stream).as_str()), (status, "db"));
        let mut written = answer.replace("10.0.1.50:4370", &node.address().to_string());
        assert!(written.starts_with(&format!("HTTP/1.1 {status} ")));
        for (name, value) in &answered.headers {
            let header = format!("\n{name}: {value}");
            assert!(written.contains(&header), "{header:?} is not in {written}");
            written = written.replace(&header, "");
        }
        assert_eq!(written.lines().count(), 1, "these are not sent: {written}");
    }
}

#[test]
fn the_lease_of_the_socket_page_is_what_is_said() {
    let daemon = Daemon::start(&DeadPort::new().route("^prod-db@.*", ""));
    let example = example("POST /v1/forwards");
    let (request, written) = example.split_once("\n\nHTTP/1.1 ").unwrap();
    let request = request.replace('\n', "\r\n");
    let (_, answered) = ask(&daemon.socket(), request.as_bytes());
    let (head, body) = written.split_once("\n\n").unwrap();
    let mut head = head.lines();
    assert_eq!(head.next(), Some("201 Created"));
    assert_eq!(answered.status, 201);
    let headers = answered.headers.iter().map(|(name, value)| format!("{name}: {value}"));
    assert!(headers.eq(head.map(str::to_owned)), "{answered:?}");
    let mut told: Value = serde_json::from_slice(&answered.body).unwrap();
    let written: Value = serde_json::from_str(body).unwrap();
    assert!(told["port"].is_u64());
    told["port"] = written["port"].clone();
    assert_eq!(told, written);
}

#[test]
fn the_problem_of_the_socket_page_is_what_is_said() {
    let dead = DeadPort::new();
    let daemon = Daemon::start(&dead.route("^prod-", ""));
    let (_, answer) = upgrade(&daemon.socket(), "prod-db@10.0.1.50");
    let mut told = answer.problem();
    let written = example("{\"title\"").replace("10.0.1.50:4370", &format!("127.0.0.1:{}", dead.port()));
    let written: Value = serde_json::from_str(&written).unwrap();
    assert!(told["attempts"][0]["ms"].is_u64());
    told["attempts"][0]["ms"] = written["attempts"][0]["ms"].clone();
    assert_eq!(told, written);
}

#[test]
fn what_is_answered_where_a_resolver_was_asked_is_on_the_socket_page() {
    let node = Node::named("found");
    let nodes = format!("nodes = {{ 'db@x' = '{}' }}", node.address());
    let resolver = format!("[discovery]\nresolver = 'lab'\n[resolver.lab]\ntype = 'static'\n{nodes}\n");
    let daemon = Daemon::start_with(&DeadPort::new().route("^web@", ""), &resolver);
    let (_, found) = upgrade(&daemon.socket(), "db@x");
    assert_eq!(found.header("Portolan-Resolver"), "\"lab\"");
    for (name, _) in &found.headers {
        assert!(SOCKET.contains(name.as_str()), "{name}");
    }
    let problem = upgrade(&daemon.socket(), "web@x").1.problem();
    let last = problem["attempts"].as_array().unwrap().last().unwrap().as_object().unwrap();
    for key in last.keys() {
        assert!(SOCKET.contains(&format!("`{key}`")) || SOCKET.contains(&format!("\"{key}\"")), "{key}");
    }
    assert!(SOCKET.contains(&format!("`{}`", last["stage"].as_str().unwrap())), "{last:?}");
}

#[test]
fn the_clients_of_the_socket_page_reach_a_node() {
    let node = Node::new(|mut stream| {
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nI am a node\n").unwrap();
        // What is left unread would make the end a reset.
        drop(stream.shutdown(std::net::Shutdown::Write));
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let daemon = Daemon::start(&node.route("^prod-db@10.0.1.50$", ""));
    let folder = daemon.folder.path("");
    let here = |script: &str| script.replace("/run/portolan/portolan.sock", utf8(&daemon.socket()));
    let by_hand = succeed(sh(&folder, &here(&example("curl -sS -N -i"))));
    assert!(by_hand.starts_with("HTTP/1.1 101 ") && by_hand.ends_with("\r\n\r\nI am a node\n"), "{by_hand}");
    assert_eq!(succeed(sh(&folder, &here(&example("curl -x socks5h")))), "I am a node\n");

    let python = fenced(SOCKET, "python");
    assert_eq!(python.len(), 1);
    let client = |node: &str| {
        let mut client = Command::new("python3");
        let script = here(python[0]);
        client.args(["-c", &format!("{script}\nprint(connect('{node}').makefile().read())")]);
        client
    };
    assert!(succeed(client("prod-db@10.0.1.50")).contains("I am a node"));
    let refused = client("other").output().unwrap();
    assert!(text(&refused.stderr).contains("ConnectionError: {\"title\":\"Not Found\""), "{}", text(&refused.stderr));

    assert!(example("ssh -o").contains("ProxyCommand='portolan connect %h'"), "tests/connect.rs has that one");
}

#[test]
fn the_problems_of_the_configuration_page_are_what_is_said() {
    let page = include_str!("../docs/configuration.md");
    let blocks: Vec<_> = indented(page).into_iter().filter(|block| block.starts_with("error: ")).collect();
    assert_eq!(blocks.len(), 1);
    let folder = Folder::new("", "");
    folder.write("routes.toml", "[[route]]\nmatch = 'db'\nhost = 'h:1'\nwieght = 200\ndialect = \"ergo\"\n");
    let checked = folder.run(&["check", "routes.toml"]);
    assert_eq!(checked.status.code(), Some(1));
    let told = text(&checked.stderr);
    let bare =
        |text: &str| text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    assert!(bare(&told).starts_with(&bare(&blocks[0])), "{told}");
}

#[test]
fn every_message_of_the_operation_page_is_one_of_the_program() {
    let mut program = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { program += &fs::read_to_string(path).unwrap() }
        }
    }
    let page = include_str!("../docs/operation.md");
    let table = page.split("| message | level | fields |\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut seen = 0;
    for row in table.lines().skip(1) {
        let cell = row.split('|').nth(1).unwrap();
        for message in cell.split('`').skip(1).step_by(2).filter(|message| !message.ends_with(": ...")) {
            assert!(program.contains(&format!("\"{message}")), "{message}");
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}
