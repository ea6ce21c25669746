//! What goes over an open relay, and how it ends.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use socket2::Socket;

use crate::support::HANG;
use crate::support::client::{ask, connect, line, open, read_answer, upgrade_head};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, FullBacklog, Node};

const MIB: usize = 1 << 20;

/// A daemon with one node behind its socket and a TCP forward; the test plays client and node.
struct Course {
    daemon: Daemon,
    accepted: Receiver<TcpStream>,
    _node: Node,
}

/// The two doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Unix,
    Tcp,
}

const DOORS: [Door; 2] = [Door::Unix, Door::Tcp];

fn forward_to(node: &str) -> String {
    format!("[[forward]]\nlisten = \"127.0.0.1:0\"\nopen = true\nnode = \"{node}\"\n")
}

impl Course {
    fn new() -> Self {
        let (sender, accepted) = channel();
        let node = Node::new(move |stream| drop(sender.send(stream)));
        let daemon = Daemon::start_with(&node.route("^db@", ""), &forward_to("db@forward"));
        Self { daemon, accepted, _node: node }
    }

    /// Both ends of a new relay: the client's and the node's.
    fn open(&self, door: Door) -> (Socket, Socket) {
        let client = match door {
            Door::Unix => connect(&self.daemon.socket(), "db@x").into(),
            Door::Tcp => TcpStream::connect(self.daemon.forward()).unwrap().into(),
        };
        (patient(client), patient(self.accepted.recv_timeout(HANG).unwrap().into()))
    }

    /// Does something with both ends of a relay and returns the line of its end.
    fn closed(&self, door: Door, play: impl FnOnce(Socket, Socket)) -> Value {
        let mark = self.daemon.mark();
        let (client, node) = self.open(door);
        play(client, node);
        self.daemon.wait_after(mark, "relay closed")
    }
}

fn patient(socket: Socket) -> Socket {
    socket.set_read_timeout(Some(HANG)).unwrap();
    socket.set_write_timeout(Some(HANG)).unwrap();
    socket
}

/// Writes and ends its own side.
fn say(socket: &Socket, text: &str) {
    (&*socket).write_all(text.as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
}

/// Reads up to an orderly end.
fn heard(socket: &Socket) -> String {
    let mut text = String::new();
    (&*socket).read_to_string(&mut text).unwrap();
    text
}

/// One byte across, so that the relay is known to run.
fn pass(from: &Socket, to: &Socket) {
    (&*from).write_all(b".").unwrap();
    (&*to).read_exact(&mut [0]).unwrap();
}

fn reset(socket: Socket) {
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn read_error(socket: &Socket) -> ErrorKind {
    (&*socket).read(&mut [0]).expect_err("an error and no orderly end").kind()
}

/// Who ended it, how, and the bytes up and down.
fn how(closed: &Value) -> (&str, &str, u64, u64) {
    let text = |key: &str| closed[key].as_str().unwrap();
    (text("by"), text("end"), closed["up"].as_u64().unwrap(), closed["down"].as_u64().unwrap())
}

/// Bytes that look random and are the same for the same seed (xorshift64*).
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(len).collect()
    }
}

/// Sends noise, ends its side, and returns the checksum.
fn send_noise(socket: &Socket, seed: u64, len: usize) -> Vec<u8> {
    let (mut noise, mut sum, mut left) = (Noise::new(seed), Context::new(&SHA256), len);
    while left > 0 {
        let chunk = noise.bytes(left.min(300_000));
        (&*socket).write_all(&chunk).unwrap();
        sum.update(&chunk);
        left -= chunk.len();
    }
    socket.shutdown(Shutdown::Write).unwrap();
    sum.finish().as_ref().to_vec()
}

/// Reads up to the end and returns the length and the checksum.
fn sum_of(socket: &Socket) -> (usize, Vec<u8>) {
    let (mut buffer, mut sum, mut len) = (vec![0; 100_000], Context::new(&SHA256), 0);
    while let read @ 1.. = (&*socket).read(&mut buffer).unwrap() {
        sum.update(&buffer[..read]);
        len += read;
    }
    (len, sum.finish().as_ref().to_vec())
}

#[test]
fn a_side_that_has_ended_still_hears_the_other() {
    let course = Course::new();
    for door in DOORS {
        let closed = course.closed(door, |client, node| {
            say(&client, "question");
            assert_eq!(heard(&node), "question", "the end reaches the node");
            say(&node, "answer");
            assert_eq!(heard(&client), "answer");
        });
        assert_eq!(how(&closed), ("client", "finished", 8, 6), "{door:?}");

        let closed = course.closed(door, |client, node| {
            say(&node, "farewell");
            assert_eq!(heard(&client), "farewell", "the end reaches the client");
            say(&client, "not so fast");
            assert_eq!(heard(&node), "not so fast");
        });
        assert_eq!(how(&closed), ("upstream", "finished", 11, 8), "{door:?}");
    }
}

