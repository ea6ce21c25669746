//! Ergo's registrar as a resolver: one of the test answers as the recorded one did.

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, Node};
use crate::support::registrar::{Registrar, routes, unknown};
use crate::support::until;

fn daemon(registrar: &Registrar, routes: &str) -> Daemon {
    let keys = "ttl = '10ms'\nnegative_ttl = '10ms'\ntimeout = '1s'\n";
    let port = registrar.port();
    let more = format!("[discovery]\nresolver = 'ergo'\n[resolver.ergo]\ntype = 'ergo'\nport = {port}\n{keys}");
    Daemon::start_with(&format!("allow_empty = true\n{routes}"), &more)
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
    let daemon = daemon(&registrar, "");
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
    let daemon = daemon(&registrar, &fixed.route("^fixed@", ""));
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
    let daemon = daemon(&registrar, "");
    let error = error(&daemon);
    let expected = format!("the resolver gave an answer that is not understood: 127.0.0.1:{}: ", registrar.port());
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
