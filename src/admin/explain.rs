//! The plan for a node, without its side effects: nothing is looked up, dialed or probed, and no upstream is noted as
//! wanted. It reads what [`crate::plan::Plan`] reads, and puts it into the same order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Error;
use super::read::{MAX_MATCHES, matches};
use super::view::{CandidateView, ExplainView, OpenView, RouteView, UpstreamView};
use crate::close::Refused;
use crate::config::DialConfig;
use crate::daemon::Daemon;
use crate::dial::Health;
use crate::node::NodeName;
use crate::plan::Snapshot;
use crate::route::{Host, Origin, Route, Row, Timeout, Upstream};

/// What a request for this node would do now.
pub(super) fn explain(daemon: &Daemon, snapshot: &Snapshot, node: &NodeName) -> Result<ExplainView, Error> {
    let (removed, more_removed) = matches(&snapshot.removed, node);
    let mut matching = snapshot.table.routes_for(node).into_iter().flatten();
    let routes: Vec<&Arc<Row<Route>>> = matching.by_ref().take(MAX_MATCHES).collect();
    if routes.is_empty() {
        return Err(Error::NoRoute(removed.len()));
    }
    let config = daemon.config();
    let mut places = routes.iter().flat_map(|route| places(route, &routes));
    let (behind, before): (Vec<_>, Vec<_>) = places
        .by_ref()
        .take(MAX_MATCHES)
        .map(|place| {
            let health = daemon.upstreams.state_of(place.upstream, place.route.tls.as_deref());
            (health.as_deref().is_some_and(Health::is_ejected), place.view(health.as_deref(), snapshot, &config.dial))
        })
        .partition(|(is_ejected, _)| *is_ejected);
    let more = more_removed || places.next().is_some() || matching.next().is_some();
    Ok(ExplainView {
        node: node.to_string(),
        generation: snapshot.generation,
        routes: routes.iter().map(|route| RouteView::of(route)).collect(),
        candidates: before.into_iter().chain(behind).map(|(_, candidate)| candidate).collect(),
        removed: removed.into_iter().map(|route| route.spec.pattern).collect(),
        more,
        establish: duration(config.dial.establish),
        open: OpenView { now: daemon.admission.open(), limit: daemon.admission.limit() },
        then: Refused::AllFailed(Vec::new()).outcome().code.to_owned(),
    })
}

/// An upstream of a route, where the table has it.
struct Place<'a> {
    route: &'a Row<Route>,
    upstream: &'a Upstream,
    /// From 1.
    number: usize,
    /// Whether another route of this weight matches.
    has_equals: bool,
}

fn places<'a>(route: &'a Row<Route>, all: &[&Arc<Row<Route>>]) -> impl Iterator<Item = Place<'a>> {
    let has_equals = all.iter().filter(|other| other.weight == route.weight).count() > 1;
    let upstreams = (1..).zip(route.reach.upstreams());
    upstreams.map(move |(number, upstream)| Place { route, upstream, number, has_equals })
}

impl Place<'_> {
    fn view(&self, health: Option<&Health>, snapshot: &Snapshot, dial: &DialConfig) -> CandidateView {
        let settings = self.route.settings();
        let race_after = settings.race_after.map_or(dial.race_after, Timeout::duration);
        let address = match &self.upstream.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, self.upstream.port).to_string()),
            Host::Name(_) => None,
        };
        CandidateView {
            pattern: self.route.pattern.as_str().to_owned(),
            upstream: self.upstream.to_string(),
            why: self.why(health.is_some_and(Health::is_ejected)),
            address,
            known: health.map(UpstreamView::of),
            open: settings.max_relays.map(|_| snapshot.slots.open(self.route.pattern.as_str())),
            connect_timeout: duration(settings.connect_timeout.unwrap_or(dial.connect_timeout)),
            race_after: race_after.map_or_else(|| "never".to_owned(), duration),
        }
    }

    fn why(&self, is_ejected: bool) -> String {
        let mut why = format!("weight {}", self.route.weight);
        if self.has_equals {
            why += match self.route.origin {
                Origin::File { .. } => ", in the order of the files",
                Origin::Edit { .. } => ", behind the files' because it was added at run time",
            };
        }
        let hosts = self.route.reach.upstreams().len();
        if hosts > 1 {
            why += &format!(", host {} of {hosts}", self.number);
        }
        if is_ejected {
            why += "; ejected, and so behind those that are not";
        }
        why
    }
}

fn duration(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
