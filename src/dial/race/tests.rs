//! Races of scripted upstreams, with a paused clock: against a model, and what a race leaves behind.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dial::testing::{Act, Ending, Scripted, candidate, upstream};
use crate::dial::{Health, Turn};
use crate::drain::Drain;
use crate::route::{Route, Settings, testing};

/// What a race came to: who won, who was started when, and who is ejected.
#[derive(Debug, PartialEq)]
struct Course {
    winner: Option<u16>,
    began: Vec<(u16, u64)>,
    ejected: Vec<u16>,
    /// When it ended.
    end: u64,
    /// The failed attempts, in no order: port and error.
    failed: Vec<(u16, &'static str)>,
}

/// The rules of a race, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Rules {
    connect_timeout: u64,
    race_after: Option<u64>,
    deadline: u64,
}

/// Who is under way in the model.
struct Running {
    port: u16,
    began: u64,
    act: Act,
}

impl Running {
    fn is_up(&self, now: u64) -> bool {
        self.act.end.is_some_and(|(after, ending)| ending == Ending::Up && self.began + after <= now)
    }

    fn failure(&self, now: u64, rules: &Rules) -> Option<&'static str> {
        match self.act.end {
            Some((after, ending)) if self.began + after <= now => match ending {
                Ending::Up => None,
                Ending::Refused => Some("connection refused"),
                Ending::Local => Some("local"),
                Ending::Panics => Some("panics"),
            },
            _ => (self.began + rules.connect_timeout <= now).then_some("timed out"),
        }
    }

    fn has_answered(&self, now: u64) -> bool {
        self.act.answer.is_some_and(|after| self.began + after <= now)
    }
}

/// The race again, millisecond by millisecond.
fn model(acts: &[Act], rules: &Rules) -> Course {
    let mut course = Course { winner: None, began: Vec::new(), ejected: Vec::new(), end: 0, failed: Vec::new() };
    let (mut waiting, mut running) = ((1..).zip(acts.iter().copied()), Vec::<Running>::new());
    let (mut next, mut exhausted) = (Some(0), false);
    for now in 0.. {
        course.end = now;
        loop {
            let last = running.last().map(|last| last.port);
            running.retain(|one| {
                let failure = one.failure(now, rules);
                course.failed.extend(failure.map(|error| (one.port, error)));
                if failure.is_some_and(|error| error != "local") {
                    course.ejected.push(one.port);
                }
                failure.is_none()
            });
            if running.last().map(|last| last.port) != last {
                next = Some(now);
            }
            let is_over = now >= rules.deadline && !running.is_empty();
            let decided = running.iter().find(|one| one.is_up(now) || (!is_over && one.has_answered(now)));
            let winner = decided.filter(|one| one.is_up(now)).map(|one| one.port);
            if winner.is_some() || is_over {
                let before = running.iter().take_while(|one| Some(one.port) != winner);
                for one in before {
                    if winner.is_none() || one.has_answered(now) {
                        course.failed.push((one.port, "timed out"));
                    } else {
                        course.failed.push((one.port, "overtaken"));
                        course.ejected.push(one.port);
                    }
                }
                course.winner = winner;
                return course;
            }
            let waits = exhausted || running.iter().any(|one| one.is_up(now) || one.has_answered(now));
            if !waits && next.is_some_and(|next| next <= now) {
                match waiting.next().filter(|_| now < rules.deadline) {
                    Some((port, act)) => {
                        course.began.push((port, now));
                        running.push(Running { port, began: now, act });
                        next = rules.race_after.map(|after| now + after);
                    }
                    None => exhausted = true,
                }
                continue;
            }
            break;
        }
        if running.is_empty() {
            break;
        }
    }
    course
}

