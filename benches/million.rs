//! The table as the daemon has it: `cargo bench --bench million [-- ROUTES...]`.
//!
//! Each line is a process of its own, so that its memory is its own. What is timed is what the daemon does: a
//! `routes.toml` is read, checked and made into a table; names are looked up; a route is added; and while a thread looks
//! names up, the files are read again, the new table is swapped in and the old one freed on another thread.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a measurement that fails says where and has no result"
)]

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portolan::load::{Loaded, Over, load};
use portolan::node::NodeName;
use portolan::plan::Snapshot;
use portolan::resolve::Home;
use tokio::runtime::Builder;

const SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
const MIXES: [&str; 4] = ["exact", "prefix and suffix", "inner and alternatives", "1% without literal"];
/// Names that are looked up, hits and misses each; at a million routes few of them are in a cache.
const NAMES: usize = 100_000;

fn main() {
    // cargo adds `--bench`.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [child, mix, routes] = &arguments[..]
        && child == "child"
    {
        return measure(mix.parse().unwrap(), routes.parse().unwrap());
    }
    let given: Vec<usize> = arguments.iter().map(|routes| routes.parse().unwrap()).collect();
    let sizes = if given.is_empty() { SIZES.to_vec() } else { given };
    println!(
        "| routes | file, MB | load | peak | B for a route | hit p50 | hit p99 | miss p50 | miss p99 | add | longest lookup / latest of 1,000, at rest | while reloading |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (mix, name) in MIXES.iter().enumerate() {
        println!("| **{name}** |");
        for routes in &sizes {
            let this = std::env::current_exe().unwrap();
            let status = Command::new(this).args(["child", &mix.to_string(), &routes.to_string()]).status().unwrap();
            assert!(status.success());
        }
    }
}

/// The pattern of a route, a name that it matches, and one that no route matches.
fn route(mix: usize, number: usize) -> (String, String, String) {
    // Numbers in no order, as names have them.
    let id = format!("{:08x}", (number as u32).wrapping_mul(0x9E37_79B1));
    let miss = format!("svc-{id}@none.example");
    match (mix, number % 100, number % 2) {
        (0, ..) => (format!("^svc-{id}@cluster\\.example$"), format!("svc-{id}@cluster.example"), miss),
        (1, _, 0) => (format!("^svc-{id}@"), format!("svc-{id}@cluster.example"), format!("svx-{id}@cluster.example")),
        (1, ..) => (format!("@host-{id}\\.example$"), format!("svc@host-{id}.example"), miss),
        (2, _, 0) => (format!("-{id}-[a-z]+@"), format!("svc-{id}-blue@cluster.example"), miss),
        (2, ..) => (format!("^(red|blue)-{id}@.*[0-9]$"), format!("blue-{id}@cluster9"), miss),
        (_, 0, _) => {
            let (one, two, three) = shape(number / 100);
            let (letters, digits) = (|many: usize| "x".repeat(many), "7".repeat(two));
            let pattern = format!("^[a-z]{{{one}}}[0-9]{{{two}}}[a-z]{{{three}}}$");
            (pattern, format!("{}{digits}{}", letters(one), letters(three)), miss)
        }
        _ => (format!("^svc-{id}@"), format!("svc-{id}@cluster.example"), format!("svx-{id}@cluster.example")),
    }
}

/// Three numbers from 1 to 22, others for each of the first ten thousand.
fn shape(number: usize) -> (usize, usize, usize) {
    (1 + number % 22, 1 + number / 22 % 22, 1 + number / 484 % 22)
}

fn write_files(folder: &Path, mix: usize, routes: usize) -> u64 {
    let mut text = String::new();
    for number in 0..routes {
        let (pattern, ..) = route(mix, number);
        write!(
            text,
            "[[route]]\nmatch = '{pattern}'\nweight = {}\nhost = \"10.{}.{}.{}\"\nport = 4370\n\n",
            100 + number % 5,
            number >> 16 & 255,
            number >> 8 & 255,
            number & 255
        )
        .unwrap();
    }
    fs::write(folder.join("routes.toml"), &text).unwrap();
    fs::write(folder.join("portolan.toml"), "routes = 'routes.toml'\n").unwrap();
    text.len() as u64
}

