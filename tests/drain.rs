//! How a daemon ends: what is open may end by itself, then it is cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::HANG;
use crate::support::client::{connect, line, open, read_answer, upgrade_head};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, FullBacklog, Node};

const LONG_DRAIN: &str = "[limits]\ndrain_timeout = \"1h\"\n";
const FORWARD: &str = "[[forward]]\nlisten = \"127.0.0.1:0\"\nnode = \"db@x\"\nopen = true\n";

/// Waits until the socket is not there any more, as no event says so.
fn wait_until_gone(socket: &Path) {
    let began = Instant::now();
    while socket.exists() {
        assert!(began.elapsed() < HANG, "the socket stays");
        std::thread::yield_now();
    }
}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

/// A node that says when it is reached, and then what came of reading to the end.
fn watching_node() -> (Node, Receiver<Option<ErrorKind>>) {
    let (ends, ended) = channel();
    let node = Node::new(move |mut stream| {
        stream.write_all(b"db\n").unwrap();
        ends.send(stream.read_to_end(&mut Vec::new()).err().map(|error| error.kind())).unwrap();
    });
    (node, ended)
}

fn echoes(stream: &mut (impl Read + Write), text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut echoed = vec![0; text.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, text);
}

fn closed(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["message"] == "relay closed").collect()
}

#[test]
fn relays_may_end_by_themselves_while_nobody_new_comes_in() {
    let node = Node::named("db");
    let mut daemon = Daemon::start_with(&node.route("db", ""), &format!("{FORWARD}{LONG_DRAIN}"));
    let forward = daemon.forward();
    let mut relay = connect(&daemon.socket(), "db@x");
    assert_eq!(line(&mut relay), "db");
    let mut forwarded = tcp(&forward);
    assert_eq!(line(&mut forwarded), "db");

    daemon.signal(Signal::TERM);
    let draining = daemon.wait_for("draining");
    assert_eq!((&draining["open"], &draining["timeout"]), (&2.into(), &"3600s".into()));
    wait_until_gone(&daemon.socket());
    assert_eq!(UnixStream::connect(daemon.socket()).unwrap_err().kind(), ErrorKind::NotFound);
    let began = Instant::now();
    while let Ok(late) = TcpStream::connect(&forward) {
        drop(late);
        assert!(began.elapsed() < HANG, "the forward stays open");
    }

    echoes(&mut relay, b"still there");
    echoes(&mut forwarded, b"still there too");
    relay.shutdown(Shutdown::Write).unwrap();
    assert_eq!(relay.read(&mut [0]).unwrap(), 0);
    forwarded.shutdown(Shutdown::Write).unwrap();
    assert_eq!(forwarded.read(&mut [0]).unwrap(), 0);
    let (status, lines) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines.last().unwrap()["message"], "ended");
    let closed = closed(&lines);
    assert!(closed.iter().all(|line| line["end"] == "finished"), "{closed:?}");
}

#[test]
fn when_the_time_is_over_the_rest_is_cut() {
    let (node, ended) = watching_node();
    let limits = "[limits]\ndrain_timeout = \"20ms\"\n";
    let mut daemon = Daemon::start_with(&node.route("db", ""), &format!("{FORWARD}{limits}"));
    let mut relay = connect(&daemon.socket(), "db@x");
    let mut forwarded = tcp(&daemon.forward());
    assert_eq!((line(&mut relay), line(&mut forwarded)), ("db".to_owned(), "db".to_owned()));

    daemon.signal(Signal::TERM);
    let (status, lines) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(relay.read(&mut [0]).unwrap(), 0, "a Unix socket has no reset");
    assert_eq!(forwarded.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    for _ in 0..2 {
        assert_eq!(ended.recv_timeout(HANG).unwrap(), Some(ErrorKind::ConnectionReset));
    }
    let last = lines.last().unwrap();
    assert_eq!(last["message"], "ended; what was still open was cut");
    assert_eq!((&last["level"], &last["relays"]), (&"WARN".into(), &2.into()));
    let closed = closed(&lines);
    assert_eq!(closed.len(), 2);
    assert!(closed.iter().all(|line| line["end"] == "drained" && line["by"] == "portolan"), "{closed:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::INT, Signal::TERM)] {
        let (node, ended) = watching_node();
        let mut daemon = Daemon::start_with(&node.route("db", ""), LONG_DRAIN);
        let mut relay = connect(&daemon.socket(), "db@x");
        assert_eq!(line(&mut relay), "db");
        daemon.signal(first);
        assert_eq!(daemon.wait_for("draining")["message"], "draining; a second signal ends at once");
        daemon.signal(second);
        let (status, lines) = daemon.wait();
        assert_eq!(status.code(), Some(0));
        assert_eq!(relay.read(&mut [0]).unwrap(), 0);
        assert_eq!(ended.recv_timeout(HANG).unwrap(), Some(ErrorKind::ConnectionReset));
        let last = lines.last().unwrap();
        assert_eq!((&last["message"], &last["relays"]), (&"ended; what was still open was cut".into(), &1.into()));
        let closed = closed(&lines);
        assert!(closed.len() == 1 && closed[0]["end"] == "drained", "{closed:?}");
    }
}

#[test]
fn sigint_ends_an_idle_daemon_too() {
    let mut daemon = Daemon::start_with(&DeadPort::new().route("db", ""), LONG_DRAIN);
    daemon.signal(Signal::INT);
    let (status, lines) = daemon.wait();
    assert_eq!((status.code(), &lines.last().unwrap()["message"]), (Some(0), &"ended".into()));
}

#[test]
fn clients_without_a_whole_head_do_not_hold_up_the_end_and_are_told_when_that_is_possible() {
    let mut daemon = Daemon::start_with(&DeadPort::new().route("db", ""), LONG_DRAIN);
    let mut silent = open(&daemon.socket());
    let mut socks = open(&daemon.socket());
    socks.write_all(b"\x05\x01\x00").unwrap();
    let mut method = [0; 2];
    socks.read_exact(&mut method).unwrap();

    daemon.signal(Signal::TERM);
    let (status, lines) = daemon.wait();
    assert_eq!((status.code(), &lines.last().unwrap()["message"]), (Some(0), &"ended".into()));
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let mut reply = Vec::new();
    socks.read_to_end(&mut reply).unwrap();
    assert_eq!(reply, [5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    let refused: Vec<_> = lines.iter().filter(|line| line["message"] == "refused").collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|line| line["code"] == "draining"), "{refused:?}");
}

#[test]
fn who_waits_to_be_accepted_when_the_end_comes_is_answered() {
    let mut daemon = Daemon::start_with(&DeadPort::new().route("db", ""), LONG_DRAIN);
    // Nothing is accepted by a daemon that stands still, and the signal is there before it goes on.
    daemon.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..1000).map(|_| open(&daemon.socket())).collect();
    for client in &mut clients {
        client.write_all(upgrade_head("db@x").as_bytes()).unwrap();
    }
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    for client in &mut clients {
        let answer = read_answer(client);
        // One that was accepted before the signal was seen has had its attempt.
        let (status, problem) = (answer.status, answer.problem());
        assert!(matches!((status, problem["code"].as_str()), (503, Some("draining")) | (502, Some("all_failed"))));
    }
    let (status, lines) = daemon.wait();
    assert_eq!((status.code(), &lines.last().unwrap()["message"]), (Some(0), &"ended".into()));
}

