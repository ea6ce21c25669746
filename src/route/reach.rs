//! How a route leads to its nodes: by addresses of its own, or by those of a resolver.

use std::fmt;
use std::sync::Arc;

use super::{Host, Upstream};

/// How a route leads to its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// These, tried in this order; never empty.
    Static(Box<[Upstream]>),
    /// What a resolver answers.
    Asked(Box<Asked>),
}

/// The resolver that a route asks, and what the route says in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name: `[resolver.NAME]` of `portolan.toml`.
    pub resolver: Arc<str>,
    /// In place of each answer's host; empty: the answer's own.
    pub hosts: Box<[HostPort]>,
    /// In place of an answer's port; `None`: the answer's own.
    pub port: Option<u16>,
    /// Plain TCP, also where the answer says TLS.
    pub is_plain: bool,
}

/// A host, with or without a port of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// Its own port, which comes before any other.
    pub port: Option<u16>,
}

/// As it may be written.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, Some(port)) => Upstream { host: host.clone(), port }.fmt(f),
            (host, None) => host.fmt(f),
        }
    }
}

impl Reach {
    /// The addresses of the route itself; none if a resolver is asked.
    pub fn upstreams(&self) -> &[Upstream] {
        match self {
            Self::Static(upstreams) => upstreams,
            Self::Asked(_) => &[],
        }
    }

    /// What is asked, if anything is.
    pub fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Static(_) => None,
            Self::Asked(asked) => Some(asked),
        }
    }
}
