//! etcd, as far as portolan asks it: keys, a watch of what begins with a prefix, and transactions. Nothing of the library
//! shows.

// What is said to it and what it says.
mod data;
// The calls; without the library there is another that says so.
#[cfg_attr(not(feature = "etcd"), path = "absent.rs")]
mod client;
#[cfg(feature = "etcd")]
mod connect;

use std::path::PathBuf;

pub use client::{Etcd, Watching};
pub use data::{Compare, Event, Found, Heard, KeyValue, Op, Page, Txn};

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
    /// More has changed since the revision than is told at a time.
    #[error("more has changed than one response may hold")]
    TooMuch,
    /// No answer, or a refusal.
    #[error("etcd at {endpoint}: {why}")]
    Away {
        /// Who was asked.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
}
