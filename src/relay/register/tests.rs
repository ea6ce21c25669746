//! Relays that come and go while they are listed and cut.

use std::future::poll_fn;
use std::sync::Barrier;
use std::task::Waker;
use std::thread;

use proptest::prelude::*;

use super::testing::facts;
use super::*;

fn register() -> Arc<Register> {
    Arc::default()
}

fn ids(page: &[Arc<Registered>]) -> Vec<u64> {
    page.iter().map(|relay| relay.id).collect()
}

fn cut_of(relay: &Registered) -> Poll<End> {
    relay.poll_cut(&Context::from_waker(Waker::noop()))
}

#[test]
fn a_relay_is_there_until_it_is_dropped() {
    let register = register();
    let [a, b, c] = ["a", "b", "c"].map(|node| register.enter(facts(node, "")));
    let all = |after, limit| ids(&register.page(after, limit, |_| true));
    assert_eq!(all(0, 2), [1, 2]);
    assert_eq!(all(2, 2), [3]);
    drop(b);
    assert_eq!(all(0, 9), [1, 3]);
    assert_eq!(ids(&register.page(0, 9, |relay| relay.node.as_str() == "c")), [3]);
    drop((a, c));
    assert!(all(0, 9).is_empty());
}

#[test]
fn every_relay_is_cut_once() {
    let register = register();
    let relays: Vec<_> = ["a", "b", "a", "c"].map(|node| register.enter(facts(node, "^x"))).into();
    assert_eq!(register.cut_where(Cut::Closed, |relay| relay.node.as_str() == "a"), 2);
    assert_eq!(
        register.cut_where(Cut::Closed, |relay| relay.course.pattern() == Some("^x")),
        2,
        "the two that are left"
    );
    assert!(!register.cut(1, Cut::Closed), "it has been told already");
    assert!(!register.cut(5, Cut::Closed), "there is none");
    assert!(relays.iter().all(|relay| matches!(cut_of(relay), Poll::Ready(End::Closed))));
    let late = register.enter(facts("d", ""));
    assert!(cut_of(&late).is_pending());
    assert!(register.cut(late.id, Cut::Closed));
    register.cut_all();
    assert!(matches!(cut_of(&late), Poll::Ready(End::Closed)), "what came first is what is told");
    assert!(matches!(cut_of(&register.enter(facts("e", ""))), Poll::Ready(End::Drained)));
}

#[tokio::test]
async fn a_task_that_waits_is_woken() {
    let register = register();
    let relay = register.enter(facts("a", ""));
    let waiting = tokio::spawn(async move { poll_fn(|cx| relay.poll_cut(cx)).await });
    tokio::task::yield_now().await;
    assert_eq!(register.cut_where(Cut::Closed, |_| true), 1);
    assert!(matches!(waiting.await.unwrap(), End::Closed));
}

#[test]
fn no_relay_that_enters_while_all_are_cut_is_forgotten() {
    const THREADS: usize = 4;
    for _ in 0..100 {
        let (register, start) = (register(), Barrier::new(THREADS + 1));
        thread::scope(|scope| {
            let enter = || {
                start.wait();
                (0..50).map(|_| register.enter(facts("a", ""))).collect::<Vec<_>>()
            };
            let entering: Vec<_> = (0..THREADS).map(|_| scope.spawn(enter)).collect();
            start.wait();
            register.cut_all();
            for relays in entering {
                assert!(relays.join().unwrap().iter().all(|relay| cut_of(relay).is_ready()));
            }
        });
    }
}

#[test]
fn bytes_are_counted_by_side() {
    let relay = testing::registered();
    relay.delivered(Side::Client).add(3);
    relay.delivered(Side::Client).add(4);
    relay.delivered(Side::Upstream).add(1);
    assert_eq!((relay.delivered(Side::Client).get(), relay.delivered(Side::Upstream).get()), (7, 1));
}

proptest! {
    #[test]
    fn pages_have_every_relay_once_and_in_order(
        open in prop::collection::vec(any::<bool>(), 0..600),
        limit in 1_usize..200,
    ) {
        let register = register();
        let entered: Vec<_> = open.iter().map(|_| register.enter(facts("a", ""))).collect();
        let held: Vec<_> = entered.into_iter().zip(&open).filter(|(_, open)| **open).map(|(relay, _)| relay).collect();
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let page = ids(&register.page(after, limit, |_| true));
            prop_assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = *last;
            seen.extend(page);
        }
        prop_assert_eq!(seen, ids(&held));
    }
}
