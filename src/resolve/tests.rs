//! The resolver above a service that says what the test wants, when it wants it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance};

use super::*;
use crate::route::Host;

type Said = Result<Answers, NoAnswer>;

/// Hands each question to the test. The part behind the `@` is a service of its own.
#[derive(Debug)]
struct Script {
    asked: mpsc::Sender<(NodeName, oneshot::Sender<Said>)>,
    count: AtomicUsize,
    updates: Mutex<Option<Weak<dyn Updates>>>,
}

impl Ask for Script {
    fn ask(&self, node: NodeName) -> Asking {
        assert_ne!(node.as_str(), "panics", "on purpose");
        let (answer, said) = oneshot::channel();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.asked.try_send((node, answer)).unwrap();
        Box::pin(async { said.await.unwrap() })
    }

    fn service<'a>(&self, node: &'a NodeName) -> &'a str {
        node.as_str().rsplit_once('@').map_or("", |(_, host)| host)
    }

    fn tell(&self, updates: Weak<dyn Updates>) {
        *self.updates.lock().unwrap() = Some(updates);
    }
}

struct Lab {
    script: Arc<Script>,
    questions: mpsc::Receiver<(NodeName, oneshot::Sender<Said>)>,
    resolver: Arc<Resolver>,
}

impl Lab {
    fn new() -> Self {
        let (asked, questions) = mpsc::channel(1000);
        let script = Arc::new(Script { asked, count: AtomicUsize::new(0), updates: Mutex::new(None) });
        let ask: Arc<dyn Ask> = Arc::<Script>::clone(&script);
        let resolver = Resolver::new(
            "fleet".into(),
            "script",
            ask,
            Questions::default(),
            Arc::default(),
            Home::on(Handle::current()),
        );
        Self { script, questions, resolver }
    }

    /// What a request gets at once.
    fn now(&self, name: &str) -> Outcome {
        match self.resolver.ask(&node(name)) {
            Asked::Now(outcome) => outcome,
            Asked::Later(_) => panic!("a question is asked for {name}"),
        }
    }

    /// A request that has to wait.
    fn later(&self, name: &str) -> Waiting {
        match self.resolver.ask(&node(name)) {
            Asked::Later(waiting) => waiting,
            Asked::Now(outcome) => panic!("{outcome:?} is there at once for {name}"),
        }
    }

    /// The service's side: the next question, which must be this one.
    async fn question(&mut self, name: &str) -> oneshot::Sender<Said> {
        let (asked, answer) = self.questions.recv().await.unwrap();
        assert_eq!(asked, node(name));
        answer
    }

    /// A request asks, and the service says this.
    async fn asks(&mut self, name: &str, said: Said) -> Outcome {
        let waiting = self.later(name);
        self.question(name).await.send(said).unwrap();
        waiting.await
    }

    fn asked(&self) -> usize {
        self.script.count.load(Ordering::Relaxed)
    }

