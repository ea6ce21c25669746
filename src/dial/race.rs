//! Candidates race: the next one starts when the one before has failed, or has given no answer for a while.

use std::future::{poll_fn, ready};
use std::mem::take;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::{Instant, Sleep, sleep_until};

use super::candidates::Candidates;
use super::network::{Dialing, Up};
use super::tries::Tries;
use super::unseen::{Unseen, run_on};
use super::{Attempt, DialError, Slot, Stage, Upstreams};
use crate::deadline::Deadline;
use crate::plan::{Candidate, Course, Next};

/// The race of one request.
///
/// - The next candidate starts when the last that was started has failed, or was without an answer for its `race_after`.
/// - While one that has answered finishes its handshake, nothing is started beside it.
/// - The first that is up wins, unless one that stands before it in the plan has answered: that one is waited for.
/// - Those before the winner that have not answered are overtaken, which is a failure.
/// - What is given up before its outcome is known runs on unseen, also when the request ends in the middle.
pub(super) struct Race<C> {
    candidates: C,
    upstreams: Arc<Upstreams>,
    deadline: Deadline,
    /// In the order of the plan.
    runners: SmallVec<[Runner; 1]>,
    /// When the next candidate may start, if nothing else happens; `None`: not beside the last that was started.
    next: Option<Instant>,
    /// The next candidate is being asked for.
    is_asking: bool,
    /// There is nothing more to start.
    exhausted: bool,
    failed: Vec<Attempt>,
}

/// A candidate that was started.
struct Runner {
    candidate: Candidate,
    tries: Arc<Tries>,
    began: Instant,
    /// When its own time is over.
    until: Instant,
    running: Running,
    /// Its place among the route's relays, if the route bounds them: the request's, and no part of what runs on unseen.
    slot: Option<Arc<Slot>>,
}

enum Running {
    Pending(Dialing),
    Up(Up),
}

/// The upstream that the request gets.
pub(super) struct Won {
    pub(super) up: Up,
    /// What led there.
    pub(super) course: Course,
    /// Its place among the route's relays, if the route bounds them.
    pub(super) slot: Option<Arc<Slot>>,
}

impl<C: Candidates> Race<C> {
    /// Nothing is started yet.
    pub(super) fn new(candidates: C, upstreams: Arc<Upstreams>, deadline: Deadline) -> Self {
        let (runners, next) = (SmallVec::new(), Some(Instant::now()));
        let (is_asking, exhausted, failed) = (false, false, Vec::new());
        Self { candidates, upstreams, deadline, runners, next, is_asking, exhausted, failed }
    }

    /// Runs it to its end; `None` when all have failed, or the deadline is over.
    pub(super) async fn run(&mut self) -> Option<Won> {
        let mut timer = pin!(sleep_until(self.deadline.instant()));
        poll_fn(|cx| self.poll(cx, timer.as_mut())).await
    }

    /// The attempts that failed.
    pub(super) fn take_failed(&mut self) -> Vec<Attempt> {
        take(&mut self.failed)
    }

