//! An upstream that is chosen for a request, with all that dialing it takes.

use std::sync::Arc;
use std::time::Duration;

use super::Course;
use crate::dial::{DialError, Health, Slot, Trust, Turn};
use crate::route::Upstream;

/// An upstream that is chosen for this request and not yet tried.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What leads there.
    pub course: Course,
    /// Where it leads, and what is known of that.
    pub health: Arc<Health>,
    /// What its TLS trusts, if it has TLS.
    pub trust: Option<Arc<Trust>>,
    /// The name that its certificate must bear; `None`: the host as it is dialed.
    pub certified: Option<Arc<str>>,
    /// What the upstream hears before anything else, if the route has `proxy_protocol`.
    pub preface: Option<Arc<[u8]>>,
    /// The request's turn at the route, if the route bounds its relays.
    pub turn: Option<Arc<Turn>>,
    /// How long an attempt may take: name lookup, TCP and TLS of all its addresses.
    pub connect_timeout: Duration,
    /// How long it may be without an answer before the next candidate is started beside it; `None`: for ever.
    pub race_after: Option<Duration>,
    /// Whether it stands behind others because it was ejected.
    pub is_ejected: bool,
}

impl Candidate {
    /// Where it leads.
    pub fn upstream(&self) -> &Upstream {
        self.health.upstream()
    }

    /// How long it may be without an answer until it is over or overtaken.
    pub fn patience(&self) -> Duration {
        self.connect_timeout.min(self.race_after.unwrap_or(Duration::MAX))
    }

    /// The request's slot among the route's relays; `None` if they are not bounded, an error if all are taken.
    pub fn slot(&self) -> Result<Option<Arc<Slot>>, DialError> {
        self.turn.as_ref().map(|turn| turn.slot()).transpose()
    }
}
