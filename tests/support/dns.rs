//! knot, a name server, with zones of the test on a port that was free.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::HANG;
use super::daemon::Running;

/// A server that is killed when this is dropped.
pub struct NameServer {
    folder: TempDir,
    zones: Vec<&'static str>,
    /// The number of the zones' version.
    serial: u32,
    address: SocketAddr,
    running: Option<(Running, Receiver<String>)>,
}

/// A zone that is told over TCP only: over UDP every answer is truncated.
pub const TCP_ONLY: &str = "tcp.test";

impl NameServer {
    /// With one zone, and records in it as a zone file has them.
    pub fn new(zone: &'static str, records: &str) -> Self {
        Self::with(&[(zone, records)])
    }

    /// The same with several zones.
    pub fn with(zones: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = zones.iter().map(|(name, _)| *name).collect();
        let mut server = Self { folder, zones: names, serial: 1, address: free_port(), running: None };
        zones.iter().for_each(|(name, records)| server.write(name, records));
        while !server.start() {
            server.address = free_port();
        }
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other records in a zone, from now on.
    pub fn change(&mut self, zone: &str, records: &str) {
        let before = self.serial;
        self.serial += 1;
        self.write(zone, records);
        let (running, _) = self.running.as_ref().unwrap();
        kill_process(Pid::from_child(&running.0), Signal::USR1).unwrap();
        assert!(self.wait_for(&format!("[{zone}.] loaded, serial {before} -> {}", self.serial)));
    }

    /// Other records in a zone, for when it runs again.
    pub fn write_now(&mut self, zone: &str, records: &str) {
        self.serial += 1;
        self.write(zone, records);
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Runs again, at the same address.
    pub fn restart(&mut self) {
        assert!(self.start(), "the port was taken in the meantime");
    }

    /// Whether it could have its port.
    fn start(&mut self) -> bool {
        let config = self.folder.path().join("knot.conf");
        fs::write(&config, self.config()).unwrap();
        let mut command = Command::new("knotd");
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running(command.spawn().expect("knotd, which tests/run.sh installs"));
        let (stdout, (line, lines)) = (running.0.stdout.take().unwrap(), channel());
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|text| drop(line.send(text)));
        });
        self.running = Some((running, lines));
        self.wait_for("server started")
    }

    fn config(&self) -> String {
        let (folder, address) = (self.folder.path().display(), self.address);
        let mut config = format!(
            r#"
server:
    rundir: "{folder}"
    listen: {}@{}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
control:
    listen: "{folder}/knot.sock"
log:
  - target: stdout
    any: info
template:
  - id: default
    storage: "{folder}"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
"#,
            address.ip(),
            address.port()
        );
        for zone in &self.zones {
            let module = if *zone == TCP_ONLY { "    module: mod-noudp\n" } else { "" };
            write!(config, "  - domain: {zone}\n    file: \"{zone}.zone\"\n{module}").unwrap();
        }
        config
    }

    /// A zone file. What is not there may be believed for 1 s.
    fn write(&self, zone: &str, records: &str) {
        let head = format!("$ORIGIN {zone}.\n$TTL 1\n@ SOA ns hostmaster {} 3600 600 86400 1\n@ NS ns\n", self.serial);
        let text = format!("{head}ns A {}\n{records}\n", self.address.ip());
        fs::write(self.folder.path().join(format!("{zone}.zone")), text).unwrap();
    }

    /// Whether it said that before it ended.
    fn wait_for(&self, said: &str) -> bool {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};

        let (_, lines) = self.running.as_ref().unwrap();
        loop {
            match lines.recv_timeout(HANG) {
                Ok(line) if line.contains(said) => return true,
                Ok(_) => {}
                Err(Disconnected) => return false,
                Err(Timeout) => panic!("the name server does not say {said:?}"),
            }
        }
    }
}

/// A port of which both halves, TCP and UDP, were free just now.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
