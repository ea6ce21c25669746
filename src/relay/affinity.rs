//! Keeps a thread that moves much off the core that its bytes come from.
//!
//! Over loopback a node's own process works on the core where its bytes come in: one that shares it with the relay takes
//! turns with it, while another core waits. The scheduler puts them there, because who is woken goes where its waker is.
//! One stream carries 5.8 GB/s beside the node's core and 3.0 GB/s on it (`docs/performance.md`).

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::io;
use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use socket2::SockRef;
use tokio::time::Instant;

use crate::stream::Stream;

/// So many bytes are between two looks.
const BETWEEN_LOOKS: usize = 1024 * 1024;
/// So many looks in a row must say the same: where the two do not share a core, one in hundreds looks as if they did.
const LOOKS: u32 = 4;
/// And for so long: how fast the bytes came meanwhile is compared with what comes elsewhere.
const LOOKED_FOR: Duration = Duration::from_millis(5);
/// How long the thread stays off a core. Then the scheduler has its choice again.
const AWAY: Duration = Duration::from_millis(100);
/// A thread that has been the only one to look for so long is alone; longer than another may be away, which does not look.
const ALONE: Duration = Duration::from_millis(200);
/// How long it stays where it is put when it was no faster elsewhere: the other cores have work of their own.
const RESIGNED: Duration = Duration::from_secs(2);

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch::NEW) };
}

/// Asked once for [`BETWEEN_LOOKS`] bytes.
static MOVERS: Mutex<Movers> = Mutex::new(Movers { last: None, changed: None });

/// What a thread knows of its bytes.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// Bytes since the last look.
    unlooked: usize,
    /// The last looks, as far as all of them were at bytes from the thread's own core.
    streak: Option<Streak>,
    /// It has left a core.
    away: Option<Away>,
    /// When that did not pay.
    resigned: Option<Instant>,
}

/// Looks in a row that said the same.
#[derive(Debug, Clone, Copy)]
struct Streak {
    began: Instant,
    looks: u32,
}

/// How fast bytes moved before, in bytes a second, and how many have since.
#[derive(Debug, Clone, Copy)]
struct Away {
    began: Instant,
    before: f64,
    moved: usize,
}

/// The threads that move much.
#[derive(Debug)]
struct Movers {
    /// Who looked last.
    last: Option<ThreadId>,
    /// When that was another one than before.
    changed: Option<Instant>,
}

/// So many bytes come from there; now and then it is looked where they come in, and the thread may go elsewhere.
pub(super) fn moved(from: &Stream, to: &Stream, bytes: usize) {
    // What goes to TCP within the machine is received on this thread's time: two cores are busy anyhow.
    if !matches!(to, Stream::Unix(_)) {
        return;
    }
    let mut watch = WATCH.get();
    if watch.is_due(bytes) {
        let here = sched_getcpu();
        let is_alone = MOVERS.lock().unwrap_or_else(PoisonError::into_inner).is_alone(thread::current().id());
        let before = watch.has_seen_enough(is_alone && comes_in_at(from) == Some(here));
        watch.away = before.filter(|_| from.is_local() && leave(here).is_ok()).map(Away::at);
    }
    WATCH.set(watch);
}

impl Watch {
    const NEW: Self = Self { unlooked: 0, streak: None, away: None, resigned: None };

    /// Whether it is time for a look, with so many bytes more.
    fn is_due(&mut self, bytes: usize) -> bool {
        if let Some(away) = &mut self.away {
            away.moved += bytes;
            return false;
        }
        self.unlooked += bytes;
        if self.unlooked < BETWEEN_LOOKS {
            return false;
        }
        self.unlooked = 0;
        self.resigned.take_if(|at| at.elapsed() > RESIGNED);
        self.resigned.is_none()
    }

    /// Takes in what a look says; with the last that it takes, how fast the bytes came.
    fn has_seen_enough(&mut self, is_shared: bool) -> Option<f64> {
        if !is_shared {
            self.streak = None;
            return None;
        }
        let streak = self.streak.get_or_insert(Streak { began: Instant::now(), looks: 0 });
        let (looks, took) = (streak.looks, streak.began.elapsed());
        streak.looks += 1;
        (looks >= LOOKS && took >= LOOKED_FOR).then(|| {
            self.streak = None;
            f64::from(looks) * BETWEEN_LOOKS as f64 / took.as_secs_f64()
        })
    }

    /// The thread may be everywhere again.
    fn is_back(&mut self) {
        if self.away.take().is_some_and(|away| away.was_in_vain()) {
            self.resigned = Some(Instant::now());
        }
    }
}

impl Away {
    fn at(before: f64) -> Self {
        Self { began: Instant::now(), before, moved: 0 }
    }

    /// Also where the bytes have ended: the next ones may come soon, and are looked at later.
    fn was_in_vain(self) -> bool {
        (self.moved as f64) < self.before * self.began.elapsed().as_secs_f64()
    }
}

impl Movers {
    /// A thread looks: whether no other has, lately. Several that move much fill the cores, and each would leave its own
    /// to the others.
    fn is_alone(&mut self, thread: ThreadId) -> bool {
        let now = Instant::now();
        if self.last.replace(thread).is_some_and(|last| last != thread) {
            self.changed = Some(now);
        }
        self.changed.is_none_or(|changed| now - changed > ALONE)
    }
}

/// The core that took in what came last (socket(7), SO_INCOMING_CPU).
fn comes_in_at(from: &Stream) -> Option<usize> {
    if matches!(from, Stream::Unix(_)) {
        return None;
    }
    SockRef::from(from).cpu_affinity().ok()
}

