//! What others can cause at will is logged once in a while only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whose turn it is to be logged.
#[derive(Debug, Default)]
pub(crate) struct Sparse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    unsaid: u64,
}

impl Sparse {
    /// The least time between two.
    const PAUSE: Duration = Duration::from_secs(1);

    /// How many were not logged since the last one that was; `None`: this is not to be either.
    pub(crate) fn turn(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| last.elapsed() < Self::PAUSE) {
            state.unsaid += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_a_second_is_said_and_the_others_are_counted() {
        let sparse = Sparse::default();
        assert_eq!([(); 3].map(|()| sparse.turn()), [Some(0), None, None]);
        tokio::time::sleep(Sparse::PAUSE).await;
        assert_eq!([(); 2].map(|()| sparse.turn()), [Some(2), None]);
    }
}
