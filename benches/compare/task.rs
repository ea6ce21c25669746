//! What the harness asks of its other processes, and what they answer: one line of JSON each way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The length of every command to the upstream, and of its answer.
pub(crate) const MESSAGE: usize = 64;
/// Bytes that one command `UPLOAD` is followed by.
pub(crate) const UNIT: usize = 64 << 20;

/// "Answer."
pub(crate) const ASK: u8 = b'a';
/// "Send until I go away."
pub(crate) const DOWNLOAD: u8 = b'd';
/// "Here come [`UNIT`] bytes; answer when you have them."
pub(crate) const UPLOAD: u8 = b'u';
/// "Answer, and keep the connection."
pub(crate) const HOLD: u8 = b'h';

/// Where a proxy lets its clients in, or the upstream itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Door {
    Unix(PathBuf),
    /// portolan's: a head names the node, and its answer is awaited.
    Head(PathBuf),
    /// portolan's: the upstream's own socket is handed to the client.
    HandOff(PathBuf),
    Tcp(SocketAddr),
    /// Direct alone: the client is who speaks TLS.
    Tls {
        address: SocketAddr,
        ca: PathBuf,
        resume: bool,
    },
}

/// What an upstream process does with its connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Does what the commands say; answers begin with this byte.
    Plain { mark: u8 },
    /// The same under TLS.
    Tls { resume: bool },
    /// Its backlog is full: SYNs get no answer.
    Blackhole,
    /// Accepts and says nothing.
    Silent,
}

/// What a load process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Load {
    /// As many bytes as go through: `bytes`, `seconds`.
    Bulk { streams: usize, upload: bool, seconds: f64 },
    /// A message to and fro on one connection: `count`, and quantiles in microseconds.
    RoundTrips { seconds: f64 },
    /// Connect, ask, close: `count`, `seconds`, `failed`, and quantiles in microseconds.
    Connections { workers: usize, seconds: f64 },
    /// Opens `first`, says so, waits for a line, opens `more`, says so, and holds them.
    Hold { first: usize, more: usize },
    /// So many requests, one after the other: `first`, `later` (median) and `worst` (of the later), in milliseconds.
    FirstBytes { count: usize },
    /// Says so when it begins. Requests at a fixed rate, whether or not the one before was answered, beside relays that
    /// talk: `failed`, `cut`, `worst` in milliseconds, and when the mark of the answers became `mark`, on the system's
    /// clock in seconds.
    Steady { rate: usize, relays: usize, seconds: f64, mark: u8 },
}

/// What came of it, by name.
pub(crate) type Outcome = BTreeMap<String, f64>;
