//! How a request ended: [`Refused`] before the client was told that it is connected, [`Closed`] after it. The only map
//! from errors to status, label and log line.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::dial::{self, Attempt, DialError, Slot, Stage};
use crate::lease::NoLease;
use crate::listen::Peer;
use crate::node::NodeName;
use crate::plan::Course;
use crate::relay::Registered;
use crate::request::BadHead;
use crate::resolve::NoAnswer;

/// Why a request was answered with an error.
#[derive(Debug, Clone)]
pub enum Refused {
    /// Nothing in the table matches.
    NoRoute,
    /// Nothing in the table matches, and the resolver of this name knows no such node.
    Unknown(Arc<str>),
    /// Something matched, and every attempt failed.
    AllFailed(Vec<Attempt>),
    /// `limits.relays` are open already.
    Busy,
    /// The daemon is ending.
    Draining,
    /// The head is no request.
    BadHead(BadHead),
    /// No lease can be given.
    NoLease(NoLease),
    /// A forward's `users` do not have this client's user; `None`: nobody is known to own its socket.
    NotAllowed {
        /// The client.
        client: SocketAddr,
        /// Whose it is.
        uid: Option<u32>,
        /// Whose the forward is, if it is a lease.
        leased_to: Option<u32>,
    },
    /// The client asked for a descriptor that it can't have.
    NoHandoff(NoHandoff),
    /// The client went away before it was connected; there is nobody to answer.
    ClientGone,
}

/// Why a client can't have the upstream's descriptor; without hand-off it can be connected.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoHandoff {
    /// What the upstream gets and gives is not what its socket carries.
    #[error("hand-off needs a plain TCP upstream; {0} has TLS: ask without handoff=1")]
    Tls(Course),
    /// A descriptor goes over a Unix socket only.
    #[error("hand-off needs a client on a Unix socket: ask without handoff=1")]
    NotUnix,
    /// The system does not pass the descriptor.
    #[error("the system does not pass the descriptor: {0}; ask again, or without handoff=1")]
    System(String),
}

/// How a refusal is told, in the words of each protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status.
    pub status: u16,
    /// The `code` of the problem body, and the label of logs and metrics.
    pub code: &'static str,
    /// The error type of `Proxy-Status` (RFC 9209, section 2.3).
    pub proxy_status: &'static str,
    /// The reply of SOCKS5 (RFC 1928, section 6).
    pub socks5: u8,
}

impl Refused {
    /// The only map from a refusal to what a client is told.
    pub fn outcome(&self) -> Outcome {
        let (status, code, proxy_status, socks5) = match self {
            Self::NoRoute | Self::Unknown(_) => (404, "no_route", "destination_not_found", 4),
            Self::AllFailed(attempts) => {
                let (status, proxy_status, socks5) = last_attempt(attempts);
                (status, "all_failed", proxy_status, socks5)
            }
            Self::Busy => (503, "busy", "connection_limit_reached", 1),
            Self::Draining | Self::NoLease(NoLease::Draining) => (503, "draining", "connection_limit_reached", 1),
            Self::NoLease(NoLease::Full(_) | NoLease::FullForUser(..)) => (503, "busy", "connection_limit_reached", 1),
            Self::NoLease(NoLease::System(_)) => (503, "busy", "proxy_internal_error", 1),
            Self::NotAllowed { .. } => (403, "not_allowed", "http_request_denied", 2),
            Self::BadHead(bad) => {
                let (status, socks5) = bad_head(bad);
                (status, "bad_request", "http_request_error", socks5)
            }
            // The client's wish and the route do not go together; what the system refuses, it may grant later.
            Self::NoHandoff(NoHandoff::Tls(_) | NoHandoff::NotUnix) => (409, "no_handoff", "http_request_denied", 1),
            Self::NoHandoff(NoHandoff::System(_)) => (503, "no_handoff", "proxy_internal_error", 1),
            // Nobody is told. The status is the one that logs of HTTP servers have for it.
            Self::ClientGone => (499, "client_gone", "http_request_error", 1),
        };
        Outcome { status, code, proxy_status, socks5 }
    }

    /// The attempts that were made; empty unless all of them failed.
    pub fn attempts(&self) -> &[Attempt] {
        match self {
            Self::AllFailed(attempts) => attempts,
            _ => &[],
        }
    }

