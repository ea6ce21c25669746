//! etcd on ports that were free, with a folder of the test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::daemon::Running;
use super::{HANG, until};

/// A server that is killed when this is dropped.
pub struct Etcd {
    folder: TempDir,
    port: u16,
    peer: u16,
    /// The certificate and key of a server that speaks TLS.
    tls: Option<(PathBuf, PathBuf)>,
    running: Option<Running>,
}

impl Etcd {
    pub fn new() -> Self {
        Self::with(None)
    }

    /// One that speaks TLS by these.
    pub fn with(tls: Option<(PathBuf, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut etcd = Self { folder, port: 0, peer: 0, tls, running: None };
        loop {
            (etcd.port, etcd.peer) = (free_port(), free_port());
            if etcd.start() {
                return etcd;
            }
        }
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// What `etcdctl` says.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint()]).args(args);
        let output = command.output().expect("etcdctl, which tests/run.sh installs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
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

    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Runs again, on the same ports and with what it had.
    pub fn restart(&mut self) {
        assert!(self.start(), "the port was taken in the meantime");
    }

    /// It hangs, until it goes on.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.as_ref().unwrap().0), signal).unwrap();
    }

    /// Whether it could have its ports.
    fn start(&mut self) -> bool {
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer));
        let data = self.folder.path().join("data");
        let cluster = format!("t={peer}");
        let mut command = Command::new("etcd");
        command.args(["--name", "t", "--log-level", "error", "--logger", "zap"]).arg("--data-dir").arg(data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster, "--heartbeat-interval", "10", "--election-timeout", "100"]);
        command.args(["--bcrypt-cost", "4", "--auth-token-ttl", "2"]);
        if let Some((cert, key)) = &self.tls {
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running(command.spawn().expect("etcd, which tests/run.sh installs"));
        let mut has_ended = false;
        until("etcd answers", || {
            has_ended = running.0.try_wait().unwrap().is_some();
            has_ended || self.is_healthy()
        });
        self.running = Some(running);
        !has_ended
    }

    fn is_healthy(&self) -> bool {
        if self.tls.is_some() {
            // Its TLS is not what is tested here.
            return TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        }
        let ask = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            stream.set_read_timeout(Some(HANG.min(Duration::from_secs(2)))).ok()?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer.contains("\"health\":\"true\""))
        };
        ask().unwrap_or(false)
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
