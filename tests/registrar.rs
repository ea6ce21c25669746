//! The registrar's door: nodes of Ergo register and ask, in the packets that were recorded of them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::admin::admin;
use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, Folder, text};
use crate::support::node::Node;
use crate::support::packets::{
    REGISTER, REGISTER_TAKEN, REGISTER_TLS, REGISTERED, RESOLVE, RESOLVE_UNKNOWN, RESOLVED, TAKEN, UNKNOWN, answer,
    bytes, leased, question, register, registration, resolve, rest,
};
use crate::support::{HANG, until};

const DOOR: &str = "[registrar]\nlisten = '127.0.0.1:0'\n";

/// Where its addresses are, in their order.
fn doors(daemon: &Daemon) -> Vec<SocketAddr> {
    let lines = daemon.lines();
    let open = lines.iter().filter(|line| line["message"] == "registrar listening");
    open.map(|line| line["address"].as_str().unwrap().parse().unwrap()).collect()
}

fn door(daemon: &Daemon) -> SocketAddr {
    doors(daemon)[0]
}

fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream
}

fn forwards(daemon: &Daemon) -> usize {
    let answer = admin(&daemon.folder.path("admin.sock"), "GET", "/v1/forwards", None);
    serde_json::from_slice::<Value>(&answer.body).unwrap()["forwards"].as_array().unwrap().len()
}

#[test]
fn the_recorded_packets_are_answered_as_they_were() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let door = door(&daemon);
    let (_cl, answered) = register(door, &bytes(REGISTER));
    assert_eq!(answered, bytes(REGISTERED));
    let (_cl2, answered) = register(door, &bytes(REGISTER_TLS));
    assert_eq!(answered, bytes(REGISTERED));
    let (_srv, answered) = register(door, &registration(15001));
    assert_eq!(answered, bytes(REGISTERED));
    let (mut second, answered) = register(door, &bytes(REGISTER_TAKEN));
    assert_eq!(answered, bytes(TAKEN));
    assert_eq!(rest(&mut second), b"", "the registrar closes");

    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(RESOLVED));
    assert_eq!(resolve(door, &bytes(RESOLVE_UNKNOWN)), bytes(UNKNOWN));
    let tls = resolve(door, &question("cl2@127.0.0.1"));
    assert_eq!((&tls[67..69], tls[69]), (&15003_u16.to_be_bytes()[..], 1));
    let made = daemon.wait_for_lines(3, "node registered");
    let mut names: Vec<_> = made.iter().map(|line| line["node"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cl2@127.0.0.1", "cl@127.0.0.1", "srv@127.0.0.1"]);
    assert_eq!(daemon.wait_for("nobody registered")["why"], "it was refused: resource is taken");
}

#[test]
fn a_packet_may_come_in_pieces() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let mut node = TcpStream::connect(door(&daemon)).unwrap();
    node.set_nodelay(true).unwrap();
    for byte in bytes(REGISTER) {
        node.write_all(&[byte]).unwrap();
    }
    assert_eq!(answer(&mut node), bytes(REGISTERED));
}

/// How a node ends its connection.
type End = fn(&mut TcpStream);

#[test]
fn a_nodes_end_is_noticed_however_it_ends() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let door = door(&daemon);
    let ends: [(End, &str); 4] = [
        (|node| node.shutdown(Shutdown::Write).unwrap(), "its connection has ended"),
        (|node| SockRef::from(&*node).set_linger(Some(Duration::ZERO)).unwrap(), "its connection has failed"),
        (|node| node.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap(), "what it sent is not understood"),
        (|node| node.write_all(b"\x01\x2c\xff\xff").unwrap(), "a packet of 65539 bytes, and 4096 is the most"),
    ];
    for (end, why) in ends {
        let (mut node, answered) = register(door, &registration(15001));
        assert_eq!(answered, bytes(REGISTERED), "{why}");
        let mark = daemon.mark();
        end(&mut node);
        drop(node);
        let ended = daemon.wait_after(mark, "node is not registered any more");
        assert_eq!(ended["node"], "srv@127.0.0.1");
        assert!(ended["why"].as_str().unwrap().contains(why), "{ended}");
        let unknown = resolve(door, &bytes(RESOLVE));
        assert_eq!(unknown, bytes(UNKNOWN), "{why}");
    }
    // Who starts again at once may be here before its own end.
    for _ in 0..50 {
        let (_node, answered) = register(door, &registration(15001));
        assert_eq!(answered, bytes(REGISTERED));
    }
}

