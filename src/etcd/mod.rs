//! etcd, as far as portolan asks it: a key, and a watch of what begins with a prefix. Nothing of the library shows.

mod client;

use std::path::PathBuf;

pub use client::{Etcd, Event, Found, Watching};

use crate::config::Secret;

/// Where etcd is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Each as `http://host:port` or `https://host:port`; the next one is asked where one fails.
    pub endpoints: Vec<String>,
    /// The user and its password.
    pub user: Option<(String, Secret)>,
    /// TLS to it.
    pub tls: Option<EtcdTls>,
}

/// TLS to etcd. The files are read at each connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// Certificate authorities in PEM; `None` is what the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate chain and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that its certificate must bear; `None`: the endpoint's host.
    pub server_name: Option<String>,
}

/// Why etcd did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// It has forgotten the revision.
    #[error("the revision is compacted away")]
    Compacted,
    /// No answer, or a refusal.
    #[error("{endpoint}: {why}")]
    Away {
        /// Who was asked.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
}
