//! A name with many addresses, of which few are any good.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, Folder, can_unshare, run_by};
use crate::support::node::{FullBacklog, Node};
use crate::support::tls::Lab;

/// Starts a daemon that has this file in the place of `/etc/hosts`.
fn with_hosts(folder: Folder, hosts: &str) -> Daemon {
    folder.write("hosts", hosts);
    let command = folder.command(&["run", "--config", "portolan.toml"]);
    let mounted = "mount --bind hosts /etc/hosts && exec \"$@\"";
    let command = run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"], &command);
    Daemon::spawn(folder, command)
}

#[test]
fn of_ten_addresses_nine_are_dead() {
    if !can_unshare() {
        return;
    }
    let last = Ipv4Addr::new(127, 83, 1, 10);
    let node = Node::at((last, 0).into(), |mut stream| drop(stream.write_all(b"the tenth\n")));
    let silent = FullBacklog::at(SocketAddr::from((Ipv4Addr::new(127, 83, 1, 9), node.port())));
    let hosts: String = (1..=10).map(|number| format!("127.83.1.{number} ten.test\n")).collect();
    let route = format!("[[route]]\nmatch = 'db'\nhost = 'ten.test'\nport = {}\n", node.port());
    let daemon = with_hosts(Folder::new(&route, "[log]\nlevel = \"debug\"\n"), &hosts);

    let (reached, began) = (|| line(&mut connect(&daemon.socket(), "db@x")), Instant::now());
    assert_eq!(reached(), "the tenth");
    eprintln!("first byte, eight addresses refuse and one is silent: {:.1?}", began.elapsed());
    let closed = daemon.wait_for("relay closed");
    assert_eq!(closed["attempts"], 9, "the silent one has lost, not failed: {closed}");
    assert_eq!(closed["address"], node.address().to_string());

    let (mark, began) = (daemon.mark(), Instant::now());
    assert_eq!(reached(), "the tenth");
    eprintln!("first byte, the last good address first: {:.1?}", began.elapsed());
    assert_eq!(daemon.wait_after(mark, "relay closed")["attempts"], 1);
    assert!(!daemon.said(0, "WARN").contains(&"upstream ejected".to_owned()));
    drop(silent);
}

#[test]
fn a_name_without_a_good_address_is_ejected_as_one() {
    if !can_unshare() {
        return;
    }
    let backup = Node::named("backup");
    let hosts = "127.83.2.1 dead.test\n127.83.2.2 dead.test\n";
    let dead = "[[route]]\nmatch = '^db@'\nhost = 'dead.test'\nport = 9\nweight = 200\n".to_owned();
    let daemon = with_hosts(Folder::new(&(dead + &backup.route("db", "")), ""), hosts);
    for attempts in [3, 1] {
        let mark = daemon.mark();
        assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "backup");
        assert_eq!(daemon.wait_after(mark, "relay closed")["attempts"], attempts);
    }
    assert_eq!(daemon.wait_for("upstream ejected")["upstream"], "dead.test:9");
}

#[test]
fn tls_that_fails_at_one_address_is_tried_at_the_next() {
    if !can_unshare() {
        return;
    }
    let lab = Lab::new();
    // Of addresses that are as far from 127.0.0.1 the name service keeps the order.
    let good = lab.openssl_with(&lab.authority.server(&["two.test"]), &["-rev", "-accept", "127.83.3.2:0"]);
    let plain = Node::at((Ipv4Addr::new(127, 83, 3, 1), good.port()).into(), |mut stream| {
        drop(stream.write_all(b"who are you?\n"));
    });
    let tls = lab.trusting("");
    let route = format!("[[route]]\nmatch = 'db'\nhost = 'two.test'\nport = {}\n{tls}\n", good.port());
    let daemon = with_hosts(Folder::new(&route, ""), "127.83.3.1 two.test\n127.83.3.2 two.test\n");
    for attempts in [2, 1] {
        let mark = daemon.mark();
        let mut stream = connect(&daemon.socket(), "db@x");
        stream.write_all(b"portolan\n").unwrap();
        assert_eq!(line(&mut stream), "nalotrop");
        drop(stream);
        assert_eq!(daemon.wait_after(mark, "relay closed")["attempts"], attempts);
    }
    assert_eq!(plain.accepted(), 1);
}

#[test]
fn an_address_that_is_silent_under_tls_does_not_keep_its_name_from_the_others() {
    if !can_unshare() {
        return;
    }
    let lab = Lab::new();
    let good = lab.openssl_with(&lab.authority.server(&["two.test"]), &["-rev", "-accept", "127.83.4.2:0"]);
    let silent = Node::at((Ipv4Addr::new(127, 83, 4, 1), good.port()).into(), |mut stream| {
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let tls = lab.trusting("");
    let route = format!("[[route]]\nmatch = 'db'\nhost = 'two.test'\nport = {}\n{tls}\n", good.port());
    let daemon = with_hosts(Folder::new(&route, ""), "127.83.4.1 two.test\n127.83.4.2 two.test\n");
    for attempts in [2, 1] {
        let mark = daemon.mark();
        let began = Instant::now();
        let mut stream = connect(&daemon.socket(), "db@x");
        stream.write_all(b"portolan\n").unwrap();
        assert_eq!(line(&mut stream), "nalotrop");
        eprintln!("first byte, one address is silent under TLS: {:.1?}", began.elapsed());
        drop(stream);
        assert_eq!(daemon.wait_after(mark, "relay closed")["attempts"], attempts);
    }
    assert_eq!(silent.accepted(), 1, "the last good address goes first");
    assert!(!daemon.said(0, "WARN").contains(&"upstream ejected".to_owned()));
}

#[test]
fn an_address_that_is_slow_under_tls_is_not_given_up_for_one_that_is_dead() {
    if !can_unshare() {
        return;
    }
    let lab = Lab::new();
    let good = lab.openssl_with(&lab.authority.server(&["two.test"]), &["-rev"]);
    let port = good.port();
    // Longer than an address may be silent beside one that is up.
    let slow = Node::at((Ipv4Addr::new(127, 83, 5, 2), 0).into(), move |mut client| {
        thread::sleep(Duration::from_millis(500));
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || drop(io::copy(&mut from, &mut to)));
        drop(io::copy(&mut server, &mut client));
    });
    let dead = FullBacklog::at(SocketAddr::from((Ipv4Addr::new(127, 83, 5, 1), slow.port())));
    let tls = lab.trusting("") + "\nrace_after = \"400ms\"";
    let route = format!("[[route]]\nmatch = 'db'\nhost = 'two.test'\nport = {}\n{tls}\n", slow.port());
    let daemon = with_hosts(Folder::new(&route, ""), "127.83.5.1 two.test\n127.83.5.2 two.test\n");
    let began = Instant::now();
    let mut stream = connect(&daemon.socket(), "db@x");
    stream.write_all(b"portolan\n").unwrap();
    assert_eq!(line(&mut stream), "nalotrop");
    eprintln!("first byte, one address is dead and one slow under TLS: {:.1?}", began.elapsed());
    drop(dead);
}
