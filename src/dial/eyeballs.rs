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

    /// Whether another address may come up.
    pub(super) fn has_more(&self) -> bool {
        !self.is_over()
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
mod tests {
    use std::future::{pending, ready};
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tokio::time::sleep;

    use super::*;
    use crate::dial::testing::{Scripted, candidate};
    use crate::drain::Drain;

    /// What a lookup says, and after how many milliseconds.
    type Says = (u64, Result<&'static [&'static str], DialError>);

    /// What a connection to an address does: whether it is up or fails, and when; absent: never.
    type Acts = &'static [(&'static str, u64, bool)];

    /// A name with these addresses, and what happened.
    struct Lab {
        eyeballs: Eyeballs<String>,
        tries: Tries,
        lookup: Which,
        log: Arc<Mutex<Vec<(String, u128)>>>,
    }

    impl Lab {
        fn new(v6: Says, v4: Says, acts: Acts) -> Self {
            let began = Instant::now();
            let log = Arc::new(Mutex::new(Vec::new()));
            let says = |(after, said): Says| async move {
                sleep(Duration::from_millis(after)).await;
                let known = |ip: &&str| Known { ip: ip.parse().unwrap(), usable: !ip.ends_with("99") };
                said.map(|ips| ips.iter().map(known).collect())
            };
            let written = Arc::clone(&log);
            let connect = move |address: SocketAddr| -> Connecting<String> {
                let ip = address.ip().to_string();
                written.lock().unwrap().push((ip.clone(), began.elapsed().as_millis()));
                let act = acts.iter().find(|(of, ..)| *of == ip).copied();
                Box::pin(async move {
                    let Some((_, after, is_up)) = act else { return pending().await };
                    sleep(Duration::from_millis(after)).await;
                    if is_up { Ok(ip) } else { Err(DialError::Refused) }
                })
            };
            let upstreams = Scripted::new(&[]).upstreams(Drain::new());
            let tries = Tries::of(&candidate(&upstreams, 1));
            let lookup = tries.begin(Stage::Dns, None);
            let eyeballs = Eyeballs::new(Lookups { v6: says(v6), v4: says(v4) }, 80, connect);
            Self { eyeballs, tries, lookup, log }
        }

        async fn next(&mut self) -> Option<String> {
            self.eyeballs.next(self.lookup, &self.tries).await.map(|(up, ..)| up)
        }

        /// Who was started when.
        fn started(&self) -> Vec<(String, u128)> {
            self.log.lock().unwrap().clone()
        }

        /// The failures so far.
        fn failures(&self) -> Vec<String> {
            let mut failed = Vec::new();
            self.tries.failed(&mut failed);
            failed.into_iter().map(|attempt| format!("{} {}", attempt.address, attempt.error)).collect()
        }
    }

    fn at(started: &[(&str, u128)]) -> Vec<(String, u128)> {
        started.iter().map(|(ip, at)| ((*ip).to_owned(), *at)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_families_take_turns_a_quarter_of_a_second_apart() {
        let acts: Acts = &[("10.0.0.2", 1, true)];
        let mut lab = Lab::new((0, Ok(&["fd::1", "fd::2", "fd::3"])), (0, Ok(&["10.0.0.1", "10.0.0.2"])), acts);
        assert_eq!(lab.next().await.unwrap(), "10.0.0.2");
        assert_eq!(lab.started(), at(&[("fd::1", 0), ("10.0.0.1", 250), ("fd::2", 500), ("10.0.0.2", 750)]));
        assert!(lab.failures().is_empty(), "who loses has not failed");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_lets_the_next_start_at_once_and_is_told() {
        let acts: Acts = &[("fd::1", 3, false), ("10.0.0.1", 4, false), ("fd::2", 5, true)];
        let mut lab = Lab::new((0, Ok(&["fd::1", "fd::2"])), (0, Ok(&["10.0.0.1"])), acts);
        assert_eq!(lab.next().await.unwrap(), "fd::2");
        assert_eq!(lab.started(), at(&[("fd::1", 0), ("10.0.0.1", 3), ("fd::2", 7)]));
        assert_eq!(lab.failures(), ["[fd::1]:80 connection refused", "10.0.0.1:80 connection refused"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_about_ipv6_is_waited_for_50_ms_and_joins_later() {
        let acts: Acts = &[("fd::1", 5, true), ("10.0.0.1", 5, true)];
        let mut early = Lab::new((40, Ok(&["fd::1"])), (0, Ok(&["10.0.0.1"])), acts);
        assert_eq!(early.next().await.unwrap(), "fd::1");
        assert_eq!(early.started(), at(&[("fd::1", 40)]));

        let mut late = Lab::new((60, Ok(&["fd::1"])), (0, Ok(&["10.0.0.1"])), acts);
        assert_eq!(late.next().await.unwrap(), "10.0.0.1");
        assert_eq!(late.started(), at(&[("10.0.0.1", 50)]));

        let acts: Acts = &[("fd::1", 5, true)];
        let mut joins = Lab::new((60, Ok(&["fd::1"])), (0, Ok(&["10.0.0.1", "10.0.0.2"])), acts);
        assert_eq!(joins.next().await.unwrap(), "fd::1");
        assert_eq!(joins.started(), at(&[("10.0.0.1", 50), ("fd::1", 300)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_about_ipv6_alone_is_used_at_once_and_a_failure_of_one_family_is_none() {
        let mut only = Lab::new((1, Ok(&["fd::1"])), (4000, Ok(&[])), &[("fd::1", 5, true)]);
        assert_eq!(only.next().await.unwrap(), "fd::1");
        let broken = || Err(DialError::NameLookup("SERVFAIL".to_owned()));
        let mut half = Lab::new((1, broken()), (0, Ok(&["10.0.0.1"])), &[("10.0.0.1", 5, true)]);
        assert_eq!(half.next().await.unwrap(), "10.0.0.1");
        assert_eq!(half.started(), at(&[("10.0.0.1", 1)]));
        let mut none = Lab::new((1, broken()), (0, Ok(&[])), &[]);
        assert_eq!(none.next().await, None);
        assert_eq!(none.tries.verdict(), DialError::NameLookup("SERVFAIL".to_owned()));
        let mut unknown = Lab::new((1, Ok(&[])), (0, Ok(&[])), &[]);
        assert_eq!(unknown.next().await, None);
        assert_eq!(unknown.tries.verdict(), DialError::NameNotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_address_goes_first_if_the_name_has_it_still() {
        let lab = || Lab::new((9, Ok(&["fd::1"])), (0, Ok(&["10.0.0.1", "10.0.0.2"])), &[("fd::1", 0, true)]);
        let mut known = lab();
        known.eyeballs = known.eyeballs.beginning_with(Some("10.0.0.2:80".parse().unwrap()));
        known.next().await.unwrap();
        assert_eq!(known.started(), at(&[("10.0.0.2", 0), ("fd::1", 250)]), "it waits for nothing");
        let mut moved = lab();
        moved.eyeballs = moved.eyeballs.beginning_with(Some("10.0.0.7:80".parse().unwrap()));
        moved.next().await.unwrap();
        assert_eq!(moved.started(), at(&[("fd::1", 9)]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_there_is_no_way_to_comes_last() {
        let acts: Acts = &[("10.0.0.1", 5, false), ("fd::99", 0, false), ("fd::98", 0, true)];
        let mut lab = Lab::new((0, Ok(&["fd::99", "fd::98"])), (0, Ok(&["10.0.0.1"])), acts);
        assert_eq!(lab.next().await.unwrap(), "fd::98");
        lab.next().await;
        let order: Vec<_> = lab.started().into_iter().map(|(ip, _)| ip).collect();
        assert_eq!(order, ["fd::98", "10.0.0.1", "fd::99"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_up_and_no_good_is_followed_by_the_others() {
        let acts: Acts = &[("fd::1", 300, true), ("10.0.0.1", 300, true)];
        let mut lab = Lab::new((0, Ok(&["fd::1", "fd::2"])), (0, Ok(&["10.0.0.1"])), acts);
        assert_eq!(lab.next().await.unwrap(), "fd::1");
        assert_eq!(lab.started().len(), 2);
        assert_eq!(lab.next().await.unwrap(), "10.0.0.1");
        assert_eq!(lab.started(), at(&[("fd::1", 0), ("10.0.0.1", 250), ("fd::2", 300)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_that_refuse_at_once_let_others_have_their_turn() {
        let known = |number: u32| Known { ip: IpAddr::V4(number.into()), usable: true };
        let lookups = Lookups { v6: ready(Ok(Vec::new())), v4: ready(Ok((1..=1000).map(known).collect())) };
        let refuse = |_| -> Connecting<()> { Box::pin(ready(Err(DialError::Refused))) };
        let mut eyeballs = Eyeballs::new(lookups, 80, refuse);
        let tries = Tries::of(&candidate(&Scripted::new(&[]).upstreams(Drain::new()), 1));
        let lookup = tries.begin(Stage::Dns, None);
        let mut turns = 0;
        let up = poll_fn(|cx| {
            turns += 1;
            eyeballs.poll_next(cx, lookup, &tries)
        });
        assert!(up.await.is_none());
        assert_eq!(turns, 1 + 1000 / Eyeballs::<()>::AT_ONCE);
    }

    proptest! {
        #[test]
        fn every_address_is_tried_exactly_once(v6 in 0..6_usize, v4 in 0..6_usize, late in 0..400_u64, first in 0..300_u64) {
            const V6: &[&str] = &["fd::1", "fd::99", "fd::2", "fd::3", "fd::4"];
            const V4: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.99", "10.0.0.4"];
            const ACTS: Acts = &[("fd::1", 1, false), ("fd::99", 0, false), ("fd::2", 400, false), ("fd::3", 9, false),
                ("fd::4", 260, false), ("10.0.0.1", 0, false), ("10.0.0.2", 700, false), ("10.0.0.3", 9, false),
                ("10.0.0.99", 0, false), ("10.0.0.4", 5, false)];
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut lab = Lab::new((late, Ok(&V6[..v6])), (first, Ok(&V4[..v4])), ACTS);
                prop_assert_eq!(lab.next().await, None);
                let mut started: Vec<_> = lab.started().into_iter().map(|(ip, _)| ip).collect();
                started.sort_unstable();
                let mut all: Vec<_> = V6[..v6].iter().chain(&V4[..v4]).copied().collect();
                all.sort_unstable();
                prop_assert_eq!(started, all);
                Ok(())
            })?;
        }
    }
}
