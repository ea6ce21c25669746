//! An edit that was acknowledged survives `kill -9` at any moment.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::support::HANG;
use crate::support::daemon::{Daemon, Folder, text};

/// Clients that edit at the same time, each its own routes.
const WRITERS: usize = 3;
/// Routes of each.
const ROUTES: usize = 5;
/// So often the daemon is killed; PORTOLAN_KILLS says otherwise.
const KILLS: usize = 200;

/// What is known of a route: whether it is there, or that its last edit was not answered.
type Known = BTreeMap<String, Option<bool>>;

#[test]
fn no_acknowledged_edit_is_lost_to_a_kill() {
    let kills = std::env::var("PORTOLAN_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed: u64 = std::env::var("PORTOLAN_SEED").map_or_else(|_| any_seed(), |seed| seed.parse().unwrap());
    eprintln!("PORTOLAN_SEED={seed}");
    let mut random = Random(seed);
    let folder = Folder::new("[[route]]\nmatch = 'of-the-file'\nhost = '127.0.0.1:1'\n", "");
    let mut known: Vec<Known> = vec![Known::new(); WRITERS];
    let mut edits = 0;
    for _ in 0..kills {
        let daemon = Daemon::in_folder(folder.clone());
        let there = listed(&folder);
        for (pattern, is_there) in known.iter().flatten() {
            if let Some(is_there) = is_there {
                assert_eq!(there.contains(pattern), *is_there, "{pattern} of {there:?}");
            }
        }
        for known in &mut known {
            known.iter_mut().for_each(|(pattern, is_there)| *is_there = Some(there.contains(pattern)));
        }
        edits += edit_until_killed(&daemon, &mut known, &mut random);
    }
    assert!(edits > kills, "{edits} edits were acknowledged before {kills} kills");
}

/// Lets the writers edit until they have been answered for a while, and kills the daemon; how many edits were answered.
fn edit_until_killed(daemon: &Daemon, known: &mut [Known], random: &mut Random) -> usize {
    let (answered, enough) = (AtomicUsize::new(0), random.below(20));
    std::thread::scope(|scope| {
        for (writer, known) in known.iter_mut().enumerate() {
            let (mut random, answered, socket) =
                (Random(random.next() | 1), &answered, daemon.folder.path("admin.sock"));
            scope.spawn(move || {
                loop {
                    let pattern = format!("writer-{writer}-{}", random.below(ROUTES));
                    let is_there = known.get(&pattern).copied().flatten() == Some(true);
                    known.insert(pattern.clone(), None);
                    let Some(status) = edit(&socket, &pattern, is_there) else { return };
                    assert_eq!(status / 100, 2, "{pattern}, there before: {is_there}");
                    known.insert(pattern, Some(!is_there));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while answered.load(Ordering::Relaxed) < enough {
            std::thread::yield_now();
        }
        // Somewhere between two answers.
        (0..random.below(2000)).for_each(|_| std::hint::spin_loop());
        daemon.signal(Signal::KILL);
    });
    answered.into_inner()
}

/// Adds or removes a route; nothing when the daemon is gone before it has answered.
fn edit(socket: &Path, pattern: &str, is_there: bool) -> Option<u16> {
    let body = format!(r#"{{"match":"{pattern}","host":"127.0.0.1:1"}}"#);
    let head = if is_there {
        format!("DELETE /v1/routes/{pattern} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    } else {
        format!(
            "POST /v1/routes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = exchange(socket, &head)?;
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn exchange(socket: &Path, request: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(HANG)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // What has come before the end counts.
    drop(stream.read_to_end(&mut answer));
    Some(text(&answer))
}

fn listed(folder: &Folder) -> String {
    let output = folder.run(&["routes", "list", "--json", "--admin", "admin.sock"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A seed that is another each time, and never the one that xorshift cannot use.
fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// xorshift64*, so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}
