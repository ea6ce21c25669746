//! Ejections and probes with a paused clock, and the bound of what is known.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;

use super::*;
use crate::dial::DialError;
use crate::dial::testing::{Act, Ending, Scripted, candidate, upstream};

const SECOND: Duration = Duration::from_secs(1);

/// An upstream that has just failed, and its network.
fn ejected(act: Act) -> (Scripted, Arc<Upstreams>, Arc<Health>) {
    let network = Scripted::new(&[act]);
    let upstreams = network.upstreams(Drain::new());
    let health = fail(&upstreams, DialError::Refused);
    (network, upstreams, health)
}

/// An attempt at the first upstream fails.
fn fail(upstreams: &Upstreams, error: DialError) -> Arc<Health> {
    let candidate = candidate(upstreams, 1);
    candidate.health.failed(&candidate, &error, Instant::now());
    candidate.health
}

#[tokio::test(start_paused = true)]
async fn a_failure_ejects_for_up_to_a_second_and_a_probe_lets_back() {
    let (network, _upstreams, health) = ejected(Act::up(5));
    let Standing::Ejected { left } = health.standing() else { panic!("{:?}", health.standing()) };
    assert!((SECOND * 4 / 5..=SECOND).contains(&left), "{left:?}");
    assert_eq!(network.count(1), 0, "nothing is dialed before");
    sleep(SECOND + Duration::from_millis(10)).await;
    assert_eq!((health.standing(), health.failures(), network.count(1)), (Standing::Healthy, 0, 1));
    assert_eq!(health.last_good(), Some(([127, 0, 0, 1], 1).into()));
}

