//! What a primary costs that does not answer: the first request `race_after`, the next ones nothing.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::certs::Authority;
use crate::support::client::{ask, connect, line, open, upgrade_head};
use crate::support::daemon::{Daemon, Folder, can_unshare, run_by, utf8};
use crate::support::node::{DeadPort, FullBacklog, Node};
use crate::support::tls::Lab;

const DEBUG: &str = "[log]\nlevel = \"debug\"\n";

/// Asks for a node; what it says first, how long that took, and the line of the log about it.
fn first_byte(daemon: &Daemon, node: &str) -> (String, Duration, Value) {
    let (mark, began) = (daemon.mark(), Instant::now());
    let said = line(&mut connect(&daemon.socket(), node));
    (said, began.elapsed(), daemon.wait_after(mark, "relay closed"))
}

/// The first request tries the primary and the backup, the next ones the backup alone; the upstream is ejected once.
fn costs_the_first_request_alone(what: &str, daemon: &Daemon, error: &str) {
    let (said, first, closed) = first_byte(daemon, "db@x");
    assert_eq!((said.as_str(), &closed["attempts"]), ("backup", &2.into()), "{what}");
    let failed = daemon.wait_for("attempt failed");
    assert!(failed["error"].as_str().unwrap().contains(error), "{what}: {failed}");
    let ejected = daemon.wait_for("upstream ejected");
    assert_eq!((&ejected["level"], &ejected["error"]), (&"WARN".into(), &failed["error"]), "{what}");

    let next: Vec<_> = (0..5).map(|_| first_byte(daemon, "db@x")).collect();
    assert!(next.iter().all(|(said, _, closed)| said == "backup" && closed["attempts"] == 1), "{what}: {next:?}");
    assert_eq!(daemon.said(0, "WARN").iter().filter(|said| *said == "upstream ejected").count(), 1, "{what}");
    let next = next.iter().map(|(_, took, _)| *took).min().unwrap();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    eprintln!("first byte, {what}: {:.1} ms, then {:.2} ms", millis(first), millis(next));
}

#[test]
fn a_primary_whose_syn_is_lost_is_overtaken() {
    let (silent, backup) = (FullBacklog::new(), Node::named("backup"));
    let routes = silent.route("^db@", "weight = 200") + &backup.route("db", "");
    let daemon = Daemon::start_with(&routes, &(DEBUG.to_owned() + "[dial]\nrace_after = \"200ms\"\n"));
    costs_the_first_request_alone("SYN lost, race_after 200 ms", &daemon, "overtaken");
    assert_eq!(daemon.wait_for("attempt failed")["stage"], "tcp");
}