/// The race itself.
async fn run(acts: &[Act], rules: &Rules) -> Course {
    let (network, drain, began) = (Scripted::new(acts), Drain::new(), Instant::now());
    // Nothing is dialed in the background then.
    drain.begin();
    let upstreams = network.upstreams(drain);
    let millis = Duration::from_millis;
    let candidates = (1..).zip(acts).map(|(port, _)| Candidate {
        connect_timeout: millis(rules.connect_timeout),
        race_after: rules.race_after.map(millis),
        ..candidate(&upstreams, port)
    });
    let mut race = Race::new(candidates, Arc::clone(&upstreams), Deadline::after(millis(rules.deadline)));
    let winner = race.run().await.map(|won| won.up.address.port());
    let failed = race.take_failed().into_iter().map(|attempt| {
        let error = match attempt.error {
            DialError::Refused => "connection refused",
            DialError::Local(_) => "local",
            DialError::TimedOut => "timed out",
            DialError::Overtaken(_) => "overtaken",
            other => panic!("{other}"),
        };
        (attempt.address.parse::<std::net::SocketAddr>().unwrap().port(), error)
    });
    let ejected =
        (1..).take(acts.len()).filter(|&port| state(&upstreams, port).is_some_and(|state| state.is_ejected()));
    Course {
        winner,
        began: network.began(),
        ejected: ejected.collect(),
        end: u64::try_from(began.elapsed().as_millis()).unwrap(),
        failed: failed.collect(),
    }
}

fn state(upstreams: &Upstreams, port: u16) -> Option<Arc<Health>> {
    upstreams.state_of(&upstream(port), None)
}

/// Few different times, so that much happens at once.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![0..12_u64, prop::sample::select(vec![0, 10, 20, 30, 40, 50, 60, 100])]
}

