//! What an operator sees and changes at run time: HTTP/1.1 and JSON on a Unix socket of its own, and the shapes that the
//! API, the commands and the journal share. `docs/openapi.yaml` describes it for programs, `docs/admin.md` for people.

pub mod view;

mod call;
mod change;
mod explain;
mod problem;
mod query;
mod read;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::net::UnixStream;

use crate::admit::HeadSlot;
use crate::control::Control;
use crate::daemon::Daemon;
use crate::listen::Peer;
use crate::stream::Stream;
use call::Call;
use problem::Error;

/// How long a head may take, and how long a connection may be idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives; whoever does not read its answers does not keep its place for ever.
const LIFE: Duration = Duration::from_secs(300);

/// How long the answer in hand may take after that: a reload of a large table takes seconds.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// The same when the daemon ends: whoever would make a change is gone by then.
const LAST_ANSWER_IN_DRAIN: Duration = Duration::from_secs(1);

/// What stands in a segment of a path as it is (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An answer whose body is there as a whole.
type Answer = Response<Full<Bytes>>;

/// Serves one connection; it keeps its place at the door to its end.
pub(crate) async fn serve(daemon: Arc<Daemon>, control: Control, stream: UnixStream, _place: Option<HeadSlot>) {
    let peer = Peer::of_unix(&stream);
    let service = service_fn(|request| {
        Box::pin(async {
            let answer = answer(&daemon, &control, &peer, request).await.unwrap_or_else(|error| error.answer());
            Ok::<_, Infallible>(answer)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // A client that has shut down writing still reads; and no change is given up half-way.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    // What went wrong with a connection is its client's affair, here and below.
    let last_answer = tokio::select! {
        _ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => None,
        () = daemon.drain.begun() => Some(LAST_ANSWER_IN_DRAIN),
        () = tokio::time::sleep(LIFE) => Some(LAST_ANSWER),
    };
    if let Some(time) = last_answer {
        Pin::new(&mut connection).graceful_shutdown();
        tokio::select! {
            _ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {}
            () = daemon.drain.cut_off() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
    // A body that was refused and not read.
    Stream::Unix(connection.into_parts().io.into_inner()).discard_unread();
}

/// From a request to its answer.
async fn answer(
    daemon: &Arc<Daemon>,
    control: &Control,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Answer, Error> {
    let (head, body) = request.into_parts();
    match Call::parse(head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default())? {
        Call::Read(read) => read::answer(Arc::clone(daemon), read).await,
        Call::Add => {
            let added = change::add(control, peer, change::read_body(&head.headers, body).await?).await?;
            let mut answer = json(StatusCode::CREATED, &added);
            if let Ok(location) = location(&added.route.spec.pattern).try_into() {
                answer.headers_mut().insert(header::LOCATION, location);
            }
            Ok(answer)
        }
        Call::Remove(pattern) => Ok(json(StatusCode::OK, &change::remove(control, peer, pattern).await?)),
        Call::Close => {
            let which = change::read_body(&head.headers, body).await?;
            Ok(json(StatusCode::OK, &change::close(Arc::clone(daemon), peer, which).await?))
        }
        Call::Reset(id) => Ok(json(StatusCode::OK, &change::reset(&daemon.upstreams, peer, id)?)),
        Call::Flush { resolver, node } => {
            let flushed = change::flush(Arc::clone(daemon), peer, resolver, node).await?;
            Ok(json(StatusCode::OK, &flushed))
        }
        Call::Reload { strict } => Ok(json(StatusCode::OK, &change::reload(control, peer, strict).await?)),
    }
}

/// Where the route with this pattern is found.
pub(crate) fn location(pattern: &str) -> String {
    format!("/v1/routes/{}", segment(pattern))
}

/// A text as a segment of a path, or as a value in a query.
pub(crate) fn segment(text: &str) -> String {
    match text {
        // Dots alone would be taken for steps of the path.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        text => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// An answer with a view; a line of its own, for those who read it on a terminal.
fn json(status: StatusCode, view: &impl Serialize) -> Answer {
    match serde_json::to_vec(view) {
        Ok(mut body) => {
            body.push(b'\n');
            with_body(status, "application/json", body)
        }
        Err(error) => Error::Internal(error.to_string()).answer(),
    }
}

fn with_body(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    answer
}

#[cfg(test)]
mod tests;