#[test]
fn much_goes_both_ways_at_once_unchanged_and_is_counted_to_the_byte() {
    const UP: usize = 24 * MIB + 1;
    const DOWN: usize = 17 * MIB + 4321;
    let course = Course::new();
    for door in DOORS {
        let closed = course.closed(door, |client, node| {
            thread::scope(|scope| {
                let sent_up = scope.spawn(|| send_noise(&client, 1, UP));
                let sent_down = scope.spawn(|| send_noise(&node, 2, DOWN));
                let received_up = scope.spawn(|| sum_of(&node));
                assert_eq!(sum_of(&client), (DOWN, sent_down.join().unwrap()));
                assert_eq!(received_up.join().unwrap(), (UP, sent_up.join().unwrap()));
            });
        });
        let (_, end, up, down) = how(&closed);
        assert_eq!((end, up, down), ("finished", UP as u64, DOWN as u64), "{door:?}");
    }
}

#[test]
fn bytes_behind_the_head_count_and_the_head_does_not() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let (mut stream, _) = ask(&daemon.socket(), (upgrade_head("db@x") + "12345").as_bytes());
    stream.write_all(b"678").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "db\n12345678");
    let closed = daemon.wait_for("relay closed");
    assert_eq!(how(&closed), ("client", "finished", 8, 11));
    assert!(closed["ms"].is_u64(), "a number, and no string: {closed}");
}