#[test]
fn who_does_not_register_is_told_or_cut_off() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let door = door(&daemon);
    let cut_off = |packet: &[u8], why: &str| {
        let mark = daemon.mark();
        let mut client = TcpStream::connect(door).unwrap();
        client.write_all(packet).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut client), b"", "{why}");
        let said = daemon.wait_after(mark, "nobody registered")["why"].as_str().unwrap().to_owned();
        assert!(said.contains(why), "{said}");
    };
    cut_off(b"\x02", "the packet is of version 2");
    cut_off(b"\x01\x2c\x10\0", "a packet of 4100 bytes, and 4096 is the most");
    cut_off(&bytes(RESOLVE), "another packet than that of a registration");
    cut_off(&bytes(REGISTER)[..50], "its connection has ended");
    let mut without_routes = bytes(REGISTER)[..76].to_vec();
    without_routes.push(0xff);
    without_routes[2..4].copy_from_slice(&73_u16.to_be_bytes());
    let (mut none, answered) = register(door, &without_routes);
    assert!(answered.ends_with(b"\0\x1bincorrect value or argument"), "{}", String::from_utf8_lossy(&answered));
    assert_eq!(rest(&mut none), b"");
}

#[test]
fn a_registered_node_may_say_more() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let door = door(&daemon);
    let (mut node, _) = register(door, &registration(15002));
    node.write_all(b"\x01\x31\0\x03new").unwrap();
    node.write_all(&registration(15001)).unwrap();
    assert_eq!(answer(&mut node), bytes(REGISTERED), "a packet of a later version is no reason to lose it");
    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(RESOLVED), "its new routes are in place of the old ones");
    assert_eq!(daemon.wait_for("a registered node has sent a packet that is not understood")["kind"], 0x31);
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let both = "[registrar]\nlisten = ['127.0.0.1:0', '127.0.0.2:0']\n";
    let daemon = Daemon::start_with("allow_empty = true\n", both);
    let doors = doors(&daemon);
    assert_eq!(doors.iter().map(|door| door.ip().to_string()).collect::<Vec<_>>(), ["127.0.0.1", "127.0.0.2"]);
    let (_node, answered) = register(doors[1], &registration(15001));
    assert_eq!(answered, bytes(REGISTERED));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(HANG)).unwrap();
    for door in doors {
        socket.send_to(&bytes(RESOLVE), door).unwrap();
        let mut answer = [0; 4096];
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], from), (&bytes(RESOLVED)[..], door), "all addresses are one registrar");
    }
}

#[test]
fn a_node_of_the_table_is_reached_through_a_lease() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("^srv@", ""), DOOR);
    let door = door(&daemon);
    let port = leased(&resolve(door, &bytes(RESOLVE)));
    assert_eq!(line(&mut dial(port)), "db");
    assert_eq!(leased(&resolve(door, &bytes(RESOLVE))), port, "asked again it is the same");
    let made = daemon.wait_for("lease made");
    assert_eq!((&made["node"], &made["uid"]), (&json!("srv@127.0.0.1"), &json!(rustix::process::getuid().as_raw())));

    // The operator has the last word.
    let (_node, answered) = register(door, &registration(15001));
    assert_eq!(answered, bytes(REGISTERED));
    assert_eq!(leased(&resolve(door, &bytes(RESOLVE))), port);
    assert_eq!(daemon.reload("allow_empty = true\n")["message"], "reloaded");
    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(RESOLVED));
}

#[test]
fn another_user_has_a_lease_of_its_own() {
    if rustix::process::getuid().as_raw() != 0 {
        // Only root can be somebody else.
        return;
    }
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("^srv@", ""), DOOR);
    let door = door(&daemon);
    let ours = leased(&resolve(door, &bytes(RESOLVE)));
    let mut asker = Command::new("setpriv");
    asker.args([
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "socat",
        "-t",
        "5",
        "-",
        &format!("UDP:{door}"),
    ]);
    let mut asker = asker.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/").spawn().unwrap();
    asker.stdin.as_mut().unwrap().write_all(&bytes(RESOLVE)).unwrap();
    let mut answer = vec![0; bytes(RESOLVED).len() + 9];
    asker.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    asker.kill().unwrap();
    asker.wait().unwrap();
    let theirs = leased(&answer);
    assert_ne!(theirs, ours);
    assert_eq!(daemon.wait_for_lines(2, "lease made")[1]["uid"], 65534);
    let error = dial(theirs).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn who_is_none_of_the_users_has_no_lease() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("^srv@", ""), &format!("{DOOR}users = '4711'\n"));
    let door = door(&daemon);
    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(UNKNOWN));
    let (_node, answered) = register(door, &registration(15001));
    assert_eq!(answered, bytes(REGISTERED));
    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(RESOLVED));
    assert_eq!(forwards(&daemon), 0);
}