    /// One sentence for the client; where attempts are listed beside it, it names the last one only.
    pub fn detail(&self) -> String {
        match self.attempts() {
            [] => self.to_string(),
            [only] => format!("the only attempt failed: {}", told(only)),
            [earlier @ .., last] => format!("all {} attempts failed, the last: {}", earlier.len() + 1, told(last)),
        }
    }
}

/// Status, Proxy-Status error and SOCKS5 reply of a plan of which every attempt failed: the last one decides.
fn last_attempt(attempts: &[Attempt]) -> (u16, &'static str, u8) {
    // The deadline was over before the first attempt.
    let Some(last) = attempts.last() else { return (504, "connection_timeout", 4) };
    match (&last.error, last.stage) {
        (DialError::Full(_), _) => (503, "connection_limit_reached", 1),
        (DialError::Unresolved(NoAnswer::Unknown { .. } | NoAnswer::NotAskable(_)), _) => (502, "dns_error", 4),
        (DialError::Unresolved(NoAnswer::TimedOut), _) => (504, "dns_timeout", 4),
        (
            DialError::Unresolved(NoAnswer::Away(_) | NoAnswer::Garbled(_) | NoAnswer::Refused(_) | NoAnswer::Busy),
            _,
        ) => (503, "destination_unavailable", 1),
        (DialError::NameNotFound | DialError::NameLookup(_), _) => (502, "dns_error", 1),
        (DialError::Refused, _) => (502, "connection_refused", 5),
        (DialError::Loop, _) => (502, "proxy_loop_detected", 1),
        (DialError::Unreachable(_), _) => (502, "destination_ip_unroutable", 3),
        (DialError::TimedOut, Stage::Dns) => (504, "dns_timeout", 4),
        (DialError::TimedOut, Stage::Resolve | Stage::Limit | Stage::Tcp | Stage::Tls)
        | (DialError::Overtaken(_), _) => (504, "connection_timeout", 4),
        (DialError::Terminated, _) => (502, "connection_terminated", 1),
        (DialError::Certificate(_), _) => (502, "tls_certificate_error", 1),
        (DialError::Alert(_) | DialError::Credential(_), _) => (502, "tls_alert_received", 1),
        (DialError::Tls(_), _) => (502, "tls_protocol_error", 1),
        // RFC 9209 keeps `destination_unavailable` for a next hop that is believed to be down. This is our own lack,
        // "unrelated to the origin", and mostly a passing one (descriptors, memory), hence 503 and not 500.
        (DialError::Local(_), _) => (503, "proxy_internal_error", 1),
    }
}

/// Status and SOCKS5 reply.
fn bad_head(bad: &BadHead) -> (u16, u8) {
    match bad {
        BadHead::Malformed(_) | BadHead::BytesBehind | BadHead::Truncated => (400, 1),
        BadHead::TooLarge | BadHead::TooManyHeaderLines => (431, 1),
        BadHead::TooSlow => (408, 1),
        BadHead::SocksCommand(_) => (400, 7),
        BadHead::SocksAddressType(_) => (400, 8),
        // The refused method is no reply, but the byte in its place.
        BadHead::SocksMethod => (400, 0xff),
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => {
                f.write_str("no route matches the node; `portolan lookup NAME` shows what the table has for a name")
            }
            Self::Unknown(resolver) => {
                write!(f, "no route matches the node, and the resolver {:?} knows no such node", &**resolver)
            }
            Self::AllFailed(attempts) if attempts.is_empty() => {
                f.write_str("the time was over before anything could be dialed")
            }
            Self::AllFailed(attempts) => {
                f.write_str("every attempt failed: ")?;
                for (index, attempt) in attempts.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{} ({} ms)", told(attempt), attempt.took.as_millis())?;
                }
                Ok(())
            }
            Self::Busy => f.write_str("as many requests and relays are open as limits.relays allows"),
            Self::Draining => f.write_str("the daemon is ending and takes no new requests"),
            Self::NoLease(why) => why.fmt(f),
            Self::NotAllowed { client, uid: Some(uid), leased_to: Some(holder) } => {
                write!(f, "the client at {client} is of user {uid}, and the lease is of user {holder}")
            }
            Self::NotAllowed { client, uid: None, leased_to: Some(holder) } => {
                write!(f, "nobody is known to own the client at {client}, and the lease is of user {holder}")
            }
            Self::NotAllowed { client, uid: Some(uid), leased_to: None } => {
                write!(f, "the client at {client} is of user {uid}, whom `users` of the forward does not have")
            }
            Self::NotAllowed { client, uid: None, leased_to: None } => {
                write!(f, "nobody is known to own the client at {client}, and the forward is for its `users` only")
            }
            Self::BadHead(bad) => write!(f, "this is not a request: {bad}"),
            Self::NoHandoff(why) => why.fmt(f),
            Self::ClientGone => f.write_str("the client went away before it was connected"),
        }
    }
}

