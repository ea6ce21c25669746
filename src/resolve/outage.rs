//! Services that are away, and when each is to be tried again. No clock: every moment is an argument.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::NoAnswer;
use crate::node::NodeName;

/// A service that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// For how long it has not.
    pub lasts: Duration,
    /// Its last failure.
    pub error: String,
}

/// The services that are away, by the name that [`super::Ask::service`] gives them.
#[derive(Debug, Default)]
pub(super) struct Outages {
    away: HashMap<Box<str>, Outage>,
    /// When each has answered last.
    answered: HashMap<Box<str>, Instant>,
}

/// How a question has failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What is said of it.
    pub(super) error: String,
    /// Nothing came at all: it may be the node that the service has no word for, and not the service.
    pub(super) is_silence: bool,
    /// When it was asked.
    pub(super) asked: Instant,
}

/// A service that is away: it is tried again after a pause, which doubles with each failure.
#[derive(Debug)]
pub(super) struct Outage {
    since: Instant,
    last_failure: Instant,
    error: String,
    /// The node that nothing came for, if it was silence.
    silent_about: Option<NodeName>,
    pause: Duration,
    try_again: Instant,
    /// Until then it is being tried.
    trying: Instant,
    /// The age of the oldest answer that was served meanwhile.
    pub(super) oldest_served: Option<Duration>,
}

impl Outages {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    /// The most that are remembered: names that somebody makes up may each have a host of their own.
    const MOST: usize = 1024;

    /// The outage of a service, if it is away.
    pub(super) fn of(&mut self, service: &str) -> Option<&mut Outage> {
        self.away.get_mut(service)
    }

    /// The same, to look at.
    pub(super) fn away(&self, service: &str, now: Instant) -> Option<Away> {
        self.away.get(service).map(|outage| outage.away(now))
    }

    /// Whether the service has answered about others since then. If not a word comes about a node meanwhile, that is
    /// the node's own, such as a zone of the DNS whose servers are gone.
    pub(super) fn has_answered_since(&self, service: &str, asked: Instant) -> bool {
        self.answered.get(service).is_some_and(|answered| *answered >= asked)
    }

    /// A question about a node has failed. Whether an outage begins with it.
    pub(super) fn failed(&mut self, service: &str, node: &NodeName, failure: Failure, now: Instant) -> bool {
        if let Some(outage) = self.away.get_mut(service) {
            outage.failed_again(node, failure, now);
            return false;
        }
        if self.away.len() >= Self::MOST {
            self.forget_one();
        }
        self.away.insert(service.into(), Outage::new(node, failure, now));
        true
    }

    /// The service has answered; the outage that this ends.
    pub(super) fn answered(&mut self, service: &str, now: Instant) -> Option<Outage> {
        match self.answered.get_mut(service) {
            Some(answered) => *answered = now,
            None => {
                // Who is forgotten here is blamed for a silence that may have been a node's.
                if self.answered.len() >= Self::MOST {
                    self.answered.clear();
                }
                self.answered.insert(service.into(), now);
            }
        }
        self.away.remove(service)
    }

    /// The next question may be asked at once, of all services.
    pub(super) fn end_pauses(&mut self, now: Instant) {
        self.away.values_mut().for_each(|outage| outage.end_pause(now));
    }

    /// The age of the oldest answer that was served during the outages that last.
    pub(super) fn oldest_served(&self) -> Option<Duration> {
        self.away.values().filter_map(|outage| outage.oldest_served).max()
    }

    /// The one that nobody has asked for longest.
    fn forget_one(&mut self) {
        let oldest = self.away.iter().min_by_key(|(_, outage)| outage.last_failure).map(|(service, _)| service.clone());
        if let Some(service) = oldest {
            self.away.remove(&service);
        }
    }
}

impl Outage {
    fn new(node: &NodeName, failure: Failure, now: Instant) -> Self {
        let pause = Outages::FIRST_PAUSE;
        Self {
            since: now,
            last_failure: now,
            silent_about: failure.is_silence.then(|| node.clone()),
            error: failure.error,
            pause,
            try_again: now + pause,
            trying: now,
            oldest_served: None,
        }
    }

    /// Whether the service may be tried for this node. Where it was silent about one node, another may be tried without
    /// a pause: one that the service has no word for is not to keep it from all others.
    pub(super) fn is_due(&self, node: &NodeName, now: Instant) -> bool {
        let is_another = self.silent_about.as_ref().is_some_and(|silent_about| silent_about != node);
        now >= if is_another { self.trying } else { self.try_again }
    }

    /// It is being tried; nobody else tries it for so long.
    pub(super) fn tried(&mut self, now: Instant, timeout: Duration) {
        self.trying = now + timeout;
        self.try_again = self.try_again.max(self.trying);
    }

    /// It may be tried at once.
    pub(super) fn end_pause(&mut self, now: Instant) {
        (self.trying, self.try_again) = (now, now);
    }

    /// An answer of this age is served in place of a new one.
    pub(super) fn serves(&mut self, age: Duration) {
        self.oldest_served = self.oldest_served.max(Some(age));
    }

