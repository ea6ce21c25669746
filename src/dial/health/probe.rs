//! The one attempt that lets an ejected upstream back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::state::{Due, Health};
use crate::dial::tries::Tries;
use crate::dial::{DialError, Trust, of_probe};
use crate::plan::{Candidate, Course};

/// How a request would have dialed an upstream that is ejected.
#[derive(Debug)]
pub(super) struct Wanted {
    course: Course,
    trust: Option<Arc<Trust>>,
    certified: Option<Arc<str>>,
    connect_timeout: Duration,
    race_after: Option<Duration>,
}

impl Wanted {
    pub(super) fn of(candidate: &Candidate) -> Self {
        let Candidate { course, trust, certified, connect_timeout, race_after, .. } = candidate.clone();
        Self { course, trust, certified, connect_timeout, race_after }
    }

    /// Whether a candidate says nothing new.
    pub(super) fn is_of(&self, candidate: &Candidate) -> bool {
        self.course.is_same(&candidate.course)
            && self.certified == candidate.certified
            && self.trust.as_ref().map(Arc::as_ptr) == candidate.trust.as_ref().map(Arc::as_ptr)
            && (self.connect_timeout, self.race_after) == (candidate.connect_timeout, candidate.race_after)
    }

    fn candidate(&self, health: &Arc<Health>) -> Candidate {
        Candidate {
            course: self.course.clone(),
            health: Arc::clone(health),
            trust: self.trust.clone(),
            certified: self.certified.clone(),
            // No client asks for it, and no relay comes of it.
            preface: self.course.settings().proxy_protocol.then(|| of_probe().into()),
            turn: None,
            connect_timeout: self.connect_timeout,
            race_after: self.race_after,
            is_ejected: true,
        }
    }
}

/// Probes an upstream at the end of its ejection, and of each that follows, until it is back or nobody wants it.
pub(super) fn start(health: &Arc<Health>, change: u64, until: Instant) {
    let (health, drain) = (Arc::clone(health), health.shared.drain.clone());
    if drain.has_begun() {
        return;
    }
    // The drain does not wait for it.
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = drain.begun() => {}
            () = probes(&health, change, until) => {}
        }
    });
}

async fn probes(health: &Arc<Health>, change: u64, mut until: Instant) {
    loop {
        sleep_until(until).await;
        // The semaphore is never closed.
        let Ok(_turn) = health.shared.probes.acquire().await else { return };
        let Due::Probe(wanted) = health.due(change) else { return };
        let began = Instant::now();
        // A task of its own: were it to panic, the upstream would be probed for ever otherwise.
        let probing = AbortOnDropHandle::new(tokio::spawn(probe(wanted.candidate(health))));
        match probing.await.unwrap_or_else(|panic| Err(DialError::Local(panic.to_string()))) {
            Ok(address) => return health.up(began.elapsed(), address, true),
            Err(error) => {
                debug!(upstream = %health.upstream(), %error, "probe failed");
                match health.probed(change, error) {
                    Some(next) => until = next,
                    None => return,
                }
            }
        }
    }
}

/// The whole attempt, within the time that a request would give it before another one overtakes it.
async fn probe(candidate: Candidate) -> Result<std::net::SocketAddr, DialError> {
    let health = &candidate.health;
    health.begun();
    let tries = Arc::new(Tries::of(&candidate));
    match timeout(candidate.patience(), health.shared.network.dial(&candidate, Arc::clone(&tries))).await {
        // It is closed at once.
        Ok(Some(up)) => Ok(up.address),
        Ok(None) => Err(tries.verdict()),
        Err(_elapsed) => {
            tries.give_up(&DialError::TimedOut);
            Err(tries.verdict())
        }
    }
}
