//! Routes and the table of them.

mod lint;
mod order;
mod pattern;
mod reach;
mod settings;
mod table;
mod without_effect;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use lint::{Finding, findings, oddities};
pub use order::Order;
pub use pattern::{Anchor, BadPattern, Needle, Pattern};
pub use reach::{Asked, HostPort, Reach};
pub use settings::{Settings, Source, Timeout};
pub use table::{Entry, NoRoute, Rank, RouteTable, Row, Taken, Unknown};

/// One entry of the table: a pattern, a weight, and how to reach the nodes that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it matches; its text is the route's key in the table.
    pub pattern: Pattern,
    /// Strict order, highest first; equal weights keep the order of the file.
    pub weight: i64,
    /// Where the node may be reached.
    pub reach: Reach,
    /// TLS to the upstream; `None` is plain TCP, or what a resolver says.
    pub tls: Option<Arc<TlsPolicy>>,
    /// How it is dialed and its relays are kept, if it says anything of that: most routes do not, and cost a pointer.
    pub settings: Option<Box<Settings>>,
    /// No discovery after the static steps.
    pub is_final: bool,
    /// A short name for people, logs and commands.
    pub name: Option<Box<str>>,
    /// A sentence for people.
    pub description: Option<Box<str>>,
    /// Where it is written.
    pub origin: Origin,
}

impl Route {
    /// How it is dialed and its relays are kept.
    pub fn settings(&self) -> &Settings {
        self.settings.as_deref().unwrap_or(&Settings::DEFAULT)
    }

    /// Whether both say the same, wherever they are written.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let Self { pattern, weight, reach, tls, settings, is_final, name, description, origin: _ } = self;
        *pattern == other.pattern
            && *weight == other.weight
            && *reach == other.reach
            && *tls == other.tls
            && *settings == other.settings
            && *is_final == other.is_final
            && *name == other.name
            && *description == other.description
    }
}

impl Entry for Route {
    type Key = str;

    fn key(&self) -> &str {
        self.pattern.as_str()
    }

    fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    fn weight(&self) -> i64 {
        self.weight
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Where an entry comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file that the configuration names.
    File {
        /// The file, as the configuration names it.
        file: Arc<Path>,
        /// The line of the entry's pattern, counted from 1.
        line: u32,
    },
    /// An edit at run time.
    Edit {
        /// When it was made.
        at: SystemTime,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Edit { at } => write!(f, "edit of {}", humantime::format_rfc3339_seconds(*at)),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address that we may dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The host, as an address or as a name that is looked up at each attempt.
    pub host: Host,
    /// The TCP port, 1 to 65535.
    pub port: u16,
}

/// The host of an [`Upstream`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name.
    Name(Box<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// TLS to an upstream, as it is written; [`crate::dial::Trusts`] has what the files hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Certificate authorities in PEM; `None` is what the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate chain in PEM and its key; both or neither.
    pub identity: Option<Identity>,
    /// The name that the peer's certificate must bear; `None` is the upstream's host.
    pub server_name: Option<String>,
    /// SHA-256 of the peer's public key (SubjectPublicKeyInfo, as in RFC 7469); empty: any key.
    pub pins: Vec<[u8; 32]>,
    /// Neither chain nor name is verified; pins still are.
    pub insecure_skip_verify: bool,
}

/// The files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The certificate chain in PEM, ours first.
    pub cert: PathBuf,
    /// The private key in PEM (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Routes for the tests of every room.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A route in a table of its own.
    pub(crate) fn row(route: Route) -> Arc<Row<Route>> {
        RouteTable::new().add(route).unwrap()
    }

    /// A route to nowhere.
    pub(crate) fn route(pattern: &str, weight: i64) -> Route {
        Route {
            pattern: Pattern::parse(pattern).unwrap(),
            weight,
            reach: Reach::Static([Upstream { host: Host::Ip([127, 0, 0, 1].into()), port: 1 }].into()),
            tls: None,
            settings: None,
            is_final: false,
            name: None,
            description: None,
            origin: Origin::File { file: Path::new("routes.toml").into(), line: 1 },
        }
    }
}
