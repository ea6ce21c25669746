//! The request forms on the socket, and their outcomes.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::support::client::{ask, connect, line, open, read_answer, upgrade, upgrade_head};
use crate::support::daemon::Daemon;
use crate::support::node::{DeadPort, Node};

#[test]
fn upgrade_connects_and_says_by_which_route_and_where() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@", "weight = 7"));
    let (mut stream, answer) = upgrade(&daemon.socket(), "db@prod");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("Upgrade"), "portolan-tunnel");
    assert_eq!(answer.header("Connection"), "Upgrade");
    assert_eq!(answer.header("Portolan-Route"), "\"^db@\"");
    assert_eq!(answer.header("Proxy-Status"), format!("portolan; next-hop=\"{}\"", node.address()));
    assert_eq!(line(&mut stream), "db");
    stream.write_all(b"ping").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).unwrap();
    assert_eq!(echoed, "ping");

    let closed = daemon.wait_for("relay closed");
    assert_eq!(closed["node"], "db@prod");
    assert_eq!(closed["route"], "^db@");
    assert_eq!(closed["address"], node.address().to_string());
    assert_eq!((&closed["attempts"], &closed["up"], &closed["down"]), (&1.into(), &4.into(), &7.into()));
    assert_eq!(closed["by"], "client");
}

#[test]
fn any_name_can_be_asked_for_when_it_is_percent_encoded() {
    let node = Node::named("odd");
    let daemon = Daemon::start(&node.route("^мост и/дом@x$", ""));
    let encoded = "%D0%BC%D0%BE%D1%81%D1%82%20%D0%B8%2F%D0%B4%D0%BE%D0%BC@x";
    let (mut stream, answer) = upgrade(&daemon.socket(), encoded);
    assert_eq!(answer.status, 101);
    assert_eq!(line(&mut stream), "odd");
    assert!(answer.header("Portolan-Route").starts_with("%\"^%d0%bc"), "a Display String (RFC 9651, 3.3.8)");
}

#[test]
fn connect_and_socks5_reach_the_same_node() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("^db@10.0.1.50$", ""));
    let (mut stream, answer) = ask(&daemon.socket(), b"CONNECT db@10.0.1.50:0 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, line(&mut stream).as_str()), (200, "db"));

    let mut stream = open(&daemon.socket());
    stream.write_all(b"\x05\x01\x00").unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    stream.write_all(b"\x05\x01\x00\x03\x0cdb@10.0.1.50\x00\x00").unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(line(&mut stream), "db");
}

#[test]
fn socks5_addresses_are_names_too() {
    let (four, six) = (Node::named("four"), Node::named("six"));
    let daemon = Daemon::start(&(four.route("^10.0.1.50$", "") + &six.route("^fd00::1$", "")));
    let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (address, name) in [([&[1][..], &[10, 0, 1, 50]].concat(), "four"), ([&[4][..], &v6].concat(), "six")] {
        let mut stream = open(&daemon.socket());
        // Everything at once, as a client in a hurry sends it.
        stream.write_all(&[&b"\x05\x01\x00\x05\x01\x00"[..], &address, b"\x11\x12"].concat()).unwrap();
        let mut replies = [0; 12];
        stream.read_exact(&mut replies).unwrap();
        assert_eq!(replies[..4], [5, 0, 5, 0]);
        assert_eq!(line(&mut stream), name);
    }
}

#[test]
fn bytes_behind_the_head_are_the_first_for_the_node() {
    let node = Node::echo();
    let daemon = Daemon::start(&node.route("db", ""));
    let (mut stream, answer) = ask(&daemon.socket(), (upgrade_head("db@x") + "first bytes\n").as_bytes());
    assert_eq!(answer.status, 101);
    assert_eq!(line(&mut stream), "first bytes");
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let mut stream = open(&daemon.socket());
    for byte in upgrade_head("db@x").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_answer(&mut stream).status, 101);
    assert_eq!(line(&mut stream), "db");
}

