//! Candidates are tried until one is up: name lookup, TCP, TLS handshake.

mod attempt;
mod names;
mod options;
mod proxy_protocol;
mod slots;
mod tcp;
mod tls;
#[cfg(test)]
pub(crate) use tls::certs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

pub use attempt::{Attempt, DialError, Stage};
pub(crate) use options::keepalive;
pub use proxy_protocol::Ends;
pub(crate) use proxy_protocol::{header, of_probe};
pub use slots::{Slot, Slots, Turn};
pub(crate) use tls::of_relay;
pub use tls::{Opened, Trust, TrustError, Trusts};

use crate::close::Refused;
use crate::config::DialConfig;
use crate::deadline::Deadline;
use crate::plan::{Candidate, Plan};
use crate::route::{Host, Route, Row, Upstream};
use crate::stream::Stream;

/// An upstream that is up.
#[derive(Debug)]
pub struct Dialed {
    /// The connection, with its TLS handshake done.
    pub stream: Stream,
    /// The route that led there.
    pub route: Arc<Row<Route>>,
    /// The address at its other end.
    pub address: SocketAddr,
    /// The attempts that failed before it.
    pub failed: Vec<Attempt>,
    /// Its place among the route's relays, if the route bounds them.
    pub slot: Option<Arc<Slot>>,
}

/// Tries the candidates of a plan one after the other until one is up or the deadline is over.
pub async fn first(mut plan: Plan, dial: &DialConfig, deadline: Deadline) -> Result<Dialed, Refused> {
    let mut failed = Vec::new();
    // The plan is asked before the clock: whether anything matches does not depend on the time that is left.
    for candidate in plan.by_ref() {
        if deadline.is_past() {
            break;
        }
        if let Some((stream, address, slot)) = try_candidate(&candidate, dial, deadline, &mut failed).await {
            return Ok(Dialed { stream, route: candidate.route, address, failed, slot });
        }
    }
    if plan.is_unmatched() { Err(Refused::NoRoute) } else { Err(Refused::AllFailed(failed)) }
}

/// Tries every address of one candidate.
async fn try_candidate(
    candidate: &Candidate,
    dial: &DialConfig,
    deadline: Deadline,
    failed: &mut Vec<Attempt>,
) -> Option<(Stream, SocketAddr, Option<Arc<Slot>>)> {
    let timeout = candidate.route.settings().connect_timeout.unwrap_or(dial.connect_timeout);
    let mut record = |address: String, failure: Failure| {
        let Failure { stage, error, started } = failure;
        debug!(route = %candidate.route.pattern, %address, stage = stage.as_str(), %error, "attempt failed");
        let route = Arc::clone(&candidate.route);
        failed.push(Attempt { route, address, stage, error, took: started.elapsed() });
    };

    let started = Instant::now();
    let slot = match candidate.slot() {
        Ok(slot) => slot,
        Err(error) => {
            record(candidate.upstream.to_string(), Failure { stage: Stage::Limit, error, started });
            return None;
        }
    };
    let addresses = match within(timeout_at(deadline.step(timeout), lookup(&candidate.upstream)).await) {
        Ok(addresses) => addresses,
        Err(error) => {
            record(candidate.upstream.to_string(), Failure { stage: Stage::Dns, error, started });
            return None;
        }
    };
    for address in addresses {
        if deadline.is_past() {
            break;
        }
        match attempt(candidate, address, timeout, deadline).await {
            Ok(stream) => return Some((stream, address, slot)),
            Err(failure) => record(address.to_string(), failure),
        }
    }
    None
}

/// How an attempt failed.
struct Failure {
    stage: Stage,
    error: DialError,
    started: Instant,
}

/// Tries one address: TCP and TLS within one timeout.
async fn attempt(
    candidate: &Candidate,
    address: SocketAddr,
    timeout: Duration,
    deadline: Deadline,
) -> Result<Stream, Failure> {
    let started = Instant::now();
    let until = deadline.step(timeout);
    let failed_at = |stage| move |error| Failure { stage, error, started };

    let connecting = tcp::connect(address, candidate.route.settings());
    let mut tcp = within(timeout_at(until, connecting).await).map_err(failed_at(Stage::Tcp))?;
    if let Some(preface) = &candidate.preface {
        let introducing = tcp::introduce(&mut tcp, preface);
        within(timeout_at(until, introducing).await).map_err(failed_at(Stage::Tcp))?;
    }
    let Some(policy) = &candidate.route.tls else { return Ok(Stream::Tcp(tcp)) };
    // Every policy of a table is opened before the table is in force.
    let trust = candidate.trust.as_ref().ok_or(DialError::Tls("its files were never opened".into()));
    let trust = trust.map_err(failed_at(Stage::Tls))?;
    // In a box: a plain dial does not make room for it.
    let handshake = Box::pin(trust.handshake(policy, &candidate.upstream.host, tcp));
    let tls = within(timeout_at(until, handshake).await).map_err(failed_at(Stage::Tls))?;
    Ok(Stream::Tls(Box::new(tls)))
}

/// The addresses of an upstream, in the order of the name service; a host that is an address needs none.
async fn lookup(upstream: &Upstream) -> Result<Vec<SocketAddr>, DialError> {
    match &upstream.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, upstream.port)]),
        Host::Name(name) => {
            let found = names::addresses(name, upstream.port).await;
            let addresses = found.map_err(|error| DialError::from_lookup(&error))?;
            if addresses.is_empty() { Err(DialError::NameNotFound) } else { Ok(addresses) }
        }
    }
}

/// What a step came to, whose time may have been over. (A function around `timeout_at` would hold the step twice.)
fn within<T>(step: Result<Result<T, DialError>, Elapsed>) -> Result<T, DialError> {
    step.unwrap_or(Err(DialError::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeName;
    use crate::plan::Snapshot;
    use crate::route::RouteTable;
    use crate::route::testing::route;

    #[tokio::test]
    async fn a_deadline_that_is_over_is_not_told_as_no_route() {
        let table = RouteTable::from_entries(vec![route("^db@", 1)]).unwrap();
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            table,
            removed: RouteTable::new(),
            files: Vec::new(),
            trusts: Arc::new(Trusts::new(None)),
            slots: Arc::default(),
        });
        let outcome = async |node| {
            let plan = Plan::new(Arc::clone(&snapshot), NodeName::parse(node).unwrap(), None);
            let over = Deadline::after(Duration::ZERO);
            first(plan, &DialConfig::default(), over).await.unwrap_err().outcome()
        };
        let late = outcome("db@prod").await;
        assert_eq!((late.status, late.code, late.proxy_status), (504, "all_failed", "connection_timeout"));
        assert_eq!(outcome("other").await.code, "no_route");
    }
}
