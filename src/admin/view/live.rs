//! The shapes of what lives while the daemon runs: relays, upstreams, and the plan for a node.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{QuestionView, RouteView, StepView, TlsSpec};
use crate::close::{Facts, Side, millis};
use crate::dial::{Health, Standing};
use crate::listen::Peer;
use crate::relay::Registered;

/// A live relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayView {
    /// Its number, for as long as it lives.
    pub id: u64,
    /// Who asked for it; null if it was gone before the system could tell.
    pub client: Option<ClientView>,
    /// The node that was asked for.
    pub node: String,
    /// The pattern of the route that it was dialed by; null for discovery.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// The resolver that was asked; left out if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Where it leads, as `address:port`.
    pub address: String,
    /// Bytes from the client that the upstream's socket has accepted.
    pub up: u64,
    /// Bytes from the upstream that the client's socket has accepted.
    pub down: u64,
    /// For how long it has been open, in milliseconds.
    pub ms: u64,
}

/// Who asked for a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClientView {
    /// A local process, as it was when it connected.
    Process {
        /// Its user.
        uid: u32,
        /// Its number; null where the daemon cannot see it.
        pid: Option<i32>,
    },
    /// A client of a TCP forward.
    Tcp {
        /// Its end of the connection, as `address:port`.
        address: String,
    },
}

/// Which relays are to be closed: `POST /v1/relays/close`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseView {
    /// Those that were dialed by the route with this pattern, whether it is in force still or not.
    Match(String),
    /// Those to this node.
    Node(String),
    /// Those with these numbers.
    Ids(Vec<u64>),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedView {
    /// How many relays were closed.
    pub closed: usize,
}

/// A page of the relays: `GET /v1/relays`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPage {
    /// Relays, by number.
    pub relays: Vec<RelayView>,
    /// What to ask for the next page with, as `after`; null on the last one.
    pub next: Option<u64>,
}

/// What is known of an upstream that requests have wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// Its number; it is never given again.
    pub id: u64,
    /// As it is written, with its port.
    pub upstream: String,
    /// How TLS is spoken to it: with another policy it is another upstream.
    pub tls: TlsSpec,
    /// Whether it takes its turn.
    pub state: StateView,
    /// When it is probed (RFC 3339, UTC); null unless it is ejected, and when the probe waits for a request that wants it.
    pub until: Option<String>,
    /// The same in milliseconds from now; 0 when the probe waits, null unless it is ejected.
    pub left_ms: Option<u64>,
    /// Attempts so far, probes among them.
    pub attempts: u64,
    /// Failures since it was up for the last time.
    pub failures: u64,
    /// How long the last attempt took that was up, in microseconds: name lookup, TCP and TLS handshake.
    pub latency_us: Option<u64>,
    /// The same, smoothed over the last ones.
    pub smoothed_us: Option<u64>,
    /// The address at which it was up for the last time.
    pub last_good: Option<String>,
    /// Its last failure, whether that has ejected it or not.
    pub last_error: Option<FailureView>,
}

/// Whether an upstream takes its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateView {
    /// It does.
    Healthy,
    /// It failed, and stands behind the healthy ones.
    Ejected,
    /// It stands behind still, and is being tried in the background.
    Probing,
}

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// Why.
    pub error: String,
    /// When (RFC 3339, UTC).
    pub at: String,
}

/// A page of the upstreams: `GET /v1/upstreams`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamPage {
    /// Upstreams, by number.
    pub upstreams: Vec<UpstreamView>,
    /// What to ask for the next page with, as `after`; null on the last one.
    pub next: Option<u64>,
}

