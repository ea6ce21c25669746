//! What is to be seen: the table, its routes, what a node would get, the relays, the upstreams.

use std::path::absolute;
use std::sync::Arc;

use hyper::StatusCode;

use super::call::{Read, cursor_of};
use super::explain;
use super::problem::Error;
use super::view::{
    AnswerPage, FileView, ForwardList, ForwardView, KnownView, LookupView, RelayPage, RelayView, ResolverList,
    ResolverView, RoutePage, RouteView, SharedView, TableView, UpstreamPage, UpstreamView,
};
use super::{Answer, json};
use crate::aside::blocking;
use crate::close::Facts;
use crate::config::FileCount;
use crate::control::Refusal;
use crate::daemon::Daemon;
use crate::node::NodeName;
use crate::plan::Snapshot;
use crate::resolve::Resolver;
use crate::route::{Rank, Route, RouteTable, Row};

/// The most routes that a lookup lists.
pub(super) const MAX_MATCHES: usize = 1000;

/// Answers away from the threads that relay: a page of a thousand routes takes a millisecond to write.
pub(super) async fn answer(daemon: Arc<Daemon>, read: Read) -> Result<Answer, Error> {
    let answered = blocking(move || {
        let snapshot = daemon.snapshot();
        Ok(match read {
            Read::Routes { removed, after, limit } => json(StatusCode::OK, &page(&snapshot, removed, after, limit)),
            Read::Route(pattern) => json(StatusCode::OK, &route(&snapshot, &pattern)?),
            Read::Lookup(node) => json(StatusCode::OK, &lookup(&snapshot, &node)?),
            Read::Explain(node) => json(StatusCode::OK, &explain::explain(&daemon, &snapshot, &node)?),
            Read::Table => json(StatusCode::OK, &table(&daemon, &snapshot)),
            Read::Forwards => json(StatusCode::OK, &forwards(&daemon)),
            Read::Relays { pattern, node, after, limit } => {
                let wanted = |relay: &Facts| is_wanted(relay, pattern.as_deref(), node.as_deref());
                json(StatusCode::OK, &relays(&daemon, after, limit, wanted))
            }
            Read::Resolvers => json(StatusCode::OK, &resolvers(&snapshot)),
            Read::Answers { resolver, after, limit } => {
                json(StatusCode::OK, &answers(&snapshot, resolver, &after, limit)?)
            }
            Read::Upstreams { after, limit } => json(StatusCode::OK, &upstreams(&daemon, after, limit)),
        })
    });
    answered.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))
}

fn page(snapshot: &Snapshot, removed: bool, after: Option<Rank>, limit: usize) -> RoutePage {
    let table = if removed { &snapshot.removed } else { &snapshot.table };
    let mut rows = table.iter_after(after).take(limit + 1).peekable();
    let mut routes = Vec::with_capacity(limit);
    let mut last = None;
    while let Some(row) = rows.next_if(|_| routes.len() < limit) {
        routes.push(RouteView::of(row));
        last = Some(row.rank());
    }
    let next = last.filter(|_| rows.peek().is_some()).map(cursor_of);
    RoutePage { generation: snapshot.generation, routes, next }
}

fn route(snapshot: &Snapshot, pattern: &str) -> Result<RouteView, Error> {
    let row = snapshot.table.get(pattern).ok_or(Refusal::Unknown)?;
    Ok(RouteView::of(row))
}

fn lookup(snapshot: &Snapshot, node: &NodeName) -> Result<LookupView, Error> {
    let (routes, more) = matches(&snapshot.table, node);
    let (removed, more_removed) = matches(&snapshot.removed, node);
    if routes.is_empty() {
        return Err(Error::NoRoute(removed.len()));
    }
    Ok(LookupView { node: node.as_str().to_owned(), routes, removed, more: more || more_removed, resolved: Vec::new() })
}

/// The routes that match, and whether there are more of them than are listed.
pub(super) fn matches(table: &RouteTable, node: &NodeName) -> (Vec<RouteView>, bool) {
    let mut rows = table.routes_for(node).into_iter().flatten();
    let views = rows.by_ref().take(MAX_MATCHES).map(|row: &Arc<Row<Route>>| RouteView::of(row)).collect();
    (views, rows.next().is_some())
}

fn table(daemon: &Daemon, snapshot: &Snapshot) -> TableView {
    let (routes, removed) = (snapshot.table.len(), snapshot.removed.len());
    let shared = snapshot.shared.as_deref().map(SharedView::of);
    let of_files: usize = snapshot.files.iter().map(|file| file.routes).sum();
    let written = of_files + shared.as_ref().map_or(0, |shared| shared.routes);
    TableView {
        generation: snapshot.generation,
        routes,
        removed,
        // A route that is written is in force or removed; what is in force besides was added.
        added: (routes + removed).saturating_sub(written),
        config: path_of(&daemon.config().path),
        files: snapshot.files.iter().map(file).collect(),
        shared,
        refused: daemon.refused(),
    }
}

fn file(count: &FileCount) -> FileView {
    let FileCount { file, routes, disabled } = count;
    let (file, path) = (file.to_string_lossy().into_owned(), path_of(file));
    FileView { file, path, routes: *routes, disabled: *disabled }
}

fn path_of(path: &std::path::Path) -> String {
    absolute(path).unwrap_or_else(|_no_working_folder| path.to_owned()).to_string_lossy().into_owned()
}

/// Whether a relay was dialed by the route with this pattern, and to this node.
fn is_wanted(relay: &Facts, pattern: Option<&str>, node: Option<&str>) -> bool {
    pattern.is_none_or(|pattern| relay.course.pattern() == Some(pattern))
        && node.is_none_or(|node| relay.node.as_str() == node)
}

fn relays(daemon: &Daemon, after: u64, limit: usize, wanted: impl Fn(&Facts) -> bool) -> RelayPage {
    let mut page = daemon.relays.page(after, limit + 1, wanted);
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().map(|relay| relay.id).filter(|_| has_more);
    RelayPage { relays: page.iter().map(|relay| RelayView::of(relay)).collect(), next }
}

/// Those of the configuration in their order, then the leases by port.
fn forwards(daemon: &Daemon) -> ForwardList {
    let (fixed, leases) = (daemon.forwards.load(), daemon.leases.list());
    let idle_timeout = daemon.lease_idle_timeout();
    let leased = leases.iter().map(|lease| ForwardView::of_lease(lease, idle_timeout));
    ForwardList { forwards: fixed.iter().map(ForwardView::of).chain(leased).collect() }
}

fn upstreams(daemon: &Daemon, after: u64, limit: usize) -> UpstreamPage {
    let mut page = daemon.upstreams.page(after, limit + 1);
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().map(|health| health.id()).filter(|_| has_more);
    UpstreamPage { upstreams: page.iter().map(|health| UpstreamView::of(health)).collect(), next }
}

fn resolvers(snapshot: &Snapshot) -> ResolverList {
    let default = snapshot.discovery.as_ref().map(|discovery| discovery.resolver.name());
    let view = |resolver: &Arc<Resolver>| ResolverView::of(resolver, default == Some(resolver.name()));
    ResolverList { resolvers: snapshot.resolvers.iter().map(view).collect() }
}

fn answers(snapshot: &Snapshot, resolver: String, after: &str, limit: usize) -> Result<AnswerPage, Error> {
    let resolver = snapshot.resolvers.get(&resolver).ok_or(Error::NoResolver(resolver))?;
    let mut page = resolver.page(after, limit + 1);
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().map(|known| known.node.to_string()).filter(|_| has_more);
    Ok(AnswerPage { answers: page.iter().map(KnownView::of).collect(), next })
}