fn act() -> impl Strategy<Value = Act> {
    let ending = prop::sample::select(vec![Ending::Up, Ending::Up, Ending::Refused, Ending::Refused, Ending::Local]);
    (prop::option::of(time()), prop::option::weighted(0.7, (time(), ending))).prop_map(|(answer, end)| {
        // Nobody ends before he answers.
        let end = end.map(|(after, ending)| (after + answer.unwrap_or_default(), ending));
        Act { answer, end }
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let timeout = prop::sample::select(vec![1, 10, 30, 50, 1000]);
    let deadline = prop::sample::select(vec![0, 10, 40, 60, 100, 1000]);
    (timeout, prop::option::weighted(0.8, time()), deadline).prop_map(|(connect_timeout, race_after, deadline)| Rules {
        connect_timeout,
        race_after,
        deadline,
    })
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_race_goes_as_its_model(acts in prop::collection::vec(act(), 0..6), rules in rules()) {
        let (mut model, mut race) = (model(&acts, &rules), paused().block_on(run(&acts, &rules)));
        for course in [&mut model, &mut race] {
            course.failed.sort_unstable();
            course.ejected.sort_unstable();
        }
        prop_assert_eq!(race, model);
    }
}

const RULES: Rules = Rules { connect_timeout: 3000, race_after: Some(1500), deadline: 5000 };

/// Runs a race with the usual rules and nothing in the background.
async fn usual(acts: &[Act]) -> Course {
    run(acts, &RULES).await
}

#[tokio::test(start_paused = true)]
async fn a_blackholed_primary_costs_race_after_and_is_overtaken() {
    let course = usual(&[Act::HANG, Act::up(2)]).await;
    assert_eq!((course.winner, course.end), (Some(2), 1502));
    assert_eq!((course.ejected, course.failed), (vec![1], vec![(1, "overtaken")]));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_costs_nothing_but_its_own_time() {
    let course = usual(&[Act::refused(3), Act::refused(4), Act::up(5)]).await;
    assert_eq!((course.winner, course.end, course.began), (Some(3), 12, vec![(1, 0), (2, 3), (3, 7)]));
}

#[tokio::test(start_paused = true)]
async fn the_heavier_that_has_answered_is_waited_for_and_nothing_starts_beside_it() {
    let heavy = Act { answer: Some(1600), end: Some((2500, Ending::Up)) };
    let course = usual(&[heavy, Act::up(200), Act::up(0)]).await;
    assert_eq!((course.winner, course.end), (Some(1), 2500));
    assert_eq!((course.began, course.failed), (vec![(1, 0), (2, 1500)], vec![]));

    let heavy = Act { answer: Some(1600), end: Some((2500, Ending::Refused)) };
    let course = usual(&[heavy, Act::up(200), Act::up(0)]).await;
    assert_eq!((course.winner, course.end), (Some(2), 2500));
}

#[tokio::test(start_paused = true)]
async fn never_is_strictly_serial() {
    let rules = Rules { race_after: None, ..RULES };
    let course = run(&[Act::HANG, Act::up(1)], &rules).await;
    assert_eq!((course.winner, course.began), (Some(2), vec![(1, 0), (2, 3000)]));
    assert_eq!(course.failed, [(1, "timed out")]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_another_waits_for_a_dead_primary_does_not_wait_as_long() {
    let network = Scripted::new(&[Act::HANG, Act::up(2)]);
    let upstreams = network.upstreams(Drain::new());
    let candidates = || [1, 2].map(|port| candidate(&upstreams, port)).into_iter();
    let race = async || {
        let mut race = Race::new(candidates(), Arc::clone(&upstreams), Deadline::after(Duration::from_secs(5)));
        assert!(race.run().await.is_some());
        Instant::now()
    };
    let began = Instant::now();
    let (first, second) = tokio::join!(race(), async {
        sleep(1250).await;
        race().await
    });
    assert_eq!((first - began).as_millis(), 1502);
    assert_eq!((second - began).as_millis(), 1250 + 300 + 2);
}

/// A race of a primary that hangs and a backup, with a deadline in milliseconds, in which time goes on afterwards.
async fn race_with_background(acts: &[Act], deadline: u64) -> (Scripted, Arc<Upstreams>, bool) {
    let network = Scripted::new(acts);
    let upstreams = network.upstreams(Drain::new());
    let ports = 1..=u16::try_from(acts.len()).unwrap();
    let candidates: Vec<_> = ports.map(|port| candidate(&upstreams, port)).collect();
    let deadline = Deadline::after(Duration::from_millis(deadline));
    let won = Race::new(candidates.into_iter(), Arc::clone(&upstreams), deadline).run().await.is_some();
    (network, upstreams, won)
}

async fn sleep(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_ejects_nobody_and_still_learns_that_the_upstream_is_gone() {
    let (network, upstreams, won) = race_with_background(&[Act::HANG], 200).await;
    let health = state(&upstreams, 1).unwrap();
    assert!(!won && !health.is_ejected(), "the client's deadline is no fault of the upstream's");
    sleep(2799).await;
    assert!(!health.is_ejected());
    sleep(2).await;
    assert!(health.is_ejected(), "its own time is over");
    assert_eq!((health.failures(), health.last_error().unwrap().error), (1, DialError::TimedOut));
    assert_eq!(network.count(1), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_departs_ejects_nobody_and_the_attempt_runs_on() {
    let network = Scripted::new(&[Act::up(700)]);
    let upstreams = network.upstreams(Drain::new());
    let health = state(&upstreams, 1);
    assert!(health.is_none(), "nobody has asked for it");
    let gone = async |after| {
        let deadline = Deadline::after(Duration::from_secs(5));
        let mut race = Race::new([candidate(&upstreams, 1)].into_iter(), Arc::clone(&upstreams), deadline);
        tokio::time::timeout(Duration::from_millis(after), race.run()).await.is_err()
    };
    assert!(gone(100).await);
    let health = state(&upstreams, 1).unwrap();
    assert_eq!(health.latency(), None);
    sleep(601).await;
    assert_eq!(health.latency().unwrap().last, Duration::from_millis(700));
    assert!(!health.is_ejected());
}

#[tokio::test(start_paused = true)]
async fn at_most_one_attempt_for_an_upstream_runs_on() {
    let network = Scripted::new(&[Act::HANG]);
    let upstreams = network.upstreams(Drain::new());
    for _ in 0..3 {
        let deadline = Deadline::after(Duration::from_millis(100));
        assert!(
            Race::new([candidate(&upstreams, 1)].into_iter(), Arc::clone(&upstreams), deadline).run().await.is_none()
        );
    }
    // The first runs on until 3.0 s; if the others did, there would be three failures.
    sleep(2900).await;
    let health = state(&upstreams, 1).unwrap();
    assert_eq!((health.failures(), health.attempts()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn who_was_overtaken_and_is_up_late_is_not_let_back_by_that() {
    let (network, upstreams, won) = race_with_background(&[Act::up(1600), Act::up(10)], 5000).await;
    assert!(won);
    let health = state(&upstreams, 1).unwrap();
    assert!(matches!(health.last_error().unwrap().error, DialError::Overtaken(after) if after.as_millis() == 1510));
    sleep(200).await;
    assert_eq!(health.latency().unwrap().last, Duration::from_millis(1600));
    assert!(health.is_ejected(), "1.6 s is no time to be up in");
    network.set(1, Act::up(1));
    sleep(1000).await;
    assert!(!health.is_ejected(), "a probe let it back");
    assert_eq!(network.count(1), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_overtaken_and_fails_later_has_failed_once() {
    for act in [Act::HANG, Act::refused(1800)] {
        let (_network, upstreams, won) = race_with_background(&[act, Act::up(10)], 5000).await;
        let health = state(&upstreams, 1).unwrap();
        assert!(won && health.is_ejected());
        // Before the probe, which is a failure of its own, and after what runs on has ended.
        assert_eq!((health.failures(), health.attempts()), (1, 1));
        sleep(1750).await;
        assert_eq!(health.failures(), 1, "{act:?}: and it was told when it was overtaken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_route_has_not_tried_its_upstream() {
    let settings = Some(Box::new(Settings { max_relays: Some(1), ..Settings::DEFAULT }));
    let route = testing::row(Route { settings, ..testing::route("^db@", 1) });
    let network = Scripted::new(&[Act::up(0)]);
    let (upstreams, slots) = (network.upstreams(Drain::new()), Arc::default());
    let _held = Turn::at(&route, &slots).unwrap().slot().unwrap();
    let turn = Turn::at(&route, &slots);
    let candidates = [Candidate { course: route.into(), turn, ..candidate(&upstreams, 1) }];
    let mut race = Race::new(candidates.into_iter(), Arc::clone(&upstreams), Deadline::after(Duration::from_secs(1)));
    assert!(race.run().await.is_none());
    assert_eq!((race.take_failed().len(), state(&upstreams, 1).unwrap().attempts(), network.count(1)), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_flaps_once_a_second_costs_few_requests() {
    let network = Scripted::new(&[Act::up(1), Act::up(2)]);
    let upstreams = network.upstreams(Drain::new());
    let began = Instant::now();
    let mut took = Vec::new();
    for tenth in 0..600 {
        tokio::time::sleep_until(began + Duration::from_millis(100) * tenth).await;
        network.set(1, if tenth / 10 % 2 == 0 { Act::up(1) } else { Act::HANG });
        let upstreams = Arc::clone(&upstreams);
        took.push(tokio::spawn(async move {
            let (began, mut candidates) = (Instant::now(), [1, 2].map(|port| candidate(&upstreams, port)));
            // As a plan has them.
            candidates.sort_by_key(|candidate| candidate.is_ejected);
            let deadline = Deadline::after(Duration::from_secs(5));
            let mut race = Race::new(candidates.into_iter(), Arc::clone(&upstreams), deadline);
            assert!(race.run().await.is_some(), "none fails");
            began.elapsed()
        }));
    }
    let mut slow = Vec::new();
    for took in took {
        slow.extend(Some(took.await.unwrap().as_millis()).filter(|took| *took > 2));
    }
    // Those of three seconds out of thirty in which it is away: it is ever longer behind the backup.
    assert!(slow.len() <= 30 && slow.iter().all(|took| *took <= 1502), "{slow:?}");
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_unseen_holds_no_place_among_the_relays() {
    let settings = Some(Box::new(Settings { max_relays: Some(1), ..Settings::DEFAULT }));
    let route = testing::row(Route { settings, ..testing::route("^db@", 1) });
    let (upstreams, slots) = (Scripted::new(&[Act::HANG]).upstreams(Drain::new()), Arc::default());
    let turn = Turn::at(&route, &slots);
    let candidates = [Candidate { course: route.into(), turn, ..candidate(&upstreams, 1) }];
    let deadline = Deadline::after(Duration::from_millis(100));
    let mut race = Race::new(candidates.into_iter(), Arc::clone(&upstreams), deadline);
    assert!(poll_fn(|cx| Poll::Ready(pin!(race.run()).poll(cx).is_pending())).await);
    assert_eq!(slots.open("^db@"), 1, "a request that dials has its place");
    assert!(race.run().await.is_none());
    sleep(1).await;
    assert_eq!(slots.open("^db@"), 0, "it has ended, though its attempt goes on");
    sleep(3000).await;
    assert!(state(&upstreams, 1).unwrap().is_ejected());
}