/// Writes until nothing more is taken, and returns how much was.
fn fill(socket: &Socket, bytes: &[u8]) -> usize {
    // Only says when to stop: a machine that is slow stops early, which is no failure.
    socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut taken = 0;
    loop {
        match (&*socket).write(&bytes[taken..]) {
            Ok(written) if taken + written == bytes.len() => panic!("all {} bytes were taken", bytes.len()),
            Ok(written) => taken += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    socket.set_write_timeout(Some(HANG)).unwrap();
    taken
}

fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_side_that_does_not_read_stalls_the_other_and_then_gets_everything() {
    // More than the buffers of four sockets and a relay hold together.
    let bytes = Noise::new(3).bytes(64 * MIB);
    let course = Course::new();
    for (door, from_client) in DOORS.into_iter().flat_map(|door| [(door, true), (door, false)]) {
        let closed = course.closed(door, |client, node| {
            let (writer, reader) = if from_client { (client, node) } else { (node, client) };
            pass(&writer, &reader);
            let before = resident(&course.daemon);
            let taken = fill(&writer, &bytes);
            let grown = resident(&course.daemon).saturating_sub(before);
            assert!(grown < 2 * MIB, "the daemon keeps {grown} of {taken} bytes itself");
            thread::scope(|scope| {
                scope.spawn(|| {
                    (&writer).write_all(&bytes[taken..]).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut received = Vec::with_capacity(bytes.len());
                (&reader).read_to_end(&mut received).unwrap();
                assert!(received == bytes, "what arrived is not what was sent");
            });
            drop(reader);
        });
        let (up, down) = if from_client { (bytes.len() + 1, 0) } else { (0, bytes.len() + 1) };
        let (_, end, counted_up, counted_down) = how(&closed);
        assert_eq!((end, counted_up, counted_down), ("finished", up as u64, down as u64), "{door:?}");
    }
}

#[test]
fn a_reset_by_the_node_is_a_reset_for_a_tcp_client_and_an_end_for_a_unix_client() {
    let course = Course::new();
    for door in DOORS {
        let closed = course.closed(door, |client, node| {
            pass(&node, &client);
            reset(node);
            match door {
                Door::Tcp => assert_eq!(read_error(&client), ErrorKind::ConnectionReset),
                Door::Unix => assert_eq!(heard(&client), "", "Unix sockets know no reset"),
            }
        });
        assert_eq!(how(&closed), ("upstream", "reset", 0, 1), "{door:?}");
    }
}

#[test]
fn a_reset_by_a_tcp_client_reaches_the_node() {
    let course = Course::new();
    let closed = course.closed(Door::Tcp, |client, node| {
        pass(&client, &node);
        reset(client);
        assert_eq!(read_error(&node), ErrorKind::ConnectionReset);
    });
    assert_eq!(how(&closed), ("client", "reset", 1, 0));
}

#[test]
fn a_client_that_closes_ends_the_relay_though_the_node_is_silent() {
    let course = Course::new();
    let closed = course.closed(Door::Unix, |client, node| {
        pass(&client, &node);
        drop(client);
        assert_eq!(heard(&node), "");
        // Until the end is in the log the node keeps its end open and says nothing.
        assert_eq!(course.daemon.wait_for("relay closed")["by"], "client");
    });
    assert_eq!(how(&closed), ("client", "finished", 1, 0));
}

#[test]
fn a_client_that_closes_after_it_has_ended_its_side_is_noticed() {
    let course = Course::new();
    let closed = course.closed(Door::Unix, |client, node| {
        say(&client, "question");
        assert_eq!(heard(&node), "question");
        pass(&node, &client);
        drop(client);
        assert_eq!(course.daemon.wait_for("relay closed")["by"], "client");
    });
    assert_eq!(how(&closed), ("client", "finished", 8, 1));
}

#[test]
fn a_tcp_client_that_has_closed_is_noticed_by_the_next_byte_for_it() {
    let course = Course::new();
    let closed = course.closed(Door::Tcp, |client, node| {
        pass(&client, &node);
        drop(client);
        assert_eq!(heard(&node), "", "a close looks like a half-close");
        (&node).write_all(b"are you there?").unwrap();
        course.daemon.wait_for("relay closed");
    });
    assert_eq!(how(&closed), ("client", "reset", 1, 14));
}

/// A daemon whose dial of `db` has begun and never ends.
fn endless_dial() -> (Daemon, FullBacklog, DeadPort) {
    let (silent, dead) = (FullBacklog::new(), DeadPort::new());
    let routes = dead.route("^db@", "weight = 2") + &silent.route("db", "weight = 1");
    let extra = "[log]\nlevel = \"debug\"\n[dial]\nconnect_timeout = \"1h\"\nestablish = \"1h\"\n";
    (Daemon::start_with(&routes, &(extra.to_owned() + &forward_to("db@forward"))), silent, dead)
}

#[test]
fn a_client_that_goes_away_ends_the_dial() {
    let (daemon, _silent, _dead) = endless_dial();
    for (tail, later, half_close) in
        [("", "", false), ("", "bytes", false), ("", "", true), ("", "bytes", true), ("tail", "", false)]
    {
        let mark = daemon.mark();
        let mut client = open(&daemon.socket());
        client.write_all((upgrade_head("db@x") + tail).as_bytes()).unwrap();
        daemon.wait_after(mark, "attempt failed");
        client.write_all(later.as_bytes()).unwrap();
        if half_close {
            client.shutdown(Shutdown::Write).unwrap();
        }
        drop(client);
        let refused = daemon.wait_after(mark, "refused");
        assert_eq!((&refused["code"], &refused["node"]), (&"client_gone".into(), &"db@x".into()));
        assert_eq!(refused["level"], "INFO", "clients may come and go");
    }
}

#[test]
fn a_tcp_client_that_resets_ends_the_dial() {
    let (daemon, _silent, _dead) = endless_dial();
    let mark = daemon.mark();
    let mut client = TcpStream::connect(daemon.forward()).unwrap();
    client.write_all(b"bytes that nobody reads").unwrap();
    daemon.wait_after(mark, "attempt failed");
    reset(client.into());
    assert_eq!(daemon.wait_after(mark, "refused")["code"], "client_gone");
}

#[test]
fn a_client_that_has_ended_its_side_while_portolan_dials_is_not_gone() {
    let (silent, node) = (FullBacklog::new(), Node::named("db"));
    let routes = silent.route("^db@", "weight = 200\nconnect_timeout = \"100ms\"") + &node.route("db", "");
    let daemon = Daemon::start_with(&routes, &forward_to("db@forward"));

    let mut client = open(&daemon.socket());
    client.write_all((upgrade_head("db@x") + "all that there is").as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_answer(&mut client).status, 101);
    assert_eq!(heard(&patient(client.into())), "db\nall that there is");
    let closed = daemon.wait_for("relay closed");
    assert_eq!(how(&closed), ("client", "finished", 17, 20));
    assert_eq!(closed["attempts"], 2, "it had ended its side long before");

    let client = patient(TcpStream::connect(daemon.forward()).unwrap().into());
    say(&client, "all that there is");
    assert_eq!(heard(&client), "db\nall that there is");
}

#[test]
fn three_hundred_relays_at_once_keep_their_bytes_apart() {
    const RELAYS: usize = 300;
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("^db@", ""), &forward_to("db@forward"));
    let open = |number: usize| -> Socket {
        let mut client: Socket = match number % 2 {
            0 => connect(&daemon.socket(), "db@x").into(),
            _ => patient(TcpStream::connect(daemon.forward()).unwrap().into()),
        };
        assert_eq!(line(&mut client), "db");
        client
    };
    let clients: Vec<_> = (0..RELAYS).map(open).collect();
    let mut sent: Vec<_> = thread::scope(|scope| {
        let numbered = clients.into_iter().zip(0..);
        let threads: Vec<_> = numbered.map(|(client, seed)| scope.spawn(move || exchange(&client, seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (status, lines) = daemon.stop();
    assert!(status.success());
    let closed = lines.iter().filter(|line| line["message"] == "relay closed").map(how);
    let mut counted: Vec<_> = closed
        .map(|(by, end, up, down)| {
            assert_eq!((by, end, down), ("client", "finished", up + 3));
            up
        })
        .collect();
    sent.sort_unstable();
    counted.sort_unstable();
    assert_eq!(counted, sent);
}

/// Sends a few pieces of noise to a node that echoes, and returns how many bytes that was.
fn exchange(mut client: &Socket, seed: u64) -> u64 {
    let (mut noise, mut sent) = (Noise::new(seed), 0);
    for _ in 0..noise.next() % 8 {
        let len = usize::try_from(noise.next() % 60_000).unwrap();
        let bytes = noise.bytes(len);
        client.write_all(&bytes).unwrap();
        let mut echoed = vec![0; len];
        client.read_exact(&mut echoed).unwrap();
        assert!(echoed == bytes, "relay {seed} got the bytes of another");
        sent += len as u64;
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(heard(client), "");
    sent
}
