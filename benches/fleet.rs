//! What a change of a shared table costs a fleet: `cargo bench --features etcd --bench fleet [-- DAEMONS ROUTES]`.
//!
//! The daemons are tasks of one process. Each has a connection to etcd, a watch, and a table of its own, and does with a
//! change what a daemon does, but for the copy on disk; it counts as in force when the new table could be swapped in. They
//! share this machine's cores with etcd: on machines of their own they would not wait for each other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement that fails says where and has no result"
)]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan::admin::view::RouteSpec;
use portolan::config::{Context, EtcdResolver, Problems, load_routes};
use portolan::edits;
use portolan::etcd::{Etcd, Op, Txn};
use portolan::load::{Over, load};
use portolan::plan::Snapshot;
use portolan::resolve::Home;
use portolan::shared::{Feed, Keys, Plan, Publisher, Shared, Stamp, Wanted, plan};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const DAEMONS: usize = 1_000;
const ROUTES: usize = 10_000;
const ROUNDS: usize = 21;

/// Longer than anything here takes.
const HANG: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() {
    portolan::descriptors::raise();
    // cargo adds `--bench`.
    let arguments: Vec<usize> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (daemons, routes) = match arguments[..] {
        [] => (DAEMONS, ROUTES),
        [daemons] => (daemons, ROUTES),
        [daemons, routes, ..] => (daemons, routes),
    };
    let mut fleet = Fleet::start(daemons, routes).await;
    let watches = fleet.server.metric("etcd_debugging_mvcc_watcher_total");
    println!("{daemons} daemons, {routes} routes, median of {ROUNDS} rounds (of the last two: 3, and 1)");
    println!("etcd serves {watches} watches and holds {} MB\n", fleet.server.resident() / 1_000_000);
    println!(
        "| what | the first has it | half have it | 99 % have it | all have it | slowest round | CPU of etcd | sent by etcd |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    fleet.rounds("one route, pushed", ROUNDS, Fleet::push_one).await;
    fleet.rounds("one route, by hand", ROUNDS, Fleet::put_one).await;
    fleet.rounds("etcd is killed and starts again, one route", 3, Fleet::restart).await;
    // The daemons share no route of this one: it takes some 15 GB here, and minutes.
    fleet.rounds("every route, pushed", 1, Fleet::push_all).await;
}

/// What a change is made of, to be committed when the clock runs.
struct Commit(Vec<Txn>);

struct Fleet {
    server: Server,
    etcd: Etcd,
    keys: Keys,
    routes: Vec<RouteSpec>,
    daemons: usize,
    seen: UnboundedReceiver<(i64, Instant)>,
    changes: u64,
    _folder: TempDir,
}

impl Fleet {
    async fn start(daemons: usize, routes: usize) -> Self {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        let routes = self::routes(folder.path(), routes);
        let config = format!(
            "routes = ['none.toml', 'etcd:fleet']\n[resolver.fleet]\ntype = 'etcd'\nendpoints = '{}'\n",
            server.endpoint()
        );
        fs::write(folder.path().join("none.toml"), "allow_empty = true\n").unwrap();
        fs::write(folder.path().join("portolan.toml"), config).unwrap();
        let home = Home::on(tokio::runtime::Handle::current());
        let (config, home_too) = (folder.path().join("portolan.toml"), home.clone());
        let state = folder.path().join("state");
        let loaded = tokio::task::spawn_blocking(move || {
            let outcome = load(&config, None, None, &home_too, |config| {
                let (name, etcd) = config.shared().unwrap();
                Over { shared: Some(Shared::read(name, etcd, &state)), ..Over::default() }
            });
            outcome.loaded.unwrap_or_else(|| panic!("{}", outcome.problems.render(false)))
        });
        let loaded = loaded.await.unwrap();
        let (_, EtcdResolver { etcd, table, .. }) = loaded.config.shared().unwrap();
        let (etcd, keys) = (Etcd::new(etcd.clone()), Keys::new(&table.prefix));
        let publisher = Publisher::new(etcd.clone(), keys.clone(), "bench@here".to_owned());
        publisher.push(Wanted::Routes(&routes), false).await.unwrap();

        // One reads the table; the others are copies of it, which share what does not change.
        let (mut shared, mut snapshot) = (loaded.shared.unwrap(), Arc::new(loaded.snapshot));
        let mut feed = Feed::start(&shared, &home);
        while snapshot.table.len() < routes.len() {
            step(&mut shared, &mut snapshot, &feed.next().await.unwrap());
        }
        drop(feed);
        let (sender, seen) = unbounded_channel();
        for _ in 0..daemons {
            tokio::spawn(daemon(shared.clone(), Arc::clone(&snapshot), home.clone(), sender.clone()));
        }
        let mut fleet = Self { server, etcd, keys, routes, daemons, seen, changes: 0, _folder: folder };
        // All of them follow when all have seen this.
        let Commit(hello) = fleet.put_one().await;
        fleet.commit(&hello).await;
        fleet
    }

    async fn rounds(&mut self, what: &str, rounds: usize, change: impl AsyncFn(&mut Self) -> Commit) {
        let (mut times, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let Commit(txns) = change(self).await;
            let before = self.server.cost();
            let mut round = self.commit(&txns).await;
            let after = self.server.cost();
            round.sort();
            let at = |share: usize| round[(round.len() - 1) * share / 100];
            times.push([round[0], at(50), at(99), at(100)]);
            costs.push((after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)));
        }
        let worst = times.iter().map(|round| round[3]).max().unwrap();
        let [first, half, most, all] = [0, 1, 2, 3].map(|column| median(times.iter().map(|round| round[column])));
        let cpu = median(costs.iter().map(|cost| cost.0));
        let sent = median(costs.iter().map(|cost| cost.1));
        println!(
            "| {what} | {} | {} | {} | {} | {} | {} | {:.2} MB |",
            ms(first),
            ms(half),
            ms(most),
            ms(all),
            ms(worst),
            ms(cpu),
            sent as f64 / 1e6
        );
    }

    /// How long after the beginning of the last transaction each daemon had it in force.
    async fn commit(&mut self, txns: &[Txn]) -> Vec<Duration> {
        let (last, before) = txns.split_last().unwrap();
        for txn in before {
            assert!(self.etcd.run(txn, None).await.unwrap());
        }
        let began = Instant::now();
        // After a kill the first call may find the connection dead.
        while !self.etcd.run(last, None).await.unwrap_or(false) {}
        let revision = loop {
            // It has much to do just then.
            if let Ok(revision) = self.etcd.revision(self.keys.prefix()).await {
                break revision;
            }
        };
        let mut times = Vec::new();
        while times.len() < self.daemons {
            let seen = timeout(HANG, self.seen.recv()).await;
            let (at, when) =
                seen.unwrap_or_else(|_| panic!("{} have it, {} do not", times.len(), self.daemons)).unwrap();
            if at >= revision {
                times.push(when - began);
            }
        }
        times
    }

    /// A push that changes one route.
    async fn push_one(&mut self) -> Commit {
        self.changes += 1;
        let at = self.routes.len() / 2;
        self.routes[at].description = Some(format!("change {}", self.changes));
        self.plan().await
    }

    /// A push that changes all routes. What comes before its last transaction is not timed.
    async fn push_all(&mut self) -> Commit {
        self.changes += 1;
        for route in &mut self.routes {
            route.description = Some(format!("change {}", self.changes));
        }
        self.plan().await
    }

    /// A route that somebody writes by hand.
    async fn put_one(&mut self) -> Commit {
        self.changes += 1;
        let value = format!("match = '^by-hand@'\nhost = 'h:{}'\n", self.changes);
        Commit(vec![Txn { when: Vec::new(), then: vec![Op::Put(format!("{}by-hand", self.keys.prefix()), value)] }])
    }

    async fn restart(&mut self) -> Commit {
        self.server.kill();
        self.server.run();
        self.put_one().await
    }

    async fn plan(&self) -> Commit {
        let publisher = Publisher::new(self.etcd.clone(), self.keys.clone(), "bench@here".to_owned());
        let published = publisher.published().await.unwrap();
        let stamp =
            Stamp { set: format!("bench-{}", self.changes).into(), at: "now".to_owned(), by: "bench@here".to_owned() };
        match plan(&self.keys, &published, &self.routes, stamp).unwrap() {
            Plan::Nothing => panic!("nothing has changed"),
            Plan::Change(_, txn) => Commit(vec![txn]),
            Plan::Switch { stage, fill, switch, .. } => {
                let begin = Txn { when: Vec::new(), then: vec![Op::Put(stage, String::new())] };
                Commit([vec![begin], fill, vec![switch]].concat())
            }
        }
    }
}

