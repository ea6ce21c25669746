//! What a race takes its candidates from.

use std::task::{Context, Poll};

use super::Attempt;
use crate::plan::{Candidate, Next, Plan};

/// Candidates in the order in which they are to be tried.
pub(super) trait Candidates {
    /// The next one, or the failure to find one; `None` at the end. Pending while somebody is asked for it.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>>;

    /// What is being asked when the time is over, as a failure.
    fn give_up(&mut self) -> Option<Attempt>;
}

impl Candidates for Plan {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        Self::poll_next(self, cx)
    }

    fn give_up(&mut self) -> Option<Attempt> {
        Self::give_up(self)
    }
}

/// Those that are known from the beginning.
impl<I: Iterator<Item = Candidate>> Candidates for I {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Next>> {
        Poll::Ready(self.next().map(Next::Candidate))
    }

    fn give_up(&mut self) -> Option<Attempt> {
        None
    }
}
