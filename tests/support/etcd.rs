//! etcd on ports that were free, with a folder of the test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use portolan::etcd::{Etcd as Asked, EtcdConfig, Op, Txn};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::daemon::Running;
use super::{HANG, until};

/// A server that is killed when this is dropped.
pub struct Etcd {
    folder: TempDir,
    name: &'static str,
    /// The members of its cluster, each with where it is for the others.
    cluster: String,
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
        loop {
            let mut etcd = Self::prepared("t", tls.clone());
            etcd.cluster = etcd.member();
            if etcd.start() {
                return etcd;
            }
        }
    }

    /// Two members of one cluster: when one is gone, the other has no leader.
    pub fn two() -> [Self; 2] {
        loop {
            let mut both = ["one", "other"].map(|name| Self::prepared(name, None));
            let cluster = both.iter().map(Self::member).collect::<Vec<_>>().join(",");
            for etcd in &mut both {
                etcd.cluster.clone_from(&cluster);
                etcd.running = Some(etcd.spawned());
            }
            if both.iter_mut().all(Self::comes_up) {
                return both;
            }
        }
    }

    /// One on ports that are free now.
    fn prepared(name: &'static str, tls: Option<(PathBuf, PathBuf)>) -> Self {
        let (folder, port, peer) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        Self { folder, name, cluster: String::new(), port, peer, tls, running: None }
    }

    fn member(&self) -> String {
        format!("{}=http://127.0.0.1:{}", self.name, self.peer)
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

    /// Puts as many as there are, by several at a time.
    pub fn fill(&self, keys: impl Iterator<Item = (String, String)>) {
        let etcd = Asked::new(EtcdConfig { endpoints: vec![self.endpoint()], user: None, tls: None });
        let mut pieces = vec![Txn::default()];
        let mut bytes = 0;
        for (key, value) in keys {
            bytes += key.len() + value.len();
            if bytes > 1_000_000 || pieces.last().unwrap().then.len() == 100 {
                pieces.push(Txn::default());
                bytes = key.len() + value.len();
            }
            pieces.last_mut().unwrap().then.push(Op::Put(key, value));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for piece in pieces {
                let etcd = etcd.clone();
                // On a busy machine etcd says that it was too slow itself; these puts may be made twice.
                running.spawn(async move {
                    for _ in 0..10 {
                        if etcd.run(&piece, None).await.is_ok_and(|done| done) {
                            return;
                        }
                    }
                    panic!("etcd takes nothing");
                });
                if running.len() == 16 {
                    running.join_next().await.unwrap().unwrap();
                }
            }
            running.join_all().await;
        });
    }

    /// How many watches it serves.
    pub fn watchers(&self) -> usize {
        let metrics = self.http("/metrics").unwrap();
        let watchers = metrics.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        watchers.unwrap().parse().unwrap()
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
        self.running = Some(self.spawned());
        self.comes_up()
    }

    fn spawned(&self) -> Running {
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer));
        let data = self.folder.path().join("data");
        let mut command = Command::new("etcd");
        command.args(["--name", self.name, "--log-level", "error", "--logger", "zap"]).arg("--data-dir").arg(data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &self.cluster, "--heartbeat-interval", "10", "--election-timeout", "100"]);
        command.args(["--bcrypt-cost", "4", "--auth-token-ttl", "2"]);
        if let Some((cert, key)) = &self.tls {
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().expect("etcd, which tests/run.sh installs"))
    }

    /// Waits until it answers; whether it does.
    fn comes_up(&mut self) -> bool {
        let mut has_ended = false;
        until("etcd answers", || {
            has_ended = self.running.as_mut().is_none_or(|running| running.0.try_wait().unwrap().is_some());
            has_ended || self.is_healthy()
        });
        !has_ended
    }

    fn is_healthy(&self) -> bool {
        if self.tls.is_some() {
            // Its TLS is not what is tested here.
            return TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        }
        self.http("/health").is_some_and(|answer| answer.contains("\"health\":\"true\""))
    }

    fn http(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(HANG.min(Duration::from_secs(2)))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
