//! The addresses of one name race for TCP: Happy Eyeballs, version 2 (RFC 8305).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::names::{Found, Known, Lookups};
use super::tries::{Tries, Which};
use super::{DialError, Stage};

/// A race of addresses that are still being looked up, or wait for their turn, or are being connected.
pub(super) struct Eyeballs<T> {
    v6: Family,
    v4: Family,
    port: u16,
    /// Tried before all others.
    favourite: Option<SocketAddr>,
    /// Whether the next address is of IPv4, where both families have one.
    turn_of_v4: bool,
    connect: Box<dyn Fn(SocketAddr) -> Connecting<T> + Send + Sync>,
    runners: Vec<Runner<T>>,
    /// When the next address may be started.
    next: Instant,
    /// And while nothing is known of IPv6.
    patience: Instant,
    timer: Pin<Box<Sleep>>,
}

/// A connection that is being made; dropping it ends it.
pub(super) type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, DialError>> + Send>>;

/// The addresses of one family that were not tried yet.
struct Family {
    lookup: Option<Pin<Box<dyn Future<Output = Found> + Send>>>,
    error: Option<DialError>,
    addresses: VecDeque<Address>,
}

struct Address {
    address: SocketAddr,
    /// Whether this machine has a way there.
    usable: bool,
}

struct Runner<T> {
    address: SocketAddr,
    which: Which,
    connecting: Connecting<T>,
}

impl<T> Eyeballs<T> {
    /// How long IPv4 waits for the answer about IPv6 (section 3).
    const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
    /// After how long without an outcome the next address is started (section 5).
    const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

    /// Addresses that are begun in one go, where each refuses at once; then the relays of this thread have their turn.
    const AT_ONCE: usize = 16;

    /// Nothing is started yet.
    pub(super) fn new(
        lookups: Lookups<impl Future<Output = Found> + Send + 'static, impl Future<Output = Found> + Send + 'static>,
        port: u16,
        connect: impl Fn(SocketAddr) -> Connecting<T> + Send + Sync + 'static,
    ) -> Self {
        let now = Instant::now();
        Self {
            v6: Family { lookup: Some(Box::pin(lookups.v6)), error: None, addresses: VecDeque::new() },
            v4: Family { lookup: Some(Box::pin(lookups.v4)), error: None, addresses: VecDeque::new() },
            port,
            favourite: None,
            turn_of_v4: false,
            connect: Box::new(connect),
            runners: Vec::new(),
            next: now,
            patience: now,
            timer: Box::pin(sleep_until(now)),
        }
    }

    /// The same with an address that is tried first, if it is still one of the name's.
    pub(super) fn beginning_with(mut self, favourite: Option<SocketAddr>) -> Self {
        self.favourite = favourite;
        self
    }

