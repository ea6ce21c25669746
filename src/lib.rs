//! portolan decides how node processes reach one another.
//!
//! An operator writes `routes.toml`; a client asks on a local Unix socket to be connected to `prod-db@10.0.1.50`;
//! portolan dials the best-weighted matching route, fails over, and relays. The modules below stand in the order in
//! which a request passes them; [`serve`] tells that story on one page.

/// What the client asks for: HTTP and SOCKS5 heads become a [`request::ConnectRequest`].
pub mod request;
/// The name that is asked for, checked once.
pub mod node;
/// The table: patterns, weights, and how to reach what they match.
pub mod route;
/// Candidates are tried until one is up: name lookup, TCP, TLS handshake.
pub mod dial;
/// An open byte stream of any kind, on either side.
pub mod stream;
/// How it ended: the only map from errors to status, label and log line.
pub mod close;
/// What may be written in the files, and what is meant.
pub mod config;
