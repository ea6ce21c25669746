//! Name lookups: each holds a thread, for as long as the name service likes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Half of the threads that the runtime has for what blocks: a reload finds one, whatever the name service does.
static SLOTS: Semaphore = Semaphore::const_new(256);

/// The addresses of a host, in the order of the name service. Dropping the future does not end the lookup.
pub(super) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    in_slot(&SLOTS, move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
}

/// getaddrinfo(3) cannot be broken off. A lookup whose request has given up keeps its slot until it is back; without
/// that they would pile up behind a name service that hangs, and everything else that needs a thread behind them.
async fn in_slot<T: Send + 'static>(
    slots: &'static Semaphore,
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // The semaphore is never closed.
    let slot = slots.acquire().await.map_err(io::Error::other)?;
    spawn_blocking(move || {
        let found = look_up();
        drop(slot);
        found
    })
    .await?
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_keeps_its_slot_until_it_is_back() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let (answer, name_service) = mpsc::channel::<()>();
        let mut given_up = Box::pin(in_slot(&ONE, move || name_service.recv().map_err(io::Error::other)));
        assert!(polled(given_up.as_mut()).await.is_pending());
        drop(given_up);
        assert_eq!(ONE.available_permits(), 0);

        let next = in_slot(&ONE, || Ok("found"));
        answer.send(()).unwrap();
        assert_eq!(next.await.unwrap(), "found");
    }

    /// What one poll comes to.
    async fn polled<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    #[tokio::test]
    async fn an_address_needs_no_name_service() {
        assert_eq!(addresses("127.0.0.1", 80).await.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 80))]);
    }
}
