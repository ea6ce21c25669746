//! A service and what is known of its nodes: one question in flight for each name, old answers while it is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::cache::{Cache, Held, Old};
use super::outage::{Away, Outages};
use super::question::{Question, Waiting};
use super::status::{Counts, Status};
use super::{Answer, Answers, Ask, Home, KnownAnswer, NoAnswer, Outcome, Questions, Updates};
use crate::log::Sparse;
use crate::node::NodeName;
use crate::route::TlsPolicy;

/// A `[resolver.NAME]`: it is asked for nodes by requests, and asks its service as seldom as it can.
///
/// Questions are tasks of their own. Many requests for one node wait for one question, and none of them ends it by
/// leaving. There are at most 256 at once.
#[derive(Debug)]
pub struct Resolver {
    name: Arc<str>,
    kind: &'static str,
    ask: Arc<dyn Ask>,
    limits: Questions,
    answer_tls: Arc<TlsPolicy>,
    home: Home,
    /// One for each question.
    slots: Arc<Semaphore>,
    inside: Mutex<Inside>,
}

/// What a request gets that asks for a node.
#[derive(Debug)]
pub enum Asked {
    /// It is known, or cannot be asked now.
    Now(Outcome),
    /// A question is under way.
    Later(Waiting),
}

/// What is known of a node, without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// What was said of it, if that is still of use.
    pub known: Option<KnownAnswer>,
    /// Whether a question is under way.
    pub is_asking: bool,
    /// That the service which would be asked is away.
    pub away: Option<Away>,
}

#[derive(Debug)]
pub(super) struct Inside {
    pub(super) cache: Cache,
    pub(super) outages: Outages,
    /// The questions under way whose outcome is wanted. Each is said here, once or twice: an old answer when it takes
    /// long, and what comes of it.
    asking: HashMap<NodeName, watch::Sender<Option<Outcome>>>,
    /// How often changes may have been missed.
    doubts: u64,
    pub(super) counts: Counts,
    /// What the log heard of answers that are of no use.
    pub(super) told: Sparse,
}

/// What a request for a node comes to.
enum Look {
    /// This.
    Now(Outcome),
    /// This, and a question in the background.
    Refresh(Arc<[Answer]>),
    /// The outcome of a question; this if there can be none.
    Ask(Outcome),
}

impl Resolver {
    /// The most questions at once: what is asked for more is refused, and a service that hangs does not fill the memory.
    const QUESTIONS: usize = 256;

    /// One that knows nothing yet; nothing is asked before a request wants it. `kind` is the `type` of the service, and
    /// `answer_tls` how TLS is spoken to a node whose answer says that it speaks TLS.
    pub fn new(
        name: Arc<str>,
        kind: &'static str,
        ask: Arc<dyn Ask>,
        limits: Questions,
        answer_tls: Arc<TlsPolicy>,
        home: Home,
    ) -> Arc<Self> {
        let (slots, inside) = (Arc::new(Semaphore::new(Self::QUESTIONS)), Mutex::new(Inside::new(limits.clone())));
        let resolver = Arc::new(Self { name, kind, ask, limits, answer_tls, home, slots, inside });
        let updates: Weak<Self> = Arc::downgrade(&resolver);
        resolver.ask.tell(updates);
        resolver
    }

