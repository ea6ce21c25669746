//! What a start needs, and what a person sees when it fails.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::certs::Authority;
use crate::support::client::{connect, line};
use crate::support::daemon::{Daemon, Folder, PORTOLAN, Running, fails_to_start, launch, run_by, text};
use crate::support::node::Node;

const ROUTE: &str = "[[route]]\nmatch = '^db@'\nhost = \"127.0.0.1\"\nport = 1\n";

/// A user and a group that are nobody's on this machine.
const NOBODY: u32 = 65534;

fn run(folder: &Folder) -> Command {
    folder.command(&["run", "--config", "portolan.toml"])
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The command, run by a user who is not root; `None`, said by name, where root cannot become one.
fn unprivileged(test: &str, folder: &Folder, command: Command) -> Option<Command> {
    if !is_root() {
        return Some(command);
    }
    fs::set_permissions(folder.path("."), fs::Permissions::from_mode(0o777)).unwrap();
    let id = NOBODY.to_string();
    let wrapper = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"];
    let runs =
        Command::new(wrapper[0]).args(&wrapper[1..]).args([PORTOLAN, "--version"]).stdout(Stdio::null()).status();
    if runs.is_ok_and(|status| status.success()) {
        return Some(run_by(&wrapper, &command));
    }
    eprintln!("{test}: skipped: user {NOBODY} cannot run {PORTOLAN} by setpriv");
    None
}

/// Whether the machine has a configuration of its own, which would be taken.
fn machine_has_one(test: &str) -> bool {
    let there = Path::new("/etc/portolan/portolan.toml").exists();
    if there {
        eprintln!("{test}: skipped: this machine has a /etc/portolan/portolan.toml");
    }
    there
}

#[test]
fn without_a_configuration_it_says_where_it_looked() {
    if machine_has_one("without_a_configuration_it_says_where_it_looked") {
        return;
    }
    let folder = Folder::new(ROUTE, "");
    assert_eq!(
        fails_to_start(folder.command(&["run"])),
        "error: no configuration: neither --config nor $PORTOLAN_CONFIG is given, and there is no \
         /etc/portolan/portolan.toml and no ./config/portolan.toml; name one of them\n"
    );
}

#[test]
fn the_working_folder_may_have_the_configuration() {
    if machine_has_one("the_working_folder_may_have_the_configuration") {
        return;
    }
    let folder = Folder::new(ROUTE, "");
    fs::create_dir(folder.path("config")).unwrap();
    folder.write("config/portolan.toml", "routes = \"../routes.toml\"\n[socket]\npath = \"../portolan.sock\"\n");
    let command = folder.command(&["run"]);
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(daemon.wait_for("serving")["config"], "./config/portolan.toml");
}

#[test]
fn the_variable_names_the_configuration_and_the_flag_wins() {
    let folder = Folder::new(ROUTE, "");
    let mut command = folder.command(&["run"]);
    command.env("PORTOLAN_CONFIG", "nowhere.toml");
    assert_eq!(
        fails_to_start(command),
        "error: the file cannot be read: no such file or directory\n--> nowhere.toml\n \
         = help: check the path and who may read it\n\n1 error\n"
    );
    let mut command = run(&folder);
    command.env("PORTOLAN_CONFIG", "nowhere.toml");
    drop(launch(command).expect("--config is taken"));
    let mut command = folder.command(&["run"]);
    command.env("PORTOLAN_CONFIG", folder.path("portolan.toml"));
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(daemon.wait_for("serving")["routes"], 1);
}

#[test]
fn every_problem_of_the_files_is_said_with_a_caret() {
    let folder = Folder::new("[[route]]\nmatch = 'db'\nwieght = 7\nhost = \"h\"\nport = 0\n", "sokcet = 1");
    assert_eq!(
        fails_to_start(run(&folder)),
        "error: unknown key `sokcet` at the top level\n --> portolan.toml:3:1\n  |\n3 | sokcet = 1\n  | ^^^^^^\n  |\n  \
         = help: did you mean `socket`?\n\n\
         error: unknown key `wieght` in [[route]]\n --> routes.toml:3:1\n  |\n3 | wieght = 7\n  | ^^^^^^\n  |\n  \
         = help: did you mean `weight`?\n\n\
         error: `port` is 0, out of range\n --> routes.toml:5:8\n  |\n5 | port = 0\n  |        ^\n  |\n  \
         = help: write a whole number from 1 to 65535\n\n3 errors\n"
    );
    assert!(!folder.socket().exists());
}

#[test]
fn a_dead_daemons_socket_is_replaced() {
    let node = Node::named("db");
    let mut dead = Daemon::start(&node.route("db", ""));
    dead.signal(Signal::KILL);
    dead.wait();
    let before = dead.socket().metadata().unwrap();
    assert!(before.file_type().is_socket());
    assert_eq!(UnixStream::connect(dead.socket()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let _running = launch(run(&dead.folder)).expect("it takes the place of the dead one");
    assert_eq!(line(&mut connect(&dead.socket(), "db@x")), "db");
}

#[test]
fn a_live_daemon_is_left_alone_and_named() {
    let node = Node::named("db");
    let live = Daemon::start(&node.route("db", ""));
    let pid = live.pid().as_raw_nonzero();
    for _ in 0..2 {
        assert_eq!(
            fails_to_start(run(&live.folder)),
            format!(
                "error: portolan.sock is in use by process {pid}; stop that process, or give this daemon another path\n"
            )
        );
    }
    assert_eq!(line(&mut connect(&live.socket(), "db@x")), "db");
}

#[test]
fn another_programs_socket_is_left_alone_and_its_process_is_named() {
    let folder = Folder::new(ROUTE, "");
    let _theirs = UnixListener::bind(folder.socket()).unwrap();
    assert_eq!(
        fails_to_start(run(&folder)),
        format!(
            "error: portolan.sock is in use by process {}; stop that process, or give this daemon another path\n",
            std::process::id()
        )
    );
}

#[test]
fn a_socket_whose_backlog_is_full_is_somebody_elses() {
    let folder = Folder::new(ROUTE, "");
    let address = SockAddr::unix(folder.socket()).unwrap();
    let theirs = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    theirs.bind(&address).unwrap();
    theirs.listen(0).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        match client.connect(&address) {
            Ok(()) => waiting.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert_eq!(
        fails_to_start(run(&folder)),
        "error: portolan.sock is in use by another process; stop that process, or give this daemon another path\n"
    );
}

#[test]
fn of_two_that_start_at_once_exactly_one_serves() {
    let node = Node::named("db");
    let folder = Folder::new(&node.route("db", ""), "");
    for round in 0..24 {
        let both = Barrier::new(2);
        let start = || {
            both.wait();
            launch(run(&folder))
        };
        let [one, other] =
            std::thread::scope(|scope| [scope.spawn(start), scope.spawn(start)].map(|t| t.join().unwrap()));
        let (mut serves, said) = match (one, other) {
            (Ok(serves), Err(said)) | (Err(said), Ok(serves)) => (serves, said),
            (Ok(_), Ok(_)) => panic!("round {round}: both serve"),
            (Err(one), Err(other)) => panic!("round {round}: nobody serves: {one}{other}"),
        };
        // The winner may not have written its number yet; any other number would be wrong.
        let in_use = |whom: &str| {
            format!("error: portolan.sock is in use by {whom}; stop that process, or give this daemon another path\n")
        };
        let named = in_use(&format!("process {}", serves.0.id()));
        assert!(said == named || said == in_use("another process"), "round {round}: {} serves: {said}", serves.0.id());
        assert_eq!(line(&mut connect(&folder.socket(), "db@x")), "db");
        // Every other round begins with the socket of a dead daemon.
        end(&mut serves, if round % 2 == 0 { Signal::KILL } else { Signal::TERM });
        assert_eq!(folder.socket().exists(), round % 2 == 0);
    }
}

fn end(running: &mut Running, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(&running.0), signal).unwrap();
    running.0.wait().unwrap();
}

#[test]
fn the_number_that_a_dead_daemon_left_in_the_lock_is_not_told() {
    let folder = Folder::new(ROUTE, "");
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    folder.write("portolan.sock.lock", &format!("{}\n", dead.id()));
    let lock = fs::File::open(folder.path("portolan.sock.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(
        fails_to_start(run(&folder)),
        "error: portolan.sock is in use by another process; stop that process, or give this daemon another path\n"
    );
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let folder = Folder::new(ROUTE, "");
    folder.write("portolan.sock", "precious");
    assert_eq!(
        fails_to_start(run(&folder)),
        "error: portolan.sock is not a socket; portolan does not replace it: remove it, or choose another path\n"
    );
    assert_eq!(fs::read_to_string(folder.socket()).unwrap(), "precious");
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_said_to_be() {
    let folder = Folder::new(ROUTE, "");
    let long = "x".repeat(103) + ".sock";
    folder.write("portolan.toml", &format!("[socket]\npath = \"{long}\"\n"));
    assert_eq!(
        fails_to_start(run(&folder)),
        format!(
            "error: the path of the socket has 108 bytes, a Unix socket has at most 107\n --> portolan.toml:2:8\n  |\n\
             2 | path = \"{long}\"\n  |        {}\n  |\n  = help: choose a shorter path than {}...\n\n1 error\n",
            "^".repeat(80),
            "x".repeat(60)
        )
    );

    folder.write("portolan.toml", "");
    let runtime = folder.path(&"y".repeat(100));
    let mut command = run(&folder);
    command.env("RUNTIME_DIRECTORY", &runtime);
    assert_eq!(
        fails_to_start(command),
        format!(
            "error: {}/portolan.sock has {} bytes, a Unix socket has at most 107; choose a shorter path\n",
            runtime.display(),
            runtime.as_os_str().len() + "/portolan.sock".len()
        )
    );
}

#[test]
fn the_runtime_folder_has_the_socket_when_the_configuration_does_not_say() {
    for (variable, under) in [("RUNTIME_DIRECTORY", "portolan.sock"), ("XDG_RUNTIME_DIR", "portolan/portolan.sock")] {
        let folder = Folder::new(ROUTE, "");
        folder.write("portolan.toml", "");
        let mut command = run(&folder);
        command.env(variable, folder.path("runtime"));
        let daemon = Daemon::spawn(folder, command);
        assert!(daemon.folder.path("runtime").join(under).exists(), "{variable}");
    }
}

#[test]
fn who_may_not_write_the_folder_is_told_so() {
    let folder = Folder::new(ROUTE, "");
    let Some(command) = unprivileged("who_may_not_write_the_folder_is_told_so", &folder, run(&folder)) else { return };
    fs::set_permissions(folder.path("."), fs::Permissions::from_mode(0o555)).unwrap();
    let said = fails_to_start(command);
    fs::set_permissions(folder.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        said,
        "error: portolan.sock.lock cannot be opened: permission denied; \
         give the user that portolan runs as the right to it, or choose another place\n"
    );
}

#[test]
fn who_may_not_read_the_configuration_is_told_so() {
    let folder = Folder::new(ROUTE, "");
    let test = "who_may_not_read_the_configuration_is_told_so";
    let Some(command) = unprivileged(test, &folder, run(&folder)) else { return };
    fs::set_permissions(folder.path("routes.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(
        fails_to_start(command),
        "error: the file cannot be read: permission denied\n--> routes.toml\n \
         = help: check the path and who may read it\n\n1 error\n"
    );
}

#[test]
fn a_folder_of_the_socket_that_cannot_be_made_is_named() {
    let folder = Folder::new(ROUTE, "");
    folder.write("portolan.toml", "[socket]\npath = \"routes.toml/portolan.sock\"\n");
    assert_eq!(
        fails_to_start(run(&folder)),
        "error: routes.toml cannot be made, or is not a folder: file exists; choose another place\n"
    );
}

#[test]
fn the_socket_has_the_mode_that_was_asked_for() {
    let mode = |daemon: &Daemon| daemon.socket().metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&Daemon::start(ROUTE)), 0o660);
    let folder = Folder::new(ROUTE, "");
    folder.write("portolan.toml", "[socket]\npath = \"portolan.sock\"\nmode = \"0606\"\n");
    assert_eq!(mode(&Daemon::in_folder(folder)), 0o606);
}

#[test]
fn the_socket_is_given_to_its_owner_and_group() {
    if !is_root() {
        eprintln!("the_socket_is_given_to_its_owner_and_group: skipped: only root may give files away");
        return;
    }
    let folder = Folder::new(ROUTE, "");
    folder.write("portolan.toml", "[socket]\npath = \"portolan.sock\"\nowner = \"4711\"\ngroup = \"4712\"\n");
    let daemon = Daemon::in_folder(folder);
    let metadata = daemon.socket().metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
}

#[test]
fn a_socket_that_cannot_be_given_away_is_not_left_behind() {
    let folder = Folder::new(ROUTE, "");
    folder.write("portolan.toml", "[socket]\npath = \"portolan.sock\"\nowner = \"root\"\n");
    let test = "a_socket_that_cannot_be_given_away_is_not_left_behind";
    let Some(command) = unprivileged(test, &folder, run(&folder)) else { return };
    assert_eq!(
        fails_to_start(command),
        "error: portolan.sock: cannot be given to owner root: operation not permitted; \
         portolan's user may give it to the groups that it is a member of, and to nobody else\n"
    );
    assert!(!folder.socket().exists());
}

#[test]
fn owners_that_do_not_exist_are_said_with_a_caret() {
    let folder = Folder::new(ROUTE, "");
    folder.write(
        "portolan.toml",
        "[socket]\npath = \"portolan.sock\"\nowner = \"no-such-user\"\ngroup = \"no-such-group\"\n",
    );
    assert_eq!(
        fails_to_start(run(&folder)),
        "error: there is no user `no-such-user` on this machine\n --> portolan.toml:3:9\n  |\n\
         3 | owner = \"no-such-user\"\n  |         ^^^^^^^^^^^^^^\n  |\n  \
         = help: create it, or write another `owner`, by name or number\n\n\
         error: there is no group `no-such-group` on this machine\n --> portolan.toml:4:9\n  |\n\
         4 | group = \"no-such-group\"\n  |         ^^^^^^^^^^^^^^^\n  |\n  \
         = help: create it, or write another `group`, by name or number\n\n2 errors\n"
    );
}

#[test]
fn the_socket_goes_with_the_daemon_and_the_lock_stays() {
    let mut daemon = Daemon::start(ROUTE);
    let lock = daemon.folder.path("portolan.sock.lock");
    assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_to_string(&lock).unwrap(), format!("{}\n", daemon.pid().as_raw_nonzero()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().0.code(), Some(0));
    assert!(!daemon.socket().exists());
    assert!(lock.exists());
    drop(launch(run(&daemon.folder)).expect("the lock of a daemon that has ended holds nobody up"));
}

#[test]
fn every_forward_that_cannot_be_bound_is_named_and_nothing_is_left_behind() {
    let taken = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap());
    let _taken = taken.map(|address| TcpListener::bind(address).unwrap());
    let forwards = taken.map(|at| format!("[[forward]]\nlisten = \"{at}\"\nnode = \"db@x\"\nopen = true\n")).concat();
    let folder = Folder::new(ROUTE, &forwards);
    let said = taken.map(|at| {
        format!(
            "error: {at} cannot be bound: address already in use; stop what listens there, or choose another address\n"
        )
    });
    assert_eq!(fails_to_start(run(&folder)), said.concat());
    assert!(!folder.socket().exists());
}

#[test]
fn a_key_that_may_not_be_read_is_named_with_the_place_that_names_it() {
    let folder = Folder::new(&format!("{ROUTE}tls = {{ cert = 'us.pem', key = 'us.key' }}\n"), "");
    let us = Authority::new("ours").client("us");
    folder.write("us.pem", &us.cert);
    folder.write("us.key", &us.key);
    fs::set_permissions(folder.path("us.key"), fs::Permissions::from_mode(0o000)).unwrap();
    let check = folder.command(&["check", "routes.toml"]);
    let Some(mut check) = unprivileged("a_key_that_may_not_be_read", &folder, check) else { return };
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "\
error: `us.key` may not be read by the user that portolan runs as: permission denied
 --> routes.toml:5:32
  |
5 | tls = { cert = 'us.pem', key = 'us.key' }
  |                                ^^^^^^^^
  |
  = help: put it right, or name another file

1 error
"
    );
}
