//! How a resolver fares.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answers, NoAnswer};

/// How a resolver fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What kind of service it asks, as `type` in the configuration.
    pub kind: &'static str,
    /// What the service did last.
    pub state: State,
    /// For how long it has been so; `None` if it was never asked.
    pub lasts: Option<Duration>,
    /// How many questions were begun.
    pub asked: u64,
    /// Of those, how many were answered,
    pub answered: u64,
    /// how many came to a "no such node",
    pub unknown: u64,
    /// and how many failed.
    pub failed: u64,
    /// How many are under way.
    pub asking: usize,
    /// The last failure, and how long ago it was.
    pub last_error: Option<(NoAnswer, Duration)>,
    /// Of how many nodes something is known.
    pub names: usize,
    /// The age of the oldest answer that was served since the service went away; `None`: none was, or it is there.
    pub oldest_served: Option<Duration>,
}

/// What a service did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has said nothing yet.
    Idle,
    /// It said something.
    Up,
    /// It did not answer.
    Away,
}

/// What is counted for [`Status`].
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) unknown: u64,
    pub(super) failed: u64,
    pub(super) last_error: Option<(NoAnswer, Instant)>,
    state: State,
    since: Instant,
}

impl Counts {
    pub(super) fn new(now: Instant) -> Self {
        Self { asked: 0, answered: 0, unknown: 0, failed: 0, last_error: None, state: State::Idle, since: now }
    }

    /// A question has ended.
    pub(super) fn ended(&mut self, outcome: &Result<Answers, NoAnswer>, now: Instant) {
        match outcome {
            Ok(_) => self.answered += 1,
            Err(no) if no.is_certain() => self.unknown += 1,
            Err(no) => {
                self.failed += 1;
                self.last_error = Some((no.clone(), now));
            }
        }
    }

    /// The service has shown how it is.
    pub(super) fn is(&mut self, state: State, now: Instant) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// For how long it has been so; `None` if it was never asked.
    pub(super) fn lasts(&self, now: Instant) -> Option<Duration> {
        (self.state != State::Idle).then(|| now.saturating_duration_since(self.since))
    }
}
