//! The daemon under a service manager: what it tells it, and the sockets that it inherits.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::HANG;
use crate::support::client::{connect, line, open, read_answer, upgrade_head};
use crate::support::daemon::{Daemon, Folder, PORTOLAN, fails_to_start, run_by, text, utf8};
use crate::support::manager::Manager;
use crate::support::node::{DeadPort, Node};

fn run(folder: &Folder) -> Command {
    folder.command(&["run", "--config", "portolan.toml"])
}

/// A folder whose configuration names its socket in full, as a service manager does.
fn folder(routes: &str, extra: &str) -> Folder {
    let folder = Folder::new(routes, "");
    folder.write("portolan.toml", &format!("{extra}[socket]\npath = \"{}\"\n", utf8(&folder.socket())));
    folder
}

/// Hands these over as descriptors 3 and 4.
fn with_sockets(folder: &Folder, first: OwnedFd, second: Option<OwnedFd>) -> Command {
    let (count, also) = if second.is_some() { (2, "4>&1 ") } else { (1, "") };
    // A shell's own pid is the one of what it executes.
    let script =
        format!("exec 3<&0 {also}0</dev/null 1>/dev/null; export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$0\" \"$@\"");
    let mut command = run_by(&["sh", "-c", &script], &run(folder));
    command.stdin(first).stdout(second.map_or_else(Stdio::null, Stdio::from));
    command
}

/// The manager's own copy of a socket that it has bound; the daemon's is the other.
fn bound(folder: &Folder) -> (UnixListener, OwnedFd) {
    let ours = UnixListener::bind(folder.socket()).unwrap();
    let theirs = ours.try_clone().unwrap().into();
    (ours, theirs)
}

#[test]
fn the_manager_is_told_of_start_reloads_and_end() {
    let node = Node::named("db");
    let folder = Folder::new(&node.route("db", ""), "");
    let manager = Manager::in_folder(&folder);
    let mut command = run(&folder);
    command.env("NOTIFY_SOCKET", manager.path());
    let mut daemon = Daemon::spawn(folder, command);
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving generation 1, 1 routes"]);

    let reloading = || {
        let message = manager.next();
        assert_eq!((message.len(), message[0].as_str()), (2, "RELOADING=1"), "{message:?}");
        message[1].strip_prefix("MONOTONIC_USEC=").expect("the time").parse::<u64>().unwrap()
    };
    // By the watch alone: with a SIGHUP as well there might be two.
    daemon.folder.replace("routes.toml", &(node.route("db", "") + &node.route("web", "")));
    let first = reloading();
    assert!(first > 0);
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving generation 2, 2 routes"]);

    daemon.folder.replace("routes.toml", "[[route]]\nmatch = 'db'\nport = 70000\n");
    assert!(reloading() > first);
    assert_eq!(
        manager.next(),
        [
            "READY=1",
            "STATUS=serving generation 2, 2 routes; the last reload was refused: \
             routes.toml:1:1: the route has no `host` (and 1 more error)"
        ]
    );
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");

    daemon.folder.replace("routes.toml", &node.route("db", ""));
    reloading();
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving generation 3, 1 routes"]);
    daemon.signal(Signal::HUP);
    reloading();
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving generation 4, 1 routes"]);

    daemon.wait_for("relay closed");
    daemon.signal(Signal::TERM);
    assert_eq!(manager.next(), ["STOPPING=1", "STATUS=draining, 0 open"]);
    assert_eq!(daemon.wait().0.code(), Some(0));
}

#[test]
fn the_manager_may_keep_the_registrars_port() {
    let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = ours.local_addr().unwrap();
    let folder = folder("allow_empty = true\n", &format!("[registrar]\nlisten = '{address}'\n"));
    let command = with_sockets(&folder, ours.try_clone().unwrap().into(), None);
    let daemon = Daemon::spawn(folder, command);
    let listening = daemon.wait_for("registrar listening");
    assert_eq!((&listening["address"], &listening["inherited"]), (&address.to_string().into(), &true.into()));
    let (status, _) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    // A node that looks for a registrar meanwhile finds the port taken, and is not its own.
    assert!(TcpListener::bind(address).is_err() && TcpStream::connect(address).is_ok());
}

#[test]
fn the_manager_shows_the_table_after_an_edit() {
    let folder = Folder::new(&Node::named("db").route("db", ""), "");
    let manager = Manager::in_folder(&folder);
    let mut command = run(&folder);
    command.env("NOTIFY_SOCKET", manager.path());
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving generation 1, 1 routes"]);
    assert!(daemon.folder.run(&["routes", "remove", "db", "--admin", "admin.sock"]).status.success());
    assert_eq!(manager.next(), ["STATUS=serving generation 2, 0 routes"]);
}

#[test]
fn a_daemon_that_does_not_start_is_never_ready() {
    let folder = Folder::new("[[route]\n", "");
    let manager = Manager::in_folder(&folder);
    let mut command = run(&folder);
    command.env("NOTIFY_SOCKET", manager.path());
    fails_to_start(command);
    // It has ended: what it would have said is there by now, and this is behind it.
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"nothing", manager.path()).unwrap();
    assert_eq!(manager.next(), ["nothing"]);
}