#[tokio::test(start_paused = true)]
async fn failed_probes_double_the_ejection_up_to_a_minute() {
    let (network, _upstreams, health) = ejected(Act::refused(0));
    sleep(SECOND * 250).await;
    let began: Vec<_> = network.began().into_iter().map(|(_, at)| at).collect();
    let gaps: Vec<_> = began.iter().zip(began.iter().skip(1)).map(|(one, next)| next - one).collect();
    for (gap, length) in gaps.iter().zip([2, 4, 8, 16, 32, 60, 60]) {
        assert!((length * 800..=length * 1000 + 1).contains(gap), "{gaps:?}");
    }
    assert!(gaps.len() >= 7 && health.is_ejected());
    assert_eq!(health.failures(), 1 + began.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_over_when_a_request_would_overtake_it() {
    let (network, _upstreams, health) = ejected(Act::HANG);
    sleep(SECOND).await;
    assert_eq!((health.standing(), network.count(1)), (Standing::Probing, 1));
    sleep(Duration::from_millis(1500)).await;
    assert!(matches!(health.standing(), Standing::Ejected { .. }));
    assert_eq!(health.last_error().unwrap().error, DialError::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn one_that_flaps_is_ever_longer_away_and_one_that_was_healthy_long_enough_is_not() {
    let (_network, upstreams, health) = ejected(Act::up(0));
    let left = |health: &Health| match health.standing() {
        Standing::Ejected { left } => left.as_millis(),
        other => panic!("{other:?}"),
    };
    for length in [2000, 4000, 8000] {
        // It is back, and fails half a second later.
        while health.is_ejected() {
            sleep(Duration::from_millis(500)).await;
        }
        fail(&upstreams, DialError::Refused);
        assert!((length * 4 / 5..=length).contains(&left(&health)), "{} of {length}", left(&health));
    }
    sleep(SECOND * 17).await;
    assert_eq!(health.standing(), Standing::Healthy);
    fail(&upstreams, DialError::Refused);
    assert!(left(&health) <= 1000);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ejected_for_what_is_not_his_fault() {
    let upstreams = Scripted::new(&[]).upstreams(Drain::new());
    for error in [DialError::Local("no descriptors".to_owned()), DialError::Credential("unknown_ca".to_owned())] {
        let health = fail(&upstreams, error.clone());
        assert_eq!((health.standing(), health.failures()), (Standing::Healthy, 0));
        assert_eq!(health.last_error().unwrap().error, error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_by_our_own_fault_does_not_double() {
    let (network, _upstreams, health) = ejected(Act { answer: None, end: Some((0, Ending::Local)) });
    sleep(SECOND * 10).await;
    assert!((10..=13).contains(&network.count(1)), "{:?}", network.began());
    assert_eq!(health.failures(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_full_says_nothing_of_its_upstream() {
    let upstreams = Scripted::new(&[]).upstreams(Drain::new());
    let health = fail(&upstreams, DialError::Full(1));
    assert_eq!((health.standing(), health.last_error()), (Standing::Healthy, None));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_not_the_last() {
    let (network, _upstreams, health) = ejected(Act { answer: None, end: Some((0, Ending::Panics)) });
    sleep(SECOND).await;
    assert!(matches!(health.standing(), Standing::Ejected { .. }), "{:?}", health.standing());
    network.set(1, Act::up(3));
    sleep(SECOND + Duration::from_millis(10)).await;
    assert_eq!((health.standing(), network.count(1)), (Standing::Healthy, 2));
}

#[tokio::test(start_paused = true)]
async fn failures_of_one_time_make_one_ejection() {
    let (_network, upstreams, health) = ejected(Act::HANG);
    let before = health.standing();
    (0..5).for_each(|_| drop(fail(&upstreams, DialError::TimedOut)));
    assert_eq!((health.standing(), health.failures()), (before, 6));
}

#[tokio::test(start_paused = true)]
async fn what_began_before_an_upstream_was_back_does_not_eject_it() {
    let (_network, upstreams, health) = ejected(Act::up(0));
    let began = Instant::now();
    sleep(SECOND * 2).await;
    assert!(!health.is_ejected());
    health.failed(&candidate(&upstreams, 1), &DialError::TimedOut, began);
    assert!(!health.is_ejected());
    assert_eq!((health.failures(), health.last_error().unwrap().error), (0, DialError::Refused));
    health.failed(&candidate(&upstreams, 1), &DialError::TimedOut, Instant::now());
    assert!(health.is_ejected());
}

#[tokio::test(start_paused = true)]
async fn probing_rests_when_nobody_asks_and_the_next_request_wakes_it() {
    let (network, upstreams, health) = ejected(Act::refused(0));
    sleep(SECOND * 700).await;
    let so_far = network.count(1);
    sleep(SECOND * 3600).await;
    assert_eq!(network.count(1), so_far, "nobody has wanted it for an hour");
    assert_eq!(health.standing(), Standing::Ejected { left: Duration::ZERO });

    network.set(1, Act::up(3));
    health.wanted(&candidate(&upstreams, 1));
    health.wanted(&candidate(&upstreams, 1));
    assert!(health.is_ejected(), "this request goes to the others");
    sleep(Duration::from_millis(4)).await;
    assert_eq!((health.standing(), network.count(1)), (Standing::Healthy, so_far + 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wanted_is_probed_for_as_long_as_it_is() {
    let (network, upstreams, health) = ejected(Act::refused(0));
    for _ in 0..20 {
        sleep(SECOND * 300).await;
        health.wanted(&candidate(&upstreams, 1));
    }
    assert!(network.count(1) > 100);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_as_if_it_had_never_failed_and_gives_up_its_probe() {
    let (network, upstreams, health) = ejected(Act::HANG);
    sleep(SECOND * 60).await;
    let so_far = network.count(1);
    assert!(upstreams.reset(health.id()) && !upstreams.reset(77));
    assert_eq!((health.standing(), health.failures(), health.last_error()), (Standing::Healthy, 0, None));
    sleep(SECOND * 200).await;
    assert_eq!(network.count(1), so_far);
    fail(&upstreams, DialError::Refused);
    assert!(matches!(health.standing(), Standing::Ejected { left } if left <= SECOND));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_probed_once_the_drain_has_begun() {
    let network = Scripted::new(&[Act::up(0)]);
    let drain = Drain::new();
    let upstreams = network.upstreams(drain.clone());
    let health = fail(&upstreams, DialError::Refused);
    drain.begin();
    sleep(SECOND * 100).await;
    assert_eq!((network.count(1), health.is_ejected()), (0, true));
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_probes_are_made_at_once() {
    let acts = vec![Act::HANG; 100];
    let network = Scripted::new(&acts);
    let upstreams = network.upstreams(Drain::new());
    for port in 1..=100 {
        let candidate = candidate(&upstreams, port);
        candidate.health.failed(&candidate, &DialError::Refused, Instant::now());
    }
    sleep(SECOND + Duration::from_millis(400)).await;
    assert_eq!(network.began().len(), PROBES);
}

#[tokio::test(start_paused = true)]
async fn latency_is_the_last_and_smoothed() {
    let upstreams = Scripted::new(&[]).upstreams(Drain::new());
    let health = upstreams.meet(&upstream(1), None);
    let address = ([127, 0, 0, 1], 1).into();
    health.up(Duration::from_millis(80), address, true);
    health.up(Duration::from_millis(160), address, true);
    let latency = health.latency().unwrap();
    assert_eq!((latency.last.as_millis(), latency.smoothed.as_millis()), (160, 90));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_is_known_by_its_address_and_its_policy() {
    let upstreams = Scripted::new(&[]).upstreams(Drain::new());
    let policy = |name: &str| Arc::new(TlsPolicy { server_name: Some(name.to_owned()), ..TlsPolicy::default() });
    let (plain, one) = (upstreams.meet(&upstream(1), None), upstreams.meet(&upstream(1), Some(&policy("one"))));
    let other = upstreams.meet(&upstream(1), Some(&policy("other")));
    assert_eq!([plain.id(), one.id(), other.id()], [1, 2, 3]);
    assert_eq!(upstreams.meet(&upstream(1), Some(&policy("one"))).id(), 2, "equal, though not the same");
    assert_eq!(upstreams.state_of(&upstream(1), Some(&policy("other"))).unwrap().id(), 3);
    assert!(upstreams.state_of(&upstream(2), None).is_none());
    let ids = |after, limit| upstreams.page(after, limit).iter().map(|health| health.id()).collect::<Vec<_>>();
    assert_eq!((ids(0, 10), ids(1, 1), ids(3, 1), upstreams.len()), (vec![1, 2, 3], vec![2], vec![], 3));
}

#[tokio::test(start_paused = true)]
async fn their_number_is_bounded_and_the_ejected_stay() {
    let upstreams = Scripted::new(&[]).upstreams(Drain::new());
    let first = fail(&upstreams, DialError::Refused);
    let many = |host: u32| Upstream { host: crate::route::Host::Ip(std::net::Ipv4Addr::from(host).into()), port: 9 };
    (0..60_000).for_each(|host| drop(upstreams.meet(&many(host), None)));
    assert_eq!(upstreams.len(), SHARDS * SHARD_ROOM);
    assert!(upstreams.state_of(&upstream(1), None).is_some_and(|health| health.id() == first.id()));
}

proptest! {
    /// Whatever happens, an upstream that failed last is ejected and one that was up last is healthy, at once.
    #[test]
    fn the_last_word_counts(ups in prop::collection::vec(any::<bool>(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let upstreams = Scripted::new(&[Act::HANG]).upstreams(Drain::new());
            for up in ups {
                let candidate = candidate(&upstreams, 1);
                match up {
                    true => candidate.health.up(SECOND, ([127, 0, 0, 1], 1).into(), true),
                    false => candidate.health.failed(&candidate, &DialError::Refused, Instant::now()),
                }
                prop_assert_eq!(candidate.health.is_ejected(), !up);
                prop_assert_eq!(candidate.health.standing() == Standing::Healthy, up);
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })?;
    }
}