#[test]
fn a_primary_that_is_silent_under_tls_is_overtaken() {
    let lab = Lab::new();
    let silent = Node::new(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
    let backup = Node::named("backup");
    let tls = lab.trusting("") + "\nweight = 200\nrace_after = \"200ms\"";
    let daemon = Daemon::start_with(&(silent.route("^db@", &tls) + &backup.route("db", "")), DEBUG);
    costs_the_first_request_alone("silent under TLS, race_after 200 ms", &daemon, "overtaken");
    assert_eq!(daemon.wait_for("attempt failed")["stage"], "tls");
}

#[test]
fn a_primary_that_fails_at_once_costs_next_to_nothing() {
    let lab = Lab::new();
    let (dead, reset) = (DeadPort::new(), Node::resetting());
    let (plain, ended) = (Node::named("plain"), Node::new(|mut stream| drop(stream.read(&mut [0; 4096]))));
    let expired = lab.openssl_with(&lab.authority.expired_server(&["127.0.0.1"]), &["-rev"]);
    let heavy = "weight = 200\nrace_after = \"never\"\n";
    let tls = heavy.to_owned() + &lab.trusting("");
    for (what, error, primary) in [
        ("refused", "refused", dead.route("^db@", heavy)),
        ("reset behind the ClientHello", "closed by the peer", reset.route("^db@", &tls)),
        ("ended behind the ClientHello", "closed by the peer", ended.route("^db@", &tls)),
        ("no TLS", "does not speak TLS", plain.route("^db@", &tls)),
        ("expired", "certificate refused: expired", expired.route("^db@", &tls)),
    ] {
        let backup = Node::named("backup");
        let daemon = Daemon::start_with(&(primary + &backup.route("db", "")), DEBUG);
        costs_the_first_request_alone(what, &daemon, error);
    }
}

/// The words before a command that give it a network of its own.
const ALONE: &[&str] = &["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"];

/// A network of its own, in which SYNs to 10.83.0.2 vanish, there is no way to 10.84.0.2 and the one to 10.85.0.2 is
/// forbidden; the backup listens on a port that nobody else can have.
const VOID: &str = r#"
ip link set lo up
ip link add out type veth peer name void
ip addr add 10.83.0.1/24 dev out
ip link set out up
ip link set void up
ip neigh add 10.83.0.2 lladdr 02:00:00:00:00:02 dev out nud permanent
ip route add prohibit 10.85.0.2
python3 -c '
import os, socket
listener = socket.create_server(("127.0.0.1", 4370))
if os.fork() == 0:
    while True:
        listener.accept()[0].sendall(b"backup\n")
' </dev/null
exec "$@"
"#;

#[test]
fn a_primary_behind_a_dead_network_costs_race_after_once() {
    if !can_unshare() || Command::new("ip").arg("-V").output().is_err() {
        return eprintln!("skipped: there is no ip(8) or no namespace for it here");
    }
    let route = |pattern: &str, host: &str, weight: u32| {
        format!("[[route]]\nmatch = '{pattern}'\nhost = '{host}'\nport = 4370\nweight = {weight}\n")
    };
    for (what, host, error) in [
        ("SYN lost on a veth, race_after 1500 ms", "10.83.0.2", "overtaken"),
        ("no way to the network", "10.84.0.2", "network unreachable"),
        ("a way that is forbidden", "10.85.0.2", "a firewall or a route forbids it"),
    ] {
        let folder = Folder::new(&(route("^db@", host, 200) + &route("db", "127.0.0.1", 100)), DEBUG);
        let command = folder.command(&["run", "--config", "portolan.toml"]);
        let command = run_by(&[ALONE, &["sh", "-ec", VOID, "sh"]].concat(), &command);
        let daemon = Daemon::spawn(folder, command);
        costs_the_first_request_alone(what, &daemon, error);
    }
}

/// A network of its own in which connections have two ports to come from; two nodes say their names and hold what they
/// accept.
const TWO_PORTS: &str = r#"
ip link set lo up
echo 50000 50001 >/proc/sys/net/ipv4/ip_local_port_range
python3 -c '
import os, socket
for name, port in ((b"primary\n", 4370), (b"backup\n", 4371)):
    listener, held = socket.create_server(("127.0.0.1", port)), []
    if os.fork() == 0:
        while True:
            held.append(listener.accept()[0])
            held[-1].sendall(name)
' </dev/null
exec "$@"
"#;

#[test]
fn an_upstream_that_no_port_is_left_for_is_not_ejected() {
    if !can_unshare() || Command::new("ip").arg("-V").output().is_err() {
        return eprintln!("skipped: there is no ip(8) or no namespace for it here");
    }
    let route = |pattern: &str, port: u16, weight: u32| {
        format!("[[route]]\nmatch = '{pattern}'\nhost = '127.0.0.1:{port}'\nweight = {weight}\n")
    };
    let folder = Folder::new(&(route("^db@", 4370, 200) + &route("db", 4371, 100)), DEBUG);
    let command = folder.command(&["run", "--config", "portolan.toml"]);
    let daemon = Daemon::spawn(folder, run_by(&[ALONE, &["sh", "-ec", TWO_PORTS, "sh"]].concat(), &command));
    let reached: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = connect(&daemon.socket(), "db@x");
            (line(&mut stream), stream)
        })
        .collect();
    let names: Vec<_> = reached.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["primary", "primary", "backup", "backup"]);
    let failed = daemon.wait_for_lines(2, "attempt failed");
    assert!(failed.iter().all(|one| one["error"].as_str().unwrap().contains("every port is in use")), "{failed:?}");
    assert!(!daemon.said(0, "WARN").contains(&"upstream ejected".to_owned()));
}

#[test]
fn never_waits_for_the_failure() {
    let (silent, backup) = (FullBacklog::new(), Node::named("backup"));
    let more = "weight = 200\nrace_after = \"never\"\nconnect_timeout = \"100ms\"";
    let daemon = Daemon::start_with(&(silent.route("^db@", more) + &backup.route("db", "")), DEBUG);
    costs_the_first_request_alone("race_after never, connect_timeout 100 ms", &daemon, "timed out");
}

