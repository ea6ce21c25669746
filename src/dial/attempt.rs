//! One try to reach one upstream, and how it failed.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::plan::Course;
use crate::resolve::NoAnswer;

/// A failed attempt: what the client, the log and the commands show of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What it was made for.
    pub course: Course,
    /// The address that was dialed; while the name lookup lasts, the upstream as it is written, and before that the
    /// resolver's name.
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
    /// Asking a resolver.
    Resolve,
    /// Finding room: among the route's relays, then among the name lookups.
    Limit,
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
            Self::Resolve => "resolve",
            Self::Limit => "limit",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Why an attempt failed; every one of them lets the next candidate be tried, and most of them eject the upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// A resolver had no answer.
    #[error("the resolver {0}")]
    Unresolved(NoAnswer),
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
    /// A lease of this daemon listens there: the request would come back.
    #[error("leads back to this daemon, to one of its leases")]
    Loop,
    /// Not up within the attempt's timeout or the request's deadline.
    #[error("timed out")]
    TimedOut,
    /// Another candidate was up before this one, which stands before it in the plan, had answered within so long.
    #[error("no answer for {} ms; overtaken", .0.as_millis())]
    Overtaken(Duration),
    /// The peer reset or ended the connection before it was up.
    #[error("connection closed by the peer")]
    Terminated,
    /// The peer's certificate is not trusted.
    #[error("certificate refused: {0}")]
    Certificate(String),
    /// The peer ended the TLS handshake with an alert.
    #[error("the peer sent the TLS alert {0}")]
    Alert(String),
    /// It ended the TLS handshake with an alert that is about our certificate, or the lack of one.
    #[error("the peer sent the TLS alert {0}")]
    Credential(String),
    /// The TLS handshake failed otherwise.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The route has as many requests and relays open as it may; nothing was dialed, and no upstream has failed.
    #[error("as many relays are open as its max_relays allows ({0})")]
    Full(usize),
    /// This machine could not make the connection: descriptors, memory, permissions, a source that is not there.
    #[error("this machine cannot connect: {0}")]
    Local(String),
}

impl DialError {
    /// Sorts the error of a connect.
    pub(crate) fn from_connect(error: &io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(error) else { return Self::Local(error.to_string()) };
        match errno {
            Errno::CONNREFUSED => Self::Refused,
            Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE => Self::Terminated,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::HOSTUNREACH | Errno::HOSTDOWN => Self::Unreachable("host unreachable"),
            Errno::NETUNREACH | Errno::NETDOWN => Self::Unreachable("network unreachable"),
            // An address of a family or scope that this machine has no way to, such as fe80:: without an interface.
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::INVAL => Self::Unreachable("no way to this address"),
            // What a firewall on the way answers under IPv6 (RFC 4443, section 3.1), and a route that says so here.
            Errno::ACCESS => Self::Unreachable("a firewall or a route forbids it"),
            _ => Self::Local(error.to_string()),
        }
    }

    /// Whether it is a reason to put the upstream behind others. What this machine lacks is not, nor what was not dialed,
    /// nor that a credential of ours is refused: the upstream is there.
    pub fn ejects(&self) -> bool {
        !matches!(self, Self::Unresolved(_) | Self::Full(_) | Self::Loop | Self::Local(_) | Self::Credential(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_a_connect_are_sorted() {
        let sorted = |errno: Errno| DialError::from_connect(&errno.into());
        assert_eq!(sorted(Errno::CONNREFUSED), DialError::Refused);
        assert_eq!(sorted(Errno::HOSTUNREACH).to_string(), "host unreachable");
        assert_eq!(sorted(Errno::NETUNREACH).to_string(), "network unreachable");
        assert_eq!(sorted(Errno::ADDRNOTAVAIL).to_string(), "no way to this address");
        assert_eq!(sorted(Errno::ACCESS).to_string(), "a firewall or a route forbids it");
        assert_eq!(sorted(Errno::TIMEDOUT), DialError::TimedOut);
        assert_eq!(sorted(Errno::MFILE).to_string(), "this machine cannot connect: Too many open files (os error 24)");
    }
}
