//! A snapshot of the table and a node name make candidates, lazily and in the order in which they are tried.

mod candidate;
mod course;
mod question;
mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use candidate::Candidate;
pub use course::Course;
pub use snapshot::Snapshot;

use crate::config::DialConfig;
use crate::dial::{Attempt, Ends, Turn, Upstreams, header};
use crate::node::NodeName;
use crate::resolve::{Discovery, NoAnswer, Override, Target};
use crate::route::{Rank, Reach, Route, Row, Timeout, TlsPolicy, Upstream};
use question::Question;

/// The candidates for one node: static routes in the order of the table, then discovery. It holds the snapshot, and is
/// dropped when the dial ends.
///
/// Upstreams that are ejected come behind the others of their own step, in their order. It searches no further than it
/// is asked: with a healthy upstream before them, the other routes that match are not looked at, and no resolver is
/// asked before its turn.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    upstreams: Arc<Upstreams>,
    dial: DialConfig,
    node: NodeName,
    /// Where the client comes from, where that can be told.
    client: Option<Ends>,
    step: Step,
    /// What is in hand, with what it has not led to yet.
    current: Option<Current>,
    /// The resolver that is being asked.
    question: Option<Box<Question>>,
    /// Behind which of the table's entries the search goes on.
    after: Option<Rank>,
    /// The ejected ones of this step that were met, in their order.
    behind: VecDeque<Candidate>,
    found: Found,
}

/// How far a plan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Static routes.
    Table,
    /// What the default resolver answers.
    Discovery,
    Over,
}

/// A course in hand.
#[derive(Debug)]
struct Current {
    course: Course,
    /// The request's turn at it.
    turn: Option<Arc<Turn>>,
    targets: Targets,
}

/// Where a course leads and has not led to yet.
#[derive(Debug)]
enum Targets {
    /// The route's own upstreams, from this one on.
    Own(usize),
    /// What was answered.
    Answered(std::vec::IntoIter<Target>),
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// A route matches, or discovery has said anything but no.
    anything: bool,
    /// A route matches that ends the plan after the static steps.
    pub(crate) is_final: bool,
    /// A route matches.
    is_static: bool,
    /// How TLS is spoken by the heaviest route that matches and has it, one that verifies before one that does not.
    pub(crate) tls: Option<Arc<TlsPolicy>>,
    /// The resolver that knows no such node, if discovery was asked and says so.
    unknown_to: Option<Arc<str>>,
}

/// What comes next of a plan.
#[derive(Debug)]
pub enum Next {
    /// Something to be dialed.
    Candidate(Candidate),
    /// A resolver whose turn it was had no answer.
    Failed(Attempt),
}

impl Plan {
    /// A plan that has not searched yet.
    pub fn new(
        snapshot: Arc<Snapshot>,
        upstreams: Arc<Upstreams>,
        dial: DialConfig,
        node: NodeName,
        client: Option<Ends>,
    ) -> Self {
        Self {
            snapshot,
            upstreams,
            dial,
            node,
            client,
            step: Step::Table,
            current: None,
            question: None,
            after: None,
            behind: VecDeque::new(),
            found: Found::default(),
        }
    }

    /// The route that is tried first as long as its upstreams are healthy; this takes no candidate.
    pub fn heaviest(&self) -> Option<&Arc<Row<Route>>> {
        self.snapshot.table.find(&self.node, None)
    }

    /// Whether nothing has matched so far; after the last candidate: whether nothing is known of the node anywhere.
    pub fn is_unmatched(&self) -> bool {
        !self.found.anything
    }

    /// The resolver that knows no such node, if discovery was asked and says so.
    pub fn unknown_to(&self) -> Option<&Arc<str>> {
        self.found.unknown_to.as_ref()
    }

