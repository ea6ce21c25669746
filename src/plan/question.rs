//! A question that a plan waits for.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::deadline::Deadline;
use crate::dial::{Attempt, DialError, Stage};
use crate::node::NodeName;
use crate::plan::Course;
use crate::resolve::{Asked, NoAnswer, Outcome, Resolver, Waiting};

/// What a resolver is being asked for, and for whom.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) course: Course,
    pub(super) resolver: Arc<Resolver>,
    pub(super) began: Instant,
    asked: State,
}

#[derive(Debug)]
enum State {
    Known(Option<Outcome>),
    /// In a box: most questions are answered from what is known.
    Waiting(Box<(Waiting, Option<Pin<Box<Sleep>>>)>),
}

impl Question {
    /// Asks. Like an upstream that does not answer, a resolver is waited for no longer than the course's `race_after`.
    pub(super) fn ask(course: Course, resolver: &Arc<Resolver>, node: &NodeName, patience: Option<Duration>) -> Self {
        let asked = match resolver.ask(node) {
            Asked::Now(outcome) => State::Known(Some(outcome)),
            Asked::Later(waiting) => {
                let timer = patience.map(|time| Box::pin(sleep_until(Deadline::after(time).instant())));
                State::Waiting(Box::new((waiting, timer)))
            }
        };
        Self { course, resolver: Arc::clone(resolver), began: Instant::now(), asked }
    }

    /// Waits for the answers.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.asked {
            State::Known(outcome) => Poll::Ready(outcome.take().unwrap_or(Err(NoAnswer::TimedOut))),
            State::Waiting(waiting) => {
                let (waiting, timer) = &mut **waiting;
                if let Poll::Ready(outcome) = pin!(waiting).poll(cx) {
                    return Poll::Ready(outcome);
                }
                match timer {
                    Some(timer) => timer.as_mut().poll(cx).map(|()| Err(NoAnswer::TimedOut)),
                    None => Poll::Pending,
                }
            }
        }
    }

    /// The failure that it has come to.
    pub(super) fn failed(&self, error: NoAnswer) -> Attempt {
        Attempt {
            course: self.course.clone(),
            address: self.resolver.name().to_string(),
            stage: Stage::Resolve,
            error: DialError::Unresolved(error),
            took: self.began.elapsed(),
        }
    }
}
