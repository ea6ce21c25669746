//! The end of the daemon: no new requests, a while for relays to end by themselves, then a cut.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// How far the daemon is on its way out; the task of every door and every request is counted in it.
#[derive(Debug, Clone)]
pub struct Drain {
    begun: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// How long tasks may take to notice the cut: they close two sockets and write a line.
    const AFTER_CUT: Duration = Duration::from_secs(1);

    /// A daemon that serves.
    pub fn new() -> Self {
        Self { begun: CancellationToken::new(), cut: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// Starts a task that the drain will wait for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// From here on nothing new is admitted.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits for the drain to begin.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.begun.cancelled()
    }

    /// Waits for the moment when what is still open is cut.
    pub fn cut_off(&self) -> WaitForCancellationFuture<'_> {
        self.cut.cancelled()
    }

    /// Begins, and waits until everything that is open has ended by itself; false when `timeout` is over before, or
    /// somebody insists.
    pub async fn in_order(&self, timeout: Duration, insist: impl Future<Output = ()>) -> bool {
        self.begin();
        self.tasks.close();
        tokio::select! {
            biased;
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(timeout) => false,
            () = insist => false,
        }
    }

    /// Cuts the rest.
    pub async fn cut(&self) {
        self.cut.cancel();
        // A task that has not ended by then hangs in a system call, and the end of the process ends it.
        drop(tokio::time::timeout(Self::AFTER_CUT, self.tasks.wait()).await);
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_is_waited_for() {
        let drain = Drain::new();
        drain.spawn(tokio::time::sleep(Duration::from_secs(4)));
        let began = tokio::time::Instant::now();
        assert!(drain.in_order(Duration::from_secs(5), pending()).await);
        assert_eq!(began.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_cut_when_the_time_is_over() {
        let drain = Drain::new();
        let inner = drain.clone();
        drain.spawn(async move { inner.cut_off().await });
        assert!(!drain.in_order(Duration::from_secs(5), pending()).await);
        drain.cut().await;
        assert!(drain.tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_insists_does_not_wait() {
        let drain = Drain::new();
        drain.spawn(pending());
        let began = tokio::time::Instant::now();
        assert!(!drain.in_order(Duration::from_secs(500), std::future::ready(())).await);
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_notices_does_not_hold_the_daemon() {
        let drain = Drain::new();
        drain.spawn(pending());
        assert!(!drain.in_order(Duration::from_secs(1), pending()).await);
        drain.cut().await;
        assert_eq!(drain.tasks.len(), 1);
    }
}
