//! Races of the addresses of one name, with a paused clock.

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
