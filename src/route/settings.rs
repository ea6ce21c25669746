//! How a route's upstreams are dialed and its relays are kept, where the route says something of its own.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What a route says in place of the daemon's defaults; a field that is `None` is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long TCP and TLS of one attempt may take.
    pub connect_timeout: Option<Duration>,
    /// How long an attempt may be without an answer before the next candidate is started beside it.
    pub race_after: Option<Timeout>,
    /// Where to dial from; `None` is what the system chooses.
    pub source: Option<Source>,
    /// Whether the upstream is told who the client is, by the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// The most relays and dials of this route that are open at once; `None` is no bound of its own.
    pub max_relays: Option<usize>,
    /// No byte either way for so long ends a relay.
    pub idle_timeout: Option<Timeout>,
    /// A silent upstream is asked after so long whether it is still there.
    pub keepalive: Option<Timeout>,
}

/// A length of time that may have no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// So long.
    After(Duration),
    /// For ever.
    Never,
}

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An address of this machine.
    Ip(IpAddr),
    /// A network interface.
    Interface(Box<str>),
}

impl Settings {
    /// A route that says nothing of its own.
    pub const DEFAULT: Self = Self {
        connect_timeout: None,
        race_after: None,
        source: None,
        proxy_protocol: false,
        max_relays: None,
        idle_timeout: None,
        keepalive: None,
    };
}

impl Timeout {
    /// The length; `None` has no end.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::After(duration) => Some(duration),
            Self::Never => None,
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(duration) => humantime::format_duration(*duration).fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Interface(name) => f.write_str(name),
        }
    }
}
