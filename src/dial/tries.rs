//! What an attempt at one candidate has come to so far: written by the attempt, read by its race.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;
use tracing::debug;

use super::{Attempt, DialError, Health, Stage};
use crate::plan::{Candidate, Course};

/// Each address of one candidate that was tried, and how far it has come.
#[derive(Debug)]
pub(super) struct Tries {
    course: Course,
    health: Arc<Health>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    tries: SmallVec<[Try; 1]>,
    answered: bool,
}

#[derive(Debug)]
struct Try {
    /// `None` is the name lookup.
    address: Option<SocketAddr>,
    stage: Stage,
    began: Instant,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    /// A name lookup has found addresses.
    Found,
    Failed(DialError, Duration),
}

/// Which of the tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which(usize);

impl Tries {
    /// None yet.
    pub(super) fn of(candidate: &Candidate) -> Self {
        let (course, health) = (candidate.course.clone(), Arc::clone(&candidate.health));
        Self { course, health, seen: Mutex::default() }
    }

    /// An address is tried; `None` is the name lookup.
    pub(super) fn begin(&self, stage: Stage, address: Option<SocketAddr>) -> Which {
        let mut seen = self.seen();
        seen.tries.push(Try { address, stage, began: Instant::now(), end: None });
        Which(seen.tries.len() - 1)
    }

    /// One has come to its next stage.
    pub(super) fn reach(&self, which: Which, stage: Stage) {
        if let Some(one) = self.seen().tries.get_mut(which.0) {
            one.stage = stage;
        }
    }

    /// The name lookup has found something.
    pub(super) fn found(&self, which: Which) {
        if let Some(one) = self.seen().tries.get_mut(which.0) {
            one.end.get_or_insert(End::Found);
        }
    }

    /// One has failed; nothing happens to a name lookup that has found something.
    pub(super) fn fail(&self, which: Which, error: DialError) {
        let mut seen = self.seen();
        // It was this one that had answered, if any: the others stand still meanwhile.
        seen.answered = false;
        if let Some(one) = seen.tries.get_mut(which.0) {
            self.end(one, error);
        }
    }

    /// The upstream has answered: from here on nothing is started beside this attempt until this address fails.
    pub(super) fn answer(&self) {
        self.seen().answered = true;
    }

    /// Whether the upstream has answered, by an address that has not failed since.
    pub(super) fn has_answered(&self) -> bool {
        self.seen().answered
    }

    /// Every try that is still under way has failed by this error; one that waits for room, by the lack of it.
    pub(super) fn give_up(&self, error: &DialError) {
        for one in self.seen().tries.iter_mut().filter(|one| one.end.is_none()) {
            let error = match one.stage {
                Stage::Limit => DialError::Local("too many names are being looked up already".to_owned()),
                Stage::Resolve | Stage::Dns | Stage::Tcp | Stage::Tls => error.clone(),
            };
            self.end(one, error);
        }
    }

    /// The failures so far, in the order in which the tries began.
    pub(super) fn failed(&self, into: &mut Vec<Attempt>) {
        into.extend(self.seen().tries.iter().filter_map(|one| match &one.end {
            Some(End::Failed(error, took)) => Some(Attempt {
                course: self.course.clone(),
                address: self.address(one),
                stage: one.stage,
                error: error.clone(),
                took: *took,
            }),
            Some(End::Found) | None => None,
        }));
    }

    /// What is to be said of the upstream, of which every try has failed: the last error, or one that ejects nobody, as
    /// then not every address has had its chance.
    pub(super) fn verdict(&self) -> DialError {
        let seen = self.seen();
        let errors = || {
            seen.tries.iter().filter_map(|one| match &one.end {
                Some(End::Failed(error, _)) => Some(error),
                Some(End::Found) | None => None,
            })
        };
        let verdict = errors().find(|error| !error.ejects()).or_else(|| errors().next_back());
        verdict.cloned().unwrap_or(DialError::TimedOut)
    }

    fn end(&self, one: &mut Try, error: DialError) {
        match one.end {
            None => {
                let address = self.address(one);
                let (route, resolver) = (self.course.pattern(), self.course.resolver());
                debug!(route, resolver, %address, stage = one.stage.as_str(), %error, "attempt failed");
            }
            Some(End::Found) => return,
            // It was given up, which has been told already.
            Some(End::Failed(..)) => {}
        }
        one.end = Some(End::Failed(error, one.began.elapsed()));
    }

    /// While the name lookup lasts, the upstream as it is written.
    fn address(&self, one: &Try) -> String {
        one.address.map_or_else(|| self.health.upstream().to_string(), |address| address.to_string())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Only the attempt and its race ask, and mostly they are one task.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::testing::{Scripted, candidate};
    use crate::drain::Drain;

    fn tries() -> Tries {
        Tries::of(&candidate(&Scripted::new(&[]).upstreams(Drain::new()), 1))
    }

    fn told(tries: &Tries) -> Vec<String> {
        let mut failed = Vec::new();
        tries.failed(&mut failed);
        failed.iter().map(|one| format!("{}, {}: {}", one.address, one.stage.as_str(), one.error)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_told_at_the_stage_it_is_in_and_each_address_alone() {
        let tries = tries();
        let lookup = tries.begin(Stage::Dns, None);
        tries.found(lookup);
        let addresses = [1, 2, 3].map(|last| Some(SocketAddr::from(([10, 0, 0, last], 80))));
        let [one, two, _three] = addresses.map(|address| tries.begin(Stage::Tcp, address));
        tries.fail(one, DialError::Refused);
        tries.reach(two, Stage::Tls);
        tries.give_up(&DialError::TimedOut);
        tries.fail(lookup, DialError::NameNotFound);
        let expected =
            ["10.0.0.1:80, tcp: connection refused", "10.0.0.2:80, tls: timed out", "10.0.0.3:80, tcp: timed out"];
        assert_eq!(told(&tries), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_lookup_is_told_as_the_upstream_is_written() {
        let tries = tries();
        tries.begin(Stage::Dns, None);
        tries.give_up(&DialError::TimedOut);
        assert_eq!(told(&tries), ["127.0.0.1:1, dns: timed out"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_until_its_address_fails() {
        let tries = tries();
        let one = tries.begin(Stage::Tls, None);
        tries.answer();
        assert!(tries.has_answered());
        tries.fail(one, DialError::Terminated);
        assert!(!tries.has_answered(), "the next address has not said anything");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_until_the_time_is_over_has_not_failed() {
        let tries = tries();
        tries.begin(Stage::Limit, None);
        tries.give_up(&DialError::TimedOut);
        let why = "127.0.0.1:1, limit: this machine cannot connect: too many names are being looked up already";
        assert_eq!(told(&tries), [why]);
        assert!(!tries.verdict().ejects());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_of_which_an_address_had_no_chance_is_not_blamed() {
        let tries = tries();
        let (one, two) = (tries.begin(Stage::Tcp, None), tries.begin(Stage::Tcp, None));
        tries.fail(one, DialError::Refused);
        assert_eq!(tries.verdict(), DialError::Refused);
        tries.fail(two, DialError::Local("no descriptors".to_owned()));
        assert!(!tries.verdict().ejects());
        let three = tries.begin(Stage::Tcp, None);
        tries.fail(three, DialError::TimedOut);
        assert!(!tries.verdict().ejects());
    }
}