    /// The next connection that is up; `None` when every address has failed, or there is none.
    ///
    /// Until it is asked again the others stand still, and dropping it closes them.
    pub(super) async fn next(&mut self, lookup: Which, tries: &Tries) -> Option<(T, SocketAddr, Which)> {
        poll_fn(|cx| self.poll_next(cx, lookup, tries)).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        lookup: Which,
        tries: &Tries,
    ) -> Poll<Option<(T, SocketAddr, Which)>> {
        let mut begun = 0;
        loop {
            self.poll_lookups(cx);
            if let Some(up) = self.poll_runners(cx, tries) {
                return Poll::Ready(Some(up));
            }
            if begun == Self::AT_ONCE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.start() <= Instant::now()
                && let Some(address) = self.next_address()
            {
                tries.found(lookup);
                let which = tries.begin(Stage::Tcp, Some(address));
                self.runners.push(Runner { address, which, connecting: (self.connect)(address) });
                self.next = Instant::now() + Self::ATTEMPT_DELAY;
                begun += 1;
                continue;
            }
            if self.is_over() {
                // It counts only if nothing was found.
                tries.fail(lookup, self.lookup_error());
                return Poll::Ready(None);
            }
            if !self.has_addresses() || self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_lookups(&mut self, cx: &mut Context<'_>) {
        self.v6.poll(cx, self.port);
        if self.v4.poll(cx, self.port) {
            self.patience = Instant::now() + Self::RESOLUTION_DELAY;
        }
    }

    /// When the next address may be started.
    fn start(&self) -> Instant {
        let known = self.favourite.is_some_and(|favourite| self.v6.has(favourite) || self.v4.has(favourite));
        let waits = self.v6.lookup.is_some() && !known;
        if waits { self.next.max(self.patience) } else { self.next }
    }

    /// The first that is up; those that failed are taken out, and the next may start at once.
    fn poll_runners(&mut self, cx: &mut Context<'_>, tries: &Tries) -> Option<(T, SocketAddr, Which)> {
        let (mut up, mut failed) = (None, false);
        self.runners.retain_mut(|runner| {
            if up.is_some() {
                return true;
            }
            match runner.connecting.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(connection)) => {
                    up = Some((connection, runner.address, runner.which));
                    false
                }
                Poll::Ready(Err(error)) => {
                    tries.fail(runner.which, error);
                    failed = true;
                    false
                }
            }
        });
        if failed || up.is_some() {
            self.next = Instant::now();
        }
        up
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let start = self.start();
        if self.timer.deadline() != start {
            self.timer.as_mut().reset(start);
        }
        self.timer.as_mut().poll(cx)
    }

    /// The families take turns, IPv6 first; what there is no way to comes last (RFC 6724, rule 1 of section 6).
    fn next_address(&mut self) -> Option<SocketAddr> {
        if let Some(favourite) = self.favourite.take_if(|favourite| self.v6.has(*favourite) || self.v4.has(*favourite))
        {
            self.v6.addresses.retain(|one| one.address != favourite);
            self.v4.addresses.retain(|one| one.address != favourite);
            self.turn_of_v4 = favourite.is_ipv6();
            return Some(favourite);
        }
        let usable = |family: &Family| family.addresses.front().map(|first| first.usable);
        let from_v4 = match (usable(&self.v6), usable(&self.v4)) {
            (None, _) => true,
            (_, None) => false,
            (Some(v6), Some(v4)) if v6 != v4 => v4,
            _ => self.turn_of_v4,
        };
        let family = if from_v4 { &mut self.v4 } else { &mut self.v6 };
        let next = family.addresses.pop_front()?;
        self.turn_of_v4 = !from_v4;
        Some(next.address)
    }

    fn has_addresses(&self) -> bool {
        !self.v6.addresses.is_empty() || !self.v4.addresses.is_empty()
    }

    fn is_over(&self) -> bool {
        let asks = self.v6.lookup.is_some() || self.v4.lookup.is_some();
        !asks && !self.has_addresses() && self.runners.is_empty()
    }

    fn lookup_error(&mut self) -> DialError {
        self.v6.error.take().or_else(|| self.v4.error.take()).unwrap_or(DialError::NameNotFound)
    }
}

impl Family {
    /// Whether it has found addresses just now.
    fn poll(&mut self, cx: &mut Context<'_>, port: u16) -> bool {
        let Some(lookup) = &mut self.lookup else { return false };
        let Poll::Ready(found) = lookup.as_mut().poll(cx) else { return false };
        self.lookup = None;
        let found = found.unwrap_or_else(|error| {
            self.error = Some(error);
            Vec::new()
        });
        let address = |Known { ip, usable }| Address { address: SocketAddr::new(ip, port), usable };
        let mut addresses: Vec<_> = found.into_iter().map(address).collect();
        addresses.sort_by_key(|one| !one.usable);
        self.addresses = addresses.into();
        !self.addresses.is_empty()
    }

    fn has(&self, address: SocketAddr) -> bool {
        self.addresses.iter().any(|one| one.address == address)
    }
}

#[cfg(test)]
mod tests;
