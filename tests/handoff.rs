//! Hand-off: the client gets the upstream's descriptor, and the daemon is out of the way.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use portolan::client::{Client, ConnectError};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;

use crate::support::HANG;
use crate::support::client::{Answer, ask, connect, line, open, read_answer, upgrade, upgrade_head};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, FullBacklog, Node};

/// Asks for a hand-off and takes the first byte with what comes along; the stream stands behind the head.
fn hand_off(socket: &Path, node: &str) -> (UnixStream, Answer, Option<OwnedFd>) {
    let mut stream = open(socket);
    stream.write_all(upgrade_head(&format!("{node}?handoff=1")).as_bytes()).unwrap();
    let descriptor = peek_descriptor(&stream);
    let answer = read_answer(&mut stream);
    (stream, answer, descriptor)
}

/// What a peek at the first byte brings: a peek duplicates the descriptor, and the byte stays.
fn peek_descriptor(stream: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
    recvmsg(stream, &mut [IoSliceMut::new(&mut [0])], &mut control, flags).unwrap();
    let mut messages = control.drain();
    match messages.next() {
        Some(RecvAncillaryMessage::ScmRights(mut descriptors)) => descriptors.next(),
        _ => None,
    }
}

fn tcp(descriptor: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(descriptor);
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

fn echoes(stream: &mut (impl Read + Write), text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut echoed = vec![0; text.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, text);
}

/// What the daemon's descriptors are.
fn descriptors(daemon: &Daemon) -> Vec<String> {
    let folder = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    // One that is closed meanwhile is none.
    let links = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.to_str().unwrap().to_owned()).collect()
}

/// The inodes of what the daemon's epolls watch (proc(5): `fdinfo`).
fn watched(daemon: &Daemon) -> Vec<u64> {
    let folder = format!("/proc/{}/fdinfo", daemon.pid().as_raw_nonzero());
    // One that is closed meanwhile is none.
    let infos = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let inode = |line: &str| u64::from_str_radix(line.split_once(" ino:")?.1.split(' ').next()?, 16).ok();
    infos.flat_map(|info| info.lines().filter_map(inode).collect::<Vec<_>>()).collect()
}

