//! How a request ended: [`Refused`] before the client was told that it is connected, [`Closed`] after it. The only map
//! from errors to status, label and log line.

use std::time::Duration;

use crate::dial::Attempt;

/// Why a request was answered with an error.
#[derive(Debug, Clone)]
pub enum Refused {
    /// Nothing in the table matches.
    NoRoute,
    /// Something matched, and every attempt failed.
    AllFailed(Vec<Attempt>),
    /// `limits.relays` are open already.
    Busy,
    /// The daemon is ending.
    Draining,
    /// The head is no request.
    BadHead(crate::request::BadHead),
    /// The client went away before it was connected; there is nobody to answer.
    ClientGone,
}

/// How a relay ended.
#[derive(Debug)]
pub struct Closed {
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
    /// How long the relay was open.
    pub open_for: Duration,
    /// What ended it.
    pub end: End,
}

/// One of the two sides of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The local process that asked.
    Client,
    /// The node.
    Upstream,
}

/// What ended a relay.
#[derive(Debug)]
pub enum End {
    /// Both directions ended in order; this side was the first.
    Finished(Side),
    /// This side reset its connection, or ended TLS without close_notify.
    Reset(Side),
    /// This side failed otherwise (a keepalive that nobody answered, a broken TLS record).
    Failed(Side, std::io::Error),
    /// One side had ended, and this one was silent for `half_close_timeout`.
    HalfCloseTimeout(Side),
    /// No byte either way for `idle_timeout`.
    IdleTimeout,
    /// A drain came to its end.
    Drained,
}
