//! The route table by itself: `cargo bench --bench table [-- FILTER]`, with up to 100,000 routes.
//!
//! `ROUTES=1000000 cargo bench --bench table` has as many, or as many as a list says (`ROUTES=10,1000000`). The names of
//! a lookup are drawn from the whole table, so that at a million routes nearly all of what it reads is in no cache;
//! those of `hot` are the same thousand, as a daemon's are.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a measurement that fails says where and has no result"
)]

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan::node::NodeName;
use portolan::route::{Host, Origin, Pattern, Reach, Route, RouteTable, Upstream};

const MIXES: [Mix; 4] = [
    Mix { name: "exact", pattern: |n| format!(r"^svc-{n:08x}@cluster\.example$"), node: |n| svc(n, "cluster.example") },
    Mix {
        name: "prefix_suffix",
        pattern: |n| if is_even(n) { format!("^svc-{n:08x}@") } else { format!(r"@host-{n:08x}\.example$") },
        node: |n| if is_even(n) { svc(n, "cluster.example") } else { format!("svc@host-{n:08x}.example") },
    },
    Mix {
        name: "inner_alternatives",
        pattern: |n| if is_even(n) { format!("-{n:08x}@") } else { format!(r"^(red|blue)-{n:08x}@") },
        node: |n| if is_even(n) { svc(n, "cluster.example") } else { format!("blue-{n:08x}@cluster.example") },
    },
    Mix {
        name: "no_literal",
        // Every 100th has none; the names are those of the others.
        pattern: |n| {
            if n % 100 == 0 { format!("^[a-z]+[0-9]{{{}}}[^{n}]+$", n % 7 + 2) } else { format!("^svc-{n:08x}@") }
        },
        node: |n| svc(n - n % 100 + 1, "cluster.example"),
    },
];

/// A kind of table: the pattern of each route by its number, and a name that it matches.
struct Mix {
    name: &'static str,
    pattern: fn(u32) -> String,
    node: fn(u32) -> String,
}

fn is_even(number: u32) -> bool {
    number.is_multiple_of(2)
}

fn svc(number: u32, host: &str) -> String {
    format!("svc-{number:08x}@{host}")
}

fn route(mix: &Mix, number: u32) -> Route {
    Route {
        pattern: Pattern::parse(&(mix.pattern)(number)).unwrap(),
        weight: 100,
        reach: Reach::Static([Upstream { host: Host::Ip([127, 0, 0, 1].into()), port: 4370 }].into()),
        tls: None,
        settings: None,
        is_final: false,
        name: None,
        description: None,
        origin: Origin::File { file: Arc::from(Path::new("routes.toml")), line: number },
    }
}

fn sizes() -> Vec<u32> {
    let given = env::var("ROUTES").ok();
    given.map_or_else(|| vec![10, 1_000, 100_000], |list| list.split(',').map(|size| size.parse().unwrap()).collect())
}

/// Numbers below a limit in no order, the same in every run.
fn numbers(limit: u32) -> impl FnMut() -> u32 {
    let mut state: u64 = 0;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(limit)) as u32
    }
}

fn table(criterion: &mut Criterion) {
    for mix in &MIXES {
        for size in sizes() {
            let entries = || (0..size).map(|number| route(mix, number)).collect::<Vec<_>>();
            let table = RouteTable::from_entries(entries()).unwrap();
            let mut group = criterion.benchmark_group(mix.name);
            group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
            lookups(&mut group, mix, size, &table);
            edits(&mut group, mix, size, &table);
            group.bench_function(BenchmarkId::new("load", size), |bencher| {
                bencher.iter_batched(entries, RouteTable::from_entries, BatchSize::PerIteration);
            });
        }
    }
}

fn lookups(group: &mut BenchmarkGroup<'_, WallTime>, mix: &Mix, size: u32, table: &RouteTable) {
    let mut number = numbers(size);
    let mut look_up = |name: &str, node: &mut dyn FnMut() -> String| {
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            let node = || NodeName::parse(&node()).unwrap();
            bencher.iter_batched_ref(node, |node| table.find(black_box(node), None).is_some(), BatchSize::SmallInput);
        });
    };
    look_up("hit", &mut || (mix.node)(number()));
    look_up("miss", &mut || format!("{}x", (mix.node)(number()).replace("svc", "svx").replace('@', "!@")));
    let hot: Vec<_> = (0..1_000).map(|_| (mix.node)(number())).collect();
    let mut again = hot.iter().cycle();
    look_up("hot", &mut || again.next().unwrap().clone());
}

fn edits(group: &mut BenchmarkGroup<'_, WallTime>, mix: &Mix, size: u32, table: &RouteTable) {
    group.bench_function(BenchmarkId::new("clone", size), |bencher| bencher.iter_with_large_drop(|| table.clone()));
    let mut number = numbers(1 << 20);
    group.bench_function(BenchmarkId::new("clone_and_add", size), |bencher| {
        let new = || route(mix, (1 << 24) + number());
        let add = |route| {
            let mut table = table.clone();
            table.add(route).map(|_| table)
        };
        bencher.iter_batched(new, add, BatchSize::SmallInput);
    });
}

criterion_group!(benches, table);
criterion_main!(benches);