/// The inode of a socket, whose ever descriptor it is.
fn inode(socket: &impl std::os::fd::AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

/// How the system names a descriptor's socket.
fn name_of(descriptor: &impl std::os::fd::AsRawFd) -> String {
    fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn the_descriptor_comes_with_the_answer_and_nothing_of_it_stays() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", ""));
    let (mut asked, answer, descriptor) = hand_off(&daemon.socket(), "db@x");
    assert_eq!((answer.status, answer.header("Portolan-Handoff")), (101, "1"));
    assert_eq!(answer.header("Proxy-Status"), format!("portolan; next-hop=\"{}\"", node.address()));
    assert_eq!(answer.header("Portolan-Route"), "\"^db@\"");
    assert_eq!(asked.read(&mut [0]).unwrap(), 0, "nothing follows the head");

    let descriptor = descriptor.unwrap();
    assert!(!fcntl_getfl(&descriptor).unwrap().contains(OFlags::NONBLOCK));
    let mut upstream = tcp(descriptor);
    assert_eq!(upstream.peer_addr().unwrap(), node.address());
    let socket = socket2::SockRef::from(&upstream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap().unwrap().as_secs(), 300);
    assert_eq!(line(&mut upstream), "db");
    echoes(&mut upstream, b"from end to end");

    let logged = daemon.wait_for("handed off");
    assert_eq!((&logged["node"], &logged["route"], &logged["attempts"]), (&"db@x".into(), &"^db@".into(), &1.into()));
    assert_eq!(logged["address"], node.address().to_string());
    assert!(logged["ms"].is_u64() && logged["level"] == "INFO", "{logged}");
    let held = descriptors(&daemon);
    assert!(!held.contains(&name_of(&upstream)), "{held:?}");
    // A descriptor that is closed elsewhere stays in an epoll for as long as somebody has it open.
    let watched = watched(&daemon);
    assert!(!watched.is_empty() && !watched.contains(&inode(&upstream)), "{watched:?}");
    assert!(daemon.lines().iter().all(|line| line["message"] != "relay closed"));
}

#[test]
fn it_takes_no_place_among_the_relays() {
    let node = Node::echo();
    let daemon = Daemon::start_with(&node.route("db", ""), "[limits]\nrelays = 1\n");
    let mut handed: Vec<_> = (1..=3)
        .map(|count| {
            let upstream = tcp(hand_off(&daemon.socket(), "db@x").2.unwrap());
            // Its line is written when its place is free.
            daemon.wait_for_lines(count, "handed off");
            upstream
        })
        .collect();
    let mut relayed = connect(&daemon.socket(), "db@x");
    echoes(&mut relayed, b"relayed");
    let (_, answer, descriptor) = hand_off(&daemon.socket(), "db@x");
    assert_eq!((answer.status, &answer.problem()["code"]), (503, &"busy".into()));
    assert!(descriptor.is_none());
    handed.iter_mut().for_each(|upstream| echoes(upstream, b"handed off"));
}

#[test]
fn a_drain_neither_waits_for_it_nor_cuts_it() {
    let node = Node::echo();
    let daemon = Daemon::start_with(&node.route("db", ""), "[limits]\ndrain_timeout = \"1h\"\n");
    let mut upstream = tcp(hand_off(&daemon.socket(), "db@x").2.unwrap());
    daemon.wait_for("handed off");
    let (status, lines) = daemon.stop();
    assert!(status.success());
    let ended = lines.iter().find(|line| line["message"] == "ended").unwrap();
    assert_eq!(ended["level"], "INFO", "{ended}");
    echoes(&mut upstream, b"after the end of the daemon");
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn it_outlives_a_daemon_that_is_killed() {
    let node = Node::echo();
    let mut daemon = Daemon::start(&node.route("db", ""));
    let mut upstream = tcp(hand_off(&daemon.socket(), "db@x").2.unwrap());
    daemon.signal(Signal::KILL);
    daemon.wait();
    echoes(&mut upstream, b"still there");
}

#[test]
fn a_route_with_tls_is_refused_before_anything_is_dialed() {
    let node = Node::echo();
    let daemon = Daemon::start(&node.route("^db@", "tls = { insecure_skip_verify = true }"));
    let (_, answer, descriptor) = hand_off(&daemon.socket(), "db@x");
    let why = "hand-off needs a plain TCP upstream; route \"^db@\" has TLS: ask without handoff=1";
    assert_eq!((answer.status, descriptor.is_none()), (409, true));
    assert_eq!((&answer.problem()["code"], &answer.problem()["detail"]), (&"no_handoff".into(), &why.into()));
    assert!(answer.header("Proxy-Status").starts_with("portolan; error=http_request_denied; "));
    assert_eq!(node.accepted(), 0);
    assert_eq!(daemon.wait_for("refused")["code"], "no_handoff");
}

#[test]
fn failover_goes_to_a_plain_upstream_and_ends_at_one_with_tls() {
    let (dead, plain) = (DeadPort::new(), Node::named("plain"));
    let daemon = Daemon::start(&(dead.route("^a@", "weight = 2") + &plain.route("a@", "weight = 1")));
    let (_, answer, descriptor) = hand_off(&daemon.socket(), "a@x");
    assert_eq!((answer.status, line(&mut tcp(descriptor.unwrap())).as_str()), (101, "plain"));
    assert_eq!(daemon.wait_for("handed off")["attempts"], 2);

    let (_, answer, _) = hand_off(&daemon.socket(), "unknown");
    assert_eq!((answer.status, &answer.problem()["code"]), (404, &"no_route".into()));
}

#[test]
fn bytes_behind_the_head_are_refused_before_and_during_the_dial() {
    let node = Node::echo();
    let silent = FullBacklog::new();
    let slow = silent.route("slow", "weight = 2\nconnect_timeout = \"1s\"") + &node.route("slow@", "weight = 1");
    let daemon = Daemon::start(&(slow + &node.route("db", "")));
    let refused = |answer: Answer| {
        assert_eq!((answer.status, &answer.problem()["code"]), (400, &"bad_request".into()));
        let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("bytes came behind a head with handoff=1, and would be lost"), "{detail}");
    };
    let head = upgrade_head("db@x?handoff=1");
    refused(ask(&daemon.socket(), format!("{head}x").as_bytes()).1);
    assert_eq!(node.accepted(), 0);

    let mut stream = open(&daemon.socket());
    stream.write_all(upgrade_head("slow@x?handoff=1").as_bytes()).unwrap();
    stream.write_all(b"x").unwrap();
    refused(read_answer(&mut stream));
}

#[test]
fn a_client_that_makes_no_room_for_the_descriptor_loses_it_and_nobody_keeps_it() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let (mut stream, answer) = upgrade(&daemon.socket(), "db@x?handoff=1");
    assert_eq!((answer.status, answer.header("Portolan-Handoff")), (101, "1"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    daemon.wait_for("handed off");
    let held = descriptors(&daemon);
    let kept = held.iter().filter(|link| link.starts_with("socket:")).count();
    let (_, answer) = upgrade(&daemon.socket(), "db@x?handoff=1");
    assert_eq!(answer.status, 101);
    daemon.wait_for_lines(2, "handed off");
    assert_eq!(descriptors(&daemon).iter().filter(|link| link.starts_with("socket:")).count(), kept);
}

#[test]
fn other_values_are_refused_and_other_forms_are_relayed() {
    let node = Node::named("db");
    let forward = "[[forward]]\nlisten = \"127.0.0.1:0\"\nnode = \"db@x\"\nopen = true\n";
    let daemon = Daemon::start_with(&node.route("db", ""), forward);
    for (query, status) in [("handoff=0", 101), ("handoff=2", 400), ("handoff=1&handoff=1", 400)] {
        assert_eq!(upgrade(&daemon.socket(), &format!("db@x?{query}")).1.status, status, "{query}");
    }
    let (mut stream, answer) = ask(&daemon.socket(), b"CONNECT db@x:1 HTTP/1.0\r\n\r\n");
    assert_eq!((answer.status, line(&mut stream).as_str()), (200, "db"));
    let mut socks5 = open(&daemon.socket());
    socks5.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x04db@x\x00\x00").unwrap();
    socks5.read_exact(&mut [0; 12]).unwrap();
    assert_eq!(line(&mut socks5), "db");
    assert_eq!(line(&mut TcpStream::connect(daemon.forward()).unwrap()), "db");
    assert!(daemon.lines().iter().all(|line| line["message"] != "handed off"));
}

#[tokio::test]
async fn the_library_connects_with_and_without() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (node, dead) = (Node::named("db"), DeadPort::new());
    let tls = dead.route("^tls@", "tls = true");
    let daemon = Daemon::start(&(node.route("^db@", "") + &dead.route("^dead@", "") + &tls));
    let client = Client::at(daemon.socket());

    let mut tunnel = client.connect("db@x").deadline(HANG).open().await.unwrap();
    tunnel.write_all(b"relayed").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut said = String::new();
    tunnel.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "db\nrelayed");

    let mut tcp = client.connect("db@x").handoff().deadline(HANG).open().await.unwrap();
    assert_eq!(tcp.peer_addr().unwrap(), node.address());
    tcp.write_all(b"handed off").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut said = String::new();
    tcp.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "db\nhanded off");

    let refused = |error: ConnectError| match error {
        ConnectError::Refused(problem) => (problem.code, problem.status, problem.attempts.len()),
        other => panic!("{other}"),
    };
    let opened = client.connect("dead@x").open().await;
    assert_eq!(refused(opened.unwrap_err()), ("all_failed".to_owned(), 502, 1));
    let opened = client.connect("tls@x").handoff().open().await;
    assert_eq!(refused(opened.unwrap_err()), ("no_handoff".to_owned(), 409, 0));
    let opened = client.connect("").open().await;
    assert!(matches!(opened.unwrap_err(), ConnectError::BadName(_)));
}