/// A daemon, as far as it follows a shared table.
async fn daemon(mut shared: Shared, mut snapshot: Arc<Snapshot>, home: Home, seen: UnboundedSender<(i64, Instant)>) {
    let mut feed = Feed::start(&shared, &home);
    while let Some(change) = feed.next().await {
        step(&mut shared, &mut snapshot, &change);
        if seen.send((change.revision, Instant::now())).is_err() {
            return;
        }
    }
}

fn step(shared: &mut Shared, snapshot: &mut Arc<Snapshot>, change: &portolan::shared::Change) {
    let (next, _) = shared.follow(change, snapshot, &edits::Layer::default());
    *snapshot = Arc::new(next);
}

fn routes(folder: &Path, count: usize) -> Vec<RouteSpec> {
    let route = |n: usize| format!("[[route]]\nmatch = '^node-{n}@'\nhost = '10.0.{}.{}:4370'\n", n / 250, n % 250);
    fs::write(folder.join("all.toml"), (0..count).map(route).collect::<String>()).unwrap();
    let loaded = load_routes(&[folder.join("all.toml")], Context::default(), &mut Problems::default()).unwrap();
    loaded.table.iter().map(|row| RouteSpec::of(row)).collect()
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<_> = values.collect();
    values.sort();
    values[values.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// etcd, with its data in memory where that can be: what is measured is not the disk.
struct Server {
    data: TempDir,
    client: u16,
    peer: u16,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let memory = Path::new("/dev/shm");
        let data = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let [client, peer] =
            [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port());
        let child = spawn(&data, client, peer);
        let server = Self { data, client, peer, child };
        server.wait();
        server
    }

    fn run(&mut self) {
        self.child = spawn(&self.data, self.client, self.peer);
        self.wait();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn wait(&self) {
        let began = Instant::now();
        while !self.http("/health").is_some_and(|answer| answer.contains("\"true\"")) {
            assert!(began.elapsed() < HANG, "etcd does not start");
        }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    fn http(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.client)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Its CPU time so far, and the bytes that it has sent to clients.
    fn cost(&self) -> (Duration, u64) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // User and system time are the 12th and 13th word behind the name (proc(5)).
        let words: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = words[11..13].iter().map(|word| word.parse::<u64>().unwrap()).sum();
        let cpu = Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        (cpu, self.metric("etcd_network_client_grpc_sent_bytes_total"))
    }

    /// One of the numbers that it counts.
    fn metric(&self, name: &str) -> u64 {
        let metrics = self.http("/metrics").unwrap();
        let number = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        number.unwrap().parse::<f64>().unwrap() as u64
    }

    /// Bytes.
    fn resident(&self) -> usize {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(data: &TempDir, client: u16, peer: u16) -> Child {
    let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new("etcd");
    command.args(["--name", "t", "--log-level", "error", "--logger", "zap"]).arg("--data-dir").arg(data.path());
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("t={peer}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("etcd, which tests/run.sh installs: {error}"))
}