    /// Those that were not started.
    pub(super) fn candidates(&self) -> &C {
        &self.candidates
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Option<Won>> {
        loop {
            self.poll_runners(cx);
            if let Some(winner) = self.winner() {
                return Poll::Ready(self.end(winner));
            }
            if (self.is_asking || !self.runners.is_empty()) && self.deadline.is_past() {
                return Poll::Ready(self.end_at_deadline());
            }
            if self.may_start() && self.start(cx).is_ready() {
                continue;
            }
            if self.runners.is_empty() && !self.is_asking {
                return Poll::Ready(None);
            }
            let due = self.due();
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Lets each that is under way do what it can, and takes out those that have failed.
    fn poll_runners(&mut self, cx: &mut Context<'_>) {
        let mut index = 0;
        while let Some(runner) = self.runners.get_mut(index) {
            if runner.poll(cx) {
                index += 1;
                continue;
            }
            let failed = self.runners.remove(index);
            failed.tries.failed(&mut self.failed);
            if index == self.runners.len() {
                // It was the last that was started.
                self.next = Some(Instant::now());
            }
        }
    }

    /// The first that is up, unless one before it is about to be.
    fn winner(&self) -> Option<usize> {
        let decided = |runner: &Runner| runner.is_up() || runner.tries.has_answered();
        self.runners.iter().position(decided).filter(|&index| self.runners.get(index).is_some_and(Runner::is_up))
    }

    fn may_start(&self) -> bool {
        self.next_start().is_some_and(|next| next <= Instant::now())
    }

    fn next_start(&self) -> Option<Instant> {
        let waits = self.exhausted || self.runners.iter().any(|runner| runner.is_up() || runner.tries.has_answered());
        let next = self.next.filter(|_| !waits)?;
        let is_given_up = self.runners.last().is_some_and(Runner::is_given_up_by_others);
        Some(if is_given_up { Instant::now() } else { next })
    }

    /// Starts the next candidate, if there is one. The plan is asked before the clock: whether anything matches does not
    /// depend on the time that is left.
    fn start(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = self.candidates.poll_next(cx);
        self.is_asking = next.is_pending();
        match std::task::ready!(next) {
            Some(Next::Failed(attempt)) => self.failed.push(attempt),
            Some(Next::Candidate(candidate)) if !self.deadline.is_past() => self.run_candidate(candidate),
            Some(Next::Candidate(_)) | None => self.exhausted = true,
        }
        Poll::Ready(())
    }

    fn run_candidate(&mut self, candidate: Candidate) {
        let began = Instant::now();
        let tries = Arc::new(Tries::of(&candidate));
        let (dialing, slot) = match candidate.slot() {
            Ok(slot) => {
                candidate.health.begun();
                (self.upstreams.network().dial(&candidate, Arc::clone(&tries)), slot)
            }
            Err(full) => {
                tries.fail(tries.begin(Stage::Limit, None), full);
                (Box::pin(ready(None)) as Dialing, None)
            }
        };
        let until = Deadline::after(candidate.connect_timeout).instant();
        self.next = candidate.race_after.map(|time| Deadline::after(time).instant());
        self.runners.push(Runner { candidate, tries, began, until, running: Running::Pending(dialing), slot });
    }

    /// When something is to be done though nothing happens.
    fn due(&self) -> Instant {
        let pending = self.runners.iter().filter(|runner| !runner.is_up()).map(|runner| runner.until);
        let glance = self.runners.last().filter(|_| self.next_start().is_some()).map(Runner::next_glance);
        // What is being asked for wakes the race by itself.
        let next = self.next_start().filter(|_| !self.is_asking);
        pending.chain(next).chain(glance).fold(self.deadline.instant(), Instant::min)
    }

    /// One has won. Who stands before it without an answer is overtaken; the others are just not needed.
    fn end(&mut self, winner: usize) -> Option<Won> {
        let mut won = None;
        for (index, runner) in take(&mut self.runners).into_iter().enumerate() {
            if index < winner {
                let is_counted = runner.give_up(&mut self.failed);
                runner.run_on(is_counted);
            } else if index == winner {
                runner.tries.failed(&mut self.failed);
                let Running::Up(up) = runner.running else { return None };
                won = Some(Won { up, course: runner.candidate.course, slot: runner.slot });
            } else {
                // One that is up is closed.
                runner.run_on(false);
            }
        }
        won
    }

    /// One that is up wins now, whatever others have answered; else whatever is under way has timed out.
    fn end_at_deadline(&mut self) -> Option<Won> {
        if let Some(winner) = self.runners.iter().position(Runner::is_up) {
            return self.end(winner);
        }
        self.failed.extend(self.candidates.give_up());
        for runner in take(&mut self.runners) {
            runner.tries.give_up(&DialError::TimedOut);
            runner.tries.failed(&mut self.failed);
            runner.run_on(false);
        }
        None
    }
}

impl Runner {
    /// Goes on with the attempt; false when it has failed.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Running::Pending(dialing) = &mut self.running else { return true };
        let health = &self.candidate.health;
        match dialing.as_mut().poll(cx) {
            Poll::Ready(Some(up)) => {
                health.up(self.began.elapsed(), up.address, true);
                self.running = Running::Up(up);
                true
            }
            Poll::Ready(None) => {
                health.failed(&self.candidate, &self.tries.verdict(), self.began);
                false
            }
            Poll::Pending if self.until <= Instant::now() => {
                self.tries.give_up(&DialError::TimedOut);
                health.failed(&self.candidate, &self.tries.verdict(), self.began);
                false
            }
            Poll::Pending => true,
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.running, Running::Up(_))
    }

    /// Whether its upstream was ejected since it was started: another request has waited for long enough.
    fn is_given_up_by_others(&self) -> bool {
        !self.candidate.is_ejected && self.candidate.health.is_ejected()
    }

    /// When to look whether it is given up by others. Whoever comes while the first request waits for a dead upstream
    /// would else wait for as long as the first; few attempts take so long that they are looked after at all.
    fn next_glance(&self) -> Instant {
        const GLANCE: Duration = Duration::from_millis(100);

        let glances = self.began.elapsed().as_millis() / GLANCE.as_millis() + 1;
        self.began + GLANCE * u32::try_from(glances).unwrap_or(u32::MAX)
    }

    /// Another one behind it has won. Whether that counts as its failure.
    fn give_up(&self, failed: &mut Vec<Attempt>) -> bool {
        let is_overtaken = !self.tries.has_answered();
        if is_overtaken {
            self.tries.give_up(&DialError::Overtaken(self.began.elapsed()));
            self.candidate.health.failed(&self.candidate, &self.tries.verdict(), self.began);
        } else {
            // It is the deadline that takes its place from it.
            self.tries.give_up(&DialError::TimedOut);
        }
        self.tries.failed(failed);
        is_overtaken
    }

    fn run_on(self, is_counted: bool) {
        let Self { candidate, tries, began, until, running, slot: _ } = self;
        if let Running::Pending(dialing) = running {
            run_on(Unseen { candidate, tries, began, until, is_counted }, dialing);
        }
    }
}

/// The request has ended in the middle: its client is gone.
impl<C> Drop for Race<C> {
    fn drop(&mut self) {
        take(&mut self.runners).into_iter().for_each(|runner| runner.run_on(false));
    }
}

#[cfg(test)]
mod tests;
