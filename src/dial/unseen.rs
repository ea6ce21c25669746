//! An attempt that its request has given up runs on, because its outcome says something of the upstream.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::network::Dialing;
use super::tries::Tries;
use super::{DialError, Health};
use crate::plan::Candidate;

/// Such an attempt.
pub(super) struct Unseen {
    pub(super) candidate: Candidate,
    pub(super) tries: Arc<Tries>,
    pub(super) began: Instant,
    pub(super) until: Instant,
    /// Whether its upstream has been blamed for it: it was overtaken.
    pub(super) is_counted: bool,
}

/// Lets an attempt run on until its timeout; it is ended where one for the same upstream runs already.
pub(super) fn run_on(unseen: Unseen, dialing: Dialing) {
    let Unseen { candidate, tries, began, until, is_counted } = unseen;
    // A request that ends together with the runtime leaves nothing behind.
    let Ok(runtime) = Handle::try_current() else { return };
    if !candidate.health.may_run_on() {
        return;
    }
    let place = Place(Arc::clone(&candidate.health));
    // The drain does not wait for it.
    runtime.spawn(async move {
        let health = &place.0;
        tokio::select! {
            biased;
            () = health.drain().begun() => {}
            done = timeout_at(until, dialing) => match done {
                // It is closed at once.
                Ok(Some(up)) => health.up(began.elapsed(), up.address, false),
                _ if is_counted => {}
                Ok(None) => failed(&candidate, &tries.verdict(), began),
                Err(_elapsed) => {
                    tries.give_up(&DialError::TimedOut);
                    failed(&candidate, &tries.verdict(), began);
                }
            },
        }
    });
}

fn failed(candidate: &Candidate, error: &DialError, began: Instant) {
    debug!(upstream = %candidate.upstream(), %error, "what ran on unseen has failed");
    candidate.health.failed(candidate, error, began);
}

/// The one place that an upstream has for such an attempt.
struct Place(Arc<Health>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.ran_on();
    }
}
