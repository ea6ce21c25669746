//! What is to be changed, and logged with who asked for it; changes of the table are asked of the task that owns it.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::timeout;
use tracing::info;

use super::problem::Error;
use super::view::{AddedView, ChangeView, CloseView, ClosedView, FlushedView, RouteView, UpstreamView};
use crate::aside::blocking;
use crate::control::Control;
use crate::daemon::Daemon;
use crate::dial::Upstreams;
use crate::listen::Peer;
use crate::node::NodeName;
use crate::relay::Cut;

/// The most bytes that a body may have.
const MAX_BODY: usize = 64 * 1024;

/// How long they may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body of a request: the JSON of one thing.
pub(super) async fn read_body<T: DeserializeOwned>(headers: &HeaderMap, body: Incoming) -> Result<T, Error> {
    if !is_json(headers) {
        return Err(Error::MediaType);
    }
    // Said before the body is sent, to a client that waits for a `100 Continue`.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Error::TooLarge(MAX_BODY));
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let bytes = match read.map_err(|_elapsed| Error::TooSlow)? {
        Ok(whole) => whole.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Error::TooLarge(MAX_BODY)),
        Err(error) => return Err(Error::BadRequest(format!("the body cannot be read: {error}"))),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        // serde_json calls it a fault of the syntax, too, when an object has not the one key that is asked for.
        let is_json = serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
        let what = if is_json { "says something else than what is asked for" } else { "is not JSON" };
        Error::BadRequest(format!("the body {what}: {error}"))
    })
}

/// `application/json`, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let written = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = written.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

pub(super) async fn add(control: &Control, peer: &Peer, route: Value) -> Result<AddedView, Error> {
    let (row, change) = control.add(route).await?;
    let route = row.pattern.as_str();
    info!(route, generation = change.generation, uid = peer.uid(), pid = peer.pid(), "route added");
    let ChangeView { generation, warnings, .. } = change;
    Ok(AddedView { route: RouteView::of(&row), generation, warnings })
}

pub(super) async fn remove(control: &Control, peer: &Peer, pattern: String) -> Result<ChangeView, Error> {
    let change = control.remove(pattern.clone()).await?;
    info!(route = pattern, generation = change.generation, uid = peer.uid(), pid = peer.pid(), "route removed");
    Ok(change)
}

pub(super) async fn reload(control: &Control, peer: &Peer, strict: bool) -> Result<ChangeView, Error> {
    let change = control.reload(strict).await?;
    info!(strict, generation = change.generation, uid = peer.uid(), pid = peer.pid(), "reload was asked for");
    Ok(change)
}

/// Closes relays, away from the threads that relay: there may be 100,000 of them.
pub(super) async fn close(daemon: Arc<Daemon>, peer: &Peer, which: CloseView) -> Result<ClosedView, Error> {
    let told = which.clone();
    let closing = blocking(move || {
        let relays = &daemon.relays;
        match which {
            CloseView::Match(pattern) => {
                relays.cut_where(Cut::Closed, |relay| relay.course.pattern() == Some(pattern.as_str()))
            }
            CloseView::Node(node) => relays.cut_where(Cut::Closed, |relay| relay.node.as_str() == node),
            CloseView::Ids(ids) => ids.into_iter().filter(|id| relays.cut(*id, Cut::Closed)).count(),
        }
    });
    let closed = closing.await.map_err(|panic| Error::Internal(panic.to_string()))?;
    let (uid, pid) = (peer.uid(), peer.pid());
    match told {
        CloseView::Match(route) => info!(closed, route, uid, pid, "relays closed"),
        CloseView::Node(node) => info!(closed, node, uid, pid, "relays closed"),
        CloseView::Ids(ids) => info!(closed, ids = ids.len(), uid, pid, "relays closed"),
    }
    Ok(ClosedView { closed })
}

/// Makes an upstream healthy, as if it had never failed.
pub(super) fn reset(upstreams: &Upstreams, peer: &Peer, id: u64) -> Result<UpstreamView, Error> {
    let found = upstreams.page(id.saturating_sub(1), 1).pop().filter(|health| health.id() == id);
    let health = found.ok_or(Error::NoUpstream(id))?;
    upstreams.reset(id);
    info!(upstream = %health.upstream(), id, uid = peer.uid(), pid = peer.pid(), "upstream reset");
    Ok(UpstreamView::of(&health))
}

/// Makes a resolver forget what it knows of a node, or all that it knows; away from the threads that relay, as it may
/// know millions of nodes.
pub(super) async fn flush(
    daemon: Arc<Daemon>,
    peer: &Peer,
    name: String,
    node: Option<NodeName>,
) -> Result<FlushedView, Error> {
    let found = daemon.snapshot().resolvers.get(&name).cloned();
    let resolver = found.ok_or_else(|| Error::NoResolver(name.clone()))?;
    let of = node.clone();
    let flushing = blocking(move || resolver.flush(of.as_ref()));
    let flushed = flushing.await.map_err(|panic| Error::Internal(panic.to_string()))?;
    let node = node.as_ref().map(NodeName::as_str);
    info!(resolver = name, node, flushed, uid = peer.uid(), pid = peer.pid(), "resolver flushed");
    Ok(FlushedView { flushed })
}
