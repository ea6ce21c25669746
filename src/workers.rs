//! The threads that serve clients, one for each core. Each has a runtime of its own: a request and its relay stay on
//! the thread that took them up, so that no byte on its way wakes another core, and no two of them share a queue.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

use crate::stream::watch;

/// The threads. Dropped, they end, and what they still serve with them.
#[derive(Debug)]
pub struct Workers {
    first: Arc<Worker>,
    others: Box<[Arc<Worker>]>,
}

/// One of the threads.
#[derive(Debug)]
pub struct Worker {
    runtime: Handle,
    /// Doors that are there. Each has a task, which says nothing of how much there is to do.
    doors: AtomicUsize,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Workers {
    /// Starts one thread for each core that this process may use.
    pub fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |number| Worker::start(number).map(Arc::new);
        Ok(Self { first: start(0)?, others: (1..cores).map(start).collect::<io::Result<_>>()? })
    }

    /// The one that the next door is opened on: which has the fewest.
    pub fn of_door(&self) -> &Arc<Worker> {
        self.others
            .iter()
            .fold(&self.first, |fewest, other| if other.doors() < fewest.doors() { other } else { fewest })
    }

    /// Who serves the next client of a door: the door's own worker, unless another has less to do. So a client that
    /// comes to an idle daemon wakes one thread, and many are spread over all.
    pub fn least_busy<'a>(&'a self, own: &'a Worker) -> &'a Worker {
        let mut least = (own, own.tasks());
        for worker in std::iter::once(&self.first).chain(&self.others) {
            let tasks = worker.tasks();
            if tasks < least.1 {
                least = (worker, tasks);
            }
        }
        least.0
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let serve = move || {
            // Nothing is ever sent: it ends when the sender is dropped.
            runtime.block_on(ended).ok();
            // A name lookup that hangs must not hold up the end.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(format!("portolan-{number}")).spawn(serve)?;
        Ok(Self { runtime: handle, doors: AtomicUsize::new(0), _end: end })
    }

    /// Watches the socket of a door there; [`Worker::shut_door`] when the door is shut.
    pub fn open_door(&self, socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        let _there = self.enter();
        let watched = watch(socket, Interest::READABLE)?;
        self.doors.fetch_add(1, Ordering::Relaxed);
        Ok(watched)
    }

    /// One door fewer is there.
    pub fn shut_door(&self) {
        self.doors.fetch_sub(1, Ordering::Relaxed);
    }

    /// Until the guard is dropped, what is opened or spawned is there.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Those of clients.
    fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks().saturating_sub(self.doors())
    }

    fn doors(&self) -> usize {
        self.doors.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn doors_are_spread_and_clients_go_where_least_is_done() {
        let start = |number| Worker::start(number).map(Arc::new);
        let workers = Workers { first: start(0).unwrap(), others: [start(1).unwrap()].into() };
        let open = || {
            let worker = Arc::clone(workers.of_door());
            let socket = worker.open_door(OwnedFd::from(UnixStream::pair().unwrap().0)).unwrap();
            (worker, socket)
        };
        let [(one, _first), (other, _second), (third, _third)] = [(); 3].map(|()| open());
        assert!(Arc::ptr_eq(&one, &third) && !Arc::ptr_eq(&one, &other));
        third.shut_door();
        one.shut_door();
        assert!(Arc::ptr_eq(workers.of_door(), &one));

        assert!(std::ptr::eq(workers.least_busy(&other), &*other), "nobody has less to do than who has nothing to do");
        other.runtime.spawn(pending::<()>());
        assert!(std::ptr::eq(workers.least_busy(&other), &*other), "a door's task is no client's");
        other.runtime.spawn(pending::<()>());
        assert!(std::ptr::eq(workers.least_busy(&other), &*one));
        one.runtime.spawn(pending::<()>());
        assert!(std::ptr::eq(workers.least_busy(&other), &*other));
    }

    #[test]
    fn a_worker_ends_with_its_tasks() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let worker = Worker::start(0).unwrap();
        worker.runtime.spawn(async move {
            pending::<()>().await;
            drop(sender);
        });
        drop(worker);
        assert!(receiver.recv().is_err());
    }
}
