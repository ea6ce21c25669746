//! The port mapper of Erlang, on a port that was free.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::HANG;
use super::daemon::Running;

/// An EPMD that is killed when this is dropped.
pub struct PortMapper {
    port: u16,
    running: Option<Running>,
}

impl PortMapper {
    pub fn new() -> Self {
        let mut mapper = Self { port: 0, running: None };
        loop {
            mapper.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            if mapper.start() {
                return mapper;
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Runs again, on the same port; it knows no node then.
    pub fn restart(&mut self) {
        assert!(self.start(), "the port was taken in the meantime");
    }

    /// Registers a node as a node does (ALIVE2_REQ): until the connection is dropped.
    pub fn register(&self, name: &str, port: u16) -> TcpStream {
        let length = u16::try_from(name.len()).unwrap();
        let request = [
            &(13 + length).to_be_bytes()[..],
            &[120],
            &port.to_be_bytes(),
            // A normal node, TCP, the versions from 5 to 6.
            &[77, 0, 0, 6, 0, 5],
            &length.to_be_bytes(),
            name.as_bytes(),
            &[0, 0],
        ];
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.write_all(&request.concat()).unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert!(matches!(answer, [118 | 121, 0]), "{name} is refused: {answer:?}");
        stream
    }

    /// Waits until no node of this name is registered.
    pub fn wait_until_gone(&self, name: &str) {
        let line = format!("name {name} at");
        let began = Instant::now();
        while self.names().is_some_and(|names| names.contains(&line)) {
            assert!(began.elapsed() < HANG, "{name} stays");
        }
    }

    /// Whether it could have its port.
    fn start(&mut self) -> bool {
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &self.port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running(command.spawn().expect("epmd, which tests/run.sh installs"));
        let began = Instant::now();
        while self.names().is_none() {
            assert!(began.elapsed() < HANG, "EPMD does not answer");
            if running.0.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::yield_now();
        }
        self.running = Some(running);
        true
    }

    /// What it says of all nodes (NAMES_REQ); `None` while nobody answers.
    fn names(&self) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        // The kernel may have connected the socket to itself.
        if stream.local_addr().ok()? == stream.peer_addr().ok()? {
            return None;
        }
        stream.write_all(&[0, 1, 110]).ok()?;
        let (mut port, mut names) = ([0; 4], String::new());
        stream.read_exact(&mut port).ok()?;
        stream.read_to_string(&mut names).ok()?;
        Some(names)
    }
}