/// Takes a core from those that this thread may be on, for a while.
fn leave(core: usize) -> io::Result<()> {
    let before = sched_getaffinity(None)?;
    let left = without(before, core);
    if left.count() == 0 {
        return Err(io::Errno::INVAL);
    }
    // Linux remembers what a thread asks for, and gives it what its cpuset (cgroups(7)) has of that. So it asks for all
    // that there could be: with a mask of today's cores it would have none of those that its cpuset gets later.
    let mut restored = every_core();
    sched_setaffinity(None, &without(restored, core))?;
    if sched_getaffinity(None)? != left {
        // Somebody has given it fewer than its cpuset has.
        restored = before;
        sched_setaffinity(None, &left)?;
    }
    // On this thread, as its runtime has no other.
    tokio::spawn(async move {
        tokio::time::sleep(AWAY).await;
        let mut watch = WATCH.get();
        watch.is_back();
        WATCH.set(watch);
        come_back(&restored, &left, core);
    });
    Ok(())
}

/// Unless somebody else has said meanwhile where this thread shall be, and not only which cores the daemon has.
fn come_back(restored: &CpuSet, left: &CpuSet, core: usize) {
    let Ok(now) = sched_getaffinity(None) else { return };
    // The main thread never leaves a core. Where none is left, a thread gets all that its cpuset has.
    let of_daemon = sched_getaffinity(Some(getpid())).unwrap_or(*left);
    if now == *left || now == without(of_daemon, core) || now == of_daemon {
        let _restored = sched_setaffinity(None, restored);
    }
}

fn without(mut cores: CpuSet, core: usize) -> CpuSet {
    cores.unset(core);
    cores
}

fn every_core() -> CpuSet {
    let mut every = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|core| every.set(core));
    every
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_takes_looks_in_a_row_for_a_while() {
        let mut watch = Watch::NEW;
        assert!(!watch.is_due(BETWEEN_LOOKS - 1) && watch.is_due(1) && !watch.is_due(1));
        let mut enough = None;
        for (looks, is_shared) in [(4, true), (1, false), (4, true), (3, true)] {
            assert_eq!(enough, None);
            for _ in 0..looks {
                enough = enough.or(watch.has_seen_enough(is_shared));
                advance(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(enough, Some(5.0 * BETWEEN_LOOKS as f64 / 0.005), "five intervals in 5 ms");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_no_faster_elsewhere_stays_for_a_while() {
        for (moved, stays) in [(900, true), (1_100, false)] {
            let mut watch = Watch { away: Some(Away::at(1_000.0)), ..Watch::NEW };
            assert!(!watch.is_due(moved));
            advance(Duration::from_secs(1)).await;
            watch.is_back();
            assert_eq!(watch.is_due(BETWEEN_LOOKS), !stays);
            advance(2 * RESIGNED).await;
            assert!(watch.is_due(BETWEEN_LOOKS));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_turns_with_another_thread_is_not_alone() {
        let [this, other] = [thread::current().id(), thread::spawn(|| thread::current().id()).join().unwrap()];
        let mut movers = Movers { last: None, changed: None };
        assert!(movers.is_alone(this) && movers.is_alone(this));
        assert!(!movers.is_alone(other) && !movers.is_alone(other) && !movers.is_alone(this));
        advance(2 * ALONE).await;
        assert!(movers.is_alone(this));
    }

    #[tokio::test]
    async fn where_bytes_come_in_is_known_of_tcp() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        listener.accept().await.unwrap().0.write_all(b"x").await.unwrap();
        ours.read_u8().await.unwrap();
        assert!(comes_in_at(&Stream::Tcp(ours)).is_some());
        assert_eq!(comes_in_at(&Stream::Unix(UnixStream::pair().unwrap().0)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_is_left_for_a_while_unless_it_is_the_only_one() {
        let before = sched_getaffinity(None).unwrap();
        let here = sched_getcpu();
        let left = leave(here);
        let meanwhile = sched_getaffinity(None).unwrap();
        if before.count() == 1 {
            assert!(left.is_err() && meanwhile == before);
            return;
        }
        left.unwrap();
        assert!(!meanwhile.is_set(here) && meanwhile.count() == before.count() - 1);
        tokio::time::sleep(2 * AWAY).await;
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_fewer_cores_than_the_daemon_keeps_to_them() {
        let all = sched_getaffinity(None).unwrap();
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let (Some(one), Some(_), Some(third)) = (cores.next(), cores.next(), cores.next()) else { return };
        let mut fewer = all;
        fewer.unset(third);
        sched_setaffinity(None, &fewer).unwrap();
        leave(one).unwrap();
        let meanwhile = sched_getaffinity(None).unwrap();
        assert!(!meanwhile.is_set(one) && !meanwhile.is_set(third));
        tokio::time::sleep(2 * AWAY).await;
        assert_eq!(sched_getaffinity(None).unwrap(), fewer);
        sched_setaffinity(None, &all).unwrap();
    }

    #[tokio::test]
    async fn who_is_pinned_stays_there() {
        let (before, here) = (sched_getaffinity(None).unwrap(), sched_getcpu());
        let mut pinned = CpuSet::new();
        pinned.set(here);
        sched_setaffinity(None, &pinned).unwrap();
        assert!(leave(here).is_err());
        assert_eq!(sched_getaffinity(None).unwrap(), pinned);
        sched_setaffinity(None, &before).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whom_somebody_else_has_placed_stays_there() {
        let (before, here) = (sched_getaffinity(None).unwrap(), sched_getcpu());
        if leave(here).is_err() {
            return;
        }
        let mut elsewhere = CpuSet::new();
        elsewhere.set(here);
        sched_setaffinity(None, &elsewhere).unwrap();
        tokio::time::sleep(2 * AWAY).await;
        assert_eq!(sched_getaffinity(None).unwrap(), elsewhere);
        sched_setaffinity(None, &before).unwrap();
    }
}
