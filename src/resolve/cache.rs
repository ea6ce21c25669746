//! The answers that are kept: for how long each holds, and how old it may serve. No clock, no task and no lock: every
//! moment is an argument.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tokio::time::Instant;

use super::{Answer, Answers, NoAnswer};
use crate::node::NodeName;

/// What came of a question: the answers in the order in which they are to be tried, never none; or why there are none.
pub type Outcome = Result<Arc<[Answer]>, NoAnswer>;

/// The most answers of a question that count.
pub(super) const MOST_ANSWERS: usize = 256;

/// How a resolver asks, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// How long one question may take; default 2 s.
    pub timeout: Duration,
    /// For how long an answer holds where the service does not say; default 30 s. What the service says holds up to a
    /// day.
    pub ttl: Duration,
    /// For how long at most it holds that there is no such node; default 5 s. What is not understood is not asked again
    /// for so long.
    pub negative_ttl: Duration,
    /// For how long beyond that an old answer serves while there is no new one (RFC 8767); `None`: not at all. Default
    /// 1 h.
    pub stale: Option<Duration>,
    /// The most names that are kept, at least 1; default 10,000. The one that was not used for longest gives way, or
    /// one close to it.
    pub names: usize,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            stale: Some(Duration::from_secs(60 * 60)),
            names: 10_000,
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAnswer {
    /// The node.
    pub node: NodeName,
    /// What was said of it.
    pub outcome: Outcome,
    /// How long ago that was.
    pub age: Duration,
    /// For how long it holds; zero: it is old, and serves only while there is no new answer.
    pub left: Duration,
}

/// What was said of each node, as far as it is of use.
#[derive(Debug)]
pub(super) struct Cache {
    limits: Questions,
    known: IndexMap<NodeName, Known, foldhash::fast::RandomState>,
    /// Counts the uses of all of them.
    uses: u64,
}

/// What there is for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// It holds: nothing is asked.
    Fresh(Outcome),
    /// It serves while there is no new one.
    Old(Old),
    /// Nothing that is of use.
    Nothing,
}

/// An old answer that may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Old {
    pub(super) answers: Arc<[Answer]>,
    pub(super) age: Duration,
    /// Whether a new one may be asked for already.
    pub(super) is_due: bool,
}

#[derive(Debug)]
struct Known {
    outcome: Outcome,
    said: Instant,
    fresh_until: Instant,
    /// Not before that, though the answer is old: the last one was not understood.
    ask_again: Instant,
    /// Of the last change that was pushed; 0: of none.
    version: u64,
    /// The number of its last use.
    used: u64,
}

impl Cache {
    /// The longest that an answer holds, whatever the service says.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    /// Among how many the one to give way is chosen.
    const SAMPLE: usize = 8;

    pub(super) fn new(limits: Questions) -> Self {
        Self { limits, known: IndexMap::default(), uses: 0 }
    }

    /// What there is for a request that asks for a node.
    pub(super) fn get(&mut self, node: &NodeName, now: Instant) -> Held {
        let Some(known) = self.known.get_mut(node) else { return Held::Nothing };
        self.uses += 1;
        known.used = self.uses;
        if now < known.fresh_until {
            return Held::Fresh(known.outcome.clone());
        }
        known.old(now, self.limits.stale).map_or(Held::Nothing, Held::Old)
    }

    /// The old answer that may serve for want of a new one.
    pub(super) fn old(&self, node: &NodeName, now: Instant) -> Option<Old> {
        self.known.get(node)?.old(now, self.limits.stale)
    }

    /// Keeps what a question came to. It returns what is known with that: where the service failed, this may be an old
    /// answer.
    pub(super) fn keep(&mut self, node: &NodeName, outcome: Result<Answers, NoAnswer>, now: Instant) -> Outcome {
        let (outcome, ttl) = match outcome {
            Ok(answers) => (Ok(within_bounds(answers.list)), answers.ttl.unwrap_or(self.limits.ttl).min(Self::LONGEST)),
            Err(no) if no.is_certain() => {
                let ttl = self.negative_ttl(&no);
                (Err(no), ttl)
            }
            Err(no) => return self.keep_failure(node, no, now),
        };
        self.insert(node, outcome.clone(), ttl, now);
        outcome
    }

    /// Keeps what the service says of its own accord, if anybody wants to know that (a question is under way) or has
    /// asked before, and if nothing newer is known. It returns what is known with that.
    pub(super) fn put(
        &mut self,
        node: &NodeName,
        outcome: Result<Answers, NoAnswer>,
        version: u64,
        is_wanted: bool,
        now: Instant,
    ) -> Option<Outcome> {
        let last = self.known.get(node).map(|known| known.version);
        if last.is_some_and(|last| version < last) || (last.is_none() && !is_wanted) {
            return None;
        }
        let outcome = self.keep(node, outcome, now);
        if let Some(known) = self.known.get_mut(node) {
            known.version = version;
        }
        Some(outcome)
    }

