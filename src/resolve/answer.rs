//! What a service says of a node.

use std::sync::Arc;
use std::time::Duration;

use crate::route::Host;

/// One place where a node may be reached, as the service says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The host; where the service names none, the host part of the node's name.
    pub host: Host,
    /// The name that its certificate must bear, where the service was asked for the address of a name and `host` is that
    /// address.
    pub certified: Option<Arc<str>>,
    /// The port; `None` where the service knows none.
    pub port: Option<u16>,
    /// Whether TLS is spoken there; `None` where the service does not say.
    pub tls: Option<bool>,
    /// The handshake's version as Ergo writes it, such as `EHS:R1`; `None` where the service does not say.
    pub handshake: Option<Arc<str>>,
    /// The protocol's version as Ergo writes it, such as `ENP:R1`; `None` where the service does not say.
    pub proto: Option<Arc<str>>,
}

/// Everything that a service says of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// In the order in which they are to be tried; never empty.
    pub list: Arc<[Answer]>,
    /// For how long they hold; `None` where the service does not say.
    pub ttl: Option<Duration>,
}

/// Why a service gave no answer; the texts stand behind the resolver's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It says that there is no such node.
    #[error("knows no such node")]
    Unknown {
        /// For how long that holds; `None` where the service does not say.
        ttl: Option<Duration>,
    },
    /// The name is none that this service could be asked for, and why.
    #[error("cannot be asked for this name: {0}")]
    NotAskable(String),
    /// The service cannot be reached, or refuses, and how it says so.
    #[error("is away: {0}")]
    Away(String),
    /// It answers, but what it says is not understood, and where that was found.
    #[error("gave an answer that is not understood: {0}")]
    Garbled(String),
    /// It answers, but not this question: it refuses it or fails at it, and how it says so. It may know other nodes.
    #[error("has no answer for this name: {0}")]
    Refused(String),
    /// Nothing came in time.
    #[error("did not answer in time")]
    TimedOut,
    /// As many questions as it may be asked at once are under way.
    #[error("is asked too many questions at once")]
    Busy,
}

impl NoAnswer {
    /// Whether the service itself says no; everything else is its failure, and an old answer is better than that.
    pub fn is_certain(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::NotAskable(_))
    }

    /// Whether the service is there, and this node alone is none the wiser.
    pub fn is_of_the_node(&self) -> bool {
        matches!(self, Self::Garbled(_) | Self::Refused(_))
    }
}