    fn put(&self, name: &str, said: Said, version: u64) {
        let updates = self.script.updates.lock().unwrap().as_ref().unwrap().upgrade().unwrap();
        updates.put(&node(name), said, version);
    }
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

/// An answer, told from others by its port.
fn port(port: u16) -> Said {
    let host = Host::Ip([10, 0, 0, 1].into());
    let answer = Answer { host, certified: None, port: Some(port), tls: None, handshake: None, proto: None };
    Ok(Answers { list: [answer].into(), ttl: None })
}

fn known(number: u16) -> Outcome {
    port(number).map(|answers| answers.list)
}

fn away() -> Said {
    Err(NoAnswer::Away("connection refused".to_owned()))
}

const UNKNOWN: NoAnswer = NoAnswer::Unknown { ttl: None };

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_for_a_node_are_one_question_and_who_leaves_does_not_end_it() {
    let mut lab = Lab::new();
    drop(lab.later("db@x"));
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        requests.spawn(lab.later("db@x"));
    }
    lab.question("db@x").await.send(port(1)).unwrap();
    assert!(requests.join_all().await.into_iter().all(|outcome| outcome == known(1)));
    assert_eq!((lab.asked(), lab.now("db@x")), (1, known(1)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_as_long_as_the_service_says_else_as_configured() {
    let mut lab = Lab::new();
    assert_eq!(lab.asks("db@x", port(1)).await, known(1));
    let brief = port(2).map(|answers| Answers { ttl: Some(secs(3)), ..answers });
    assert_eq!(lab.asks("web@x", brief).await, known(2));
    assert_eq!(lab.asks("nosuch@x", Err(UNKNOWN)).await, Err(UNKNOWN));
    advance(secs(2)).await;
    assert_eq!((lab.now("db@x"), lab.now("web@x"), lab.now("nosuch@x")), (known(1), known(2), Err(UNKNOWN)));
    advance(secs(1)).await;
    assert_eq!(lab.asks("web@x", port(3)).await, known(3));
    advance(secs(2)).await;
    assert_eq!(lab.asks("nosuch@x", port(4)).await, known(4));
    advance(secs(24)).await;
    assert_eq!(lab.now("db@x"), known(1));
    advance(secs(1)).await;
    assert_eq!(lab.asks("db@x", Err(UNKNOWN)).await, Err(UNKNOWN), "the service's word, old answer or not");
}

#[tokio::test(start_paused = true)]
async fn while_the_service_is_away_old_answers_serve_and_it_is_tried_now_and_then() {
    let mut lab = Lab::new();
    lab.asks("db@x", port(1)).await.unwrap();
    lab.asks("web@x", port(2)).await.unwrap();
    advance(secs(40)).await;
    assert_eq!(lab.asks("db@x", away()).await, known(1), "the old one, as there is no new one");

    assert_eq!((lab.now("db@x"), lab.now("web@x")), (known(1), known(2)));
    assert_eq!(lab.now("new@x"), Err(NoAnswer::Away("connection refused".to_owned())));
    assert_eq!(lab.asked(), 3, "nothing is asked for a second");
    advance(secs(1)).await;
    assert_eq!((lab.now("db@x"), lab.now("web@x")), (known(1), known(2)));
    lab.question("db@x").await.send(away()).unwrap();
    tokio::task::yield_now().await;
    advance(secs(1)).await;
    let text = lab.now("new@x").unwrap_err().to_string();
    assert_eq!(text, "is away: connection refused; it has not answered for 2s");
    let status = lab.resolver.status();
    assert_eq!((status.state, status.lasts, status.oldest_served), (State::Away, Some(secs(2)), Some(secs(41))));
    assert_eq!((status.asked, status.answered, status.failed, status.names), (4, 2, 2, 2));

    advance(secs(1)).await;
    assert_eq!(lab.asks("new@x", port(3)).await, known(3), "this request tries, and waits for what comes of it");
    assert_eq!((lab.resolver.status().state, lab.resolver.status().oldest_served), (State::Up, None));
    assert_eq!(lab.asks("db@x", port(4)).await, known(4));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_slow_gets_half_a_second_where_an_old_answer_would_serve() {
    let mut lab = Lab::new();
    lab.asks("db@x", port(1)).await.unwrap();
    advance(secs(30)).await;
    let (begin, waiting) = (Instant::now(), lab.later("db@x"));
    let question = lab.question("db@x").await;
    assert_eq!((waiting.await, begin.elapsed()), (known(1), Duration::from_millis(500)));
    assert_eq!((lab.later("db@x").await, begin.elapsed()), (known(1), Duration::from_millis(500)));
    question.send(port(2)).unwrap();
    tokio::task::yield_now().await;
    assert_eq!((lab.now("db@x"), lab.asked()), (known(2), 2));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_away_after_the_timeout() {
    let mut lab = Lab::new();
    let (begin, waiting) = (Instant::now(), lab.later("db@x"));
    let _hangs = lab.question("db@x").await;
    assert_eq!((waiting.await, begin.elapsed()), (Err(NoAnswer::TimedOut), secs(2)));
    assert_eq!(lab.now("db@x"), Err(NoAnswer::Away("no answer within 2s".to_owned())));
    assert_eq!(lab.asks("db@elsewhere", port(1)).await, known(1), "a service on another host is asked all the same");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_a_service_is_silent_about_keeps_it_from_no_other() {
    let mut lab = Lab::new();
    let lame = lab.later("lame@x");
    let _silent = lab.question("lame@x").await;
    advance(secs(1)).await;
    assert_eq!(lab.asks("db@x", port(1)).await, known(1));
    assert_eq!(lame.await, Err(NoAnswer::TimedOut));
    let of_its_own = NoAnswer::Refused("no answer within 2s, where others are answered".to_owned());
    assert_eq!((lab.now("lame@x"), lab.resolver.status().state), (Err(of_its_own), State::Up));
    assert_eq!(lab.asks("web@x", port(2)).await, known(2));

    // Nobody else is asked for meanwhile: it looks as if the service were away, until another node is asked for.
    advance(secs(5)).await;
    let lame = lab.later("lame@x");
    let _silent = lab.question("lame@x").await;
    assert_eq!(lame.await, Err(NoAnswer::TimedOut));
    assert_eq!(lab.resolver.status().state, State::Away);
    let away = "is away: no answer within 2s";
    assert_eq!(lab.now("lame@x").unwrap_err().to_string(), away);
    let (first, second) = (lab.later("new@x"), lab.now("other@x"));
    assert_eq!(second.unwrap_err().to_string(), away, "one at a time");
    lab.question("new@x").await.send(port(3)).unwrap();
    assert_eq!((first.await, lab.resolver.status().state), (known(3), State::Up));
}

#[tokio::test(start_paused = true)]
async fn old_answers_do_not_serve_beyond_their_time() {
    let mut lab = Lab::new();
    lab.asks("db@x", port(1)).await.unwrap();
    advance(secs(30 + 3599)).await;
    assert_eq!(lab.asks("db@x", away()).await, known(1));
    advance(secs(1)).await;
    assert_eq!(lab.asks("db@x", away()).await.unwrap_err().to_string(), "is away: connection refused");
    assert_eq!(lab.resolver.status().names, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_understood_concerns_its_node_alone() {
    let mut lab = Lab::new();
    let garbled = || NoAnswer::Garbled("no base64".to_owned());
    lab.asks("db@x", port(1)).await.unwrap();
    advance(secs(30)).await;
    assert_eq!(lab.asks("db@x", Err(garbled())).await, known(1));
    assert_eq!(lab.asks("web@x", Err(garbled())).await, Err(garbled()));
    assert_eq!((lab.now("db@x"), lab.now("web@x")), (known(1), Err(garbled())), "it is not asked again at once");
    assert_eq!(lab.asks("new@x", port(2)).await, known(2));
    advance(secs(5)).await;
    assert_eq!(lab.asks("db@x", port(3)).await, known(3));
    assert_eq!((lab.resolver.status().state, lab.resolver.status().failed), (State::Up, 2));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_a_node_is_asked_for_others_as_ever() {
    let mut lab = Lab::new();
    let refused = || NoAnswer::Refused("it says no".to_owned());
    lab.asks("db@x", port(1)).await.unwrap();
    assert_eq!(lab.asks("web@x", Err(refused())).await, Err(refused()));
    assert_eq!(lab.now("web@x"), Err(refused()));
    assert_eq!(lab.asks("new@x", port(2)).await, known(2));
    advance(secs(30)).await;
    assert_eq!(lab.asks("db@x", Err(refused())).await, known(1), "the old answer is better than that");
    assert_eq!((lab.resolver.status().state, lab.now("db@x")), (State::Up, known(1)));
}

#[tokio::test(start_paused = true)]
async fn of_any_number_of_answers_the_first_256_are_kept() {
    let mut lab = Lab::new();
    let one = port(1).unwrap().list[0].clone();
    let many = Answers { list: vec![one; 10_000].into(), ttl: None };
    assert_eq!(lab.asks("db@x", Ok(many)).await.unwrap().len(), 256);
    assert_eq!(lab.now("db@x").unwrap().len(), 256);
}

#[tokio::test(start_paused = true)]
async fn questions_at_once_are_bounded_and_what_is_over_that_is_told_at_once() {
    let mut lab = Lab::new();
    lab.asks("db@x", port(1)).await.unwrap();
    advance(secs(30)).await;
    let flood: Vec<_> = (0..256).map(|n| lab.later(&format!("{n}@x"))).collect();
    assert_eq!((lab.now("new@x"), lab.now("db@x")), (Err(NoAnswer::Busy), known(1)));
    let joined = lab.later("7@x");
    assert_eq!(lab.resolver.status().asking, 256);
    for n in 0..256 {
        lab.question(&format!("{n}@x")).await.send(port(2)).unwrap();
    }
    for waiting in flood.into_iter().chain([joined]) {
        assert_eq!(waiting.await, known(2));
    }
    assert_eq!(lab.asks("new@x", port(3)).await, known(3));
}

#[tokio::test(start_paused = true)]
async fn what_the_service_says_of_its_own_accord_is_known_without_a_question() {
    let mut lab = Lab::new();
    lab.put("db@x", port(1), 5);
    assert_eq!(lab.asks("db@x", port(2)).await, known(2), "what nobody had asked for was not kept");
    lab.put("db@x", port(3), 7);
    lab.put("db@x", port(4), 6);
    assert_eq!(lab.now("db@x"), known(3));
    lab.put("db@x", Err(UNKNOWN), 8);
    assert_eq!((lab.now("db@x"), lab.asked()), (Err(UNKNOWN), 1));

    let waiting = lab.later("web@x");
    let question = lab.question("web@x").await;
    lab.put("web@x", port(5), 9);
    question.send(port(1)).unwrap();
    assert_eq!(waiting.await, known(5), "who waits hears it");
    tokio::task::yield_now().await;
    assert_eq!(lab.now("web@x"), known(5), "and what the question comes to is older");
}

#[tokio::test(start_paused = true)]
async fn in_doubt_everything_is_asked_again_and_serves_meanwhile() {
    let mut lab = Lab::new();
    lab.asks("db@x", port(1)).await.unwrap();
    lab.put("db@x", port(2), 100);
    lab.resolver.doubt();
    assert_eq!(lab.asks("db@x", away()).await, known(2));
    lab.put("db@x", port(3), 1);
    assert_eq!(lab.now("db@x"), known(3), "a new service counts anew");
    assert_eq!(lab.resolver.status().state, State::Up);

    let (waiting, question) = (lab.later("web@x"), lab.question("web@x").await);
    lab.resolver.doubt();
    question.send(port(1)).unwrap();
    assert_eq!(waiting.await, known(1));
    assert_eq!(lab.asks("web@x", port(2)).await, known(2), "it was asked before the doubt");
    assert_eq!(lab.now("web@x"), known(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_flushed_is_asked_again_also_of_a_service_that_is_away() {
    let mut lab = Lab::new();
    lab.asks("db@x", port(1)).await.unwrap();
    lab.asks("web@x", port(2)).await.unwrap();
    let (waiting, question) = (lab.later("new@x"), lab.question("new@x").await);
    assert_eq!(lab.resolver.flush(Some(&node("db@x"))), 1);
    assert_eq!(lab.resolver.flush(Some(&node("nosuch@x"))), 0);
    assert_eq!(lab.resolver.flush(None), 1);
    question.send(port(3)).unwrap();
    assert_eq!(waiting.await, known(3));
    assert!(lab.resolver.page("", 9).is_empty(), "what was asked before is not kept");

    assert_eq!(lab.asks("db@x", away()).await, away().map(|answers| answers.list));
    assert!(lab.now("db@x").is_err());
    lab.resolver.flush(Some(&node("db@x")));
    assert_eq!(lab.asks("db@x", port(4)).await, known(4));
}

#[tokio::test(start_paused = true)]
async fn to_look_asks_nothing() {
    let mut lab = Lab::new();
    let nothing = Peek { known: None, is_asking: false, away: None };
    assert_eq!(lab.resolver.peek(&node("db@x")), nothing);
    let waiting = lab.later("db@x");
    assert_eq!(lab.resolver.peek(&node("db@x")), Peek { is_asking: true, ..nothing.clone() });
    lab.question("db@x").await.send(port(1)).unwrap();
    waiting.await.unwrap();
    lab.asks("web@x", port(2)).await.unwrap();
    advance(secs(31)).await;
    lab.asks("db@x", away()).await.unwrap();
    let answer =
        |name, number, age| KnownAnswer { node: node(name), outcome: known(number), age: secs(age), left: secs(0) };
    let gone = Some(Away { lasts: secs(0), error: "connection refused".to_owned() });
    let peek = Peek { known: Some(answer("db@x", 1, 31)), is_asking: false, away: gone };
    assert_eq!(lab.resolver.peek(&node("db@x")), peek);
    assert_eq!(lab.resolver.page("", 9), [answer("db@x", 1, 31), answer("web@x", 2, 31)]);
    assert_eq!(lab.resolver.page("db@x", 1), [answer("web@x", 2, 31)]);
    assert_eq!(lab.resolver.page("", 1), [answer("db@x", 1, 31)]);
    assert_eq!(lab.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_broken_off_leaves_nobody_waiting() {
    let mut lab = Lab::new();
    let broken_off = NoAnswer::Away("the question was broken off".to_owned());
    assert_eq!(lab.later("panics").await, Err(broken_off));
    assert_eq!((lab.resolver.status().asking, lab.resolver.status().state), (0, State::Idle));
    assert_eq!(lab.asks("db", port(1)).await, known(1));
}

#[test]
fn after_the_end_of_the_runtime_nobody_waits() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let lab = runtime.block_on(async { Lab::new() });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(lab.later("db@x")).is_err());
}
