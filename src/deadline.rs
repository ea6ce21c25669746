//! The point in time by which a request must be connected.

use std::time::Duration;

use tokio::time::Instant;

/// A point in time; every stage of a request up to the answer lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub fn after(timeout: Duration) -> Self {
        let now = Instant::now();
        // A duration that no clock can hold is one that nobody lives to see; a year is as good.
        Self(now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(365 * 86_400)))
    }

    /// The sooner of this and `timeout` after the same start, where a client asked for less than the daemon grants.
    pub fn at_most(self, started: Instant, timeout: Option<Duration>) -> Self {
        match timeout.and_then(|timeout| started.checked_add(timeout)) {
            Some(other) => Self(self.0.min(other)),
            None => self,
        }
    }

    /// The end of a step that may take `timeout` and must not pass the deadline.
    pub fn step(self, timeout: Duration) -> Instant {
        Self::after(timeout).0.min(self.0)
    }

    /// The point in time itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Whether it is over.
    pub fn is_past(self) -> bool {
        self.0 <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_never_passes_the_deadline() {
        let started = Instant::now();
        let deadline = Deadline::after(Duration::from_secs(5));
        assert_eq!(deadline.step(Duration::from_secs(3)), started + Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(deadline.step(Duration::from_secs(3)), started + Duration::from_secs(5));
        assert!(!deadline.is_past());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(deadline.is_past());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_ask_for_less_but_not_for_more() {
        let started = Instant::now();
        let deadline = Deadline::after(Duration::from_secs(5));
        assert_eq!(deadline.at_most(started, None), deadline);
        assert_eq!(deadline.at_most(started, Some(Duration::from_secs(60))), deadline);
        let less = deadline.at_most(started, Some(Duration::from_secs(2)));
        assert_eq!(less.instant(), started + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_duration_beyond_the_clock_is_far_away() {
        assert!(Deadline::after(Duration::MAX) > Deadline::after(Duration::from_secs(86_400)));
    }
}
