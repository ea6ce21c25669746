//! For how long an upstream is put behind the others.

use std::time::Duration;

/// The length of an upstream's ejections, without their jitter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    /// `None`: it was never ejected.
    last: Option<Duration>,
}

impl Lengths {
    /// The first ejection.
    const FIRST: Duration = Duration::from_secs(1);
    /// No ejection is longer.
    const LONGEST: Duration = Duration::from_secs(60);

    /// The length of the next ejection, of an upstream that was healthy for so long.
    ///
    /// It begins again at the first only behind a time of health as long as the last ejection. One that comes and goes
    /// each second would cost a request each second otherwise; so it is ever longer away.
    pub(super) fn next(&mut self, healthy: Duration) -> Duration {
        let next = match self.last {
            Some(last) if healthy < last => (last * 2).min(Self::LONGEST),
            _ => Self::FIRST,
        };
        self.last = Some(next);
        next
    }

    /// The last once more: the probe that failed has said nothing about the upstream.
    pub(super) fn again(self) -> Duration {
        self.last.unwrap_or(Self::FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(healthy: &[u64]) -> Vec<u64> {
        let mut lengths = Lengths::default();
        healthy.iter().map(|healthy| lengths.next(Duration::from_secs(*healthy)).as_secs()).collect()
    }

    #[test]
    fn it_doubles_up_to_a_minute_and_stays_there() {
        assert_eq!(lengths(&[0; 9]), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn only_a_health_as_long_as_the_last_ejection_begins_again() {
        assert_eq!(lengths(&[9, 0, 1, 3, 8, 0]), [1, 2, 4, 8, 1, 2]);
    }
}