#[test]
fn what_discovery_knows_is_answered_and_nothing_is_asked_for_it() {
    let node = Node::named("found");
    let resolver = format!("[resolver.lab]\ntype = 'static'\nnodes = {{ 'srv@127.0.0.1' = '{}' }}\n", node.address());
    let discovery = format!("[discovery]\nresolver = 'lab'\n{resolver}{DOOR}");
    let daemon = Daemon::start_with("allow_empty = true\n", &discovery);
    let door = door(&daemon);
    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(UNKNOWN));
    assert_eq!(line(&mut connect(&daemon.socket(), "srv@127.0.0.1")), "found");
    assert_eq!(line(&mut dial(leased(&resolve(door, &bytes(RESOLVE))))), "found");
    let (_node, _) = register(door, &registration(15001));
    assert_eq!(resolve(door, &bytes(RESOLVE)), bytes(RESOLVED), "who is here is known best");
}

#[test]
fn a_resolver_of_its_own_is_answered_with_registered_nodes_and_never_with_a_lease() {
    let node = Node::named("srv");
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let door = door(&daemon);
    let file = fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    let resolver = "type = 'ergo'\nnegative_ttl = '1ms'\n";
    let resolver = format!("[discovery]\nresolver = 'here'\n[resolver.here]\n{resolver}port = {}\n", door.port());
    daemon.folder.replace("portolan.toml", &(file + &resolver));
    assert_eq!(daemon.reload("[[route]]\nmatch = '^srv@'\nresolver = 'here'\n")["message"], "reloaded");

    let port = leased(&resolve(door, &bytes(RESOLVE)));
    let mark = daemon.mark();
    assert!(dial(port).read(&mut [0]).is_err(), "nobody has registered");
    let refused = daemon.wait_after(mark, "refused");
    assert!(refused["why"].as_str().unwrap().contains("knows no such node"), "{refused}");
    let (_srv, answered) = register(door, &registration(node.port()));
    assert_eq!(answered, bytes(REGISTERED));
    until("it leads to the node", || {
        let mut said = String::new();
        // What was unknown may be so for a moment.
        dial(port).take(4).read_to_string(&mut said).is_ok_and(|_| said == "srv\n")
    });
    assert_eq!(leased(&resolve(door, &bytes(RESOLVE))), port);
    assert_eq!(forwards(&daemon), 1, "the resolver has none");
}

#[test]
fn a_flood_of_names_takes_no_more_leases_than_there_may_be() {
    let node = Node::named("any");
    let daemon = Daemon::start_with(&node.route("", ""), &format!("[limits]\nleases = 3\n{DOOR}"));
    let door = door(&daemon);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for name in 0..2000 {
        socket.send_to(&question(&format!("flood{name}@127.0.0.1")), door).unwrap();
    }
    let busy = [&bytes(UNKNOWN)[4..61], b"\0\x04busy"].concat();
    until("it says that it is busy", || resolve(door, &bytes(RESOLVE))[4..] == busy[..]);
    assert_eq!(forwards(&daemon), 3);
    let said = daemon.wait_for("the registrar has no lease to answer with");
    assert!(said["why"].as_str().unwrap().starts_with("as many leases are open as limits.leases"), "{said}");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "any");
}

#[test]
fn a_flood_of_garbage_is_told_now_and_then_and_answered_never() {
    let node = Node::named("db");
    let daemon = Daemon::start_with(&node.route("^db@", ""), DOOR);
    let door = door(&daemon);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let garbage = [vec![0xff; 900], b"\x01\x2e\xff\xff".to_vec(), bytes(UNKNOWN), Vec::new()];
    for turn in 0..20_000 {
        drop(socket.send_to(&garbage[turn % garbage.len()], door));
        if turn % 5000 == 0 {
            assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
        }
    }
    assert_eq!(resolve(door, &bytes(RESOLVE_UNKNOWN)), bytes(UNKNOWN));
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 4096]).is_err(), "garbage is not answered");
    let said = daemon.wait_for("a datagram at the registrar is no question");
    assert_eq!(said["asker"], socket.local_addr().unwrap().to_string());
    let lines = daemon.lines();
    let told = lines.iter().filter(|line| line["message"] == "a datagram at the registrar is no question").count();
    assert!(told < 60, "{told} lines");
}

