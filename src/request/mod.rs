//! What a client asks for, and what it is told: heads of HTTP and SOCKS5 become a [`ConnectRequest`] or the wish for a
//! lease, outcomes become bytes. No socket and no clock in here.

mod answer;
mod field;
mod head;
mod headers;
mod http;
mod lease;
mod problem;
mod socks5;

use std::time::Duration;

pub use answer::{established, handed_off, leased, refused};
pub use head::{HeadReader, Step};
pub(crate) use http::{percent_decoded, shown};
pub use lease::LeaseView;
pub use problem::{FailedAttempt, Problem};

use crate::node::NodeName;

/// One ask to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The node that is asked for.
    pub node: NodeName,
    /// How the client asked, and so how it is answered.
    pub form: Form,
    /// How long the client is willing to wait, if it is less than the daemon.
    pub deadline: Option<Duration>,
    /// Whether the client wants the upstream's descriptor in place of a relay; only with [`Form::Upgrade`].
    pub handoff: bool,
    /// Bytes already read past the head: the first bytes for the node.
    pub tail: Vec<u8>,
}

impl ConnectRequest {
    /// The request of a forward's client, which has no head.
    pub fn forward(node: NodeName) -> Self {
        Self { node, form: Form::Forward, deadline: None, handoff: false, tail: Vec::new() }
    }
}

/// The forms of a request; the first byte tells SOCKS5 from HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `GET /v1/connect/NODE` with `Upgrade: portolan-tunnel` (RFC 9110, section 7.8).
    Upgrade,
    /// `CONNECT NODE` (RFC 9110, section 9.3.6).
    Connect,
    /// SOCKS5 (RFC 1928).
    Socks5,
    /// SOCKS5 whose greeting is not answered yet: only a method can be told, or that none will do.
    Socks5Greeting,
    /// A forward: no head is read and no answer is given.
    Forward,
}

/// Why a head is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// It breaks the rules of its form, or asks for what is not there.
    #[error("{0}")]
    Malformed(String),
    /// It is longer than a head may be.
    #[error("the head is longer than {max} bytes", max = MAX_HEAD)]
    TooLarge,
    /// It has more header lines than a head may have.
    #[error("the head has more than {max} header lines", max = MAX_HEADER_LINES)]
    TooManyHeaderLines,
    /// Bytes came behind the head of a request for a hand-off: nobody would pass them on.
    #[error(
        "bytes came behind a head with handoff=1, and would be lost; wait for the answer and send them to the node on the \
         descriptor that comes with it"
    )]
    BytesBehind,
    /// It was not complete in time.
    #[error("the head was not complete in time")]
    TooSlow,
    /// The client ended its stream inside the head.
    #[error("the stream ended inside the head")]
    Truncated,
    /// A SOCKS5 command that is not CONNECT.
    #[error("the SOCKS5 command {0} is not supported, only CONNECT (1)")]
    SocksCommand(u8),
    /// A SOCKS5 address type that does not exist.
    #[error("the SOCKS5 address type {0} does not exist")]
    SocksAddressType(u8),
    /// The SOCKS5 client does not offer "no authentication".
    #[error("the SOCKS5 client does not offer the method \"no authentication\"")]
    SocksMethod,
}

/// The longest head, in bytes, with the body of a request that has one; also the most that is read before a request is
/// complete.
pub const MAX_HEAD: usize = 8192;

/// The most header lines that an HTTP head may have.
pub const MAX_HEADER_LINES: usize = 64;

/// The protocol that an `Upgrade` asks for.
pub const UPGRADE_PROTOCOL: &str = "portolan-tunnel";

/// The header line of an answer that a descriptor came with; its value is `1`.
pub const HANDOFF_HEADER: &str = "Portolan-Handoff";

/// The path that a canonical request begins with; the node's name follows it, percent-encoded.
pub const CONNECT_PATH: &str = "/v1/connect/";

/// The path at which a client asks for a forward of its own.
pub const LEASE_PATH: &str = "/v1/forwards";

/// The longest deadline that a client may ask for.
pub const MAX_DEADLINE: Duration = Duration::from_secs(3600);