fn told(attempt: &Attempt) -> String {
    format!("{}, {}: {}", attempt.address, attempt.stage.as_str(), attempt.error)
}

/// Writes the line of a refused request.
pub fn log_refusal(node: Option<&NodeName>, refused: &Refused, took: Duration) {
    let (code, attempts, ms) = (refused.outcome().code, refused.attempts().len(), millis(took));
    let node = node.map(NodeName::as_str);
    match refused {
        // Clients may come and go.
        Refused::ClientGone => info!(node, code, why = %refused, attempts, ms, "refused"),
        _ => warn!(node, code, why = %refused, attempts, ms, "refused"),
    }
}

/// What a relay keeps of its request: its own route, and nothing of the table.
#[derive(Debug)]
pub struct Facts {
    /// Who asked.
    pub client: Peer,
    /// The node that was asked for.
    pub node: NodeName,
    /// What led to it.
    pub course: Course,
    /// The address that was dialed.
    pub address: SocketAddr,
    /// How many attempts it took, the last one included.
    pub attempts: u32,
    /// Its place among the route's relays, if the route bounds them.
    pub slot: Option<Arc<Slot>>,
}

/// Writes the line of a connection that its client was given; nothing more is known of it from here on.
pub fn log_handoff(facts: &Facts, took: Duration) {
    let Facts { client: _, node, course, address, attempts, slot: _ } = facts;
    let (node, route, resolver, ms) = (node.as_str(), course.pattern(), course.resolver(), millis(took));
    info!(node, route, resolver, %address, attempts, ms, "handed off");
}

/// Writes the line of a relay that has ended.
pub fn log_relay(closed: &Closed) {
    let Closed { relay, up, down, open_for, end } = closed;
    let Facts { client: _, node, course, address, attempts, slot: _ } = relay.facts();
    // As text and not by `Display`: a client chooses its name, which must not look like further fields.
    let (node, route, resolver) = (node.as_str(), course.pattern(), course.resolver());
    let (ms, by) = (millis(*open_for), end.who());
    match end {
        End::Failed(_, error) => {
            let error = dial::of_relay(error);
            info!(node, route, resolver, %address, attempts, up, down, ms, by, end = end.label(), %error, "relay closed");
        }
        _ => info!(node, route, resolver, %address, attempts, up, down, ms, by, end = end.label(), "relay closed"),
    }
}

/// Whole milliseconds. A field of the log must fit into 64 bits to be a number there.
pub(crate) fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// How a relay ended.
#[derive(Debug)]
pub struct Closed {
    /// What is known of it.
    pub relay: Arc<Registered>,
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

impl Side {
    /// The one across.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// What ended a relay.
#[derive(Debug)]
pub enum End {
    /// Both directions ended in order, or the client closed its Unix socket; this side was the first.
    Finished(Side),
    /// This side reset its connection, or ended TLS without close_notify.
    Reset(Side),
    /// This side failed otherwise (a keepalive that nobody answered, a broken TLS record).
    Failed(Side, io::Error),
    /// One side had ended, and this one was silent for `half_close_timeout`.
    HalfCloseTimeout(Side),
    /// No byte either way for `idle_timeout`.
    IdleTimeout,
    /// A drain came to its end.
    Drained,
    /// An operator closed it.
    Closed,
}

impl End {
    /// The end by an error of this side's stream.
    ///
    /// EPIPE is a reset too: the peer refused bytes after it had ended its own side. TLS that ends without
    /// close_notify is rustls's unexpected end.
    pub fn by(side: Side, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::Reset(side)
            }
            _ => Self::Failed(side, error),
        }
    }

    /// Who ended it: `client`, `upstream` or `portolan`.
    pub fn who(&self) -> &'static str {
        match self {
            Self::Finished(side) | Self::Reset(side) | Self::Failed(side, _) => match side {
                Side::Client => "client",
                Side::Upstream => "upstream",
            },
            Self::HalfCloseTimeout(_) | Self::IdleTimeout | Self::Drained | Self::Closed => "portolan",
        }
    }

    /// The label of logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Finished(_) => "finished",
            Self::Reset(_) => "reset",
            Self::Failed(..) => "failed",
            Self::HalfCloseTimeout(_) => "half_close_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Drained => "drained",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