    /// What is known of the upstreams.
    pub(crate) fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// The next candidate, or the failure to find one; `None` at the end. Pending while a resolver is being asked.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        loop {
            if let Some(failed) = ready!(self.poll_question(cx)) {
                return Poll::Ready(Some(Next::Failed(failed)));
            }
            while let Some(candidate) = self.next_of_course() {
                if !candidate.is_ejected {
                    return Poll::Ready(Some(Next::Candidate(candidate)));
                }
                candidate.health.wanted(&candidate);
                self.behind.push_back(candidate);
            }
            if self.step == Step::Table && self.enter_next_route() {
                continue;
            }
            if let Some(candidate) = self.behind.pop_front() {
                return Poll::Ready(Some(Next::Candidate(candidate)));
            }
            if !self.enter_next_step() {
                return Poll::Ready(None);
            }
        }
    }

    /// The question that is under way, as it fails when the request's time is over.
    pub fn give_up(&mut self) -> Option<Attempt> {
        self.question.take().map(|question| question.failed(NoAnswer::TimedOut))
    }

    /// Takes up the answers of the question that is under way, if there is one; its failure, if it has failed.
    fn poll_question(&mut self, cx: &mut Context<'_>) -> Poll<Option<Attempt>> {
        let Some(question) = &mut self.question else { return Poll::Ready(None) };
        let outcome = ready!(question.poll(cx));
        let Some(question) = self.question.take() else { return Poll::Ready(None) };
        let said = question.resolver.answer_tls();
        let over = match &question.course {
            Course::Route(route) => route.reach.asked().map(|asked| Override::of(asked, route.tls.as_ref())),
            Course::Discovery(_) => None,
        };
        let over = over.unwrap_or_else(|| Override::of_discovery(self.found.tls.as_ref()));
        match outcome.and_then(|answers| over.apply(&answers, said)) {
            Ok(targets) => {
                self.found.anything = true;
                self.enter(question.course, Targets::Answered(targets.into_iter()));
                Poll::Ready(None)
            }
            Err(NoAnswer::Unknown { .. }) if self.is_unmatched() => {
                self.found.unknown_to = Some(Arc::clone(question.resolver.name()));
                Poll::Ready(None)
            }
            Err(error) => {
                self.found.anything = true;
                Poll::Ready(Some(question.failed(error)))
            }
        }
    }

    /// The next that the course in hand leads to, ejected or not.
    fn next_of_course(&mut self) -> Option<Candidate> {
        let Current { course, turn, targets } = self.current.as_mut()?;
        let (course, turn) = (course.clone(), turn.clone());
        match targets {
            Targets::Own(next) => {
                let Course::Route(route) = &course else { return None };
                let upstream = route.reach.upstreams().get(*next)?;
                *next += 1;
                Some(self.candidate(&course, turn, upstream, route.tls.as_ref(), None))
            }
            Targets::Answered(targets) => {
                let Target { upstream, tls, certified } = targets.next()?;
                Some(self.candidate(&course, turn, &upstream, tls.as_ref(), certified))
            }
        }
    }

    /// Takes up the next route that matches; false if there is none.
    fn enter_next_route(&mut self) -> bool {
        let Some(route) = self.snapshot.table.find(&self.node, self.after).cloned() else { return false };
        self.after = Some(route.rank());
        self.found.note(&route);
        match &route.reach {
            Reach::Static(_) => self.enter(Course::Route(route), Targets::Own(0)),
            Reach::Asked(asked) => match self.snapshot.resolvers.get(&asked.resolver).cloned() {
                Some(resolver) => self.ask(Course::Route(route), &resolver),
                // A table is not in force without the resolvers that it names.
                None => self.current = None,
            },
        }
        true
    }

    /// Takes up discovery; false if the plan is over.
    fn enter_next_step(&mut self) -> bool {
        let discovery = self
            .snapshot
            .discovery
            .clone()
            .filter(|discovery| self.step == Step::Table && self.found.lets_discover(discovery));
        let Some(discovery) = discovery else {
            self.step = Step::Over;
            return false;
        };
        self.step = Step::Discovery;
        let resolver = Arc::clone(&discovery.resolver);
        self.ask(Course::Discovery(discovery), &resolver);
        true
    }

    fn ask(&mut self, course: Course, resolver: &Arc<crate::resolve::Resolver>) {
        self.current = None;
        let patience = self.race_after(&course);
        self.question = Some(Box::new(Question::ask(course, resolver, &self.node, patience)));
    }

    fn enter(&mut self, course: Course, targets: Targets) {
        let turn = match &course {
            Course::Route(route) => Turn::at(route, &self.snapshot.slots),
            Course::Discovery(_) => None,
        };
        self.current = Some(Current { course, turn, targets });
    }

    fn candidate(
        &self,
        course: &Course,
        turn: Option<Arc<Turn>>,
        upstream: &Upstream,
        tls: Option<&Arc<TlsPolicy>>,
        certified: Option<Arc<str>>,
    ) -> Candidate {
        let settings = course.settings();
        let health = self.upstreams.meet(upstream, tls);
        let preface = || header(self.client, &self.node).into();
        Candidate {
            course: course.clone(),
            trust: tls.and_then(|policy| self.snapshot.trusts.get(policy)).cloned(),
            certified,
            preface: settings.proxy_protocol.then(preface),
            turn,
            connect_timeout: settings.connect_timeout.unwrap_or(self.dial.connect_timeout),
            race_after: self.race_after(course),
            is_ejected: health.is_ejected(),
            health,
        }
    }

    fn race_after(&self, course: &Course) -> Option<Duration> {
        course.settings().race_after.map_or(self.dial.race_after, Timeout::duration)
    }
}

impl Found {
    /// What a route that matches says of the steps behind it.
    pub(crate) fn note(&mut self, route: &Route) {
        (self.anything, self.is_static) = (true, true);
        self.is_final |= route.is_final;
        if let Some(policy) = &route.tls
            && self.tls.as_ref().is_none_or(|tls| tls.insecure_skip_verify && !policy.insecure_skip_verify)
        {
            self.tls = Some(Arc::clone(policy));
        }
    }

    /// Whether discovery has its turn behind the routes that match.
    pub(crate) fn lets_discover(&self, discovery: &Discovery) -> bool {
        !self.is_final && (!self.is_static || discovery.after_static_failure)
    }
}

#[cfg(test)]
impl Plan {
    /// What is dialed when everything fails, where no resolver has to be waited for.
    pub(crate) fn candidates(mut self) -> impl Iterator<Item = Candidate> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        std::iter::from_fn(move || {
            loop {
                match self.poll_next(&mut cx) {
                    Poll::Ready(Some(Next::Candidate(candidate))) => return Some(candidate),
                    Poll::Ready(Some(Next::Failed(_))) => {}
                    Poll::Ready(None) | Poll::Pending => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
