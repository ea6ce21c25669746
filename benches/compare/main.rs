//! portolan and its peers, side by side: `cargo bench --bench compare [-- --help]`.
//!
//! Each measure of each round starts a peer, an upstream and a load generator, all processes of their own, and divides
//! what comes of it by a direct connection's of the same round. The order of the peers is another in each round.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement that fails says where and has no result"
)]

mod bare;
#[path = "../../tests/support/certs.rs"]
mod certs;
mod dialer;
mod load;
mod measure;
mod options;
mod peers;
mod process;
mod proxy;
mod report;
mod running;
mod stats;
mod svg;
mod task;
mod upstream;

use std::env;
use std::fs;
use std::path::Path;
use std::thread;

use clap::Parser;
use serde_json::json;

use crate::measure::Measure;
use crate::options::Options;
use crate::peers::{Peer, Words};
use crate::report::{Results, Row};

/// Why there is no result.
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    portolan::descriptors::raise();
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [process::GUARD] => process::guard(),
        ["upstream", core, kind, folder] => {
            process::pin(serde_json::from_str(core)?)?;
            upstream::run(serde_json::from_str(kind)?, Path::new(folder));
        }
        ["load", core, door, load] => {
            process::pin(serde_json::from_str(core)?)?;
            load::run(&serde_json::from_str(door)?, &serde_json::from_str(load)?)?;
        }
        ["proxy", "bare", unix, tcp, upstream] => bare::run(unix, tcp, upstream),
        ["proxy", ref proxy @ ..] => proxy::run(proxy),
        _ => return compare(&Options::parse()),
    }
    Ok(())
}

fn compare(options: &Options) -> Result<(), Failure> {
    let (peers, missing): (Vec<_>, Vec<_>) = options.peers().into_iter().partition(|peer| peer.found());
    for peer in missing {
        eprintln!("{} is not here and not measured; benches/compare/install.sh installs it", peer.name);
    }
    let facts = facts(options, &peers);
    println!("{facts}");

    let mut results: Vec<_> = options.measures().into_iter().map(|measure| results(options, measure, &peers)).collect();
    let mut failures = 0;
    for round in 0..options.rounds() {
        for results in &mut results {
            eprintln!("round {}: {}", round + 1, results.measure.title);
            failures += run(options, round, results);
        }
    }
    let tables: Vec<_> = results.iter().map(Results::table).collect();
    println!("{}", tables.join("\n"));

    if let Some(file) = &options.json {
        let measures: Vec<_> = results.iter().map(Results::json).collect();
        fs::write(file, json!({ "facts": facts, "measures": measures }).to_string())?;
    }
    if options.write {
        write(&format!("{facts}\n{}", tables.join("\n")), &results)?;
    }
    if options.smoke && failures > 0 {
        return Err(format!("{failures} measures have no result").into());
    }
    Ok(())
}

fn results(options: &Options, measure: &'static Measure, peers: &[&'static Peer]) -> Results {
    let row = |peer, entry| Row { peer, entry, rounds: Vec::new() };
    let rows =
        |peer: &&'static Peer| options.entries(measure, peer).into_iter().map(|entry| row(*peer, entry)).collect();
    Results { measure, rows: peers.iter().flat_map::<Vec<_>, _>(rows).collect() }
}

/// One round of one measure, in an order of its own; how many failed.
fn run(options: &Options, round: usize, results: &mut Results) -> usize {
    let mut failures = 0;
    let (measure, rows) = (results.measure, results.rows.len());
    for place in 0..rows {
        let row = &mut results.rows[(place + round * rows / options.rounds()) % rows];
        let outcome = measure.run(row.peer, row.entry, options.user.as_deref(), &options.extent());
        if let Err(error) = &outcome {
            eprintln!("{} ({:?}) has no result: {error}", row.peer.name, row.entry);
            failures += 1;
        }
        row.rounds.push(outcome.ok());
    }
    failures
}

fn write(tables: &str, results: &[Results]) -> Result<(), Failure> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = docs.join("performance.md");
    let text = report::between_marks(&fs::read_to_string(&page)?, tables).ok_or("the page has lost its marks")?;
    fs::write(page, text)?;
    let panels: Vec<_> = results.iter().filter_map(Results::panel).collect();
    fs::write(docs.join("performance.svg"), svg::chart(&panels))?;
    Ok(())
}

/// What was measured where.
fn facts(options: &Options, peers: &[&Peer]) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let words = Words(vec![("portolan", env!("CARGO_BIN_EXE_portolan").to_owned())]);
    let mut versions: Vec<_> = peers.iter().filter_map(|peer| version(peer, &words)).collect();
    versions.dedup();
    let user = options.user.as_ref().map(|user| format!(", the proxies as {user}")).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Linux {}, {cores} cores ({}), load average {} before{user}; rounds: {}; median (least to most). {}.\n",
        kernel.trim(),
        model.trim_start_matches([' ', '\t', ':']),
        load.split(' ').next().unwrap_or_default(),
        options.rounds(),
        versions.join(", "),
    )
}

/// The first word that looks like one: some begin with a name, some with the time of their build.
fn version(peer: &Peer, words: &Words) -> Option<String> {
    let command = words.command(peer.version);
    let (program, arguments) = command.split_first()?;
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = process::output_of(program, &arguments)?;
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let number = output.split([' ', '/', '\n']).filter(|word| !word.contains(':')).find(is_version)?;
    Some(format!("{} {}", peer.name.split(' ').next()?, number.trim_end_matches(',')))
}