#[test]
fn a_short_deadline_ejects_nobody_and_the_daemon_still_learns() {
    let silent = FullBacklog::new();
    let daemon = Daemon::start_with(&silent.route("db", "connect_timeout = \"2s\""), DEBUG);
    let head = upgrade_head("db@x").replace("/db@x", "/db@x?deadline=50ms");
    let (_, answer) = ask(&daemon.socket(), head.as_bytes());
    assert_eq!((answer.status, &answer.problem()["attempts"][0]["error"]), (504, &"timed out".into()));
    let refused = daemon.mark();
    daemon.wait_for("upstream ejected");
    assert!(daemon.said(refused, "WARN").contains(&"upstream ejected".to_owned()), "its own time was over later");
}

#[test]
fn a_client_that_departs_ejects_nobody_and_the_daemon_still_learns() {
    let (dead, silent) = (DeadPort::new(), FullBacklog::new());
    let routes = dead.route("^db@", "weight = 200") + &silent.route("db", "connect_timeout = \"2s\"");
    let daemon = Daemon::start_with(&routes, DEBUG);
    let mut client = open(&daemon.socket());
    client.write_all(upgrade_head("db@x").as_bytes()).unwrap();
    // From here on the second one is dialed.
    daemon.wait_for("attempt failed");
    drop(client);
    assert_eq!(daemon.wait_for("refused")["code"], "client_gone");
    let gone = daemon.mark();
    let ejected = daemon.wait_after(gone, "upstream ejected");
    assert_eq!(ejected["error"], "timed out");
}

#[test]
fn a_plain_upstream_that_resets_behind_the_answer_is_up() {
    let (reset, backup) = (Node::resetting(), Node::named("backup"));
    let daemon = Daemon::start(&(reset.route("^db@", "weight = 200") + &backup.route("db", "")));
    for _ in 0..3 {
        let mark = daemon.mark();
        let mut stream = connect(&daemon.socket(), "db@x");
        stream.write_all(b"bytes").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "its reset is an end to a Unix client");
        let closed = daemon.wait_after(mark, "relay closed");
        assert_eq!(
            (&closed["attempts"], &closed["end"]),
            (&1.into(), &"reset".into()),
            "failover ends with the answer"
        );
    }
    assert_eq!((reset.accepted(), backup.accepted()), (3, 0));
}

#[test]
fn an_upstream_that_refuses_our_certificate_is_not_ejected() {
    let lab = Lab::new();
    let (cert, key) = Authority::new("stranger").client("portolan").write(lab.path(), "stranger");
    let identity = format!(", cert = '{}', key = '{}'", utf8(&cert), utf8(&key));
    // Under TLS 1.3 it would say so behind the handshake.
    let server = lab.openssl(&["-rev", "-tls1_2", "-Verify", "1", "-verify_return_error", "-CAfile", lab.ca()]);
    let backup = Node::named("backup");
    let tls = lab.trusting(&identity) + "\nweight = 200";
    let daemon = Daemon::start_with(&(server.route("^db@", &tls) + &backup.route("db", "")), DEBUG);
    for _ in 0..3 {
        let (said, _, closed) = first_byte(&daemon, "db@x");
        assert_eq!((said.as_str(), &closed["attempts"]), ("backup", &2.into()));
    }
    assert!(daemon.wait_for("attempt failed")["error"].as_str().unwrap().contains("our client certificate"));
    assert!(!daemon.said(0, "WARN").contains(&"upstream ejected".to_owned()));
}

#[test]
fn nothing_is_dialed_beside_one_that_answers_in_time() {
    let lab = Lab::new();
    let (heavy, light) = (lab.openssl(&["-rev"]), Node::named("light"));
    let daemon = Daemon::start(&(heavy.route("^db@", &(lab.trusting("") + "\nweight = 200")) + &light.route("db", "")));
    for _ in 0..3 {
        let mut stream = connect(&daemon.socket(), "db@x");
        stream.write_all(b"portolan\n").unwrap();
        assert_eq!(line(&mut stream), "nalotrop");
    }
    assert_eq!(light.accepted(), 0);
}