    /// How it looks now.
    pub(super) fn away(&self, now: Instant) -> Away {
        Away { lasts: now.saturating_duration_since(self.since), error: self.error.clone() }
    }

    fn failed_again(&mut self, node: &NodeName, failure: Failure, now: Instant) {
        // Of many questions that were under way when it went away, each fails: that is one failure.
        if failure.asked > self.last_failure {
            self.pause = (self.pause * 2).min(Outages::LONGEST_PAUSE);
            self.try_again = now + self.pause;
            self.trying = now;
            self.last_failure = now;
            self.silent_about = failure.is_silence.then(|| node.clone());
        }
        self.error = failure.error;
    }
}

impl From<Away> for NoAnswer {
    fn from(away: Away) -> Self {
        let whole_seconds = Duration::from_secs(away.lasts.as_secs());
        if whole_seconds.is_zero() {
            return Self::Away(away.error);
        }
        Self::Away(format!("{}; it has not answered for {}", away.error, humantime::format_duration(whole_seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn refused(error: &str, asked: Instant) -> Failure {
        Failure { error: error.to_owned(), is_silence: false, asked }
    }

    fn silence(asked: Instant) -> Failure {
        Failure { error: "no answer".to_owned(), is_silence: true, asked }
    }

    #[test]
    fn the_pause_doubles_with_each_try_that_fails_up_to_half_a_minute() {
        for failure in [|now| refused("refused", now), silence] {
            let (mut outages, mut now, db) = (Outages::default(), Instant::now(), node("db"));
            assert!(outages.failed("", &db, failure(now), now));
            let mut pauses = Vec::new();
            for _ in 0..8 {
                let begin = now;
                while !outages.of("").unwrap().is_due(&db, now) {
                    now += secs(1);
                }
                pauses.push((now - begin).as_secs());
                assert!(!outages.failed("", &db, failure(now), now));
            }
            assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
            assert_eq!(outages.away("", now).unwrap().lasts, secs(121));
        }
    }

    #[test]
    fn questions_that_fail_together_are_one_failure() {
        let (mut outages, asked, db) = (Outages::default(), Instant::now(), node("db"));
        let now = asked + secs(2);
        assert!(outages.failed("", &db, refused("first", asked), now));
        assert!(!outages.failed("", &db, refused("second", asked), now + secs(1)));
        let outage = outages.of("").unwrap();
        assert!(outage.is_due(&db, now + secs(1)) && outage.error == "second");
    }

    #[test]
    fn where_it_was_silent_about_one_node_others_try_without_a_pause_one_at_a_time() {
        let (mut outages, now) = (Outages::default(), Instant::now());
        let [lame, db, web] = ["lame", "db", "web"].map(node);
        outages.failed("", &lame, silence(now), now);
        let outage = outages.of("").unwrap();
        assert_eq!([&lame, &db].map(|node| outage.is_due(node, now)), [false, true]);
        outage.tried(now, secs(2));
        assert_eq!([&web, &lame].map(|node| outage.is_due(node, now + secs(1))), [false, false]);
        let now = now + secs(2);
        outages.failed("", &db, silence(now), now);
        let outage = outages.of("").unwrap();
        assert_eq!([&db, &web, &lame].map(|node| outage.is_due(node, now)), [false, true, true]);

        outages.failed("", &web, refused("refused", now + secs(1)), now + secs(1));
        let outage = outages.of("").unwrap();
        assert_eq!([&db, &lame].map(|node| outage.is_due(node, now + secs(1))), [false; 2], "refused is no silence");
    }

    #[test]
    fn who_answers_others_meanwhile_is_not_away() {
        let (mut outages, asked) = (Outages::default(), Instant::now());
        assert!(!outages.has_answered_since("", asked));
        assert!(outages.answered("", asked + secs(1)).is_none());
        assert!(outages.has_answered_since("", asked) && !outages.has_answered_since("", asked + secs(2)));
        assert!(!outages.has_answered_since("elsewhere", asked));
    }

    #[test]
    fn services_go_and_come_each_for_itself_and_the_number_that_is_remembered_is_bounded() {
        let (mut outages, now) = (Outages::default(), Instant::now());
        for host in 0..Outages::MOST + 1 {
            let later = now + secs(host as u64);
            assert!(outages.failed(&host.to_string(), &node("db"), refused("", now), later));
        }
        assert_eq!((outages.away.len(), outages.of("0").is_some()), (Outages::MOST, false));
        assert!(outages.answered("7", now).is_some() && outages.of("7").is_none() && outages.of("8").is_some());
        for host in 0..Outages::MOST * 2 {
            outages.answered(&host.to_string(), now);
        }
        assert!(outages.answered.len() <= Outages::MOST);
    }

    #[test]
    fn who_finds_it_away_hears_for_how_long() {
        let away = |lasts| NoAnswer::from(Away { lasts, error: "connection refused".to_owned() }).to_string();
        assert_eq!(away(Duration::from_millis(900)), "is away: connection refused");
        assert_eq!(away(Duration::from_millis(72_900)), "is away: connection refused; it has not answered for 1m 12s");
    }
}