#[test]
fn no_route_is_a_404_with_a_problem() {
    let node = Node::echo();
    let daemon = Daemon::start(&node.route("^db@", ""));
    let (_, answer) = upgrade(&daemon.socket(), "other@x");
    assert_eq!(answer.status, 404);
    assert!(answer.header("Proxy-Status").starts_with("portolan; error=destination_not_found"));
    let problem = answer.problem();
    assert_eq!((&problem["code"], &problem["status"]), (&"no_route".into(), &404.into()));
    assert_eq!(problem["node"], "other@x");
    let refused = daemon.wait_for("refused");
    assert_eq!((&refused["code"], &refused["node"]), (&"no_route".into(), &"other@x".into()));
    assert_eq!(node.accepted(), 0);
}

#[test]
fn when_all_failed_every_attempt_is_in_the_body() {
    let (first, second) = (DeadPort::new(), DeadPort::new());
    let daemon = Daemon::start(&(first.route("^db@", "weight = 1") + &second.route("db", "weight = 2")));
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!(answer.status, 502);
    assert!(answer.header("Proxy-Status").starts_with("portolan; error=connection_refused"));
    let problem = answer.problem();
    assert_eq!(problem["code"], "all_failed");
    let attempts = problem["attempts"].as_array().unwrap();
    let told: Vec<_> =
        attempts.iter().map(|at| (at["match"].as_str().unwrap(), at["stage"].as_str().unwrap())).collect();
    assert_eq!(told, [("db", "tcp"), ("^db@", "tcp")]);
    assert_eq!(attempts[0]["address"], format!("127.0.0.1:{}", second.port()));
    assert_eq!((&attempts[0]["node"], &attempts[0]["error"]), (&"db@x".into(), &"connection refused".into()));
    assert!(attempts[0]["ms"].is_number());
}

#[test]
fn what_is_no_request_is_told_why_and_costs_nobody_else_anything() {
    let node = Node::named("db");
    let daemon = Daemon::start(&node.route("db", ""));
    let upgrade = "HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: portolan-tunnel\r\n";
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400),
        ("GET /v1/connect/db HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400),
        ("POST /v1/connect/db HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400),
        (format!("GET /v1/connect/db {upgrade}Content-Length: 5\r\n\r\nhello"), 400),
        (format!("GET /v1/connect/db?handoff=2 {upgrade}\r\n"), 400),
        (format!("GET /v1/connect/db?deadline=soon {upgrade}\r\n"), 400),
        (format!("GET /v1/connect/%FF {upgrade}\r\n"), 400),
        (format!("GET /v1/connect/a%0Ab {upgrade}\r\n"), 400),
        (format!("GET /v1/connect/{} HTTP/1.1\r\n", "x".repeat(9000)), 431),
        ("\u{16}\u{3}\u{1}\0 this is a TLS handshake".to_owned(), 400),
    ] {
        let (_, answer) = ask(&daemon.socket(), head.as_bytes());
        assert_eq!(answer.status, status, "{head:?}");
        assert_eq!(answer.problem()["code"], "bad_request", "{head:?}");
    }
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}

#[test]
fn a_head_that_never_ends_is_a_408() {
    let daemon = Daemon::start_with(&DeadPort::new().route("db", ""), "[dial]\nestablish = \"50ms\"\n");
    let (_, answer) = ask(&daemon.socket(), b"GET /v1/connect/db HTTP/1.1\r\nHost:");
    assert_eq!((answer.status, &answer.problem()["code"]), (408, &"bad_request".into()));
}

#[test]
fn a_client_may_ask_for_less_time() {
    let silent = crate::support::node::FullBacklog::new();
    let routes = silent.route("db", "");
    let daemon = Daemon::start_with(&routes, "[dial]\nconnect_timeout = \"1h\"\nestablish = \"1h\"\n");
    let (_, answer) = upgrade(&daemon.socket(), "db@x?deadline=50ms");
    assert_eq!((answer.status, &answer.problem()["code"]), (504, &"all_failed".into()));
    assert_eq!(answer.problem()["attempts"][0]["error"], "timed out");
}
