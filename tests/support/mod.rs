//! What the tests share: a daemon in a temporary folder, scripted nodes, and clients.

pub mod certs;
pub mod client;
pub mod corpus;
pub mod daemon;
pub mod etcd;
pub mod manager;
pub mod node;
pub mod tls;

use std::time::Duration;

/// How long anything may take before a test calls it a hang. No test waits for it to pass.
pub const HANG: Duration = Duration::from_secs(30);
