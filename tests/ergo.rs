//! Ergo's registrar as a resolver: one of the test answers as the recorded one did.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, Node};
use crate::support::until;

/// What Ergo 3.1.0 says of a node, before its routes and behind them.
const HEAD: &[u8] = b"\x83\0\x35#ergo.services/ergo/net/registrar/MessageResolveReply";
const VERSIONS: &[u8] = b"\0\x03EHS\0\x02R1\0\0\0\x03MIT\0\x03ENP\0\x02R1\0\0\0\x03MIT";

/// Routes on these ports at the host of the node's name.
fn routes(ports: &[u16]) -> Vec<u8> {
    let mut body = [HEAD, b"\x9d", &u32::try_from(ports.len()).unwrap().to_be_bytes()].concat();
    for port in ports {
        body.extend([&b"\0\0"[..], &port.to_be_bytes(), b"\0", VERSIONS].concat());
    }
    body.extend(b"\xff\xff");
    packet(&body)
}

fn unknown() -> Vec<u8> {
    packet(&[HEAD, b"\xff\0\x07unknown"].concat())
}

fn packet(body: &[u8]) -> Vec<u8> {
    [b"\x01\x2f", &u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

/// A registrar that says the same to everybody; an empty answer is lost on its way.
struct Registrar {
    port: u16,
    says: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
}

impl Registrar {
    fn saying(answer: Vec<u8>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (says, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answer, count) = (Arc::clone(&says), Arc::clone(&asked));
        // It ends with the process.
        std::thread::spawn(move || {
            let mut question = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                assert!(question[..length].ends_with(b"@127.0.0.1"), "the whole name is asked for");
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                if !answer.is_empty() {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Self { port, says, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn now_saying(&self, answer: Vec<u8>) {
        *self.says.lock().unwrap() = answer;
    }

    fn daemon(&self, routes: &str) -> Daemon {
        let keys = "ttl = '10ms'\nnegative_ttl = '10ms'\ntimeout = '1s'\n";
        let port = self.port;
        let more = format!("[discovery]\nresolver = 'ergo'\n[resolver.ergo]\ntype = 'ergo'\nport = {port}\n{keys}");
        Daemon::start_with(&format!("allow_empty = true\n{routes}"), &more)
    }
}

fn error(daemon: &Daemon) -> String {
    let (_, answer) = upgrade(&daemon.socket(), "other@127.0.0.1");
    let problem = answer.problem();
    problem["attempts"][0]["error"].as_str().unwrap_or(problem["detail"].as_str().unwrap()).to_owned()
}

#[test]
fn every_route_of_a_node_is_tried_and_what_changes_is_followed() {
    let (dead, first, second) = (DeadPort::new(), Node::named("second route"), Node::named("moved"));
    let registrar = Registrar::saying(routes(&[dead.port(), first.port()]));
    let daemon = registrar.daemon("");
    let reached = || line(&mut connect(&daemon.socket(), "db@127.0.0.1"));
    assert_eq!(reached(), "second route");
    registrar.now_saying(routes(&[second.port()]));
    until("the move is known", || reached() == "moved");
    registrar.now_saying(unknown());
    until("the node is gone", || upgrade(&daemon.socket(), "db@127.0.0.1").1.status == 404);
}

#[test]
fn a_route_that_works_asks_nobody_and_a_lost_question_is_put_again() {
    let (fixed, known) = (Node::named("fixed"), Node::named("known"));
    let registrar = Registrar::saying(Vec::new());
    let daemon = registrar.daemon(&fixed.route("^fixed@", ""));
    for _ in 0..100 {
        assert_eq!(line(&mut connect(&daemon.socket(), "fixed@127.0.0.1")), "fixed");
    }
    assert_eq!(registrar.asked(), 0);
    let asking = std::thread::spawn({
        let socket = daemon.socket();
        move || line(&mut connect(&socket, "db@127.0.0.1"))
    });
    until("the question was put twice", || registrar.asked() >= 2);
    registrar.now_saying(routes(&[known.port()]));
    assert_eq!(asking.join().unwrap(), "known");
}

#[test]
fn what_is_no_answer_loses_its_own_request_and_is_logged_with_its_source() {
    let registrar = Registrar::saying(b"\x01\x2f\xff\xffgarbage".to_vec());
    let daemon = registrar.daemon("");
    let error = error(&daemon);
    let expected = format!("the resolver gave an answer that is not understood: 127.0.0.1:{}: ", registrar.port);
    assert!(error.starts_with(&expected), "{error}");
    let node = Node::named("well again");
    registrar.now_saying(routes(&[node.port()]));
    until("it is understood again", || upgrade(&daemon.socket(), "other@127.0.0.1").1.status == 101);
}

#[test]
fn a_host_without_a_registrar_is_away_and_holds_up_nobody() {
    let (dead, fixed) = (DeadPort::new(), Node::named("fixed"));
    let more = format!("[discovery]\nresolver = 'ergo'\n[resolver.ergo]\ntype = 'ergo'\nport = {}\n", dead.port());
    let daemon = Daemon::start_with(&fixed.route("^fixed@", ""), &more);
    assert!(error(&daemon).starts_with("the resolver is away: "), "{}", error(&daemon));
    assert_eq!(line(&mut connect(&daemon.socket(), "fixed@x")), "fixed");
}
