//! What a client chooses does not pass for what the log says.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::client::{connect, line};
use crate::support::daemon::Folder;
#[cfg(feature = "etcd")]
use crate::support::daemon::{Running, text};
use crate::support::node::Node;

#[test]
fn a_node_name_does_not_look_like_further_fields_of_its_line() {
    let node = Node::named("hello");
    let folder = Folder::new(&node.route("db", ""), "[log]\nformat = \"text\"\n");
    let mut command = folder.command(&["run", "--config", "portolan.toml"]);
    let mut daemon = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines().map(Result::unwrap);
    log.find(|line| line.contains("serving")).unwrap();

    let mut client = connect(&folder.socket(), "db%20by=upstream%20end=reset");
    assert_eq!(line(&mut client), "hello");
    drop(client);
    let closed = log.find(|line| line.contains("relay closed")).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let address = node.address();
    let expected = format!("relay closed node=\"db by=upstream end=reset\" route=\"db\" address={address} attempts=1 ");
    assert!(closed.contains(&expected), "{closed}");
}

#[cfg(feature = "etcd")]
#[test]
fn a_key_of_etcd_does_not_look_like_another_line() {
    let etcd = crate::support::etcd::Etcd::new();
    let folder = Folder::new("allow_empty = true\n", "");
    let resolver = format!("[resolver.fleet]\ntype = 'etcd'\nendpoints = '{}'\n", etcd.endpoint());
    let head = "routes = ['routes.toml', 'etcd:fleet']\n[socket]\npath = 'portolan.sock'\n[log]\nformat = 'text'\n";
    folder.write("portolan.toml", &format!("{head}{resolver}"));
    let mut command = folder.command(&["run", "--config", "portolan.toml"]);
    let mut daemon = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    log.find(|line| line.contains("serving")).unwrap();

    let added = folder.run(&["routes", "add", "^a@", "--host", "h:1", "--admin=admin.sock"]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    etcd.put("portolan/routes/x\nforged", "match = '^a@'\nhost = 'h:1'\n");
    let ended = log.find(|line| line.contains("an edit at run time has ended")).unwrap();
    assert!(ended.ends_with("is replaced by etcd:fleet, key portolan/routes/x\u{fffd}forged"), "{ended}");
}
