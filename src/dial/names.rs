//! Name lookups: each holds threads, for as long as the name service likes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::Semaphore;

use super::DialError;
use crate::aside::blocking;

/// The addresses of one family.
pub(super) type Found = Result<Vec<Known>, DialError>;

/// An address of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) ip: IpAddr,
    /// Whether this machine has a way there.
    pub(super) usable: bool,
}

/// The threads that lookups may have: a name service that hangs does not take all that a process may start.
static SLOTS: Semaphore = Semaphore::const_new(256);

/// Two questions, each on a thread of its own.
pub(super) struct Lookups<A, B> {
    /// The IPv6 addresses of a name.
    pub(super) v6: A,
    /// Its IPv4 addresses.
    pub(super) v4: B,
}

/// Asks for the addresses of a host, of both families at once; each in the order of the name service. Dropping the
/// futures does not end the lookups.
pub(super) async fn addresses(
    host: &str,
) -> Lookups<impl Future<Output = Found> + Send + 'static, impl Future<Output = Found> + Send + 'static> {
    let (v6, v4): (Arc<str>, Arc<str>) = {
        let host: Arc<str> = host.into();
        (Arc::clone(&host), host)
    };
    in_slots(&SLOTS, move || of_family(&v6, AddrFamily::Inet6), move || of_family(&v4, AddrFamily::Inet)).await
}

/// The addresses of a host, for who tries them one after another: those first that this machine has a way to. At least
/// one.
pub(crate) async fn all(host: &str) -> Result<Vec<IpAddr>, DialError> {
    let Lookups { v6, v4 } = addresses(host).await;
    let mut known = match tokio::join!(v6, v4) {
        (Ok(v6), Ok(v4)) => [v6, v4].concat(),
        (Ok(found), Err(error)) | (Err(error), Ok(found)) if found.is_empty() => return Err(error),
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => found,
        (Err(error), Err(_)) => return Err(error),
    };
    if known.is_empty() {
        return Err(DialError::NameNotFound);
    }
    known.sort_by_key(|known| !known.usable);
    Ok(known.into_iter().map(|known| known.ip).collect())
}

/// getaddrinfo(3) cannot be broken off. A lookup whose request has given up keeps its slot until it is back; without
/// that they would pile up behind a name service that hangs, and everything else that needs a thread behind them.
async fn in_slots<T: Send + 'static>(
    slots: &'static Semaphore,
    one: impl FnOnce() -> Result<T, DialError> + Send + 'static,
    other: impl FnOnce() -> Result<T, DialError> + Send + 'static,
) -> Lookups<
    impl Future<Output = Result<T, DialError>> + Send + 'static,
    impl Future<Output = Result<T, DialError>> + Send + 'static,
> {
    // Both or none: the semaphore, which is never closed, gives them in turn.
    let mut slots = slots.acquire_many(2).await.ok();
    let second = slots.as_mut().and_then(|slots| slots.split(1));
    let v6 = blocking(move || (one(), drop(slots)).0);
    let v4 = blocking(move || (other(), drop(second)).0);
    let lost = |error| DialError::Local(format!("no thread for a name lookup: {error}"));
    Lookups { v6: async move { v6.await.map_err(lost)? }, v4: async move { v4.await.map_err(lost)? } }
}

/// Blocks. None is no error here: there may be some of the other family.
fn of_family(host: &str, family: AddrFamily) -> Found {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), address: family.into(), flags: 0, protocol: 0 };
    let found = match getaddrinfo(Some(host), None, Some(hints)) {
        Ok(found) => found.collect::<io::Result<Vec<_>>>().map_err(|error| sorted(&LookupError::from(error)))?,
        Err(error) if is_none(&error) => return Ok(Vec::new()),
        Err(error) => return Err(sorted(&error)),
    };
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(found.len());
    for ip in found.into_iter().map(|found| found.sockaddr.ip()) {
        // A hosts file says the same of `localhost` once for each family.
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    // Asked here, where it holds up nobody: a name may have hundreds.
    Ok(addresses.into_iter().map(|ip| Known { ip, usable: has_way(ip) }).collect())
}

/// Whether this machine has a way there: what connecting a UDP socket asks the kernel, without a packet.
pub(crate) fn has_way(ip: IpAddr) -> bool {
    const DISCARD: u16 = 9;

    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((ip, DISCARD))).is_ok()
}

/// Whether the name service says that there is no address of this family.
fn is_none(error: &LookupError) -> bool {
    /// The host has addresses of the other family alone; the C library's own code.
    const EAI_ADDRFAMILY: i32 = -9;

    matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData) || error.error_num() == EAI_ADDRFAMILY
}

/// What went wrong otherwise.
fn sorted(error: &LookupError) -> DialError {
    let text = error.to_string();
    match error.kind() {
        LookupErrorKind::Memory | LookupErrorKind::System => DialError::Local(text),
        _ => DialError::NameLookup(text.trim_start_matches("failed to lookup address information: ").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn lookups_that_nobody_waits_for_keep_their_slots_until_they_are_back() {
        static TWO: Semaphore = Semaphore::const_new(2);
        let (answer, name_service) = mpsc::channel::<()>();
        let waits = move || name_service.recv().map_err(|error| DialError::Local(error.to_string()));
        let Lookups { v6, v4 } = in_slots(&TWO, waits, || Ok(())).await;
        assert_eq!(v4.await, Ok(()));
        drop(v6);
        assert!(polled(pin!(in_slots(&TWO, || Ok(()), || Ok(())))).await.is_pending(), "one of two is held");

        let next = in_slots(&TWO, || Ok("found"), || Err(DialError::NameNotFound));
        answer.send(()).unwrap();
        let Lookups { v6, v4 } = next.await;
        assert_eq!((v6.await, v4.await), (Ok("found"), Err(DialError::NameNotFound)));
    }

    /// What one poll comes to.
    async fn polled<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    #[tokio::test]
    async fn a_name_has_addresses_of_the_families_that_were_asked_for() {
        let Lookups { v6, v4 } = addresses("localhost").await;
        assert_eq!(v4.await.unwrap(), [Known { ip: Ipv4Addr::LOCALHOST.into(), usable: true }]);
        assert!(v6.await.unwrap().iter().all(|known| known.ip.is_ipv6()));
    }

    #[tokio::test]
    async fn all_addresses_of_a_host_are_found_or_none() {
        let localhost = all("localhost").await.unwrap();
        assert!(localhost.contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(localhost.is_sorted_by_key(|ip| !has_way(*ip)), "{localhost:?}");
        assert!(all("not-there.invalid").await.is_err());
    }

    #[test]
    fn the_errors_of_a_name_lookup_are_sorted() {
        /// glibc's own (netdb.h).
        const EAI_AGAIN: i32 = -3;
        const EAI_NONAME: i32 = -2;
        const EAI_MEMORY: i32 = -10;
        assert!([EAI_NONAME, -5, -9].into_iter().all(|code| is_none(&LookupError::new(code))));
        assert!(!is_none(&LookupError::new(EAI_AGAIN)));
        let error = sorted(&LookupError::new(EAI_AGAIN));
        assert_eq!(error.to_string(), "name lookup failed: Temporary failure in name resolution");
        assert!(!error.eq(&DialError::NameNotFound) && error.ejects());
        assert!(matches!(sorted(&LookupError::new(EAI_MEMORY)), DialError::Local(_)));
    }
}