#[test]
fn an_inherited_socket_is_the_door_and_is_left_as_it_is() {
    let node = Node::named("db");
    let folder = folder(&node.route("db", ""), "");
    let (ours, theirs) = bound(&folder);
    fs::set_permissions(folder.socket(), fs::Permissions::from_mode(0o604)).unwrap();
    let command = with_sockets(&folder, theirs, None);
    let mut daemon = Daemon::spawn(folder, command);
    assert_eq!(daemon.wait_for("listening")["inherited"], true);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
    let mode = || daemon.socket().metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o604);
    assert!(!daemon.folder.path("portolan.sock.lock").exists());

    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().0.code(), Some(0));
    assert!(daemon.socket().exists());
    // Who comes while there is no daemon waits for the next.
    let mut client = open(&daemon.socket());
    std::io::Write::write_all(&mut client, upgrade_head("db@x").as_bytes()).unwrap();
    let command = with_sockets(&daemon.folder, ours.into(), None);
    let _running = crate::support::daemon::launch(command).expect("it takes the socket over");
    assert_eq!(read_answer(&mut client).status, 101);
    assert_eq!(line(&mut client), "db");
}

#[test]
fn a_forward_takes_the_socket_at_its_address() {
    let node = Node::named("db");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let forward = format!("[[forward]]\nlisten = \"{address}\"\nnode = \"db@x\"\nopen = true\n");
    let folder = folder(&node.route("db", ""), &forward);
    let (_ours, theirs) = bound(&folder);
    // In the other order: they are told apart by their addresses.
    let command = with_sockets(&folder, tcp.into(), Some(theirs));
    let daemon = Daemon::spawn(folder, command);
    let forwarding = daemon.wait_for("forwarding");
    assert_eq!((&forwarding["inherited"], &forwarding["address"]), (&true.into(), &address.to_string().into()));
    assert_eq!(daemon.wait_for("listening")["inherited"], true);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(HANG)).unwrap();
    assert_eq!(line(&mut client), "db");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}

#[test]
fn the_inherited_socket_is_taken_when_the_configuration_names_none() {
    let node = Node::named("db");
    let folder = Folder::new(&node.route("db", ""), "");
    folder.write("portolan.toml", "");
    let (_ours, theirs) = bound(&folder);
    let command = with_sockets(&folder, theirs, None);
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "db");
}

#[test]
fn an_inherited_socket_that_nobody_asked_for_is_warned_about() {
    let folder = folder(&DeadPort::new().route("db", ""), "");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let command = with_sockets(&folder, tcp.into(), None);
    let daemon = Daemon::spawn(folder, command);
    let warning = daemon.wait_for("the service manager handed over a socket");
    assert_eq!(warning["message"], "the service manager handed over a socket that the configuration does not name");
    assert_eq!((&warning["level"], &warning["address"]), (&"WARN".into(), &address.to_string().into()));
    assert_eq!(daemon.wait_for("listening")["inherited"], false);
}

#[test]
fn a_descriptor_that_is_no_listening_socket_is_an_error() {
    let folder = folder(&DeadPort::new().route("db", ""), "");
    let not_listening =
        |why: &str| format!("error: descriptor 3 of the service manager is not a listening stream socket: {why}\n");
    let file = fs::File::open("/dev/null").unwrap();
    assert_eq!(fails_to_start(with_sockets(&folder, file.into(), None)), not_listening("fd 3 is not a socket"));
    let datagrams = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(
        fails_to_start(with_sockets(&folder, datagrams.into(), None)),
        not_listening("fd 3 is not a valid tcp socket")
    );
    let (_other, connected) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(fails_to_start(with_sockets(&folder, connected.into(), None)), not_listening("it does not listen"));
}

#[test]
fn sockets_for_another_process_are_not_ours() {
    let folder = folder(&DeadPort::new().route("db", ""), "");
    let mut command = run(&folder);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(daemon.wait_for("listening")["inherited"], false);
}

/// The arguments of the first `ExecReload=` of the unit that is shipped, for the files of this folder.
fn check_of_exec_reload(folder: &Folder) -> Command {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/portolan.service")).unwrap();
    let lines: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ExecReload=")).collect();
    let [check, "/bin/kill -HUP $MAINPID"] = lines[..] else { panic!("ExecReload= has changed: {lines:?}") };
    let mut words = check.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/portolan"));
    let config = folder.path("portolan.toml");
    let words: Vec<_> =
        words.map(|word| if word == "/etc/portolan/portolan.toml" { utf8(&config) } else { word }).collect();
    assert!(words.contains(&utf8(&config)), "{words:?}");
    let mut command = Command::new(PORTOLAN);
    command.args(words);
    command
}

#[test]
fn systemctl_reload_fails_on_a_bad_file_before_the_daemon_sees_it() {
    let folder = Folder::new(&DeadPort::new().route("db", ""), "");
    let output = check_of_exec_reload(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    folder.write("routes.toml", "[[route]]\nmatch = 'db'\nhost = \"h\"\nport = 70000\n");
    let output = check_of_exec_reload(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("routes.toml:4:8\n"), "{said}");
    assert!(said.contains("4 | port = 70000\n  |        ^^^^^\n"), "{said}");
}
