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
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use socket2::SockRef;
use tokio::time::Instant;

use crate::stream::Stream;

/// So many bytes are between two looks.
const BETWEEN_LOOKS: usize = 1024 * 1024;
/// So many looks in a row must say the same: where the two do not share a core, one in hundreds looks as if they did.
const LOOKS: u32 = 4;
/// A thread that has been the only one to look for so long is alone.
const ALONE: Duration = Duration::from_millis(50);
/// How long the thread stays off a core. Then the scheduler has its choice again.
const AWAY: Duration = Duration::from_millis(100);

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch { unlooked: 0, shared: 0, is_away: false }) };
}

/// Asked once for [`BETWEEN_LOOKS`] bytes.
static MOVERS: Mutex<Movers> = Mutex::new(Movers { last: None, changed: None });

/// What a thread knows of its bytes.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// Bytes since the last look.
    unlooked: usize,
    /// So many of the last looks were at bytes from the thread's own core.
    shared: u32,
    /// It has left a core.
    is_away: bool,
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
        if watch.has_seen_enough(is_alone && comes_in_at(from) == Some(here)) {
            watch.is_away = from.is_local() && leave(here).is_ok();
        }
    }
    WATCH.set(watch);
}

impl Watch {
    /// Whether it is time for a look, with so many bytes more.
    fn is_due(&mut self, bytes: usize) -> bool {
        self.unlooked += bytes;
        let is_due = self.unlooked >= BETWEEN_LOOKS && !self.is_away;
        if is_due {
            self.unlooked = 0;
        }
        is_due
    }

    /// Whether this look is the last that it takes.
    fn has_seen_enough(&mut self, is_shared: bool) -> bool {
        self.shared = if is_shared { self.shared + 1 } else { 0 };
        let is_enough = self.shared == LOOKS;
        if is_enough {
            self.shared = 0;
        }
        is_enough
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
    let all = sched_getaffinity(None)?;
    let mut others = all;
    others.unset(core);
    // Without another core the system refuses.
    sched_setaffinity(None, &others)?;
    // On this thread, as its runtime has no other.
    tokio::spawn(async move {
        tokio::time::sleep(AWAY).await;
        come_back(&all, &others);
    });
    Ok(())
}

/// Unless somebody else has said meanwhile where this thread shall be.
fn come_back(all: &CpuSet, others: &CpuSet) {
    WATCH.set(Watch { is_away: false, ..WATCH.get() });
    if sched_getaffinity(None).is_ok_and(|now| now == *others) {
        // It is refused only where the system has taken all other cores from this thread, too.
        let _here = sched_setaffinity(None, all);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    #[test]
    fn it_takes_looks_in_a_row_that_say_the_same() {
        let mut watch = Watch { unlooked: 0, shared: 0, is_away: false };
        assert!(!watch.is_due(BETWEEN_LOOKS - 1) && watch.is_due(1) && !watch.is_due(1));
        let looks = [true, true, true, false, true, true, true, true, true];
        assert_eq!(looks.map(|look| watch.has_seen_enough(look)).iter().position(|enough| *enough), Some(7));
        watch.is_away = true;
        assert!(!watch.is_due(10 * BETWEEN_LOOKS));
    }

    #[test]
    fn who_takes_turns_with_another_thread_is_not_alone() {
        let [this, other] = [thread::current().id(), thread::spawn(|| thread::current().id()).join().unwrap()];
        let mut movers = Movers { last: None, changed: None };
        assert!(movers.is_alone(this) && movers.is_alone(this));
        assert!(!movers.is_alone(other) && !movers.is_alone(other) && !movers.is_alone(this));
        movers.changed = movers.changed.and_then(|changed| changed.checked_sub(2 * ALONE));
        assert!(movers.is_alone(this));
    }

    #[tokio::test]
    async fn where_bytes_come_in_is_known_of_tcp() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        listener.accept().await.unwrap().0.write_all(b"x").await.unwrap();
        ours.read_u8().await.unwrap();
        assert!(comes_in_at(&Stream::Tcp(ours)).is_some_and(|core| core < CpuSet::MAX_CPU));
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
