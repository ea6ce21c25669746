//! The load generator: a process of its own, the same for every peer. It prints what came of it.
//!
//! Plain threads and blocking sockets, which cost less than any of the proxies.

use std::io::{self, BufRead, Read, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::dialer::{Dialer, Wire, exchange};
use crate::stats::quantile;
use crate::task::{ASK, DOWNLOAD, Door, HOLD, Load, MESSAGE, Outcome, UNIT, UPLOAD};

/// What programs usually take. Direct alone gains by a larger one.
const BUFFER: usize = 64 << 10;
/// Threads that open what is held, or ask at a fixed rate.
const WORKERS: usize = 16;

/// Loads this door and prints the outcome as a line of JSON.
pub(crate) fn run(door: &Door, load: &Load) -> io::Result<()> {
    let dialer = Dialer::new(door);
    let outcome = match *load {
        Load::Bulk { streams, upload, seconds } => bulk(&dialer, streams, upload, seconds)?,
        Load::RoundTrips { seconds } => round_trips(&dialer, seconds)?,
        Load::Connections { workers, seconds } => connections(&dialer, workers, seconds),
        Load::Hold { first, more } => return hold(&dialer, first, more),
        Load::FirstBytes { count } => first_bytes(&dialer, count),
        Load::Steady { rate, relays, seconds, mark } => steady(&dialer, rate, relays, seconds, mark)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn bulk(dialer: &Dialer<'_>, streams: usize, upload: bool, seconds: f64) -> io::Result<Outcome> {
    let open = open_some(dialer, streams)?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let bytes: io::Result<usize> = thread::scope(|scope| {
        let one = if upload { send } else { receive };
        let workers: Vec<_> = open.into_iter().map(|stream| scope.spawn(move || one(stream, end))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    Ok(outcome([("bytes", bytes? as f64), ("seconds", begun.elapsed().as_secs_f64())]))
}

fn receive(mut stream: Box<dyn Wire>, end: Instant) -> io::Result<usize> {
    stream.write_all(&[DOWNLOAD; MESSAGE])?;
    let (mut buffer, mut bytes) = (vec![0; BUFFER], 0);
    while Instant::now() < end {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes += read;
    }
    Ok(bytes)
}

/// Counts what the upstream says that it has.
fn send(mut stream: Box<dyn Wire>, end: Instant) -> io::Result<usize> {
    let (buffer, mut bytes) = (vec![0; BUFFER], 0);
    while Instant::now() < end {
        stream.write_all(&[UPLOAD; MESSAGE])?;
        for _ in 0..UNIT / BUFFER {
            stream.write_all(&buffer)?;
        }
        stream.read_exact(&mut [0; MESSAGE])?;
        bytes += UNIT;
    }
    Ok(bytes)
}

fn round_trips(dialer: &Dialer<'_>, seconds: f64) -> io::Result<Outcome> {
    let (mut stream, _) = dialer.ask(ASK)?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut took = Vec::new();
    let mut before = Instant::now();
    while before < end {
        exchange(&mut *stream, ASK)?;
        let now = Instant::now();
        took.push((now - before).as_secs_f64());
        before = now;
    }
    Ok(quantiles(took))
}

fn connections(dialer: &Dialer<'_>, workers: usize, seconds: f64) -> Outcome {
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let worker = || {
        let (mut took, mut failed) = (Vec::new(), 0_usize);
        let mut before = Instant::now();
        while before < end {
            let asked = dialer.ask(ASK);
            let now = Instant::now();
            match asked {
                Ok(_) => took.push((now - before).as_secs_f64()),
                Err(error) => failed = said(failed, &error),
            }
            before = now;
        }
        (took, failed)
    };
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let failed: usize = done.iter().map(|(_, failed)| failed).sum();
    let mut outcome = quantiles(done.into_iter().flat_map(|(took, _)| took).collect());
    outcome.extend(self::outcome([("failed", failed as f64), ("seconds", begun.elapsed().as_secs_f64())]));
    outcome
}

/// One failure more; the first of the process is said.
fn said(failed: usize, error: &io::Error) -> usize {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| eprintln!("a request failed: {error}"));
    failed + 1
}

fn hold(dialer: &Dialer<'_>, first: usize, more: usize) -> io::Result<()> {
    let mut held = open_many(dialer, first)?;
    println!("{{}}");
    io::stdin().lock().read_line(&mut String::new())?;
    held.extend(open_many(dialer, more)?);
    println!("{{}}");
    // Until the harness ends this process.
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// By several threads; the upstream holds them, too, and is done with each.
fn open_many(dialer: &Dialer<'_>, count: usize) -> io::Result<Vec<Box<dyn Wire>>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut held = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            held.push(dialer.ask(HOLD)?.0);
        }
        io::Result::Ok(held)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        let held: io::Result<Vec<_>> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        Ok(held?.into_iter().flatten().collect())
    })
}

/// One after the other; the upstream listens on.
fn open_some(dialer: &Dialer<'_>, count: usize) -> io::Result<Vec<Box<dyn Wire>>> {
    (0..count).map(|_| Ok(dialer.ask(ASK)?.0)).collect()
}

fn first_bytes(dialer: &Dialer<'_>, count: usize) -> Outcome {
    let mut failed = 0;
    let mut took: Vec<f64> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            if let Err(error) = dialer.ask(ASK) {
                failed = said(failed, &error);
            }
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let mut later = took.split_off(1);
    later.sort_by(f64::total_cmp);
    let worst = later.last().copied().unwrap_or_default();
    outcome([("first", took[0]), ("later", quantile(&later, 0.5)), ("worst", worst), ("failed", failed as f64)])
}

fn steady(dialer: &Dialer<'_>, rate: usize, relays: usize, seconds: f64, mark: u8) -> io::Result<Outcome> {
    let live = open_some(dialer, relays)?;
    println!("{{}}");
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let next = AtomicUsize::new(0);
    let worker = || {
        let (mut failed, mut worst, mut new) = (0_usize, 0.0_f64, f64::MAX);
        loop {
            let due = begun + Duration::from_secs_f64(next.fetch_add(1, Ordering::Relaxed) as f64 / rate as f64);
            if due > end {
                return (failed, worst, new);
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            match dialer.ask(ASK) {
                Ok((_, answer)) if answer == mark => new = new.min(wall_clock()),
                Ok(_) => {}
                Err(error) => failed = said(failed, &error),
            }
            worst = worst.max(due.elapsed().as_secs_f64() * 1e3);
        }
    };
    let (cut, done) = thread::scope(|scope| {
        let talk = scope.spawn(|| keep_talking(live, end));
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        let done: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        (talk.join().unwrap(), done)
    });
    let failed: usize = done.iter().map(|(failed, ..)| failed).sum();
    Ok(outcome([
        ("failed", failed as f64),
        ("cut", cut as f64),
        ("worst", done.iter().map(|(_, worst, _)| *worst).fold(0.0, f64::max)),
        ("new", done.iter().map(|(.., new)| *new).fold(f64::MAX, f64::min)),
    ]))
}

/// Each relay says something twenty times a second; how many could not.
fn keep_talking(mut live: Vec<Box<dyn Wire>>, end: Instant) -> usize {
    let all = live.len();
    while Instant::now() < end {
        live.retain_mut(|stream| exchange(&mut **stream, ASK).is_ok());
        thread::sleep(Duration::from_millis(50));
    }
    all - live.len()
}

fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Of times in seconds: how many, and quantiles in microseconds.
fn quantiles(mut took: Vec<f64>) -> Outcome {
    took.sort_by(f64::total_cmp);
    let us = |share| quantile(&took, share) * 1e6;
    outcome([("count", took.len() as f64), ("p50", us(0.5)), ("p99", us(0.99)), ("p999", us(0.999))])
}

fn outcome<const N: usize>(values: [(&str, f64); N]) -> Outcome {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