fn measure(mix: usize, routes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = write_files(folder.path(), mix, routes);
    let config = folder.path().join("portolan.toml");
    let names = |miss: bool| -> Vec<NodeName> {
        let numbers = (0..NAMES).map(|n| (n * 7919 + 13) % routes);
        numbers
            .map(|n| if miss { route(mix, n).2 } else { route(mix, n).1 })
            .map(|name| NodeName::parse(&name).unwrap())
            .collect()
    };
    let (hits, misses) = (names(false), names(true));
    let before = memory("VmRSS");

    let (loaded, took) = timed(|| read(&config, None));
    let held = memory("VmRSS").saturating_sub(before);
    let peak = memory("VmHWM").saturating_sub(before);
    assert_eq!(loaded.snapshot.table.len(), routes);
    let snapshot = Arc::new(loaded.snapshot);
    let [hit, miss] = [&hits, &misses].map(|names| lookups(&snapshot, names));
    assert!(hits.iter().all(|name| snapshot.table.find(name, None).is_some()));
    assert!(misses.iter().all(|name| snapshot.table.find(name, None).is_none()));
    let add = add(&snapshot);
    let stalls = stalls(snapshot, &config, &hits);
    let milliseconds = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let stalls = stalls.map(|(longest, late)| format!("{} / {}", milliseconds(longest), milliseconds(late)));
    println!(
        "| {routes} | {:.1} | {:.2} s | {:.0} MB | {} | {} | {} | {} | {} | {:.0} us | {} | {} |",
        bytes as f64 / 1e6,
        took.as_secs_f64(),
        peak as f64 / 1e6,
        held / routes as u64,
        hit.0,
        hit.1,
        miss.0,
        miss.1,
        add.as_secs_f64() * 1e6,
        stalls[0],
        stalls[1],
    );
}

fn read(config: &Path, previous: Option<&Snapshot>) -> Loaded {
    // Nothing is asked there.
    let runtime = Builder::new_current_thread().build().unwrap();
    let home = Home::on(runtime.handle().clone());
    let outcome = load(config, previous, previous.map(|previous| &previous.table), &home, |_| Over::default());
    outcome.loaded.unwrap_or_else(|| panic!("{}", outcome.problems.render(false)))
}

/// Median and 99th percentile of single lookups, in nanoseconds, without what the clock costs.
fn lookups(snapshot: &Snapshot, names: &[NodeName]) -> (String, String) {
    let mut idle: Vec<_> = (0..10_000).map(|_| timed(|| ()).1).collect();
    idle.sort();
    let clock = idle[idle.len() / 2];
    let mut times: Vec<_> =
        names.iter().map(|name| timed(|| snapshot.table.find(black_box(name), None).is_some()).1).collect();
    times.sort();
    let at = |share: usize| format!("{} ns", times[(times.len() - 1) * share / 100].saturating_sub(clock).as_nanos());
    (at(50), at(99))
}

/// The median of a table's copy with one route more.
fn add(snapshot: &Snapshot) -> Duration {
    let one = |n: usize| {
        let text = format!("[[route]]\nmatch = '^added-{n}@'\nhost = '10.0.0.1:1'\n");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("routes.toml"), text).unwrap();
        fs::write(folder.path().join("portolan.toml"), "").unwrap();
        let route = read(&folder.path().join("portolan.toml"), None).snapshot.table;
        let route = (***route.iter().next().unwrap()).clone();
        let (table, took) = timed(|| {
            let mut table = snapshot.table.clone();
            table.add(route).unwrap();
            table
        });
        drop(table);
        took
    };
    let mut times: Vec<_> = (0..50).map(one).collect();
    times.sort();
    times[times.len() / 2]
}

/// The longest of the lookups that are due every 200 us, and how late the latest in a thousand is done, which is also the
/// scheduler's doing: as long as nothing happens, and while the table is loaded again, swapped and the old one freed.
fn stalls(snapshot: Arc<Snapshot>, config: &Path, names: &[NodeName]) -> [(Duration, Duration); 2] {
    const EVERY: Duration = Duration::from_micros(200);
    let current = ArcSwap::new(snapshot);
    let ended = AtomicBool::new(false);
    let look = || {
        let (mut longest, mut late) = (Duration::ZERO, Vec::new());
        let mut due = Instant::now();
        for name in names.iter().cycle() {
            due = (due + EVERY).max(Instant::now());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (found, took) = timed(|| current.load().table.find(name, None).is_some());
            black_box(found);
            late.push(due.elapsed());
            longest = longest.max(took);
            if ended.load(Ordering::Relaxed) {
                break;
            }
        }
        late.sort();
        (longest, late[(late.len() - 1) * 999 / 1000])
    };
    let during = |work: &mut (dyn FnMut() + Send)| {
        ended.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let looking = scope.spawn(look);
            // As the daemon does: on a thread that yields to the others, as do those that it starts.
            let working = scope.spawn(move || {
                rustix::process::nice(10).unwrap();
                work();
            });
            working.join().unwrap();
            ended.store(true, Ordering::Relaxed);
            looking.join().unwrap()
        })
    };
    let (mut reload_took, reload) = (Duration::ZERO, || {
        let new = Arc::new(read(config, Some(&current.load_full())).snapshot);
        drop(current.swap(new));
    });
    let reloading = during(&mut || reload_took = timed(reload).1);
    let at_rest = during(&mut || std::thread::sleep(reload_took.max(Duration::from_millis(500))));
    [at_rest, reloading]
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

/// A line of /proc/self/status, in bytes.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() * 1024
}