    /// How TLS is spoken to a node whose answer says that it speaks TLS.
    pub fn answer_tls(&self) -> &Arc<TlsPolicy> {
        &self.answer_tls
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What kind of service it asks, as `type` in the configuration.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Asks for a node. This blocks nothing and needs no runtime; to wait for the outcome is up to who asks.
    pub fn ask(self: &Arc<Self>, node: &NodeName) -> Asked {
        let (asked, question) = self.look(node);
        // Not under the lock: what cannot be started ends here, and says so.
        if let Some(question) = question {
            self.home.spawn(question.run());
        }
        asked
    }

    /// What is known of a node. Nothing is asked, and nothing of it counts as a use.
    pub fn peek(&self, node: &NodeName) -> Peek {
        let (inside, now) = (self.lock(), Instant::now());
        Peek {
            known: inside.cache.peek(node, now),
            is_asking: inside.asking.contains_key(node),
            away: inside.outages.away(self.ask.service(node), now),
        }
    }

    /// How it fares.
    pub fn status(&self) -> Status {
        let (inside, now) = (self.lock(), Instant::now());
        let counts = &inside.counts;
        let ago = |(error, at): &(NoAnswer, Instant)| (error.clone(), now.saturating_duration_since(*at));
        Status {
            kind: self.kind,
            state: counts.state(),
            lasts: counts.lasts(now),
            asked: counts.asked,
            answered: counts.answered,
            unknown: counts.unknown,
            failed: counts.failed,
            asking: Self::QUESTIONS - self.slots.available_permits(),
            last_error: counts.last_error.as_ref().map(ago),
            names: inside.cache.names(now),
            oldest_served: inside.outages.oldest_served(),
        }
    }

    /// Forgets what is known of a node, or of all; returns how many that were. The next request asks anew, also a
    /// service that is away.
    pub fn flush(&self, node: Option<&NodeName>) -> usize {
        let (mut inside, now) = (self.lock(), Instant::now());
        match node {
            Some(node) => {
                inside.asking.remove(node);
                if let Some(outage) = inside.outages.of(self.ask.service(node)) {
                    outage.end_pause(now);
                }
            }
            None => {
                inside.asking.clear();
                inside.outages.end_pauses(now);
            }
        }
        inside.cache.forget(node)
    }

    /// What is known of the nodes behind `after`, by name, `limit` at most.
    pub fn page(&self, after: &str, limit: usize) -> Vec<KnownAnswer> {
        self.lock().cache.page(after, limit, Instant::now())
    }

    fn look(self: &Arc<Self>, node: &NodeName) -> (Asked, Option<Question>) {
        let (mut inside, now) = (self.lock(), Instant::now());
        match inside.look(node, self.ask.service(node), now) {
            Look::Now(outcome) => (Asked::Now(outcome), None),
            Look::Refresh(old) => (Asked::Now(Ok(old)), self.join(&mut inside, node, now).and_then(|(_, begun)| begun)),
            Look::Ask(otherwise) => match self.join(&mut inside, node, now) {
                Some((said, begun)) => (Asked::Later(Waiting::for_one(said)), begun),
                None => (Asked::Now(otherwise), None),
            },
        }
    }

    /// The question for this node, and itself if it is to be started; `None` if there are too many.
    fn join(
        self: &Arc<Self>,
        inside: &mut Inside,
        node: &NodeName,
        now: Instant,
    ) -> Option<(watch::Receiver<Option<Outcome>>, Option<Question>)> {
        if let Some(said) = inside.asking.get(node) {
            return Some((said.subscribe(), None));
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let (said, waiting) = watch::channel(None);
        inside.asking.insert(node.clone(), said.clone());
        inside.counts.asked += 1;
        if let Some(outage) = inside.outages.of(self.ask.service(node)) {
            outage.tried(now, self.limits.timeout);
        }
        let (resolver, node) = (Arc::clone(self), node.clone());
        let doubts = inside.doubts;
        Some((waiting, Some(Question { resolver, node, begun: now, doubts, said, outcome: None, _slot: slot })))
    }

    pub(super) fn service(&self) -> &dyn Ask {
        &*self.ask
    }

    pub(super) fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// A question takes long: who waits gets the old answer, if there is one.
    pub(super) fn late(&self, question: &Question) {
        let inside = self.lock();
        if let Some(old) = inside.cache.old(&question.node, Instant::now()) {
            question.say(Ok(old.answers));
        }
    }

    /// A question has ended.
    pub(super) fn ended(&self, question: &Question, outcome: Option<Result<Answers, NoAnswer>>) {
        let (mut inside, now) = (self.lock(), Instant::now());
        let node = &question.node;
        // Not so if it was flushed, or overtaken by what the service said of its own accord.
        let is_wanted = inside.asking.get(node).is_some_and(|said| said.same_channel(&question.said));
        if is_wanted {
            inside.asking.remove(node);
        }
        let of_the_node = outcome.as_ref().and_then(|outcome| {
            inside.counts.ended(outcome, now);
            self.hear(&mut inside, node, outcome, question.begun, now)
        });
        let outcome = match outcome {
            Some(outcome) if is_wanted => {
                let kept = match of_the_node {
                    Some(no) => inside.cache.keep(node, Err(no), now).or(outcome.map(|answers| answers.list)),
                    None => inside.cache.keep(node, outcome, now),
                };
                if question.doubts != inside.doubts {
                    // It may have been answered before the change that was missed.
                    inside.cache.age(node, now);
                }
                kept
            }
            Some(outcome) => outcome.map(|answers| answers.list),
            None => {
                let old = inside.cache.old(node, now).map(|old| old.answers);
                old.ok_or_else(|| NoAnswer::Away("the question was broken off".to_owned()))
            }
        };
        if is_wanted || question.said.borrow().is_none() {
            question.say(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing that holds the lock can panic half-way through a change.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Updates for Resolver {
    fn put(&self, node: &NodeName, outcome: Result<Answers, NoAnswer>, version: u64) {
        let (mut inside, now) = (self.lock(), Instant::now());
        self.hear(&mut inside, node, &outcome, now, now);
        let is_wanted = inside.asking.contains_key(node);
        let Some(outcome) = inside.cache.put(node, outcome, version, is_wanted, now) else { return };
        if let Some(said) = inside.asking.remove(node) {
            said.send_replace(Some(outcome));
        }
    }

    fn doubt(&self) {
        let (mut inside, now) = (self.lock(), Instant::now());
        inside.cache.doubt(now);
        inside.doubts += 1;
    }
}

impl Inside {
    fn new(limits: Questions) -> Self {
        let now = Instant::now();
        Self {
            cache: Cache::new(limits),
            outages: Outages::default(),
            asking: HashMap::new(),
            doubts: 0,
            counts: Counts::new(now),
            told: Sparse::default(),
        }
    }

    fn look(&mut self, node: &NodeName, service: &str, now: Instant) -> Look {
        match (self.cache.get(node, now), self.outages.of(service)) {
            (Held::Fresh(outcome), _) => Look::Now(outcome),
            (Held::Old(Old { answers, is_due: false, .. }), _) => Look::Now(Ok(answers)),
            (Held::Old(old), None) => Look::Ask(Ok(old.answers)),
            (Held::Old(old), Some(outage)) => {
                outage.serves(old.age);
                if outage.is_due(node, now) { Look::Refresh(old.answers) } else { Look::Now(Ok(old.answers)) }
            }
            (Held::Nothing, Some(outage)) if !outage.is_due(node, now) && !self.asking.contains_key(node) => {
                Look::Now(Err(outage.away(now).into()))
            }
            (Held::Nothing, _) => Look::Ask(Err(NoAnswer::Busy)),
        }
    }
}
