//! What a route says of its own about dialing and relaying.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::support::HANG;
use crate::support::certs::Authority;
use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder, utf8};
use crate::support::node::{DeadPort, Node};

/// A node that says from which address it was dialed.
fn mirror() -> Node {
    Node::new(|mut stream| {
        let from = stream.peer_addr().unwrap().ip();
        writeln!(stream, "{from}").unwrap();
    })
}

/// Whether bytes go both ways.
fn echoes(stream: &mut UnixStream) -> bool {
    let mut echo = [0];
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut echo).is_ok() && echo == *b"?"
}

#[test]
fn a_route_is_dialed_from_its_source() {
    let node = mirror();
    let routes = node.route("^address@", "source = '127.0.0.2'")
        + &node.route("^interface@", "source = 'lo'")
        + &node.route("^any@", "");
    let daemon = Daemon::start(&routes);
    let from = |node: &str| line(&mut connect(&daemon.socket(), node));
    assert_eq!([from("address@x"), from("interface@x"), from("any@x")], ["127.0.0.2", "127.0.0.1", "127.0.0.1"]);
}

#[test]
fn a_source_that_is_not_there_is_said_and_the_next_route_is_tried() {
    let node = Node::named("backup");
    let routes = node.route("^a@", "source = '192.0.2.1'")
        + &node.route("^i@", "source = 'no-such-one'")
        + &node.route("^b@", "source = '192.0.2.1'\nweight = 200")
        + &node.route("^b", "");
    let daemon = Daemon::start(&routes);
    let refused = |node: &str| {
        let (_, answer) = upgrade(&daemon.socket(), node);
        assert!(answer.header("Proxy-Status").contains("error=proxy_internal_error"), "{answer:?}");
        (answer.status, answer.problem()["attempts"][0]["error"].as_str().unwrap().to_owned())
    };
    let said = |source: &str| (503, format!("this machine cannot connect: source {source} of this machine"));
    assert_eq!(refused("a@x"), said("192.0.2.1 is not an address"));
    assert_eq!(refused("i@x"), said("no-such-one is not an interface"));
    assert_eq!(line(&mut connect(&daemon.socket(), "b@x")), "backup");
}

/// HAProxy behind `accept-proxy`, which answers each request with who it takes the client for.
struct HaProxy {
    folder: Folder,
    address: SocketAddr,
    /// Keeps the port until HAProxy has it, and from others afterwards.
    _port: Socket,
}

impl HaProxy {
    fn start(bind: &str) -> Self {
        let folder = Folder::new("", "");
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        port.set_reuse_address(true).unwrap();
        port.set_reuse_port(true).unwrap();
        port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let bind = bind.replace("FOLDER", utf8(&folder.path("")));
        folder.write(
            "haproxy.cfg",
            &format!(
                "defaults\n  mode http\n  timeout client 30s\n  timeout server 30s\n  timeout connect 30s\n\
                 frontend told\n  bind {address} accept-proxy {bind}\n  http-request return status 200 content-type \
                 text/plain lf-string \"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority]\"\n"
            ),
        );
        Self { folder, address, _port: port }
    }

    /// It goes into the background as soon as it listens.
    fn run(self) -> Self {
        let folder = self.folder.path("");
        let run = ["-D", "-q", "-f", "haproxy.cfg", "-p", "pid"];
        let ran = Command::new("haproxy").args(run).current_dir(folder).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        self
    }