#[test]
fn a_request_that_is_being_dialed_goes_on_until_the_cut_and_is_then_refused() {
    let (dead, silent) = (DeadPort::new(), FullBacklog::new());
    let routes = dead.route("db", "weight = 200") + &silent.route("^db", "");
    let more = format!("{LONG_DRAIN}[dial]\nconnect_timeout = \"1h\"\nestablish = \"1h\"\n[log]\nlevel = \"debug\"\n");
    let mut daemon = Daemon::start_with(&routes, &more);
    let mut client = open(&daemon.socket());
    client.write_all(upgrade_head("db@x").as_bytes()).unwrap();
    // From here on the second route is being dialed.
    daemon.wait_for("attempt failed");
    daemon.signal(Signal::TERM);
    daemon.wait_for("draining");
    wait_until_gone(&daemon.socket());
    daemon.signal(Signal::TERM);
    let answer = read_answer(&mut client);
    assert_eq!((answer.status, &answer.problem()["code"]), (503, &"draining".into()));
    assert_eq!(answer.problem()["detail"], "the daemon is ending and takes no new requests");
    assert_eq!(answer.header("Retry-After"), "1");
    let (status, lines) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines.last().unwrap()["message"], "ended; what was still open was cut");
}

#[test]
fn under_load_every_relay_ends_in_order_and_has_its_line() {
    let node = Node::named("db");
    let mut daemon = Daemon::start_with(&node.route("db", ""), LONG_DRAIN);
    let (connected, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| while request(&daemon.socket(), &connected, &refused) {});
        }
        let began = Instant::now();
        while connected.load(Ordering::SeqCst) < 300 {
            assert!(began.elapsed() < HANG);
            std::thread::yield_now();
        }
        daemon.signal(Signal::TERM);
    });
    let (status, lines) = daemon.wait();
    assert_eq!((status.code(), &lines.last().unwrap()["message"]), (Some(0), &"ended".into()));
    let closed = closed(&lines);
    assert_eq!(closed.len(), connected.load(Ordering::SeqCst));
    for line in closed {
        assert_eq!((&line["end"], &line["up"], &line["down"]), (&"finished".into(), &15.into(), &18.into()));
    }
    let told: Vec<_> = lines.iter().filter(|line| line["message"] == "refused").collect();
    assert_eq!(told.len(), refused.load(Ordering::SeqCst));
    assert!(told.iter().all(|line| line["code"] == "draining"), "{told:?}");
}

/// One client: connected, five rounds of echo, an orderly end. False when there is no daemon any more.
fn request(socket: &Path, connected: &AtomicUsize, refused: &AtomicUsize) -> bool {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused), "{error}");
            return false;
        }
    };
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.write_all(upgrade_head("db@x").as_bytes()).unwrap();
    let answer = read_answer(&mut stream);
    if answer.status == 503 {
        assert_eq!(answer.problem()["code"], "draining");
        refused.fetch_add(1, Ordering::SeqCst);
        return true;
    }
    assert_eq!(answer.status, 101);
    connected.fetch_add(1, Ordering::SeqCst);
    assert_eq!(line(&mut stream), "db");
    for _ in 0..5 {
        echoes(&mut stream, b"abc");
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    true
}