    /// From now on all answers are old, and versions begin anew.
    pub(super) fn doubt(&mut self, now: Instant) {
        for known in self.known.values_mut() {
            known.fresh_until = known.fresh_until.min(now);
            known.version = 0;
        }
    }

    /// From now on the answer for a node is old.
    pub(super) fn age(&mut self, node: &NodeName, now: Instant) {
        if let Some(known) = self.known.get_mut(node) {
            known.fresh_until = known.fresh_until.min(now);
        }
    }

    /// Forgets a node, or all; returns how many that were.
    pub(super) fn forget(&mut self, node: Option<&NodeName>) -> usize {
        let before = self.known.len();
        match node {
            Some(node) => drop(self.known.swap_remove(node)),
            None => self.known.clear(),
        }
        before - self.known.len()
    }

    /// What is known of a node; nothing of that counts as a use.
    pub(super) fn peek(&self, node: &NodeName, now: Instant) -> Option<KnownAnswer> {
        let (node, known) = self.known.get_key_value(node)?;
        known.is_usable(now, self.limits.stale).then(|| known.view(node, now))
    }

    /// What is known of the nodes behind `after`, by name, `limit` at most.
    pub(super) fn page(&self, after: &str, limit: usize, now: Instant) -> Vec<KnownAnswer> {
        let mut page: Vec<_> = self.usable(now).filter(|(node, _)| node.as_str() > after).collect();
        if limit < page.len() {
            page.select_nth_unstable_by_key(limit, |(node, _)| *node);
            page.truncate(limit);
        }
        page.sort_unstable_by_key(|(node, _)| *node);
        page.into_iter().map(|(node, known)| known.view(node, now)).collect()
    }

    /// How many nodes something is known of.
    pub(super) fn names(&self, now: Instant) -> usize {
        self.usable(now).count()
    }

    fn usable(&self, now: Instant) -> impl Iterator<Item = (&NodeName, &Known)> {
        self.known.iter().filter(move |(_, known)| known.is_usable(now, self.limits.stale))
    }

    /// The service's own failure takes no answer away.
    fn keep_failure(&mut self, node: &NodeName, no: NoAnswer, now: Instant) -> Outcome {
        let is_of_the_node = no.is_of_the_node();
        if let Some(old) = self.old(node, now) {
            if let Some(known) = self.known.get_mut(node).filter(|_| is_of_the_node) {
                known.ask_again = now + self.limits.negative_ttl;
            }
            return Ok(old.answers);
        }
        if is_of_the_node {
            self.insert(node, Err(no.clone()), self.limits.negative_ttl, now);
        }
        Err(no)
    }

    fn negative_ttl(&self, no: &NoAnswer) -> Duration {
        match no {
            NoAnswer::Unknown { ttl: Some(ttl) } => self.limits.negative_ttl.min(*ttl),
            _ => self.limits.negative_ttl,
        }
    }

    fn insert(&mut self, node: &NodeName, outcome: Outcome, ttl: Duration, now: Instant) {
        let version = self.known.get(node).map(|known| known.version);
        if version.is_none() && self.known.len() >= self.limits.names.max(1) {
            self.make_room(now);
        }
        self.uses += 1;
        let (version, fresh_until) = (version.unwrap_or_default(), now + ttl);
        let known = Known { outcome, said: now, fresh_until, ask_again: now, version, used: self.uses };
        self.known.insert(node.clone(), known);
    }

    /// One of a few goes: one that is of no use, else the one that was not used for longest.
    fn make_room(&mut self, now: Instant) {
        let len = self.known.len();
        let standing = |index: &usize| {
            let (_, known) = self.known.get_index(*index)?;
            Some((known.is_usable(now, self.limits.stale), known.used))
        };
        let drawn = (0..len.min(Self::SAMPLE)).map(|n| if len <= Self::SAMPLE { n } else { draw(self.uses, n, len) });
        if let Some(index) = drawn.min_by_key(standing) {
            self.known.swap_remove_index(index);
        }
    }
}

impl Known {
    fn old(&self, now: Instant, stale: Option<Duration>) -> Option<Old> {
        let answers = self.outcome.as_ref().ok()?;
        let age = now.saturating_duration_since(self.said);
        let is_usable = now.saturating_duration_since(self.fresh_until) < stale?;
        is_usable.then(|| Old { answers: Arc::clone(answers), age, is_due: now >= self.ask_again })
    }

