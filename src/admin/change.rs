//! What is to be changed: asked of the task that owns the table, and logged with who asked for it.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::timeout;
use tracing::info;

use super::problem::Error;
use super::view::{AddedView, ChangeView, RouteView};
use crate::control::Control;
use crate::listen::Peer;

/// The most bytes that a route may have as JSON.
const MAX_BODY: usize = 64 * 1024;

/// How long they may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body of a request to add a route.
pub(super) async fn read_route(headers: &HeaderMap, body: Incoming) -> Result<Value, Error> {
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
    serde_json::from_slice(&bytes).map_err(|error| Error::BadRequest(format!("the body is not JSON: {error}")))
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
