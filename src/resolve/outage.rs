//! Services that are away, and when each is to be tried again. No clock: every moment is an argument.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::NoAnswer;

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
pub(super) struct Outages(HashMap<Box<str>, Outage>);

/// A service that is away: it is tried again after a pause, which doubles with each failure.
#[derive(Debug)]
pub(super) struct Outage {
    since: Instant,
    last_failure: Instant,
    error: String,
    pause: Duration,
    try_again: Instant,
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
        self.0.get_mut(service)
    }

    /// The same, to look at.
    pub(super) fn away(&self, service: &str, now: Instant) -> Option<Away> {
        self.0.get(service).map(|outage| outage.away(now))
    }

    /// A question that was asked at `asked` has failed. Whether an outage begins with it.
    pub(super) fn failed(&mut self, service: &str, error: String, asked: Instant, now: Instant) -> bool {
        if let Some(outage) = self.0.get_mut(service) {
            outage.failed_again(error, asked, now);
            return false;
        }
        if self.0.len() >= Self::MOST {
            self.forget_one();
        }
        self.0.insert(service.into(), Outage::new(error, now));
        true
    }

    /// The service has answered; the outage that this ends.
    pub(super) fn answered(&mut self, service: &str) -> Option<Outage> {
        self.0.remove(service)
    }

    /// The next question may be asked at once, of all services.
    pub(super) fn end_pauses(&mut self, now: Instant) {
        self.0.values_mut().for_each(|outage| outage.end_pause(now));
    }

    /// The age of the oldest answer that was served during the outages that last.
    pub(super) fn oldest_served(&self) -> Option<Duration> {
        self.0.values().filter_map(|outage| outage.oldest_served).max()
    }

    /// The one that nobody has asked for longest.
    fn forget_one(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, outage)| outage.last_failure).map(|(service, _)| service.clone());
        if let Some(service) = oldest {
            self.0.remove(&service);
        }
    }
}

impl Outage {
    fn new(error: String, now: Instant) -> Self {
        let pause = Outages::FIRST_PAUSE;
        Self { since: now, last_failure: now, error, pause, try_again: now + pause, oldest_served: None }
    }

    /// Whether the service may be tried.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.try_again
    }

    /// It is being tried; nobody else tries it for so long.
    pub(super) fn tried(&mut self, now: Instant, timeout: Duration) {
        self.try_again = now + timeout;
    }

    /// It may be tried at once.
    pub(super) fn end_pause(&mut self, now: Instant) {
        self.try_again = now;
    }

    /// An answer of this age is served in place of a new one.
    pub(super) fn serves(&mut self, age: Duration) {
        self.oldest_served = self.oldest_served.max(Some(age));
    }

    /// How it looks now.
    pub(super) fn away(&self, now: Instant) -> Away {
        Away { lasts: now.saturating_duration_since(self.since), error: self.error.clone() }
    }

    fn failed_again(&mut self, error: String, asked: Instant, now: Instant) {
        // Of many questions that were under way when it went away, each fails: that is one failure.
        if asked > self.last_failure {
            self.pause = (self.pause * 2).min(Outages::LONGEST_PAUSE);
            self.try_again = now + self.pause;
            self.last_failure = now;
        }
        self.error = error;
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

    #[test]
    fn the_pause_doubles_with_each_try_that_fails_up_to_half_a_minute() {
        let (mut outages, mut now) = (Outages::default(), Instant::now());
        assert!(outages.failed("", "refused".to_owned(), now, now));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let begin = now;
            while !outages.of("").unwrap().is_due(now) {
                now += secs(1);
            }
            pauses.push((now - begin).as_secs());
            assert!(!outages.failed("", "refused".to_owned(), now, now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(outages.away("", now), Some(Away { lasts: secs(121), error: "refused".to_owned() }));
    }

    #[test]
    fn questions_that_fail_together_are_one_failure() {
        let (mut outages, asked) = (Outages::default(), Instant::now());
        let now = asked + secs(2);
        assert!(outages.failed("", "first".to_owned(), asked, now));
        assert!(!outages.failed("", "second".to_owned(), asked, now + secs(1)));
        let outage = outages.of("").unwrap();
        assert!(outage.is_due(now + secs(1)) && outage.error == "second");
    }

    #[test]
    fn services_go_and_come_each_for_itself_and_the_number_that_is_remembered_is_bounded() {
        let (mut outages, now) = (Outages::default(), Instant::now());
        for host in 0..Outages::MOST + 1 {
            assert!(outages.failed(&host.to_string(), String::new(), now, now + secs(host as u64)));
        }
        assert_eq!((outages.0.len(), outages.of("0").is_some()), (Outages::MOST, false));
        assert!(outages.answered("7").is_some() && outages.of("7").is_none() && outages.of("8").is_some());
    }

    #[test]
    fn who_finds_it_away_hears_for_how_long() {
        let away = |lasts| NoAnswer::from(Away { lasts, error: "connection refused".to_owned() }).to_string();
        assert_eq!(away(Duration::from_millis(900)), "is away: connection refused");
        assert_eq!(away(Duration::from_millis(72_900)), "is away: connection refused; it has not answered for 1m 12s");
    }
}