/// What a request for a node would do now: `GET /v1/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainView {
    /// The node.
    pub node: String,
    /// The table that it is by.
    pub generation: u64,
    /// The routes that match, in the order of the table.
    pub routes: Vec<RouteView>,
    /// What would be dialed, in this order, as far as no resolver has to be asked for it.
    pub candidates: Vec<CandidateView>,
    /// What resolvers would be asked, in this order, and what is known of it.
    pub questions: Vec<QuestionView>,
    /// The patterns of the routes of files that match and were removed at run time.
    pub removed: Vec<String>,
    /// Whether there are more of one of these than are listed; left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// How long the request may take until its client is told that it is connected: a duration.
    pub establish: String,
    /// Requests and relays that are open.
    pub open: OpenView,
    /// As what the request is refused when all of that has failed.
    pub then: String,
    /// Why nothing else is tried then.
    pub because: String,
}

/// One upstream, in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateView {
    /// The step that it belongs to.
    pub step: StepView,
    /// The pattern of the route; null for discovery.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// The resolver that has answered with it; left out if none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// The upstream as it is written or answered, with its port.
    pub upstream: String,
    /// How TLS is spoken to it.
    pub tls: TlsSpec,
    /// The name that its certificate must bear, where that is not the host; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<String>,
    /// Why it stands where it stands.
    pub why: String,
    /// The address that would be dialed; null where the host is a name, which is looked up at each attempt.
    pub address: Option<String>,
    /// What is known of it; null if no request has wanted it yet, which is as good as healthy.
    pub known: Option<UpstreamView>,
    /// Requests and relays of the route that are open; null unless it has `max_relays`.
    pub open: Option<usize>,
    /// How long an attempt may take: a duration.
    pub connect_timeout: String,
    /// How long it may be without an answer before the next candidate is started beside it: a duration, or `never`.
    pub race_after: String,
}

/// Requests and relays that are open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenView {
    /// How many there are.
    pub now: usize,
    /// How many there may be: `limits.relays`, cut down to what the descriptors allow.
    pub limit: usize,
}

impl RelayView {
    /// A relay as it is now.
    pub fn of(relay: &Registered) -> Self {
        let Facts { client, node, course, address, .. } = relay.facts();
        Self {
            id: relay.id,
            client: ClientView::of(client),
            node: node.to_string(),
            pattern: course.pattern().map(str::to_owned),
            resolver: course.resolver().map(str::to_owned),
            address: address.to_string(),
            up: relay.delivered(Side::Client).get(),
            down: relay.delivered(Side::Upstream).get(),
            ms: millis(relay.age()),
        }
    }
}

impl ClientView {
    fn of(peer: &Peer) -> Option<Self> {
        match peer {
            Peer::Process { uid, pid } => Some(Self::Process { uid: *uid, pid: *pid }),
            Peer::Address(address) => Some(Self::Tcp { address: address.to_string() }),
            Peer::Unknown => None,
        }
    }
}

impl UpstreamView {
    /// What is known of an upstream now.
    pub fn of(health: &Health) -> Self {
        let (state, left) = match health.standing() {
            Standing::Healthy => (StateView::Healthy, None),
            Standing::Ejected { left } => (StateView::Ejected, Some(left)),
            Standing::Probing => (StateView::Probing, None),
        };
        let until = left.filter(|left| !left.is_zero()).and_then(|left| SystemTime::now().checked_add(left));
        let latency = health.latency();
        Self {
            id: health.id(),
            upstream: health.upstream().to_string(),
            tls: TlsSpec::of_upstream(health.tls().map(|policy| &**policy)),
            state,
            until: until.map(|until| humantime::format_rfc3339_millis(until).to_string()),
            left_ms: left.map(millis),
            attempts: health.attempts(),
            failures: health.failures(),
            latency_us: latency.map(|latency| micros(latency.last)),
            smoothed_us: latency.map(|latency| micros(latency.smoothed)),
            last_good: health.last_good().map(|address| address.to_string()),
            last_error: health.last_error().map(|failure| FailureView {
                error: failure.error.to_string(),
                at: humantime::format_rfc3339_millis(failure.at).to_string(),
            }),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
