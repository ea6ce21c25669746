//! What the tests share: a daemon in a temporary folder, scripted nodes, and clients.

pub mod certs;
pub mod client;
pub mod corpus;
pub mod daemon;
pub mod dns;
pub mod epmd;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod manager;
pub mod node;
pub mod packets;
pub mod registrar;
pub mod tls;

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it a hang. No test waits for it to pass.
pub const HANG: Duration = Duration::from_secs(30);

/// Looks again and again until something has come about, which it does by itself.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < HANG, "it never is so that {what}");
    }
}
