//! A refusal is heard to its end.

use std::io::{Read, Write};

use crate::support::client::{open, read_answer, upgrade_head};
use crate::support::daemon::Daemon;
use crate::support::node::DeadPort;

#[test]
fn bytes_behind_a_head_that_is_refused_do_not_reset_the_answer() {
    let daemon = Daemon::start(&DeadPort::new().route("db", ""));
    for (node, status) in [("unknown", 404), ("db", 502)] {
        let mut client = open(&daemon.socket());
        // In one write, so that all of it is there before the head is read.
        client.write_all(&[upgrade_head(node).as_bytes(), &[b'x'; 20_000]].concat()).unwrap();
        assert_eq!(read_answer(&mut client).status, status);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "an end, and no reset");
    }
}
