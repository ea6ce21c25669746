//! One try to reach one upstream, and how it failed.

use std::sync::Arc;
use std::time::Duration;

use crate::route::Route;

/// A failed attempt: what the client, the log and the commands show of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The route that it was made for.
    pub route: Arc<Route>,
    /// The address that was dialed; while the name lookup lasts, the upstream as it is written.
    pub address: String,
    /// How far it came.
    pub stage: Stage,
    /// Why it came no further.
    pub error: DialError,
    /// How long it took.
    pub took: Duration,
}

/// The steps of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the upstream's host name.
    Dns,
    /// Connecting.
    Tcp,
    /// The TLS handshake.
    Tls,
}

impl Stage {
    /// The stage's label, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Why an attempt failed; every one of them lets the next candidate be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name service knows no such host.
    #[error("name not found")]
    NameNotFound,
    /// The name service did not answer properly.
    #[error("name lookup failed: {0}")]
    NameLookup(String),
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No way there.
    #[error("{0}")]
    Unreachable(&'static str),
    /// No answer within the attempt's timeout or the request's deadline.
    #[error("timed out")]
    TimedOut,
    /// The peer reset or ended the connection before it was up.
    #[error("connection closed by the peer")]
    Terminated,
    /// The peer's certificate is not trusted.
    #[error("certificate refused: {0}")]
    Certificate(String),
    /// The peer ended the TLS handshake with an alert.
    #[error("the peer sent the TLS alert {0}")]
    Alert(String),
    /// The TLS handshake failed otherwise.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// This machine could not make the connection: descriptors, memory, permissions.
    #[error("this machine cannot connect: {0}")]
    Local(String),
}