    fn is_usable(&self, now: Instant, stale: Option<Duration>) -> bool {
        now < self.fresh_until || self.old(now, stale).is_some()
    }

    fn view(&self, node: &NodeName, now: Instant) -> KnownAnswer {
        KnownAnswer {
            node: node.clone(),
            outcome: self.outcome.clone(),
            age: now.saturating_duration_since(self.said),
            left: self.fresh_until.saturating_duration_since(now),
        }
    }
}

/// A service may answer with as many as it likes, for each name that is kept; more than so many are never dialed.
fn within_bounds(list: Arc<[Answer]>) -> Arc<[Answer]> {
    match list.get(..MOST_ANSWERS) {
        Some(first) if first.len() < list.len() => first.into(),
        _ => list,
    }
}

/// Somewhere below `len`, elsewhere for each `n`: the numbers of uses times the golden ratio (Fibonacci hashing).
fn draw(uses: u64, n: usize, len: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

    let spread = uses.wrapping_mul(31).wrapping_add(n as u64).wrapping_mul(GOLDEN) >> 32;
    usize::try_from(spread).unwrap_or_default() % len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::Host;

    const LIMITS: Questions = Questions {
        timeout: Duration::from_secs(2),
        ttl: Duration::from_secs(30),
        negative_ttl: Duration::from_secs(5),
        stale: Some(Duration::from_secs(100)),
        // No more than are looked at for the one to give way: it is the one, then.
        names: 3,
    };

    fn node(number: u8) -> NodeName {
        NodeName::parse(&format!("{number}@x")).unwrap()
    }

    fn answers(port: u16, ttl: Option<u64>) -> Answers {
        let host = Host::Ip([10, 0, 0, 1].into());
        let answer = Answer { host, certified: None, port: Some(port), tls: None, handshake: None, proto: None };
        Answers { list: [answer].into(), ttl: ttl.map(Duration::from_secs) }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Wait(u64),
        Get(u8),
        Keep(u8, Result<Answers, NoAnswer>),
        Put(u8, Result<Answers, NoAnswer>, u64, bool),
        Doubt,
        Forget(Option<u8>),
    }

    /// What is known, the last used at the end, in seconds.
    #[derive(Debug, Default)]
    struct Model {
        known: Vec<(u8, Fact)>,
        now: u64,
    }

    #[derive(Debug, Clone)]
    struct Fact {
        outcome: Outcome,
        said: u64,
        until: u64,
        ask_again: u64,
        version: u64,
    }

    impl Model {
        fn get(&mut self, node: u8) -> Held {
            let Some(index) = self.known.iter().position(|(of, _)| *of == node) else { return Held::Nothing };
            let used = self.known.remove(index);
            self.known.push(used.clone());
            if self.now < used.1.until {
                Held::Fresh(used.1.outcome)
            } else {
                self.old(node).map_or(Held::Nothing, Held::Old)
            }
        }

        fn old(&self, node: u8) -> Option<Old> {
            let (_, fact) = self.known.iter().find(|(of, _)| *of == node)?;
            let age = Duration::from_secs(self.now - fact.said);
            let answers = fact.outcome.clone().ok().filter(|_| self.now < fact.until + 100)?;
            Some(Old { answers, age, is_due: self.now >= fact.ask_again })
        }

        fn keep(&mut self, node: u8, said: Result<Answers, NoAnswer>) -> Outcome {
            let old = self.old(node);
            let (outcome, ttl) = match (said, old) {
                (Ok(answers), _) => (Ok(answers.list), answers.ttl.map_or(30, |ttl| ttl.as_secs().min(86_400))),
                (Err(NoAnswer::Unknown { ttl }), _) => {
                    (Err(NoAnswer::Unknown { ttl }), ttl.map_or(5, |ttl| ttl.as_secs().min(5)))
                }
                (Err(NoAnswer::Garbled(_) | NoAnswer::Refused(_)), Some(old)) => {
                    let (_, fact) = self.known.iter_mut().find(|(of, _)| *of == node).unwrap();
                    fact.ask_again = self.now + 5;
                    return Ok(old.answers);
                }
                (Err(no @ (NoAnswer::Garbled(_) | NoAnswer::Refused(_))), None) => (Err(no), 5),
                (Err(no), old) => return old.map_or(Err(no), |old| Ok(old.answers)),
            };
            let before = self.known.iter().position(|(of, _)| *of == node).map(|index| self.known.remove(index));
            if before.is_none() && self.known.len() >= LIMITS.names {
                let useless = |(of, fact): &(u8, Fact)| self.now >= fact.until && self.old(*of).is_none();
                self.known.remove(self.known.iter().position(useless).unwrap_or(0));
            }
            let version = before.map_or(0, |(_, fact)| fact.version);
            let (said, ask_again) = (self.now, self.now);
            let fact = Fact { outcome: outcome.clone(), said, until: self.now + ttl, ask_again, version };
            self.known.push((node, fact));
            outcome
        }

        fn put(&mut self, node: u8, said: Result<Answers, NoAnswer>, version: u64, is_wanted: bool) -> Option<Outcome> {
            match self.known.iter().find(|(of, _)| *of == node) {
                Some((_, fact)) if version < fact.version => return None,
                None if !is_wanted => return None,
                _ => {}
            }
            let outcome = self.keep(node, said);
            if let Some((_, fact)) = self.known.iter_mut().find(|(of, _)| *of == node) {
                fact.version = version;
            }
            Some(outcome)
        }
    }

    fn any_said() -> impl Strategy<Value = Result<Answers, NoAnswer>> {
        let ttl = || prop_oneof![Just(None), (0..200_u64).prop_map(Some), Just(Some(10_000_000))];
        prop_oneof![
            3 => (any::<u16>(), ttl()).prop_map(|(port, ttl)| Ok(answers(port, ttl))),
            1 => ttl().prop_map(|ttl| Err(NoAnswer::Unknown { ttl: ttl.map(Duration::from_secs) })),
            1 => Just(Err(NoAnswer::Garbled("?".to_owned()))),
            1 => Just(Err(NoAnswer::Refused("?".to_owned()))),
            1 => Just(Err(NoAnswer::TimedOut)),
        ]
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..60_u64).prop_map(Act::Wait),
            (0..5_u8).prop_map(Act::Get),
            (0..5_u8, any_said()).prop_map(|(node, said)| Act::Keep(node, said)),
            (0..5_u8, any_said(), 0..5_u64, any::<bool>())
                .prop_map(|(node, said, version, is_wanted)| Act::Put(node, said, version, is_wanted)),
            Just(Act::Doubt),
            proptest::option::of(0..5_u8).prop_map(Act::Forget),
        ]
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_list_would_keep(acts in proptest::collection::vec(any_act(), 1..100)) {
            let (mut cache, mut model, begin) = (Cache::new(LIMITS), Model::default(), Instant::now());
            for act in acts {
                let now = begin + Duration::from_secs(model.now);
                match act {
                    Act::Wait(seconds) => model.now += seconds,
                    Act::Get(number) => prop_assert_eq!(cache.get(&node(number), now), model.get(number)),
                    Act::Keep(number, said) => {
                        prop_assert_eq!(cache.keep(&node(number), said.clone(), now), model.keep(number, said));
                    }
                    Act::Put(number, said, version, is_wanted) => {
                        let kept = cache.put(&node(number), said.clone(), version, is_wanted, now);
                        prop_assert_eq!(kept, model.put(number, said, version, is_wanted));
                    }
                    Act::Doubt => {
                        cache.doubt(now);
                        model.known.iter_mut().for_each(|(_, fact)| {
                            (fact.until, fact.version) = (fact.until.min(model.now), 0);
                        });
                    }
                    Act::Forget(number) => {
                        let before = model.known.len();
                        model.known.retain(|(of, _)| number.is_some_and(|number| number != *of));
                        prop_assert_eq!(cache.forget(number.map(node).as_ref()), before - model.known.len());
                    }
                }
                prop_assert!(cache.known.len() <= LIMITS.names);
                prop_assert_eq!(cache.known.len(), model.known.len());
            }
        }
    }

    #[test]
    fn of_many_names_those_that_are_used_stay() {
        let (mut cache, now) = (Cache::new(Questions { names: 1000, ..LIMITS }), Instant::now());
        let used: Vec<_> = (0..10).map(node).collect();
        used.iter().for_each(|node| drop(cache.keep(node, Ok(answers(1, None)), now)));
        for flood in 0..100_000 {
            let name = NodeName::parse(&format!("flood-{flood}")).unwrap();
            cache.keep(&name, Err(NoAnswer::Unknown { ttl: None }), now).unwrap_err();
            if flood % 100 == 0 {
                used.iter().for_each(|node| drop(cache.get(node, now)));
            }
        }
        assert_eq!(cache.known.len(), 1000);
        let left = used.iter().filter(|node| cache.known.contains_key(*node)).count();
        assert_eq!(left, used.len());
    }
}
