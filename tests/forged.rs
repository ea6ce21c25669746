//! What a client chooses does not pass for what the log says.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::client::{connect, line};
use crate::support::daemon::Folder;
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