    /// A `[[route]]` to it.
    fn route(&self, pattern: &str, more: &str) -> String {
        format!("[[route]]\nmatch = '{pattern}'\nhost = '{}'\nproxy_protocol = 'v2'\n{more}\n\n", self.address)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.folder.path("pid")).unwrap_or_default();
        for pid in pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// The body of the answer to a request of HTTP/1.0.
fn ask(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn an_upstream_is_told_who_the_client_of_a_forward_is() {
    let haproxy = HaProxy::start("").run();
    let forward = "[[forward]]\nlisten = '127.0.0.1:0'\nnode = 'web@prod'\nopen = true\n";
    let daemon = Daemon::start_with(&haproxy.route("^web@prod$", ""), forward);
    let client = TcpStream::connect(daemon.forward()).unwrap();
    client.set_read_timeout(Some(HANG)).unwrap();
    let told = format!("{} {} web@prod", client.local_addr().unwrap(), client.peer_addr().unwrap());
    assert_eq!(ask(client), told);
}

#[test]
fn a_unix_client_is_portolan_to_the_upstream() {
    let haproxy = HaProxy::start("").run();
    let daemon = Daemon::start(&haproxy.route("^web@", ""));
    let told = ask(connect(&daemon.socket(), "web@prod"));
    assert!(told.starts_with("127.0.0.1:") && told.ends_with(&format!(" {} ", haproxy.address)), "{told}");
}

#[test]
fn an_upstream_is_told_before_tls() {
    let haproxy = HaProxy::start("ssl crt FOLDERserver.pem");
    let authority = Authority::new("an authority");
    let issued = authority.server(&["127.0.0.1"]);
    haproxy.folder.write("server.pem", &(issued.cert + &issued.key));
    haproxy.folder.write("ca.pem", &authority.pem());
    let haproxy = haproxy.run();
    let tls = format!("tls = {{ ca = '{}' }}", utf8(&haproxy.folder.path("ca.pem")));
    let forward = "[[forward]]\nlisten = '127.0.0.1:0'\nnode = 'web@prod'\nopen = true\n";
    let daemon = Daemon::start_with(&haproxy.route("^web@prod$", &tls), forward);
    let client = TcpStream::connect(daemon.forward()).unwrap();
    client.set_read_timeout(Some(HANG)).unwrap();
    let told = format!("{} {} web@prod", client.local_addr().unwrap(), client.peer_addr().unwrap());
    assert_eq!(ask(client), told);
}

#[test]
fn a_full_route_gives_way_to_the_next_until_a_relay_ends() {
    let (primary, backup) = (Node::named("primary"), Node::named("backup"));
    let daemon = Daemon::start(&(primary.route("^db@", "weight = 200\nmax_relays = 1") + &backup.route("^db", "")));
    let reach = || {
        let mut stream = connect(&daemon.socket(), "db@x");
        (line(&mut stream), stream)
    };
    let (first, held) = reach();
    let (second, other) = reach();
    assert_eq!((first.as_str(), second.as_str(), primary.accepted()), ("primary", "backup", 1));
    drop(other);
    assert_eq!(daemon.wait_for("relay closed")["attempts"], 2);
    let mark = daemon.mark();
    drop(held);
    daemon.wait_after(mark, "relay closed");
    // The line is written a moment before the slot is free.
    assert!((0..1000).any(|_| reach().0 == "primary"));
}

#[test]
fn a_full_route_without_another_is_refused_and_a_reload_does_not_forget_what_is_open() {
    let node = Node::echo();
    let bound = |max: u32| node.route("^db@", &format!("max_relays = {max}"));
    let daemon = Daemon::start(&bound(1));
    let mut held = connect(&daemon.socket(), "db@x");
    let refused = || {
        let (_, answer) = upgrade(&daemon.socket(), "db@y");
        assert!(answer.header("Proxy-Status").contains("error=connection_limit_reached"), "{answer:?}");
        let problem = answer.problem();
        let attempt = &problem["attempts"][0];
        assert_eq!((&problem["code"], &attempt["stage"]), (&"all_failed".into(), &"limit".into()));
        (answer.status, attempt["error"].as_str().unwrap().to_owned())
    };
    let full = (503, "as many relays are open as its max_relays allows (1)".to_owned());
    assert_eq!(refused(), full);

    daemon.reload(&(node.route("other", "") + &bound(1)));
    assert_eq!(refused(), full);
    daemon.reload(&node.route("other", ""));
    daemon.reload(&bound(1));
    assert_eq!(refused(), full, "the route was away in between");
    daemon.reload(&bound(2));
    let mut second = connect(&daemon.socket(), "db@y");
    assert!(echoes(&mut held) && echoes(&mut second));
    assert_eq!(node.accepted(), 2);
}

#[test]
fn one_request_takes_one_slot_for_all_hosts_of_its_route() {
    let (dead, node) = (DeadPort::new(), Node::named("db"));
    let hosts = format!("host = ['127.0.0.1:{}', '{}']\nmax_relays = 1", dead.port(), node.address());
    let daemon = Daemon::start(&format!("[[route]]\nmatch = '^db@'\n{hosts}\n"));
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    assert_eq!(daemon.wait_for("relay closed")["attempts"], 2);
}

#[test]
fn a_route_has_its_own_idle_timeout() {
    let node = Node::echo();
    for (limits, short, long) in [("never", "idle_timeout = '30ms'", ""), ("30ms", "", "idle_timeout = 'never'")] {
        let routes = node.route("^short@", short) + &node.route("^long@", long);
        let daemon = Daemon::start_with(&routes, &format!("[limits]\nidle_timeout = '{limits}'\n"));
        let mut long = connect(&daemon.socket(), "long@x");
        let _short = connect(&daemon.socket(), "short@x");
        let closed = daemon.wait_for("relay closed");
        assert_eq!((&closed["node"], &closed["end"]), (&"short@x".into(), &"idle_timeout".into()));
        assert!(echoes(&mut long));
    }
}

/// The kernel's timer of the connection to an upstream, and for how many hundredths of a second it still runs
/// (`/proc/net/tcp`, see proc_net_tcp.txt of the kernel).
fn timer(daemon: &Daemon, upstream: SocketAddr) -> (String, u32) {
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid().as_raw_nonzero())).unwrap();
    let remote = format!("0100007F:{:04X}", upstream.port());
    let established = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = established.filter(|fields| fields[2] == remote && fields[3] == "01");
    let (timer, left) = ours.next().unwrap()[5].split_once(':').unwrap();
    (timer.to_owned(), u32::from_str_radix(left, 16).unwrap())
}

#[test]
fn a_silent_upstream_is_asked_when_its_route_says() {
    const KEEPALIVE: &str = "02";
    let timer_of = |more: &str| {
        let node = Node::named("db");
        let daemon = Daemon::start(&node.route("^db@", more));
        let mut stream = connect(&daemon.socket(), "db@x");
        assert_eq!(line(&mut stream), "db");
        timer(&daemon, node.address())
    };
    let (kind, left) = timer_of("keepalive = '10m'");
    assert!(kind == KEEPALIVE && (6_001..=60_000).contains(&left), "{kind} {left}");
    let (kind, left) = timer_of("");
    assert!(kind == KEEPALIVE && left <= 6_000, "{kind} {left}");
    assert_eq!(timer_of("keepalive = 'never'"), ("00".to_owned(), 0));
}
