//! Work that blocks, and long work, beside the requests. Not on tokio's threads for what blocks: where the system has no
//! thread to give, asking for one of those panics, and the daemon would end with its relays.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// How much such work yields to the requests: of a core that both want it gets a tenth (setpriority(2)).
const NICE: i32 = 10;

/// Does work on a thread of its own, from now on; what is returned waits for it, and dropping that does not end it. An
/// error means that there was no such thread, or that the work panicked.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send + 'static {
    let (done, outcome) = oneshot::channel();
    let started = spawn(move || drop(done.send(work())));
    async move {
        started?;
        outcome.await.map_err(|_dropped| io::Error::other("the work panicked"))
    }
}

/// The same on a thread that yields to all others, as do the threads that it starts.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    blocking(nicely(work)).await
}

/// Frees something large; here, if there is no thread to be had.
pub(crate) fn free(large: impl Send + 'static) {
    // The error has freed it.
    spawn(nicely(move || drop(large))).ok();
}

fn nicely<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        // On Linux this is the thread's own. Where it is refused, the work is done all the same.
        rustix::process::nice(NICE).ok();
        work()
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("portolan-aside".to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_yields_and_leaves_its_caller_as_it_was() {
        let nice = || rustix::process::nice(0).unwrap();
        let before = nice();
        // Nobody is nicer than 19, where the tests are nice themselves.
        assert_eq!(aside(nice).await.unwrap(), (before + NICE).min(19));
        assert_eq!(nice(), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let panics = aside(|| panic!("on purpose")).await;
        assert_eq!(panics.unwrap_err().to_string(), "the work panicked");
    }

    #[test]
    fn what_is_freed_is_freed() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        free(sender);
        assert!(receiver.recv().is_err());
    }
}
