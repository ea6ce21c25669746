//! portolan decides how node processes reach one another.
//!
//! An operator writes `routes.toml`; a client asks on a local Unix socket to be connected to `prod-db@10.0.1.50`;
//! portolan dials the best-weighted matching route, fails over, and relays. The modules stand in the order in which a
//! request passes them; [`serve`] tells that story on one page.

// One request, from accepted client to closed relay: the page to read first.
pub mod serve;

// The doors: the Unix socket and the forwards; an accept loop that never ends on an error.
pub mod listen;
// Doors that are made when they are asked for, each for one user and one node.
pub mod lease;
// Where Ergo's nodes register, and ask where their peers are.
pub mod registrar;
// Who may come in, and how many: a slot is reserved before anything is read.
pub mod admit;
// What the client asks for: HTTP and SOCKS5 heads become a `ConnectRequest`.
pub mod request;
// The name that is asked for, checked once.
pub mod node;
// The table: patterns, weights, and how to reach what they match.
pub mod route;
// A snapshot of the table and a node name make candidates, lazily and in order.
pub mod plan;
// Where a node is, asked of a service, where no route says it.
pub mod resolve;
// Candidates are tried until one is up: name lookup, TCP, TLS handshake.
pub mod dial;
// etcd, for who asks it.
pub mod etcd;
// What nodes speak among themselves: bytes in, values out.
pub mod dialect;
// The point in time by which all of that must be done.
pub mod deadline;
// An open byte stream of any kind, on either side.
pub mod stream;
// Bytes both ways until both sides are done.
pub mod relay;
// What bytes are in while they are on their way.
mod buffer;
// How it ended: the only map from errors to status, label and log line.
pub mod close;

// The threads that serve, each with a runtime of its own.
pub mod workers;
// Composes: load, bind, tell systemd, serve, reload, drain.
pub mod daemon;
// What may be written in the files, and what is meant.
pub mod config;
// The files become a configuration and a snapshot, or a list of everything that is wrong with them.
pub mod load;
// What was added and removed at run time: a layer over the files.
pub mod edits;
// A table that a fleet shares: what its keys mean, and what puts others in their place.
pub mod shared;
// Where that is kept: a log of checksummed lines, on disk before anybody is told.
pub mod journal;
// A file that one process holds at a time.
mod lock;
// What the system lets a process have.
pub mod descriptors;
// Notices that a file has changed.
pub mod watch;
// The new table is built beside the old one and swapped in one store, or nothing changes.
pub mod reload;
// Long work on a thread that yields to the requests.
mod aside;
// No new requests, a while for relays to end by themselves, then a cut.
pub mod drain;
// Lines by a writer that never blocks a request.
pub mod log;
// Asks for changes at run time: one task owns the table, everybody else asks it.
pub mod control;
// What an operator sees and changes at run time.
pub mod admin;
// What the service manager is told.
pub mod systemd;

// The other side of the socket: how a program in Rust asks, with and without hand-off.
pub mod client;
// The commands, one file for each.
pub mod cli;
