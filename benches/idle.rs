//! What an idle relay costs: `cargo bench --bench idle [-- RELAYS]`.
//!
//! The daemon, the node and the clients are three processes, so that each has the descriptor limit to itself. A relay
//! counts as idle after a byte has gone each way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that fails says where and has no result"
)]

#[path = "../tests/support/certs.rs"]
mod certs;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

const RELAYS: usize = 9_000;
const ROUNDS: usize = 5;
/// Relays that are opened at the same time; the node serves as many.
const WORKERS: usize = 8;

fn main() {
    portolan::descriptors::raise();
    // cargo adds `--bench`.
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", "plain"] => node(None),
        ["node", "tls", folder] => node(Some(tls_config(Path::new(folder)))),
        ["node", ..] => panic!("a node is `plain`, or `tls FOLDER`"),
        [] => table(RELAYS),
        [relays, ..] => table(relays.parse().unwrap()),
    }
}

fn table(relays: usize) {
    println!("{relays} idle relays from the Unix socket, median of {ROUNDS} rounds\n");
    println!(
        "| upstream | KiB for a relay (RSS) | least to most | KiB (PSS) | descriptors | RSS before, MiB | after, MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for upstream in ["plain", "tls"] {
        let mut rounds: Vec<_> = (0..ROUNDS).map(|_| round(upstream, relays)).collect();
        rounds.sort_by_key(Cost::rss);
        let each = |kib: usize| kib as f64 / relays as f64;
        let [least, .., most] = &rounds[..] else { panic!("two rounds at least") };
        let Some(median) = rounds.get(rounds.len() / 2) else { panic!("two rounds at least") };
        println!(
            "| {upstream} | {:.2} | {:.2} to {:.2} | {:.2} | {:.2} | {:.1} | {:.1} |",
            each(median.rss()),
            each(least.rss()),
            each(most.rss()),
            each(median.after.pss - median.before.pss),
            (median.after.descriptors - median.before.descriptors) as f64 / relays as f64,
            median.before.rss as f64 / 1024.0,
            median.after.rss as f64 / 1024.0,
        );
    }
}

/// A process before and after.
struct Cost {
    before: Held,
    after: Held,
}

impl Cost {
    fn rss(&self) -> usize {
        self.after.rss - self.before.rss
    }
}

/// What a process holds; memory in KiB.
struct Held {
    rss: usize,
    pss: usize,
    descriptors: usize,
}

impl Held {
    fn by(process: &Child) -> Self {
        let proc = |file: &str| format!("/proc/{}/{file}", process.id());
        let kib = |file: &str, key: &str| {
            let text = fs::read_to_string(proc(file)).unwrap();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(proc("fd")).unwrap().count();
        Self { rss: kib("status", "VmRSS:"), pss: kib("smaps_rollup", "Pss:"), descriptors }
    }
}

/// A daemon and a node of its own; as many relays; and what the daemon holds then.
fn round(upstream: &str, relays: usize) -> Cost {
    let folder = tempfile::tempdir().unwrap();
    let mut tls = "";
    let mut node = Command::new(env::current_exe().unwrap());
    node.args(["node", upstream]);
    if upstream == "tls" {
        let authority = certs::Authority::new("bench");
        authority.write(folder.path(), "ca");
        authority.server(&["127.0.0.1"]).write(folder.path(), "node");
        node.arg(folder.path());
        tls = "tls = { ca = \"ca.pem\" }\n";
    }
    let (node, port) = Ended::start(node.stdout(Stdio::piped()), |child| line_with(child.stdout.take().unwrap(), ""));
    let routes = format!("[[route]]\nmatch = '^db@'\nhost = \"127.0.0.1\"\nport = {port}\n{tls}");
    let daemon = daemon(&folder, &routes);

    let socket = folder.path().join("portolan.sock");
    // What the first relays of a daemon need once, such as its threads' buffers, is no later relay's.
    let _first = hold(2 * WORKERS, || open(&socket));
    let before = Held::by(&daemon.0);
    let held = hold(relays, || open(&socket));
    let after = Held::by(&daemon.0);
    assert_eq!(held.len(), relays);
    drop((daemon, node));
    Cost { before, after }
}

fn daemon(folder: &TempDir, routes: &str) -> Ended {
    fs::write(folder.path().join("routes.toml"), routes).unwrap();
    let config = "routes = \"routes.toml\"\n[socket]\npath = \"portolan.sock\"\n[dial]\nestablish = \"1m\"\n";
    fs::write(folder.path().join("portolan.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.args(["run", "--config", "portolan.toml"]).current_dir(folder.path()).stderr(Stdio::piped());
    Ended::start(&mut command, |child| line_with(child.stderr.take().unwrap(), "\"serving\"")).0
}

/// A process that is ended when this is dropped.
struct Ended(Child);

impl Ended {
    fn start<T>(command: &mut Command, ready: impl FnOnce(&mut Child) -> T) -> (Self, T) {
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let ready = ready(&mut child);
        (Self(child), ready)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The first line with this text; what comes later is read and dropped.
fn line_with(output: impl Read + Send + 'static, text: &'static str) -> String {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains(text)).unwrap();
    thread::spawn(move || lines.for_each(drop));
    line
}

/// Opens as many of them by a few threads, and holds them.
fn hold<T: Send>(count: usize, open: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let share = |worker| count / WORKERS + usize::from(worker < count % WORKERS);
        let open = &open;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || (0..share(worker)).map(|_| open()).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// A client that is connected, and has sent and received a byte.
fn open(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"CONNECT db@bench HTTP/1.1\r\nHost: portolan\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

/// Says its port, answers the first byte of every connection, and holds them all until it is ended.
fn node(tls: Option<Arc<ServerConfig>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let serve = || {
        let (mut tcp, _) = listener.accept().unwrap();
        let Some(config) = &tls else {
            answer(&mut tcp);
            return tcp;
        };
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), tcp);
        answer(&mut tls);
        // The connection stays open; what the node keeps of TLS is not what is measured.
        tls.into_parts().1
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut held = Vec::new();
                loop {
                    held.push(serve());
                }
            });
        }
    });
}

fn answer(stream: &mut (impl Read + Write)) {
    stream.read_exact(&mut [0]).unwrap();
    stream.write_all(b"!").unwrap();
    stream.flush().unwrap();
}

fn tls_config(folder: &Path) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("node.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("node.key")).unwrap();
    Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap())
}
