//! Debian's etcd, on free ports, with its data in memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::HANG;

/// A cluster of one; it is killed when this is dropped.
pub struct Etcd {
    child: Child,
    data: TempDir,
    client: u16,
    peer: u16,
}

impl Etcd {
    /// Starts one that holds nothing, and waits until it answers.
    pub fn start() -> Self {
        // No fsync is waited for there; before 3.5 etcd cannot be told to leave it.
        let memory = std::path::Path::new("/dev/shm");
        let data = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        // A port that was free may be taken by the time that etcd binds it: then others are.
        for _ in 0..10 {
            let (client, peer) = (free_port(), free_port());
            let mut child = spawn(&data, client, peer);
            if answers(&mut child, client) {
                return Self { child, data, client, peer };
            }
        }
        panic!("etcd does not start; is the package etcd-server installed?");
    }

    /// `http://host:port`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it held, at the same address.
    pub fn restart(&mut self) {
        self.child = spawn(&self.data, self.client, self.peer);
        assert!(answers(&mut self.child, self.client), "etcd does not come back");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `etcdctl ARGS`, and what it wrote.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.endpoint()).args(args);
        let output = command.output().expect("etcdctl is there; the package etcd-client has it");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", key, "--", value]);
    }

    pub fn delete(&self, key: &str) {
        self.ctl(&["del", key]);
    }

    /// The keys under a prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.ctl(&["get", prefix, "--prefix", "--keys-only"]);
        keys.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The revision at which it is.
    pub fn revision(&self) -> i64 {
        let found: serde_json::Value = serde_json::from_str(&self.ctl(&["get", "x", "-w", "json"])).unwrap();
        found["header"]["revision"].as_i64().unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn spawn(data: &TempDir, client: u16, peer: u16) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new("etcd");
    command.args(["--name", "t", "--logger", "zap", "--log-outputs", "stderr", "--log-level", "error"]);
    command.args(["--heartbeat-interval", "10", "--election-timeout", "100"]);
    command.arg("--data-dir").arg(data.path());
    for (flag, url) in [
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
    ] {
        command.arg(flag).arg(url);
    }
    command.arg("--initial-cluster").arg(format!("t={peer}"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("etcd is there; the package etcd-server has it")
}

/// Whether it is healthy before it ends.
fn answers(child: &mut Child, port: u16) -> bool {
    let began = Instant::now();
    while began.elapsed() < HANG && child.try_wait().unwrap().is_none() {
        if is_healthy(port).unwrap_or(false) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn is_healthy(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(HANG))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("\"true\""))
}
