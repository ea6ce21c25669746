//! `portolan.toml` as it is meant: checked, with every default filled in.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::resolver::{DiscoveryConfig, ResolverConfig};
use super::resolver_etcd::EtcdResolver;
use super::routes_list::RoutesEntry;
use crate::node::NodeName;

/// `portolan.toml`, checked; every path is resolved against the folder of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from.
    pub path: Arc<std::path::Path>,
    /// The routes files, in the order of the table; [`super::routes_files`] says which there are.
    pub routes: Vec<RoutesEntry>,
    /// The socket that clients ask on.
    pub socket: SocketConfig,
    /// The socket of the admin API.
    pub admin: AdminConfig,
    /// Where edits at run time are kept; `None`: the first that there is of `$STATE_DIRECTORY` and the folder
    /// `portolan.state` beside the file.
    pub state: Option<PathBuf>,
    /// Doors without a head.
    pub forwards: Vec<ForwardConfig>,
    /// Where Ergo's nodes register and ask; `None`: nowhere.
    pub registrar: Option<RegistrarConfig>,
    /// How upstreams are dialed.
    pub dial: DialConfig,
    /// What is bounded.
    pub limits: Limits,
    /// The log.
    pub log: LogConfig,
    /// What may be asked where a node is.
    pub resolvers: Vec<ResolverConfig>,
    /// What is asked for what no route has reached, if anything is.
    pub discovery: Option<DiscoveryConfig>,
}

impl Config {
    /// The names of the resolvers.
    pub fn resolver_names(&self) -> Vec<Arc<str>> {
        self.resolvers.iter().map(|resolver| Arc::clone(&resolver.name)).collect()
    }

    /// What the table that `routes` shares with a fleet is read from, and the name of that resolver.
    pub fn shared(&self) -> Option<(&Arc<str>, &EtcdResolver)> {
        let name = self.routes.iter().find_map(|entry| match entry {
            RoutesEntry::Shared(name) => Some(name),
            RoutesEntry::File(_) | RoutesEntry::Glob(_) => None,
        })?;
        self.etcd(name)
    }

    /// The resolver of type etcd that has this name.
    pub fn etcd(&self, name: &str) -> Option<(&Arc<str>, &EtcdResolver)> {
        let resolver = self.resolvers.iter().find(|resolver| &*resolver.name == name)?;
        Some((&resolver.name, resolver.kind.etcd()?))
    }
}

/// `[socket]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Where the Unix socket is bound; `None`: the first that there is of `$RUNTIME_DIRECTORY`,
    /// `$XDG_RUNTIME_DIR/portolan` and the working folder.
    pub path: Option<PathBuf>,
    /// Who may open it.
    pub access: SocketAccess,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where the Unix socket is bound; `None`: `admin.sock` beside the main socket.
    pub path: Option<PathBuf>,
    /// Who may open it; the mode is 0600 when it is not written.
    pub access: SocketAccess,
}

/// Mode, owner and group of a socket that portolan binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAccess {
    /// Permission bits, default 0660.
    pub mode: u32,
    /// User that owns it, by name or number.
    pub owner: Option<String>,
    /// Group that owns it, by name or number.
    pub group: Option<String>,
}

impl Default for SocketAccess {
    fn default() -> Self {
        Self { mode: 0o660, owner: None, group: None }
    }
}

/// `[[forward]]`: a door whose every byte is the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardConfig {
    /// Where it listens.
    pub listen: ForwardAddress,
    /// The node that its clients are connected to.
    pub node: NodeName,
    /// Who may connect over TCP, by names or numbers; `None`: whoever reaches it.
    pub users: Option<Vec<String>>,
}

/// Where a forward listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardAddress {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf, SocketAccess),
}

impl fmt::Display for ForwardAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path, _) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[registrar]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrarConfig {
    /// The addresses, each for TCP and UDP; port 0 takes a free one that is the same for both.
    pub listen: Vec<SocketAddr>,
    /// The most nodes that are registered at once.
    pub nodes: usize,
    /// Who is answered with leases, by names or numbers; `None`: every user of this machine.
    pub users: Option<Vec<String>>,
}

impl RegistrarConfig {
    /// `nodes`, where nothing is written.
    pub(super) const NODES: usize = 256;
}

/// `[dial]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialConfig {
    /// TCP and TLS of one attempt.
    pub connect_timeout: Duration,
    /// How long an attempt may be without an answer before the next candidate is started beside it; `None`: for ever.
    pub race_after: Option<Duration>,
    /// The whole request.
    pub establish: Duration,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            race_after: Some(Duration::from_millis(1500)),
            establish: Duration::from_secs(5),
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests and relays that are open at once.
    pub relays: usize,
    /// How long relays may end by themselves when the daemon ends.
    pub drain_timeout: Duration,
    /// One side has ended, the other is silent; `None`: for ever.
    pub half_close_timeout: Option<Duration>,
    /// No byte either way; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// Leases that there are at once.
    pub leases: usize,
    /// How long a lease may be of no use.
    pub lease_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            relays: 100_000,
            drain_timeout: Duration::from_secs(5),
            half_close_timeout: Some(Duration::from_secs(300)),
            idle_timeout: None,
            leases: 256,
            lease_idle_timeout: Duration::from_secs(300),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The least level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Auto }
    }
}

/// `log.level`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed for good.
    Error,
    /// What somebody should look at.
    Warn,
    /// One line for each relay and refusal.
    Info,
    /// Each attempt.
    Debug,
    /// Everything.
    Trace,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, journald under systemd, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// systemd's journal, with fields.
    Journald,
}
