//! Requests while the table is replaced again and again.

use std::sync::mpsc;
use std::thread;

use crate::support::client::{connect, line};
use crate::support::daemon::Daemon;
use crate::support::node::Node;

const CLIENTS: usize = 4;
const REQUESTS: usize = 10_000;
const RELOADS: usize = 100;

#[test]
fn ten_thousand_requests_during_a_hundred_reloads_lose_none() {
    let nodes = [Node::named("even"), Node::named("odd")];
    let daemon = Daemon::start(&nodes[0].route("^db@", ""));
    let (progress, steps) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (progress, socket) = (progress.clone(), daemon.socket());
            scope.spawn(move || {
                for _ in 0..REQUESTS / CLIENTS {
                    let reached = line(&mut connect(&socket, "db@x"));
                    assert!(reached == "even" || reached == "odd", "{reached:?}");
                    progress.send(()).unwrap();
                }
            });
        }
        drop(progress);
        for reload in 1..=RELOADS {
            let before = steps.iter().take(REQUESTS / RELOADS - 1).count();
            assert_eq!(before, REQUESTS / RELOADS - 1, "a client has failed");
            let reloaded = daemon.reload(&nodes[reload % 2].route("^db@", &format!("weight = {reload}")));
            assert_eq!(reloaded["message"], "reloaded");
        }
    });
    assert_eq!(nodes.iter().map(Node::accepted).sum::<usize>(), REQUESTS);
    assert!(nodes.iter().all(|node| node.accepted() > REQUESTS / 10), "both tables were asked");
    let generation = daemon.hang_up()["generation"].as_u64().unwrap();
    assert!(generation > RELOADS as u64, "{generation}");
    let (status, lines) = daemon.stop();
    assert!(status.success());
    assert!(!lines.iter().any(|line| line["message"] == "refused"));
}
