//! How long a relay may be quiet.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a relay may be quiet before it is ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// One side has ended and no byte moves; `None`, the default: for ever.
    pub half_close: Option<Duration>,
    /// No byte either way; `None`, the default: for ever.
    pub idle: Option<Duration>,
}

/// Which of the [`Timeouts`] is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    HalfClose,
    Idle,
}

/// Measures the quiet; in a relay where nothing is measured it is no more than the timeouts.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    pub(super) timeouts: Timeouts,
    measure: Option<Box<Measure>>,
}

/// What is there only while something is measured.
#[derive(Debug)]
struct Measure {
    /// Since when no byte has moved.
    since: Instant,
    /// When the half-close timeout last was no reason to end.
    excused: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Quiet {
    /// Waits until one of the timeouts is over.
    ///
    /// `moved`: bytes moved or a side ended since the last poll. `ending`: the half-close timeout counts.
    pub(super) fn poll(&mut self, moved: bool, ending: bool, cx: &mut Context<'_>) -> Poll<Expired> {
        let timeouts = self.timeouts;
        if self.measure.is_none() && (timeouts.idle.is_some() || (ending && timeouts.half_close.is_some())) {
            self.measure = Measure::from_now(timeouts, ending).map(Box::new);
        }
        let Some(measure) = &mut self.measure else { return Poll::Pending };
        if moved {
            measure.since = Instant::now();
        }
        loop {
            let next = measure.next(timeouts, ending);
            let timer = &mut measure.timer;
            // Bytes only put the deadline off. The timer is not set anew for each of them: it fires early, and is then.
            if let Some((deadline, _)) = next
                && timer.deadline() > deadline
            {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            match next {
                Some((deadline, expired)) if deadline <= timer.deadline() => return Poll::Ready(expired),
                Some((deadline, _)) => timer.as_mut().reset(deadline),
                None => {
                    self.measure = None;
                    return Poll::Pending;
                }
            }
        }
    }

    /// The half-close timeout was no reason to end the relay: it starts again.
    pub(super) fn excuse(&mut self) {
        if let Some(measure) = &mut self.measure {
            measure.excused = Some(Instant::now());
        }
    }
}

impl Measure {
    /// `None` if no timeout is ever over.
    fn from_now(timeouts: Timeouts, ending: bool) -> Option<Self> {
        let since = Instant::now();
        let (deadline, _) = next(timeouts, since, None, ending)?;
        Some(Self { since, excused: None, timer: Box::pin(sleep_until(deadline)) })
    }

    fn next(&self, timeouts: Timeouts, ending: bool) -> Option<(Instant, Expired)> {
        next(timeouts, self.since, self.excused, ending)
    }
}

/// The timeout that is over first, and when. One that lies beyond the clock's range never is.
fn next(timeouts: Timeouts, since: Instant, excused: Option<Instant>, ending: bool) -> Option<(Instant, Expired)> {
    let after = |since: Instant, timeout: Option<Duration>| since.checked_add(timeout?);
    let half_close = after(excused.map_or(since, |at| at.max(since)), timeouts.half_close.filter(|_| ending));
    let idle = after(since, timeouts.idle);
    match (half_close, idle) {
        (Some(half_close), Some(idle)) if idle < half_close => Some((idle, Expired::Idle)),
        (Some(half_close), _) => Some((half_close, Expired::HalfClose)),
        (None, idle) => idle.map(|idle| (idle, Expired::Idle)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn expired(quiet: &mut Quiet, ending: bool) -> Expired {
        let mut moved = true;
        poll_fn(|cx| quiet.poll(std::mem::take(&mut moved), ending, cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_shorter_timeout_is_over_first() {
        let start = Instant::now();
        let mut quiet =
            Quiet { timeouts: Timeouts { half_close: Some(2 * SECOND), idle: Some(5 * SECOND) }, ..Quiet::default() };
        assert_eq!(expired(&mut quiet, true).await, Expired::HalfClose);
        assert_eq!(start.elapsed().as_secs(), 2);
        assert_eq!(expired(&mut quiet, false).await, Expired::Idle);
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_starts_it_again() {
        let mut quiet = Quiet { timeouts: Timeouts { half_close: None, idle: Some(5 * SECOND) }, ..Quiet::default() };
        let start = Instant::now();
        for _ in 0..4 {
            assert!(tokio::time::timeout(4 * SECOND, expired(&mut quiet, false)).await.is_err());
        }
        assert_eq!(expired(&mut quiet, false).await, Expired::Idle);
        assert_eq!(start.elapsed().as_secs(), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_timer_only_while_something_is_measured() {
        let mut quiet = Quiet { timeouts: Timeouts { half_close: Some(SECOND), idle: None }, ..Quiet::default() };
        let poll = async |quiet: &mut Quiet, ending| poll_fn(|cx| Poll::Ready(quiet.poll(true, ending, cx))).await;
        assert_eq!(poll(&mut quiet, false).await, Poll::Pending);
        assert!(quiet.measure.is_none());
        assert_eq!(poll(&mut quiet, true).await, Poll::Pending);
        assert!(quiet.measure.is_some());
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(poll(&mut quiet, false).await, Poll::Pending);
        assert!(quiet.measure.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_the_clock_never_ends() {
        let timeouts = Timeouts { half_close: Some(Duration::MAX), idle: Some(Duration::MAX) };
        let mut quiet = Quiet { timeouts, ..Quiet::default() };
        assert!(tokio::time::timeout(1000 * SECOND, expired(&mut quiet, true)).await.is_err());
    }
}