#[test]
fn so_many_nodes_may_register_and_no_more() {
    let daemon = Daemon::start_with("allow_empty = true\n", &format!("{DOOR}nodes = 1\n"));
    let door = door(&daemon);
    let (first, answered) = register(door, &bytes(REGISTER));
    assert_eq!(answered, bytes(REGISTERED));
    let mut second = TcpStream::connect(door).unwrap();
    assert_eq!(rest(&mut second), b"");
    assert_eq!(daemon.wait_for("a node cannot register")["limit"], 1);
    drop(first);
    until("there is room again", || {
        let mut node = TcpStream::connect(door).unwrap();
        drop(node.write_all(&bytes(REGISTER)));
        node.read(&mut [0]).is_ok_and(|count| count == 1)
    });
}

#[test]
fn a_drain_ends_registrations_in_order() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let (mut node, _) = register(door(&daemon), &bytes(REGISTER));
    daemon.signal(Signal::TERM);
    // A reset would have a node of Ergo 3.1 read it again and again.
    assert_eq!(rest(&mut node), b"");
    assert_eq!(daemon.wait_for("node is not registered any more")["why"], "the daemon is ending");
    daemon.wait_for("ended");
}

#[test]
fn an_address_that_another_registrar_has_refuses_the_start() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    // Where no other test has a connection whose port it could be.
    let udp = UdpSocket::bind("127.0.0.77:0").unwrap();
    let taken = [(tcp.local_addr().unwrap(), "TCP"), (udp.local_addr().unwrap(), "UDP")];
    let door = format!("[registrar]\nlisten = ['{}', '{}']\n", taken[0].0, taken[1].0);
    let output = Folder::new("allow_empty = true\n", &door).run(&["run", "--config", "portolan.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let told = taken.map(|(address, transport)| {
        format!(
            "error: the registrar cannot have {address} ({transport}): address already in use; a node of Ergo that runs \
             there may be its own registrar: start it after this daemon, or give one of the two another address\n"
        )
    });
    assert!(text(&output.stderr).ends_with(&told.concat()), "{}", text(&output.stderr));
}

#[test]
fn what_is_wrong_with_the_door_is_said() {
    let said = |door: &str| {
        let folder = Folder::new("allow_empty = true\n", &format!("[registrar]\n{door}\n"));
        text(&folder.run(&["check", "portolan.toml"]).stderr)
    };
    let wildcard = said("listen = '0.0.0.0:4499'");
    let told = "error: `listen` has \"0.0.0.0:4499\": an answer must leave from the address that was asked\n \
                --> portolan.toml:4:10\n";
    assert!(wildcard.starts_with(told), "{wildcard}");
    assert!(wildcard.contains("= help: write each address: listen = [\"127.0.0.1:4499\", \"127.0.0.2:4499\"]"));
    assert!(said("listen = ['127.0.0.1:4499', '[::]:4499']").starts_with("error: `listen` has \"[::]:4499\""));
    assert!(said("listen = 'localhost'").starts_with("error: `listen` has \"localhost\", which is no address"));
    assert!(
        said("listen = '127.0.0.1:4499'\nusers = 'no-such-user'").starts_with("error: there is no user `no-such-user`")
    );
    assert!(said("nodes = 5").starts_with("error: the registrar has no `listen`"));
    assert!(said("listen = '127.0.0.1:4499'\nnode = 5").contains("did you mean `nodes`?"));
    assert!(said("listen = '10.0.0.5:4499'").starts_with("warning: the registrar on 10.0.0.5:4499 is open to the"));
    let twice = said("listen = ['127.0.0.1:4499', '127.0.0.1:4499']");
    assert!(twice.starts_with("error: the address is taken"), "{twice}");
}

#[test]
fn a_change_of_the_door_needs_a_restart() {
    let daemon = Daemon::start_with("allow_empty = true\n", DOOR);
    let door = door(&daemon);
    let file = fs::read_to_string(daemon.folder.path("portolan.toml")).unwrap();
    daemon.folder.replace("portolan.toml", &file.replace("127.0.0.1:0", "127.0.0.2:0"));
    assert_eq!(daemon.hang_up()["message"], "reloaded");
    daemon.wait_for("[registrar] has changed: that needs a restart");
    assert_eq!(resolve(door, &bytes(RESOLVE_UNKNOWN)), bytes(UNKNOWN), "it goes on as it was");
}
